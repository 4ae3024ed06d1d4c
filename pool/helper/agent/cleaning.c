/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/cleaning.h"

#include <stdio.h>
#include <string.h>

#include "pool/helper/agent/cleaner.h"

enum state { IDLE, RUNNING, DONE };

static enum state state;
static uint64_t epoch, number; /* of what is asked for */
static char strings[HELPER_DATA_MAX];
static struct clean_request request = { .strings = strings };
static bool asked; /* by this carrier */
static bool other; /* the cleaner works for an earlier request */
static struct clean_report report;

static void start(void);

static void on_done(const struct clean_report *r) {
        report = *r;
        state = DONE;
        if (other)
                start();
}

static void start(void) {
        int r = cleaner_start(&request, on_done);

        other = false;
        state = r < 0 ? DONE : RUNNING;
        if (r == 0)
                return;
        report.error = -r;
        snprintf(report.text, sizeof(report.text), "starting a process: %s", strerror(-r));
}

static bool is_same(const struct frame *f, uint64_t of) {
        return state != IDLE && of == epoch && f->request == number && f->kind == request.kind;
}

const char *cleaning_take(const struct frame *f, uint64_t of) {
        const char *wrong;

        asked = true;
        if (is_same(f, of))
                return NULL;
        epoch = of;
        number = f->request;
        request.kind = f->kind;
        request.flags = f->flags;
        request.len = f->len;
        if (f->len > 0)
                memcpy(strings, f->data, f->len);
        wrong = clean_check(&request);
        if (wrong) {
                number = 0; /* no request has that one */
                return wrong;
        }
        if (state == RUNNING)
                other = true;
        else
                start();
        return NULL;
}

void cleaning_new_carrier(void) {
        asked = false;
}

bool cleaning_next_reply(struct frame *f) {
        if (state != DONE || !asked)
                return false;
        asked = false;
        *f = (struct frame){
                .type = FRAME_REPLY,
                .request = number,
                .kind = (uint8_t)request.kind,
                .value = (uint32_t)report.error,
                .data = (const uint8_t *)report.text,
                .len = strlen(report.text),
        };
        return true;
}
