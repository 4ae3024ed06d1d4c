/* SPDX-License-Identifier: MIT */
#include "pool/lease/ctl.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "pool/lease/end.h"
#include "pool/lease/fate.h"
#include "pool/lease/input.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/run.h"
#include "pool/util/text.h"

static void kill_job(struct lease *l, struct job *j) {
        lease_kill_job(l, j, JOB_FATE_KILLED, "killed through ctl");
}

/* The one that a word without a job is about: that of cmd. */
static struct job *running_job(const struct lease *l, struct job *j) {
        if (!j)
                return l->current;
        return job_is_running(j) ? j : NULL;
}

static int verb_kill(struct lease *l, struct job *j, const char *argument) {
        struct job *tmp, *running = running_job(l, j);

        if (!strcmp(argument, "all") && !j) {
                list_for_each_safe (j, tmp, &l->running, turn)
                        kill_job(l, j);
                return 0;
        }
        if (*argument)
                return -EINVAL;
        if (running)
                kill_job(l, running);
        return 0;
}

static int verb_signal(struct lease *l, struct job *j, const char *argument) {
        struct job *running = running_job(l, j);
        int signo = text_to_signal(argument);

        if (signo < 0)
                return -EINVAL;
        if (signo == SIGKILL)
                return verb_kill(l, j, "");
        if (running)
                lease_signal_job(running, signo);
        return 0;
}

static int verb_cancel(struct lease *l, struct job *j, const char *argument) {
        struct result why;

        if (*argument)
                return -EINVAL;
        result_set(&why, RESULT_CANCELLED, "cancelled through ctl before it ran");
        if (!j)
                lease_end_queued(l, &why);
        else if (j->state == JOB_QUEUED)
                lease_end_job(l, j, &why, 0);
        return 0;
}

static int verb_renew(struct lease *l, struct job *j, const char *argument) {
        const struct lease_registry *registry = l->table->registry;
        int r = 0;

        if (*argument || (l->state != LEASE_LOST && l->state != LEASE_FAILED))
                return -EINVAL;
        /* The end of its jobs stands in the journal first: a run after this one must not go on with them in the new one. */
        if (journal_is_behind(l->table->journal))
                r = registry->rewrite(registry->owner);
        if (r < 0) {
                lease_remark(l, "ctl: \"renew\": not written down: %s", strerror(-r));
                return r;
        }
        l->prepared = l->prepared_unwritten = false;
        lease_set_state(l, LEASE_WAITING, NULL);
        pool_claim(l->table->pool, &l->claim);
        return 0;
}

static const char *why_no_snapshot(int r) {
        switch (-r) {
        case ENAMETOOLONG:
                return "the name is too long for a pool";
        case EEXIST:
                return "there is a pool of this name";
        case EAGAIN:
                return "no pool can be made now: there are too many, or the mount drains";
        case EBUSY:
                return "one of this environment is being taken";
        case EOPNOTSUPP:
                return "this environment cannot be copied";
        case ENODEV:
                return "the lease has no environment";
        default:
                return strerror(-r);
        }
}

static int verb_snapshot(struct lease *l, struct job *j, const char *argument) {
        const struct lease_registry *registry = l->table->registry;
        int r = -ENODEV;

        if (!*argument)
                return -EINVAL;
        if (l->claim.state == CLAIM_GRANTED)
                r = registry->snapshot(registry->owner, &(struct lease_snapshot){
                                                                .name = argument,
                                                                .lease = l->name,
                                                                .workdir = l->workdir,
                                                                .pool = l->table->pool_serial,
                                                                .uid = l->uid,
                                                                .gid = l->gid,
                                                                .environment = l->claim.environment,
                                                        });
        else if (l->state == LEASE_WAITING)
                r = -EAGAIN;
        if (r < 0)
                lease_remark(l, "ctl: \"snapshot %s\": %s", argument,
                             l->state == LEASE_WAITING ? "the lease has no environment yet" : why_no_snapshot(r));
        return r == -EAGAIN ? -EBUSY : r; /* of a write, some take EAGAIN for success */
}

static int verb_input(struct lease *l, struct job *j, const char *argument) {
        return strcmp(argument, "open") ? -EINVAL : lease_open_input(l, j);
}

static int verb_eof(struct lease *l, struct job *j, const char *argument) {
        return *argument ? -EINVAL : lease_end_input(l, j);
}

static int verb_resize(struct lease *l, struct job *j, const char *argument) {
        uint16_t rows, columns;
        int r;

        if (!j->settings.rows || text_to_size(argument, &rows, &columns) < 0)
                return -EINVAL;
        r = job_ended(j) ? 0 : lease_resize_job(l, j, rows, columns);
        if (r < 0)
                lease_remark(l, "ctl: \"resize\": not written down: %s", strerror(-r));
        return r;
}

/* One that fails otherwise than by -EINVAL has said why in a remark. */
static const struct {
        const char *name;
        int (*run)(struct lease *l, struct job *j, const char *argument);
        bool of_lease, of_job;
        const char *expected;
} verbs[] = {
        { "kill", verb_kill, true, true, "no argument, or in a lease's ctl \"all\"" },
        { "signal", verb_signal, true, true, "a signal's name, such as INT" },
        { "cancel", verb_cancel, true, true, "no argument" },
        { "renew", verb_renew, true, false, "no argument, and a lease that is lost or failed" },
        { "snapshot", verb_snapshot, true, false, "a name that a pool can have, without the @" },
        { "input", verb_input, false, true, "\"open\"" },
        { "eof", verb_eof, false, true, "no argument, and a job with live input" },
        { "resize", verb_resize, false, true, "rows and columns, and a job on a terminal" },
};

const char *lease_ctl_usage(bool of_job) {
        return of_job ? "kill\nsignal NAME\ncancel\ninput open\neof\nresize ROWS COLUMNS\n" : "kill\nkill all\nsignal NAME\ncancel\nrenew\nsnapshot NAME\n";
}

int lease_command(struct lease *l, struct job *j, const char *line) {
        size_t len = strcspn(line, " ");
        const char *argument = line + len + strspn(line + len, " ");
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
                if (strlen(verbs[i].name) != len || strncmp(verbs[i].name, line, len) ||
                    !(j ? verbs[i].of_job : verbs[i].of_lease))
                        continue;
                r = verbs[i].run(l, j, argument);
                if (r == -EINVAL)
                        lease_remark(l, "ctl: \"%s\": %s takes %s", line, verbs[i].name, verbs[i].expected);
                else if (r == 0)
                        lease_set_remark(l, NULL);
                return r;
        }
        lease_remark(l, "ctl: \"%s\": unknown; known are kill, signal NAME, cancel, %s", line, j ? "input open, eof, resize" : "renew, snapshot NAME");
        return -EINVAL;
}
