/* SPDX-License-Identifier: MIT */
#include "rig.h"
#include "pool/environment/limits.h"
#include "pool/lease/ctl.h"
#include "pool/util/clock.h"

#define SECOND USEC_PER_SEC

static struct sim_sandbox *sandbox(unsigned number) {
        char id[16];

        snprintf(id, sizeof(id), "sb-%u", number);
        return sim_backend_find(&rig.backend, id);
}

/* @n environments that nobody uses, made at the same moment. */
static void rig_idle(unsigned n) {
        rig_start();
        rig.config.max = rig.config.creates = n;
        rig.config.keepalive_us = 0;
        pool_prewarm(rig.pool, n);
        rig_run(SIM_DELAY_US);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), n);
}

/* idle time */

static void herd(void) {
        enum {
                N = 100,
        };
        unsigned before, most = 0;

        rig_idle(N);
        rig_run(600 * SECOND - 1);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), N);
        for (int i = 0; i < 60; i++) {
                before = pool_count(rig.pool, ENVIRONMENT_IDLE);
                rig_run(SECOND);
                if (before - pool_count(rig.pool, ENVIRONMENT_IDLE) > most)
                        most = before - pool_count(rig.pool, ENVIRONMENT_IDLE);
        }
        rig_run(1);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 0);
        CHECK(most <= 10); /* of 100 in 60 seconds: no more at one moment */
        rig_stop();
}

static void idle_timeout_by_ctl(void) {
        rig_idle(2);
        rig_run(100 * SECOND);
        rig.config.idle_timeout_us = 1000 * SECOND; /* longer: also for those that are idle now */
        pool_config_changed(rig.pool);
        rig_run(899 * SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 2);
        rig.config.min = 1;
        rig.config.idle_timeout_us = 500 * SECOND; /* shorter: likewise */
        pool_config_changed(rig.pool);
        rig_run(0);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        rig.config.min = 0;
        pool_config_changed(rig.pool);
        rig_run(0);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 0);
        rig_stop();
}

/* Who is idle longest ends first, who came last is lent first. */
static void order(void) {
        struct lease *l;

        rig_idle(1);
        rig.config.max = 3;
        for (unsigned n = 2; n <= 3; n++) {
                rig_run(10 * SECOND);
                pool_prewarm(rig.pool, n);
        }
        rig_run(10 * SECOND);
        l = rig_lease("a");
        rig_run(0);
        CHECK_STR(lease_environment(l), "sb-3");
        rig.config.min = 1;
        rig.config.idle_timeout_us = SECOND;
        pool_config_changed(rig.pool);
        rig_run(SECOND);
        CHECK(!sandbox(1) && sandbox(2));
        rig_stop();
}

