/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "pool/helper/agent/accounts.h"
#include "tests/fuzz/fuzz.h"

/* A user, a NUL, and a file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        const char *user = (const char *)data;
        const char *nul = len ? memchr(user, '\0', len) : NULL;
        struct account a;

        if (!nul)
                return 0;
        len -= nul + 1 - user;
        if (account_find(&a, user, nul + 1, len) < 0)
                return 0;
        account_add_groups(&a, nul + 1, len);
        if (a.home[0] != '/' || a.n_groups < 1 || a.n_groups > ACCOUNT_GROUPS_MAX || a.groups[0] != a.gid ||
            a.uid == (uid_t)-1 || a.gid == (gid_t)-1)
                abort();
        return 0;
}
