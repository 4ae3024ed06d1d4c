/* SPDX-License-Identifier: MIT */
#include "pool/backend/modal/config/settings.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/text.h"

/* The values of the options, as they were given. Lists have + between their members. */
struct modal_options {
        unsigned sandbox; /* enum modal_kind */
        char *app, *image, *dockerfile;
        char *cpu, *cpu_max, *gpu;
        uint64_t memory, memory_max, ephemeral_disk;
        char *region, *cloud;
        char *secrets, *volumes;
        bool block_network;
        char *cidr_allowlist, *outbound_domain_allowlist, *inbound_cidr_allowlist;
        int64_t lifetime_us, idle_timeout_us, create_timeout_us, snapshot_ttl_us;
};

#define AT(field) offsetof(struct modal_options, field)

static const struct option_row rows[] = {
        { "image", OPTION_TEXT, AT(image), "debian:12-slim", OPTION_WORDS("TERMINAL_MODAL_IMAGE"),
          .scope = OPTION_OF_OWNER, .help = "a registry tag" },
        { "dockerfile", OPTION_FILE, AT(dockerfile), "", .help = "a file of further commands for the image, RUN and such" },
        { "app", OPTION_TEXT, AT(app), "modalpool", .help = "the app that sandboxes belong to, made if missing" },
        { "sandbox", OPTION_CHOICE, AT(sandbox), "auto", .words = OPTION_WORDS("auto", "v1", "v2"),
          .help = "Modal's kind of sandbox; auto: v2 where that has all that is asked for" },
        { "cpu", OPTION_TEXT, AT(cpu), "", .scope = OPTION_OF_OWNER, .help = "cores, such as 0.5 or 4" },
        { "cpu_max", OPTION_TEXT, AT(cpu_max), "",
          .help = "cores that a sandbox uses at most; empty: Modal's default" },
        { "memory", OPTION_BYTES, AT(memory), "0", NULL, 0, UINT64_C(1) << 50, .scope = OPTION_OF_OWNER,
          .help = "bytes, such as 2G; 0: Modal's default" },
        { "memory_max", OPTION_BYTES, AT(memory_max), "0", NULL, 0, UINT64_C(1) << 50,
          .help = "bytes beyond which a sandbox's processes are killed; 0: Modal's default" },
        { "ephemeral_disk", OPTION_BYTES, AT(ephemeral_disk), "0", NULL, 0, UINT64_C(1) << 50,
          .help = "bytes of disk of a sandbox; 0: Modal's default" },
        { "gpu", OPTION_TEXT, AT(gpu), "", .scope = OPTION_OF_DAEMON, .help = "a type, such as A100 or A100:2" },
        { "region", OPTION_TEXT, AT(region), "",
          .help = "where sandboxes may run; a+b for either" },
        { "cloud", OPTION_TEXT, AT(cloud), "", .help = "the cloud provider" },
        { "secrets", OPTION_TEXT, AT(secrets), "", .scope = OPTION_OF_DAEMON,
          .help = "names of Secrets for the environment, a+b" },
        { "volumes", OPTION_TEXT, AT(volumes), "", .scope = OPTION_OF_DAEMON,
          .help = "Volumes, NAME:/PATH or NAME:/PATH:ro, a+b" },
        { "block_network", OPTION_BOOL, AT(block_network), "no", .scope = OPTION_OF_DAEMON,
          .help = "no network in sandboxes" },
        { "cidr_allowlist", OPTION_TEXT, AT(cidr_allowlist), "", .scope = OPTION_OF_DAEMON,
          .help = "the only networks that sandboxes reach, a+b" },
        { "outbound_domain_allowlist", OPTION_TEXT, AT(outbound_domain_allowlist), "", .scope = OPTION_OF_DAEMON,
          .help = "the only domains that sandboxes reach, a+b; *.a for all below a" },
        { "inbound_cidr_allowlist", OPTION_TEXT, AT(inbound_cidr_allowlist), "", .scope = OPTION_OF_DAEMON,
          .help = "the only networks that reach sandboxes, a+b" },
        { "lifetime", OPTION_SECONDS, AT(lifetime_us), "14400",
          .help = "a sandbox ends after this in any case, 86400 at most" },
        { "create_timeout", OPTION_SECONDS, AT(create_timeout_us), "1260", NULL, USEC_PER_SEC,
          .help = "a sandbox that has not come up by then is terminated" },
        { "modal_idle_timeout", OPTION_SECONDS, AT(idle_timeout_us), "0",
          .help = "a sandbox ends when nothing ran in it for this long, leased or not; 0: never" },
        { "snapshot_ttl", OPTION_SECONDS, AT(snapshot_ttl_us), "2592000",
          .help = "a snapshot ends after this in any case; 0: never" },
};

