/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/io.h"

extern char **environ;

__attribute__((format(printf, 4, 5))) static bool fail(struct start_failure *why, enum helper_end how, int r,
                                                       const char *format, ...) {
        size_t len;
        va_list ap;

        why->how = how;
        why->value = -r;
        va_start(ap, format);
        vsnprintf(why->text, sizeof(why->text), format, ap);
        va_end(ap);
        len = strlen(why->text);
        if (how == HELPER_END_FAILED)
                snprintf(why->text + len, sizeof(why->text) - len, ": %s", strerror(-r));
        return false;
}

/* strings and variables */

/* Memory until start_release(); NULL when there is none. */
__attribute__((format(printf, 2, 3))) static char *make_string(struct start *s, const char *format, ...) {
        char *string = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&string, format, ap) < 0)
                string = NULL;
        va_end(ap);
        return s->made[s->n_made++] = string;
}

static bool take_strings(struct start *s, struct start_failure *why) {
        const struct start_spec *spec = s->spec;
        const char *next, *end, **names[] = { &s->shell, &s->workdir, &s->cwd, &s->user };
        void *map = mmap(NULL, spec->spec_len, PROT_READ, MAP_PRIVATE, spec->strings, 0);

        if (map == MAP_FAILED)
                return fail(why, HELPER_END_FAILED, -errno, "reading the request");
        next = s->strings = map;
        end = next + spec->spec_len;
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
                *names[i] = spec_string(&next, end);
        for (uint32_t i = 0; i < spec->n_env; i++)
                s->given[i] = (char *)spec_string(&next, end);
        s->command = spec_string(&next, end);
        if (!s->command || s->workdir[0] != '/')
                return fail(why, HELPER_END_FAILED, -EPROTO, "reading the request");
        return true;
}

/* A later variable of the same key wins. */
static void set_variable(char **env, size_t *n, char *entry) {
        size_t key = strcspn(entry, "=") + 1, at;

        for (at = 0; at < *n && strncmp(env[at], entry, key); at++)
                ;
        env[at] = entry;
        *n += at == *n;
}

/* The helper's own variables, those of the user, and those of the job over them. */
static bool merge_variables(struct start *s, struct start_failure *why) {
        const struct account *a = &s->account;
        const char *keys[] = { "HOME", "USER", "LOGNAME" }, *values[] = { a->home, a->name, a->name };
        size_t own = 0, n = 0;
        char **env, *made;

        while (environ[own])
                own++;
        env = s->env = calloc(own + s->spec->n_env + 5, sizeof(*env));
        if (!env)
                return fail(why, HELPER_END_FAILED, -ENOMEM, "reading the request");
        for (size_t i = 0; i < own; i++)
                set_variable(env, &n, environ[i]);
        for (size_t i = 0; i < 3 && *s->user; i++) {
                made = make_string(s, "%s=%s", keys[i], *values[i] ? values[i] : s->user);
                if (!made)
                        return fail(why, HELPER_END_FAILED, -ENOMEM, "reading the request");
                set_variable(env, &n, made);
        }
        if (!*s->user && !getenv("HOME"))
                set_variable(env, &n, (char *)(geteuid() == 0 ? "HOME=/root" : "HOME=/"));
        if (s->spec->flags & START_TERMINAL)
                set_variable(env, &n, (char *)"TERM=xterm");
        for (uint32_t i = 0; i < s->spec->n_env; i++)
                set_variable(env, &n, s->given[i]);
        return true;
}

/* user */

/* A file of the sandbox in memory, which is returned, or NULL. What is no regular file, or too large, is empty. */
static void *read_file(const char *path, const char **text, size_t *len) {
        _cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        void *copy;

        *text = "";
        *len = 0;
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > ACCOUNT_FILE_MAX)
                return NULL;
        /* A copy: a map of a file that is cut shorter meanwhile would kill us. */
        copy = malloc(st.st_size);
        if (!copy)
                return NULL;
        *text = copy;
        *len = read(fd, copy, st.st_size);
        if (*len > (size_t)st.st_size)
                *len = 0;
        return copy;
}

