/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The clean-up of a sandbox between two leases.
 *
 *   idle → waiting → running → idle    cleaned(result) once
 *
 * It waits until the starts of all cancelled processes are answered: what is started after the clean-up would be there
 * in the next lease. When nobody can know of one whether it was started, there is no clean sandbox any more.
 *
 * Embedded in its sandbox.
 */

#include <stdbool.h>

#include "pool/backend/modal/exec/process.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/template.h"

struct modal_cleanup {
        void (*cleaned)(struct modal_cleanup *c, const struct result *r); /* the event */
        const struct modal_template *template;
        const struct modal_identity *identity;
        struct modal_processes *processes;
        struct modal_process *process; /* the script, while it runs */
        char *workdir;                 /* while it waits, else NULL */
        bool start_unsure;             /* a cancelled process may or may not have been started */
        struct buf said;               /* by the script */
};

void modal_cleanup_init(struct modal_cleanup *c, const struct modal_template *template,
                        const struct modal_identity *identity, struct modal_processes *processes,
                        void (*cleaned)(struct modal_cleanup *c, const struct result *r));
/* It was cancelled. */
void modal_cleanup_deinit(struct modal_cleanup *c);

/* 0 or -errno; then cleaned() comes. It cancels what still is listened to. */
int modal_cleanup_start(struct modal_cleanup *c, const char *workdir);
void modal_cleanup_cancel(struct modal_cleanup *c);

/* As the event start_known of the processes. */
void modal_cleanup_start_known(struct modal_cleanup *c, bool sure);
