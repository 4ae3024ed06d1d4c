/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/lease/job.h"
#include "pool/lease/limits.h"
#include "pool/util/log.h"
#include "pool/util/watch.h"

static struct check_dir dir;
static unsigned told;

static void on_change(struct watch *w) {
        told++;
}

static struct job *make(const char *command, const char *input) {
        struct blob c, i;
        struct job *j = NULL;

        blob_init(&c, dir.fd, COMMAND_SIZE_MAX);
        blob_init(&i, dir.fd, INPUT_SIZE_MAX);
        CHECK_INT(blob_append(&c, command, strlen(command)), 0);
        CHECK_INT(blob_append(&i, input, strlen(input)), 0);
        CHECK_INT(job_new(&j, &(struct job_store){ dir.fd, 100, NULL }), 0);
        CHECK_INT(j->number, 0);
        CHECK_INT(j->state, JOB_DRAFT);
        CHECK_INT(job_set_number(j, 3, 1, NULL), 0);
        blob_move(&j->settings.input, &i);
        CHECK_INT(job_submit(j, 3, &c), 0);
        CHECK_INT(c.size, 0); /* the bytes are the job's now */
        CHECK_INT(i.size, 0);
        blob_deinit(&c);
        blob_deinit(&i);
        return j;
}

static void life(void) {
        struct job *j = make("true", "in");
        struct result r = {};
        struct watch w;

        watch_init(&w, on_change);
        watch_add(&j->watches, &w);
        CHECK_INT(j->state, JOB_QUEUED);
        CHECK_INT(j->number, 1);
        CHECK_INT(j->command.size, 4);
        CHECK_INT(j->settings.input.size, 2);
        job_set_state(j, JOB_STARTING);
        job_set_state(j, JOB_RUNNING);
        CHECK_INT(told, 2);
        CHECK_INT(settings_set(&j->settings, &(struct setting_values){ "x", "A=1", 0, "" }, 0), 0);
        job_set_end(j, &r, 3, 77);
        job_end(j);
        CHECK_INT(told, 3);
        CHECK(job_ended(j) && j->code == RESULT_OK && j->exit_code == 3 && j->ended_us == 77);
        CHECK(!j->error && !j->settings.cwd && !j->settings.env && !j->lease);
        CHECK_INT(j->settings.input.size, 0);   /* nobody needs it any more */
        CHECK_INT(j->command.size, 4); /* this one can still be read */
        watch_remove(&w);
        job_unref(j);
        job_unref(NULL);
}

static void the_first_remark_stays(void) {
        struct job *j = make("x", "");
        struct result r;

        job_remark(j, "");
        CHECK(!j->error);
        job_remark(j, "killed");
        job_remark(j, "later");
        CHECK_STR(j->error, "killed");
        job_add_remark(j, "");
        job_add_remark(j, "gone");
        result_set(&r, RESULT_LOST, "gone");
        job_set_end(j, &r, 0, 1);
        job_end(j);
        CHECK_STR(j->error, "killed; gone");
        CHECK_INT(j->code, RESULT_LOST);
        job_unref(j);
}

static void references(void) {
        struct job *j = make("x", ""), *reader = job_ref(j);
        struct result r = {};

        CHECK_INT(spool_append(j->spool, STREAM_STDOUT, "out", 3), 0);
        job_set_end(j, &r, 0, 1);
        job_end(j);
        job_unref(j);
        CHECK_INT(spool_size(reader->spool, VIEW_OUTPUT), 3);
        CHECK_INT(check_dir_entries(&dir), 1);
        job_unref(reader);
        CHECK_INT(check_dir_entries(&dir), 0);
}

/* A state is followed by those that the head of job.h names. Every other transition is illegal. */
static void transitions(void) {
        static const bool legal[JOB_N_STATES][JOB_N_STATES] = {
                [JOB_DRAFT] = { [JOB_QUEUED] = true, [JOB_ENDED] = true },
                [JOB_QUEUED] = { [JOB_STARTING] = true, [JOB_ENDED] = true },
                [JOB_STARTING] = { [JOB_RUNNING] = true, [JOB_ENDED] = true },
                [JOB_RUNNING] = { [JOB_ENDED] = true },
        };

        for (enum job_state from = 0; from < JOB_N_STATES; from++)
                for (enum job_state to = 0; to < JOB_N_STATES; to++) {
                        struct job *j = make("x", "");

                        j->state = from; /* as if the setter had let it */
                        if (legal[from][to]) {
                                job_set_state(j, to);
                                CHECK_INT(j->state, to);
                        } else {
                                CHECK_ABORTS(job_set_state(j, to));
                        }
                        job_unref(j);
                }
}

