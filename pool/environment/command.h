/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A command for a sandbox: what is decided about it outside the sandbox, in the form that sandbox_exec() takes.
 *
 *   working directory   cwd, which counts from the workdir unless it is absolute
 *   environment         of each variable in env the last line, in their order, and the mark, which no setting can change
 *   shell               as it is set
 *
 * The backend decides what only the inside of a sandbox can tell: whether the directory exists, which shell the default
 * is, and which variables the sandbox has by itself; those of the command replace them.
 *
 * The caller owns the struct, which must not move between command_init() and command_deinit().
 */

#include "pool/backend/backend.h"
#include "pool/util/uuid.h"

struct command_settings {
        const char *id;      /* as in struct exec_spec */
        const char *shell;   /* likewise */
        const char *workdir; /* likewise */
        const char *cwd;     /* absolute, or relative to the workdir; "": the workdir */
        const char *pool_env; /* lines KEY=VALUE, possibly empty ones; a later one wins, … */
        const char *env;      /* … and those of the job over the pool's */
};

struct command {
        struct exec_spec spec; /* the rest of it is the caller's to fill in */
        char *cwd, *lines;     /* what spec points to; cwd may be NULL */
        const char **env;
        char mark[UUID_SIZE + sizeof(EXEC_MARK "=")];
};

/* The id, shell and workdir of @settings are borrowed until command_deinit(). 0 or -ENOMEM. */
int command_init(struct command *c, const struct command_settings *settings);

/* After a command_init() that succeeded. */
void command_deinit(struct command *c);
