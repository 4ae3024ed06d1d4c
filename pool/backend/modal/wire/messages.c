/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/wire/messages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/backend.h"
#include "pool/util/text.h"

struct sink {
        ProtobufCBuffer base;
        struct buf *out;
        int error;
};

static void sink_append(ProtobufCBuffer *base, size_t len, const uint8_t *data) {
        struct sink *s = (struct sink *)base;

        if (s->error == 0)
                s->error = buf_append(s->out, data, len);
}

int modal_pack(struct buf *out, const ProtobufCMessage *m) {
        struct sink s = { .base.append = sink_append, .out = out };

        protobuf_c_message_pack_to_buffer(m, &s.base);
        return s.error;
}

void modal_free_message(ProtobufCMessage **m) {
        if (*m)
                protobuf_c_message_free_unpacked(*m, NULL);
}

int modal_copy(char **out, const char *s) {
        char *text = strdup(s ? s : "");

        if (!text)
                return -ENOMEM;
        *out = text;
        return 0;
}

int modal_copy_id(char **out, const char *s) {
        return s && text_is_id(s, SANDBOX_ID_MAX - 1) ? modal_copy(out, s) : -EBADMSG;
}
