/* SPDX-License-Identifier: MIT */
#include "pool/environment/claim.h"

#include <assert.h>

void claim_init(struct claim *c, const struct claim_events *events, const char *name, uid_t uid) {
        *c = (struct claim){ .events = events, .name = name, .uid = uid };
        list_init(&c->link);
}

void claim_line_init(struct claim_line *line) {
        *line = (struct claim_line){};
        list_init(&line->claims);
}

void claim_line_join(struct claim_line *line, struct claim *c, int64_t now_us) {
        assert(c->state == CLAIM_NONE);
        c->since_us = now_us;
        c->state = CLAIM_WAITING;
        c->number = ++line->n_joined;
        list_add_tail(&line->claims, &c->link);
        line->n++;
}

void claim_line_leave(struct claim_line *line, struct claim *c, int64_t now_us) {
        assert(c->state == CLAIM_WAITING);
        list_remove(&c->link);
        line->n--;
        c->waited_us = now_us - c->since_us;
        c->state = CLAIM_NONE;
}
