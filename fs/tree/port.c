/* SPDX-License-Identifier: MIT */

/*
 * ports/N: an open file of it is a TCP connection to port N inside. The open waits for it; reads wait for bytes, writes for
 * room. The last close ends it.
 */

#include <errno.h>
#include <limits.h>

#include "fs/tree/connection.h"

static int port_opened(struct handle *h) {
        const struct connection_spec spec = {
                .kind = CONNECTION_PORT,
                .port = h->port & ((1u << TARGET_PORT_BITS) - 1),
        };

        return tree_connect(h, &spec);
}

static bool port_ready(const struct handle *h) {
        return connection_is_readable(&h->connection);
}

static ssize_t port_write(struct handle *h, const char *data, size_t len) {
        if (len <= PIPE_BUF && connection_room(&h->connection) < len)
                return -EAGAIN;
        return connection_write(&h->connection, data, len);
}

static bool port_writable(const struct handle *h) {
        return connection_room(&h->connection) >= PIPE_BUF;
}

/* fsync ends one direction, which close cannot. */
static int port_sync(struct handle *h) {
        int r = connection_status(&h->connection);

        if (r < 0 && r != -EAGAIN)
                return r;
        connection_end(&h->connection);
        return 0;
}

const struct file_ops port_ops = {
        .opened = port_opened,
        .read = tree_connection_read,
        .ready = port_ready,
        .write = port_write,
        .writable = port_writable,
        .sync = port_sync,
        .watches = tree_connection_watches,
        .stream = true,
};
