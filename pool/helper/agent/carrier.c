/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/carrier.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/helper/agent/channels.h"
#include "pool/helper/agent/cleaning.h"
#include "pool/helper/agent/files/files.h"
#include "pool/helper/agent/jobs.h"
#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/loop.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/list.h"

#define SEND_SIZE (2 * FRAME_MAX)
#define LAST_MAX (FRAME_HEAD + 104 + HELPER_TEXT_MAX) /* of a frame before the end of a carrier */
#define SENDS_AT_ONCE 8

struct carrier {
        struct loop_source source;
        int fd; /* -1: there is none */
        int64_t until_us; /* for HELLO */
        struct decoder decoder;
};

static struct carrier carriers[CARRIERS_MAX];
static struct carrier *current; /* the one in use, or NULL */
static uint64_t epoch, number;  /* of the newest */
static uint8_t key[HELPER_KEY_SIZE];
static uint8_t pool[HELPER_POOL_MAX];
static size_t pool_len;
static bool pool_known;
static uint32_t refused; /* carriers with a wrong key */
static bool tell_refused;
static uint64_t pings[HELPER_REQUESTS_MAX]; /* to be answered */
static unsigned n_pings;
static uint8_t out[SEND_SIZE + LAST_MAX];
static size_t out_start, out_len;
static bool out_waits; /* for the carrier to take more */
static int listening;
static struct loop_source listen_source;

static void carrier_close(struct carrier *c) {
        if (c->fd < 0)
                return;
        if (c == current)
                current = NULL;
        loop_remove(c->fd);
        close(TAKE_FD(c->fd));
}

/*
 * A last frame to a carrier, behind what it has a part of already. Where it does not fit, the daemon sees the end all
 * the same.
 */
