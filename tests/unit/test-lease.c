/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "rig.h"
#include "pool/base/limits.h"
#include "pool/lease/ctl.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/set.h"
#include "pool/lease/submit.h"
#include "pool/util/clock.h"

#define SECOND USEC_PER_SEC

static int try_name(const char *name) {
        struct lease *l;
        int r = lease_create(rig.table, name, 0, 0, &l);

        if (r == 0)
                lease_release(l);
        return r;
}

static void names(void) {
        char longest[202];

        rig_start();
        CHECK_INT(try_name("t1"), 0);
        CHECK_INT(try_name("a"), 0);
        CHECK_INT(try_name("a b'\"$(x)`;&|*?\\-"), 0); /* a name is bytes, no shell sees it bare */
        CHECK_INT(try_name("gr\xc3\xbc\xc3\x9f"), 0);
        CHECK_INT(try_name("x..y."), 0);
        CHECK_INT(try_name("-rf"), 0);
        CHECK_INT(try_name(""), -EINVAL);
        CHECK_INT(try_name("."), -EINVAL);
        CHECK_INT(try_name(".."), -EINVAL);
        CHECK_INT(try_name(".pool"), -EINVAL);
        CHECK_INT(try_name("@"), -EINVAL);
        CHECK_INT(try_name("@a"), -EINVAL);
        CHECK_INT(try_name("a@"), 0);
        CHECK_INT(try_name("a/b"), -EINVAL);
        CHECK_INT(try_name("a\nb"), -EINVAL);
        CHECK_INT(try_name("a\x01"), -EINVAL);
        CHECK_INT(try_name("a\x7f"), -EINVAL);
        CHECK_INT(try_name("a\xc2\x85"), -EINVAL); /* U+0085, next line */
        CHECK_INT(try_name("a\xc2\xa0"), 0);      /* U+00A0, no-break space */
        CHECK_INT(try_name("\xff"), -EINVAL);
        CHECK_INT(try_name("a\xc3"), -EINVAL);
        CHECK_INT(try_name("\xed\xa0\x80"), -EINVAL);
        memset(longest, 'x', 201);
        longest[201] = '\0';
        CHECK_INT(try_name(longest), -ENAMETOOLONG);
        longest[200] = '\0';
        CHECK_INT(try_name(longest), 0);
        CHECK_INT(leases_count(rig.table), 0);
        rig_stop();
}

static void table(void) {
        struct lease *a, *b, *c;

        rig_start();
        rig.config.max_leases = 3;
        a = rig_lease("a");
        b = rig_lease("b");
        CHECK_INT(try_name("a"), -EEXIST);
        leases_drain(rig.table, true);
        CHECK_INT(try_name("c"), -EAGAIN);
        CHECK_INT(try_name("a"), -EEXIST);
        leases_drain(rig.table, false);
        c = rig_lease("c");
        CHECK_INT(try_name("d"), -EAGAIN);
        CHECK_INT(leases_count(rig.table), 3);
        CHECK(leases_find(rig.table, "b") == b && !leases_find(rig.table, "B"));
        CHECK(leases_find_serial(rig.table, lease_serial(c)) == c);
        CHECK(leases_after(rig.table, 0) == a && leases_after(rig.table, lease_serial(a)) == b);
        lease_release(b);
        CHECK(leases_after(rig.table, lease_serial(a)) == c);
        CHECK(leases_after(rig.table, lease_serial(a) + 1) == c); /* b's serial, which is gone */
        CHECK(!leases_after(rig.table, lease_serial(c)));
        CHECK(!leases_find(rig.table, "b"));
        CHECK_STR(lease_name(c), "c");
        CHECK_INT(lease_uid(c), 1000);
        CHECK_INT(lease_gid(c), 100);
        CHECK(lease_serial(rig_lease("b")) > lease_serial(c)); /* the name is free, the serial new */
        rig_stop();
}

