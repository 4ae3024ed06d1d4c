/* SPDX-License-Identifier: MIT */
#include "pool/net/curl-loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/util/log.h"

#define HOST_CONNECTIONS_MAX 32L   /* to one host of one curl loop */
#define CONNECTIONS_MAX 1024L      /* kept open of one curl loop */
#define STREAMS_MAX 1000L          /* in one connection, if the server agrees */

/* A connection whose peer vanished is noticed after 2 + 3 × 1 s, and after 5 s when something was sent. */
#define KEEPALIVE_IDLE_SECS 2
#define KEEPALIVE_INTERVAL_SECS 1
#define KEEPALIVE_PROBES 3
#define USER_TIMEOUT_MS 5000U

/*
 * A socket that curl waits for. That of a connection is watched from its opening to its closing, and not anew from
 * request to request; others, such as that of a thread that looks up a name, as long as curl says.
 */
struct socket_watch {
        uv_poll_t poll;
        struct list link;         /* in its loop's sockets */
        struct list link_corked;  /* in its loop's corked */
        struct curl_loop *cl;
        curl_socket_t fd;
        bool lasting; /* a connection's */
        int port;     /* the local one; 0: not yet known */
        int wanted;   /* what curl waits for: UV_READABLE, UV_WRITABLE */
        int watched;  /* what the loop looks for, that or more: to change it costs system calls */
};

/*
 * curl writes the head and the body of each request by itself. While a socket is corked the kernel keeps what fills no
 * segment; so the requests of one turn go out together.
 */
static void cork(struct socket_watch *w, int on) {
        setsockopt(w->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
        list_remove(&w->link_corked);
        if (on)
                list_add_tail(&w->cl->corked, &w->link_corked);
}

/* @w: the socket of the events, or NULL. */
static void drive(struct curl_loop *cl, struct socket_watch *w, int events) {
        int running;

        cl->enter(cl->owner);
        curl_multi_socket_action(cl->multi, w ? w->fd : CURL_SOCKET_TIMEOUT, events, &running);
        while ((w = list_first(&cl->corked, struct socket_watch, link_corked)))
                cork(w, false);
        cl->leave(cl->owner);
}

/* sockets and time, as curl asks for them */

static void on_socket(uv_poll_t *poll, int status, int events);

static int watch(struct socket_watch *w, int wanted) {
        w->wanted = wanted;
        if (wanted == w->watched || (wanted == 0 && w->watched == UV_READABLE))
                return 0;
        w->watched = wanted;
        return wanted ? uv_poll_start(&w->poll, wanted, on_socket) : uv_poll_stop(&w->poll);
}

static void on_socket(uv_poll_t *poll, int status, int events) {
        struct socket_watch *w = container_of(poll, struct socket_watch, poll);
        int flags = 0;

        /* It lies idle: what the server says there is seen when the connection is used again. Or its loop is held. */
        if (!w->wanted || w->cl->held) {
                w->watched = 0;
                uv_poll_stop(poll);
                return;
        }
        if (status < 0)
                flags = CURL_CSELECT_ERR;
        if (events & UV_READABLE)
                flags |= CURL_CSELECT_IN;
        if (events & UV_WRITABLE)
                flags |= CURL_CSELECT_OUT;
        drive(w->cl, w, flags);
}

static struct socket_watch *find_watch(struct curl_loop *cl, curl_socket_t fd) {
        struct socket_watch *w;

        list_for_each (w, &cl->sockets, link)
                if (w->fd == fd)
                        return w;
        return NULL;
}

static struct socket_watch *new_watch(struct curl_loop *cl, curl_socket_t fd, bool lasting) {
        struct socket_watch *w = calloc(1, sizeof(*w));

        if (!w)
                return NULL;
        if (uv_poll_init_socket(cl->loop, &w->poll, fd) < 0) {
                free(w);
                return NULL;
        }
        uv_unref((uv_handle_t *)&w->poll);
        w->cl = cl;
        w->fd = fd;
        w->lasting = lasting;
        list_init(&w->link_corked);
        list_add_tail(&cl->sockets, &w->link);
        return w;
}

static void on_socket_closed(uv_handle_t *handle) {
        free(container_of((uv_poll_t *)handle, struct socket_watch, poll));
}

static void free_watch(struct socket_watch *w) {
        list_remove(&w->link);
        list_remove(&w->link_corked);
        uv_close((uv_handle_t *)&w->poll, on_socket_closed);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *known) {
        struct curl_loop *cl = data;
        struct socket_watch *w = known ? known : find_watch(cl, fd);

        if (what == CURL_POLL_REMOVE) {
                if (w && w->lasting)
                        return watch(w, 0);
                if (w)
                        free_watch(w);
                return 0;
        }
        if (!w)
                w = new_watch(cl, fd, false);
        if (!w)
                return -1;
        if (!known)
                curl_multi_assign(cl->multi, fd, w);
        return watch(w, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0));
}

static void on_due(struct curl_loop *cl) {
        if (cl->held)
                cl->due = true;
        else
                drive(cl, NULL, 0);
}

static void on_timer(uv_timer_t *timer) {
        on_due(timer->data);
}

static void on_turn(uv_idle_t *turn) {
        uv_idle_stop(turn);
        on_due(turn->data);
}

