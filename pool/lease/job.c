/* SPDX-License-Identifier: MIT */
#include "pool/lease/job.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/transition.h"
#include "pool/util/watch.h"

static const char *const state_names[JOB_N_STATES] = {
        [JOB_DRAFT] = "draft", [JOB_QUEUED] = "queued", [JOB_STARTING] = "starting", [JOB_RUNNING] = "running", [JOB_ENDED] = "ended",
};

const char *job_name(const struct job *j, char out[static JOB_NAME_SIZE]) {
        snprintf(out, JOB_NAME_SIZE, "%" PRIu32, j->number);
        return j->name ?: out;
}

const char *job_state_name(enum job_state state) {
        return state_names[state];
}

enum job_end job_how_ended(const struct job *j) {
        switch (j->code) {
        case RESULT_OK:
                break;
        case RESULT_LOST:
                return JOB_END_LOST;
        case RESULT_CANCELLED:
                return JOB_END_CANCELLED;
        case RESULT_RELEASED:
                return j->started_us ? JOB_END_KILLED : JOB_END_CANCELLED;
        default:
                return j->fate == JOB_FATE_OUTPUT_LOST ? JOB_END_OUTPUT : JOB_END_UNKNOWN;
        }
        switch (j->fate) {
        case JOB_FATE_OWN:
                return j->exit_code == 0 ? JOB_END_OK : JOB_END_FAILED;
        case JOB_FATE_KILLED:
                return JOB_END_KILLED;
        case JOB_FATE_OUTPUT_MAX:
        case JOB_FATE_OUTPUT_LOST:
                return JOB_END_OUTPUT;
        case JOB_FATE_TIMEOUT:
                return JOB_END_TIMEOUT;
        }
        return JOB_END_UNKNOWN;
}

const char *job_end_name(enum job_end end) {
        static const char *const names[] = {
                [JOB_END_OK] = "ok",         [JOB_END_FAILED] = "failed", [JOB_END_TIMEOUT] = "timeout",
                [JOB_END_KILLED] = "killed", [JOB_END_OUTPUT] = "output", [JOB_END_CANCELLED] = "cancelled",
                [JOB_END_LOST] = "lost",     [JOB_END_UNKNOWN] = "unknown",
        };

        return names[end];
}

/* What a file of a job is called, in the directory of the spools. */
static void file_name(char out[BLOB_NAME_MAX], uint64_t lease_serial, uint32_t number, const char *suffix) {
        snprintf(out, BLOB_NAME_MAX, "%" PRIu64 ".%" PRIu32 "%s", lease_serial, number, suffix);
}

/* Takes @spool, or is NULL when out of memory. */
static struct job *make(struct spool *spool, const struct job_store *store) {
        struct job *j = calloc(1, sizeof(*j));

        if (!j)
                return NULL;
        j->refs = 1;
        j->spool = spool;
        j->quota = quota_account_ref(store->quota);
        j->due_us = USEC_NEVER;
        j->state = JOB_DRAFT;
        list_init(&j->link);
        list_init(&j->turn);
        list_init(&j->deadline);
        list_init(&j->watches);
        blob_init(&j->command, store->dir, COMMAND_SIZE_MAX);
        j->command.quota = store->quota;
        settings_init(&j->settings, store->dir, store->quota);
        return j;
}

int job_new(struct job **out, const struct job_store *store) {
        struct spool *spool;
        int r = spool_new(&spool, store->dir, store->output_max, store->quota);

        if (r < 0)
                return r;
        *out = make(spool, store);
        if (!*out) {
                spool_unref(spool);
                return -ENOMEM;
        }
        return 0;
}

int job_set_number(struct job *j, uint64_t lease_serial, uint32_t number, const char *name) {
        char file[BLOB_NAME_MAX];

        assert(j->number == 0);
        if (name) {
                j->name = strdup(name);
                if (!j->name)
                        return -ENOMEM;
        }
        j->number = number;
        file_name(file, lease_serial, number, "");
        spool_name(j->spool, file);
        return 0;
}

int job_open_input(struct job *j, uint64_t lease_serial) {
        char name[BLOB_NAME_MAX];
        int r;

        file_name(name, lease_serial, j->number, ".live");
        r = live_input_new(&j->live_input, j->settings.input.dir, name, j->quota, &j->settings.input);
        if (r == 0)
                blob_clear(&j->settings.input);
        return r;
}

void job_forget_input(struct job *j) {
        live_input_free(TAKE_PTR(j->live_input));
}

