/* SPDX-License-Identifier: MIT */
#include "pool/event.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/limits.h"
#include "pool/util/clock.h"
#include "pool/util/watch.h"

struct event_ring {
        struct list watches;
        uint64_t next; /* number of the next line; lines are numbered from 0 */
        char *lines[EVENTS_MAX];
};

int event_ring_new(struct event_ring **out) {
        struct event_ring *ring = calloc(1, sizeof(*ring));

        if (!ring)
                return -ENOMEM;
        list_init(&ring->watches);
        *out = ring;
        return 0;
}

void event_ring_free(struct event_ring *ring) {
        if (!ring)
                return;
        for (size_t i = 0; i < EVENTS_MAX; i++)
                free(ring->lines[i]);
        free(ring);
}

struct list *event_ring_watches(struct event_ring *ring) {
        return &ring->watches;
}

/* @text as a JSON string; text that is no UTF-8 is refused by jansson and left out. */
static void add_string(json_t *line, const char *key, const char *text) {
        if (text)
                json_object_set_new(line, key, json_stringn(text, strnlen(text, EVENT_LEN_MAX / 4)));
}

static char *render(const char *kind, const char *name, const char *state, const char *lease,
                    const char *reason) {
        int64_t wall = clock_read_us(CLOCK_REALTIME);
        json_t *line = json_pack("{s:f}", "time", (double)wall / USEC_PER_SEC);
        char *text, *out = NULL;

        if (!line)
                return NULL;
        add_string(line, kind, name);
        add_string(line, "state", state);
        add_string(line, "lease", lease);
        add_string(line, "reason", reason);
        text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
        json_decref(line);
        if (text && asprintf(&out, "%s\n", text) < 0)
                out = NULL;
        free(text);
        return out;
}

void event_emit(struct event_ring *ring, const char *kind, const char *name, const char *state,
                const char *lease, const char *reason) {
        char *line = render(kind, name, state, lease, reason);
        char **slot = &ring->lines[ring->next % EVENTS_MAX];

        if (!line)
                return;
        free(*slot);
        *slot = line;
        ring->next++;
        watch_fire(&ring->watches);
}

uint64_t event_oldest(const struct event_ring *ring) {
        return ring->next > EVENTS_MAX ? ring->next - EVENTS_MAX : 0;
}

uint64_t event_next(const struct event_ring *ring) {
        return ring->next;
}

const char *event_line(const struct event_ring *ring, uint64_t number) {
        if (number < event_oldest(ring) || number >= ring->next)
                return NULL;
        return ring->lines[number % EVENTS_MAX];
}
