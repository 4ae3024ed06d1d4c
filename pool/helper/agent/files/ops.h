/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the process that looks after files does, call by call. Each returns 0 and its answer in @out, or -errno and no
 * answer. file-call.h says what a call means.
 */

#include <stdbool.h>
#include <sys/stat.h>

#include "pool/helper/file-call.h"

struct file_answer {
        uint8_t *data; /* room for HELPER_DATA_MAX bytes; not where the call's data are */
        size_t len;
};

typedef int file_op_function(const struct file_call_args *a, struct file_answer *out);

/* By name; names.c. */
file_op_function file_do_lookup, file_do_set, file_do_mkdir, file_do_mknod, file_do_symlink, file_do_link, file_do_unlink,
        file_do_rmdir, file_do_rename, file_do_prepare, file_do_readlink, file_do_statfs;

/* By handle; handles.c. */
file_op_function file_do_list, file_do_open, file_do_create, file_do_stat, file_do_read, file_do_write, file_do_sync,
        file_do_close, file_do_seek, file_do_allocate, file_do_copy;

/* xattrs.c */
file_op_function file_do_getxattr, file_do_listxattr, file_do_setxattr, file_do_removexattr;

/* handles.c, before the first call. @generation: of this process, of 16 bits. */
void file_handles_init(unsigned generation);

/* The descriptor of an open file, or -EBADF. */
int file_handle_fd(uint64_t handle);

/* attributes.c: */

/* A directory by name, for something that is in it: an O_PATH descriptor, or -errno. @change: it is to be changed. */
int file_open_parent(const char *dir, const char *name, bool change);

/* Attributes of @name in the directory @fd, and of an open file. 0 or -errno. */
int file_read_attributes(int fd, const char *name, struct file_attributes *out);
int file_read_own_attributes(int fd, struct file_attributes *out);

/* Gives what was made to the owner that the call names. 0 or -errno. */
int file_give(int fd, const char *name, const struct file_call_args *a);

/* Appends attributes to the answer, and those of a directory, which is open with O_PATH. */
int file_answer_attributes(struct file_answer *out, int r, const struct file_attributes *a);
int file_answer_directory(struct file_answer *out, int fd);
