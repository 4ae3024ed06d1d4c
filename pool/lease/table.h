/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The table of a pool's leases: how they come and go, and what each of them needs from time to time.
 *
 * It is the core's, which makes it, lets it tick and frees it. Leases are in it from lease_create() to lease_release().
 */

#include "pool/environment/pool.h"
#include "pool/lease/end.h"
#include "pool/lease/lease.h"
#include "pool/lease/registry.h"

struct leases;

/* Counts since the start. */
struct leases_totals {
        uint64_t submitted, ended[JOB_N_ENDS];
        uint64_t output_bytes;
        uint64_t file_calls; /* about files of environments */
};

/* A lease as those see it who watch. */
struct lease_info {
        const char *name;
        enum lease_state state;
        uid_t uid;
        const char *environment; /* or NULL */
        int64_t created_us;
        int64_t wait_us;           /* how long it has waited for its environment, or had to */
        const struct job *current; /* of cmd, or NULL */
        unsigned starting, running, queued;
        uint32_t ended;
        int64_t unused_since_us;   /* it has held its environment without a job since then; USEC_NEVER: it does not */
};

/* What a table is made of. All of it is borrowed, and outlives the table. */
struct leases_parts {
        struct lease_registry *registry;
        struct pool *pool;
        uint64_t serial; /* of the pool; 0: the mount's own */
        const char *pool_name; /* likewise; "" */
        const struct config *config;
        struct event_ring *ring;
};

/* 0 or -ENOMEM. */
int leases_new(struct leases **out, const struct leases_parts *parts);

void leases_free(struct leases *t);

/* Its leases have this workdir, as it is. Once, before there are any. 0 or -ENOMEM. */
int leases_set_workdir(struct leases *t, const char *workdir);

unsigned leases_count(const struct leases *t);

/* Wall time when a lease last came or went; 0: none did. */
int64_t leases_changed_wall_us(const struct leases *t);

struct lease *leases_find(struct leases *t, const char *name);

/* In any table of the mount. */
struct lease *leases_find_serial(struct leases *t, uint64_t serial);

/* The first lease with a serial above @serial, in order of their making; NULL at the end. */
struct lease *leases_after(struct leases *t, uint64_t serial);

/* Call @each for every lease, in order of their making, with how it stands at @now. */
void leases_each(const struct leases *t, int64_t now, void (*each)(void *data, const struct lease_info *info),
                 void *data);

const struct leases_totals *leases_totals(const struct leases *t);

/* Bytes of commands, input and output that the leases of all tables keep on disk. */
uint64_t leases_spool_bytes(const struct leases *t);

/*
 * Do what is due: job timeouts, jobs that wait for a descriptor, warnings. When the next thing is due, or USEC_NEVER;
 * to be asked after pool_tick(), for what that grants begins jobs.
 */
void leases_tick(struct leases *t, int64_t now);
int64_t leases_due(const struct leases *t);

/* No new leases, until undone. */
void leases_drain(struct leases *t, bool drain);
bool leases_are_draining(const struct leases *t);

/* Write all leases and jobs to the journal. 0 or -errno. */
int leases_write(struct leases *t);

/*
 * Release every lease, for good; or, with @keep, only in memory: the journal and the files stay for the next run. Call
 * it after pool_stop(), or with @keep after pool_leave().
 */
void leases_stop(struct leases *t, bool keep);

/*
 * Whether a new lease may have this name: 0, -EINVAL or -ENAMETOOLONG. Names that begin with a dot or an at sign are the
 * pool's own.
 */
int lease_check_name(const char *name);

/*
 * Make a lease and ask the pool for an environment. The table holds it; *out is
 * borrowed. -EEXIST, -EINVAL or -ENAMETOOLONG for the name, -EAGAIN when the pool
 * drains or is full, -ENOMEM, -ENOSPC or what else the disk says of the journal.
 */
int lease_create(struct leases *t, const char *name, uid_t uid, gid_t gid, struct lease **out);

/* Take it out of the table, end its jobs, give its environment back. */
void lease_release(struct lease *l);

/* For restore.c: a lease that is in no table yet, with a claim that reports to this one; and put it in, with the reference. */
struct lease *leases_make(struct leases *t, const char *name, uint64_t serial, uid_t uid, gid_t gid);
void leases_add(struct lease *l);
