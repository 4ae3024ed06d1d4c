/* SPDX-License-Identifier: MIT */
#include "fs/files.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/handle.h"
#include "fs/limits.h"
#include "fs/node.h"
#include "pool/base/limits.h"
#include "pool/lease/files.h"
#include "pool/lease/job-result.h"
#include "pool/status/status.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

static struct status_sources sources(const struct fs *fs, const struct mount_pool *p) {
        return (struct status_sources){
                .pool = p->pool,
                .leases = p->leases,
                .config = p->config,
                .lag = fs->lag,
                .n_reads = fs->requests.n,
                .oldest_read_us = requests_oldest(&fs->requests),
                .now_us = fs->clock(),
                .name = p->serial ? p->name : NULL,
                .owner = p->uid,
                .template = mount_pool_progress(p),
        };
}

/* The mount's own shows the other pools too. */
static int render_sources(const struct target *t, struct buf *out,
                          int (*render)(const struct status_sources *s, struct buf *out)) {
        struct status_sources s = sources(t->fs, t->pool), *others = NULL;
        const struct mount_pool *p = t->pool;
        int r;

        if (!p->open)
                return -ESTALE;
        if (!p->serial && pools_count(t->fs->pools) > 0) {
                others = calloc(pools_count(t->fs->pools), sizeof(*others));
                if (!others)
                        return -ENOMEM;
                while ((p = pools_after(t->fs->pools, p->serial)))
                        others[s.n_others++] = sources(t->fs, p);
                s.others = others;
        }
        r = render(&s, out);
        free(others);
        return r;
}

static int render_pool_status(const struct target *t, struct buf *out) {
        return render_sources(t, out, status_pool);
}

static int render_pool_stats(const struct target *t, struct buf *out) {
        return render_sources(t, out, status_stats);
}

static int render_pool_metrics(const struct target *t, struct buf *out) {
        return render_sources(t, out, status_metrics);
}

static int render_pool_config(const struct target *t, struct buf *out) {
        return t->pool->open ? config_render(t->pool->config, out) : -ESTALE;
}

static int render_lease_status(const struct target *t, struct buf *out) {
        return status_lease(t->lease, out);
}

static int render_lease_error(const struct target *t, struct buf *out) {
        const char *error = lease_error(t->lease);

        return buf_printf(out, "%s\n", error ? error : "ok");
}

static int render_job_status(const struct target *t, struct buf *out) {
        return status_job(t->job, out);
}

static int render_job_error(const struct target *t, struct buf *out) {
        return buf_printf(out, "%s\n", t->job->error ? t->job->error : "ok");
}

/* Waits as exit_code does, but is there for every end. */
static int render_result(const struct target *t, struct buf *out) {
        _cleanup_(cleanup_free) char *text = NULL;
        const struct job *j = t->job;
        json_auto_t *result = NULL;

        if (!job_is_submitted(j))
                return 0;
        if (!job_ended(j))
                return lease_state(t->lease) == LEASE_RELEASED ? -ESTALE : -EAGAIN;
        if (j->code == RESULT_RELEASED)
                return -ESTALE;
        result = job_result(j);
        text = result ? json_dumps(result, JSON_REAL_PRECISION(16)) : NULL;
        return text ? buf_printf(out, "%s\n", text) : -ENOMEM;
}

/* Also before there is an environment: who follows it waits for that in root/, and comes out in the right place. */
static int render_files(const struct target *t, struct buf *out) {
        return buf_printf(out, "root%s", lease_workdir(t->lease));
}

static int render_latest(const struct target *t, struct buf *out) {
        return t->job ? buf_printf(out, "%" PRIu32, t->job->number) : -ENOENT;
}

#define DIRECTORY S_IFDIR | 0700
#define READ S_IFREG | 0400
#define WRITE S_IFREG | 0600