static void limits_by_ctl(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("a");
        job_unref(rig_job(l, "x"));
        rig_run(SECOND);
        lease_release(l);
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        rig.config.max_uses = 1; /* it had its one */
        pool_config_changed(rig.pool);
        rig_run(SECOND);
        CHECK_INT(pool_count_all(rig.pool), 0);

        rig.config.max_uses = 0;
        l = rig_lease("b");
        rig_run(SECOND);
        rig.config.min_life_us = 0;
        rig.config.max_lifetime_us = 10 * SECOND; /* counts for one that is lent too, but does not take it away */
        pool_config_changed(rig.pool);
        rig_run(20 * SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        lease_release(l);
        rig_run(SECOND);
        CHECK_INT(pool_count_all(rig.pool), 0);
        rig_stop();
}

/* probes */

static void probed(void) {
        struct lease *l;

        rig_idle(1);
        rig.config.keepalive_us = 60 * SECOND;
        pool_config_changed(rig.pool);
        rig_run(60 * SECOND - 1);
        CHECK_INT(rig.backend.totals.probes, 0);
        rig_run(1);
        CHECK_INT(rig.backend.totals.probes, 1);
        rig_run(SIM_DELAY_US + 60 * SECOND);
        CHECK_INT(rig.backend.totals.probes, 2);
        l = rig_lease("a"); /* nothing is known of it while it is lent */
        rig_run(200 * SECOND);
        CHECK_INT(rig.backend.totals.probes, 2);
        job_unref(rig_job(l, "x"));
        rig_run(SECOND);
        lease_release(l);
        rig_run(59 * SECOND); /* cleaned: that showed that it works */
        CHECK_INT(rig.backend.totals.probes, 2);
        rig_run(2 * SECOND);
        CHECK_INT(rig.backend.totals.probes, 3);
        rig_run(480 * SECOND); /* and it does not stay for it */
        CHECK_INT(pool_count_all(rig.pool), 1);
        rig_run(130 * SECOND);
        CHECK_INT(pool_count_all(rig.pool), 0);
        rig_stop();
}

static void one_bad_probe(void) {
        rig_idle(1);
        rig.config.keepalive_us = 60 * SECOND;
        rig.backend.rates.probe_fails = 1000;
        pool_config_changed(rig.pool);
        rig_run(60 * SECOND + SIM_DELAY_US);
        rig.backend.rates.probe_fails = 0;
        rig_run(SIM_DELAY_US); /* it is checked again at once, with success */
        CHECK_INT(rig.backend.totals.probes, 2);
        rig_run(60 * SECOND);
        rig.backend.rates.probe_fails = 1000; /* so this is a first one again */
        rig_run(SIM_DELAY_US);
        CHECK_INT(rig.backend.totals.probes, 4);
        rig.backend.rates.probe_fails = 0;
        rig_run(10 * SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        CHECK_INT(pool_totals(rig.pool)->died, 0);
        rig_stop();
}

static void two_bad_probes(void) {
        uint64_t from;
        bool told = false;

        rig_idle(1);
        rig.config.min = 1;
        rig.config.keepalive_us = 60 * SECOND;
        rig.backend.rates.probe_hangs = 1000;
        pool_config_changed(rig.pool);
        from = event_next(rig.events);
        rig_run(75 * SECOND);
        CHECK_INT(pool_totals(rig.pool)->died, 0); /* one did not end in time */
        CHECK_INT(rig.backend.totals.probes, 2);
        rig_run(10 * SECOND);
        CHECK_INT(pool_totals(rig.pool)->died, 1);
        for (; from < event_next(rig.events); from++)
                told |= strstr(event_line(rig.events, from), "\"state\":\"died\"") &&
                        strstr(event_line(rig.events, from), "environment sb-1 does not work any more");
        CHECK(told);
        rig_run(SECOND); /* its place is free, and taken by a new one */
        CHECK(!sandbox(1) && sandbox(2));
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        rig_stop();
}

static void probes_at_once(void) {
        rig_idle(20);
        rig.config.keepalive_us = 60 * SECOND;
        rig.backend.rates.probe_hangs = 1000;
        pool_config_changed(rig.pool);
        rig_run(65 * SECOND);
        CHECK_INT(rig.backend.totals.probes, PROBES_AT_ONCE);
        rig.backend.rates.probe_hangs = 0;
        rig_run(10 * SECOND); /* the others get their turn */
        CHECK_INT(rig.backend.totals.probes, 20 + PROBES_AT_ONCE);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 20);
        rig_stop();
}

static void lent_while_probed(void) {
        struct lease *l;

        rig_idle(1);
        rig.config.keepalive_us = 60 * SECOND;
        rig.backend.rates.probe_hangs = 1000;
        pool_config_changed(rig.pool);
        rig_run(65 * SECOND);
        CHECK(sandbox(1)->probe);
        l = rig_lease("a");
        rig_run(0);
        CHECK_STR(lease_environment(l), "sb-1");
        CHECK(!sandbox(1)->probe);
        rig_run(100 * SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        CHECK_INT(pool_totals(rig.pool)->died, 0);
        rig_stop();
}

static void ended_while_probed(void) {
        rig_idle(2);
        rig.config.keepalive_us = 60 * SECOND;
        rig.backend.rates.probe_hangs = 1000;
        pool_config_changed(rig.pool);
        rig_run(65 * SECOND);
        CHECK(sandbox(1)->probe && sandbox(2)->probe);
        sim_sandbox_die(sandbox(1));
        pool_recycle(rig.pool); /* the provider checks that nothing runs in them */
        rig_run(SECOND);
        CHECK_INT(pool_count_all(rig.pool), 0);
        rig_stop();
}

/* creates that are refused */

static void one_refusal(void) {
        struct lease *l;

        rig_start();
        rig.backend.rates.create_hopeless = 1000;
        l = rig_lease("a");
        rig_run(SIM_DELAY_US);
        CHECK_INT(rig.backend.totals.creates, 1);
        CHECK_INT(lease_state(l), LEASE_WAITING);
        CHECK_STR(lease_error(l), "create: refused");
        rig.backend.rates.create_hopeless = 0;
        rig_run(SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        rig_stop();
}

static void refused_for_good(void) {
        static const char words[] = "create: refused; tried again after 30 s, or when \"resume\" is written to .pool/ctl";
        struct lease *a, *b, *c;

        rig_start();
        rig.backend.rates.create_hopeless = 1000;
        a = rig_lease("a");
        rig_run(5 * SECOND);
        CHECK_INT(rig.backend.totals.creates, BREAKER_ERRORS);
        CHECK_INT(lease_state(a), LEASE_FAILED);
        CHECK(lease_code(a) == RESULT_INVALID || lease_code(a) == RESULT_DENIED);
        CHECK_STR(lease_error(a), words);
        b = rig_lease("b"); /* nothing to wait for */
        rig_run(0);
        CHECK_INT(lease_state(b), LEASE_FAILED);
        rig_run(30 * SECOND);
        CHECK_INT(rig.backend.totals.creates, BREAKER_ERRORS); /* nobody wants one */

        c = rig_lease("c");
        rig_run(SIM_DELAY_US / 2);
        CHECK_INT(rig.backend.totals.creates, BREAKER_ERRORS + 1); /* the trial, for which it waits */
        CHECK_INT(lease_state(c), LEASE_WAITING);
        rig_run(SIM_DELAY_US);
        CHECK_INT(lease_state(c), LEASE_FAILED);
        rig.backend.rates.create_hopeless = 0;
        CHECK_INT(lease_command(c, NULL, "renew"), 0);
        rig_run(29 * SECOND);
        CHECK_INT(lease_state(c), LEASE_FAILED);
        rig_run(SECOND);
        CHECK_INT(lease_command(c, NULL, "renew"), 0);
        CHECK_INT(lease_command(a, NULL, "renew"), 0);
        rig_run(SECOND);
        CHECK(lease_state(a) == LEASE_LEASED && lease_state(c) == LEASE_LEASED);
        CHECK(!pool_trouble(rig.pool));
        rig_stop();
}

/* Two hundred leases, and no room for any: all wait and are told, no refusal counts, and all are served in their order. */
static void no_room(void) {
        static const char words[] = "create: no room; tried again until there is room";
        struct lease *l[200], *next;
        char name[8];

        rig_start();
        rig.config.max = 200;
        rig.config.creates = 8;
        rig.backend.rates.create_no_room = 1000;
        for (int i = 0; i < 200; i++) {
                snprintf(name, sizeof(name), "l%d", i);
                l[i] = rig_lease(name);
        }
        rig_run(200 * SECOND);
        CHECK(rig.backend.totals.creates >= 8 * 8 && rig.backend.totals.creates <= 8 * 20); /* with back-off, but on and on */
        for (int i = 0; i < 200; i++) {
                CHECK_INT(lease_state(l[i]), LEASE_WAITING);
                CHECK_STR(lease_error(l[i]), words);
        }
        rig.backend.rates.create_no_room = 0;
        for (int i = 0; i < 200;) {
                rig_run(SIM_DELAY_US);
                while (i < 200 && lease_state(l[i]) == LEASE_LEASED) {
                        CHECK(!lease_error(l[i]));
                        i++;
                }
                for (int k = i; k < 200; k++)
                        CHECK_INT(lease_state(l[k]), LEASE_WAITING);
        }
        next = rig_lease("next");
        CHECK(!lease_error(next)); /* it waits for its turn alone */
        rig_stop();
}

/* A refusal, then no room, then a refusal: that is not three of them in a row; and an open breaker closes. */
static void no_room_is_no_refusal(void) {
        struct lease *l;

        rig_start();
        rig.backend.rates.create_hopeless = 1000;
        rig_lease("failed");
        rig_run(5 * SECOND);
        CHECK_INT(rig.backend.totals.creates, BREAKER_ERRORS);
        rig_run(30 * SECOND);
        rig.backend.rates.create_hopeless = 0;
        rig.backend.rates.create_no_room = 1000;
        l = rig_lease("a");
        rig_run(3 * SECOND);
        CHECK_INT(lease_state(l), LEASE_WAITING);
        rig.backend.rates.create_no_room = 0;
        rig_run(31 * SECOND);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        rig_stop();
}

static void others_come_free(void) {
        struct lease *a, *b, *c;

        rig_start();
        a = rig_lease("a");
        rig_run(SECOND);
        rig.backend.rates.create_hopeless = 1000;
        b = rig_lease("b");
        rig_run(10 * SECOND);
        c = rig_lease("c");
        rig_run(10 * SECOND);
        CHECK_INT(rig.backend.totals.creates, 1 + BREAKER_ERRORS);
        CHECK(lease_state(b) == LEASE_WAITING && lease_state(c) == LEASE_WAITING);
        CHECK(strstr(lease_error(c), "create: refused; tried again"));
        rig_run(60 * SECOND); /* a trial each time */
        CHECK_INT(rig.backend.totals.creates, 1 + BREAKER_ERRORS + 2);
        lease_release(a);
        rig_run(0);
        CHECK_STR(lease_environment(b), "sb-1");
        sim_sandbox_die(sandbox(1));
        rig_run(0); /* the last that could have come free */
        CHECK_INT(lease_state(c), LEASE_FAILED);
        rig_stop();
}

static void direct_mode_has_nothing_to_give(void) {
        struct lease *a, *b;

        rig_start();
        rig.config.mode = MODE_DIRECT;
        a = rig_lease("a");
        rig_run(SECOND);
        CHECK_INT(lease_state(a), LEASE_LEASED);
        rig.backend.rates.create_hopeless = 1000;
        b = rig_lease("b");
        rig_run(10 * SECOND);
        CHECK_INT(lease_state(b), LEASE_FAILED);
        rig_stop();
}

static void resumed(void) {
        struct lease *l;

        rig_start();
        rig.backend.rates.create_hopeless = 1000;
        l = rig_lease("a");
        rig_run(10 * SECOND);
        CHECK_INT(lease_state(l), LEASE_FAILED);
        rig.backend.rates.create_hopeless = 0;
        pool_retry(rig.pool);
        CHECK(!pool_trouble(rig.pool));
        CHECK_INT(lease_command(l, NULL, "renew"), 0);
        rig_run(SIM_DELAY_US);
        CHECK_INT(lease_state(l), LEASE_LEASED);
        rig_stop();
}

/* What fails together puts the next one off once. */
static void failures_of_one_moment(void) {
        rig_start();
        rig.config.max = rig.config.min = 10;
        rig.backend.rates.create_fails = 1000;
        rig_run(SIM_DELAY_US);
        CHECK_INT(pool_totals(rig.pool)->create_failures, 10);
        rig.backend.rates.create_fails = 0;
        rig_run(BACKOFF_MIN_US / 2 - 1);
        CHECK_INT(rig.backend.totals.creates, 10);
        rig_run(BACKOFF_MIN_US / 2 + 1 + SIM_DELAY_US);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 10);
        rig_stop();
}

static void creates_at_once(void) {
        rig_start();
        rig.config.max = 50;
        rig.config.creates = 3;
        pool_prewarm(rig.pool, 50);
        rig_run(0);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_CREATING), 3);
        rig.config.creates = 20;
        pool_config_changed(rig.pool);
        rig_run(0);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_CREATING), 20);
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 50);
        rig_stop();
}

