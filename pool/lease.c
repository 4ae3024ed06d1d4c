/* SPDX-License-Identifier: MIT */
#include "pool/lease.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <uthash.h>

#include "pool/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/log.h"
#include "pool/util/text.h"
#include "pool/util/watch.h"

struct leases {
        struct pool *pool;
        const struct config *config;
        struct event_ring *events;
        int spool_dir;
        int64_t (*clock)(void);
        uint64_t instance;       /* random: tells this run's exec ids from all others */
        uint64_t last_serial;
        bool draining;
        struct list list;        /* all, in order of making */
        struct lease *by_name;   /* hashes over the same */
        struct lease *by_serial;
        struct list running;     /* jobs with a deadline to watch */
        int64_t next_deadline_us; /* not later than the earliest of them */
};

struct lease {
        struct leases *table; /* NULL once released */
        struct list link;
        UT_hash_handle hh_name, hh_serial;
        unsigned refs;
        char *name;
        uint64_t serial;
        uid_t uid;
        gid_t gid;
        int64_t created_wall_us;
        enum lease_state state;
        struct claim claim;
        enum result_code code; /* why it is lost or failed */
        char *error;           /* and the sentence */
        char *remark;          /* about the newest bad word in ctl or a setting */
        struct list watches;

        char *workdir; /* BASE/hermes_tasks/NAME */
        char *cwd;
        char *env;
        int64_t timeout_us;
        struct blob input;

        struct list jobs; /* oldest first; a reference each */
        struct job *current;
        unsigned n_queued, n_ended;
        uint32_t last_number;
        bool used;     /* a job was handed to this environment: the workdir may exist */
        bool prepared; /* a job began there: the workdir was made and emptied */
};

static void start_next(struct lease *l);

static const char *const state_names[] = {
        [LEASE_WAITING] = "waiting",   [LEASE_LEASED] = "leased",     [LEASE_LOST] = "lost",
        [LEASE_FAILED] = "failed",     [LEASE_RELEASED] = "released",
};

const char *lease_state_name(enum lease_state state) {
        return state_names[state];
}

static void replace(char **at, const char *text) {
        free(*at);
        *at = text && *text ? strdup(text) : NULL;
}

static void set_state(struct lease *l, enum lease_state state, const struct result *why) {
        l->state = state;
        l->code = why ? why->code : RESULT_OK;
        replace(&l->error, why ? why->text : NULL);
        replace(&l->remark, NULL);
        log_debug("lease=%s environment=%s: %s%s%s", l->name, lease_environment(l) ?: "-", state_names[state],
                  why ? ": " : "", why ? why->text : "");
        event_emit(l->table->events, "lease", l->name, state_names[state], NULL, why ? why->text : NULL);
        watch_fire(&l->watches);
}

/* jobs */

static void note_job(struct lease *l, const struct job *j, const char *state) {
        char name[NAME_LEN_MAX + 16];

        log_debug("lease=%s environment=%s job=%" PRIu32 ": %s", l->name, lease_environment(l) ?: "-", j->number,
                  state);
        snprintf(name, sizeof(name), "%s/%" PRIu32, l->name, j->number);
        event_emit(l->table->events, "job", name, state, NULL, j->error);
}

/* Old finished jobs leave the lease; who reads one keeps it. */
static void trim_history(struct lease *l) {
        struct job *j, *tmp;

        list_for_each_safe (j, tmp, &l->jobs, link) {
                if (l->n_ended <= l->table->config->history)
                        break;
                if (!job_ended(j))
                        continue;
                list_remove(&j->link);
                l->n_ended--;
                job_unref(j);
        }
}

static void end_job(struct lease *l, struct job *j, const struct result *r, int code) {
        if (j->state == JOB_QUEUED)
                l->n_queued--;
        if (l->current == j)
                l->current = NULL;
        l->n_ended++;
        job_end(j, r, code, l->table->clock());
        note_job(l, j, "ended");
}