static void first_come_first_served(void) {
        struct lease *a, *b, *c, *d;

        rig_start();
        a = rig_lease("a");
        b = rig_lease("b");
        c = rig_lease("c");
        d = rig_lease("d");
        CHECK_INT(lease_state(a), LEASE_WAITING);
        CHECK(!lease_environment(a));
        rig_run(SECOND);
        CHECK_STR(lease_environment(a), "sb-1");
        CHECK_STR(lease_environment(b), "sb-2");
        CHECK_INT(lease_state(c), LEASE_WAITING);
        lease_release(a);
        rig_run(0); /* never used: no clean-up, no round trip */
        CHECK_STR(lease_environment(c), "sb-1");
        lease_release(c);
        lease_release(d);
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        rig_stop();
}

static void jobs_in_order(void) {
        struct lease *l;
        struct job *one, *two;

        rig_start();
        l = rig_lease("t1");
        one = rig_job(l, "one");
        two = rig_job(l, "two");
        CHECK_INT(one->state, JOB_QUEUED);
        CHECK_INT(lease_queued(l), 2);
        rig_run(SIM_DELAY_US); /* created */
        CHECK_INT(one->state, JOB_STARTING);
        rig_run(SIM_DELAY_US);
        CHECK(one->state == JOB_ENDED && one->code == RESULT_OK && one->exit_code == 0 && !one->error);
        CHECK_INT(two->state, JOB_STARTING);
        CHECK(lease_current(l) == two && lease_newest(l) == two);
        CHECK(lease_job(l, 1) == one && lease_job(l, 2) == two && !lease_job(l, 3) && !lease_job(l, 0));
        rig_run(SECOND);
        CHECK_INT(two->state, JOB_ENDED);
        CHECK_INT(rig.backend.totals.execs, 2);
        job_unref(one);
        job_unref(two);
        rig_stop();
}

static void timeout_and_kill(void) {
        struct lease *l;
        struct job *j;

        rig_start();
        l = rig_lease("t1");
        CHECK_INT(lease_set(l, NULL, SETTING_TIMEOUT, "1.5"), 0);
        j = rig_job(l, "sleep");
        rig_run(SIM_DELAY_US * 3 / 2);
        rig_hold("sb-1", false);
        rig_run(3 * SECOND);
        CHECK_INT(j->state, JOB_STARTING); /* it is held before its start: no timeout yet */
        CHECK_INT(lease_command(l, NULL, "kill"), 0);
        rig_run(SECOND);
        CHECK(j->state == JOB_ENDED && j->code == RESULT_OK && j->exit_code == 137);
        CHECK_STR(j->error, "killed through ctl");
        job_unref(j);

        j = rig_job(l, "sleep");
        rig_prolong("sb-1");
        rig_run(SECOND);
        CHECK_INT(j->state, JOB_RUNNING);
        rig_run(SECOND);
        CHECK(j->state == JOB_ENDED && j->code == RESULT_OK && j->exit_code == 124);
        CHECK_STR(j->error, "timed out after 1.5 s");
        CHECK_INT(lease_state(l), LEASE_LEASED);
        job_unref(j);
        rig_stop();
}

static void kill_ignored(void) {
        struct lease *l;
        struct job *j, *next;

        rig_start();
        l = rig_lease("t1");
        j = rig_job(l, "stuck");
        next = rig_job(l, "never");
        rig_run(SIM_DELAY_US);
        rig_hold("sb-1", true);
        CHECK_INT(lease_command(l, NULL, "kill"), 0);
        rig_run(60 * SECOND - 1);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        rig_run(1);
        CHECK_INT(lease_state(l), LEASE_LOST); /* for it never began, and may yet */
        CHECK(j->state == JOB_ENDED && j->code == RESULT_LOST && next->code == RESULT_LOST);
        CHECK_STR(lease_error(l), "environment sb-1 given up: job 1 did not start within 60 s");
        CHECK_INT(lease_accepts(l), RESULT_LOST);
        job_unref(j);
        job_unref(next);
        CHECK_INT(lease_command(l, NULL, "renew"), 0);
        CHECK_INT(lease_state(l), LEASE_WAITING);
        CHECK_INT(lease_code(l), RESULT_OK);
        rig_run(SECOND);
        CHECK_STR(lease_environment(l), "sb-2");
        CHECK_INT(lease_command(l, NULL, "renew"), -EINVAL);
        rig_stop();
}

