/* SPDX-License-Identifier: MIT */
#include "pool/helper/client-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/helper/flow.h"
#include "pool/util/cleanup.h"

enum channel_state {
        CHANNEL_OPENING,
        CHANNEL_OPEN,
        CHANNEL_BROKEN,
};

struct client_channel {
        struct list link; /* in the client's channels */
        struct client *client;
        void (*changed)(void *owner);
        void *owner;
        uint32_t number;
        enum channel_kind kind;
        uint8_t flags;
        uint16_t port;
        size_t window;
        struct buf strings;
        enum channel_state state;
        int error;             /* of BROKEN */
        bool asked;            /* OPEN was sent over some carrier: the helper may have it, */
        bool open_sent;        /* over this one, */
        bool opened;           /* and it has said so */
        bool closing;          /* its owner is gone */
        bool close_sent;       /* over this carrier */
        int64_t close_us;      /* when it is closed although not all is sent */
        bool late;             /* that is over */
        struct flow_in in;
        struct flow_out out;
};

static void channel_free(struct client_channel *ch) {
        list_remove(&ch->link);
        ch->client->n_channels--;
        buf_deinit(&ch->strings);
        flow_in_deinit(&ch->in);
        flow_out_deinit(&ch->out);
        free(ch);
}

static struct client_channel *find(struct client *c, uint32_t number) {
        struct client_channel *ch;

        list_for_each (ch, &c->channels, link)
                if (ch->number == number)
                        return ch;
        return NULL;
}

/* An event: the owner may close it. */
static void tell(struct client_channel *ch) {
        if (!ch->closing)
                ch->changed(ch->owner);
}

static void set_broken(struct client_channel *ch, int error) {
        ch->state = CHANNEL_BROKEN;
        ch->error = error;
        tell(ch);
}

/* the owner's calls */

static int init(struct client_channel *ch, const struct client_channel_spec *spec) {
        int r = flow_in_init(&ch->in, ch->window);

        if (r == 0)
                r = flow_out_init(&ch->out, ch->window);
        if (r == 0 && spec->kind == CHANNEL_WATCH)
                r = buf_append(&ch->strings, spec->workdir, strlen(spec->workdir) + 1);
        if (r == 0 && spec->kind == CHANNEL_WATCH)
                r = buf_append(&ch->strings, spec->path, strlen(spec->path) + 1);
        return r == -EFBIG ? -ENAMETOOLONG : r;
}

int client_channel_open(struct client *c, const struct client_channel_spec *spec, void (*changed)(void *owner), void *owner,
                        struct client_channel **out) {
        struct client_channel *ch;
        int r;

        if (c->state == CLIENT_STALE)
                return -ENODEV;
        if (c->state == CLIENT_OPEN && c->version < PROTOCOL_CHANNELS)
                return -EOPNOTSUPP;
        if (c->n_channels == HELPER_CHANNELS_MAX || c->last_channel == UINT32_MAX)
                return -EAGAIN;
        ch = calloc(1, sizeof(*ch));
        if (!ch)
                return -ENOMEM;
        *ch = (struct client_channel){
                .client = c,
                .changed = changed,
                .owner = owner,
                .number = ++c->last_channel,
                .kind = spec->kind,
                .flags = spec->recursive ? CHANNEL_RECURSIVE : 0,
                .port = spec->port,
                .window = c->n_channels < HELPER_CHANNELS_WIDE ? HELPER_CHANNEL_WINDOW : HELPER_CHANNEL_WINDOW_MIN,
                .strings = BUF_INIT(HELPER_DATA_MAX),
                .close_us = USEC_NEVER,
        };
        list_init(&ch->link);
        list_add_tail(&c->channels, &ch->link);
        c->n_channels++;
        r = init(ch, spec);
        if (r < 0)
                channel_free(ch);
        else
                *out = ch;
        return r;
}

/* What was written is still sent, for a time; what comes is dropped. */
void client_channel_close(struct client_channel *ch, int64_t now) {
        ch->closing = true;
        ch->close_us = clock_after(now, CLIENT_CLOSE_US);
        if (ch->asked)
                flow_in_shut(&ch->in);
        else
                channel_free(ch);
}

