/* SPDX-License-Identifier: MIT */

/*
 * crowd N: a thread for each of the leases t0 to tN-1 in the current directory;
 * all at once write cmd, close it, and ask for the newest job. Prints how many
 * did not find their own.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static int missed;

static int open_in(int lease, const char *file, int flags) {
        char path[64];
        int fd;

        snprintf(path, sizeof(path), "t%d/%s", lease, file);
        fd = open(path, flags);
        if (fd < 0) {
                perror(path);
                exit(1);
        }
        return fd;
}

static void *submit(void *data) {
        int lease = (int)(long)data, fd;
        char status[1024] = "";

        pthread_barrier_wait(&barrier);
        fd = open_in(lease, "cmd", O_WRONLY);
        if (write(fd, "true", 4) != 4)
                exit(1);
        close(fd);
        fd = open_in(lease, "status", O_RDONLY);
        if (read(fd, status, sizeof(status) - 1) < 0)
                exit(1);
        close(fd);
        if (!strstr(status, "newest 1\n"))
                __atomic_add_fetch(&missed, 1, __ATOMIC_RELAXED);
        return NULL;
}

int main(int argc, char **argv) {
        int n = argc == 2 ? atoi(argv[1]) : 0;
        pthread_t *threads = calloc(n + 1, sizeof(*threads));

        if (!threads)
                return 1;
        pthread_barrier_init(&barrier, NULL, n);
        for (long i = 0; i < n; i++)
                if (pthread_create(&threads[i], NULL, submit, (void *)i))
                        return 1;
        for (int i = 0; i < n; i++)
                pthread_join(threads[i], NULL);
        printf("%d\n", missed);
        free(threads);
        return 0;
}
