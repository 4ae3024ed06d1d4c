/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The parts of gRPC that are bytes: frames, status headers, retry details.
 *
 * Nothing here knows a connection. All input comes from outside and may be
 * anything: each parser is bounded and fuzzed (tests/fuzz). Facts are those of
 * gRPC's PROTOCOL-HTTP2 document; RPCRetryPolicy is Modal's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GRPC_MESSAGE_TEXT_MAX 256 /* bytes kept of a status message, with the final NUL */

enum grpc_code {
        GRPC_OK = 0,
        GRPC_CANCELLED = 1,
        GRPC_UNKNOWN = 2,
        GRPC_INVALID_ARGUMENT = 3,
        GRPC_DEADLINE_EXCEEDED = 4,
        GRPC_NOT_FOUND = 5,
        GRPC_ALREADY_EXISTS = 6,
        GRPC_PERMISSION_DENIED = 7,
        GRPC_RESOURCE_EXHAUSTED = 8,
        GRPC_FAILED_PRECONDITION = 9,
        GRPC_ABORTED = 10,
        GRPC_OUT_OF_RANGE = 11,
        GRPC_UNIMPLEMENTED = 12,
        GRPC_INTERNAL = 13,
        GRPC_UNAVAILABLE = 14,
        GRPC_DATA_LOSS = 15,
        GRPC_UNAUTHENTICATED = 16,
};

/* "NOT_FOUND"; "status 99" is not among them, so any other number is "UNKNOWN". */
const char *grpc_code_name(int code);

/* Messages out of a body: 1 byte of flags, 4 of length, the message. */
struct grpc_frames {
        size_t max; /* bytes of one message */
        unsigned char head[5];
        unsigned n_head; /* bytes of the head that are there */
        uint32_t len;    /* of the message under way, once the head is whole */
        uint32_t have;
        char *data;      /* the message under way */
};

void grpc_frames_init(struct grpc_frames *f, size_t max);
void grpc_frames_deinit(struct grpc_frames *f);

/*
 * Take up to @len bytes more; @take gets each message that they complete. It returns 0; 1 to have no more for now; or
 * -errno, which stops everything. Returns the bytes taken, what @take said, -EFBIG for a message over the maximum,
 * -EPROTO for one that is compressed, -ENOMEM.
 */
ssize_t grpc_frames_push(struct grpc_frames *f, const void *data, size_t len,
                         int (*take)(void *owner, const void *message, size_t len), void *owner);

/* No message is cut off in its middle. */
static inline bool grpc_frames_whole(const struct grpc_frames *f) {
        return f->n_head == 0;
}

/* The five bytes that go before a message of @len bytes. */
void grpc_frame_head(unsigned char head[5], uint32_t len);

/* A header or trailer line of a response. */
struct grpc_header {
        const char *name, *value; /* within the line, without the space around the value */
        size_t name_len, value_len;
};

/* False for a status line, and for what is no header. */
bool grpc_header_split(struct grpc_header *h, const char *line, size_t len);
bool grpc_header_is(const struct grpc_header *h, const char *name);

/* "%41" is A; what is no escape stays as it is. The text is as text_show() shows it, and cut to less than @size bytes. */
void grpc_percent_decode(const char *in, size_t len, char *out, size_t size);

/* What the header and trailer lines of a response say. */
struct grpc_headers {
        int http_status; /* 0 before the status line */
        bool is_grpc;    /* content-type is application/grpc… */
        bool has_status; /* grpc-status was there */
        int code;
        int64_t retry_after_us; /* the server's wish, or -1 */
        char message[GRPC_MESSAGE_TEXT_MAX]; /* one printable line */
};

void grpc_headers_init(struct grpc_headers *h);

/* One line, without its end. A status line begins anew, as after an interim response. */
void grpc_headers_line(struct grpc_headers *h, const char *line, size_t len);

/* A value for the grpc-timeout header, which has at most 8 digits. */
void grpc_timeout_format(int64_t us, char out[16]);

/* Bytes of base64, padded or not, any of the two alphabets; the length, or -EINVAL. @out has room for 3/4 of @len. */
int grpc_base64_decode(const char *text, size_t len, unsigned char *out);

/* The retry_after_secs of an RPCRetryPolicy among the details of a google.rpc.Status, in microseconds; -1: none. */
int64_t grpc_retry_after(const unsigned char *status, size_t len);
