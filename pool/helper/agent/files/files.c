/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/files.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/helper/agent/descriptors.h"
#include "pool/helper/agent/files/server.h"
#include "pool/helper/agent/loop.h"
#include "pool/helper/agent/origin.h"
#include "pool/helper/agent/reapers.h"
#include "pool/util/cleanup.h"
#include "pool/util/list.h"

struct call {
        uint64_t number; /* 0: none has been here */
        enum { DONE, WAITING } state;
        bool asked; /* by this carrier */
        uint32_t error;
        size_t len;
};

_Static_assert(HELPER_CALLS_MAX <= UINT8_MAX + 1, "a byte names a slot");

static struct call calls[HELPER_CALLS_MAX];
static struct file_slot *slots;
static uint8_t ready[HELPER_CALLS_MAX]; /* those that are DONE and asked for, in the order of their answers */
static unsigned ready_first, n_ready;
static const char *served;
static int channel = -1;
static unsigned process, generation;

static void on_channel(struct loop_source *source, uint32_t events);

static struct loop_source channel_source = { .ready = on_channel };

void files_init(const char *root) {
        served = root;
}

/* the process */

static _Noreturn void run(int end, pid_t parent) {
        const int keep[] = { end, origin.proc };

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "modalpool-files");
        if (getppid() != parent)
                _exit(0); /* the helper has died before it could take this one with it */
        descriptors_close_others(keep, sizeof(keep) / sizeof(*keep));
        file_server_run(end, slots, served, generation);
}

static int start(void) {
        pid_t parent = getpid(), pid;
        int fds[2], r;

        if (!slots) {
                slots = mmap(NULL, HELPER_CALLS_MAX * sizeof(*slots), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                if (slots == MAP_FAILED) {
                        slots = NULL;
                        return -ENOMEM;
                }
        }
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        generation = (generation + 1) & UINT16_MAX;
        r = loop_add(fds[0], &channel_source, EPOLLIN);
        if (r == 0) {
                pid = reapers_fork(&process);
                if (pid == 0)
                        run(fds[1], parent);
                r = pid < 0 ? -errno : 0;
                if (r < 0)
                        loop_remove(fds[0]);
        }
        close(fds[1]);
        if (r < 0)
                close(fds[0]);
        else
                channel = fds[0];
        return r;
}

static void stop(void) {
        pid_t pid = reapers_pid(process);

        if (channel < 0)
                return;
        if (pid > 0)
                kill(pid, SIGKILL);
        reapers_leave(process);
        loop_remove(channel);
        close(TAKE_FD(channel));
}

/* calls */

static void push(unsigned i) {
        if (calls[i].asked)
                ready[(ready_first + n_ready++) % HELPER_CALLS_MAX] = (uint8_t)i;
}

static void finish(unsigned i, uint32_t error, size_t len) {
        struct call *c = &calls[i];

        c->state = DONE;
        c->error = error;
        c->len = len;
        push(i);
}

/* It has died, or says what it cannot say: then nobody knows what it has done. */
static void give_up(void) {
        stop();
        for (unsigned i = 0; i < HELPER_CALLS_MAX; i++)
                if (calls[i].state == WAITING)
                        finish(i, EIO, 0);
}

/* A job that is root can make it say anything. */
static bool take_done(unsigned i) {
        size_t len;

        if (i >= HELPER_CALLS_MAX || calls[i].state != WAITING)
                return false;
        len = slots[i].len;
        if (len > HELPER_DATA_MAX)
                return false;
        finish(i, slots[i].error, len);
        return true;
}

static void on_channel(struct loop_source *source, uint32_t events) {
        uint8_t done[HELPER_CALLS_MAX];
        ssize_t n;

        if (channel < 0)
                return;
        n = recv(channel, done, sizeof(done), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        for (ssize_t i = 0; i < n; i++)
                if (!take_done(done[i]))
                        n = -1;
        if (n <= 0)
                give_up();
}

static void give(unsigned i, const struct frame *f) {
        uint8_t slot = (uint8_t)i;
        int r = channel < 0 ? start() : 0;

        if (r < 0) {
                finish(i, (uint32_t)-r, 0);
                return;
        }
        slots[i].len = f->len;
        memcpy(slots[i].data, f->data, f->len);
        if (send(channel, &slot, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) /* there is room for all slots */
                give_up();
}

const char *files_take(const struct frame *f) {
        unsigned i = f->request % HELPER_CALLS_MAX;
        struct call *c = &calls[i];

        if (f->request == 0 || f->request < c->number)
                return "CALL with a number of long ago";
        if (f->request == c->number) {
                bool again = !c->asked;

                c->asked = true;
                if (again && c->state == DONE)
                        push(i);
                return NULL;
        }
        if (c->state == WAITING)
                return "CALL with a number that is too high";
        if (f->len == 0)
                return "CALL without data";
        *c = (struct call){ .number = f->request, .state = WAITING, .asked = true };
        give(i, f);
        return NULL;
}

void files_new_carrier(void) {
        for (unsigned i = 0; i < HELPER_CALLS_MAX; i++)
                calls[i].asked = false;
        n_ready = 0;
}

bool files_next_answer(struct frame *f) {
        const struct call *c;
        unsigned i;

        if (n_ready == 0)
                return false;
        i = ready[ready_first];
        ready_first = (ready_first + 1) % HELPER_CALLS_MAX;
        n_ready--;
        c = &calls[i];
        *f = (struct frame){
                .type = FRAME_ANSWER,
                .request = c->number,
                .value = c->error,
                .data = c->len > 0 ? slots[i].data : NULL,
                .len = c->len,
        };
        return true;
}

void files_end(void) {
        stop();
        memset(calls, 0, sizeof(calls));
        n_ready = 0;
}
