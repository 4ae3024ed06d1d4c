/* SPDX-License-Identifier: MIT */

/* The command line and the environment of a local sandbox. */

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"

static void add(struct local_command *c, const char *argument) {
        assert(c->n + 1 < sizeof(c->argv) / sizeof(c->argv[0]));
        c->argv[c->n++] = argument;
        c->argv[c->n] = NULL;
}

#define ADD(c, ...)                                                                            \
        do {                                                                                   \
                const char *const _more[] = { __VA_ARGS__ };                                   \
                for (size_t _i = 0; _i < sizeof(_more) / sizeof(_more[0]); _i++)               \
                        add((c), _more[_i]);                                                   \
        } while (0)

#define INNER_HELPER "/run/modalpool/helper"
#define INNER_RUN "/run/modalpool/jobs"
#define INNER_STATE "/run/modalpool/state"

/*
 * The host's programs and the parts of /etc that they need, read-only; all else is a fresh tmpfs.
 * User 0 of its own user namespace may do there what root may with files and processes of its own.
 */
static void add_bwrap(struct local_command *c, const struct local *l) {
        static const char *const etc[] = {
                "alternatives", "ca-certificates", "debian_version", "group", "hosts", "inputrc", "ld.so.cache",
                "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "nsswitch.conf", "os-release", "passwd",
                "pki", "profile", "profile.d", "protocols", "python3", "services", "ssl", "terminfo", "timezone",
        };
        static const char *const capabilities[] = {
                "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
                "CAP_SETUID", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
        };
        static const char *const links[] = { "bin", "sbin", "lib", "lib32", "lib64", "libx32" };
        static char etc_paths[sizeof(etc) / sizeof(etc[0])][40], link_targets[6][16], link_paths[6][16];

        snprintf(c->text[0], sizeof(c->text[0]), "%" PRIu64, l->options.size);
        ADD(c, l->client->bwrap, "--unshare-user", "--uid", "0", "--gid", "0", "--unshare-pid", "--unshare-ipc",
            "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox", "--as-pid-1");
        if (!local_survives(l))
                ADD(c, "--die-with-parent");
        if (!l->options.network)
                ADD(c, "--unshare-net");
        for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
                ADD(c, "--cap-add", capabilities[i]);
        ADD(c, "--size", c->text[0], "--tmpfs", "/", "--ro-bind", "/usr", "/usr", "--ro-bind-try", "/opt", "/opt",
            "--perms", "0755", "--dir", "/etc", "--perms", "0755", "--dir", "/run");
        for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
                snprintf(link_paths[i], sizeof(link_paths[i]), "/%s", links[i]);
                snprintf(link_targets[i], sizeof(link_targets[i]), "usr/%s", links[i]);
                if (access(link_paths[i], F_OK) == 0)
                        ADD(c, "--symlink", link_targets[i], link_paths[i]);
        }
        for (size_t i = 0; i < sizeof(etc) / sizeof(etc[0]); i++) {
                snprintf(etc_paths[i], sizeof(etc_paths[i]), "/etc/%s", etc[i]);
                ADD(c, "--ro-bind-try", etc_paths[i], etc_paths[i]);
        }
        if (l->options.network)
                ADD(c, "--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf");
        ADD(c, "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--dir", "/tmp", "--perms", "0700", "--dir",
            "/root", "--dir", "/var", "--perms", "1777", "--dir", "/var/tmp", "--dir", l->base, "--perms", "0711",
            "--dir", "/run/modalpool", "--ro-bind", l->client->helper, INNER_HELPER);
        if (local_survives(l))
                ADD(c, "--ro-bind", l->dir, INNER_STATE);
        ADD(c, "--chdir", "/", INNER_HELPER, "serve", "-c", "-s", l->shell);
        if (*l->snapshot)
                ADD(c, "-a");
        if (local_survives(l))
                ADD(c, "-o", INNER_STATE "/daemon");
        ADD(c, INNER_RUN);
}

/* The variables that jobs see; none are the daemon's own. */
static void set_environment(struct local_command *c, const struct local *l, const struct local_sandbox *s) {
        size_t n = 0;

        snprintf(c->text[1], sizeof(c->text[1]), "HOME=%s%s", s->dir, l->isolate ? "/root" : "/home");
        snprintf(c->text[2], sizeof(c->text[2]), "TMPDIR=%s/tmp", s->dir);
        c->env[n++] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        c->env[n++] = "LANG=C.UTF-8";
        c->env[n++] = c->text[1];
        c->env[n++] = c->text[2];
        if (l->isolate) { /* otherwise jobs run as the daemon's user */
                c->env[n++] = "USER=root";
                c->env[n++] = "LOGNAME=root";
        }
        c->env[n] = NULL;
}

void local_command_init(struct local_command *c, const struct local *l, const struct local_sandbox *s) {
        c->n = 0;
        set_environment(c, l, s);
        if (l->isolate) {
                add_bwrap(c, l);
                return;
        }
        snprintf(c->text[3], sizeof(c->text[3]), "%s/run", s->dir);
        ADD(c, l->client->helper, "serve", "-c", "-r", s->dir, "-s", l->shell, c->text[3]);
}
