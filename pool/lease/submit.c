/* SPDX-License-Identifier: MIT */
#include "pool/lease/submit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/lease/end.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/run.h"
#include "pool/lease/unused.h"

enum result_code lease_accepts(const struct lease *l) {
        if (l->code != RESULT_OK)
                return l->code;
        return l->n_queued + l->n_named_drafts >= QUEUE_MAX || l->last_number + l->n_drafts >= JOB_NAMED_FIRST - 1
                       ? RESULT_BUSY : RESULT_OK;
}

struct job_store lease_job_store(const struct lease *l) {
        return (struct job_store){ l->table->spool_dir, l->table->config->output_max, l->quota };
}

int lease_draft(struct lease *l, struct job **out) {
        struct job_store store;
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        store = lease_job_store(l);
        r = job_new(out, &store);
        if (r == 0)
                l->n_drafts++;
        return r;
}

void lease_discard(struct lease *l, struct job *draft) {
        l->n_drafts--;
        job_unref(draft);
}

/* A draft of cmd becomes the lease's newest job, with the settings as they are now. */
static int take_number(struct lease *l, struct job *j) {
        struct setting_values values = settings_values(&l->settings);

        l->n_drafts--;
        (void)job_set_number(j, l->serial, ++l->last_number, NULL);
        list_add_tail(&l->jobs, &job_ref(j)->link);
        blob_move(&j->settings.input, &l->settings.input);
        return settings_set(&j->settings, &values, l->changed_wall_us);
}

/* Write it down. @why: ok, or why it could not be stored; and then also why it could not be written down. */
static void add_job(struct lease *l, struct job *j, struct result *why) {
        struct journal_job row = result_ok(why) ? job_row(j, l->serial) : lease_ended_row(l, j, why, 0);
        int r = 0;

        /* It starts at once: then one row says both. */
        j->written_as_starting = result_ok(why) && l->n_queued == 0 && lease_has_turn(l, j);
        if (j->written_as_starting) {
                row.state = JOB_STARTING;
                r = lease_write_use(l);
        }
        if (r == 0)
                r = journal_add_job(l->table->journal, &row);
        if (r < 0 && result_ok(why))
                result_set(why, RESULT_CANCELLED, "not run: it could not be written down: %s", strerror(-r));
}

int lease_submit(struct lease *l, struct job *draft, struct blob *command) {
        struct job *j = draft;
        bool took_input = !j->name && l->settings.input.size > 0;
        struct result why;
        int r = 0, stored;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        if (j->state != JOB_DRAFT)
                return -EBUSY;
        j->lease = l;
        j->submitted_us = l->table->clock();
        if (j->name)
                l->n_named_drafts--;
        else
                r = take_number(l, j);
        if (j->settings.rows && !j->live_input)
                r = job_open_input(j, l->serial); /* a terminal has a keyboard */
        stored = job_submit(j, l->serial, command);
        if (r == 0)
                r = stored;
        if (r == 0)
                why.code = RESULT_OK; /* no text is read then */
        else
                result_set(&why, RESULT_CANCELLED, "not run: it could not be stored: %s", strerror(-r));
        add_job(l, j, &why);
        lease_enqueue(l, j);
        l->table->totals.submitted++;
        lease_show(l);
        lease_note_use(l);
        lease_replace(&l->remark, NULL);
        lease_announce_job(l, j, "queued");
        j->submitted_wall_us = j->changed_wall_us;
        if (took_input)
                l->settings.input_wall_us = j->submitted_wall_us;
        if (!result_ok(&why)) {
                /* Close cannot fail, so the job must: whoever reads next must not get the result of the one before. */
                lease_end_job(l, j, &why, 0);
                return 0;
        }

        /* It was opened before the lease was lost: it is not forgotten, it fails like those before it. */
        if (l->code != RESULT_OK) {
                result_set(&why, l->code, "%s", l->error);
                lease_end_queued(l, &why);
        }
        lease_start_next(l);
        return 0;
}
