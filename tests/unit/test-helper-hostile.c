/* SPDX-License-Identifier: MIT */

/* The daemon's end of the helper, when the helper's end is somebody else's: it says what it likes, as often as it likes. */

#include <errno.h>
#include <string.h>
#include <uv.h>

#include "check.h"
#include "pool/helper/carrier.h"
#include "pool/helper/client-internal.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

static const uint8_t key[HELPER_KEY_SIZE];

/* the client */

static unsigned n_opened, n_broken;

static void on_open(void *owner) {
        n_opened++;
}

static void on_broken(void *owner, const char *why, size_t len) {
        n_broken++;
}

static const struct client_events client_events = { .open = on_open, .broken = on_broken };

static void say(struct client *c, const struct frame *f) {
        uint8_t bytes[FRAME_MAX];

        client_receive(c, bytes, frame_encode(f, bytes), 0);
}

/* With a job of each number from @first on. */
static void say_jobs(struct client *c, unsigned first, unsigned n, uint8_t state) {
        for (unsigned i = 0; i < n; i++) {
                struct frame f = { .type = FRAME_JOB, .state = state };
                unsigned number = first + i;

                memcpy(f.job, &number, sizeof(number));
                say(c, &f);
        }
}

static struct client *opened(unsigned jobs) {
        struct client *c;

        n_opened = n_broken = 0;
        CHECK_INT(client_new(&c, key, "pool", 1, &client_events, NULL), 0);
        CHECK_INT(client_carrier_new(c, 0), 0);
        say(c, &(struct frame){ .type = FRAME_WELCOME, .version = PROTOCOL_VERSION, .epoch = 1, .carrier = 1, .count = jobs });
        return c;
}

/* All jobs of an earlier run are to be killed; and then those of another helper, when that answers the next carrier. */
static void as_many_jobs_as_there_can_be(void) {
        struct client *c = opened(HELPER_JOBS_MAX);

        say_jobs(c, 0, HELPER_JOBS_MAX, HELPER_JOB_RUNNING);
        client_carrier_lost(c);
        CHECK_INT(client_carrier_new(c, 0), 0);
        say(c, &(struct frame){ .type = FRAME_WELCOME, .epoch = 1, .carrier = 2, .count = HELPER_JOBS_MAX });
        say_jobs(c, HELPER_JOBS_MAX, HELPER_JOBS_MAX, HELPER_JOB_RUNNING);
        CHECK(n_opened == 2 && n_broken == 0);
        CHECK_INT(c->n_leftovers, HELPER_JOBS_MAX);
        client_free(c);
}

static void jobs_without_end(void) {
        struct client *c = opened(0);

        say_jobs(c, 0, 10000, HELPER_JOB_RUNNING);
        CHECK(n_opened == 1 && n_broken == 1);
        CHECK(c->n_leftovers <= 3 * HELPER_JOBS_MAX);
        client_free(c);
}

static void ended_jobs_without_end(void) {
        struct client *c = opened(0);

        say_jobs(c, 0, 10000, HELPER_JOB_ENDED);
        CHECK(n_opened == 1 && n_broken == 0);
        CHECK(c->n_leftovers <= HELPER_JOBS_MAX);
        client_free(c);
}

/* How many frames of a type the client sends now. */
static unsigned sends(struct client *c, enum frame_type type) {
        static uint8_t bytes[64 * FRAME_MAX];
        static struct decoder d;
        size_t n = client_send(c, bytes, sizeof(bytes), 0);
        unsigned count = 0;
        struct frame f;

        decoder_init(&d, FRAME_OF_DAEMON);
        for (size_t at = 0; at < n;) {
                size_t room;
                uint8_t *to = decoder_room(&d, &room);

                room = room < n - at ? room : n - at;
                memcpy(to, bytes + at, room);
                decoder_add(&d, room);
                at += room;
                while (decoder_next(&d, &f) == 1)
                        count += f.type == type;
        }
        return count;
}

static bool no_command(void *owner, uint64_t offset, void *data, size_t len) {
        memset(data, ' ', len);
        return true;
}

/* The helper has as many jobs as it can: one more is sent once one of them has ended, for it would break the carrier. */
static void a_job_without_a_place(void) {
        static const struct client_job_events events = { .command = no_command };
        static const char *const env[] = { NULL };
        const struct client_job_spec spec = { .id = "one more", .shell = "", .workdir = "/", .cwd = "", .user = "", .env = env };
        struct client *c = opened(0);
        struct client_job *j;

        CHECK_INT(client_job_start(c, &spec, &events, NULL, &j), 0);
        client_carrier_lost(c);
        CHECK_INT(client_carrier_new(c, 0), 0);
        say(c, &(struct frame){ .type = FRAME_WELCOME, .epoch = 1, .carrier = 2, .count = HELPER_JOBS_MAX });
        say_jobs(c, 0, HELPER_JOBS_MAX, HELPER_JOB_RUNNING);
        CHECK_INT(sends(c, FRAME_START), 0);
        CHECK_INT(client_send_at(c, 0), USEC_NEVER);
        say_jobs(c, 7, 1, HELPER_JOB_ENDED);
        CHECK_INT(client_send_at(c, 0), 0);
        CHECK_INT(sends(c, FRAME_START), 1);
        CHECK_INT(n_broken, 0);
        client_job_free(j);
        client_free(c);
}