/* Asked for once: what there is no room for is not made later. */
/* A thousand leases at once: paced, none lost; and what is left comes at once when there is no rate any more. */
static void creates_a_second(void) {
        uint64_t before = 0;
        char name[8];

        rig_start();
        rig.config.max = rig.config.creates = 1000;
        rig.config.create_rate = 40;
        for (int i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "l%d", i);
                rig_lease(name);
        }
        rig_run(0);
        CHECK_INT(rig.backend.totals.creates, 5); /* of the last tenth of a second, and one */
        for (int s = 0; s < 20; s++) {
                before = rig.backend.totals.creates;
                rig_run(SECOND);
                CHECK_INT(rig.backend.totals.creates - before, 40);
        }
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_CREATING) + pool_count(rig.pool, ENVIRONMENT_LEASED), 805);
        rig.config.create_rate = 0;
        pool_config_changed(rig.pool);
        rig_run(SECOND);
        CHECK_INT(rig.backend.totals.creates, 1000);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_LEASED), 1000);
        rig_stop();
}

static void prewarm_once(void) {
        struct lease *l;

        rig_start();
        l = rig_lease("a");
        rig_run(SECOND);
        pool_prewarm(rig.pool, 2);
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        sim_sandbox_die(sandbox(2));
        rig_run(SECOND);
        lease_release(l);
        rig_run(SECOND);
        CHECK_INT(pool_count_all(rig.pool), 1);
        pool_recycle(rig.pool); /* its place is not free yet … */
        rig.config.max = 1;
        pool_prewarm(rig.pool, 1);
        rig_run(SECOND); /* … and then it is */
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        rig_stop();
}

