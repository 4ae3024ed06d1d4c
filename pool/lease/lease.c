/* SPDX-License-Identifier: MIT */
#include "pool/lease/lease.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/lease/internal.h"
#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"
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

/* Tell people, and those who wait. */
static void announce(struct lease *l) {
        const char *why = l->error;

        log_debug("lease=%s environment=%s: %s%s%s", l->name, lease_environment(l) ?: "-", state_names[l->state],
                  why ? ": " : "", why ? why : "");
        l->changed_wall_us = event_emit(l->table->events, "lease", l->name, state_names[l->state], NULL, why);
        watch_fire(&l->watches);
}

void lease_set_state(struct lease *l, enum lease_state state, const struct result *why) {
        l->state = state;
        l->code = why ? why->code : RESULT_OK;
        lease_replace(&l->error, why ? why->text : NULL);
        if (why) /* a bad word goes on being worth reading when an environment arrives */
                lease_replace(&l->remark, NULL);
        if (state != LEASE_RELEASED)
                (void)lease_write(l); /* else a restart makes it what it was before, and finds out again */
        lease_note_use(l);
        announce(l);
        l->state_wall_us = l->changed_wall_us;
}

/* the pool's events */

static void on_granted(struct claim *c) {
        struct lease *l = container_of(c, struct lease, claim);

        lease_set_state(l, LEASE_LEASED, NULL);
        lease_resume(l);
}

static void on_failed(struct claim *c, const struct result *why) {
        struct lease *l = container_of(c, struct lease, claim);

        lease_end_jobs(l, true, why);
        lease_set_state(l, LEASE_FAILED, why);
}

static void on_lost(struct claim *c, const struct result *why) {
        struct lease *l = container_of(c, struct lease, claim);

        lease_end_jobs(l, true, why);
        lease_set_state(l, LEASE_LOST, why);
}

static const struct claim_events claim_events = {
        .granted = on_granted,
        .failed = on_failed,
        .lost = on_lost,
};

/* life */

static int check_name(const char *name) {
        size_t len = strlen(name);

        if (len > NAME_LEN_MAX)
                return -ENAMETOOLONG;
        /* Wherever it is shown, it is itself. */
        return len > 0 && name[0] != '.' && !strchr(name, '/') && text_is_plain(name, len) ? 0 : -EINVAL;
}

static char *workdir_path(const char *base, const char *name) {
        size_t len = strlen(base);
        char *path;

        while (len > 0 && base[len - 1] == '/')
                len--;
        return asprintf(&path, "%.*s/hermes_tasks/%s", (int)len, base, name) < 0 ? NULL : path;
}

int lease_write(const struct lease *l) {
        const struct environment *e = l->claim.environment;

        return journal_put_lease(l->table->journal, &(struct journal_lease){
                                                            .serial = l->serial,
                                                            .instance = l->instance,
                                                            .name = l->name,
                                                            .uid = l->uid,
                                                            .gid = l->gid,
                                                            .created_wall_us = l->created_wall_us,
                                                            .state = l->state,
                                                            .code = l->code,
                                                            .error = l->error,
                                                            .environment = e ? environment_nonce(e) : NULL,
                                                            .prepared = l->prepared,
                                                            .cwd = l->cwd,
                                                            .env = l->env,
                                                            .timeout_us = l->timeout_us,
                                                    });
}

struct lease *lease_new(struct leases *t, const char *name, uint64_t serial, uid_t uid, gid_t gid) {
        struct lease *l = calloc(1, sizeof(*l));

        if (!l)
                return NULL;
        l->refs = 1;
        list_init(&l->link);
        list_init(&l->watches);
        list_init(&l->jobs);
        list_init(&l->starved);
        list_init(&l->unused);
        blob_init(&l->input, t->spool_dir, INPUT_SIZE_MAX);
        l->table = t;
        l->serial = serial;
        l->uid = uid;
        l->gid = gid;
        l->name = strdup(name);
        l->workdir = workdir_path(t->config->base, name);
        l->cwd = strdup("");
        l->env = strdup("");
        lease_touch(l);
        l->created_wall_us = l->state_wall_us = l->input_wall_us = l->changed_wall_us;
        for (int i = 0; i < SETTING_N; i++)
                l->set_wall_us[i] = l->changed_wall_us;
        if (!l->name || !l->workdir || !l->cwd || !l->env) {
                lease_unref(l);
                return NULL;
        }
        claim_init(&l->claim, &claim_events, l->name, uid);
        return l;
}

