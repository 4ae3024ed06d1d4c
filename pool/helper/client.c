/* SPDX-License-Identifier: MIT */
#include "pool/helper/client.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "pool/helper/client-internal.h"
#include "pool/util/cleanup.h"

int client_new(struct client **out, const uint8_t key[HELPER_KEY_SIZE], const char *pool, uint64_t epoch,
               const struct client_events *events, void *owner) {
        struct client *c;

        if (strlen(pool) > HELPER_POOL_MAX)
                return -ENAMETOOLONG;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        memcpy(c->key, key, sizeof(c->key));
        strcpy(c->pool, pool);
        c->epoch = epoch;
        c->events = events;
        c->owner = owner;
        c->lazy_us = USEC_NEVER;
        list_init(&c->jobs);
        list_init(&c->leftovers);
        list_init(&c->channels);
        client_calls_init(&c->calls);
        for (int i = 0; i < HELPER_N_REQUESTS; i++)
                c->requests[i].data = (struct buf)BUF_INIT(HELPER_DATA_MAX);
        *out = c;
        return 0;
}

void client_free(struct client *c) {
        struct client_leftover *l, *tmp;

        if (!c)
                return;
        list_for_each_safe (l, tmp, &c->leftovers, link)
                client_leftover_drop(c, l);
        for (int i = 0; i < HELPER_N_REQUESTS; i++)
                buf_deinit(&c->requests[i].data);
        client_calls_end(c, ENODEV);
        client_channels_drop(c);
        explicit_bzero(c->key, sizeof(c->key));
        free(c->decoder);
        free(c->pings);
        free(c);
}

/* carriers */

/* What is of one carrier alone. */
static void drop_carrier(struct client *c) {
        free(TAKE_PTR(c->decoder));
        free(TAKE_PTR(c->pings));
        c->n_pings = c->n_pings_sent = 0;
}

int client_carrier_new(struct client *c, int64_t now) {
        struct client_leftover *l;
        struct client_job *j;

        if (c->state == CLIENT_STALE)
                return -ESTALE;
        drop_carrier(c);
        c->state = CLIENT_OPENING;
        c->carrier++;
        c->opened_us = now;
        c->silent_us = USEC_NEVER;
        c->bytes = 0;
        c->hello_sent = c->broken = false;
        c->expected = 0;
        for (int i = 0; i < HELPER_N_REQUESTS; i++)
                c->requests[i].sent = false;
        list_for_each (j, &c->jobs, link)
                client_job_on_carrier(j);
        client_calls_on_carrier(c);
        client_channels_on_carrier(c);
        list_for_each (l, &c->leftovers, link) {
                l->sent = l->listed = false;
                memset(l->told, 0, sizeof(l->told));
        }
        return 0;
}

void client_carrier_lost(struct client *c) {
        if (c->state != CLIENT_STALE)
                c->state = CLIENT_NO_CARRIER;
        drop_carrier(c);
}

bool client_carrier_is_used(const struct client *c) {
        return c->hello_sent;
}

bool client_carrier_is_worn(const struct client *c, int64_t now) {
        return c->bytes >= CLIENT_CARRIER_BYTES || now - c->opened_us >= CLIENT_CARRIER_US;
}

static bool has_carrier(const struct client *c) {
        return (c->state == CLIENT_OPENING || c->state == CLIENT_OPEN) && !c->broken;
}

static void break_carrier(struct client *c, const char *why, size_t len) {
        if (c->broken)
                return;
        c->broken = true;
        c->events->broken(c->owner, why, len);
}

/* what comes */

static const char *on_list_end(struct client *c) {
        struct client_leftover *l, *tmp;
        struct client_job *j;

        c->state = CLIENT_OPEN;
        list_for_each_safe (l, tmp, &c->leftovers, link)
                if (!l->listed)
                        client_leftover_drop(c, l);
        while ((j = client_find_lost(c)))
                client_job_lose(j);
        client_calls_on_open(c);
        client_channels_on_open(c);
        c->events->open(c->owner);
        return NULL;
}

static const char *on_welcome(struct client *c, const struct frame *f) {
        if (c->state != CLIENT_OPENING || f->epoch != c->epoch || f->carrier != c->carrier || c->expected > 0)
                return "WELCOME of another carrier";
        c->expected = f->count;
        c->version = f->version;
        return c->expected == 0 ? on_list_end(c) : NULL;
}

/* An older carrier of ours that was replaced is told so, too. */
static const char *on_stale(struct client *c, const struct frame *f) {
        if (f->epoch == c->epoch && f->carrier < c->carrier)
                return "STALE by an older carrier";
        c->state = CLIENT_STALE;
        c->events->stale(c->owner);
        return NULL;
}

static const char *on_job(struct client *c, const struct frame *f) {
        struct client_job *j = client_find_job(c, f->job);
        uint64_t carrier = c->carrier;
        const char *wrong = NULL;

        if (c->state == CLIENT_OPENING && c->expected == 0)
                return "JOB before WELCOME";
        if (j)
                wrong = client_job_on_state(j, f);
        else if (!client_leave(c, f->job, f->order + 1, f->state == HELPER_JOB_ENDED, true))
                wrong = "JOB of more jobs than there can be";
        if (wrong || c->carrier != carrier || c->state != CLIENT_OPENING)
                return wrong;
        return --c->expected == 0 ? on_list_end(c) : NULL;
}

