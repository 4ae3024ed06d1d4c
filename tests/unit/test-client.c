/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stddef.h>

#include "check.h"
#include "fs/client/arguments.h"
#include "fs/client/command.h"
#include "fs/client/limits.h"
#include "fs/client/stream.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define WORDS(...) ((const char *[]){ __VA_ARGS__, NULL })
#define ARGV(...) WORDS("run", __VA_ARGS__)

/* the command line */

static struct arguments a;
static struct result why;

/* @argv is copied, as the result points into it. */
static int read_line(const char **argv) {
        static const char *line[16];
        int n = 0;

        do
                line[n] = argv[n];
        while (argv[n++]);
        arguments_deinit(&a);
        why = (struct result){};
        return arguments_read(&a, n - 1, (char **)line, &why);
}

static void all_options(void) {
        CHECK_INT(read_line(ARGV("-n", "-e", "A=1 2", "-eB=", "-w", "/tmp", "-u", "nobody", "-t", "--timeout", "2.5", "t1", "ls", "-l")), 0);
        CHECK(a.has_no_input && a.has_terminal && !a.is_shell);
        CHECK_STR(buf_text(&a.env), "A=1 2\nB=\n");
        CHECK_STR(a.cwd, "/tmp");
        CHECK_STR(a.user, "nobody");
        CHECK_STR(a.timeout, "2.5");
        CHECK_STR(a.dir, "t1");
        CHECK_STR(a.words[0], "ls");
        CHECK_STR(a.words[1], "-l");
        CHECK(!a.words[2]);
}

static void no_options(void) {
        CHECK_INT(read_line(ARGV("t1")), 0);
        CHECK(!a.has_no_input && !a.has_terminal && !a.cwd && !a.user && !a.timeout && a.env.len == 0);
        CHECK_STR(a.dir, "t1");
        CHECK(!a.words[0]);
}

static void a_shell(void) {
        CHECK_INT(read_line(WORDS("shell", "-e", "A=1", "t1")), 0);
        CHECK(a.is_shell && a.has_terminal && !a.has_no_input && !a.words[0]);
        CHECK_STR(a.dir, "t1");
        CHECK_INT(read_line(WORDS("shell", "t1", "ls")), -EINVAL);
        CHECK_STR(why.text, "ls: shell takes no command; run does");
        CHECK_INT(read_line(WORDS("shell")), -EINVAL);
        CHECK_STR(why.text, "no directory given; modalpool shell -h shows how");
}

/* All that stands behind the first -- is the command's, a second -- too. */
static void words_of_the_command(void) {
        CHECK_INT(read_line(ARGV("t1", "--", "-n", "--", "")), 0);
        CHECK(!a.has_no_input);
        CHECK_STR(a.words[0], "-n");
        CHECK_STR(a.words[1], "--");
        CHECK_STR(a.words[2], "");
        CHECK(!a.words[3]);
        CHECK_INT(read_line(ARGV("t1", "ls", "--")), 0);
        CHECK_STR(a.words[1], "--");
        CHECK_INT(read_line(ARGV("-n", "--", "-t1", "--")), 0);
        CHECK_STR(a.dir, "-t1");
        CHECK(!a.words[0]);
}

static void variables_of_this_process(void) {
        setenv("MODALPOOL_UNIT_A", "x=y", 1);
        unsetenv("MODALPOOL_UNIT_B");
        CHECK_INT(read_line(ARGV("-e", "MODALPOOL_UNIT_A", "-e", "MODALPOOL_UNIT_B", "t1")), 0);
        CHECK_STR(buf_text(&a.env), "MODALPOOL_UNIT_A=x=y\n");
        setenv("MODALPOOL_UNIT_A", "x\ny", 1);
        CHECK_INT(read_line(ARGV("-e", "MODALPOOL_UNIT_A", "t1")), -EINVAL);
        CHECK_STR(why.text, "-e MODALPOOL_UNIT_A: a value is one line");
}

