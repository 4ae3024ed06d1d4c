/* SPDX-License-Identifier: MIT */
#include "pool/base/journal.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/crash.h"
#include "pool/util/log.h"

enum statement {
        BEGIN,
        COMMIT,
        ROLLBACK,
        PUT_POOL,
        DROP_POOL,
        EACH_POOL,
        PUT_SNAPSHOT,
        DROP_SNAPSHOT,
        EACH_SNAPSHOT,
        PUT_ENVIRONMENT,
        DROP_ENVIRONMENT,
        EACH_ENVIRONMENT,
        PUT_LEASE,
        DROP_LEASE,
        EACH_LEASE,
        ADD_JOB,
        UPDATE_JOB,
        DROP_JOB,
        DROP_JOBS,
        EACH_JOB,
        ANY_ROW,
        GET_META,
        SET_META,
        N_STATEMENTS,
};

static const char *const statements[N_STATEMENTS] = {
        [BEGIN] = "BEGIN IMMEDIATE",
        [COMMIT] = "COMMIT",
        [ROLLBACK] = "ROLLBACK",
        [PUT_POOL] = "INSERT OR REPLACE INTO pool VALUES(?,?,?,?,?,?,?)",
        [DROP_POOL] = "DELETE FROM pool WHERE serial=?",
        [EACH_POOL] = "SELECT serial,name,uid,gid,created_wall_us,options,made FROM pool ORDER BY serial",
        [PUT_SNAPSHOT] = "INSERT OR REPLACE INTO snapshot VALUES(?,?,?,?,?,?,?,?)",
        [DROP_SNAPSHOT] = "DELETE FROM snapshot WHERE id=?",
        [EACH_SNAPSHOT] = "SELECT id,pool,environment,image,state,code,error,workdir FROM snapshot ORDER BY pool",
        [PUT_ENVIRONMENT] = "INSERT OR REPLACE INTO environment VALUES(?,?,?,?,?,?,?,?,?)",
        [DROP_ENVIRONMENT] = "DELETE FROM environment WHERE nonce=?",
        [EACH_ENVIRONMENT] = "SELECT nonce,id,ticket,workdir,uses,ending,created_us,user,pool FROM environment"
                             " ORDER BY created_us",
        [PUT_LEASE] = "INSERT OR REPLACE INTO lease VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [DROP_LEASE] = "DELETE FROM lease WHERE serial=?",
        [EACH_LEASE] = "SELECT serial,instance,name,uid,gid,created_wall_us,state,code,error,environment,prepared,cwd,"
                       "env,timeout_us,last_named,pool,user FROM lease ORDER BY serial",
        [ADD_JOB] = "INSERT OR REPLACE INTO job VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        [UPDATE_JOB] = "UPDATE job SET state=?,wanted_dead=?,timed_out=?,output_refused=?,started_us=?,ended_us=?,"
                       "code=?,exit_code=?,error=? WHERE lease=? AND number=?",
        [DROP_JOB] = "DELETE FROM job WHERE lease=? AND number=?",
        [DROP_JOBS] = "DELETE FROM job WHERE lease=?",
        [EACH_JOB] = "SELECT lease,number,command,input,cwd,env,timeout_us,submitted_us,state,wanted_dead,timed_out,"
                     "output_refused,started_us,ended_us,code,exit_code,error,name,live_input,"
                     "terminal,user FROM job WHERE lease=? ORDER BY number",
        [ANY_ROW] = "SELECT 1 FROM environment UNION ALL SELECT 1 FROM lease UNION ALL SELECT 1 FROM pool"
                    " UNION ALL SELECT 1 FROM snapshot LIMIT 1",
        [GET_META] = "SELECT value FROM meta WHERE key=?",
        [SET_META] = "INSERT OR REPLACE INTO meta VALUES(?,?)",
};

/*
 * The steps from each format to the next. PRAGMA user_version has the number of a journal's format. A released step is
 * never changed, because journals of its format exist.
 */
