/* SPDX-License-Identifier: MIT */
#include "pool/helper/upload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/util/buf.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/uuid.h"

#define UPLOAD_TIMEOUT_MS 120000
#define UPLOAD_SAID_MAX 256
#define EXIT_CANNOT_RUN 3 /* of the script */

/*
 * Where it may live. A clean-up empties none of these, and a job may see the names but not what is in the files.
 */
#define DIRECTORIES "/run/modalpool /var/lib/modalpool /opt/modalpool"

/*
 * Input: the program, then the key, which the program reads. A script there shows whether programs can be executed;
 * the program itself shows whether this processor can, for without arguments it ends with 2.
 *
 * dd with fullblock reads exactly so much of a pipe; head of busybox may read more.
 */
static const char upload_script[] =
        "umask 077\n"
        "exec 2>&1\n"
        "for d in " DIRECTORIES "; do\n"
        "  mkdir -p $d && rm -f $d/helper && printf '#!/bin/sh\\n' >$d/helper && chmod 700 $d/helper && $d/helper && break\n"
        "  d=\n"
        "done >/dev/null 2>&1\n"
        "[ -n \"$d\" ] || { echo 'no directory for it where programs can be executed'; exit 3; }\n"
        "rm -f $d/helper\n"
        "dd bs=%zu count=1 iflag=fullblock of=$d/helper 2>/dev/null\n"
        "[ \"$(($(wc -c <$d/helper)))\" = %zu ] || { echo 'it did not arrive whole'; exit 4; }\n"
        "chmod 700 $d/helper\n"
        "$d/helper </dev/null >/dev/null 2>&1\n"
        "[ $? = 2 ] || { echo 'it cannot be executed there'; exit 3; }\n"
        "exec $d/helper serve $d/socket\n";

static const char attach_script[] =
        "for d in " DIRECTORIES "; do [ ! -S $d/socket ] || exec $d/helper attach $d/socket; done\n"
        "echo 'it is not there' >&2\n"
        "exit 1\n";

struct upload {
        const struct upload_events *events;
        void *owner;
        const struct upload_program *program;
        uv_timer_t timer;
        struct exec *exec; /* NULL: it has ended */
        uint8_t key[HELPER_KEY_SIZE];
        size_t at;       /* bytes of program and key that were written */
        struct buf said; /* by the script, for people */
};

static int run(struct sandbox *s, const char *text, const struct exec_events *events, void *owner, struct exec **out) {
        static const char *const no_env[] = { NULL };
        char id[UUID_SIZE];
        struct exec_spec spec = {
                .id = id, .shell = "sh", .live_input = true, .workdir = "/", .cwd = "/", .env = no_env
        };
        struct blob command;
        int r = uuid_make(id);

        if (r < 0)
                return r;
        blob_init(&command, -1, BLOB_MEMORY_MAX); /* short enough to need no file */
        r = blob_append(&command, text, strlen(text));
        spec.command = &command;
        if (r == 0)
                r = sandbox_exec(s, &spec, events, owner, out);
        blob_deinit(&command);
        return r;
}

int upload_attach(struct sandbox *s, const struct exec_events *events, void *owner, struct exec **out) {
        return run(s, attach_script, events, owner, out);
}

/* its input */

static size_t size_of(const struct upload *u) {
        return u->program->size + sizeof(u->key);
}

static void write_on(struct upload *u) {
        ssize_t n = 1;

        while (n > 0 && u->at < size_of(u)) {
                size_t program = u->program->size;

                if (u->at < program)
                        n = exec_write(u->exec, u->program->bytes + u->at, program - u->at);
                else
                        n = exec_write(u->exec, u->key + (u->at - program), sizeof(u->key) - (u->at - program));
                if (n > 0)
                        u->at += n;
        }
        if (u->at == size_of(u))
                exec_end_input(u->exec);
}

/* events */

static void finish(struct upload *u, const struct result *r) {
        uv_timer_stop(&u->timer);
        u->events->done(u->owner, r);
}

static void on_timeout(uv_timer_t *timer) {
        struct upload *u = timer->data;
        struct result why;

        exec_cancel(TAKE_PTR(u->exec));
        result_set(&why, RESULT_TIMEOUT, "it did not start within %d s", UPLOAD_TIMEOUT_MS / 1000);
        finish(u, &why);
}

static void on_started(void *owner) {
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct upload *u = owner;
        size_t room = u->said.max - u->said.len;

        (void)buf_append(&u->said, data, len < room ? len : room);
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct upload *u = owner;
        struct result why = *r;

        u->exec = NULL;
        if (result_ok(&why) && code != 0)
                result_set(&why, code == EXIT_CANNOT_RUN ? RESULT_INVALID : RESULT_FAILED, "%s (exit code %d)",
                           buf_text(&u->said), code);
        finish(u, &why);
}

static void on_room(void *owner) {
        write_on(owner);
}

static const struct exec_events exec_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
        .room = on_room,
};

/* calls */

static struct upload *upload_new(const struct upload_spec *spec, const struct upload_events *events, void *owner) {
        struct upload *u = calloc(1, sizeof(*u));

        if (!u)
                return NULL;
        u->events = events;
        u->owner = owner;
        u->program = spec->program;
        u->said = (struct buf)BUF_INIT(UPLOAD_SAID_MAX);
        memcpy(u->key, spec->key, sizeof(u->key));
        uv_timer_init(spec->loop, &u->timer);
        uv_unref((uv_handle_t *)&u->timer);
        u->timer.data = u;
        return u;
}

int upload_start(struct upload **out, const struct upload_spec *spec, const struct upload_events *events, void *owner) {
        struct upload *u = upload_new(spec, events, owner);
        char text[BLOB_MEMORY_MAX];
        int r;

        if (!u)
                return -ENOMEM;
        snprintf(text, sizeof(text), upload_script, u->program->size, u->program->size);
        r = run(spec->sandbox, text, &exec_events, u, &u->exec);
        if (r < 0) {
                upload_free(u);
                return r;
        }
        uv_timer_start(&u->timer, on_timeout, UPLOAD_TIMEOUT_MS, 0);
        write_on(u);
        *out = u;
        return 0;
}

static void on_closed(uv_handle_t *handle) {
        free(handle->data);
}

void upload_free(struct upload *u) {
        if (!u)
                return;
        if (u->exec)
                exec_cancel(TAKE_PTR(u->exec));
        explicit_bzero(u->key, sizeof(u->key));
        buf_deinit(&u->said);
        uv_close((uv_handle_t *)&u->timer, on_closed);
}
