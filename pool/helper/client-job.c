/* SPDX-License-Identifier: MIT */
#include "pool/helper/client-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/util/cleanup.h"

#define STRINGS_MAX (HELPER_SPEC_MAX - (16 << 20))
#define LEFTOVERS_MAX (2 * HELPER_JOBS_MAX) /* that are to be killed: of the carrier before, and of this one */

struct client_job *client_find_job(struct client *c, const uint8_t *id) {
        struct client_job *j;

        list_for_each (j, &c->jobs, link)
                if (memcmp(j->spec.id, id, HELPER_JOB_SIZE) == 0)
                        return j;
        return NULL;
}

/* what nobody wants any more */

void client_leftover_drop(struct client *c, struct client_leftover *l) {
        c->n_leftovers--;
        c->n_forgotten -= l->ended;
        list_remove(&l->link);
        free(l);
}

/* The oldest that is forgotten makes room: every carrier since has told the helper to forget it. */
static void make_room(struct client *c) {
        struct client_leftover *l, *tmp;

        list_for_each_safe (l, tmp, &c->leftovers, link)
                if (c->n_forgotten > HELPER_JOBS_MAX && l->ended)
                        client_leftover_drop(c, l);
}

static struct client_leftover *find_leftover(struct client *c, const uint8_t *id) {
        struct client_leftover *l;

        list_for_each (l, &c->leftovers, link)
                if (memcmp(l->id, id, HELPER_JOB_SIZE) == 0)
                        return l;
        return NULL;
}

bool client_leave(struct client *c, const uint8_t *id, uint32_t order, bool ended, bool listed) {
        struct client_leftover *l = find_leftover(c, id);

        if (l) {
                l->listed |= listed;
                if (ended && !l->ended) {
                        l->ended = true;
                        l->sent = false;
                        c->n_forgotten++;
                }
                return true;
        }
        if (!ended && c->n_leftovers - c->n_forgotten >= LEFTOVERS_MAX)
                return false;
        l = calloc(1, sizeof(*l));
        if (!l)
                return true; /* the next carrier says again that it is there */
        memcpy(l->id, id, HELPER_JOB_SIZE);
        l->order = order;
        l->ended = ended;
        l->listed = listed;
        list_init(&l->link);
        list_add_tail(&c->leftovers, &l->link);
        c->n_leftovers++;
        c->n_forgotten += ended;
        make_room(c);
        return true;
}

void client_leave_output(struct client *c, const struct frame *f) {
        struct client_leftover *l = find_leftover(c, f->job);

        if (l && f->offset + f->len > l->acked[f->stream])
                l->acked[f->stream] = f->offset + f->len;
}

/* the owner's calls */

static int add_string(struct buf *b, const char *string) {
        return buf_append(b, string, strlen(string) + 1);
}

static int make_strings(struct client_job *j, const struct client_job_spec *spec) {
        int r = add_string(&j->strings, spec->shell);

        if (r == 0)
                r = add_string(&j->strings, spec->workdir);
        if (r == 0)
                r = add_string(&j->strings, spec->cwd);
        if (r == 0)
                r = add_string(&j->strings, spec->user);
        for (; r == 0 && spec->env[j->n_env]; j->n_env++)
                r = j->n_env == HELPER_ENV_MAX ? -EFBIG : add_string(&j->strings, spec->env[j->n_env]);
        if (r == 0 && spec->command_len + 1 > HELPER_SPEC_MAX - j->strings.len)
                r = -EFBIG;
        j->spec_len = j->strings.len + spec->command_len + 1;
        return r;
}

int client_job_start(struct client *c, const struct client_job_spec *spec, const struct client_job_events *events,
                     void *owner, struct client_job **out) {
        struct client_job *j;
        int r = 0;

        if (c->n_jobs + c->n_leftovers - c->n_forgotten >= HELPER_JOBS_MAX)
                return -EAGAIN;
        j = calloc(1, sizeof(*j));
        if (!j)
                return -ENOMEM;
        *j = (struct client_job){
                .client = c,
                .events = events,
                .owner = owner,
                .spec = *spec,
                .strings = BUF_INIT(STRINGS_MAX),
                .known = spec->resume,
                .started = spec->resume,
                .input_limit = HELPER_INPUT_FIRST,
                .streams = { spec->streams[0], spec->streams[1] },
                .acked = { spec->streams[0], spec->streams[1] },
        };
        list_init(&j->link);
        if (!spec->resume)
                r = make_strings(j, spec);
        if (r < 0) {
                buf_deinit(&j->strings);
                free(j);
                return r;
        }
        list_add_tail(&c->jobs, &j->link);
        c->n_jobs++;
        *out = j;
        return 0;
}

void client_job_free(struct client_job *j) {
        struct client *c = j->client;

        list_remove(&j->link);
        c->n_jobs--;
        if (j->known || j->asked)
                (void)client_leave(c, j->spec.id, j->last_order + 1, j->ended, j->asked || j->listed);
        buf_deinit(&j->strings);
        free(j);
}

bool client_job_runs(const struct client_job *j) {
        return !j->over;
}

void client_job_input(struct client_job *j, uint64_t size, bool end) {
        j->input_size = size;
        j->input_end = end;
}

bool client_job_reads_input(const struct client_job *j) {
        return !j->input_closed;
}

void client_job_acknowledge(struct client_job *j, const uint64_t streams[2]) {
        memcpy(j->acked, streams, sizeof(j->acked));
}

static int add_order(struct client_job *j, enum frame_type type, uint64_t a, uint64_t b) {
        if (j->n_orders == CLIENT_ORDERS_MAX)
                return -EAGAIN;
        j->orders[j->n_orders++] = (struct client_order){ .type = type, .a = a, .b = b };
        return 0;
}

