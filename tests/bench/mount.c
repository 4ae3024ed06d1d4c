/* SPDX-License-Identifier: MIT */

/*
 * A user of the mount, by plain system calls. It does what bench.py asks for,
 * line by line, and answers each with a line of JSON.
 *
 *   bench-mount MOUNTPOINT
 *
 *   jobs N AT SIZE COMMAND    N jobs in each of AT leases: write cmd, read output, read exit_code
 *   submit N AT 0 COMMAND     N named jobs in each of AT leases, all at once
 *   collect N AT SIZE -       read output and exit_code of each of these, and forget it
 *   forget N AT 0 -           forget each of these, which kills it
 *   stream 1 1 SIZE COMMAND   one job, its output thrown away as it comes
 *   mkdir N 0 0 -             mkdir alone
 *   acquire N 0 0 -           mkdir, and until the lease has its environment
 *   leases N 0 0 -            have so many, each with its environment
 *   drop 0 0 0 -              have none
 *   stat N 0 0 -              of a file in the newest lease
 *
 * The answer: the nanoseconds each took where that is what counts, those of all
 * together, and those of processor time that this process used.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TIMES_MAX 200000
#define BUFFER_SIZE (1 << 20)

static int root, n_leases;
static int64_t times[TIMES_MAX];
static int n_times;

static void die(const char *what) {
        fprintf(stderr, "bench-mount: %s: %s\n", what, strerror(errno));
        exit(1);
}

static int64_t now_ns(clockid_t clock) {
        struct timespec ts;

        clock_gettime(clock, &ts);
        return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void note(int64_t began) {
        if (n_times < TIMES_MAX)
                times[n_times++] = now_ns(CLOCK_MONOTONIC) - began;
}

/* a lease */

static void lease_path(char *out, size_t size, int lease, const char *file) {
        snprintf(out, size, "lease-%d%s%s", lease, *file ? "/" : "", file);
}

static int open_file(int lease, const char *file, int flags) {
        char path[64];
        int fd;

        lease_path(path, sizeof(path), lease, file);
        fd = openat(root, path, flags);
        if (fd < 0)
                die(path);
        return fd;
}

/* All of a file, thrown away but for the beginning; how many bytes it had. */
static uint64_t drain(int lease, const char *file, char *buffer, size_t size) {
        int fd = open_file(lease, file, O_RDONLY);
        uint64_t total = 0;
        ssize_t n;

        while ((n = read(fd, buffer, size)) > 0)
                total += n;
        if (n < 0)
                die(file);
        close(fd);
        return total;
}

static void have_leases(int n) {
        char path[64], id[256];

        for (int i = n_leases; i < n; i++) {
                lease_path(path, sizeof(path), i, "");
                if (mkdirat(root, path, 0700) < 0)
                        die(path);
        }
        for (; n_leases < n; n_leases++)
                drain(n_leases, "environment", id, sizeof(id));
}

static void drop_leases(void) {
        char path[64];

        while (n_leases > 0) {
                lease_path(path, sizeof(path), --n_leases, "");
                if (unlinkat(root, path, AT_REMOVEDIR) < 0)
                        die(path);
        }
}

/* jobs */

struct work {
        pthread_t thread;
        int lease, n;
        uint64_t size;
        const char *command;
        bool timed;
};

static void complain(int lease, const char *code) {
        char why[512] = "";

        drain(lease, "error", why, sizeof(why) - 1);
        fprintf(stderr, "bench-mount: lease-%d: exit code \"%s\": %s\n", lease, code, why);
        exit(1);
}

static void run_job(const struct work *w, char *buffer, size_t size) {
        size_t len = strlen(w->command);
        char code[16] = "";
        int fd = open_file(w->lease, "cmd", O_WRONLY);

        if (write(fd, w->command, len) != (ssize_t)len || close(fd) < 0)
                die("cmd");
        if (drain(w->lease, "output", buffer, size) != w->size)
                die("the output has the wrong size");
        if (drain(w->lease, "exit_code", code, sizeof(code) - 1) != 2 || code[0] != '0')
                complain(w->lease, code);
}

static void *run_jobs(void *data) {
        struct work *w = data;
        char buffer[4096];

        for (int i = 0; i < w->n; i++) {
                int64_t began = now_ns(CLOCK_MONOTONIC);

                run_job(w, buffer, sizeof(buffer));
                if (w->timed)
                        note(began);
        }
        return NULL;
}

static void jobs(int n, int at, uint64_t size, const char *command) {
        struct work *w = calloc(at, sizeof(*w));

        if (!w)
                die("jobs");
        for (int i = 0; i < at; i++)
                w[i] = (struct work){ .lease = i, .n = n, .size = size, .command = command, .timed = at == 1 };
        if (at == 1) {
                run_jobs(w);
        } else {
                pthread_attr_t small;

                pthread_attr_init(&small);
                pthread_attr_setstacksize(&small, 64 << 10);
                for (int i = 0; i < at; i++)
                        if ((errno = pthread_create(&w[i].thread, &small, run_jobs, &w[i])))
                                die("a thread");
                for (int i = 0; i < at; i++)
                        pthread_join(w[i].thread, NULL);
        }
        free(w);
}

