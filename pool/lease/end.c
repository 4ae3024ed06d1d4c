/* SPDX-License-Identifier: MIT */

/* How jobs end: what is written down, told and counted, and which of those that have ended are kept. */

#include "pool/lease/end.h"

#include "pool/lease/audit.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/unused.h"
#include "pool/util/watch.h"

/*
 * When the journal is behind, all rows are put again. Until then this one may be all that keeps its number from being
 * used twice.
 */
void lease_drop_row(const struct lease *l, const struct job *j) {
        if (!journal_is_behind(l->table->journal))
                (void)journal_drop_job(l->table->journal, l->serial, j->number);
}

/* Old finished jobs leave the lease; who reads one keeps it. */
static void trim_history(struct lease *l) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &l->jobs, link) {
                if (l->n_ended <= l->table->config->history)
                        break;
                if (!job_ended(j))
                        continue;
                lease_drop_row(l, j);
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

static void end_job(struct lease *l, struct job *j, const struct result *r, int code) {
        bool submitted = j->state != JOB_DRAFT;

        if (j->state == JOB_QUEUED)
                l->n_queued--;
        else if (j->state == JOB_DRAFT)
                l->n_named_drafts--;
        else
                l->n_running--;
        if (l->current == j)
                l->current = NULL;
        l->n_over += submitted;
        if (!j->name)
                l->n_ended++;
        l->table->starved_us = 0; /* what it had is free now */
        job_add_remark(j, r->text);
        watch_fire(&l->file_watches);
        job_set_end(j, r, code, l->table->clock());
        if (submitted && l->table->registry->audit)
                audit_job(l->table->registry->audit, j, &(struct audit_place){ .pool = l->table->pool_name, .lease = l->name,
                                                                               .environment = lease_environment(l),
                                                                               .uid = l->uid, .gid = l->gid });
        note_end(l, j, r, code);
        job_end(j);
        l->table->totals.ended[job_how_ended(j)] += submitted;
        lease_announce_job(l, j, "ended");
        lease_note_use(l);
}

/* What nobody can ask for any more. */
static void drop_forgotten(struct lease *l, struct job *j) {
        lease_drop_row(l, j);
        list_remove(&j->link);
        job_unref(j);
}

void lease_drop_forgotten(struct lease *l) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &l->forgotten, link)
                if (job_ended(j))
                        drop_forgotten(l, j);
}

static void end_and_drop(struct lease *l, struct job *j, const struct result *r, int code) {
        end_job(l, j, r, code);
        if (j->forgotten)
                drop_forgotten(l, j);
}

void lease_end_job(struct lease *l, struct job *j, const struct result *r, int code) {
        end_and_drop(l, j, r, code);
        trim_history(l);
}

/* They never ran, whatever the reason is: that is known of them. */
void lease_end_queued(struct lease *l, const struct result *why) {
        struct result r = *why;
        struct job *j;

        if (r.code != RESULT_LOST && r.code != RESULT_RELEASED)
                r.code = RESULT_CANCELLED;
        while ((j = list_first(&l->queue, struct job, turn)))
                end_job(l, j, &r, 0);
        if (l->n_running == 0)
                list_remove(&l->starved);
        trim_history(l);
}

void lease_end_jobs(struct lease *l, const struct result *why) {
        struct job *j;

        while ((j = list_first(&l->running, struct job, turn))) {
                if (j->exec)
                        exec_cancel(j->exec);
                end_and_drop(l, j, why, 0);
        }
        if (l->n_queued > 0)
                lease_end_queued(l, why);
        list_remove(&l->starved);
        trim_history(l);
}

static bool began(const struct job *j) {
        return job_is_running(j) || j->started_us;
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
