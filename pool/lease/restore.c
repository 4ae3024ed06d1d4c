/* SPDX-License-Identifier: MIT */
#include "pool/lease/restore.h"

/*
 * After a restart: the leases of an earlier run, with their jobs.
 *
 * A lease whose environment was taken back waits until that has answered;
 * then the job that ran is followed from where its output ends on disk. One
 * that had none goes on waiting. One whose environment is gone is lost, and so
 * is the end of the job that ran there.
 *
 * A state that the journal should not hold is never taken over: it would index
 * tables. A job in such a state has ended, a lease in such a state is lost.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/base/limits.h"
#include "pool/lease/end.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/named.h"
#include "pool/lease/submit.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/*
 * The journal has times of the pool's clock. They are as far off as wall time was set since; the time of the output is
 * that of its files. What is not over is new to this run.
 */
static void restore_wall_times(const struct leases *t, struct job *j) {
        int64_t now = clock_read_us(CLOCK_REALTIME), ahead = now - t->clock();

        j->submitted_wall_us = j->submitted_us + ahead;
        j->changed_wall_us = job_ended(j) ? j->ended_us + ahead : now;
}

/* The row as it can be restored. @why has room for the error of a job in an unknown state. */
static struct journal_job known_job(const struct lease *l, const struct journal_job *row, struct result *why) {
        struct journal_job known = *row;

        if (row->state >= 0 && row->state < JOB_N_STATES && (row->state != JOB_DRAFT || row->name))
                return known;
        log_error("lease=%s job=%" PRIu32 ": unknown state %d in the journal; the job counts as ended", l->name,
                  row->number, row->state);
        result_set(why, RESULT_FAILED, "how it ended cannot be known: its state in the journal is unknown");
        known.state = JOB_ENDED;
        known.code = why->code;
        known.error = row->error ?: why->text;
        return known;
}

/* Numbers between those of rows are of jobs that the history has dropped. */
static void note_number(struct lease *l, const struct journal_job *row) {
        if (row->number >= JOB_NAMED_FIRST) {
                if (l->last_named < row->number)
                        l->last_named = row->number;
        } else {
                l->n_over += row->number - l->last_number - 1;
                l->last_number = row->number;
        }
}

/* With the reference. */
static void add_by_name(struct lease *l, struct job *j) {
        if (!j->name)
                list_add_tail(&l->jobs, &j->link);
        else if (j->forgotten)
                list_add_tail(&l->forgotten, &j->link);
        else
                lease_restore_named(l, j);
}

static int read_job(void *data, const struct journal_job *row) {
        struct lease *l = data;
        struct job_store store = lease_job_store(l);
        struct result why;
        struct journal_job known = known_job(l, row, &why);
        struct job *j;
        int r;

        note_number(l, row); /* also when it is left out: the provider may know a job of this number */
        r = job_restore(&j, &known, &store);
        if (r < 0) {
                log_error("lease=%s job=%" PRIu32 ": its files cannot be read, it is left out: %s", l->name, row->number,
                          strerror(-r));
                return 0;
        }
        restore_wall_times(l->table, j);
        add_by_name(l, j);
        j->lease = job_ended(j) ? NULL : l;
        switch (j->state) {
        case JOB_DRAFT:
                l->n_named_drafts++;
                break;
        case JOB_QUEUED:
                lease_enqueue(l, j);
                break;
        case JOB_STARTING:
        case JOB_RUNNING:
                lease_add_running(l, j);
                break;
        case JOB_ENDED:
                l->n_over++;
                if (!j->name)
                        l->n_ended++;
                break;
        case JOB_N_STATES:
                break;
        }
        return 0;
}

/* It goes on where its files are, even if base= says something else now. */
static void restore_workdir(struct lease *l) {
        const char *workdir = environment_workdir(l->claim.environment);
        char *copy = workdir ? strdup(workdir) : NULL;

        if (copy) {
                free(l->workdir);
                l->workdir = copy;
        }
}

/* Its claim is as it was, as far as that can be. */
static void restore_claim(struct lease *l, const char *environment) {
        struct result why;

        if (l->state != LEASE_WAITING && l->state != LEASE_LEASED) {
                /* Its jobs ended before it did, and that could not be written down. */
                result_set(&why, l->code, "%s", l->error ?: "");
                lease_end_jobs(l, &why);
                return;
        }
        if (environment && pool_restore_claim(l->table->pool, &l->claim, environment)) {
                restore_workdir(l);
                lease_publish_state(l);
                /* A job was handed over there. Unless that is to be done again, the next is not the first. */
                if (environment_workdir(l->claim.environment) && l->n_running == 0)
                        lease_set_prepared(l);
                return;
        }
        /* With a job that began, the grant is what could not be written: nobody knows where that runs. */
        if (l->state == LEASE_WAITING && !environment && l->n_running == 0) {
                pool_claim(l->table->pool, &l->claim);
                return;
        }
        result_set(&why, RESULT_LOST, "the environment ended with the daemon that held it; echo renew > ctl asks for a new one");
        lease_end_jobs(l, &why);
        lease_set_state(l, LEASE_LOST, &why);
}

