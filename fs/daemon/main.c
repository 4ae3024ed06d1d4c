/* SPDX-License-Identifier: MIT */

/*
 * modalpool: makes the layers, runs the loop, and frees the layers.
 *
 *   starting   the backend is asked whether it can be used
 *   mounting   the backend can be used; the kernel has not sent INIT yet
 *   running    the mount answers; the daemon is in the background
 *   stopping   leases are released, environments end
 *   stopped
 *
 * Each turn of the loop ends with a tick (uv_prepare): the core and the file
 * system do what is due and say when something is due next.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "fs/client/forward.h"
#include "fs/client/run.h"
#include "fs/daemon/backends.h"
#include "fs/daemon/limits.h"
#include "fs/daemon/options.h"
#include "fs/daemon/reap.h"
#include "fs/daemon/sd-notify.h"
#include "fs/daemon/state.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/session.h"
#include "pool/core.h"
#include "pool/core/options.h"
#include "pool/lease/audit.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/removal.h"
#include "pool/util/uuid.h"

enum phase {
        PHASE_STARTING,
        PHASE_MOUNTING,
        PHASE_RUNNING,
        PHASE_STOPPING,
        PHASE_STOPPED,
};

static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1 };

enum { N_SIGNALS = sizeof(signals) / sizeof(signals[0]) };

struct daemon {
        struct config config;
        struct options options;
        struct state state;
        struct journal *journal;
        struct audit *audit; /* or NULL */
        struct backend_client *client;
        struct backend *backend;
        struct core *core;
        struct fs fs;
        struct session *session;
        struct notify notify;

        uv_loop_t loop;
        uv_prepare_t turn;
        uv_check_t wake;
        uv_timer_t timer; /* for the next thing due */
        uv_signal_t signals[N_SIGNALS];
        struct lag lag;
        int64_t due_us;    /* when the newest tick said that something is due */
        int64_t heard_us;  /* when the loop had last delivered everything that had come by then */
        int64_t turned_us;            /* when the last turn was measured, … */
        int64_t asleep_us, woke_us;   /* … when the loop went to sleep after it, and when it woke, to a millisecond */
        int64_t slept_us;             /* how long it had slept by then, by libuv's own count */
        bool loop_is_open;
        bool restored; /* there is something of an earlier run */

        enum phase phase;
        int64_t stop_by_us;
        bool signalled;
        char *notice;        /* the first that the backend had for its start, or NULL */
        int64_t notice_us;   /* when that was */
        bool start_is_slow;  /* so long ago that it was shown */
        int parent; /* pipe to the process that the user waits for, or -1 */
        int exit_status;
};

static void fail(struct daemon *d, const struct result *why) {
        log_error("%s", why->text);
        d->exit_status = EXIT_FAILURE;
}

/*
 * Release every lease and end every environment; tick() sees when that is done. What an earlier run left stays as it is
 * unless the mount has shown it. @reason is NULL if the log has it already.
 */
static void stop(struct daemon *d, const char *reason) {
        bool keep = d->config.keep || (d->phase < PHASE_RUNNING && d->restored);

        if (d->phase >= PHASE_STOPPING)
                return;
        if (reason)
                log_info("stopping: %s", reason);
        d->phase = PHASE_STOPPING;
        d->stop_by_us = clock_after(clock_now(), d->config.stop_timeout_us);
        notify_send(&d->notify, "STOPPING=1\nSTATUS=ending environments\nEXTEND_TIMEOUT_USEC=%" PRId64,
                    clock_after(d->config.stop_timeout_us, STOP_MARGIN_US));
        core_stop(d->core, keep);
}

/*
 * SIGUSR1: the audit file was renamed. The others stop the daemon, and a second one ends the wait for environments. But
 * SIGHUP is never the second one: the shell and the kernel each send one when a terminal closes, and systemd sends one
 * after SIGTERM when a session ends.
 */
