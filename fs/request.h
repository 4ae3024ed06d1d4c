/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A request of the kernel, of any kind. It is answered exactly once.
 *
 * Each operation makes its request on the stack and answers it in the same
 * turn of the loop, without an allocation. If a request cannot be answered yet,
 * request_wait() moves it to the heap. It is then in two lists: its owner's
 * (such as an open file's) and the session's.
 *
 * The first of these events ends the wait and frees the request:
 *
 *   its operation answers it              request_answer()
 *   the kernel interrupts it              -EINTR
 *   its deadline passes                   -ETIMEDOUT
 *   half of the kernel's limit has passed -EINTR
 *   its owner ends                        requests_answer_owned()
 *   the session ends                      requests_answer_all()
 *
 * A request that has done a part of its work succeeds with that part, whatever ends the wait.
 *
 * The kernel bounds their number, because each blocks a thread of a process.
 *
 * The design is that of Plan 9's lib9p: one function answers requests of every
 * kind. It first removes them from all lists, and then calls the kind.
 */

#define FUSE_USE_VERSION 310

#include <fuse_lowlevel.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/list.h"

struct request;

struct request_kind {
        /* Send the answer of success to @req. @result is that of request_answer() and not negative. */
        void (*succeed)(struct request *r, fuse_req_t req, int64_t result);
        /*
         * A request that waited was answered: release what it holds, but not its own memory. libfuse may hold a lock on
         * the request, so neither this function nor succeed() may call libfuse about it. NULL: it holds nothing.
         */
        void (*answered)(struct request *r);
        size_t size; /* bytes of the kind's struct, which begins with struct request; 0: it never waits */
};

struct request {
        const struct request_kind *kind;
        fuse_req_t req; /* NULL once it was answered or moved to the heap */
        int64_t done;   /* bytes that it has moved: its answer in place of an error; 0: none */

        /* While it waits. */
        struct requests *session; /* NULL on the stack */
        struct list link;         /* in its owner's list, oldest first */
        struct list link_all;     /* in session->waiting */
        struct list link_due;     /* in session->due, if it has a deadline */
        int64_t since_us;
        int64_t due_us;
        int due_error; /* -errno at due_us */
};

#define REQUEST_INIT(of_kind, of_req) { .kind = (of_kind), .req = (of_req) }

/* The waiting requests of one session. The session owns it. */
struct requests {
        struct list waiting; /* all, oldest first */
        struct list due;     /* those with a deadline, the nearest first */
        unsigned n;          /* in waiting */
        int64_t limit_us;    /* a request waits no longer than this; USEC_NEVER: no limit */
};

void requests_init(struct requests *all, int64_t limit_us);

/* Half of the kernel's limit by its sysctls, in µs; USEC_NEVER: there is none. Reads /proc. */
int64_t requests_kernel_limit(void);

/*
 * Answer @r: if @result is a -errno, with the error unless a part is done, else with success in the form of its kind.
 * @r is freed if it waited. Answering a request twice, or one that has moved to the heap, is a bug and aborts.
 */
void request_answer(struct request *r, int64_t result);

/*
 * Let @now wait: move it to the heap as *@out, and add it to the list @owner. @due_us is its deadline, or USEC_NEVER.
 * -EINTR if the kernel has already interrupted it, or -ENOMEM: then the caller still has to answer @now.
 */
int request_wait(struct request *now, struct request **out, struct requests *all, struct list *owner, int64_t now_us,
                 int64_t due_us);

/* Another deadline for a request that waits. */
void request_set_due(struct request *r, int64_t due_us);

/* The owner is about to end: answer all requests in its list with @error, a -errno. */
void requests_answer_owned(struct list *owner, int error);

/* The session is about to end: answer all waiting requests with @error, a -errno. */
void requests_answer_all(struct requests *all, int error);

/* Answer requests whose deadline has passed at @now_us. Returns the next deadline, or USEC_NEVER. */
int64_t requests_tick(struct requests *all, int64_t now_us);

/* Since when the oldest request waits, or USEC_NEVER. */
int64_t requests_oldest(const struct requests *all);

/* A kind whose answer is only an errno. It never waits. */
extern const struct request_kind request_status;
