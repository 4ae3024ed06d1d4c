/* SPDX-License-Identifier: MIT */
#include "pool/lease/lease.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/lease/unused.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/transition.h"
#include "pool/util/watch.h"

static const char *const state_names[] = {
        [LEASE_WAITING] = "waiting",   [LEASE_LEASED] = "leased",     [LEASE_LOST] = "lost",
        [LEASE_FAILED] = "failed",     [LEASE_RELEASED] = "released",
};

const char *lease_state_name(enum lease_state state) {
        return state_names[state];
}

void lease_replace(char **at, const char *text) {
        free(*at);
        *at = text && *text ? strdup(text) : NULL;
}

void lease_touch(struct lease *l) {
        l->changed_wall_us = clock_read_us(CLOCK_REALTIME);
}

void lease_announce(struct lease *l) {
        const char *why = l->error;

        log_debug("lease=%s environment=%s: %s%s%s", l->name, lease_environment(l) ?: "-", state_names[l->state],
                  why ? ": " : "", why ? why : "");
        l->changed_wall_us = event_emit(l->table->events, "lease", l->name, state_names[l->state], NULL, why);
        watch_fire(&l->watches);
        watch_fire(&l->file_watches);
}

void lease_announce_job(struct lease *l, struct job *j, const char *state) {
        char name[NAME_LEN_MAX + 1 + JOB_NAME_SIZE];

        /* Every job comes here four times. */
        if (j->name)
                snprintf(name, sizeof(name), "%s/%s", l->name, j->name);
        else
                snprintf(name, sizeof(name), "%s/%" PRIu32, l->name, j->number);
        log_debug("lease=%s environment=%s job=%s: %s", l->name, lease_environment(l) ?: "-",
                  strrchr(name, '/') + 1, state);
        l->changed_wall_us = j->changed_wall_us = event_emit(l->table->events, "job", name, state, NULL, j->error);
}

int lease_write_job(const struct lease *l, const struct job *j) {
        struct journal_job row = job_row(j, l->serial);

        return journal_update_job(l->table->journal, &row);
}

int lease_add_job_row(const struct lease *l, const struct job *j) {
        struct journal_job row = job_row(j, l->serial);

        return journal_add_job(l->table->journal, &row);
}

void lease_publish_state(struct lease *l) {
        if (l->state != LEASE_RELEASED)
                (void)lease_write(l); /* else a restart makes it what it was before, and finds out again */
        lease_note_use(l);
        lease_announce(l);
        l->state_wall_us = l->changed_wall_us;
}

/* See the head of lease.h. A lease that waits is lost when the environment that it had in an earlier run is gone. */
static const uint32_t next_states[] = {
        [LEASE_WAITING] = TRANSITION_TO(LEASE_LEASED) | TRANSITION_TO(LEASE_LOST) | TRANSITION_TO(LEASE_FAILED) |
                          TRANSITION_TO(LEASE_RELEASED),
        [LEASE_LEASED] = TRANSITION_TO(LEASE_LOST) | TRANSITION_TO(LEASE_RELEASED),
        [LEASE_LOST] = TRANSITION_TO(LEASE_WAITING) | TRANSITION_TO(LEASE_RELEASED),
        [LEASE_FAILED] = TRANSITION_TO(LEASE_WAITING) | TRANSITION_TO(LEASE_RELEASED),
        [LEASE_RELEASED] = 0,
};

static const struct transitions transitions = {
        .what = "lease",
        .key = "lease",
        .n = LEASE_N_STATES,
        .names = state_names,
        .to = next_states,
};

void lease_set_state(struct lease *l, enum lease_state state, const struct result *why) {
        if (!transition_check(&transitions, l->name, l->state, state))
                return;
        l->state = state;
        l->code = why ? why->code : RESULT_OK;
        lease_replace(&l->error, why ? why->text : NULL);
        if (why) /* a bad word goes on being worth reading when an environment arrives */
                lease_replace(&l->remark, NULL);
        lease_publish_state(l);
}

static char *workdir_path(const struct leases *t, const char *name) {
        const struct config *c = t->config;
        size_t len = strlen(c->base);
        char *path;

        if (t->workdir)
                return strdup(t->workdir);
        if (*c->workdir)
                return strdup(c->workdir);
        while (len > 0 && c->base[len - 1] == '/')
                len--;
        return asprintf(&path, "%.*s/" CONFIG_WORKDIRS "/%s", (int)len, c->base, name) < 0 ? NULL : path;
}

bool lease_empties_workdir(const struct lease *l) {
        return !l->table->workdir && config_owns_workdir(l->workdir);
}