/* Everything that is queued, and with @running also what runs, ends without a result. */
static void end_jobs(struct lease *l, bool running, const struct result *why) {
        struct job *j;

        if (running && l->current) {
                if (l->current->exec)
                        exec_cancel(l->current->exec);
                end_job(l, l->current, why, 0);
        }
        list_for_each (j, &l->jobs, link)
                if (j->state == JOB_QUEUED)
                        end_job(l, j, why, 0);
}

static void watch_deadline(struct leases *t, struct job *j, int64_t deadline_us) {
        j->deadline_us = deadline_us;
        if (deadline_us < t->next_deadline_us)
                t->next_deadline_us = deadline_us;
}

/* Kill its processes; when even that does not end it, leases_tick() condemns the environment. */
static void kill_job(struct lease *l, struct job *j, const char *why) {
        job_remark(j, why);
        if (j->wanted_dead)
                return;
        j->wanted_dead = true;
        watch_deadline(l->table, j, clock_after(l->table->clock(), KILL_TIMEOUT_US));
        exec_signal(j->exec, SIGKILL);
}

static void on_started(void *owner) {
        struct job *j = owner;
        struct lease *l = j->lease;

        l->prepared = true;
        j->started_us = l->table->clock();
        if (j->timeout_us > 0 && !j->wanted_dead)
                watch_deadline(l->table, j, clock_after(j->started_us, j->timeout_us));
        note_job(l, j, "running");
        job_set_state(j, JOB_RUNNING);
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
        struct job *j = owner;
        struct lease *l = j->lease;
        char why[128];
        int r;

        if (j->output_refused)
                return;
        r = spool_append(j->spool, stream, data, len);
        if (r == -EFBIG) {
                snprintf(why, sizeof(why), "killed: its output passed output_max, %" PRIu64 " bytes",
                         l->table->config->output_max);
        } else if (r < 0) {
                snprintf(why, sizeof(why), "killed: its output could not be stored: %s", strerror(-r));
        }
        if (r < 0) {
                j->output_refused = true;
                kill_job(l, j, why);
        }
        watch_fire(&j->watches);
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct job *j = owner;
        struct lease *l = j->lease;
        struct result ok = {};

        j->exec = NULL;
        if (j->timed_out && result_ok(r))
                code = 124, r = &ok;
        end_job(l, j, r, code);
        trim_history(l);
        start_next(l);
}

static const struct exec_events exec_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
};

/* The lines of @text as an array; both are the caller's to free, the array before the text. */
static const char **split_lines(char *text, const char *first) {
        size_t n = 2;
        const char **lines;

        for (const char *c = text; *c; c++)
                n += *c == '\n';
        lines = calloc(n + 1, sizeof(*lines));
        if (!lines)
                return NULL;
        n = 0;
        for (char *line, *rest = text; (line = strsep(&rest, "\n"));)
                if (*line)
                        lines[n++] = line;
        lines[n] = first; /* last wins, and nobody may change the mark */
        return lines;
}

static int start_job(struct lease *l, struct job *j) {
        const struct config *config = l->table->config;
        _cleanup_(cleanup_free) const char **env = NULL;
        char id[64], mark[96];

        snprintf(id, sizeof(id), "%016" PRIx64 "-%" PRIu64 ".%" PRIu32, l->table->instance, l->serial, j->number);
        snprintf(mark, sizeof(mark), "%s=%s", EXEC_MARK, id);
        env = split_lines(j->env, mark);
        if (!env)
                return -ENOMEM;
        l->used = true;
        return sandbox_exec(environment_sandbox(l->claim.environment),
                            &(struct exec_spec){
                                    .id = id,
                                    .shell = *config->shell ? config->shell : NULL,
                                    .command = &j->command,
                                    .input = &j->input,
                                    .workdir = l->workdir,
                                    .cwd = j->cwd,
                                    .fresh = !l->prepared,
                                    .env = env,
                            },
                            &exec_events, j, &j->exec);
}

static struct job *first_queued(struct lease *l) {
        struct job *j;

        list_for_each (j, &l->jobs, link)
                if (j->state == JOB_QUEUED)
                        return j;
        return NULL;
}

