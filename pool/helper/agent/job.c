/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/job.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/helper/agent/reapers.h"
#include "pool/helper/agent/streams.h"
#include "pool/helper/agent/terminal.h"
#include "pool/util/cleanup.h"
#include "pool/util/io.h"
#include "pool/util/list.h"

#define REAPER_SLACK_US (2 * USEC_PER_SEC) /* by which a reaper may be late */
#define READS_AT_END 80                    /* of what was in a stream when nobody waits for more: a pipe's packets */

static struct job_context context;

int helper_job_init(const struct job_context *given) {
        context = *given;
        return reapers_init(given->forget);
}

/* states */

static void set_state(struct job *j, enum helper_job_state state) {
        static const uint8_t after[HELPER_JOB_N_STATES] = {
                [HELPER_JOB_RECEIVING] = 1 << HELPER_JOB_STARTING | 1 << HELPER_JOB_ENDED,
                [HELPER_JOB_STARTING] = 1 << HELPER_JOB_RUNNING | 1 << HELPER_JOB_ENDED,
                [HELPER_JOB_RUNNING] = 1 << HELPER_JOB_DRAINING,
                [HELPER_JOB_DRAINING] = 1 << HELPER_JOB_ENDED,
        };

        if (!(after[j->state] & 1 << state))
                __builtin_trap();
        j->state = state;
        j->tell = true;
}

static void order(struct job *j, const struct reaper_order *o) {
        pid_t reaper = j->channel < 0 ? 0 : reapers_pid(j->slot);

        if (reaper == 0)
                return;
        /* The job may have stopped it, or it does not read for another reason: then a guardian does its work. */
        kill(reaper, SIGCONT);
        if (send(j->channel, o, sizeof(*o), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN)
                kill(reaper, SIGKILL);
}

static void close_channel(struct job *j) {
        if (j->channel < 0)
                return;
        loop_remove(j->channel);
        close(TAKE_FD(j->channel));
}

static void ended(struct job *j) {
        streams_close(j);
        close_fd(TAKE_FD(j->strings));
        order(j, &(struct reaper_order){ .type = REAPER_DRAIN });
        set_state(j, HELPER_JOB_ENDED);
}

static void failed(struct job *j, int r, const char *what) {
        j->end = (struct start_failure){ .how = HELPER_END_FAILED, .value = -r };
        snprintf(j->end.text, sizeof(j->end.text), "%s: %s", what, strerror(-r));
        ended(j);
}

/* Reads what is in the streams, without waiting for more. False: there is no room for it. */
static bool read_last(struct job *j) {
        for (int i = 0; i < 2; i++)
                if (j->streams[i].fd >= 0)
                        stream_on_event(j, &j->streams[i], EPOLLIN);
        for (int i = 0; i < READS_AT_END && streams_read(j); i++)
                ;
        return !streams_wait(j);
}

/* Something about it has changed: it ends when it is time. */
static void settle(struct job *j, int64_t now) {
        bool all_dead = !j->killed || j->left || j->channel < 0;

        if (j->state != HELPER_JOB_DRAINING || !all_dead)
                return;
        if (streams_at_end(j)) {
                ended(j);
        } else if (now >= j->drained_us) {
                /* A process in the background may hold the streams. Only what it prints from now on is not read. */
                if (read_last(j) || streams_at_end(j))
                        ended(j);
                else
                        j->drained_us = clock_after(now, OUTPUT_GRACE_US);
        }
}

/* the shell's end */

static void shell_ended(struct job *j, int status, int64_t ran_us) {
        j->shell = 0;
        j->ran_us = ran_us;
        j->due_us = j->killed ? j->due_us : USEC_NEVER;
        j->drained_us = clock_after(clock_now(), OUTPUT_GRACE_US);
        j->end.how = j->timed_out         ? HELPER_END_TIMEOUT
                     : WIFSIGNALED(status) ? HELPER_END_SIGNAL
                                           : HELPER_END_EXIT;
        j->end.value = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
        set_state(j, HELPER_JOB_DRAINING);
}

/* Its processes that do not end by KILL are told, and not waited for. */
static void give_up(struct job *j, const char *text) {
        j->left = true;
        if (*text)
                snprintf(j->end.text, sizeof(j->end.text), "not ended by KILL: %.*s", HELPER_TEXT_MAX - 20, text);
        if (j->state == HELPER_JOB_RUNNING)
                shell_ended(j, SIGKILL, clock_now() - j->started_us);
}

/* reports of the reaper */

static void on_report(struct job *j, const struct reaper_report *r) {
        switch (r->type) {
        case REAPER_STARTING:
                j->shell = r->shell;
                j->started_us = r->at_us;
                if (j->timeout_us > 0 && !j->killed)
                        j->due_us = clock_after(clock_after(r->at_us, j->timeout_us), REAPER_SLACK_US);
                break;
        case REAPER_STARTED:
                if (j->state != HELPER_JOB_STARTING)
                        return;
                set_state(j, HELPER_JOB_RUNNING);
                input_write(j);
                break;
        case REAPER_FAILED:
                if (j->state != HELPER_JOB_STARTING)
                        return;
                j->end = r->failure;
                j->shell = 0;
                ended(j);
                break;
        case REAPER_TIMEOUT:
                j->timed_out = true;
                j->killed = true;
                j->due_us = clock_after(clock_now(), j->grace_us + KILL_TIME_US + REAPER_SLACK_US);
                break;
        case REAPER_ENDED:
                if (j->state == HELPER_JOB_RUNNING)
                        shell_ended(j, r->status, r->ran_us);
                break;
        case REAPER_LEFT:
                give_up(j, r->failure.text);
                break;
        }
}

static void take_reports(struct job *j) {
        struct reaper_report r;
        ssize_t n = 0;

        while (j->channel >= 0 && (n = recv(j->channel, &r, sizeof(r), MSG_DONTWAIT)) == sizeof(r)) {
                /* A job that is root can make its reaper say anything. */
                r.failure.text[sizeof(r.failure.text) - 1] = '\0';
                if (r.failure.how >= HELPER_END_N)
                        r.failure.how = HELPER_END_FAILED;
                on_report(j, &r);
        }
        if (j->channel >= 0 && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)))
                loop_remove(j->channel); /* its end tells the rest */
}

