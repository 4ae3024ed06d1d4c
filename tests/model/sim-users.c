/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim-model.h"
#include "fs/limits.h"
#include "pool/lease/limits.h"
#include "pool/lease/set.h"
#include "pool/status/status.h"
#include "pool/util/clock.h"

/* Users who know no order: each time one of them wakes up, one thing is done. */

#define N_NAMES 60

static struct timer next_user;
static int64_t gap_us;

#define ANY_OF(words) (words)[sim_below(sizeof(words) / sizeof((words)[0]))]

static struct model_lease *any_lease(void) {
        uint64_t n = sim_below(model.n_leases);
        struct model_lease *m;

        list_for_each (m, &model.leases, link)
                if (n-- == 0)
                        return m;
        return NULL;
}

static void make(void) {
        static char long_name[NAME_LEN_MAX + 2];
        const char *const bad[] = { "", ".", ".pool", "a/b", "a\nb", "a\x7f", "a\xff", long_name };
        char name[8];

        memset(long_name, 'x', NAME_LEN_MAX + 1);
        snprintf(name, sizeof(name), "t%u", (unsigned)sim_below(N_NAMES));
        model_create(sim_chance(20) ? ANY_OF(bad) : name);
}

static void make_many(void) {
        for (uint64_t n = sim_below(40); n > 0; n--)
                make();
}

static void release(void) {
        struct model_lease *m = any_lease();

        if (m)
                model_release(m);
}

static void release_many(void) {
        for (uint64_t n = sim_below(model.n_leases + 1); n > 0; n--)
                release();
}

static void submit(void) {
        struct model_lease *m = any_lease();

        if (m)
                for (uint64_t n = 1 + prng_scaled(&sim.prng, sim_chance(10) ? QUEUE_MAX + 2 : 4); n > 0; n--)
                        model_submit(m);
}

static void command(void) {
        static const char *const lines[] = {
                "kill",       "kill",       "kill",        "cancel", "renew",
                "signal INT", "signal 15",  "signal KILL", "signal", "signal nonsense",
                "kill now",   "cancel all", "renew it",    "help",
        };
        struct model_lease *m = any_lease();

        if (m)
                model_command(m, ANY_OF(lines));
}

static void renew(void) {
        struct model_lease *m;

        list_for_each (m, &model.leases, link)
                if ((m->seen == LEASE_LOST || m->seen == LEASE_FAILED) && sim_chance(300))
                        model_command(m, "renew");
}

static void change_setting(void) {
        static const char *const cwds[] = { "", "/tmp", "sub", "a b" };
        static const char *const timeouts[] = { "", "0", "0.5", "1", "30", "3600", "soon", "-1" };
        static const char *const envs[] = { "", "X=1", "POOL=1\nX=1\nX=two words", "=", "word" };
        static const char *const inputs[] = { "", "line", "other line" };
        struct model_lease *m = any_lease();

        if (!m)
                return;
        switch (sim_below(4)) {
        case 0:
                model_set(m, SETTING_CWD, ANY_OF(cwds));
                break;
        case 1:
                model_set(m, SETTING_ENV, ANY_OF(envs));
                break;
        case 2:
                model_set(m, SETTING_TIMEOUT, ANY_OF(timeouts));
                break;
        default:
                model_write_input(m, ANY_OF(inputs));
        }
}

static void read_something(void) {
        struct model_lease *m = any_lease();
        struct model_job *j;

        if (m)
                list_for_each (j, &m->jobs, link)
                        model_read(j);
}

/* An environment dies, whatever it is doing. */
static void strike(void) {
        struct sim_sandbox *s;
        uint64_t n = sim_below(model.backend.backend.n_sandboxes);

        list_for_each (s, &model.backend.sandboxes, link)
                if (n-- == 0) {
                        if (s->sandbox.state == SANDBOX_LIVE && model.backend.rates.dies > 0)
                                sim_sandbox_die(s);
                        return;
                }
}

