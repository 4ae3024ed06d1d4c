/* SPDX-License-Identifier: MIT */
#include "pool/helper/carrier.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/log.h"

#define BATCH_SIZE (4 * FRAME_MAX)            /* bytes that are made to be sent at once */
#define SAID_MAX 256                          /* bytes of what `attach` says */
#define PAUSE_MIN_US (50 * USEC_PER_MSEC)     /* before the next try, doubling … */
#define PAUSE_MAX_US (5 * USEC_PER_SEC)       /* … up to this */
#define UNREADABLE_US (100 * USEC_PER_MSEC)   /* until what could not be read is tried again */
#define REFUSED_WARN_US (60 * USEC_PER_SEC)    /* between words of the log about wrong keys */
#define DEAF_US (5 * USEC_PER_SEC)            /* from when nothing reads a stream to its end */
#define USELESS_MAX 3                         /* carriers in a row without an answer, until that is believed */

static void note(struct carrier *c, const char *text, size_t len) {
        size_t room = c->said.max - c->said.len;

        (void)buf_append(&c->said, text, len < room ? len : room);
}

/* the client's events */

static void on_open(void *owner) {
        struct carrier *c = owner;

        c->state = CARRIER_OPEN;
        c->failures = c->useless = 0;
        c->opened_us = clock_now();
        c->events->opened(c);
}

static void on_broken(void *owner, const char *why, size_t len) {
        struct carrier *c = owner;

        c->broken = true;
        buf_clear(&c->said);
        note(c, why, len);
        carrier_wake(c);
}

static void on_stale(void *owner) {
        struct carrier *c = owner;

        c->stale = true;
        carrier_wake(c);
}

static void on_refused(void *owner, uint32_t count) {
        struct carrier *c = owner;
        int64_t now = clock_now();

        if (now < c->refused_warn_us)
                return;
        c->refused_warn_us = clock_after(now, REFUSED_WARN_US);
        log_warning("environment=%s: its helper was called with a wrong key, %" PRIu32 " times so far", c->environment, count);
}

static void on_replied(void *owner, uint64_t request) {
        struct carrier *c = owner;

        c->events->replied(c, request);
}

static void on_cleaned(void *owner, int error, const char *text, size_t len) {
        struct carrier *c = owner;

        c->events->cleaned(c, error, text, len);
}

static void on_noted(void *owner, int error, const char *text, size_t len) {
        struct carrier *c = owner;

        c->events->noted(c, error, text, len);
}

static const struct client_events client_events = {
        .open = on_open,
        .broken = on_broken,
        .stale = on_stale,
        .refused = on_refused,
        .replied = on_replied,
        .cleaned = on_cleaned,
        .noted = on_noted,
};

/* the events of streams; of one that is not in use any more, only the end counts */

static void on_started(void *owner) {
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct carrier_stream *s = owner;
        struct carrier *c = s->carrier;

        if (s != c->stream)
                return;
        if (stream == STREAM_STDERR) {
                note(c, data, len);
                return;
        }
        client_receive(c->client, data, len, clock_now());
        carrier_wake(c);
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct carrier_stream *s = owner;
        struct carrier *c = s->carrier;

        s->exec = NULL;
        if (s != c->stream)
                return;
        c->stream = NULL;
        c->ended = true;
        result_save(&c->result, r);
        c->code = code;
        carrier_wake(c);
}

static void on_room(void *owner) {
        struct carrier_stream *s = owner;

        carrier_wake(s->carrier);
}

static const struct exec_events stream_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
        .room = on_room,
};

static void cancel_streams(struct carrier *c) {
        for (int i = 0; i < 2; i++)
                if (c->streams[i].exec)
                        exec_cancel(TAKE_PTR(c->streams[i].exec));
        c->stream = NULL;
}

/* At the end of its input `attach` ends, once the helper has read what came before. */
static void let_end(struct carrier *c) {
        struct carrier_stream *s = TAKE_PTR(c->stream), *other = s == c->streams ? s + 1 : c->streams;

        if (other->exec)
                exec_cancel(TAKE_PTR(other->exec));
        exec_end_input(s->exec);
}

static void forget_stream(struct carrier *c) {
        c->ended = c->broken = false;
        c->deaf_us = USEC_NEVER;
        result_drop(&c->result);
        buf_deinit(&c->rest);
        buf_deinit(&c->said);
        client_carrier_lost(c->client);
        if (c->state != CARRIER_GONE)
                c->state = CARRIER_CLOSED;
}

/* what becomes of it */

static void gone(struct carrier *c, const char *how) {
        struct result why;

        result_set(&why, RESULT_LOST, "environment %s: %s", c->environment, how);
        carrier_stop(c);
        c->events->gone(c, &why);
}

