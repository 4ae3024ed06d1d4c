/* SPDX-License-Identifier: MIT */

/* The scripts that run inside a sandbox, run here: they need nothing of one. */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "pool/backend/modal/exec/script.h"
#include "tests/unit/check.h"

static char directory[] = "/tmp/modalpool-script-XXXXXX";

/* Runs a script, which goes away, with @input as its standard input; its output and errors are put into @out. */
static int run_script(struct script *s, const char *input, size_t input_len, char *out, size_t room) {
        const char *args[SCRIPT_ARGUMENTS_MAX + 1] = { NULL };
        int in[2], result[2], status = -1;
        size_t have = 0;
        ssize_t n;
        pid_t pid;

        for (size_t i = 0; i < s->n; i++)
                args[i] = script_argument(s, i);
        CHECK(pipe(in) == 0 && pipe(result) == 0);
        pid = fork();
        if (pid == 0) {
                dup2(in[0], 0);
                dup2(result[1], 1);
                dup2(result[1], 2);
                close(in[1]);
                close(result[0]);
                execv(args[0], (char **)args);
                _exit(99);
        }
        close(in[0]);
        close(result[1]);
        CHECK_INT(write(in[1], input, input_len), input_len);
        close(in[1]);
        while (have < room - 1 && (n = read(result[0], out + have, room - 1 - have)) > 0)
                have += n;
        out[have] = '\0';
        close(result[0]);
        waitpid(pid, &status, 0);
        script_deinit(s);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run(const struct script_job *job, const char *input, size_t input_len, char *out, size_t room) {
        struct script s;

        script_init(&s);
        CHECK_INT(script_make_job(&s, job), 0);
        return run_script(&s, input, input_len, out, room);
}

static struct script_job job_of(const char *command) {
        static char workdir[64];

        snprintf(workdir, sizeof(workdir), "%s/it's a \"dir\" $HOME", directory);
        return (struct script_job){
                .exec_id = "id-1", .shell = "", .workdir = workdir, .cwd = workdir, .prelude = "", .fresh = true,
                .command = command, .command_len = strlen(command),
        };
}

static void runs(void) {
        struct script_job job = job_of("basename \"$PWD\"; cat; echo $0 >&2; exit 3");
        char out[4096];

        CHECK_INT(run(&job, "ignored", 7, out, sizeof(out)), 3);
        CHECK(strstr(out, "it's a \"dir\" $HOME\n") == out);
        CHECK(strstr(out, "ignored") == NULL);
}

static void workdir_is_fresh(void) {
        struct script_job job = job_of("touch a .b; mkdir -p c/.d");
        char out[4096];

        CHECK_INT(run(&job, "", 0, out, sizeof(out)), 0);
        job = job_of("ls -A");
        job.fresh = false;
        CHECK_INT(run(&job, "", 0, out, sizeof(out)), 0);
        CHECK_STR(out, ".b\na\nc\n");
        job = job_of("rm -r \"$PWD\"");
        job.fresh = false;
        CHECK_INT(run(&job, "", 0, out, sizeof(out)), 0);
        job = job_of("touch again; ls -A");
        job.fresh = false;
        CHECK_INT(run(&job, "", 0, out, sizeof(out)), 0);
        CHECK_STR(out, "again\n");
        job.fresh = true;
        job.command = "ls -A", job.command_len = strlen(job.command);
        CHECK_INT(run(&job, "", 0, out, sizeof(out)), 0);
        CHECK_STR(out, "");
}

static void any_bytes(void) {
        struct script_job job;
        char command[700] = "printf %s '", out[4096], expected[300];
        size_t n = strlen(command), e = 0;

        for (int c = 1; c < 256; c++)
                if (c != '\'')
                        command[n++] = expected[e++] = c;
        expected[e] = '\0';
        command[n++] = '\'';
        command[n] = '\0';
        job = job_of(command);
        CHECK_INT(run(&job, "", 0, out, sizeof(out)), 0);
        CHECK_STR(out, expected);
}

static void input_and_script(void) {
        struct script_job job = job_of("");
        char out[4096];
        const char script[] = "cat\nexit 4\n", stdin_[] = "cat\nexit 4\nthe rest\n";

        job.input = true;
        job.on_stdin = strlen(script);
        job.exec_id = "modalpool-test-id";
        CHECK_INT(run(&job, stdin_, strlen(stdin_), out, sizeof(out)), 4);
        CHECK_STR(out, "the rest\n");
        job.on_stdin = 1000;
        CHECK_INT(run(&job, stdin_, strlen(stdin_), out, sizeof(out)), 126);
        CHECK(!strncmp(out, "modalpool-test-id fail ", 23));
        unlink("/tmp/.modalpool/modalpool-test-id");
        rmdir("/tmp/.modalpool");
}

static void no_cwd(void) {
        struct script_job job = job_of("echo no");
        char out[4096];

        job.cwd = "/no where";
        CHECK_INT(run(&job, "", 0, out, sizeof(out)), EXEC_NO_CWD);
        CHECK_STR(out, "id-1 cwd /no where\n");
}

/* What the wrapper calls its variables is not the command's affair. */
static void environment_is_kept(void) {
        struct script_job job = job_of("echo $v $c $s $n $x; env | grep -c '^_[a-z]='");
        char out[4096];

        setenv("v", "1", 1);
        setenv("c", "2", 1);
        setenv("s", "3", 1);
        setenv("n", "4", 1);
        job.prelude = "export x='5'\n";
        CHECK_INT(run(&job, "", 0, out, sizeof(out)), 1);
        CHECK_STR(out, "1 2 3 4 5\n0\n");
}

/* The command finds what it was given, and nothing else; the wrapper works all the same. */
static void has_its_environment(void) {
        static const char *const env[] = {
                "PATH=/nonexistent", "A_1=it's\xff", "_c=mine", "CDPATH=/", "EMPTY=", EXEC_MARK "=id-1",
                /* These the shell takes for itself, or drops. */
                "1 A=x y", "UID=7", "OPTIND=a", "IFS=/.", "BASH_FUNC_rm%%=() { echo never; }", "-n=dash", NULL,
        };
        struct script_job job = job_of("/usr/bin/env");
        struct buf carriers = BUF_INIT(4000), prelude = BUF_INIT(4000), whole = BUF_INIT(8000);
        char out[4096], *at;

        CHECK_INT(script_make_env(env, &carriers, &prelude), 0);
        CHECK(memmem(carriers.data, carriers.len, "MODALPOOL_ENV_0=/nonexistent", 29) != NULL);
        CHECK(!memmem(prelude.data, prelude.len, "nonexistent", 11));
        for (size_t i = 0; i < carriers.len; i += strlen(carriers.data + i) + 1)
                putenv(carriers.data + i);
        job.prelude = buf_text(&prelude);
        for (int on_stdin = 0; on_stdin < 2; on_stdin++) {
                CHECK_INT(run(&job, buf_text(&whole), whole.len, out, sizeof(out)), 0);
                for (size_t i = 0; i < 6; i++) {
                        at = strstr(out, env[i]);
                        CHECK(at && (at == out || at[-1] == '\n') && at[strlen(env[i])] == '\n');
                }
                CHECK(!strstr(out, "MODALPOOL_ENV_") && !strstr(out, "\n_s=") && !strstr(out, "\n_p="));
                CHECK_INT(buf_append(&whole, prelude.data, prelude.len), 0);
                CHECK_INT(buf_append(&whole, job.command, job.command_len), 0);
                job.on_stdin = job.command_len;
                job.prelude_on_stdin = prelude.len;
                job.exec_id = "modalpool-test-env";
        }
        unlink("/tmp/.modalpool/modalpool-test-env");
        rmdir("/tmp/.modalpool");
        for (size_t i = 0; i < carriers.len;) {
                size_t next = i + strlen(carriers.data + i) + 1;

                *strchr(carriers.data + i, '=') = '\0';
                unsetenv(carriers.data + i);
                i = next;
        }
        buf_deinit(&carriers);
        buf_deinit(&prelude);
        buf_deinit(&whole);
}

#define MANY 300

static int wait_for_ever(void *unused) {
        while (pause() < 0)
                ;
        return 0;
}

/* In a sandbox of many processes of its own, as its first one: 0, or the line that failed. */
static int own_processes_in_sandbox(void) {
        char *stacks = mmap(NULL, MANY * 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char own[65536], out[4096], expected[64];
        struct script s;
        pid_t job;

        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0 ||
            mount("tmpfs", "/tmp", "tmpfs", 0, NULL) < 0 || stacks == MAP_FAILED)
                return __LINE__;
        for (int i = 1; i <= MANY; i++)
                if (clone(wait_for_ever, stacks + i * 8192, CLONE_VM | SIGCHLD, NULL) < 0)
                        return __LINE__;
        script_init(&s);
        if (script_make_probe(&s, "") < 0 || run_script(&s, "", 0, own, sizeof(own)) != 0 || strlen(own) > 64)
                return __LINE__;
        own[strlen(own) - 1] = '\0';
        job = fork();
        if (job == 0)
                wait_for_ever(NULL);
        script_init(&s);
        if (script_make_clean(&s, "/tmp/workdir", own, "") < 0 || run_script(&s, "", 0, out, sizeof(out)) != 0)
                return __LINE__;
        if (waitpid(job, NULL, WNOHANG) != job || waitpid(-1, NULL, WNOHANG) != 0)
                return __LINE__;
        snprintf(expected, sizeof(expected), "/proc/%d", MANY); /* one of them, for the first is this process */
        return access(expected, F_OK) == 0 ? 0 : __LINE__;
}

/* The clean-up spares what was there before the probe, told in few words however much that is, and nothing else. */
static void own_processes(void) {
        int status = -1;
        pid_t outer = fork(), inner;

        if (outer == 0) {
                if (geteuid() != 0 && unshare(CLONE_NEWUSER) < 0)
                        _exit(77);
                if (unshare(CLONE_NEWNS | CLONE_NEWPID) < 0)
                        _exit(77);
                inner = fork();
                if (inner == 0) {
                        status = own_processes_in_sandbox();
                        if (status)
                                printf("# line %d, %s\n", status, strerror(errno));
                        fflush(stdout);
                        _exit(status != 0);
                }
                waitpid(inner, &status, 0);
                _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
        }
        waitpid(outer, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
                printf("# no namespaces here: not run\n");
        else
                CHECK_INT(status, 0);
}

int main(void) {
        char command[100];

        if (!mkdtemp(directory))
                return 1;
        RUN(runs);
        RUN(workdir_is_fresh);
        RUN(any_bytes);
        RUN(input_and_script);
        RUN(no_cwd);
        RUN(environment_is_kept);
        RUN(has_its_environment);
        RUN(own_processes);
        snprintf(command, sizeof(command), "rm -rf %s", directory);
        return system(command) == 0 ? check_done() : 1;
}
