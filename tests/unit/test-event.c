/* SPDX-License-Identifier: MIT */
#include <jansson.h>

#include "check.h"
#include "pool/base/event.h"
#include "pool/base/limits.h"
#include "pool/util/watch.h"

static const char *field(json_t *line, const char *key) {
        const char *value = json_string_value(json_object_get(line, key));

        return value ? value : "(none)";
}

static void lines(void) {
        struct event_ring *ring;
        const char *text;
        json_t *line;

        CHECK_INT(event_ring_new(&ring, EVENTS_MAX), 0);
        CHECK_INT(event_oldest(ring), 0);
        CHECK_INT(event_next(ring), 0);
        CHECK(!event_line(ring, 0));

        event_emit(ring, "environment", "sb-1", "leased", "t\"1", "because\xc3\xbc");
        CHECK_INT(event_next(ring), 1);
        text = event_line(ring, 0);
        CHECK(text && strlen(text) > 1 && strchr(text, '\n') == text + strlen(text) - 1);
        line = json_loads(text, 0, NULL);
        CHECK_STR(field(line, "environment"), "sb-1");
        CHECK_STR(field(line, "state"), "leased");
        CHECK_STR(field(line, "lease"), "t\"1");
        CHECK_STR(field(line, "reason"), "because\xc3\xbc");
        CHECK(json_number_value(json_object_get(line, "time")) > 1e9);
        json_decref(line);

        event_emit(ring, "lease", "x", "waiting", NULL, NULL);
        line = json_loads(event_line(ring, 1), 0, NULL);
        CHECK_INT(json_object_size(line), 3);
        CHECK_STR(field(line, "lease"), "x");
        json_decref(line);
        event_ring_free(ring);
        event_ring_free(NULL);
}

static void forgets_the_oldest(void) {
        struct event_ring *ring;
        char name[32], expected[48];

        CHECK_INT(event_ring_new(&ring, EVENTS_MAX), 0);
        for (int i = 0; i < EVENTS_MAX + 10; i++) {
                snprintf(name, sizeof(name), "n%d", i);
                event_emit(ring, "lease", name, "waiting", NULL, NULL);
        }
        CHECK_INT(EVENTS_MAX, 4096);
        CHECK_INT(event_oldest(ring), 10);
        CHECK_INT(event_next(ring), 4106);
        CHECK(!event_line(ring, 9));
        CHECK(!event_line(ring, 4106));
        for (uint64_t i = 10; i < 4106; i += 1365) {
                snprintf(expected, sizeof(expected), "\"lease\":\"n%d\"", (int)i);
                CHECK(event_line(ring, i) && strstr(event_line(ring, i), expected));
        }
        event_ring_free(ring);
}

static void bounds(void) {
        struct event_ring *ring;
        char *huge = malloc(100001);
        json_t *line;

        memset(huge, '"', 100000);
        huge[100000] = '\0';
        CHECK_INT(event_ring_new(&ring, EVENTS_MAX), 0);
        event_emit(ring, "lease", "n", "failed", NULL, huge);
        CHECK(strlen(event_line(ring, 0)) <= EVENT_LEN_MAX);
        event_emit(ring, "lease", "\xff", "failed", NULL, "why\x1b[1m\nand \xc2\x85\xe2\x80\xae!");
        line = json_loads(event_line(ring, 1), 0, NULL);
        CHECK_STR(field(line, "reason"), "why [1m and  ?!");
        CHECK_STR(field(line, "lease"), "?");
        json_decref(line);
        event_ring_free(ring);
        free(huge);
}

static unsigned told;

static void on_line(struct watch *w) {
        told++;
}

static void watched(void) {
        struct event_ring *ring;
        struct watch w;

        CHECK_INT(event_ring_new(&ring, EVENTS_MAX), 0);
        watch_init(&w, on_line);
        watch_add(event_ring_watches(ring), &w);
        event_emit(ring, "lease", "a", "waiting", NULL, NULL);
        event_emit(ring, "lease", "a", "leased", NULL, NULL);
        CHECK_INT(told, 2);
        watch_remove(&w);
        event_ring_free(ring);
}

static unsigned calls_left; /* of jansson's malloc that succeed */

static void *scarce_malloc(size_t size) {
        return calls_left > 0 && calls_left-- ? malloc(size) : NULL;
}

/* What comes next is one line with @expected in it, or with NULL nothing. */
static void read_on(struct event_ring *ring, uint64_t *next, const char *expected) {
        struct buf out = BUF_INIT(4 * EVENT_LEN_MAX);
        const char *end;

        CHECK_INT(event_read(ring, next, &out), 0);
        end = strchr(buf_text(&out), '\n');
        CHECK((expected != NULL) == (out.len > 0));
        CHECK(!expected || (strstr(buf_text(&out), expected) && end == out.data + out.len - 1));
        buf_deinit(&out);
}

/* Lines without memory, and those that are gone, are told of; the reader goes on behind them. */
static void reads_on(void) {
        struct event_ring *ring;
        uint64_t next = 0;

        CHECK_INT(event_ring_new(&ring, EVENTS_MAX), 0);
        read_on(ring, &next, NULL);
        event_emit(ring, "lease", "a", "waiting", NULL, NULL);
        event_emit(ring, "lease", "b", "waiting", NULL, NULL);
        json_set_alloc_funcs(scarce_malloc, free);
        read_on(ring, &next, "\"missed\":2}");
        CHECK_INT(next, 2);
        json_set_alloc_funcs(malloc, free);
        read_on(ring, &next, NULL);
        event_emit(ring, "lease", "c", "waiting", NULL, NULL);
        read_on(ring, &next, "\"lease\":\"c\"");
        for (int i = 0; i < EVENTS_MAX + 10; i++)
                event_emit(ring, "lease", "d", "waiting", NULL, NULL);
        next = event_next(ring) - EVENTS_MAX - 5;
        json_set_alloc_funcs(scarce_malloc, free);
        read_on(ring, &next, "\"missed\":4101}");
        json_set_alloc_funcs(malloc, free);
        CHECK_INT(next, event_next(ring));
        event_ring_free(ring);
}

int main(void) {
        RUN(lines);
        RUN(forgets_the_oldest);
        RUN(bounds);
        RUN(watched);
        RUN(reads_on);
        return check_done();
}
