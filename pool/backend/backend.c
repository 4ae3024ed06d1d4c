/* SPDX-License-Identifier: MIT */
#include "pool/backend/backend.h"

#include <assert.h>
#include <errno.h>

#include "pool/backend/limits.h"

static const char *const state_names[] = {
        [SANDBOX_CREATING] = "creating",
        [SANDBOX_LIVE] = "live",
        [SANDBOX_FAILED] = "failed",
        [SANDBOX_DEAD] = "dead",
        [SANDBOX_ENDING] = "ending",
        [SANDBOX_GONE] = "gone",
};

static const uint32_t next_states[SANDBOX_N_STATES] = {
        [SANDBOX_CREATING] = TRANSITION_TO(SANDBOX_LIVE) | TRANSITION_TO(SANDBOX_FAILED) | TRANSITION_TO(SANDBOX_ENDING),
        [SANDBOX_LIVE] = TRANSITION_TO(SANDBOX_DEAD) | TRANSITION_TO(SANDBOX_ENDING),
        [SANDBOX_FAILED] = TRANSITION_TO(SANDBOX_ENDING),
        [SANDBOX_DEAD] = TRANSITION_TO(SANDBOX_ENDING),
        [SANDBOX_ENDING] = TRANSITION_TO(SANDBOX_GONE),
};

const struct transitions sandbox_transitions = {
        .what = "sandbox",
        .key = "environment",
        .n = SANDBOX_N_STATES,
        .names = state_names,
        .to = next_states,
};

/* The one place where a sandbox changes state. */
static bool sandbox_set_state(struct sandbox *s, enum sandbox_state state) {
        if (!transition_check(&sandbox_transitions, s->id, s->state, state))
                return false;
        s->state = state;
        return true;
}

void backend_client_free(struct backend_client *c) {
        if (!c)
                return;
        assert(c->n_backends == 0);
        c->ops->free(c);
}

void backend_client_each_call(const struct backend_client *c,
                              void (*each)(void *data, const struct backend_calls *calls), void *data) {
        if (c->ops->each_call)
                c->ops->each_call(c, each, data);
}

void backend_client_each_end(const struct backend_client *c, void (*each)(void *data, const struct backend_ends *ends),
                             void *data) {
        if (c->ops->each_end)
                c->ops->each_end(c, each, data);
}

void backend_client_each_warning(const struct backend_client *c,
                                 void (*each)(void *data, const struct backend_warning *warning), void *data) {
        if (c->ops->each_warning)
                c->ops->each_warning(c, each, data);
}

void backend_client_listen(struct backend_client *c, const struct backend_client_events *events, void *owner) {
        c->events = events;
        c->owner = owner;
}

void backend_client_warning(struct backend_client *c, const char *text) {
        if (c->events)
                c->events->warning(c->owner, text);
}

void backend_attach(struct backend *b, struct backend_client *c) {
        b->client = c;
        c->n_backends++;
}

int backend_start(struct backend *b, enum backend_use use, const struct backend_events *events, void *owner) {
        b->events = events;
        b->owner = owner;
        return b->ops->start(b, use);
}

const char *backend_name(const struct backend *b) {
        while (b->inner)
                b = b->inner;
        return b->ops->name;
}

const struct backend_uploads *backend_uploads(const struct backend *b) {
        while (b && !b->ops->uploads)
                b = b->inner;
        return b ? b->ops->uploads(b) : NULL;
}

unsigned backend_count(const struct backend *b) {
        return b->n_sandboxes + (b->inner ? backend_count(b->inner) : 0);
}

void backend_free(struct backend *b) {
        if (!b)
                return;
        assert(backend_count(b) == 0);
        b->client->n_backends--;
        b->ops->free(b);
}

int backend_list(struct backend *b) {
        return b->ops->list ? b->ops->list(b) : -ENOTSUP;
}

static void take(struct backend *b, struct sandbox *s, const struct sandbox_events *events, void *owner) {
        s->backend = b;
        s->events = events;
        s->owner = owner;
        s->state = SANDBOX_CREATING;
        s->plain = !b->ops->exec_offer_input;
        b->n_sandboxes++;
}

int sandbox_create(struct backend *b, const char *nonce, const struct sandbox_events *events, void *owner,
                   struct sandbox **out) {
        int r = b->ops->create(b, nonce, out);

        if (r == 0)
                take(b, *out, events, owner);
        return r;
}

int sandbox_adopt(struct backend *b, const char *nonce, const char *resume_token, bool unused,
                  const struct sandbox_events *events, void *owner, struct sandbox **out) {
        int r = b->ops->adopt ? b->ops->adopt(b, nonce, resume_token, unused, out) : -ENOTSUP;

        if (r == 0)
                take(b, *out, events, owner);
        return r;
}

