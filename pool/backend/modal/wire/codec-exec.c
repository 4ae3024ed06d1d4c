/* SPDX-License-Identifier: MIT */

/* The messages of the router: processes in a sandbox. */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/wire/codec.h"
#include "pool/backend/modal/wire/messages.h"
#include "pool/util/cleanup.h"
#include "pool/util/text.h"

#define SIGNAL_MAX 64

/*
 * The variables of @env as entries of a map, which are the return value, in *@list; *@text has their keys and values.
 * NULL with *@error: -EINVAL for one that Modal takes for no name.
 */
static ModalWire__EnvEntry *make_env(const char *const *env, ModalWire__EnvEntry ***list, size_t *n, char **text,
                                     int *error) {
        _cleanup_(cleanup_free) ModalWire__EnvEntry *e = NULL;
        size_t bytes = 0;
        char *at;

        for (*n = 0; env[*n]; ++*n)
                bytes += strlen(env[*n]) + 1;
        e = calloc(*n + 1, sizeof(*e));
        *list = calloc(*n + 1, sizeof(**list));
        *text = at = malloc(bytes + 1);
        *error = -ENOMEM;
        if (!e || !*list || !at)
                return NULL;
        for (size_t i = 0; i < *n; i++) {
                char *value = strchr(strcpy(at, env[i]), '=');

                *error = -EINVAL;
                if (!value || !text_is_variable(at, value - at))
                        return NULL;
                *value++ = '\0';
                modal_wire__env_entry__init(&e[i]);
                e[i].key = at;
                e[i].value = value;
                (*list)[i] = &e[i];
                at = value + strlen(value) + 1;
        }
        return TAKE_PTR(e);
}

int modal_pack_exec_start(struct buf *out, const char *task_id, const char *exec_id, const char *const *args,
                          size_t n_args, const char *const *env, enum modal_stdio stdout_, enum modal_stdio stderr_) {
        ModalWire__ExecStartRequest m = MODAL_WIRE__EXEC_START_REQUEST__INIT;
        ModalWire__SecretEnv variables = MODAL_WIRE__SECRET_ENV__INIT;
        ModalWire__SecretSource source = MODAL_WIRE__SECRET_SOURCE__INIT, *sources[] = { &source };
        _cleanup_(cleanup_free) ModalWire__EnvEntry **list = NULL;
        _cleanup_(cleanup_free) char *text = NULL;
        int r;
        _cleanup_(cleanup_free) ModalWire__EnvEntry *space = make_env(env, &list, &variables.n_contents, &text, &r);

        if (!space)
                return r;
        m.task_id = TEXT(task_id);
        m.exec_id = TEXT(exec_id);
        m.n_args = n_args;
        m.args = (char **)args;
        m.has_stdout_config = m.has_stderr_config = true;
        m.stdout_config = stdout_;
        m.stderr_config = stderr_;
        variables.contents = list;
        source.source_case = MODAL_WIRE__SECRET_SOURCE__SOURCE_ENV;
        source.env = &variables;
        m.n_secret_sources = variables.n_contents > 0;
        m.secret_sources = sources;
        return modal_pack(out, &m.base);
}

int modal_pack_exec_read(struct buf *out, const char *task_id, const char *exec_id, uint64_t offset, int fd) {
        ModalWire__ExecReadRequest m = MODAL_WIRE__EXEC_READ_REQUEST__INIT;

        m.task_id = TEXT(task_id);
        m.exec_id = TEXT(exec_id);
        m.has_offset = m.has_fd = true;
        m.offset = offset;
        m.fd = fd;
        return modal_pack(out, &m.base);
}

int modal_read_exec_read(const void *data, size_t len, void (*take)(void *owner, const void *data, size_t len),
                         void *owner) {
        UNPACK(m, exec_read_reply, data, len);
        ModalWire__ExecReadReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        if (m->has_data && m->data.len > 0)
                take(owner, m->data.data, m->data.len);
        return 0;
}

int modal_pack_ready(struct buf *out, const char *task_id, float timeout) {
        ModalWire__ReadyRequest m = MODAL_WIRE__READY_REQUEST__INIT;

        m.task_id = TEXT(task_id);
        m.has_timeout = true;
        m.timeout = timeout;
        return modal_pack(out, &m.base);
}

int modal_read_ready(const void *data, size_t len) {
        UNPACK(m, ready_reply, data, len);

        return m_base ? 0 : -EBADMSG;
}

int modal_pack_snapshot(struct buf *out, const char *task_id, const char *snapshot_id, int64_t ttl_secs) {
        ModalWire__SnapshotRequest m = MODAL_WIRE__SNAPSHOT_REQUEST__INIT;

        m.task_id = TEXT(task_id);
        m.snapshot_id = TEXT(snapshot_id);
        m.has_ttl_seconds = true;
        m.ttl_seconds = ttl_secs;
        return modal_pack(out, &m.base);
}

int modal_pack_exec(struct buf *out, const char *task_id, const char *exec_id) {
        ModalWire__ExecRequest m = MODAL_WIRE__EXEC_REQUEST__INIT;

        m.task_id = TEXT(task_id);
        m.exec_id = TEXT(exec_id);
        return modal_pack(out, &m.base);
}

/* -N is a signal, as Python gives it; but -1 is how an exec shows that Modal itself killed. */
static int shell_code(int32_t code) {
        if (code >= 0)
                return code & 0xff;
        return code == -1 || code < -SIGNAL_MAX ? 128 + SIGKILL : 128 - code;
}

int modal_read_exec_wait(const void *data, size_t len, bool *ended, int *code) {
        UNPACK(m, exec_wait_reply, data, len);
        ModalWire__ExecWaitReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        *ended = true;
        switch (m->end_case) {
        case MODAL_WIRE__EXEC_WAIT_REPLY__END_CODE:
                *code = shell_code(m->code);
                break;
        case MODAL_WIRE__EXEC_WAIT_REPLY__END_SIGNAL:
                *code = 128 + (m->signal & 0x7f);
                break;
        default:
                *ended = false;
        }
        return 0;
}

int modal_pack_exec_write(struct buf *out, const char *task_id, const char *exec_id, uint64_t offset,
                          const void *data, size_t len, bool eof) {
        ModalWire__ExecWriteRequest m = MODAL_WIRE__EXEC_WRITE_REQUEST__INIT;

        m.task_id = TEXT(task_id);
        m.exec_id = TEXT(exec_id);
        m.has_offset = m.has_data = m.has_eof = true;
        m.offset = offset;
        m.data.data = (uint8_t *)data;
        m.data.len = len;
        m.eof = eof;
        return modal_pack(out, &m.base);
}

int modal_read_exec_input(const void *data, size_t len, uint64_t *taken, bool *closed) {
        UNPACK(m, exec_input_reply, data, len);
        ModalWire__ExecInputReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        *taken = m->taken;
        *closed = m->closed;
        return 0;
}