static const char *const formats[] = {
        /* 1 */
        "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
        "CREATE TABLE environment(nonce TEXT PRIMARY KEY, id TEXT, ticket TEXT, workdir BLOB, uses INTEGER,"
        " ending INTEGER, created_us INTEGER) WITHOUT ROWID;"
        "CREATE TABLE lease(serial INTEGER PRIMARY KEY, instance INTEGER, name TEXT, uid INTEGER, gid INTEGER,"
        " created_wall_us INTEGER, state INTEGER, code INTEGER, error TEXT, environment TEXT, prepared INTEGER,"
        " cwd BLOB, env BLOB, timeout_us INTEGER);"
        "CREATE TABLE job(lease INTEGER, number INTEGER, command BLOB, input BLOB, cwd BLOB, env BLOB,"
        " timeout_us INTEGER, submitted_us INTEGER, state INTEGER, wanted_dead INTEGER, timed_out INTEGER,"
        " output_refused INTEGER, started_us INTEGER, ended_us INTEGER, code INTEGER, exit_code INTEGER, error TEXT,"
        " PRIMARY KEY(lease, number)) WITHOUT ROWID;",

        /* 2: the user of an environment. If the journal no longer tells who used one, it is not lent again. */
        "ALTER TABLE environment ADD COLUMN user INTEGER DEFAULT 4294967295;"
        "UPDATE environment SET user=(SELECT uid FROM lease WHERE environment=nonce)"
        " WHERE nonce IN (SELECT environment FROM lease);"
        "UPDATE environment SET ending=1 WHERE uses>0 AND user=4294967295;",

        /* 3: jobs with names. */
        ("ALTER TABLE job ADD COLUMN name TEXT;"
         "ALTER TABLE lease ADD COLUMN last_named INTEGER DEFAULT 0;"),

        /* 4: pools beside the mount's own. */
        ("CREATE TABLE pool(serial INTEGER PRIMARY KEY, name TEXT, uid INTEGER, gid INTEGER, created_wall_us INTEGER,"
         " options TEXT, made INTEGER);"
         "ALTER TABLE environment ADD COLUMN pool INTEGER DEFAULT 0;"
         "ALTER TABLE lease ADD COLUMN pool INTEGER DEFAULT 0;"),

        /* 5: live input. */
        "ALTER TABLE job ADD COLUMN live_input INTEGER DEFAULT 0;",

        /* 6: terminals. */
        "ALTER TABLE job ADD COLUMN terminal INTEGER DEFAULT 0;",

        /* 7: users. */
        "ALTER TABLE job ADD COLUMN user TEXT; ALTER TABLE lease ADD COLUMN user TEXT;",

        /* 8: snapshots. */
        "CREATE TABLE snapshot(id TEXT PRIMARY KEY, pool INTEGER, environment TEXT, image TEXT, state INTEGER,"
        " code INTEGER, error TEXT, workdir BLOB) WITHOUT ROWID;",
};
#define FORMAT ((int)(sizeof(formats) / sizeof(formats[0])))

struct journal {
        sqlite3 *db;
        sqlite3_stmt *statements[N_STATEMENTS];
        bool failing; /* the newest write failed, and that was logged */
        bool behind;  /* a write has failed since the last complete rewrite */
        bool is_new;  /* no earlier run wrote it */
};

static int to_errno(int code) {
        switch (code & 0xff) {
        case SQLITE_OK:
        case SQLITE_DONE:
        case SQLITE_ROW:
                return 0;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return -EUCLEAN;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_TOOBIG:
                return -E2BIG;
        default:
                return -EIO;
        }
}

/*
 * The arguments of a statement: i an int64_t, o one that is stored as NULL when it is 0, t text or NULL, b a string as
 * bytes or NULL, x bytes or NULL and their length. What is not bound is NULL; each call costs.
 */
static int bind(sqlite3_stmt *s, const char *types, va_list ap) {
        int r = SQLITE_OK;

        for (int n = 1; *types && r == SQLITE_OK; types++, n++) {
                const char *text;
                int64_t number;

                if (*types == 'i' || *types == 'o') {
                        number = va_arg(ap, int64_t);
                        if (number || *types == 'i')
                                r = sqlite3_bind_int64(s, n, number);
                        continue;
                }
                text = va_arg(ap, const char *);
                if (*types == 'x')
                        r = sqlite3_bind_blob64(s, n, text, va_arg(ap, uint64_t), SQLITE_STATIC);
                else if (text && *types == 't')
                        r = sqlite3_bind_text(s, n, text, -1, SQLITE_STATIC);
                else if (text)
                        r = sqlite3_bind_blob64(s, n, text, strlen(text), SQLITE_STATIC);
        }
        return r;
}