int lease_write(const struct lease *l) {
        const struct environment *e = l->claim.environment;

        return journal_put_lease(l->table->journal, &(struct journal_lease){
                                                            .serial = l->serial,
                                                            .instance = l->instance,
                                                            .pool = l->table->pool_serial,
                                                            .name = l->name,
                                                            .uid = l->uid,
                                                            .gid = l->gid,
                                                            .created_wall_us = l->created_wall_us,
                                                            .state = l->state,
                                                            .code = l->code,
                                                            .error = l->error,
                                                            .environment = e ? environment_nonce(e) : NULL,
                                                            .prepared = l->prepared,
                                                            .last_named = l->last_named,
                                                            .cwd = l->settings.cwd,
                                                            .env = l->settings.env,
                                                            .user = l->settings.user,
                                                            .timeout_us = l->settings.timeout_us,
                                                    });
}

/* If that cannot be written, a run after this one must not take the next job for the first, which empties it. */
void lease_set_prepared(struct lease *l) {
        if (l->prepared)
                return;
        l->prepared = true;
        l->prepared_unwritten = lease_write(l) < 0;
        watch_fire(&l->file_watches);
}

bool lease_is_preparing(const struct lease *l) {
        return l->prepare.cancel;
}

struct lease *lease_new(struct leases *t, const char *name, uint64_t serial, uid_t uid, gid_t gid) {
        struct lease *l = calloc(1, sizeof(*l));

        if (!l)
                return NULL;
        l->refs = 1;
        list_init(&l->link);
        list_init(&l->watches);
        list_init(&l->file_watches);
        list_init(&l->jobs);
        list_init(&l->named);
        list_init(&l->forgotten);
        list_init(&l->queue);
        list_init(&l->running);
        list_init(&l->starved);
        list_init(&l->unused);
        l->quota = quota_open(t->registry->quota, uid);
        settings_init(&l->settings, t->spool_dir, l->quota);
        l->table = t;
        l->serial = serial;
        l->uid = uid;
        l->gid = gid;
        l->name = strdup(name);
        l->workdir = workdir_path(t, name);
        lease_touch(l);
        l->created_wall_us = l->state_wall_us = l->changed_wall_us;
        if (!l->name || !l->workdir || !l->quota ||
            settings_set(&l->settings, &(struct setting_values){ "", "", t->config->timeout_us, "" }, l->changed_wall_us) < 0) {
                lease_unref(l);
                return NULL;
        }
        return l;
}

void lease_set_remark(struct lease *l, const char *text) {
        lease_replace(&l->remark, text);
        lease_touch(l);
}

void lease_remark(struct lease *l, const char *format, ...) {
        struct result line;
        char text[RESULT_TEXT_MAX];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        result_set(&line, RESULT_INVALID, "%s", text); /* makes it one printable line */
        lease_set_remark(l, line.text);
}

struct lease *lease_ref(struct lease *l) {
        l->refs++;
        return l;
}

void lease_unref(struct lease *l) {
        if (!l || --l->refs > 0)
                return;
        assert(list_empty(&l->watches) && list_empty(&l->file_watches) && !l->prepare.cancel);
        assert(list_empty(&l->jobs) && list_empty(&l->named) && list_empty(&l->forgotten));
        if (l->table) /* it was never released, for it never came into the table */
                pool_deinit_claim(l->table->pool, &l->claim);
        settings_deinit(&l->settings);
        quota_account_unref(l->quota);
        free(l->name);
        free(l->workdir);
        free(l->error);
        free(l->remark);
        free(l);
}

/* names */

void lease_hide(struct lease *l, struct job *j, unsigned file) {
        struct hidden *h = j ? &j->hidden : &l->hidden;

        if (h->round != l->round)
                h->files = 0;
        h->round = l->round;
        h->files |= UINT64_C(1) << file;
}

bool lease_hides(const struct lease *l, const struct job *j, unsigned file) {
        const struct hidden *h = j ? &j->hidden : &l->hidden;

        return h->round == l->round && h->files >> file & 1;
}

void lease_show(struct lease *l) {
        l->round++;
}

void lease_renew_directory(struct lease *l, struct job *j) {
        struct hidden *h = j ? &j->hidden : &l->hidden;

        h->generation++;
}

unsigned lease_directory_generation(const struct lease *l, const struct job *j) {
        return (j ? &j->hidden : &l->hidden)->generation;
}

/* for readers */

const char *lease_name(const struct lease *l) {
        return l->name;
}

uint64_t lease_serial(const struct lease *l) {
        return l->serial;
}

uid_t lease_uid(const struct lease *l) {
        return l->uid;
}

gid_t lease_gid(const struct lease *l) {
        return l->gid;
}

struct quota_account *lease_quota(const struct lease *l) {
        return l->quota;
}

