/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "pool/helper/agent/terminal.h"
#include "pool/util/cleanup.h"

#define BULK_PIPE (256 << 10)
#define BULK_BYTES (64 << 10) /* without a break, make a stream bulk … */
#define BULK_PACKETS 64       /* … or so many packets */
#define READS_AT_ONCE 16      /* then others have their turn */
#define END_OF_INPUT 4        /* ^D */

static uint64_t last_event;

/* opening */

static void set_nonblocking(int fd) {
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int stream_open(struct stream *s, int *job_end) {
        int fds[2];

        if (pipe2(fds, O_CLOEXEC | O_DIRECT) < 0 && pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        s->fd = fds[0];
        *job_end = fds[1];
        set_nonblocking(s->fd);
        s->fixed = s->bulk = fcntl(s->fd, F_SETPIPE_SZ, PACKET_SIZE) != PACKET_SIZE;
        return loop_add(s->fd, &s->source, EPOLLIN | EPOLLET);
}

static int terminal_streams(struct job *j, int job_ends[3]) {
        struct stream *s = &j->streams[0];
        int slave, r = terminal_open(j->rows, j->columns, &s->fd, &slave);

        if (r < 0) {
                s->fd = -1;
                return r;
        }
        s->fixed = s->bulk = true;
        for (int i = 0; i < 3; i++)
                job_ends[i] = slave;
        r = loop_add(s->fd, &s->source, EPOLLIN | EPOLLET);
        if (r == 0 && (j->flags & START_INPUT)) {
                j->input_fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
                r = j->input_fd < 0 ? -errno : 0;
        }
        return r;
}

/* Without input it is /dev/null, or where there is none, a pipe that nobody writes to. */
static int open_input(struct job *j, int *job_end) {
        bool wanted = j->flags & START_INPUT;
        int fds[2];

        if (!wanted) {
                *job_end = open("/dev/null", O_RDONLY | O_CLOEXEC);
                if (*job_end >= 0)
                        return 0;
        }
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        *job_end = fds[0];
        if (!wanted) {
                close(fds[1]);
                return 0;
        }
        j->input_fd = fds[1];
        set_nonblocking(j->input_fd);
        return 0;
}

int streams_open(struct job *j, int job_ends[3]) {
        int r;

        for (int i = 0; i < 3; i++)
                job_ends[i] = -1;
        if (j->flags & START_TERMINAL) {
                r = terminal_streams(j, job_ends);
        } else {
                r = open_input(j, &job_ends[0]);
                for (int i = 0; r == 0 && i < 2; i++)
                        r = stream_open(&j->streams[i], &job_ends[1 + i]);
        }
        if (r == 0 && j->input_fd >= 0)
                r = loop_add(j->input_fd, &j->input_source, 0);
        if (r == 0)
                return 0;
        for (int i = 0; i < 3; i++)
                if (i == 0 || job_ends[i] != job_ends[i - 1])
                        close_fd(job_ends[i]);
        job_ends[0] = job_ends[1] = job_ends[2] = -1;
        streams_close(j);
        return r;
}

/* A child that was just forked may still have it open: then the loop would go on telling of it. */
static void close_source(int *fd) {
        if (*fd < 0)
                return;
        loop_remove(*fd);
        close(TAKE_FD(*fd));
}

void input_close(struct job *j) {
        close_source(&j->input_fd);
        input_shut(&j->input);
}

void streams_close(struct job *j) {
        input_close(j);
        for (int i = 0; i < 2; i++) {
                close_source(&j->streams[i].fd);
                j->streams[i].ready = false;
        }
}

/* output */

void stream_on_event(struct job *j, struct stream *s, uint32_t events) {
        if (!s->ready)
                s->ready_at = ++last_event;
        s->ready = true;
        if (events & (EPOLLHUP | EPOLLERR))
                s->hung_up = true;
}

static void make_ordered(struct stream *s) {
        if (s->bulk && !s->fixed && fcntl(s->fd, F_SETPIPE_SZ, PACKET_SIZE) == PACKET_SIZE)
                s->bulk = false; /* else there is more than one packet in it */
}

static void count_packet(struct job *j, struct stream *s, size_t len) {
        struct stream *other = &j->streams[s == &j->streams[0]];

        s->run++;
        s->run_bytes += len;
        if (!s->bulk && (s->run > BULK_PACKETS || s->run_bytes > BULK_BYTES))
                s->bulk = fcntl(s->fd, F_SETPIPE_SZ, BULK_PIPE) > 0;
        other->run = 0;
        other->run_bytes = 0;
        if (other->fd >= 0)
                make_ordered(other);
}

/* Reads a packet. False: there is no room. */
static bool stream_read(struct job *j, struct stream *s) {
        unsigned number = s == &j->streams[1];
        size_t room;
        void *data = output_room(&j->output, number, &room);
        ssize_t n;

        if (!data)
                return false;
        n = read(s->fd, data, room);
        if (n > 0) {
                output_add(&j->output, number, n);
                count_packet(j, s, n);
                s->ready = s->bulk || s->hung_up;
                s->ready_at = ++last_event;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
                s->ready = errno == EINTR;
                if (s->run == 0)
                        make_ordered(s);
        } else {
                close_source(&s->fd); /* EIO of a terminal is its end, too */
                s->ready = false;
        }
        return true;
}

static struct stream *first_ready(struct job *j) {
        struct stream *a = &j->streams[0], *b = &j->streams[1];

        if (!a->ready || !b->ready)
                return a->ready ? a : b->ready ? b : NULL;
        return a->ready_at < b->ready_at ? a : b;
}

bool streams_read(struct job *j) {
        struct stream *s = NULL;

        for (int i = 0; i < READS_AT_ONCE && (s = first_ready(j)); i++)
                if (!stream_read(j, s))
                        return false;
        return s != NULL && first_ready(j);
}

bool streams_at_end(const struct job *j) {
        return j->streams[0].fd < 0 && j->streams[1].fd < 0;
}

bool streams_wait(const struct job *j) {
        return j->streams[0].ready || j->streams[1].ready;
}

/* input */

/* The loop tells when the job has read some. */
static void wait_for_reader(struct job *j, bool wait) {
        if (wait != j->input_waits)
                loop_change(j->input_fd, &j->input_source, wait ? EPOLLOUT : 0);
        j->input_waits = wait;
}

/* A terminal gives a line that has not ended with the first ^D, and the end with the next. */
static void end_input(struct job *j) {
        const char ends[2] = { END_OF_INPUT, END_OF_INPUT };
        size_t n = j->last_input == '\n' ? 1 : 2;

        if ((j->flags & START_TERMINAL) && write(j->input_fd, ends, n) < 0 && errno == EAGAIN)
                wait_for_reader(j, true);
        else
                input_close(j);
}

bool input_write(struct job *j) {
        bool moved = false;
        const uint8_t *data;
        size_t len;

        while (j->input_fd >= 0 && (len = input_peek(&j->input, &data)) > 0) {
                ssize_t n = write(j->input_fd, data, len);

                if (n < 0 && errno == EAGAIN) {
                        wait_for_reader(j, true);
                        return moved;
                }
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) { /* nobody reads it any more */
                        input_close(j);
                        return true;
                }
                j->last_input = data[n - 1];
                moved |= input_take(&j->input, n);
        }
        if (j->input_fd < 0)
                return moved;
        wait_for_reader(j, false);
        if (j->input.end)
                end_input(j);
        return moved;
}
