/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of the local backend only:
 *
 *   local.c      the backend
 *   options.c    its options
 *   sandbox.c    the life of a sandbox
 *   command.c    the command line and environment of a sandbox
 *   attach.c     a stream to a sandbox's helper
 */

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
        char *helper; /* paths of the programs */
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

struct local_sandbox {
        struct sandbox sandbox;
        uv_process_t process;
        uv_poll_t control; /* the helper's control socket (pool/helper/agent/control.h) */
        uv_poll_t errors;  /* bwrap's and the helper's stderr, until the helper serves */
        uv_timer_t timer; /* of create, later of destroy */
        int control_fd, errors_fd;
        int spawned;      /* 0 or -errno */
        bool running;     /* the process has not been reaped */
        unsigned n_handles; /* libuv still holds */
        char error_text[384];
        size_t error_len;
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

/* Gives the helper a descriptor: one end of a carrier. 0 or -errno. */
int local_send_descriptor(struct local_sandbox *s, int fd);

/* attach.c: the exec part of the vtable, for streams to the helper. */
int local_attach(struct sandbox *sandbox, struct exec **out);
ssize_t local_attach_write(struct exec *exec, const void *data, size_t len);
void local_attach_end_input(struct exec *exec);
void local_attach_hold_output(struct exec *exec);
void local_attach_cancel(struct exec *exec);

/* command.c: the command line of a sandbox. The strings are valid as long as @c is. */
struct local_command {
        const char *argv[256];
        size_t n;
        const char *env[8];
        char text[4][4600];
};

void local_command_init(struct local_command *c, const struct local *l, const struct local_sandbox *s);
