/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A call about the files of a sandbox, as long as it is under way. Embedded in its caller's own struct.
 *
 *   none → under way → none      done(), once; or sandbox_file_cancel(), after which there is no done()
 *
 * done() comes from the loop, never from inside a call. What it is given is the sandbox's word and may be anything: its
 * form is that of pool/helper/file-call.h, for which there are functions that check it. @error is 0 or an errno. EIO:
 * also when the call may have been done. ENODEV: the sandbox is gone.
 */

#include <stddef.h>

struct file_call_args;
struct file_call;

struct file_call {
        void (*done)(struct file_call *c, int error, const void *data, size_t len);

        /* Of who does it; NULL when it is not under way. */
        void (*cancel)(struct file_call *c);
        void *record;
};
