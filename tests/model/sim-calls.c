/* SPDX-License-Identifier: MIT */
#include "sim-model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/lease/ctl.h"
#include "pool/lease/limits.h"
#include "pool/lease/set.h"
#include "pool/lease/submit.h"
#include "pool/util/text.h"

/* What users ask, with what they should be answered. */

struct model_lease *model_find(const char *name) {
        struct model_lease *m;

        list_for_each (m, &model.leases, link)
                if (!strcmp(m->name, name))
                        return m;
        return NULL;
}

uid_t model_user(const char *name) {
        return sim.seed % 2 ? 1000 + name[strlen(name) - 1] % 3 : 1000;
}

/* What a lease's name should be answered. */
static int name_verdict(const char *name) {
        if (strlen(name) > 200)
                return -ENAMETOOLONG;
        if (!*name || *name == '.' || strpbrk(name, "/\n\x7f") || strchr(name, (char)0xff))
                return -EINVAL;
        if (model_find(name))
                return -EEXIST;
        return model.draining || model.n_leases >= model.config.max_leases ? -EAGAIN : 0;
}

void model_create(const char *name) {
        int expected = name_verdict(name), r;
        uint64_t failed = model.n_writes_failed;
        struct model_lease *m;
        struct lease *l;

        sim_trace("mkdir %.40s", name);
        r = lease_create(model.table, name, *name ? model_user(name) : 1000, 1000, &l);
        if (expected == 0 && model.n_writes_failed > failed)
                expected = -ENOSPC;
        SIM_CHECK(r == expected, "mkdir %s: %d, expected %d", name, r, expected);
        if (r < 0)
                return;
        m = calloc(1, sizeof(*m));
        if (!m)
                abort();
        snprintf(m->name, sizeof(m->name), "%s", name);
        snprintf(m->workdir, sizeof(m->workdir), "/root/hermes_tasks/%s", name);
        m->lease = lease_ref(l);
        m->serial = lease_serial(l);
        m->uid = lease_uid(l);
        m->seen = LEASE_WAITING;
        line_join(m);
        m->timeout_us = model.config.timeout_us;
        list_init(&m->jobs);
        list_add_tail(&model.leases, &m->link);
        watch_init(&m->watch, model_on_lease_changed);
        watch_add(lease_watches(l), &m->watch);
        model.n_leases++;
        SIM_CHECK(lease_state(l) == LEASE_WAITING && !lease_environment(l), "lease %s does not wait at first", name);
}

static void on_drop_lease(struct timer *t) {
        struct model_lease *m = container_of(t, struct model_lease, drop);
        struct job *draft;

        SIM_CHECK(lease_state(m->lease) == LEASE_RELEASED && lease_code(m->lease) == RESULT_RELEASED &&
                          lease_draft(m->lease, &draft) == -ESTALE &&
                          lease_command(m->lease, NULL, "kill") == -ESTALE &&
                          lease_set(m->lease, NULL, SETTING_CWD, "") == -ESTALE && !lease_newest(m->lease) &&
                          !lease_environment(m->lease),
                  "lease %s is not quite released", m->name);
        while (!list_empty(&m->jobs))
                model_drop_job(list_first(&m->jobs, struct model_job, link));
        watch_remove(&m->watch);
        list_remove(&m->link);
        lease_unref(m->lease);
        free(m);
}

static void lease_gone(struct model_lease *m) {
        struct sim_sandbox *s;

        list_for_each (s, &model.backend.sandboxes, link)
                if (s->number == m->sandbox)
                        s->idle_since_us = sim.now_us;
        SIM_CHECK(m->seen == LEASE_RELEASED, "lease %s was not told of its release", m->name);
        list_remove(&m->link);
        list_add_tail(&model.gone, &m->link);
        model.n_leases--;
        m->sandbox = 0;
        timer_arm(&m->drop, prng_scaled(&sim.prng, 2 * READ_TIME_US), on_drop_lease);
}

void model_release(struct model_lease *m) {
        sim_trace("rmdir %s", m->name);
        model_jobs_must_end(m, RESULT_RELEASED, false);
        lease_release(m->lease);
        lease_gone(m);
}

void model_stop(void) {
        struct model_lease *m, *tmp;

        sim_trace("the daemon stops for good");
        model.stopping = true;
        list_for_each (m, &model.leases, link)
                model_jobs_must_end(m, RESULT_RELEASED, false);
        core_stop(model.core, false);
        list_for_each_safe (m, tmp, &model.leases, link)
                lease_gone(m);
        model.draining = true;
}