/* One that was open is replaced at once, unless it has just been opened: a helper may break each as soon as it is open. */
static void pause_before_next(struct carrier *c, int64_t now) {
        int64_t us = PAUSE_MIN_US;

        for (unsigned i = 1; i < c->failures && us < PAUSE_MAX_US; i++)
                us *= 2;
        c->open_after_us = c->failures == 0 ? clock_after(c->opened_us, PAUSE_MIN_US)
                                            : clock_after(now, clock_earlier(us, PAUSE_MAX_US));
}

/* The exit codes of a shell for what it cannot run, and that of `attach` when nobody listens. */
static bool nobody_listens(const struct carrier *c) {
        return c->ended && c->result.code == RESULT_OK && (c->code == 1 || c->code == 126 || c->code == 127);
}

/* Something was reached that gave no answer, or the provider refuses the stream however often it is asked for. */
static bool is_useless(const struct carrier *c) {
        return c->broken || c->result.code == RESULT_OK || c->result.code == RESULT_INVALID;
}

/* The stream has ended, or is of no use. Whoever carries it may have broken it; then the next one will do. */
static void judge(struct carrier *c, int64_t now) {
        char text[SAID_MAX + RESULT_TEXT_MAX + 100];
        bool was_open = c->state == CARRIER_OPEN;
        struct result how = result_saved(&c->result);

        log_debug("environment=%s: carrier ended: %s%s (code %d)", c->environment, buf_text(&c->said), how.text, c->code);
        if (nobody_listens(c)) {
                snprintf(text, sizeof(text), "its helper is gone: %s", buf_text(&c->said));
                gone(c, text);
                return;
        }
        if (!was_open)
                c->failures++;
        if (!was_open && is_useless(c) && ++c->useless == USELESS_MAX) {
                snprintf(text, sizeof(text), "its helper gives no answer: %s%s", buf_text(&c->said), how.text);
                gone(c, text);
                return;
        }
        if (c->stream)
                let_end(c);
        forget_stream(c);
        pause_before_next(c, now);
}

/* 0 or -errno: then it is as before. */
static int try_to_open(struct carrier *c, int64_t now) {
        struct carrier_stream *s = c->streams[0].exec ? &c->streams[1] : &c->streams[0];
        int r = client_carrier_new(c->client, now);

        c->code = 0;
        if (r == 0)
                r = c->events->attach(c, &stream_events, s, &s->exec);
        c->starved = is_shortage(r);
        if (r < 0) {
                client_carrier_lost(c->client);
                return r;
        }
        c->stream = s;
        c->state = CARRIER_OPENING;
        return 0;
}

static void open_stream(struct carrier *c, int64_t now) {
        int r = try_to_open(c, now);

        if (r == 0)
                return;
        log_warning("environment=%s: no carrier: %s", c->environment, strerror(-r));
        c->failures++;
        pause_before_next(c, now);
}

/* sending */

/* Nothing reads it: then its end is near, and tells more. */
static void expect_end(struct carrier *c) {
        if (c->deaf_us == USEC_NEVER)
                c->deaf_us = clock_after(clock_now(), DEAF_US);
}

/* False: the stream takes no more now. */
static bool write_out(struct carrier *c, const char *data, size_t len) {
        ssize_t n = exec_write(c->stream->exec, data, len);

        if (n == (ssize_t)len)
                return true;
        if (n < 0)
                expect_end(c);
        else if (buf_append(&c->rest, data + n, len - n) < 0)
                on_broken(c, "no memory", 9);
        return false;
}

static bool write_rest(struct carrier *c) {
        ssize_t n;

        if (c->rest.len == 0)
                return true;
        n = exec_write(c->stream->exec, c->rest.data, c->rest.len);
        if (n < 0)
                expect_end(c);
        else if ((size_t)n < c->rest.len)
                buf_drop(&c->rest, n);
        else
                buf_deinit(&c->rest);
        return c->rest.len == 0;
}

/* With @all also what could wait. Returns when there is something to send again; never, where room() will say so. */
static int64_t send_out(struct carrier *c, int64_t now, bool all) {
        static char batch[BATCH_SIZE];
        bool sent = false;
        size_t n;

        if (c->deaf_us != USEC_NEVER || !write_rest(c))
                return c->deaf_us;
        if (c->state == CARRIER_OPEN && client_carrier_is_worn(c->client, now))
                return USEC_NEVER; /* the one that takes its place brings the rest */
        while (all || client_send_at(c->client, now) <= now) {
                n = client_send(c->client, batch, sizeof(batch), now);
                if (n == 0 && !sent && !all)
                        return clock_after(now, UNREADABLE_US);
                if (n == 0)
                        break;
                if (!write_out(c, batch, n))
                        return c->deaf_us;
                sent = true;
        }
        return client_send_at(c->client, now);
}