/* channels */

static unsigned n_changes;

static void on_change(void *owner) {
        n_changes++;
}

/* A connection for which OPEN was sent, in the client of a helper that says these frames. @open: it has said OPENED. */
static struct client_channel *a_channel(struct client **c, bool open) {
        const struct client_channel_spec spec = { .kind = CHANNEL_PORT, .port = 80 };
        struct client_channel *ch;

        *c = opened(0);
        n_changes = 0;
        CHECK_INT(client_channel_open(*c, &spec, on_change, NULL, &ch), 0);
        CHECK_INT(sends(*c, FRAME_OPEN), 1);
        if (open)
                say(*c, &(struct frame){ .type = FRAME_OPENED, .channel = 1 });
        return ch;
}

/* What no honest helper says breaks its own carrier, whatever the state of the channel. */
static void lies_about_channels(void) {
        static const uint8_t data[2] = "xy";
        static const struct {
                bool open;
                struct frame f;
        } lies[] = {
                { true, { .type = FRAME_OPENED, .channel = 2 } }, /* that was never asked for */
                { true, { .type = FRAME_DATA, .channel = 2, .data = data, .len = 2 } },
                { true, { .type = FRAME_WINDOW, .channel = 12345 } },
                { true, { .type = FRAME_RESET, .channel = 3 } },
                { false, { .type = FRAME_DATA, .channel = 1, .data = data, .len = 2 } }, /* it is not open */
                { false, { .type = FRAME_WINDOW, .channel = 1 } },
                { false, { .type = FRAME_CLOSED, .channel = 1 } }, /* it is in use */
                { true, { .type = FRAME_CLOSED, .channel = 1 } },
                { true, { .type = FRAME_DATA, .channel = 1, .offset = 1, .data = data, .len = 2 } }, /* a gap */
                { true, { .type = FRAME_DATA, .channel = 1, .offset = UINT64_C(1) << 40, .data = data, .len = 2 } },
                { true, { .type = FRAME_WINDOW, .channel = 1, .offset = 1, .limit = 1 } }, /* that was never sent */
        };

        for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
                struct client *c;
                struct client_channel *ch = a_channel(&c, lies[i].open);

                say(c, &lies[i].f);
                CHECK_INT(n_broken, 1);
                client_channel_close(ch, 0);
                client_free(c);
        }
}

/* Each end comes once. */
static void channels_that_end_twice(void) {
        static const struct frame again[] = {
                { .type = FRAME_RESET, .channel = 1, .value = ECONNRESET },
                { .type = FRAME_OPENED, .channel = 1 },
                { .type = FRAME_DATA, .channel = 1 },
        };

        for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++) {
                struct client *c;
                struct client_channel *ch = a_channel(&c, true);

                say(c, &(struct frame){ .type = FRAME_RESET, .channel = 1, .value = ECONNRESET });
                CHECK_INT(client_channel_status(ch), -ECONNRESET);
                CHECK_INT(n_broken, 0);
                say(c, &again[i]);
                CHECK_INT(n_broken, 1);
                CHECK_INT(client_channel_status(ch), -ECONNRESET);
                client_channel_close(ch, 0);
                client_free(c);
        }
}

/* Its window is the most that is kept of it, and it may not pass that. */
static void a_window_that_is_overrun(void) {
        static uint8_t data[HELPER_DATA_MAX];
        struct client *c;
        struct client_channel *ch = a_channel(&c, true);
        uint64_t offset = 0;

        while (n_broken == 0 && offset < 4 * HELPER_CHANNEL_WINDOW) {
                say(c, &(struct frame){ .type = FRAME_DATA, .channel = 1, .offset = offset, .data = data, .len = sizeof(data) });
                offset += sizeof(data);
        }
        CHECK_INT(n_broken, 1);
        CHECK_INT(offset, HELPER_CHANNEL_WINDOW + sizeof(data));
        client_channel_close(ch, 0);
        client_free(c);
}

/* To one that is closed here bytes may be on their way; they are dropped, and a second CLOSED is a lie. */
static void bytes_for_a_closed_channel(void) {
        static const uint8_t data[2] = "xy";
        struct client *c;
        struct client_channel *ch = a_channel(&c, true);
        unsigned before = n_changes;

        client_channel_close(ch, 0);
        CHECK_INT(sends(c, FRAME_CLOSE), 1);
        say(c, &(struct frame){ .type = FRAME_DATA, .channel = 1, .data = data, .len = 2 });
        say(c, &(struct frame){ .type = FRAME_RESET, .channel = 1, .value = EPIPE });
        CHECK(n_broken == 0 && n_changes == before);
        say(c, &(struct frame){ .type = FRAME_CLOSED, .channel = 1 });
        CHECK_INT(n_broken, 0);
        CHECK_INT(c->n_channels, 0);
        say(c, &(struct frame){ .type = FRAME_CLOSED, .channel = 1 });
        CHECK_INT(n_broken, 1);
        client_free(c);
}

