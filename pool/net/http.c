/* SPDX-License-Identifier: MIT */
#include "pool/net/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/net/curl-loop.h"
#include "pool/net/http-url.h"
#include "pool/util/io.h"
#include "pool/util/buf.h"
#include "pool/util/list.h"

#define CURL_OLDEST 0x075500       /* 7.85.0: CURLOPT_PROTOCOLS_STR */
#define CURL_H2C_FIXED 0x080000    /* before it, a plain HTTP/2 connection cannot be used twice */
#define CURL_NO_TE_FIRST 0x080c00  /* 8.12.0 … */
#define CURL_NO_TE_LAST 0x080d00   /* … to 8.13.0 strip "te: trailers", without which gRPC servers refuse */
#define CONNECT_TIMEOUT_MS 10000L
#define BODY_MAX (64 << 20)        /* bytes of one that wait to be given: more than curl reads in one go */

static const long receive_buffer[HTTP_N_GROUPS] = {
        [HTTP_CALLS] = 16L << 10, /* a TLS record */
        [HTTP_STREAMS] = 64L << 10,
};

struct http {
        uv_loop_t *loop;
        struct curl_loop groups[HTTP_N_GROUPS];
        uv_idle_t turn; /* while a group is held: to give more */
        char *cafile;
        bool plain_once;       /* the workaround for CURL_H2C_FIXED: a connection for each plain request … */
        bool plain_once_used;  /* … and there was one */
        unsigned depth;        /* > 0: inside curl, which must not be told of starts and ends now */
        struct list starting;  /* requests for curl to begin, made inside it */
        struct list running;   /* known to curl */
        struct list dropped;   /* cancelled inside curl */
        unsigned n_closing;    /* handles that libuv still holds, once freed */
};

struct http_request {
        struct http *http;
        struct curl_loop *group;
        struct list link; /* in starting, running or dropped; none once finished */
        const struct http_events *events; /* NULL: cancelled, no event comes any more */
        void *owner;
        CURL *easy;
        struct curl_slist *headers;
        char *body;
        uv_timer_t deadline;
        bool known; /* to curl */
        struct list link_full; /* in the group's full, while it has … */
        struct buf answer;     /* … what curl read, */
        size_t given;          /* and was not given but for so many bytes */
        bool finished;         /* by curl, with this outcome, which is told when all is given */
        struct http_outcome outcome;
        char error[CURL_ERROR_SIZE];
};

/* curl's handles, which are costly to make */

static size_t on_header(char *line, size_t size, size_t n, void *data);
static size_t on_body(char *bytes, size_t size, size_t n, void *data);

/* With all that is the same for every request of a group. */
static CURL *new_easy(struct http *h, enum http_group which) {
        CURL *e = curl_easy_init();

        if (!e)
                return NULL;
        curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(e, CURLOPT_USERAGENT, "modalpool/" MODALPOOL_VERSION);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
        if (h->cafile)
                curl_easy_setopt(e, CURLOPT_CAINFO, h->cafile);
        curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
        curl_easy_setopt(e, CURLOPT_BUFFERSIZE, receive_buffer[which]);
        curl_easy_setopt(e, CURLOPT_SOCKOPTFUNCTION, curl_loop_open_socket);
        curl_easy_setopt(e, CURLOPT_SOCKOPTDATA, &h->groups[which]);
        curl_easy_setopt(e, CURLOPT_CLOSESOCKETFUNCTION, curl_loop_close_socket);
        curl_easy_setopt(e, CURLOPT_CLOSESOCKETDATA, &h->groups[which]);
        curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, curl_loop_begin_request);
        curl_easy_setopt(e, CURLOPT_PREREQDATA, &h->groups[which]);
        curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
        return e;
}

static CURL *take_easy(struct http *h, enum http_group which) {
        struct curl_loop *group = &h->groups[which];

        return group->n_spare > 0 ? group->spare[--group->n_spare] : new_easy(h, which);
}

/* Of the request whose it was it forgets what it only borrowed. */
static void put_easy(struct curl_loop *group, CURL *e) {
        if (!e || group->n_spare == SPARE_MAX) {
                curl_easy_cleanup(e);
                return;
        }
        curl_easy_setopt(e, CURLOPT_ERRORBUFFER, NULL);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, NULL);
        group->spare[group->n_spare++] = e;
}

/* the end of a request */

static void on_deadline_closed(uv_handle_t *handle) {
        struct http_request *q = handle->data;

        buf_deinit(&q->answer); /* data() may have been told of it when the request was cancelled */
        free(q);
}

