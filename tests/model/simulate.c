/* SPDX-License-Identifier: MIT */

/*
 * The core under random events: the real pool, leases, jobs and spools, over a
 * provider, a clock, a disk and users that are all drawn from one seed. The same
 * seed gives the same events on every machine. Now and then the daemon is killed,
 * or stops and keeps everything, and the next one takes up what it left.
 *
 *   simulate                        a million events, over several seeds
 *   simulate --seed S --events N    N events of one seed
 *   simulate --trace …              each event to stderr
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim-model.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

#define SEEDS           40
#define EVENTS_PER_SEED 25000
#define END_EVENTS_MAX  100000 /* until all is quiet after the stop */
#define ROWS_EVERY      200    /* turns */
#define TICKS_MAX       1000   /* of one moment: more means that the core runs in circles */

static unsigned one_of(unsigned a, unsigned b, unsigned c) {
        const unsigned choice[] = { a, b, c };

        return choice[sim_below(3)];
}

/* How bad the world is: each seed has a kind of its own, from perfect to hopeless. */
static void draw_rates(struct sim_rates *r) {
        *r = (struct sim_rates){
                .create_refused = one_of(0, 0, 50),
                .create_fails = one_of(0, 20, 300),
                .create_hopeless = one_of(0, 20, 200),
                .create_no_room = one_of(0, 20, 300),
                .create_slow = one_of(0, 10, 200),
                .dies = one_of(0, 20, 300),
                .expires = one_of(0, 300, 1000),
                .clean_refused = one_of(0, 5, 50),
                .clean_fails = one_of(0, 20, 200),
                .clean_hangs = one_of(0, 5, 50),
                .compares = sim.seed % 2,
                .note_fails = one_of(0, 20, 300),
                .job_changes = one_of(0, 20, 300),
                .destroy_slow = one_of(0, 50, 500),
                .destroy_fails = one_of(0, 10, 100),
                .adopt_fails = one_of(0, 20, 300),
                .list_fails = one_of(0, 100, 500),
                .probe_refused = one_of(0, 20, 300),
                .probe_fails = one_of(0, 20, 300),
                .probe_hangs = one_of(0, 20, 300),
                .exec_refused = one_of(0, 5, 100),
                .exec_fails = one_of(0, 10, 100),
                .exec_lost = one_of(0, 10, 100),
                .exec_hangs = one_of(0, 5, 20),
                .exec_ignores_kill = one_of(0, 50, 500),
                .exec_prints = one_of(0, 10, 50),
                .exec_codes = 500,
                .delay_max_us = one_of(1, 1000, 10000) * USEC_PER_MSEC,
                .life_max_us = one_of(10, 600, 36000) * USEC_PER_SEC,
                .job_max_us = one_of(10, 600, 14400) * USEC_PER_SEC,
                .output_max = 20000,
        };
}

static void draw_config(struct config *c) {
        struct result why;

        if (config_init(c, NULL) < 0 || config_set(c, "env", "POOL=1", CONFIG_FILE, &why) < 0)
                sim_fail("no configuration");
        c->mode = sim_chance(150) ? MODE_DIRECT : MODE_POOL;
        c->max = 1 + prng_scaled(&sim.prng, 16);
        c->max_per_user = sim_chance(300) ? 1 + sim_below(4) : 0;
        c->min = sim_chance(300) ? sim_below(c->max + 1) : 0;
        c->max_leases = one_of(10, 50, 4096);
        c->wait_us = one_of(0, 10, 300) * USEC_PER_SEC;
        c->oversubscribe = sim_chance(500);
        c->timeout_us = one_of(0, 5, 180) * USEC_PER_SEC;
        c->kill_grace_us = c->timeout_us / 5;
        c->output_max = one_of(1, 5000, 1 << 30);
        c->spool_max = sim.seed % 3 == 1 ? 300 << sim.seed % 7 : 0;
        c->spool_max_per_user = sim.seed % 5 < 2 ? 100 << sim.seed % 7 : 0;
        c->history = one_of(1, 3, 256);
        c->reset = sim_chance(200) ? RESET_ENVIRONMENT : RESET_WORKDIR;
        c->max_uses = sim_chance(300) ? 1 + sim_below(5) : 0;
        c->idle_timeout_us = one_of(0, 5, 600) * USEC_PER_SEC;
        c->max_lifetime_us = one_of(0, 60, 3600) * USEC_PER_SEC;
        c->min_life_us = one_of(0, 30, 300) * USEC_PER_SEC;
        c->keepalive_us = one_of(0, 2, 60) * USEC_PER_SEC;
        c->probe_timeout_us = one_of(1, 5, 10) * USEC_PER_SEC;
        c->creates = one_of(1, 3, 16);
        /* By the seed itself, not drawn: so every other draw stays what it was. */
        c->create_rate = (const uint64_t[]){ 0, 0, 0, 1, 0, 0, 5, 0, 0, 40 }[sim.seed % 10];
}