/* Production logs it, and nothing changes. */
static void illegal_transition_in_production(void) {
        struct job *j = make("x", "");

        unsetenv("MODALPOOL_STRICT");
        log_open(-1, false);
        job_set_state(j, JOB_RUNNING);
        CHECK_INT(j->state, JOB_QUEUED);
        setenv("MODALPOOL_STRICT", "1", 1);
        job_unref(j);
}

/* The journal keeps each fate, and an error of the output with it. */
static void fates(void) {
        static const struct {
                enum job_fate fate;
                int error;
        } cases[] = {
                { JOB_FATE_OWN, 0 },      { JOB_FATE_KILLED, 0 },        { JOB_FATE_OUTPUT_MAX, -EFBIG },
                { JOB_FATE_TIMEOUT, 0 },  { JOB_FATE_TIMEOUT, -EFBIG },  { JOB_FATE_OUTPUT_LOST, -ENOSPC },
                { JOB_FATE_OUTPUT_MAX, -EDQUOT }, { JOB_FATE_TIMEOUT, -EDQUOT },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct job *j = make("x", ""), *again = NULL;
                struct journal_job row;

                CHECK_INT(job_set_fate(j, cases[i].fate), cases[i].fate != JOB_FATE_OWN);
                CHECK(!job_set_fate(j, cases[i].fate));
                CHECK(!job_set_fate(j, JOB_FATE_OWN)); /* a fate is never taken back */
                j->output_error = cases[i].error;
                row = job_row(j, 3);
                row.cwd = row.env = "";
                CHECK_INT(job_restore(&again, &row, &(struct job_store){ dir.fd, 100, NULL }), 0);
                CHECK_INT(again->fate, cases[i].fate);
                CHECK_INT(again->output_error, cases[i].error);
                job_unref(again);
                job_unref(j);
        }
}

/* How it ended, also as the next run reads it. */
static void ends(void) {
        static const struct {
                enum result_code code;
                enum job_fate fate;
                int error, exit_code;
                bool started;
                const char *end;
        } cases[] = {
                { RESULT_OK, JOB_FATE_OWN, 0, 0, true, "ok" },
                { RESULT_OK, JOB_FATE_OWN, 0, 137, true, "failed" },
                { RESULT_OK, JOB_FATE_TIMEOUT, 0, 124, true, "timeout" },
                { RESULT_OK, JOB_FATE_KILLED, 0, 137, true, "killed" },
                { RESULT_OK, JOB_FATE_OUTPUT_MAX, -EFBIG, 137, true, "output" },
                { RESULT_FAILED, JOB_FATE_OUTPUT_LOST, -ENOSPC, 0, true, "output" },
                { RESULT_CANCELLED, JOB_FATE_OWN, 0, 0, false, "cancelled" },
                { RESULT_RELEASED, JOB_FATE_OWN, 0, 0, false, "cancelled" },
                { RESULT_RELEASED, JOB_FATE_OWN, 0, 0, true, "killed" },
                { RESULT_LOST, JOB_FATE_OWN, 0, 0, true, "lost" },
                { RESULT_LOST, JOB_FATE_TIMEOUT, 0, 0, true, "lost" },
                { RESULT_FAILED, JOB_FATE_OWN, 0, 0, true, "unknown" },
                { RESULT_FAILED, JOB_FATE_KILLED, 0, 0, false, "unknown" },
                { RESULT_TIMEOUT, JOB_FATE_OWN, 0, 0, false, "unknown" },
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct job *j = make("x", ""), *again = NULL;
                struct journal_job row;

                job_set_fate(j, cases[i].fate);
                j->output_error = cases[i].error;
                j->started_us = cases[i].started ? 5 : 0;
                job_set_end(j, &(struct result){ .code = cases[i].code }, cases[i].exit_code, 9);
                job_end(j);
                CHECK_STR(job_end_name(job_how_ended(j)), cases[i].end);
                row = job_row(j, 3);
                row.cwd = row.env = "";
                CHECK_INT(job_restore(&again, &row, &(struct job_store){ dir.fd, 100, NULL }), 0);
                CHECK_STR(job_end_name(job_how_ended(again)), cases[i].end);
                job_unref(again);
                job_unref(j);
        }
}

static void names(void) {
        CHECK_STR(job_state_name(JOB_QUEUED), "queued");
        CHECK_STR(job_state_name(JOB_STARTING), "starting");
        CHECK_STR(job_state_name(JOB_RUNNING), "running");
        CHECK_STR(job_state_name(JOB_ENDED), "ended");
}

int main(void) {
        dir = check_dir_make();
        RUN(life);
        RUN(the_first_remark_stays);
        RUN(references);
        RUN(transitions);
        RUN(illegal_transition_in_production);
        RUN(fates);
        RUN(ends);
        RUN(names);
        check_dir_remove(&dir);
        return check_done();
}
