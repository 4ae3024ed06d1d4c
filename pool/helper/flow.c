/* SPDX-License-Identifier: MIT */
#include "pool/helper/flow.h"

#define TELL_SHARE 4 /* the sender is told when it may send this part of a window more */

/* the sender */

int flow_out_init(struct flow_out *f, size_t window) {
        *f = (struct flow_out){ .limit = window };
        return ring_init(&f->ring, window);
}

void flow_out_deinit(struct flow_out *f) {
        ring_deinit(&f->ring);
}

void flow_out_rewind(struct flow_out *f) {
        f->sent = f->ring.begin;
        f->end_sent = false;
}

bool flow_out_window(struct flow_out *f, uint64_t offset, uint64_t limit) {
        if (offset > f->most || limit < offset || limit - offset > f->ring.size)
                return false;
        if (offset > f->ring.begin)
                ring_drop(&f->ring, offset - f->ring.begin);
        if (f->sent < f->ring.begin)
                f->sent = f->ring.begin;
        if (limit > f->limit)
                f->limit = limit;
        return true;
}

static uint64_t sendable(const struct flow_out *f) {
        uint64_t most = f->ring.end < f->limit ? f->ring.end : f->limit;

        return most > f->sent ? most - f->sent : 0;
}

static bool end_waits(const struct flow_out *f) {
        return f->end && !f->end_sent && f->sent == f->ring.end;
}

bool flow_out_waits(const struct flow_out *f) {
        return sendable(f) > 0 || end_waits(f);
}

bool flow_out_next(struct flow_out *f, struct frame *frame) {
        uint64_t most = sendable(f);

        if (!flow_out_waits(f))
                return false;
        frame->offset = f->sent;
        if (most > 0) {
                frame->data = ring_bytes(&f->ring, f->sent, &frame->len);
                if (frame->len > most)
                        frame->len = most;
                if (frame->len > HELPER_DATA_MAX)
                        frame->len = HELPER_DATA_MAX;
                f->sent += frame->len;
                if (f->most < f->sent)
                        f->most = f->sent;
        }
        frame->end = f->end_sent = end_waits(f);
        return true;
}

bool flow_out_is_sent(const struct flow_out *f) {
        return f->sent == f->ring.end && f->end == f->end_sent;
}

/* the receiver */

int flow_in_init(struct flow_in *f, size_t window) {
        *f = (struct flow_in){ .told = window };
        return ring_init(&f->ring, window);
}

void flow_in_deinit(struct flow_in *f) {
        ring_deinit(&f->ring);
}

bool flow_in_put(struct flow_in *f, const struct frame *frame) {
        uint64_t have = f->ring.end, behind = frame->offset + frame->len;

        if (frame->offset > have || behind > f->told)
                return false;
        if (f->end && (behind > have || (frame->end && behind < have)))
                return false;
        if (frame->end && behind < have)
                return false;
        if (behind > have && f->shut)
                f->ring.begin = f->ring.end = behind;
        else if (behind > have)
                (void)ring_put(&f->ring, frame->data + (have - frame->offset), behind - have);
        f->end |= frame->end;
        return true;
}

const uint8_t *flow_in_peek(const struct flow_in *f, size_t *len) {
        *len = 0;
        return f->shut ? NULL : ring_bytes(&f->ring, f->ring.begin, len);
}

void flow_in_take(struct flow_in *f, size_t n) {
        ring_drop(&f->ring, n);
}

void flow_in_shut(struct flow_in *f) {
        f->shut = true;
        f->ring.begin = f->ring.end;
        ring_deinit(&f->ring);
}

bool flow_in_waits(const struct flow_in *f) {
        uint64_t limit = f->ring.begin + f->ring.size;

        return f->tell || (!f->end && limit - f->told >= f->ring.size / TELL_SHARE);
}

void flow_in_window(struct flow_in *f, struct frame *frame) {
        f->told = f->ring.begin + f->ring.size;
        f->tell = false;
        frame->offset = f->ring.end;
        frame->limit = f->told;
}