static int run(struct journal *j, enum statement which, const char *types, ...) {
        sqlite3_stmt *s = j->statements[which];
        va_list ap;
        int r;

        va_start(ap, types);
        r = bind(s, types, ap);
        va_end(ap);
        if (r == SQLITE_OK)
                r = sqlite3_step(s);
        sqlite3_reset(s);
        sqlite3_clear_bindings(s);
        return to_errno(r);
}

/* Logs when writes begin to fail and when they succeed again, not each of thousands of failures. */
static int note(struct journal *j, int r) {
        crash_point("journal", "was written");
        if (r < 0 && !j->failing)
                log_error("journal: not written: %s; what happens now would not be known after a crash", strerror(-r));
        if (r == 0 && j->failing)
                log_info("journal: it can be written again");
        j->failing = r < 0;
        j->behind = j->behind || j->failing;
        return r;
}

bool journal_is_behind(const struct journal *j) {
        return j && j->behind;
}

bool journal_is_stale(const struct journal *j) {
        return journal_is_behind(j) && !j->failing;
}

int journal_rewrite_begin(struct journal *j) {
        int r;

        if (!j)
                return 0;
        r = run(j, BEGIN, "");
        return r < 0 ? r : to_errno(sqlite3_exec(j->db,
                                                 "DELETE FROM job; DELETE FROM lease; DELETE FROM environment;"
                                                 "DELETE FROM pool; DELETE FROM snapshot;",
                                                 NULL, NULL, NULL));
}

int journal_rewrite_end(struct journal *j, int r) {
        if (!j)
                return 0;
        if (r == 0)
                r = run(j, COMMIT, "");
        if (!sqlite3_get_autocommit(j->db))
                (void)run(j, ROLLBACK, "");
        (void)note(j, r);
        j->behind = r < 0;
        return r;
}

int journal_put_pool(struct journal *j, const struct journal_pool *row) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, PUT_POOL, "itiiiti", (int64_t)row->serial, row->name, (int64_t)row->uid, (int64_t)row->gid,
                           row->created_wall_us, row->options, (int64_t)row->made));
}

int journal_drop_pool(struct journal *j, uint64_t serial) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, DROP_POOL, "i", (int64_t)serial));
}

int journal_put_snapshot(struct journal *j, const struct journal_snapshot *row) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, PUT_SNAPSHOT, "tittiitb", row->id, (int64_t)row->pool, row->environment, row->image,
                           (int64_t)row->state, (int64_t)row->code, row->error, row->workdir));
}

int journal_drop_snapshot(struct journal *j, const char *id) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, DROP_SNAPSHOT, "t", id));
}

int journal_put_environment(struct journal *j, const struct journal_environment *row) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, PUT_ENVIRONMENT, "tttbiiiii", row->nonce, row->id, row->resume_token, row->workdir,
                           (int64_t)row->uses, (int64_t)row->ending, row->created_us, (int64_t)row->user,
                           (int64_t)row->pool));
}

int journal_drop_environment(struct journal *j, const char *nonce) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, DROP_ENVIRONMENT, "t", nonce));
}

int journal_put_lease(struct journal *j, const struct journal_lease *row) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, PUT_LEASE, "iitiiiiittibbiiit", (int64_t)row->serial, (int64_t)row->instance, row->name,
                           (int64_t)row->uid, (int64_t)row->gid, row->created_wall_us, (int64_t)row->state,
                           (int64_t)row->code, row->error, row->environment, (int64_t)row->prepared, row->cwd,
                           row->env, row->timeout_us, (int64_t)row->last_named, (int64_t)row->pool, row->user));
}

int journal_drop_lease(struct journal *j, uint64_t serial) {
        int r;

        if (!j)
                return 0;
        crash_point("journal", "is written");
        r = run(j, BEGIN, "");
        if (r == 0)
                r = run(j, DROP_JOBS, "i", (int64_t)serial);
        if (r == 0)
                r = run(j, DROP_LEASE, "i", (int64_t)serial);
        if (r == 0)
                r = run(j, COMMIT, "");
        if (!sqlite3_get_autocommit(j->db))
                (void)run(j, ROLLBACK, "");
        return note(j, r);
}

