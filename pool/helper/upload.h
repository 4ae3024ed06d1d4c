/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Puts the helper into a sandbox that has none, and starts it: one exec with live input, to which go the key and the
 * program. So the key is in no argument, no variable and no file.
 *
 * The helper lives in the first of a few directories that can be written and where programs can be executed. The script
 * of upload_attach() finds it there.
 *
 * Embedded in its sandbox.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/helper/protocol.h"
#include "pool/util/buf.h"

struct upload;

/* The program, as the owner has it in memory. */
struct upload_program {
        const char *bytes;
        size_t size;
};

struct upload_events {
        /* Ok, or why there is none: then the sandbox is as it was. RESULT_INVALID: the helper cannot run there. */
        void (*done)(struct upload *u, const struct result *r);
        void (*closed)(struct upload *u); /* the memory of it may go */
};

struct upload {
        const struct upload_events *events;
        const struct upload_program *program;
        uv_timer_t timer;
        struct exec *exec; /* NULL: none is under way */
        uint8_t key[HELPER_KEY_SIZE];
        size_t at;       /* bytes of key and program that were written */
        struct buf said; /* by the script, for people */
};

void upload_init(struct upload *u, const struct upload_events *events, uv_loop_t *loop,
                 const struct upload_program *program);

/* Answered by done(), unless it is cancelled. 0 or -errno. */
int upload_start(struct upload *u, struct sandbox *s, const uint8_t key[HELPER_KEY_SIZE]);
void upload_cancel(struct upload *u);

/* Answered by closed(). */
void upload_deinit(struct upload *u);

/* An exec of `attach` in a sandbox with a helper that was uploaded. */
int upload_attach(struct sandbox *s, const struct exec_events *events, void *owner, struct exec **out);
