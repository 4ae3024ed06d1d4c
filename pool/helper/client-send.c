/* SPDX-License-Identifier: MIT */
#include "pool/helper/client-internal.h"

#include <string.h>

static void for_job(struct frame *f, enum frame_type type, const uint8_t *id) {
        *f = (struct frame){ .type = type };
        memcpy(f->job, id, sizeof(f->job));
}

/* HELLO, and what belongs right behind it */

static void make_hello(struct client *c, struct frame *f) {
        *f = (struct frame){
                .type = FRAME_HELLO,
                .version = PROTOCOL_VERSION,
                .oldest = PROTOCOL_OLDEST,
                .epoch = c->epoch,
                .carrier = c->carrier,
                .data = (const uint8_t *)c->pool,
                .len = strlen(c->pool),
        };
        memcpy(f->key, c->key, sizeof(f->key));
        c->hello_sent = true;
}

static void make_ack(struct frame *f, const uint8_t *id, const uint64_t acked[2], uint64_t told[2]) {
        for_job(f, FRAME_ACK, id);
        memcpy(f->streams, acked, sizeof(f->streams));
        memcpy(told, acked, sizeof(f->streams));
        f->window = HELPER_WINDOW_MAX;
}

static bool leftover_is_to_be_told(const struct client_leftover *l) {
        return !l->sent || (!l->ended && (l->acked[0] != l->told[0] || l->acked[1] != l->told[1]));
}

static bool next_leftover(struct client *c, struct frame *f) {
        struct client_leftover *l;

        list_for_each (l, &c->leftovers, link) {
                if (!leftover_is_to_be_told(l))
                        continue;
                if (l->sent) {
                        make_ack(f, l->id, l->acked, l->told);
                        return true;
                }
                for_job(f, l->ended ? FRAME_FORGET : FRAME_KILL, l->id);
                if (!l->ended)
                        f->order = l->order;
                l->sent = true;
                return true;
        }
        return false;
}

static bool next_ping(struct client *c, struct frame *f) {
        if (c->n_pings_sent == c->n_pings)
                return false;
        *f = (struct frame){ .type = FRAME_REQUEST, .kind = HELPER_PING, .request = c->pings[c->n_pings_sent++] };
        return true;
}

static bool next_request(struct client *c, struct frame *f) {
        for (int kind = 0; kind < HELPER_N_REQUESTS; kind++) {
                struct client_request *q = &c->requests[kind];

                if (!q->asked || q->sent)
                        continue;
                *f = (struct frame){
                        .type = FRAME_REQUEST,
                        .kind = (uint8_t)kind,
                        .request = q->number,
                        .flags = q->flags,
                        .data = (const uint8_t *)q->data.data,
                        .len = q->data.len,
                };
                q->sent = true;
                return true;
        }
        return false;
}

/* the strings of a job */

static size_t least(uint64_t a, uint64_t b) {
        return a < b ? a : b;
}

/* The next piece of them. False when the command cannot be read now. */
static bool read_strings(const struct client_job *j, uint64_t at, uint8_t *data, size_t len) {
        size_t done = 0;

        while (done < len) {
                uint64_t behind = at + done;
                size_t n;

                if (behind < j->strings.len) {
                        n = least(len - done, j->strings.len - behind);
                        memcpy(data + done, j->strings.data + behind, n);
                } else if (behind == j->spec_len - 1) {
                        data[done] = '\0';
                        n = 1;
                } else {
                        n = least(len - done, j->spec_len - 1 - behind);
                        if (!j->events->command(j->owner, behind - j->strings.len, data + done, n))
                                return false;
                }
                done += n;
        }
        return true;
}

/* Of the jobs that it is known to have, some may be killed just now; it would break a carrier that brings one more. */
static bool helper_has_place(const struct client *c) {
        unsigned n = c->n_leftovers - c->n_forgotten;
        struct client_job *j;

        list_for_each (j, &c->jobs, link)
                n += j->known;
        return n < HELPER_JOBS_MAX;
}

/* Without grace; and the helper, which has it, has not been told yet. */
static bool is_to_be_killed(const struct client_job *j) {
        if (!j->known || j->ended)
                return false;
        for (unsigned i = 0; i < j->n_orders; i++)
                if (j->orders[i].type == FRAME_KILL && j->orders[i].a == 0 && !j->orders[i].sent)
                        return true;
        return false;
}

/* The helper starts a job once those that it was told to kill are gone: so it is told first. */
static bool is_to_be_started(const struct client_job *j) {
        const struct client_job *other;

        if (j->known || j->asked || j->ended || !helper_has_place(j->client))
                return false;
        list_for_each (other, &j->client->jobs, link)
                if (is_to_be_killed(other))
                        return false;
        return true;
}

static bool next_start(struct client_job *j, struct frame *f, uint8_t *data) {
        size_t len = least(j->spec_len, HELPER_DATA_MAX);

        if (!is_to_be_started(j) || !read_strings(j, 0, data, len))
                return false;
        for_job(f, FRAME_START, j->spec.id);
        f->flags = j->spec.flags;
        f->rows = j->spec.rows;
        f->columns = j->spec.columns;
        f->timeout_us = (uint64_t)j->spec.timeout_us;
        f->grace_us = (uint64_t)j->spec.grace_us;
        f->window = HELPER_WINDOW_MAX;
        f->n_env = j->n_env;
        f->spec_len = j->spec_len;
        f->data = data;
        f->len = len;
        j->asked = j->known = true;
        j->spec_sent = len;
        j->input_sent = 0;
        j->input_limit = HELPER_INPUT_FIRST;
        j->end_sent = false;
        j->tell = false;
        return true;
}

/* What a job has said, it says over every carrier anew; this is one that knows how far the helper is. */
static bool is_attached(const struct client_job *j) {
        return (j->asked || j->listed) && !j->ended;
}

