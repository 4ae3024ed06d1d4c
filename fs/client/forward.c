/* SPDX-License-Identifier: MIT */

/*
 * One loop over poll(2): the socket that listens, and for each connection two streams between its socket and an open file of
 * ports/N. The end of what a client sends is told by fsync; the end of what the server sends by shutdown.
 *
 * Once a second it looks for the lease:
 *
 *   there   connections are opened
 *   away    no daemon serves the mount: connections are reset, until the lease is there again
 *   gone    the mount is there without the lease, or was not there for UNMOUNTED_MAX_US: the command ends
 */

#include "fs/client/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs/client/limits.h"
#include "fs/client/stream.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

#define LOOK_MS 1000                           /* between looks whether the lease is there */
#define UNMOUNTED_MAX_US (60 * USEC_PER_SEC) /* longer than a restart of the daemon takes */

struct connection {
        int socket, file; /* -1: there is none */
        struct stream up, down;
        bool up_told, down_told; /* the other side knows that it has ended */
        unsigned number;
};

struct forward {
        char *lease, *mount; /* without links; the directory that the lease is in, of the same mount */
        const char *name;    /* of the lease, as it was given */
        const char *path;    /* of the socket, or NULL */
        uint64_t port, local;
        bool verbose;
        int listener;
        int64_t next_look, away_since; /* 0: not away */
        unsigned last;
        struct connection connections[FORWARDED_MAX];
};

static volatile sig_atomic_t stopped;

static void on_signal(int signo) {
        stopped = 1;
}

static int complain(const char *what, int error) {
        fprintf(stderr, "modalpool: forward: %s: %s\n", what, strerror(error));
        return EXIT_FAILURE;
}

/* connections */

static void say(const struct forward *f, const struct connection *c, const char *what, int error) {
        if (f->verbose)
                fprintf(stderr, "connection %u: %s%s%s\n", c->number, what, error ? ": " : "", error ? strerror(error) : "");
}

static void close_connection(struct forward *f, struct connection *c) {
        int error = c->up.write_error ?: c->down.read_error;

        say(f, c, "closed", -error);
        stream_deinit(&c->up);
        stream_deinit(&c->down);
        close_fd(TAKE_FD(c->socket));
        close_fd(TAKE_FD(c->file));
}

