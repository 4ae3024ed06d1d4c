/* SPDX-License-Identifier: MIT */
#pragma once

/* The one thing we want to know of a JSON web token: when it ends. */

#include <stddef.h>
#include <stdint.h>

/* Microseconds of wall time, whose seconds may be an integer or have a fraction; 0 when it does not say; -EINVAL when it is none. The signature is the server's affair. */
int64_t jwt_expiry(const char *token, size_t len);
