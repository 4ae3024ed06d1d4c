/* SPDX-License-Identifier: MIT */

/*
 * The core's work for instructions.py to count, over the simulated provider of
 * the unit tests: nothing in it depends on chance, time or the machine.
 *
 *   bench-instructions acquire N     a lease that finds an idle environment, and its release
 *   bench-instructions job N         a job that prints, followed by its reader, one after another
 */

#include "rig.h"
#include "pool/util/clock.h"

#define SECOND USEC_PER_SEC

static void acquire(int n) {
        for (int i = 0; i < n; i++) {
                struct lease *l = rig_lease("bench");

                rig_run(0);
                CHECK_INT(lease_state(l), LEASE_LEASED);
                lease_release(l);
                rig_run(0);
        }
}

static void job(int n) {
        struct lease *l = rig_lease("bench");
        uint64_t read = 0;

        rig_run(SECOND);
        for (int i = 0; i < n; i++) {
                struct job *j = rig_job(l, "a command of some length; and another one");
                char data[4096];
                uint64_t at = 0;
                ssize_t len;

                rig_run(SECOND);
                CHECK(job_ended(j));
                spool_open(j->spool);
                while ((len = spool_read(j->spool, VIEW_OUTPUT, at, data, sizeof(data))) > 0)
                        at += len;
                spool_close(j->spool);
                read += at;
                job_unref(j);
        }
        CHECK(read > 0);
        lease_release(l);
}

int main(int argc, char **argv) {
        void (*work)(int n) = argc == 3 && !strcmp(argv[1], "job") ? job : acquire;

        if (argc != 3)
                return 2;
        rig_start();
        rig.backend.rates.exec_prints = 1000;
        rig.backend.rates.output_max = 1024;
        /* Then an idle environment is there, and everything has been used once. */
        job(2);
        rig_run(10 * SECOND);
        work(atoi(argv[2]));
        rig_stop();
        return check_failed_now;
}
