/* SPDX-License-Identifier: MIT */
#include "pool/backend/changes.h"

#include <string.h>

#include "pool/util/text.h"

void sandbox_changes_add(struct sandbox_changes *c, const char *path) {
        size_t room = sizeof(c->text) - c->len;
        char shown[SANDBOX_PATH_SIZE];

        text_show(shown, sizeof(shown), path, strlen(path));
        if (strlen(shown) >= room)
                return;
        strcpy(c->text + c->len, shown);
        c->len += strlen(shown) + 1;
}

const char *sandbox_changes_first(const struct sandbox_changes *c) {
        return c->len > 0 ? c->text : NULL;
}

int sandbox_changes_render(const struct sandbox_changes *c, struct buf *out) {
        int r = 0;

        for (size_t at = 0; r == 0 && at < c->len; at += strlen(c->text + at) + 1)
                r = buf_printf(out, "%s%s", at > 0 ? " " : "", c->text + at);
        return r;
}
