/* SPDX-License-Identifier: MIT */
#include "pool/net/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/net/curl-loop.h"
#include "pool/net/http-easy.h"
#include "pool/net/http-request.h"
#include "pool/util/list.h"

struct http {
        struct http_shared shared;
        struct curl_loop groups[HTTP_N_GROUPS];
        uv_idle_t turn; /* while a group is held: to give more */
        struct list starting;  /* requests for curl to begin, made inside it */
        struct list running;   /* known to curl */
        struct list dropped;   /* cancelled inside curl */
        unsigned n_closing;    /* handles that libuv still holds, once freed */
};

/* What curl has finished; always all of it, for it does not ask twice. */
static void collect_finished(struct curl_loop *group) {
        CURLMsg *m;
        int left;

        while ((m = curl_multi_info_read(group->multi, &left))) {
                struct http_request *q;

                if (m->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&q);
                http_request_finished(q, m->data.result);
        }
}

static void on_turn(uv_idle_t *turn);

/* Give what one turn of the loop may; the rest holds the group. */
static void give(struct http *h, struct curl_loop *group) {
        size_t left = HTTP_TURN_BYTES;
        struct http_request *q;

        while (left > 0 && (q = list_first(&group->full, struct http_request, link_full)))
                if (!http_request_give(q, &left))
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

static void begin(struct http *h, struct http_request *q) {
        list_remove(&q->link);
        list_add_tail(&h->running, &q->link);
        http_request_begin(q);
}

static void enter(void *owner) {
        struct http *h = owner;

        h->shared.depth++;
}

/* Back from curl: now do what was asked for inside it. */
static void leave(void *owner) {
        struct http *h = owner;
        struct http_request *q;

        if (--h->shared.depth > 0)
                return;
        while ((q = list_first(&h->dropped, struct http_request, link)))
                http_request_release(q);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                collect_finished(&h->groups[i]);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                if (!h->groups[i].held)
                        give(h, &h->groups[i]);
        while ((q = list_first(&h->starting, struct http_request, link)))
                begin(h, q);
}

int http_start(struct http *h, const struct http_spec *spec, const struct http_events *events, void *owner,
               struct http_request **out) {
        int r = http_request_new(out, &h->shared, &h->groups[spec->group], spec, events, owner);

        if (r < 0)
                return r;
        if (h->shared.depth > 0)
                list_add_tail(&h->starting, &(*out)->link);
        else
                begin(h, *out);
        return 0;
}

void http_cancel(struct http_request *q) {
        struct http *h = container_of(q->shared, struct http, shared);

        q->events = NULL;
        if (h->shared.depth == 0) {
                http_request_release(q);
                return;
        }
        uv_timer_stop(&q->deadline);
        list_remove(&q->link);
        list_add_tail(&h->dropped, &q->link);
}

static void on_group_closed(void *owner) {
        struct http *h = owner;

        if (--h->n_closing > 0)
                return;
        free(h->shared.cafile);
        free(h);
}

static void on_turn_closed(uv_handle_t *handle) {
        on_group_closed(handle->data);
}

void http_free(struct http *h) {
        struct http_request *q;

        if (!h)
                return;
        assert(h->shared.depth == 0);
        while ((q = list_first(&h->running, struct http_request, link)))
                http_request_release(q);
        h->n_closing = HTTP_N_GROUPS + 1;
        uv_close((uv_handle_t *)&h->turn, on_turn_closed);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                curl_loop_close(&h->groups[i], on_group_closed);
}

int http_new(struct http **out, uv_loop_t *loop, const char *cafile, struct result *why) {
        struct http *h;
        int r = easy_check_curl(why);

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
        h->shared.loop = loop;
        h->shared.plain_once = easy_is_plain_once();
        uv_idle_init(loop, &h->turn);
        uv_unref((uv_handle_t *)&h->turn);
        h->turn.data = h;
        list_init(&h->starting);
        list_init(&h->running);
        list_init(&h->dropped);
        for (int i = 0; i < HTTP_N_GROUPS; i++)
                if (curl_loop_init(&h->groups[i], loop, enter, leave, h) < 0)
                        r = -ENOMEM;
        h->shared.cafile = cafile ? strdup(cafile) : NULL;
        if (r < 0 || (cafile && !h->shared.cafile)) {
                http_free(h);
                return -ENOMEM;
        }
        *out = h;
        return 0;
}
