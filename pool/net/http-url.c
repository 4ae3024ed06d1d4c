/* SPDX-License-Identifier: MIT */
#include "pool/net/http-url.h"

#include <curl/curl.h>
#include <errno.h>
#include <string.h>

#include "pool/net/http.h"

/* The host part of an URL is this machine. */
static bool is_loopback(const char *host) {
        return !strcmp(host, "localhost") || !strncmp(host, "127.", 4) || !strcmp(host, "[::1]") ||
               !strcmp(host, "::1");
}

int http_look_at_url(const char *url, bool *plain, bool *loopback) {
        CURLU *u = curl_url();
        char *scheme = NULL, *host = NULL;
        int r = -EINVAL;

        if (!u)
                return -ENOMEM;
        if (curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
            curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
                *plain = !strcmp(scheme, "http");
                *loopback = is_loopback(host);
                r = *plain || !strcmp(scheme, "https") ? 0 : -EINVAL;
        }
        curl_free(scheme);
        curl_free(host);
        curl_url_cleanup(u);
        return r;
}

int http_check_url(const char *url, struct result *why) {
        bool plain, loopback;
        int r = http_look_at_url(url, &plain, &loopback);

        if (r < 0) {
                result_set(why, RESULT_INVALID, "%s: expected a URL such as https://api.modal.com", url);
                return -EINVAL;
        }
        if (plain && !loopback) {
                result_set(why, RESULT_INVALID, "%s: plain http is for this machine only; use https", url);
                return -EINVAL;
        }
        return 0;
}