void *client_owner(const struct client *c) {
        return c->owner;
}

struct client *client_channel_client(const struct client_channel *ch) {
        return ch->client;
}

int client_channel_status(const struct client_channel *ch) {
        return ch->state == CHANNEL_OPEN ? 0 : ch->state == CHANNEL_OPENING ? -EAGAIN : -ch->error;
}

ssize_t client_channel_read(struct client_channel *ch, void *data, size_t len) {
        size_t done = 0, n;
        const uint8_t *p;

        while (done < len && (p = flow_in_peek(&ch->in, &n), n > 0)) {
                n = n < len - done ? n : len - done;
                memcpy((uint8_t *)data + done, p, n);
                flow_in_take(&ch->in, n);
                done += n;
        }
        if (done > 0 || flow_in_at_end(&ch->in))
                return done;
        return ch->state == CHANNEL_BROKEN ? -ch->error : -EAGAIN;
}

bool client_channel_is_readable(const struct client_channel *ch) {
        return ring_len(&ch->in.ring) > 0 || ch->in.end || ch->state == CHANNEL_BROKEN;
}

size_t client_channel_room(const struct client_channel *ch) {
        if (ch->out.end || ch->state == CHANNEL_BROKEN)
                return SIZE_MAX; /* a write fails at once */
        return ch->state == CHANNEL_OPEN ? ring_room(&ch->out.ring) : 0;
}

ssize_t client_channel_write(struct client_channel *ch, const void *data, size_t len) {
        size_t n;

        if (ch->out.end)
                return -EPIPE;
        if (ch->state != CHANNEL_OPEN)
                return client_channel_status(ch);
        n = ring_put(&ch->out.ring, data, len);
        return n > 0 ? (ssize_t)n : -EAGAIN;
}

void client_channel_end(struct client_channel *ch) {
        ch->out.end = true;
}

/* what the helper says */

static const char *on_data(struct client_channel *ch, const struct frame *f) {
        if (ch->state != CHANNEL_OPEN)
                return "DATA of a channel that is not open";
        if (!flow_in_put(&ch->in, f))
                return "DATA beyond its window, or behind a gap";
        tell(ch);
        return NULL;
}

static const char *on_window(struct client_channel *ch, const struct frame *f) {
        if (ch->state != CHANNEL_OPEN)
                return "WINDOW of a channel that is not open";
        if (!flow_out_window(&ch->out, f->offset, f->limit))
                return "WINDOW of what was never sent";
        tell(ch);
        return NULL;
}

static const char *on_opened(struct client_channel *ch) {
        if (ch->state == CHANNEL_BROKEN)
                return "OPENED behind RESET";
        if (ch->state == CHANNEL_OPENING) {
                ch->state = CHANNEL_OPEN;
                ch->opened = true;
                tell(ch);
        }
        return NULL;
}

static const char *on_reset(struct client_channel *ch, const struct frame *f) {
        if (ch->state == CHANNEL_BROKEN)
                return "RESET a second time";
        set_broken(ch, f->value && f->value != EAGAIN ? (int)f->value : EIO); /* which says that it is opening */
        return NULL;
}

const char *client_on_channel(struct client *c, const struct frame *f) {
        struct client_channel *ch = find(c, f->channel);

        if (!ch || (!ch->open_sent && !ch->close_sent))
                return "a frame of a channel that was not asked for";
        if (f->type == FRAME_CLOSED) {
                if (!ch->close_sent)
                        return "CLOSED of a channel that is in use";
                channel_free(ch);
                return NULL;
        }
        switch (f->type) {
        case FRAME_OPENED:
                return on_opened(ch);
        case FRAME_DATA:
                return on_data(ch, f);
        case FRAME_WINDOW:
                return on_window(ch, f);
        default:
                return on_reset(ch, f);
        }
}

/* carriers */

void client_channels_on_carrier(struct client *c) {
        struct client_channel *ch;

        list_for_each (ch, &c->channels, link) {
                ch->open_sent = ch->close_sent = false;
                flow_out_rewind(&ch->out);
        }
}