int client_job_signal(struct client_job *j, int signo) {
        return add_order(j, FRAME_SIGNAL, (uint64_t)signo, 0);
}

int client_job_kill(struct client_job *j, int64_t grace_us) {
        return add_order(j, FRAME_KILL, (uint64_t)(grace_us < HELPER_US_MAX ? grace_us : HELPER_US_MAX), 0);
}

int client_job_resize(struct client_job *j, uint16_t rows, uint16_t columns) {
        struct client_order *last = j->n_orders > 0 ? &j->orders[j->n_orders - 1] : NULL;

        if (last && last->type == FRAME_RESIZE && last->number == 0) {
                last->a = rows;
                last->b = columns;
                return 0;
        }
        return j->n_orders < CLIENT_RESIZES_MAX ? add_order(j, FRAME_RESIZE, rows, columns) : -EAGAIN;
}

/* carriers */

void client_job_on_carrier(struct client_job *j) {
        j->listed = j->asked = false;
        j->tell = true;
        for (unsigned i = 0; i < j->n_orders; i++)
                j->orders[i].sent = false;
}

/* One that has not started never came there: it is asked for again. */
struct client_job *client_find_lost(struct client *c) {
        struct client_job *j;

        list_for_each (j, &c->jobs, link) {
                if (j->listed || j->asked || j->ended)
                        continue;
                if (j->started)
                        return j;
                j->known = false;
        }
        return NULL;
}

void client_job_lose(struct client_job *j) {
        static const char why[] = "the helper does not know the job";

        j->ended = true;
        j->known = false;
        j->events->ended(j->owner, &(struct client_end){
                                           .how = HELPER_END_UNKNOWN, .text = why, .text_len = strlen(why) });
}

/* what the helper says */

static void confirm_orders(struct client_job *j, uint32_t last) {
        unsigned n = 0;

        while (n < j->n_orders && j->orders[n].number != 0 && j->orders[n].number <= last)
                n++;
        memmove(j->orders, j->orders + n, (j->n_orders - n) * sizeof(*j->orders));
        j->n_orders -= n;
        if (last > j->last_order)
                j->last_order = last;
}

/* NULL: the event has freed it. */
static struct client_job *tell_started(struct client_job *j) {
        struct client *c = j->client;
        uint8_t id[HELPER_JOB_SIZE];

        if (j->started)
                return j;
        memcpy(id, j->spec.id, sizeof(id));
        j->started = true;
        buf_deinit(&j->strings);
        j->events->started(j->owner);
        return client_find_job(c, id);
}

/* One that is gone on with may have had input of an earlier run that nobody can send again. */
static bool has_input(const struct client_job *j) {
        return !j->spec.resume || j->spec.flags & START_INPUT;
}

const char *client_job_on_state(struct client_job *j, const struct frame *f) {
        bool first = !j->listed && !j->asked, closed = f->flags & JOB_INPUT_CLOSED && !j->input_closed;

        if (f->spec_len > j->spec_len && !j->spec.resume)
                return "JOB with more strings than were sent";
        if ((f->offset > j->input_size && has_input(j)) || f->offset < j->input_taken || f->limit < f->offset)
                return "JOB with more input than was sent";
        confirm_orders(j, f->order);
        j->known = j->listed = true;
        if (first) {
                j->spec_sent = f->spec_len;
                j->input_sent = f->offset;
                j->end_sent = false;
        }
        j->input_limit = f->limit;
        j->input_closed |= closed;
        j->over = f->state == HELPER_JOB_DRAINING || f->state == HELPER_JOB_ENDED;
        /* One that has ended may never have run: its end tells. */
        if (f->state == HELPER_JOB_RUNNING || f->state == HELPER_JOB_DRAINING)
                j = tell_started(j);
        if (j && has_input(j) && (f->offset > j->input_taken || closed)) {
                j->input_taken = f->offset;
                if (j->input_sent < f->offset) /* an earlier run of the daemon has sent it */
                        j->input_sent = f->offset;
                j->events->taken(j->owner, f->offset);
        }
        return NULL;
}

/* The helper has dropped what stands before. */
static void miss_before(struct client_job *j, unsigned stream, uint64_t offset) {
        if (offset <= j->streams[stream])
                return;
        j->streams[stream] = offset;
        j->events->missed(j->owner, stream, offset);
}

const char *client_job_on_output(struct client_job *j, const struct frame *f) {
        uint64_t have = j->streams[f->stream];

        if (j->ended)
                return f->offset + f->len > have ? "OUTPUT behind the end" : NULL;
        if (f->offset + f->len <= have)
                return NULL; /* the carrier before has brought it */
        j = tell_started(j);
        if (!j)
                return NULL;
        miss_before(j, f->stream, f->offset);
        have = j->streams[f->stream];
        j->streams[f->stream] = f->offset + f->len;
        j->events->output(j->owner, f->stream, f->data + (have - f->offset), f->len - (have - f->offset));
        return NULL;
}

const char *client_job_on_end(struct client_job *j, const struct frame *f) {
        struct client_end end = { .how = f->how, .value = f->value, .ran_us = f->ran_us,
                                  .text = (const char *)f->data, .text_len = f->len };

        if (f->streams[0] < j->streams[0] || f->streams[1] < j->streams[1])
                return "ENDED with less output than came";
        if (j->ended)
                return NULL;
        for (unsigned i = 0; i < 2; i++)
                miss_before(j, i, f->streams[i]);
        if (end.how == HELPER_END_EXIT || end.how == HELPER_END_TIMEOUT)
                j = tell_started(j);
        if (!j)
                return NULL;
        j->ended = true;
        j->n_orders = 0;
        j->events->ended(j->owner, &end);
        return NULL;
}
