/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Modal's control plane as an endpoint: the token of the account goes with each call, and no access is fetched.
 *
 * One beside each client, whose server it is. An endpoint that needs more than the token, and has to ask the control
 * plane for it, is another endpoint over this one, as a router is.
 */

#include "pool/backend/modal/rpc/endpoint.h"

/* @client has its credentials, and outlives it. */
void modal_control_init(struct modal_endpoint *e, struct modal_client *client);
