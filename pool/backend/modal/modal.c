/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/modal.h"

#include <errno.h>
#include <stdlib.h>

#include "pool/backend/modal/client.h"
#include "pool/backend/modal/exec/exec.h"
#include "pool/backend/modal/image.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/sandbox/sandbox.h"
#include "pool/backend/modal/template.h"

/* The client, with what its templates share beside it. */
struct modal {
        struct backend_client backend_client;
        struct modal_client client;
        struct modal_control control;
        struct modal_liveness_queue liveness_queue;
};

static void client_free(struct backend_client *c) {
        struct modal *m = container_of(c, struct modal, backend_client);

        modal_control_deinit(&m->control);
        modal_client_deinit(&m->client);
        free(m);
}

static void each_call(const struct backend_client *c, void (*each)(void *data, const struct backend_calls *calls),
                      void *data) {
        modal_counts_each(&container_of(c, const struct modal, backend_client)->client.counts, each, data);
}

static void each_end(const struct backend_client *c, void (*each)(void *data, const struct backend_ends *ends), void *data) {
        modal_ends_each(&container_of(c, const struct modal, backend_client)->client.ends, each, data);
}

static void each_warning(const struct backend_client *c, void (*each)(void *data, const struct backend_warning *warning),
                         void *data) {
        modal_warnings_each(&container_of(c, const struct modal, backend_client)->client.warnings, each, data);
}

static void on_warned(struct modal_client *c, const char *text) {
        backend_client_warning(&container_of(c, struct modal, client)->backend_client, text);
}

static const struct backend_client_ops client_ops = {
        .free = client_free,
        .each_call = each_call,
        .each_end = each_end,
        .each_warning = each_warning,
};

int modal_client_new(struct backend_client **out, uv_loop_t *loop, const struct modal_client_options *o,
                     struct result *why) {
        struct modal *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->backend_client.ops = &client_ops;
        m->client.warned = on_warned;
        modal_liveness_queue_init(&m->liveness_queue);
        r = modal_client_init(&m->client, loop, o, why);
        if (r < 0) {
                client_free(&m->backend_client);
                return r;
        }
        modal_control_init(&m->control, &m->client);
        *out = &m->backend_client;
        return 0;
}

static void template_free(struct backend *b) {
        struct modal_template *t = modal_template_of(b);

        modal_template_deinit(t);
        free(t);
}

static int delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d) {
        return modal_image_delete(modal_template_of(b)->control, image, d);
}

static const struct backend_ops modal_ops = {
        .name = "modal",
        .start = modal_template_start,
        .free = template_free,
        .create = modal_sandbox_create,
        .adopt = modal_sandbox_adopt,
        .list = modal_template_list,
        .leave = modal_sandbox_leave,
        .destroy = modal_sandbox_destroy,
        .is_single_use = modal_sandbox_is_single_use,
        .clean = modal_sandbox_clean,
        .snapshot = modal_sandbox_snapshot,
        .delete_snapshot = delete_snapshot,
        .exec = modal_exec,
        .exec_signal = modal_exec_signal,
        .exec_poll = modal_exec_poll,
        .exec_write = modal_exec_write,
        .exec_end_input = modal_exec_end_input,
        .exec_hold_output = modal_exec_hold_output,
        .exec_kill = modal_exec_kill,
        .exec_cancel = modal_exec_cancel,
};

int modal_new(struct backend **out, struct backend_client *c, const struct modal_options *o,
              const struct backend_setup *setup, struct result *why) {
        struct modal *m = container_of(c, struct modal, backend_client);
        struct modal_template *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return -ENOMEM;
        t->backend.ops = &modal_ops;
        r = modal_template_init(t, &m->control, &m->liveness_queue, o, setup, why);
        if (r < 0) {
                template_free(&t->backend);
                return r;
        }
        backend_attach(&t->backend, c);
        *out = &t->backend;
        return 0;
}
