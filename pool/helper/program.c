/* SPDX-License-Identifier: MIT */
#include "pool/helper/program.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pool/util/cleanup.h"
#include "pool/util/io.h"

#define PROGRAM_MAX (4 << 20) /* bytes */

static int read_program(struct upload_program *out, const char *path) {
        _cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
        _cleanup_(cleanup_free) char *bytes = NULL;
        struct stat st;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > PROGRAM_MAX)
                return -ENOEXEC;
        bytes = malloc(st.st_size);
        if (!bytes)
                return -ENOMEM;
        n = read_at(fd, bytes, st.st_size, 0);
        if (n != st.st_size)
                return n < 0 ? (int)n : -EIO;
        *out = (struct upload_program){ .bytes = TAKE_PTR(bytes), .size = n };
        return 0;
}

void helper_program_read(struct helper_program *p, const char *path) {
        int r = read_program(&p->upload, path);

        if (r < 0)
                result_set(&p->failure, RESULT_INVALID, "%s: %s", path, strerror(-r));
}
