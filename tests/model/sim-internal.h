/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of the simulated provider, and by nobody else:
 *
 *   sim-backend.c  sandboxes: from their creation to their end
 *   sim-exec.c     what runs in them: jobs and probes
 *   sim-live.c     and a program with live input
 *   sim-note.c     whether what a lease left can be told
 *   sim-recover.c  sandboxes and jobs whose core has ended, and what the next one does with them
 */

#include "sim-backend.h"

struct sim_backend *sim_backend_of(const struct sim_sandbox *s);
int64_t sim_any_delay(const struct sim_backend *b);

/* It is the core's from now on. */
void sim_sandbox_take(struct sim_backend *b, struct sim_sandbox *s);

/* It is nobody's any more, alive or not. */
void sim_sandbox_stray(struct sim_sandbox *s, bool gone);
void sim_sandbox_free(struct sim_sandbox *s);
void sim_sandbox_on_destroyed(struct timer *t);

int sim_exec_start(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out);
void sim_exec_signal(struct exec *exec, int signo);
int sim_exec_poll(struct exec *exec);
void sim_exec_kill(struct exec *exec, int64_t grace_us);
void sim_exec_cancel(struct exec *exec);

/* One in a sandbox at most. sim_live_changed(): its input has ended, or its output is held back or given. */
int sim_live_start(struct sim_sandbox *s, struct exec **out);
ssize_t sim_live_write(struct exec *exec, const void *data, size_t len);
void sim_live_changed(struct exec *exec);
void sim_live_kill(struct exec *exec);
void sim_live_cancel(struct exec *exec);

/* What becomes of the note of a sandbox: it was made, a job or a clean-up begins, its core has ended. */
void sim_note_begin(struct sim_sandbox *s);
void sim_note_job_begins(struct sim_sandbox *s);
void sim_note_clean_begins(struct sim_sandbox *s);
void sim_note_core_ends(struct sim_sandbox *s);
bool sim_is_single_use(const struct sandbox *sandbox);

int sim_snapshot(struct sandbox *sandbox, const char *id);
int sim_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d);
bool sim_has_snapshot(const struct sim_backend *b, const char *image);

/* One that is under way may be taken, unheard. */
void sim_snapshot_core_ends(struct sim_sandbox *s);

/* Those that are under way arrive or not, unheard. */
void sim_deletions_core_ends(struct sim_backend *b);

/* What runs there ends, unheard; unless its core does. */
void sim_exec_discard(struct sim_exec *x);
void sim_exec_discard_all(struct sim_sandbox *s);

/* How those before ended is forgotten. */
void sim_exec_forget_past(struct sim_sandbox *s);

/* Whether a core listens to a job there. */
bool sim_exec_is_heard(const struct sim_sandbox *s);

/* Its core has ended: it goes on, or it had not arrived yet. */
void sim_exec_leave(struct sim_exec *x, bool lossy);

int sim_backend_adopt(struct backend *b, const char *nonce, const char *resume_token, bool unused,
                         struct sandbox **out);
int sim_backend_list(struct backend *b);
void sim_sandbox_leave(struct sandbox *sandbox);
