/* SPDX-License-Identifier: MIT */

/*
 * Jobs with names, side by side, step by step: what the provider says of a job, and when, is what the test says. The
 * rest of it is the simulated one.
 */

#include <errno.h>
#include <sqlite3.h>

#include "rig.h"
#include "pool/base/exec-id.h"
#include "pool/base/limits.h"
#include "pool/lease/ctl.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/named.h"
#include "pool/lease/set.h"
#include "pool/lease/submit.h"
#include "pool/util/clock.h"

#define SECOND USEC_PER_SEC

/* The journal's disk is full for so many writes. */
static unsigned full;

/* By the linker's --wrap. */
int __real_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s) {
        if (full == 0 || sqlite3_stmt_readonly(s))
                return __real_sqlite3_step(s);
        full--;
        return SQLITE_FULL;
}

/* What the provider was asked to run, oldest first. */
struct run {
        struct exec exec; /* first */
        struct list link;
        uint32_t number;
        bool fresh, resume;
        unsigned kills;
};

static struct list runs = LIST_INIT(runs);
static unsigned n_refused; /* how many of the next are, for a shortage */

static int run_exec(struct sandbox *s, const struct exec_spec *spec, struct exec **out) {
        struct run *r;
        uint64_t instance, serial;

        if (n_refused > 0) {
                n_refused--;
                return -EMFILE;
        }
        r = calloc(1, sizeof(*r));
        CHECK(r);
        CHECK_INT(exec_id_parse(spec->id, &instance, &serial, &r->number), 0);
        r->fresh = spec->fresh;
        r->resume = spec->resume;
        list_add_tail(&runs, &r->link);
        *out = &r->exec;
        return 0;
}

static void run_free(struct run *r) {
        list_remove(&r->link);
        free(r);
}

static void run_cancel(struct exec *e) {
        run_free(container_of(e, struct run, exec));
}

static void run_kill(struct exec *e, int64_t grace_us) {
        container_of(e, struct run, exec)->kills++;
}

static void start(void) {
        static struct backend_ops ops;

        rig_start();
        ops = *rig.backend.backend.ops;
        ops.exec = run_exec;
        ops.exec_cancel = run_cancel;
        ops.exec_kill = run_kill;
        rig.backend.backend.ops = &ops;
        n_refused = 0;
}

static void stop(void) {
        rig_stop();
        CHECK(list_empty(&runs));
}

static struct run *run_of(const struct job *j) {
        struct run *r;

        list_for_each (r, &runs, link)
                if (r->number == j->number)
                        return r;
        return NULL;
}

static void end(struct job *j, int code) {
        struct run *r = run_of(j);

        exec_ended(&r->exec, &(struct result){}, code);
        run_free(r);
}

/* Submitted; borrowed from the lease. Its command is too long to stand in the journal. */
static struct job *named(struct lease *l, const char *name) {
        static char command[BLOB_MEMORY_MAX + 1];
        struct blob b;
        struct job *j = NULL;

        CHECK_INT(lease_make_job(l, name, &j), 0);
        blob_init(&b, rig.dir.fd, COMMAND_SIZE_MAX);
        memset(command, 'x', sizeof(command));
        CHECK_INT(blob_append(&b, command, sizeof(command)), 0);
        CHECK_INT(lease_submit(l, j, &b), 0);
        blob_deinit(&b);
        return j;
}

/* That runs. */
static struct job *running(struct lease *l, const char *name) {
        struct job *j = named(l, name);

        CHECK_INT(j->state, JOB_STARTING);
        exec_started(&run_of(j)->exec);
        CHECK_INT(j->state, JOB_RUNNING);
        return j;
}

static struct lease *leased(void) {
        struct lease *l = rig_lease("t");

        rig_run(SIM_DELAY_US);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        return l;
}

static struct lease *restarted(void) {
        struct lease *l;

        rig_restart();
        l = leases_find(rig.table, "t");
        CHECK(l);
        return l;
}

static void grant(struct lease *l) {
        rig_run(10 * SIM_DELAY_US);
        CHECK_INT(lease_state(l), LEASE_LEASED);
}

/* The environment that is given up for one of them takes all of them, also those that are due in the same turn. */
static void lost_together(void) {
        struct lease *l;
        struct job *a, *b;

        start();
        l = leased();
        running(l, "first");
        lease_remove_job(l, named(l, "killed"));
        lease_remove_job(l, named(l, "killed"));
        a = job_ref(named(l, "a"));
        b = job_ref(named(l, "b"));
        CHECK_INT(lease_running(l), 5);
        rig_run(KILL_TIMEOUT_US);
        CHECK_INT(lease_state(l), LEASE_LOST);
        CHECK(a->code == RESULT_LOST && b->code == RESULT_LOST);
        CHECK_INT(lease_running(l), 0);
        CHECK(list_empty(&l->forgotten));
        job_unref(a);
        job_unref(b);
        stop();
}