int job_submit(struct job *j, uint64_t lease_serial, struct blob *command) {
        char name[BLOB_NAME_MAX];
        int r;

        blob_move(&j->command, command);
        file_name(name, lease_serial, j->number, ".command");
        r = blob_rename(&j->command, name);
        if (r == 0) {
                file_name(name, lease_serial, j->number, ".input");
                r = blob_rename(&j->settings.input, name);
        }
        if (r < 0) {
                blob_clear(&j->command);
                blob_clear(&j->settings.input);
        }
        job_set_state(j, JOB_QUEUED);
        return r;
}

/* Bytes that stood in the journal itself, or in a file. */
static int restore_blob(struct blob *b, const void *data, uint64_t len, uint64_t lease, uint32_t number,
                        const char *suffix) {
        char name[BLOB_NAME_MAX];

        file_name(name, lease, number, suffix);
        return data ? blob_append(b, data, len) : blob_restore(b, name);
}

/* It cannot be run. But it is there: else the next one would get its number, its exec id, and by that its result. */
static void end_unreadable(struct job *j, int r) {
        struct result why;

        blob_clear(&j->command);
        blob_clear(&j->settings.input);
        job_forget_input(j);
        if (job_ended(j))
                return;
        result_set(&why, RESULT_FAILED, "what it was to run cannot be read any more: %s", strerror(-r));
        j->state = JOB_ENDED;
        j->code = why.code;
        job_remark(j, why.text);
}

static int restore_live_input(struct job *j, const struct journal_job *row, const struct job_store *store) {
        char name[BLOB_NAME_MAX];

        if (row->live_input == JOURNAL_NO_LIVE_INPUT)
                return 0;
        file_name(name, row->lease, row->number, ".live");
        return live_input_restore(&j->live_input, store->dir, name, store->quota,
                                  row->live_input == JOURNAL_LIVE_INPUT_ENDED);
}

static int restore_settings(struct job *j, const struct journal_job *row) {
        const struct setting_values values = {
                .cwd = row->cwd,
                .env = row->env,
                .timeout_us = row->timeout_us,
                .user = row->user ?: "",
                .rows = row->terminal >> 16,
                .columns = row->terminal,
        };

        return settings_set(&j->settings, &values, clock_read_us(CLOCK_REALTIME));
}

/* The journal has it in three columns. */
static enum job_fate row_fate(const struct journal_job *row) {
        bool past_max = row->output_refused == EFBIG || row->output_refused == EDQUOT;

        if (row->output_refused && !past_max)
                return JOB_FATE_OUTPUT_LOST;
        if (row->timed_out)
                return JOB_FATE_TIMEOUT;
        if (past_max)
                return JOB_FATE_OUTPUT_MAX;
        return row->wanted_dead ? JOB_FATE_KILLED : JOB_FATE_OWN;
}

int job_restore(struct job **out, const struct journal_job *row, const struct job_store *store) {
        struct spool *spool;
        struct job *j;
        char name[BLOB_NAME_MAX];
        int r;

        file_name(name, row->lease, row->number, "");
        r = spool_restore(&spool, store->dir, name, store->output_max, store->quota);
        if (r < 0)
                return r;
        j = make(spool, store);
        if (!j) {
                spool_keep(spool);
                spool_unref(spool);
                return -ENOMEM;
        }
        j->number = row->number;
        j->state = row->state;
        j->fate = row_fate(row);
        j->output_error = -row->output_refused;
        j->submitted_us = row->submitted_us;
        j->started_us = row->started_us;
        j->ended_us = row->ended_us;
        j->code = row->code;
        j->exit_code = row->exit_code;
        j->error = row->error ? strdup(row->error) : NULL;
        r = restore_blob(&j->command, row->command, row->command_len, row->lease, row->number, ".command");
        if (r == 0 && !job_ended(j))
                r = restore_blob(&j->settings.input, row->input, row->input_len, row->lease, row->number, ".input");
        if (r == 0 && !job_ended(j))
                r = restore_live_input(j, row, store);
        if (r < 0 && r != -ENOMEM) {
                end_unreadable(j, r);
                r = 0;
        }
        if (job_ended(j))
                spool_end(j->spool);
        j->settings.timeout_us = row->timeout_us;
        if (r == 0 && (row->name || !job_ended(j)))
                r = restore_settings(j, row);
        if (r == 0 && row->name) {
                j->name = strdup(row->name);
                j->forgotten = !*row->name;
                r = j->name ? 0 : -ENOMEM;
        }
        if (r < 0) {
                job_keep(j);
                job_unref(j);
                return r;
        }
        *out = j;
        return 0;
}

static enum journal_live_input live_input_state(const struct job *j) {
        if (!j->live_input)
                return JOURNAL_NO_LIVE_INPUT;
        return j->live_input->ended ? JOURNAL_LIVE_INPUT_ENDED : JOURNAL_LIVE_INPUT_OPEN;
}

