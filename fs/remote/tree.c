/* SPDX-License-Identifier: MIT */
#include "fs/remote/tree.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/errno.h"

int64_t remote_now(const struct remote_tree *t) {
        return t->fs->clock();
}

bool remote_shows_ids(const struct remote_tree *t) {
        return lease_uid(t->lease) == 0;
}

int remote_tree_error(const struct remote_tree *t, int error) {
        if (t->over || lease_state(t->lease) == LEASE_RELEASED)
                return -ESTALE;
        if (error == -EOPNOTSUPP)
                lease_remark(t->lease, "root: environment %s has no helper, and files need one",
                             lease_environment(t->lease) ?: "-");
        if (error == -ENODEV && lease_state(t->lease) == LEASE_FAILED)
                return -errno_of_result(lease_code(t->lease));
        return error;
}

struct remote_tree *remote_tree_ref(struct remote_tree *t) {
        t->refs++;
        return t;
}

void remote_tree_unref(struct remote_tree *t) {
        if (--t->refs > 0)
                return;
        list_remove(&t->link);
        lease_unref(t->lease);
        free(t);
}
