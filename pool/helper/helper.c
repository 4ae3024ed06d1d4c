/* SPDX-License-Identifier: MIT */
#include "pool/helper/helper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/helper/connection.h"
#include "pool/helper/exec.h"
#include "pool/helper/file-call.h"
#include "pool/helper/sandbox.h"
#include "pool/helper/token.h"
#include "pool/helper/uploads.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/uuid.h"

struct helper {
        struct backend backend;
        uv_loop_t *loop;
        const struct helper_options *options;
        char pool_id[HELPER_POOL_MAX + 1];
        uint64_t epoch;
        struct helper_uploads uploads;
        struct helper_notes notes;
};

static struct helper *helper_of(struct backend *b) {
        return container_of(b, struct helper, backend);
}

/* a sandbox's carrier */

static struct helper_sandbox *of_carrier(struct carrier *c) {
        return container_of(c, struct helper_sandbox, carrier);
}

static int attach(struct carrier *c, const struct exec_events *events, void *owner, struct exec **out) {
        struct helper_sandbox *s = of_carrier(c);

        if (s->mode == HELPER_BUILT_IN)
                return sandbox_attach(s->inner, events, owner, out);
        return upload_attach(s->inner, events, owner, out);
}

/* Once all calls are answered. */
static void end_use_of_files(struct helper_sandbox *s) {
        if (!s->uses_files || client_has_calls(s->carrier.client))
                return;
        s->uses_files = false;
        carrier_release(&s->carrier, false);
}

static void end_files(struct helper_sandbox *s, int error) {
        if (!s->carrier.client)
                return;
        client_calls_end(s->carrier.client, error);
        end_use_of_files(s);
}

static void give_cleaned(struct helper_sandbox *s) {
        static const struct sandbox_changes none;
        _cleanup_(cleanup_free) struct sandbox_changes *changes = TAKE_PTR(s->changes);
        struct result r = result_saved(&s->result);

        result_drop(&s->result);
        sandbox_cleaned(&s->sandbox, &r, changes ?: &none);
}

static void on_turn(struct carrier *c) {
        struct helper_sandbox *s = of_carrier(c);

        helper_execs_turn(s);
        helper_note_turn(s);
        end_use_of_files(s);
        if (!s->cleaned)
                return;
        s->cleaned = false;
        carrier_release(c, true);
        carrier_end_idle_time(c); /* nobody has the sandbox now */
        give_cleaned(s);
}

static void on_opened(struct carrier *c) {
        helper_execs_opened(of_carrier(c));
}

static void on_replied(struct carrier *c, uint64_t request) {
        helper_execs_replied(of_carrier(c), request);
}

/* Of the clean-up that is under way. One of which nobody could be told what it found has failed. */
static void keep_result(struct helper_sandbox *s, const struct result *r, const struct sandbox_changes *changes) {
        struct result no_memory;

        result_save(&s->result, r);
        free(TAKE_PTR(s->changes));
        if (changes->len == 0)
                return;
        s->changes = malloc(sizeof(*changes));
        if (s->changes) {
                *s->changes = *changes;
                return;
        }
        result_set(&no_memory, RESULT_FAILED, "environment %s: out of memory", s->sandbox.id);
        result_save(&s->result, &no_memory);
}

/* Paths, each with a final NUL, as it was asked for; whoever is inside may have written anything. */
static void read_changes(struct sandbox_changes *changes, const char *text, size_t len) {
        const char *next = text, *path;

        while ((path = spec_string(&next, text + len)))
                sandbox_changes_add(changes, path);
        if (changes->len == 0)
                sandbox_changes_add(changes, "/");
}

static void on_helper_cleaned(struct carrier *c, int error, const char *text, size_t len) {
        struct helper_sandbox *s = of_carrier(c);
        struct sandbox_changes changes = {};
        struct result r = {};

        if (error == ESTALE)
                read_changes(&changes, text, len);
        else if (error)
                result_set(&r, RESULT_FAILED, "environment %s: %.*s", s->sandbox.id, (int)len, text);
        s->cleaned = true;
        keep_result(s, &r, &changes);
        carrier_wake(c);
}

