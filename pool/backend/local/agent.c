/* SPDX-License-Identifier: MIT */

/*
 * modalpool-agent RUNDIR TMPDIR SHELL [ENVDIR]: the first process of a local environment.
 *
 * Starts jobs, reaps them, signals them by their mark, cleans up after a
 * lease. Inside bubblewrap it is process 1 of its own PID namespace, so its
 * end is the end of everything; without (isolate=none) it is a subreaper, to
 * which every process that its jobs leave behind comes back, and it removes
 * ENVDIR when it ends. RUNDIR holds scripts that are too long for an argument,
 * TMPDIR is what the environment has for its own /tmp.
 * It does not start where SHELL, unless empty, is not there to run jobs.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/backend/backend.h"
#include "pool/backend/local/protocol.h"
#include "pool/util/buf.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"
#include "pool/util/list.h"
#include "pool/util/text.h"

#define ARGUMENT_MAX 120000 /* bytes; Linux takes 128 KiB in one argument (MAX_ARG_STRLEN) */
#define ROOM (64 << 10)     /* bytes that a lease must be able to write */
#define KILL_ROUNDS 100     /* scans for processes that were forked during the last scan */
#define MARK EXEC_MARK "="

extern char **environ;

struct job {
        struct list link;
        uint32_t number;
        pid_t pid;
        char *mark; /* MODALPOOL_JOB=…, as it stands in the environment of its processes */
        bool script;
};

static struct list jobs = LIST_INIT(jobs);
static const char *run_dir, *tmp_dir;
static mode_t tmp_mode; /* as it was at first */
static const char *default_shell;

static void reply(enum agent_reply_type type, uint32_t job, int code, const char *text) {
        struct agent_reply r = { .type = type, .job = job, .code = code };

        snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, text);
        /* The daemon always reads; when it is gone, the main loop sees that. */
        (void)send(AGENT_FD, &r, sizeof(r), MSG_NOSIGNAL);
}

static void script_path(uint32_t number, char *path, size_t len) {
        snprintf(path, len, "%s/job-%" PRIu32, run_dir, number);
}

static void job_free(struct job *j) {
        char path[AGENT_TEXT_MAX];

        if (j->script) {
                script_path(j->number, path, sizeof(path));
                unlink(path);
        }
        list_remove(&j->link);
        free(j->mark);
        free(j);
}

/* processes */

struct process {
        pid_t pid, parent, session;
        char state;
};

static bool read_process(const char *name, struct process *p) {
        char path[64], stat[512];
        _cleanup_(cleanup_close) int fd = -1;
        char *rest;
        ssize_t n;

        p->pid = atoi(name);
        if (p->pid <= 0)
                return false;
        snprintf(path, sizeof(path), "/proc/%d/stat", p->pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, stat, sizeof(stat) - 1);
        if (n <= 0)
                return false;
        stat[n] = '\0';
        rest = strrchr(stat, ')'); /* the name may hold anything */
        return rest && sscanf(rest + 1, " %c %d %*d %d", &p->state, &p->parent, &p->session) == 3;
}

static bool has_mark(pid_t pid, const char *mark) {
        struct buf environment = BUF_INIT(4 << 20);
        char path[64], chunk[8192];
        size_t len = strlen(mark) + 1; /* with its NUL */
        bool found = false;
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/environ", pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        while ((n = read(fd, chunk, sizeof(chunk))) > 0 && buf_append(&environment, chunk, n) == 0)
                ;
        close(fd);
        for (const char *p = environment.data, *end = p + environment.len; p && p < end && !found;) {
                const char *next = memchr(p, '\0', end - p);

                if (!next)
                        break;
                found = (size_t)(next + 1 - p) == len && !memcmp(p, mark, len);
                p = next + 1;
        }
        buf_deinit(&environment);
        return found;
}

/* A growing set of process numbers; small sets, so a plain array. */
struct pids {
        pid_t *pid;
        size_t n, size;
};

static bool pids_have(const struct pids *s, pid_t pid) {
        for (size_t i = 0; i < s->n; i++)
                if (s->pid[i] == pid)
                        return true;
        return false;
}

static void pids_add(struct pids *s, pid_t pid) {
        if (s->n == s->size) {
                size_t size = s->size ? s->size * 2 : 64;
                pid_t *more = realloc(s->pid, size * sizeof(*more));

                if (!more)
                        return;
                s->pid = more;
                s->size = size;
        }
        s->pid[s->n++] = pid;
}

/*
 * The processes of a job: those that carry its mark, those of its session, and
 * all their descendants. With @j NULL: every descendant of the agent.
 */
