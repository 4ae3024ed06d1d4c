/* SPDX-License-Identifier: MIT */
#include "sim-model.h"

/* In which order the leases that wait are served: users in turn, each one's leases in order of arrival. */

void line_reset(void) {
        struct model_lease *m;

        list_for_each (m, &model.leases, link)
                m->in_line = false;
        model.turn = 0;
}

void line_join(struct model_lease *m) {
        const struct model_lease *other;

        m->turn = model.turn;
        list_for_each (other, &model.leases, link)
                if (other->in_line && other->uid == m->uid && other->turn >= m->turn)
                        m->turn = other->turn + 1;
        m->in_line = true;
        m->claim_order = ++model.next_claim;
        m->since_us = sim.now_us;
}

void line_leave(struct model_lease *m, bool served) {
        m->in_line = false;
        if (served && model.turn <= m->turn)
                model.turn = m->turn + 1;
}

bool line_holds_back(const struct model_lease *m) {
        const struct model_lease *other;
        unsigned n = 0;

        if (model.config.max_per_user == 0)
                return false;
        list_for_each (other, &model.leases, link)
                n += other != m && other->uid == m->uid &&
                     (other->sandbox || (other->in_line && other->claim_order < m->claim_order));
        return n >= model.config.max_per_user;
}

unsigned line_count(int64_t since_us) {
        const struct model_lease *m;
        unsigned n = 0;

        list_for_each (m, &model.leases, link)
                n += m->in_line && m->since_us <= since_us && !line_holds_back(m);
        return n;
}

bool line_is_before(const struct model_lease *a, const struct model_lease *b) {
        return a->turn != b->turn ? a->turn < b->turn : a->claim_order < b->claim_order;
}
