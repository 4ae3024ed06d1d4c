/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/base/lag.h"
#include "pool/base/limits.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

#define MSEC USEC_PER_MSEC
#define START (1000 * USEC_PER_SEC)

static void sums(void) {
        struct lag l = {};

        CHECK_INT(lag_longest_of_minute(&l, START), 0);
        lag_turn(&l, 3 * MSEC, START);
        lag_turn(&l, LAG_SLOW_US - 1, START);
        lag_turn(&l, LAG_SLOW_US, START + USEC_PER_SEC);
        CHECK_INT(l.turns, 3);
        CHECK_INT(l.slow_turns, 1);
        CHECK_INT(l.sum_us, 3 * MSEC + 2 * LAG_SLOW_US - 1);
        CHECK_INT(l.longest_us, LAG_SLOW_US);
}

/* What is longest is forgotten a minute later, whether or not there were turns meanwhile. */
static void last_minute(void) {
        struct lag l = {};

        lag_turn(&l, 50 * MSEC, START);
        lag_turn(&l, 20 * MSEC, START + 30 * USEC_PER_SEC);
        CHECK_INT(lag_longest_of_minute(&l, START + 59 * USEC_PER_SEC), 50 * MSEC);
        CHECK_INT(lag_longest_of_minute(&l, START + 60 * USEC_PER_SEC), 20 * MSEC);
        CHECK_INT(lag_longest_of_minute(&l, START + 90 * USEC_PER_SEC), 0);
        lag_turn(&l, 1 * MSEC, START + 60 * USEC_PER_SEC); /* in the place of the first */
        CHECK_INT(lag_longest_of_minute(&l, START + 60 * USEC_PER_SEC), 20 * MSEC);
        CHECK_INT(lag_longest_of_minute(&l, START + 119 * USEC_PER_SEC), 1 * MSEC);
        CHECK_INT(l.longest_us, 50 * MSEC);
}

/* The lines that went to stderr since the last call, in a pipe in its place. */
static int log_pipe[2], stderr_kept;

static void catch_log(void) {
        stderr_kept = dup(STDERR_FILENO);
        CHECK_INT(pipe2(log_pipe, O_NONBLOCK), 0);
        dup2(log_pipe[1], STDERR_FILENO);
        log_open(LOG_WARNING, false);
}

static const char *logged(void) {
        static char text[4096];
        ssize_t n = read(log_pipe[0], text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        return text;
}

static void release_log(void) {
        dup2(stderr_kept, STDERR_FILENO);
        close(stderr_kept);
        close(log_pipe[0]);
        close(log_pipe[1]);
}

/* One line a minute, which says how many there were. */
static void stalls_are_told(void) {
        struct lag l = {};

        catch_log();
        lag_turn(&l, LAG_STALL_US - 1, START);
        CHECK_STR(logged(), "");
        lag_turn(&l, 1234 * MSEC, START);
        CHECK(strstr(logged(), "1.234 s"));
        lag_turn(&l, 2 * LAG_STALL_US, START + 2 * USEC_PER_SEC);
        lag_turn(&l, 2 * LAG_STALL_US, START + LAG_WARN_EVERY_US - 1);
        CHECK_STR(logged(), "");
        lag_turn(&l, 3 * LAG_STALL_US, START + LAG_WARN_EVERY_US);
        CHECK_STR(logged(), "modalpool: the event loop was busy for 3.000 s and answered no request meanwhile; "
                            "2 earlier times were not logged\n");
        release_log();
}

int main(void) {
        RUN(sums);
        RUN(last_minute);
        RUN(stalls_are_told);
        return check_done();
}
