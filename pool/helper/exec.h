/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A job of the helper as an exec of a backend (backend.h), and an exec that is the backend's below.
 *
 * Output is given as it comes, and acknowledged as it is given. What comes while output is held back is kept; the
 * helper's window bounds it, because nothing of it is acknowledged. The end is given in a turn of the carrier, when all
 * output has been given, so that its owner may do anything then.
 */

#include "pool/helper/sandbox.h"

/* The calls of struct backend_ops. */
int helper_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out);
void helper_exec_signal(struct exec *exec, int signo);
int helper_exec_poll(struct exec *exec);
ssize_t helper_exec_write(struct exec *exec, const void *data, size_t len);
void helper_exec_end_input(struct exec *exec);
void helper_exec_offer_input(struct exec *exec, uint64_t size, bool end);
void helper_exec_resize(struct exec *exec, uint16_t rows, uint16_t columns);
void helper_exec_hold_output(struct exec *exec);
void helper_exec_kill(struct exec *exec, int64_t grace_us);
void helper_exec_cancel(struct exec *exec);

/* Those whose owners want them no more are dropped: the sandbox is cleaned, or ends. */
void helper_execs_drop(struct helper_sandbox *s);

/* From the carrier: a turn, a new one is open, the answer to a question. */
void helper_execs_turn(struct helper_sandbox *s);
void helper_execs_opened(struct helper_sandbox *s);
void helper_execs_replied(struct helper_sandbox *s, uint64_t request);