static void start_next(struct lease *l) {
        struct result why;
        struct job *j;
        int r;

        while (l->state == LEASE_LEASED && !l->current && l->n_queued > 0) {
                j = first_queued(l);
                r = start_job(l, j);
                if (r < 0) {
                        result_set(&why, RESULT_FAILED, "job not started in environment %s: %s",
                                   lease_environment(l), strerror(-r));
                        end_job(l, j, &why, 0);
                        trim_history(l);
                        continue;
                }
                l->n_queued--;
                l->current = j;
                list_add_tail(&l->table->running, &j->running);
                note_job(l, j, "starting");
                job_set_state(j, JOB_STARTING);
        }
}

/* the pool's events */

static void on_granted(struct claim *c) {
        struct lease *l = container_of(c, struct lease, claim);

        set_state(l, LEASE_LEASED, NULL);
        start_next(l);
}

static void on_failed(struct claim *c, const struct result *why) {
        struct lease *l = container_of(c, struct lease, claim);

        end_jobs(l, true, why);
        trim_history(l);
        set_state(l, LEASE_FAILED, why);
}

static void on_lost(struct claim *c, const struct result *why) {
        struct lease *l = container_of(c, struct lease, claim);

        end_jobs(l, true, why);
        trim_history(l);
        set_state(l, LEASE_LOST, why);
}

static const struct claim_events claim_events = {
        .granted = on_granted,
        .failed = on_failed,
        .lost = on_lost,
};

/* the table */

int leases_new(struct leases **out, struct pool *pool, const struct config *config, struct event_ring *events,
               int spool_dir, int64_t (*clock)(void)) {
        struct leases *t = calloc(1, sizeof(*t));

        if (!t)
                return -ENOMEM;
        if (getrandom(&t->instance, sizeof(t->instance), 0) != sizeof(t->instance)) {
                free(t);
                return -errno;
        }
        t->pool = pool;
        t->config = config;
        t->events = events;
        t->spool_dir = spool_dir;
        t->clock = clock;
        t->next_deadline_us = USEC_NEVER;
        list_init(&t->list);
        list_init(&t->running);
        *out = t;
        return 0;
}

void leases_free(struct leases *t) {
        if (!t)
                return;
        assert(list_empty(&t->list));
        free(t);
}

unsigned leases_count(const struct leases *t) {
        return HASH_CNT(hh_name, t->by_name);
}

struct lease *leases_find(struct leases *t, const char *name) {
        struct lease *l;

        HASH_FIND(hh_name, t->by_name, name, strlen(name), l);
        return l;
}

struct lease *leases_find_serial(struct leases *t, uint64_t serial) {
        struct lease *l;

        HASH_FIND(hh_serial, t->by_serial, &serial, sizeof(serial), l);
        return l;
}

struct lease *leases_after(struct leases *t, uint64_t serial) {
        struct lease *l = leases_find_serial(t, serial);

        if (l)
                return l->link.next == &t->list ? NULL : list_entry(l->link.next, struct lease, link);
        list_for_each (l, &t->list, link)
                if (l->serial > serial)
                        return l;
        return NULL;
}

int64_t leases_tick(struct leases *t) {
        int64_t now = t->clock();
        struct job *j, *tmp;
        char why[64];

        if (t->next_deadline_us > now)
                return t->next_deadline_us;

        t->next_deadline_us = USEC_NEVER;
        list_for_each_safe (j, tmp, &t->running, running) {
                struct lease *l = j->lease;

                if (j->deadline_us > now) {
                        watch_deadline(t, j, j->deadline_us);
                } else if (!j->wanted_dead) {
                        j->timed_out = true;
                        snprintf(why, sizeof(why), "timed out after %g s", (double)j->timeout_us / USEC_PER_SEC);
                        kill_job(l, j, why);
                } else {
                        struct result lost;

                        result_set(&lost, RESULT_LOST,
                                   "environment %s given up: job %" PRIu32 " did not end %d s after it was killed",
                                   lease_environment(l), j->number, (int)(KILL_TIMEOUT_US / USEC_PER_SEC));
                        pool_condemn(t->pool, &l->claim, &lost);
                }
        }
        return t->next_deadline_us;
}

