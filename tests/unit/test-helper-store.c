/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/helper/agent/store.h"
#include "prng.h"

/* Byte @at of a stream. */
static uint8_t byte_of(unsigned stream, uint64_t at) {
        return (uint8_t)(at * 7 + at / 251 + stream * 101);
}

static bool add(struct output *o, unsigned stream, size_t len) {
        size_t room;
        uint8_t *p = output_room(o, stream, &room);

        if (!p)
                return false;
        CHECK(room >= PACKET_SIZE);
        for (size_t i = 0; i < len; i++)
                p[i] = byte_of(stream, o->end[stream] + i);
        output_add(o, stream, len);
        return true;
}

static bool next_is(struct output *o, size_t most, unsigned stream, uint64_t offset, size_t len) {
        const uint8_t *data;
        unsigned s;
        uint64_t at;
        size_t n;

        if (!output_next(o, most, &s, &at, &data, &n) || s != stream || at != offset || n != len)
                return false;
        for (size_t i = 0; i < n; i++)
                if (data[i] != byte_of(s, at + i))
                        return false;
        return true;
}

static bool is_empty(struct output *o) {
        const uint8_t *data;
        unsigned stream;
        uint64_t offset;
        size_t len;

        return !output_next(o, 1, &stream, &offset, &data, &len);
}

static void in_the_order_of_reading(void) {
        struct output o;

        output_init(&o);
        CHECK(is_empty(&o));
        CHECK(add(&o, 0, 2));
        CHECK(add(&o, 1, 2));
        CHECK(add(&o, 0, 1));
        CHECK(add(&o, 0, 3)); /* one piece with what was there */
        CHECK(next_is(&o, 100, 0, 0, 2));
        CHECK(next_is(&o, 1, 1, 0, 1));
        CHECK(next_is(&o, 100, 1, 1, 1));
        CHECK(next_is(&o, 100, 0, 2, 4));
        CHECK(is_empty(&o));
        CHECK(output_is_sent(&o));
        CHECK_INT(output_under_way(&o), 8);
        CHECK(add(&o, 0, 5)); /* behind what is sent */
        CHECK(!output_is_sent(&o));
        CHECK(next_is(&o, 100, 0, 6, 5));
        output_deinit(&o);
}

static void acknowledged_is_dropped(void) {
        struct output o;

        output_init(&o);
        add(&o, 0, 10);
        add(&o, 1, 10);
        add(&o, 0, 10);
        CHECK(next_is(&o, 100, 0, 0, 10));
        CHECK(!output_ack(&o, (uint64_t[]){ 21, 0 }));
        CHECK(!output_ack(&o, (uint64_t[]){ 0, 11 }));
        CHECK(output_ack(&o, (uint64_t[]){ 10, 0 }));
        CHECK_INT(o.base[0], 10);
        CHECK(next_is(&o, 100, 1, 0, 10));

        /* A new carrier whose daemon has a part already, and says so after the start. */
        output_rewind(&o);
        CHECK(output_ack(&o, (uint64_t[]){ 10, 4 }));
        CHECK(next_is(&o, 100, 1, 4, 6));
        CHECK(next_is(&o, 100, 0, 10, 10));
        CHECK(output_ack(&o, (uint64_t[]){ 5, 0 })); /* less than before: it stays */
        CHECK_INT(o.acked[1], 4);
        CHECK(output_ack(&o, (uint64_t[]){ 20, 10 }));
        CHECK_INT(o.n_chunks, 0);
        CHECK(is_empty(&o));
        CHECK(add(&o, 1, 3));
        CHECK(next_is(&o, 100, 1, 10, 3));

        /* More than was sent is acknowledged: a daemon had it from the carrier before. */
        add(&o, 0, 4);
        output_rewind(&o);
        CHECK(output_ack(&o, (uint64_t[]){ 24, 13 }));
        CHECK(output_is_sent(&o));
        CHECK(is_empty(&o));
        output_deinit(&o);
}

/* One that fills all it can leaves every other job its own part; what is given back can be had again. */
static void shares(void) {
        static struct output o[HELPER_JOBS_MAX];
        uint64_t full;

        for (int round = 0; round < 3; round++) {
                for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                        output_init(&o[i]);
                while (add(&o[0], 0, PACKET_SIZE))
                        ;
                full = o[0].end[0];
                CHECK(full >= 500 << 10);
                CHECK_INT(o[0].n_chunks, OUTPUT_CHUNKS_EACH);
                while (add(&o[1], 0, PACKET_SIZE))
                        ;
                for (unsigned i = 2; i < HELPER_JOBS_MAX; i++) {
                        CHECK(add(&o[i], 0, PACKET_SIZE));
                        CHECK(add(&o[i], 1, PACKET_SIZE));
                        CHECK(!add(&o[i], 0, PACKET_SIZE));
                }
                CHECK(output_ack(&o[0], (uint64_t[]){ full, 0 }));
                CHECK(add(&o[2], 0, PACKET_SIZE));
                for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                        output_deinit(&o[i]);
        }
}