/* The input of a draft has no lasting place before it is submitted, unless it is live; so no row has it. */
struct journal_job job_row(const struct job *j, uint64_t lease_serial) {
        bool draft = j->state == JOB_DRAFT;

        return (struct journal_job){
                .lease = lease_serial,
                .number = j->number,
                .name = j->forgotten ? "" : j->name,
                .command = blob_bytes(&j->command),
                .command_len = j->command.size,
                .input = draft ? "" : blob_bytes(&j->settings.input),
                .input_len = draft ? 0 : j->settings.input.size,
                .cwd = j->settings.cwd,
                .env = j->settings.env,
                .timeout_us = j->settings.timeout_us,
                .submitted_us = j->submitted_us,
                .live_input = live_input_state(j),
                .user = j->settings.user,
                .terminal = (uint32_t)j->settings.rows << 16 | j->settings.columns,
                .state = j->state,
                .wanted_dead = j->fate != JOB_FATE_OWN,
                .timed_out = j->fate == JOB_FATE_TIMEOUT,
                .output_refused = -j->output_error,
                .started_us = j->started_us,
                .ended_us = j->ended_us,
                .code = j->code,
                .exit_code = j->exit_code,
                .error = j->error,
        };
}

void job_keep(struct job *j) {
        spool_keep(j->spool);
        j->command.kept = j->settings.input.kept = true;
        if (j->live_input)
                j->live_input->kept = true;
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
        list_remove(&j->turn);
        list_remove(&j->deadline);
        blob_deinit(&j->command);
        settings_deinit(&j->settings);
        live_input_free(j->live_input);
        spool_unref(j->spool);
        quota_account_unref(j->quota);
        free(j->name);
        free(j->error);
        free(j);
}

struct job *job_reader_ref(struct job *j) {
        spool_open(j->spool);
        return job_ref(j);
}

void job_reader_unref(struct job *j) {
        if (j)
                spool_close(j->spool);
        job_unref(j);
}

/* It may end at any time before it has ended: cancelled, with its environment, or because it could not be started. */
static const uint32_t next_states[] = {
        [JOB_DRAFT] = TRANSITION_TO(JOB_QUEUED) | TRANSITION_TO(JOB_ENDED),
        [JOB_QUEUED] = TRANSITION_TO(JOB_STARTING) | TRANSITION_TO(JOB_ENDED),
        [JOB_STARTING] = TRANSITION_TO(JOB_RUNNING) | TRANSITION_TO(JOB_ENDED),
        [JOB_RUNNING] = TRANSITION_TO(JOB_ENDED),
        [JOB_ENDED] = 0,
};

static const struct transitions transitions = {
        .what = "job",
        .key = "job",
        .n = JOB_N_STATES,
        .names = state_names,
        .to = next_states,
};

/* Every job comes here three times, so its name is made only for the log. */
static bool check_state(const struct job *j, enum job_state state) {
        char name[JOB_NAME_SIZE];

        return transition_is_legal(&transitions, j->state, state) ||
               transition_check(&transitions, job_name(j, name), j->state, state);
}

void job_set_state(struct job *j, enum job_state state) {
        if (!check_state(j, state))
                return;
        j->state = state;
        watch_fire(&j->watches);
}

bool job_set_fate(struct job *j, enum job_fate fate) {
        if (fate <= j->fate)
                return false;
        j->fate = fate;
        return true;
}

void job_remark(struct job *j, const char *text) {
        if (!j->error && *text)
                j->error = strdup(text);
}

void job_add_remark(struct job *j, const char *text) {
        char *both;

        if (!j->error || !*text || !strcmp(j->error, text)) {
                job_remark(j, text);
        } else if (asprintf(&both, "%s; %s", j->error, text) >= 0) {
                free(j->error);
                j->error = both;
        }
}

void job_set_end(struct job *j, const struct result *r, int exit_code, int64_t now) {
        assert(!job_ended(j));
        j->ended_us = now;
        j->code = r->code;
        j->exit_code = exit_code;
}

void job_end(struct job *j) {
        assert(!job_ended(j));
        j->exec = NULL;
        j->lease = NULL;
        j->due_us = USEC_NEVER;
        list_remove(&j->deadline);
        spool_end(j->spool);
        list_remove(&j->turn);
        blob_clear(&j->settings.input);
        if (j->live_input)
                live_input_close(j->live_input);
        if (!j->name) { /* no file shows them */
                free(TAKE_PTR(j->settings.env));
                free(TAKE_PTR(j->settings.cwd));
                free(TAKE_PTR(j->settings.user));
        }
        job_set_state(j, JOB_ENDED);
}
