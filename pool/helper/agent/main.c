/* SPDX-License-Identifier: MIT */

/*
 * modalpool-helper serve [-f] SOCKET
 * modalpool-helper serve -c [-a] [-o PATH] [-r ROOT] [-s SHELL] DIRECTORY
 * modalpool-helper attach SOCKET
 * modalpool-helper save PID LIMIT
 *
 * The program inside a sandbox (protocol.h says what for). It needs nothing of the sandbox but a shell to run jobs, and
 * /proc, without which a kill finds no process that has left its group.
 *
 * `serve SOCKET` reads the key of 16 bytes from stdin, listens on SOCKET, and goes on in the background; it returns when
 * one can attach. With -f it stays in the foreground, and then its stdin, stdout and stderr are closed when one can
 * attach. SOCKET's directory is made if need be, and holds commands that are too long for an argument.
 *
 * `serve -c` stays in the foreground as the first process of a sandbox of this machine. Its stdin is the daemon's socket
 * (control.h). DIRECTORY is made if need be, and holds long commands. -s refuses to start where there is no such shell.
 * -a: descriptor 3 is an archive (archive.h), which is unpacked before anything else.
 * -o is where the next daemon listens, when this one is gone.
 * -r serves a sandbox without a file system of its own: ROOT holds the workdirs and what is below them, and is removed
 * at the end.
 *
 * `save` is not for inside: it writes such an archive of a sandbox of this machine.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/helper/agent/archive.h"
#include "pool/helper/agent/attach.h"
#include "pool/helper/agent/carrier.h"
#include "pool/helper/agent/channels.h"
#include "pool/helper/agent/control.h"
#include "pool/helper/agent/files/files.h"
#include "pool/helper/agent/jobs.h"
#include "pool/helper/agent/loop.h"
#include "pool/helper/agent/origin.h"
#include "pool/helper/agent/shutdown.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"

#define ARCHIVE_FD 3 /* of -a */

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static int say(const char *what, int r) {
        fprintf(stderr, "modalpool-helper: %s: %s\n", what, strerror(-r));
        return 1;
}

/* what it serves */

static int read_key(uint8_t key[HELPER_KEY_SIZE]) {
        size_t done = 0;

        while (done < HELPER_KEY_SIZE) {
                ssize_t n = read(STDIN_FILENO, key + done, HELPER_KEY_SIZE - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -ENODATA;
                done += n;
        }
        return 0;
}

/* A socket of an earlier helper is replaced, but not while that one serves. */
static int listen_at(const char *path, int *out) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        mode_t mask;
        int r;

        if (fd < 0)
                return -errno;
        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN)
                return -EADDRINUSE;
        unlink(path);
        mask = umask(0177);
        r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        umask(mask);
        if (r == 0 && listen(fd, 16) < 0)
                r = -errno;
        if (r == 0)
                *out = TAKE_FD(fd);
        return r;
}

/* how it lives */

static int read_oom_score(void) {
        _cleanup_(cleanup_close) int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
        char text[16] = "";

        return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? atoi(text) : 0;
}

/* When memory is short, others are to go first; where that is not allowed, it stays as it is. */
static void lower_oom_score(void) {
        _cleanup_(cleanup_close) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

        if (fd >= 0)
                (void)!write(fd, "-1000", 5);
}

/* None is ignored, as its starter may have left them, and none is delivered: `kill -TERM -1` in a job is not for us. */
static void take_signals(sigset_t *child) {
        sigset_t all;

        for (int signo = 1; signo < NSIG; signo++)
                signal(signo, SIG_DFL);
        sigemptyset(child);
        sigaddset(child, SIGCHLD);
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
}

static void close_inherited(void) {
        if (syscall(SYS_close_range, 3, ~0U, 0) == 0)
                return;
        for (int fd = 3; fd < 1024; fd++)
                close(fd);
}

/* 0, 1 and 2 must be open, lest a pipe of a job gets such a number; where there is no /dev/null, on anything. */
static void close_stdio(void) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (fd < 0)
                fd = open("/", O_PATH | O_CLOEXEC);
        for (int i = 0; i < 3; i++)
                dup2(fd, i);
        if (fd > 2)
                close(fd);
}

static void become_daemon(void) {
        setsid();
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        prctl(PR_SET_DUMPABLE, 0);
        lower_oom_score();
        (void)!chdir("/");
        umask(022);
}

/* the loop */

static int child_fd;

static void on_child(struct loop_source *source, uint32_t events) {
        struct signalfd_siginfo info[8];
        int status;
        pid_t pid;

        (void)!read(child_fd, info, sizeof(info));
        while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
                if (WIFSTOPPED(status))
                        helper_jobs_stopped(pid);
                else
                        helper_jobs_reaped(pid, status);
        }
}

static struct loop_source child_source = { .ready = on_child };

static _Noreturn void run(void) {
        for (;;) {
                int64_t of_daemon = clock_earlier(control_tick(), clock_earlier(carriers_tick(), channels_tick()));
                int64_t next = clock_earlier(helper_jobs_tick(), of_daemon);

                loop_turn(carriers_send() ? 0 : next);
        }
}

/* the start */

