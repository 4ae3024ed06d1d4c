/* SPDX-License-Identifier: MIT */
#include "pool/helper/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "key "
#define HEX_SIZE (2 * HELPER_KEY_SIZE)
#define NOTED '='

char *token_make(const uint8_t key[HELPER_KEY_SIZE], const char *rest) {
        size_t at = strlen(PREFIX), size = at + HEX_SIZE + 1 + strlen(rest) + 1;
        char *token = malloc(size);

        if (!token)
                return NULL;
        strcpy(token, PREFIX);
        for (size_t i = 0; i < HELPER_KEY_SIZE; i++, at += 2)
                sprintf(token + at, "%02x", key[i]);
        token[at++] = ' ';
        strcpy(token + at, rest);
        return token;
}

void token_set_noted(char *token) {
        token[strlen(PREFIX) + HEX_SIZE] = NOTED;
}

const char *token_read(const char *token, uint8_t key[HELPER_KEY_SIZE], bool *has_key, bool *noted) {
        const char *hex = token + strlen(PREFIX);

        *has_key = !strncmp(token, PREFIX, strlen(PREFIX)) && strspn(hex, "0123456789abcdef") == HEX_SIZE &&
                   (hex[HEX_SIZE] == ' ' || hex[HEX_SIZE] == NOTED);
        *noted = *has_key && hex[HEX_SIZE] == NOTED;
        if (!*has_key)
                return token;
        for (size_t i = 0; i < HELPER_KEY_SIZE; i++)
                sscanf(hex + 2 * i, "%2hhx", &key[i]);
        return hex + HEX_SIZE + 1;
}
