/* SPDX-License-Identifier: MIT */
#pragma once

/* A script of exec/script.h as a process. */

#include "pool/backend/modal/exec/process.h"
#include "pool/backend/modal/exec/script.h"

/*
 * Run a script, for which @how says more. @made: what its making came to; a script that could not be made is not run.
 * The script's memory is gone afterwards. Else as modal_process_start().
 */
int modal_run_script(struct modal_processes *t, struct script *script, int made, const struct modal_process_spec *how,
                     const struct modal_process_events *events, void *owner, struct modal_process **out);

/* For events: the output does not matter. */
void modal_no_output(void *owner, enum stream stream, const void *data, size_t len);
