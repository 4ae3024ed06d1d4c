/* SPDX-License-Identifier: MIT */
#include "pool/backend/connection.h"

#include <errno.h>

int connection_status(const struct connection *c) {
        return c->ops ? c->ops->status(c) : c->error ? -c->error : -ENOTCONN;
}

ssize_t connection_read(struct connection *c, void *data, size_t len) {
        return c->ops ? c->ops->read(c, data, len) : connection_status(c);
}

bool connection_is_readable(const struct connection *c) {
        return !c->ops || c->ops->is_readable(c);
}

ssize_t connection_write(struct connection *c, const void *data, size_t len) {
        return c->ops ? c->ops->write(c, data, len) : connection_status(c);
}

size_t connection_room(const struct connection *c) {
        return c->ops ? c->ops->room(c) : SIZE_MAX;
}

void connection_end(struct connection *c) {
        if (c->ops)
                c->ops->end(c);
}

void connection_close(struct connection *c) {
        if (c->ops)
                c->ops->close(c);
        c->error = 0;
}
