/* SPDX-License-Identifier: MIT */

/*
 * Requests over libfuse itself, without a kernel: the test writes the kernel's messages to one end of a socket, and
 * reads the answers from it. So libfuse's locks are the real ones: to ask it about a request inside the interrupt
 * function would never return.
 */

#include "check.h"
#include "fs/request.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/socket.h>

#include "pool/util/clock.h"

#define LIMIT_US (100 * USEC_PER_SEC)

static struct fuse_session *fuse;
static struct fuse_buf buffer;
static int kernel; /* the kernel's end */
static struct requests all;
static struct list owner, other_owner;
static unsigned n_answered;

/* What the next READ does. */
static struct {
        int64_t result; /* answered at once, unless -EAGAIN */
        int64_t now_us, due_us;
        struct list *owner;
        struct request *waiting; /* out */
        int error;               /* out: of request_wait() */
} next;

struct slow {
        struct request request;
        char *held; /* while it waits */
};

static void slow_succeed(struct request *r, fuse_req_t req, int64_t n) {
        fuse_reply_buf(req, "0123456789", n);
}

static void slow_answered(struct request *r) {
        CHECK(!r->req);
        free(container_of(r, struct slow, request)->held);
        n_answered++;
}

static const struct request_kind slow_kind = {
        .succeed = slow_succeed,
        .answered = slow_answered,
        .size = sizeof(struct slow),
};

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        struct slow slow = { .request = REQUEST_INIT(&slow_kind, req) };

        next.waiting = NULL;
        next.error = next.result;
        if (next.result == -EAGAIN)
                next.error = request_wait(&slow.request, &next.waiting, &all, next.owner, next.now_us, next.due_us);
        if (next.waiting)
                container_of(next.waiting, struct slow, request)->held = strdup("held");
        else
                request_answer(&slow.request, next.error);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct request request = REQUEST_INIT(&request_status, req);

        request_answer(&request, strcmp(name, "there") ? -ENOENT : 0);
}

static void send_message(uint32_t opcode, uint64_t unique, const void *body, size_t len) {
        char message[512];
        struct fuse_in_header head = { .len = sizeof(head) + len, .opcode = opcode, .unique = unique, .nodeid = 2 };

        memcpy(message, &head, sizeof(head));
        memcpy(message + sizeof(head), body, len);
        CHECK_INT(write(kernel, message, head.len), head.len);
        CHECK_INT(fuse_session_receive_buf(fuse, &buffer), head.len);
        fuse_session_process_buf(fuse, &buffer);
}

/* A READ comes that is not answered at once. */
static struct request *read_waits(uint64_t unique, int64_t now_us, int64_t due_us) {
        struct fuse_read_in in = { .size = 10 };

        next.result = -EAGAIN;
        next.now_us = now_us;
        next.due_us = due_us;
        send_message(FUSE_READ, unique, &in, sizeof(in));
        return next.waiting;
}

static void read_at_once(uint64_t unique, int64_t result) {
        struct fuse_read_in in = { .size = 10 };

        next.result = result;
        send_message(FUSE_READ, unique, &in, sizeof(in));
        CHECK(!next.waiting);
}

static void interrupt(uint64_t unique) {
        struct fuse_interrupt_in in = { .unique = unique };

        send_message(FUSE_INTERRUPT, 1000 + unique, &in, sizeof(in));
}