static void on_helper_noted(struct carrier *c, int error, const char *text, size_t len) {
        helper_note_answered(of_carrier(c), error, text, len);
}

static void on_gone(struct carrier *c, const struct result *why) {
        struct helper_sandbox *s = of_carrier(c);

        helper_note_stop(s);
        if (s->sandbox.state == SANDBOX_CREATING)
                sandbox_created(&s->sandbox, why);
        else if (s->sandbox.state == SANDBOX_LIVE)
                sandbox_died(&s->sandbox, why);
        end_files(s, ENODEV);
        helper_connections_end(s, ENODEV);
}

static void free_when_closed(struct helper_sandbox *s) {
        if (--s->n_handles > 0)
                return;
        explicit_bzero(s->key, sizeof(s->key));
        result_drop(&s->result);
        free(s->changes);
        free(s->resume_token);
        free(s);
}

static void on_carrier_closed(struct carrier *c) {
        free_when_closed(of_carrier(c));
}

static const struct carrier_events carrier_events = {
        .attach = attach,
        .turn = on_turn,
        .opened = on_opened,
        .replied = on_replied,
        .cleaned = on_helper_cleaned,
        .noted = on_helper_noted,
        .gone = on_gone,
        .closed = on_carrier_closed,
};

/* what a sandbox's jobs are run by */

static void take_names(struct helper_sandbox *s) {
        bool serial = s->mode == HELPER_PLAIN ? s->inner->serial : helper_of(s->sandbox.backend)->options->use == HELPER_NO;

        memcpy(s->sandbox.id, s->inner->id, sizeof(s->sandbox.id));
        s->sandbox.plain = s->mode == HELPER_PLAIN;
        s->sandbox.one_user = s->inner->one_user;
        s->sandbox.serial = serial;
        s->sandbox.expires_us = s->inner->expires_us;
        s->sandbox.resume_token = s->resume_token ?: s->inner->resume_token;
}

/* From now on by a helper that is there. 0 or -errno. */
static int use_helper(struct helper_sandbox *s, enum helper_mode mode) {
        struct helper *h = helper_of(s->sandbox.backend);
        int r = s->carrier.client ? 0 : carrier_start(&s->carrier, s->key, h->pool_id, h->epoch);

        if (r == 0 && s->inner->resume_token && !s->resume_token) {
                s->resume_token = token_make(s->key, s->inner->resume_token);
                r = s->resume_token ? 0 : -ENOMEM;
                if (r == 0 && s->note == HELPER_NOTE_DONE)
                        token_set_noted(s->resume_token);
        }
        if (r == 0)
                s->mode = mode;
        return r;
}

static int use_uploaded(struct helper_sandbox *s) {
        return use_helper(s, HELPER_UPLOADED);
}

/* What waited for the helper: the sandbox's creation, or its clean-up. */
static void answer(struct helper_sandbox *s) {
        struct result r = result_saved(&s->result);

        take_names(s);
        if (s->sandbox.cleaning)
                give_cleaned(s);
        else if (!result_ok(&r) || s->mode == HELPER_PLAIN || s->adopted || !helper_note_begin(s))
                sandbox_created(&s->sandbox, &r);
}

static void on_note_released(struct helper_sandbox *s) {
        static const struct result ok;

        if (s->sandbox.state == SANDBOX_CREATING)
                sandbox_created(&s->sandbox, &ok);
}

/* a sandbox's events */

static int use_helper_that_is_there(struct helper_sandbox *s) {
        if (sandbox_has_helper(s->inner))
                return use_helper(s, HELPER_BUILT_IN);
        return s->mode == HELPER_UPLOADED ? use_uploaded(s) : 0;
}

static void on_created(void *owner, const struct result *r) {
        struct helper_sandbox *s = owner;
        struct result no_memory;

        if (s->sandbox.state != SANDBOX_CREATING)
                return;
        take_names(s);
        result_save(&s->result, r);
        if (result_ok(r) && use_helper_that_is_there(s) < 0) {
                result_set(&no_memory, RESULT_FAILED, "environment %s: out of memory", s->inner->id);
                result_save(&s->result, &no_memory);
        }
        /* What an earlier run has started in one without a helper is gone on with before that changes. */
        if (result_ok(r) && !s->used && helper_upload_is_wanted(s) && helper_upload_begin(s))
                return;
        answer(s);
}