static struct client_channel *first_in_use(struct client *c) {
        struct client_channel *ch;

        list_for_each (ch, &c->channels, link)
                if (!ch->closing)
                        return ch;
        return NULL;
}

void client_channels_close(struct client *c, int error, void (*ended)(void *owner, int error)) {
        struct client_channel *ch;

        while ((ch = first_in_use(c)))
                ended(ch->owner, error);
        list_for_each (ch, &c->channels, link)
                ch->late = true;
}

void client_channels_drop(struct client *c) {
        struct client_channel *ch, *tmp;

        list_for_each_safe (ch, tmp, &c->channels, link)
                channel_free(ch);
}

/* The helper is an older one. Those that wait for it are broken, and it hears nothing of them. */
void client_channels_on_open(struct client *c) {
        struct client_channel *ch, *tmp;

        if (c->version >= PROTOCOL_CHANNELS)
                return;
        list_for_each_safe (ch, tmp, &c->channels, link)
                if (ch->state != CHANNEL_BROKEN && !ch->closing)
                        set_broken(ch, EOPNOTSUPP);
}

/* what is sent next */

static bool is_to_be_closed(const struct client_channel *ch) {
        return ch->closing && !ch->close_sent && (ch->state != CHANNEL_OPEN || ch->late || flow_out_is_sent(&ch->out));
}

static bool is_to_be_opened(const struct client_channel *ch) {
        return !ch->open_sent && ch->state != CHANNEL_BROKEN && !is_to_be_closed(ch) && !ch->close_sent;
}

static bool has_frame(const struct client_channel *ch) {
        if (is_to_be_opened(ch) || is_to_be_closed(ch))
                return true;
        if (ch->state != CHANNEL_OPEN || ch->close_sent)
                return false;
        return (!ch->closing && flow_in_waits(&ch->in)) || flow_out_waits(&ch->out);
}

static void make_open(struct client_channel *ch, struct frame *f) {
        f->type = FRAME_OPEN;
        f->kind = ch->kind;
        f->flags = ch->flags | (ch->opened ? CHANNEL_RESUME : 0);
        f->port = ch->port;
        f->window = ch->window;
        f->data = (const uint8_t *)ch->strings.data;
        f->len = ch->strings.len;
        ch->in.tell = ch->opened && !ch->closing;
        ch->asked = ch->open_sent = true;
}

static void make_frame(struct client_channel *ch, struct frame *f) {
        *f = (struct frame){ .channel = ch->number };
        if (is_to_be_opened(ch)) {
                make_open(ch, f);
        } else if (is_to_be_closed(ch)) {
                f->type = FRAME_CLOSE;
                ch->close_sent = true;
        } else if (!ch->closing && flow_in_waits(&ch->in)) {
                f->type = FRAME_WINDOW;
                flow_in_window(&ch->in, f);
        } else {
                f->type = FRAME_DATA;
                (void)flow_out_next(&ch->out, f);
        }
}

bool client_channels_next(struct client *c, struct frame *f) {
        struct client_channel *ch;

        if (c->state != CLIENT_OPEN)
                return false;
        list_for_each (ch, &c->channels, link) {
                if (!has_frame(ch))
                        continue;
                make_frame(ch, f);
                list_remove(&ch->link);
                list_add_tail(&c->channels, &ch->link);
                return true;
        }
        return false;
}

bool client_channels_are_urgent(const struct client *c) {
        struct client_channel *ch;

        if (c->state != CLIENT_OPEN)
                return false;
        list_for_each (ch, &c->channels, link)
                if (has_frame(ch))
                        return true;
        return false;
}

int64_t client_channels_tick(struct client *c, int64_t now) {
        struct client_channel *ch;
        int64_t next = USEC_NEVER;

        list_for_each (ch, &c->channels, link) {
                if (ch->close_us <= now) {
                        ch->late = true;
                        ch->close_us = USEC_NEVER;
                }
                next = clock_earlier(next, ch->close_us);
        }
        return next;
}
