/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * curl's easy handles, which are costly to make: each is made with what is the same for every request of its group, and
 * kept for the next one. And what curl's errors mean.
 */

#include <curl/curl.h>
#include <stdbool.h>

#include "pool/net/curl-loop.h"
#include "pool/net/http.h"

/* Whether this libcurl can be used. 0, or -EINVAL with @why. */
int easy_check_curl(struct result *why);

/* Whether it can use a plain HTTP/2 connection only once. */
bool easy_is_plain_once(void);

/* A handle for a request of the group; NULL when out of memory. @cafile may be NULL, and is copied. */
CURL *easy_take(struct curl_loop *group, enum http_group which, const char *cafile);

/* Give it back. NULL is fine. */
void easy_put(struct curl_loop *group, CURL *e);

/* How a transfer ended that has @code, and @error as its CURLOPT_ERRORBUFFER. */
void easy_outcome(CURL *e, CURLcode code, const char *error, struct http_outcome *out);