static void carrier_refuse(struct carrier *c, const struct frame *f) {
        uint8_t bytes[LAST_MAX];

        if (c == current) {
                out_len += frame_encode(f, out + out_start + out_len);
                (void)send(c->fd, out + out_start, out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
                (void)send(c->fd, bytes, frame_encode(f, bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        carrier_close(c);
}

static void carrier_error(struct carrier *c, const char *text) {
        carrier_refuse(c, &(struct frame){ .type = FRAME_ERROR, .data = (const uint8_t *)text, .len = strlen(text) });
}

static void carrier_stale(struct carrier *c) {
        carrier_refuse(c, &(struct frame){ .type = FRAME_STALE, .epoch = epoch, .carrier = number });
}

/* HELLO */

/* In a time that does not tell how much of it is right. */
static bool is_key(const uint8_t *given) {
        uint8_t differs = 0;

        for (size_t i = 0; i < sizeof(key); i++)
                differs |= given[i] ^ key[i];
        return differs == 0;
}

static bool is_pool(const struct frame *f) {
        return !pool_known || (f->len == pool_len && memcmp(f->data, pool, pool_len) == 0);
}

static void carrier_accept(struct carrier *c, const struct frame *f) {
        uint32_t version = f->version < PROTOCOL_VERSION ? f->version : PROTOCOL_VERSION;
        struct frame welcome = { .type = FRAME_WELCOME, .version = version, .epoch = f->epoch, .carrier = f->carrier,
                                 .count = helper_jobs_count() };

        if (f->epoch != epoch)
                files_end(); /* their daemon is no more */

        channels_new_carrier(f->epoch != epoch);
        epoch = f->epoch;
        number = f->carrier;
        pool_len = f->len;
        if (pool_len > 0)
                memcpy(pool, f->data, pool_len);
        pool_known = true;
        if (current)
                carrier_stale(current); /* with what it sent and nobody has read */
        current = c;
        out_start = 0;
        out_waits = false;
        n_pings = 0;
        cleaning_new_carrier();
        files_new_carrier();
        out_len = frame_encode(&welcome, out);
        out_len += helper_jobs_tell_all(out + out_len);
        tell_refused = refused > 0;
}

static void on_hello(struct carrier *c, const struct frame *f) {
        if (!is_key(f->key)) {
                refused++;
                tell_refused = true;
                carrier_close(c);
        } else if (f->version < PROTOCOL_OLDEST || f->oldest > PROTOCOL_VERSION) {
                carrier_error(c, "this helper speaks versions 1 to 3");
        } else if (!is_pool(f)) {
                carrier_error(c, "this helper is of another pool");
        } else if (f->epoch < epoch || (f->epoch == epoch && f->carrier <= number)) {
                carrier_stale(c);
        } else {
                carrier_accept(c, f);
        }
}

/* frames */

static const char *on_request(const struct frame *f) {
        if (n_pings == HELPER_REQUESTS_MAX)
                return "REQUEST with too many that wait";
        if (f->kind >= HELPER_N_REQUESTS)
                return "REQUEST of a kind that is not known";
        if (f->kind != HELPER_PING)
                return cleaning_take(f, epoch);
        pings[n_pings++] = f->request;
        return NULL;
}

static void on_frame(struct carrier *c, const struct frame *f) {
        const char *wrong;

        if (c != current) {
                if (f->type == FRAME_HELLO)
                        on_hello(c, f);
                else
                        carrier_close(c);
                return;
        }
        wrong = f->type == FRAME_HELLO     ? "HELLO a second time"
                : f->type == FRAME_REQUEST ? on_request(f)
                : f->type == FRAME_CALL    ? files_take(f)
                : f->type >= FRAME_OPEN    ? channels_take(f)
                                           : helper_jobs_take(f);
        if (wrong)
                carrier_error(c, wrong);
}

static void carrier_read(struct carrier *c) {
        struct frame f;
        size_t room;
        uint8_t *p = decoder_room(&c->decoder, &room);
        ssize_t n = recv(c->fd, p, room, MSG_DONTWAIT);
        int r = 0;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                carrier_close(c);
                return;
        }
        decoder_add(&c->decoder, n);
        while (c->fd >= 0 && (r = decoder_next(&c->decoder, &f)) == 1)
                on_frame(c, &f);
        if (c->fd < 0 || r == 0)
                return;
        if (c == current)
                carrier_error(c, "a frame that is none");
        else
                carrier_close(c);
}

static void on_carrier(struct loop_source *source, uint32_t events) {
        struct carrier *c = container_of(source, struct carrier, source);

        if (c->fd < 0)
                return;
        if (events & EPOLLOUT)
                out_waits = false;
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                carrier_read(c);
        if (c->fd >= 0 && events & EPOLLOUT && !out_waits)
                loop_change(c->fd, &c->source, EPOLLIN);
}

/* new ones */

static bool may_connect(int fd) {
        struct ucred peer = { .uid = (uid_t)-1 };
        socklen_t len = sizeof(peer);

        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

/* A free one, else the one that has waited longest for its HELLO. */
static struct carrier *free_carrier(void) {
        struct carrier *oldest = NULL;

        for (unsigned i = 0; i < CARRIERS_MAX; i++) {
                struct carrier *c = &carriers[i];

                if (c->fd < 0)
                        return c;
                if (c != current && (!oldest || c->until_us < oldest->until_us))
                        oldest = c;
        }
        carrier_close(oldest);
        return oldest;
}

void carriers_add(int fd) {
        int size = CARRIER_SEND_BUFFER;
        struct carrier *c = free_carrier();

        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        c->fd = fd;
        c->until_us = clock_after(clock_now(), HELLO_TIME_US);
        decoder_init(&c->decoder, FRAME_OF_DAEMON);
        if (loop_add(fd, &c->source, EPOLLIN) < 0)
                close(TAKE_FD(c->fd));
}

static void on_connection(struct loop_source *source, uint32_t events) {
        int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0 && may_connect(fd))
                carriers_add(fd);
        else
                close_fd(fd);
}

void carriers_init(const uint8_t given[HELPER_KEY_SIZE]) {
        memcpy(key, given, sizeof(key));
        for (unsigned i = 0; i < CARRIERS_MAX; i++) {
                carriers[i].source.ready = on_carrier;
                carriers[i].fd = -1;
        }
}

int carriers_listen(int socket) {
        listening = socket;
        listen_source.ready = on_connection;
        return loop_add(socket, &listen_source, EPOLLIN);
}

void carriers_forget_key(void) {
        explicit_bzero(key, sizeof(key));
}

/* sending */

/* Output, files and channels take turns, so that none holds up another by more than a frame. */
static bool next_bulk(struct frame *f) {
        static bool (*const sources[])(struct frame *f) = { helper_jobs_next_output, files_next_answer, channels_next };
        static unsigned turn;

        for (unsigned i = 1; i <= 3; i++) {
                unsigned at = (turn + i) % 3;

                if (sources[at](f)) {
                        turn = at;
                        return true;
                }
        }
        return false;
}

static bool next_frame(struct frame *f) {
        if (tell_refused) {
                *f = (struct frame){ .type = FRAME_REFUSED, .count = refused };
                tell_refused = false;
                return true;
        }
        if (helper_jobs_next_state(f))
                return true;
        if (cleaning_next_reply(f))
                return true;
        if (n_pings == 0)
                return next_bulk(f);
        *f = (struct frame){ .type = FRAME_REPLY, .request = pings[0] };
        memmove(pings, pings + 1, --n_pings * sizeof(*pings));
        return true;
}

static void fill(void) {
        struct frame f;

        if (out_len == 0)
                out_start = 0;
        while (SEND_SIZE - out_start - out_len >= FRAME_MAX && next_frame(&f))
                out_len += frame_encode(&f, out + out_start + out_len);
}

bool carriers_send(void) {
        for (int i = 0; current && !out_waits; i++) {
                ssize_t n;

                fill();
                if (out_len == 0)
                        return false;
                if (i == SENDS_AT_ONCE)
                        return true;
                n = send(current->fd, out + out_start, out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n >= 0) {
                        out_start += n;
                        out_len -= n;
                } else if (errno == EAGAIN) {
                        out_waits = true;
                        loop_change(current->fd, &current->source, EPOLLIN | EPOLLOUT);
                } else if (errno != EINTR) {
                        carrier_close(current);
                }
        }
        return false;
}

int64_t carriers_tick(void) {
        int64_t now = clock_now(), next = USEC_NEVER;

        for (unsigned i = 0; i < CARRIERS_MAX; i++) {
                struct carrier *c = &carriers[i];

                if (c->fd < 0 || c == current)
                        continue;
                if (now >= c->until_us)
                        carrier_close(c);
                else
                        next = clock_earlier(next, c->until_us);
        }
        return next;
}
