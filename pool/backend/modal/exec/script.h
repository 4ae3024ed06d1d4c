/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The shell scripts that run inside a Modal sandbox, and their arguments.
 *
 * They are for any POSIX sh with the usual small tools (coreutils or busybox).
 * Names and commands are only ever arguments, never part of a script's text.
 * An argument that must survive any bytes begins with "=", or, when it is not
 * UTF-8, with "%" and has its odd bytes as printf's %b reads them.
 */

#include <stdbool.h>
#include <stddef.h>

#include "pool/backend/backend.h"
#include "pool/util/buf.h"

#define SCRIPT_ARGUMENTS_MAX 16

/* An argument vector; the strings lie in buf one after the other, each with its NUL. */
struct script {
        struct buf buf;
        size_t offsets[SCRIPT_ARGUMENTS_MAX];
        size_t n;
        size_t size; /* bytes of all arguments, as the router counts them */
};

void script_init(struct script *s);
void script_deinit(struct script *s);

/* 0 or -errno. */
int script_add(struct script *s, const char *argument);

/* As above, for bytes that may not be UTF-8: "=…" or "%…". */
int script_add_bytes(struct script *s, const char *data, size_t len);

const char *script_argument(const struct script *s, size_t i);

/*
 * The wrapper around a job: workdir, cwd, shell, command. With @on_stdin > 0
 * standard input begins with so many bytes of the prelude, if any, and then of
 * the command, and @prelude and @command are ignored. @exec_id begins the one line of stderr by which it says that it
 * could not run the command (see script_read_complaint).
 */
struct script_job {
        const char *exec_id;
        const char *workdir, *cwd, *shell; /* as in struct exec_spec */
        bool fresh, input;
        size_t on_stdin, prelude_on_stdin;
        const char *prelude; /* shell text that makes the job's environment, "" for none */
        const char *command;
        size_t command_len;
};
int script_make_job(struct script *s, const struct script_job *job);

/*
 * How a job's variables come to it and not to the wrapper, which needs its own PATH, IFS, LD_PRELOAD and so on: Modal
 * is given @carriers, other variables that hold the values, one after the other, each with its NUL; and @prelude, shell
 * text with no value in it, gives them their names. Values that are not UTF-8 do not pass Modal: these are in the
 * prelude. 0 or -errno.
 */
int script_make_env(const char *const *env, struct buf *carriers, struct buf *prelude);

/*
 * Prints "PID:START" of itself: what began later does not belong to the sandbox. Nothing where there is no /proc. Exit
 * status PROBE_NO_SHELL: there is no @shell, unless that is "".
 */
#define PROBE_NO_SHELL 3
int script_make_probe(struct script *s, const char *shell);

/*
 * Signals every process of the job with @mark ("KEY=VALUE"). @own: what the probe printed, or several such words, of
 * which the latest counts.
 */
int script_make_signal(struct script *s, const char *mark, const char *own, int signo);

/*
 * Ends them: TERM, and after @grace_us KILL to what is left, or KILL at once with 0. Exit status 0 when none is left,
 * else a line of output says which are; or SCRIPT_NONE_FOUND, and a line says so, when there were none.
 */
#define SCRIPT_NONE_FOUND 2
int script_make_kill(struct script *s, const char *mark, const char *own, int64_t grace_us);

/*
 * Kills every process that is not the sandbox's @own, removes @workdir, empties /tmp but for what is mounted there,
 * which also @volumes says (paths, with spaces between them), and looks whether all that is gone and both can be
 * written. Exit status 0, else a line of output says why not.
 */
int script_make_clean(struct script *s, const char *workdir, const char *own, const char *volumes);
