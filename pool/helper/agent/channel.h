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

struct channel;

enum channel_state {
        CHANNEL_OPENING,
        CHANNEL_OPEN,
        CHANNEL_OVER,
};

/* What a kind does. */
struct channel_ops {
        int (*open)(struct channel *c, const struct frame *f); /* 0, or -errno and there is no socket */
        void (*ready)(struct channel *c);                      /* an event of the socket, while OPENING */
        void (*close)(struct channel *c);                      /* the socket is closed, or was never there; or NULL */
};

extern const struct channel_ops port_channel, watch_channel;

struct channel {
        bool used;
        const struct channel_ops *ops;
        uint32_t number;
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
void channel_open(struct channel *c, const struct channel_ops *ops, const struct frame *f);

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
