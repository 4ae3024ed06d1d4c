/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/helper/client-internal.h"
#include "pool/helper/file-call.h"
#include "pool/util/cleanup.h"

/* Its data follow. */
struct client_file_call {
        struct list link; /* in the queue, until it has a number */
        struct client *client;
        struct file_call *owner; /* NULL: nobody waits for it any more */
        uint64_t number;
        enum file_op op;
        bool sent; /* over this carrier */
        size_t len;
        uint8_t data[];
};

void client_calls_init(struct client_calls *calls) {
        list_init(&calls->queue);
        calls->first = calls->next = calls->resend = 1;
}

static struct client_file_call **place_of(struct client_calls *calls, uint64_t number) {
        return &calls->window[number % HELPER_CALLS_MAX];
}

static bool is_empty(const struct client_calls *calls) {
        return calls->n_queued == 0 && calls->first == calls->next;
}

static void drop(struct client_file_call *f) {
        struct client_calls *calls = &f->client->calls;

        if (f->number) {
                *place_of(calls, f->number) = NULL;
                while (calls->first < calls->next && !*place_of(calls, calls->first))
                        calls->first++;
        } else {
                list_remove(&f->link);
                calls->n_queued--;
        }
        if (is_empty(calls))
                free(TAKE_PTR(calls->window));
        free(f);
}

static void give(struct file_call *owner, int error, const void *data, size_t len) {
        owner->cancel = NULL;
        owner->record = NULL;
        owner->done(owner, error, data, len);
}

/* One that was numbered goes on: its place is not free before its answer has come. */
static void cancel(struct file_call *owner) {
        struct client_file_call *f = owner->record;

        owner->cancel = NULL;
        owner->record = NULL;
        f->owner = NULL;
        if (!f->number)
                drop(f);
}

static int queue(struct client *c, const struct file_call_args *args, struct file_call *owner) {
        static uint8_t data[HELPER_DATA_MAX];
        ssize_t len = file_call_encode(args, data);
        struct client_file_call *f;

        if (len < 0)
                return (int)len;
        if (c->calls.n_queued == CLIENT_CALLS_QUEUE_MAX)
                return -EAGAIN;
        if (!c->calls.window)
                c->calls.window = calloc(HELPER_CALLS_MAX, sizeof(struct client_file_call *));
        f = c->calls.window ? malloc(sizeof(*f) + len) : NULL;
        if (!f)
                return -ENOMEM;
        *f = (struct client_file_call){ .client = c, .owner = owner, .op = args->op, .len = len };
        memcpy(f->data, data, len);
        list_add_tail(&c->calls.queue, &f->link);
        c->calls.n_queued++;
        if (owner) {
                owner->cancel = cancel;
                owner->record = f;
        }
        return 0;
}

int client_call(struct client *c, const struct file_call_args *args, struct file_call *call) {
        if (c->state == CLIENT_STALE)
                return -ENODEV;
        if (c->state == CLIENT_OPEN && c->version < 2)
                return -EOPNOTSUPP;
        return queue(c, args, call);
}

bool client_has_calls(const struct client *c) {
        return !is_empty(&c->calls);
}

/* A done() may ask for more: those come after it. */
static void fail_queue(struct client *c, int error) {
        struct list failed = LIST_INIT(failed);
        struct client_file_call *f;

        list_move_all(&failed, &c->calls.queue);
        while ((f = list_first(&failed, struct client_file_call, link))) {
                struct file_call *owner = f->owner;

                drop(f);
                if (owner)
                        give(owner, error, NULL, 0);
        }
}

void client_calls_end(struct client *c, int error) {
        struct client_calls *calls = &c->calls;
        uint64_t end = calls->next;

        for (uint64_t number = calls->first; number < end; number++) {
                struct client_file_call *f = calls->window ? *place_of(calls, number) : NULL;
                struct file_call *owner = f && f->number == number ? f->owner : NULL;

                if (f && f->number == number)
                        drop(f);
                if (owner)
                        give(owner, error, NULL, 0);
        }
        fail_queue(c, error);
}

/* carriers */

void client_calls_on_carrier(struct client *c) {
        c->calls.resend = c->calls.first;
        for (uint64_t number = c->calls.first; number < c->calls.next; number++)
                if (*place_of(&c->calls, number))
                        (*place_of(&c->calls, number))->sent = false;
}

void client_calls_on_open(struct client *c) {
        if (c->version < 2)
                client_calls_end(c, EOPNOTSUPP);
}

static bool has_room(const struct client_calls *calls) {
        return calls->next < calls->first + HELPER_CALLS_MAX;
}

static struct client_file_call *next_again(struct client_calls *calls) {
        if (calls->resend < calls->first)
                calls->resend = calls->first;
        for (; calls->resend < calls->next; calls->resend++) {
                struct client_file_call *f = *place_of(calls, calls->resend);

                if (f && !f->sent)
                        return f;
        }
        return NULL;
}

bool client_calls_next(struct client *c, struct frame *out) {
        struct client_calls *calls = &c->calls;
        struct client_file_call *f;

        if (c->state != CLIENT_OPEN)
                return false;
        f = next_again(calls);
        if (!f && has_room(calls) && (f = list_first(&calls->queue, struct client_file_call, link))) {
                list_remove(&f->link);
                calls->n_queued--;
                f->number = calls->next++;
                *place_of(calls, f->number) = f;
        }
        if (!f)
                return false;
        *out = (struct frame){ .type = FRAME_CALL, .request = f->number, .data = f->data, .len = f->len };
        f->sent = true;
        return true;
}

bool client_calls_are_urgent(struct client *c) {
        if (c->state != CLIENT_OPEN)
                return false;
        return next_again(&c->calls) || (c->calls.n_queued > 0 && has_room(&c->calls));
}

/*
 * ENOSYS would make the kernel ask nobody on the whole mount for such a thing again, so it is not for a sandbox to say.
 * Nor is what no kernel says.
 */
static int errno_of(const struct frame *f) {
        return f->value == ENOSYS || f->value >= 4096 ? EIO : (int)f->value;
}

/* What nobody wants any more stays open otherwise. */
static void close_orphan(struct client *c, enum file_op op, const struct frame *f) {
        struct file_call_args args = { .op = FILE_OP_CLOSE };
        struct file_handle_head head;

        if (op != FILE_OP_OPEN && op != FILE_OP_CREATE && op != FILE_OP_LIST)
                return;
        if (f->value || f->len < FILE_HANDLE_HEAD_SIZE || file_get_handle_head(&head, f->data, f->len) < 0 || !head.handle)
                return;
        args.handle = head.handle;
        (void)queue(c, &args, NULL);
}

const char *client_on_answer(struct client *c, const struct frame *f) {
        struct client_file_call *call;
        struct file_call *owner;
        enum file_op op;

        if (f->request >= c->calls.next)
                return "ANSWER to nothing";
        if (f->request < c->calls.first)
                return NULL; /* that call was given up */
        call = *place_of(&c->calls, f->request);
        if (!call || call->number != f->request || !call->sent)
                return "ANSWER to nothing";
        owner = call->owner;
        op = call->op;
        drop(call);
        if (owner)
                give(owner, errno_of(f), f->data, f->len);
        else
                close_orphan(c, op, f);
        return NULL;
}
