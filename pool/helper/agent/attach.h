/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * `attach`: a carrier. Carries bytes between its stdin and stdout and the helper's socket, and does not look at them.
 * Ends when the helper closes the connection. When stdin ends, the helper is told so, and closes it. Returns the exit
 * status.
 */
int attach(const char *socket);
