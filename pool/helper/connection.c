/* SPDX-License-Identifier: MIT */
#include "pool/helper/connection.h"

#include <errno.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

static struct carrier *carrier_of(const struct client_channel *ch) {
        return client_owner(client_channel_client(ch));
}

static void wake(const struct client_channel *ch) {
        carrier_wake(carrier_of(ch));
}

static int get_status(const struct connection *c) {
        return client_channel_status(c->record);
}

static ssize_t read_some(struct connection *c, void *data, size_t len) {
        ssize_t n = client_channel_read(c->record, data, len);

        if (n > 0)
                wake(c->record);
        return n;
}

static bool is_readable(const struct connection *c) {
        return client_channel_is_readable(c->record);
}

static ssize_t write_some(struct connection *c, const void *data, size_t len) {
        ssize_t n = client_channel_write(c->record, data, len);

        if (n > 0)
                wake(c->record);
        return n;
}

static size_t get_room(const struct connection *c) {
        return client_channel_room(c->record);
}

static void end(struct connection *c) {
        client_channel_end(c->record);
        wake(c->record);
}

static void leave(struct connection *c) {
        struct client_channel *ch = TAKE_PTR(c->record);

        c->ops = NULL;
        carrier_release(carrier_of(ch), false);
        client_channel_close(ch, clock_now());
}

static const struct connection_ops ops = {
        .status = get_status,
        .read = read_some,
        .is_readable = is_readable,
        .write = write_some,
        .room = get_room,
        .end = end,
        .close = leave,
};

static void on_changed(void *owner) {
        struct connection *c = owner;

        c->changed(c);
}

int helper_connect(struct sandbox *sandbox, const struct connection_spec *spec, struct connection *c) {
        struct helper_sandbox *s = helper_sandbox_of(sandbox);
        const struct client_channel_spec channel = {
                .kind = spec->kind == CONNECTION_PORT ? CHANNEL_PORT : CHANNEL_WATCH,
                .port = spec->port,
                .recursive = spec->recursive,
                .workdir = spec->workdir,
                .path = spec->path,
        };
        struct client_channel *ch;
        int r;

        if (s->mode == HELPER_PLAIN)
                return -EOPNOTSUPP;
        helper_note_spoil(s);
        r = client_channel_open(s->carrier.client, &channel, on_changed, c, &ch);
        if (r < 0)
                return r;
        c->ops = &ops;
        c->record = ch;
        c->error = 0;
        carrier_use(&s->carrier);
        return 0;
}

static void break_off(void *owner, int error) {
        struct connection *c = owner;

        leave(c);
        c->error = error;
        c->changed(c);
}

void helper_connections_end(struct helper_sandbox *s, int error) {
        if (s->carrier.client)
                client_channels_close(s->carrier.client, error, break_off);
}