static void find_processes(const struct job *j, struct pids *out) {
        struct process all[4096];
        size_t n = 0;
        struct dirent *e;
        bool more = true;
        DIR *proc;

        out->n = 0;
        proc = opendir("/proc");
        if (!proc)
                return;
        while (n < sizeof(all) / sizeof(all[0]) && (e = readdir(proc)))
                if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && read_process(e->d_name, &all[n]) &&
                    all[n].pid != getpid())
                        n++;
        closedir(proc);

        while (more) {
                more = false;
                for (size_t i = 0; i < n; i++) {
                        pid_t parent = all[i].parent;
                        bool ours;

                        if (all[i].state == 'Z' || pids_have(out, all[i].pid))
                                continue;
                        if (j)
                                ours = all[i].pid == j->pid || all[i].session == j->pid ||
                                       pids_have(out, parent) || has_mark(all[i].pid, j->mark);
                        else
                                ours = parent == getpid() || pids_have(out, parent);
                        if (ours) {
                                pids_add(out, all[i].pid);
                                more = true;
                        }
                }
        }
}

static void signal_job(const struct job *j, int signo) {
        struct pids found = {};

        /* Once for a signal that can be handled; until nothing is left for the one that cannot. */
        for (int round = 0; round < (signo == SIGKILL ? KILL_ROUNDS : 1); round++) {
                find_processes(j, &found);
                if (found.n == 0)
                        break;
                for (size_t i = 0; i < found.n; i++)
                        kill(found.pid[i], signo);
        }
        free(found.pid);
}

/* Kill and reap every other process of the environment. Returns when there is none. */
static void kill_everything(void) {
        struct pids found = {};

        for (;;) {
                if (getpid() == 1) {
                        kill(-1, SIGKILL);
                } else {
                        find_processes(NULL, &found);
                        for (size_t i = 0; i < found.n; i++)
                                kill(found.pid[i], SIGKILL);
                }
                if (waitpid(-1, NULL, 0) < 0 && errno == ECHILD)
                        break;
        }
        free(found.pid);
}

/* requests */

struct strings {
        const char *next, *end;
};

/* The next string, or NULL where there is none whole. */
static const char *take_string(struct strings *s) {
        const char *string = s->next;
        const char *end = memchr(string, '\0', s->end - string);

        if (!end)
                return NULL;
        s->next = end + 1;
        return string;
}

/* The agent's own environment and @n strings over it; a later one of the same key wins. */
static const char **merge_environment(struct strings *s, uint32_t n, const char **mark) {
        size_t own = 0, used = 0;
        const char **merged;

        while (environ[own])
                own++;
        merged = calloc(own + n + 1, sizeof(*merged));
        if (!merged)
                return NULL;
        for (size_t i = 0; i < own + n; i++) {
                const char *entry = i < own ? environ[i] : take_string(s);
                size_t key, at;

                if (!entry)
                        break;
                key = strcspn(entry, "=") + 1;
                for (at = 0; at < used && strncmp(merged[at], entry, key); at++)
                        ;
                merged[at] = entry;
                used += at == used;
                if (!strncmp(entry, MARK, strlen(MARK)))
                        *mark = entry;
        }
        return merged;
}

static int prepare_workdir(const char *workdir) {
        int r = remove_tree(AT_FDCWD, workdir);

        return r < 0 ? r : make_path(AT_FDCWD, workdir, 0755);
}

