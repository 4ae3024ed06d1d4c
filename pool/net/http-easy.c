/* SPDX-License-Identifier: MIT */
#include "pool/net/http-easy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "pool/util/io.h"

#define CURL_OLDEST 0x075500       /* 7.85.0: CURLOPT_PROTOCOLS_STR */
#define CURL_H2C_FIXED 0x080000    /* before it, a plain HTTP/2 connection cannot be used twice */
#define CURL_NO_TE_FIRST 0x080c00  /* 8.12.0 … */
#define CURL_NO_TE_LAST 0x080d00   /* … to 8.13.0 strip "te: trailers", without which gRPC servers refuse */
#define CONNECT_TIMEOUT_MS 10000L

static const long receive_buffer[HTTP_N_GROUPS] = {
        [HTTP_CALLS] = 16L << 10, /* a TLS record */
        [HTTP_STREAMS] = 64L << 10,
};

int easy_check_curl(struct result *why) {
        const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);

        if (v->version_num < CURL_OLDEST || !(v->features & CURL_VERSION_HTTP2) ||
            (v->version_num >= CURL_NO_TE_FIRST && v->version_num <= CURL_NO_TE_LAST)) {
                result_set(why, RESULT_INVALID,
                           "libcurl %s cannot carry gRPC: needed is 7.85.0 or newer with HTTP/2, "
                           "but not 8.12.0 to 8.13.0, which drop the header \"te: trailers\"",
                           v->version);
                return -EINVAL;
        }
        return 0;
}

bool easy_is_plain_once(void) {
        return curl_version_info(CURLVERSION_NOW)->version_num < CURL_H2C_FIXED;
}

/* With all that is the same for every request of a group. */
static CURL *new_easy(struct curl_loop *group, enum http_group which, const char *cafile) {
        CURL *e = curl_easy_init();

        if (!e)
                return NULL;
        curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(e, CURLOPT_USERAGENT, "modalpool/" MODALPOOL_VERSION);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
        if (cafile)
                curl_easy_setopt(e, CURLOPT_CAINFO, cafile);
        curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
        curl_easy_setopt(e, CURLOPT_BUFFERSIZE, receive_buffer[which]);
        curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, curl_loop_open_socket);
        curl_easy_setopt(e, CURLOPT_SOCKOPTDATA, group);
        curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, curl_loop_close_socket);
        curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, group);
        curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, curl_loop_begin_request);
        curl_easy_setopt(e, CURLOPT_PREREQDATA, group);
        return e;
}

CURL *easy_take(struct curl_loop *group, enum http_group which, const char *cafile) {
        return group->n_spare > 0 ? group->spare[--group->n_spare] : new_easy(group, which, cafile);
}

void easy_put(struct curl_loop *group, CURL *e) {
        if (!e || group->n_spare == SPARE_MAX) {
                curl_easy_cleanup(e);
                return;
        }
        /* It forgets what it only borrowed of the request. */
        curl_easy_setopt(e, CURLOPT_ERRORBUFFER, NULL);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, NULL);
        group->spare[group->n_spare++] = e;
}

static enum http_error error_of(CURLcode code) {
        switch (code) {
        case CURLE_OK:
                return HTTP_OK;
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
        case CURLE_COULDNT_CONNECT:
        case CURLE_OPERATION_TIMEDOUT: /* only that of connecting is set */
        case CURLE_SSL_CONNECT_ERROR:
                return HTTP_UNREACHABLE;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_CERTPROBLEM:
                return HTTP_UNTRUSTED;
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
                return HTTP_REFUSED;
        case CURLE_HTTP2_STREAM:
                return HTTP_RESET;
        default:
                return HTTP_BROKEN;
        }
}

void easy_outcome(CURL *e, CURLcode code, const char *error, struct http_outcome *o) {
        const char *text = *error ? error : curl_easy_strerror(code);
        long number = 0;

        *o = (struct http_outcome){ .error = error_of(code) };
        if (code == CURLE_OK)
                return;
        /* Sockets, the lookup of a name, the file of authorities: curl does not say what it lacked. */
        if ((o->error == HTTP_UNREACHABLE || o->error == HTTP_UNTRUSTED) && !descriptor_is_left()) {
                o->error = HTTP_STARVED;
                snprintf(o->text, sizeof(o->text), "%s", strerror(EMFILE));
                return;
        }
        if (code == CURLE_COULDNT_CONNECT)
                curl_easy_getinfo(e, CURLINFO_OS_ERRNO, &number);
        if (number)
                snprintf(o->text, sizeof(o->text), "%s", strerror(number));
        else
                snprintf(o->text, sizeof(o->text), "%s", text);
}
