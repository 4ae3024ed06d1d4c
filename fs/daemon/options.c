/* SPDX-License-Identifier: MIT */
#include "fs/daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/util/cleanup.h"

/* Options that mount(8) and fstab pass to every file system; they have no effect here. */
static bool is_generic(const char *name) {
        static const char *const words[] = {
                "rw", "auto", "noauto", "user", "nouser", "users", "group", "owner", "defaults", "nofail", "_netdev",
                "exec", "noexec", "suid", "nosuid", "dev", "nodev", "async", "atime", "noatime", "relatime",
                "default_permissions", "fsname", "subtype",
        };

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
                if (!strcmp(words[i], name))
                        return true;
        return !strncmp(name, "x-", 2) || !strncmp(name, "comment", 7);
}

static int set_option(struct config *config, const char *name, const char *value, char **file, struct result *why) {
        if (is_generic(name))
                return 0;
        if (!strcmp(name, "config")) {
                if (!value || !*value) {
                        result_set(why, RESULT_INVALID, "option config: expected a file");
                        return -EINVAL;
                }
                free(*file);
                *file = strdup(value);
                return *file ? 0 : -ENOMEM;
        }
        return config_set(config, name, value, CONFIG_COMMAND_LINE, why);
}

/* "a,b=c,d=e\,f": commas separate options, a backslash protects the next character. */
static int set_options(struct config *config, const char *list, char **file, struct result *why) {
        _cleanup_(cleanup_free) char *one = malloc(strlen(list) + 1);
        int r = 0;

        if (!one)
                return -ENOMEM;
        while (r == 0 && *list) {
                size_t n = 0;
                char *value;

                for (; *list && *list != ','; list++) {
                        if (*list == '\\' && list[1])
                                list++;
                        one[n++] = *list;
                }
                one[n] = '\0';
                list += *list == ',';
                if (n == 0)
                        continue;
                value = strchr(one, '=');
                if (value)
                        *value++ = '\0';
                r = set_option(config, one, value, file, why);
        }
        return r;
}

static void print_help(const char *program, const struct config *config) {
        struct buf options = BUF_INIT(64 << 10);

        config_render_help(config, &options);
        printf("usage: %s [-o OPTION,…] [-f] [-d] [BACKEND] MOUNTPOINT\n"
               "       %s reap [--dry-run] [-o OPTION,…] [BACKEND] MOUNTPOINT\n"
               "       %s run [OPTION…] DIR [--] [COMMAND…]\n"
               "       %s shell [OPTION…] DIR\n\n"
               "A pool of Linux sandboxes as a file system: mkdir leases one, a command\n"
               "written to cmd runs in it, output and exit_code give the result, rmdir\n"
               "gives it back. BACKEND is as in backend=, see below. reap ends what a\n"
               "killed daemon left, without mounting again. run runs a command in the lease\n"
               "or pool DIR as if it ran here, shell a login shell on a terminal; run -h shows\n"
               "their options.\n\n"
               "  -o OPTION,…    options, see below; a backslash keeps a comma\n"
               "  -f             stay in the foreground, log to stderr\n"
               "  -d             as -f, and show every request of the kernel\n"
               "  -h, -V         this help, the version\n\n"
               "options, NAME=VALUE (with their defaults):\n"
               "  config=FILE                a file with options, as a JSON object\n%s\n"
               "See modalpool(1) for the daemon and modalpool(5) for the files.\n",
               program, program, program, program, buf_text(&options));
        buf_deinit(&options);
}

/*
 * @path without links, so that a mount has one name; its last part may be a dead mount, which realpath() does not pass.
 */
static char *canonical(const char *path) {
        _cleanup_(cleanup_free) char *copy = NULL, *parent = NULL;
        char *whole = realpath(path, NULL), *slash;

        if (whole)
                return whole;
        copy = strdup(path);
        if (!copy)
                return NULL;
        slash = strrchr(copy, '/');
        *slash = '\0';
        parent = realpath(*copy ? copy : "/", NULL);
        if (!parent)
                return strdup(path);
        if (asprintf(&whole, "%s/%s", strcmp(parent, "/") ? parent : "", slash + 1) < 0)
                return NULL;
        return whole;
}