const struct file files[FILE_N] = {
        [FILE_ROOT] = { NULL, FILE_ROOT, DIRECTORY, .time = time_of_leases },

        [FILE_NAMED_POOL] = { NULL, FILE_ROOT, DIRECTORY, .time = time_of_leases },

        [FILE_POOL] = { ".pool", FILE_ROOT, S_IFDIR | 0755 },
        [FILE_POOL_STATUS] = { "status", FILE_POOL, S_IFREG | 0444, &text_ops, render_pool_status, .time = time_now },
        [FILE_POOL_STATS] = { "stats", FILE_POOL, S_IFREG | 0444, &text_ops, render_pool_stats, .time = time_now },
        [FILE_POOL_METRICS] = { "metrics", FILE_POOL, S_IFREG | 0444, &text_ops, render_pool_metrics,
                                .time = time_now },
        [FILE_POOL_CONFIG] = { "config", FILE_POOL, S_IFREG | 0444, &text_ops, render_pool_config,
                               .time = time_of_config },
        [FILE_POOL_EVENTS] = { "events", FILE_POOL, READ, &events_ops, .time = time_of_events },
        [FILE_POOL_CTL] = { "ctl", FILE_POOL, WRITE, &pool_ctl_ops, render_pool_ctl },

        [FILE_LEASE] = { NULL, FILE_ROOT, DIRECTORY },
        [FILE_CMD] = { "cmd", FILE_LEASE, WRITE, &cmd_ops, .size = command_size,
                       .time = time_of_submission, .argument = VIEW_OUTPUT },
        [FILE_OUTPUT] = { "output", FILE_LEASE, READ, &stream_ops, .size = stream_size,
                          .time = time_of_stream, .argument = VIEW_OUTPUT },
        [FILE_STDOUT] = { "stdout", FILE_LEASE, READ, &stream_ops, .size = stream_size,
                          .time = time_of_stream, .argument = VIEW_STDOUT },
        [FILE_STDERR] = { "stderr", FILE_LEASE, READ, &stream_ops, .size = stream_size,
                          .time = time_of_stream, .argument = VIEW_STDERR },
        [FILE_EXIT_CODE] = { "exit_code", FILE_LEASE, READ, &wait_ops, render_exit_code, .time = time_of_end },
        [FILE_RESULT] = { "result", FILE_LEASE, READ, &wait_ops, render_result, .time = time_of_end },
        [FILE_STATUS] = { "status", FILE_LEASE, READ, &text_ops, render_lease_status, .time = time_of_lease },
        [FILE_ERROR] = { "error", FILE_LEASE, READ, &text_ops, render_lease_error, .time = time_of_lease },
        [FILE_ENVIRONMENT] = { "environment", FILE_LEASE, READ, &wait_ops, render_environment,
                               .time = time_of_environment },
        [FILE_STDIN] = { "stdin", FILE_LEASE, WRITE, &stdin_ops, .size = stdin_size, .time = time_of_stdin },
        [FILE_CWD] = { "cwd", FILE_LEASE, WRITE, &setting_ops, render_setting,
                       .time = time_of_setting, .argument = SETTING_CWD },
        [FILE_TIMEOUT] = { "timeout", FILE_LEASE, WRITE, &setting_ops, render_setting,
                           .time = time_of_setting, .argument = SETTING_TIMEOUT },
        [FILE_ENV] = { "env", FILE_LEASE, WRITE, &setting_ops, render_setting,
                       .time = time_of_setting, .argument = SETTING_ENV },
        [FILE_USER] = { "user", FILE_LEASE, WRITE, &setting_ops, render_setting,
                        .time = time_of_setting, .argument = SETTING_USER },
        [FILE_CTL] = { "ctl", FILE_LEASE, WRITE, &ctl_ops, render_ctl },
        [FILE_TREE] = { "root", FILE_LEASE, S_IFDIR | 0755, .unlisted = true },
        [FILE_FILES] = { "files", FILE_LEASE, S_IFLNK | 0777, NULL, render_files },
        [FILE_WATCH] = { "watch", FILE_LEASE, WRITE, &watch_ops },
        [FILE_PORTS] = { "ports", FILE_LEASE, DIRECTORY },
        [FILE_PORT] = { NULL, FILE_PORTS, WRITE, &port_ops },
        [FILE_JOBS] = { "jobs", FILE_LEASE, DIRECTORY, .time = time_of_submission },
        [FILE_LATEST] = { "latest", FILE_JOBS, S_IFLNK | 0777, NULL, render_latest, .time = time_of_submission },

        [FILE_JOB] = { NULL, FILE_JOBS, DIRECTORY, .time = time_of_submission },
        [FILE_JOB_CMD] = { "cmd", FILE_JOB, READ, &command_ops, .size = command_size, .time = time_of_submission },
        [FILE_JOB_OUTPUT] = { "output", FILE_JOB, READ, &stream_ops, .size = stream_size,
                              .time = time_of_stream, .argument = VIEW_OUTPUT },
        [FILE_JOB_STDOUT] = { "stdout", FILE_JOB, READ, &stream_ops, .size = stream_size,
                              .time = time_of_stream, .argument = VIEW_STDOUT },
        [FILE_JOB_STDERR] = { "stderr", FILE_JOB, READ, &stream_ops, .size = stream_size,
                              .time = time_of_stream, .argument = VIEW_STDERR },
        [FILE_JOB_EXIT_CODE] = { "exit_code", FILE_JOB, READ, &wait_ops, render_exit_code, .time = time_of_end },
        [FILE_JOB_RESULT] = { "result", FILE_JOB, READ, &wait_ops, render_result, .time = time_of_end },
        [FILE_JOB_STATUS] = { "status", FILE_JOB, READ, &text_ops, render_job_status, .time = time_of_job },
        [FILE_JOB_ERROR] = { "error", FILE_JOB, READ, &text_ops, render_job_error, .time = time_of_job },
        [FILE_JOB_CTL] = { "ctl", FILE_JOB, WRITE, &ctl_ops, render_ctl },

        [FILE_NAMED] = { NULL, FILE_JOBS, DIRECTORY, .time = time_of_submission },
        [FILE_NAMED_CMD] = { "cmd", FILE_NAMED, WRITE, &draft_ops, .size = command_size,
                             .time = time_of_submission, .argument = VIEW_OUTPUT },
        [FILE_NAMED_OUTPUT] = { "output", FILE_NAMED, READ, &stream_ops, .size = stream_size,
                                .time = time_of_stream, .argument = VIEW_OUTPUT },
        [FILE_NAMED_STDOUT] = { "stdout", FILE_NAMED, READ, &stream_ops, .size = stream_size,
                                .time = time_of_stream, .argument = VIEW_STDOUT },
        [FILE_NAMED_STDERR] = { "stderr", FILE_NAMED, READ, &stream_ops, .size = stream_size,
                                .time = time_of_stream, .argument = VIEW_STDERR },
        [FILE_NAMED_EXIT_CODE] = { "exit_code", FILE_NAMED, READ, &wait_ops, render_exit_code, .time = time_of_end },
        [FILE_NAMED_RESULT] = { "result", FILE_NAMED, READ, &wait_ops, render_result, .time = time_of_end },
        [FILE_NAMED_STATUS] = { "status", FILE_NAMED, READ, &text_ops, render_job_status, .time = time_of_job },
        [FILE_NAMED_ERROR] = { "error", FILE_NAMED, READ, &text_ops, render_job_error, .time = time_of_job },
        [FILE_NAMED_STDIN] = { "stdin", FILE_NAMED, WRITE, &stdin_ops, .size = stdin_size, .time = time_of_stdin },
        [FILE_NAMED_CWD] = { "cwd", FILE_NAMED, WRITE, &setting_ops, render_setting,
                             .time = time_of_setting, .argument = SETTING_CWD },
        [FILE_NAMED_TIMEOUT] = { "timeout", FILE_NAMED, WRITE, &setting_ops, render_setting,
                                 .time = time_of_setting, .argument = SETTING_TIMEOUT },
        [FILE_NAMED_ENV] = { "env", FILE_NAMED, WRITE, &setting_ops, render_setting,
                             .time = time_of_setting, .argument = SETTING_ENV },
        [FILE_NAMED_USER] = { "user", FILE_NAMED, WRITE, &setting_ops, render_setting,
                              .time = time_of_setting, .argument = SETTING_USER },
        [FILE_NAMED_TERMINAL] = { "terminal", FILE_NAMED, WRITE, &setting_ops, render_setting,
                                  .time = time_of_setting, .argument = SETTING_TERMINAL },
        [FILE_NAMED_CTL] = { "ctl", FILE_NAMED, WRITE, &ctl_ops, render_ctl },
};