/* What the main loop does after each turn. */
static int64_t tick(void) {
        int64_t next_us;
        unsigned n = 0;

        do {
                bool stale = journal_is_stale(model.journal);
                uint64_t failed = model.n_writes_failed;

                model.ticking = true;
                next_us = core_tick(model.core);
                model.ticking = false;
                SIM_CHECK(!journal_is_stale(model.journal), "the journal can be written, and is not put right");
                if (stale && model.n_writes_failed == failed)
                        model.behind = false;
                SIM_CHECK(n++ < TICKS_MAX, "the core runs in circles");
        } while (next_us <= sim.now_us);
        check_all(next_us);
        if (!model.behind && sim.turn % ROWS_EVERY == 0)
                check_rows();
        sim.turn++;
        return next_us;
}

/* One turn of the loop: wait for what comes first; sometimes more than one event has come by then. */
static int64_t turn(int64_t due_us) {
        struct timer *t = timer_next();

        SIM_CHECK(t || due_us != USEC_NEVER || model.stopping, "nothing will ever happen again");
        if (due_us <= (t ? t->at_us : USEC_NEVER)) {
                sim.n_events++;
                if (due_us > sim.now_us && due_us != USEC_NEVER)
                        sim.now_us = due_us;
        } else {
                do
                        timer_fire(t);
                while (sim_chance(120) && (t = timer_next()));
        }
        return tick();
}

static void run(uint64_t seed, uint64_t n_events) {
        char path[4096];
        struct sim_rates rates;
        struct config config;
        int64_t due_us;
        int spool_dir;

        sim_reset(seed, n_events);
        sim.turn = 1;
        draw_rates(&rates);
        draw_config(&config);
        snprintf(path, sizeof(path), "%s/modalpool-simulate-XXXXXX", getenv("TMPDIR") ?: "/tmp");
        spool_dir = mkdtemp(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        SIM_CHECK(spool_dir >= 0, "%s: %s", path, strerror(errno));
        sim_system_reset();
        model_start(&config, &rates, spool_dir);
        model.write_fails = one_of(0, 5, 150);
        users_start(one_of(100, 2000, 20000) * USEC_PER_MSEC);
        for (due_us = tick(); sim.n_events < n_events;)
                due_us = turn(due_us);

        users_stop();
        model.disk_full = false;
        model.write_fails = 0;
        model_stop();
        due_us = tick();
        while (timer_next() || due_us != USEC_NEVER) {
                due_us = turn(due_us);
                SIM_CHECK(sim.n_events < n_events + END_EVENTS_MAX, "it never ends");
        }
        printf("# seed %" PRIu64 ": %" PRIu64 " granted, %" PRIu64 " jobs, %" PRIu64 " timed out, %" PRIu64 " cut for the quota, %" PRIu64
               " lost, %" PRIu64 " failed, %" PRIu64 " given up, %" PRIu64 " over max, %" PRIu64
               " environments, %" PRIu64 " found changed, %" PRIu64 " probes, %" PRIu64 " probed out, %" PRIu64 " times creates were stopped, %" PRIu64
               " kills, %" PRIu64
               " more while the disk was full, and %" PRIu64 " stops of the daemon, %" PRIu64 " adopted, %" PRIu64 " not, %" PRIu64
               " jobs gone on with, %" PRIu64 " orphans, %" PRIu64 " full disks, %" PRIu64 " writes failed\n",
               seed, model.n_granted, model.n_jobs_ended, model.n_timeouts, model.n_cut, model.n_lost, model.n_failed,
               model.n_condemned, model.n_oversubscribed, model.backend.totals.created, model.backend.totals.changed, model.backend.totals.probes,
               model.n_probed_out, model.n_breaks, model.n_crashes, model.n_rough, model.n_stops, model.backend.totals.adopted,
               model.backend.totals.adopt_failures, model.backend.totals.resumed, model.backend.totals.orphans,
               model.n_full, model.n_writes_failed);
        model_end();
        close(spool_dir);
        SIM_CHECK(rmdir(path) == 0, "files are left in %s", path);
        config_deinit(&config);
}

static uint64_t number(const char *text) {
        uint64_t n;

        if (text_to_u64(text, &n) < 0) {
                fprintf(stderr, "simulate: \"%s\": expected a whole number\n", text);
                exit(2);
        }
        return n;
}

int main(int argc, char **argv) {
        static const struct option options[] = {
                { "events", required_argument, NULL, 'e' },
                { "seed", required_argument, NULL, 's' },
                { "trace", no_argument, NULL, 't' },
                {},
        };
        uint64_t n_events = 0, seed = 0;
        bool one_seed = false;
        unsigned seeds;
        int c;

        while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
                switch (c) {
                case 'e':
                        n_events = number(optarg);
                        break;
                case 's':
                        seed = number(optarg);
                        one_seed = true;
                        break;
                case 't':
                        sim_verbose = true;
                        break;
                default:
                        return 2;
                }

        setenv("MODALPOOL_STRICT", "1", 1); /* see pool/util/transition.h */
        log_open(-1, false); /* the trace says it all */
        sim_catch_aborts();
        seeds = one_seed ? 1 : SEEDS;
        if (!n_events)
                n_events = (uint64_t)SEEDS * EVENTS_PER_SEED;
        printf("1..%u\n", seeds);
        for (unsigned i = 0; i < seeds; i++) {
                run(one_seed ? seed : i + 1, n_events / seeds);
                printf("ok %u - %" PRIu64 " events of seed %" PRIu64 "\n", i + 1, sim.n_events, sim.seed);
                fflush(stdout);
        }
        sim_free();
        return 0;
}
