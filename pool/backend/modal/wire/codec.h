/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Modal's messages: requests from plain values, plain values from replies.
 *
 * Only this part knows protobuf-c and modal.proto. Packers add the bytes of one
 * message to @out: 0 or -errno. Readers take bytes from outside: 0, -EBADMSG for
 * what is no such message, or has no such id where one belongs, -ENOMEM; strings that
 * a reader gives are the caller's to free, and never NULL. Ids are text_is_id().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/buf.h"

/* GenericStatus. Any other number may come, too. */
enum modal_result_status {
        MODAL_RESULT_NONE = 0, /* it has not ended */
        MODAL_RESULT_SUCCESS = 1,
        MODAL_RESULT_FAILURE = 2,
        MODAL_RESULT_TERMINATED = 3,
        MODAL_RESULT_TIMEOUT = 4,
        MODAL_RESULT_INIT_FAILURE = 5,
        MODAL_RESULT_INTERNAL_FAILURE = 6,
        MODAL_RESULT_IDLE_TIMEOUT = 7,
        MODAL_RESULT_MEMORY_MANAGER_EVICTION = 8,
        MODAL_RESULT_MEMORY_THRASHING_EVICTION = 9,
        MODAL_RESULT_KERNEL_OOM_KILL = 10,
};

/* How an image build or a sandbox ended. */
struct modal_result {
        int status;
        int exit_code;
        char text[256]; /* what Modal says of it, or "" */
};

#define MODAL_RESULT_TEXT_MAX 400 /* bytes of a result in words, with the final NUL */

/* The status as metrics have it: "kernel_oom_kill". */
const char *modal_result_name(int status);

/* All of a result in words: "out of memory: the kernel killed it (kernel_oom_kill, exit code 137): what Modal says". */
void modal_result_explain(const struct modal_result *r, char out[static MODAL_RESULT_TEXT_MAX]);

struct modal_volume {
        char *name, *id, *path;
        bool read_only;
};

struct modal_tag {
        const char *name, *value;
};

struct modal_list {
        char **names;
        size_t n;
};

/* Of a sandbox. Zero, NULL and an empty list mean Modal's default. */
struct modal_definition {
        const char *app_id, *image_id;
        char *const *secret_ids;
        size_t n_secrets;
        const struct modal_volume *volumes;
        size_t n_volumes;
        uint32_t milli_cpu, milli_cpu_max, memory_mb, memory_mb_max, ephemeral_disk_mb;
        const char *gpu_type;
        uint32_t gpu_count;
        struct modal_list regions;
        const char *cloud;
        bool block_network;
        struct modal_list cidrs, domains; /* what it reaches; with one of them the other kind is blocked */
        struct modal_list inbound_cidrs;
        uint32_t lifetime_secs, idle_secs;
        uint32_t ready_port;       /* the readiness probe is that something listens there, … */
        const char *ready_command; /* … or that this shell command succeeds; 0 and "": there is none */
        const struct modal_tag *tags;
        size_t n_tags;
};

int modal_pack_environment(struct buf *out, const char *name);
int modal_read_environment(const void *data, size_t len, char **builder_version);

/* AuthTokenGet, whose request is empty. Not "". */
int modal_read_token(const void *data, size_t len, char **token);

int modal_pack_app(struct buf *out, const char *app, const char *environment);
/* A secret or a volume. */
int modal_pack_named(struct buf *out, const char *name, const char *environment);
/* App, secret and volume all answer with an id in the first field; a V1 sandbox too. */
int modal_read_id(const void *data, size_t len, char **id);

int modal_pack_image(struct buf *out, const char *app_id, const char *builder_version, char *const *commands,
                     size_t n_commands);
int modal_read_image(const void *data, size_t len, char **image_id, struct modal_result *result);

