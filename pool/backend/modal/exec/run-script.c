/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/exec/run-script.h"

void modal_no_output(void *owner, enum stream stream, const void *data, size_t len) {
}

int modal_run_script(struct modal_processes *t, struct script *script, int made, const struct modal_process_spec *how,
                     const struct modal_process_events *events, void *owner, struct modal_process **out) {
        const char *args[SCRIPT_ARGUMENTS_MAX];
        struct modal_process_spec spec = *how;

        for (size_t i = 0; i < script->n; i++)
                args[i] = script_argument(script, i);
        spec.args = args;
        spec.n_args = script->n;
        if (made == 0)
                made = modal_process_start(t, &spec, events, owner, out);
        script_deinit(script);
        return made;
}
