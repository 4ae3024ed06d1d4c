/* SPDX-License-Identifier: MIT */
#include "pool/helper/protocol.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A member of struct frame as it goes over the wire: in that many bytes, with a value of at most @most. */
struct field {
        uint16_t offset;
        uint8_t size;
        uint64_t most;
};

struct layout {
        const char *name;
        enum frame_sender from;
        size_t data_max;
        const struct field *fields; /* up to one of size 0; NULL: the type does not exist */
};

#define AT_MOST(member, value) { offsetof(struct frame, member), sizeof(((struct frame *)NULL)->member), value }
#define ANY(member) AT_MOST(member, UINT64_MAX)
#define TIME(member) AT_MOST(member, HELPER_US_MAX)
#define OFFSET(member) AT_MOST(member, INT64_MAX)

/* Of their own lengths: the helper has to be small. */
#define FIELDS(...) (const struct field[]){ __VA_ARGS__, {} }
#define NO_FIELDS (const struct field[]){ {} }

/* The whole protocol: a type that is not here does not exist. */
static const struct layout layouts[FRAME_N_TYPES] = {
        [FRAME_HELLO] = { "HELLO", FRAME_OF_DAEMON, HELPER_POOL_MAX,
                          FIELDS(ANY(version), ANY(oldest), ANY(key), ANY(epoch), ANY(carrier)) },
        [FRAME_START] = { "START", FRAME_OF_DAEMON, HELPER_DATA_MAX,
                          FIELDS(ANY(job), AT_MOST(flags, START_FLAGS), ANY(rows), ANY(columns), TIME(timeout_us),
                            TIME(grace_us), AT_MOST(window, HELPER_WINDOW_MAX), AT_MOST(n_env, HELPER_ENV_MAX),
                            AT_MOST(spec_len, HELPER_SPEC_MAX)) },
        [FRAME_SPEC] = { "SPEC", FRAME_OF_DAEMON, HELPER_DATA_MAX, FIELDS(ANY(job), AT_MOST(offset, HELPER_SPEC_MAX)) },
        [FRAME_INPUT] = { "INPUT", FRAME_OF_DAEMON, HELPER_DATA_MAX, FIELDS(ANY(job), OFFSET(offset), AT_MOST(end, 1)) },
        [FRAME_ACK] = { "ACK", FRAME_OF_DAEMON, 0,
                        FIELDS(ANY(job), OFFSET(streams[0]), OFFSET(streams[1]), AT_MOST(window, HELPER_WINDOW_MAX)) },
        [FRAME_SIGNAL] = { "SIGNAL", FRAME_OF_DAEMON, 0, FIELDS(ANY(job), ANY(order), AT_MOST(signo, 64)) },
        [FRAME_KILL] = { "KILL", FRAME_OF_DAEMON, 0, FIELDS(ANY(job), ANY(order), TIME(grace_us)) },
        [FRAME_RESIZE] = { "RESIZE", FRAME_OF_DAEMON, 0, FIELDS(ANY(job), ANY(order), ANY(rows), ANY(columns)) },
        [FRAME_FORGET] = { "FORGET", FRAME_OF_DAEMON, 0, FIELDS(ANY(job)) },
        [FRAME_REQUEST] = { "REQUEST", FRAME_OF_DAEMON, HELPER_DATA_MAX, FIELDS(ANY(request), ANY(kind), ANY(flags)) },

        [FRAME_WELCOME] = { "WELCOME", FRAME_OF_HELPER, 0,
                            FIELDS(ANY(version), ANY(epoch), ANY(carrier), AT_MOST(count, HELPER_JOBS_MAX)) },
        [FRAME_STALE] = { "STALE", FRAME_OF_HELPER, 0, FIELDS(ANY(epoch), ANY(carrier)) },
        [FRAME_JOB] = { "JOB", FRAME_OF_HELPER, 0,
                        FIELDS(ANY(job), AT_MOST(state, HELPER_JOB_N_STATES - 1), AT_MOST(spec_len, HELPER_SPEC_MAX),
                          OFFSET(offset), OFFSET(limit), ANY(order), ANY(flags)) },
        [FRAME_OUTPUT] = { "OUTPUT", FRAME_OF_HELPER, HELPER_DATA_MAX,
                           FIELDS(ANY(job), AT_MOST(stream, 1), OFFSET(offset)) },
        [FRAME_ENDED] = { "ENDED", FRAME_OF_HELPER, HELPER_TEXT_MAX,
                          FIELDS(ANY(job), AT_MOST(how, HELPER_END_N - 1), ANY(value), ANY(ran_us), OFFSET(streams[0]),
                            OFFSET(streams[1])) },
        [FRAME_REPLY] = { "REPLY", FRAME_OF_HELPER, HELPER_DATA_MAX, FIELDS(ANY(request), ANY(kind), ANY(value)) },
        [FRAME_REFUSED] = { "REFUSED", FRAME_OF_HELPER, 0, FIELDS(ANY(count)) },
        [FRAME_ERROR] = { "ERROR", FRAME_OF_HELPER, HELPER_TEXT_MAX, NO_FIELDS },

        [FRAME_CALL] = { "CALL", FRAME_OF_DAEMON, HELPER_DATA_MAX, FIELDS(ANY(request)) },
        [FRAME_ANSWER] = { "ANSWER", FRAME_OF_HELPER, HELPER_DATA_MAX, FIELDS(ANY(request), ANY(value)) },
        [FRAME_OPEN] = { "OPEN", FRAME_OF_DAEMON, HELPER_DATA_MAX,
                         FIELDS(ANY(channel), AT_MOST(kind, CHANNEL_N_KINDS - 1), AT_MOST(flags, CHANNEL_FLAGS), ANY(port),
                           AT_MOST(window, HELPER_CHANNEL_WINDOW)) },
        [FRAME_CLOSE] = { "CLOSE", FRAME_OF_DAEMON, 0, FIELDS(ANY(channel)) },
        [FRAME_DATA] = { "DATA", FRAME_OF_EITHER, HELPER_DATA_MAX, FIELDS(ANY(channel), OFFSET(offset), AT_MOST(end, 1)) },
        [FRAME_WINDOW] = { "WINDOW", FRAME_OF_EITHER, 0, FIELDS(ANY(channel), OFFSET(offset), OFFSET(limit)) },
        [FRAME_OPENED] = { "OPENED", FRAME_OF_HELPER, 0, FIELDS(ANY(channel)) },
        [FRAME_RESET] = { "RESET", FRAME_OF_HELPER, 0, FIELDS(ANY(channel), AT_MOST(value, HELPER_ERRNO_MAX)) },
        [FRAME_CLOSED] = { "CLOSED", FRAME_OF_HELPER, 0, FIELDS(ANY(channel)) },
};