static void on_signal(uv_signal_t *handle, int signo) {
        struct daemon *d = handle->data;

        if (signo == SIGUSR1) {
                if (d->audit)
                        audit_reopen(d->audit);
                return;
        }
        stop(d, strsignal(signo));
        if (signo == SIGHUP)
                return;
        if (d->signalled)
                d->stop_by_us = 0;
        d->signalled = true;
}

static void on_unmounted(void *data) {
        stop(data, "unmounted");
}

/* For who upgrades. */
static void say_what_is_new(struct daemon *d) {
        if (journal_mark(d->journal, "reset=clean") && config_is_default(&d->config, "reset"))
                log_info("option reset: the default is clean now, and leases find environments as they were when new; with "
                         "reset=workdir only the workdir and /tmp are emptied, as before");
}

/* Take back what an earlier run left. */
static int restore(struct daemon *d, struct result *why) {
        int r = core_restore(d->core);
        unsigned n_leases, n_environments;

        if (r < 0) {
                result_set(why, RESULT_FAILED, "journal %s: what an earlier run left cannot be taken up: %s",
                           d->state.journal, strerror(-r));
                return r;
        }
        n_leases = leases_count(core_leases(d->core));
        n_environments = pool_count_all(core_pool(d->core));
        d->restored = n_leases > 0 || n_environments > 0;
        say_what_is_new(d);
        if (d->restored)
                log_info("an earlier run left %u leases and %u environments", n_leases, n_environments);
        return 0;
}

static void on_ready(void *owner, const struct result *r) {
        struct daemon *d = owner;
        struct result why;

        if (!result_ok(r)) {
                fail(d, r);
                stop(d, NULL);
                return;
        }
        if (restore(d, &why) < 0 ||
            session_new(&d->session, &d->loop, &d->fs, d->options.mountpoint, d->options.debug, on_unmounted, d,
                        &why) < 0) {
                fail(d, &why);
                stop(d, NULL);
                return;
        }
        d->phase = PHASE_MOUNTING;
}

/* Whether a person watches the start and wants to see its progress. */
static bool is_watched(const struct daemon *d) {
        return d->options.foreground || isatty(STDERR_FILENO);
}

/* A step that takes longer is reported: an image may take minutes to build. */
static int64_t tell_slow_start(struct daemon *d, int64_t now) {
        if (d->phase != PHASE_STARTING || d->start_is_slow || !d->notice)
                return USEC_NEVER;
        if (now < d->notice_us + START_QUIET_US)
                return d->notice_us + START_QUIET_US;
        log_info("still starting: %s", d->notice);
        d->start_is_slow = true;
        return USEC_NEVER;
}

static void on_notice(void *owner, const char *line) {
        struct daemon *d = owner;

        if (d->phase != PHASE_STARTING || (d->start_is_slow && is_watched(d)))
                log_info("%s: %s", backend_name(d->backend), line);
        else
                log_debug("%s: %s", backend_name(d->backend), line);
        if (d->phase == PHASE_STARTING && !d->notice) {
                d->notice = strdup(line);
                d->notice_us = clock_now();
        }
}

/* The backend of a pool beside the mount's own. */
static int open_backend(void *owner, const struct config *config, const char *snapshot, struct backend **out,
                        struct result *why) {
        struct daemon *d = owner;

        return provider_open(out, d->client, &d->loop, config, snapshot, &d->state, d->state.pool_id, d->options.mountpoint,
                             why);
}

static const struct core_events core_events = {
        .ready = on_ready,
        .notice = on_notice,
};

static int priority_of_log_level(unsigned level) {
        static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

        return priorities[level];
}

