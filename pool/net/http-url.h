/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

/* What kind of URL it is. 0, -EINVAL or -ENOMEM. */
int http_look_at_url(const char *url, bool *plain, bool *loopback);