static void reconfigure(void) {
        static const int64_t waits[] = { 0, 1, 10, 300, 3600 }, lives[] = { 0, 30, 60, 600, 3600 };
        struct config *c = &model.config;

        switch (sim_below(16)) {
        case 0:
                model_set_max(1 + (unsigned)prng_scaled(&sim.prng, 24));
                break;
        case 1:
                c->min = prng_scaled(&sim.prng, 4);
                if (sim_chance(500))
                        c->min = 0;
                break;
        case 2:
                c->wait_us = ANY_OF(waits) * USEC_PER_SEC;
                break;
        case 3:
                c->oversubscribe = !c->oversubscribe;
                break;
        case 4:
                model_prewarm((unsigned)sim_below(c->max + 1));
                break;
        case 5:
                model_recycle();
                break;
        case 6:
                model_resume();
                break;
        case 7:
        case 8:
                c->idle_timeout_us = ANY_OF(waits) * USEC_PER_SEC;
                break;
        case 9:
        case 10:
                c->keepalive_us = ANY_OF(lives) * USEC_PER_SEC / 10;
                break;
        case 11:
                c->max_lifetime_us = ANY_OF(lives) * USEC_PER_SEC;
                break;
        case 12:
                c->min_life_us = ANY_OF(lives) * USEC_PER_SEC;
                break;
        case 13:
                c->max_uses = sim_below(5);
                break;
        case 14:
                c->creates = 1 + prng_scaled(&sim.prng, 16);
                c->probe_timeout_us = (1 + (int64_t)sim_below(10)) * USEC_PER_SEC;
                break;
        default:
                model.draining = sim_chance(300);
                leases_drain(model.table, model.draining);
        }
        if (c->min > c->max)
                c->min = c->max;
        pool_config_changed(model.pool);
        sim_trace("max=%u min=%u wait=%g oversubscribe=%d draining=%d", (unsigned)c->max, (unsigned)c->min,
                  (double)c->wait_us / USEC_PER_SEC, c->oversubscribe, model.draining);
        sim_trace("idle_timeout=%g keepalive=%g max_lifetime=%g min_life=%g max_uses=%u creates=%u",
                  (double)c->idle_timeout_us / USEC_PER_SEC, (double)c->keepalive_us / USEC_PER_SEC,
                  (double)c->max_lifetime_us / USEC_PER_SEC, (double)c->min_life_us / USEC_PER_SEC,
                  (unsigned)c->max_uses, (unsigned)c->creates);
}

static void read_status(void) {
        const struct lag lag = {};
        const struct status_sources sources = {
                .pool = model.pool,
                .leases = model.table,
                .config = &model.config,
                .lag = &lag,
                .now_us = sim.now_us,
        };
        struct buf out = BUF_INIT(TEXT_FILE_MAX);
        struct model_lease *m = any_lease();

        if (m && (status_lease(m->lease, &out) < 0 || !strstr(out.data, "state ")))
                sim_fail("status of lease %s", m->name);
        if (status_pool(&sources, &out) < 0 || status_stats(&sources, &out) < 0 || status_metrics(&sources, &out) < 0)
                sim_fail("status of the pool");
        buf_deinit(&out);
}

/* For a while no create succeeds, all are refused for good, or no probe gets through; or they do again. */
static void toggle_outage(void) {
        struct sim_rates *r = &model.backend.rates;
        unsigned *rates[] = { &r->create_fails, &r->create_hopeless, &r->probe_hangs };
        unsigned *rate = ANY_OF(rates);

        *rate = *rate == 1000 ? 20 : sim_chance(150) ? 1000 : *rate;
        sim_trace("creates fail %u times in 1000, are refused %u, probes hang %u", r->create_fails, r->create_hopeless,
                  r->probe_hangs);
}

/* The machine sleeps: every timer is late afterwards. */
static void sleep_long(void) {
        sim.now_us += (int64_t)prng_scaled(&sim.prng, 7200 * USEC_PER_SEC);
        sim_trace("time jumps");
}

static void fill_disk(void) {
        model.disk_full = !model.disk_full && sim_chance(300);
        model.n_full += model.disk_full;
        sim_trace("the disk is %sfull", model.disk_full ? "" : "not ");
}

static void restart(void) {
        model_restart(sim_chance(200));
}

static const struct {
        unsigned weight;
        void (*act)(void);
} acts[] = {
        { 300, make },       { 5, make_many }, { 230, release },       { 4, release_many },    { 250, submit },
        { 80, command },     { 30, renew },    { 60, change_setting }, { 40, read_something }, { 4, strike },
        { 40, reconfigure }, { 4, read_status }, { 3, sleep_long },     { 12, toggle_outage },
        { 12, fill_disk },  { 12, restart },
};

static void on_user(struct timer *t) {
        uint64_t sum = 0, n;

        for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
                sum += acts[i].weight;
        n = sim_below(sum);
        for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); n -= acts[i++].weight)
                if (n < acts[i].weight) {
                        acts[i].act();
                        break;
                }
        timer_arm(&next_user, prng_scaled(&sim.prng, gap_us), on_user);
}

void users_start(int64_t gap) {
        gap_us = gap;
        timer_arm(&next_user, 0, on_user);
}

void users_stop(void) {
        timer_cancel(&next_user);
}