static void on_died(void *owner, const struct result *why) {
        struct helper_sandbox *s = owner;

        helper_upload_stop(s);
        helper_note_stop(s);
        carrier_stop(&s->carrier);
        if (s->sandbox.state == SANDBOX_CREATING)
                sandbox_created(&s->sandbox, why);
        else if (s->sandbox.state == SANDBOX_LIVE)
                sandbox_died(&s->sandbox, why);
        end_files(s, ENODEV);
        helper_connections_end(s, ENODEV);
}

/* One without a helper. */
static void on_cleaned(void *owner, const struct result *r, const struct sandbox_changes *changes) {
        struct helper_sandbox *s = owner;

        keep_result(s, r, changes);
        if (result_ok(r) && helper_upload_is_wanted(s) && helper_upload_begin(s))
                return;
        answer(s);
}

static void on_hold_closed(uv_handle_t *handle) {
        free_when_closed(container_of((uv_timer_t *)handle, struct helper_sandbox, hold));
}

static void give_destroyed(struct helper_sandbox *s, const struct result *r) {
        sandbox_destroyed(&s->sandbox, r);
        carrier_deinit(&s->carrier);
        helper_upload_stop(s);
        uv_close((uv_handle_t *)&s->hold, on_hold_closed);
}

static void on_destroyed(void *owner, const struct result *r) {
        struct helper_sandbox *s = owner;

        s->inner = NULL;
        give_destroyed(s, r);
}

static const struct sandbox_events inner_sandbox_events = {
        .created = on_created,
        .died = on_died,
        .cleaned = on_cleaned,
        .destroyed = on_destroyed,
};

/* its owner's calls */

/* The key is that of a helper that the backend below starts; one that is uploaded has another. */
static struct helper_sandbox *sandbox_new(struct helper *h, const char *nonce) {
        struct helper_sandbox *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->sandbox.backend = &h->backend;
        s->uploads = &h->uploads;
        s->notes = &h->notes;
        list_init(&s->execs);
        uuid_bytes(nonce, s->key);
        return s;
}

/* There is one below. */
static void sandbox_begin(struct helper_sandbox *s) {
        struct helper *h = helper_of(s->sandbox.backend);

        take_names(s);
        carrier_init(&s->carrier, &carrier_events, h->loop, s->sandbox.id, h->options->carrier_idle_us);
        uv_timer_init(h->loop, &s->hold);
        uv_unref((uv_handle_t *)&s->hold);
        s->n_handles = 2;
}

static int helper_create(struct backend *b, const char *nonce, struct sandbox **out) {
        struct helper_sandbox *s = sandbox_new(helper_of(b), nonce);
        int r;

        if (!s)
                return -ENOMEM;
        r = sandbox_create(b->inner, nonce, &inner_sandbox_events, s, &s->inner);
        if (r < 0) {
                free(s);
                return r;
        }
        sandbox_begin(s);
        *out = &s->sandbox;
        return 0;
}

static int helper_adopt(struct backend *b, const char *nonce, const char *resume_token, bool unused, struct sandbox **out) {
        struct helper_sandbox *s = sandbox_new(helper_of(b), nonce);
        bool has_key, noted;
        int r;

        if (!s)
                return -ENOMEM;
        s->adopted = true;
        s->used = !unused;
        r = sandbox_adopt(b->inner, nonce, token_read(resume_token, s->key, &has_key, &noted), unused, &inner_sandbox_events, s,
                          &s->inner);
        if (r < 0) {
                free(s);
                return r;
        }
        s->mode = has_key ? HELPER_UPLOADED : HELPER_PLAIN;
        s->note = noted ? HELPER_NOTE_DONE : HELPER_NOTE_NONE;
        sandbox_begin(s);
        *out = &s->sandbox;
        return 0;
}

