/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/*
 * Where a link leads to, as readlink(2) is to show it, from what the helper says of it: see file_readlink() in
 * pool/helper/agent/files/link.h. The link is in a directory @depth names below the root. Whatever @text is, the answer
 * has at most @depth times ".." and these before all names, so it does not lead out of the root. With a final NUL. 0 or
 * -errno; -EPROTO: it cannot be one.
 */
int remote_link_target(unsigned depth, const char *text, size_t len, char *out, size_t size);
