/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <jansson.h>

#include "check.h"
#include "fs/limits.h"
#include "pool/base/config.h"
#include "pool/util/clock.h"

static struct config c;
static struct result why;

/* A backend's table. */
struct values {
        char *key, *where;
        unsigned colour;
        uint64_t size;
};

static const struct option_row rows[] = {
        { "key", OPTION_TEXT, offsetof(struct values, key), "", OPTION_WORDS("TEST_KEY"), .secret = true,
          .help = "what opens it" },
        { "colour", OPTION_CHOICE, offsetof(struct values, colour), "red", .words = OPTION_WORDS("red", "blue"),
          .help = "how it looks" },
        { "size", OPTION_BYTES, offsetof(struct values, size), "1K", NULL, 1, 4096, .help = "how much fits in" },
        { "where", OPTION_FILE, offsetof(struct values, where), "/srv", OPTION_WORDS("TEST_WHERE"),
          .foreign = OPTION_WORDS("cloud"), .help = "where it is" },
};

static const struct option_table table = OPTION_TABLE(struct values, "box", rows);
static const struct option_table empty = { .size = 1 };
static const struct option_table *const tables[] = { &empty, &table, NULL };

static int set(const char *name, const char *value, enum config_source source) {
        why.text[0] = '\0';
        return config_set(&c, name, value, source, &why);
}

static void defaults(void) {
        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(c.mode, MODE_POOL);
        CHECK_INT(c.max, 4);
        CHECK_INT(c.min, 0);
        CHECK_INT(c.max_leases, 4096);
        CHECK_INT(c.creates, 16);
        CHECK_INT(c.keepalive_us, 60 * USEC_PER_SEC);
        CHECK_INT(c.probe_timeout_us, 10 * USEC_PER_SEC);
        CHECK_INT(c.wait_us, 300 * USEC_PER_SEC);
        CHECK(c.oversubscribe);
        CHECK_INT(c.stop_timeout_us, 20 * USEC_PER_SEC);
        CHECK_STR(c.base, "/root");
        CHECK_INT(c.timeout_us, 180 * USEC_PER_SEC);
        CHECK_INT(c.output_max, 1 << 30);
        CHECK_INT(c.history, 256);
        CHECK_INT(c.kill_grace_us, USEC_PER_SEC);
        CHECK_STR(c.env, "");
        CHECK_INT(config_check(&c, &why), 0);
        config_deinit(&c);
}

static void precedence(void) {
        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(set("max", "7", CONFIG_FILE), 0);
        CHECK_INT(c.max, 7);
        CHECK_INT(set("max", "8", CONFIG_COMMAND_LINE), 0);
        CHECK_INT(set("max", "9", CONFIG_ENVIRONMENT), 0); /* of lower rank: checked, ignored */
        CHECK_INT(c.max, 8);
        CHECK_INT(set("max", "9x", CONFIG_ENVIRONMENT), -EINVAL);
        CHECK_INT(set("max", "10", CONFIG_CTL), 0);
        CHECK_INT(set("max", "11", CONFIG_COMMAND_LINE), 0);
        CHECK_INT(c.max, 10);
        CHECK_INT(set("base", "/srv", CONFIG_COMMAND_LINE), 0);
        CHECK_INT(set("base", "/tmp", CONFIG_FILE), 0);
        CHECK_STR(c.base, "/srv");
        CHECK_INT(set("wait", "1.5", CONFIG_FILE), 0);
        CHECK_INT(c.wait_us, 1500000);
        CHECK_INT(set("oversubscribe", "no", CONFIG_FILE), 0);
        CHECK(!c.oversubscribe);
        CHECK_INT(set("oversubscribe", NULL, CONFIG_FILE), 0); /* a bare switch */
        CHECK(c.oversubscribe);
        CHECK_INT(set("mode", "direct", CONFIG_FILE), 0);
        CHECK_INT(c.mode, MODE_DIRECT);
        CHECK_INT(set("output_max", "64M", CONFIG_FILE), 0);
        CHECK_INT(c.output_max, 64 << 20);
        CHECK_INT(set("spool_max", "10G", CONFIG_FILE), 0);
        CHECK_INT(c.spool_max, UINT64_C(10) << 30);
        CHECK_INT(c.spool_max_per_user, 0);
        config_deinit(&c);
}

