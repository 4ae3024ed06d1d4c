/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * All sandboxes with one tag, page after page, of both kinds where the server knows both. Each page is asked for by the
 * creation of the last sandbox of the one before, and an empty one is the end, as in Modal's own clients.
 *
 * Embedded in its owner, who cancels it before it goes.
 */

#include "pool/backend/modal/rpc/call.h"
#include "pool/backend/modal/rpc/control.h"
#include "pool/backend/modal/wire/codec.h"

/* Strings are borrowed until the end. */
struct modal_listing_spec {
        const char *app_id;
        struct modal_tag tag;
        const char *want; /* the name of a tag, whose value is wanted too */
        int64_t attempt_us, retry_for_us; /* for each page */
        /* -errno ends it. */
        int (*take)(void *owner, const struct modal_info *info);
        void (*done)(void *owner, const struct grpc_status *status);
};

struct modal_listing {
        struct modal_control *control;
        struct modal_listing_spec spec;
        void *owner;
        struct modal_call *call; /* NULL: none is under way … */
        bool v2;                 /* … and it is SandboxListV2 */
        double before, last;     /* creation of the last one of the page before, and of this one */
        unsigned n;
};

/* 0, -EBUSY while it is under way, or -errno; then take() and done() come, unless it is cancelled. */
int modal_listing_start(struct modal_listing *l, struct modal_control *control, const struct modal_listing_spec *spec,
                        void *owner);
void modal_listing_cancel(struct modal_listing *l);
