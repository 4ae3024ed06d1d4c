/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <jansson.h>

#include "rig.h"
#include "fs/limits.h"
#include "pool/lease/set.h"
#include "pool/status/status.h"
#include "pool/util/clock.h"

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
                                  "took 0.000\nend ok\nexit_code 0\nerror ok\n");
        job_unref(one);
        job_unref(two);
        buf_deinit(&out);
        rig_stop();
}

/* The text of one of the pool's files. */
static const char *render(int (*status)(const struct status_sources *s, struct buf *out), struct buf *out) {
        struct status_sources s = rig_sources();

        buf_clear(out);
        CHECK_INT(status(&s, out), 0);
        return buf_text(out);
}

static void pool_for_people(void) {
        static const char input[100000];
        struct buf out = BUF_INIT(10000);
        struct status_sources s;
        struct lease *l;

        rig_start();
        CHECK_STR(render(status_pool, &out),
                  "backend       simulated\n"
                  "environments  0 of 2: 0 creating, 0 idle, 0 leased, 0 cleaning, 0 ending\n"
                  "leases        0: 0 waiting, 0 leased, 0 lost, 0 failed\n"
                  "jobs          0 queued, 0 starting, 0 running\n"
                  "spool         0.0 MiB\n"
                  "loop          busy for 0.000 s at most in the last minute, 0.000 s ever\n"
                  "\n"
                  "ENVIRONMENT                   STATE    LEASE                          USES    AGE  SINCE   LEFT\n"
                  "\n"
                  "LEASE              STATE   OWNER         AGE   WAIT ENVIRONMENT                   JOBS       UNUSED\n");
        CHECK_INT(config_set(&rig.config, "max_lifetime", "7200", CONFIG_CTL, &(struct result){}), 0);
        l = rig_lease("works");
        rig_lease("a name of some length, as people give them");
        rig_lease("\xe6\x97\xa5\xe6\x9c\xac 3 4 5 6 7 8 9 ");
        rig_run(SIM_DELAY_US);
        CHECK_INT(lease_set(l, NULL, SETTING_TIMEOUT, "0"), 0);
        job_unref(rig_job(l, "true"));
        rig_run(USEC_PER_SEC);
        job_unref(rig_job(l, "long"));
        rig_prolong("sb-1");
        job_unref(rig_job(l, "next"));
        lag_turn(&rig.lag, 12345, sim.now_us);
        rig_run(190 * USEC_PER_SEC);
        rig.backend.rates.create_fails = 1000;
        CHECK_INT(config_set(&rig.config, "max", "3", CONFIG_CTL, &(struct result){}), 0);
        pool_config_changed(rig.pool);
        rig_run(SIM_DELAY_US);
        CHECK_INT(lease_add_input(l, NULL, input, sizeof(input)), 0);
        CHECK_INT(config_set(&rig.config, "spool_max", "10M", CONFIG_CTL, &(struct result){}), 0);
        CHECK_INT(config_set(&rig.config, "spool_max_per_user", "5M", CONFIG_CTL, &(struct result){}), 0);
        s = rig_sources();
        s.n_reads = 2;
        s.oldest_read_us = s.now_us - 65 * USEC_PER_SEC;
        buf_clear(&out);
        CHECK_INT(status_pool(&s, &out), 0);
        CHECK_STR(buf_text(&out),
                  "backend       simulated\n"
                  "environments  3 of 3: 0 creating, 0 idle, 2 leased, 0 cleaning, 1 ending\n"
                  "leases        3: 1 waiting, 2 leased, 0 lost, 0 failed\n"
                  "jobs          1 queued, 0 starting, 1 running\n"
                  "spool         0.1 MiB of 10.0 MiB, at most 5.0 MiB for each user\n"
                  "reads         2 wait, the first for 1m05s\n"
                  "loop          busy for 0.000 s at most in the last minute, 0.012 s ever\n"
                  "trouble       create: did not work\n"
                  "\n"
                  "ENVIRONMENT                   STATE    LEASE                          USES    AGE  SINCE   LEFT\n"
                  "sb-1                          leased   works                             1  3m11s  3m11s  1h51m\n"
                  "sb-2                          leased   a name of some length, as p…      1  3m11s  3m11s  1h51m\n"
                  "sb-3                          ending   -                                 0     0s     0s      -\n"
                  "\n"
                  "LEASE              STATE   OWNER         AGE   WAIT ENVIRONMENT                   JOBS       UNUSED\n"
                  "works              leased  1000        3m11s     0s sb-1                          1/1/1           -\n"
                  "a name of some le… leased  1000        3m11s     0s sb-2                          0/0/0       3m11s\n"
                  "日本 3 4 5 6 7 8 9   waiting 1000        3m11s  3m11s -                             0/0/0           -\n");
        buf_deinit(&out);
        rig_stop();
}