void sandbox_leave(struct sandbox *s) {
        assert(s->n_execs == 0);
        if (!sandbox_set_state(s, SANDBOX_ENDING))
                return;
        if (s->backend->ops->leave)
                s->backend->ops->leave(s);
        else
                s->backend->ops->destroy(s);
}

void sandbox_destroy(struct sandbox *s) {
        assert(s->n_execs == 0);
        if (!sandbox_set_state(s, SANDBOX_ENDING))
                return;
        s->backend->ops->destroy(s);
}

int sandbox_clean(struct sandbox *s, const char *workdir) {
        int r;

        assert(s->state == SANDBOX_LIVE && !s->cleaning && !s->snapshot && s->n_execs == 0);
        r = s->backend->ops->clean(s, workdir);
        if (r == 0)
                s->cleaning = true;
        return r;
}

int sandbox_snapshot(struct sandbox *s, const char *id, struct snapshot_call *c) {
        int r;

        assert(s->state == SANDBOX_LIVE && !s->cleaning);
        if (s->snapshot)
                return -EBUSY;
        r = s->backend->ops->snapshot ? s->backend->ops->snapshot(s, id) : -EOPNOTSUPP;
        if (r == 0)
                s->snapshot = c;
        return r;
}

int backend_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d) {
        return b->ops->delete_snapshot ? b->ops->delete_snapshot(b, id, image, d) : -ENOENT;
}

bool sandbox_is_single_use(const struct sandbox *s) {
        return s->backend->ops->is_single_use && s->backend->ops->is_single_use(s);
}

static void take_exec(struct sandbox *s, struct exec *e, const struct exec_events *events, void *owner) {
        e->sandbox = s;
        e->events = events;
        e->owner = owner;
        s->n_execs++;
}

static bool has_user(const struct exec_spec *spec) {
        return spec->user && *spec->user;
}

int sandbox_exec(struct sandbox *s, const struct exec_spec *spec, const struct exec_events *events,
                 void *owner, struct exec **out) {
        struct exec *e;
        int r;

        assert(s->state == SANDBOX_LIVE && !s->cleaning);
        assert(*spec->workdir == '/' && *spec->cwd == '/' && spec->shell);
        assert(!spec->live_input || (!spec->input && !spec->resume && events->room));
        assert(!spec->kept_input || (!spec->input && !spec->live_input && events->read_input));
        if (s->plain ? spec->kept_input || spec->rows || has_user(spec) : spec->live_input || (s->one_user && has_user(spec)))
                return -EOPNOTSUPP;
        r = s->backend->ops->exec(s, spec, &e);
        if (r < 0)
                return r;
        take_exec(s, e, events, owner);
        e->live_input = spec->live_input;
        e->kept_input = spec->kept_input;
        *out = e;
        return 0;
}

bool sandbox_has_helper(const struct sandbox *s) {
        return s->backend->ops->attach;
}

int sandbox_attach(struct sandbox *s, const struct exec_events *events, void *owner, struct exec **out) {
        struct exec *e;
        int r;

        assert(s->state == SANDBOX_LIVE && events->room);
        r = s->backend->ops->attach ? s->backend->ops->attach(s, &e) : -ENOTSUP;
        if (r < 0)
                return r;
        take_exec(s, e, events, owner);
        e->live_input = true;
        *out = e;
        return 0;
}

int sandbox_file_call(struct sandbox *s, const struct file_call_args *args, struct file_call *c) {
        assert(!c->cancel && c->done);
        if (s->state != SANDBOX_LIVE || s->cleaning)
                return -ENODEV;
        return s->backend->ops->file_call ? s->backend->ops->file_call(s, args, c) : -EOPNOTSUPP;
}

void sandbox_file_cancel(struct file_call *c) {
        if (c->cancel)
                c->cancel(c);
        assert(!c->cancel);
}

int sandbox_connect(struct sandbox *s, const struct connection_spec *spec, struct connection *c) {
        assert(!c->ops && c->changed);
        if (s->state != SANDBOX_LIVE || s->cleaning)
                return -ENODEV;
        return s->backend->ops->connect ? s->backend->ops->connect(s, spec, c) : -EOPNOTSUPP;
}

void exec_signal(struct exec *e, int signo) {
        if (e->sandbox->state == SANDBOX_LIVE)
                e->sandbox->backend->ops->exec_signal(e, signo);
}

int exec_poll(struct exec *e) {
        assert(e->started);
        if (e->sandbox->state != SANDBOX_LIVE)
                return 0; /* its owner is about to be told */
        return e->sandbox->backend->ops->exec_poll(e);
}

