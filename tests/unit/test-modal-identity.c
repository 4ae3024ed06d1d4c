/* SPDX-License-Identifier: MIT */

/* Which kind of sandbox an id is of; and tokens, which no text shows. */

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pool/backend/modal/identity.h"

static bool is_v2(const char *id) {
        return modal_identity_is_v2(&(struct modal_identity){ .id = (char *)id });
}

static void kinds(void) {
        CHECK(!is_v2("sb-abcdefghijklmnopqrstuv"));
        CHECK(!is_v2("sb-ABCDEFGHIJKLMNOPQR0123"));
        CHECK(is_v2("sb-abcdefghijklmnopqrstu"));
        CHECK(is_v2("sb-abcdefghijklmnopqrstuvw"));
        CHECK(is_v2("sb-abcdefghijklmnopqrstu-"));
        CHECK(is_v2("sb-abcdefghijk_mnopqrstuv"));
        CHECK(is_v2("sb_abcdefghijklmnopqrstuv"));
        CHECK(is_v2("sx-abcdefghijklmnopqrstuv"));
        CHECK(is_v2("sb-"));
        CHECK(is_v2("s"));
}

static const char *scrubbed(const struct modal_client *c, const char *text) {
        static char out[200];

        strcpy(out, text);
        modal_client_scrub(c, out);
        return out;
}

static void secrets(void) {
        static char id[] = "ak-1", secret[] = "as-2";
        struct modal_client c = { .credentials = { .token_id = id, .token_secret = secret } };
        struct modal_secret one = {}, other = {}, none = {};

        list_init(&c.secrets);
        modal_secret_set(&one, &c, strdup("st-one"));
        modal_secret_set(&other, &c, strdup("st-other"));
        modal_secret_set(&none, &c, strdup(""));
        CHECK(!none.text);
        CHECK_STR(scrubbed(&c, "ak-1 as-2 st-one, (st-other) st-onemore eyJ.x-_ end"),
                  "**** **** ******, (********) ********** ******* end");
        modal_secret_set(&one, &c, strdup("st-new")); /* in place of the old one */
        CHECK_STR(scrubbed(&c, "st-one st-new st-other"), "st-one ****** ********");
        modal_secret_set(&one, &c, strdup("st-abcdefghi"));
        CHECK_STR(scrubbed(&c, "it was cut: st-abcd"), "it was cut: *******");
        CHECK_STR(scrubbed(&c, "st-abcdefghi, cut: st-abcdefgh"), "************, cut: ***********");
        CHECK_STR(scrubbed(&c, "st-abcd is no secret, nor is st-"), "st-abcd is no secret, nor is st-");
        modal_secret_drop(&one);
        modal_secret_drop(&one);
        modal_secret_drop(&other);
        modal_secret_drop(&none);
        CHECK_STR(scrubbed(&c, "st-new st-other as-2"), "st-new st-other ****");
        CHECK(list_empty(&c.secrets));
}

int main(void) {
        RUN(kinds);
        RUN(secrets);
        return check_done();
}
