/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/reapers.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool/helper/agent/limits.h"

#define SLOTS (HELPER_JOBS_MAX + BACKGROUND_MAX)

struct shared {
        volatile uint32_t version; /* odd while a child is made */
        volatile pid_t pids[SLOTS];
};

static struct shared *shared;
static bool used[SLOTS]; /* by a job */
static unsigned oldest;  /* where the search begins: a slot in the background that is taken over was used long ago */
static void (*forget)(void);

int reapers_init(void (*in_child)(void)) {
        void *map = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (map == MAP_FAILED)
                return -errno;
        shared = map;
        forget = in_child;
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

void reapers_reaped(pid_t pid) {
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
