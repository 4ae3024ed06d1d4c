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
 *   outlive.c    what lets a sandbox outlive its daemon
 *   adopt.c      sandboxes of an earlier daemon
 *   snapshot.c   copies of what sandboxes have written
 */

#include "pool/backend/local/control.h"
#include "pool/backend/local/local.h"
#include "pool/util/list.h"

enum isolate {
        ISOLATE_BWRAP,
        ISOLATE_NONE,
};

struct local_options {
        unsigned isolate;
        bool network;
        uint64_t size; /* bytes of writable space of one sandbox */
        int64_t orphan_us; /* how long it waits for the next daemon when this one is gone; 0: not at all */
};

struct local_client {
        struct backend_client client;
        uv_loop_t *loop;
        char *helper; /* paths of the programs */
        char *bwrap; /* NULL: not there */
        unsigned last_number; /* of a sandbox */
        struct list awaited; /* sandboxes of an earlier daemon whose helpers have not come back */
        uv_poll_t *listen;   /* where they come to, once there is somebody to come */
        int listen_fd, listen_dir;
        struct list callers; /* that have not said who they are */
        unsigned n_callers;
};

struct local {
        struct backend backend;
        struct local_client *client;
        struct local_options options;
        bool isolate; /* by bwrap */
        char *base, *shell, *dir;
        char *snapshots, *snapshot; /* their directory; the one that its sandboxes begin as, or "" */
        bool started;
        bool leaves_for_ever; /* what is left on purpose */
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
        bool adopted;     /* an earlier daemon started it: there is no process of ours, and no stderr */
        bool controlled;  /* there is a control socket */
        bool hung_up;     /* … of an adopted one, which has ended */
        struct list awaited; /* in the client's, until its helper has come back */
        uint8_t key[CONTROL_KEY_SIZE]; /* then */
        pid_t helper_pid; /* of this machine; 0: not known */
        uint64_t helper_start; /* see adopt.c, also for the token */
        char token[64];
        unsigned n_handles; /* libuv still holds */
        struct local_saving *saving; /* a snapshot that is being taken, or NULL */
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
void local_leave(struct sandbox *sandbox);
void local_destroy(struct sandbox *sandbox);

/* Sandboxes can outlive the daemon; but not that of the start. */
static inline bool local_survives(const struct local *l) {
        return l->isolate && l->options.orphan_us > 0 && l->started;
}

/* Gives the helper a descriptor: one end of a carrier. 0 or -errno. */
int local_send_descriptor(struct local_sandbox *s, int fd);

/* The helper of an adopted one has come back. */
void local_take_control(struct local_sandbox *s, int fd);

/* adopt.c */
int local_adopt(struct backend *b, const char *nonce, const char *token, bool unused, struct sandbox **out);

/* Helpers of an earlier daemon can come from now on. 0 or -errno; a second call does nothing. */
int local_listen(struct local *l);
void local_listen_end(struct local_client *c);

/* outlive.c: the helper serves, in this process. */
void local_note_helper(struct local_sandbox *s, pid_t pid);

/* From now on the sandbox can outlive us. */
void local_make_token(struct local_sandbox *s);

/* 0 or -EINVAL. */
int local_read_token(struct local_sandbox *s, const char *token);

bool local_helper_lives(const struct local_sandbox *s);
void local_kill_helper(struct local_sandbox *s);

/* What the helper is told: how long it waits for the next daemon; to end. */
void local_send_wait(struct local_sandbox *s, uint64_t us);
void local_send_end(struct local_sandbox *s);

/* snapshot.c */
int local_snapshot(struct sandbox *sandbox, const char *id);
int local_delete_snapshot(struct backend *b, const char *id, const char *image, struct snapshot_deletion *d);

/* Nobody waits for the one of this sandbox any more. */
void local_stop_saving(struct local_sandbox *s);

/* The one that sandboxes begin as: a descriptor or -errno. */
int local_open_snapshot(const struct local *l);

/* attach.c: the exec part of the vtable, for streams to the helper. */
int local_attach(struct sandbox *sandbox, struct exec **out);
ssize_t local_attach_write(struct exec *exec, const void *data, size_t len);
void local_attach_end_input(struct exec *exec);
void local_attach_hold_output(struct exec *exec);
void local_attach_cancel(struct exec *exec);

/* command.c: the command line of a sandbox. The strings are valid as long as @c is. */
struct local_command {
        const char *argv[264];
        size_t n;
        const char *env[8];
        char text[4][4600];
};

void local_command_init(struct local_command *c, const struct local *l, const struct local_sandbox *s);
