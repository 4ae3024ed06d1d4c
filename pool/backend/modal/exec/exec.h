/* SPDX-License-Identifier: MIT */
#pragma once

/* A job of a sandbox, as backend.h has it; for modal.c's table alone. */

#include "pool/backend/backend.h"

int modal_exec(struct sandbox *s, const struct exec_spec *spec, struct exec **out);
void modal_exec_signal(struct exec *e, int signo);
int modal_exec_poll(struct exec *e);
ssize_t modal_exec_write(struct exec *e, const void *data, size_t len);
void modal_exec_end_input(struct exec *e);
void modal_exec_hold_output(struct exec *e);
void modal_exec_kill(struct exec *e, int64_t grace_us);
void modal_exec_cancel(struct exec *e);