static bool is_type(unsigned type, enum frame_sender from) {
        return type < FRAME_N_TYPES && layouts[type].name &&
               (layouts[type].from == from || layouts[type].from == FRAME_OF_EITHER);
}

static size_t fields_size(enum frame_type type) {
        size_t size = 0;

        for (const struct field *f = layouts[type].fields; f->size; f++)
                size += f->size;
        return size;
}

const char *frame_name(enum frame_type type) {
        return layouts[type].name;
}

size_t frame_size(enum frame_type type, size_t len) {
        return FRAME_HEAD + fields_size(type) + len;
}

size_t frame_data_max(enum frame_type type) {
        return layouts[type].data_max;
}

static void put(uint8_t *out, uint64_t value, size_t size) {
        for (size_t i = 0; i < size; i++)
                out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, size_t size) {
        uint64_t value = 0;

        for (size_t i = 0; i < size; i++)
                value |= (uint64_t)in[i] << (8 * i);
        return value;
}

/* An integer member of struct frame, by its size. */
static uint64_t member_get(const void *member, size_t size) {
        switch (size) {
        case 1:
                return *(const uint8_t *)member;
        case 2:
                return *(const uint16_t *)member;
        case 4:
                return *(const uint32_t *)member;
        default:
                return *(const uint64_t *)member;
        }
}

