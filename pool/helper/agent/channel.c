/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/channel.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/list.h"

int channel_use(struct channel *c, int fd) {
        c->fd = fd;
        c->readable = c->writable = false;
        return loop_add(fd, &c->source, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

void channel_unuse(struct channel *c) {
        if (c->fd < 0)
                return;
        loop_remove(c->fd);
        close(TAKE_FD(c->fd));
}

static void close_all(struct channel *c) {
        channel_unuse(c);
        if (c->ops && c->ops->close)
                c->ops->close(c);
}

void channel_fail(struct channel *c, int r) {
        if (c->state == CHANNEL_OVER)
                return;
        c->state = CHANNEL_OVER;
        c->error = -r;
        c->tell = true;
        flow_in_shut(&c->in);
        close_all(c);
}

void channel_opened(struct channel *c) {
        c->state = CHANNEL_OPEN;
        c->tell = true;
        c->due_us = USEC_NEVER;
        channel_pump(c);
}

/* Once nothing can be written, what there is to read is still read: a server may answer before it has all. */
static void write_some(struct channel *c) {
        const uint8_t *data;
        size_t len;

        while (c->writable && !c->in.shut && (data = flow_in_peek(&c->in, &len), len > 0)) {
                ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n >= 0)
                        flow_in_take(&c->in, n);
                else if (errno == EAGAIN)
                        c->writable = false;
                else if (errno != EINTR)
                        flow_in_shut(&c->in);
        }
        if (flow_in_at_end(&c->in) && !c->shut) {
                c->shut = true;
                shutdown(c->fd, SHUT_WR);
        }
}

static void read_some(struct channel *c) {
        while (c->readable && !c->out.end && ring_room(&c->out.ring) > 0) {
                size_t room;
                uint8_t *to = ring_space(&c->out.ring, &room);
                ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);

                if (n > 0) {
                        ring_add(&c->out.ring, n);
                } else if (n == 0) {
                        c->out.end = true;
                } else if (errno == EAGAIN) {
                        c->readable = false;
                } else if (errno != EINTR) {
                        channel_fail(c, -errno);
                        return;
                }
        }
}

void channel_pump(struct channel *c) {
        if (c->state != CHANNEL_OPEN)
                return;
        write_some(c);
        if (!c->closing)
                read_some(c);
}

bool channel_is_flushed(const struct channel *c) {
        return c->state == CHANNEL_OVER || c->in.shut || ring_len(&c->in.ring) == 0;
}

static void on_event(struct loop_source *source, uint32_t events) {
        struct channel *c = container_of(source, struct channel, source);

        if (!c->used || c->fd < 0)
                return;
        c->readable |= (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
        c->writable |= (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
        if (c->state == CHANNEL_OPENING)
                c->ops->ready(c);
        else
                channel_pump(c);
}

void channel_open(struct channel *c, const struct channel_ops *ops, const struct frame *f) {
        int r;

        *c = (struct channel){
                .used = true,
                .number = f->channel,
                .ops = ops,
                .fd = -1,
                .source.ready = on_event,
                .due_us = clock_after(clock_now(), CHANNEL_OPEN_US),
        };
        r = flow_in_init(&c->in, f->window);
        if (r == 0)
                r = flow_out_init(&c->out, f->window);
        if (r == 0)
                r = ops->open(c, f);
        if (r < 0)
                channel_fail(c, r);
}

void channel_drop(struct channel *c) {
        close_all(c);
        flow_in_deinit(&c->in);
        flow_out_deinit(&c->out);
        c->used = false;
}