/* A lease that was read, and its environment. Nothing is written to the journal until all leases are read. */
struct restored {
        struct list link;
        struct lease *lease;
        char *environment; /* its nonce, or NULL */
};

static void restored_free(struct restored *one) {
        list_remove(&one->link);
        lease_unref(one->lease);
        free(one->environment);
        free(one);
}

struct reading {
        struct leases *(*find)(void *data, uint64_t pool);
        void *data;
        struct list all; /* of restored, by serial */
};

static void restore_state(struct lease *l, const struct journal_lease *row) {
        if (row->state < 0 || row->state >= LEASE_RELEASED) {
                log_error("lease=%s: unknown state %d in the journal; the lease is lost", l->name, row->state);
                l->state = LEASE_LOST;
                l->code = RESULT_LOST;
                lease_replace(&l->error, "its state in the journal is unknown; echo renew > ctl asks for a new "
                                         "environment");
                return;
        }
        /* A lease waits until its environment has answered. */
        l->state = row->state == LEASE_LEASED && row->environment ? LEASE_WAITING : row->state;
        l->code = row->code;
        lease_replace(&l->error, row->error);
}

static int read_lease(void *data, const struct journal_lease *row) {
        struct reading *reading = data;
        struct leases *table = reading->find(reading->data, row->pool);
        struct restored *one;
        struct lease *l;

        if (!table) { /* a pool without leases was removed, so somebody has changed the journal */
                log_error("lease=%s: of a pool that is not in the journal; left out", row->name);
                return 0;
        }
        one = calloc(1, sizeof(*one));
        if (!one)
                return -ENOMEM;
        list_init(&one->link);
        list_add_tail(&reading->all, &one->link);
        l = one->lease = leases_make(table, row->name, row->serial, row->uid, row->gid);
        if (!l)
                return -ENOMEM;
        l->instance = row->instance;
        l->created_wall_us = row->created_wall_us;
        l->created_us = l->table->clock() - (clock_read_us(CLOCK_REALTIME) - row->created_wall_us);
        restore_state(l, row);
        l->prepared = row->prepared;
        l->last_named = row->last_named;
        one->environment = row->environment ? strdup(row->environment) : NULL;
        if (!one->environment && row->environment)
                return -ENOMEM;
        return settings_set(&l->settings, &(struct setting_values){ row->cwd, row->env, row->timeout_us, row->user ?: "" },
                            l->changed_wall_us);
}

/* One whose name was removed has its files until it has ended. */
static struct job *find_job(const struct lease *l, uint32_t number) {
        struct job *j;

        list_for_each (j, &l->forgotten, link)
                if (j->number == number)
                        return j;
        return lease_job(l, number);
}

/*
 * Whether a file belongs to a job. The input of one that has ended does not: that was to be removed. A draft has live
 * input alone: its submission could not be written down.
 */
static bool is_needed(struct leases *t, const char *name) {
        const struct job *j;
        struct lease *l;
        uint64_t serial;
        uint32_t number;
        int suffix = 0;

        if (sscanf(name, "%" SCNu64 ".%" SCNu32 ".%n", &serial, &number, &suffix) < 2 || !suffix)
                return false;
        l = leases_find_serial(t, serial);
        j = l ? find_job(l, number) : NULL;
        if (j && !strcmp(name + suffix, "live"))
                return j->live_input;
        return j && j->state != JOB_DRAFT && !(job_ended(j) && !strcmp(name + suffix, "input"));
}

/* Files that belong to no job: of leases that were released, of jobs that the history has dropped. */
static int sweep(struct leases *t) {
        DIR *dir;
        struct dirent *entry;
        int fd = dup(t->spool_dir);

        dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                close_fd(fd);
                return -errno;
        }
        rewinddir(dir);
        while ((entry = readdir(dir))) {
                if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || is_needed(t, entry->d_name))
                        continue;
                unlinkat(t->spool_dir, entry->d_name, 0);
        }
        closedir(dir);
        return 0;
}

/* Into the table, with its jobs and its claim. */
static int take_up(struct restored *one) {
        struct lease *l = TAKE_PTR(one->lease), *older = leases_find(l->table, l->name);
        int r;

        if (older)
                lease_release(older); /* it was released, and that could not be written down */
        leases_add(l);
        lease_registry_note_serial(l->table->registry, l->serial);
        r = journal_each_job(l->table->journal, l->serial, read_job, l);
        lease_end_unwritten(l);
        lease_drop_forgotten(l);
        if (r == 0) {
                restore_claim(l, one->environment);
                lease_end_forgotten(l);
        }
        return r;
}

int leases_restore(struct leases *own, struct leases *(*find)(void *data, uint64_t pool), void *data) {
        struct reading reading = { .find = find, .data = data };
        struct restored *one;
        int r;

        list_init(&reading.all);
        r = journal_each_lease(own->journal, read_lease, &reading);
        while ((one = list_first(&reading.all, struct restored, link))) {
                if (r == 0)
                        r = take_up(one);
                restored_free(one);
        }
        return r < 0 ? r : sweep(own);
}