static void member_set(void *member, size_t size, uint64_t value) {
        switch (size) {
        case 1:
                *(uint8_t *)member = (uint8_t)value;
                break;
        case 2:
                *(uint16_t *)member = (uint16_t)value;
                break;
        case 4:
                *(uint32_t *)member = (uint32_t)value;
                break;
        default:
                *(uint64_t *)member = value;
                break;
        }
}

size_t frame_encode(const struct frame *f, uint8_t *out) {
        const struct layout *l = &layouts[f->type];
        uint8_t *p = out + FRAME_HEAD;

        assert(f->len <= l->data_max);
        for (const struct field *field = l->fields; field->size; p += field->size, field++) {
                const uint8_t *member = (const uint8_t *)f + field->offset;

                if (field->size > sizeof(uint64_t)) {
                        memcpy(p, member, field->size);
                        continue;
                }
                assert(member_get(member, field->size) <= field->most);
                put(p, member_get(member, field->size), field->size);
        }
        if (f->len > 0)
                memcpy(p, f->data, f->len);
        p += f->len;
        put(out, (uint64_t)(p - out - FRAME_HEAD), 3);
        out[3] = (uint8_t)f->type;
        return p - out;
}

void decoder_init(struct decoder *d, enum frame_sender from) {
        d->from = from;
        d->start = d->len = 0;
}

uint8_t *decoder_room(struct decoder *d, size_t *len) {
        if (d->len == 0) {
                d->start = 0;
        } else if (sizeof(d->buffer) - d->start < FRAME_MAX) {
                memmove(d->buffer, d->buffer + d->start, d->len);
                d->start = 0;
        }
        *len = sizeof(d->buffer) - d->start - d->len;
        return d->buffer + d->start + d->len;
}

void decoder_add(struct decoder *d, size_t len) {
        assert(len <= sizeof(d->buffer) - d->start - d->len);
        d->len += len;
}

static int decode(const struct layout *l, const uint8_t *p, size_t len, struct frame *f) {
        const uint8_t *end = p + len;

        for (const struct field *field = l->fields; field->size; p += field->size, field++) {
                uint8_t *member = (uint8_t *)f + field->offset;
                uint64_t value;

                if (field->size > sizeof(uint64_t)) {
                        memcpy(member, p, field->size);
                        continue;
                }
                value = get(p, field->size);
                if (value > field->most)
                        return -EPROTO;
                member_set(member, field->size, value);
        }
        f->data = p;
        f->len = end - p;
        return 1;
}

int decoder_next(struct decoder *d, struct frame *f) {
        const uint8_t *p = d->buffer + d->start;
        const struct layout *l;
        size_t len, fields;

        if (d->len < FRAME_HEAD)
                return 0;
        len = get(p, 3);
        if (!is_type(p[3], d->from))
                return -EPROTO;
        l = &layouts[p[3]];
        fields = fields_size(p[3]);
        /* Before the rest has come: nobody waits for a frame that is not to be. */
        if (len < fields || len > fields + l->data_max)
                return -EPROTO;
        if (d->len < FRAME_HEAD + len)
                return 0;
        *f = (struct frame){ .type = p[3] };
        d->start += FRAME_HEAD + len;
        d->len -= FRAME_HEAD + len;
        return decode(l, p + FRAME_HEAD, len, f);
}

const char *spec_string(const char **next, const char *end) {
        const char *string = *next;
        const char *nul = string < end ? memchr(string, '\0', end - string) : NULL;

        if (!nul)
                return NULL;
        *next = nul + 1;
        return string;
}