static bool next_spec(struct client_job *j, struct frame *f, uint8_t *data) {
        size_t len = least(j->spec_len - j->spec_sent, HELPER_DATA_MAX);

        if (j->started || len == 0 || !read_strings(j, j->spec_sent, data, len))
                return false;
        for_job(f, FRAME_SPEC, j->spec.id);
        f->offset = j->spec_sent;
        f->data = data;
        f->len = len;
        j->spec_sent += len;
        return true;
}

static bool has_input(const struct client_job *j) {
        uint64_t most = least(j->input_size, j->input_limit);

        if (j->input_closed)
                return false;

        if (!(j->spec.flags & START_INPUT) || j->end_sent)
                return false;
        return most > j->input_sent || (j->input_end && j->input_sent == j->input_size);
}

static bool next_input(struct client_job *j, struct frame *f, uint8_t *data) {
        size_t len;

        if (!has_input(j))
                return false;
        len = least(least(j->input_size, j->input_limit) - j->input_sent, HELPER_DATA_MAX);
        if (len > 0 && !j->events->input(j->owner, j->input_sent, data, len))
                return false;
        for_job(f, FRAME_INPUT, j->spec.id);
        f->offset = j->input_sent;
        f->data = data;
        f->len = len;
        j->input_sent += len;
        f->end = j->end_sent = j->input_end && j->input_sent == j->input_size;
        return true;
}

/* Its number follows the last one that the helper has done, which JOB says: an earlier run may have ordered some. */
static struct client_order *unsent_order(struct client_job *j) {
        if (!j->listed)
                return NULL;
        for (unsigned i = 0; i < j->n_orders; i++)
                if (!j->orders[i].sent)
                        return &j->orders[i];
        return NULL;
}

static bool next_order(struct client_job *j, struct frame *f) {
        struct client_order *o = unsent_order(j);

        if (!o)
                return false;
        if (o->number == 0)
                o->number = ++j->last_order;
        for_job(f, o->type, j->spec.id);
        f->order = o->number;
        if (o->type == FRAME_SIGNAL) {
                f->signo = (uint8_t)o->a;
        } else if (o->type == FRAME_KILL) {
                f->grace_us = o->a;
        } else {
                f->rows = (uint16_t)o->a;
                f->columns = (uint16_t)o->b;
        }
        o->sent = true;
        return true;
}

/* Also before the helper has said that it has the job: it sends again what is not acknowledged. */
static bool has_acknowledgement(const struct client_job *j) {
        if (!j->known || j->ended)
                return false;
        return j->tell || j->acked[0] != j->told[0] || j->acked[1] != j->told[1];
}

static bool next_acknowledgement(struct client_job *j, struct frame *f) {
        if (!has_acknowledgement(j))
                return false;
        make_ack(f, j->spec.id, j->acked, j->told);
        j->tell = false;
        return true;
}

static bool next_of_job(struct client_job *j, struct frame *f, uint8_t *data) {
        if (next_start(j, f, data))
                return true;
        if (next_acknowledgement(j, f))
                return true;
        if (!is_attached(j))
                return false;
        return next_order(j, f) || next_spec(j, f, data) || next_input(j, f, data);
}

/* In turn, so that a long command or input holds up no other job by more than a frame. */
bool client_next_frame(struct client *c, struct frame *f, uint8_t *data) {
        struct client_job *j, *tmp;

        if (!c->hello_sent) {
                make_hello(c, f);
                return true;
        }
        if (next_leftover(c, f) || next_ping(c, f) || next_request(c, f))
                return true;
        /* Calls, channels and jobs take turns, too. */
        c->channels_turn = !c->channels_turn;
        if (c->channels_turn && client_channels_next(c, f))
                return true;
        c->calls_turn = !c->calls_turn;
        if (c->calls_turn && client_calls_next(c, f))
                return true;
        list_for_each_safe (j, tmp, &c->jobs, link) {
                if (!next_of_job(j, f, data))
                        continue;
                list_remove(&j->link);
                list_add_tail(&c->jobs, &j->link);
                return true;
        }
        return client_calls_next(c, f) || client_channels_next(c, f);
}

static bool is_much(const uint64_t acked[2], const uint64_t told[2]) {
        return acked[0] - told[0] + acked[1] - told[1] >= CLIENT_ACK_BYTES;
}

static bool job_is_urgent(const struct client_job *j) {
        if (is_to_be_started(j))
                return true;
        if (!is_attached(j))
                return false;
        if (unsent_order((struct client_job *)j) || has_input(j))
                return true;
        if (!j->started && j->spec_sent < j->spec_len)
                return true;
        return is_much(j->acked, j->told) || j->tell;
}

bool client_is_urgent(const struct client *c) {
        struct client_leftover *l;
        struct client_job *j;

        if (!c->hello_sent || c->n_pings_sent < c->n_pings)
                return true;
        for (int kind = 0; kind < HELPER_N_REQUESTS; kind++)
                if (c->requests[kind].asked && !c->requests[kind].sent)
                        return true;
        if (client_calls_are_urgent((struct client *)c) || client_channels_are_urgent(c))
                return true;
        list_for_each (j, &c->jobs, link)
                if (job_is_urgent(j))
                        return true;
        list_for_each (l, &c->leftovers, link)
                if (!l->ended && (!l->sent || is_much(l->acked, l->told)))
                        return true;
        return false;
}

bool client_is_lazy(const struct client *c) {
        struct client_leftover *l;
        struct client_job *j;

        list_for_each (j, &c->jobs, link)
                if (has_acknowledgement(j))
                        return true;
        list_for_each (l, &c->leftovers, link)
                if (leftover_is_to_be_told(l))
                        return true;
        return false;
}