static void on_channel(struct loop_source *source, uint32_t events) {
        struct job *j = container_of(source, struct job, channel_source);

        take_reports(j);
        settle(j, clock_now());
}

static void on_stdout(struct loop_source *source, uint32_t events) {
        struct job *j = container_of(source, struct job, streams[0].source);

        stream_on_event(j, &j->streams[0], events);
        streams_read(j);
        settle(j, clock_now());
}

static void on_stderr(struct loop_source *source, uint32_t events) {
        struct job *j = container_of(source, struct job, streams[1].source);

        stream_on_event(j, &j->streams[1], events);
        streams_read(j);
        settle(j, clock_now());
}

static void on_input(struct loop_source *source, uint32_t events) {
        struct job *j = container_of(source, struct job, input_source);

        if (j->input_fd < 0)
                return;
        if (events & (EPOLLERR | EPOLLHUP)) {
                input_close(j);
                j->tell = true;
        } else if (input_write(j)) {
                j->tell = true;
        }
}

/* start */

static int open_channel(struct job *j, int *reaper_end) {
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        j->channel = fds[0];
        *reaper_end = fds[1];
        return loop_add(j->channel, &j->channel_source, EPOLLIN);
}

static void fork_reaper(struct job *j, const int ends[3], int channel) {
        struct start_spec spec = {
                .flags = j->flags,
                .n_env = j->n_env,
                .spec_len = j->spec_len,
                .timeout_us = j->timeout_us,
                .grace_us = j->grace_us,
                .strings = j->strings,
                .streams = { ends[0], ends[1], ends[2] },
                .dir = context.dir,
                .root = context.root,
                .oom_score = context.oom_score,
        };
        struct reaper io = { .spec = &spec, .channel = channel, .reads = { -1, -1 }, .proc = context.proc };
        pid_t pid;

        memcpy(spec.job, j->id, sizeof(spec.job));
        for (int i = 0; i < 2 && !(j->flags & START_TERMINAL); i++)
                io.reads[i] = j->streams[i].fd;
        pid = reapers_fork(&j->slot);
        if (pid == 0)
                reaper_run(&io);
        if (pid < 0) {
                int r = -errno;

                close_channel(j);
                failed(j, r, "starting a process");
        }
}

