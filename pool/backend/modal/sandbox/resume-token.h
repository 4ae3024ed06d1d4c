/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a later run needs to take a sandbox back, as one line of text:
 *
 *   2 SANDBOX_ID TASK_ID BEGAN LIFETIME SANDBOX_TOKEN KEPT…
 *
 * 2 is the version; version 1 had no SANDBOX_TOKEN and is read too. BEGAN is in microseconds of wall time, LIFETIME in
 * seconds. SANDBOX_TOKEN is "-" for a sandbox that has none. KEPT is what the probe said, the processes that belong to no
 * job, as PID:START with a blank between them.
 *
 * The token of a sandbox is a secret, so this line is one too.
 */

#include <stdint.h>

struct modal_resume_token {
        const char *id, *task_id, *kept;
        const char *sandbox_token; /* "": none */
        int64_t began_wall_us;
        uint32_t lifetime_secs;
};

/* The text, for the caller to free. 0, -ENOMEM, or -EINVAL for what could not be read back. */
int modal_resume_token_make(const struct modal_resume_token *t, char **out);

/* 0, or -EINVAL for anything but what the above makes. @text is cut into pieces, which @out borrows. */
int modal_resume_token_read(char *text, struct modal_resume_token *out);