/* Nothing uses the sandbox any more, and nothing will. */
static void end_use(struct helper_sandbox *s) {
        helper_upload_stop(s);
        helper_note_stop(s);
        carrier_stop(&s->carrier);
        end_files(s, ENODEV);
        helper_connections_end(s, ENODEV);
        helper_execs_drop(s);
}

static void helper_leave(struct sandbox *sandbox) {
        struct helper_sandbox *s = helper_sandbox_of(sandbox);

        end_use(s);
        sandbox_leave(s->inner);
}

/* One that a newer daemon has is that daemon's to destroy. */
static void helper_destroy(struct sandbox *sandbox) {
        struct helper_sandbox *s = helper_sandbox_of(sandbox);
        bool taken = s->carrier.stale;

        end_use(s);
        if (taken)
                sandbox_leave(s->inner);
        else
                sandbox_destroy(s->inner);
}

static bool helper_is_single_use(const struct sandbox *sandbox) {
        const struct helper_sandbox *s = container_of(sandbox, struct helper_sandbox, sandbox);

        if (s->mode == HELPER_PLAIN)
                return s->inner && sandbox_is_single_use(s->inner);
        return helper_note_is_missing(s);
}

static int helper_clean(struct sandbox *sandbox, const char *workdir) {
        struct helper_sandbox *s = helper_sandbox_of(sandbox);
        struct client_cleanup what;
        int r;

        if (s->mode == HELPER_PLAIN)
                return sandbox_clean(s->inner, workdir);
        helper_execs_drop(s);
        end_files(s, ESTALE);
        helper_connections_end(s, ESTALE);
        helper_note_spoil(s);
        helper_note_cleanup(s, workdir, &what);
        r = client_clean(s->carrier.client, &what);
        if (r == 0)
                carrier_use(&s->carrier);
        return r;
}

static int helper_file_call(struct sandbox *sandbox, const struct file_call_args *args, struct file_call *call) {
        struct helper_sandbox *s = helper_sandbox_of(sandbox);
        int r;

        if (s->mode == HELPER_PLAIN)
                return -EOPNOTSUPP;
        helper_note_spoil(s);
        r = client_call(s->carrier.client, args, call);
        if (r == 0 && !s->uses_files) {
                s->uses_files = true;
                carrier_use(&s->carrier);
        }
        if (r == 0)
                carrier_wake(&s->carrier);
        return r;
}

/* snapshots */

static void on_snapshotted(struct snapshot_call *c, const struct result *r, const char *image) {
        struct helper_sandbox *s = container_of(c, struct helper_sandbox, snapshot);

        sandbox_snapshotted(&s->sandbox, r, image);
}

/* One that does not live any more has another end: see backend.c. */
static void on_barrier(struct file_call *c, int error, const void *data, size_t len) {
        struct helper_sandbox *s = container_of(c, struct helper_sandbox, barrier);
        struct result why;
        int r;

        if (s->sandbox.state != SANDBOX_LIVE)
                return;
        r = error ? -error : sandbox_snapshot(s->inner, s->snapshot_id, &s->snapshot);
        if (r == 0)
                return;
        result_set(&why, RESULT_FAILED, "environment %s: no snapshot: %s", s->sandbox.id, strerror(-r));
        sandbox_snapshotted(&s->sandbox, &why, NULL);
}

static int helper_snapshot(struct sandbox *sandbox, const char *id) {
        struct helper_sandbox *s = helper_sandbox_of(sandbox);
        int r;

        s->snapshot.done = on_snapshotted;
        if (!s->uses_files)
                return sandbox_snapshot(s->inner, id, &s->snapshot);
        s->barrier.done = on_barrier;
        snprintf(s->snapshot_id, sizeof(s->snapshot_id), "%s", id);
        r = client_call(s->carrier.client, &(struct file_call_args){ .op = FILE_OP_NONE }, &s->barrier);
        if (r == 0)
                carrier_wake(&s->carrier);
        return r;
}

static int helper_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d) {
        return backend_delete_snapshot(b->inner, id, image, d);
}

