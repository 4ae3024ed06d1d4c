/* SPDX-License-Identifier: MIT */
#include "fs/daemon/reap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "fs/daemon/backends.h"
#include "fs/daemon/state.h"
#include "fs/session.h"
#include "pool/core.h"
#include "pool/environment/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

struct reap {
        struct config *config;
        const struct options *options;
        struct state state;
        struct journal *journal;
        struct backend_client *client;
        struct backend *backend;
        struct core *core;
        uv_loop_t loop;
        bool loop_is_open;
        uv_prepare_t turn;
        uv_timer_t timer; /* before listing again */

        bool answered;   /* the backend has started, or has not */
        bool listing;
        bool list_again; /* a create may still be on its way to the provider */
        unsigned n_leases, n_known, n_found, n_snapshots;
        int exit_status;
};

static void fail(struct reap *r, const char *text) {
        log_error("%s", text);
        r->exit_status = EXIT_FAILURE;
}

/* what the journal knows */

static int count_lease(void *data, const struct journal_lease *row) {
        struct reap *r = data;

        r->n_leases++;
        return 0;
}

static int show_environment(void *data, const struct journal_environment *row) {
        struct reap *r = data;
        int64_t age = clock_now() - row->created_us;

        r->n_known++;
        if (!*row->resume_token && age < ORPHAN_GRACE_US)
                r->list_again = true;
        printf("%s %s, %lld s old, leased %llu times\n", r->options->dry_run ? "would end" : "ending",
               *row->id ? row->id : "one whose create was never answered", (long long)(age / USEC_PER_SEC),
               (unsigned long long)row->uses);
        return 0;
}

static int show_snapshot(void *data, const struct journal_snapshot *row) {
        struct reap *r = data;

        r->n_snapshots++;
        printf("%s snapshot %s\n", r->options->dry_run ? "would delete" : "deleting",
               *row->image ? row->image : "one whose taking was never answered");
        return 0;
}

struct search {
        const char *nonce;
        bool known;
};

static int compare_nonce(void *data, const struct journal_environment *row) {
        struct search *search = data;

        search->known = search->known || !strcmp(search->nonce, row->nonce);
        return 0;
}

static bool is_known(struct reap *r, const char *nonce) {
        struct search search = { .nonce = nonce };

        return journal_each_environment(r->journal, compare_nonce, &search) == 0 && search.known;
}

/*
 * the run: the core ends the environments in the journal; the provider lists the others, and lists them again if a
 * create may be under way
 */

static void list_environments(struct reap *r) {
        int n = backend_list(r->backend);

        r->listing = n == 0;
        if (n < 0 && n != -ENOTSUP)
                fail(r, "the provider cannot be asked for environments that are not in the journal");
}

static void on_timer(uv_timer_t *timer) {
        struct reap *r = timer->data;

        r->list_again = false;
        list_environments(r);
}

/* The core ends it, unless this is a dry run. */
static void on_found(void *owner, const struct sandbox_found *found) {
        struct reap *r = owner;

        if (r->options->dry_run && !is_known(r, found->nonce)) {
                printf("would end %s, which is not in the journal\n", found->id);
                r->n_found++;
        }
}

static void on_listed(void *owner, const struct result *result) {
        struct reap *r = owner;

        r->listing = false;
        if (!result_ok(result))
                r->exit_status = EXIT_FAILURE;
        else if (r->list_again && !r->options->dry_run)
                uv_timer_start(&r->timer, on_timer, ORPHAN_GRACE_US / USEC_PER_MSEC, 0);
}

static void on_ready(void *owner, const struct result *result) {
        struct reap *r = owner;
        struct result why;

        r->answered = true;
        if (!result_ok(result)) {
                fail(r, result->text);
                return;
        }
        if (!r->options->dry_run) {
                if (session_clear_dead_mount(r->options->mountpoint, &why) < 0)
                        log_info("%s", why.text); /* nothing that costs */
                if (core_restore(r->core) < 0) {
                        fail(r, "the journal cannot be read");
                        return;
                }
                core_stop(r->core, false);
        }
        list_environments(r);
}

static void on_notice(void *owner, const char *line) {
}

static const struct core_events core_events = {
        .ready = on_ready,
        .notice = on_notice,
        .found = on_found,
        .listed = on_listed,
};

static void close_handle(uv_handle_t *handle, void *data) {
        struct reap *r = data;

        if (!uv_is_closing(handle) && (handle == (uv_handle_t *)&r->turn || handle == (uv_handle_t *)&r->timer))
                uv_close(handle, NULL);
}

static void on_turn(uv_prepare_t *turn) {
        struct reap *r = turn->data;

        if (r->answered && !r->listing && !uv_is_active((uv_handle_t *)&r->timer) && core_is_empty(r->core))
                uv_walk(&r->loop, close_handle, r);
}

