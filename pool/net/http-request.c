/* SPDX-License-Identifier: MIT */
#include "pool/net/http-request.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/net/http-easy.h"
#include "pool/net/http-url.h"

#define BODY_MAX (64 << 20) /* bytes of one that wait to be given: more than curl reads in one go */

/* its end */

static void on_deadline_closed(uv_handle_t *handle) {
        struct http_request *q = handle->data;

        buf_deinit(&q->answer); /* data() may have been told of it when the request was cancelled */
        free(q);
}

void http_request_release(struct http_request *q) {
        list_remove(&q->link);
        list_remove(&q->link_full);
        if (q->known)
                curl_multi_remove_handle(q->group->multi, q->easy);
        easy_put(q->group, q->easy);
        curl_slist_free_all(q->headers);
        free(q->body);
        uv_close((uv_handle_t *)&q->deadline, on_deadline_closed);
}

/* Once, and from outside curl. */
static void http_request_finish(struct http_request *q, const struct http_outcome *outcome) {
        const struct http_events *events = q->events;
        void *owner = q->owner;

        assert(q->shared->depth == 0);
        q->events = NULL;
        http_request_release(q);
        if (events)
                events->done(owner, outcome);
}

static void on_deadline(uv_timer_t *timer) {
        struct http_request *q = timer->data;
        struct http_outcome outcome = { .error = HTTP_TIMEOUT, .text = "no answer in time" };

        curl_loop_cut(q->group, q->easy);
        http_request_finish(q, &outcome);
}

void http_request_finished(struct http_request *q, CURLcode code) {
        easy_outcome(q->easy, code, q->error, &q->outcome);
        q->finished = true;
        uv_timer_stop(&q->deadline);
        if (list_empty(&q->link_full))
                http_request_finish(q, &q->outcome);
}

/* the response */

static size_t on_header(char *line, size_t size, size_t n, void *data) {
        struct http_request *q = data;
        size_t len = size * n;

        if (!q->events)
                return 0;
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
                len--;
        q->events->header(q->owner, line, len);
        return q->events ? size * n : 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *data) {
        struct http_request *q = data;

        if (!q->events || buf_append(&q->answer, bytes, size * n) < 0)
                return 0;
        if (list_empty(&q->link_full))
                list_add_tail(&q->group->full, &q->link_full);
        return size * n;
}

bool http_request_give(struct http_request *q, size_t *left) {
        struct http_outcome refused = { .error = HTTP_REFUSED, .text = "the answer was not taken" };
        size_t n = q->answer.len - q->given < *left ? q->answer.len - q->given : *left;
        ssize_t taken = q->events->data(q->owner, q->answer.data + q->given, n);

        if (!q->events)
                return true; /* it was cancelled there */
        if (taken < 0) {
                http_request_finish(q, &refused);
                return true;
        }
        *left -= taken;
        q->given += taken;
        list_remove(&q->link_full);
        if (q->given < q->answer.len) {
                list_add_tail(&q->group->full, &q->link_full);
                return (size_t)taken == n;
        }
        buf_deinit(&q->answer);
        q->given = 0;
        if (q->finished)
                http_request_finish(q, &q->outcome);
        return true;
}

long http_connection(const struct http_request *q) {
        long port = 0;

        if (!q->known || q->shared->plain_once_used || curl_easy_getinfo(q->easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK)
                return 0;
        return port;
}

/* its beginning */

static void on_begin_failed(uv_timer_t *timer) {
        struct http_outcome outcome = { .error = HTTP_BROKEN, .text = "curl did not take the request" };

        http_request_finish(timer->data, &outcome);
}

void http_request_begin(struct http_request *q) {
        CURLMcode code = curl_multi_add_handle(q->group->multi, q->easy);

        q->known = code == CURLM_OK;
        if (!q->known)
                uv_timer_start(&q->deadline, on_begin_failed, 0, 0);
}

static int set_options(struct http_request *q, const struct http_spec *spec) {
        struct http_shared *shared = q->shared;
        CURL *e = q->easy;
        struct http_url url;
        bool alone;
        int r = http_url_read(spec->url, &url);

        if (r < 0)
                return r;
        if (url.plain && !url.loopback)
                return -EPERM;
        alone = url.plain && shared->plain_once;
        curl_easy_setopt(e, CURLOPT_PRIVATE, q);
        curl_easy_setopt(e, CURLOPT_ERRORBUFFER, q->error);
        curl_easy_setopt(e, CURLOPT_URL, spec->url);
        curl_easy_setopt(e, CURLOPT_HTTP_VERSION,
                         url.plain ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_2TLS);
        curl_easy_setopt(e, CURLOPT_PROXY, url.loopback ? "" : NULL);
        curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, (long)alone);
        curl_easy_setopt(e, CURLOPT_FORBID_REUSE, (long)alone);
        curl_easy_setopt(e, CURLOPT_PIPEWAIT, (long)!alone);
        if (alone) {
                shared->plain_once_used = true;
                curl_multi_setopt(q->group->multi, CURLMOPT_MAX_HOST_CONNECTIONS, 0L);
        }
        curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(e, CURLOPT_HEADERDATA, q);
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(e, CURLOPT_WRITEDATA, q);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, q->headers);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, q->body);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(spec->body_len + spec->body2_len));
        return 0;
}

static int copy_headers(struct http_request *q, const char *const *headers) {
        for (; *headers; headers++) {
                struct curl_slist *longer = curl_slist_append(q->headers, *headers);

                if (!longer)
                        return -ENOMEM;
                q->headers = longer;
        }
        return 0;
}

static char *join_body(const struct http_spec *spec) {
        char *body = malloc(spec->body_len + spec->body2_len + 1); /* there is one, also where it has no bytes */

        if (body && spec->body_len)
                memcpy(body, spec->body, spec->body_len);
        if (body && spec->body2_len)
                memcpy(body + spec->body_len, spec->body2, spec->body2_len);
        return body;
}

int http_request_new(struct http_request **out, struct http_shared *shared, struct curl_loop *group,
                     const struct http_spec *spec, const struct http_events *events, void *owner) {
        struct http_request *q = calloc(1, sizeof(*q));
        int r = -ENOMEM;

        if (!q)
                return -ENOMEM;
        q->shared = shared;
        q->group = group;
        q->events = events;
        q->owner = owner;
        q->answer = (struct buf)BUF_INIT(BODY_MAX);
        list_init(&q->link);
        list_init(&q->link_full);
        uv_timer_init(shared->loop, &q->deadline);
        uv_unref((uv_handle_t *)&q->deadline);
        q->deadline.data = q;

        q->easy = easy_take(group, spec->group, shared->cafile);
        q->body = join_body(spec);
        if (q->easy && q->body)
                r = copy_headers(q, spec->headers);
        if (r == 0)
                r = set_options(q, spec);
        if (r < 0) {
                http_request_release(q);
                return r;
        }
        if (spec->timeout_us > 0)
                uv_timer_start(&q->deadline, on_deadline, (spec->timeout_us + 999) / 1000, 0);
        *out = q;
        return 0;
}
