/* SPDX-License-Identifier: MIT */

/*
 * delay-line MICROSECONDS: two network namespaces with a link between them that takes its time.
 *
 * Each has a TUN device "line0" without an address. A packet that goes into one comes out of the other so much later, each
 * way; none is lost, and there is no limit of rate but the processor's. Prints the descriptors of the namespaces,
 *
 *   NEAR FAR
 *
 * which others enter as /proc/PID/fd/NEAR and /proc/PID/fd/FAR. All is gone when the program ends.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX 65536
#define PACKETS_AT_ONCE 256
#define PACKETS_MAX 65536 /* on their way in one direction; what comes then is dropped, as a full queue does */
#define NSEC_PER_SEC 1000000000

struct packet {
        int64_t due_ns;
        size_t len;
        struct packet *next;
        uint8_t data[];
};

struct direction {
        int from, to;
        struct packet *first, **last;
        unsigned n;
};

static void die(const char *what) {
        perror(what);
        exit(1);
}

static int64_t now_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

/* A device in a namespace of its own, which this process stays in until the next one. */
static int open_end(int *namespace) {
        struct ifreq request = { .ifr_name = "line0" };
        int fd;

        if (unshare(CLONE_NEWNET) < 0)
                die("unshare");
        *namespace = open("/proc/thread-self/ns/net", O_RDONLY);
        fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (*namespace < 0 || fd < 0)
                die("/dev/net/tun");
        request.ifr_flags = IFF_TUN | IFF_NO_PI;
        if (ioctl(fd, TUNSETIFF, &request) < 0)
                die("TUNSETIFF");
        return fd;
}

static void take_packets(struct direction *d, int64_t delay_ns) {
        static uint8_t buffer[PACKET_MAX];
        ssize_t n;

        for (int i = 0; i < PACKETS_AT_ONCE && (n = read(d->from, buffer, sizeof(buffer))) > 0; i++) {
                struct packet *p = d->n < PACKETS_MAX ? malloc(sizeof(*p) + (size_t)n) : NULL;

                if (!p)
                        continue;
                *p = (struct packet){ .due_ns = now_ns() + delay_ns, .len = (size_t)n };
                memcpy(p->data, buffer, (size_t)n);
                *d->last = p;
                d->last = &p->next;
                d->n++;
        }
}

static void give_packets(struct direction *d) {
        int64_t now = now_ns();
        struct packet *p;

        while ((p = d->first) && p->due_ns <= now) {
                if (write(d->to, p->data, p->len) < 0 && errno != EIO) /* EIO: the other end is not up yet */
                        perror("delay-line: a packet is lost");
                d->first = p->next;
                if (!d->first)
                        d->last = &d->first;
                d->n--;
                free(p);
        }
}

static void set_timer(int timer, const struct direction *d) {
        struct itimerspec when = { 0 };
        int64_t due = 0;

        for (int i = 0; i < 2; i++)
                if (d[i].first && (!due || d[i].first->due_ns < due))
                        due = d[i].first->due_ns;
        when.it_value.tv_sec = due / NSEC_PER_SEC;
        when.it_value.tv_nsec = due % NSEC_PER_SEC;
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

int main(int argc, char **argv) {
        int64_t delay_ns = argc == 2 ? atoll(argv[1]) * 1000 : -1;
        int near, far, near_fd = -1, far_fd = -1;
        struct direction directions[2];
        struct pollfd polled[3];

        if (delay_ns < 0) {
                fprintf(stderr, "usage: delay-line MICROSECONDS\n");
                return 2;
        }
        near_fd = open_end(&near);
        far_fd = open_end(&far);
        directions[0] = (struct direction){ .from = near_fd, .to = far_fd };
        directions[1] = (struct direction){ .from = far_fd, .to = near_fd };
        for (int i = 0; i < 2; i++) {
                directions[i].last = &directions[i].first;
                polled[i] = (struct pollfd){ .fd = directions[i].from, .events = POLLIN };
        }
        polled[2] = (struct pollfd){ .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), .events = POLLIN };
        if (polled[2].fd < 0)
                die("timerfd_create");
        printf("%d %d\n", near, far);
        fflush(stdout);
        for (;;) {
                set_timer(polled[2].fd, directions);
                poll(polled, 3, -1);
                for (int i = 0; i < 2; i++) {
                        take_packets(&directions[i], delay_ns);
                        give_packets(&directions[i]);
                }
        }
}
