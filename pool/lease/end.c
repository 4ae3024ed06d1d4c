/* SPDX-License-Identifier: MIT */

/* How jobs end: what is written down, told and counted, and which of those that have ended are kept. */

#include "pool/lease/end.h"

#include "pool/lease/lease-body.h"
#include "pool/lease/unused.h"

/* Old finished jobs leave the lease; who reads one keeps it. */
static void trim_history(struct lease *l) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &l->jobs, link) {
                if (l->n_ended <= l->table->config->history)
                        break;
                if (!job_ended(j))
                        continue;
                /* Else all rows are put again, and until then this one may be all that keeps its number from being used twice. */
                if (!journal_is_behind(l->table->journal))
                        (void)journal_drop_job(l->table->journal, l->serial, j->number);
                list_remove(&j->link);
                l->n_ended--;
                job_unref(j);
        }
}

struct journal_job lease_ended_row(const struct lease *l, const struct job *j, const struct result *r, int code) {
        struct journal_job row = job_row(j, l->serial);

        row.state = JOB_ENDED;
        row.code = r->code;
        row.exit_code = code;
        row.ended_us = l->table->clock();
        if (!row.error && *r->text)
                row.error = r->text;
        return row;
}

/* Before anybody is told, with all that `error` says. If it cannot be written, the next run asks again how it ended. */
static void note_end(struct lease *l, const struct job *j, const struct result *r, int code) {
        struct journal_job row = lease_ended_row(l, j, r, code);

        (void)journal_update_job(l->table->journal, &row);
}

const char *job_end_name(enum job_end end) {
        static const char *const names[] = {
                [JOB_END_OK] = "ok",         [JOB_END_FAILED] = "failed",       [JOB_END_TIMEOUT] = "timeout",
                [JOB_END_KILLED] = "killed", [JOB_END_CANCELLED] = "cancelled", [JOB_END_UNKNOWN] = "unknown",
        };

        return names[end];
}

static enum job_end classify(const struct job *j, const struct result *r, int code) {
        if (j->state == JOB_QUEUED)
                return JOB_END_CANCELLED;
        if (!result_ok(r))
                return r->code == RESULT_RELEASED ? JOB_END_KILLED : JOB_END_UNKNOWN;
        if (j->fate == JOB_FATE_TIMEOUT)
                return JOB_END_TIMEOUT;
        if (j->fate != JOB_FATE_OWN)
                return JOB_END_KILLED;
        return code == 0 ? JOB_END_OK : JOB_END_FAILED;
}

static void end_job(struct lease *l, struct job *j, const struct result *r, int code) {
        l->table->totals.ended[classify(j, r, code)]++;
        if (j->state == JOB_QUEUED)
                l->n_queued--;
        if (l->current == j)
                l->current = NULL;
        l->n_ended++;
        l->table->starved_us = 0; /* what it had is free now */
        job_add_remark(j, r->text);
        note_end(l, j, r, code);
        job_end(j, r, code, l->table->clock());
        lease_announce_job(l, j, "ended");
        lease_note_use(l);
}

void lease_end_job(struct lease *l, struct job *j, const struct result *r, int code) {
        end_job(l, j, r, code);
        trim_history(l);
}

void lease_end_jobs(struct lease *l, bool running, const struct result *why) {
        struct job *j;

        if (running && l->current) {
                if (l->current->exec)
                        exec_cancel(l->current->exec);
                end_job(l, l->current, why, 0);
        }
        list_for_each (j, &l->jobs, link)
                if (j->state == JOB_QUEUED)
                        end_job(l, j, why, 0);
        if (!l->current)
                list_remove(&l->starved);
        trim_history(l);
}

static bool began(const struct job *j) {
        return j->state == JOB_STARTING || j->state == JOB_RUNNING || j->started_us;
}

void lease_end_unwritten(struct lease *l) {
        struct job *j, *newest = NULL;
        struct result why;

        list_for_each (j, &l->jobs, link)
                if (began(j))
                        newest = j;
        result_set(&why, RESULT_FAILED, "how it ended was not written down before the daemon was killed");
        list_for_each (j, &l->jobs, link) {
                if (!newest || j == newest)
                        break;
                if (!job_ended(j))
                        end_job(l, j, &why, 0);
        }
        trim_history(l);
}