static int open_cwd(const char *workdir, const char *cwd) {
        _cleanup_(cleanup_close) int base = -1;
        int fd;

        if (*cwd == '/') {
                fd = open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
        } else {
                base = open(workdir, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (base < 0)
                        return -errno;
                fd = openat(base, *cwd ? cwd : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        }
        return fd < 0 ? -errno : fd;
}

/* Long commands go by way of a script, which the shell reads in as its own text. */
static int write_script(struct job *j, const char *command, struct buf *line) {
        _cleanup_(cleanup_close) int fd = -1;
        char path[AGENT_TEXT_MAX];
        int r;

        script_path(j->number, path, sizeof(path));
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        j->script = true;
        r = write_at(fd, command, strlen(command), 0);
        if (r == 0)
                r = buf_append(line, ". ", 2);
        return r < 0 ? r : text_quote(path, line);
}

static int spawn(struct job *j, const char *shell, const char *command, int cwd, const int fds[3],
                 const char **env) {
        const char *argv[] = { shell, "-c", command, NULL };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        int r;

        sigemptyset(&none);
        sigfillset(&all);
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        posix_spawnattr_setflags(&attributes,
                                 POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawn_file_actions_addfchdir_np(&actions, cwd);
        for (int i = 0; i < 3; i++)
                posix_spawn_file_actions_adddup2(&actions, fds[i], i);
        r = posix_spawnp(&j->pid, shell, &actions, &attributes, (char *const *)argv, (char *const *)env);
        posix_spawn_file_actions_destroy(&actions);
        posix_spawnattr_destroy(&attributes);
        return -r;
}

/* 0, or -errno with what failed in @what. -ENOTDIR: the cwd, which is the job's own affair. */
static int start_job(const struct agent_request *q, struct strings s, const int fds[3], char what[AGENT_TEXT_MAX]) {
        const char *shell, *workdir, *cwd, *command, *mark = NULL;
        _cleanup_(cleanup_free) const char **env = NULL;
        _cleanup_(cleanup_close) int cwd_fd = -1;
        struct buf line = BUF_INIT(2 * AGENT_TEXT_MAX);
        struct job *j;
        int r = 0;

        strcpy(what, "reading the request");
        shell = take_string(&s);
        workdir = shell ? take_string(&s) : NULL;
        cwd = workdir ? take_string(&s) : NULL;
        env = cwd ? merge_environment(&s, q->n_env, &mark) : NULL;
        command = env ? take_string(&s) : NULL;
        if (!command || !mark)
                return -EPROTO;

        if (q->fresh) {
                strcpy(what, "making the workdir");
                r = prepare_workdir(workdir);
                if (r < 0)
                        return r;
        } else {
                (void)make_path(AT_FDCWD, workdir, 0755); /* when that is no help, the cwd is not there */
        }
        cwd_fd = open_cwd(workdir, cwd);
        if (cwd_fd < 0) {
                snprintf(what, AGENT_TEXT_MAX, "cwd: %s%s%s is not a directory there", *cwd == '/' ? "" : workdir,
                         *cwd == '/' || !*cwd ? "" : "/", cwd);
                return -ENOTDIR;
        }

        shell = *shell ? shell : default_shell;
        snprintf(what, AGENT_TEXT_MAX, "starting the shell %s", shell);
        j = calloc(1, sizeof(*j));
        if (!j)
                return -ENOMEM;
        list_init(&j->link);
        j->number = q->job;
        j->mark = strdup(mark);
        if (!j->mark)
                r = -ENOMEM;
        if (r == 0 && strlen(command) > ARGUMENT_MAX) {
                strcpy(what, "writing the script");
                r = write_script(j, command, &line);
                command = buf_text(&line);
        }
        if (r == 0)
                r = spawn(j, shell, command, cwd_fd, fds, env);
        buf_deinit(&line);
        if (r < 0) {
                job_free(j);
                return r;
        }
        list_add_tail(&jobs, &j->link);
        return 0;
}

static void do_exec(const struct agent_request *q, const int fds[4]) {
        char what[AGENT_TEXT_MAX] = "reading the request", text[AGENT_TEXT_MAX + 64];
        struct stat st;
        char *map = MAP_FAILED;
        int r;

        if (fstat(fds[0], &st) == 0 && st.st_size > 0)
                map = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fds[0], 0);
        if (map == MAP_FAILED) {
                r = -EIO;
        } else {
                r = start_job(q, (struct strings){ map, map + st.st_size }, fds + 1, what);
                munmap(map, st.st_size);
        }
        if (r == 0) {
                reply(AGENT_STARTED, q->job, 0, "");
        } else if (r == -ENOTDIR) {
                reply(AGENT_STARTED, q->job, 0, "");
                reply(AGENT_ENDED, q->job, 126, what);
        } else {
                snprintf(text, sizeof(text), "%s: %s", what, strerror(-r));
                reply(AGENT_FAILED, q->job, 0, text);
        }
}

static void do_signal(const struct agent_request *q) {
        struct job *j;

        list_for_each (j, &jobs, link)
                if (j->number == q->job) {
                        signal_job(j, q->signo);
                        return;
                }
}

static void reap(void) {
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                struct job *j, *tmp;

                list_for_each_safe (j, tmp, &jobs, link)
                        if (j->pid == pid) {
                                reply(AGENT_ENDED, j->number,
                                      WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status), "");
                                job_free(j);
                        }
        }
}

/* Those that ended are told first. */
static void do_poll(const struct agent_request *q) {
        bool running = false;
        struct job *j;

        reap();
        list_for_each (j, &jobs, link)
                running |= j->number == q->job;
        reply(AGENT_POLLED, q->job, running, "");
}

/* Made anew, as a job may have put something else in its place. */
static int empty_tmp(void) {
        int r = remove_tree(AT_FDCWD, tmp_dir);

        if (r == 0 && mkdir(tmp_dir, 0700) < 0)
                r = -errno;
        return r == 0 && chmod(tmp_dir, tmp_mode) < 0 ? -errno : r;
}

