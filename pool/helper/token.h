/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The resume token of a sandbox with a helper that was uploaded: "key HEX REST", with the key to the helper, and the
 * token of the backend below. It is kept where nobody else may read.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/helper/protocol.h"

/* For the caller to free; NULL: out of memory. */
char *token_make(const uint8_t key[HELPER_KEY_SIZE], const char *rest);

/* The token of the backend below. *@has_key: and there is a key in front. */
const char *token_read(const char *token, uint8_t key[HELPER_KEY_SIZE], bool *has_key);