/* The members of @o in order of their names, "a b c". */
static const char *keys(json_t *o) {
        static char text[2000];
        const char *key;
        json_t *value;

        text[0] = '\0';
        json_object_foreach (o, key, value)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", *text ? " " : "", key);
        return text;
}

static double number(json_t *o, const char *key) {
        return json_number_value(json_object_get(o, key));
}

static json_t *row(json_t *root, const char *list, size_t i) {
        return json_array_get(json_object_get(root, list), i);
}

static void pool_for_programs(void) {
        struct buf out = BUF_INIT(100000);
        json_t *root, *one;

        rig_start();
        job_unref(rig_job(rig_lease("a"), "true"));
        rig_run(USEC_PER_SEC);
        rig.backend.rates.create_fails = 1000;
        rig_lease("\"b\\");
        rig_run(SIM_DELAY_US);
        lag_turn(&rig.lag, 250000, sim.now_us);
        root = json_loads(render(status_stats, &out), JSON_REJECT_DUPLICATES, NULL);
        CHECK_STR(keys(root),
                  "backend trouble warnings leases environments environments_returned leases_by_state jobs jobs_ended leases_waiting "
                  "leases_oldest_wait_seconds environments_max environments_min spool_bytes spool_max_bytes spool_max_per_user_bytes reads_waiting reads_oldest_wait_seconds "
                  "loop_longest_turn_seconds loop_longest_turn_of_minute_seconds environments_created_total "
                  "environments_create_failures_total environments_destroyed_total environments_destroy_failures_total "
                  "environments_died_total environments_cleaned_total environments_clean_failures_total "
                  "environments_orphans_total environments_adopted_total helper_uploads_seconds_sum helper_uploads_seconds_count helper_uploads_failed_total oversubscribed_total leases_granted_total "
                  "leases_granted_warm_total leases_granted_cold_total leases_wait_microseconds_total "
                  "leases_wait_seconds_sum leases_wait_seconds_count jobs_submitted_total output_bytes_total file_calls_total "
                  "loop_turn_seconds_sum loop_turn_seconds_count loop_slow_turns_total environments_died_by_cause calls pools environment_list lease_list");
        CHECK_STR(json_string_value(json_object_get(root, "backend")), "simulated");
        CHECK_STR(json_string_value(json_object_get(root, "trouble")), "create: did not work");
        CHECK_INT(number(root, "leases"), 2);
        CHECK_INT(number(root, "leases_waiting"), 1);
        CHECK_INT(number(root, "leases_granted_total"), 1);
        CHECK_INT(number(root, "leases_wait_seconds_sum") * 1000, 10);
        CHECK_INT(number(root, "environments_create_failures_total"), 1);
        CHECK_INT(number(root, "loop_turn_seconds_sum") * 1000, 250);
        CHECK_INT(number(json_object_get(root, "environments"), "leased"), 1);
        CHECK_STR(keys(json_object_get(root, "environments_returned")), "clean changed single_use failed retired");
        CHECK_STR(keys(json_object_get(root, "leases_by_state")), "waiting leased lost failed");
        CHECK_STR(keys(json_object_get(root, "jobs")), "queued starting running");
        CHECK_STR(keys(json_object_get(root, "jobs_ended")), "ok failed timeout killed output cancelled lost unknown");
        CHECK_INT(number(json_object_get(root, "jobs_ended"), "ok"), 1);
        CHECK_INT(json_array_size(json_object_get(root, "calls")), 0);

        CHECK_INT(json_array_size(json_object_get(root, "environment_list")), 2);
        one = row(root, "environment_list", 0);
        CHECK_STR(keys(one), "id state lease uses age_seconds state_seconds left_seconds");
        CHECK_STR(json_string_value(json_object_get(one, "lease")), "a");
        CHECK_INT(number(one, "age_seconds") * 1000, 1000);
        CHECK(json_is_null(json_object_get(one, "left_seconds")));
        CHECK(json_is_null(json_object_get(row(root, "environment_list", 1), "lease")));
        CHECK_INT(json_array_size(json_object_get(root, "lease_list")), 2);
        one = row(root, "lease_list", 0);
        CHECK_STR(keys(one), "name state owner age_seconds wait_seconds environment running queued ended unused_seconds");
        CHECK_STR(json_string_value(json_object_get(one, "environment")), "sb-1");
        CHECK_INT(number(one, "wait_seconds") * 1000, 10);
        CHECK_INT(number(one, "ended"), 1);
        CHECK(number(one, "unused_seconds") > 0.9 && number(one, "unused_seconds") < 1.01);
        one = row(root, "lease_list", 1);
        CHECK_STR(json_string_value(json_object_get(one, "name")), "\"b\\");
        CHECK(json_is_null(json_object_get(one, "unused_seconds")));
        json_decref(root);
        buf_deinit(&out);
        rig_stop();
}

