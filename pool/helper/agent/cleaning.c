/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/cleaning.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pool/helper/agent/cleaner.h"

enum state { IDLE, WAITING, RUNNING, DONE };

struct task {
        enum state state;
        uint64_t epoch, number; /* of what is asked for */
        bool asked;             /* by this carrier */
        bool again;             /* RUNNING is for an earlier request */
        struct clean_request request;
        struct clean_report report;
        char strings[HELPER_DATA_MAX];
};

static struct task tasks[HELPER_N_REQUESTS];
static struct task *const clean = &tasks[HELPER_CLEAN], *const note = &tasks[HELPER_NOTE];
static struct task *running;

static void fail(struct task *t, int r, const char *what) {
        t->state = DONE;
        t->report.error = -r;
        t->report.len = snprintf(t->report.text, sizeof(t->report.text), "%s: %s", what, strerror(-r));
}

static void schedule(void);

static void on_done(const struct clean_report *r) {
        struct task *t = running;

        running = NULL;
        t->report = *r;
        t->state = t->again ? WAITING : DONE;
        t->again = false;
        schedule();
}

static void cancel_note(void) {
        cleaner_cancel();
        running = NULL;
        if (note->again)
                note->state = WAITING;
        else
                fail(note, -ECANCELED, "a clean-up came first");
        note->again = false;
}

/* Starts what is next. */
static void schedule(void) {
        if (running == note && running && clean->state == WAITING)
                cancel_note();
        while (!running) {
                struct task *next = clean->state == WAITING ? clean : note->state == WAITING ? note : NULL;
                int r;

                if (!next)
                        return;
                r = cleaner_start(&next->request, on_done);
                if (r < 0) {
                        fail(next, r, "starting a process");
                } else {
                        next->state = RUNNING;
                        running = next;
                }
        }
}

const char *cleaning_take(const struct frame *f, uint64_t epoch) {
        struct task *t = &tasks[f->kind];
        const char *wrong;

        t->asked = true;
        if (t->state != IDLE && epoch == t->epoch && f->request == t->number)
                return NULL;
        t->epoch = epoch;
        t->number = f->request;
        t->request = (struct clean_request){ .kind = f->kind, .flags = f->flags, .strings = t->strings, .len = f->len };
        if (f->len > 0)
                memcpy(t->strings, f->data, f->len);
        wrong = clean_check(&t->request);
        if (wrong) {
                t->number = 0; /* no request has that one */
                return wrong;
        }
        if (t->state == RUNNING)
                t->again = true;
        else
                t->state = WAITING;
        schedule();
        return NULL;
}

void cleaning_new_carrier(void) {
        clean->asked = note->asked = false;
}

bool cleaning_next_reply(struct frame *f) {
        struct task *t = clean->state == DONE && clean->asked ? clean : note;

        if (t->state != DONE || !t->asked)
                return false;
        t->asked = false;
        *f = (struct frame){
                .type = FRAME_REPLY,
                .request = t->number,
                .kind = (uint8_t)t->request.kind,
                .value = (uint32_t)t->report.error,
                .data = (const uint8_t *)t->report.text,
                .len = t->report.len,
        };
        return true;
}
