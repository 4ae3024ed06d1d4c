/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/reapers.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/reaper.h"
#include "pool/util/cleanup.h"

#define SLOTS (HELPER_JOBS_MAX + BACKGROUND_MAX)

struct shared {
        volatile uint32_t version; /* odd while a child is made */
        volatile pid_t pids[SLOTS];
};

static struct shared *shared;
static bool used[SLOTS]; /* by a job */
static unsigned oldest;  /* where the search begins: a slot in the background that is taken over was used long ago */
static void (*forget)(void);
static int proc;
static struct {
        unsigned slot;
        int channel; /* -1: there is none */
        bool unwanted;
} spare = { .channel = -1 };

int reapers_init(int proc_fd, void (*in_child)(void)) {
        void *map = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (map == MAP_FAILED)
                return -errno;
        shared = map;
        forget = in_child;
        proc = proc_fd;
        return 0;
}

/* An empty slot, else one in the background: its reaper goes on, only not known any more. */
static unsigned find_slot(void) {
        for (unsigned i = 0; i < SLOTS; i++)
                if (!used[i] && shared->pids[i] == 0)
                        return i;
        do
                oldest = (oldest + 1) % SLOTS;
        while (used[oldest]);
        return oldest;
}

pid_t reapers_fork(unsigned *slot) {
        unsigned i = find_slot();
        pid_t pid;

        shared->version++;
        pid = fork();
        if (pid == 0) {
                forget();
                return 0;
        }
        if (pid > 0) {
                shared->pids[i] = pid;
                used[i] = true;
                *slot = i;
        }
        shared->version++;
        return pid;
}

pid_t reapers_pid(unsigned slot) {
        return shared->pids[slot];
}

void reapers_leave(unsigned slot) {
        used[slot] = false;
}

/* It ends by itself, if it has not. */
static void drop_spare(void) {
        used[spare.slot] = false;
        close(TAKE_FD(spare.channel));
}

static int make_reaper(unsigned *slot, int *channel) {
        int fds[2], r = 0;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        pid = reapers_fork(slot);
        if (pid == 0)
                reaper_run(fds[1], proc);
        if (pid < 0)
                r = -errno;
        else
                *channel = TAKE_FD(fds[0]);
        close_fd(fds[0]);
        close(fds[1]);
        return r;
}

int reapers_start(const struct start_spec *spec, const int reads[2], unsigned *slot, int *channel) {
        int r;

        if (spare.channel >= 0 && reaper_give(spare.channel, spec, reads) == 0) {
                *slot = spare.slot;
                *channel = TAKE_FD(spare.channel);
                return 0;
        }
        if (spare.channel >= 0)
                drop_spare(); /* a job has killed it */
        r = make_reaper(slot, channel);
        if (r < 0)
                return r;
        r = reaper_give(*channel, spec, reads);
        if (r < 0) {
                close(TAKE_FD(*channel));
                reapers_leave(*slot);
        }
        return r;
}

void reapers_keep(unsigned slot, int channel) {
        if (spare.channel < 0 && !spare.unwanted) {
                spare.slot = slot;
                spare.channel = channel;
        } else {
                close(channel); /* which ends it */
                used[slot] = false;
        }
}

void reapers_keep_one(bool keep) {
        spare.unwanted = !keep;
        if (!keep && spare.channel >= 0)
                drop_spare();
}

void reapers_reaped(pid_t pid) {
        if (spare.channel >= 0 && shared->pids[spare.slot] == pid)
                drop_spare();
        for (unsigned i = 0; i < SLOTS; i++)
                if (shared->pids[i] == pid)
                        shared->pids[i] = 0;
}

void reapers_stopped(pid_t pid) {
        for (unsigned i = 0; i < SLOTS; i++)
                if (shared->pids[i] == pid)
                        kill(pid, SIGCONT);
}

struct family reapers_orphans(void) {
        return (struct family){
                .parent = getpid(), .others = shared->pids, .n_others = SLOTS, .version = &shared->version
        };
}
