/* SPDX-License-Identifier: MIT */
#include "pool/net/http-lane.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "pool/util/log.h"

#define HOST_CONNECTIONS_MAX 32L   /* to one host in one lane */
#define CONNECTIONS_MAX 1024L      /* kept open in one lane */
#define STREAMS_MAX 1000L          /* in one connection, if the server agrees */

/* A connection whose peer vanished is noticed after 2 + 3 × 1 s, and after 5 s when something was sent. */
#define KEEPALIVE_IDLE_SECS 2
#define KEEPALIVE_INTERVAL_SECS 1
#define KEEPALIVE_PROBES 3
#define USER_TIMEOUT_MS 5000U

/* A socket that curl waits for. */
struct socket_watch {
        uv_poll_t poll;
        struct list link; /* in the lane's sockets */
        struct lane *lane;
        curl_socket_t fd;
};

static void drive(struct lane *lane, curl_socket_t fd, int events) {
        int running;

        lane->enter(lane->owner);
        curl_multi_socket_action(lane->multi, fd, events, &running);
        lane->leave(lane->owner);
}

/* sockets and time, as curl asks for them */

static void on_socket_closed(uv_handle_t *handle) {
        free(container_of((uv_poll_t *)handle, struct socket_watch, poll));
}

static void on_socket(uv_poll_t *poll, int status, int events) {
        struct socket_watch *w = container_of(poll, struct socket_watch, poll);
        int flags = 0;

        if (status < 0)
                flags = CURL_CSELECT_ERR;
        if (events & UV_READABLE)
                flags |= CURL_CSELECT_IN;
        if (events & UV_WRITABLE)
                flags |= CURL_CSELECT_OUT;
        drive(w->lane, w->fd, flags);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *known) {
        struct lane *lane = data;
        struct socket_watch *w = known;

        if (what == CURL_POLL_REMOVE) {
                if (!w)
                        return 0;
                curl_multi_assign(lane->multi, fd, NULL);
                list_remove(&w->link);
                uv_close((uv_handle_t *)&w->poll, on_socket_closed);
                return 0;
        }
        if (!w) {
                w = calloc(1, sizeof(*w));
                if (!w)
                        return -1;
                if (uv_poll_init_socket(lane->loop, &w->poll, fd) < 0) {
                        free(w);
                        return -1;
                }
                uv_unref((uv_handle_t *)&w->poll);
                w->lane = lane;
                w->fd = fd;
                list_add_tail(&lane->sockets, &w->link);
                curl_multi_assign(lane->multi, fd, w);
        }
        uv_poll_start(&w->poll, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                      on_socket);
        return 0;
}

static void on_timer(uv_timer_t *timer) {
        drive(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *data) {
        struct lane *lane = data;

        if (ms < 0)
                uv_timer_stop(&lane->timer);
        else
                uv_timer_start(&lane->timer, on_timer, ms, 0);
        return 0;
}

int http_lane_set_up_socket(void *data, curl_socket_t fd, curlsocktype purpose) {
        static const struct {
                int level, name, value;
        } options[] = {
                { SOL_SOCKET, SO_KEEPALIVE, 1 },
                { IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_SECS },
                { IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECS },
                { IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES },
                { IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS },
        };

        if (purpose == CURLSOCKTYPE_IPCXN)
                for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
                        setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
        return CURL_SOCKOPT_OK;
}

/* The port pair tells the connection that @q uses; curl lends no better handle to it. */
static bool is_connection(curl_socket_t fd, long local, long remote) {
        struct sockaddr_storage a;
        socklen_t len = sizeof(a);
        long ports[2] = { -1, -1 };

        for (int i = 0; i < 2; i++) {
                len = sizeof(a);
                if ((i ? getpeername : getsockname)(fd, (struct sockaddr *)&a, &len) < 0)
                        return false;
                if (a.ss_family == AF_INET)
                        ports[i] = ntohs(((struct sockaddr_in *)&a)->sin_port);
                else if (a.ss_family == AF_INET6)
                        ports[i] = ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
        }
        return ports[0] == local && ports[1] == remote;
}

/* The peer did not answer in time: it, or the way to it, may be gone without a sign. */
void http_lane_cut(struct lane *lane, CURL *easy) {
        long local = 0, remote = 0;
        struct socket_watch *w;

        if (curl_easy_getinfo(easy, CURLINFO_LOCAL_PORT, &local) != CURLE_OK || local <= 0 ||
            curl_easy_getinfo(easy, CURLINFO_PRIMARY_PORT, &remote) != CURLE_OK)
                return;
        list_for_each (w, &lane->sockets, link)
                if (is_connection(w->fd, local, remote)) {
                        log_debug("http: no answer in time, closing the connection from port %ld", local);
                        shutdown(w->fd, SHUT_RDWR);
                        return;
                }
}

int http_lane_init(struct lane *lane, uv_loop_t *loop, void (*enter)(void *owner), void (*leave)(void *owner),
                   void *owner) {
        *lane = (struct lane){ .loop = loop, .enter = enter, .leave = leave, .owner = owner };
        list_init(&lane->sockets);
        uv_timer_init(loop, &lane->timer);
        uv_unref((uv_handle_t *)&lane->timer);
        lane->timer.data = lane;
        lane->multi = curl_multi_init();
        if (!lane->multi)
                return -ENOMEM;
        curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
        curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane);
        curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, set_timer);
        curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane);
        curl_multi_setopt(lane->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
        curl_multi_setopt(lane->multi, CURLMOPT_MAX_HOST_CONNECTIONS, HOST_CONNECTIONS_MAX);
        curl_multi_setopt(lane->multi, CURLMOPT_MAX_CONCURRENT_STREAMS, STREAMS_MAX);
        curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX);
        return 0;
}

static void on_timer_closed(uv_handle_t *handle) {
        struct lane *lane = handle->data;

        lane->closed(lane->owner);
}

void http_lane_close(struct lane *lane, void (*closed)(void *owner)) {
        lane->closed = closed;
        curl_multi_cleanup(lane->multi);
        uv_close((uv_handle_t *)&lane->timer, on_timer_closed);
}
