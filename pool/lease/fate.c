/* SPDX-License-Identifier: MIT */

/* What the daemon decides about how a job ends: that it is killed, and what its exit code then means. */

#include "pool/lease/fate.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/watch.h"

#define TIMED_OUT 124 /* the exit code of a job that was killed for its time */

void lease_send_kill(struct lease *l, struct job *j) {
        struct leases *t = l->table;
        int64_t grace_us = j->fate == JOB_FATE_TIMEOUT ? t->config->kill_grace_us : 0;

        deadline_set(&t->deadlines, j, clock_after(t->clock(), clock_after(grace_us, KILL_TIMEOUT_US)));
        exec_kill(j->exec, grace_us);
}

void lease_kill_job(struct lease *l, struct job *j, enum job_fate fate, const char *why) {
        bool first = j->fate == JOB_FATE_OWN;

        job_remark(j, why);
        if (job_set_fate(j, fate)) {
                lease_touch(l);
                j->changed_wall_us = l->changed_wall_us;
                (void)lease_write_job(l, j);
        }
        if (!j->exec)
                return; /* an earlier run's, whose environment has not answered yet */
        if (first)
                lease_send_kill(l, j);
        else
                exec_kill(j->exec, 0); /* it may be in its grace */
}

static void say_why_refused(const struct lease *l, const struct job *j, char *out, size_t size) {
        char quota[QUOTA_TEXT_SIZE];

        if (j->output_error == -EFBIG)
                snprintf(out, size, "killed: its output passed output_max, %" PRIu64 " bytes",
                         l->table->config->output_max);
        else if (j->output_error == -EDQUOT)
                snprintf(out, size, "killed: its output passed %s; rmdir of a lease makes room",
                         lease_say_quota(l, quota));
        else
                snprintf(out, size, "killed: its output could not be stored: %s", strerror(-j->output_error));
}

void lease_take_output(struct lease *l, struct job *j, enum stream stream, const void *data, size_t len) {
        char why[QUOTA_TEXT_SIZE * 2];
        int r;

        if (j->output_error)
                return;
        r = spool_append(j->spool, stream, data, len);
        if (r < 0) {
                j->output_error = r;
                say_why_refused(l, j, why, sizeof(why));
                lease_kill_job(l, j, r == -EFBIG || r == -EDQUOT ? JOB_FATE_OUTPUT_MAX : JOB_FATE_OUTPUT_LOST, why);
        } else {
                l->table->totals.output_bytes += len;
        }
        watch_fire(&j->watches);
}

int job_killed_code(const struct job *j) {
        return j->fate == JOB_FATE_TIMEOUT ? TIMED_OUT : 128 + SIGKILL;
}

const struct result *lease_judge_end(const struct lease *l, struct job *j, const struct result *r, int *code,
                                     struct result *cut) {
        char why[QUOTA_TEXT_SIZE * 2];

        if (!result_ok(r))
                return r;
        switch (j->fate) {
        case JOB_FATE_OWN:
        case JOB_FATE_KILLED:
                return r;
        case JOB_FATE_OUTPUT_MAX:
        case JOB_FATE_TIMEOUT:
                *code = job_killed_code(j);
                return r;
        case JOB_FATE_OUTPUT_LOST:
                say_why_refused(l, j, why, sizeof(why));
                result_set(cut, RESULT_FAILED, "%s", why);
                free(TAKE_PTR(j->error)); /* that is what matters of it now */
                return cut;
        }
        return r;
}