/* named jobs */

static void submit(int n, int at, const char *command) {
        size_t len = strlen(command);
        char path[64], file[32];

        for (int i = 0; i < at * n; i++) {
                int fd;

                snprintf(file, sizeof(file), "jobs/j%d", i / at);
                lease_path(path, sizeof(path), i % at, file);
                if (mkdirat(root, path, 0700) < 0)
                        die(path);
                snprintf(file, sizeof(file), "jobs/j%d/cmd", i / at);
                fd = open_file(i % at, file, O_WRONLY);
                if (write(fd, command, len) != (ssize_t)len || close(fd) < 0)
                        die("cmd");
        }
}

static void forget(int lease, int job) {
        char path[64], file[32];

        snprintf(file, sizeof(file), "jobs/j%d", job);
        lease_path(path, sizeof(path), lease, file);
        if (unlinkat(root, path, AT_REMOVEDIR) < 0)
                die(path);
}

static void collect(int n, int at, uint64_t size) {
        char buffer[4096], file[32], code[16];

        for (int i = 0; i < at * n; i++) {
                snprintf(file, sizeof(file), "jobs/j%d/output", i / at);
                if (drain(i % at, file, buffer, sizeof(buffer)) != size)
                        die("the output has the wrong size");
                snprintf(file, sizeof(file), "jobs/j%d/exit_code", i / at);
                if (drain(i % at, file, code, sizeof(code)) != 2 || code[0] != '0')
                        die("the exit code of a named job");
                forget(i % at, i / at);
        }
}

static void stream(uint64_t size, const char *command) {
        static char buffer[BUFFER_SIZE];

        run_job(&(struct work){ .size = size, .command = command }, buffer, sizeof(buffer));
}

/* directories */

static void directories(int n, bool with_environment) {
        for (int i = 0; i < n; i++) {
                int64_t began = now_ns(CLOCK_MONOTONIC);
                char id[256];
                int fd;

                if (mkdirat(root, "bench-acquire", 0700) < 0)
                        die("mkdir");
                if (with_environment) {
                        fd = openat(root, "bench-acquire/environment", O_RDONLY);
                        if (fd < 0 || read(fd, id, sizeof(id)) <= 0)
                                die("environment");
                        close(fd);
                }
                note(began);
                if (unlinkat(root, "bench-acquire", AT_REMOVEDIR) < 0)
                        die("rmdir");
        }
}

static void stats(int n) {
        char path[64];
        struct stat st;

        lease_path(path, sizeof(path), n_leases - 1, "status");
        for (int i = 0; i < n; i++) {
                int64_t began = now_ns(CLOCK_MONOTONIC);

                if (fstatat(root, path, &st, 0) < 0)
                        die(path);
                note(began);
        }
}

static void answer(char *line) {
        char verb[16], command[256];
        int64_t began, used;
        uint64_t size;
        int n, at;

        if (sscanf(line, "%15s %d %d %lu %255[^\n]", verb, &n, &at, &size, command) != 5) {
                errno = EINVAL;
                die(line);
        }
        n_times = 0;
        if (!strcmp(verb, "jobs") || !strcmp(verb, "submit") || !strcmp(verb, "stream"))
                have_leases(at);
        began = now_ns(CLOCK_MONOTONIC);
        used = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        if (!strcmp(verb, "jobs"))
                jobs(n, at, size, command);
        else if (!strcmp(verb, "submit"))
                submit(n, at, command);
        else if (!strcmp(verb, "collect"))
                collect(n, at, size);
        else if (!strcmp(verb, "forget"))
                for (int i = 0; i < at * n; i++)
                        forget(i % at, i / at);
        else if (!strcmp(verb, "stream"))
                stream(size, command);
        else if (!strcmp(verb, "mkdir") || !strcmp(verb, "acquire"))
                directories(n, *verb == 'a');
        else if (!strcmp(verb, "leases"))
                have_leases(n);
        else if (!strcmp(verb, "drop"))
                drop_leases();
        else if (!strcmp(verb, "stat"))
                stats(n);
        printf("{\"wall_ns\": %ld, \"cpu_ns\": %ld, \"ns\": [", now_ns(CLOCK_MONOTONIC) - began,
               now_ns(CLOCK_PROCESS_CPUTIME_ID) - used);
        for (int i = 0; i < n_times; i++)
                printf("%s%ld", i ? ", " : "", times[i]);
        printf("]}\n");
        fflush(stdout);
}

int main(int argc, char **argv) {
        char line[512];

        if (argc != 2) {
                fprintf(stderr, "usage: bench-mount MOUNTPOINT\n");
                return 2;
        }
        root = open(argv[1], O_RDONLY | O_DIRECTORY);
        if (root < 0)
                die(argv[1]);
        printf("{\"ready\": true}\n");
        fflush(stdout);
        while (fgets(line, sizeof(line), stdin))
                answer(line);
        drop_leases();
        return 0;
}
