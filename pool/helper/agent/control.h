/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The socket over which a daemon on this machine looks after the helper that it has started: a pair of SOCK_SEQPACKET
 * that nobody else can reach. The daemon holds its end for its whole life. pool/backend/local/control.h has the packets.
 *
 * When the daemon's end closes, the helper ends, and everything that it has started; unless the daemon has told it to WAIT.
 * Then it looks for the next daemon, which listens at a path, and brings it the key:
 *
 *   state    on                                        to
 *   ------   ---------------------------------------   ------
 *   SERVED   the socket closes, and there is no WAIT   (the end)
 *   SERVED   the socket closes                         ALONE
 *   ALONE    somebody listens: → the key               CALLED
 *   CALLED   WAIT, from whoever knows it               SERVED
 *   CALLED   the socket closes                         ALONE
 *   ALONE, CALLED   the time of WAIT is over           (the end)
 *   any      END                                       (the end)
 */

#include <stdint.h>

#include "pool/backend/local/control.h"

/*
 * @path: where the next daemon listens, or NULL. @ended: the daemon wants that, or is gone. 0 or -errno.
 */
int control_init(int fd, const uint8_t key[CONTROL_KEY_SIZE], const char *path, void (*ended)(void));

/* For children, which are not to know it. */
void control_forget_key(void);

/* Does what is due. Returns when to call it again. */
int64_t control_tick(void);
