/* SPDX-License-Identifier: MIT */
#include "pool/lease/input.h"

#include <errno.h>
#include <string.h>

#include "pool/lease/lease-body.h"
#include "pool/lease/limits.h"
#include "pool/util/clock.h"
#include "pool/util/watch.h"

static void remark_refusal(struct lease *l, int r) {
        if (r == -EDQUOT)
                lease_remark_quota(l, "ctl: input open");
        else if (r == -EFBIG)
                lease_remark(l, "ctl: \"input open\": refused: stdin has more than %u KiB", (unsigned)(LIVE_INPUT_MAX >> 10));
        else
                lease_remark(l, "ctl: \"input open\": not stored: %s", strerror(-r));
}

int lease_open_input(struct lease *l, struct job *j) {
        int r;

        if (job_is_submitted(j)) {
                lease_remark(l, "ctl: \"input open\": refused: the job was submitted");
                return -EBUSY;
        }
        if (j->live_input)
                return 0;
        if (!lease_has_helper(l)) {
                lease_remark(l, "ctl: \"input open\": refused: " NEEDS_HELPER, "live input", lease_environment(l));
                return -EOPNOTSUPP;
        }
        r = job_open_input(j, l->serial);
        if (r == 0) {
                r = lease_add_job_row(l, j);
                if (r < 0)
                        job_forget_input(j);
        }
        if (r < 0)
                remark_refusal(l, r);
        return r;
}

int lease_end_input(struct lease *l, struct job *j) {
        struct live_input *i = j->live_input;
        int r;

        if (!i)
                return -EINVAL;
        if (i->ended || i->closed)
                return 0;
        i->ended = true;
        r = lease_add_job_row(l, j);
        if (r < 0) {
                i->ended = false;
                lease_remark(l, "ctl: \"eof\": not written down: %s", strerror(-r));
                return r;
        }
        job_offer_input(j);
        watch_fire(&j->watches);
        return 0;
}

ssize_t lease_write_input(struct lease *l, struct job *j, const void *data, size_t len) {
        ssize_t n;

        if (l->state == LEASE_RELEASED)
                return -EPIPE; /* what its jobs say that ended then */
        n = live_input_write(j->live_input, data, len);
        if (n <= 0)
                return n;
        j->settings.input_wall_us = clock_read_us(CLOCK_REALTIME);
        job_offer_input(j);
        return n;
}

bool lease_input_is_writable(const struct job *j) {
        return live_input_is_writable(j->live_input);
}

bool job_read_input(void *owner, uint64_t offset, void *data, size_t len) {
        const struct job *j = owner;

        return live_input_read(j->live_input, offset, data, len);
}

void job_input_taken(void *owner, uint64_t offset, bool closed) {
        struct job *j = owner;

        live_input_take(j->live_input, offset, closed);
        watch_fire(&j->watches);
}

void job_offer_input(const struct job *j) {
        const struct live_input *i = j->live_input;

        if (i && j->exec && !i->closed)
                exec_offer_input(j->exec, i->size, i->ended);
}
