/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The processes of all reapers and guardians. Their numbers lie in memory that guardians share: those look for the
 * helper's children that are none of these.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "pool/helper/agent/processes.h"

/* @forget is called in each child. */
int reapers_init(void (*forget)(void));

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
