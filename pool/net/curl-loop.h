/* SPDX-License-Identifier: MIT */
#pragma once

/* A curl multi handle on the loop, with its sockets and its timer, for http.c and its parts alone. */

#include <curl/curl.h>
#include <stdbool.h>
#include <uv.h>

#include "pool/util/list.h"

#define SPARE_MAX 16

struct curl_loop {
        CURLM *multi;
        uv_loop_t *loop;
        uv_timer_t timer;
        uv_idle_t turn; /* the next one of the loop: for what has to be at once */
        bool held;      /* it is not driven now … */
        bool due;       /* … though its timer went off */
        unsigned n_handles; /* of these, not yet closed */
        struct list sockets;
        struct list corked; /* sockets in which the kernel holds back what is written */
        struct list full;   /* requests whose bodies were not given yet: of http-request.c */
        CURL *spare[SPARE_MAX]; /* handles for the next requests: of http-easy.c */
        unsigned n_spare;
        void (*enter)(void *owner); /* curl is about to act … */
        void (*leave)(void *owner); /* … and has */
        void (*closed)(void *owner);
        void *owner;
};

/* 0 or -ENOMEM; it is to be closed also then. */
int curl_loop_init(struct curl_loop *cl, uv_loop_t *loop, void (*enter)(void *owner), void (*leave)(void *owner),
                   void *owner);

/*
 * Hold it: it reads and writes nothing until it is let go. Connections stay as they are, and curl is not told: to it,
 * the loop is slow.
 */
void curl_loop_hold(struct curl_loop *cl, bool hold);

/* No request may be left. Its memory is the caller's again with @closed. */
void curl_loop_close(struct curl_loop *cl, void (*closed)(void *owner));

/* For CURLOPT_SOCKOPTFUNCTION, CURLOPT_CLOSESOCKETFUNCTION and CURLOPT_PREREQFUNCTION. */
int curl_loop_open_socket(void *cl, curl_socket_t fd, curlsocktype purpose);
int curl_loop_close_socket(void *cl, curl_socket_t fd);
int curl_loop_begin_request(void *cl, char *remote_ip, char *local_ip, int remote_port, int local_port);

/* The peer of @easy did not answer in time: it, or the way to it, may be gone without a sign. */
void curl_loop_cut(struct curl_loop *cl, CURL *easy);