static int take_positionals(struct options *o, struct config *config, int n, char **argv, struct result *why) {
        _cleanup_(cleanup_free) char *absolute = NULL;
        char path[PATH_MAX];
        int r;

        if (n < 1 || n > 2) {
                result_set(why, RESULT_INVALID, n < 1 ? "no mountpoint given; modalpool -h shows how"
                                                      : "more than a backend and a mountpoint given");
                return -EINVAL;
        }
        if (n == 2 && strcmp(argv[0], "none")) {
                r = config_set(config, "backend", argv[0], CONFIG_COMMAND_LINE, why);
                if (r < 0)
                        return r;
        }
        /* The daemon changes to /, so it must be absolute. */
        if (argv[n - 1][0] == '/') {
                absolute = strdup(argv[n - 1]);
        } else {
                if (!getcwd(path, sizeof(path)))
                        return -errno;
                if (asprintf(&absolute, "%s/%s", path, argv[n - 1]) < 0)
                        absolute = NULL;
        }
        if (!absolute)
                return -ENOMEM;
        for (size_t len = strlen(absolute); len > 1 && absolute[len - 1] == '/'; len--)
                absolute[len - 1] = '\0';
        o->mountpoint = canonical(absolute);
        return o->mountpoint ? 0 : -ENOMEM;
}

int options_read(struct options *o, struct config *config, int argc, char **argv, struct result *why) {
        const char *program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
        bool helper = !strncmp(program, "mount.", 6); /* mount(8) calls: SOURCE DIR -o …, with flags of its own */
        _cleanup_(cleanup_free) char *file = NULL;
        static const struct option words[] = {
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, 'V' },
                { "dry-run", no_argument, NULL, 'n' },
                {},
        };
        int c, r;

        *o = (struct options){};
        opterr = 0;
        if (!helper && argc > 1 && !strcmp(argv[1], "reap")) {
                o->reap = o->foreground = true;
                argc--;
                argv++;
        }
        while ((c = getopt_long(argc, argv, helper ? ":o:fsnvN:t:hV" : o->reap ? ":o:dnhV" : ":o:fdhV",
                                words, NULL)) >= 0)
                switch (c) {
                case 'o':
                        r = set_options(config, optarg, &file, why);
                        if (r < 0)
                                return r;
                        break;
                case 'f':
                        if (helper)
                                o->fake = true;
                        else
                                o->foreground = true;
                        break;
                case 'd':
                        o->foreground = o->debug = true;
                        break;
                case 'h':
                        print_help(program, config);
                        return 1;
                case 'V':
#ifdef MODALPOOL_CRASH_POINTS
                        printf("modalpool %s, with crash points\n", MODALPOOL_VERSION);
#else
                        printf("modalpool %s\n", MODALPOOL_VERSION);
#endif
                        return 1;
                case 'n':
                        if (!helper && !o->reap) {
                                result_set(why, RESULT_INVALID, "--dry-run: for reap only");
                                return -EINVAL;
                        }
                        o->dry_run = true;
                        break;
                case 's':
                case 'v':
                case 'N':
                case 't':
                        break;
                case ':':
                        result_set(why, RESULT_INVALID, "-%c: expected a value", optopt);
                        return -EINVAL;
                default:
                        if (optopt)
                                result_set(why, RESULT_INVALID, "-%c: unknown; modalpool -h shows what there is", optopt);
                        else
                                result_set(why, RESULT_INVALID, "%s: unknown; modalpool -h shows what there is",
                                           argv[optind - 1]);
                        return -EINVAL;
                }

        r = take_positionals(o, config, argc - optind, argv + optind, why);
        if (r == 0)
                r = config_read_environment(config, why);
        if (r == 0 && file)
                r = config_read_file(config, file, why);
        return r < 0 ? r : config_check(config, why);
}

void options_deinit(struct options *o) {
        free(o->mountpoint);
        *o = (struct options){};
}
