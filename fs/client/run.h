/* SPDX-License-Identifier: MIT */
#pragma once

/* modalpool run: a command in a lease, as if it ran here. It uses the mount as any program does. */

#include <stdbool.h>

/* Whether these are its arguments. */
bool run_is_meant(int argc, char **argv);

/* Returns the exit status. SIGPIPE is ignored. Blocks until done. */
int run_command(int argc, char **argv);
