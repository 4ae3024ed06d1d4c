/* SPDX-License-Identifier: MIT */
#pragma once

/* The options of a pool, checked and taken apart: what its sandboxes are made of. Embedded in the template. */

#include "pool/backend/backend.h"
#include "pool/backend/modal/modal.h"
#include "pool/backend/modal/wire/codec.h"
#include "pool/util/result.h"

/* Of which of Modal's two kinds sandboxes are. */
enum modal_kind {
        MODAL_KIND_AUTO, /* V2, where that has all that the options ask for */
        MODAL_KIND_V1,
        MODAL_KIND_V2,
};

struct modal_settings {
        enum modal_kind kind;
        char *app, *image, *shell;
        char **commands; /* of the image: "FROM …" and those of the dockerfile */
        size_t n_commands;
        struct modal_list secrets;
        char **secret_ids; /* as many */
        struct modal_volume *volumes;
        size_t n_volumes;
        char *cloud, *gpu_type, *ready;
        int64_t create_timeout_us;
        int64_t snapshot_ttl_secs; /* -1: they do not end by themselves */
        struct modal_definition definition; /* borrows all of these, and has the lists; ids come later */
};

/* 0, or -errno with @why. What it has set by then goes with deinit. */
int modal_settings_init(struct modal_settings *s, const struct modal_options *o, const struct backend_setup *setup,
                        struct result *why);
void modal_settings_deinit(struct modal_settings *s);
