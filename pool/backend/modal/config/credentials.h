/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Who we are to Modal, and where Modal is.
 *
 * What was given (environment or config file) counts; the rest comes from a
 * profile of ~/.modal.toml: the one named, else the one with active = true,
 * else one called "default".
 */

#include <stdbool.h>

#include "pool/backend/modal/modal.h"
#include "pool/util/result.h"

/* The options of a client; "" is not given. */
struct modal_client_options {
        char *config_file; /* instead of ~/.modal.toml */
        char *profile;     /* of it */
        char *server_url, *token_id, *token_secret, *environment;
        char *cafile;      /* authorities to trust beside the system's */
};

struct modal_credentials {
        char *server_url, *token_id, *token_secret;
        char *environment; /* "" is the account's default */
        bool plain;        /* the server is on this machine and is spoken to without TLS */
};

/* 0, or -errno with @why: a file that is no TOML, no such profile, no token. */
int modal_credentials_init(struct modal_credentials *c, const struct modal_client_options *given, struct result *why);

/* Also wipes the secret from memory. */
void modal_credentials_deinit(struct modal_credentials *c);