static int set_up(struct reap *r, struct result *why) {
        int n;

        result_set(why, RESULT_FAILED, "out of memory");
        n = state_open(&r->state, r->config, r->options->mountpoint, false, why);
        if (n == 0)
                n = state_open_journal(&r->state, provider_name(r->config), &r->journal, why);
        if (n == 0)
                n = uv_loop_init(&r->loop);
        if (n < 0)
                return n;
        r->loop_is_open = true;
        uv_prepare_init(&r->loop, &r->turn);
        uv_timer_init(&r->loop, &r->timer);
        r->turn.data = r->timer.data = r;
        uv_prepare_start(&r->turn, on_turn);
        n = provider_connect(&r->client, &r->loop, r->config, why);
        if (n == 0)
                n = provider_open(&r->backend, r->client, &r->loop, r->config, "", &r->state, r->state.pool_id,
                                  r->options->mountpoint, why);
        if (n == 0)
                n = core_new(&r->core, &(struct core_parts){
                                               .use = BACKEND_TO_END,
                                               .config = r->config,
                                               .backend = r->backend,
                                               .journal = r->journal,
                                               .spool_dir = r->state.spool,
                                               .clock = clock_now,
                                       });
        if (n == 0)
                n = journal_each_lease(r->journal, count_lease, r);
        if (n == 0)
                n = journal_each_environment(r->journal, show_environment, r);
        if (n == 0)
                n = journal_each_snapshot(r->journal, show_snapshot, r);
        return n < 0 ? n : core_start(r->core, &core_events, r);
}

/* the end */

static int note_serial(void *data, const struct journal_lease *row) {
        *(uint64_t *)data = row->serial;
        return 0;
}

static int note_pool(void *data, const struct journal_pool *row) {
        *(uint64_t *)data = row->serial;
        return 0;
}

/* Their environments have ended, and the machine will not mount here again. */
static void forget_leases_and_pools(struct reap *r) {
        uint64_t serial;

        do {
                serial = 0;
                if (journal_each_lease(r->journal, note_serial, &serial) < 0)
                        return;
        } while (serial && journal_drop_lease(r->journal, serial) == 0);
        do {
                serial = 0;
                if (journal_each_pool(r->journal, note_pool, &serial) < 0)
                        return;
        } while (serial && journal_drop_pool(r->journal, serial) == 0);
}

static int count_left(void *data, const struct journal_environment *row) {
        unsigned *left = data;

        log_error("not ended: %s; reap again, or it ends when the provider ends it",
                  *row->id ? row->id : "an environment whose create was never answered");
        ++*left;
        return 0;
}

static int count_snapshot(void *data, const struct journal_snapshot *row) {
        unsigned *left = data;

        log_error("not deleted: snapshot %s; reap again, or it ends by its own time limit", row->image);
        ++*left;
        return 0;
}

static void sum_up(struct reap *r) {
        const struct pool_totals *totals = pool_totals(core_pool(r->core));
        unsigned left = 0, snapshots_left = 0;

        if (r->options->dry_run) {
                printf("%u environments would be ended, %u leases forgotten\n", r->n_known + r->n_found, r->n_leases);
                return;
        }
        if (journal_each_environment(r->journal, count_left, &left) < 0 || left > 0 ||
            journal_each_snapshot(r->journal, count_snapshot, &snapshots_left) < 0 || snapshots_left > 0)
                r->exit_status = EXIT_FAILURE;
        else if (r->exit_status == EXIT_SUCCESS)
                forget_leases_and_pools(r);
        printf("%u environments ended, %u of them not in the journal; %u left\n",
               r->n_known + (unsigned)totals->orphans - left, (unsigned)totals->orphans, left);
        if (r->n_snapshots > 0)
                printf("%u snapshots deleted; %u left\n", r->n_snapshots - snapshots_left, snapshots_left);
}

int reap(struct config *config, const struct options *options) {
        struct reap r = { .config = config, .options = options, .state = { .lock = -1, .spool = -1 } };
        struct result why;
        bool keep;

        if (set_up(&r, &why) < 0) {
                fail(&r, why.text);
        } else {
                uv_run(&r.loop, UV_RUN_DEFAULT);
                sum_up(&r);
        }
        core_free(r.core);
        backend_free(r.backend);
        backend_client_free(r.client);
        if (r.loop_is_open) {
                uv_walk(&r.loop, close_handle, &r);
                uv_run(&r.loop, UV_RUN_DEFAULT);
                uv_loop_close(&r.loop);
        }
        keep = !r.journal || !journal_is_empty(r.journal);
        journal_close(r.journal);
        state_close(&r.state, keep);
        return r.exit_status;
}
