/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes kept on disk, counted for all users together and for each of them, with a maximum of each.
 *
 * A quota belongs to whoever made it. Each user has an account in it, which exists exactly while somebody refers to it,
 * so there are never more accounts than leases and jobs. Whatever keeps bytes in files borrows the account of its user:
 * it asks for room, charges what it has written, and refunds that when it removes the file.
 *
 * It is here, below all that keeps files, because a blob does. It knows nothing of files: that the counts are those of
 * the files is up to who charges. A large file that waits to be cut (see removal.h) is no longer counted.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct quota;
struct quota_account;

/* @max bytes of all users, @max_per_user of each, both at most INT64_MAX; 0: no maximum. 0 or -ENOMEM. */
int quota_new(struct quota **out, uint64_t max, uint64_t max_per_user);
/* The owner's end of it. Accounts that somebody still refers to stay good. NULL is fine. */
void quota_free(struct quota *q);

/* Bytes of all users. */
uint64_t quota_bytes(const struct quota *q);

/* A reference to the account of a user; NULL when out of memory. */
struct quota_account *quota_open(struct quota *q, uid_t uid);
struct quota_account *quota_account_ref(struct quota_account *a);
void quota_account_unref(struct quota_account *a);

/*
 * For what keeps bytes. An account may be NULL: then nothing is counted and there is always room.
 *
 * Charging never fails, so that files of an earlier run count even if they are more than what is allowed now.
 */
uint64_t quota_room(const struct quota_account *a);
void quota_charge(struct quota_account *a, uint64_t bytes);
void quota_refund(struct quota_account *a, uint64_t bytes);

/* Which maximum leaves less room: the user's own, or that of all users. */
bool quota_binds_user(const struct quota_account *a);
