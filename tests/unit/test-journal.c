/* SPDX-License-Identifier: MIT */

/* The journal: what was written is there after a restart, whatever the end was; times; damage; another backend. */

#include <errno.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "check.h"
#include "pool/base/journal.h"
#include "pool/util/log.h"

static struct check_dir dir;
static char path[4200];
static int64_t now_us = 5000000;

static int64_t clock_of_test(void) {
        return now_us;
}

static struct journal *open_journal(void) {
        struct journal *j = NULL;
        struct result why;
        bool damaged;

        CHECK_INT(journal_open(&j, path, "local", clock_of_test, &damaged, &why), 0);
        CHECK(!damaged);
        return j;
}

static void remove_journal(struct journal *j) {
        journal_close(j);
        CHECK_INT(unlinkat(dir.fd, "journal", 0), 0);
        CHECK_INT(check_dir_entries(&dir), 0);
}

static int put_all(struct journal *j) {
        int r = journal_put_pool(j, &(struct journal_pool){ .serial = 9,
                                                            .name = "PY",
                                                            .uid = 4294967294,
                                                            .gid = 100,
                                                            .created_wall_us = INT64_C(1795400000000000),
                                                            .options = "{\"image\":\"python\"}",
                                                            .made = true });

        if (r == 0)
                r = journal_put_pool(j, &(struct journal_pool){ .serial = 8, .name = "gone", .options = "{}" });
        if (r == 0)
                r = journal_drop_pool(j, 8);
        if (r == 0)
                r = journal_put_snapshot(j, &(struct journal_snapshot){ .id = "s1", .pool = 9, .environment = "n1", .image = "" });
        if (r == 0)
                r = journal_put_snapshot(j, &(struct journal_snapshot){ .id = "s1",
                                                                        .pool = 9,
                                                                        .environment = "n1",
                                                                        .image = "im-1",
                                                                        .state = 2,
                                                                        .code = 4,
                                                                        .error = "no room",
                                                                        .workdir = "/w\xff" });
        if (r == 0)
                r = journal_put_environment(j, &(struct journal_environment){
                                                   .nonce = "n1", .id = "", .resume_token = "", .user = -1, .created_us = 1000 });

        if (r == 0)
                r = journal_put_environment(j, &(struct journal_environment){ .nonce = "n1",
                                                                              .id = "sb-1",
                                                                              .resume_token = "line\nline",
                                                                              .workdir = "/root/\xff",
                                                                              .uses = 7,
                                                                              .user = 4294967294,
                                                                              .pool = 9,
                                                                              .ending = true,
                                                                              .created_us = 2000 });
        if (r == 0)
                r = journal_put_lease(j, &(struct journal_lease){ .serial = 3,
                                                                  .instance = UINT64_MAX,
                                                                  .pool = 9,
                                                                  .name = "t\xc3\xbc",
                                                                  .uid = 4294967294,
                                                                  .gid = 100,
                                                                  .created_wall_us = INT64_C(1795400000000000),
                                                                  .state = 1,
                                                                  .environment = "n1",
                                                                  .prepared = true,
                                                                  .cwd = "sub\xff",
                                                                  .env = "A=\xfe\nB=1",
                                                                  .timeout_us = 5 });
        if (r == 0)
                r = journal_put_lease(j, &(struct journal_lease){ .serial = 2,
                                                                  .name = "other",
                                                                  .code = 4,
                                                                  .error = "lost: it",
                                                                  .cwd = "",
                                                                  .env = "" });
        for (uint32_t number = 2; number > 0 && r == 0; number--)
                r = journal_add_job(j, &(struct journal_job){ .lease = 3,
                                                              .number = number,
                                                              .command = number == 1 ? "a\xffz" : NULL,
                                                              .command_len = number == 1 ? 3 : 5000,
                                                              .input = "",
                                                              .cwd = "",
                                                              .env = "X=\xff",
                                                              .timeout_us = 9,
                                                              .submitted_us = 3000 });
        if (r == 0)
                r = journal_update_job(j, &(struct journal_job){ .lease = 3,
                                                                 .number = 1,
                                                                 .state = 3,
                                                                 .wanted_dead = true,
                                                                 .timed_out = true,
                                                                 .output_refused = ENOSPC,
                                                                 .started_us = 4000,
                                                                 .ended_us = 5000,
                                                                 .code = 2,
                                                                 .exit_code = 124,
                                                                 .error = "timed out" });
        return r;
}