static void start(struct job *j) {
        int ends[3], channel = -1, r;

        set_state(j, HELPER_JOB_STARTING);
        r = streams_open(j, ends);
        if (r < 0) {
                failed(j, r, j->flags & START_TERMINAL ? "making a terminal" : "making pipes");
                return;
        }
        r = open_channel(j, &channel);
        if (r == 0)
                fork_reaper(j, ends, channel);
        else
                failed(j, r, "making a socket");
        for (int i = 0; i < 3; i++)
                if (i == 0 || ends[i] != ends[i - 1])
                        close(ends[i]);
        close_fd(channel);
        close_fd(TAKE_FD(j->strings));
}

void helper_job_new(struct job *j, const struct frame *f) {
        int r = 0;

        *j = (struct job){
                .used = true,
                .flags = f->flags,
                .rows = f->rows,
                .columns = f->columns,
                .n_env = f->n_env,
                .spec_len = f->spec_len,
                .window = f->window,
                .timeout_us = (int64_t)f->timeout_us,
                .grace_us = (int64_t)f->grace_us,
                .input_fd = -1,
                .last_input = '\n',
                .channel = -1,
                .streams = { { .source.ready = on_stdout, .fd = -1 }, { .source.ready = on_stderr, .fd = -1 } },
                .channel_source.ready = on_channel,
                .input_source.ready = on_input,
                .due_us = USEC_NEVER,
        };
        memcpy(j->id, f->job, sizeof(j->id));
        output_init(&j->output);
        input_init(&j->input);
        j->strings = memfd_create("modalpool-job", MFD_CLOEXEC);
        if (j->strings < 0)
                r = -errno;
        if (r < 0)
                failed(j, r, "keeping the command");
        else
                helper_job_spec(j, 0, f->data, f->len);
}

bool helper_job_spec(struct job *j, uint64_t offset, const uint8_t *data, size_t len) {
        int r;

        if (j->state != HELPER_JOB_RECEIVING)
                return true; /* it was killed meanwhile, or had them all */
        if (offset > j->spec_have || offset + len > j->spec_len)
                return false;
        if (offset + len <= j->spec_have)
                return true;
        r = write_at(j->strings, data, len, offset);
        if (r < 0) {
                failed(j, r, "keeping the command");
                return true;
        }
        j->spec_have = offset + len;
        if (j->spec_have == j->spec_len)
                start(j);
        return true;
}

/* orders */

void helper_job_kill(struct job *j, int64_t grace_us) {
        int64_t due = clock_after(clock_now(), grace_us + KILL_TIME_US + REAPER_SLACK_US);

        if (j->state == HELPER_JOB_RECEIVING) {
                j->end = (struct start_failure){ .how = HELPER_END_SIGNAL, .value = SIGKILL };
                ended(j);
                return;
        }
        j->killed = true;
        j->due_us = j->channel < 0 ? USEC_NEVER : clock_earlier(j->due_us, due);
        order(j, &(struct reaper_order){ .type = REAPER_KILL, .grace_us = grace_us });
}

void helper_job_signal(struct job *j, int signo) {
        order(j, &(struct reaper_order){ .type = REAPER_SIGNAL, .signo = signo });
}