/* One that runs costs its lease nothing. */
static void kill_escaped(void) {
        struct lease *l;
        struct job *j, *next;

        rig_start();
        l = rig_lease("t1");
        rig_run(SIM_DELAY_US);
        j = rig_job(l, "stuck");
        rig_prolong("sb-1");
        rig_run(SECOND);
        CHECK_INT(j->state, JOB_RUNNING);
        rig_hold("sb-1", true);
        next = rig_job(l, "next");
        CHECK_INT(lease_command(l, NULL, "kill"), 0);
        rig_run(60 * SECOND - 1);
        CHECK_INT(j->state, JOB_RUNNING);
        rig_run(1);
        CHECK(j->state == JOB_ENDED && j->code == RESULT_OK && j->exit_code == 137);
        CHECK_STR(j->error, "killed through ctl; it did not end within 60 s; what is left of it may still run");
        rig_run(SECOND);
        CHECK(next->state == JOB_ENDED && next->code == RESULT_OK && next->exit_code == 0);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        job_unref(j);
        job_unref(next);
        rig_stop();
}

static void environment_dies(void) {
        struct lease *l;
        struct job *running, *late;

        rig_start();
        l = rig_lease("t1");
        rig_run(SECOND);
        running = rig_job(l, "x");
        sim_sandbox_die(sim_backend_find(&rig.backend, "sb-1"));
        CHECK_INT(lease_state(l), LEASE_LOST);
        CHECK_STR(running->error, "environment sb-1: died");
        CHECK(running->code == RESULT_LOST && !lease_current(l));
        late = rig_job(l, "y"); /* opened before: it fails like those before it */
        CHECK(late->state == JOB_ENDED && late->code == RESULT_LOST);
        CHECK_STR(late->error, "environment sb-1: died");
        CHECK_INT(lease_queued(l), 0);
        job_unref(running);
        job_unref(late);
        rig_stop();
}

static void waits_too_long(void) {
        struct lease *a, *b, *c;

        rig_start();
        rig.config.max = 1;
        rig.config.oversubscribe = false;
        rig.config.wait_us = 5 * SECOND;
        a = rig_lease("a");
        rig_run(SECOND);
        b = rig_lease("b");
        rig_run(5 * SECOND);
        CHECK_INT(lease_state(b), LEASE_FAILED);
        CHECK_INT(lease_code(b), RESULT_TIMEOUT);
        CHECK_STR(lease_error(b),
                  "waited 5 s for an environment; all 1 are in use; release a lease, or raise max or wait");

        rig.config.oversubscribe = true;
        c = rig_lease("c");
        rig_run(5 * SECOND + SIM_DELAY_US);
        CHECK_INT(lease_state(c), LEASE_LEASED);
        CHECK_INT(pool_totals(rig.pool)->oversubscribed, 1);
        CHECK_INT(pool_count_all(rig.pool), 2);
        lease_release(a);
        rig_run(SECOND);
        CHECK_INT(pool_count_all(rig.pool), 1);
        CHECK_STR(lease_environment(c), "sb-2");
        rig_stop();
}