int journal_add_job(struct journal *j, const struct journal_job *row) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, ADD_JOB, "iixxbboiiooooooottoot", (int64_t)row->lease, (int64_t)row->number, row->command,
                           row->command_len, row->input, row->input_len, row->cwd, row->env, row->timeout_us,
                           row->submitted_us, (int64_t)row->state, (int64_t)row->wanted_dead, (int64_t)row->timed_out,
                           (int64_t)row->output_refused, row->started_us, row->ended_us, (int64_t)row->code,
                           (int64_t)row->exit_code, row->error, row->name, (int64_t)row->live_input,
                           (int64_t)row->terminal, row->user));
}

int journal_update_job(struct journal *j, const struct journal_job *row) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, UPDATE_JOB, "ioooooootii", (int64_t)row->state, (int64_t)row->wanted_dead,
                           (int64_t)row->timed_out, (int64_t)row->output_refused, row->started_us, row->ended_us,
                           (int64_t)row->code, (int64_t)row->exit_code, row->error, (int64_t)row->lease,
                           (int64_t)row->number));
}

int journal_drop_job(struct journal *j, uint64_t lease, uint32_t number) {
        if (!j)
                return 0;
        crash_point("journal", "is written");
        return note(j, run(j, DROP_JOB, "ii", (int64_t)lease, (int64_t)number));
}

/* reading */

static const char *text_of(sqlite3_stmt *s, int column) {
        return (const char *)sqlite3_column_text(s, column);
}

/* Text that may not be UTF-8 is stored as bytes. SQLite puts a NUL behind them when it is asked for text. */
static const char *bytes_of(sqlite3_stmt *s, int column) {
        return sqlite3_column_type(s, column) == SQLITE_NULL ? NULL : text_of(s, column);
}

/* For an empty blob SQLite gives NULL, which would mean that the bytes are in a file. */
static const void *data_of(sqlite3_stmt *s, int column) {
        return sqlite3_column_type(s, column) == SQLITE_NULL ? NULL : sqlite3_column_blob(s, column) ?: "";
}

static const char *string_of(sqlite3_stmt *s, int column) {
        return text_of(s, column) ?: "";
}

/* Whether there is another row, unless @r is a -errno: of who got the one before. At the end @r is that, or of the read. */
static bool next_row(sqlite3_stmt *s, int *r) {
        int code = s && *r == 0 ? sqlite3_step(s) : SQLITE_DONE;

        if (code == SQLITE_ROW)
                return true;
        sqlite3_reset(s); /* NULL does nothing */
        if (*r >= 0)
                *r = to_errno(code);
        return false;
}

int journal_each_pool(struct journal *j, int (*each)(void *data, const struct journal_pool *row), void *data) {
        sqlite3_stmt *s = j ? j->statements[EACH_POOL] : NULL;
        int r = 0;

        while (next_row(s, &r))
                r = each(data, &(struct journal_pool){
                                       .serial = sqlite3_column_int64(s, 0),
                                       .name = string_of(s, 1),
                                       .uid = sqlite3_column_int64(s, 2),
                                       .gid = sqlite3_column_int64(s, 3),
                                       .created_wall_us = sqlite3_column_int64(s, 4),
                                       .options = string_of(s, 5),
                                       .made = sqlite3_column_int(s, 6),
                               });
        return r;
}

int journal_each_environment(struct journal *j, int (*each)(void *data, const struct journal_environment *row),
                             void *data) {
        sqlite3_stmt *s = j ? j->statements[EACH_ENVIRONMENT] : NULL;
        int r = 0;

        while (next_row(s, &r))
                r = each(data, &(struct journal_environment){
                                       .nonce = string_of(s, 0),
                                       .id = string_of(s, 1),
                                       .resume_token = string_of(s, 2),
                                       .workdir = bytes_of(s, 3),
                                       .uses = sqlite3_column_int64(s, 4),
                                       .ending = sqlite3_column_int(s, 5),
                                       .created_us = sqlite3_column_int64(s, 6),
                                       .user = sqlite3_column_int64(s, 7),
                                       .pool = sqlite3_column_int64(s, 8),
                               });
        return r;
}

