/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/util/watch.h"

struct item {
        int value;
        struct list link;
};

/* The values of a list as text, both ways; they must agree. */
static const char *values(struct list *list) {
        static char text[64];
        char backward[64] = "";
        size_t n = 0;
        struct item *i;

        text[0] = '\0';
        list_for_each (i, list, link)
                n += snprintf(text + n, sizeof(text) - n, "%d", i->value);
        for (struct list *l = list->prev; l != list; l = l->prev) {
                memmove(backward + 1, backward, sizeof(backward) - 1);
                backward[0] = (char)('0' + list_entry(l, struct item, link)->value);
        }
        return strcmp(text, backward) ? "the two ways differ" : text;
}

static void order(void) {
        struct list list = LIST_INIT(list);
        struct item a = { 1 }, b = { 2 }, c = { 3 }, d = { 4 };

        CHECK(list_empty(&list));
        CHECK(list_first(&list, struct item, link) == NULL);
        CHECK(list_last(&list, struct item, link) == NULL);
        list_add_tail(&list, &b.link);
        list_add_tail(&list, &c.link);
        list_add_head(&list, &a.link);
        list_insert_before(&c.link, &d.link);
        CHECK_STR(values(&list), "1243");
        CHECK(list_first(&list, struct item, link) == &a);
        CHECK(list_last(&list, struct item, link) == &c);
        list_remove(&b.link);
        CHECK(list_empty(&b.link));
        list_remove(&b.link); /* again: nothing happens */
        CHECK_STR(values(&list), "143");
}

static void move_all(void) {
        struct list from = LIST_INIT(from), to = LIST_INIT(to);
        struct item a = { 1 }, b = { 2 }, c = { 3 };

        list_move_all(&to, &from);
        CHECK(list_empty(&to) && list_empty(&from));
        list_add_tail(&to, &a.link);
        list_add_tail(&from, &b.link);
        list_add_tail(&from, &c.link);
        list_move_all(&to, &from);
        CHECK_STR(values(&to), "123");
        CHECK(list_empty(&from));
}

static void safe_removal(void) {
        struct list list = LIST_INIT(list);
        struct item items[6] = { { 1 }, { 2 }, { 3 }, { 4 }, { 5 }, { 6 } }, *i, *tmp;

        for (int n = 0; n < 6; n++)
                list_add_tail(&list, &items[n].link);
        list_for_each_safe (i, tmp, &list, link)
                if (i->value % 2)
                        list_remove(&i->link);
        CHECK_STR(values(&list), "246");
}

struct watcher {
        struct watch watch;
        unsigned told;
        struct watcher *removes, *adds;
        struct list *to;
};

static void on_change(struct watch *w) {
        struct watcher *me = container_of(w, struct watcher, watch);

        me->told++;
        if (me->removes)
                watch_remove(&me->removes->watch);
        if (me->adds)
                watch_add(me->to, &me->adds->watch);
}

static void watch_init_all(struct watcher *w, size_t n, struct list *to) {
        for (size_t i = 0; i < n; i++) {
                watch_init(&w[i].watch, on_change);
                w[i].to = to;
        }
}

static void fire(void) {
        struct list list = LIST_INIT(list);
        struct watcher w[3] = {};

        watch_init_all(w, 3, &list);
        watch_fire(&list);
        for (int i = 0; i < 3; i++)
                watch_add(&list, &w[i].watch);
        watch_add(&list, &w[0].watch); /* twice is once */
        watch_fire(&list);
        CHECK(w[0].told == 1 && w[1].told == 1 && w[2].told == 1);
        watch_remove(&w[1].watch);
        watch_fire(&list);
        CHECK(w[0].told == 2 && w[1].told == 1 && w[2].told == 2);
}

static void remove_while_firing(void) {
        struct list list = LIST_INIT(list);
        struct watcher w[4] = {};

        watch_init_all(w, 4, &list);
        for (int i = 0; i < 4; i++)
                watch_add(&list, &w[i].watch);
        w[0].removes = &w[0]; /* itself */
        w[1].removes = &w[2]; /* one not told yet */
        w[3].removes = &w[1]; /* one told already */
        watch_fire(&list);
        CHECK(w[0].told == 1 && w[1].told == 1 && w[2].told == 0 && w[3].told == 1);
        watch_fire(&list);
        CHECK(w[0].told == 1 && w[1].told == 1 && w[2].told == 0 && w[3].told == 2);
}

/* Who comes while others are told is told the next time, and nobody is told twice. */
static void add_while_firing(void) {
        struct list list = LIST_INIT(list);
        struct watcher w[2] = {};

        watch_init_all(w, 2, &list);
        watch_add(&list, &w[0].watch);
        w[0].adds = &w[1];
        w[1].adds = &w[0];
        watch_fire(&list);
        CHECK(w[0].told == 1 && w[1].told == 0);
        w[0].adds = NULL;
        watch_fire(&list);
        CHECK(w[0].told == 2 && w[1].told == 1);
}

int main(void) {
        RUN(order);
        RUN(move_all);
        RUN(safe_removal);
        RUN(fire);
        RUN(remove_while_firing);
        RUN(add_while_firing);
        return check_done();
}
