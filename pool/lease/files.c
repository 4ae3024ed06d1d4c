/* SPDX-License-Identifier: MIT */
#include "pool/lease/files.h"

#include <errno.h>
#include <string.h>

#include "pool/helper/file-call.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/run.h"
#include "pool/util/log.h"
#include "pool/util/watch.h"

static void on_prepared(struct file_call *c, int error, const void *data, size_t len) {
        struct lease *l = container_of(c, struct lease, prepare);

        l->prepare_error = -error;
        if (error == 0)
                lease_set_prepared(l);
        else
                log_warning("lease=%s environment=%s: making the workdir: %s", l->name, lease_environment(l) ?: "-",
                            strerror(error));
        if (error != 0)
                watch_fire(&l->file_watches);
        lease_start_next(l);
}

static int prepare(struct lease *l) {
        struct file_call_args args = { .op = FILE_OP_PREPARE, .data = l->workdir, .len = strlen(l->workdir) };
        int r = lease_write_use(l);

        if (r < 0)
                return r;
        if (lease_empties_workdir(l))
                args.flags = FILE_PREPARE_FRESH;
        l->prepare.done = on_prepared;
        return sandbox_file_call(environment_sandbox(l->claim.environment), &args, &l->prepare);
}

int lease_prepare(struct lease *l) {
        int r = l->prepare_error;

        l->prepare_error = 0;
        if (l->prepared || r < 0)
                return r;
        if (l->n_running == 0 && !lease_is_preparing(l))
                r = prepare(l);
        return r < 0 ? r : -EAGAIN;
}

int lease_file_call(struct lease *l, const struct file_call_args *args, struct file_call *c) {
        int r = 0;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        if (l->state != LEASE_LEASED)
                return l->state == LEASE_WAITING ? -EAGAIN : -ENODEV;
        if (!l->prepared && l->n_running > 0)
                return -EAGAIN;
        if (!l->prepared && !lease_is_preparing(l))
                r = prepare(l);
        if (r == 0)
                r = sandbox_file_call(environment_sandbox(l->claim.environment), args, c);
        l->table->totals.file_calls += r == 0;
        return r;
}

struct list *lease_file_watches(struct lease *l) {
        return &l->file_watches;
}

uint32_t lease_jobs_ended(const struct lease *l) {
        return l->n_over;
}

void lease_hold_jobs(struct lease *l) {
        l->n_holds++;
}

void lease_let_jobs(struct lease *l) {
        if (--l->n_holds == 0 && l->state == LEASE_LEASED)
                lease_start_next(l);
}

const char *lease_workdir(const struct lease *l) {
        return l->workdir;
}

void lease_end_files(struct lease *l) {
        sandbox_file_cancel(&l->prepare);
}