static void what_is_refused(void) {
        static const struct {
                const char *first, *second, *says;
        } lines[] = {
                { NULL, NULL, "no directory given; modalpool run -h shows how" },
                { "", "ls", "no directory given; modalpool run -h shows how" },
                { "-Z", "t1", "-Z: unknown, or without its value; modalpool run -h shows what there is" },
                { "-w", NULL, "-w: unknown, or without its value; modalpool run -h shows what there is" },
                { "--other", "t1", "--other: unknown, or without its value; modalpool run -h shows what there is" },
                { "--timeout", NULL, "--timeout: unknown, or without its value; modalpool run -h shows what there is" },
                { "-e", "=1", "-e =1: expected KEY=VALUE, or KEY" },
                { "-e", "1A=1", "-e 1A=1: expected KEY=VALUE, or KEY" },
                { "-e", "A=1\n2", "-e A: a value is one line" },
                { "t1", "-n", "-n: options stand before t1, and -- before a command that begins with -" },
        };

        for (size_t i = 0; i < N_OF(lines); i++) {
                CHECK_INT(read_line(ARGV(lines[i].first, lines[i].second)), -EINVAL);
                CHECK_STR(why.text, lines[i].says);
        }
}

static void variables_have_a_maximum(void) {
        static char text[ENV_SIZE_MAX + 1];

        memset(text, 'x', sizeof(text) - 1);
        memcpy(text, "A=", 2);
        CHECK_INT(read_line(ARGV("-e", text, "t1")), -EFBIG);
        CHECK_STR(why.text, "-e A: the variables have more than 65536 bytes");
        text[sizeof(text) - 2] = '\0'; /* now they fit, with their newline */
        CHECK_INT(read_line(ARGV("-e", text, "t1")), 0);
        CHECK_INT(a.env.len, ENV_SIZE_MAX);
}

/* the command */

/* What `sh -c` prints of these words, each followed by a NUL: the same words, if they are passed exactly. */
static void comes_back(const char *shell, const char *const *words) {
        struct buf command = BUF_INIT(1 << 20), expected = BUF_INIT(1 << 20);
        static char got[1 << 16];
        int fds[2], n = 0;
        pid_t child;

        for (const char *const *word = words; *word; word++)
                CHECK_INT(buf_append(&expected, *word, strlen(*word) + 1), 0);
        CHECK_INT(command_write(words, false, &command), 0);
        CHECK_INT(pipe(fds), 0);
        child = check_fork();
        if (child == 0) {
                dup2(fds[1], STDOUT_FILENO);
                execlp(shell, shell, "-c", buf_text(&command), NULL);
                _exit(99);
        }
        close(fds[1]);
        for (ssize_t more; (more = read(fds[0], got + n, sizeof(got) - n)) > 0;)
                n += (int)more;
        close(fds[0]);
        CHECK_INT(waitpid(child, NULL, 0), child);
        /* Without the words of the printing program itself. */
        CHECK(n > 0 && (size_t)n < expected.len && !memcmp(got, expected.data + expected.len - n, n));
        CHECK_INT(expected.len - n, strlen(words[0]) + 1 + strlen(words[1]) + 1);
        buf_deinit(&command);
        buf_deinit(&expected);
}

static void with_each_shell(const char *const *words) {
        comes_back("bash", words);
        comes_back("dash", words);
}

/* Alone, doubled, and between others. */
static void every_byte(void) {
        static char alone[255][2], doubled[255][3], between[255][4];
        const char *words[3 * 255 + 3] = { "printf", "%s\\0" };
        int n = 2;

        for (int byte = 1; byte <= 255; byte++) {
                int i = byte - 1;

                alone[i][0] = doubled[i][0] = doubled[i][1] = between[i][1] = (char)byte;
                between[i][0] = '$';
                between[i][2] = 'a';
                words[n++] = alone[i];
                words[n++] = doubled[i];
                words[n++] = between[i];
        }
        with_each_shell(words);
}

static void words_that_a_shell_would_change(void) {
        static const char *const texts[] = {
                "", " ", "a b", "  a  b  ", "*", "?", "[a-z]", "~", "$HOME", "${x:-y}", "$(echo no)", "`echo no`", "\\", "\\\\", "a\\nb",
                "'", "''", "'\\''", "\"", "!", "!!", "#", "# a", ";", "&", "|", "a&&b", "<x", ">x", "(a)", "{a,b}", "a\nb", "\n", "\t",
                "if", "A=1", "-e", "--", "%s", "\xff\xfe", "\xc3\xa4", "",
        };
        const char *words[N_OF(texts) + 3] = { "printf", "%s\\0" };

        memcpy(words + 2, texts, sizeof(texts));
        with_each_shell(words);
}