static void cannot_create(void) {
        struct lease *l;

        rig_start();
        rig.backend.rates.create_fails = 1000;
        l = rig_lease("a");
        rig_run(100 * SECOND);
        CHECK_INT(lease_state(l), LEASE_WAITING);
        CHECK_STR(lease_error(l), "create: did not work"); /* while it waits it says for what */
        CHECK(rig.backend.totals.creates >= 8 && rig.backend.totals.creates <= 13); /* 0.5 1 2 4 8 16 30 30 s, or half that */
        rig.backend.rates.create_fails = 0;
        rig_run(31 * SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK(!lease_error(l));
        rig_stop();
}

static void queue_and_history(void) {
        struct lease *l;
        struct job *jobs[65];

        rig_start();
        rig.config.history = 3;
        l = rig_lease("t1");
        for (int i = 0; i < 65; i++) {
                CHECK_INT(lease_accepts(l), i < 64 ? RESULT_OK : RESULT_BUSY);
                jobs[i] = rig_job(l, "x"); /* the last one was opened in time */
        }
        CHECK_INT(lease_queued(l), 65);
        rig_run(SIM_DELAY_US);
        CHECK_INT(lease_command(l, NULL, "cancel"), 0);
        CHECK_INT(lease_queued(l), 0);
        CHECK_INT(jobs[0]->state, JOB_STARTING);
        CHECK(jobs[64]->state == JOB_ENDED && jobs[64]->code == RESULT_CANCELLED);
        CHECK_STR(jobs[64]->error, "cancelled through ctl before it ran");
        rig_run(SECOND);
        CHECK(jobs[0]->code == RESULT_OK && jobs[0]->state == JOB_ENDED);
        CHECK(!lease_job(l, 62) && lease_job(l, 63) && lease_job(l, 65));
        for (int i = 0; i < 65; i++)
                job_unref(jobs[i]);
        rig_stop();
}

/* Whoever was let in gets a number, also when others come in between; the rest is refused while they can be told. */
static void numbers_run_out(void) {
        struct job *drafts[2];
        struct lease *l;
        struct blob b;

        rig_start();
        l = rig_lease("t1");
        l->last_number = JOB_NAMED_FIRST - 3;
        for (int i = 0; i < 2; i++) {
                CHECK_INT(lease_accepts(l), RESULT_OK);
                CHECK_INT(lease_draft(l, &drafts[i]), 0);
        }
        CHECK_INT(lease_accepts(l), RESULT_BUSY);
        lease_discard(l, drafts[0]);
        CHECK_INT(lease_accepts(l), RESULT_OK);
        CHECK_INT(lease_draft(l, &drafts[0]), 0);
        for (int i = 0; i < 2; i++) {
                blob_init(&b, rig.dir.fd, COMMAND_SIZE_MAX);
                CHECK_INT(blob_append(&b, "x", 1), 0);
                CHECK_INT(lease_submit(l, drafts[i], &b), 0);
                blob_deinit(&b);
                CHECK_INT(lease_accepts(l), RESULT_BUSY);
                CHECK_INT(drafts[i]->number, JOB_NAMED_FIRST - 2 + i);
                job_unref(drafts[i]);
        }
        rig_run(SECOND);
        CHECK_INT(lease_newest(l)->number, JOB_NAMED_FIRST - 1);
        CHECK(lease_newest(l)->code == RESULT_OK && lease_accepts(l) == RESULT_BUSY);
        rig_stop();
}

/* The disk fails at the moment of submission: the job is there, and says so; also for a daemon that comes later. */
static void cannot_be_stored(void) {
        static const char large[BLOB_MEMORY_MAX + 1];
        struct lease *l;
        struct blob b;
        struct job *j;

        rig_start();
        l = rig_lease("t1");
        job_unref(rig_job(l, "one"));
        rig_run(SECOND);
        CHECK_INT(lease_newest(l)->exit_code, 0);
        CHECK_INT(lease_draft(l, &j), 0);
        blob_init(&b, rig.dir.fd, COMMAND_SIZE_MAX);
        CHECK_INT(blob_append(&b, large, sizeof(large)), 0);
        CHECK_INT(unlinkat(rig.dir.fd, b.name, 0), 0);
        CHECK_INT(lease_submit(l, j, &b), 0);
        blob_deinit(&b);
        CHECK(lease_newest(l) == j && job_ended(j) && j->number == 2 && j->code == RESULT_CANCELLED);
        CHECK_STR(lease_error(l), "not run: it could not be stored: No such file or directory");
        CHECK_INT(lease_queued(l), 0);
        job_unref(j);
        rig_restart();
        l = leases_find(rig.table, "t1");
        CHECK_INT(lease_newest(l)->number, 2);
        CHECK_INT(lease_newest(l)->code, RESULT_CANCELLED);
        j = rig_job(l, "three");
        rig_run(SECOND);
        CHECK(j->number == 3 && j->code == RESULT_OK);
        job_unref(j);
        rig_stop();
}

static const char *setting(const struct lease *l, enum lease_setting which) {
        static struct buf out = BUF_INIT(1000);
        static char text[1000];

        buf_clear(&out);
        CHECK_INT(lease_get(l, NULL, which, &out), 0);
        snprintf(text, sizeof(text), "%s", buf_text(&out));
        buf_deinit(&out);
        return text;
}

static void settings(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("t 1");
        CHECK_STR(setting(l, SETTING_CWD), "/root/hermes_tasks/t 1\n");
        CHECK_STR(setting(l, SETTING_TIMEOUT), "180\n");
        CHECK_STR(setting(l, SETTING_ENV), "");
        CHECK_INT(lease_set(l, NULL, SETTING_CWD, "sub"), 0);
        CHECK_STR(setting(l, SETTING_CWD), "sub\n");
        CHECK_INT(lease_set(l, NULL, SETTING_CWD, "a\nb"), -EINVAL);
        CHECK_STR(lease_error(l), "cwd: \"a b\": expected one line, a path");
        CHECK_STR(setting(l, SETTING_CWD), "sub\n");
        CHECK_INT(lease_set(l, NULL, SETTING_TIMEOUT, "0.25"), 0);
        CHECK(!lease_error(l));
        CHECK_STR(setting(l, SETTING_TIMEOUT), "0.25\n");
        CHECK_INT(lease_check_setting(l, NULL, SETTING_TIMEOUT, "soon"), -EINVAL);
        CHECK_STR(lease_error(l), "timeout: \"soon\": expected seconds, such as 60, or 0 for none");
        CHECK_INT(lease_set(l, NULL, SETTING_TIMEOUT, ""), 0);
        CHECK_STR(setting(l, SETTING_TIMEOUT), "180\n");
        CHECK_INT(lease_set(l, NULL, SETTING_ENV, "A=1\nB=x y"), 0);
        CHECK_STR(setting(l, SETTING_ENV), "A=1\nB=x y\n");
        CHECK_INT(lease_set(l, NULL, SETTING_ENV, "A=1\n2"), -EINVAL);
        CHECK_STR(lease_error(l), "env: \"2\" is not KEY=VALUE");
        CHECK_INT(lease_command(l, NULL, "explode now"), -EINVAL);
        CHECK_STR(lease_error(l), "ctl: \"explode now\": unknown; known are kill, signal NAME, cancel, renew, snapshot NAME");
        CHECK_INT(lease_command(l, NULL, "signal FOO"), -EINVAL);
        CHECK_STR(lease_error(l), "ctl: \"signal FOO\": signal takes a signal's name, such as INT");
        CHECK_INT(lease_command(l, NULL, "signal   INT"), 0);
        CHECK(!lease_error(l));
        rig_stop();
}

static void released_and_still_held(void) {
        struct lease *l;
        struct job *running, *queued, *draft, *j;
        struct blob b;

        rig_start();
        l = lease_ref(rig_lease("t1"));
        CHECK_INT(lease_draft(l, &draft), 0);
        running = rig_job(l, "x");
        queued = rig_job(l, "y");
        rig_run(SIM_DELAY_US);
        lease_release(l);
        CHECK_INT(lease_state(l), LEASE_RELEASED);
        CHECK(running->code == RESULT_RELEASED && queued->code == RESULT_RELEASED);
        CHECK_STR(queued->error, "lease t1 was released");
        CHECK_STR(lease_error(l), "lease t1 was released");
        blob_init(&b, rig.dir.fd, 100);
        CHECK_INT(lease_submit(l, draft, &b), -ESTALE);
        lease_discard(l, draft);
        CHECK_INT(lease_draft(l, &j), -ESTALE);
        CHECK_INT(lease_command(l, NULL, "kill"), -ESTALE);
        CHECK_INT(lease_set(l, NULL, SETTING_CWD, ""), -ESTALE);
        CHECK(!lease_newest(l) && !lease_current(l) && !lease_environment(l));
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_CLEANING), 1);
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        lease_unref(l);
        job_unref(running);
        job_unref(queued);
        rig_stop();
}

