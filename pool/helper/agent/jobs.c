/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/jobs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pool/helper/agent/job.h"
#include "pool/helper/agent/reapers.h"
#include "pool/util/cleanup.h"

static struct job jobs[HELPER_JOBS_MAX];
static unsigned last_sent; /* whose turn it was */

int helper_jobs_init(const struct job_context *context) {
        return helper_job_init(context);
}

static struct job *find(const uint8_t *id) {
        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                if (jobs[i].used && memcmp(jobs[i].id, id, HELPER_JOB_SIZE) == 0)
                        return &jobs[i];
        return NULL;
}

unsigned helper_jobs_count(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                n += jobs[i].used;
        return n;
}

/* frames from the daemon */

/*
 * A job does not see what was killed before it: its files, ports and processes are free. What does not end by KILL is
 * waited for no longer than its own job waits.
 */
static void start_jobs(void) {
        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                if (jobs[i].used && helper_job_is_dying(&jobs[i]))
                        return;
        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                if (jobs[i].used)
                        helper_job_start(&jobs[i]);
}

static const char *take_start(const struct frame *f) {
        struct job *j = find(f->job);

        if (j) {
                j->tell = true; /* asked again: how far it is */
                return NULL;
        }
        if (f->spec_len == 0 || f->len > f->spec_len)
                return "START without strings, or with too much";
        for (unsigned i = 0; !j && i < HELPER_JOBS_MAX; i++)
                if (!jobs[i].used)
                        j = &jobs[i];
        if (!j)
                return "START with too many jobs";
        helper_job_new(j, f);
        start_jobs();
        j->tell |= j->state == HELPER_JOB_RECEIVING; /* it may be killed before it starts */
        return NULL;
}

static const char *take_order(struct job *j, const struct frame *f) {
        if (f->order <= j->order)
                return NULL; /* it was done when it came by another carrier */
        j->order = f->order;
        j->tell = true;
        if (f->type == FRAME_KILL)
                helper_job_kill(j, f->grace_us);
        else if (f->type == FRAME_SIGNAL)
                helper_job_signal(j, f->signo);
        else
                helper_job_resize(j, f->rows, f->columns);
        return NULL;
}

static const char *take_ack(struct job *j, const struct frame *f) {
        j->window = f->window;
        if (!output_ack(&j->output, f->streams))
                return "ACK of what was never sent";
        helper_job_on_room(j);
        return NULL;
}

static const char *take_input(struct job *j, const struct frame *f) {
        if (!(j->flags & START_INPUT))
                return "INPUT for a job without";
        if (!input_put(&j->input, f->offset, f->data, f->len, f->end))
                return "INPUT beyond its limit";
        helper_job_on_input(j);
        j->tell = true;
        return NULL;
}

static const char *take_forget(struct job *j) {
        if (j->state != HELPER_JOB_ENDED)
                return "FORGET of a job that has not ended";
        helper_job_forget(j);
        return NULL;
}

static const char *take_spec(struct job *j, const struct frame *f) {
        if (!helper_job_spec(j, f->offset, f->data, f->len))
                return "SPEC behind a gap, or with too much";
        start_jobs();
        return NULL;
}

const char *helper_jobs_take(const struct frame *f) {
        struct job *j = find(f->job);

        if (f->type == FRAME_START)
                return take_start(f);
        if (!j)
                return NULL; /* it was forgotten, and the daemon could not know that yet */
        switch (f->type) {
        case FRAME_SPEC:
                return take_spec(j, f);
        case FRAME_INPUT:
                return take_input(j, f);
        case FRAME_ACK:
                return take_ack(j, f);
        case FRAME_SIGNAL:
        case FRAME_KILL:
        case FRAME_RESIZE:
                return take_order(j, f);
        case FRAME_FORGET:
                return take_forget(j);
        default:
                return "a frame of no use here";
        }
}

void helper_jobs_kill_all(void) {
        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                if (jobs[i].used)
                        helper_job_kill(&jobs[i], 0);
}

/* frames to the daemon */

static void make_job_frame(struct job *j, struct frame *f) {
        *f = (struct frame){
                .type = FRAME_JOB,
                .state = (uint8_t)j->state,
                .spec_len = j->spec_have,
                .offset = j->input.have,
                .limit = j->input.limit,
                .order = j->order,
                .flags = j->input.closed ? JOB_INPUT_CLOSED : 0,
        };
        memcpy(f->job, j->id, sizeof(f->job));
        j->tell = false;
}

static void make_ended_frame(struct job *j, struct frame *f) {
        *f = (struct frame){
                .type = FRAME_ENDED,
                .how = (uint8_t)j->end.how,
                .value = (uint32_t)j->end.value,
                .ran_us = (uint64_t)j->ran_us,
                .streams = { j->output.end[0], j->output.end[1] },
                .data = (const uint8_t *)j->end.text,
                .len = strlen(j->end.text),
        };
        memcpy(f->job, j->id, sizeof(f->job));
        j->end_sent = true;
}

size_t helper_jobs_tell_all(uint8_t *out) {
        struct frame f;
        size_t n = 0;

        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++) {
                if (!jobs[i].used)
                        continue;
                output_rewind(&jobs[i].output);
                jobs[i].end_sent = false;
                make_job_frame(&jobs[i], &f);
                n += frame_encode(&f, out + n);
        }
        return n;
}

static bool next_output(struct job *j, struct frame *f) {
        uint64_t under_way = output_under_way(&j->output);
        size_t most = HELPER_DATA_MAX;
        unsigned stream;

        if (under_way >= j->window)
                return false;
        if (most > j->window - under_way)
                most = j->window - under_way;
        *f = (struct frame){ .type = FRAME_OUTPUT };
        if (!output_next(&j->output, most, &stream, &f->offset, &f->data, &f->len))
                return false;
        f->stream = (uint8_t)stream;
        memcpy(f->job, j->id, sizeof(f->job));
        return true;
}

bool helper_jobs_next_state(struct frame *f) {
        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++) {
                if (!jobs[i].used || !jobs[i].tell)
                        continue;
                make_job_frame(&jobs[i], f);
                return true;
        }
        return false;
}

/* Each in its turn: one that prints without end holds up another by one frame. */
bool helper_jobs_next_output(struct frame *f) {
        for (unsigned i = 1; i <= HELPER_JOBS_MAX; i++) {
                unsigned at = (last_sent + i) % HELPER_JOBS_MAX;
                struct job *j = &jobs[at];

                if (!j->used)
                        continue;
                if (next_output(j, f)) {
                        last_sent = at;
                        return true;
                }
                if (j->state == HELPER_JOB_ENDED && !j->end_sent && output_is_sent(&j->output)) {
                        make_ended_frame(j, f);
                        return true;
                }
        }
        return false;
}

/* time, and children */

int64_t helper_jobs_tick(void) {
        int64_t now = clock_now(), next = USEC_NEVER;

        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                if (jobs[i].used)
                        next = clock_earlier(next, helper_job_tick(&jobs[i], now));
        start_jobs();
        return next;
}

void helper_jobs_reaped(pid_t pid, int status) {
        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                if (jobs[i].used)
                        helper_job_reaped(&jobs[i], pid, status);
        reapers_reaped(pid);
}

void helper_jobs_stopped(pid_t pid) {
        reapers_stopped(pid);
}