/* A listing that was answered before the end of an environment names it, and says nothing new by that. */
static void listed_after_its_end(void) {
        struct sandbox_found found = { .id = "sb-1" };
        char nonce[UUID_SIZE];

        rig_idle(1);
        snprintf(nonce, sizeof(nonce), "%s", sandbox(1)->nonce);
        found.nonce = nonce;
        pool_recycle(rig.pool);
        rig_run(SIM_DELAY_US);
        CHECK(pool_is_empty(rig.pool));
        pool_found(rig.pool, &found);
        CHECK_INT(pool_totals(rig.pool)->orphans, 0);
        CHECK(pool_is_empty(rig.pool));
        rig_stop();
}

/* users */

enum {
        ALICE = 1000,
        BOB = 1001,
};

/* A lease that ran something and was released: its environment is idle, and its user's. */
static void leave_idle(const char *name, uid_t uid) {
        struct lease *l = rig_lease_of(name, uid);

        rig_run(SECOND);
        job_unref(rig_job(l, "x"));
        rig_run(SECOND);
        lease_release(l);
        rig_run(SECOND);
}

static void no_environment_of_another(void) {
        struct lease *a, *b;

        rig_start();
        leave_idle("a", ALICE);
        b = rig_lease_of("b", BOB);
        rig_run(SECOND);
        CHECK_STR(lease_environment(b), "sb-2"); /* there was room for one more */
        a = rig_lease_of("a", ALICE);
        rig_run(0);
        CHECK_STR(lease_environment(a), "sb-1");
        rig_stop();
}

