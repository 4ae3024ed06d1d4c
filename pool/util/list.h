/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A circular doubly linked list; the links are inside the members.
 *
 * A member is in at most one list per link. Removing it needs no pointer to
 * the list. A link that is in no list points to itself.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
        struct list *next, *prev;
};

#define LIST_INIT(l) { .next = &(l), .prev = &(l) }

#define container_of(ptr, type, member) \
        ((type *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))

static inline void list_init(struct list *l) {
        l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l) {
        return l->next == l;
}

static inline void list_remove(struct list *l) {
        l->prev->next = l->next;
        l->next->prev = l->prev;
        list_init(l);
}

/* Insert @l before @at. If @at is the list itself, that is its tail. */
static inline void list_insert_before(struct list *at, struct list *l) {
        l->prev = at->prev;
        l->next = at;
        at->prev->next = l;
        at->prev = l;
}

static inline void list_add_tail(struct list *list, struct list *l) {
        list_insert_before(list, l);
}

static inline void list_add_head(struct list *list, struct list *l) {
        list_insert_before(list->next, l);
}

/* Move every member of @from to the tail of @to, in order. */
static inline void list_move_all(struct list *to, struct list *from) {
        if (list_empty(from))
                return;
        from->next->prev = to->prev;
        to->prev->next = from->next;
        from->prev->next = to;
        to->prev = from->prev;
        list_init(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)

#define list_first(list, type, member) \
        (list_empty(list) ? NULL : container_of((list)->next, type, member))

#define list_last(list, type, member) \
        (list_empty(list) ? NULL : container_of((list)->prev, type, member))

#define list_for_each(i, list, member)                                                      \
        for (i = container_of((list)->next, __typeof__(*i), member); &i->member != (list);  \
             i = container_of(i->member.next, __typeof__(*i), member))

/* From the last to the first. The body may remove @i from the list and free it. */
#define list_for_each_reverse_safe(i, tmp, list, member)                                    \
        for (i = container_of((list)->prev, __typeof__(*i), member),                        \
            tmp = container_of(i->member.prev, __typeof__(*i), member);                     \
             &i->member != (list);                                                          \
             i = tmp, tmp = container_of(i->member.prev, __typeof__(*i), member))

/* From the first to the last. The body may remove @i from the list and free it. */
#define list_for_each_safe(i, tmp, list, member)                                            \
        for (i = container_of((list)->next, __typeof__(*i), member),                        \
            tmp = container_of(i->member.next, __typeof__(*i), member);                     \
             &i->member != (list);                                                          \
             i = tmp, tmp = container_of(i->member.next, __typeof__(*i), member))
