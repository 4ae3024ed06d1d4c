/* SPDX-License-Identifier: MIT */
#include <jansson.h>

#include "pool/limits.h"
#include "pool/status.h"
#include "rig.h"

/* The line of @out that begins with @key, without its newline. */
static const char *line(const struct buf *out, const char *key) {
        static char found[300];
        size_t len = strlen(key);

        for (const char *at = buf_text(out); at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
                if (!strncmp(at, key, len)) {
                        snprintf(found, sizeof(found), "%.*s", (int)strcspn(at, "\n"), at);
                        return found;
                }
        return "(none)";
}

static void lease_and_job(void) {
        struct buf out = BUF_INIT(10000);
        struct lease *l;
        struct job *one, *two;

        rig_start();
        l = rig_lease("t1");
        CHECK_INT(status_lease(l, &out), 0);
        CHECK_STR(line(&out, "state"), "state waiting");
        CHECK_STR(line(&out, "environment"), "environment -");
        CHECK_STR(line(&out, "owner"), "owner 1000");
        CHECK_STR(line(&out, "newest"), "newest -");
        CHECK_STR(line(&out, "error"), "error ok");
        one = rig_job(l, "true");
        two = rig_job(l, "again");
        rig_run(SIM_DELAY_US);
        buf_clear(&out);
        CHECK_INT(status_lease(l, &out), 0);
        CHECK_STR(line(&out, "state"), "state leased");
        CHECK_STR(line(&out, "environment"), "environment sb-1");
        CHECK_STR(line(&out, "running"), "running 1");
        CHECK_STR(line(&out, "queued"), "queued 1");
        CHECK_STR(line(&out, "newest"), "newest 2");
        rig_run(USEC_PER_SEC);
        buf_clear(&out);
        CHECK_INT(status_job(one, &out), 0);
        CHECK_STR(buf_text(&out), "state ended\ncommand_bytes 4\nstdout_bytes 0\nstderr_bytes 0\nwaited 0.020\n"
                                  "took 0.000\nexit_code 0\nerror ok\n");
        job_unref(one);
        job_unref(two);
        buf_deinit(&out);
        rig_stop();
}

static void pool_for_people(void) {
        struct buf out = BUF_INIT(10000);

        rig_start();
        rig_lease("a");
        rig_lease("b");
        rig_lease("c");
        rig_run(USEC_PER_SEC);
        CHECK_INT(status_pool(rig.pool, rig.table, &rig.config, &out), 0);
        CHECK_STR(line(&out, "backend"), "backend simulated   leases 3 (1 waiting)   environments 2 of 2: 0 creating, "
                                         "0 idle, 2 leased, 0 cleaning, 0 ending");
        CHECK_STR(line(&out, "sb-1 "), "sb-1                     leased     a                        1");
        CHECK_STR(line(&out, "- "), "-                        waiting    c                        -");
        CHECK_STR(line(&out, "trouble"), "(none)");
        buf_deinit(&out);
        rig_stop();
}

static void pool_for_programs(void) {
        struct buf out = BUF_INIT(10000);
        const char *backend = NULL, *trouble = NULL;
        json_int_t leased = -1, granted = -1, leases = -1;
        json_t *root;

        rig_start();
        rig_lease("a");
        rig_run(USEC_PER_SEC);
        rig.backend.rates.create_fails = 1000;
        rig_lease("b");
        rig_run(SIM_DELAY_US);
        CHECK_INT(status_stats(rig.pool, rig.table, &rig.config, &out), 0);
        root = json_loads(buf_text(&out), 0, NULL);
        CHECK_INT(json_unpack(root, "{s:s,s:{s:I},s:I,s:I,s:s}", "backend", &backend, "environments", "leased", &leased,
                              "leases", &leases, "leases_granted_total", &granted, "trouble", &trouble),
                  0);
        CHECK_STR(backend, "simulated");
        CHECK_STR(trouble, "create: did not work");
        CHECK(leased == 1 && leases == 2 && granted == 1);
        json_decref(root);

        buf_clear(&out);
        CHECK_INT(status_metrics(rig.pool, rig.table, &rig.config, &out), 0);
        CHECK_STR(line(&out, "modalpool_environments{state=\"leased\"}"), "modalpool_environments{state=\"leased\"} 1");
        CHECK_STR(line(&out, "modalpool_leases_waiting "), "modalpool_leases_waiting 1");
        CHECK_STR(line(&out, "# TYPE modalpool_leases_granted_total"), "# TYPE modalpool_leases_granted_total counter");
        CHECK_STR(line(&out, "modalpool_environments_create_failures_total "),
                  "modalpool_environments_create_failures_total 1");
        buf_deinit(&out);
        rig_stop();
}

/* A buffer that is too small is an error, never a cut text that passes for whole. */
static void too_small(void) {
        rig_start();
        rig_lease("a");
        for (size_t max = 0; max < 40; max++) {
                struct buf out = BUF_INIT(max);

                CHECK(status_pool(rig.pool, rig.table, &rig.config, &out) < 0);
                CHECK(status_stats(rig.pool, rig.table, &rig.config, &out) < 0);
                CHECK(status_metrics(rig.pool, rig.table, &rig.config, &out) < 0);
                CHECK(status_lease(leases_find(rig.table, "a"), &out) < 0);
                buf_deinit(&out);
        }
        rig_stop();
}

int main(void) {
        RUN(lease_and_job);
        RUN(pool_for_people);
        RUN(pool_for_programs);
        RUN(too_small);
        return check_done();
}