/* The first job empties the workdir. Handed over again after a restart, it may do so only now. */
static void first_one_again(void) {
        struct lease *l;
        struct job *a, *b;

        start();
        l = leased();
        named(l, "a");
        named(l, "b");
        CHECK_INT(lease_queued(l), 1);
        l = restarted();
        grant(l);
        a = lease_named_job(l, "a");
        b = lease_named_job(l, "b");
        CHECK(run_of(a) && run_of(a)->fresh && !run_of(a)->resume);
        CHECK_INT(b->state, JOB_QUEUED);
        exec_started(&run_of(a)->exec);
        CHECK_INT(b->state, JOB_STARTING);
        CHECK(!run_of(b)->fresh);
        stop();
}

/* Nobody knows whether it began, so what it may have left stays. */
static void first_one_again_ends(void) {
        struct result why;
        struct lease *l;
        struct job *a, *b;
        struct run *r;

        start();
        l = leased();
        named(l, "a");
        named(l, "b");
        l = restarted();
        grant(l);
        a = lease_named_job(l, "a");
        b = lease_named_job(l, "b");
        r = run_of(a);
        result_set(&why, RESULT_FAILED, "it is not there");
        exec_ended(&r->exec, &why, 0);
        run_free(r);
        CHECK(run_of(b) && !run_of(b)->fresh);
        stop();
}

/* One that another starts beside is followed all the same, once this machine can. */
static void shortage_after_a_restart(void) {
        struct lease *l;
        struct job *a, *b, *c;

        start();
        l = leased();
        running(l, "a");
        running(l, "b");
        l = restarted();
        n_refused = 1;
        grant(l);
        a = lease_named_job(l, "a");
        b = lease_named_job(l, "b");
        c = named(l, "c");
        rig_run(SECOND);
        CHECK(run_of(a) && run_of(a)->resume);
        CHECK(run_of(b) && run_of(b)->resume);
        CHECK(run_of(c) && !run_of(c)->resume);
        stop();
}

/* Jobs that wait for this machine go on in their order, and each starts once. */
static void shortage(void) {
        struct lease *l;
        struct job *a, *b;

        start();
        l = leased();
        running(l, "first");
        n_refused = 3;
        a = named(l, "a");
        b = named(l, "b");
        CHECK(a->state == JOB_QUEUED && b->state == JOB_QUEUED);
        lease_remove_job(l, a);
        rig_run(SECOND);
        CHECK_INT(b->state, JOB_STARTING);
        CHECK(!lease_error(l) && list_empty(&l->starved));
        CHECK(lease_queued(l) == 0 && lease_running(l) == 2);
        stop();
}

static int count(void *data, const struct journal_job *row) {
        ++*(int *)data;
        return 0;
}

static int rows(const struct lease *l) {
        int n = 0;

        CHECK_INT(journal_each_job(rig.journal, lease_serial(l), count, &n), 0);
        return n;
}

/* A job whose directory is gone is killed by later runs, however many there are, and leaves nothing. */
static void forgotten_over_restarts(void) {
        struct lease *l;
        struct job *j;

        start();
        l = leased();
        lease_remove_job(l, running(l, "a"));
        CHECK(!lease_named_job(l, "a"));
        for (int i = 0; i < 3; i++) {
                l = restarted();
                CHECK_INT(lease_running(l), 1);
        }
        grant(l);
        j = list_first(&l->forgotten, struct job, link);
        CHECK(j && j->state == JOB_RUNNING && run_of(j) && run_of(j)->kills == 1);
        if (j && run_of(j)) {
                exec_started(&run_of(j)->exec);
                end(j, 137);
        }
        CHECK(list_empty(&l->forgotten) && lease_running(l) == 0);
        CHECK_INT(rows(l), 0);
        CHECK(named(l, "a")->number == JOB_NAMED_FIRST + 1);
        stop();
}

/* Its end is written down before it is dropped, and the daemon may be killed in between. */
static void forgotten_that_has_ended(void) {
        struct journal_job row;
        struct lease *l;
        struct job *j;

        start();
        l = leased();
        j = running(l, "a");
        lease_remove_job(l, j);
        row = job_row(j, lease_serial(l));
        row.state = JOB_ENDED;
        CHECK_INT(journal_update_job(rig.journal, &row), 0);
        l = restarted();
        CHECK(list_empty(&l->forgotten) && lease_running(l) == 0);
        CHECK_INT(rows(l), 0);
        grant(l);
        lease_release(l);
        stop();
}

