/* SPDX-License-Identifier: MIT */
#include "pool/lease/named.h"

#include <errno.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/lease/end.h"
#include "pool/lease/fate.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/run.h"
#include "pool/lease/submit.h"
#include "pool/util/clock.h"

static bool is_name(const char *name) {
        size_t len = strlen(name);

        return len > 0 && len <= JOB_NAME_MAX && name[0] != '.' && name[0] != '-' && strcmp(name, "latest") != 0 &&
               strspn(name, "0123456789") < len &&
               strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static void add_named(struct lease *l, struct job *j) {
        list_add_tail(&l->named, &j->link);
        HASH_ADD_KEYPTR(hh_name, l->by_job_name, j->name, strlen(j->name), j);
        l->n_named++;
}

static int check_new(struct lease *l, const char *name) {
        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        if (!is_name(name)) {
                lease_remark(l, "jobs/%s: expected 1 to %d of A-Z a-z 0-9 . _ -, not only digits, not \"latest\", not "
                                "beginning with . or -",
                             name, JOB_NAME_MAX);
                return -EINVAL;
        }
        if (lease_named_job(l, name))
                return -EEXIST;
        if (l->n_named >= NAMED_MAX || l->last_named >= JOB_NUMBER_MAX) {
                lease_remark(l, "jobs/%s: refused: the lease has %u jobs with names; rmdir removes one", name, l->n_named);
                return -EAGAIN;
        }
        if (!lease_runs_side_by_side(l)) {
                lease_remark(l, "jobs/%s: refused: " RUNS_ONE_JOB, name, lease_environment(l));
                return -EOPNOTSUPP;
        }
        return 0;
}

static int make_draft(struct lease *l, const char *name, struct job **out) {
        struct setting_values values = settings_values(&l->settings);
        struct job_store store = lease_job_store(l);
        struct job *j;
        int r = job_new(&j, &store);

        if (r < 0)
                return r;
        j->lease = l;
        r = job_set_number(j, l->serial, l->last_named ? l->last_named + 1 : JOB_NAMED_FIRST, name);
        if (r == 0)
                r = settings_set(&j->settings, &values, clock_read_us(CLOCK_REALTIME));
        if (r == 0)
                r = lease_add_job_row(l, j);
        if (r < 0)
                job_unref(j);
        else
                *out = j;
        return r;
}

int lease_make_job(struct lease *l, const char *name, struct job **out) {
        int r = check_new(l, name);

        if (r == 0)
                r = make_draft(l, name, out);
        if (r < 0)
                return r;
        l->last_named = (*out)->number;
        add_named(l, *out);
        l->n_named_drafts++;
        lease_announce_job(l, *out, "draft");
        (*out)->submitted_wall_us = (*out)->changed_wall_us;
        return 0;
}

/*
 * The lease has the highest number before the row goes: none is used twice, or the environment would take the next job
 * for the one that it has run. When that cannot be written, the row stays until all rows are put again.
 */
static void drop_row(struct lease *l, const struct job *j) {
        if (lease_write(l) == 0)
                lease_drop_row(l, j);
}

static void take_out(struct lease *l, struct job *j) {
        HASH_DELETE(hh_name, l->by_job_name, j);
        list_remove(&j->link);
        l->n_named--;
}

static void take_name(struct lease *l, struct job *j) {
        take_out(l, j);
        j->forgotten = true;
        list_add_tail(&l->forgotten, &j->link);
}

/* It leaves the lease as soon as it has ended. */
static void end_forgotten(struct lease *l, struct job *j) {
        struct result why;

        if (job_is_running(j)) {
                (void)lease_add_job_row(l, j); /* it has no name now */
                lease_kill_job(l, j, JOB_FATE_KILLED, "killed: its directory was removed");
        } else if (!job_ended(j)) {
                result_set(&why, RESULT_CANCELLED, "its directory was removed before it ran");
                lease_end_job(l, j, &why, 0);
        }
}

void lease_remove_job(struct lease *l, struct job *j) {
        if (job_ended(j)) {
                take_out(l, j);
                drop_row(l, j);
                job_unref(j);
                return;
        }
        take_name(l, j);
        (void)lease_write(l); /* the highest number, before the row goes */
        end_forgotten(l, j);
}

void lease_restore_named(struct lease *l, struct job *j) {
        struct job *older = lease_named_job(l, j->name);

        if (older)
                take_name(l, older);
        add_named(l, j);
}

void lease_end_forgotten(struct lease *l) {
        struct job *j, *tmp;

        if (list_empty(&l->forgotten))
                return;
        (void)lease_write(l);
        list_for_each_safe (j, tmp, &l->forgotten, link)
                end_forgotten(l, j);
        lease_drop_forgotten(l);
}
