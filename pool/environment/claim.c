/* SPDX-License-Identifier: MIT */
#include "pool/environment/claim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static struct claim_user *get_user(struct claim_line *line, uid_t uid) {
        struct claim_user *user;

        list_for_each (user, &line->users, link)
                if (user->uid == uid)
                        return user;
        user = calloc(1, sizeof(*user));
        if (!user)
                return NULL;
        user->uid = uid;
        list_init(&user->waiting);
        list_add_tail(&line->users, &user->link);
        return user;
}

int claim_init(struct claim *c, struct claim_line *line, const struct claim_events *events, const char *name,
               uid_t uid) {
        *c = (struct claim){ .events = events, .name = name, .uid = uid };
        list_init(&c->link);
        list_init(&c->link_age);
        list_init(&c->link_user);
        c->user = get_user(line, uid);
        if (!c->user)
                return -ENOMEM;
        c->user->n_claims++;
        return 0;
}

void claim_deinit(struct claim *c, struct claim_line *line) {
        struct claim_user *user = c->user;

        assert(c->state == CLAIM_NONE);
        c->user = NULL;
        if (!user || --user->n_claims > 0)
                return;
        list_remove(&user->link);
        free(user);
}

void claim_line_init(struct claim_line *line) {
        *line = (struct claim_line){};
        list_init(&line->claims);
        list_init(&line->by_age);
        list_init(&line->users);
}

/* Behind all that have this turn or an earlier one. */
static void insert(struct claim_line *line, struct claim *c) {
        struct list *before = line->claims.prev;

        while (before != &line->claims && container_of(before, struct claim, link)->turn > c->turn)
                before = before->prev;
        list_add_head(before, &c->link);
}

void claim_line_join(struct claim_line *line, struct claim *c, int64_t now_us) {
        struct list *own = &c->user->waiting;
        const struct claim *newest = list_last(own, struct claim, link_user);

        assert(c->state == CLAIM_NONE);
        c->since_us = now_us;
        c->state = CLAIM_WAITING;
        c->number = ++line->n_joined;
        c->turn = newest && newest->turn >= line->turn ? newest->turn + 1 : line->turn;
        list_add_tail(own, &c->link_user);
        c->user->n_waiting++;
        insert(line, c);
        list_add_tail(&line->by_age, &c->link_age);
        line->n++;
}

void claim_line_leave(struct claim_line *line, struct claim *c, int64_t now_us) {
        assert(c->state == CLAIM_WAITING);
        list_remove(&c->link);
        list_remove(&c->link_age);
        list_remove(&c->link_user);
        c->user->n_waiting--;
        line->n--;
        c->waited_us = now_us - c->since_us;
        c->state = CLAIM_NONE;
}

void claim_line_served(struct claim_line *line, const struct claim *c) {
        if (line->turn <= c->turn)
                line->turn = c->turn + 1;
}