/* The mount answers: let the user go on, and leave the terminal. */
static void announce(struct daemon *d) {
        d->phase = PHASE_RUNNING;
        if (d->parent >= 0)
                log_open(priority_of_log_level(d->config.log_level), true);
        log_info("mounted at %s, backend %s", d->options.mountpoint, backend_name(d->backend));
        notify_send(&d->notify, "READY=1\nSTATUS=mounted at %s, backend %s", d->options.mountpoint,
                    backend_name(d->backend));
        if (d->parent < 0)
                return;
        /* Not earlier, because ^C and a hangup end a start. */
        setsid();
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; fd < 3; fd++)
                dup2(null, fd);
        close(null);
        (void)!write(d->parent, "", 1);
        close_fd(TAKE_FD(d->parent));
}

/*
 * While there is no loop to take them: one that came before it waits for it, and none ends the process in the middle of
 * its end.
 */
static void mask_signals(int how) {
        sigset_t set;

        sigemptyset(&set);
        for (size_t i = 0; i < N_SIGNALS; i++)
                sigaddset(&set, signals[i]);
        sigprocmask(how, &set, NULL);
}

static void close_handle(uv_handle_t *handle, void *data) {
        struct daemon *d = data;

        if (!uv_is_closing(handle) &&
            (handle == (uv_handle_t *)&d->turn || handle == (uv_handle_t *)&d->wake ||
             handle == (uv_handle_t *)&d->timer || handle->type == UV_SIGNAL))
                uv_close(handle, NULL);
}

static void name_leftover(void *data, const struct environment_info *info) {
        log_error("environment=%s: did not end in time; the next start here ends it, or modalpool reap", info->id);
}

/* Everything has ended, or stop_timeout has passed. */
static void finish(struct daemon *d) {
        d->phase = PHASE_STOPPED;
        pool_each_environment(core_pool(d->core), name_leftover, NULL);
        session_free(TAKE_PTR(d->session));
        mask_signals(SIG_BLOCK);
        uv_walk(&d->loop, close_handle, d);
        if (!core_is_empty(d->core))
                uv_stop(&d->loop);
}

static void on_timer(uv_timer_t *timer) {
        /* It only has to wake the loop; the tick does the rest. */
}

/* The loop updates its clock only at the end of a turn, so it still shows when the loop woke. */
static void on_woken(uv_check_t *check) {
        struct daemon *d = check->data;

        d->woke_us = (int64_t)uv_now(&d->loop) * USEC_PER_MSEC;
}

/*
 * Measures the turn that ends here, together with the ticks of the one before, but without the sleep in between. libuv
 * counts the sleep to the microsecond, except what was before a signal.
 */
static void measure_turn(struct daemon *d) {
        int64_t now = uv_hrtime() / 1000, slept_us = uv_metrics_idle_time(&d->loop) / 1000;
        int64_t slept = slept_us - d->slept_us;

        if (slept < d->woke_us - d->asleep_us)
                slept = d->woke_us - d->asleep_us;
        if (d->turned_us)
                lag_turn(&d->lag, now - d->turned_us - slept, clock_now());
        d->turned_us = now;
        d->slept_us = slept_us;
}

/* Do what is due, and set the timer for the next action. */
static void tick(struct daemon *d) {
        int64_t next, now;

        if (d->phase == PHASE_MOUNTING && session_is_up(d->session))
                announce(d);
        next = clock_earlier(core_tick(d->core), requests_tick(&d->fs.requests, clock_now()));
        removal_tick();
        now = clock_now();
        next = clock_earlier(next, notify_tick(&d->notify, now));
        next = clock_earlier(next, tell_slow_start(d, now));
        if (d->phase == PHASE_STOPPING) {
                if (core_is_empty(d->core) || d->stop_by_us <= now) {
                        finish(d);
                        return;
                }
                next = clock_earlier(next, d->stop_by_us);
        }
        d->due_us = next;
        if (removal_is_under_way()) /* in the next turn; being late does no harm */
                next = now;
        if (next == USEC_NEVER) {
                uv_timer_stop(&d->timer);
                return;
        }
        uv_update_time(&d->loop);
        uv_timer_start(&d->timer, on_timer, next > now ? (next - now + 999) / 1000 : 0, 0);
}