static void calls(const struct backend_client *c, void (*each)(void *data, const struct backend_calls *n), void *data) {
        each(data, &(struct backend_calls){ "SandboxCreate", "OK", 7, 2, 1500000 });
        each(data, &(struct backend_calls){ "Strange", "\"a\\b\nc", 1, 0, 40 });
}

static void ends(const struct backend_client *c, void (*each)(void *data, const struct backend_ends *n), void *data) {
        each(data, &(struct backend_ends){ "kernel_oom_kill", 137, 2 });
        each(data, &(struct backend_ends){ "failure", -15, 1 });
}

static void warnings(const struct backend_client *c, void (*each)(void *data, const struct backend_warning *w), void *data) {
        each(data, &(struct backend_warning){ "\"old\"", 3, sim.now_us - 90 * USEC_PER_SEC });
        each(data, &(struct backend_warning){ "once", 1, 0 });
}

/* What the provider warns of: a line each for people, an object each for programs. */
static void warnings_of_the_provider(void) {
        struct backend_client_ops ops = { .each_warning = warnings };
        struct buf out = BUF_INIT(100000);
        json_t *root;

        rig_start();
        rig.backend.client.ops = &ops;
        rig_run(100 * USEC_PER_SEC);
        CHECK(strstr(render(status_pool, &out), "\nwarning       \"old\" (3 times, the last 1m30s ago)\nwarning       once\n\n"));
        root = json_loads(render(status_stats, &out), 0, NULL);
        CHECK_STR(keys(row(root, "warnings", 0)), "text count last_seconds");
        CHECK_STR(json_string_value(json_object_get(row(root, "warnings", 0), "text")), "\"old\"");
        CHECK_INT(number(row(root, "warnings", 0), "last_seconds"), 90);
        json_decref(root);
        buf_deinit(&out);
        rig_stop();
}

static void pool_for_prometheus(void) {
        struct buf out = BUF_INIT(100000);
        struct backend_client_ops ops = { .each_call = calls, .each_end = ends };
        json_t *root;

        rig_start();
        rig.backend.client.ops = &ops;
        rig_lease("a");
        rig_run(USEC_PER_SEC);
        rig.backend.rates.create_fails = 1000;
        rig_lease("b");
        rig_run(SIM_DELAY_US);
        render(status_metrics, &out);
        CHECK_STR(line(&out, "modalpool_environments{state=\"leased\"}"), "modalpool_environments{state=\"leased\"} 1");
        CHECK_STR(line(&out, "modalpool_leases{state=\"waiting\"}"), "modalpool_leases{state=\"waiting\"} 1");
        CHECK_STR(line(&out, "modalpool_leases_waiting "), "modalpool_leases_waiting 1");
        CHECK_STR(line(&out, "modalpool_leases_oldest_wait"), "modalpool_leases_oldest_wait_seconds 0.010000");
        CHECK_STR(line(&out, "# TYPE modalpool_leases_granted_total"), "# TYPE modalpool_leases_granted_total counter");
        CHECK_STR(line(&out, "# TYPE modalpool_leases_wait_seconds"), "# TYPE modalpool_leases_wait_seconds summary");
        CHECK_STR(line(&out, "modalpool_leases_wait_seconds_sum"), "modalpool_leases_wait_seconds_sum 0.010000");
        CHECK_STR(line(&out, "modalpool_leases_wait_seconds_count"), "modalpool_leases_wait_seconds_count 1");
        CHECK_STR(line(&out, "modalpool_environments_create_failures_total "),
                  "modalpool_environments_create_failures_total 1");
        CHECK_STR(strstr(buf_text(&out), "# HELP modalpool_calls_total"),
                  "# HELP modalpool_calls_total Calls to the provider that have ended, by how the last try did.\n"
                  "# TYPE modalpool_calls_total counter\n"
                  "modalpool_calls_total{method=\"SandboxCreate\",status=\"OK\"} 7\n"
                  "modalpool_calls_total{method=\"Strange\",status=\"\\\"a\\\\b\\nc\"} 1\n"
                  "# HELP modalpool_calls_seconds_total Time from the first try to the end.\n"
                  "# TYPE modalpool_calls_seconds_total counter\n"
                  "modalpool_calls_seconds_total{method=\"SandboxCreate\",status=\"OK\"} 1.500000\n"
                  "modalpool_calls_seconds_total{method=\"Strange\",status=\"\\\"a\\\\b\\nc\"} 0.000040\n"
                  "# HELP modalpool_calls_retries_total Tries after the first.\n"
                  "# TYPE modalpool_calls_retries_total counter\n"
                  "modalpool_calls_retries_total{method=\"SandboxCreate\",status=\"OK\"} 2\n"
                  "modalpool_calls_retries_total{method=\"Strange\",status=\"\\\"a\\\\b\\nc\"} 0\n");
        CHECK_STR(line(&out, "modalpool_environments_died_by_cause_total{cause=\"k"),
                  "modalpool_environments_died_by_cause_total{cause=\"kernel_oom_kill\",exit_code=\"137\"} 2");
        CHECK_STR(line(&out, "modalpool_environments_died_by_cause_total{cause=\"f"),
                  "modalpool_environments_died_by_cause_total{cause=\"failure\",exit_code=\"-15\"} 1");
        CHECK(strstr(render(status_stats, &out), "\"method\": \"SandboxCreate\""));
        root = json_loads(buf_text(&out), 0, NULL);
        CHECK_INT(json_array_size(json_object_get(root, "environments_died_by_cause")), 2);
        CHECK_STR(keys(row(root, "environments_died_by_cause", 1)), "cause exit_code count");
        CHECK_INT(number(row(root, "environments_died_by_cause", 1), "exit_code"), -15);
        json_decref(root);
        buf_deinit(&out);
        rig_stop();
}

