/* SPDX-License-Identifier: MIT */
#pragma once

/* A pseudo-terminal for a job. */

#include <stdint.h>

/* The helper's end, which does not block, and the job's. 0 or -errno. */
int terminal_open(uint16_t rows, uint16_t columns, int *master, int *slave);

/* Who runs on it gets SIGWINCH. */
void terminal_resize(int master, uint16_t rows, uint16_t columns);
