/* SPDX-License-Identifier: MIT */
#include "pool/helper/note.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pool/helper/sandbox.h"
#include "pool/helper/token.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

/* the lists */

/* Of a text that belongs to the caller, and is cut into pieces. @but: one that is left out. */
static const char **make_list(char *text, const char *but) {
        const char **list = calloc(strlen(text) + 2, sizeof(*list));
        size_t n = 0;

        for (char *path, *rest = text; list && (path = strsep(&rest, ":"));)
                if (*path && strcmp(path, but) != 0)
                        list[n++] = path;
        return list;
}

static const char **copy_list(const char *const *from, const char *but) {
        size_t n = 0;
        const char **list;

        while (from[n])
                n++;
        list = calloc(n + 1, sizeof(*list));
        n = 0;
        for (; list && *from; from++)
                if (strcmp(*from, but) != 0)
                        list[n++] = *from;
        return list;
}

int helper_notes_init(struct helper_notes *n, const struct backend_setup *setup,
                      void (*released)(struct helper_sandbox *s)) {
        *n = (struct helper_notes){ .compare = setup->compare, .released = released };
        n->text[0] = strdup(setup->compare ? setup->emptied : "");
        n->text[1] = strdup(setup->compare ? setup->unwatched : "");
        if (!n->text[0] || !n->text[1])
                return -ENOMEM;
        n->emptied = make_list(n->text[0], "");
        n->unwatched = make_list(n->text[1], "");
        n->emptied_but_tmp = n->emptied ? copy_list(n->emptied, "/tmp") : NULL;
        return n->emptied_but_tmp && n->unwatched ? 0 : -ENOMEM;
}

void helper_notes_deinit(struct helper_notes *n) {
        free(n->text[0]);
        free(n->text[1]);
        free(n->emptied);
        free(n->unwatched);
        free(n->emptied_but_tmp);
}

void helper_note_cleanup(const struct helper_sandbox *s, const char *workdir, struct client_cleanup *out) {
        static const char *const none[] = { NULL }, *const tmp[] = { "/tmp", NULL };
        const struct helper_notes *n = s->notes;
        bool shared = s->inner->tmp_is_shared;

        *out = (struct client_cleanup){ .sandbox = true, .workdir = workdir, .emptied = shared ? none : tmp };
        if (!n->compare || s->note == HELPER_NOTE_NONE)
                return;
        out->compare = true;
        out->emptied = shared ? n->emptied_but_tmp : n->emptied;
        out->unwatched = n->unwatched;
}

/* the note */

bool helper_note_is_missing(const struct helper_sandbox *s) {
        return s->notes->compare && s->note == HELPER_NOTE_NONE;
}

static void on_held(uv_timer_t *timer) {
        struct helper_sandbox *s = container_of(timer, struct helper_sandbox, hold);

        s->notes->released(s);
}

static int ask(struct helper_sandbox *s) {
        struct client_cleanup what;
        int r;

        s->note = HELPER_NOTE_BEGUN;
        helper_note_cleanup(s, "", &what);
        r = client_note(s->carrier.client, &what);
        if (r < 0)
                s->note = HELPER_NOTE_NONE;
        return r;
}

bool helper_note_begin(struct helper_sandbox *s) {
        if (!s->notes->compare || ask(s) < 0)
                return false;
        s->note_us = clock_now();
        carrier_use(&s->carrier);
        if (s->notes->took_us > NOTE_HOLD_US)
                return false;
        uv_timer_start(&s->hold, on_held, NOTE_HOLD_US / USEC_PER_MSEC, 0);
        return true;
}

static void say(struct helper_sandbox *s, int error, const char *text, size_t len) {
        char shown[HELPER_REPORT_MAX + 1];

        text_show(shown, sizeof(shown), text, len);
        if (!error)
                log_debug("environment=%s: noted in %" PRId64 " ms: %s", s->sandbox.id, s->notes->took_us / USEC_PER_MSEC, shown);
        else if (!s->notes->said)
                log_warning("environment=%s: it cannot be noted, and serves one lease only: %s", s->sandbox.id, shown);
        s->notes->said |= error != 0;
}

void helper_note_answered(struct helper_sandbox *s, int error, const char *text, size_t len) {
        s->note_answered = true;
        s->notes->took_us = clock_now() - s->note_us;
        if (s->note == HELPER_NOTE_BEGUN) {
                s->note = error ? HELPER_NOTE_NONE : HELPER_NOTE_DONE;
                say(s, error, text, len);
                if (!error && s->resume_token)
                        token_set_noted(s->resume_token);
        }
        carrier_wake(&s->carrier);
}

void helper_note_turn(struct helper_sandbox *s) {
        if (!s->note_answered)
                return;
        s->note_answered = false;
        carrier_release(&s->carrier, true);
        uv_timer_stop(&s->hold);
        s->notes->released(s);
}

void helper_note_spoil(struct helper_sandbox *s) {
        if (s->note == HELPER_NOTE_BEGUN)
                s->note = HELPER_NOTE_NONE;
}

void helper_note_stop(struct helper_sandbox *s) {
        uv_timer_stop(&s->hold);
}