static const char *on_answer(struct client *c, const struct frame *f) {
        struct client_request *q = &c->requests[f->kind];

        if (!q->asked || !q->sent || q->number != f->request)
                return "REPLY to nothing";
        q->asked = false;
        buf_clear(&q->data);
        if (f->kind == HELPER_CLEAN)
                c->events->cleaned(c->owner, (int)f->value, (const char *)f->data, f->len);
        else
                c->events->noted(c->owner, (int)f->value, (const char *)f->data, f->len);
        return NULL;
}

static const char *on_reply(struct client *c, const struct frame *f) {
        if (f->kind >= HELPER_N_REQUESTS || f->len > HELPER_REPORT_MAX || f->value > INT_MAX)
                return "REPLY of a kind that is not known";
        if (f->kind != HELPER_PING)
                return on_answer(c, f);
        if (c->n_pings_sent == 0 || c->pings[0] != f->request)
                return "REPLY to nothing";
        memmove(c->pings, c->pings + 1, (c->n_pings - 1) * sizeof(*c->pings));
        c->n_pings_sent--;
        if (--c->n_pings == 0)
                free(TAKE_PTR(c->pings));
        c->events->replied(c->owner, f->request);
        return NULL;
}

static bool follows_welcome(enum frame_type type) {
        return type == FRAME_OUTPUT || type == FRAME_ENDED || type == FRAME_REPLY || type >= FRAME_ANSWER;
}

static const char *on_frame(struct client *c, const struct frame *f) {
        struct client_job *j = client_find_job(c, f->job);

        if (c->state == CLIENT_OPENING && follows_welcome(f->type))
                return "a frame before all that belongs to WELCOME";
        switch (f->type) {
        case FRAME_WELCOME:
                return on_welcome(c, f);
        case FRAME_STALE:
                return on_stale(c, f);
        case FRAME_JOB:
                return on_job(c, f);
        case FRAME_OUTPUT:
                if (j)
                        return client_job_on_output(j, f);
                client_leave_output(c, f);
                return NULL;
        case FRAME_ENDED:
                if (j)
                        return client_job_on_end(j, f);
                (void)client_leave(c, f->job, 0, true, true);
                return NULL;
        case FRAME_REPLY:
                return on_reply(c, f);
        case FRAME_ANSWER:
                return client_on_answer(c, f);
        case FRAME_OPENED:
        case FRAME_DATA:
        case FRAME_WINDOW:
        case FRAME_RESET:
        case FRAME_CLOSED:
                return client_on_channel(c, f);
        case FRAME_REFUSED:
                c->events->refused(c->owner, f->count);
                return NULL;
        case FRAME_ERROR:
                break_carrier(c, (const char *)f->data, f->len);
                return NULL;
        default:
                return "a frame of no use here";
        }
}

/*
 * OUTPUT frames that continue each other are given as one: each that is given is written to a file, and wakes its readers.
 * Type 0: there is none.
 */
struct run {
        struct frame frame;
        uint64_t carrier;
};

static bool run_add(struct run *run, const struct frame *f) {
        static uint8_t bytes[CLIENT_RUN_MAX]; /* of the one that there is */
        struct frame *have = &run->frame;

        if (f->type != FRAME_OUTPUT)
                return false;
        if (!have->type) {
                *have = *f;
                have->data = bytes;
                have->len = 0;
        } else if (memcmp(have->job, f->job, sizeof(f->job)) != 0 || have->stream != f->stream ||
                   f->offset != have->offset + have->len || f->len > sizeof(bytes) - have->len) {
                return false;
        }
        memcpy(bytes + have->len, f->data, f->len);
        have->len += f->len;
        return true;
}

/* An event may have ended the carrier, or opened another. */
static bool goes_on(const struct client *c, const struct run *run) {
        return has_carrier(c) && c->carrier == run->carrier;
}

static void give(struct client *c, struct run *run, const struct frame *f) {
        const char *wrong = goes_on(c, run) ? on_frame(c, f) : NULL;

        if (wrong && goes_on(c, run))
                break_carrier(c, wrong, strlen(wrong));
}

static void give_run(struct client *c, struct run *run) {
        if (run->frame.type)
                give(c, run, &run->frame);
        run->frame.type = 0;
}

static void take_frames(struct client *c, struct run *run) {
        struct frame f;
        int r = 0;

        while (goes_on(c, run) && (r = decoder_next(c->decoder, &f)) == 1) {
                if (run_add(run, &f))
                        continue;
                give_run(c, run);
                if (goes_on(c, run) && !run_add(run, &f))
                        give(c, run, &f);
        }
        if (r < 0)
                give_run(c, run);
        if (r < 0 && goes_on(c, run))
                break_carrier(c, "a frame that is none", 20);
}

