/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Warnings that Modal sends beside its answers, such as that something is deprecated. Embedded in the client.
 *
 * The WARNINGS_MAX that came last are kept. In an hour at most WARNINGS_NEW_MAX new ones are taken, so that a server
 * whose warnings all differ does not fill the log; others are left out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/limits.h"

struct modal_warning {
        char text[WARNING_LEN_MAX];
        uint64_t n;
        int64_t last_us;
};

struct modal_warnings {
        struct modal_warning kept[WARNINGS_MAX]; /* the one that came last is the first */
        size_t n;
        unsigned n_new;     /* new ones since … */
        int64_t since_us;   /* … then, for an hour */
};

/* @text: as text_show() gives it. True: it is new, and people are to be told. */
bool modal_warnings_add(struct modal_warnings *w, const char *text, int64_t now_us);

/* The one that came last first. */
void modal_warnings_each(const struct modal_warnings *w, void (*each)(void *data, const struct backend_warning *warning),
                         void *data);
