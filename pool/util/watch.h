/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A watch is called when something has changed. So a waiting read learns of
 * new bytes, although the layers below know nothing of reads.
 *
 * The watcher owns the watch and adds it to the list of what it watches.
 * changed() may remove any watch from that list, including its own, but must
 * not free what is watched.
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

/* Call each watch once, even if watches are added and removed meanwhile. */
static inline void watch_fire(struct list *watches) {
        struct list pending = LIST_INIT(pending);
        struct watch *w;

        if (list_empty(watches))
                return;
        list_move_all(&pending, watches);
        while ((w = list_first(&pending, struct watch, link))) {
                list_remove(&w->link);
                list_add_tail(watches, &w->link);
                w->changed(w);
        }
}