/* Each of ten thousand leases has its line, and none is looked for again and again. */
static void many(void) {
        static int (*const files[])(const struct status_sources *s, struct buf *out) = { status_pool, status_stats };
        struct buf out = BUF_INIT(TEXT_FILE_MAX);
        int64_t began, took[2][2];
        char name[16];

        rig_start();
        CHECK_INT(config_set(&rig.config, "max_leases", "10000", CONFIG_CTL, &(struct result){}), 0);
        for (int i = 0; i < 10000; i++) {
                snprintf(name, sizeof(name), "t%d", i);
                rig_lease(name);
                for (int k = 0; k < 2 && (i == 999 || i == 9999); k++) {
                        began = clock_read_us(CLOCK_PROCESS_CPUTIME_ID);
                        CHECK(strstr(render(files[k], &out), name));
                        took[i == 9999][k] = clock_read_us(CLOCK_PROCESS_CPUTIME_ID) - began;
                }
        }
        for (int k = 0; k < 2; k++)
                printf("# of 1000 leases in %" PRId64 " us, of 10000 in %" PRId64 " us\n", took[0][k], took[1][k]);
        /* Ten times as many take ten times as long, and not a hundred; what is shorter than a few ms says nothing. */
        for (int k = 0; k < 2; k++)
                CHECK(took[1][k] < 40 * (took[0][k] + 1000));
        buf_deinit(&out);
        rig_stop();
}

/* A buffer that is too small is an error, never a cut text that passes for whole. */
static void too_small(void) {
        struct buf whole = BUF_INIT(100000);
        struct status_sources s;

        rig_start();
        rig_lease("a");
        rig_run(USEC_PER_SEC);
        s = rig_sources();
        for (int (*const *file)(const struct status_sources *s, struct buf *out) =
                     (int (*const[])(const struct status_sources *s, struct buf *out)){ status_pool, status_stats,
                                                                                        status_metrics, NULL };
             *file; file++) {
                buf_clear(&whole);
                CHECK_INT((*file)(&s, &whole), 0);
                for (size_t max = 0; max < whole.len; max++) {
                        struct buf out = BUF_INIT(max);

                        CHECK_INT((*file)(&s, &out), -EFBIG);
                        buf_deinit(&out);
                }
        }
        for (size_t max = 0; max < 40; max++) {
                struct buf out = BUF_INIT(max);

                CHECK_INT(status_lease(leases_find(rig.table, "a"), &out), -EFBIG);
                buf_deinit(&out);
        }
        buf_deinit(&whole);
        rig_stop();
}

int main(void) {
        RUN(lease_and_job);
        RUN(pool_for_people);
        RUN(pool_for_programs);
        RUN(warnings_of_the_provider);
        RUN(pool_for_prometheus);
        RUN(many);
        RUN(too_small);
        return check_done();
}