static void lists_of_paths(void) {
        static const char *const good[] = { "", "/a", "/a:/b/c:/..d/e...", "/a b" };
        static const char *const bad[] = { "a", "/", ":", "/a:", ":/a", "/a::/b", "/a/", "//a", "/a/../b", "/..", "/a/.", "/a:b" };
        char name[258] = "/";

        CHECK_INT(config_init(&c, tables), 0);
        CHECK_STR(c.emptied, "/tmp:/var/tmp:/dev/shm:/run/user");
        CHECK_STR(c.unwatched, "");
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
                CHECK_INT(set("unwatched", good[i], CONFIG_FILE), 0);
                CHECK_STR(c.unwatched, good[i]);
        }
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                CHECK_INT(set("unwatched", bad[i], CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option unwatched=/a:b: expected absolute paths in their shortest form, joined by a colon, in 4096 "
                            "bytes");
        memset(name + 1, 'x', 255);
        CHECK_INT(set("unwatched", name, CONFIG_FILE), 0);
        name[256] = 'x';
        CHECK_INT(set("unwatched", name, CONFIG_FILE), -EINVAL);
        config_deinit(&c);
}

static void env_adds_up(void) {
        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(set("env", "A=1", CONFIG_FILE), 0);
        CHECK_INT(set("env", "B=2", CONFIG_FILE), 0);
        CHECK_STR(c.env, "A=1\nB=2");
        CHECK_INT(set("env", "C=", CONFIG_COMMAND_LINE), 0); /* a higher rank begins anew */
        CHECK_STR(c.env, "C=");
        CHECK_INT(set("env", "D", CONFIG_COMMAND_LINE), -EINVAL);
        CHECK_STR(why.text, "env: \"D\" is not KEY=VALUE");
        CHECK_INT(set("env", "E=1\nexport D=secret", CONFIG_COMMAND_LINE), -EINVAL);
        CHECK_STR(why.text, "env: \"export D\" cannot be the name of a variable, which has letters, digits and _ only, "
                            "and no digit first");
        CHECK_STR(c.env, "C=");
        config_deinit(&c);
}

static void env_lines(void) {
        CHECK_INT(option_check_env("", &why), 0);
        CHECK_INT(option_check_env("\n\nA=1\n\n", &why), 0);
        CHECK_INT(option_check_env("A=1=2", &why), 0);
        CHECK_INT(option_check_env("=1", &why), -EINVAL);
        CHECK_INT(option_check_env("A=1\nB\nC=3", &why), -EINVAL);
        CHECK_STR(why.text, "env: \"B\" is not KEY=VALUE");
        CHECK_INT(option_check_env("A\nB=1", &why), -EINVAL);
        CHECK_STR(why.text, "env: \"A\" is not KEY=VALUE");
}

