/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/modal.h"

#include <errno.h>
#include <stdlib.h>

#include "pool/backend/modal/client.h"
#include "pool/backend/modal/exec/exec.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/sandbox/sandbox.h"
#include "pool/backend/modal/template.h"

struct modal {
        struct modal_client client;
        struct modal_endpoint control;
        struct modal_liveness_queue liveness_queue;
        struct modal_template template;
};

static void modal_free(struct backend *b) {
        struct modal *m = container_of(modal_template_of(b), struct modal, template);

        modal_template_deinit(&m->template);
        modal_client_deinit(&m->client);
        free(m);
}

static void modal_each_call(const struct backend *b, void (*each)(void *data, const struct backend_calls *calls),
                            void *data) {
        modal_counts_each(&container_of(b, const struct modal, template.backend)->client.counts, each, data);
}

static const struct backend_ops modal_ops = {
        .name = "modal",
        .start = modal_template_start,
        .free = modal_free,
        .create = modal_sandbox_create,
        .adopt = modal_sandbox_adopt,
        .list = modal_template_list,
        .leave = modal_sandbox_leave,
        .each_call = modal_each_call,
        .destroy = modal_sandbox_destroy,
        .clean = modal_sandbox_clean,
        .exec = modal_exec,
        .exec_signal = modal_exec_signal,
        .exec_poll = modal_exec_poll,
        .exec_write = modal_exec_write,
        .exec_end_input = modal_exec_end_input,
        .exec_hold_output = modal_exec_hold_output,
        .exec_kill = modal_exec_kill,
        .exec_cancel = modal_exec_cancel,
};

int modal_new(struct backend **out, uv_loop_t *loop, const struct modal_options *o, struct result *why) {
        struct modal *m = calloc(1, sizeof(*m));
        int r;

        if (!m)
                return -ENOMEM;
        m->template.backend.ops = &modal_ops;
        modal_liveness_queue_init(&m->liveness_queue);
        r = modal_client_init(&m->client, loop, o->cafile,
                              &(struct modal_given){
                                      .file = o->config_file,
                                      .profile = o->profile,
                                      .server_url = o->server_url,
                                      .token_id = o->token_id,
                                      .token_secret = o->token_secret,
                                      .environment = o->environment,
                              },
                              why);
        modal_control_init(&m->control, &m->client);
        if (r == 0)
                r = modal_template_init(&m->template, &m->control, &m->liveness_queue, o, why);
        if (r < 0) {
                modal_free(&m->template.backend);
                return r;
        }
        *out = &m->template.backend;
        return 0;
}