/* Each job is counted once, by how it ended. */
static void how_jobs_end(void) {
        const uint64_t *n;
        struct lease *l;

        rig_start();
        n = leases_totals(rig.table)->ended;
        l = rig_lease("a");
        rig_run(USEC_PER_SEC);
        job_unref(rig_job(l, "true"));
        rig_run(USEC_PER_SEC);
        CHECK_INT(n[JOB_END_OK], 1);

        rig.backend.rates.exec_codes = 1000;
        job_unref(rig_job(l, "false"));
        rig_run(USEC_PER_SEC);
        CHECK_INT(n[JOB_END_FAILED], 1);
        rig.backend.rates.exec_codes = 0;

        CHECK_INT(lease_set(l, NULL, SETTING_TIMEOUT, "2"), 0);
        job_unref(rig_job(l, "long"));
        rig_prolong("sb-1");
        rig_run(3 * USEC_PER_SEC);
        CHECK_INT(n[JOB_END_TIMEOUT], 1);

        CHECK_INT(lease_set(l, NULL, SETTING_TIMEOUT, "0"), 0);
        job_unref(rig_job(l, "long"));
        rig_prolong("sb-1");
        rig_run(USEC_PER_SEC);
        CHECK_INT(lease_command(l, NULL, "kill"), 0);
        rig_run(USEC_PER_SEC);
        CHECK_INT(n[JOB_END_KILLED], 1);

        job_unref(rig_job(l, "long"));
        rig_prolong("sb-1");
        job_unref(rig_job(l, "queued"));
        rig_run(USEC_PER_SEC);
        CHECK_INT(lease_command(l, NULL, "cancel"), 0);
        CHECK_INT(n[JOB_END_CANCELLED], 1);
        sim_sandbox_die(sim_backend_find(&rig.backend, "sb-1"));
        CHECK_INT(n[JOB_END_LOST], 1);

        CHECK_INT(lease_command(l, NULL, "renew"), 0);
        rig_run(USEC_PER_SEC);
        job_unref(rig_job(l, "long"));
        rig_prolong("sb-2");
        rig_run(USEC_PER_SEC);
        lease_release(l);
        CHECK_INT(n[JOB_END_KILLED], 2);
        CHECK_INT(leases_totals(rig.table)->submitted, 7);
        rig_stop();
}

