/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/helper/protocol.h"
#include "prng.h"

static const struct {
        enum frame_type type;
        size_t fields;
        enum frame_sender from;
} types[] = {
        { FRAME_HELLO, 40, FRAME_OF_DAEMON },
        { FRAME_START, 49, FRAME_OF_DAEMON },
        { FRAME_SPEC, 24, FRAME_OF_DAEMON },
        { FRAME_INPUT, 25, FRAME_OF_DAEMON },
        { FRAME_ACK, 36, FRAME_OF_DAEMON },
        { FRAME_SIGNAL, 21, FRAME_OF_DAEMON },
        { FRAME_KILL, 28, FRAME_OF_DAEMON },
        { FRAME_RESIZE, 24, FRAME_OF_DAEMON },
        { FRAME_FORGET, 16, FRAME_OF_DAEMON },
        { FRAME_REQUEST, 10, FRAME_OF_DAEMON },
        { FRAME_WELCOME, 24, FRAME_OF_HELPER },
        { FRAME_STALE, 16, FRAME_OF_HELPER },
        { FRAME_JOB, 42, FRAME_OF_HELPER },
        { FRAME_OUTPUT, 25, FRAME_OF_HELPER },
        { FRAME_ENDED, 45, FRAME_OF_HELPER },
        { FRAME_REPLY, 13, FRAME_OF_HELPER },
        { FRAME_REFUSED, 4, FRAME_OF_HELPER },
        { FRAME_ERROR, 0, FRAME_OF_HELPER },
        { FRAME_CALL, 8, FRAME_OF_DAEMON },
        { FRAME_ANSWER, 12, FRAME_OF_HELPER },
        { FRAME_OPEN, 12, FRAME_OF_DAEMON },
        { FRAME_CLOSE, 4, FRAME_OF_DAEMON },
        { FRAME_DATA, 13, FRAME_OF_DAEMON },
        { FRAME_WINDOW, 20, FRAME_OF_HELPER },
        { FRAME_OPENED, 4, FRAME_OF_HELPER },
        { FRAME_RESET, 8, FRAME_OF_HELPER },
        { FRAME_CLOSED, 4, FRAME_OF_HELPER },
};
#define N_TYPES (sizeof(types) / sizeof(types[0]))

static struct decoder decoder;
static uint8_t wire[4 * FRAME_MAX];

/* A frame as it was sent, byte for byte: this is what both ends, whatever their versions, agree on. */
static void bytes_of_a_frame(void) {
        const uint8_t expected[] = {
                25 + 5, 0, 0, FRAME_INPUT,
                1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
                0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
                1,
                'h', 'e', 'l', 'l', 'o',
        };
        const uint8_t *hello = (const uint8_t *)"hello";
        struct frame f = { .type = FRAME_INPUT, .offset = 0x0102030405060708, .end = 1, .data = hello, .len = 5 };

        for (size_t i = 0; i < sizeof(f.job); i++)
                f.job[i] = (uint8_t)(i + 1);
        CHECK_INT(frame_encode(&f, wire), sizeof(expected));
        CHECK_INT(frame_size(FRAME_INPUT, 5), sizeof(expected));
        CHECK(!memcmp(wire, expected, sizeof(expected)));
}

static void sizes(void) {
        size_t n_types = 0;

        for (int type = 0; type < FRAME_N_TYPES; type++)
                n_types += frame_name(type) != NULL;
        CHECK_INT(N_TYPES, n_types);
        for (size_t i = 0; i < N_TYPES; i++) {
                CHECK_INT(types[i].type, i < FRAME_ERROR       ? i + 1
                                              : i < FRAME_ERROR + 2U ? FRAME_CALL + i - FRAME_ERROR
                                                                     : FRAME_OPEN + i - FRAME_ERROR - 2);
                CHECK_INT(frame_size(types[i].type, 0), FRAME_HEAD + types[i].fields);
                CHECK(frame_size(types[i].type, frame_data_max(types[i].type)) <= FRAME_MAX);
        }
        CHECK_STR(frame_name(FRAME_WELCOME), "WELCOME");
}

