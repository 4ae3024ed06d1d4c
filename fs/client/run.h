/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * modalpool run and modalpool shell: a command in a lease, as if it ran here. They use the mount as any program does,
 * and know nothing of the daemon.
 */

#include <stdbool.h>

/* Whether these are the arguments of one of the two. */
bool run_is_meant(int argc, char **argv);

/* Returns the exit status. SIGPIPE is ignored. Blocks until done. */
int run_command(int argc, char **argv);