/* The newest event that holds @text, from behind its time. */
static const char *event_with(const char *text) {
        for (uint64_t i = event_next(rig.events); i-- > event_oldest(rig.events);)
                if (strstr(event_line(rig.events, i), text))
                        return strchr(event_line(rig.events, i), ',') + 1;
        return "(none)";
}

static void events_say_why(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("a");
        job_unref(rig_job(l, "true"));
        rig_run(USEC_PER_SEC);
        rig.backend.rates.clean_fails = 1000;
        lease_release(l);
        rig_run(USEC_PER_SEC);
        CHECK_STR(event_with("clean-failed"),
                  "\"environment\":\"sb-1\",\"state\":\"clean-failed\",\"reason\":\"clean: processes are left\"}\n");
        CHECK_STR(event_with("gone"), "\"environment\":\"sb-1\",\"state\":\"gone\"}\n");

        rig_lease("b");
        rig_run(USEC_PER_SEC);
        sim_sandbox_die(sim_backend_find(&rig.backend, "sb-2"));
        CHECK_STR(event_with("\"state\":\"died\""),
                  "\"environment\":\"sb-2\",\"state\":\"died\",\"lease\":\"b\",\"reason\":\"environment sb-2: died\"}\n");
        CHECK_STR(event_with("\"lost\""), "\"lease\":\"b\",\"state\":\"lost\",\"reason\":\"environment sb-2: died\"}\n");
        rig_stop();
}

/* How often the events tell of leases that hold an environment for nothing. */
static unsigned warnings(const char *name) {
        char wanted[64];
        unsigned n = 0;

        snprintf(wanted, sizeof(wanted), "\"lease\":\"%s\",\"state\":\"unused\"", name);
        for (uint64_t i = event_oldest(rig.events); i < event_next(rig.events); i++)
                n += strstr(event_line(rig.events, i), wanted) != NULL;
        return n;
}