struct options {
        const char *socket; /* to listen on, or NULL */
        const char *dir;
        const char *root, *shell; /* or "" */
        const char *next_daemon;  /* or NULL */
        bool foreground, controlled;
        bool archive;
};

static struct options options = { .root = "", .shell = "" };
static int proc;

static void on_daemon_gone(void) {
        shut_down(proc, options.root);
}

/* In children. */
static void forget_keys(void) {
        carriers_forget_key();
        control_forget_key();
}

/* As execvp() finds it. */
static bool is_program(const char *name) {
        char path[4096];

        if (strchr(name, '/'))
                return access(name, X_OK) == 0;
        for (const char *dir = getenv("PATH") ?: ""; *dir;) {
                size_t len = strcspn(dir, ":");

                snprintf(path, sizeof(path), "%.*s/%s", (int)len, dir, name);
                if (access(path, X_OK) == 0)
                        return true;
                dir += len + (dir[len] == ':');
        }
        return false;
}

/* @fd: listens, or is the daemon's socket. */
static int init(int fd, const uint8_t *key, int oom_score) {
        struct job_context context = {
                .dir = options.dir, .root = options.root, .oom_score = oom_score, .forget = forget_keys
        };
        sigset_t child;
        int r;

        context.proc = proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        take_signals(&child);
        r = origin_note(options.dir, options.root, proc);
        if (r == 0)
                r = loop_init();
        if (r == 0) {
                child_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
                r = child_fd < 0 ? -errno : loop_add(child_fd, &child_source, EPOLLIN);
        }
        if (r == 0)
                r = helper_jobs_init(&context);
        carriers_init(key);
        files_init(options.root);
        if (r < 0)
                return r;
        return options.controlled ? control_init(fd, key, options.next_daemon, on_daemon_gone) : carriers_listen(fd);
}

/* Where carriers come from. 0, or -errno with what failed in @what. */
static int open_source(int *fd, const char **what) {
        int r;

        *what = options.dir;
        r = make_path(AT_FDCWD, options.dir, 0711); /* others pass through it to a file of theirs, and see nothing */
        if (r < 0)
                return r;
        if (!options.controlled) {
                *what = options.socket;
                return listen_at(options.socket, fd);
        }
        *what = "the daemon's socket";
        *fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        return *fd < 0 ? -errno : 0;
}

static int serve(void) {
        uint8_t key[HELPER_KEY_SIZE];
        int fd = -1, oom_score = read_oom_score(), r;
        const char *what;

        r = options.archive ? archive_unpack(ARCHIVE_FD) : 0;
        if (r < 0)
                return say("the snapshot cannot be unpacked", r);
        close_inherited();
        r = read_key(key);
        if (r < 0)
                return say("no key on stdin", r);
        if (*options.shell && !is_program(options.shell)) {
                fprintf(stderr, "option shell: there is no program %s\n", options.shell);
                return 1;
        }
        r = open_source(&fd, &what);
        if (r < 0)
                return say(what, r);
        if (!options.foreground) {
                pid_t pid = fork();

                if (pid != 0)
                        return pid < 0 ? say("fork", -errno) : 0;
        }
        become_daemon();
        r = init(fd, key, oom_score);
        if (r < 0)
                return say("starting", r);
        explicit_bzero(key, sizeof(key));
        if (options.controlled)
                (void)send(fd, "", 1, MSG_NOSIGNAL); /* where the daemon is gone, the loop sees it */
        close_stdio();
        run();
}

/* The directory of a socket. */
static bool use_socket(const char *path) {
        static char dir[4096];
        char *slash;

        if (*path != '/' || strlen(path) >= sizeof(dir))
                return false;
        strcpy(dir, path);
        slash = strrchr(dir, '/');
        slash[slash == dir] = '\0';
        options.socket = path;
        options.dir = dir;
        return true;
}

static bool read_options(int argc, char **argv) {
        int option;

        while ((option = getopt(argc, argv, "acfo:r:s:")) >= 0)
                switch (option) {
                case 'a':
                        options.archive = true;
                        break;
                case 'c':
                        options.controlled = options.foreground = true;
                        break;
                case 'f':
                        options.foreground = true;
                        break;
                case 'o':
                        options.next_daemon = optarg;
                        break;
                case 'r':
                        options.root = optarg;
                        break;
                case 's':
                        options.shell = optarg;
                        break;
                default:
                        return false;
                }
        if (optind != argc - 1)
                return false;
        options.dir = argv[optind];
        return options.controlled || use_socket(argv[optind]);
}

int main(int argc, char **argv) {
        if (argc > 2 && strcmp(argv[1], "serve") == 0 && read_options(argc - 1, argv + 1))
                return serve();
        if (argc == 3 && strcmp(argv[1], "attach") == 0)
                return attach(argv[2]);
        if (argc == 4 && strcmp(argv[1], "save") == 0)
                return archive_save(argv[2], argv[3]);
        fprintf(stderr, "usage: modalpool-helper serve [-f] SOCKET | serve -c [-a] [-o PATH] [-r ROOT] [-s SHELL] DIRECTORY | "
                        "attach SOCKET | save PID LIMIT\n");
        return 2;
}