const struct option_table modal_options = OPTION_TABLE(struct modal_options, "modal", rows);

static int invalid(struct result *why, const char *option, const char *value, const char *expected) {
        result_set(why, RESULT_INVALID, "option %s=%s: expected %s", option, value, expected);
        return -EINVAL;
}

static void free_names(char **names, size_t n) {
        for (size_t i = 0; names && i < n; i++)
                free(names[i]);
        free(names);
}

/* "a+b+c" */
static int split(const char *option, const char *text, struct modal_list *out, struct result *why) {
        if (!*text)
                return 0;
        out->names = calloc(MODAL_LIST_MAX + 1, sizeof(*out->names));
        if (!out->names)
                return -ENOMEM;
        for (const char *p = text; *p;) {
                size_t len = strcspn(p, "+");

                if (len == 0 || out->n == MODAL_LIST_MAX)
                        return invalid(why, option, text, "names with + between them");
                out->names[out->n] = strndup(p, len);
                if (!out->names[out->n])
                        return -ENOMEM;
                out->n++;
                p += len + (p[len] == '+');
        }
        return 0;
}

/* As Modal takes them: an IPv4 network with no bits behind its prefix, in the usual form. */
static bool is_cidr(const char *text) {
        char address[INET_ADDRSTRLEN];
        const char *slash = strchr(text, '/');
        struct in_addr in;
        uint64_t bits;

        if (!slash || slash - text >= INET_ADDRSTRLEN || text_to_u64(slash + 1, &bits) < 0 || bits > 32 ||
            (slash[1] == '0' && slash[2]))
                return false;
        snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
        return inet_pton(AF_INET, address, &in) == 1 && (ntohl(in.s_addr) & (UINT64_C(0xffffffff) >> bits)) == 0;
}

/* Names of letters, digits and hyphens, with points between them; "*." before them stands for all below. */
static bool is_domain(const char *text) {
        if (strlen(text) > DOMAIN_LEN_MAX)
                return false;
        if (!strncmp(text, "*.", 2))
                text += 2;
        for (;; text++) {
                size_t len = strcspn(text, ".");

                if (len == 0 || len > LABEL_LEN_MAX || text[0] == '-' || text[len - 1] == '-')
                        return false;
                for (size_t i = 0; i < len; i++)
                        if (!isalnum((unsigned char)text[i]) && text[i] != '-')
                                return false;
                text += len;
                if (!*text)
                        return true;
        }
}

static int split_checked(const char *option, const char *text, struct modal_list *out, bool (*is_good)(const char *),
                         const char *expected, struct result *why) {
        int r = split(option, text, out, why);

        for (size_t i = 0; r == 0 && i < out->n; i++)
                if (!is_good(out->names[i]))
                        r = invalid(why, option, text, expected);
        return r;
}

/* What sandboxes reach, and who reaches them. */
static int read_network(struct modal_definition *d, const struct modal_options *o, struct result *why) {
        static const char cidrs[] = "IPv4 networks such as 10.0.0.0/8, with no bits behind the prefix, and + between them";
        int r = split_checked("cidr_allowlist", o->cidr_allowlist, &d->cidrs, is_cidr, cidrs, why);

        if (r == 0)
                r = split_checked("outbound_domain_allowlist", o->outbound_domain_allowlist, &d->domains, is_domain,
                                  "domains such as example.com or *.example.com, with + between them", why);
        if (r == 0)
                r = split_checked("inbound_cidr_allowlist", o->inbound_cidr_allowlist, &d->inbound_cidrs, is_cidr, cidrs,
                                  why);
        if (r == 0 && o->block_network && d->cidrs.n + d->domains.n > 0) {
                result_set(why, RESULT_INVALID, "options block_network and %s exclude each other",
                           d->cidrs.n > 0 ? "cidr_allowlist" : "outbound_domain_allowlist");
                r = -EINVAL;
        }
        d->block_network = o->block_network;
        return r;
}

