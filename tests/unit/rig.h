/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The core over the simulated provider, for tests that say step by step what
 * happens: nothing is random, each answer of the provider takes SIM_DELAY_US.
 * The provider lists no sandboxes.
 */

#include "check.h"
#include "pool/core.h"
#include "pool/core/pools.h"
#include "pool/status/status.h"
#include "tests/model/sim-template.h"

struct rig {
        struct config config;
        struct journal *journal; /* in memory */
        struct sim_backend backend;
        struct sim_templates templates;
        struct core *core;
        struct event_ring *events; /* the core's, as are these: */
        struct pools *pools;
        struct pool *pool;
        struct leases *table;
        struct lag lag;
        struct check_dir dir;
};

extern struct rig rig;

void rig_start(void);

/* Release and end everything. */
void rig_stop(void);

/* The daemon is killed. Nothing of its core may be held any more. */
void rig_kill(void);

/* A core over what is left, started; backend_ready() lets it take that up. */
void rig_open(enum backend_use use);

/* All three. */
void rig_restart(void);

/* What the status files are made from, as things stand. */
struct status_sources rig_sources(void);

/* core_tick(): when something is due next. */
int64_t rig_tick(void);

/* Let @us pass, with all that happens meanwhile. */
void rig_run(int64_t us);

/* These must succeed. */
struct lease *rig_lease(const char *name); /* of uid 1000 */
struct lease *rig_lease_of(const char *name, uid_t uid);
struct job *rig_job(struct lease *l, const char *command);

/* The job that is starting in @environment will run for ever. */
void rig_prolong(const char *environment);

/* The job that runs in @environment goes on as it is until it is killed, or for ever. */
void rig_hold(const char *environment, bool ignores_kill);