static void unused_is_for_anybody(void) {
        struct lease *a, *b;

        rig_idle(2);
        b = rig_lease_of("b", BOB);
        a = rig_lease_of("a", ALICE);
        rig_run(0);
        CHECK(lease_environment(a) && lease_environment(b));
        rig_stop();
}

/* Alice's own first: so Bob finds the one that nobody had, though it is newer. */
static void own_first(void) {
        struct lease *a, *b;

        rig_start();
        leave_idle("a", ALICE);
        pool_prewarm(rig.pool, 2);
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 2);
        a = rig_lease_of("a", ALICE);
        b = rig_lease_of("b", BOB);
        rig_run(0);
        CHECK_STR(lease_environment(a), "sb-1");
        CHECK_STR(lease_environment(b), "sb-2");
        rig_stop();
}

/* All exist, and those that are idle are Alice's: the oldest makes room, and never are there more than max. */
static void oldest_makes_room(void) {
        struct lease *b;

        rig_start();
        leave_idle("a", ALICE);
        b = rig_lease_of("b", ALICE);
        leave_idle("c", ALICE); /* sb-2 */
        lease_release(b);       /* sb-1: came free later, though it was made earlier */
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 2);
        b = rig_lease_of("b", BOB);
        rig_run(0);
        CHECK(sandbox(1)->sandbox.state == SANDBOX_LIVE && sandbox(2)->sandbox.state == SANDBOX_ENDING);
        CHECK_INT(rig.backend.totals.creates, 2);
        rig_run(SECOND);
        CHECK_STR(lease_environment(b), "sb-3");
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        rig_stop();
}