/* "NAME:/PATH" or "NAME:/PATH:ro" */
static int read_volumes(struct modal_settings *s, const char *text, struct result *why) {
        struct modal_list list = {};
        int r = split("volumes", text, &list, why);

        if (r == 0) {
                s->volumes = calloc(list.n + 1, sizeof(*s->volumes));
                r = s->volumes ? 0 : -ENOMEM;
        }
        for (size_t i = 0; r == 0 && i < list.n; i++) {
                struct modal_volume *v = &s->volumes[s->n_volumes++];
                char *path = strchr(list.names[i], ':'), *mode;

                if (!path || path == list.names[i] || path[1] != '/') {
                        r = invalid(why, "volumes", text, "NAME:/PATH or NAME:/PATH:ro, with + between them");
                        break;
                }
                *path++ = '\0';
                mode = strchr(path, ':');
                if (mode)
                        *mode++ = '\0';
                if (mode && strcmp(mode, "ro")) {
                        r = invalid(why, "volumes", text, "nothing or :ro after a path");
                        break;
                }
                v->read_only = mode != NULL;
                v->name = strdup(list.names[i]);
                v->path = strdup(path);
                r = v->name && v->path ? 0 : -ENOMEM;
        }
        free_names(list.names, list.n);
        return r;
}

static int read_gpu(struct modal_settings *s, const char *text, struct result *why) {
        uint64_t count = 1;
        char *colon;

        if (!*text)
                return 0;
        s->gpu_type = strdup(text);
        if (!s->gpu_type)
                return -ENOMEM;
        colon = strchr(s->gpu_type, ':');
        if (colon) {
                *colon++ = '\0';
                if (text_to_u64(colon, &count) < 0 || count < 1 || count > 64)
                        return invalid(why, "gpu", text, "a type such as A100, or A100:2");
        }
        for (char *c = s->gpu_type; *c; c++)
                *c = toupper((unsigned char)*c);
        s->definition.gpu_type = s->gpu_type;
        s->definition.gpu_count = count;
        return 0;
}

/* A line of a dockerfile, with those that a backslash joins to it; comments and blank lines are left out. */
static int read_dockerfile(struct modal_settings *s, const char *path, struct result *why) {
        _cleanup_(cleanup_fclose) FILE *f = fopen(path, "re");
        _cleanup_(cleanup_free) char *line = NULL;
        struct buf command = BUF_INIT(DOCKERFILE_SIZE_MAX);
        size_t size = 0, total = 0;
        ssize_t len = 0;
        int r = f ? 0 : -errno;

        while (r == 0 && (len = getline(&line, &size, f)) >= 0) {
                const char *text = line + strspn(line, " \t");
                bool joined;

                total += len;
                while (len > 0 && strchr("\r\n", line[len - 1]))
                        line[--len] = '\0';
                if (*text == '#' || (!*text && command.len == 0))
                        continue;
                joined = len > 0 && line[len - 1] == '\\';
                r = buf_append(&command, line, len);
                if (r == 0 && joined) {
                        r = buf_append(&command, "\n", 1);
                        continue;
                }
                if (r == 0 && total > DOCKERFILE_SIZE_MAX)
                        r = -EFBIG;
                if (r == 0) {
                        char **more = reallocarray(s->commands, s->n_commands + 2, sizeof(*more));

                        r = more ? 0 : -ENOMEM;
                        if (more)
                                s->commands = more;
                }
                if (r == 0) {
                        s->commands[s->n_commands] = strdup(buf_text(&command));
                        r = s->commands[s->n_commands] ? 0 : -ENOMEM;
                        s->n_commands += r == 0;
                }
                buf_clear(&command);
        }
        if (r == 0 && command.len > 0) {
                result_set(why, RESULT_INVALID, "option dockerfile=%s: its last line is not finished", path);
                r = -EINVAL;
        } else if (r < 0) {
                result_set(why, RESULT_INVALID, "option dockerfile=%s: %s", path, strerror(-r));
        }
        buf_deinit(&command);
        return r;
}