/* Put bytes in pieces of up to @piece; count the frames, give the last. -EPROTO as decoder_next() says so. */
static int push(const uint8_t *data, size_t len, size_t piece, struct frame *last) {
        int n = 0;

        while (len > 0) {
                size_t room, part = len < piece ? len : piece;
                uint8_t *p = decoder_room(&decoder, &room);
                struct frame f;
                int r;

                if (room == 0)
                        return -ENOSPC;
                part = part < room ? part : room;
                memcpy(p, data, part);
                decoder_add(&decoder, part);
                data += part;
                len -= part;
                while ((r = decoder_next(&decoder, &f)) == 1) {
                        n++;
                        *last = f;
                }
                if (r < 0)
                        return r;
        }
        return n;
}

/* Every type, with as much data as it may have, in pieces of every kind. */
static void there_and_back(void) {
        static uint8_t data[HELPER_DATA_MAX];
        struct prng random = { 1 };

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (uint8_t)prng_next(&random);
        for (size_t i = 0; i < N_TYPES; i++) {
                struct frame f = {
                        .type = types[i].type, .epoch = 7, .carrier = UINT64_MAX, .offset = 3,
                        .streams = { 1, INT64_MAX },
                        .limit = 9, .timeout_us = HELPER_US_MAX, .grace_us = 5, .ran_us = 6, .request = 8, .version = 1,
                        .oldest = 1, .spec_len = 11, .n_env = 12, .order = UINT32_MAX, .window = 14, .count = 15,
                        .value = 16, .rows = 65535, .columns = 18, .flags = START_FLAGS, .stream = 1, .end = 1,
                        .state = 4, .how = 6, .signo = 64, .kind = 255, .channel = 17, .port = 18, .data = data,
                        .len = frame_data_max(types[i].type),
                };
                size_t len;

                if (f.type == FRAME_OPEN) {
                        f.flags = CHANNEL_FLAGS;
                        f.kind = CHANNEL_N_KINDS - 1;
                }
                len = frame_encode(&f, wire);
                for (size_t piece = 1; piece < 4096; piece = piece * 3 + 1) {
                        struct frame got = {};
                        uint8_t again[FRAME_MAX];

                        decoder_init(&decoder, types[i].from);
                        CHECK_INT(push(wire, len, piece, &got), 1);
                        CHECK_INT(got.type, f.type);
                        CHECK_INT(got.len, f.len);
                        CHECK_INT(frame_encode(&got, again), len);
                        CHECK(!memcmp(again, wire, len));
                }
        }
}

/* Only of the other end, and nothing that is no frame; said before its data has come. */
static void what_is_none(void) {
        struct frame f = { .type = FRAME_REQUEST, .kind = HELPER_PING };
        size_t len = frame_encode(&f, wire);

        decoder_init(&decoder, FRAME_OF_HELPER);
        CHECK_INT(push(wire, len, len, &f), -EPROTO);
        for (int type = 0; type < 256; type++) {
                const uint8_t head[] = { 0xff, 0xff, 0xff, (uint8_t)type };

                for (int from = 0; from < 2; from++) {
                        decoder_init(&decoder, from);
                        CHECK_INT(push(head, sizeof(head), 4, &f), -EPROTO);
                }
        }
        for (size_t i = 0; i < N_TYPES; i++) {
                size_t size = types[i].fields + frame_data_max(types[i].type);
                uint8_t short_head[] = { (uint8_t)(types[i].fields - 1), 0, 0, (uint8_t)types[i].type };
                uint8_t long_head[] = { (uint8_t)(size + 1), (uint8_t)((size + 1) >> 8), 0, (uint8_t)types[i].type };
                uint8_t good_head[] = { (uint8_t)size, (uint8_t)(size >> 8), 0, (uint8_t)types[i].type };

                decoder_init(&decoder, types[i].from);
                if (types[i].fields > 0)
                        CHECK_INT(push(short_head, 4, 4, &f), -EPROTO);
                decoder_init(&decoder, types[i].from);
                CHECK_INT(push(long_head, 4, 4, &f), -EPROTO);
                decoder_init(&decoder, types[i].from);
                CHECK_INT(push(good_head, 4, 1, &f), 0);
        }
}