/* Its number could not be written into the row of the lease, so the row of the job keeps that from being used twice. */
static void forgotten_on_a_full_disk(void) {
        struct lease *l;
        struct job *j;

        start();
        l = leased();
        running(l, "first");
        j = running(l, "a");
        CHECK_INT(j->number, JOB_NAMED_FIRST + 1);
        full = 1;
        lease_remove_job(l, j);
        CHECK_INT(full, 0);
        end(j, 137);
        rig_kill();
        rig_open(BACKEND_TO_CREATE);
        backend_ready(&rig.backend.backend, &(struct result){});
        l = leases_find(rig.table, "t");
        grant(l);
        CHECK_INT(named(l, "b")->number, JOB_NAMED_FIRST + 2);
        stop();
}

/* What was written to its stdin is in no file with a lasting name yet. */
static void draft_with_input(void) {
        static char data[BLOB_MEMORY_MAX + 1];
        struct lease *l;
        struct job *j;

        start();
        l = leased();
        for (unsigned len = 1; len <= sizeof(data); len += sizeof(data) - 1) {
                CHECK_INT(lease_make_job(l, "draft", &j), 0);
                CHECK_INT(lease_add_input(l, j, data, len), 0);
                CHECK_INT(lease_set(l, j, SETTING_CWD, "/usr"), 0);
                l = restarted();
                j = lease_named_job(l, "draft");
                CHECK(j && j->state == JOB_DRAFT);
                CHECK_STR(j->settings.cwd, "/usr");
                CHECK_INT(lease_input(l, j)->size, 0);
                CHECK_INT(l->n_named_drafts, 1);
                lease_remove_job(l, j);
        }
        stop();
}

/* Whoever holds a job that is removed, or whose lease is, can ask and try what they like. */
static void removed_under_its_users(void) {
        struct lease *l;
        struct job *draft, *queued, *first, *last;
        struct blob b;

        start();
        l = lease_ref(leased());
        first = job_ref(running(l, "first"));
        rig.config.jobs_max = 1;
        queued = job_ref(named(l, "queued"));
        CHECK_INT(lease_make_job(l, "draft", &draft), 0);
        job_ref(draft);
        CHECK_INT(lease_make_job(l, "last", &last), 0);
        job_ref(last);
        lease_remove_job(l, draft);
        lease_remove_job(l, queued);
        lease_remove_job(l, first);
        CHECK(lease_queued(l) == 0 && l->n_named_drafts == 1 && l->n_named == 1 && lease_running(l) == 1);
        CHECK(draft->code == RESULT_CANCELLED && queued->code == RESULT_CANCELLED && first->state == JOB_RUNNING);
        blob_init(&b, rig.dir.fd, COMMAND_SIZE_MAX);
        CHECK_INT(blob_append(&b, "x", 1), 0);
        CHECK_INT(lease_submit(l, draft, &b), -EBUSY);
        CHECK_INT(lease_command(l, draft, "kill"), 0);
        CHECK_INT(lease_command(l, queued, "cancel"), 0);
        CHECK_INT(lease_command(l, first, "kill"), 0);
        CHECK_INT(lease_command(l, NULL, "kill all"), 0);
        end(first, 137);
        CHECK_INT(lease_command(l, first, "signal INT"), 0);
        CHECK_INT(lease_running(l), 0);
        CHECK_INT(leases_totals(rig.table)->submitted, 2);
        CHECK_INT(leases_totals(rig.table)->ended[JOB_END_CANCELLED], 1); /* the draft was never submitted */
        CHECK_INT(l->n_over, 2);
        lease_release(l);
        CHECK_INT(lease_submit(l, last, &b), -ESTALE);
        CHECK_INT(lease_command(l, last, "cancel"), -ESTALE);
        blob_deinit(&b);
        job_unref(draft);
        job_unref(queued);
        job_unref(first);
        job_unref(last);
        lease_unref(l);
        stop();
}

int main(void) {
        RUN(lost_together);
        RUN(first_one_again);
        RUN(first_one_again_ends);
        RUN(shortage_after_a_restart);
        RUN(shortage);
        RUN(forgotten_over_restarts);
        RUN(forgotten_that_has_ended);
        RUN(forgotten_on_a_full_disk);
        RUN(draft_with_input);
        RUN(removed_under_its_users);
        return check_done();
}
