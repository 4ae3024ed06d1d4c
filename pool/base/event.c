/* SPDX-License-Identifier: MIT */
#include "pool/base/event.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/limits.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"
#include "pool/util/watch.h"

struct event {
        int64_t wall_us;
        const char *kind, *state;
        const char *name, *lease, *reason; /* in text; NULL: not given */
        char text[];
};

struct event_ring {
        struct list watches;
        uint64_t next; /* number of the next event; they are numbered from 0 */
        char *line; /* the line that was asked for last; most lines are never read */
        unsigned max;
        struct event *events[];
};

int event_ring_new(struct event_ring **out, unsigned max) {
        struct event_ring *ring = calloc(1, sizeof(*ring) + max * sizeof(ring->events[0]));

        if (!ring)
                return -ENOMEM;
        ring->max = max;
        list_init(&ring->watches);
        *out = ring;
        return 0;
}

void event_ring_free(struct event_ring *ring) {
        if (!ring)
                return;
        for (size_t i = 0; i < ring->max; i++)
                free(ring->events[i]);
        free(ring->line);
        free(ring);
}

struct list *event_ring_watches(struct event_ring *ring) {
        return &ring->watches;
}

static size_t text_size(const char *text) {
        return text ? strnlen(text, EVENT_LEN_MAX / 4) + 1 : 0;
}

/* Copy @text to *@at, and go behind it. */
static const char *keep(char **at, const char *text) {
        size_t size = text_size(text);
        char *copy = *at;

        if (!text)
                return NULL;
        memcpy(copy, text, size - 1);
        copy[size - 1] = '\0';
        *at += size;
        return copy;
}

int64_t event_emit(struct event_ring *ring, const char *kind, const char *name, const char *state,
                   const char *lease, const char *reason) {
        struct event *e = malloc(sizeof(*e) + text_size(name) + text_size(lease) + text_size(reason));
        struct event **slot = &ring->events[ring->next & (ring->max - 1)];
        int64_t wall_us = clock_read_us(CLOCK_REALTIME);
        char *at;

        if (!e)
                return wall_us;
        at = e->text;
        e->wall_us = wall_us;
        e->kind = kind;
        e->state = state;
        e->name = keep(&at, name);
        e->lease = keep(&at, lease);
        e->reason = keep(&at, reason);
        free(*slot);
        *slot = e;
        ring->next++;
        watch_fire(&ring->watches);
        return wall_us;
}

int64_t event_last_wall_us(const struct event_ring *ring) {
        return ring->next ? ring->events[(ring->next - 1) & (ring->max - 1)]->wall_us : 0;
}

static void add_string(json_t *line, const char *key, const char *text) {
        char shown[EVENT_LEN_MAX / 4 + 1];

        if (!text)
                return;
        text_show(shown, sizeof(shown), text, strlen(text));
        json_object_set_new(line, key, json_string(shown));
}

static char *render(const struct event *e) {
        json_t *line = json_pack("{s:f}", "time", (double)e->wall_us / USEC_PER_SEC);
        char *text, *out = NULL;

        if (!line)
                return NULL;
        add_string(line, e->kind, e->name);
        add_string(line, "state", e->state);
        add_string(line, "lease", e->lease);
        add_string(line, "reason", e->reason);
        text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17));
        json_decref(line);
        if (text && asprintf(&out, "%s\n", text) < 0)
                out = NULL;
        free(text);
        return out;
}

uint64_t event_oldest(const struct event_ring *ring) {
        return ring->next > ring->max ? ring->next - ring->max : 0;
}

uint64_t event_next(const struct event_ring *ring) {
        return ring->next;
}

const char *event_line(struct event_ring *ring, uint64_t number) {
        if (number < event_oldest(ring) || number >= ring->next)
                return NULL;
        free(ring->line);
        ring->line = render(ring->events[number & (ring->max - 1)]);
        return ring->line;
}

int event_read(struct event_ring *ring, uint64_t *next, struct buf *out) {
        uint64_t at = *next < event_oldest(ring) ? event_oldest(ring) : *next;
        int r = 0;

        while (r == 0) {
                const char *line = event_line(ring, at);

                if (!line && at < ring->next) {
                        at++;
                        continue;
                }
                if (*next < at)
                        r = buf_printf(out, "{\"missed\":%" PRIu64 "}\n", at - *next);
                if (r < 0)
                        break;
                *next = at;
                if (!line)
                        break;
                r = buf_append(out, line, strlen(line));
                if (r == 0)
                        *next = ++at;
        }
        return r == -EFBIG ? 0 : r;
}