void leases_drain(struct leases *t, bool drain) {
        t->draining = drain;
}

void leases_stop(struct leases *t) {
        struct lease *l, *tmp;

        t->draining = true;
        list_for_each_safe (l, tmp, &t->list, link)
                lease_release(l);
}

/* a lease */

static int check_name(const char *name) {
        size_t len = strlen(name);

        if (len > NAME_LEN_MAX)
                return -ENAMETOOLONG;
        if (len == 0 || name[0] == '.' || !text_is_utf8(name, len))
                return -EINVAL;
        for (const char *c = name; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f || *c == '/')
                        return -EINVAL;
        return 0;
}

static char *workdir_path(const char *base, const char *name) {
        size_t len = strlen(base);
        char *path;

        while (len > 0 && base[len - 1] == '/')
                len--;
        return asprintf(&path, "%.*s/hermes_tasks/%s", (int)len, base, name) < 0 ? NULL : path;
}

int lease_create(struct leases *t, const char *name, uid_t uid, gid_t gid, struct lease **out) {
        struct lease *l;
        int r;

        r = check_name(name);
        if (r < 0)
                return r;
        if (leases_find(t, name))
                return -EEXIST;
        if (t->draining || leases_count(t) >= t->config->max_leases || t->last_serial >= LEASE_SERIAL_MAX)
                return -EAGAIN;

        l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->refs = 1;
        list_init(&l->link);
        list_init(&l->watches);
        list_init(&l->jobs);
        blob_init(&l->input, t->spool_dir, INPUT_SIZE_MAX);
        l->name = strdup(name);
        l->workdir = workdir_path(t->config->base, name);
        l->cwd = strdup("");
        l->env = strdup("");
        if (!l->name || !l->workdir || !l->cwd || !l->env) {
                lease_unref(l);
                return -ENOMEM;
        }
        l->table = t;
        l->serial = ++t->last_serial;
        l->uid = uid;
        l->gid = gid;
        l->created_wall_us = clock_read_us(CLOCK_REALTIME);
        l->timeout_us = t->config->timeout_us;
        claim_init(&l->claim, &claim_events, l->name);

        list_add_tail(&t->list, &l->link);
        HASH_ADD_KEYPTR(hh_name, t->by_name, l->name, strlen(l->name), l);
        HASH_ADD(hh_serial, t->by_serial, serial, sizeof(l->serial), l);
        set_state(l, LEASE_WAITING, NULL);
        pool_claim(t->pool, &l->claim);
        *out = l;
        return 0;
}

void lease_release(struct lease *l) {
        struct leases *t = l->table;
        struct result why;
        struct job *j;

        result_set(&why, RESULT_RELEASED, "lease %s was released", l->name);
        end_jobs(l, true, &why);
        set_state(l, LEASE_RELEASED, &why);
        pool_release(t->pool, &l->claim, l->used ? l->workdir : NULL);

        list_remove(&l->link);
        HASH_DELETE(hh_name, t->by_name, l);
        HASH_DELETE(hh_serial, t->by_serial, l);
        while ((j = list_first(&l->jobs, struct job, link))) {
                list_remove(&j->link);
                job_unref(j);
        }
        l->table = NULL;
        lease_unref(l);
}

struct lease *lease_ref(struct lease *l) {
        l->refs++;
        return l;
}

void lease_unref(struct lease *l) {
        if (!l || --l->refs > 0)
                return;
        assert(list_empty(&l->watches) && list_empty(&l->jobs));
        blob_deinit(&l->input);
        free(l->name);
        free(l->workdir);
        free(l->cwd);
        free(l->env);
        free(l->error);
        free(l->remark);
        free(l);
}

enum result_code lease_accepts(const struct lease *l) {
        if (l->code != RESULT_OK)
                return l->code;
        return l->n_queued >= QUEUE_MAX || l->last_number >= JOB_NUMBER_MAX ? RESULT_BUSY : RESULT_OK;
}