/* the backend */

static void on_inner_ready(void *owner, const struct result *r) {
        struct helper *h = owner;

        backend_ready(&h->backend, r);
}

static void on_inner_notice(void *owner, const char *line) {
        struct helper *h = owner;

        backend_notice(&h->backend, line);
}

static void on_inner_found(void *owner, const struct sandbox_found *found) {
        struct helper *h = owner;

        backend_found(&h->backend, found);
}

static void on_inner_listed(void *owner, const struct result *r) {
        struct helper *h = owner;

        backend_listed(&h->backend, r);
}

static const struct backend_events inner_backend_events = {
        .ready = on_inner_ready,
        .notice = on_inner_notice,
        .found = on_inner_found,
        .listed = on_inner_listed,
};

/* Nothing can compare. */
static void say_what_clean_means(struct helper *h) {
        const struct backend_ops *inner = h->backend.inner->ops;

        if (h->notes.compare && inner->is_single_use && !inner->attach && !h->uploads.program)
                log_warning("reset=clean acts as reset=environment, because only a helper can compare (option helper): each lease "
                            "gets an environment of its own; reset=workdir lends environments again");
}

static int helper_start(struct backend *b, enum backend_use use) {
        if (use == BACKEND_TO_CREATE)
                say_what_clean_means(helper_of(b));
        return backend_start(b->inner, use, &inner_backend_events, helper_of(b));
}

static int helper_list(struct backend *b) {
        return backend_list(b->inner);
}

static const struct backend_uploads *helper_uploads(const struct backend *b) {
        return &container_of((struct backend *)b, struct helper, backend)->uploads.counts;
}

static void helper_free(struct backend *b) {
        struct helper *h = helper_of(b);

        backend_free(b->inner);
        helper_notes_deinit(&h->notes);
        free(h);
}

static const struct backend_ops helper_ops = {
        .name = "helper",
        .start = helper_start,
        .free = helper_free,
        .create = helper_create,
        .adopt = helper_adopt,
        .list = helper_list,
        .uploads = helper_uploads,
        .leave = helper_leave,
        .destroy = helper_destroy,
        .is_single_use = helper_is_single_use,
        .clean = helper_clean,
        .snapshot = helper_snapshot,
        .delete_snapshot = helper_delete_snapshot,
        .exec = helper_exec,
        .file_call = helper_file_call,
        .connect = helper_connect,
        .exec_signal = helper_exec_signal,
        .exec_poll = helper_exec_poll,
        .exec_write = helper_exec_write,
        .exec_end_input = helper_exec_end_input,
        .exec_offer_input = helper_exec_offer_input,
        .exec_resize = helper_exec_resize,
        .exec_hold_output = helper_exec_hold_output,
        .exec_kill = helper_exec_kill,
        .exec_cancel = helper_exec_cancel,
};

static int helper_init(struct helper *h, const struct backend_setup *setup, const struct helper_program *program,
                       struct result *why) {
        int r = helper_notes_init(&h->notes, setup, on_note_released);

        h->uploads = (struct helper_uploads){ .loop = h->loop, .use = use_uploaded, .answer = answer };
        if (r == 0 && h->options->use != HELPER_NO)
                r = helper_uploads_init(&h->uploads, h->options->use == HELPER_YES, program, why);
        return r;
}

int helper_new(struct backend **backend, uv_loop_t *loop, const struct helper_options *options,
               const struct backend_setup *setup, const struct helper_program *program, struct result *why) {
        struct helper *h = calloc(1, sizeof(*h));
        int r;

        if (!h)
                return -ENOMEM;
        h->backend.ops = &helper_ops;
        h->loop = loop;
        h->options = options;
        h->epoch = setup->epoch;
        snprintf(h->pool_id, sizeof(h->pool_id), "%s", setup->pool_id);
        r = helper_init(h, setup, program, why);
        if (r < 0) {
                helper_notes_deinit(&h->notes);
                free(h);
                return r;
        }
        h->backend.inner = *backend;
        backend_attach(&h->backend, (*backend)->client);
        *backend = &h->backend;
        return 0;
}