void lease_add(struct lease *l) {
        struct leases *t = l->table;

        list_add_tail(&t->list, &l->link);
        HASH_ADD_KEYPTR(hh_name, t->by_name, l->name, strlen(l->name), l);
        HASH_ADD(hh_serial, t->by_serial, serial, sizeof(l->serial), l);
        t->changed_wall_us = l->changed_wall_us;
}

int lease_create(struct leases *t, const char *name, uid_t uid, gid_t gid, struct lease **out) {
        struct lease *l;
        int r;

        r = check_name(name);
        if (r < 0)
                return r;
        if (leases_find(t, name))
                return -EEXIST;
        if (t->draining || leases_count(t) >= t->config->max_leases || t->last_serial >= LEASE_SERIAL_MAX)
                return -EAGAIN;

        l = lease_new(t, name, t->last_serial + 1, uid, gid);
        if (!l)
                return -ENOMEM;
        l->instance = t->instance;
        l->created_us = t->clock();
        l->timeout_us = t->config->timeout_us;
        r = lease_write(l);
        if (r < 0) {
                lease_unref(l);
                return r;
        }
        t->last_serial++;
        lease_add(l);
        announce(l);
        pool_claim(t->pool, &l->claim);
        *out = l;
        return 0;
}

void lease_release(struct lease *l) {
        struct leases *t = l->table;
        struct result why;
        struct job *j;

        result_set(&why, RESULT_RELEASED, "lease %s was released", l->name);
        if (journal_drop_lease(t->journal, l->serial) < 0)
                pool_retire(t->pool, &l->claim); /* after a crash the lease is there again, and has that environment */
        lease_end_jobs(l, true, &why);
        lease_set_state(l, LEASE_RELEASED, &why);
        pool_release(t->pool, &l->claim);

        list_remove(&l->link);
        list_remove(&l->starved);
        HASH_DELETE(hh_name, t->by_name, l);
        HASH_DELETE(hh_serial, t->by_serial, l);
        t->changed_wall_us = l->changed_wall_us;
        while ((j = list_first(&l->jobs, struct job, link))) {
                list_remove(&j->link);
                job_unref(j);
        }
        l->table = NULL;
        lease_unref(l);
}

struct lease *lease_ref(struct lease *l) {
        l->refs++;
        return l;
}

void lease_unref(struct lease *l) {
        if (!l || --l->refs > 0)
                return;
        assert(list_empty(&l->watches) && list_empty(&l->jobs));
        blob_deinit(&l->input);
        free(l->name);
        free(l->workdir);
        free(l->cwd);
        free(l->env);
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

int64_t lease_input_wall_us(const struct lease *l) {
        return l->input_wall_us;
}

int64_t lease_set_wall_us(const struct lease *l, enum lease_setting setting) {
        return l->set_wall_us[setting];
}

enum result_code lease_code(const struct lease *l) {
        return l->code;
}

const char *lease_error(const struct lease *l) {
        const struct result *trouble;
        const struct job *j;

        if (l->remark)
                return l->remark;
        if (l->error)
                return l->error;
        if (l->state == LEASE_WAITING) {
                trouble = pool_trouble(l->table->pool);
                if (trouble)
                        return trouble->text;
        }
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

struct job *lease_job_after(const struct lease *l, uint32_t number) {
        struct job *j;

        list_for_each (j, &l->jobs, link)
                if (j->number > number)
                        return j;
        return NULL;
}

struct job *lease_current(const struct lease *l) {
        return l->current;
}

unsigned lease_queued(const struct lease *l) {
        return l->n_queued;
}
