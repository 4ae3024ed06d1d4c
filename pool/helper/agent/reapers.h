/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The processes of all reapers and guardians. Their numbers lie in memory that guardians share: those look for the
 * helper's children that are none of these.
 *
 * One reaper whose job has ended is kept for the next job, which then costs no fork.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "pool/helper/agent/processes.h"

struct start_spec;

/* @forget is called in each child. */
int reapers_init(int proc, void (*forget)(void));

/*
 * Gives a job to a reaper, the one that is kept or a new one: its slot, and the channel to it. @reads: as in struct
 * reaper. 0 or -errno.
 */
int reapers_start(const struct start_spec *spec, const int reads[2], unsigned *slot, int *channel);

/* A reaper is ready for another job: the next one, or none. It takes the slot and the channel. */
void reapers_keep(unsigned slot, int channel);

/* Whether one is kept at all. Not during a clean-up, which ends what jobs could have touched. */
void reapers_keep_one(bool keep);

/* fork(), and the child is in a slot of the table. Slots that nobody uses are those of reapers in the background. */
pid_t reapers_fork(unsigned *slot);

pid_t reapers_pid(unsigned slot); /* 0: it has ended */

/* The job is forgotten: its reaper goes on by itself, in the background. */
void reapers_leave(unsigned slot);

/* A child has ended: its slot is empty. */
void reapers_reaped(pid_t pid);

/* A child was stopped, as jobs that are root may do: if it is one of these, it goes on. */
void reapers_stopped(pid_t pid);

/* What a guardian looks after. */
struct family reapers_orphans(void);