static int read_image(struct modal_settings *s, const struct modal_options *o, struct result *why) {
        int r = 0;

        for (const char *c = o->image; *c; c++)
                if ((unsigned char)*c <= ' ')
                        return invalid(why, "image", o->image, "a registry tag such as debian:12-slim");
        if (!*o->image || !text_is_utf8(o->image, strlen(o->image)))
                return invalid(why, "image", o->image, "a registry tag such as debian:12-slim");
        s->image = strdup(o->image);
        s->commands = calloc(2, sizeof(*s->commands));
        if (!s->image || !s->commands || asprintf(&s->commands[0], "FROM %s", o->image) < 0)
                return -ENOMEM;
        s->n_commands = 1;
        if (*o->dockerfile)
                r = read_dockerfile(s, o->dockerfile, why);
        return r;
}

/* Bytes, of which Modal counts mebibytes. */
static int read_mebibytes(const char *option, uint64_t bytes, uint32_t *out, struct result *why) {
        char number[24];

        if (bytes > 0 && (bytes >> 20 > UINT32_MAX || bytes >> 20 == 0)) {
                snprintf(number, sizeof(number), "%" PRIu64, bytes);
                return invalid(why, option, number, "at least 1M");
        }
        *out = bytes >> 20;
        return 0;
}

/* Cores have the form of seconds: up to six digits behind the point. */
static int read_cores(const char *option, const char *text, uint32_t *milli, struct result *why) {
        int64_t micro;

        if (!*text)
                return 0;
        if (text_to_usec(text, &micro) < 0 || micro < 1000 || micro > 1000 * USEC_PER_SEC)
                return invalid(why, option, text, "cores, such as 0.5 or 4");
        *milli = micro / 1000;
        return 0;
}

static int less_than(struct result *why, const char *option, const char *other) {
        result_set(why, RESULT_INVALID, "option %s: less than %s", option, other);
        return -EINVAL;
}

static int read_resources(struct modal_settings *s, const struct modal_options *o, struct result *why) {
        struct modal_definition *d = &s->definition;
        int r = read_cores("cpu", o->cpu, &d->milli_cpu, why);

        if (r == 0)
                r = read_cores("cpu_max", o->cpu_max, &d->milli_cpu_max, why);
        if (r == 0)
                r = read_mebibytes("memory", o->memory, &d->memory_mb, why);
        if (r == 0)
                r = read_mebibytes("memory_max", o->memory_max, &d->memory_mb_max, why);
        if (r == 0)
                r = read_mebibytes("ephemeral_disk", o->ephemeral_disk, &d->ephemeral_disk_mb, why);
        if (r == 0 && d->milli_cpu_max > 0 && d->milli_cpu_max < d->milli_cpu)
                r = less_than(why, "cpu_max", "cpu");
        if (r == 0 && d->memory_mb_max > 0 && d->memory_mb_max < d->memory_mb)
                r = less_than(why, "memory_max", "memory");
        return r < 0 ? r : read_gpu(s, o->gpu, why);
}

static int read_kind(struct modal_settings *s, const struct modal_options *o, struct result *why) {
        s->kind = o->sandbox;
        if (s->kind != MODAL_KIND_V2 || !s->gpu_type)
                return 0;
        result_set(why, RESULT_INVALID, "option sandbox=v2: sandboxes of this kind have no gpu");
        return -EINVAL;
}