ssize_t exec_write(struct exec *e, const void *data, size_t len) {
        ssize_t n;

        assert(e->live_input && !e->input_ended);
        if (e->sandbox->state != SANDBOX_LIVE)
                return -EPIPE;
        n = e->sandbox->backend->ops->exec_write(e, data, len);
        assert(n <= (ssize_t)len);
        e->wants_room = n >= 0 && n < (ssize_t)len;
        return n;
}

void exec_end_input(struct exec *e) {
        assert(e->live_input);
        if (e->input_ended)
                return;
        e->input_ended = true;
        e->wants_room = false;
        if (e->sandbox->state == SANDBOX_LIVE)
                e->sandbox->backend->ops->exec_end_input(e);
}

void exec_offer_input(struct exec *e, uint64_t size, bool end) {
        assert(e->kept_input && (!e->input_ended || end));
        e->input_ended = end;
        if (e->sandbox->state == SANDBOX_LIVE)
                e->sandbox->backend->ops->exec_offer_input(e, size, end);
}

void exec_resize(struct exec *e, uint16_t rows, uint16_t columns) {
        if (e->sandbox->state == SANDBOX_LIVE)
                e->sandbox->backend->ops->exec_resize(e, rows, columns);
}

void exec_hold_output(struct exec *e, bool hold) {
        if (e->held == hold)
                return;
        e->held = hold;
        if (e->sandbox->state == SANDBOX_LIVE)
                e->sandbox->backend->ops->exec_hold_output(e);
}

void exec_kill(struct exec *e, int64_t grace_us) {
        if (e->sandbox->state == SANDBOX_LIVE)
                e->sandbox->backend->ops->exec_kill(e, clock_earlier(grace_us, GRACE_MAX_US));
}

void exec_cancel(struct exec *e) {
        e->sandbox->n_execs--;
        e->sandbox->backend->ops->exec_cancel(e);
}

void backend_ready(struct backend *b, const struct result *r) {
        b->events->ready(b->owner, r);
}

void backend_notice(struct backend *b, const char *line) {
        b->events->notice(b->owner, line);
}

void backend_found(struct backend *b, const struct sandbox_found *found) {
        b->events->found(b->owner, found);
}

void backend_listed(struct backend *b, const struct result *r) {
        b->events->listed(b->owner, r);
}

void sandbox_created(struct sandbox *s, const struct result *r) {
        if (sandbox_set_state(s, result_ok(r) ? SANDBOX_LIVE : SANDBOX_FAILED))
                s->events->created(s->owner, r);
}

void sandbox_snapshotted(struct sandbox *s, const struct result *r, const char *image) {
        struct snapshot_call *c = s->snapshot;

        if (!c)
                return;
        s->snapshot = NULL;
        c->done(c, r, result_ok(r) ? image : NULL);
}

/* What was under way has no other end. */
static void lose_snapshot(struct sandbox *s, const char *what) {
        struct result why;

        result_set(&why, RESULT_LOST, "environment %s %s while the snapshot was being taken", s->id, what);
        sandbox_snapshotted(s, &why, NULL);
}

void sandbox_died(struct sandbox *s, const struct result *why) {
        if (!sandbox_set_state(s, SANDBOX_DEAD))
                return;
        lose_snapshot(s, "died");
        s->events->died(s->owner, why);
}

void sandbox_cleaned(struct sandbox *s, const struct result *r, const struct sandbox_changes *changes) {
        static const struct sandbox_changes none;

        assert(s->cleaning);
        assert(!changes || changes->len == 0 || result_ok(r));
        s->cleaning = false;
        if (s->state == SANDBOX_LIVE)
                s->events->cleaned(s->owner, r, changes ?: &none);
}

void sandbox_destroyed(struct sandbox *s, const struct result *r) {
        if (!sandbox_set_state(s, SANDBOX_GONE))
                return;
        lose_snapshot(s, "was ended");
        s->backend->n_sandboxes--;
        s->events->destroyed(s->owner, r);
}

void exec_started(struct exec *e) {
        assert(!e->started);
        e->started = true;
        e->events->started(e->owner);
}

void exec_output(struct exec *e, enum stream stream, const void *data, size_t len) {
        e->events->output(e->owner, stream, data, len);
}

void exec_ended(struct exec *e, const struct result *r, int code) {
        assert(!e->held);
        e->sandbox->n_execs--;
        e->events->ended(e->owner, r, code);
}

void exec_no_cwd(struct result *r, const char *cwd) {
        result_set(r, RESULT_OK, "cwd: %s is not a directory there", cwd);
}

void exec_polled(struct exec *e, bool running) {
        e->events->polled(e->owner, running);
}

void exec_input_taken(struct exec *e, uint64_t offset, bool closed) {
        e->events->input_taken(e->owner, offset, closed);
}

void exec_room(struct exec *e) {
        if (!e->wants_room)
                return;
        e->wants_room = false;
        e->events->room(e->owner);
}