/*
 * Whether a deadline passed after the loop last delivered events, because the daemon was stopped or a turn took long.
 * Then the loop turns once more before the tick, because the event that the core waits for may be pending.
 */
static bool has_to_listen(struct daemon *d) {
        int64_t now = clock_now();
        bool late = d->due_us <= now && d->heard_us < d->due_us;

        d->heard_us = now;
        return late;
}

static void on_turn(uv_prepare_t *prepare) {
        struct daemon *d = prepare->data;

        measure_turn(d);
        if (has_to_listen(d))
                uv_timer_start(&d->timer, on_timer, 0, 0);
        else
                tick(d);
        d->asleep_us = uv_hrtime() / 1000;
}

/* A SIGHUP that was ignored when we were started, as by nohup, stays ignored. */
static void catch_signals(struct daemon *d) {
        struct sigaction before;

        for (size_t i = 0; i < N_SIGNALS; i++) {
                int signo = signals[i];

                uv_signal_init(&d->loop, &d->signals[i]);
                d->signals[i].data = d;
                if (signo == SIGHUP && sigaction(SIGHUP, NULL, &before) == 0 && before.sa_handler == SIG_IGN)
                        continue;
                uv_signal_start(&d->signals[i], on_signal, signo);
        }
        mask_signals(SIG_UNBLOCK);
}

static int set_up(struct daemon *d, struct result *why) {
        int r;

        result_set(why, RESULT_FAILED, "out of memory");
        r = state_open(&d->state, &d->config, d->options.mountpoint, true, why);
        if (r == 0)
                r = state_open_journal(&d->state, provider_name(&d->config), &d->journal, why);
        if (r == 0 && *d->config.audit)
                r = audit_open(&d->audit, d->config.audit, why);
        if (r < 0)
                return r;
        r = uv_loop_init(&d->loop);
        if (r < 0)
                return r;
        d->loop_is_open = true;
        uv_loop_configure(&d->loop, UV_METRICS_IDLE_TIME);
        uv_prepare_init(&d->loop, &d->turn);
        uv_check_init(&d->loop, &d->wake);
        uv_timer_init(&d->loop, &d->timer);
        catch_signals(d);
        d->turn.data = d->wake.data = d;
        uv_prepare_start(&d->turn, on_turn);
        uv_check_start(&d->wake, on_woken);

        r = provider_connect(&d->client, &d->loop, &d->config, why);
        if (r == 0)
                r = provider_open(&d->backend, d->client, &d->loop, &d->config, "", &d->state, d->state.pool_id,
                                  d->options.mountpoint, why);
        if (r == 0)
                r = core_new(&d->core, &(struct core_parts){
                                               .use = BACKEND_TO_CREATE,
                                               .config = &d->config,
                                               .backend = d->backend,
                                               .open = open_backend,
                                               .owner = d,
                                               .journal = d->journal,
                                               .audit = d->audit,
                                               .spool_dir = d->state.spool,
                                               .clock = clock_now,
                                               .seed = (uint64_t)clock_read_us(CLOCK_REALTIME),
                                       });
        if (r == 0)
                r = pools_check_file(core_pools(d->core), why);
        if (r < 0)
                return r;

        d->fs = (struct fs){
                .config = &d->config,
                .provider = provider_name(&d->config),
                .pools = core_pools(d->core),
                .leases = core_leases(d->core),
                .lag = &d->lag,
                .audits = d->audit != NULL,
                .spool_dir = d->state.spool,
                .uid = geteuid(),
                .gid = getegid(),
                .clock = clock_now,
                .started_wall_us = clock_read_us(CLOCK_REALTIME),
        };
        requests_init(&d->fs.requests, requests_kernel_limit());
        list_init(&d->fs.handles);
        list_init(&d->fs.all_trees);
        if (d->fs.requests.limit_us != USEC_NEVER)
                log_warning("fs.fuse request timeouts are set: reads that wait end with EINTR after %" PRId64 " s",
                            d->fs.requests.limit_us / USEC_PER_SEC);

        result_set(why, RESULT_FAILED, "the backend did not start");
        return core_start(d->core, &core_events, d);
}