/* Each says which option, which value, and what would be right. */
static void sentences(void) {
        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(set("maximum", "1", CONFIG_FILE), -ENOENT);
        CHECK_STR(why.text, "maximum is no option; modalpool -h lists them");
        CHECK_INT(set("max", "0", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option max=0: expected a whole number from 1 to 100000");
        CHECK_INT(set("max", "100001", CONFIG_FILE), -EINVAL);
        CHECK_INT(set("max", "-1", CONFIG_FILE), -EINVAL);
        CHECK_INT(set("max", "", CONFIG_FILE), -EINVAL);
        CHECK_INT(set("max", NULL, CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option max=: expected a value");
        CHECK_INT(set("wait", "soon", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option wait=soon: expected seconds, such as 300 or 0.5");
        CHECK_INT(set("probe_timeout", "0.099", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option probe_timeout=0.099: expected seconds, at least 0.1");
        CHECK_INT(set("probe_timeout", "0.1", CONFIG_FILE), 0);
        CHECK_INT(set("keepalive", "0", CONFIG_FILE), 0);
        CHECK_INT(set("creates", "0", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option creates=0: expected a whole number from 1 to 1000");
        CHECK_INT(set("oversubscribe", "perhaps", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option oversubscribe=perhaps: expected yes or no");
        CHECK_INT(set("mode", "Pool", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option mode=Pool: expected pool or direct");
        CHECK_INT(set("base", "root", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option base=root: expected an absolute path");
        CHECK_INT(set("output_max", "1X", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option output_max=1X: expected bytes, such as 64M or 1G, from 1 to 9223372036854775807");
        CHECK_INT(c.max, 4);
        CHECK_STR(c.base, "/root");
        config_deinit(&c);
}

static void together(void) {
        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(set("min", "5", CONFIG_FILE), 0);
        CHECK_INT(config_check(&c, &why), -EINVAL);
        CHECK_STR(why.text, "option min=5: more than max=4");
        CHECK_INT(set("max", "5", CONFIG_FILE), 0);
        CHECK_INT(config_check(&c, &why), 0);
        CHECK_INT(set("base", "", CONFIG_FILE), 0);
        CHECK_INT(config_check(&c, &why), -EINVAL);
        CHECK_STR(why.text, "option base: expected an absolute path");
        config_deinit(&c);
}

/* Of a backend: its options stand beside the core's, and their values in its own struct. */
static void of_a_backend(void) {
        struct buf out = BUF_INIT(TEXT_FILE_MAX);
        const struct values *v;
        const char *value = NULL, *source = NULL;
        size_t n = 0;
        json_t *root;

        CHECK_INT(config_init(&c, tables), 0);
        v = config_values(&c, &table);
        CHECK_STR(v->key, "");
        CHECK_STR(v->where, "/srv");
        CHECK_INT(v->colour, 0);
        CHECK_INT(v->size, 1024);
        CHECK_INT(set("colour", "blue", CONFIG_FILE), 0);
        CHECK_INT(set("colour", "red", CONFIG_DEFAULT), 0); /* of lower rank */
        CHECK_INT(v->colour, 1);
        CHECK_INT(set("colour", "green", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option colour=green: expected red or blue");
        CHECK_INT(set("size", "5K", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option size=5K: expected bytes, such as 64M or 1G, from 1 to 4096");
        CHECK_INT(set("where", "here", CONFIG_FILE), -EINVAL);
        CHECK_STR(why.text, "option where=here: expected an absolute path");
        CHECK_INT(set("key", "canary", CONFIG_COMMAND_LINE), -EINVAL);
        CHECK_STR(why.text, "option key: every user of this machine can read a command line; set it in the environment "
                            "(TEST_KEY) or in a file");

        setenv("TEST_KEY", "canary", 1);
        setenv("TEST_WHERE", "cloud", 1);
        CHECK_INT(config_read_environment(&c, &why), 0);
        CHECK_STR(v->key, "canary");
        CHECK(!getenv("TEST_KEY")); /* a secret is wiped as it is read */
        CHECK_STR(v->where, "/srv");
        unsetenv("TEST_WHERE");

        CHECK_INT(config_render(&c, &out), 0);
        CHECK(!strstr(buf_text(&out), "canary"));
        root = json_loads(buf_text(&out), 0, NULL);
        CHECK_INT(json_unpack(root, "{s:{s:s,s:s}}", "key", "value", &value, "source", &source), 0);
        CHECK_STR(value, "***");
        CHECK_STR(source, "environment");
        CHECK_INT(json_unpack(root, "{s:{s:s,s:s}}", "colour", "value", &value, "source", &source), 0);
        CHECK_STR(value, "blue");
        CHECK_STR(source, "file");
        while (config_row(&c, n))
                n++;
        CHECK_INT(n, json_object_size(root));
        CHECK(config_row(&c, n - 1) == &rows[3]);
        json_decref(root);
        buf_clear(&out);
        CHECK_INT(config_render_help(&c, &out), 0);
        CHECK(strstr(buf_text(&out), "\n  colour=red|blue            box: how it looks (red)\n"));
        CHECK(strstr(buf_text(&out), "\n  where=FILE                 box: where it is (/srv)\n"));
        buf_deinit(&out);
        config_deinit(&c);
}

static void variables(void) {
        CHECK_INT(config_init(&c, tables), 0);
        setenv("TERMINAL_MODAL_MODE", "direct", 1);
        setenv("TERMINAL_MODAL_POOL_MAX", "", 1); /* empty is not set: the other name counts */
        setenv("TERMINAL_MODAL_POOL_SIZE", "6", 1);
        setenv("TERMINAL_CWD", "/work", 1);
        setenv("TERMINAL_TIMEOUT", "30", 1);
        CHECK_INT(set("timeout", "99", CONFIG_FILE), 0);
        CHECK_INT(config_read_environment(&c, &why), 0);
        CHECK_INT(c.mode, MODE_DIRECT);
        CHECK_INT(c.max, 6);
        CHECK_STR(c.base, "/work");
        CHECK_INT(c.timeout_us, 30 * USEC_PER_SEC);
        setenv("TERMINAL_MODAL_POOL_MAX", "3", 1);
        CHECK_INT(config_read_environment(&c, &why), 0);
        CHECK_INT(c.max, 3); /* the first name wins */
        setenv("TERMINAL_MODAL_POOL_MAX", "many", 1);
        CHECK_INT(config_read_environment(&c, &why), -EINVAL);
        CHECK_STR(why.text, "environment variable TERMINAL_MODAL_POOL_MAX: option max=many: expected a whole number "
                            "from 1 to 100000");
        config_deinit(&c);
}

static const char *write_file(const char *text) {
        static char path[] = "/tmp/modalpool-unit-config.XXXXXX";
        int fd;

        memcpy(path + strlen(path) - 6, "XXXXXX", 6);
        fd = mkstemp(path);
        CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
        close(fd);
        return path;
}

/* Read a file with this text; its path, which stands before each sentence, is cut off. */
static int read_text(const char *text) {
        const char *path = write_file(text);
        size_t len = strlen(path);
        int r;

        why.text[0] = '\0';
        r = config_read_file(&c, path, &why);
        if (r < 0) {
                CHECK(!strncmp(why.text, path, len) && why.text[len] == ':');
                memmove(why.text, why.text + len, strlen(why.text) - len + 1);
        }
        unlink(path);
        return r;
}

static void file(void) {
        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(set("history", "5", CONFIG_COMMAND_LINE), 0);
        CHECK_INT(read_text("{\"max\": 9, \"wait\": 0.25, \"oversubscribe\": false,\n \"base\": \"/x\", "
                            "\"history\": 7, \"output_max\": \"1M\"}"),
                  0);
        CHECK_INT(c.max, 9);
        CHECK_INT(c.wait_us, 250000);
        CHECK(!c.oversubscribe);
        CHECK_STR(c.base, "/x");
        CHECK_INT(c.output_max, 1 << 20);
        CHECK_INT(c.history, 5);
        CHECK_INT(read_text("{}"), 0);
        config_deinit(&c);
}

static void file_errors(void) {
        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(read_text("{\"max\": 9,\n\n\"min\" 1}"), -EINVAL);
        CHECK(!strncmp(why.text, ":3: ", 4));
        CHECK_INT(read_text("{\"max\": 9,\n\"max\": 8}"), -EINVAL);
        CHECK(!strncmp(why.text, ":2: duplicate", 13));
        CHECK_INT(read_text("[1]"), -EINVAL);
        CHECK_STR(why.text, ": expected a JSON object, option to value");
        CHECK_INT(read_text("{\"maximum\": 9}"), -ENOENT);
        CHECK_STR(why.text, ": maximum is no option; modalpool -h lists them");
        CHECK_INT(read_text("{\"max\": [9]}"), -EINVAL);
        CHECK_STR(why.text, ": max: expected a string, a number, true or false");
        CHECK_INT(read_text("{\"max\": -9}"), -EINVAL);
        CHECK_STR(why.text, ": option max=-9: expected a whole number from 1 to 100000");
        CHECK_INT(read_text("{\"max\": 1.5}"), -EINVAL);
        CHECK_INT(read_text(""), -EINVAL);
        CHECK_INT(config_read_file(&c, "/nonexistent/file", &why), -EINVAL);
        CHECK(strstr(why.text, "/nonexistent/file") && strstr(why.text, "No such file"));
        CHECK_INT(c.max, 4);
        config_deinit(&c);
}

static void render(void) {
        struct buf out = BUF_INIT(TEXT_FILE_MAX);
        const char *value = NULL, *source = NULL;
        json_int_t max = 0;
        json_t *root;

        CHECK_INT(config_init(&c, tables), 0);
        CHECK_INT(set("max", "5", CONFIG_COMMAND_LINE), 0);
        CHECK_INT(set("mode", "direct", CONFIG_FILE), 0);
        CHECK_INT(set("shell", "\xff", CONFIG_FILE), 0); /* no text: null in JSON, and no failure */
        CHECK_INT(set("env", "KEY=canary", CONFIG_FILE), 0);
        CHECK_INT(config_render(&c, &out), 0);
        root = json_loads(buf_text(&out), 0, NULL);
        CHECK_INT(json_unpack(root, "{s:{s:I,s:s}}", "max", "value", &max, "source", &source), 0);
        CHECK_INT(max, 5);
        CHECK_STR(source, "command line");
        CHECK_INT(json_unpack(root, "{s:{s:s,s:s}}", "mode", "value", &value, "source", &source), 0);
        CHECK_STR(value, "direct");
        CHECK_STR(source, "file");
        CHECK_INT(json_unpack(root, "{s:{s:s}}", "wait", "source", &source), 0);
        CHECK_STR(source, "default");
        CHECK(json_is_null(json_object_get(json_object_get(root, "shell"), "value")));
        CHECK_INT(json_unpack(root, "{s:{s:s}}", "env", "value", &value), 0);
        CHECK_STR(value, "***");
        CHECK(!strstr(buf_text(&out), "canary"));
        json_decref(root);
        buf_clear(&out);
        CHECK_INT(config_render_help(&c, &out), 0);
        CHECK(strstr(buf_text(&out), "  max=N                      environments at most (4)\n"));
        buf_deinit(&out);
        config_deinit(&c);
}

int main(void) {
        static const char *const seeds_own[] = {
                "TERMINAL_MODAL_MODE", "TERMINAL_MODAL_POOL_MAX", "TERMINAL_MODAL_POOL_SIZE", "TERMINAL_CWD",
                "TERMINAL_TIMEOUT"
        };

        for (size_t i = 0; i < sizeof(seeds_own) / sizeof(seeds_own[0]); i++)
                unsetenv(seeds_own[i]);
        RUN(defaults);
        RUN(precedence);
        RUN(lists_of_paths);
        RUN(env_adds_up);
        RUN(env_lines);
        RUN(sentences);
        RUN(together);
        RUN(of_a_backend);
        RUN(variables);
        RUN(file);
        RUN(file_errors);
        RUN(render);
        return check_done();
}
