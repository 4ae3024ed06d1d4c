/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pool/helper/agent/mounts.h"
#include "tests/fuzz/fuzz.h"

/* What the kernel says is mounted: whoever mounts chooses the names in it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        static int fd = -1;
        struct mounts m;

        if (fd < 0)
                fd = memfd_create("mounts", MFD_CLOEXEC);
        if (ftruncate(fd, 0) < 0 || pwrite(fd, data, len, 0) != (ssize_t)len)
                abort();
        if (mounts_read_file(&m, fd) < 0)
                return 0;
        for (size_t i = 0; i < m.n; i++) {
                const struct mount *same = mounts_find(&m, &m.list[i]);

                if (!same || strlen(m.list[i].point) + strlen(m.list[i].type) >= strlen(m.list[i].line))
                        abort();
        }
        mounts_deinit(&m);
        return 0;
}
