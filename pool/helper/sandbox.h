/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A sandbox of the helper layer: that of the backend below, and how its jobs are run.
 *
 * What a job is run by is settled before the sandbox is live. It changes once at most, in the clean-up of one that was
 * adopted after use:
 *
 *   HELPER_PLAIN      an exec of the backend below
 *   HELPER_BUILT_IN   the helper that the backend below has started
 *   HELPER_UPLOADED   the helper that this layer has put there
 */

#include <stdbool.h>
#include <uv.h>

#include "pool/backend/backend.h"
#include "pool/helper/carrier.h"
#include "pool/helper/note.h"
#include "pool/helper/upload.h"
#include "pool/util/uuid.h"

struct helper_uploads;

enum helper_mode {
        HELPER_PLAIN,
        HELPER_BUILT_IN,
        HELPER_UPLOADED,
};

struct helper_sandbox {
        struct sandbox sandbox;
        struct sandbox *inner; /* NULL once it is destroyed */
        bool adopted, used; /* of an earlier run, jobs of which it may have */
        enum helper_mode mode;
        uint8_t key[HELPER_KEY_SIZE];
        char *resume_token; /* that of the sandbox below with the key in front; or NULL */
        struct carrier carrier;
        struct list execs; /* of struct helper_exec, that run by the helper */
        struct helper_uploads *uploads; /* the pool's */
        struct upload *upload;          /* while it is under way */
        int64_t upload_us;              /* since when */
        bool refused;                   /* the helper cannot run there */
        bool uses_files;      /* calls about files are under way: the carrier is in use for them */
        bool cleaned;         /* the helper has answered, and that is told in the next turn */
        struct saved_result result;      /* of the creation or the clean-up that is under way, */
        struct sandbox_changes *changes; /* and what the clean-up found; NULL: nothing */
        struct helper_notes *notes;     /* the pool's */
        enum helper_note note;
        bool note_answered; /* by the helper; what follows is done in the next turn */
        int64_t note_us;    /* when it was asked for */
        struct snapshot_call snapshot; /* of the one below */
        struct file_call barrier;      /* calls about files that were accepted before it are done … */
        char snapshot_id[UUID_SIZE];   /* … before this one is taken */
        uv_timer_t hold;    /* while it is held back: until it is not any more */
        unsigned n_handles;
};

static inline struct helper_sandbox *helper_sandbox_of(struct sandbox *s) {
        return container_of(s, struct helper_sandbox, sandbox);
}
