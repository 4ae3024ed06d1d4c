/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One request, for http.c alone: from its options to its end, and its body on the way.
 *
 *   new → begun → finished by curl → released
 *
 * http.c has it in one of its lists, and says when it begins and when bytes of its body are given. It ends once, by
 * http_request_finish(), from outside curl, or is released without an event.
 */

#include <curl/curl.h>
#include <stdbool.h>
#include <uv.h>

#include "pool/net/curl-loop.h"
#include "pool/net/http.h"
#include "pool/util/buf.h"
#include "pool/util/list.h"

/* What all requests of one http share. */
struct http_shared {
        uv_loop_t *loop;
        char *cafile;
        bool plain_once;      /* this curl uses a plain connection only once … */
        bool plain_once_used; /* … and there was one */
        unsigned depth;       /* > 0: inside curl, which must not be told of starts and ends now */
};

struct http_request {
        struct http_shared *shared;
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

/* A request that has not begun. 0, or -errno: then there is none, and no event comes. */
int http_request_new(struct http_request **out, struct http_shared *shared, struct curl_loop *group,
                     const struct http_spec *spec, const struct http_events *events, void *owner);

/* Hand it to curl. When curl does not take it, it ends with the next turn of the loop. */
void http_request_begin(struct http_request *q);

/* curl has finished it: its outcome is told when all of its body is given. */
void http_request_finished(struct http_request *q, CURLcode code);

/* Give up to *@left bytes of its body. False: its share of this turn is used up. */
bool http_request_give(struct http_request *q, size_t *left);

/* Take it from curl and free it, out of its lists. */
void http_request_release(struct http_request *q);
