/* SPDX-License-Identifier: MIT */
#include "fs/client/arguments.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/client/limits.h"
#include "pool/util/text.h"

static void print_help(void) {
        puts("usage: modalpool run [-nt] [-e KEY[=VALUE]] [-w CWD] [-u USER] [--timeout SECONDS] DIR [--] [COMMAND…]\n"
             "       modalpool shell [-e KEY[=VALUE]] [-w CWD] [-u USER] [--timeout SECONDS] DIR\n\n"
             "Runs a command in a lease, or in a pool: then a lease is made for it, and\n"
             "released at its end. Its streams, signals and exit code are as if it ran here.\n"
             "Without a command a shell reads standard input. shell starts a login shell on a\n"
             "terminal, without a timeout.\n\n"
             "  -n                     the command has no input\n"
             "  -t                     it has a terminal, of the size of this one\n"
             "  -e KEY=VALUE           sets a variable; without =VALUE to the value here\n"
             "  -w CWD                 where it starts, relative to the workdir\n"
             "  -u USER                who runs it, a name or a uid inside\n"
             "  --timeout SECONDS      how long it may run; 0: without a limit\n\n"
             "Exit status: the command's; 128+N if signal N ended it; 124 after the timeout;\n"
             "125 if modalpool itself fails. See modalpool(1).");
}

/* "KEY=VALUE", or "KEY" for the value that this process has. */
static int add_variable(struct arguments *a, const char *text, struct result *why) {
        size_t len = strcspn(text, "=");
        const char *value = text[len] ? text + len + 1 : getenv(text);

        if (!text_is_variable(text, len)) {
                result_set(why, RESULT_INVALID, "-e %s: expected KEY=VALUE, or KEY", text);
                return -EINVAL;
        }
        if (!value)
                return 0;
        if (strchr(value, '\n')) {
                result_set(why, RESULT_INVALID, "-e %.*s: a value is one line", (int)len, text);
                return -EINVAL;
        }
        if (buf_printf(&a->env, "%.*s=%s\n", (int)len, text, value) < 0) {
                result_set(why, RESULT_INVALID, "-e %.*s: the variables have more than %d bytes", (int)len, text,
                           ENV_SIZE_MAX);
                return -EFBIG;
        }
        return 0;
}

static int refuse(const char *option, struct result *why) {
        result_set(why, RESULT_INVALID, "%s: unknown, or without its value; modalpool run -h shows what there is", option);
        return -EINVAL;
}

static int take_options(struct arguments *a, int argc, char **argv, struct result *why) {
        static const struct option words[] = {
                { "help", no_argument, NULL, 'h' },
                { "timeout", required_argument, NULL, 'T' },
                {},
        };
        char flag[] = "-?";
        int c, r = 0;

        optind = 0;
        opterr = 0;
        while (r == 0 && (c = getopt_long(argc, argv, "+:nte:w:u:h", words, NULL)) >= 0)
                switch (c) {
                case 'n':
                        a->has_no_input = true;
                        break;
                case 't':
                        a->has_terminal = true;
                        break;
                case 'e':
                        r = add_variable(a, optarg, why);
                        break;
                case 'w':
                        a->cwd = optarg;
                        break;
                case 'u':
                        a->user = optarg;
                        break;
                case 'T':
                        a->timeout = optarg;
                        break;
                case 'h':
                        print_help();
                        return 1;
                default:
                        flag[1] = (char)optopt;
                        return refuse(optopt && optopt != 'T' ? flag : argv[optind - 1], why);
                }
        return r;
}

/* DIR, then the command. An option behind DIR is more likely a mistake than a program whose name begins with a hyphen. */
static int take_words(struct arguments *a, char **argv, struct result *why) {
        if (!*argv || !**argv) {
                result_set(why, RESULT_INVALID, "no directory given; modalpool %s -h shows how", a->is_shell ? "shell" : "run");
                return -EINVAL;
        }
        a->dir = *argv++;
        if (*argv && !strcmp(*argv, "--")) {
                argv++;
        } else if (*argv && **argv == '-') {
                result_set(why, RESULT_INVALID, "%s: options stand before %s, and -- before a command that begins with -",
                           *argv, a->dir);
                return -EINVAL;
        }
        if (*argv && a->is_shell) {
                result_set(why, RESULT_INVALID, "%s: shell takes no command; run does", *argv);
                return -EINVAL;
        }
        a->words = (const char *const *)argv;
        return 0;
}

int arguments_read(struct arguments *a, int argc, char **argv, struct result *why) {
        int r;

        *a = (struct arguments){ .env = BUF_INIT(ENV_SIZE_MAX) };
        a->is_shell = a->has_terminal = !strcmp(argv[0], "shell");
        r = take_options(a, argc, argv, why);
        return r ? r : take_words(a, argv + optind, why);
}

void arguments_deinit(struct arguments *a) {
        buf_deinit(&a->env);
}