/* Those who come later do not get ahead by what they had: first come, first served. */
static void served_in_order(void) {
        struct lease *a, *b;

        rig_start();
        rig.config.max = 1;
        leave_idle("a", ALICE);
        b = rig_lease_of("b", BOB);
        a = rig_lease_of("a", ALICE);
        rig_run(SECOND);
        CHECK_STR(lease_environment(b), "sb-2");
        CHECK_INT(lease_state(a), LEASE_WAITING);
        lease_release(b);
        rig_run(SECOND);
        CHECK_STR(lease_environment(a), "sb-3"); /* nothing ran in the other, but Bob had it */
        rig_stop();
}

static struct lease *any_leased(void) {
        struct lease *l = leases_after(rig.table, 0);

        while (l && lease_state(l) != LEASE_LEASED)
                l = leases_after(rig.table, lease_serial(l));
        return l;
}

/* Users take turns: few leases do not wait for many of another user. Among the first 10 that are served are all 5. */
static void served_in_turn(void) {
        unsigned n_bob = 0;
        char name[8];
        struct lease *l;

        rig_start();
        rig.config.max = 1;
        rig.config.oversubscribe = false;
        for (unsigned i = 0; i < 200; i++) {
                snprintf(name, sizeof(name), "a%u", i);
                rig_lease_of(name, ALICE);
        }
        for (unsigned i = 0; i < 5; i++) {
                snprintf(name, sizeof(name), "b%u", i);
                rig_lease_of(name, BOB);
        }
        for (unsigned i = 0, a = 0; i < 10; i++) {
                rig_run(SECOND);
                l = any_leased();
                CHECK(l);
                snprintf(name, sizeof(name), "%c%u", lease_uid(l) == BOB ? 'b' : 'a', lease_uid(l) == BOB ? n_bob++ : a++);
                CHECK_STR(lease_name(l), name); /* each one's own in order of arrival */
                lease_release(l);
        }
        CHECK_INT(n_bob, 5);
        rig_stop();
}

static void max_per_user(void) {
        uint64_t creates;
        struct lease *b;

        rig_start();
        rig.config.max = 4;
        rig.config.max_per_user = 2;
        rig_lease_of("a1", ALICE);
        rig_lease_of("a2", ALICE);
        rig_lease_of("a3", ALICE);
        b = rig_lease_of("b", BOB);
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_LEASED), 3);
        CHECK_INT(rig.backend.totals.creates, 3);
        CHECK_INT(lease_state(b), LEASE_LEASED);
        CHECK_INT(lease_state(leases_find(rig.table, "a3")), LEASE_WAITING);
        CHECK_STR(lease_error(leases_find(rig.table, "a3")),
                  "waits because of max_per_user=2: leases of uid 1000 hold 2, and 0 wait before this one; release a lease, or "
                  "raise max_per_user");
        rig.backend.rates.create_fails = 1000; /* which is not what it waits for */
        rig_lease_of("c", BOB);
        rig_run(SECOND);
        CHECK(pool_trouble(rig.pool) && !strncmp(lease_error(leases_find(rig.table, "a3")), "waits", 5));
        CHECK_STR(lease_error(leases_find(rig.table, "c")), "create: did not work");
        lease_release(leases_find(rig.table, "c"));
        rig.backend.rates.create_fails = 0;
        creates = rig.backend.totals.creates;
        rig_run(rig.config.wait_us); /* not even one over max */
        CHECK_INT(rig.backend.totals.creates, creates);
        lease_release(leases_find(rig.table, "a1"));
        rig_run(SECOND);
        CHECK_INT(lease_state(leases_find(rig.table, "a3")), LEASE_LEASED);
        rig_stop();
}

