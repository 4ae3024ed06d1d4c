/* SPDX-License-Identifier: MIT */
#pragma once

#include <time.h>

/*
 * Removes the System V objects of this IPC namespace, shared memory, semaphores and message queues, that were made or
 * changed since: they outlive whoever made them. 0 or -errno.
 */
int ipc_remove(time_t since);
