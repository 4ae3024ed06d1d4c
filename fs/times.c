/* SPDX-License-Identifier: MIT */

/*
 * When the contents of a file last changed, as rsync -t, cp -u, make and
 * find -newer need it. Each time is recorded as wall time when the change
 * happens, so setting the clock does not change it.
 */

#include "fs/files.h"
#include "pool/lease/set.h"
#include "pool/util/clock.h"

static int64_t later(int64_t a, int64_t b) {
        return a > b ? a : b;
}

/* The contents change all the time. */
int64_t time_now(const struct target *t) {
        return clock_read_us(CLOCK_REALTIME);
}

int64_t time_of_leases(const struct target *t) {
        int64_t changed = later(t->pool->created_wall_us, leases_changed_wall_us(t->pool->leases));

        return t->pool->serial ? changed : later(changed, t->fs->pools->changed_wall_us);
}

int64_t time_of_config(const struct target *t) {
        return t->pool->config_wall_us;
}

int64_t time_of_events(const struct target *t) {
        return later(t->pool->created_wall_us, event_last_wall_us(t->pool->ring));
}

int64_t time_of_lease(const struct target *t) {
        if (lease_state(t->lease) == LEASE_WAITING)
                return time_now(t); /* the error is the pool's present trouble */
        return later(lease_changed_wall_us(t->lease), t->job ? t->job->changed_wall_us : 0);
}

int64_t time_of_environment(const struct target *t) {
        return lease_state_wall_us(t->lease);
}

int64_t time_of_setting(const struct target *t) {
        return lease_set_wall_us(t->lease, target_job(t), files[t->id].argument);
}

int64_t time_of_stdin(const struct target *t) {
        return lease_input_wall_us(t->lease, target_job(t));
}

/* of the newest job, where they stand in the lease */

int64_t time_of_submission(const struct target *t) {
        return t->job ? t->job->submitted_wall_us : lease_created_wall_us(t->lease);
}

int64_t time_of_end(const struct target *t) {
        return t->job && job_ended(t->job) ? t->job->changed_wall_us : time_of_submission(t);
}

int64_t time_of_stream(const struct target *t) {
        int64_t written = t->job ? spool_written_wall_us(t->job->spool, files[t->id].argument) : 0;

        return written ? written : time_of_submission(t);
}

int64_t time_of_job(const struct target *t) {
        return later(t->job->changed_wall_us, spool_written_wall_us(t->job->spool, VIEW_OUTPUT));
}