void model_submit(struct model_lease *m) {
        static char padding[BLOB_MEMORY_MAX]; /* too much for memory */
        enum result_code code = lease_code(m->lease), accepts = lease_accepts(m->lease);
        uint64_t submits_failed = model.n_submits_failed;
        struct model_job *j;
        struct job *draft;
        struct blob command;
        uint64_t room;
        int r;

        SIM_CHECK(accepts == (code                                  ? code
                              : lease_queued(m->lease) >= QUEUE_MAX ? RESULT_BUSY
                                                                    : RESULT_OK),
                  "lease %s accepts: %s", m->name, result_code_name(accepts));
        if (accepts == RESULT_BUSY)
                return;
        j = calloc(1, sizeof(*j));
        if (!j)
                abort();
        j->lease = m;
        j->number = ++m->last_number;
        j->timeout_us = m->timeout_us;
        snprintf(j->command, sizeof(j->command), "job %" PRIu64 ".%" PRIu32, m->serial, j->number);
        memcpy(j->cwd, m->cwd, sizeof(j->cwd));
        memcpy(j->env, m->env, sizeof(j->env));
        memcpy(j->input, m->input, sizeof(j->input));
        m->input[0] = '\0';
        watch_init(&j->watch, model_on_job_changed);
        list_add_tail(&m->jobs, &j->link);
        if (code != RESULT_OK)
                model_job_must_end(j, code == RESULT_LOST ? code : RESULT_CANCELLED, 0);

        sim_trace("lease %s: job %" PRIu64 ".%" PRIu32, m->name, m->serial, j->number);
        blob_init(&command, model.spool_dir, COMMAND_SIZE_MAX);
        command.quota = lease_quota(m->lease);
        r = blob_append(&command, j->command, strlen(j->command));
        SIM_CHECK(r == 0, "blob_append: %d", r);
        if (sim_chance(30)) {
                memset(padding, ' ', sizeof(padding));
                room = quota_room(command.quota);
                r = blob_append(&command, padding, sizeof(padding));
                SIM_CHECK(r == (command.size + (r ? sizeof(padding) : 0) > room ? -EDQUOT : 0),
                          "blob_append with room for %" PRIu64 ": %d", room, r);
                j->padding = r ? 0 : sizeof(padding);
        }
        r = lease_draft(m->lease, &draft);
        SIM_CHECK(r == 0, "draft: %d", r);
        r = lease_submit(m->lease, draft, &command);
        j->job = draft;
        SIM_CHECK(r == 0 && j->job->number == j->number && command.size == 0, "submit: %d", r);
        blob_deinit(&command);
        watch_add(&j->job->watches, &j->watch);
        if (model.n_submits_failed > submits_failed) {
                j->fate_known = false;
                model_job_must_end(j, RESULT_CANCELLED, 0);
                SIM_CHECK(job_ended(j->job) && j->job->error, "job %" PRIu64 ".%" PRIu32 " is not written, and goes on",
                          m->serial, j->number);
        }
        model_look_at_job(j);
}

void model_command(struct model_lease *m, const char *line) {
        const struct job *current = lease_current(m->lease);
        bool renewable = m->seen == LEASE_LOST || m->seen == LEASE_FAILED, good = true;
        uint64_t failed = model.n_writes_failed;
        struct model_job *j;
        int r;

        sim_trace("lease %s: ctl %s", m->name, line);
        if (!strcmp(line, "kill") || !strcmp(line, "signal KILL")) {
                list_for_each (j, &m->jobs, link)
                        if (j->job == current && !j->killed_us)
                                j->kill_wanted = true;
        } else if (!strcmp(line, "cancel")) {
                model_jobs_must_end(m, RESULT_CANCELLED, true);
        } else if (!strcmp(line, "renew")) {
                good = renewable;
        } else {
                good = !strcmp(line, "signal INT") || !strcmp(line, "signal 15");
        }
        r = lease_command(m->lease, NULL, line);
        if (r == -ENOSPC && renewable && !strcmp(line, "renew") && model.n_writes_failed > failed)
                return;
        SIM_CHECK(r == (good ? 0 : -EINVAL), "lease %s: ctl %s: %d", m->name, line, r);
        SIM_CHECK(good || strstr(lease_error(m->lease), line), "lease %s: ctl %s is not echoed", m->name, line);
}

void model_set(struct model_lease *m, enum lease_setting setting, const char *text) {
        bool good = true;
        int64_t usec = model.config.timeout_us;
        uint64_t failed = model.n_writes_failed;
        int r;

        sim_trace("lease %s: setting %d \"%s\"", m->name, setting, text);
        if (setting == SETTING_TIMEOUT)
                good = !*text || text_to_usec(text, &usec) == 0;
        else if (setting == SETTING_ENV)
                good = !*text || strchr(text, '=') > text;
        r = lease_set(m->lease, NULL, setting, text);
        if (model.n_writes_failed > failed) {
                SIM_CHECK(good && r == -ENOSPC, "lease %s: setting %d \"%s\" not written: %d", m->name, setting, text, r);
                return;
        }
        SIM_CHECK(r == (good ? 0 : -EINVAL), "lease %s: setting %d \"%s\": %d", m->name, setting, text, r);
        if (!good)
                return;
        if (setting == SETTING_TIMEOUT)
                m->timeout_us = usec;
        else
                snprintf(setting == SETTING_CWD ? m->cwd : m->env, sizeof(m->cwd), "%s", text);
}

void model_write_input(struct model_lease *m, const char *text) {
        lease_clear_input(m->lease, NULL);
        SIM_CHECK(lease_add_input(m->lease, NULL, text, strlen(text)) == 0, "input refused");
        snprintf(m->input, sizeof(m->input), "%s", text);
}

/* the pool's ctl */

void model_set_max(unsigned max) {
        if (max < model.config.max)
                model.max_lowered_turn = sim.turn;
        model.config.max = max;
        pool_config_changed(model.pool);
}

void model_prewarm(unsigned n) {
        model.prewarm = n;
        pool_prewarm(model.pool, n);
}

void model_recycle(void) {
        struct sim_sandbox *s;

        list_for_each (s, &model.backend.sandboxes, link)
                s->retired |= s->sandbox.state == SANDBOX_LIVE || s->adopting;
        pool_recycle(model.pool);
        model_resume();
}
