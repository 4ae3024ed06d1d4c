/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Modal's control plane. Its endpoint sends the token of the account with each call, and fetches no access.
 *
 * One beside each client, whose server it is.
 */

#include "pool/backend/modal/rpc/endpoint.h"

struct modal_control {
        struct modal_client *client;
        struct modal_endpoint endpoint;
};

/* @client has its credentials, and outlives it. */
void modal_control_init(struct modal_control *c, struct modal_client *client);