static bool find_user(struct start *s, struct start_failure *why) {
        _cleanup_(cleanup_free) void *passwd = NULL, *group = NULL;
        const char *text;
        size_t len;
        int r;

        if (!*s->user)
                return true;
        passwd = read_file("/etc/passwd", &text, &len);
        r = account_find(&s->account, s->user, text, len);
        if (r < 0)
                return fail(why, HELPER_END_USER, r, "user: there is no user %s", s->user);
        group = read_file("/etc/group", &text, &len);
        account_add_groups(&s->account, text, len);
        return true;
}

/* workdir and cwd */

/* The root holds the workdir and all below it; every other path is the machine's. A relative cwd is below the workdir. */
static bool add_root(struct start *s, struct start_failure *why) {
        const char *root = s->spec->root;
        size_t len = strlen(s->workdir);

        if (!*root)
                return true;
        if (!strncmp(s->cwd, s->workdir, len) && (!s->cwd[len] || s->cwd[len] == '/'))
                s->cwd = make_string(s, "%s%s", root, s->cwd);
        s->workdir = make_string(s, "%s%s", root, s->workdir);
        return s->cwd && s->workdir ? true : fail(why, HELPER_END_FAILED, -ENOMEM, "reading the request");
}

static bool make_workdir(struct start *s, struct start_failure *why) {
        const struct account *a = &s->account;
        bool fresh = s->spec->flags & START_FRESH;
        bool is_new = fresh || access(s->workdir, F_OK) < 0;
        int r = fresh ? remove_tree(AT_FDCWD, s->workdir) : 0;

        if (!is_new)
                return true;
        if (r == 0)
                r = make_path(AT_FDCWD, s->workdir, 0755);
        if (r == 0 && *s->user && lchown(s->workdir, a->uid, a->gid) < 0)
                r = -errno;
        if (r < 0 && fresh)
                return fail(why, HELPER_END_FAILED, r, "making the workdir");
        return true; /* where that was no help, the cwd is not there */
}

static bool no_cwd(const struct start *s, int r, struct start_failure *why) {
        bool absolute = *s->cwd == '/';

        return fail(why, HELPER_END_CWD, r, "cwd: %s%s%s %s", absolute ? "" : s->workdir,
                    absolute || !*s->cwd ? "" : "/", s->cwd,
                    r == -EACCES ? "is not for this user" : "is not a directory there");
}

static bool open_cwd(struct start *s, struct start_failure *why) {
        _cleanup_(cleanup_close) int base = -1;
        int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;

        base = open(*s->cwd == '/' ? "/" : s->workdir, flags);
        s->cwd_fd = base < 0 ? -1 : openat(base, *s->cwd ? s->cwd : ".", flags);
        return s->cwd_fd < 0 ? no_cwd(s, -errno, why) : true;
}

/* the command */

/* Quoted for a shell. */
static void quote(const char *text, char *out, size_t size) {
        size_t n = 0;

        out[n++] = '\'';
        for (; *text && n + 6 < size; text++) {
                if (*text == '\'') {
                        memcpy(out + n, "'\\''", 4);
                        n += 4;
                } else {
                        out[n++] = *text;
                }
        }
        out[n++] = '\'';
        out[n] = '\0';
}

/* A long command goes into a file, which the shell reads in as its own text. */
static bool write_script(struct start *s, struct start_failure *why) {
        _cleanup_(cleanup_close) int fd = -1;
        char hex[2 * HELPER_JOB_SIZE + 1];
        int r;

        if (strlen(s->command) <= ARGUMENT_MAX)
                return true;
        for (size_t i = 0; i < HELPER_JOB_SIZE; i++)
                sprintf(hex + 2 * i, "%02x", s->spec->job[i]);
        snprintf(s->script, sizeof(s->script), "%s/job-%s", s->spec->dir, hex);
        fd = open(s->script, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
        r = fd < 0 ? -errno : write_at(fd, s->command, strlen(s->command), 0);
        if (r == 0 && *s->user && fchown(fd, s->account.uid, s->account.gid) < 0)
                r = -errno;
        if (r < 0) {
                start_finish(s);
                return fail(why, HELPER_END_FAILED, r, "writing the command to a file");
        }
        strcpy(s->line, ". ");
        quote(s->script, s->line + 2, sizeof(s->line) - 2);
        s->command = s->line;
        return true;
}

bool start_prepare(struct start *s, const struct start_spec *spec, struct start_failure *why) {
        *s = (struct start){ .spec = spec, .cwd_fd = -1, .given = calloc(spec->n_env + 1, sizeof(*s->given)) };
        if (!s->given)
                return fail(why, HELPER_END_FAILED, -ENOMEM, "reading the request");
        return take_strings(s, why) && add_root(s, why) && find_user(s, why) && merge_variables(s, why) &&
               make_workdir(s, why) && open_cwd(s, why) && write_script(s, why);
}

void start_release(struct start *s) {
        if (s->strings)
                munmap(TAKE_PTR(s->strings), s->spec->spec_len);
        free(TAKE_PTR(s->given));
        free(TAKE_PTR(s->env));
        while (s->n_made > 0)
                free(s->made[--s->n_made]);
        close_fd(TAKE_FD(s->cwd_fd));
}

void start_finish(struct start *s) {
        if (*s->script)
                unlink(s->script);
        *s->script = '\0';
}

/* the process of the shell */

enum step { STEP_STREAMS, STEP_USER, STEP_CWD, STEP_EXEC };

/* The helper ignores none: it blocks some. */
static void unblock_signals(void) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
}

