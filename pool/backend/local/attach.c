/* SPDX-License-Identifier: MIT */

/*
 * A stream to a sandbox's helper: one end of a pair of sockets, whose other end the helper gets over its control socket.
 *
 *   opening → open → ended    started() at the first turn of the loop · ended() when the helper has closed its end
 *
 * What is written waits in the socket, then here, up to EXEC_INPUT_MAX.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"
#include "pool/util/cleanup.h"
#include "pool/util/crash.h"

#define READ_SIZE (64 << 10)
#define READS_AT_ONCE 16 /* then other handles have their turn */

struct local_attach {
        struct exec exec;
        uv_poll_t poll;
        int fd;
        int events;       /* that the poll waits for */
        bool broken;      /* the helper takes no more */
        bool input_ended;
        size_t n_kept;
        char kept[EXEC_INPUT_MAX]; /* not yet in the socket */
};

static struct local_attach *attach_of(struct exec *e) {
        return container_of(e, struct local_attach, exec);
}

static void on_closed(uv_handle_t *handle) {
        struct local_attach *a = handle->data;

        close(a->fd);
        free(a);
}

static void close_stream(struct local_attach *a) {
        uv_close((uv_handle_t *)&a->poll, on_closed);
}

/* The owner has cancelled it, or it has ended. */
static bool is_over(const struct local_attach *a) {
        return uv_is_closing((const uv_handle_t *)&a->poll);
}

static void on_event(uv_poll_t *poll, int status, int events);

/* An opening stream waits until it is writable, which it is at once. */
static void update_events(struct local_attach *a) {
        int events = (a->exec.held ? 0 : UV_READABLE) | (a->n_kept > 0 || !a->exec.started ? UV_WRITABLE : 0);

        if (events == a->events)
                return;
        a->events = events;
        if (events)
                uv_poll_start(&a->poll, events, on_event);
        else
                uv_poll_stop(&a->poll);
}

/* writing */

/* How many bytes the socket takes now; -EPIPE when the helper reads no more. */
static ssize_t write_now(struct local_attach *a, const char *data, size_t len) {
        ssize_t n;

        do
                n = send(a->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        crash_point("carrier", "was written to");
        if (n >= 0)
                return n;
        if (errno == EAGAIN)
                return 0;
        a->broken = true;
        a->n_kept = 0;
        return -EPIPE;
}

static void end_input(struct local_attach *a) {
        if (a->input_ended && a->n_kept == 0)
                shutdown(a->fd, SHUT_WR);
}

static void write_kept(struct local_attach *a) {
        ssize_t n = write_now(a, a->kept, a->n_kept);

        if (n > 0) {
                a->n_kept -= n;
                memmove(a->kept, a->kept + n, a->n_kept);
        }
        end_input(a);
        if (n != 0)
                exec_room(&a->exec);
}

ssize_t local_attach_write(struct exec *exec, const void *data, size_t len) {
        struct local_attach *a = attach_of(exec);
        size_t more, room;
        ssize_t n = 0;

        if (a->broken)
                return -EPIPE;
        if (a->n_kept == 0)
                n = write_now(a, data, len);
        if (n < 0 || (size_t)n == len)
                return n;
        room = sizeof(a->kept) - a->n_kept;
        more = len - n < room ? len - n : room;
        memcpy(a->kept + a->n_kept, (const char *)data + n, more);
        a->n_kept += more;
        update_events(a);
        return n + more;
}

void local_attach_end_input(struct exec *exec) {
        struct local_attach *a = attach_of(exec);

        a->input_ended = true;
        end_input(a);
}

/* reading */

static void attach_ended(struct local_attach *a) {
        struct result why;

        result_set(&why, RESULT_LOST, "environment %s: its helper has closed the connection", a->exec.sandbox->id);
        exec_ended(&a->exec, &why, 0);
        close_stream(a);
}

static void read_some(struct local_attach *a) {
        static char chunk[READ_SIZE];

        for (int i = 0; i < READS_AT_ONCE && !is_over(a) && !a->exec.held; i++) {
                ssize_t n = recv(a->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

                if (n > 0) {
                        crash_point("carrier", "gives bytes");
                        exec_output(&a->exec, STREAM_STDOUT, chunk, n);
                        if (n < READ_SIZE)
                                return;
                } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                        attach_ended(a);
                        return;
                } else if (errno == EAGAIN) {
                        return;
                }
        }
}

void local_attach_hold_output(struct exec *exec) {
        update_events(attach_of(exec));
}

/* libuv gives a status, and stops, when the helper has closed its end with bytes that it did not read. */
static void on_event(uv_poll_t *poll, int status, int events) {
        struct local_attach *a = poll->data;

        if (status < 0)
                a->events = 0;
        if (!a->exec.started)
                exec_started(&a->exec);
        if (!is_over(a) && a->n_kept > 0 && (status < 0 || events & UV_WRITABLE))
                write_kept(a);
        if (!is_over(a) && (status < 0 || events & UV_READABLE))
                read_some(a);
        if (!is_over(a))
                update_events(a);
}

/* the vtable */

int local_attach(struct sandbox *sandbox, struct exec **out) {
        struct local_sandbox *s = local_sandbox(sandbox);
        _cleanup_(cleanup_close) int inner = -1;
        struct local_attach *a;
        int fds[2], r;

        a = calloc(1, sizeof(*a));
        if (!a)
                return -ENOMEM;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
                r = -errno;
                free(a);
                return r;
        }
        a->fd = fds[0];
        inner = fds[1];
        r = local_send_descriptor(s, inner);
        crash_point("carrier", "was opened");
        if (r == 0)
                r = uv_poll_init(sandbox_local(s)->client->loop, &a->poll, a->fd);
        if (r < 0) {
                close(a->fd);
                free(a);
                return r;
        }
        a->poll.data = a;
        update_events(a);
        *out = &a->exec;
        return 0;
}

void local_attach_cancel(struct exec *exec) {
        close_stream(attach_of(exec));
}
