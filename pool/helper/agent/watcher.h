/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A watcher: a process of its own that tells in lines what changes below a path. A tree of any size holds up no frame, and
 * its memory is given back with it.
 *
 * It first sends an int: 0, or the errno for which it cannot watch. Then lines, each a JSON object:
 *
 *   {"event": "create", "path": P}        also of what is found in a directory that has just come
 *   {"event": "modify", "path": P}        it was written to, or cut
 *   {"event": "close", "path": P}         who wrote to it has closed it
 *   {"event": "attributes", "path": P}
 *   {"event": "delete", "path": P}        also of what was moved elsewhere
 *   {"event": "rename", "from": P, "path": P}
 *   {"event": "overflow"}                 the kernel had no more room for events: some are missing
 *   {"event": "limit", "path": P}         what is in that directory is not watched
 *   {"event": "gone", "path": P}          the watched path was removed or moved: the last line
 *
 * Directories also have "directory": true. P begins with the path as it was given. A byte of a name that is not UTF-8 is
 * written as \udc80 to \udcff, as Python does.
 */

#include <stdbool.h>

/* @out: a socket. @given: what paths in lines begin with. */
_Noreturn void watcher_run(int out, const char *path, const char *given, bool recursive);
