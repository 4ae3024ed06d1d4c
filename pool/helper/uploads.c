/* SPDX-License-Identifier: MIT */
#include "pool/helper/uploads.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "pool/helper/sandbox.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

/* It has none. Where none is required it is used as it is. */
static void upload_failed(struct helper_sandbox *s, const struct result *why) {
        struct helper_uploads *u = s->uploads;
        struct result said;

        s->refused = why->code == RESULT_INVALID;
        u->counts.failed++;
        u->counts.failure = *why;
        if (u->required) {
                result_set(&said, why->code, "environment %s: no helper: %s", s->inner->id, why->text);
                result_save(&s->result, &said);
                return;
        }
        result_set(&said, RESULT_OK, "environment %s runs its jobs without a helper: %s", s->inner->id, why->text);
        backend_notice(s->sandbox.backend, said.text);
}

static void upload_failed_here(struct helper_sandbox *s, int r) {
        struct result why;

        result_set(&why, RESULT_FAILED, "%s", strerror(-r));
        upload_failed(s, &why);
}

static void on_uploaded(void *owner, const struct result *r) {
        struct helper_sandbox *s = owner;
        struct helper_uploads *u = s->uploads;

        upload_free(TAKE_PTR(s->upload));
        if (!result_ok(r)) {
                upload_failed(s, r);
        } else if (u->use(s) < 0) {
                upload_failed_here(s, -ENOMEM);
        } else {
                u->counts.done++;
                u->counts.took_us += clock_now() - s->upload_us;
        }
        u->answer(s);
}

static const struct upload_events upload_events = {
        .done = on_uploaded,
};

bool helper_upload_begin(struct helper_sandbox *s) {
        struct upload_spec spec = {
                .loop = s->uploads->loop, .program = s->uploads->program, .sandbox = s->inner, .key = s->key
        };
        int r = 0;

        if (getrandom(s->key, sizeof(s->key), 0) != sizeof(s->key))
                r = -EIO;
        if (r == 0)
                r = upload_start(&s->upload, &spec, &upload_events, s);
        if (r < 0)
                upload_failed_here(s, r);
        s->upload_us = clock_now();
        return r == 0;
}

void helper_upload_stop(struct helper_sandbox *s) {
        upload_free(TAKE_PTR(s->upload));
}

bool helper_upload_is_wanted(const struct helper_sandbox *s) {
        return s->mode == HELPER_PLAIN && !s->refused && s->uploads->program;
}

int helper_uploads_init(struct helper_uploads *u, bool required, const struct helper_program *program,
                        struct result *why) {
        u->required = required;
        if (program->upload.bytes)
                u->program = &program->upload;
        if (result_ok(&program->failure))
                return 0;
        u->counts.failure = program->failure;
        if (u->required) {
                result_set(why, RESULT_INVALID, "helper=yes: %s", program->failure.text);
                return -ENOENT;
        }
        log_warning("new environments run their jobs without a helper: %s", program->failure.text);
        return 0;
}
