/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/list.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"

static int ask(struct modal_listing *l);

static int pack_list(void *owner, struct buf *out) {
        struct modal_listing *l = owner;

        return modal_pack_list(out, l->spec.app_id, &l->spec.tag, l->before);
}

static int take(void *owner, const struct modal_info *info) {
        struct modal_listing *l = owner;

        if (++l->n > LISTED_MAX)
                return -E2BIG;
        l->last = info->created;
        return l->spec.take(l->owner, info);
}

static void on_page(void *owner, const struct grpc_status *status, const void *reply, size_t len) {
        struct modal_listing *l = owner;
        struct grpc_status odd = { .code = GRPC_INTERNAL, .cause = HTTP_REFUSED, .retry_after_us = -1 };
        unsigned n = l->n;
        int r = 0;

        l->call = NULL;
        if (status->code == GRPC_UNIMPLEMENTED && l->v2) {
                modal_control_has_no_v2(l->control);
                r = ask(l);
                if (r == 0)
                        return;
        }
        if (status->code == GRPC_OK)
                r = modal_read_list(reply, len, l->spec.want, take, l);
        if (r == 0 && status->code == GRPC_OK && l->n > n) {
                /* A page that does not get on would come for ever. */
                r = l->last > 0 && (l->before == 0 || l->last < l->before) ? 0 : -EBADMSG;
                l->before = l->last;
                if (r == 0)
                        r = ask(l);
                if (r == 0)
                        return;
        }
        if (r == -EBADMSG) {
                status = l->v2 ? MODAL_UNREADABLE("SandboxListV2") : MODAL_UNREADABLE("SandboxList");
        } else if (r < 0) {
                snprintf(odd.message, sizeof(odd.message), "%s", strerror(-r));
                status = &odd;
        }
        l->spec.done(l->owner, status);
}

static int ask(struct modal_listing *l) {
        l->v2 = !l->control->no_v2;
        return modal_call_start(l->v2 ? &l->control->auth.endpoint : &l->control->endpoint,
                                &(struct modal_call_spec){
                                        .method = l->v2 ? "SandboxListV2" : "SandboxList",
                                        .group = HTTP_CALLS,
                                        .attempt_us = l->spec.attempt_us,
                                        .retry_for_us = l->spec.retry_for_us,
                                        .message_max = MODAL_MESSAGE_MAX,
                                        .pack = pack_list,
                                        .done = on_page,
                                },
                                l, &l->call);
}

int modal_listing_start(struct modal_listing *l, struct modal_control *control, const struct modal_listing_spec *spec,
                        void *owner) {
        if (l->call)
                return -EBUSY;
        *l = (struct modal_listing){ .control = control, .spec = *spec, .owner = owner };
        return ask(l);
}

void modal_listing_cancel(struct modal_listing *l) {
        if (l->call)
                modal_call_cancel(TAKE_PTR(l->call));
}
