/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sandboxes of Modal (modal.com), spoken to natively: gRPC over libcurl.
 *
 *   modal.c             the backend: made, named, its errors in words, its list
 *   modal-start.c       what start() asks for
 *   modal-birth.c       a sandbox is created or adopted
 *   modal-sandbox.c     … lives, and is cleaned
 *   modal-end.c         … is terminated or left
 *   modal-exec.c        a job in it
 *   modal-process.c     one process in it: start or resume, output by offset, input, end
 *   modal-riddle.c      may these be asked for together with the start?
 *   modal-call.c        one call with its retries, to the control plane or a router
 *   modal-router.c      the way to a sandbox's router: URL, token, their renewal
 *   modal-codec*.c      messages; modal-script.c: what runs inside; modal-ticket.c: what outlives us
 *   modal-messages.c, modal-listing.c, modal-count.c, modal-feed.c, modal-settings.c,
 *   modal-credentials.c, modal-toml.c, modal-jwt.c
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "pool/backend/backend.h"

/* Strings are copied; "" or NULL is not given. Lists have + between their members. */
struct modal_options {
        const char *config_file, *profile, *server_url, *token_id, *token_secret, *environment, *cafile;
        const char *app, *image, *dockerfile;
        const char *shell;          /* has to be in the image; "": any */
        const char *cpu;            /* cores, "0.5" */
        uint64_t memory;            /* bytes */
        const char *gpu;            /* "A100" or "A100:2" */
        const char *region, *cloud;
        const char *secrets;        /* names */
        const char *volumes;        /* NAME:/PATH or NAME:/PATH:ro */
        bool block_network;
        const char *cidr_allowlist;
        int64_t lifetime_us, idle_timeout_us;
        const char *pool_id;        /* a UUID: sandboxes with this tag are ours, to take back and to end */
        const char *mountpoint;     /* for the tags that people read */
};

/* 0, or -errno with @why filled in. */
int modal_new(struct backend **out, uv_loop_t *loop, const struct modal_options *options, struct result *why);