int modal_pack_image_join(struct buf *out, const char *image_id, const char *last_entry_id, float timeout);
/* @line gets each piece of the log; *@entry_id is replaced when there is a new one. */
int modal_read_image_join(const void *data, size_t len, void (*line)(void *owner, const char *text), void *owner,
                          char **entry_id, struct modal_result *result);

int modal_pack_image_delete(struct buf *out, const char *image_id);

/* @v2: of a V2 sandbox, which takes its secrets as sources, while a V1 sandbox has their ids in its definition. */
int modal_pack_create(struct buf *out, const struct modal_definition *d, bool v2);

/* The answer to a create of a V2 sandbox. All but the id may be ""; the url and the jwt are both "" or both not. */
struct modal_created {
        char *id, *task_id, *url, *jwt, *token;
};
/* After an error, as after success, it is the caller's to deinit. */
int modal_read_created(const void *data, size_t len, struct modal_created *out);
void modal_created_deinit(struct modal_created *c);

int modal_pack_task(struct buf *out, const char *sandbox_id, float timeout);
/* *@task_id: "" while there is none. */
int modal_read_task(const void *data, size_t len, char **task_id, struct modal_result *result);
/* @id: the task of a V1 sandbox, or a V2 sandbox. */
int modal_pack_access(struct buf *out, const char *id);
int modal_read_access(const void *data, size_t len, char **url, char **jwt);
int modal_pack_wait(struct buf *out, const char *sandbox_id, float timeout);
int modal_read_wait(const void *data, size_t len, struct modal_result *result);
int modal_pack_terminate(struct buf *out, const char *sandbox_id);

/*
 * Sandboxes of the app with this tag, a page of them, the newest first. The next page is asked for by the creation
 * of the last; an empty one is the end. @before: in seconds, 0 for the first page.
 */
int modal_pack_list(struct buf *out, const char *app_id, const struct modal_tag *tag, double before);

struct modal_info {
        const char *id;
        const char *tag; /* the value of the one that was asked for, or "" */
        double created;  /* in seconds */
};
int modal_read_list(const void *data, size_t len, const char *tag,
                    int (*take)(void *owner, const struct modal_info *info), void *owner);

/* @timeout: how long the answer may be held back until the readiness probe has succeeded. */
int modal_pack_ready(struct buf *out, const char *task_id, float timeout);
int modal_read_ready(const void *data, size_t len);

/* The answer is the id of an image in the first field. With @ttl_secs -1 it never ends. */
int modal_pack_snapshot(struct buf *out, const char *task_id, const char *snapshot_id, int64_t ttl_secs);

enum modal_stdio {
        MODAL_DEVNULL = 0,
        MODAL_PIPE = 1,
};

/*
 * @env: "KEY=VALUE", NULL at the end, UTF-8; a later one of the same key wins. -EINVAL for a key that is not the name of
 * a variable: script_make_env() has only such.
 */
int modal_pack_exec_start(struct buf *out, const char *task_id, const char *exec_id, const char *const *args,
                          size_t n_args, const char *const *env, enum modal_stdio stdout_, enum modal_stdio stderr_);
int modal_pack_exec_read(struct buf *out, const char *task_id, const char *exec_id, uint64_t offset, int fd);
int modal_read_exec_read(const void *data, size_t len, void (*take)(void *owner, const void *data, size_t len),
                         void *owner);
/* Names an exec and nothing else: for its end, for how it goes, for what it has of its input. */
int modal_pack_exec(struct buf *out, const char *task_id, const char *exec_id);
/* *@ended: false while it runs. @code: as a shell gives it, 128 + N for signal N. */
int modal_read_exec_wait(const void *data, size_t len, bool *ended, int *code);
int modal_pack_exec_write(struct buf *out, const char *task_id, const char *exec_id, uint64_t offset,
                          const void *data, size_t len, bool eof);
/* *@taken: bytes of input that the router has; *@closed: and the end of it. */
int modal_read_exec_input(const void *data, size_t len, uint64_t *taken, bool *closed);
