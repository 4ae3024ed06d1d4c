/* SPDX-License-Identifier: MIT */
#include "check.h"
#include "pool/util/quota.h"

static void two_maxima(void) {
        struct quota *q = NULL;
        struct quota_account *a, *b;

        CHECK_INT(quota_new(&q, 100, 70), 0);
        a = quota_open(q, 1);
        b = quota_open(q, 2);
        CHECK(a && b && a != b);
        CHECK_INT(quota_room(a), 70);
        CHECK(quota_binds_user(a));
        quota_charge(a, 60);
        CHECK_INT(quota_room(a), 10);
        CHECK(quota_binds_user(a));
        CHECK_INT(quota_room(b), 40); /* of what is left for all */
        CHECK(!quota_binds_user(b));
        quota_charge(b, 40);
        CHECK_INT(quota_room(a), 0);
        CHECK(!quota_binds_user(a));
        CHECK_INT(quota_bytes(q), 100);
        quota_refund(a, 60);
        CHECK_INT(quota_room(a), 60);
        CHECK_INT(quota_room(b), 30);
        CHECK_INT(quota_bytes(q), 40);
        quota_refund(b, 40);
        quota_account_unref(a);
        quota_account_unref(b);
        quota_free(q);
}

/* Files of an earlier run may be more than what is allowed now. */
static void over(void) {
        struct quota *q = NULL;
        struct quota_account *a;

        CHECK_INT(quota_new(&q, 0, 10), 0);
        a = quota_open(q, 0);
        quota_charge(a, 25);
        CHECK_INT(quota_room(a), 0);
        quota_refund(a, 10);
        CHECK_INT(quota_room(a), 0);
        quota_refund(a, 15);
        CHECK_INT(quota_room(a), 10);
        CHECK_ABORTS(quota_refund(a, 1)); /* more than was charged */
        quota_account_unref(a);
        quota_free(q);
}

static void no_maximum(void) {
        struct quota *q = NULL;
        struct quota_account *a;

        CHECK_INT(quota_new(&q, 0, 0), 0);
        a = quota_open(q, 7);
        quota_charge(a, UINT64_C(1) << 50);
        CHECK(quota_room(a) > UINT64_C(1) << 62);
        quota_refund(a, UINT64_C(1) << 50);
        quota_account_unref(a);
        quota_free(q);

        CHECK_INT(quota_room(NULL), UINT64_MAX);
        quota_charge(NULL, 1);
        quota_refund(NULL, 1);
        CHECK(!quota_binds_user(NULL));
        CHECK(!quota_account_ref(NULL));
        quota_account_unref(NULL);
        quota_free(NULL);
}

/* One a user, for as long as anybody has it; also when its quota's owner is gone. */
static void accounts(void) {
        struct quota *q = NULL;
        struct quota_account *a, *again;

        CHECK_INT(quota_new(&q, 0, 10), 0);
        a = quota_open(q, 1);
        again = quota_open(q, 1);
        CHECK(a == again);
        CHECK(quota_account_ref(a) == a);
        quota_charge(a, 4);
        quota_account_unref(a);
        quota_account_unref(again);
        CHECK_INT(quota_room(a), 6);
        quota_free(q);
        CHECK_INT(quota_room(a), 6);
        quota_refund(a, 4);
        quota_account_unref(a);
}

int main(void) {
        RUN(two_maxima);
        RUN(over);
        RUN(no_maximum);
        RUN(accounts);
        return check_done();
}
