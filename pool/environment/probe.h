/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Liveness probes: whether an idle environment still works.
 *
 * A provider may report that a sandbox runs although it is dead or hangs. A
 * command that runs in it is proof. One failure may be the network's fault, so
 * a sandbox is given up after two failures in a row.
 *
 * Each environment embeds a struct probe, and cancels it when it stops being
 * idle. All probes of a pool share one struct probes. The caller makes sure
 * that at most PROBES_AT_ONCE run at a time.
 *
 * Nothing here blocks. Events come from the backend's answers and from
 * probes_end_late(). over() comes also from inside probe_cancel().
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/base/config.h"
#include "pool/util/list.h"

struct probe;

struct probe_events {
        /* It no longer runs: another one may start, and this one has a new due time. */
        void (*over)(struct probe *p);
        /* After over(): the second failure in a row. The sandbox no longer works. */
        void (*failed)(struct probe *p, const struct result *why);
};

struct probes {
        const struct config *config; /* borrowed */
        int64_t (*clock)(void);
        const struct probe_events *events;
        struct list running;
        unsigned n_running;
};

struct probe {
        struct probes *all;
        struct list link;        /* in running, exactly while it runs */
        struct sandbox *sandbox; /* while it runs */
        struct exec *exec;       /* likewise */
        int64_t deadline_us;     /* while it runs: when it counts as failed */
        int64_t checked_us;      /* when the sandbox last showed that it works */
        bool suspect;            /* the newest probe failed */
};

void probes_init(struct probes *all, const struct config *config, int64_t (*clock)(void),
                 const struct probe_events *events);
void probe_init(struct probe *p, struct probes *all);

/* The sandbox has just shown that it works, by a probe or otherwise. */
void probe_passed(struct probe *p);

/* When it is due, or USEC_NEVER if it runs or probes are off. */
int64_t probe_due(const struct probe *p);

/*
 * Not while it runs. If this machine fails to start it, it counts as passed, because that says nothing about the
 * sandbox.
 */
void probe_start(struct probe *p, struct sandbox *s);

/* Allowed when it does not run. */
void probe_cancel(struct probe *p);

/* Give up on probes that are past their deadline. */
void probes_end_late(struct probes *all, int64_t now_us);

/* The next deadline, or USEC_NEVER. */
int64_t probes_due(const struct probes *all);
