/* SPDX-License-Identifier: MIT */
#include "pool/lease/ctl.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "pool/lease/end.h"
#include "pool/lease/fate.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/run.h"
#include "pool/util/text.h"

static int verb_kill(struct lease *l, const char *argument) {
        if (*argument)
                return -EINVAL;
        if (l->current)
                lease_kill_job(l, l->current, JOB_FATE_KILLED, "killed through ctl");
        return 0;
}

static int verb_signal(struct lease *l, const char *argument) {
        int signo = text_to_signal(argument);

        if (signo < 0)
                return -EINVAL;
        if (signo == SIGKILL)
                return verb_kill(l, "");
        if (l->current)
                lease_signal_job(l->current, signo);
        return 0;
}

static int verb_cancel(struct lease *l, const char *argument) {
        struct result why;

        if (*argument)
                return -EINVAL;
        result_set(&why, RESULT_CANCELLED, "cancelled through ctl before it ran");
        lease_end_jobs(l, false, &why);
        return 0;
}

static int verb_renew(struct lease *l, const char *argument) {
        int r = 0;

        if (*argument || (l->state != LEASE_LOST && l->state != LEASE_FAILED))
                return -EINVAL;
        /* The end of its jobs stands in the journal first: a run after this one must not go on with them in the new one. */
        if (journal_is_behind(l->table->journal))
                r = leases_rewrite(l->table);
        if (r < 0)
                return r;
        l->prepared = l->prepared_unwritten = false;
        lease_set_state(l, LEASE_WAITING, NULL);
        pool_claim(l->table->pool, &l->claim);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(struct lease *l, const char *argument);
        const char *expected;
} verbs[] = {
        { "kill", verb_kill, "no argument" },
        { "signal", verb_signal, "a signal's name, such as INT" },
        { "cancel", verb_cancel, "no argument" },
        { "renew", verb_renew, "no argument, and a lease that is lost or failed" },
};

int lease_command(struct lease *l, const char *line) {
        size_t len = strcspn(line, " ");
        const char *argument = line + len + strspn(line + len, " ");
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
                if (strlen(verbs[i].name) != len || strncmp(verbs[i].name, line, len))
                        continue;
                r = verbs[i].run(l, argument);
                if (r == -EINVAL)
                        lease_remark(l, "ctl: \"%s\": %s takes %s", line, verbs[i].name, verbs[i].expected);
                else if (r < 0)
                        lease_remark(l, "ctl: \"%s\": not written down: %s", line, strerror(-r));
                else
                        lease_set_remark(l, NULL);
                return r;
        }
        lease_remark(l, "ctl: \"%s\": unknown; known are kill, signal NAME, cancel, renew", line);
        return -EINVAL;
}
