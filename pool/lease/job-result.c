/* SPDX-License-Identifier: MIT */
#include "pool/lease/job-result.h"

#include <signal.h>

#include "pool/util/clock.h"

/* Seconds since 1970, by how long after the submission it was: so spans are true, also where the clock was set. */
static json_t *moment(const struct job *j, int64_t at_us) {
        return at_us ? json_real((double)(j->submitted_wall_us + (at_us - j->submitted_us)) / USEC_PER_SEC) : json_null();
}

json_t *job_result(const struct job *j) {
        int signo = j->code == RESULT_OK && j->exit_code > 128 && j->exit_code < 128 + _NSIG ? j->exit_code - 128 : 0;

        return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:s?}", "job",
                         j->name ? json_string(j->name) : json_integer(j->number), "end",
                         job_end_name(job_how_ended(j)), "exit_code",
                         j->code == RESULT_OK ? json_integer(j->exit_code) : json_null(), "signal",
                         signo ? json_integer(signo) : json_null(), "submitted", moment(j, j->submitted_us), "started",
                         moment(j, j->started_us), "ended", moment(j, j->ended_us), "stdout_bytes",
                         (json_int_t)spool_size(j->spool, VIEW_STDOUT), "stderr_bytes",
                         (json_int_t)spool_size(j->spool, VIEW_STDERR), "error", j->error);
}