/* While creates are stopped: who only waits for an own lease to end goes on waiting. */
static void held_back_is_not_hopeless(void) {
        rig_start();
        rig.config.max = 3;
        rig.config.max_per_user = 1;
        rig.config.reset = RESET_ENVIRONMENT;
        rig_lease_of("a1", ALICE);
        rig_run(SECOND);
        rig_lease_of("a2", ALICE);
        rig.backend.rates.create_hopeless = 1000;
        rig_lease_of("b", BOB);
        rig_run(60 * SECOND);
        CHECK_INT(lease_state(leases_find(rig.table, "b")), LEASE_FAILED);
        CHECK_INT(lease_state(leases_find(rig.table, "a2")), LEASE_WAITING);
        rig_stop();
}

/* what a lease left */

/* @jobs: how many it runs. */
static void lease_once(const char *name, unsigned jobs) {
        struct lease *l = rig_lease(name);

        rig_run(SECOND);
        for (unsigned i = 0; i < jobs; i++)
                job_unref(rig_job(l, "x"));
        rig_run(SECOND);
        lease_release(l);
        rig_run(SECOND);
}

static uint64_t returned(enum environment_return how) {
        return pool_returns(rig.pool)->n[how];
}

/* One that a clean-up found changed is not lent again; the log says once what does it most. */
static void changed(void) {
        rig_start();
        rig.config.max = 1;
        rig.backend.rates.compares = true;
        rig.backend.rates.job_changes = 1000;
        for (unsigned i = 1; i <= 10; i++) {
                lease_once("a", 1);
                CHECK_INT(rig.backend.totals.created, i);
                CHECK_INT(returned(RETURN_CHANGED), i);
                CHECK_INT(pool_returns(rig.pool)->said, i >= RETURNS_MIN);
        }
        CHECK_INT(pool_totals(rig.pool)->clean_failures, 0);
        rig.backend.rates.job_changes = 0;
        lease_once("a", 1);
        lease_once("a", 1);
        CHECK_INT(rig.backend.totals.created, 11);
        CHECK_INT(returned(RETURN_CLEAN), 2);
        rig_stop();
}

/* One that was lent before it was noted is used once, and is not even cleaned. */
static void lent_before_it_is_noted(void) {
        rig_start();
        rig.config.max = 1;
        rig.backend.rates.compares = true;
        rig.backend.rates.note_fails = 1000;
        lease_once("a", 1);
        CHECK_INT(rig.backend.totals.cleaned, 0);
        CHECK_INT(returned(RETURN_SINGLE_USE), 1);
        CHECK_INT(pool_count_all(rig.pool), 0);
        rig.backend.rates.note_fails = 0;
        lease_once("a", 1);
        lease_once("a", 1);
        CHECK_INT(rig.backend.totals.created, 2);
        CHECK_INT(returned(RETURN_CLEAN), 2);
        rig_stop();
}

/* While creates are stopped nobody waits for one that will not come back. */
static void one_of_single_use_gives_no_hope(void) {
        rig_start();
        rig.config.max = 1;
        rig.backend.rates.compares = true;
        rig.backend.rates.note_fails = 1000;
        job_unref(rig_job(rig_lease("a"), "x"));
        rig_run(SECOND);
        rig.config.max = 2;
        rig.backend.rates.create_hopeless = 1000;
        rig_lease("b");
        rig_run(60 * SECOND);
        CHECK_INT(lease_state(leases_find(rig.table, "b")), LEASE_FAILED);
        rig_stop();
}