void helper_job_resize(struct job *j, uint16_t rows, uint16_t columns) {
        j->rows = rows;
        j->columns = columns;
        if ((j->flags & START_TERMINAL) && j->streams[0].fd >= 0)
                terminal_resize(j->streams[0].fd, rows, columns);
}

void helper_job_forget(struct job *j) {
        if (j->channel >= 0) {
                order(j, &(struct reaper_order){ .type = REAPER_LEAVE });
                reapers_leave(j->slot);
                close_channel(j);
        }
        output_deinit(&j->output);
        j->used = false;
}

void helper_job_on_input(struct job *j) {
        input_write(j);
}

void helper_job_on_room(struct job *j) {
        streams_read(j);
        settle(j, clock_now());
}

/* a reaper that is gone */

static void guard(struct job *j) {
        struct start_spec spec = { .grace_us = j->grace_us, .strings = -1, .streams = { -1, -1, -1 } };
        struct reaper io = { .spec = &spec, .reads = { -1, -1 }, .proc = context.proc };
        struct family orphans = reapers_orphans();
        int64_t deadline = USEC_NEVER;
        pid_t pid;

        if (open_channel(j, &io.channel) < 0)
                return;
        if (j->timeout_us > 0 && !j->timed_out && j->shell)
                deadline = clock_after(j->started_us, j->timeout_us);
        pid = reapers_fork(&j->slot);
        if (pid == 0)
                guardian_run(&io, &orphans, deadline);
        close(io.channel);
        if (pid < 0) {
                close_channel(j);
                return;
        }
        j->guarded = true;
        if (!j->shell)
                order(j, &(struct reaper_order){ .type = REAPER_SHELL_ENDED });
        if (j->killed)
                helper_job_kill(j, 0);
}

/* Only a child of the helper can be waited for: the shell has become one when its reaper died before it. */
static bool shell_is_child(const struct job *j) {
        return j->shell > 0 && waitid(P_PID, j->shell, NULL, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void reaper_gone(struct job *j, int status) {
        take_reports(j);
        close_channel(j);
        reapers_leave(j->slot);
        j->due_us = USEC_NEVER;
        if (WIFEXITED(status) && (j->state >= HELPER_JOB_DRAINING || j->guarded))
                return;
        if (j->state == HELPER_JOB_STARTING && shell_is_child(j))
                set_state(j, HELPER_JOB_RUNNING);
        if (j->state == HELPER_JOB_RUNNING && !shell_is_child(j)) {
                shell_ended(j, 0, clock_now() - j->started_us);
                j->end.how = HELPER_END_UNKNOWN;
                snprintf(j->end.text, sizeof(j->end.text), "the process that waited for it was killed");
        } else if (j->state == HELPER_JOB_STARTING) {
                failed(j, -EIO, "the process that was to start it was killed");
                return;
        }
        guard(j);
}

static void orphan_ended(struct job *j, int status) {
        shell_ended(j, status, clock_now() - j->started_us);
        order(j, &(struct reaper_order){ .type = REAPER_SHELL_ENDED });
}

void helper_job_reaped(struct job *j, pid_t pid, int status) {
        if (j->channel >= 0 && reapers_pid(j->slot) == pid)
                reaper_gone(j, status);
        else if (j->shell == pid && j->state == HELPER_JOB_RUNNING)
                orphan_ended(j, status);
        else
                return;
        settle(j, clock_now());
}

/* time */

int64_t helper_job_tick(struct job *j, int64_t now) {
        bool more = streams_read(j);
        int64_t next = USEC_NEVER;

        if (now >= j->due_us && j->channel >= 0) {
                j->due_us = USEC_NEVER;
                kill(reapers_pid(j->slot), SIGKILL);
        }
        settle(j, now);
        if (!j->used || j->state == HELPER_JOB_ENDED)
                return USEC_NEVER;
        if (more)
                return now;
        next = j->due_us;
        if (j->state == HELPER_JOB_DRAINING && (!j->killed || j->left || j->channel < 0))
                next = clock_earlier(next, j->drained_us);
        return next;
}
