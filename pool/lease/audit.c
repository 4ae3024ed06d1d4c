/* SPDX-License-Identifier: MIT */
#include "pool/lease/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/lease/job-result.h"
#include "pool/lease/limits.h"
#include "pool/util/cleanup.h"
#include "pool/util/log.h"
#include "pool/util/text.h"

struct audit {
        char *path;
        int fd;
        bool torn;        /* the file ends in the middle of a line */
        uint64_t dropped; /* lines since the last one that was written */
};

/* Nonblocking, so that the open of a FIFO does not wait. */
static int open_file(const char *path, struct result *why) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
        int r = fd < 0 ? -errno : 0;
        struct stat st;

        if (r == 0 && fstat(fd, &st) < 0)
                r = -errno;
        if (r == 0 && S_ISREG(st.st_mode))
                return fd;
        if (fd >= 0)
                close(fd);
        if (r == 0 || r == -ENXIO) /* a FIFO that nobody reads, a socket, a device */
                r = -EINVAL;
        result_set(why, RESULT_INVALID, "option audit=%s: %s", path,
                   r == -ELOOP    ? "a symbolic link is not followed"
                   : r == -EINVAL ? "this is not a regular file"
                                  : strerror(-r));
        return r;
}

int audit_open(struct audit **out, const char *path, struct result *why) {
        struct audit *a = calloc(1, sizeof(*a));

        result_set(why, RESULT_FAILED, "out of memory");
        if (!a)
                return -ENOMEM;
        a->path = strdup(path);
        a->fd = a->path ? open_file(path, why) : -ENOMEM;
        if (a->fd < 0) {
                int r = a->fd;

                audit_close(a);
                return r;
        }
        *out = a;
        return 0;
}

void audit_close(struct audit *a) {
        if (!a)
                return;
        if (a->fd >= 0)
                close(a->fd);
        free(a->path);
        free(a);
}

void audit_reopen(struct audit *a) {
        struct result why;
        int fd = open_file(a->path, &why);

        if (fd < 0) {
                log_warning("%s; the audit goes on in the file that was open before", why.text);
                return;
        }
        close(a->fd);
        a->fd = fd;
        a->torn = false;
        log_info("the audit goes on in %s", a->path);
}

/* The beginning of the command, cut between characters. Bytes that are not UTF-8 become "?". */
static json_t *command_text(const struct job *j) {
        char text[AUDIT_COMMAND_MAX + 1];
        ssize_t n = blob_read(&j->command, 0, text, AUDIT_COMMAND_MAX);

        if (n < 0)
                return json_null();
        if ((size_t)n < j->command.size)
                for (int i = 0; i < 3 && !text_is_utf8(text, n); i++)
                        n--;
        if (!text_is_utf8(text, n)) {
                text_show(text, sizeof(text), text, n);
                return json_string(text);
        }
        return json_stringn(text, n);
}

static json_t *program_text(const struct job_client *client) {
        char text[sizeof(client->program)];

        text_show(text, sizeof(text), client->program, strnlen(client->program, sizeof(client->program)));
        return json_string(text);
}

static char *render(const struct audit *a, const struct job *j, const struct audit_place *place) {
        const struct job_client *c = &j->client;
        json_auto_t *result = job_result(j);
        json_auto_t *line =
                json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:I, s:s?}", "pool", place->pool, "lease", place->lease, "uid",
                          (json_int_t)(c->pid ? c->uid : place->uid), "gid", (json_int_t)(c->pid ? c->gid : place->gid), "pid",
                          (json_int_t)c->pid, "program", program_text(c), "command", command_text(j), "command_bytes",
                          (json_int_t)j->command.size, "environment", place->environment);

        if (!result || !line || json_object_update(line, result) < 0 ||
            (a->dropped && json_object_set_new(line, "dropped", json_integer(a->dropped)) < 0))
                return NULL;
        return json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(16));
}

/* Whole, or it is no line: a newline before the next one ends what the disk took of it. */
static int write_line(struct audit *a, const char *line) {
        _cleanup_(cleanup_free) char *bytes = NULL;
        int len = asprintf(&bytes, "%s%s\n", a->torn ? "\n" : "", line);
        ssize_t n;

        if (len < 0)
                return -ENOMEM;
        do
                n = write(a->fd, bytes, len);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (n > 0)
                a->torn = n < len;
        return n < len ? -ENOSPC : 0;
}

void audit_job(struct audit *a, const struct job *j, const struct audit_place *place) {
        _cleanup_(cleanup_free) char *line = render(a, j, place);
        int r = line ? write_line(a, line) : -ENOMEM;

        if (r == 0) {
                a->dropped = 0;
                return;
        }
        if (a->dropped++ == 0)
                log_warning("option audit=%s: %s; lines are dropped and counted until one can be written", a->path, strerror(-r));
}
