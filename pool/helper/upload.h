/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Puts the helper into a sandbox that has none, and starts it: one exec with live input, to which go the key and the
 * program. So the key is in no argument, no variable and no file.
 *
 * The helper lives in the first of a few directories that can be written and where programs can be executed. The script
 * of upload_attach() finds it there.
 *
 * It is there while it is under way: upload_start() makes it, and its owner frees it, after done() or before.
 */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/helper/protocol.h"

struct upload;

/* The program, as the owner has it in memory. */
struct upload_program {
        const char *bytes;
        size_t size;
};

struct upload_events {
        /* Ok, or why there is none: then the sandbox is as it was. RESULT_INVALID: the helper cannot run there. */
        void (*done)(void *owner, const struct result *r);
};

struct upload_spec {
        uv_loop_t *loop;
        const struct upload_program *program; /* borrowed until it is freed */
        struct sandbox *sandbox;
        const uint8_t *key; /* HELPER_KEY_SIZE bytes; copied */
};

/* Answered by done(), unless it is freed before. 0 or -errno. */
int upload_start(struct upload **out, const struct upload_spec *spec, const struct upload_events *events, void *owner);

/* Cancels what is under way. NULL is fine. */
void upload_free(struct upload *u);

/* An exec of `attach` in a sandbox with a helper that was uploaded. */
int upload_attach(struct sandbox *s, const struct exec_events *events, void *owner, struct exec **out);