static void held_without_a_job(void) {
        struct lease *a, *b;

        rig_start();
        CHECK_INT(config_set(&rig.config, "held_warning", "60", CONFIG_CTL, &(struct result){}), 0);
        CHECK_INT(config_set(&rig.config, "wait", "100000", CONFIG_CTL, &(struct result){}), 0);
        a = rig_lease("a");
        b = rig_lease("b");
        rig_lease("waits");
        rig_run(30 * USEC_PER_SEC);
        CHECK_INT(lease_set(b, NULL, SETTING_TIMEOUT, "0"), 0);
        job_unref(rig_job(b, "true"));
        rig_run(20 * USEC_PER_SEC);
        CHECK_INT(warnings("a") + warnings("b"), 0);
        rig_run(11 * USEC_PER_SEC);
        CHECK_INT(warnings("a"), 1);
        CHECK_INT(warnings("b"), 0); /* its time began anew with its job's end */
        rig_run(20 * USEC_PER_SEC);
        job_unref(rig_job(b, "long"));
        rig_prolong("sb-2");
        rig_run(600 * USEC_PER_SEC);
        CHECK_INT(warnings("a"), 11); /* once a period */
        CHECK_INT(warnings("b"), 0);
        CHECK_INT(warnings("waits"), 0);
        sim_sandbox_die(sim_backend_find(&rig.backend, "sb-1"));
        CHECK_INT(lease_state(a), LEASE_LOST);
        rig_run(200 * USEC_PER_SEC);
        CHECK_INT(warnings("a"), 11);
        CHECK_INT(lease_command(b, NULL, "kill"), 0);
        rig_run(USEC_PER_SEC);
        lease_release(b);
        rig_run(600 * USEC_PER_SEC);
        CHECK_INT(warnings("b"), 0);
        CHECK(warnings("waits") > 0); /* it has sb-3 since */
        rig_stop();
}

static void never_warned_of(void) {
        rig_start();
        CHECK_INT(config_set(&rig.config, "held_warning", "0", CONFIG_CTL, &(struct result){}), 0);
        rig_lease("a");
        rig_run(100000 * USEC_PER_SEC);
        CHECK_INT(warnings("a"), 0);
        rig_stop();
}

/* A state is followed by those that the head of lease.h names. Every other transition is illegal. */
static void transitions(void) {
        static const bool legal[LEASE_N_STATES][LEASE_N_STATES] = {
                [LEASE_WAITING] = { [LEASE_LEASED] = true, [LEASE_LOST] = true, [LEASE_FAILED] = true,
                                    [LEASE_RELEASED] = true },
                [LEASE_LEASED] = { [LEASE_LOST] = true, [LEASE_RELEASED] = true },
                [LEASE_LOST] = { [LEASE_WAITING] = true, [LEASE_RELEASED] = true },
                [LEASE_FAILED] = { [LEASE_WAITING] = true, [LEASE_RELEASED] = true },
        };
        struct lease *l;

        rig_start();
        l = rig_lease("t1");
        for (enum lease_state from = 0; from < LEASE_N_STATES; from++)
                for (enum lease_state to = 0; to < LEASE_N_STATES; to++) {
                        l->state = from;
                        if (legal[from][to]) {
                                lease_set_state(l, to, NULL);
                                CHECK_INT(lease_state(l), to);
                        } else {
                                CHECK_ABORTS(lease_set_state(l, to, NULL));
                        }
                }
        l->state = LEASE_WAITING;
        rig_stop();
}

/* What the job that runs in this lease prints. */
static void print(struct lease *l, size_t len) {
        struct sim_exec *x = list_last(&sim_backend_find(&rig.backend, lease_environment(l))->execs, struct sim_exec, link);
        static const char data[1000];

        x->printed[STREAM_STDOUT] += len;
        x->wrote[STREAM_STDOUT] += len;
        exec_output(&x->exec, STREAM_STDOUT, data, len);
}

static struct job *runs(struct lease *l) {
        struct job *j = rig_job(l, "long");

        rig_prolong(lease_environment(l));
        rig_run(SIM_DELAY_US);
        CHECK_INT(j->state, JOB_RUNNING);
        return j;
}

