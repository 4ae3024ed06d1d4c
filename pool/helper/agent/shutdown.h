/* SPDX-License-Identifier: MIT */
#pragma once

/* Ends everything that the helper has started, then the helper. @proc: a descriptor of /proc; @root: removed, or "". */
_Noreturn void shut_down(int proc, const char *root);