int journal_each_snapshot(struct journal *j, int (*each)(void *data, const struct journal_snapshot *row), void *data) {
        sqlite3_stmt *s = j ? j->statements[EACH_SNAPSHOT] : NULL;
        int r = 0;

        while (next_row(s, &r))
                r = each(data, &(struct journal_snapshot){
                                       .id = string_of(s, 0),
                                       .pool = sqlite3_column_int64(s, 1),
                                       .environment = string_of(s, 2),
                                       .image = string_of(s, 3),
                                       .state = sqlite3_column_int(s, 4),
                                       .code = sqlite3_column_int(s, 5),
                                       .error = text_of(s, 6),
                                       .workdir = string_of(s, 7),
                               });
        return r;
}

int journal_each_lease(struct journal *j, int (*each)(void *data, const struct journal_lease *row), void *data) {
        sqlite3_stmt *s = j ? j->statements[EACH_LEASE] : NULL;
        int r = 0;

        while (next_row(s, &r))
                r = each(data, &(struct journal_lease){
                                       .serial = sqlite3_column_int64(s, 0),
                                       .instance = sqlite3_column_int64(s, 1),
                                       .name = string_of(s, 2),
                                       .uid = sqlite3_column_int64(s, 3),
                                       .gid = sqlite3_column_int64(s, 4),
                                       .created_wall_us = sqlite3_column_int64(s, 5),
                                       .state = sqlite3_column_int(s, 6),
                                       .code = sqlite3_column_int(s, 7),
                                       .error = text_of(s, 8),
                                       .environment = text_of(s, 9),
                                       .prepared = sqlite3_column_int(s, 10),
                                       .cwd = string_of(s, 11),
                                       .env = string_of(s, 12),
                                       .timeout_us = sqlite3_column_int64(s, 13),
                                       .last_named = sqlite3_column_int64(s, 14),
                                       .pool = sqlite3_column_int64(s, 15),
                                       .user = text_of(s, 16),
                               });
        return r;
}

int journal_each_job(struct journal *j, uint64_t lease, int (*each)(void *data, const struct journal_job *row),
                     void *data) {
        sqlite3_stmt *s = j ? j->statements[EACH_JOB] : NULL;
        int r = 0;

        if (s)
                sqlite3_bind_int64(s, 1, lease);
        while (next_row(s, &r))
                r = each(data, &(struct journal_job){
                                       .lease = sqlite3_column_int64(s, 0),
                                       .number = sqlite3_column_int64(s, 1),
                                       .command = data_of(s, 2),
                                       .command_len = sqlite3_column_bytes(s, 2),
                                       .input = data_of(s, 3),
                                       .input_len = sqlite3_column_bytes(s, 3),
                                       .cwd = string_of(s, 4),
                                       .env = string_of(s, 5),
                                       .timeout_us = sqlite3_column_int64(s, 6),
                                       .submitted_us = sqlite3_column_int64(s, 7),
                                       .state = sqlite3_column_int(s, 8),
                                       .wanted_dead = sqlite3_column_int(s, 9),
                                       .timed_out = sqlite3_column_int(s, 10),
                                       .output_refused = sqlite3_column_int(s, 11),
                                       .started_us = sqlite3_column_int64(s, 12),
                                       .ended_us = sqlite3_column_int64(s, 13),
                                       .code = sqlite3_column_int(s, 14),
                                       .exit_code = sqlite3_column_int(s, 15),
                                       .error = text_of(s, 16),
                                       .name = text_of(s, 17),
                                       .live_input = sqlite3_column_int(s, 18),
                                       .terminal = (uint32_t)sqlite3_column_int64(s, 19),
                                       .user = text_of(s, 20),
                               });
        return r;
}

bool journal_is_empty(struct journal *j) {
        bool empty;

        if (!j)
                return true;
        empty = sqlite3_step(j->statements[ANY_ROW]) == SQLITE_DONE;
        sqlite3_reset(j->statements[ANY_ROW]);
        return empty;
}

/* opening */