/* A job over a quota is killed, and nobody else; when there is room again, new ones are not. */
static void quotas(void) {
        struct lease *alice, *too, *bob;
        struct job *j, *other, *third;

        rig_start();
        rig.config.max = 3;
        rig.config.spool_max = 1500;
        rig.config.spool_max_per_user = 1000;
        rig_restart();
        alice = rig_lease_of("alice", 1);
        too = rig_lease_of("too", 1);
        bob = rig_lease_of("bob", 2);
        rig_run(SIM_DELAY_US);
        j = runs(alice);
        other = runs(too);
        third = runs(bob);
        print(too, 600);
        print(alice, 400);
        CHECK_INT(j->fate, JOB_FATE_OWN); /* all that there is */
        print(alice, 1);
        CHECK_INT(j->fate, JOB_FATE_OUTPUT_MAX);
        CHECK_STR(j->error, "killed: its output passed spool_max_per_user, 1000 bytes for all that user 1 keeps; "
                            "rmdir of a lease makes room");
        print(bob, 501);
        CHECK_INT(spool_size(third->spool, VIEW_OUTPUT), 500);
        CHECK_STR(third->error, "killed: its output passed spool_max, 1500 bytes for all that the pool keeps; "
                                "rmdir of a lease makes room");
        CHECK_INT(leases_spool_bytes(rig.table), 1500);
        rig_run(SECOND);
        CHECK(job_ended(j) && j->code == RESULT_OK && j->exit_code == 137 && job_ended(third));
        CHECK_INT(other->state, JOB_RUNNING);

        lease_release(bob);
        CHECK_INT(leases_spool_bytes(rig.table), 1500); /* somebody still reads it */
        job_unref(third);
        CHECK_INT(leases_spool_bytes(rig.table), 1000);
        lease_release(alice);
        job_unref(j);
        CHECK_INT(leases_spool_bytes(rig.table), 600);
        print(too, 400);
        CHECK_INT(other->fate, JOB_FATE_OWN);
        job_unref(other);

        rig_restart();
        CHECK_INT(leases_spool_bytes(rig.table), 1000);
        rig_run(10 * SIM_DELAY_US);
        too = leases_find(rig.table, "too");
        print(too, 1);
        CHECK_INT(lease_current(too)->fate, JOB_FATE_OUTPUT_MAX);
        rig_stop();
}

/* Input over a quota is refused, and says why. */
static void input_over_quota(void) {
        static const char data[10000];
        struct lease *l;

        rig_start();
        rig.config.spool_max_per_user = 15000;
        rig_restart();
        l = rig_lease_of("t", 1);
        CHECK_INT(lease_add_input(l, NULL, data, 10000), 0);
        CHECK_INT(lease_add_input(l, NULL, data, 5001), -EDQUOT);
        CHECK_INT(lease_input(l, NULL)->size, 10000);
        CHECK_STR(lease_error(l), "stdin: refused: it would pass spool_max_per_user, 15000 bytes for all that user 1 "
                                  "keeps; rmdir of a lease makes room");
        lease_clear_input(l, NULL);
        CHECK_INT(leases_spool_bytes(rig.table), 0);
        CHECK_INT(lease_add_input(l, NULL, data, 10000), 0);
        CHECK_INT(lease_add_input(l, NULL, data, 5000), 0);
        CHECK_INT(leases_spool_bytes(rig.table), 15000);
        rig_stop();
}

int main(void) {
        RUN(names);
        RUN(table);
        RUN(first_come_first_served);
        RUN(jobs_in_order);
        RUN(timeout_and_kill);
        RUN(kill_ignored);
        RUN(kill_escaped);
        RUN(environment_dies);
        RUN(waits_too_long);
        RUN(cannot_create);
        RUN(queue_and_history);
        RUN(numbers_run_out);
        RUN(cannot_be_stored);
        RUN(settings);
        RUN(released_and_still_held);
        RUN(how_jobs_end);
        RUN(events_say_why);
        RUN(held_without_a_job);
        RUN(never_warned_of);
        RUN(transitions);
        RUN(quotas);
        RUN(input_over_quota);
        return check_done();
}