static bool answer_there(void) {
        char byte;

        return recv(kernel, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* The next answer is for @unique, with @error (-errno) or @len bytes. */
static void check_answer(uint64_t unique, int error, size_t len) {
        char message[512];
        struct fuse_out_header head = {};
        ssize_t n = recv(kernel, message, sizeof(message), MSG_DONTWAIT);

        CHECK_INT(n, sizeof(head) + len);
        if (n >= (ssize_t)sizeof(head))
                memcpy(&head, message, sizeof(head));
        CHECK_INT(head.unique, unique);
        CHECK_INT(head.error, error);
}

/*
 * An interrupt comes of which the request is gone. libfuse keeps it until the next request, and then has the kernel send
 * it again.
 */
static void interrupt_late(uint64_t unique) {
        interrupt(unique);
        CHECK(!answer_there());
        send_message(FUSE_UNLINK, 500, "there", 6);
        check_answer(1000 + unique, -EAGAIN, 0);
        check_answer(500, 0, 0);
}

static void start_with(const struct fuse_lowlevel_ops *ops) {
        struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
        struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = 4096 };
        char message[512], mountpoint[32];
        int fds[2];

        CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
        kernel = fds[0];
        requests_init(&all, USEC_NEVER);
        list_init(&owner);
        list_init(&other_owner);
        n_answered = 0;
        next.owner = &owner;
        fuse_opt_add_arg(&args, "test-request");
        fuse = fuse_session_new(&args, ops, sizeof(*ops), NULL);
        fuse_opt_free_args(&args);
        snprintf(mountpoint, sizeof(mountpoint), "/dev/fd/%d", fds[1]); /* libfuse's word for: mounted already */
        CHECK_INT(fuse_session_mount(fuse, mountpoint), 0);
        send_message(FUSE_INIT, 1, &init, sizeof(init));
        CHECK(recv(kernel, message, sizeof(message), MSG_DONTWAIT) > 0);
}

static void start(void) {
        start_with(&(struct fuse_lowlevel_ops){ .read = on_read, .unlink = on_unlink });
}

static void stop(void) {
        CHECK(!answer_there());
        CHECK(list_empty(&owner) && list_empty(&other_owner) && list_empty(&all.waiting) && list_empty(&all.due));
        CHECK_INT(all.n, 0);
        fuse_session_unmount(fuse);
        fuse_session_destroy(fuse);
        close(kernel);
        free(buffer.mem);
        buffer = (struct fuse_buf){};
}

static void at_once(void) {
        start();
        read_at_once(2, 3);
        check_answer(2, 0, 3);
        read_at_once(3, -EIO);
        check_answer(3, -EIO, 0);
        send_message(FUSE_UNLINK, 4, "there", 6);
        check_answer(4, 0, 0);
        send_message(FUSE_UNLINK, 5, "gone", 5);
        check_answer(5, -ENOENT, 0);
        CHECK_INT(n_answered, 0); /* of one that waited only */
        CHECK_INT(requests_oldest(&all), USEC_NEVER);
        stop();
}

static void waits(void) {
        struct request *first, *second;

        start();
        first = read_waits(2, 10, USEC_NEVER);
        second = read_waits(3, 20, USEC_NEVER);
        CHECK(!answer_there());
        CHECK_INT(all.n, 2);
        CHECK_INT(requests_oldest(&all), 10);
        request_answer(first, 10);
        check_answer(2, 0, 10);
        CHECK_INT(n_answered, 1);
        CHECK_INT(requests_oldest(&all), 20);
        request_answer(second, -ENODEV);
        check_answer(3, -ENODEV, 0);
        CHECK_INT(n_answered, 2);
        stop();
}

/* libfuse keeps an interrupt that it has no request for yet. */
static void interrupt_before(void) {
        start();
        interrupt(2);
        read_waits(2, 0, USEC_NEVER);
        CHECK(!next.waiting);
        CHECK_INT(next.error, -EINTR);
        check_answer(2, -EINTR, 0);
        /* What can be answered at once is, interrupted or not. */
        interrupt(3);
        read_at_once(3, 4);
        check_answer(3, 0, 4);
        stop();
}

static void interrupt_while_it_waits(void) {
        struct request *second;

        start();
        read_waits(2, 0, USEC_NEVER);
        second = read_waits(3, 0, USEC_NEVER);
        interrupt(2);
        check_answer(2, -EINTR, 0);
        CHECK_INT(n_answered, 1);
        CHECK_INT(all.n, 1);
        interrupt_late(2); /* the kernel may send it again */
        CHECK_INT(n_answered, 1);
        request_answer(second, 1);
        check_answer(3, 0, 1);
        stop();
}

/* Whatever ends the wait, what was done is the answer. */
static void a_part_is_done(void) {
        start();
        read_waits(2, 0, USEC_NEVER)->done = 4;
        interrupt(2);
        check_answer(2, 0, 4);
        read_waits(3, 0, USEC_NEVER)->done = 5;
        requests_answer_owned(&owner, -EPIPE);
        check_answer(3, 0, 5);
        request_answer(read_waits(4, 0, 50), -EPIPE);
        check_answer(4, -EPIPE, 0);
        read_waits(5, 0, 50)->done = 1;
        requests_tick(&all, 50);
        check_answer(5, 0, 1);
        CHECK_INT(n_answered, 4);
        stop();
}

static void interrupt_after(void) {
        start();
        request_answer(read_waits(2, 0, USEC_NEVER), 2);
        check_answer(2, 0, 2);
        interrupt_late(2);
        CHECK_INT(n_answered, 1);
        stop();
}

static void deadlines(void) {
        start();
        read_waits(2, 0, 300);
        read_waits(3, 0, USEC_NEVER);
        read_waits(4, 0, 100);
        read_waits(5, 0, 200);
        read_waits(6, 0, 200);
        CHECK_INT(requests_tick(&all, 99), 100);
        CHECK(!answer_there());
        CHECK_INT(requests_tick(&all, 100), 200);
        check_answer(4, -ETIMEDOUT, 0);
        CHECK_INT(requests_tick(&all, 250), 300);
        check_answer(5, -ETIMEDOUT, 0);
        check_answer(6, -ETIMEDOUT, 0);
        interrupt(2);
        check_answer(2, -EINTR, 0);
        CHECK_INT(requests_tick(&all, 1000), USEC_NEVER);
        CHECK_INT(all.n, 1);
        request_answer(list_first(&all.waiting, struct request, link_all), 1);
        check_answer(3, 0, 1);
        stop();
}

/* Where the kernel aborts a mount that answers too late, all are answered before, as if interrupted. */
static void kernel_limit(void) {
        start();
        requests_init(&all, LIMIT_US);
        read_waits(2, 5, USEC_NEVER);
        read_waits(3, 6, LIMIT_US * 2);
        read_waits(4, 7, 50);
        CHECK_INT(requests_tick(&all, 10), 50);
        CHECK_INT(requests_tick(&all, 50), LIMIT_US + 5);
        check_answer(4, -ETIMEDOUT, 0);
        CHECK_INT(requests_tick(&all, LIMIT_US + 6), USEC_NEVER);
        check_answer(2, -EINTR, 0);
        check_answer(3, -EINTR, 0);
        stop();
}

static void owner_goes(void) {
        struct request *other;

        start();
        read_waits(2, 0, 100);
        next.owner = &other_owner;
        other = read_waits(3, 0, 100);
        next.owner = &owner;
        read_waits(4, 0, USEC_NEVER);
        requests_answer_owned(&owner, -EBADF);
        check_answer(2, -EBADF, 0);
        check_answer(4, -EBADF, 0);
        CHECK_INT(all.n, 1);
        interrupt_late(4);
        CHECK_INT(requests_tick(&all, 50), 100);
        request_answer(other, 5);
        check_answer(3, 0, 5);
        CHECK_INT(requests_tick(&all, 200), USEC_NEVER);
        CHECK_INT(n_answered, 3);
        stop();
}

static void session_goes(void) {
        start();
        read_waits(2, 0, USEC_NEVER);
        next.owner = &other_owner;
        read_waits(3, 0, 100);
        requests_answer_all(&all, -ECONNABORTED);
        check_answer(2, -ECONNABORTED, 0);
        check_answer(3, -ECONNABORTED, 0);
        requests_answer_all(&all, -ECONNABORTED);
        stop();
}

static void on_unlink_twice(fuse_req_t req, fuse_ino_t parent, const char *name) {
        struct request request = REQUEST_INIT(&request_status, req);

        request_answer(&request, 0);
        CHECK_ABORTS(request_answer(&request, 0));
}

static void on_read_moved(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
        struct slow moved = { .request = REQUEST_INIT(&slow_kind, req) };
        struct request *out;

        CHECK_INT(request_wait(&moved.request, &next.waiting, &all, &owner, 0, USEC_NEVER), 0);
        CHECK_ABORTS(request_answer(&moved.request, 0));
        CHECK_ABORTS(request_wait(&moved.request, &out, &all, &owner, 0, USEC_NEVER));
}

static void answered_once(void) {
        struct fuse_read_in in = { .size = 10 };

        start_with(&(struct fuse_lowlevel_ops){ .read = on_read_moved, .unlink = on_unlink_twice });
        send_message(FUSE_UNLINK, 2, "there", 6);
        check_answer(2, 0, 0);
        send_message(FUSE_READ, 3, &in, sizeof(in));
        request_answer(next.waiting, 1);
        check_answer(3, 0, 1);
        stop();
}

int main(void) {
        RUN(at_once);
        RUN(waits);
        RUN(interrupt_before);
        RUN(interrupt_while_it_waits);
        RUN(a_part_is_done);
        RUN(interrupt_after);
        RUN(deadlines);
        RUN(kernel_limit);
        RUN(owner_goes);
        RUN(session_goes);
        RUN(answered_once);
        return check_done();
}
