/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of the local backend only:
 *
 *   local.c      the backend
 *   sandbox.c    the life of a sandbox
 *   options.c    its options
 *   exec.c       jobs: requests to the agent, streams of output
 *   command.c    the command line and environment of a sandbox
 *   agent.c      the program inside, which shares protocol.h with the daemon
 *   job.c        the agent's jobs
 *   processes.c  how the agent finds their processes
 */

#include "pool/backend/local/protocol.h"
#include "pool/backend/local/local.h"

enum isolate {
        ISOLATE_BWRAP,
        ISOLATE_NONE,
};

struct local_options {
        unsigned isolate;
        bool network;
        uint64_t size; /* bytes of writable space of one sandbox */
};

struct local_client {
        struct backend_client client;
        uv_loop_t *loop;
        char *agent; /* paths of the programs */
        char *bwrap; /* NULL: not there */
        unsigned last_number; /* of a sandbox */
};

struct local {
        struct backend backend;
        struct local_client *client;
        struct local_options options;
        bool isolate; /* by bwrap */
        char *base, *shell, *dir;
        struct sandbox *trial; /* of start */
        struct result trial_result;
        struct local_answer *answer; /* of a start without a trial */
};

enum { N_STREAMS = 2 };

/* The reading end of a job's stdout or stderr. */
struct stream_end {
        uv_poll_t poll;
        int fd;
        struct local_exec *exec;     /* NULL once the job has ended: then bytes are read and dropped */
        struct local_sandbox *owner; /* while in left_open */
        struct list link;            /* in the sandbox's left_open */
        enum stream stream;
};

struct local_exec {
        struct exec exec;
        struct list link; /* in the sandbox's execs */
        uint32_t number;
        struct stream_end *ends[N_STREAMS]; /* NULL after the end of the stream */
        struct local_stdin *input; /* live; else NULL */
        uv_timer_t grace;
        bool finished; /* the agent has said how it ended */
        struct result result;
        int code;
};

struct local_sandbox {
        struct sandbox sandbox;
        uv_process_t process;
        uv_poll_t socket;
        uv_poll_t errors; /* bwrap's stderr, until the agent says hello */
        uv_timer_t timer; /* of create, later of destroy */
        int socket_fd, errors_fd;
        int spawned;      /* 0 or -errno */
        bool running;     /* the process has not been reaped */
        unsigned n_handles; /* libuv still holds */
        char error_text[384];
        size_t error_len;
        unsigned last_exec;
        struct list execs;
        struct list left_open;
        unsigned n_left_open;
        char dir[]; /* of isolate=none, or "" */
};

static inline struct local_sandbox *local_sandbox(struct sandbox *s) {
        return container_of(s, struct local_sandbox, sandbox);
}

static inline struct local *sandbox_local(struct local_sandbox *s) {
        return container_of(s->sandbox.backend, struct local, backend);
}

/* sandbox.c */
int local_create(struct backend *b, const char *nonce, struct sandbox **out);
void local_destroy(struct sandbox *sandbox);

/* exec.c: the exec part of the vtable, */
int local_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out);
void local_exec_signal(struct exec *exec, int signo);
int local_exec_poll(struct exec *exec);
ssize_t local_exec_write(struct exec *exec, const void *data, size_t len);
void local_exec_end_input(struct exec *exec);
void local_exec_hold_output(struct exec *exec);
void local_exec_kill(struct exec *exec, int64_t grace_us);
void local_exec_cancel(struct exec *exec);
int local_clean(struct sandbox *sandbox, const char *workdir);

/* replies of the agent about an exec, */
void local_exec_reply(struct local_sandbox *s, const struct agent_reply *reply);

/* and closing the streams that background processes of ended jobs hold open. */
void local_close_left_open(struct local_sandbox *s);

/* command.c: the command line of a sandbox. The strings are valid as long as @c is. */
struct local_command {
        const char *argv[256];
        size_t n;
        const char *env[8];
        char text[6][4600];
};

void local_command_init(struct local_command *c, const struct local *l, const struct local_sandbox *s);