int lease_submit(struct lease *l, struct blob *command, struct job **out) {
        struct result why;
        struct job *j;
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        if (l->last_number >= JOB_NUMBER_MAX)
                return -EAGAIN;
        r = job_new(&j, l->serial, l->last_number + 1, l->table->spool_dir, l->table->config->output_max, command,
                    &l->input);
        if (r < 0)
                return r;
        j->lease = l;
        j->cwd = strdup(l->cwd);
        j->timeout_us = l->timeout_us;
        j->submitted_us = l->table->clock();
        if (asprintf(&j->env, "%s\n%s", l->table->config->env, l->env) < 0)
                j->env = NULL;
        if (!j->cwd || !j->env) {
                job_unref(j);
                return -ENOMEM;
        }
        l->last_number++;
        l->n_queued++;
        list_add_tail(&l->jobs, &j->link);
        replace(&l->remark, NULL);
        note_job(l, j, "queued");
        *out = job_ref(j);

        /* It was opened before the lease was lost: it is not forgotten, it fails like those before it. */
        if (l->code != RESULT_OK) {
                result_set(&why, l->code, "%s", l->error);
                end_jobs(l, false, &why);
                trim_history(l);
        }
        start_next(l);
        return 0;
}

/* ctl */

static int verb_kill(struct lease *l, const char *argument) {
        if (*argument)
                return -EINVAL;
        if (l->current)
                kill_job(l, l->current, "killed through ctl");
        return 0;
}

static int verb_signal(struct lease *l, const char *argument) {
        int signo = text_to_signal(argument);

        if (signo < 0)
                return -EINVAL;
        if (signo == SIGKILL)
                return verb_kill(l, "");
        if (l->current)
                exec_signal(l->current->exec, signo);
        return 0;
}

static int verb_cancel(struct lease *l, const char *argument) {
        struct result why;

        if (*argument)
                return -EINVAL;
        result_set(&why, RESULT_FAILED, "cancelled through ctl before it ran");
        end_jobs(l, false, &why);
        trim_history(l);
        return 0;
}

static int verb_renew(struct lease *l, const char *argument) {
        if (*argument || (l->state != LEASE_LOST && l->state != LEASE_FAILED))
                return -EINVAL;
        l->used = l->prepared = false;
        set_state(l, LEASE_WAITING, NULL);
        pool_claim(l->table->pool, &l->claim);
        return 0;
}

static const struct {
        const char *name;
        int (*run)(struct lease *l, const char *argument);
        const char *expected;
} verbs[] = {
        { "kill", verb_kill, "no argument" },
        { "signal", verb_signal, "a signal's name, such as INT" },
        { "cancel", verb_cancel, "no argument" },
        { "renew", verb_renew, "no argument, and a lease that is lost or failed" },
};

void lease_remark(struct lease *l, const char *format, ...) {
        struct result line;
        char text[RESULT_TEXT_MAX];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        result_set(&line, RESULT_INVALID, "%s", text); /* makes it one printable line */
        replace(&l->remark, line.text);
}

int lease_command(struct lease *l, const char *line) {
        size_t len = strcspn(line, " ");
        const char *argument = line + len + strspn(line + len, " ");

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
                if (strlen(verbs[i].name) != len || strncmp(verbs[i].name, line, len))
                        continue;
                if (verbs[i].run(l, argument) < 0) {
                        lease_remark(l, "ctl: \"%s\": %s takes %s", line, verbs[i].name,
                                      verbs[i].expected);
                        return -EINVAL;
                }
                replace(&l->remark, NULL);
                return 0;
        }
        lease_remark(l, "ctl: \"%s\": unknown; known are kill, signal NAME, cancel, renew", line);
        return -EINVAL;
}

/* settings */

static int parse_timeout(const struct lease *l, const char *text, int64_t *out) {
        if (!*text) {
                *out = l->table->config->timeout_us;
                return 0;
        }
        return text_to_usec(text, out);
}