const char *lease_say_quota(const struct lease *l, char out[static QUOTA_TEXT_SIZE]) {
        const struct config *c = l->table->config;

        if (quota_binds_user(l->quota))
                snprintf(out, QUOTA_TEXT_SIZE, "spool_max_per_user, %" PRIu64 " bytes for all that user %u keeps",
                         c->spool_max_per_user, (unsigned)l->uid);
        else
                snprintf(out, QUOTA_TEXT_SIZE, "spool_max, %" PRIu64 " bytes for all that the pool keeps",
                         c->spool_max);
        return out;
}

void lease_remark_quota(struct lease *l, const char *file) {
        char quota[QUOTA_TEXT_SIZE];

        lease_remark(l, "%s: refused: it would pass %s; rmdir of a lease makes room", file, lease_say_quota(l, quota));
}

enum lease_state lease_state(const struct lease *l) {
        return l->state;
}

int64_t lease_created_wall_us(const struct lease *l) {
        return l->created_wall_us;
}

int64_t lease_state_wall_us(const struct lease *l) {
        return l->state_wall_us;
}

int64_t lease_changed_wall_us(const struct lease *l) {
        return l->changed_wall_us;
}

enum result_code lease_code(const struct lease *l) {
        return l->code;
}

const char *lease_error(const struct lease *l) {
        const struct job *j;

        if (l->remark)
                return l->remark;
        if (l->error)
                return l->error;
        if (l->state == LEASE_WAITING && pool_explain_wait(l->table->pool, &l->claim, &l->table->wait_reason))
                return l->table->wait_reason.text;
        if (!list_empty(&l->starved))
                return l->table->shortage.text;
        j = lease_newest(l);
        return j ? j->error : NULL;
}

const char *lease_environment(const struct lease *l) {
        return l->claim.environment ? environment_id(l->claim.environment) : NULL;
}

struct list *lease_watches(struct lease *l) {
        return &l->watches;
}

struct job *lease_newest(const struct lease *l) {
        return list_last(&l->jobs, struct job, link);
}

struct job *lease_job(const struct lease *l, uint32_t number) {
        struct job *j = number ? lease_job_after(l, number - 1) : NULL;

        return j && j->number == number ? j : NULL;
}

static struct job *job_after(const struct list *jobs, uint32_t number) {
        struct job *j;

        list_for_each (j, jobs, link)
                if (j->number > number)
                        return j;
        return NULL;
}

struct job *lease_job_after(const struct lease *l, uint32_t number) {
        struct job *j = number < JOB_NAMED_FIRST - 1 ? job_after(&l->jobs, number) : NULL;

        return j ?: job_after(&l->named, number);
}

struct job *lease_named_job(const struct lease *l, const char *name) {
        struct job *j;

        HASH_FIND(hh_name, l->by_job_name, name, strlen(name), j);
        return j;
}

/* the order of jobs */

void lease_enqueue(struct lease *l, struct job *j) {
        struct list *at = &l->queue;
        struct job *before, *tmp;

        /* From the newest: only after a restart does one come that was submitted before others. */
        list_for_each_reverse_safe (before, tmp, &l->queue, turn) {
                if (before->submitted_us <= j->submitted_us)
                        break;
                at = &before->turn;
        }
        list_insert_before(at, &j->turn);
        l->n_queued++;
}

bool lease_runs_side_by_side(const struct lease *l) {
        return !l->claim.environment || !environment_sandbox(l->claim.environment)->serial;
}

bool lease_has_helper(const struct lease *l) {
        return !l->claim.environment || !environment_sandbox(l->claim.environment)->plain;
}

const char *lease_one_user(const struct lease *l) {
        return l->claim.environment ? environment_sandbox(l->claim.environment)->one_user : NULL;
}

void lease_add_running(struct lease *l, struct job *j) {
        list_add_tail(&l->running, &j->turn);
        l->n_running++;
        if (!j->name)
                l->current = j;
}

/*
 * The first job makes and empties the workdir, so it runs alone until it has begun. Jobs of cmd run one after another,
 * beside those with names.
 */
bool lease_has_turn(const struct lease *l, const struct job *j) {
        return l->state == LEASE_LEASED && l->n_holds == 0 && !lease_is_preparing(l) &&
               l->n_running < l->table->config->jobs_max && (l->prepared || l->n_running == 0) && (j->name || !l->current);
}

struct job *lease_current(const struct lease *l) {
        return l->current;
}

unsigned lease_running(const struct lease *l) {
        return l->n_running;
}

unsigned lease_queued(const struct lease *l) {
        return l->n_queued;
}

void lease_each_running(const struct lease *l, void (*each)(void *data, const struct job *j), void *data) {
        const struct job *j;

        list_for_each (j, &l->running, turn)
                each(data, j);
}
