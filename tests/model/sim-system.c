/* SPDX-License-Identifier: MIT */

/*
 * The system below the core, in place of the real one (by the linker's --wrap): wall time follows the simulated
 * clock, randomness comes from the seed, and the disk under the journal is full when the seed says so.
 */

#include <sqlite3.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "pool/util/clock.h"
#include "sim-model.h"

static struct prng randomness;

void sim_system_reset(void) {
        randomness.state = ~sim.seed;
}

ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags);
ssize_t __wrap_getrandom(void *out, size_t len, unsigned flags) {
        for (size_t i = 0; i < len; i++)
                ((unsigned char *)out)[i] = (unsigned char)prng_next(&randomness);
        return (ssize_t)len;
}

int __wrap_clock_gettime(clockid_t id, struct timespec *out);
int __wrap_clock_gettime(clockid_t id, struct timespec *out) {
        int64_t us = (id == CLOCK_REALTIME ? SIM_WALL_US : 0) + sim.now_us;

        *out = (struct timespec){ .tv_sec = us / USEC_PER_SEC, .tv_nsec = us % USEC_PER_SEC * 1000 };
        return 0;
}

static bool begins(sqlite3_stmt *s, const char *text) {
        return !strncmp(sqlite3_sql(s), text, strlen(text));
}

/* The row of an environment of which nobody has heard yet: that write stands before each create. */
static bool is_create(sqlite3_stmt *s) {
        bool found = false;
        char *sql;

        if (!begins(s, "INSERT OR REPLACE INTO environment"))
                return false;
        sql = sqlite3_expanded_sql(s);
        found = sql && strstr(sql, "','','',NULL,0,0,");
        sqlite3_free(sql);
        return found;
}

/* SQLite takes a COMMIT for something that only reads. */
static bool writes(sqlite3_stmt *s) {
        return !sqlite3_stmt_readonly(s) || begins(s, "COMMIT");
}

int __real_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s);
int __wrap_sqlite3_step(sqlite3_stmt *s) {
        bool alone = sqlite3_get_autocommit(sqlite3_db_handle(s));

        if (!writes(s) || !model.journal || !(model.disk_full || sim_chance(model.write_fails)))
                return __real_sqlite3_step(s);
        model_on_failed_write(alone && is_create(s), alone && begins(s, "INSERT OR REPLACE INTO job"));
        return SQLITE_FULL;
}
