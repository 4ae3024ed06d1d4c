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
        return reapers_init(given->proc, given->forget);
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
        if (state != HELPER_JOB_STARTING) /* which passes at once */
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

/* What its reaper has got. A terminal is one descriptor three times. */
static void close_given(struct job *j) {
        for (int i = 0; i < 3; i++)
                if (i == 0 || j->ends[i] != j->ends[0])
                        close_fd(j->ends[i]);
        j->ends[0] = j->ends[1] = j->ends[2] = -1;
        close_fd(TAKE_FD(j->strings));
}

static void ended(struct job *j) {
        streams_close(j);
        close_given(j);
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

/* Nothing is left of the job. */
static void reaper_ready(struct job *j) {
        if (j->state < HELPER_JOB_DRAINING) {
                kill(reapers_pid(j->slot), SIGKILL); /* it is not what it was, so a guardian takes its place */
                return;
        }
        loop_remove(j->channel);
        reapers_keep(j->slot, TAKE_FD(j->channel));
        j->due_us = USEC_NEVER;
}

static void on_report(struct job *j, const struct reaper_report *r) {
        switch (r->type) {
        case REAPER_STARTING:
                close_given(j);
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
        case REAPER_READY:
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
                if (r.ready && j->channel >= 0)
                        reaper_ready(j);
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

static int give_to_reaper(struct job *j) {
        struct start_spec spec = {
                .flags = j->flags,
                .n_env = j->n_env,
                .spec_len = j->spec_len,
                .timeout_us = j->timeout_us,
                .grace_us = j->grace_us,
                .strings = j->strings,
                .streams = { j->ends[0], j->ends[1], j->ends[2] },
                .dir = context.dir,
                .root = context.root,
                .oom_score = context.oom_score,
        };
        bool terminal = j->flags & START_TERMINAL;
        int r;

        memcpy(spec.job, j->id, sizeof(spec.job));
        r = reapers_start(&spec, (int[]){ terminal ? -1 : j->streams[0].fd, terminal ? -1 : j->streams[1].fd }, &j->slot,
                          &j->channel);
        if (r == 0)
                r = loop_add(j->channel, &j->channel_source, EPOLLIN);
        return r;
}

static void start(struct job *j) {
        int r;

        set_state(j, HELPER_JOB_STARTING);
        r = streams_open(j, j->ends);
        if (r < 0) {
                failed(j, r, j->flags & START_TERMINAL ? "making a terminal" : "making pipes");
                return;
        }
        r = give_to_reaper(j);
        if (r < 0)
                failed(j, r, "starting a process");
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
                .ends = { -1, -1, -1 },
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
        return true;
}

void helper_job_start(struct job *j) {
        if (j->state == HELPER_JOB_RECEIVING && j->spec_have == j->spec_len)
                start(j);
}

bool helper_job_is_dying(const struct job *j) {
        return j->dying && !j->left && j->channel >= 0 && j->state < HELPER_JOB_ENDED;
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
        j->dying |= grace_us == 0;
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

static int open_channel(struct job *j, int *guardian_end) {
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        j->channel = fds[0];
        *guardian_end = fds[1];
        return loop_add(j->channel, &j->channel_source, EPOLLIN);
}

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

/* It was killed before it came to this job. Once may be chance. */
static bool was_idle(const struct job *j) {
        return j->strings >= 0 && !j->killed && !j->given_again;
}

static void reaper_gone(struct job *j, int status) {
        take_reports(j);
        close_channel(j);
        reapers_leave(j->slot);
        j->due_us = USEC_NEVER;
        if (WIFEXITED(status) && (j->state >= HELPER_JOB_DRAINING || j->guarded))
                return;
        if (was_idle(j) && give_to_reaper(j) == 0) {
                j->given_again = true;
                return;
        }
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
