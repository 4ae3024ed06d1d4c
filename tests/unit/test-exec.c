/* SPDX-License-Identifier: MIT */

/*
 * An exec with live input, by backend.h's contract: over the simulated provider, with random writes, holds, ends, kills,
 * cancels and deaths. What goes in comes out, in order and once; nothing comes out while output is held back, not the end
 * either; a writer that had to wait is told that there is room.
 */

#include <errno.h>
#include <signal.h>

#include "check.h"
#include "pool/util/blob.h"
#include "tests/model/sim-backend.h"

#define SEEDS 400
#define TOTAL (512 << 10) /* bytes of input at most */

static struct {
        struct sim_backend backend;
        struct sandbox *sandbox;
        struct exec *exec;
        bool created, destroyed, started, ended, killed, waits, died;
        int code;
        uint64_t wrote, read, total;
} test;

static unsigned n_whole, n_killed, n_died, n_rooms, n_held; /* over all seeds */

static char byte_at(uint64_t at) {
        return (char)(at * 7 + at / 253);
}

static void on_created(void *owner, const struct result *r) {
        CHECK(result_ok(r));
        test.created = true;
}

static void on_died(void *owner, const struct result *why) {
        test.died = true;
        if (test.exec)
                exec_cancel(test.exec);
        test.exec = NULL;
}

static void on_destroyed(void *owner, const struct result *r) {
        test.destroyed = true;
}

static const struct sandbox_events sandbox_events = {
        .created = on_created,
        .died = on_died,
        .destroyed = on_destroyed,
};

static void on_started(void *owner) {
        CHECK(!test.started);
        test.started = true;
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        const char *bytes = data;

        CHECK(!test.exec->held && test.started);
        for (size_t i = 0; i < len && !check_failed_now; i++)
                CHECK_INT(bytes[i], byte_at(test.read + i));
        test.read += len;
        CHECK(test.read <= test.wrote);
        if (sim_chance(100))
                exec_hold_output(test.exec, true);
}

static void on_ended(void *owner, const struct result *r, int code) {
        CHECK(!test.exec->held && result_ok(r));
        test.ended = true;
        test.code = code;
        test.exec = NULL;
}

static void write_some(void) {
        uint64_t left = test.total - test.wrote, len = left < 100000 ? left : 1 + sim_below(100000);
        static char bytes[100000];
        ssize_t n;

        for (uint64_t i = 0; i < len; i++)
                bytes[i] = byte_at(test.wrote + i);
        n = exec_write(test.exec, bytes, len);
        CHECK(n >= 0 || (n == -EPIPE && test.killed));
        test.waits = n >= 0 && (uint64_t)n < len;
        if (n > 0)
                test.wrote += n;
        if (test.wrote == test.total && !test.exec->input_ended) {
                exec_end_input(test.exec);
                exec_end_input(test.exec); /* which does nothing */
        }
}

static void on_room(void *owner) {
        CHECK(test.waits);
        test.waits = false;
        n_rooms++;
}

static const struct exec_events exec_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
        .room = on_room,
};

static void act(void) {
        if (!test.exec)
                return;
        if (sim_chance(300))
                exec_hold_output(test.exec, sim_chance(400)), n_held += test.exec->held;
        else if (sim_chance(5))
                exec_kill(test.exec, 0), test.killed = true;
        else if (!test.waits && !test.exec->input_ended && !test.killed)
                write_some();
}

static void run_until(bool (*over)(void)) {
        struct timer *t;

        for (int i = 0; i < 1000000 && !over(); i++) {
                t = timer_next();
                if (t)
                        timer_fire(t);
                act();
                if (!t && test.exec && test.exec->held)
                        exec_hold_output(test.exec, false);
                CHECK(t || test.exec || over());
        }
        CHECK(over());
}

static bool is_created(void) {
        return test.created;
}

static bool is_over(void) {
        return test.ended || test.died;
}

static bool is_destroyed(void) {
        return test.destroyed;
}

