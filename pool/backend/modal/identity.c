/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/identity.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define V1_PREFIX "sb-"
#define V1_LEN 22 /* letters and digits behind it */

bool modal_identity_is_v2(const struct modal_identity *i) {
        const char *c = i->id;
        size_t len = 0;

        if (strncmp(c, V1_PREFIX, strlen(V1_PREFIX)))
                return true;
        for (c += strlen(V1_PREFIX); isalnum((unsigned char)*c); c++)
                len++;
        return *c || len != V1_LEN;
}

void modal_identity_deinit(struct modal_identity *i) {
        free(i->task_id);
        modal_secret_drop(&i->token);
        buf_deinit(&i->own);
}
