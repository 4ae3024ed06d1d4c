/* SPDX-License-Identifier: MIT */
#include "pool/net/grpc-wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

#define DETAILS_MAX 8192               /* characters of grpc-status-details-bin that are looked at */
#define RETRY_AFTER_MAX_SECS 3600.0f   /* a longer wish counts as this */
#define RETRY_POLICY_NAME "modal.client.RPCRetryPolicy"

const char *grpc_code_name(int code) {
        static const char *const names[] = {
                "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
                "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
                "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
        };

        if (code < 0 || (size_t)code >= sizeof(names) / sizeof(names[0]))
                return "UNKNOWN";
        return names[code];
}

/* frames */

void grpc_frames_init(struct grpc_frames *f, size_t max) {
        *f = (struct grpc_frames){ .max = max };
}

void grpc_frames_deinit(struct grpc_frames *f) {
        free(f->data);
        *f = (struct grpc_frames){ .max = f->max };
}

static size_t at_most(size_t a, size_t b) {
        return a < b ? a : b;
}

/* The head is whole: make room. */
static int begin_message(struct grpc_frames *f) {
        f->len = (uint32_t)f->head[1] << 24 | (uint32_t)f->head[2] << 16 | (uint32_t)f->head[3] << 8 | f->head[4];
        f->have = 0;
        if (f->head[0] != 0)
                return -EPROTO;
        if (f->len > f->max)
                return -EFBIG;
        f->data = malloc(f->len ? f->len : 1);
        return f->data ? 0 : -ENOMEM;
}

ssize_t grpc_frames_push(struct grpc_frames *f, const void *data, size_t len,
                         int (*take)(void *owner, const void *message, size_t len), void *owner) {
        const char *p = data, *begin = p;
        int r = 0;

        while (len > 0 && r == 0) {
                size_t n;

                if (f->n_head < sizeof(f->head)) {
                        n = at_most(len, sizeof(f->head) - f->n_head);
                        memcpy(f->head + f->n_head, p, n);
                        f->n_head += n;
                        p += n;
                        len -= n;
                        if (f->n_head < sizeof(f->head))
                                break;
                        r = begin_message(f);
                        if (r < 0)
                                return r;
                }
                n = at_most(len, f->len - f->have);
                memcpy(f->data + f->have, p, n);
                f->have += n;
                p += n;
                len -= n;
                if (f->have == f->len) {
                        _cleanup_(cleanup_free) char *message = TAKE_PTR(f->data);

                        f->n_head = 0;
                        r = take(owner, message, f->len);
                        if (r < 0)
                                return r;
                }
        }
        return p - begin;
}

void grpc_frame_head(unsigned char head[5], uint32_t len) {
        head[0] = 0;
        head[1] = len >> 24;
        head[2] = len >> 16;
        head[3] = len >> 8;
        head[4] = len;
}

/* base64 */

static int base64_value(char c) {
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        if (c == '+' || c == '-')
                return 62;
        if (c == '/' || c == '_')
                return 63;
        return -1;
}

int grpc_base64_decode(const char *text, size_t len, unsigned char *out) {
        uint32_t bits = 0;
        int n_bits = 0, n = 0;

        for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++)
                len--;
        if (len % 4 == 1)
                return -EINVAL;
        for (size_t i = 0; i < len; i++) {
                int value = base64_value(text[i]);

                if (value < 0)
                        return -EINVAL;
                bits = bits << 6 | value;
                n_bits += 6;
                if (n_bits >= 8) {
                        n_bits -= 8;
                        out[n++] = bits >> n_bits;
                }
        }
        return n;
}

/* the details of a status, in the protobuf wire format */

struct field {
        uint32_t number;
        unsigned type;
        const unsigned char *data; /* of types 2 and 5 */
        size_t len;
};

static int take_varint(const unsigned char **p, const unsigned char *end, uint64_t *out) {
        uint64_t value = 0;

        for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
                unsigned char c = *(*p)++;

                value |= (uint64_t)(c & 0x7f) << shift;
                if (!(c & 0x80)) {
                        *out = value;
                        return 0;
                }
        }
        return -EINVAL;
}

/* The next field; -EINVAL at the end and for what is none. */
static int take_field(const unsigned char **p, const unsigned char *end, struct field *f) {
        uint64_t key, len;

        if (take_varint(p, end, &key) < 0)
                return -EINVAL;
        f->number = key >> 3;
        f->type = key & 7;
        switch (f->type) {
        case 0:
                if (take_varint(p, end, &len) < 0)
                        return -EINVAL;
                f->len = 0;
                return 0;
        case 1:
                len = 8;
                break;
        case 2:
                if (take_varint(p, end, &len) < 0)
                        return -EINVAL;
                break;
        case 5:
                len = 4;
                break;
        default:
                return -EINVAL;
        }
        if (len > (uint64_t)(end - *p))
                return -EINVAL;
        f->data = *p;
        f->len = len;
        *p += len;
        return 0;
}