/* Who has nothing in line and comes again and again does not keep a user waiting who came before. */
static void nobody_is_passed_over(void) {
        unsigned n_alice = 0;
        struct lease *l;

        rig_start();
        rig.config.max = 1;
        rig_lease_of("a1", ALICE);
        rig_lease_of("a2", ALICE);
        rig_lease_of("a3", ALICE);
        rig_lease_of("b", BOB);
        for (unsigned i = 0; i < 6; i++) {
                rig_run(SECOND);
                l = any_leased();
                CHECK(l);
                n_alice += lease_uid(l) == ALICE;
                lease_release(l);
                if (!leases_find(rig.table, "b"))
                        rig_lease_of("b", BOB);
        }
        CHECK_INT(n_alice, 3);
        rig_stop();
}

/* While no create succeeds nothing is ended for one, and its user goes on using it. */
static void no_room_without_creates(void) {
        struct lease *a, *b;

        rig_start();
        rig.config.max = 1;
        leave_idle("a", ALICE);
        rig.config.max = 2;
        rig.backend.rates.create_fails = 1000;
        b = rig_lease_of("b", BOB);
        rig_run(SIM_DELAY_US);
        CHECK(pool_trouble(rig.pool));
        rig.config.max = 1;
        rig_run(0);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        a = rig_lease_of("a", ALICE);
        rig_run(0);
        CHECK_STR(lease_environment(a), "sb-1");
        lease_release(a);
        rig.backend.rates.create_fails = 0;
        rig_run(SECOND); /* nothing else happens: it is due by itself */
        CHECK(lease_environment(b) && strcmp(lease_environment(b), "sb-1"));
        rig_stop();
}

/* Creates are refused for good: what others have cannot come free for Bob, and he is told at once. */
static void others_do_not_come_free(void) {
        struct lease *a, *b;

        rig_start();
        leave_idle("a", ALICE);
        a = rig_lease_of("a", ALICE);
        rig_run(0);
        rig.backend.rates.create_hopeless = 1000;
        b = rig_lease_of("b", BOB);
        rig_run(10 * SECOND);
        CHECK_INT(lease_state(b), LEASE_FAILED);
        lease_release(a);
        rig_run(0);
        CHECK_INT(lease_state(b), LEASE_FAILED);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        rig_stop();
}

/* The journal knows whose it was. */
static void after_a_restart(void) {
        struct lease *a, *b;

        rig_start();
        leave_idle("a", ALICE);
        rig_restart();
        rig_run(SECOND);
        CHECK_INT(pool_count(rig.pool, ENVIRONMENT_IDLE), 1);
        b = rig_lease_of("b", BOB);
        rig_run(SECOND);
        CHECK_STR(lease_environment(b), "sb-2");
        a = rig_lease_of("a", ALICE);
        rig_run(0);
        CHECK_STR(lease_environment(a), "sb-1");
        rig_stop();
}

int main(void) {
        RUN(herd);
        RUN(idle_timeout_by_ctl);
        RUN(order);
        RUN(limits_by_ctl);
        RUN(probed);
        RUN(one_bad_probe);
        RUN(two_bad_probes);
        RUN(probes_at_once);
        RUN(lent_while_probed);
        RUN(ended_while_probed);
        RUN(one_refusal);
        RUN(refused_for_good);
        RUN(no_room);
        RUN(no_room_is_no_refusal);
        RUN(others_come_free);
        RUN(direct_mode_has_nothing_to_give);
        RUN(resumed);
        RUN(failures_of_one_moment);
        RUN(creates_at_once);
        RUN(creates_a_second);
        RUN(prewarm_once);
        RUN(listed_after_its_end);
        RUN(no_environment_of_another);
        RUN(unused_is_for_anybody);
        RUN(own_first);
        RUN(oldest_makes_room);
        RUN(served_in_order);
        RUN(served_in_turn);
        RUN(changed);
        RUN(lent_before_it_is_noted);
        RUN(one_of_single_use_gives_no_hope);
        RUN(nobody_is_passed_over);
        RUN(max_per_user);
        RUN(held_back_is_not_hopeless);
        RUN(no_room_without_creates);
        RUN(others_do_not_come_free);
        RUN(after_a_restart);
        return check_done();
}