static int get_meta(struct journal *j, const char *key, char *out, size_t size) {
        sqlite3_stmt *s = j->statements[GET_META];
        int r = 0;

        sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
        if (sqlite3_step(s) == SQLITE_ROW)
                snprintf(out, size, "%s", string_of(s, 0));
        else
                r = -ENOENT;
        sqlite3_reset(s);
        sqlite3_clear_bindings(s);
        return r;
}

static int set_meta(struct journal *j, const char *key, const char *value) {
        return run(j, SET_META, "tt", key, value);
}

/* Two runs with the same number would take a sandbox from each other: so this waits for the disk. */
int journal_raise_epoch(struct journal *j, int64_t wall_us, uint64_t *epoch) {
        char text[32] = "0";
        int r;

        *epoch = 1;
        if (!j)
                return 0;
        (void)get_meta(j, "epoch", text, sizeof(text));
        *epoch = strtoull(text, NULL, 10) + 1;
        if (wall_us > 0 && *epoch < (uint64_t)wall_us)
                *epoch = (uint64_t)wall_us;
        snprintf(text, sizeof(text), "%" PRIu64, *epoch);
        r = to_errno(sqlite3_exec(j->db, "PRAGMA synchronous=FULL", NULL, NULL, NULL));
        if (r == 0)
                r = set_meta(j, "epoch", text);
        return r < 0 ? r : to_errno(sqlite3_exec(j->db, "PRAGMA synchronous=OFF", NULL, NULL, NULL));
}

bool journal_mark(struct journal *j, const char *mark) {
        char text[8];

        if (!j || get_meta(j, mark, text, sizeof(text)) == 0)
                return false;
        (void)set_meta(j, mark, "yes"); /* else the next run says it again */
        return !j->is_new;
}

static void read_boot_id(char out[64]) {
        _cleanup_(cleanup_fclose) FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

        if (!f || !fgets(out, 64, f))
                out[0] = '\0';
        out[strcspn(out, "\n")] = '\0';
}

/*
 * The clock counts from the machine's boot. Times of an earlier boot are shifted by the difference of the two clocks'
 * offsets from wall time.
 */
static int put_times_right(struct journal *j, int64_t (*clock)(void)) {
        char boot[64], old_boot[64] = "", offset[32], sql[512];
        int64_t now_offset = clock_read_us(CLOCK_REALTIME) - clock(), shift = 0;
        int r;

        read_boot_id(boot);
        if (get_meta(j, "boot", old_boot, sizeof(old_boot)) == 0 && strcmp(boot, old_boot) &&
            get_meta(j, "offset", offset, sizeof(offset)) == 0)
                shift = strtoll(offset, NULL, 10) - now_offset;
        snprintf(sql, sizeof(sql),
                 "UPDATE environment SET created_us=created_us+(%lld);"
                 "UPDATE job SET submitted_us=submitted_us+(%lld), started_us=started_us+(%lld),"
                 " ended_us=ended_us+(%lld);",
                 (long long)shift, (long long)shift, (long long)shift, (long long)shift);
        r = shift ? to_errno(sqlite3_exec(j->db, sql, NULL, NULL, NULL)) : 0;
        snprintf(offset, sizeof(offset), "%lld", (long long)now_offset);
        if (r == 0)
                r = set_meta(j, "offset", offset);
        return r < 0 ? r : set_meta(j, "boot", boot);
}

static int query_text(struct journal *j, const char *sql, char *out, size_t size) {
        sqlite3_stmt *s;
        int r = sqlite3_prepare_v2(j->db, sql, -1, &s, NULL);

        out[0] = '\0';
        if (r == SQLITE_OK) {
                r = sqlite3_step(s);
                if (r == SQLITE_ROW)
                        snprintf(out, size, "%s", string_of(s, 0));
                sqlite3_finalize(s);
        }
        return to_errno(r);
}