/* RPCRetryPolicy { float retry_after_secs = 1; } */
static int64_t read_retry_policy(const unsigned char *p, size_t len) {
        const unsigned char *end = p + len;
        float seconds = -1;
        struct field f = {};

        while (take_field(&p, end, &f) == 0)
                if (f.number == 1 && f.type == 5) {
                        uint32_t bits = f.data[0] | f.data[1] << 8 | f.data[2] << 16 | (uint32_t)f.data[3] << 24;

                        memcpy(&seconds, &bits, sizeof(seconds));
                }
        /* Not a number compares false with everything. */
        if (!(seconds >= 0))
                return -1;
        if (seconds > RETRY_AFTER_MAX_SECS)
                seconds = RETRY_AFTER_MAX_SECS;
        return (int64_t)(seconds * USEC_PER_SEC);
}

/* google.protobuf.Any { string type_url = 1; bytes value = 2; } */
static int64_t read_detail(const unsigned char *p, size_t len) {
        const unsigned char *end = p + len;
        struct field f, url = {}, value = {};
        size_t name = strlen(RETRY_POLICY_NAME);

        while (take_field(&p, end, &f) == 0) {
                if (f.number == 1 && f.type == 2)
                        url = f;
                if (f.number == 2 && f.type == 2)
                        value = f;
        }
        if (url.len < name || memcmp(url.data + url.len - name, RETRY_POLICY_NAME, name) || !value.data)
                return -1;
        return read_retry_policy(value.data, value.len);
}

/* google.rpc.Status { int32 code = 1; string message = 2; repeated Any details = 3; } */
int64_t grpc_retry_after(const unsigned char *status, size_t len) {
        const unsigned char *p = status, *end = status + len;
        struct field f = {};

        while (take_field(&p, end, &f) == 0)
                if (f.number == 3 && f.type == 2) {
                        int64_t us = read_detail(f.data, f.len);

                        if (us >= 0)
                                return us;
                }
        return -1;
}

/* headers */

void grpc_headers_init(struct grpc_headers *h) {
        *h = (struct grpc_headers){ .retry_after_us = -1 };
}

static int hex_value(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_percent_decode(const char *in, size_t len, char *out, size_t size) {
        size_t n = 0;

        for (size_t i = 0; i < len && n + 1 < size; i++) {
                if (in[i] == '%' && len - i > 2 && hex_value(in[i + 1]) >= 0 && hex_value(in[i + 2]) >= 0) {
                        out[n++] = hex_value(in[i + 1]) << 4 | hex_value(in[i + 2]);
                        i += 2;
                } else {
                        out[n++] = in[i];
                }
        }
        text_show(out, size, out, n);
}

/* Digits only; anything else is "UNKNOWN". */
static int read_code(const char *value, size_t len) {
        int code = 0;

        if (len == 0 || len > 3)
                return GRPC_UNKNOWN;
        for (size_t i = 0; i < len; i++) {
                if (value[i] < '0' || value[i] > '9')
                        return GRPC_UNKNOWN;
                code = code * 10 + (value[i] - '0');
        }
        return code <= GRPC_UNAUTHENTICATED ? code : GRPC_UNKNOWN;
}

static void read_details(struct grpc_headers *h, const char *value, size_t len) {
        unsigned char bytes[DETAILS_MAX];
        int n;

        if (len > DETAILS_MAX)
                return;
        n = grpc_base64_decode(value, len, bytes);
        if (n > 0)
                h->retry_after_us = grpc_retry_after(bytes, n);
}

static bool is_status_line(const char *line, size_t len) {
        return len > 5 && !strncasecmp(line, "HTTP/", 5);
}

bool grpc_header_is(const struct grpc_header *h, const char *name) {
        return h->name_len == strlen(name) && !strncasecmp(h->name, name, h->name_len);
}

bool grpc_header_split(struct grpc_header *h, const char *line, size_t len) {
        const char *colon = is_status_line(line, len) ? NULL : memchr(line, ':', len);
        const char *value, *end = line + len;

        if (!colon)
                return false;
        value = colon + 1;
        while (value < end && (*value == ' ' || *value == '\t'))
                value++;
        while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
                end--;
        *h = (struct grpc_header){ line, value, colon - line, end - value };
        return true;
}

void grpc_headers_line(struct grpc_headers *h, const char *line, size_t len) {
        struct grpc_header one;

        if (is_status_line(line, len)) {
                const char *space = memchr(line, ' ', len);

                grpc_headers_init(h);
                for (const char *p = space; p && ++p < line + len && *p >= '0' && *p <= '9' && p - space <= 3;)
                        h->http_status = h->http_status * 10 + (*p - '0');
                return;
        }
        if (!grpc_header_split(&one, line, len))
                return;
        if (grpc_header_is(&one, "grpc-status")) {
                h->has_status = true;
                h->code = read_code(one.value, one.value_len);
        } else if (grpc_header_is(&one, "grpc-message")) {
                grpc_percent_decode(one.value, one.value_len, h->message, sizeof(h->message));
        } else if (grpc_header_is(&one, "grpc-status-details-bin")) {
                read_details(h, one.value, one.value_len);
        } else if (grpc_header_is(&one, "content-type")) {
                h->is_grpc = one.value_len >= 16 && !strncasecmp(one.value, "application/grpc", 16);
        }
}

void grpc_timeout_format(int64_t us, char out[16]) {
        int64_t ms = us / USEC_PER_MSEC;

        if (ms < 1)
                ms = 1;
        if (ms <= 99999999)
                snprintf(out, 16, "%dm", (int)ms);
        else
                snprintf(out, 16, "%dS", (int)(ms / 1000 > 99999999 ? 99999999 : ms / 1000));
}