static bool have_decoder(struct client *c) {
        if (c->decoder)
                return true;
        c->decoder = malloc(sizeof(*c->decoder));
        if (c->decoder)
                decoder_init(c->decoder, FRAME_OF_HELPER);
        else
                break_carrier(c, "no memory", 9);
        return c->decoder;
}

void client_receive(struct client *c, const void *data, size_t len, int64_t now) {
        struct run run = { .carrier = c->carrier };
        const char *p = data;

        c->bytes += len;
        c->silent_us = USEC_NEVER;
        while (len > 0 && goes_on(c, &run) && have_decoder(c)) {
                size_t room;
                uint8_t *to = decoder_room(c->decoder, &room);

                room = room < len ? room : len;
                memcpy(to, p, room);
                decoder_add(c->decoder, room);
                p += room;
                len -= room;
                take_frames(c, &run);
        }
        give_run(c, &run);
        if (c->decoder && c->carrier == run.carrier && decoder_is_empty(c->decoder))
                free(TAKE_PTR(c->decoder));
}

/* what goes */

int64_t client_send_at(struct client *c, int64_t now) {
        if (!has_carrier(c))
                return USEC_NEVER;
        if (client_is_urgent(c))
                return now;
        if (!client_is_lazy(c))
                return USEC_NEVER;
        if (c->lazy_us == USEC_NEVER)
                c->lazy_us = clock_after(now, CLIENT_LAZY_US);
        return c->lazy_us;
}

size_t client_send(struct client *c, void *out, size_t size, int64_t now) {
        static uint8_t data[HELPER_DATA_MAX];
        struct frame f;
        size_t n = 0;

        while (has_carrier(c) && size - n >= FRAME_MAX) {
                if (!client_next_frame(c, &f, data)) {
                        c->lazy_us = USEC_NEVER;
                        break;
                }
                n += frame_encode(&f, (uint8_t *)out + n);
        }
        c->bytes += n;
        return n;
}

/* Whether the helper was sent something that it answers as soon as it reads it, whatever else it does. */
static bool has_to_answer(const struct client *c) {
        const struct client_job *j;

        if (c->n_pings_sent > 0)
                return true;
        list_for_each (j, &c->jobs, link) {
                if (j->asked && !j->listed && !j->ended && j->spec_sent == j->spec_len)
                        return true;
                if (j->n_orders > 0 && j->orders[0].sent)
                        return true;
        }
        return false;
}

/* When the carrier's time is over: its helper says nothing at first, or nothing more. A provider's stream may end in silence. */
static int64_t answer_due(struct client *c, int64_t now) {
        if (c->state == CLIENT_OPENING)
                return clock_after(c->opened_us, CLIENT_HELLO_US);
        if (c->state != CLIENT_OPEN || !has_to_answer(c))
                c->silent_us = USEC_NEVER;
        else if (c->silent_us == USEC_NEVER)
                c->silent_us = now;
        return clock_after(c->silent_us, CLIENT_SILENCE_US);
}

int64_t client_tick(struct client *c, int64_t now) {
        int64_t due = c->broken ? USEC_NEVER : answer_due(c, now);

        if (now < due)
                return clock_earlier(due, client_channels_tick(c, now));
        break_carrier(c, "no answer", 9);
        return USEC_NEVER;
}

int client_ping(struct client *c, uint64_t request) {
        if (!has_carrier(c) || c->n_pings == HELPER_REQUESTS_MAX)
                return -EAGAIN;
        if (!c->pings)
                c->pings = calloc(HELPER_REQUESTS_MAX, sizeof(*c->pings));
        if (!c->pings)
                return -ENOMEM;
        c->pings[c->n_pings++] = request;
        return 0;
}

/* One that is done once. */
static int ask(struct client *c, enum helper_request kind, const struct client_cleanup *what) {
        struct client_request *q = &c->requests[kind];
        static const char *const none[] = { NULL };
        const char *const *const lists[] = { what->emptied, what->unwatched ? what->unwatched : none };
        int r = q->asked ? -EBUSY : 0;

        if (r < 0)
                return r;
        r = buf_append(&q->data, what->workdir, strlen(what->workdir) + 1);
        for (int i = 0; i < 2; i++) {
                if (r == 0 && i > 0)
                        r = buf_append(&q->data, "", 1);
                for (const char *const *path = lists[i]; r == 0 && *path; path++)
                        r = buf_append(&q->data, *path, strlen(*path) + 1);
        }
        if (r < 0) {
                buf_clear(&q->data);
                return r;
        }
        q->flags = 0;
        if (kind == HELPER_CLEAN)
                q->flags = (what->sandbox ? CLEAN_SANDBOX : 0) | (what->compare ? CLEAN_COMPARE : 0);
        q->number++;
        q->asked = true;
        q->sent = false;
        return 0;
}

int client_clean(struct client *c, const struct client_cleanup *what) {
        return ask(c, HELPER_CLEAN, what);
}

int client_note(struct client *c, const struct client_cleanup *what) {
        return ask(c, HELPER_NOTE, what);
}
