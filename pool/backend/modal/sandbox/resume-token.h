/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a later run needs to take a sandbox back, as one line of text:
 *
 *   1 SANDBOX_ID TASK_ID BEGAN LIFETIME KEPT…
 *
 * 1 is the version. BEGAN is in microseconds of wall time, LIFETIME in seconds; KEPT is what the probe
 * said, the processes that belong to no job, as PID:START with a blank between them.
 */

#include <stdint.h>

struct modal_resume_token {
        const char *id, *task_id, *kept;
        int64_t began_wall_us;
        uint32_t lifetime_secs;
};

/* The text, for the caller to free. 0, -ENOMEM, or -EINVAL for what could not be read back. */
int modal_resume_token_make(const struct modal_resume_token *t, char **out);

/* 0, or -EINVAL for anything but what the above makes. @text is cut into pieces, which @out borrows. */
int modal_resume_token_read(char *text, struct modal_resume_token *out);
