/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The socket over which a daemon on this machine looks after the helper that it has started: a pair of SOCK_SEQPACKET
 * that nobody else can reach.
 *
 *   from the daemon   the key, HELPER_KEY_SIZE bytes, first and once
 *                     then for each carrier one byte, with one end of a pair of stream sockets
 *   from the helper   one byte, once it serves
 *
 * When the daemon's end closes, the helper ends, and everything that it has started.
 */

/* @ended: the daemon's end is closed. 0 or -errno. */
int control_init(int fd, void (*ended)(void));
