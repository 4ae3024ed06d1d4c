/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of the codec share; nobody else includes this. */

#include "pool/modal.pb-c.h"
#include "pool/util/buf.h"
#include "pool/util/cleanup.h"

/* protobuf-c takes char * for what it only reads. */
#define TEXT(s) ((char *)(s))

/* 0 or as buf_append(). */
int modal_pack(struct buf *out, const ProtobufCMessage *m);

/* The reply as type @name in @m, freed at the scope's end. */
#define UNPACK(m, type, data, len)                                                                              \
        _cleanup_(modal_free_message) ProtobufCMessage *m##_base =                                              \
                protobuf_c_message_unpack(&modal_wire__##type##__descriptor, NULL, (len), (const uint8_t *)(data))

void modal_free_message(ProtobufCMessage **m);

/* 0 or -ENOMEM; "" for NULL. */
int modal_copy(char **out, const char *s);

/* 0, -ENOMEM, or -EBADMSG for what is no id. */
int modal_copy_id(char **out, const char *s);
