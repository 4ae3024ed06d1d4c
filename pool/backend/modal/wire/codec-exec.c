/* SPDX-License-Identifier: MIT */

/* The messages of the router: processes in a sandbox. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/wire/codec.h"
#include "pool/backend/modal/wire/messages.h"
#include "pool/util/cleanup.h"

/* The entries of @env in *@list, whose space is the return value; keys are cut off in place in a copy. */
static ModalWire__EnvEntry *make_env(const char *const *env, ModalWire__EnvEntry ***list, size_t *n, char **text) {
        ModalWire__EnvEntry *e;
        size_t count = 0, bytes = 0, used = 0;
        char *at;

        for (; env[count]; count++)
                bytes += strlen(env[count]) + 1;
        e = calloc(count + 1, sizeof(*e));
        *list = calloc(count + 1, sizeof(**list));
        *text = at = malloc(bytes + 1);
        if (!e || !*list || !at) {
                free(e);
                return NULL;
        }
        for (size_t i = 0; i < count; i++) {
                char *entry = strcpy(at, env[i]), *value = strchr(entry, '=');
                size_t k;

                at += strlen(entry) + 1;
                if (!value || value == entry)
                        continue;
                *value++ = '\0';
                for (k = 0; k < used && strcmp(e[k].key, entry); k++)
                        ;
                if (k == used) {
                        modal_wire__env_entry__init(&e[k]);
                        e[k].key = entry;
                        (*list)[k] = &e[k];
                        used++;
                }
                e[k].value = value;
        }
        *n = used;
        return e;
}

int modal_pack_exec_start(struct buf *out, const char *task_id, const char *exec_id, const char *const *args,
                          size_t n_args, const char *const *env, enum modal_stdio stdout_, enum modal_stdio stderr_) {
        ModalWire__ExecStartRequest m = MODAL_WIRE__EXEC_START_REQUEST__INIT;
        _cleanup_(cleanup_free) ModalWire__EnvEntry **list = NULL;
        _cleanup_(cleanup_free) char *text = NULL;
        _cleanup_(cleanup_free) ModalWire__EnvEntry *space = make_env(env, &list, &m.n_env, &text);

        if (!space)
                return -ENOMEM;
        m.task_id = TEXT(task_id);
        m.exec_id = TEXT(exec_id);
        m.n_args = n_args;
        m.args = (char **)args;
        m.has_stdout_config = m.has_stderr_config = true;
        m.stdout_config = stdout_;
        m.stderr_config = stderr_;
        m.env = list;
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

int modal_pack_exec(struct buf *out, const char *task_id, const char *exec_id) {
        ModalWire__ExecRequest m = MODAL_WIRE__EXEC_REQUEST__INIT;

        m.task_id = TEXT(task_id);
        m.exec_id = TEXT(exec_id);
        return modal_pack(out, &m.base);
}

int modal_read_exec_wait(const void *data, size_t len, bool *ended, int *code) {
        UNPACK(m, exec_wait_reply, data, len);
        ModalWire__ExecWaitReply *m = (void *)m_base;

        if (!m)
                return -EBADMSG;
        *ended = true;
        switch (m->end_case) {
        case MODAL_WIRE__EXEC_WAIT_REPLY__END_CODE:
                /* -1 is how an exec shows that Modal itself killed. */
                *code = m->code < 0 ? 137 : m->code & 0xff;
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
