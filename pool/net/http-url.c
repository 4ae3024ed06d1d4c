/* SPDX-License-Identifier: MIT */
#include "pool/net/http-url.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "pool/net/http.h"
#include "pool/util/cleanup.h"

static void free_url(CURLU **u) {
        curl_url_cleanup(*u);
}

static void free_part(char **part) {
        curl_free(*part);
}

/* @host as curl gives it: an IPv6 address stands in brackets. A name may lead anywhere, whatever it begins with. */
static bool is_loopback(const char *host) {
        struct in_addr v4;

        if (inet_pton(AF_INET, host, &v4) == 1)
                return ntohl(v4.s_addr) >> IN_CLASSA_NSHIFT == IN_LOOPBACKNET;
        return !strcmp(host, "[::1]") || !strcasecmp(host, "localhost");
}

static bool is_printable(const char *url) {
        size_t n = 0;

        for (; url[n]; n++)
                if (n == URL_LEN_MAX || url[n] <= ' ' || url[n] >= 0x7f)
                        return false;
        return true;
}

/* Also an empty user, query or fragment is one, though curl does not tell of it: what is added would become a part of it. */
static bool is_address(const char *url, const char *path) {
        return !strpbrk(url, "@?#%\\") && !strcmp(path, "/");
}

int http_url_read(const char *url, struct http_url *out) {
        _cleanup_(free_part) char *scheme = NULL, *host = NULL, *path = NULL;
        _cleanup_(free_url) CURLU *u = curl_url();

        if (!u)
                return -ENOMEM;
        if (!is_printable(url) || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_PATH, &path, 0) != CURLUE_OK)
                return -EINVAL;
        *out = (struct http_url){
                .plain = !strcmp(scheme, "http"),
                .loopback = is_loopback(host),
                .address = is_address(url, path),
        };
        return out->plain || !strcmp(scheme, "https") ? 0 : -EINVAL;
}

int http_check_url(const char *url, bool *plain, struct result *why) {
        struct http_url u;
        int r = http_url_read(url, &u);

        if (r < 0 || !u.address) {
                result_set(why, RESULT_INVALID, "%s: expected a URL such as https://api.modal.com", url);
                return r < 0 ? r : -EINVAL;
        }
        if (u.plain && !u.loopback) {
                result_set(why, RESULT_INVALID, "%s: plain http is for this machine only; use https", url);
                return -EINVAL;
        }
        *plain = u.plain;
        return 0;
}