static int read_times(struct modal_settings *s, const struct modal_options *o, struct result *why) {
        int64_t life = o->lifetime_us / USEC_PER_SEC, idle = o->idle_timeout_us / USEC_PER_SEC;

        if (life < 1 || life > MODAL_LIFETIME_MAX) {
                result_set(why, RESULT_INVALID, "option lifetime: expected seconds from 1 to %d", MODAL_LIFETIME_MAX);
                return -EINVAL;
        }
        if (idle > MODAL_LIFETIME_MAX || (o->idle_timeout_us > 0 && idle < 1)) {
                result_set(why, RESULT_INVALID, "option modal_idle_timeout: expected seconds from 1 to %d, or 0 for none",
                           MODAL_LIFETIME_MAX);
                return -EINVAL;
        }
        s->definition.lifetime_secs = life;
        s->definition.idle_secs = idle;
        if (o->snapshot_ttl_us > 0 && o->snapshot_ttl_us < USEC_PER_SEC) {
                result_set(why, RESULT_INVALID, "option snapshot_ttl: expected seconds from 1, or 0 for none");
                return -EINVAL;
        }
        s->create_timeout_us = o->create_timeout_us;
        s->snapshot_ttl_secs = o->snapshot_ttl_us > 0 ? o->snapshot_ttl_us / USEC_PER_SEC : -1;
        return 0;
}

/* "tcp:PORT", or a command for a shell. */
static int read_ready(struct modal_settings *s, const char *text, struct result *why) {
        uint64_t port;

        s->ready = strdup(text);
        if (!s->ready)
                return -ENOMEM;
        if (!text_is_utf8(text, strlen(text)))
                return invalid(why, "ready", text, "tcp:PORT, or a command in UTF-8");
        if (strncmp(text, "tcp:", 4)) {
                s->definition.ready_command = s->ready;
                return 0;
        }
        if (text_to_u64(text + 4, &port) < 0 || port < 1 || port > UINT16_MAX)
                return invalid(why, "ready", text, "tcp:PORT with a port from 1 to 65535, or a command");
        s->definition.ready_port = port;
        return 0;
}

int modal_settings_init(struct modal_settings *s, const struct modal_options *o, const struct backend_setup *setup,
                        struct result *why) {
        int r = read_image(s, o, why);

        if (r == 0)
                r = read_resources(s, o, why);
        if (r == 0)
                r = read_kind(s, o, why);
        if (r == 0)
                r = read_times(s, o, why);
        if (r == 0)
                r = read_ready(s, setup->ready, why);
        if (r == 0)
                r = split("secrets", o->secrets, &s->secrets, why);
        if (r == 0)
                r = read_volumes(s, o->volumes, why);
        if (r == 0)
                r = split("region", o->region, &s->definition.regions, why);
        if (r == 0)
                r = read_network(&s->definition, o, why);
        if (r < 0)
                return r;
        s->app = strdup(*o->app ? o->app : "modalpool");
        s->shell = strdup(setup->shell);
        s->cloud = strdup(o->cloud);
        s->secret_ids = calloc(s->secrets.n + 1, sizeof(*s->secret_ids));
        if (!s->app || !s->shell || !s->cloud || !s->secret_ids)
                return -ENOMEM;
        s->definition.secret_ids = s->secret_ids;
        s->definition.n_secrets = s->secrets.n;
        s->definition.volumes = s->volumes;
        s->definition.n_volumes = s->n_volumes;
        s->definition.cloud = s->cloud;
        return 0;
}

void modal_settings_deinit(struct modal_settings *s) {
        free_names(s->commands, s->n_commands);
        free_names(s->secrets.names, s->secrets.n);
        free_names(s->secret_ids, s->secrets.n);
        free_names(s->definition.regions.names, s->definition.regions.n);
        free_names(s->definition.cidrs.names, s->definition.cidrs.n);
        free_names(s->definition.domains.names, s->definition.domains.n);
        free_names(s->definition.inbound_cidrs.names, s->definition.inbound_cidrs.n);
        for (size_t i = 0; i < s->n_volumes; i++) {
                free(s->volumes[i].name);
                free(s->volumes[i].id);
                free(s->volumes[i].path);
        }
        free(s->volumes);
        free(s->app);
        free(s->shell);
        free(s->image);
        free(s->cloud);
        free(s->ready);
        free(s->gpu_type);
}