/* the carrier */

struct wire {
        struct exec exec;
        uv_idle_t turn;
        bool over;
};

static uv_loop_t loop;
static struct sandbox sandbox;
static struct carrier carrier;
static unsigned n_streams, n_refusals;
static bool breaks;

static void on_stream_closed(uv_handle_t *handle) {
        free(handle->data);
}

static void stream_cancel(struct exec *e) {
        struct wire *s = container_of(e, struct wire, exec);

        s->over = true;
        uv_close((uv_handle_t *)&s->turn, on_stream_closed);
}

static ssize_t stream_write(struct exec *e, const void *data, size_t len) {
        return len;
}

static void stream_end_input(struct exec *e) {
}

static void stream_say(struct wire *s, const struct frame *f) {
        uint8_t bytes[FRAME_MAX];

        if (!s->over)
                exec_output(&s->exec, STREAM_STDOUT, bytes, frame_encode(f, bytes));
}

/* Once: what it says to a daemon that calls. */
static void on_stream_turn(uv_idle_t *idle) {
        struct wire *s = idle->data;

        uv_idle_stop(idle);
        stream_say(s, &(struct frame){ .type = FRAME_WELCOME, .epoch = 1, .carrier = carrier.client->carrier });
        for (unsigned i = 0; i < n_refusals; i++)
                stream_say(s, &(struct frame){ .type = FRAME_REFUSED, .count = i });
        if (breaks)
                stream_say(s, &(struct frame){ .type = FRAME_ERROR });
}

static const struct backend_ops ops = {
        .exec_write = stream_write, .exec_end_input = stream_end_input, .exec_cancel = stream_cancel
};
static struct backend backend = { .ops = &ops };

static int attach(struct carrier *c, const struct exec_events *events, void *owner, struct exec **out) {
        struct wire *s = calloc(1, sizeof(*s));

        s->exec = (struct exec){ .sandbox = &sandbox, .events = events, .owner = owner, .live_input = true };
        sandbox.n_execs++;
        uv_idle_init(&loop, &s->turn);
        s->turn.data = s;
        uv_idle_start(&s->turn, on_stream_turn);
        n_streams++;
        *out = &s->exec;
        return 0;
}

static void on_carrier(struct carrier *c) {
}

static void on_gone(struct carrier *c, const struct result *why) {
        check_failed_now = true;
}

static const struct carrier_events carrier_events = {
        .attach = attach, .turn = on_carrier, .opened = on_carrier, .gone = on_gone, .closed = on_carrier
};

static void on_time_up(uv_timer_t *timer) {
        uv_stop(&loop);
}

static void use_for(int64_t us) {
        uv_timer_t timer;

        n_streams = 0;
        sandbox = (struct sandbox){ .backend = &backend, .state = SANDBOX_LIVE };
        uv_loop_init(&loop);
        uv_timer_init(&loop, &timer);
        uv_timer_start(&timer, on_time_up, us / USEC_PER_MSEC, 0);
        carrier_init(&carrier, &carrier_events, &loop, "box", USEC_PER_SEC);
        CHECK_INT(carrier_start(&carrier, key, "pool", 1), 0);
        carrier_use(&carrier);
        uv_run(&loop, UV_RUN_DEFAULT);
        carrier_stop(&carrier);
        CHECK_INT(sandbox.n_execs, 0);
        carrier_deinit(&carrier);
        uv_close((uv_handle_t *)&timer, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&loop), 0);
}

/* It breaks each stream as soon as that is open. The next one is not opened as fast as that. */
static void breaks_all_streams(void) {
        breaks = true;
        use_for(USEC_PER_SEC / 2);
        CHECK(n_streams > 1 && n_streams <= 11);
        breaks = false;
}

/* The log has one line of a thousand refusals. */
static void refusals_without_end(void) {
        int fds[2], before = dup(STDERR_FILENO);
        static char text[1 << 16];
        unsigned lines = 0;
        ssize_t n;

        CHECK_INT(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        dup2(fds[1], STDERR_FILENO);
        log_open(LOG_WARNING, false);
        n_refusals = 1000;
        use_for(USEC_PER_SEC / 10);
        n_refusals = 0;
        dup2(before, STDERR_FILENO);
        n = read(fds[0], text, sizeof(text));
        for (ssize_t i = 0; i < n; i++)
                lines += text[i] == '\n';
        CHECK_INT(lines, 1);
        CHECK_INT(n_streams, 1);
        close(fds[0]);
        close(fds[1]);
        close(before);
}

int main(void) {
        RUN(as_many_jobs_as_there_can_be);
        RUN(jobs_without_end);
        RUN(ended_jobs_without_end);
        RUN(a_job_without_a_place);
        RUN(lies_about_channels);
        RUN(channels_that_end_twice);
        RUN(a_window_that_is_overrun);
        RUN(bytes_for_a_closed_channel);
        RUN(breaks_all_streams);
        RUN(refusals_without_end);
        return check_done();
}