/* A value that no sender of ours would give. */
static void values_out_of_range(void) {
        static const struct {
                enum frame_type type;
                size_t at; /* of the byte that makes it so */
                uint8_t value;
        } wrong[] = {
                { FRAME_START, 16, 8 },
                { FRAME_START, 28, 0xff },
                { FRAME_START, 36, 0xff },
                { FRAME_START, 40, 1 },
                { FRAME_START, 44, 1 },
                { FRAME_START, 48, 2 },
                { FRAME_INPUT, 24, 2 },
                { FRAME_INPUT, 23, 0x80 },
                { FRAME_ACK, 23, 0x80 },
                { FRAME_ACK, 35, 1 },
                { FRAME_SIGNAL, 20, 65 },
                { FRAME_KILL, 27, 1 },
                { FRAME_OPEN, 4, CHANNEL_N_KINDS },
                { FRAME_OPEN, 5, 4 },
                { FRAME_OPEN, 11, 1 },
                { FRAME_DATA, 12, 2 },
                { FRAME_WINDOW, 19, 0x80 },
        };
        struct frame f, got;

        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
                size_t len;

                f = (struct frame){ .type = wrong[i].type };
                len = frame_encode(&f, wire);
                decoder_init(&decoder, FRAME_OF_DAEMON);
                CHECK_INT(push(wire, len, len, &got), 1);
                wire[FRAME_HEAD + wrong[i].at] = wrong[i].value;
                decoder_init(&decoder, FRAME_OF_DAEMON);
                CHECK_INT(push(wire, len, len, &got), -EPROTO);
        }
}

/* Many frames of all sizes one after the other, in pieces of all sizes. */
static void a_long_stream(void) {
        static uint8_t data[HELPER_DATA_MAX];
        struct prng random = { 2 };
        unsigned sent = 0, came = 0;
        struct frame last = {};

        decoder_init(&decoder, FRAME_OF_DAEMON);
        for (unsigned round = 0; round < 2000; round++) {
                struct frame f = { .type = FRAME_SPEC, .data = data };
                size_t len = 0;
                int n;

                for (unsigned i = 0; i < 3; i++, sent++) {
                        f.offset = sent;
                        f.len = prng_scaled(&random, HELPER_DATA_MAX);
                        len += frame_encode(&f, wire + len);
                }
                n = push(wire, len, 1 + prng_scaled(&random, 2 * FRAME_MAX), &last);
                CHECK_INT(n, 3);
                came += n > 0 ? n : 0;
                CHECK_INT(last.offset, sent - 1);
                if (n != 3)
                        return;
        }
        CHECK_INT(came, sent);
}

static void strings_of_a_job(void) {
        const char block[] = "bash\0/work\0\0\0A=1\0exit 3";
        const char *next = block, *end = block + sizeof(block);

        CHECK_STR(spec_string(&next, end), "bash");
        CHECK_STR(spec_string(&next, end), "/work");
        CHECK_STR(spec_string(&next, end), "");
        CHECK_STR(spec_string(&next, end), "");
        CHECK_STR(spec_string(&next, end), "A=1");
        CHECK_STR(spec_string(&next, end), "exit 3");
        CHECK(next == end);
        CHECK(!spec_string(&next, end));
        next = block;
        CHECK(!spec_string(&next, block + 4));
        CHECK(next == block);
}

int main(void) {
        RUN(bytes_of_a_frame);
        RUN(sizes);
        RUN(there_and_back);
        RUN(what_is_none);
        RUN(values_out_of_range);
        RUN(a_long_stream);
        RUN(strings_of_a_job);
        return check_done();
}