/* Migrate to the newest format, in one transaction. -EPROTO for a format of a later version. */
static int bring_up_to_date(struct journal *j, int format) {
        char sql[64];
        int code;

        if (format < 0 || format > FORMAT)
                return -EPROTO;
        if (format == FORMAT)
                return 0;
        code = sqlite3_exec(j->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        for (; format < FORMAT && code == SQLITE_OK; format++)
                code = sqlite3_exec(j->db, formats[format], NULL, NULL, NULL);
        snprintf(sql, sizeof(sql), "PRAGMA user_version=%d; COMMIT", FORMAT);
        if (code == SQLITE_OK)
                code = sqlite3_exec(j->db, sql, NULL, NULL, NULL);
        if (code != SQLITE_OK && !sqlite3_get_autocommit(j->db))
                (void)sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
        return to_errno(code);
}

/* Prepare tables and statements. -EUCLEAN for a damaged file. */
static int set_up(struct journal *j) {
        char text[64];
        int r;

        /* Exclusive: the lock of the state directory is held, and no shared memory file is needed. */
        r = to_errno(sqlite3_exec(j->db,
                                  "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
                                  "PRAGMA temp_store=MEMORY; PRAGMA cache_size=-1024;",
                                  NULL, NULL, NULL));
        if (r == 0)
                r = query_text(j, "PRAGMA quick_check(1)", text, sizeof(text));
        if (r == 0 && strcmp(text, "ok"))
                return -EUCLEAN;
        if (r == 0)
                r = query_text(j, "PRAGMA user_version", text, sizeof(text));
        j->is_new = r == 0 && atoi(text) == 0;
        if (r == 0)
                r = bring_up_to_date(j, atoi(text));
        for (int i = 0; i < N_STATEMENTS && r == 0; i++)
                r = to_errno(sqlite3_prepare_v3(j->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                                                &j->statements[i], NULL));
        return r;
}

static int open_file(struct journal *j, const char *path) {
        int r = to_errno(sqlite3_open_v2(path, &j->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                                  SQLITE_OPEN_NOFOLLOW,
                                         NULL));

        return r < 0 ? r : set_up(j);
}

static void close_file(struct journal *j) {
        for (int i = 0; i < N_STATEMENTS; i++)
                sqlite3_finalize(TAKE_PTR(j->statements[i]));
        sqlite3_close(TAKE_PTR(j->db));
}

static int move(const char *path, const char *part, const char *suffix) {
        _cleanup_(cleanup_free) char *from = NULL, *to = NULL;

        if (asprintf(&from, "%s%s", path, part) < 0)
                from = NULL;
        if (asprintf(&to, "%s.%s%s", path, suffix, part) < 0)
                to = NULL;
        if (!from || !to)
                return -ENOMEM;
        if (unlink(to) < 0 && errno != ENOENT)
                return -errno;
        return rename(from, to) < 0 && errno != ENOENT ? -errno : 0;
}

int journal_put_aside(const char *path, const char *suffix) {
        int r = move(path, "-wal", suffix);

        return r < 0 ? r : move(path, "", suffix);
}

static int take_up(struct journal *j, const char *backend, int64_t (*clock)(void), struct result *why) {
        char other[64];
        int r;

        if (get_meta(j, "backend", other, sizeof(other)) == 0 && strcmp(other, backend) && !journal_is_empty(j)) {
                result_set(why, RESULT_BUSY,
                           "an earlier run here had backend %s, and left environments or leases; start with that one, or "
                           "end them with modalpool reap %s MOUNTPOINT",
                           other, other);
                return -EBUSY;
        }
        r = set_meta(j, "backend", backend);
        return r < 0 ? r : put_times_right(j, clock);
}

int journal_open(struct journal **out, const char *path, const char *backend, int64_t (*clock)(void), bool *damaged,
                 struct result *why) {
        struct journal *j = calloc(1, sizeof(*j));
        int r;

        if (!j)
                return -ENOMEM;
        *damaged = false;
        why->text[0] = '\0';
        r = open_file(j, path);
        if (r == -EUCLEAN) {
                close_file(j);
                r = journal_put_aside(path, "damaged");
                *damaged = r == 0;
                if (r == 0)
                        r = open_file(j, path);
        }
        if (r == 0)
                r = take_up(j, backend, clock, why);
        if (r < 0) {
                if (r == -EPROTO)
                        result_set(why, RESULT_INVALID, "journal %s: written by a later version of modalpool", path);
                else if (!*why->text)
                        result_set(why, RESULT_FAILED, "journal %s: %s", path, strerror(-r));
                journal_close(j);
                return r;
        }
        *out = j;
        return 0;
}

void journal_close(struct journal *j) {
        if (!j)
                return;
        close_file(j);
        free(j);
}
