/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/shutdown.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pool/helper/agent/limits.h"
#include "pool/helper/agent/processes.h"
#include "pool/util/io.h"

/*
 * All below this process. Whatever loses its parent meanwhile becomes a child of this one, so there is none left when
 * there is no child. Those of another user, which a setuid program may be, do not end; they are not waited for.
 */
static void kill_all(int proc) {
        const struct timespec moment = { .tv_nsec = KILL_ROUND_MS * 1000000 };
        const struct family all = { .parent = getpid() };
        struct processes left = PROCESSES_INIT;
        int64_t until_us = clock_after(clock_now(), SHUTDOWN_TIME_US);
        sigset_t child;
        pid_t pid = 0;

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        do {
                (void)processes_kill(&left, proc, processes_find, &all);
                while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
                        ;
                if (pid < 0 && errno == ECHILD)
                        break;
                sigtimedwait(&child, NULL, &moment);
        } while (clock_now() < until_us);
        processes_deinit(&left);
}

_Noreturn void shut_down(int proc, const char *root) {
        if (getpid() != 1) /* with that one the kernel ends all others */
                kill_all(proc);
        if (*root)
                (void)remove_tree(AT_FDCWD, root);
        exit(0);
}