static int64_t moved_us;
static unsigned rows;

static int check_pool(void *data, const struct journal_pool *row) {
        rows++;
        CHECK_INT(row->serial, 9);
        CHECK_STR(row->name, "PY");
        CHECK_INT(row->uid, 4294967294);
        CHECK_INT(row->gid, 100);
        CHECK_INT(row->created_wall_us, INT64_C(1795400000000000));
        CHECK_STR(row->options, "{\"image\":\"python\"}");
        CHECK(row->made);
        return 0;
}

static int check_snapshot(void *data, const struct journal_snapshot *row) {
        rows++;
        CHECK_STR(row->id, "s1");
        CHECK_INT(row->pool, 9);
        CHECK_STR(row->environment, "n1");
        CHECK_STR(row->image, "im-1");
        CHECK_INT(row->state, 2);
        CHECK_INT(row->code, 4);
        CHECK_STR(row->error, "no room");
        CHECK_STR(row->workdir, "/w\xff");
        return 0;
}

static int check_environment(void *data, const struct journal_environment *row) {
        rows++;
        CHECK_STR(row->nonce, "n1");
        CHECK_STR(row->id, "sb-1");
        CHECK_STR(row->resume_token, "line\nline");
        CHECK_STR(row->workdir, "/root/\xff");
        CHECK_INT(row->uses, 7);
        CHECK_INT(row->pool, 9);
        CHECK_INT(row->user, 4294967294);
        CHECK(row->ending);
        CHECK_INT(row->created_us, 2000 + moved_us);
        return 0;
}

static int check_lease(void *data, const struct journal_lease *row) {
        CHECK_INT(row->serial, 2 + rows++); /* in order */
        if (row->serial == 2) {
                CHECK_STR(row->error, "lost: it");
                CHECK_INT(row->code, 4);
                CHECK(!row->environment && !row->prepared && row->pool == 0);
                return 0;
        }
        CHECK(row->instance == UINT64_MAX);
        CHECK_INT(row->pool, 9);
        CHECK_STR(row->name, "t\xc3\xbc");
        CHECK_INT(row->uid, 4294967294);
        CHECK_INT(row->gid, 100);
        CHECK_INT(row->created_wall_us, INT64_C(1795400000000000));
        CHECK_INT(row->state, 1);
        CHECK(!row->error);
        CHECK_STR(row->environment, "n1");
        CHECK(row->prepared);
        CHECK_STR(row->cwd, "sub\xff");
        CHECK_STR(row->env, "A=\xfe\nB=1");
        CHECK_INT(row->timeout_us, 5);
        return 0;
}

static int check_job(void *data, const struct journal_job *row) {
        CHECK_INT(row->number, 1 + rows++);
        CHECK_STR(row->env, "X=\xff");
        CHECK_INT(row->submitted_us, 3000 + moved_us);
        CHECK(row->input && row->input_len == 0);
        if (row->number == 2) {
                CHECK(!row->command && row->state == 0 && !row->error && !row->wanted_dead);
                return 0;
        }
        CHECK(row->command_len == 3 && !memcmp(row->command, "a\xffz", 3));
        CHECK_INT(row->state, 3);
        CHECK(row->wanted_dead && row->timed_out);
        CHECK_INT(row->output_refused, ENOSPC);
        CHECK_INT(row->started_us, 4000 + moved_us);
        CHECK_INT(row->ended_us, 5000 + moved_us);
        CHECK_INT(row->code, 2);
        CHECK_INT(row->exit_code, 124);
        CHECK_STR(row->error, "timed out");
        return 0;
}

static void check_all(struct journal *j) {
        rows = 0;
        CHECK_INT(journal_each_pool(j, check_pool, NULL), 0);
        CHECK_INT(rows, 1);
        rows = 0;
        CHECK_INT(journal_each_snapshot(j, check_snapshot, NULL), 0);
        CHECK_INT(rows, 1);
        rows = 0;
        CHECK_INT(journal_each_environment(j, check_environment, NULL), 0);
        CHECK_INT(rows, 1);
        rows = 0;
        CHECK_INT(journal_each_lease(j, check_lease, NULL), 0);
        CHECK_INT(rows, 2);
        rows = 0;
        CHECK_INT(journal_each_job(j, 3, check_job, NULL), 0);
        CHECK_INT(rows, 2);
}

