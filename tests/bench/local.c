/* SPDX-License-Identifier: MIT */

/*
 * What a job through the mount costs beside the floor.
 *
 *   bench-local MOUNTPOINT     one round trip is open cmd, write, close, open
 *                              output, read to the end, close
 *   bench-local --floor N      what it is held against: posix_spawn, a pipe,
 *                              read to the end, wait; prints nanoseconds each
 *
 * The floor runs the same shell command in a sandbox of the same kind: the
 * program sends itself into a lease as a job's standard input. Rounds of both
 * take turns, so that whatever else the machine does meets both.
 */

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 21
#define PER_ROUND 100
#define COMMAND "echo hi"

extern char **environ;

static void die(const char *what) {
        fprintf(stderr, "bench-local: %s: %s\n", what, strerror(errno));
        exit(1);
}

static double now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void read_to_end(int fd, char *data, size_t size, size_t *len) {
        ssize_t n;

        *len = 0;
        while ((n = read(fd, data + *len, size - *len)) > 0)
                *len += n;
        if (n < 0)
                die("read");
}

/* the floor */

static void spawn_once(void) {
        const char *argv[] = { "bash", "-c", COMMAND, NULL };
        char data[64];
        posix_spawn_file_actions_t actions;
        int fds[2], status;
        size_t len;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                die("pipe");
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
        if (posix_spawn(&pid, "/bin/bash", &actions, NULL, (char *const *)argv, environ) != 0)
                die("posix_spawn");
        posix_spawn_file_actions_destroy(&actions);
        close(fds[1]);
        read_to_end(fds[0], data, sizeof(data), &len);
        close(fds[0]);
        if (waitpid(pid, &status, 0) < 0 || status != 0 || len != 3)
                die("the shell");
}

static int floor_main(int n) {
        double start = now_ns();

        for (int i = 0; i < n; i++)
                spawn_once();
        printf("%.0f\n", (now_ns() - start) / n);
        return 0;
}

/* the mount */

static int lease; /* descriptor of the lease's directory */

static void put(const char *name, const void *data, size_t len) {
        int fd = openat(lease, name, O_WRONLY | O_TRUNC);

        if (fd < 0)
                die(name);
        for (size_t done = 0; done < len;) {
                ssize_t n = write(fd, (const char *)data + done, len - done);

                if (n < 0)
                        die(name);
                done += n;
        }
        close(fd);
}

static size_t get(const char *name, char *data, size_t size) {
        int fd = openat(lease, name, O_RDONLY);
        size_t len;

        if (fd < 0)
                die(name);
        read_to_end(fd, data, size - 1, &len);
        data[len] = '\0';
        close(fd);
        return len;
}

static void send_self(void) {
        static char self[8 << 20], output[256];
        int fd = open("/proc/self/exe", O_RDONLY);
        size_t len;

        if (fd < 0)
                die("/proc/self/exe");
        read_to_end(fd, self, sizeof(self), &len);
        close(fd);
        put("stdin", self, len);
        put("cmd", "cat >/tmp/bench && chmod +x /tmp/bench", 38);
        get("exit_code", output, sizeof(output));
        if (strcmp(output, "0\n"))
                die("sending the floor into the sandbox");
}

static double floor_round(void) {
        char command[64], output[64];

        snprintf(command, sizeof(command), "/tmp/bench --floor %d", PER_ROUND);
        put("cmd", command, strlen(command));
        get("output", output, sizeof(output));
        return atof(output);
}

static double mount_round(void) {
        double start = now_ns();
        char output[64];

        for (int i = 0; i < PER_ROUND; i++) {
                put("cmd", COMMAND, strlen(COMMAND));
                if (get("output", output, sizeof(output)) != 3)
                        die("the output is wrong");
        }
        return (now_ns() - start) / PER_ROUND;
}

static double mkdir_round(int root) {
        double start = now_ns();

        for (int i = 0; i < PER_ROUND; i++)
                if (mkdirat(root, "bench-mkdir", 0700) < 0 || unlinkat(root, "bench-mkdir", AT_REMOVEDIR) < 0)
                        die("mkdir, rmdir");
        return 1e9 * PER_ROUND / (now_ns() - start);
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void print_spread(const char *what, double *values, const char *unit, double scale) {
        qsort(values, ROUNDS, sizeof(*values), compare);
        printf("%-28s median %8.2f %s   quartiles %.2f to %.2f\n", what, values[ROUNDS / 2] * scale, unit,
               values[ROUNDS / 4] * scale, values[ROUNDS * 3 / 4] * scale);
}

int main(int argc, char **argv) {
        double through[ROUNDS], beside[ROUNDS], ratio[ROUNDS], leases[ROUNDS];
        int root;

        if (argc == 3 && !strcmp(argv[1], "--floor"))
                return floor_main(atoi(argv[2]));
        if (argc != 2) {
                fprintf(stderr, "usage: bench-local MOUNTPOINT\n");
                return 2;
        }
        root = open(argv[1], O_RDONLY | O_DIRECTORY);
        if (root < 0 || mkdirat(root, "bench", 0700) < 0)
                die(argv[1]);
        lease = openat(root, "bench", O_RDONLY | O_DIRECTORY);
        if (lease < 0)
                die("bench");
        send_self();
        mount_round();
        floor_round();
        for (int i = 0; i < ROUNDS; i++) {
                through[i] = mount_round();
                beside[i] = floor_round();
                ratio[i] = through[i] / beside[i];
                leases[i] = mkdir_round(root);
        }
        close(lease);
        unlinkat(root, "bench", AT_REMOVEDIR);

        print_spread("job through the mount", through, "us", 1e-3);
        print_spread("posix_spawn, pipe, wait", beside, "us", 1e-3);
        print_spread("ratio", ratio, "  ", 1);
        print_spread("mkdir+rmdir", leases, "/s", 1);
        return 0;
}