_Static_assert(FILE_N <= 1 << NODE_FILE_BITS, "node numbers hold a row of the table");

static bool in_lease(enum file_id id) {
        return id >= FILE_LEASE && id < FILE_N;
}

int target_find(struct fs *fs, uint64_t number, struct target *out) {
        struct node node = node_of_number(number);
        struct target t = { .fs = fs, .id = node.file };

        if (t.id <= FILE_NONE || t.id >= FILE_N)
                return -ESTALE;
        if (in_lease(t.id)) {
                t.lease = leases_find_serial(fs->leases, node.serial);
                if (!t.lease)
                        return -ESTALE;
                t.job = is_file_of_job(t.id) ? lease_job(t.lease, node.job) : lease_newest(t.lease);
                if (is_file_of_job(t.id) && !t.job)
                        return -ESTALE;
                t.port = t.id == FILE_PORT ? node.job : 0;
        } else {
                t.pool = pools_find_serial(fs->pools, node.serial);
                if (!t.pool)
                        return -ESTALE;
        }
        *out = t;
        return 0;
}

uint64_t target_node(const struct target *t) {
        return node_number((struct node){
                .serial = t->lease ? lease_serial(t->lease) : t->pool->serial,
                .job = is_file_of_job(t->id) ? t->job->number : t->port,
                .file = t->id,
        });
}