static void kept(void) {
        struct journal *j = open_journal();

        CHECK(journal_is_empty(j));
        CHECK_INT(put_all(j), 0);
        CHECK(!journal_is_empty(j));
        check_all(j);
        journal_close(j);
        j = open_journal();
        check_all(j);

        /* A lease takes its jobs with it, and nobody else's. */
        CHECK_INT(journal_drop_lease(j, 2), 0);
        rows = 0;
        CHECK_INT(journal_each_job(j, 3, check_job, NULL), 0);
        CHECK_INT(rows, 2);
        CHECK_INT(journal_drop_job(j, 3, 2), 0);
        CHECK_INT(journal_drop_lease(j, 3), 0);
        rows = 0;
        CHECK_INT(journal_each_job(j, 3, check_job, NULL), 0);
        CHECK_INT(rows, 0);
        CHECK(!journal_is_empty(j));
        CHECK_INT(journal_drop_environment(j, "n1"), 0);
        CHECK(!journal_is_empty(j));
        CHECK_INT(journal_drop_pool(j, 9), 0);
        CHECK(!journal_is_empty(j));
        CHECK_INT(journal_drop_snapshot(j, "s1"), 0);
        CHECK(journal_is_empty(j));
        remove_journal(j);
}

/* A writer that is killed: what a call returned for is there. */
static void killed(void) {
        pid_t pid = fork();
        int status;

        if (pid == 0) {
                if (put_all(open_journal()) == 0)
                        raise(SIGKILL);
                _exit(1);
        }
        CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        struct journal *j = open_journal();
        check_all(j);
        remove_journal(j);
}

static int see_environment(void *data, const struct journal_environment *row) {
        *(int64_t *)data = row->created_us;
        return 0;
}