static void one(uint64_t seed) {
        static const struct sim_rates rates = { .delay_max_us = 1000, .life_max_us = 1000000 };
        struct blob command;
        struct exec *e;

        sim_reset(seed, 0);
        memset(&test, 0, sizeof(test));
        sim_backend_init(&test.backend, &rates, NULL);
        test.backend.rates.dies = seed % 4 == 0 ? 500 : 0;
        test.total = sim_below(TOTAL);
        CHECK_INT(sandbox_create(&test.backend.backend, "nonce", &sandbox_events, NULL, &test.sandbox), 0);
        run_until(is_created);
        blob_init(&command, -1, 16);
        CHECK_INT(blob_append(&command, "cat", 3), 0);
        CHECK_INT(sandbox_exec(test.sandbox, &(struct exec_spec){ .id = "live", .command = &command, .workdir = "/w",
                                                                  .cwd = "/w", .shell = "", .live_input = true },
                               &exec_events, NULL, &e), 0);
        test.exec = e;
        run_until(is_over);
        if (test.ended && !test.killed) {
                CHECK_INT(test.code, 0);
                CHECK_INT(test.read, test.total);
        } else if (test.ended) {
                CHECK_INT(test.code, 128 + SIGKILL);
        }
        n_whole += test.ended && !test.killed;
        n_killed += test.ended && test.killed;
        n_died += test.died;
        sandbox_destroy(test.sandbox);
        run_until(is_destroyed);
        blob_deinit(&command);
}

static void what_goes_in_comes_out(void) {
        for (uint64_t seed = 1; seed <= SEEDS && !check_failed_now; seed++) {
                one(seed);
                if (check_failed_now)
                        printf("# seed %" PRIu64 "\n", seed);
        }
        printf("# %u whole, %u killed, %u died, %u times room, %u times held\n", n_whole, n_killed, n_died, n_rooms, n_held);
        CHECK(n_whole > 0 && n_killed > 0 && n_died > 0 && n_rooms > 0 && n_held > 0);
}

static struct exec *start_cat(struct exec_spec *spec, const struct blob *command) {
        static const struct sim_rates none = {};
        struct exec *e = NULL;

        sim_reset(1, 0);
        memset(&test, 0, sizeof(test));
        sim_backend_init(&test.backend, &none, NULL);
        CHECK_INT(sandbox_create(&test.backend.backend, "nonce", &sandbox_events, NULL, &test.sandbox), 0);
        run_until(is_created);
        *spec = (struct exec_spec){
                .id = "live", .command = command, .workdir = "/w", .cwd = "/w", .shell = "", .live_input = true
        };
        CHECK_INT(sandbox_exec(test.sandbox, spec, &exec_events, NULL, &e), 0);
        return e;
}

/* A caller that breaks the contract is our own mistake. */
static void contract(void) {
        struct exec_spec spec;
        struct blob command;
        struct exec *e;

        blob_init(&command, -1, 16);
        e = start_cat(&spec, &command);
        exec_end_input(e);
        CHECK_ABORTS((void)exec_write(e, "x", 1));
        spec.resume = true;
        CHECK_ABORTS(sandbox_exec(test.sandbox, &spec, &exec_events, NULL, &e));
        spec.resume = false;
        spec.input = &command;
        CHECK_ABORTS(sandbox_exec(test.sandbox, &spec, &exec_events, NULL, &e));
        exec_cancel(e);
        sandbox_destroy(test.sandbox);
        run_until(is_destroyed);
}

/* A sandbox that is dead takes nothing, and its owner is about to hear of it. */
static void nothing_goes_into_a_dead_one(void) {
        struct exec_spec spec;
        struct blob command;
        struct exec *e;

        blob_init(&command, -1, 16);
        e = start_cat(&spec, &command);
        CHECK_INT(exec_write(e, "x", 1), 1);
        sim_sandbox_die(sim_backend_find(&test.backend, "sb-1"));
        CHECK_INT(exec_write(e, "x", 1), -EPIPE);
        exec_hold_output(e, true);
        exec_end_input(e);
        exec_cancel(e);
        sandbox_destroy(test.sandbox);
        run_until(is_destroyed);
}

int main(void) {
        RUN(what_goes_in_comes_out);
        RUN(contract);
        RUN(nothing_goes_into_a_dead_one);
        sim_free();
        return check_done();
}