void target_hide(const struct target *t) {
        if (t->lease)
                lease_hide(t->lease, target_job(t), t->id);
        else
                t->pool->hidden |= UINT64_C(1) << t->id;
}

bool target_hidden(const struct target *t) {
        return t->lease ? lease_hides(t->lease, target_job(t), t->id) : t->pool->hidden >> t->id & 1;
}

void target_show(const struct target *t) {
        if (t->lease)
                lease_show(t->lease);
        else
                t->pool->hidden = 0;
}

/* The mount's own pool is nobody's to remove. */
bool target_removable(const struct target *t) {
        return t->id != FILE_PORT && (t->lease || t->pool->serial);
}

void target_renew(const struct target *t) {
        if (t->lease)
                lease_renew_directory(t->lease, target_job(t));
        else
                t->pool->generation++;
}

uint64_t target_generation(const struct target *t) {
        if (t->id == FILE_POOL)
                return 1 + (uint64_t)t->pool->generation;
        return t->id == FILE_JOBS || t->id == FILE_PORTS || t->id == FILE_JOB || t->id == FILE_NAMED ? 1 + (uint64_t)lease_directory_generation(t->lease, target_job(t)) : 1;
}

#define FIRST_POOL (LEASE_SERIAL_MAX + 1) /* position of the first pool, behind all leases */

static bool is_pool_directory(enum file_id id) {
        return id == FILE_ROOT || id == FILE_NAMED_POOL;
}

/* Whether the row t->id belongs into the directory @dir as it is now. */
static bool stands_in(const struct target *t, const struct target *dir) {
        const struct file *f = &files[t->id];
        enum file_id parent = dir->id == FILE_NAMED_POOL ? FILE_ROOT : dir->id;

        return f->name && f->parent == parent && (t->id != FILE_LATEST || t->job);
}

static enum file_id job_row_id(const struct job *j) {
        return j->name ? FILE_NAMED : FILE_JOB;
}

/* "1", but not "01": each job has one name. */
static struct job *find_job(const struct lease *l, const char *name) {
        uint64_t number;

        if (name[0] != '0' && text_to_u64(name, &number) == 0)
                return number < JOB_NAMED_FIRST ? lease_job(l, number) : NULL;
        return lease_named_job(l, name);
}

static int find_port(const char *name, uint32_t *port) {
        static uint8_t last;
        uint64_t number;

        if (name[0] == '0' || text_to_u64(name, &number) < 0 || number > UINT16_MAX)
                return -ENOENT;
        *port = (uint32_t)number | (uint32_t)++last << TARGET_PORT_BITS;
        return 0;
}

/* Whether or not unlink took the name away. */
static int find_name(const struct target *dir, const char *name, struct target *out) {
        struct target t = *dir;

        for (t.id = FILE_NONE + 1; t.id < FILE_N; t.id++)
                if (stands_in(&t, dir) && !strcmp(files[t.id].name, name)) {
                        *out = t;
                        return 0;
                }

        if (dir->id == FILE_ROOT && name[0] == '@') {
                t.id = FILE_NAMED_POOL;
                t.pool = pools_find(t.fs->pools, name + 1);
                if (!t.pool)
                        return -ENOENT;
        } else if (is_pool_directory(dir->id)) {
                t.id = FILE_LEASE;
                t.lease = leases_find(t.pool->leases, name);
                if (!t.lease)
                        return -ENOENT;
                t.job = lease_newest(t.lease);
        } else if (dir->id == FILE_JOBS) {
                t.job = find_job(t.lease, name);
                if (!t.job)
                        return -ENOENT;
                t.id = job_row_id(t.job);
        } else if (dir->id == FILE_PORTS) {
                t.id = FILE_PORT;
                if (find_port(name, &t.port) < 0)
                        return -ENOENT;
        } else {
                return -ENOENT;
        }
        *out = t;
        return 0;
}