/* in each turn */

/* When it is to be closed by itself: it is worn, or out of use; but not before its stream has taken what was begun. */
static int64_t close_at(const struct carrier *c, int64_t now) {
        if (c->state != CARRIER_OPEN || !c->stream || c->rest.len > 0)
                return USEC_NEVER;
        if (client_carrier_is_worn(c->client, now))
                return now;
        return c->users > 0 ? USEC_NEVER : c->use_until_us;
}

void carrier_renew(struct carrier *c) {
        if (!c->stream || !client_carrier_is_used(c->client))
                return;
        let_end(c);
        forget_stream(c);
}

static void close_by_itself(struct carrier *c, int64_t now) {
        (void)send_out(c, now, true);
        if (c->rest.len == 0 && !c->broken) /* else in a later turn */
                carrier_renew(c);
}

/* Returns when the next is due. */
static int64_t do_turn(struct carrier *c, int64_t now) {
        int64_t due;

        if (c->deaf_us <= now && !c->ended)
                on_broken(c, "it does not read what is sent", 29);
        if (c->stale)
                gone(c, "another daemon uses it now");
        else if (c->ended || c->broken)
                judge(c, now);
        else if (close_at(c, now) <= now)
                close_by_itself(c, now);
        if (c->state == CARRIER_CLOSED && c->users > 0 && c->open_after_us <= now)
                open_stream(c, now);
        if (c->state == CARRIER_GONE)
                return USEC_NEVER;
        if (!c->stream)
                return c->users > 0 ? c->open_after_us : USEC_NEVER;
        due = send_out(c, now, false);
        return clock_earlier(due, clock_earlier(client_tick(c->client, now), close_at(c, now)));
}

static void on_timer(uv_timer_t *timer) {
        struct carrier *c = timer->data;
        int64_t now, next;

        c->events->turn(c);
        if (c->state == CARRIER_GONE || !c->client)
                return;
        now = clock_now();
        next = do_turn(c, now);
        if (next == USEC_NEVER || c->state == CARRIER_GONE || uv_is_active((uv_handle_t *)timer))
                return; /* who has asked for a turn meanwhile gets it at once */
        uv_timer_start(timer, on_timer, next > now ? (uint64_t)(next - now + 999) / 1000 : 0, 0);
}

void carrier_wake(struct carrier *c) {
        if (c->state != CARRIER_GONE)
                uv_timer_start(&c->timer, on_timer, 0, 0);
}

/* the owner's calls */

void carrier_init(struct carrier *c, const struct carrier_events *events, uv_loop_t *loop, const char *environment,
                  int64_t idle_us) {
        *c = (struct carrier){
                .events = events,
                .environment = environment,
                .idle_us = idle_us,
                .deaf_us = USEC_NEVER,
                .rest = BUF_INIT(BATCH_SIZE),
                .said = BUF_INIT(SAID_MAX),
                .streams = { { .carrier = c }, { .carrier = c } },
        };
        uv_timer_init(loop, &c->timer);
        uv_unref((uv_handle_t *)&c->timer);
        c->timer.data = c;
}

int carrier_start(struct carrier *c, const uint8_t key[HELPER_KEY_SIZE], const char *pool, uint64_t epoch) {
        assert(!c->client);
        return client_new(&c->client, key, pool, epoch, &client_events, c);
}

void carrier_close(struct carrier *c) {
        cancel_streams(c);
        if (c->client)
                forget_stream(c);
}

void carrier_stop(struct carrier *c) {
        c->state = CARRIER_GONE;
        carrier_close(c);
        uv_timer_stop(&c->timer);
}

static void on_closed(uv_handle_t *handle) {
        struct carrier *c = handle->data;

        c->events->closed(c);
}

void carrier_deinit(struct carrier *c) {
        client_free(TAKE_PTR(c->client));
        result_drop(&c->result);
        buf_deinit(&c->rest);
        buf_deinit(&c->said);
        uv_close((uv_handle_t *)&c->timer, on_closed);
}

int carrier_open(struct carrier *c) {
        int64_t now = clock_now();
        int r = 0;

        if (c->state == CARRIER_CLOSED && (c->open_after_us <= now || c->starved))
                r = try_to_open(c, now);
        carrier_wake(c);
        return is_shortage(r) ? r : 0;
}

void carrier_use(struct carrier *c) {
        c->users++;
        carrier_wake(c);
}

void carrier_end_idle_time(struct carrier *c) {
        c->use_until_us = 0;
        carrier_wake(c);
}

void carrier_release(struct carrier *c, bool brief) {
        assert(c->users > 0);
        c->users--;
        if (!brief)
                c->use_until_us = clock_after(clock_now(), c->idle_us);
        carrier_wake(c);
}
