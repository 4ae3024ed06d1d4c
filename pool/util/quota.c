/* SPDX-License-Identifier: MIT */
#include "pool/util/quota.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "pool/util/list.h"

struct quota {
        unsigned refs; /* the owner's, and one of each account */
        int64_t max, max_per_user; /* INT64_MAX: none */
        int64_t left;              /* of the maximum; below 0: files of an earlier run are more than it */
        struct list accounts; /* few users make leases */
};

struct quota_account {
        struct list link;
        struct quota *quota;
        uid_t uid;
        unsigned refs;
        int64_t left;
};

int quota_new(struct quota **out, uint64_t max, uint64_t max_per_user) {
        struct quota *q = calloc(1, sizeof(*q));

        if (!q)
                return -ENOMEM;
        q->refs = 1;
        list_init(&q->accounts);
        q->max = max ? (int64_t)max : INT64_MAX;
        q->max_per_user = max_per_user ? (int64_t)max_per_user : INT64_MAX;
        q->left = q->max;
        *out = q;
        return 0;
}

void quota_free(struct quota *q) {
        if (q && --q->refs == 0)
                free(q);
}

uint64_t quota_bytes(const struct quota *q) {
        return q->max - q->left;
}

struct quota_account *quota_open(struct quota *q, uid_t uid) {
        struct quota_account *a;

        list_for_each (a, &q->accounts, link)
                if (a->uid == uid)
                        return quota_account_ref(a);
        a = calloc(1, sizeof(*a));
        if (!a)
                return NULL;
        a->quota = q;
        a->uid = uid;
        a->refs = 1;
        a->left = q->max_per_user;
        q->refs++;
        list_add_tail(&q->accounts, &a->link);
        return a;
}

struct quota_account *quota_account_ref(struct quota_account *a) {
        if (a)
                a->refs++;
        return a;
}

void quota_account_unref(struct quota_account *a) {
        if (!a || --a->refs > 0)
                return;
        assert(a->left == a->quota->max_per_user);
        list_remove(&a->link);
        quota_free(a->quota);
        free(a);
}

uint64_t quota_room(const struct quota_account *a) {
        int64_t left;

        if (!a)
                return UINT64_MAX;
        left = a->left < a->quota->left ? a->left : a->quota->left;
        return left > 0 ? left : 0;
}

void quota_charge(struct quota_account *a, uint64_t bytes) {
        if (!a)
                return;
        a->left -= bytes;
        a->quota->left -= bytes;
}

void quota_refund(struct quota_account *a, uint64_t bytes) {
        if (!a)
                return;
        a->left += bytes;
        a->quota->left += bytes;
        assert(a->left <= a->quota->max_per_user);
}

bool quota_binds_user(const struct quota_account *a) {
        return a && a->left <= a->quota->left;
}