int lease_check_setting(struct lease *l, enum lease_setting setting, const char *text) {
        struct result why;
        int64_t usec;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        switch (setting) {
        case SETTING_CWD:
                if (strchr(text, '\n')) {
                        lease_remark(l, "cwd: \"%s\": expected one line, a path", text);
                        return -EINVAL;
                }
                return 0;
        case SETTING_TIMEOUT:
                if (parse_timeout(l, text, &usec) < 0) {
                        lease_remark(l, "timeout: \"%s\": expected seconds, such as 60, or 0 for none", text);
                        return -EINVAL;
                }
                return 0;
        case SETTING_ENV:
                if (config_check_env(text, &why) < 0) {
                        lease_remark(l, "%s", why.text);
                        return -EINVAL;
                }
                return 0;
        case SETTING_N:
                break;
        }
        return -EINVAL;
}

int lease_set(struct lease *l, enum lease_setting setting, const char *text) {
        char *copy;
        int r;

        r = lease_check_setting(l, setting, text);
        if (r < 0)
                return r;
        replace(&l->remark, NULL);
        if (setting == SETTING_TIMEOUT)
                return parse_timeout(l, text, &l->timeout_us);
        copy = strdup(text);
        if (!copy)
                return -ENOMEM;
        if (setting == SETTING_CWD) {
                free(l->cwd);
                l->cwd = copy;
        } else {
                free(l->env);
                l->env = copy;
        }
        return 0;
}

int lease_get(const struct lease *l, enum lease_setting setting, struct buf *out) {
        int64_t us = l->timeout_us;

        switch (setting) {
        case SETTING_CWD:
                return buf_printf(out, "%s\n", *l->cwd ? l->cwd : l->workdir);
        case SETTING_TIMEOUT:
                return us % USEC_PER_SEC ? buf_printf(out, "%.6g\n", (double)us / USEC_PER_SEC)
                                         : buf_printf(out, "%" PRId64 "\n", us / USEC_PER_SEC);
        case SETTING_ENV:
                return *l->env ? buf_printf(out, "%s\n", l->env) : 0;
        case SETTING_N:
                break;
        }
        return -EINVAL;
}

struct blob *lease_input(struct lease *l) {
        return &l->input;
}

/* for readers */

const char *lease_name(const struct lease *l) {
        return l->name;
}

uint64_t lease_serial(const struct lease *l) {
        return l->serial;
}

uid_t lease_uid(const struct lease *l) {
        return l->uid;
}

gid_t lease_gid(const struct lease *l) {
        return l->gid;
}

enum lease_state lease_state(const struct lease *l) {
        return l->state;
}

int64_t lease_created_wall_us(const struct lease *l) {
        return l->created_wall_us;
}

enum result_code lease_code(const struct lease *l) {
        return l->code;
}

const char *lease_error(const struct lease *l) {
        const struct result *trouble;
        const struct job *j;

        if (l->remark)
                return l->remark;
        if (l->error)
                return l->error;
        if (l->state == LEASE_WAITING) {
                trouble = pool_trouble(l->table->pool);
                if (trouble)
                        return trouble->text;
        }
        j = lease_newest(l);
        return j ? j->error : NULL;
}

const char *lease_environment(const struct lease *l) {
        return l->claim.environment ? environment_id(l->claim.environment) : NULL;
}

struct list *lease_watches(struct lease *l) {
        return &l->watches;
}

struct job *lease_newest(const struct lease *l) {
        return list_last(&l->jobs, struct job, link);
}

struct job *lease_job(const struct lease *l, uint32_t number) {
        struct job *j = number ? lease_job_after(l, number - 1) : NULL;

        return j && j->number == number ? j : NULL;
}

struct job *lease_job_after(const struct lease *l, uint32_t number) {
        struct job *j;

        list_for_each (j, &l->jobs, link)
                if (j->number > number)
                        return j;
        return NULL;
}

struct job *lease_current(const struct lease *l) {
        return l->current;
}

unsigned lease_queued(const struct lease *l) {
        return l->n_queued;
}
