/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which sandboxes get the helper by an upload (upload.h), and what follows where one cannot have it. Each has its upload
 * before it is live; one that was adopted after use, after its clean-up.
 */

#include <stdbool.h>
#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/helper/program.h"

struct helper_sandbox;

/* Of a pool: which sandboxes get the helper by an upload, and how many got it. */
struct helper_uploads {
        uv_loop_t *loop;
        bool required;                        /* a sandbox without is not used */
        const struct upload_program *program; /* NULL: none is uploaded */
        struct backend_uploads counts;
        int (*use)(struct helper_sandbox *s);     /* it is there: 0 or -errno */
        void (*answer)(struct helper_sandbox *s); /* an upload has ended; s->result says whether the sandbox may be used */
};

/*
 * There is a program, or a failure to read it: one that is not required is missed in every sandbox, and costs nothing
 * more. 0 or -errno and *why.
 */
int helper_uploads_init(struct helper_uploads *u, bool required, const struct helper_program *program, struct result *why);

bool helper_upload_is_wanted(const struct helper_sandbox *s);

/* True: it is under way, and answer() comes with its end. False: it has failed, and s->result is as with answer(). */
bool helper_upload_begin(struct helper_sandbox *s);

/* The sandbox ends: no answer() comes any more. */
void helper_upload_stop(struct helper_sandbox *s);
