/* SPDX-License-Identifier: MIT */

/* multitude N: so many processes that do nothing, and share their memory so as to cost little. They end with it. */

#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define STACK 16384

static int wait_for_ever(void *unused) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
                pause();
}

int main(int argc, char **argv) {
        int n = argc > 1 ? atoi(argv[1]) : 0;
        char *stacks = mmap(NULL, (size_t)n * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (stacks == MAP_FAILED)
                return 1;
        for (int i = 1; i <= n; i++)
                if (clone(wait_for_ever, stacks + (size_t)i * STACK, CLONE_VM | SIGCHLD, NULL) < 0) {
                        perror("clone");
                        return 1;
                }
        printf("%d\n", n);
        fflush(stdout);
        pause();
        return 0;
}
