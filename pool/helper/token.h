/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The resume token of a sandbox with a helper that can outlive us: "key HEX REST", with the key to the helper, and the
 * token of the backend below. It is kept where nobody else may read. Once the sandbox is noted, there is "=" between HEX
 * and REST.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/helper/protocol.h"

/* For the caller to free; NULL: out of memory. */
char *token_make(const uint8_t key[HELPER_KEY_SIZE], const char *rest);

/* In a token that token_make() has made. Its length stays. */
void token_set_noted(char *token);

/* The token of the backend below. *@has_key: and there is a key in front; *@noted: of a sandbox that is noted. */
const char *token_read(const char *token, uint8_t key[HELPER_KEY_SIZE], bool *has_key, bool *noted);
