/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A stream of bytes in both directions between a caller and something inside a sandbox: a connection to a port, or a watch
 * of files, from which one only reads. Embedded in its caller's own struct.
 *
 *   none → opening → open → none       connection_open() · status is 0 · connection_close()
 *          any of these → broken       status is an error; connection_close() still has to be called
 *
 * changed() comes from the loop, never from inside a call: it is open or broken, or there is more to read, or more room. It
 * may close the connection. What comes out is the sandbox's word and may be anything.
 *
 * Each direction has a window. What is not read holds up who writes inside, and no other connection or job.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum connection_kind {
        CONNECTION_PORT,  /* TCP, to the port of 127.0.0.1, else of ::1, inside */
        CONNECTION_WATCH, /* lines of JSON about what changes below a path; modalpool(5) says which */
};

struct connection_spec {
        enum connection_kind kind;
        uint16_t port;
        bool recursive;
        const char *workdir, *path; /* borrowed for the call; the path may be relative to the workdir */
};

struct connection;

struct connection_ops {
        int (*status)(const struct connection *c);
        ssize_t (*read)(struct connection *c, void *data, size_t len);
        bool (*is_readable)(const struct connection *c);
        ssize_t (*write)(struct connection *c, const void *data, size_t len);
        size_t (*room)(const struct connection *c);
        void (*end)(struct connection *c);
        void (*close)(struct connection *c);
};

struct connection {
        void (*changed)(struct connection *c);

        /* Of who carries it; NULL when there is none. */
        const struct connection_ops *ops;
        void *record;
        int error; /* it is broken for this errno, and nobody carries it any more */
};

/* 0: it is open. -EAGAIN: it is opening. Another -errno: it is broken, or there is none (ENOTCONN). */
int connection_status(const struct connection *c);

/* Bytes; 0 at the end; -EAGAIN: not yet; another -errno behind the last byte. */
ssize_t connection_read(struct connection *c, void *data, size_t len);

/* Whether connection_read() would not say -EAGAIN. */
bool connection_is_readable(const struct connection *c);

/* How many bytes were taken. -EAGAIN: none for now. -EPIPE: behind connection_end(). */
ssize_t connection_write(struct connection *c, const void *data, size_t len);

/* How many would be taken; SIZE_MAX where a write fails at once. */
size_t connection_room(const struct connection *c);

/* Nothing more is written: the other side reads the end of the stream. */
void connection_end(struct connection *c);

/* What was written still arrives, as far as the other side takes it soon. No changed() follows. Also of one that is none. */
void connection_close(struct connection *c);
