/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/channels.h"

#include <errno.h>
#include <string.h>

#include "pool/helper/agent/channel.h"

static struct channel channels[HELPER_CHANNELS_MAX];
static uint32_t closed[HELPER_CHANNELS_MAX]; /* numbers that CLOSED is to be sent for */
static unsigned n_closed;
static unsigned last_sent; /* whose turn it was */
static unsigned n_used;

static struct channel *find(uint32_t number) {
        for (unsigned i = 0; i < HELPER_CHANNELS_MAX; i++)
                if (channels[i].used && channels[i].number == number)
                        return &channels[i];
        return NULL;
}

static struct channel *find_free(void) {
        for (unsigned i = 0; i < HELPER_CHANNELS_MAX; i++)
                if (!channels[i].used)
                        return &channels[i];
        return NULL;
}

static void drop(struct channel *c) {
        channel_drop(c);
        n_used--;
}

/* frames from the daemon */

static void attach(struct channel *c) {
        c->attached = c->tell = c->in.tell = true;
        flow_out_rewind(&c->out);
}

static const char *take_open(const struct frame *f) {
        struct channel *c = find(f->channel);

        if (c) {
                attach(c);
                return NULL;
        }
        if (f->window < HELPER_CHANNEL_WINDOW_MIN)
                return "OPEN with too small a window";
        c = find_free();
        if (!c)
                return "OPEN of too many channels";
        n_used++;
        if (f->flags & CHANNEL_RESUME) {
                *c = (struct channel){ .used = true, .number = f->channel, .fd = -1, .due_us = USEC_NEVER };
                channel_fail(c, -ECONNRESET);
        } else {
                channel_open(c, f->kind == CHANNEL_PORT ? &port_channel : &watch_channel, f);
        }
        c->attached = true;
        return NULL;
}

static const char *add_closed(uint32_t number) {
        if (n_closed == HELPER_CHANNELS_MAX)
                return "CLOSE of too many channels";
        closed[n_closed++] = number;
        return NULL;
}

/* What is left is handed on, for a time; nothing is read any more. */
static const char *take_close(const struct frame *f) {
        struct channel *c = find(f->channel);

        if (!c)
                return add_closed(f->channel);
        if (c->state == CHANNEL_OPEN && !channel_is_flushed(c)) {
                c->closing = true;
                c->due_us = clock_after(clock_now(), CHANNEL_FLUSH_US);
                return NULL;
        }
        drop(c);
        return add_closed(f->channel);
}

static void drop_flushed(struct channel *c) {
        if (!c->closing || !channel_is_flushed(c))
                return;
        if (add_closed(c->number) == NULL)
                drop(c); /* else in a later turn: the daemon has asked for more than it may */
}

static const char *take_data(struct channel *c, const struct frame *f) {
        if (!flow_in_put(&c->in, f))
                return "DATA beyond its window, or behind a gap";
        channel_pump(c);
        return NULL;
}

static const char *take_window(struct channel *c, const struct frame *f) {
        if (!flow_out_window(&c->out, f->offset, f->limit))
                return "WINDOW of what was never sent";
        channel_pump(c);
        return NULL;
}

const char *channels_take(const struct frame *f) {
        struct channel *c = find(f->channel);

        if (f->type == FRAME_OPEN)
                return take_open(f);
        if (f->type == FRAME_CLOSE)
                return take_close(f);
        if (!c || !c->attached)
                return "DATA or WINDOW of a channel that is not open";
        if (c->closing)
                return "DATA or WINDOW behind CLOSE";
        if (c->state == CHANNEL_OVER && (f->type == FRAME_DATA || !c->out.ring.data))
                return NULL; /* the daemon could not know that yet */
        return f->type == FRAME_DATA ? take_data(c, f) : take_window(c, f);
}

void channels_new_carrier(bool is_new_epoch) {
        n_closed = 0;
        for (unsigned i = 0; i < HELPER_CHANNELS_MAX; i++) {
                channels[i].attached = false;
                if (channels[i].used && is_new_epoch)
                        drop(&channels[i]);
        }
}

/* frames to the daemon */

static bool next_closed(struct frame *f) {
        if (n_closed == 0)
                return false;
        *f = (struct frame){ .type = FRAME_CLOSED, .channel = closed[0] };
        memmove(closed, closed + 1, --n_closed * sizeof(*closed));
        return true;
}

static bool next_of(struct channel *c, struct frame *f) {
        *f = (struct frame){ .channel = c->number };
        if (c->tell && c->state == CHANNEL_OPEN) {
                f->type = FRAME_OPENED;
                c->tell = false;
        } else if (c->state == CHANNEL_OPEN && flow_in_waits(&c->in)) {
                f->type = FRAME_WINDOW;
                flow_in_window(&c->in, f);
        } else if (flow_out_next(&c->out, f)) {
                f->type = FRAME_DATA;
        } else if (c->tell && c->state == CHANNEL_OVER && flow_out_is_sent(&c->out)) {
                f->type = FRAME_RESET;
                f->value = (uint32_t)c->error;
                c->tell = false;
        } else {
                return false;
        }
        return true;
}

bool channels_next(struct frame *f) {
        if (next_closed(f))
                return true;
        for (unsigned i = 1; n_used > 0 && i <= HELPER_CHANNELS_MAX; i++) {
                unsigned at = (last_sent + i) % HELPER_CHANNELS_MAX;
                struct channel *c = &channels[at];

                if (!c->used || !c->attached || c->closing || !next_of(c, f))
                        continue;
                last_sent = at;
                return true;
        }
        return false;
}

/* ends, and time */

void channels_end_all(void) {
        for (unsigned i = 0; i < HELPER_CHANNELS_MAX; i++)
                if (channels[i].used)
                        channel_fail(&channels[i], -ECONNRESET);
}

static void act(struct channel *c, int64_t now) {
        drop_flushed(c);
        if (!c->used || now < c->due_us)
                return;
        if (c->closing)
                flow_in_shut(&c->in);
        else
                channel_fail(c, -ETIMEDOUT);
        c->due_us = USEC_NEVER;
        drop_flushed(c);
}

int64_t channels_tick(void) {
        int64_t now = clock_now(), next = USEC_NEVER;

        for (unsigned i = 0; n_used > 0 && i < HELPER_CHANNELS_MAX; i++) {
                struct channel *c = &channels[i];

                if (c->used)
                        act(c, now);
                if (c->used)
                        next = clock_earlier(next, c->due_us);
        }
        return next;
}
