/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Users and groups, from the text of /etc/passwd and /etc/group in the sandbox. Whoever wrote these files may have
 * written anything: a line that is not as it should be is passed over.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pool/helper/agent/limits.h"

struct account {
        uid_t uid;
        gid_t gid;
        char name[ACCOUNT_TEXT_MAX]; /* "" where there is a number only */
        char home[ACCOUNT_TEXT_MAX]; /* absolute, or "/" */
        gid_t groups[ACCOUNT_GROUPS_MAX]; /* with @gid, as login gives them */
        size_t n_groups;
};

/*
 * The user @user, by name or else by number, in the text of a passwd file. A number that is not there is a user
 * without a name, of the group 0. 0, -ENOENT, or -ERANGE for a home that is too long.
 */
int account_find(struct account *a, const char *user, const char *passwd, size_t len);

/* Puts the groups that list the user in the text of a group file behind @gid; those beyond the maximum are left out. */
void account_add_groups(struct account *a, const char *group, size_t len);
