/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A request of the kernel, of any kind. It is answered exactly once.
 *
 * Each operation makes its request on the stack and answers it in the same
 * turn of the loop: that takes no allocation. A request that cannot be answered
 * yet is moved to the heap by request_wait(). It then stands in two lists: its
 * owner's (an open file, say), and that of the session.
 *
 * A waiting request leaves by the first of these, and is gone afterwards:
 *
 *   its operation answers it         request_answer()
 *   the kernel interrupts it         -EINTR
 *   its deadline passes              -ETIMEDOUT
 *   the kernel's own limit is near   -EINTR
 *   its owner goes                   requests_answer_owned()
 *   the session goes                 requests_answer_all()
 *
 * The kernel bounds how many wait: each one holds up a thread of some process.
 *
 * The shape is that of Plan 9's lib9p: one function answers requests of every
 * kind, takes them out of all lists first, and leaves to the kind what differs.
 */

#define FUSE_USE_VERSION 310

#include <fuse_lowlevel.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/util/list.h"

struct request;

struct request_kind {
        /* Send the answer of success to @req. @result is that of request_answer(), not negative. */
        void (*succeed)(struct request *r, fuse_req_t req, int64_t result);
        /*
         * Of a request that waited: it was answered, let go of what it holds. The memory of it is not the kind's to
         * free. libfuse may hold a lock on the request: neither this function nor succeed() may ask libfuse about it.
         * NULL: it holds nothing.
         */
        void (*answered)(struct request *r);
        size_t size; /* bytes of the kind's struct, which begins with struct request; 0: it never waits */
};

struct request {
        const struct request_kind *kind;
        fuse_req_t req; /* NULL once it was answered, or has moved to the heap */

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
        int64_t limit_us;    /* after so long the kernel aborts the mount; USEC_NEVER: it never does */
};

void requests_init(struct requests *all, int64_t limit_us);

/* The kernel's limit by its sysctls, halved, in µs; USEC_NEVER: there is none. Reads /proc. */
int64_t requests_kernel_limit(void);

/*
 * Answer @r: with the error when @result is a -errno, else with success, as its kind has it. @r is freed if it waited.
 * To answer a request twice, or one that has moved to the heap, is a mistake of ours and aborts.
 */
void request_answer(struct request *r, int64_t result);

/*
 * Let @now wait: it moves to the heap, and from then on *@out stands for it. @owner is the list that it is in; @due_us
 * its deadline, or USEC_NEVER. -EINTR when the kernel has interrupted it already, -ENOMEM: then @now is still to be
 * answered.
 */
int request_wait(struct request *now, struct request **out, struct requests *all, struct list *owner, int64_t now_us,
                 int64_t due_us);

/* The owner is about to go: answer all in its list with @error, a -errno. */
void requests_answer_owned(struct list *owner, int error);

/* The session is about to go: answer all that wait with @error, a -errno. */
void requests_answer_all(struct requests *all, int error);

/* Answer those whose deadline has passed at @now_us. The time of the next deadline, or USEC_NEVER. */
int64_t requests_tick(struct requests *all, int64_t now_us);

/* Since when the oldest waits, or USEC_NEVER. */
int64_t requests_oldest(const struct requests *all);

/* A kind for answers that are an errno and nothing else. It never waits. */
extern const struct request_kind request_status;
