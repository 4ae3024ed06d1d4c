/* SPDX-License-Identifier: MIT */
#pragma once

/* What a port and a watch have in common: the handle's connection. */

#include "fs/handle.h"

/* Opens it once; then how it is. 0, -EAGAIN, or another -errno. */
int tree_connect(struct handle *h, const struct connection_spec *spec);

/* A failed or finished one is closed, and another may be opened. */
void tree_disconnect(struct handle *h);

/* For struct file_ops. */
ssize_t tree_connection_read(struct handle *h, struct job *job, uint64_t offset, char *data, size_t len);
struct list *tree_connection_watches(struct handle *h);