/* Whatever comes, is sent, acknowledged and sent again: no byte is lost, changed or out of order. */
static void at_random(void) {
        struct prng random = { 3 };

        for (unsigned seed = 0; seed < 200; seed++) {
                uint64_t acked[2] = {}, got[2] = {};
                struct output o;

                output_init(&o);
                for (unsigned step = 0; step < 400; step++) {
                        const uint8_t *data;
                        unsigned s = prng_below(&random, 2);
                        uint64_t offset;
                        size_t len;

                        switch (prng_below(&random, 5)) {
                        case 0:
                        case 1:
                                add(&o, s, 1 + prng_scaled(&random, PACKET_SIZE - 1));
                                break;
                        case 2:
                        case 3:
                                len = 1 + prng_scaled(&random, HELPER_DATA_MAX);
                                if (!output_next(&o, len, &s, &offset, &data, &len))
                                        break;
                                CHECK(offset <= got[s]);
                                for (size_t i = 0; i < len; i++)
                                        CHECK_INT(data[i], byte_of(s, offset + i));
                                if (offset + len > got[s])
                                        got[s] = offset + len;
                                break;
                        default:
                                if (prng_chance(&random, 200))
                                        output_rewind(&o);
                                acked[s] += prng_below(&random, got[s] - acked[s] + 1);
                                CHECK(output_ack(&o, acked));
                                CHECK(output_under_way(&o) <= got[0] + got[1] - acked[0] - acked[1]);
                        }
                }
                while (!is_empty(&o))
                        ;
                CHECK(output_is_sent(&o));
                output_deinit(&o);
        }
}

/* input */

static bool put(struct input *in, uint64_t offset, size_t len, bool end) {
        static uint8_t data[HELPER_DATA_MAX];

        for (size_t i = 0; i < len; i++)
                data[i] = byte_of(0, offset + i);
        return input_put(in, offset, data, len, end);
}

static void take_all(struct input *in) {
        const uint8_t *data;
        size_t len;

        while ((len = input_peek(in, &data)) > 0) {
                for (size_t i = 0; i < len; i++)
                        CHECK_INT(data[i], byte_of(0, in->taken + i));
                input_take(in, len);
        }
}

static void input_within_its_limit(void) {
        struct input in;

        input_init(&in);
        CHECK_INT(in.limit, HELPER_INPUT_FIRST);
        CHECK(put(&in, 0, 100, false));
        CHECK(put(&in, 0, 100, false)); /* again, by another carrier */
        CHECK(put(&in, 50, 100, false));
        CHECK_INT(in.have, 150);
        CHECK(!put(&in, 151, 1, false)); /* a gap */
        CHECK(!put(&in, 150, HELPER_INPUT_FIRST, false));
        CHECK(put(&in, 150, HELPER_INPUT_FIRST - 150, false));
        take_all(&in);
        CHECK(in.limit > HELPER_INPUT_FIRST);
        CHECK(put(&in, in.have, 5, true));
        CHECK(in.end);
        CHECK(put(&in, in.have - 5, 5, true));
        CHECK(put(&in, in.have, 0, true));
        CHECK(!put(&in, in.have, 1, false)); /* behind the end */
        take_all(&in);
        input_shut(&in);
}

/* Sends as much as may be sent, and one piece can hold. */
static size_t put_most(struct input *in, size_t most) {
        size_t len = in->limit - in->have < most ? in->limit - in->have : most;

        CHECK(put(in, in->have, len, false));
        return len;
}

static void input_grows_while_it_is_read(void) {
        static struct input in[HELPER_JOBS_MAX];
        uint64_t total = 0;

        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                input_init(&in[i]);
        for (unsigned round = 0; round < 3; round++)
                for (unsigned i = 0; i < HELPER_JOBS_MAX; i++)
                        for (unsigned k = 0; k < 50; k++) {
                                size_t len = put_most(&in[i], HELPER_DATA_MAX);

                                CHECK(len > 0);
                                take_all(&in[i]);
                                total += len;
                        }
        CHECK_INT(in[0].window, INPUT_CHUNKS_EACH);
        for (unsigned i = 0; i < HELPER_JOBS_MAX; i++) { /* all that was promised fits */
                while (in[i].have < in[i].limit)
                        put_most(&in[i], 1000);
                take_all(&in[i]);
                input_shut(&in[i]);
        }
        input_init(&in[0]);
        CHECK_INT(in[0].window, 1);
        input_shut(&in[0]);
        CHECK(total > 0);
}

static void input_that_nobody_reads(void) {
        struct input in;

        input_init(&in);
        CHECK(put(&in, 0, 5000, false));
        input_shut(&in);
        for (int i = 0; i < 1000; i++)
                CHECK(put(&in, in.have, 4000, false));
        CHECK_INT(in.have, 5000 + 4000 * 1000);
        CHECK_INT(in.taken, in.have);
}

int main(void) {
        RUN(in_the_order_of_reading);
        RUN(acknowledged_is_dropped);
        RUN(shares);
        RUN(at_random);
        RUN(input_within_its_limit);
        RUN(input_grows_while_it_is_read);
        RUN(input_that_nobody_reads);
        return check_done();
}