static void take_down(struct daemon *d) {
        bool keep;

        mask_signals(SIG_BLOCK);
        /* If environments did not end in time, the core cannot be freed, and stays until the process ends. */
        if (d->phase != PHASE_STOPPED || core_is_empty(d->core)) {
                core_free(d->core);
                backend_free(d->backend);
                backend_client_free(d->client);
        }
        if (d->loop_is_open) {
                uv_walk(&d->loop, close_handle, d);
                uv_run(&d->loop, UV_RUN_NOWAIT);
                uv_loop_close(&d->loop);
        }
        keep = !d->journal || !journal_is_empty(d->journal);
        journal_close(d->journal);
        audit_close(d->audit);
        removal_forget();
        state_close(&d->state, keep);
        notify_close(&d->notify);
        free(d->notice);
}

static int run(struct daemon *d) {
        struct result why;

        mask_signals(SIG_BLOCK);
        notify_open(&d->notify);
        if (set_up(d, &why) < 0)
                fail(d, &why);
        else
                uv_run(&d->loop, UV_RUN_DEFAULT);
        take_down(d);
        return d->exit_status;
}

/* The child continues. The parent waits until the mount answers, and exits with the status of the start. */
static int go_to_background(struct daemon *d) {
        int fds[2];
        char byte;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid > 0) {
                close(fds[1]);
                _exit(read(fds[0], &byte, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
        }
        close(fds[0]);
        d->parent = fds[1];
        return chdir("/") < 0 ? -errno : 0;
}

/* If 0, 1 or 2 is closed, a file that is opened later would get that number, and messages would be written to it. */
static int open_standard_descriptors(void) {
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
                        return -errno;
        return 0;
}

static void raise_limits(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                setrlimit(RLIMIT_NOFILE, &limit);
        }
        /*
         * Return freed memory to the system, so that the daemon's size follows its load, but not for each piece of
         * output.
         */
        mallopt(M_TRIM_THRESHOLD, 1 << 20);
        mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

int main(int argc, char **argv) {
        /* Static, because environments that did not end in time may use it until the process ends. */
        static struct daemon d = { .parent = -1, .state = { .lock = -1, .spool = -1 } };
        struct result why = {};
        int r;

        if (open_standard_descriptors() < 0)
                return EXIT_FAILURE;
        signal(SIGPIPE, SIG_IGN);
        if (run_is_meant(argc, argv))
                return run_command(argc, argv);
        if (forward_is_meant(argc, argv))
                return forward_command(argc, argv);
        log_open(LOG_INFO, false);
        umask(0077);

        r = config_init(&d.config, provider_tables);
        if (r == 0)
                r = options_read(&d.options, &d.config, argc, argv, &why);
        /*
         * A token may be in memory: no core dumps, and no tracing by other processes of this user. A fork inherits
         * this.
         */
        if (r == 0 && provider_has_credentials(&d.config) && prctl(PR_SET_DUMPABLE, 0) < 0)
                r = -errno;
        if (r == 0 && !d.options.fake) {
                log_open(d.options.debug ? LOG_DEBUG : priority_of_log_level(d.config.log_level), false);
                raise_limits();
                if (d.options.reap)
                        d.exit_status = reap(&d.config, &d.options);
                else if (!d.options.foreground)
                        r = go_to_background(&d);
                if (r == 0 && !d.options.reap)
                        d.exit_status = run(&d);
        }
        if (r < 0) {
                if (!*why.text)
                        result_set(&why, RESULT_FAILED, "%s", strerror(-r));
                fail(&d, &why);
        }
        options_deinit(&d.options);
        config_deinit(&d.config);
        return d.exit_status;
}