int target_lookup(const struct target *dir, const char *name, struct target *out) {
        int r = find_name(dir, name, out);

        return r == 0 && target_hidden(out) ? -ENOENT : r;
}

int target_lookup_hidden(const struct target *dir, const char *name, struct target *out) {
        return find_name(dir, name, out) == 0 && S_ISREG(files[out->id].mode) ? 0 : -EPERM;
}

static uint64_t target_size(const struct target *t) {
        const struct file *f = &files[t->id];
        struct buf text = BUF_INIT(TEXT_FILE_MAX);
        uint64_t size;

        if (f->size)
                return f->size(t);
        if (!f->render)
                return 0;
        size = f->render(t, &text) < 0 ? 0 : text.len;
        buf_deinit(&text);
        return size;
}

static struct timespec target_time(const struct target *t) {
        int64_t wall_us = files[t->id].time ? files[t->id].time(t)
                          : t->lease        ? lease_created_wall_us(t->lease)
                                            : t->pool->created_wall_us;

        return (struct timespec){ .tv_sec = wall_us / USEC_PER_SEC, .tv_nsec = wall_us % USEC_PER_SEC * 1000 };
}

void target_stat(const struct target *t, struct stat *st) {
        const struct file *f = &files[t->id];

        *st = (struct stat){
                .st_ino = target_node(t),
                .st_mode = f->mode,
                .st_nlink = S_ISDIR(f->mode) ? 2 : 1,
                .st_uid = t->lease ? lease_uid(t->lease) : t->pool->serial ? t->pool->uid : t->fs->uid,
                .st_gid = t->lease ? lease_gid(t->lease) : t->pool->serial ? t->pool->gid : t->fs->gid,
                .st_blksize = 128 << 10,
        };
        /* Other users may make leases here, and remove only their own. */
        if (t->id == FILE_ROOT && t->fs->config->allow_other)
                st->st_mode = S_IFDIR | S_ISVTX | 0777;
        if (!S_ISDIR(f->mode))
                st->st_size = target_size(t);
        st->st_blocks = (st->st_size + 511) / 512;
        st->st_mtim = st->st_ctim = st->st_atim = target_time(t);
}

/* Of the entries of a directory that are not rows of the table: the first with a serial or number above @above. */
static bool next_entry(const struct target *dir, uint64_t above, const char **name, uint64_t *position,
                       struct target *out) {
        static char pool_name[NAME_LEN_MAX + 2], number[JOB_NAME_SIZE];
        bool may_have_pools = dir->id == FILE_ROOT;

        *out = *dir;
        if (is_pool_directory(dir->id) && above < FIRST_POOL) {
                out->id = FILE_LEASE;
                out->lease = leases_after(dir->pool->leases, above);
                if (out->lease) {
                        *name = lease_name(out->lease);
                        *position = lease_serial(out->lease);
                        return true;
                }
                above = FIRST_POOL;
        }
        if (may_have_pools) {
                out->id = FILE_NAMED_POOL;
                out->pool = pools_after(dir->fs->pools, above - FIRST_POOL);
                if (!out->pool)
                        return false;
                snprintf(pool_name, sizeof(pool_name), "@%s", out->pool->name);
                *name = pool_name;
                *position = FIRST_POOL + out->pool->serial;
                return true;
        }
        if (dir->id != FILE_JOBS)
                return false;
        out->job = lease_job_after(dir->lease, above);
        if (!out->job)
                return false;
        out->id = job_row_id(out->job);
        *name = job_name(out->job, number);
        *position = out->job->number;
        return true;
}

/* Positions: rows of the table come first, by their number, then leases by serial and pools by serial, or jobs by number. */
bool target_next(const struct target *dir, uint64_t *position, const char **name, struct target *out) {
        struct target t = *dir;
        uint64_t id;

        for (id = *position + 1; id < FILE_N; id++) {
                t.id = id;
                if (stands_in(&t, dir) && !files[id].unlisted && !target_hidden(&t)) {
                        *name = files[id].name;
                        *position = id;
                        *out = t;
                        return true;
                }
        }
        if (!next_entry(dir, *position < FILE_N ? 0 : *position - FILE_N, name, &id, out))
                return false;
        *position = FILE_N + id;
        return true;
}
