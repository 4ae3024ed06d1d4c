/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sandboxes of Modal (modal.com), spoken to natively: gRPC over libcurl.
 *
 * It is two objects: a client, the connection to Modal with the account's credentials, of which a mount needs one; and a
 * template, what the sandboxes of a pool are made of, one for each pool. Sandboxes are made by a template.
 *
 *   modal.c                    the table of the backend; makes the two objects
 *   exec/exec.c                a job
 *   sandbox/sandbox.c          one sandbox, and its parts:
 *   sandbox/create.c             created or adopted,
 *   sandbox/request.c              by a request for a sandbox of the kind V2, or V1,
 *   sandbox/liveness.c           polled whether it lives,
 *   sandbox/cleanup.c            cleaned,
 *   sandbox/snapshot.c           copied to an image,
 *   sandbox/terminate.c          terminated, also when its create was not answered
 *   sandbox/resume-token.c       what a later run needs to take it back
 *   template.c                 app, image, secrets, volumes are looked up; the list of the pool's sandboxes
 *   sandbox/list.c             all sandboxes with one tag
 *   image.c                    images of snapshots are deleted
 *   exec/process.c             the processes of a sandbox: start or resume, output by offset, end
 *   exec/input.c               their input, also as it comes
 *   exec/run-script.c          a script of ours as one of them
 *   exec/script.c, stdin.c     what runs inside, and its standard input
 *   rpc/router.c               the router of a sandbox as an endpoint: URL, token, renewal
 *   rpc/control.c, auth.c      the control plane as an endpoint, and as one for V2 sandboxes, with a token more
 *   rpc/jwt.c                  when a token ends
 *   rpc/call.c, endpoint.c     one call with its retries, over an endpoint
 *   identity.c                 what a sandbox is known by, and of which kind it is
 *   client.c                   the connection: credentials, HTTP, errors in words
 *   warnings.c                 what Modal warns of
 *   rpc/counts.c, ends.c       calls by method and status, ends of sandboxes by cause
 *   wire/                      messages: modal.proto, and what packs and reads them
 *   config/                    options: credentials, ~/.modal.toml, settings of a template
 *
 * A file calls only files below it in this list.
 */

#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/base/option.h"

struct modal_client_options;
struct modal_options;

extern const struct option_table modal_client_options; /* of the client; the values: struct modal_client_options */
extern const struct option_table modal_options;        /* of a template; the values: struct modal_options */

/* 0, or -errno with @why filled in. */
int modal_client_new(struct backend_client **out, uv_loop_t *loop, const struct modal_client_options *options,
                     struct result *why);

/* @client: made by modal_client_new(). 0, or -errno with @why filled in. */
int modal_new(struct backend **out, struct backend_client *client, const struct modal_options *options,
              const struct backend_setup *setup, struct result *why);
