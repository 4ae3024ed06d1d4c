/* SPDX-License-Identifier: MIT */
#pragma once

/* modalpool forward: a socket of this machine leads to a port in a lease. It uses the mount as any program does. */

#include <stdbool.h>

/* Whether these are its arguments. */
bool forward_is_meant(int argc, char **argv);

/* Returns the exit status. SIGPIPE is ignored. Blocks until the lease is gone, or a signal comes. */
int forward_command(int argc, char **argv);
