/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The figures that programs read, with the same names in JSON (json.c) and in the format of Prometheus (prometheus.c);
 * and counts that people read too (text.c).
 */

#include "pool/status/status.h"
#include "pool/util/clock.h"

enum figure_kind {
        FIGURE_GAUGE,
        FIGURE_COUNTER,
        FIGURE_SECONDS, /* a gauge, held in microseconds */
        FIGURE_SUMMARY, /* a sum, in microseconds, and a count */
};

struct figure {
        enum figure_kind kind;
        const char *name;
        const char *help;
        uint64_t value;
        uint64_t count; /* of a summary */
        bool of_mount;  /* it counts for all pools together */
};

/* Figures that differ by one word, such as a state. */
struct figure_group {
        enum figure_kind kind;
        const char *name;  /* in metrics */
        const char *key;   /* in stats */
        const char *label; /* what the words are, such as "state" */
        const char *help;
        unsigned n;
        struct {
                const char *word;
                uint64_t value;
        } of[JOB_N_ENDS]; /* the most that a group has */
};

#define FIGURES_MAX 48
#define FIGURE_GROUPS_MAX 5

struct figures {
        unsigned n, n_groups;
        struct figure all[FIGURES_MAX];
        struct figure_group groups[FIGURE_GROUPS_MAX];
};

void figures_collect(struct figures *f, const struct status_sources *s);

/* Counts that need a pass over the leases. */
struct lease_counts {
        unsigned in_state[LEASE_RELEASED]; /* those in the tree, by state */
        unsigned jobs[JOB_ENDED];          /* of jobs that have not ended, by state */
        int64_t oldest_wait_us;
};

void lease_counts_collect(struct lease_counts *n, const struct status_sources *s);