static void restore_oom_score(int score) {
        _cleanup_(cleanup_close) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        char text[16];

        if (fd >= 0)
                (void)!write(fd, text, snprintf(text, sizeof(text), "%d", score));
}

/* By the system calls themselves: libc's functions look after threads, in memory that is the reaper's. */
static int become(const struct start *s) {
        const struct account *a = &s->account;
        struct stat st;

        if (!*s->user)
                return 0;
        /* A pipe or a terminal of its own, which it may want to open by name, as /dev/stderr. */
        for (int i = 0; i < 3; i++)
                if (fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || (s->spec->flags & START_TERMINAL)))
                        (void)!fchown(i, a->uid, (gid_t)-1);
        if (syscall(SYS_setgroups, a->n_groups, a->groups) < 0 ||
            syscall(SYS_setresgid, a->gid, a->gid, a->gid) < 0 || syscall(SYS_setresuid, a->uid, a->uid, a->uid) < 0)
                return -errno;
        return 0;
}

static int take_streams(const struct start_spec *spec) {
        setsid();
        if ((spec->flags & START_TERMINAL) && ioctl(spec->streams[0], TIOCSCTTY, 0) < 0)
                return -errno;
        for (int i = 0; i < 3; i++)
                if (dup2(spec->streams[i], i) < 0)
                        return -errno;
        return 0;
}

static int try_exec(const struct start *s, const char *shell) {
        const char *argv[] = { shell, "-c", s->command, NULL };

        execvp(shell, (char *const *)argv);
        return -errno;
}

static int exec_shell(const struct start *s) {
        int r;

        environ = s->env;
        if (*s->shell)
                return try_exec(s, s->shell);
        r = try_exec(s, "bash");
        if (r == -ENOENT || r == -EACCES || r == -ENOTDIR)
                r = try_exec(s, "sh");
        if (r == -ENOENT || r == -EACCES || r == -ENOTDIR)
                r = try_exec(s, "/bin/sh");
        return r;
}

static int be_shell(const struct start *s, volatile enum step *step) {
        int r;

        *step = STEP_STREAMS;
        r = take_streams(s->spec);
        if (r < 0)
                return r;
        restore_oom_score(s->spec->oom_score);
        unblock_signals();
        umask(022);
        *step = STEP_USER;
        r = become(s);
        if (r < 0)
                return r;
        *step = STEP_CWD;
        if (fchdir(s->cwd_fd) < 0)
                return -errno;
        *step = STEP_EXEC;
        return exec_shell(s);
}

pid_t start_shell(struct start *s, void (*on_start)(void *data, pid_t pid), void *data, struct start_failure *why) {
        volatile enum step step = STEP_STREAMS;
        char **own = environ;
        volatile int r = 0;
        pid_t pid;

        pid = vfork();
        if (pid == 0) {
                on_start(data, getpid());
                r = be_shell(s, &step);
                _exit(127);
        }
        environ = own; /* whose the child's has been */
        if (pid < 0)
                fail(why, HELPER_END_FAILED, -errno, "starting a process");
        else if (r == 0)
                return pid;
        else if (step == STEP_CWD)
                no_cwd(s, r, why);
        else
                fail(why, HELPER_END_FAILED, r, step == STEP_EXEC ? "starting the shell %s" : "becoming the user %s",
                     step == STEP_EXEC ? (*s->shell ? s->shell : "sh") : s->user);
        return -1;
}