/* It is no builtin of the shell, nor an option of exec. */
static void the_first_word(void) {
        struct buf command = BUF_INIT(1 << 20);

        CHECK_INT(command_write(WORDS("echo", "a b"), false, &command), 0);
        CHECK_STR(buf_text(&command), "exec 'echo' 'a b'");
        buf_clear(&command);
        CHECK_INT(command_write(WORDS("-x"), false, &command), 0);
        CHECK_STR(buf_text(&command), "'-x'");
        buf_clear(&command);
        CHECK_INT(command_write((const char *[]){ NULL }, false, &command), 0);
        CHECK_STR(buf_text(&command), "exec \"$0\"");
        buf_clear(&command);
        CHECK_INT(command_write((const char *[]){ NULL }, true, &command), 0);
        CHECK_STR(buf_text(&command), "exec \"$0\" -l");
        buf_deinit(&command);
}

static void a_command_too_long(void) {
        struct buf command = BUF_INIT(10);

        CHECK_INT(command_write(WORDS("echo", "a"), false, &command), -EFBIG);
        buf_deinit(&command);
}

/* streams */

static void move_while(struct stream *s, short events) {
        for (struct pollfd fd; fd = stream_wants(s), fd.fd >= 0 && fd.events == events && poll(&fd, 1, 0) == 1;)
                stream_move(s);
}

/* The reader is slow, and the writer fast: a full pipe is never waited for, and no byte is lost. */
static void a_slow_reader(void) {
        static char sent[1 << 20], got[1 << 20];
        size_t n_sent = 0, n_got = 0;
        struct stream s;
        int from[2], to[2];

        for (size_t i = 0; i < sizeof(sent); i++)
                sent[i] = (char)(i * 2654435761u >> 13);
        CHECK(pipe(from) == 0 && pipe(to) == 0);
        CHECK_INT(stream_init(&s, from[0], to[1]), 0);
        while (n_got < sizeof(got)) {
                size_t piece = sizeof(sent) - n_sent < 10000 ? sizeof(sent) - n_sent : 10000;
                ssize_t n;

                if (piece > 0 && poll(&(struct pollfd){ .fd = from[1], .events = POLLOUT }, 1, 0) == 1) {
                        n = write(from[1], sent + n_sent, piece < 4096 ? piece : 4096);
                        n_sent += n > 0 ? n : 0;
                }
                move_while(&s, POLLIN);
                move_while(&s, POLLOUT);
                n = poll(&(struct pollfd){ .fd = to[0], .events = POLLIN }, 1, 0) == 1 ? read(to[0], got + n_got, 777) : 0;
                n_got += n > 0 ? n : 0;
        }
        CHECK(!memcmp(sent, got, sizeof(got)));
        CHECK(!s.ended && stream_wants(&s).fd == from[0]);
        close(from[1]);
        move_while(&s, POLLIN);
        CHECK(s.ended && !s.read_error && !s.write_error);
        CHECK_INT(stream_wants(&s).fd, -1);
        stream_deinit(&s);
        close(from[0]);
        close(to[0]);
        close(to[1]);
}

/* Another process took what poll had found: the call does not wait, and the stream goes on. */
static void a_read_that_finds_nothing(void) {
        struct stream s;
        int from[2], to[2];

        CHECK(pipe(from) == 0 && pipe(to) == 0);
        CHECK_INT(stream_init(&s, from[0], to[1]), 0);
        alarm(10);
        stream_move(&s);
        alarm(0);
        CHECK(!s.ended && !s.read_error);
        CHECK_INT(stream_wants(&s).fd, from[0]);
        stream_deinit(&s);
        for (int i = 0; i < 2; i++) {
                close(from[i]);
                close(to[i]);
        }
}

static void nobody_reads(void) {
        struct stream s;
        int from[2], to[2];

        signal(SIGPIPE, SIG_IGN);
        CHECK(pipe(from) == 0 && pipe(to) == 0);
        CHECK_INT(write(from[1], "abc", 3), 3);
        CHECK_INT(stream_init(&s, from[0], to[1]), 0);
        close(to[0]);
        stream_move(&s);
        CHECK(!s.ended);
        stream_move(&s);
        CHECK(s.ended);
        CHECK_INT(s.write_error, -EPIPE);
        stream_deinit(&s);
        close(from[0]);
        close(from[1]);
        close(to[1]);
}

int main(void) {
        RUN(all_options);
        RUN(no_options);
        RUN(a_shell);
        RUN(words_of_the_command);
        RUN(variables_of_this_process);
        RUN(what_is_refused);
        RUN(variables_have_a_maximum);
        arguments_deinit(&a);
        RUN(every_byte);
        RUN(words_that_a_shell_would_change);
        RUN(the_first_word);
        RUN(a_command_too_long);
        RUN(a_slow_reader);
        RUN(a_read_that_finds_nothing);
        RUN(nobody_reads);
        return check_done();
}
