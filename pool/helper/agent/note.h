/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

#include "pool/helper/agent/tree.h"

/*
 * Notes how the sandbox is, in a file; see manifest.h. Returns once whatever is changed from now on will have a later
 * ctime. 0, or -errno and in @what where that was; @n_entries and @n_directories are what was noted.
 */
int note_sandbox(int fd, const struct boundaries *b, char *what, size_t size, uint64_t *n_entries,
                 uint64_t *n_directories);

/* A digest of what the note and the comparison have to agree on. */
uint64_t note_digest_of_lists(const struct boundaries *b);
uint64_t note_digest_of_host(void);