/* A reset is passed on as one: the client is not to take what it has for all. */
static void reset_on_close(int socket) {
        const struct linger none = { .l_onoff = 1 };

        (void)setsockopt(socket, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
}

static void open_connection(struct forward *f, struct connection *c, int socket) {
        char file[PATH_SIZE_MAX];
        int on = 1, r;

        c->number = ++f->last;
        c->up_told = c->down_told = false;
        (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* not of a local socket */
        snprintf(file, sizeof(file), "%s/ports/%u", f->lease, (unsigned)f->port);
        c->file = open(file, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (c->file < 0) {
                say(f, c, "not opened", errno);
                reset_on_close(socket);
                close(socket);
                return;
        }
        c->socket = socket;
        r = stream_init(&c->up, socket, c->file);
        if (r == 0)
                r = stream_init(&c->down, c->file, socket);
        if (r < 0)
                close_connection(f, c);
        else
                say(f, c, "opened", 0);
}

static struct connection *find_free(struct forward *f) {
        for (unsigned i = 0; i < FORWARDED_MAX; i++)
                if (f->connections[i].socket < 0)
                        return &f->connections[i];
        return NULL;
}

static void accept_one(struct forward *f) {
        struct connection *c = find_free(f);
        int socket = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (socket < 0)
                return;
        if (c) {
                open_connection(f, c, socket);
                return;
        }
        reset_on_close(socket);
        close(socket);
}

/* Tells each side what has ended. */
static void settle(struct forward *f, struct connection *c) {
        if (c->up.ended && !c->up_told) {
                c->up_told = true;
                if (!c->up.write_error)
                        (void)fsync(c->file);
        }
        if (c->down.ended && !c->down_told) {
                c->down_told = true;
                if (c->down.read_error)
                        reset_on_close(c->socket);
                else
                        shutdown(c->socket, SHUT_WR);
        }
        if ((c->up.ended && c->down.ended) || c->down.read_error || c->down.write_error)
                close_connection(f, c);
}

/* the loop */

/* A stat would be answered from what the kernel remembers, long after the daemon died. */
static bool is_mounted(const struct forward *f) {
        struct statfs fs;

        return statfs(f->mount, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC;
}

static bool is_unmounted_for_good(const struct forward *f, int64_t now) {
        return f->away_since && now - f->away_since > UNMOUNTED_MAX_US;
}

/* Returns false once the lease is gone. */
static bool look_for_lease(struct forward *f) {
        int64_t now = clock_now();
        struct statfs fs;
        int error;

        if (now < f->next_look)
                return true;
        f->next_look = now + LOOK_MS * USEC_PER_MSEC;
        error = statfs(f->lease, &fs) < 0 ? errno : 0;
        if (error == ENOENT && (is_mounted(f) || is_unmounted_for_good(f, now)))
                return false;
        if ((error == ENOENT || error == ENOTCONN) && !f->away_since) {
                f->away_since = now;
                fprintf(stderr, "modalpool: forward: the mount is away; connections are reset until it is back\n");
        } else if (error == 0 && f->away_since) {
                f->away_since = 0;
                fprintf(stderr, "modalpool: forward: the mount is back\n");
        }
        return true;
}

static void serve(struct forward *f, struct pollfd *p) {
        for (unsigned i = 0; i < FORWARDED_MAX; i++) {
                struct connection *c = &f->connections[i];

                if (c->socket < 0)
                        continue;
                if (p[2 * i].revents)
                        stream_move(&c->up);
                if (p[2 * i + 1].revents)
                        stream_move(&c->down);
                settle(f, c);
        }
}

static int run(struct forward *f) {
        static struct pollfd p[2 * FORWARDED_MAX + 1];

        while (!stopped && look_for_lease(f)) {
                for (unsigned i = 0; i < FORWARDED_MAX; i++) {
                        const struct connection *c = &f->connections[i];

                        p[2 * i] = c->socket < 0 ? (struct pollfd){ .fd = -1 } : stream_wants(&c->up);
                        p[2 * i + 1] = c->socket < 0 ? (struct pollfd){ .fd = -1 } : stream_wants(&c->down);
                }
                p[2 * FORWARDED_MAX] = (struct pollfd){ .fd = f->listener, .events = POLLIN };
                if (poll(p, 2 * FORWARDED_MAX + 1, LOOK_MS) <= 0)
                        continue;
                serve(f, p);
                if (p[2 * FORWARDED_MAX].revents)
                        accept_one(f);
        }
        return 0;
}

/* the start */

static int listen_at_path(struct forward *f) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        mode_t mask;
        int r;

        if (strlen(f->path) >= sizeof(a.sun_path))
                return complain(f->path, ENAMETOOLONG);
        strcpy(a.sun_path, f->path);
        f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        mask = umask(0177);
        r = f->listener < 0 ? -1 : bind(f->listener, (struct sockaddr *)&a, sizeof(a));
        umask(mask);
        if (r < 0 || listen(f->listener, SOMAXCONN) < 0)
                return complain(f->path, errno);
        printf("listening on %s\n", f->path);
        return 0;
}

static int listen_at_port(struct forward *f) {
        struct sockaddr_in a = {
                .sin_family = AF_INET, .sin_port = htons((uint16_t)f->local), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
        };
        socklen_t len = sizeof(a);
        int on = 1;

        f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (f->listener < 0)
                return complain("socket", errno);
        setsockopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(f->listener, (struct sockaddr *)&a, len) < 0 || listen(f->listener, SOMAXCONN) < 0 ||
            getsockname(f->listener, (struct sockaddr *)&a, &len) < 0)
                return complain("127.0.0.1", errno);
        printf("listening on 127.0.0.1:%u, open to all users of this machine\n", ntohs(a.sin_port));
        return 0;
}

static bool read_port(const char *text, uint64_t *port) {
        return text_to_u64(text, port) == 0 && *port > 0 && *port <= UINT16_MAX;
}

static bool read_arguments(struct forward *f, int argc, char **argv) {
        const char *words[3];
        int n = 0;

        for (int i = 2; i < argc; i++) {
                if (!strcmp(argv[i], "-v"))
                        f->verbose = true;
                else if (!strcmp(argv[i], "--unix") && i + 1 < argc)
                        f->path = argv[++i];
                else if (argv[i][0] == '-' || n == 3)
                        return false;
                else
                        words[n++] = argv[i];
        }
        if (n < 2 || (n == 3 && f->path) || !read_port(words[1], &f->port) || (n == 3 && !read_port(words[2], &f->local)))
                return false;
        f->name = words[0];
        return true;
}

/* The working directory may be in the mount, and then would not outlive it. */
static int find_lease(struct forward *f) {
        char ports[PATH_SIZE_MAX];
        char *slash;

        f->lease = realpath(f->name, NULL);
        if (!f->lease)
                return complain(f->name, errno);
        if (strlen(f->lease) >= sizeof(ports) - sizeof("/ports/65535"))
                return complain(f->name, ENAMETOOLONG);
        snprintf(ports, sizeof(ports), "%s/ports", f->lease);
        if (access(ports, X_OK) < 0)
                return complain(ports, errno);
        slash = strrchr(f->lease, '/');
        f->mount = strndup(f->lease, slash > f->lease ? slash - f->lease : 1);
        return f->mount ? 0 : complain(f->name, errno);
}

bool forward_is_meant(int argc, char **argv) {
        return argc > 1 && !strcmp(argv[1], "forward");
}

int forward_command(int argc, char **argv) {
        static struct forward f;
        const struct sigaction on_stop = { .sa_handler = on_signal };
        int r;

        if (!read_arguments(&f, argc, argv)) {
                fprintf(stderr, "usage: modalpool forward [-v] LEASE PORT [LOCAL | --unix PATH]\n");
                return EXIT_FAILURE;
        }
        for (unsigned i = 0; i < FORWARDED_MAX; i++)
                f.connections[i].socket = f.connections[i].file = -1;
        r = find_lease(&f);
        if (r != 0)
                return r;
        r = f.path ? listen_at_path(&f) : listen_at_port(&f);
        if (r != 0)
                return r;
        fflush(stdout);
        sigaction(SIGINT, &on_stop, NULL);
        sigaction(SIGTERM, &on_stop, NULL);
        sigaction(SIGHUP, &on_stop, NULL);
        r = run(&f);
        if (f.path)
                unlink(f.path);
        free(f.mount);
        free(f.lease);
        return r;
}
