/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/rpc/control.h"

#include "pool/backend/modal/limits.h"
#include "pool/util/log.h"

#define CLIENT_TYPE "9" /* as Modal's own native SDK for Go: there is none for C */
#define CLIENT_VERSION "1.0.0"

static int metadata(const struct modal_endpoint *e, const struct modal_try *try, struct modal_metadata *out) {
        const struct modal_credentials *who = &e->client->credentials;
        int r = modal_metadata_add(out, "x-modal-client-type: %s", CLIENT_TYPE);

        if (r == 0)
                r = modal_metadata_add(out, "x-modal-client-version: %s", CLIENT_VERSION);
        if (r == 0)
                r = modal_metadata_add(out, "x-modal-token-id: %s", who->token_id);
        if (r == 0)
                r = modal_metadata_add(out, "x-modal-token-secret: %s", who->token_secret);
        if (r == 0)
                r = modal_metadata_add(out, "x-idempotency-key: %s", try->key);
        if (r == 0)
                r = modal_metadata_add(out, "x-retry-attempt: %u", try->failures);
        if (r == 0)
                r = modal_metadata_add(out, "x-throttle-retry-attempt: %u", try->throttled);
        return r;
}

static const struct modal_endpoint_ops control_ops = {
        .service = "/modal.client.ModalClient/",
        .delay_us = CALL_DELAY_MIN_US,
        .delay_max_us = CALL_DELAY_MAX_US,
        .keyed = true,
        .metadata = metadata,
};

void modal_control_init(struct modal_control *c, struct modal_client *client) {
        c->client = client;
        modal_endpoint_init(&c->endpoint, &control_ops, client);
        c->endpoint.url = client->credentials.server_url;
        modal_auth_init(&c->auth, &c->endpoint);
}

void modal_control_deinit(struct modal_control *c) {
        modal_auth_deinit(&c->auth);
}

int modal_control_call(struct modal_control *c, const struct modal_identity *sandbox, const char *method_v2,
                       const struct modal_call_spec *spec, void *owner, struct modal_call **out) {
        struct modal_call_spec v2 = *spec;

        if (!modal_identity_is_v2(sandbox))
                return modal_call_start(&c->endpoint, spec, owner, out);
        v2.method = method_v2;
        v2.sandbox_token = sandbox->token.text;
        return modal_call_start(&c->auth.endpoint, &v2, owner, out);
}

void modal_control_has_no_v2(struct modal_control *c) {
        if (!c->no_v2)
                log_info("modal: this server has no V2 sandboxes");
        c->no_v2 = true;
}