static int try_to_write(const char *dir) {
        static const char bytes[ROOM];
        _cleanup_(cleanup_close) int fd = -1;
        char path[AGENT_TEXT_MAX + 16];
        int r;

        snprintf(path, sizeof(path), "%s/.modalpool", dir);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_at(fd, bytes, sizeof(bytes), 0);
        return unlink(path) < 0 && r == 0 ? -errno : r;
}

/* 0, or -errno with what failed in @what. */
static int clean(const char *workdir, const char **what) {
        struct stat st;
        int r;

        *what = "removing the workdir";
        r = remove_tree(AT_FDCWD, workdir);
        if (r < 0)
                return r;
        *what = "emptying the directory for temporary files";
        r = empty_tmp();
        if (r < 0)
                return r;
        *what = "writing a temporary file";
        r = try_to_write(tmp_dir);
        if (r < 0)
                return r;
        *what = "writing a file in the workdir";
        r = make_path(AT_FDCWD, workdir, 0755);
        if (r == 0)
                r = try_to_write(workdir);
        if (r < 0)
                return r;
        *what = "removing the workdir again";
        r = remove_tree(AT_FDCWD, workdir);
        if (r < 0)
                return r;
        return lstat(workdir, &st) == 0 ? -EEXIST : errno == ENOENT ? 0 : -errno;
}

static void do_clean(const struct agent_request *q) {
        const char *what = "";
        struct job *j, *tmp;
        char text[256] = "";
        int r;

        kill_everything();
        list_for_each_safe (j, tmp, &jobs, link)
                job_free(j);
        r = clean(q->text, &what);
        if (r < 0)
                snprintf(text, sizeof(text), "%s: %s", what, strerror(-r));
        reply(AGENT_CLEANED, 0, 0, text);
}

/* False when the daemon is gone. */
static bool serve_request(void) {
        struct agent_request q = {};
        union {
                struct cmsghdr align;
                char space[CMSG_SPACE(4 * sizeof(int))];
        } control;
        struct iovec iov = { &q, sizeof(q) - 1 };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        int fds[4] = { -1, -1, -1, -1 };
        struct cmsghdr *c;
        ssize_t n;

        n = recvmsg(AGENT_FD, &m, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
                return true;
        if (n <= 0)
                return false;
        c = CMSG_FIRSTHDR(&m);
        if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(fds)))
                memcpy(fds, CMSG_DATA(c), sizeof(fds));
        switch (q.type) {
        case AGENT_EXEC:
                do_exec(&q, fds);
                break;
        case AGENT_SIGNAL:
                do_signal(&q);
                break;
        case AGENT_POLL:
                do_poll(&q);
                break;
        case AGENT_CLEAN:
                do_clean(&q);
                break;
        }
        for (int i = 0; i < 4; i++)
                close_fd(fds[i]);
        return true;
}

/* As posix_spawnp() looks for it. */
static bool is_there(const char *program) {
        char path[AGENT_TEXT_MAX];

        if (strchr(program, '/'))
                return access(program, X_OK) == 0;
        for (const char *dir = getenv("PATH") ?: ""; *dir;) {
                size_t len = strcspn(dir, ":");

                snprintf(path, sizeof(path), "%.*s/%s", (int)len, dir, program);
                if (access(path, X_OK) == 0)
                        return true;
                dir += len + (dir[len] == ':');
        }
        return false;
}

int main(int argc, char **argv) {
        struct pollfd fds[2] = { { .fd = AGENT_FD, .events = POLLIN }, { .events = POLLIN } };
        struct signalfd_siginfo info;
        struct stat st;
        sigset_t mask;

        if (argc < 4) {
                fprintf(stderr, "modalpool-agent is started by modalpool, not by hand\n");
                return 2;
        }
        if (*argv[3] && !is_there(argv[3])) {
                fprintf(stderr, "option shell: there is no program %s", argv[3]);
                return 1;
        }
        run_dir = argv[1];
        tmp_dir = argv[2];
        if (lstat(tmp_dir, &st) < 0) {
                perror(tmp_dir);
                return 1;
        }
        tmp_mode = st.st_mode & 07777;
        umask(022); /* the daemon's own is tighter, and none of the jobs' business */
        default_shell = access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh";

        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        signal(SIGPIPE, SIG_IGN);
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        fcntl(AGENT_FD, F_SETFD, FD_CLOEXEC);
        fds[1].fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fds[1].fd < 0) {
                perror("modalpool-agent: signalfd");
                return 1;
        }

        reply(AGENT_HELLO, 0, 0, "");
        for (;;) {
                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        break;
                if (fds[1].revents) {
                        while (read(fds[1].fd, &info, sizeof(info)) > 0)
                                ;
                        reap();
                }
                if (fds[0].revents && !serve_request())
                        break;
        }

        kill_everything();
        if (argc > 4)
                remove_tree(AT_FDCWD, argv[4]);
        return 0;
}
