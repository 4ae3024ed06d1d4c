/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/files/server.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/helper/agent/files/ops.h"
#include "pool/helper/agent/files/place.h"

static int do_nothing(const struct file_call_args *a, struct file_answer *out) {
        return 0;
}

static file_op_function *const ops[FILE_OP_N] = {
        [FILE_OP_NONE] = do_nothing,
        [FILE_OP_LOOKUP] = file_do_lookup,
        [FILE_OP_SET] = file_do_set,
        [FILE_OP_MKDIR] = file_do_mkdir,
        [FILE_OP_MKNOD] = file_do_mknod,
        [FILE_OP_SYMLINK] = file_do_symlink,
        [FILE_OP_LINK] = file_do_link,
        [FILE_OP_UNLINK] = file_do_unlink,
        [FILE_OP_RMDIR] = file_do_rmdir,
        [FILE_OP_RENAME] = file_do_rename,
        [FILE_OP_PREPARE] = file_do_prepare,
        [FILE_OP_READLINK] = file_do_readlink,
        [FILE_OP_STATFS] = file_do_statfs,
        [FILE_OP_LIST] = file_do_list,
        [FILE_OP_OPEN] = file_do_open,
        [FILE_OP_CREATE] = file_do_create,
        [FILE_OP_STAT] = file_do_stat,
        [FILE_OP_READ] = file_do_read,
        [FILE_OP_WRITE] = file_do_write,
        [FILE_OP_SYNC] = file_do_sync,
        [FILE_OP_CLOSE] = file_do_close,
        [FILE_OP_SEEK] = file_do_seek,
        [FILE_OP_ALLOCATE] = file_do_allocate,
        [FILE_OP_COPY] = file_do_copy,
        [FILE_OP_GETXATTR] = file_do_getxattr,
        [FILE_OP_LISTXATTR] = file_do_listxattr,
        [FILE_OP_SETXATTR] = file_do_setxattr,
        [FILE_OP_REMOVEXATTR] = file_do_removexattr,
};

/* The slot can be written to by others: so the call is taken out of it before it is looked at. */
static void do_call(struct file_slot *slot) {
        static uint8_t call[HELPER_DATA_MAX];
        struct file_answer answer = { .data = slot->data };
        size_t len = slot->len <= sizeof(call) ? slot->len : 0;
        struct file_call_args a;
        int r;

        memcpy(call, slot->data, len);
        r = file_call_decode(&a, call, len);
        if (r == 0)
                r = ops[a.op](&a, &answer);
        slot->error = r < 0 ? (uint32_t)-r : 0;
        slot->len = r < 0 ? 0 : (uint32_t)answer.len;
}

static void raise_limits(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit);
        }
        limit = (struct rlimit){ RLIM_INFINITY, RLIM_INFINITY };
        (void)setrlimit(RLIMIT_FSIZE, &limit);
}

_Noreturn void file_server_run(int channel, struct file_slot *slots, const char *root, unsigned generation) {
        uint8_t asked[HELPER_CALLS_MAX];
        ssize_t n;

        umask(0);
        raise_limits();
        file_handles_init(generation);
        if (place_init(root) < 0)
                _exit(1);
        for (;;) {
                n = read(channel, asked, sizeof(asked));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        _exit(0);
                for (ssize_t i = 0; i < n; i++) {
                        if (asked[i] >= HELPER_CALLS_MAX)
                                continue;
                        do_call(&slots[asked[i]]);
                        if (write(channel, &asked[i], 1) != 1)
                                _exit(0);
                }
        }
}
