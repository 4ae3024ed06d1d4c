/* SPDX-License-Identifier: MIT */
#include "fs/request.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"

void requests_init(struct requests *all, int64_t limit_us) {
        *all = (struct requests){ .limit_us = limit_us };
        list_init(&all->waiting);
        list_init(&all->due);
}

int64_t requests_kernel_limit(void) {
        static const char *const sysctls[] = {
                "/proc/sys/fs/fuse/default_request_timeout",
                "/proc/sys/fs/fuse/max_request_timeout",
        };
        int64_t limit = USEC_NEVER;

        for (size_t i = 0; i < sizeof(sysctls) / sizeof(sysctls[0]); i++) {
                _cleanup_(cleanup_fclose) FILE *f = fopen(sysctls[i], "re");
                long seconds;

                if (f && fscanf(f, "%ld", &seconds) == 1 && seconds > 0 && seconds * USEC_PER_SEC / 2 < limit)
                        limit = seconds * USEC_PER_SEC / 2;
        }
        return limit;
}

static void leave_lists(struct request *r) {
        list_remove(&r->link);
        list_remove(&r->link_all);
        list_remove(&r->link_due);
        r->session->n--;
}

void request_answer(struct request *r, int64_t result) {
        fuse_req_t req = TAKE_PTR(r->req);

        assert(req);
        if (r->session)
                leave_lists(r);
        if (result < 0 && r->done > 0)
                result = r->done;
        if (result < 0)
                fuse_reply_err(req, (int)-result);
        else
                r->kind->succeed(r, req, result);
        if (!r->session)
                return;
        if (r->kind->answered)
                r->kind->answered(r);
        free(r);
}

/* libfuse holds a lock on the request here: the request may be answered, but no other call about it is allowed. */
static void on_interrupt(fuse_req_t req, void *data) {
        request_answer(data, -EINTR);
}

/* The kernel's limit is a deadline, too, but its error is EINTR, so that callers try again. */
static void set_deadline(struct request *r, int64_t due_us) {
        int64_t limit_us = clock_after(r->since_us, r->session->limit_us);
        struct request *before;

        r->due_us = clock_earlier(due_us, limit_us);
        r->due_error = due_us <= limit_us ? -ETIMEDOUT : -EINTR;
        if (r->due_us == USEC_NEVER)
                return;
        /* From the end, because most deadlines are equally far from the arrival. */
        for (struct list *at = &r->session->due;; at = at->prev) {
                before = container_of(at->prev, struct request, link_due);
                if (at->prev == &r->session->due || before->due_us <= r->due_us) {
                        list_insert_before(at, &r->link_due);
                        return;
                }
        }
}

int request_wait(struct request *now, struct request **out, struct requests *all, struct list *owner, int64_t now_us,
                 int64_t due_us) {
        struct request *r;

        assert(now->req && !now->session);
        /* The interrupt may have overtaken the request. */
        if (fuse_req_interrupted(now->req))
                return -EINTR;
        r = malloc(now->kind->size);
        if (!r)
                return -ENOMEM;
        memcpy(r, now, now->kind->size);
        now->req = NULL;
        r->session = all;
        r->since_us = now_us;
        list_add_tail(owner, &r->link);
        list_add_tail(&all->waiting, &r->link_all);
        all->n++;
        list_init(&r->link_due);
        set_deadline(r, due_us);
        fuse_req_interrupt_func(r->req, on_interrupt, r);
        *out = r;
        return 0;
}

void request_set_due(struct request *r, int64_t due_us) {
        list_remove(&r->link_due);
        set_deadline(r, due_us);
}

void requests_answer_owned(struct list *owner, int error) {
        struct request *r;

        while ((r = list_first(owner, struct request, link)))
                request_answer(r, error);
}

void requests_answer_all(struct requests *all, int error) {
        struct request *r;

        while ((r = list_first(&all->waiting, struct request, link_all)))
                request_answer(r, error);
}

int64_t requests_tick(struct requests *all, int64_t now_us) {
        struct request *r;

        while ((r = list_first(&all->due, struct request, link_due))) {
                if (r->due_us > now_us)
                        return r->due_us;
                request_answer(r, r->due_error);
        }
        return USEC_NEVER;
}

int64_t requests_oldest(const struct requests *all) {
        const struct request *r = list_first(&all->waiting, struct request, link_all);

        return r ? r->since_us : USEC_NEVER;
}

static void succeed_status(struct request *r, fuse_req_t req, int64_t result) {
        fuse_reply_err(req, 0);
}

const struct request_kind request_status = { .succeed = succeed_status };