/*
 * At once is in the next turn of the loop: a timer of 0 ms that is set again and again, as curl does while a fast stream
 * lasts, lets libuv before 1.45 do nothing else.
 */
static int set_timer(CURLM *multi, long ms, void *data) {
        struct curl_loop *cl = data;

        uv_timer_stop(&cl->timer);
        uv_idle_stop(&cl->turn);
        if (ms == 0)
                uv_idle_start(&cl->turn, on_turn);
        else if (ms > 0)
                uv_timer_start(&cl->timer, on_timer, ms, 0);
        return 0;
}

void curl_loop_hold(struct curl_loop *cl, bool hold) {
        struct socket_watch *w;

        if (cl->held == hold)
                return;
        cl->held = hold;
        if (hold)
                return;
        list_for_each (w, &cl->sockets, link)
                (void)watch(w, w->wanted);
        if (cl->due)
                uv_idle_start(&cl->turn, on_turn);
        cl->due = false;
}

int curl_loop_open_socket(void *cl, curl_socket_t fd, curlsocktype purpose) {
        static const struct {
                int level, name, value;
        } options[] = {
                { SOL_SOCKET, SO_KEEPALIVE, 1 },
                { IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECS },
                { IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECS },
                { IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES },
                { IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS },
        };

        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
                setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
        return new_watch(cl, fd, true) ? CURL_SOCKOPT_OK : CURL_SOCKOPT_ERROR;
}

int curl_loop_close_socket(void *cl, curl_socket_t fd) {
        struct socket_watch *w = find_watch(cl, fd);

        if (w)
                free_watch(w);
        return close(fd);
}

static int port_of(curl_socket_t fd, int (*name)(int fd, struct sockaddr *a, socklen_t *len)) {
        struct sockaddr_storage a;
        socklen_t len = sizeof(a);

        if (name(fd, (struct sockaddr *)&a, &len) < 0)
                return 0;
        if (a.ss_family == AF_INET)
                return ntohs(((struct sockaddr_in *)&a)->sin_port);
        return a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port) : 0;
}

/* It has a connection, and is about to be sent: curl tells of its ports, and not of its socket. */
int curl_loop_begin_request(void *data, char *remote_ip, char *local_ip, int remote_port, int local_port) {
        struct curl_loop *cl = data;
        struct socket_watch *w;

        list_for_each (w, &cl->sockets, link) {
                if (!w->port)
                        w->port = port_of(w->fd, getsockname);
                if (w->port == local_port && list_empty(&w->link_corked))
                        cork(w, true);
        }
        return CURL_PREREQFUNC_OK;
}

/* The peer did not answer in time: it, or the way to it, may be gone without a sign. */
void curl_loop_cut(struct curl_loop *cl, CURL *easy) {
        long local = 0, remote = 0;
        struct socket_watch *w;

        if (curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &local) != CURLE_OK || local <= 0 ||
            curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &remote) != CURLE_OK)
                return;
        list_for_each (w, &cl->sockets, link)
                if (port_of(w->fd, getsockname) == local && port_of(w->fd, getpeername) == remote) {
                        log_debug("http: no answer in time, closing the connection from port %ld", local);
                        shutdown(w->fd, SHUT_RDWR);
                        return;
                }
}

int curl_loop_init(struct curl_loop *cl, uv_loop_t *loop, void (*enter)(void *owner), void (*leave)(void *owner),
                   void *owner) {
        *cl = (struct curl_loop){ .loop = loop, .enter = enter, .leave = leave, .owner = owner };
        list_init(&cl->sockets);
        list_init(&cl->corked);
        list_init(&cl->full);
        uv_timer_init(loop, &cl->timer);
        uv_unref((uv_handle_t *)&cl->timer);
        cl->timer.data = cl;
        uv_idle_init(loop, &cl->turn);
        uv_unref((uv_handle_t *)&cl->turn);
        cl->turn.data = cl;
        cl->multi = curl_multi_init();
        if (!cl->multi)
                return -ENOMEM;
        curl_multi_setopt(cl->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
        curl_multi_setopt(cl->multi, CURLMOPT_SOCKETDATA, cl);
        curl_multi_setopt(cl->multi, CURLMOPT_TIMERFUNCTION, set_timer);
        curl_multi_setopt(cl->multi, CURLMOPT_TIMERDATA, cl);
        curl_multi_setopt(cl->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
        curl_multi_setopt(cl->multi, CURLMOPT_MAX_HOST_CONNECTIONS, HOST_CONNECTIONS_MAX);
        curl_multi_setopt(cl->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, STREAMS_MAX);
        curl_multi_setopt(cl->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX);
        return 0;
}

static void on_closed(uv_handle_t *handle) {
        struct curl_loop *cl = handle->data;

        if (--cl->n_handles == 0)
                cl->closed(cl->owner);
}

void curl_loop_close(struct curl_loop *cl, void (*closed)(void *owner)) {
        cl->closed = closed;
        while (cl->n_spare > 0)
                curl_easy_cleanup(cl->spare[--cl->n_spare]);
        curl_multi_cleanup(cl->multi);
        cl->n_handles = 2;
        uv_close((uv_handle_t *)&cl->timer, on_closed);
        uv_close((uv_handle_t *)&cl->turn, on_closed);
}
