/* SPDX-License-Identifier: MIT */

/* The note of a sandbox: when it is there, and how long a new sandbox waits for it. Nobody answers but the test. */

#include <errno.h>
#include <uv.h>

#include "check.h"
#include "pool/helper/sandbox.h"
#include "pool/helper/token.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

static uv_loop_t loop;
static struct helper_notes notes;
static struct helper_sandbox box;
static struct sandbox inner;
static unsigned n_released;

static int attach(struct carrier *c, const struct exec_events *events, void *owner, struct exec **out) {
        return -ECONNREFUSED;
}

static void on_turn(struct carrier *c) {
        helper_note_turn(&box);
}

static void on_closed(struct carrier *c) {
}

static const struct carrier_events carrier_events = { .attach = attach, .turn = on_turn, .closed = on_closed };

static void on_released(struct helper_sandbox *s) {
        CHECK(s == &box);
        n_released++;
}

static void open_pool(bool compare) {
        const struct backend_setup setup = {
                .compare = compare, .emptied = "/tmp:/var/tmp", .unwatched = "/cache",
        };

        CHECK_INT(helper_notes_init(&notes, &setup, on_released), 0);
}

static void open_box(void) {
        static const uint8_t key[HELPER_KEY_SIZE];

        n_released = 0;
        box = (struct helper_sandbox){ .sandbox.id = "box", .inner = &inner, .notes = &notes };
        inner = (struct sandbox){};
        carrier_init(&box.carrier, &carrier_events, &loop, box.sandbox.id, 0);
        CHECK_INT(carrier_start(&box.carrier, key, "pool", 1), 0);
        uv_timer_init(&loop, &box.hold);
}

static void close_box(void) {
        helper_note_stop(&box);
        carrier_stop(&box.carrier);
        carrier_deinit(&box.carrier);
        uv_close((uv_handle_t *)&box.hold, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        free(box.resume_token);
}

static void answer(int error) {
        helper_note_answered(&box, error, "text", 4);
        CHECK_INT(n_released, 0); /* that is not done from inside the event */
        helper_note_turn(&box);
}

static const char *joined(const char *const *list) {
        static char text[200];

        text[0] = '\0';
        for (; *list; list++)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ", *list);
        return text;
}

static void check_cleanup(bool compare, const char *emptied, const char *unwatched) {
        struct client_cleanup what;

        helper_note_cleanup(&box, "/w", &what);
        CHECK(what.sandbox && what.compare == compare);
        CHECK_STR(what.workdir, "/w");
        CHECK_STR(joined(what.emptied), emptied);
        CHECK_STR(joined(what.unwatched ?: (const char *const[]){ NULL }), unwatched);
}

/* tests */

static void noted(void) {
        static const uint8_t key[HELPER_KEY_SIZE] = { 1 };
        uint8_t read[HELPER_KEY_SIZE];
        bool has_key, is_noted;

        open_box();
        box.resume_token = token_make(key, "rest");
        CHECK(helper_note_is_missing(&box));
        check_cleanup(false, "/tmp ", "");
        CHECK(helper_note_begin(&box));
        CHECK(!helper_note_is_missing(&box)); /* not yet */
        CHECK_STR(token_read(box.resume_token, read, &has_key, &is_noted), "rest");
        CHECK(has_key && !is_noted);
        answer(0);
        CHECK_INT(n_released, 1);
        CHECK(!helper_note_is_missing(&box));
        CHECK_STR(token_read(box.resume_token, read, &has_key, &is_noted), "rest");
        CHECK(has_key && is_noted && !memcmp(key, read, sizeof(key)));
        check_cleanup(true, "/tmp /var/tmp ", "/cache ");
        inner.tmp_is_shared = true;
        check_cleanup(true, "/var/tmp ", "/cache ");
        helper_note_spoil(&box); /* jobs run: that is what the note is for */
        CHECK(!helper_note_is_missing(&box));
        CHECK_INT(box.carrier.users, 0);
        close_box();
}

static void spoiled(void) {
        open_box();
        CHECK(helper_note_begin(&box));
        helper_note_spoil(&box);
        CHECK(helper_note_is_missing(&box));
        check_cleanup(false, "/tmp ", "");
        answer(0); /* of what it was after the job began: of no use */
        CHECK(helper_note_is_missing(&box));
        CHECK_INT(box.carrier.users, 0);
        close_box();
}

static void failed(void) {
        open_box();
        CHECK(helper_note_begin(&box));
        answer(EPERM);
        CHECK_INT(n_released, 1);
        CHECK(helper_note_is_missing(&box));
        close_box();
}

/* A new sandbox waits for so long, and then not again as long as notes take longer. */
static void slow(void) {
        int64_t begin = clock_now();

        open_box();
        CHECK(helper_note_begin(&box));
        while (n_released == 0 && clock_now() < begin + 60 * USEC_PER_SEC)
                uv_run(&loop, UV_RUN_ONCE);
        CHECK_INT(n_released, 1);
        CHECK(clock_now() >= begin + NOTE_HOLD_US);
        CHECK(!helper_note_is_missing(&box));
        helper_note_answered(&box, 0, "", 0);
        helper_note_turn(&box);
        CHECK(!helper_note_is_missing(&box));
        close_box();
        open_box();
        CHECK(!helper_note_begin(&box));
        helper_note_answered(&box, 0, "", 0);
        helper_note_turn(&box);
        close_box();
        open_box();
        CHECK(helper_note_begin(&box)); /* that was quick */
        close_box();
}

/* Where nothing is to be compared, nothing is noted, and no sandbox is used up by that. */
static void not_asked_for(void) {
        open_pool(false);
        open_box();
        CHECK(!helper_note_begin(&box));
        CHECK(!helper_note_is_missing(&box));
        check_cleanup(false, "/tmp ", "");
        box.note = HELPER_NOTE_DONE; /* by an earlier run, which compared */
        check_cleanup(false, "/tmp ", "");
        close_box();
        helper_notes_deinit(&notes);
}

int main(void) {
        log_open(-1, false);
        CHECK_INT(uv_loop_init(&loop), 0);
        RUN(not_asked_for);
        open_pool(true);
        RUN(noted);
        RUN(spoiled);
        RUN(failed);
        RUN(slow);
        helper_notes_deinit(&notes);
        CHECK_INT(uv_loop_close(&loop), 0);
        return check_done();
}
