/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/sandbox/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/exec/run-script.h"
#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"

void modal_cleanup_init(struct modal_cleanup *c, const struct modal_template *template,
                        const struct modal_identity *identity, struct modal_processes *processes,
                        void (*cleaned)(struct modal_cleanup *c, const struct result *r)) {
        *c = (struct modal_cleanup){
                .cleaned = cleaned,
                .template = template,
                .identity = identity,
                .processes = processes,
                .said = BUF_INIT(COMPLAINT_MAX),
        };
}

void modal_cleanup_deinit(struct modal_cleanup *c) {
        free(c->workdir);
        buf_deinit(&c->said);
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct modal_cleanup *c = owner;

        if (len > c->said.max - c->said.len)
                len = c->said.max - c->said.len;
        (void)buf_append(&c->said, data, len);
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct modal_cleanup *c = owner;
        struct result why = *r;

        c->process = NULL;
        if (result_ok(&why) && code != 0)
                result_set(&why, RESULT_FAILED, "environment %s: %s", c->identity->id,
                           c->said.len ? buf_text(&c->said) : "the clean-up was killed");
        c->cleaned(c, &why);
}

static const struct modal_process_events script_events = {
        .output = on_output,
        .ended = on_ended,
};

static int run(struct modal_cleanup *c, const char *workdir) {
        const struct modal_settings *s = &c->template->settings;
        struct buf volumes = BUF_INIT(SCRIPT_SIZE_MAX);
        struct script script;
        int r = 0;

        for (size_t i = 0; i < s->n_volumes && r == 0; i++)
                r = buf_printf(&volumes, "%s ", s->volumes[i].path);
        buf_clear(&c->said);
        script_init(&script);
        if (r == 0)
                r = script_make_clean(&script, workdir, buf_text(&c->identity->own), buf_text(&volumes));
        buf_deinit(&volumes);
        return modal_run_script(c->processes, &script, r, &(struct modal_process_spec){}, &script_events, c,
                                &c->process);
}

int modal_cleanup_start(struct modal_cleanup *c, const char *workdir) {
        modal_processes_cancel(c->processes); /* signals that are still under way */
        if (c->start_unsure)
                return -EIO;
        if (list_empty(&c->processes->unanswered))
                return run(c, workdir);
        c->workdir = strdup(workdir);
        return c->workdir ? 0 : -ENOMEM;
}

void modal_cleanup_cancel(struct modal_cleanup *c) {
        if (c->process)
                modal_process_cancel(TAKE_PTR(c->process));
        free(TAKE_PTR(c->workdir));
}

void modal_cleanup_start_known(struct modal_cleanup *c, bool sure) {
        _cleanup_(cleanup_free) char *workdir = NULL;
        struct result why;

        if (!sure)
                c->start_unsure = true;
        if (!c->workdir || !list_empty(&c->processes->unanswered))
                return;
        workdir = TAKE_PTR(c->workdir);
        if (c->start_unsure)
                result_set(&why, RESULT_FAILED, "environment %s: nobody knows whether its job was started",
                           c->identity->id);
        else if (run(c, workdir) == 0)
                return;
        else
                result_set(&why, RESULT_FAILED, "environment %s: out of memory", c->identity->id);
        c->cleaned(c, &why);
}
