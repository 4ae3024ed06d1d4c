/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the local backend and the helper that it has started say to each other over their socket, of SOCK_SEQPACKET. The
 * states stand in pool/helper/agent/control.h.
 *
 *   from the daemon   the key, CONTROL_KEY_SIZE bytes, first and once
 *                     then packets that begin with a byte of enum control_packet
 *   from the helper   one byte, once it serves
 *                     the key, to a later daemon, over a socket of its own making
 */

enum control_packet {
        CONTROL_CARRIER, /* with one end of a pair of stream sockets */
        CONTROL_WAIT,    /* and 8 bytes, little-endian: microseconds to wait for the next daemon when this one is gone */
        CONTROL_END,
};

#define CONTROL_KEY_SIZE 16
#define CONTROL_WAIT_SIZE 9
