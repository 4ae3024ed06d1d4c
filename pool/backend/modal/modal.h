/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sandboxes of Modal (modal.com), spoken to natively: gRPC over libcurl.
 *
 *   modal.c                    the table of the backend, its list of sandboxes
 *   client.c                   the connection to Modal: credentials, HTTP, errors in words
 *   start.c                    what start() asks for: app, image, secrets, volumes
 *   sandbox/create.c           a sandbox is created or adopted,
 *   sandbox/sandbox.c          lives and is cleaned,
 *   sandbox/terminate.c        is terminated or left; sandbox/list.c finds them
 *   sandbox/resume-token.c     what a later run needs to take one back
 *   exec/exec.c                a job
 *   exec/process.c             one process: start or resume, output by offset, end
 *   exec/run-script.c          the same for a script of ours
 *   exec/script.c, stdin.c     what runs inside, and its standard input
 *   exec/hold-probe.c          does this router hold calls for a process that it does not know yet?
 *   rpc/call.c                 one call with its retries, over an endpoint:
 *   rpc/endpoint.c, control.c  the control plane,
 *   rpc/router.c, jwt.c        or the router of a sandbox: URL, token, renewal
 *   rpc/counts.c               calls by method and status
 *   wire/                      messages: modal.proto, and what packs and reads them
 *   config/                    credentials, ~/.modal.toml, settings of a sandbox
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
