/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The helper's carriers: connections to its socket, or sockets that the daemon passes to it. At most one is in use; the
 * others have not said HELLO yet, and are closed after a time, or when there are too many.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/helper/protocol.h"

void carriers_init(const uint8_t key[HELPER_KEY_SIZE]);

/* Connections to a socket that listens, and does not block, become carriers. */
int carriers_listen(int socket);

/* A connected socket becomes a carrier, which closes it. */
void carriers_add(int fd);

/* For children, which are not to know it. */
void carriers_forget_key(void);

/* Sends what there is to the daemon. True: there is more, and the carrier takes it. */
bool carriers_send(void);

/* Closes those that have not said HELLO in time. Returns when to call it again. */
int64_t carriers_tick(void);
