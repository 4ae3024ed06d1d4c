/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One channel of the helper: its state stands in protocol.h; the table in channels.c owns it. What it leads to is a socket
 * that does not block: a connection to a port (port.c), or the watcher that looks at files (watch.c). The kind opens it;
 * from then on channel.c carries bytes between it and the two flows.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/loop.h"
#include "pool/helper/flow.h"

enum channel_state {
        CHANNEL_OPENING,
        CHANNEL_OPEN,
        CHANNEL_OVER,
};

struct channel {
        bool used;
        uint32_t number;
        enum channel_kind kind;
        enum channel_state state;
        int error;     /* of OVER */
        bool closing;  /* CLOSE has come */
        bool attached; /* OPEN has come over this carrier */
        bool tell;     /* OPENED, or RESET behind all output, is to be sent */
        int64_t due_us; /* when OPENING fails, and when closing ends, in any case */

        int fd; /* -1: none */
        struct loop_source source;
        bool readable, writable; /* until a call says otherwise */
        bool shut;               /* the other side was told that no more comes */
        struct flow_in in;
        struct flow_out out;

        uint16_t port;
        bool is_ipv6;  /* the second try */
        unsigned slot; /* of the watcher, among the reapers */
        bool has_watcher;
};

/* From OPEN. It may be over at once. */
void channel_open(struct channel *c, const struct frame *f);

/* There are new bytes, or there is room again: hands on what can be handed on. */
void channel_pump(struct channel *c);

/* It fails, with a -errno. Nothing more is read, and what was read is still sent. */
void channel_fail(struct channel *c, int r);

/* The other side is there. */
void channel_opened(struct channel *c);

/* Ends it at once, and frees what it holds. */
void channel_drop(struct channel *c);

/* All that was sent is handed on, or cannot be. */
bool channel_is_flushed(const struct channel *c);

/* Takes a socket; the loop tells of it. 0 or -errno. */
int channel_use(struct channel *c, int fd);
void channel_unuse(struct channel *c);

/* port.c: begins to connect; goes on when the socket is writable. 0 or -errno. */
int port_open(struct channel *c, uint16_t port);
void port_connected(struct channel *c);

/* watch.c: starts a watcher; its first bytes tell whether it can watch. */
int watch_open(struct channel *c, const struct frame *f);
void watch_began(struct channel *c);
void watch_close(struct channel *c);
