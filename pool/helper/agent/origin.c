/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool/helper/agent/mounts.h"
#include "pool/helper/agent/path.h"
#include "pool/helper/agent/processes.h"
#include "pool/util/cleanup.h"

struct origin origin = { .proc = -1, .mounts = -1, .manifest = -1 };

static void note_paths(const char *dir) {
        _cleanup_(cleanup_close) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
        ssize_t n = readlinkat(origin.proc, "self/exe", origin.program, sizeof(origin.program) - 1);

        origin.program[n < 0 ? 0 : n] = '\0';
        if (path_of(fd, origin.dir, sizeof(origin.dir)) < 0)
                snprintf(origin.dir, sizeof(origin.dir), "%s", dir);
}

static int note_processes(int proc) {
        struct processes all = PROCESSES_INIT;
        int r = proc < 0 ? 0 : processes_read(&all, proc, NULL);

        origin.too_many = all.n > ORIGIN_PROCESSES_MAX;
        for (size_t i = 0; i < all.n && i < ORIGIN_PROCESSES_MAX; i++)
                origin.processes[origin.n_processes++] =
                        (struct origin_process){ .pid = all.list[i].pid, .started = all.list[i].started };
        processes_deinit(&all);
        return r;
}

int origin_note(const char *dir, const char *root, int proc) {
        int r;

        origin.root = root;
        origin.proc = proc;
        clock_gettime(CLOCK_REALTIME, &origin.time);
        note_paths(dir);
        r = note_processes(proc);
        if (r < 0 || proc < 0)
                return r;
        origin.mounts = memfd_create("mounts", MFD_CLOEXEC);
        origin.manifest = memfd_create("manifest", MFD_CLOEXEC);
        if (origin.mounts < 0 || origin.manifest < 0)
                return -errno;
        return mounts_copy(proc, origin.mounts);
}

bool origin_has_process(pid_t pid, uint64_t started) {
        for (size_t i = 0; i < origin.n_processes; i++)
                if (origin.processes[i].pid == pid)
                        return origin.processes[i].started == started;
        return false;
}
