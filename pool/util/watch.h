/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A watch is told that something changed: it is how a waiting read learns
 * of new bytes without the layers below knowing that reads exist.
 *
 * The watcher owns its watch and adds it to the list of the thing watched.
 * changed() may remove any watch of the list, its own among them, but must
 * not free the thing watched.
 */

#include "pool/util/list.h"

struct watch {
        struct list link;
        void (*changed)(struct watch *watch);
};

static inline void watch_init(struct watch *w, void (*changed)(struct watch *)) {
        list_init(&w->link);
        w->changed = changed;
}

static inline void watch_add(struct list *watches, struct watch *w) {
        list_remove(&w->link);
        list_add_tail(watches, &w->link);
}

static inline void watch_remove(struct watch *w) {
        list_remove(&w->link);
}

/* Tell each watch once, also when watches come and go meanwhile. */
static inline void watch_fire(struct list *watches) {
        struct list pending = LIST_INIT(pending);
        struct watch *w;

        list_move_all(&pending, watches);
        while ((w = list_first(&pending, struct watch, link))) {
                list_remove(&w->link);
                list_add_tail(watches, &w->link);
                w->changed(w);
        }
}
