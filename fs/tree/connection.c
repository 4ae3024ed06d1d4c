/* SPDX-License-Identifier: MIT */
#include "fs/tree/connection.h"

#include "pool/lease/connection.h"
#include "pool/lease/files.h"

static void on_changed(struct connection *c) {
        watch_fire(&container_of(c, struct handle, connection)->connection_watches);
}

int tree_connect(struct handle *h, const struct connection_spec *spec) {
        int r;

        if (h->connected)
                return connection_status(&h->connection);
        h->connection.changed = on_changed;
        r = lease_connect(h->lease, spec, &h->connection);
        if (r < 0)
                return r;
        h->connected = true;
        return connection_status(&h->connection);
}

void tree_disconnect(struct handle *h) {
        if (!h->connected)
                return;
        h->connected = false;
        lease_disconnect(h->lease, &h->connection);
}

ssize_t tree_connection_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len) {
        return connection_read(&h->connection, data, len);
}

struct list *tree_connection_watches(struct handle *h) {
        return h->connected ? &h->connection_watches : lease_file_watches(h->lease);
}
