/* SPDX-License-Identifier: MIT */
#include "pool/job.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/watch.h"

int job_new(struct job **out, uint64_t lease_serial, uint32_t number, int spool_dir, uint64_t output_max,
            struct blob *command, struct blob *input) {
        struct job *j = calloc(1, sizeof(*j));
        char name[64];
        int r;

        if (!j)
                return -ENOMEM;
        snprintf(name, sizeof(name), "%" PRIu64 ".%" PRIu32, lease_serial, number);
        r = spool_new(&j->spool, spool_dir, name, output_max);
        if (r < 0) {
                free(j);
                return r;
        }
        j->refs = 1;
        j->number = number;
        j->deadline_us = USEC_NEVER;
        list_init(&j->link);
        list_init(&j->running);
        list_init(&j->watches);
        blob_init(&j->command, spool_dir, COMMAND_SIZE_MAX);
        blob_init(&j->input, spool_dir, INPUT_SIZE_MAX);
        blob_move(&j->command, command);
        blob_move(&j->input, input);
        *out = j;
        return 0;
}

struct job *job_ref(struct job *j) {
        j->refs++;
        return j;
}

void job_unref(struct job *j) {
        if (!j || --j->refs > 0)
                return;
        assert(!j->exec && list_empty(&j->watches));
        list_remove(&j->link);
        list_remove(&j->running);
        blob_deinit(&j->command);
        blob_deinit(&j->input);
        spool_unref(j->spool);
        free(j->cwd);
        free(j->env);
        free(j->error);
        free(j);
}

void job_set_state(struct job *j, enum job_state state) {
        j->state = state;
        watch_fire(&j->watches);
}

void job_remark(struct job *j, const char *text) {
        if (!j->error && *text)
                j->error = strdup(text);
}

void job_end(struct job *j, const struct result *r, int exit_code, int64_t now) {
        assert(!job_ended(j));
        j->exec = NULL;
        j->lease = NULL;
        j->deadline_us = USEC_NEVER;
        list_remove(&j->running);
        spool_end(j->spool);
        blob_clear(&j->input);
        free(TAKE_PTR(j->env));
        free(TAKE_PTR(j->cwd));
        j->ended_us = now;
        j->code = r->code;
        j->exit_code = exit_code;
        job_remark(j, r->text);
        job_set_state(j, JOB_ENDED);
}

const char *job_state_name(enum job_state state) {
        switch (state) {
        case JOB_QUEUED:
                return "queued";
        case JOB_STARTING:
                return "starting";
        case JOB_RUNNING:
                return "running";
        case JOB_ENDED:
                return "ended";
        }
        return "unknown";
}
