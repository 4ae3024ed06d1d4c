/* SPDX-License-Identifier: MIT */

/* What Modal warns of: each once, only the newest, and not too many. */

#include "pool/backend/modal/client.h"
#include "pool/util/clock.h"
#include "tests/unit/check.h"

static struct buf told = BUF_INIT(10000), listed = BUF_INIT(10000);

static void on_warned(struct modal_client *c, const char *text) {
        CHECK_INT(buf_printf(&told, "%s\n", text), 0);
}

static void on_listed(void *data, const struct backend_warning *w) {
        CHECK_INT(buf_printf(&listed, "%s %d\n", w->text, (int)w->n), 0);
}

static const char *list(const struct modal_client *c) {
        buf_clear(&listed);
        modal_warnings_each(&c->warnings, on_listed, NULL);
        return buf_text(&listed);
}

static void take(struct modal_client *c, const char *value) {
        modal_client_take_warning(c, value, strlen(value));
}

static void client_init(struct modal_client *c) {
        static char id[] = "ak-me", secret[] = "as-secret";

        buf_clear(&told);
        *c = (struct modal_client){ .credentials = { .token_id = id, .token_secret = secret }, .warned = on_warned };
        list_init(&c->secrets);
}

static void each_once(void) {
        struct modal_client c;

        client_init(&c);
        take(&c, "a%20is old");
        take(&c, "b");
        take(&c, "a is%20old");
        CHECK_STR(buf_text(&told), "a is old\nb\n");
        CHECK_STR(list(&c), "a is old 2\nb 1\n");
}

/* Whatever bytes there are, encoded or not: one printable line, of a bounded length, with no secret. */
static void any_bytes(void) {
        struct modal_client c;
        char long_one[3 * WARNING_LEN_MAX];

        client_init(&c);
        take(&c, "x%0astate%1b[2J%e2%80%aey%ff%");
        take(&c, "w\x1b\x7f\xc2\x85z\xe2\x81\xa6");
        take(&c, "the token as-secret of ak-me");
        take(&c, "");
        take(&c, "%20%0a");
        CHECK_STR(buf_text(&told), "x state [2J?y?%\nw   z?\nthe token ********* of *****\n");
        buf_clear(&told);
        memset(long_one, 'l', sizeof(long_one));
        modal_client_take_warning(&c, long_one, sizeof(long_one));
        CHECK_INT(told.len, WARNING_LEN_MAX); /* with the newline in place of the NUL */
        modal_client_take_warning(&c, long_one, sizeof(long_one));
        CHECK_INT(told.len, WARNING_LEN_MAX);
        buf_clear(&told);
        memcpy(long_one + WARNING_LEN_MAX - 4, "as-secret", 9);
        modal_client_take_warning(&c, long_one, sizeof(long_one));
        CHECK_STR(buf_text(&told) + WARNING_LEN_MAX - 5, "l***\n");
}

static void only_so_many(void) {
        struct modal_warnings w = {};
        char text[16];

        for (int i = 0; i < 2 * WARNINGS_NEW_MAX; i++) {
                snprintf(text, sizeof(text), "w%d", i);
                CHECK_INT(modal_warnings_add(&w, text, USEC_PER_SEC), i < WARNINGS_NEW_MAX);
        }
        CHECK_INT(w.n, WARNINGS_MAX);
        snprintf(text, sizeof(text), "w%d", WARNINGS_NEW_MAX - 1);
        CHECK_STR(w.kept[0].text, text);
        CHECK(!modal_warnings_add(&w, text, 2 * USEC_PER_SEC)); /* known, and counted */
        CHECK_INT(w.kept[0].n, 2);
        CHECK_INT(w.kept[0].last_us, 2 * USEC_PER_SEC);
        CHECK(!modal_warnings_add(&w, "late", 3600 * USEC_PER_SEC));
        CHECK(modal_warnings_add(&w, "late", 3601 * USEC_PER_SEC));
        CHECK_INT(w.n, WARNINGS_MAX);
}

/* One that comes again and again stays, however many others come. */
static void repeated_ones_stay(void) {
        struct modal_warnings w = {};
        char text[16];

        CHECK(modal_warnings_add(&w, "again", 1));
        for (int i = 0; i < WARNINGS_NEW_MAX - 1; i++) {
                snprintf(text, sizeof(text), "w%d", i);
                CHECK(modal_warnings_add(&w, text, 1));
                CHECK(!modal_warnings_add(&w, "again", 1));
        }
        CHECK_STR(w.kept[0].text, "again");
        CHECK_STR(w.kept[1].text, text);
}

int main(void) {
        RUN(each_once);
        RUN(any_bytes);
        RUN(only_so_many);
        RUN(repeated_ones_stay);
        buf_deinit(&told);
        buf_deinit(&listed);
        return check_done();
}