/* Another boot's clock began elsewhere: here one second later, and the time that this test took. */
static void another_boot(void) {
        struct journal *j = open_journal();
        int64_t seen = 0;
        sqlite3 *db;

        CHECK_INT(put_all(j), 0);
        journal_close(j);
        CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
        CHECK_INT(sqlite3_exec(db, "UPDATE meta SET value='another' WHERE key='boot'", NULL, NULL, NULL), SQLITE_OK);
        CHECK_INT(sqlite3_exec(db, "UPDATE meta SET value=value-1000000 WHERE key='offset'", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        j = open_journal();
        CHECK_INT(journal_each_environment(j, see_environment, &seen), 0);
        CHECK(seen <= 2000 - 1000000 && seen > 2000 - 60 * 1000000);
        moved_us = seen - 2000;
        check_all(j);
        journal_close(j);
        j = open_journal(); /* in the same boot nothing moves any more */
        check_all(j);
        moved_us = 0;
        remove_journal(j);
}

/* True once, for a journal that an earlier run wrote. */
static void marks(void) {
        struct journal *j = open_journal();

        CHECK(!journal_mark(NULL, "news"));
        CHECK(!journal_mark(j, "old news"));
        journal_close(j);
        j = open_journal();
        CHECK(!journal_mark(j, "old news"));
        CHECK(journal_mark(j, "news"));
        CHECK(!journal_mark(j, "news"));
        remove_journal(j);
}

static void another_backend(void) {
        struct journal *j = open_journal(), *other = NULL;
        struct result why;
        bool damaged;

        journal_close(j);
        CHECK_INT(journal_open(&other, path, "modal", clock_of_test, &damaged, &why), 0); /* empty: nothing is lost */
        CHECK_INT(put_all(other), 0);
        journal_close(other);
        CHECK_INT(journal_open(&other, path, "local", clock_of_test, &damaged, &why), -EBUSY);
        CHECK(strstr(why.text, "backend modal") && strstr(why.text, "reap modal"));
        CHECK_INT(journal_open(&other, path, "modal", clock_of_test, &damaged, &why), 0);
        check_all(other);
        remove_journal(other);
}

static void damage(void) {
        static const char *const rubbish[] = { "not a database, but long enough to have the header that a database has",
                                               "SQLite format 3" };
        struct journal *j = NULL;
        struct result why;
        bool damaged;

        for (size_t i = 0; i < 2; i++) {
                FILE *f = fopen(path, "w");

                CHECK(f && fputs(rubbish[i], f) >= 0 && ftruncate(fileno(f), 8192) == 0 && fclose(f) == 0);
                CHECK_INT(journal_open(&j, path, "local", clock_of_test, &damaged, &why), 0);
                CHECK(damaged);
                CHECK(journal_is_empty(j));
                CHECK_INT(put_all(j), 0);
                check_all(j);
                journal_close(j);
                CHECK_INT(unlinkat(dir.fd, "journal.damaged", 0), 0);
                CHECK_INT(unlinkat(dir.fd, "journal", 0), 0);
        }
}

static int see_users(void *data, const struct journal_environment *row) {
        static const struct {
                const char *nonce;
                uid_t user;
                bool ending;
        } expected[] = { { "held", 1001, false }, { "idle", -1, true }, { "new", -1, false } };

        CHECK_STR(row->nonce, expected[rows].nonce);
        CHECK_INT(row->user, expected[rows].user);
        CHECK_INT(row->pool, 0);
        CHECK_INT(row->ending, expected[rows].ending);
        CHECK_STR(row->resume_token, "t");
        rows++;
        return 0;
}

/* Of the first format, as it was made: what was lent to somebody who is in no row any more is to be ended. */
static void first_format(void) {
        static const char sql[] =
                "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
                "CREATE TABLE environment(nonce TEXT PRIMARY KEY, id TEXT, ticket TEXT, workdir BLOB, uses INTEGER,"
                " ending INTEGER, created_us INTEGER) WITHOUT ROWID;"
                "CREATE TABLE lease(serial INTEGER PRIMARY KEY, instance INTEGER, name TEXT, uid INTEGER, gid INTEGER,"
                " created_wall_us INTEGER, state INTEGER, code INTEGER, error TEXT, environment TEXT, prepared INTEGER,"
                " cwd BLOB, env BLOB, timeout_us INTEGER);"
                "CREATE TABLE job(lease INTEGER, number INTEGER, command BLOB, input BLOB, cwd BLOB, env BLOB,"
                " timeout_us INTEGER, submitted_us INTEGER, state INTEGER, wanted_dead INTEGER, timed_out INTEGER,"
                " output_refused INTEGER, started_us INTEGER, ended_us INTEGER, code INTEGER, exit_code INTEGER, error TEXT,"
                " PRIMARY KEY(lease, number)) WITHOUT ROWID;"
                "PRAGMA user_version=1;"
                "INSERT INTO environment VALUES('held','sb-1','t','/w',1,0,1),('idle','sb-2','t',NULL,3,0,2),"
                "('new','sb-3','t',NULL,0,0,3);"
                "INSERT INTO lease VALUES(1,5,'waits',1000,100,0,0,0,NULL,NULL,0,'','',0),"
                "(2,5,'has',1001,100,0,1,0,NULL,'held',1,'','',0);";
        struct journal *j;
        sqlite3 *db;

        CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
        CHECK_INT(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        for (int i = 0; i < 2; i++) {
                j = open_journal();
                rows = 0;
                CHECK_INT(journal_each_environment(j, see_users, NULL), 0);
                CHECK_INT(rows, 3);
                if (i == 0)
                        journal_close(j);
        }
        CHECK_INT(put_all(j), 0);
        remove_journal(j);
}

/* A later version's tables are neither used nor touched. */
static void later_format(void) {
        struct journal *j = open_journal();
        struct result why;
        bool damaged;
        sqlite3 *db;

        journal_close(j);
        CHECK_INT(sqlite3_open(path, &db), SQLITE_OK);
        CHECK_INT(sqlite3_exec(db, "PRAGMA user_version=99", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        CHECK_INT(journal_open(&j, path, "local", clock_of_test, &damaged, &why), -EPROTO);
        CHECK(strstr(why.text, "a later version"));
        CHECK_INT(unlinkat(dir.fd, "journal", 0), 0);
}

static void no_place(void) {
        struct journal *j = NULL;
        struct result why;
        bool damaged;

        CHECK(journal_open(&j, "/nowhere/journal", "local", clock_of_test, &damaged, &why) < 0);
        CHECK(!j && strstr(why.text, "/nowhere/journal"));
        CHECK_INT(put_all(NULL), 0); /* none keeps nothing */
        CHECK(journal_is_empty(NULL));
        journal_close(NULL);
}

int main(void) {
        log_open(-1, false);
        dir = check_dir_make();
        snprintf(path, sizeof(path), "%s/journal", dir.path);
        RUN(kept);
        RUN(killed);
        RUN(another_boot);
        RUN(marks);
        RUN(another_backend);
        RUN(damage);
        RUN(first_format);
        RUN(later_format);
        RUN(no_place);
        check_dir_remove(&dir);
        return check_done();
}