static void request_release(struct http_request *q) {
        list_remove(&q->link);
        list_remove(&q->link_full);
        if (q->known)
                curl_multi_remove_handle(q->group->multi, q->easy);
        put_easy(q->group, q->easy);
        curl_slist_free_all(q->headers);
        free(q->body);
        uv_close((uv_handle_t *)&q->deadline, on_deadline_closed);
}

/* Once, and from outside curl. */
static void request_finish(struct http_request *q, const struct http_outcome *outcome) {
        const struct http_events *events = q->events;
        void *owner = q->owner;

        assert(q->http->depth == 0);
        q->events = NULL;
        request_release(q);
        if (events)
                events->done(owner, outcome);
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

static void outcome_of(struct http_request *q, CURLcode code, struct http_outcome *o) {
        const char *text = *q->error ? q->error : curl_easy_strerror(code);
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
                curl_easy_getinfo(q->easy, CURLINFO_OS_ERRNO, &number);
        if (number)
                snprintf(o->text, sizeof(o->text), "%s", strerror(number));
        else
                snprintf(o->text, sizeof(o->text), "%s", text);
}

/* What curl has finished; always all of it, for it does not ask twice. */
static void collect_finished(struct curl_loop *group) {
        CURLMsg *m;
        int left;

        while ((m = curl_multi_info_read(group->multi, &left))) {
                struct http_request *q;

                if (m->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&q);
                outcome_of(q, m->data.result, &q->outcome);
                q->finished = true;
                uv_timer_stop(&q->deadline);
                if (list_empty(&q->link_full))
                        request_finish(q, &q->outcome);
        }
}

/* what curl has read */

/* Give up to *@left bytes of it. False: its share of this turn is used up. */
static bool give_body(struct http_request *q, size_t *left) {
        struct http_outcome refused = { .error = HTTP_REFUSED, .text = "the answer was not taken" };
        size_t n = q->answer.len - q->given < *left ? q->answer.len - q->given : *left;
        ssize_t taken = q->events->data(q->owner, q->answer.data + q->given, n);

        if (!q->events)
                return true; /* it was cancelled there */
        if (taken < 0) {
                request_finish(q, &refused);
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
                request_finish(q, &q->outcome);
        return true;
}

static void on_turn(uv_idle_t *turn);

/* Give what one turn of the loop may; the rest holds the group. */
static void give(struct http *h, struct curl_loop *group) {
        size_t left = HTTP_TURN_BYTES;
        struct http_request *q;

        while (left > 0 && (q = list_first(&group->full, struct http_request, link_full)))
                if (!give_body(q, &left))
                        break;
        curl_loop_hold(group, !list_empty(&group->full));
        if (group->held)
                uv_idle_start(&h->turn, on_turn);
}

static void on_turn(uv_idle_t *turn) {
        struct http *h = turn->data;

        uv_idle_stop(turn);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                if (h->groups[i].held)
                        give(h, &h->groups[i]);
}

static void request_begin(struct http_request *q);

static void enter(void *owner) {
        struct http *h = owner;

        h->depth++;
}

/* Back from curl: now do what was asked for inside it. */
static void leave(void *owner) {
        struct http *h = owner;
        struct http_request *q;

        if (--h->depth > 0)
                return;
        while ((q = list_first(&h->dropped, struct http_request, link)))
                request_release(q);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                collect_finished(&h->groups[i]);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                if (!h->groups[i].held)
                        give(h, &h->groups[i]);
        while ((q = list_first(&h->starting, struct http_request, link)))
                request_begin(q);
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

long http_connection(const struct http_request *q) {
        long port = 0;

        if (!q->known || q->http->plain_once_used || curl_easy_getinfo(q->easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK)
                return 0;
        return port;
}

static void on_deadline(uv_timer_t *timer) {
        struct http_request *q = timer->data;
        struct http_outcome outcome = { .error = HTTP_TIMEOUT, .text = "no answer in time" };

        curl_loop_cut(q->group, q->easy);
        request_finish(q, &outcome);
}

/* starting one */

static void on_begin_failed(uv_timer_t *timer) {
        struct http_outcome outcome = { .error = HTTP_BROKEN, .text = "curl did not take the request" };

        request_finish(timer->data, &outcome);
}

static void request_begin(struct http_request *q) {
        CURLMcode code;

        list_remove(&q->link);
        list_add_tail(&q->http->running, &q->link);
        code = curl_multi_add_handle(q->group->multi, q->easy);
        q->known = code == CURLM_OK;
        if (!q->known)
                uv_timer_start(&q->deadline, on_begin_failed, 0, 0);
}

static int set_options(struct http_request *q, const struct http_spec *spec, size_t body_len) {
        struct http *h = q->http;
        CURL *e = q->easy;
        struct http_url url;
        bool alone;
        int r = http_url_read(spec->url, &url);

        if (r < 0)
                return r;
        if (url.plain && !url.loopback)
                return -EPERM;
        alone = url.plain && h->plain_once;
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
                h->plain_once_used = true;
                curl_multi_setopt(q->group->multi, CURLMOPT_MAX_HOST_CONNECTIONS, 0L);
        }
        curl_easy_setopt(e, CURLOPT_HEADERDATA, q);
        curl_easy_setopt(e, CURLOPT_WRITEDATA, q);
        curl_easy_setopt(e, CURLOPT_HTTPHEADER, q->headers);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, q->body);
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body_len);
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

int http_start(struct http *h, const struct http_spec *spec, const struct http_events *events, void *owner,
               struct http_request **out) {
        struct http_request *q = calloc(1, sizeof(*q));
        size_t body_len = spec->body_len + spec->body2_len;
        int r = -ENOMEM;

        if (!q)
                return -ENOMEM;
        q->http = h;
        q->group = &h->groups[spec->group];
        q->events = events;
        q->owner = owner;
        q->answer = (struct buf)BUF_INIT(BODY_MAX);
        list_init(&q->link);
        list_init(&q->link_full);
        uv_timer_init(h->loop, &q->deadline);
        uv_unref((uv_handle_t *)&q->deadline);
        q->deadline.data = q;

        q->easy = take_easy(h, spec->group);
        q->body = malloc(body_len ? body_len : 1);
        if (q->easy && q->body)
                r = copy_headers(q, spec->headers);
        if (r == 0) {
                if (spec->body_len)
                        memcpy(q->body, spec->body, spec->body_len);
                if (spec->body2_len)
                        memcpy(q->body + spec->body_len, spec->body2, spec->body2_len);
                r = set_options(q, spec, body_len);
        }
        if (r < 0) {
                request_release(q);
                return r;
        }
        if (spec->timeout_us > 0)
                uv_timer_start(&q->deadline, on_deadline, (spec->timeout_us + 999) / 1000, 0);
        *out = q;
        if (h->depth > 0)
                list_add_tail(&h->starting, &q->link);
        else
                request_begin(q);
        return 0;
}

void http_cancel(struct http_request *q) {
        q->events = NULL;
        if (q->http->depth == 0) {
                request_release(q);
                return;
        }
        uv_timer_stop(&q->deadline);
        list_remove(&q->link);
        list_add_tail(&q->http->dropped, &q->link);
}

/* the client */

static int check_curl(struct result *why) {
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

static void on_group_closed(void *owner) {
        struct http *h = owner;

        if (--h->n_closing > 0)
                return;
        free(h->cafile);
        free(h);
}

static void on_turn_closed(uv_handle_t *handle) {
        on_group_closed(handle->data);
}

void http_free(struct http *h) {
        struct http_request *q;

        if (!h)
                return;
        assert(h->depth == 0);
        while ((q = list_first(&h->running, struct http_request, link)))
                request_release(q);
        h->n_closing = HTTP_N_GROUPS + 1;
        uv_close((uv_handle_t *)&h->turn, on_turn_closed);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                curl_loop_close(&h->groups[i], on_group_closed);
}

int http_new(struct http **out, uv_loop_t *loop, const char *cafile, struct result *why) {
        struct http *h;
        int r = check_curl(why);

        if (r < 0)
                return r;
        if (cafile && access(cafile, R_OK) < 0) {
                r = -errno;
                result_set(why, RESULT_INVALID, "certificate authorities %s: %s", cafile, strerror(-r));
                return r;
        }
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->loop = loop;
        h->plain_once = curl_version_info(CURLVERSION_NOW)->version_num < CURL_H2C_FIXED;
        uv_idle_init(loop, &h->turn);
        uv_unref((uv_handle_t *)&h->turn);
        h->turn.data = h;
        list_init(&h->starting);
        list_init(&h->running);
        list_init(&h->dropped);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                if (curl_loop_init(&h->groups[i], loop, enter, leave, h) < 0)
                        r = -ENOMEM;
        h->cafile = cafile ? strdup(cafile) : NULL;
        if (r < 0 || (cafile && !h->cafile)) {
                http_free(h);
                return -ENOMEM;
        }
        *out = h;
        return 0;
}
