/* SPDX-License-Identifier: MIT */
#include "pool/helper/file-call.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define STRINGS 4
#define NS_PER_S 1000000000

static uint8_t *put(uint8_t *out, uint64_t value, size_t size) {
        for (size_t i = 0; i < size; i++)
                out[i] = (uint8_t)(value >> (8 * i));
        return out + size;
}

static uint64_t get(const uint8_t **in, size_t size) {
        uint64_t value = 0;

        for (size_t i = 0; i < size; i++)
                value |= (uint64_t)(*in)[i] << (8 * i);
        *in += size;
        return value;
}

static uint8_t *put_time(uint8_t *out, const struct file_time *t) {
        return put(put(out, (uint64_t)t->s, 8), t->ns, 4);
}

static struct file_time get_time(const uint8_t **in) {
        struct file_time t = { .s = (int64_t)get(in, 8) };

        t.ns = (uint32_t)get(in, 4);
        return t;
}

/* calls */

ssize_t file_call_encode(const struct file_call_args *a, uint8_t *out) {
        const char *strings[STRINGS] = { a->dir, a->name, a->dir2, a->name2 };
        size_t left = HELPER_DATA_MAX - FILE_ARGS_SIZE;
        uint8_t *p = put(out, a->op, 1);

        p = put(put(put(put(put(p, a->flags, 4), a->mode, 4), a->uid, 4), a->gid, 4), a->which, 4);
        p = put(put(put(put(put(p, a->handle, 8), a->handle2, 8), a->offset, 8), a->offset2, 8), a->size, 8);
        p = put_time(put_time(p, &a->atime), &a->mtime);
        for (int i = 0; i < STRINGS; i++) {
                const char *string = strings[i] ? strings[i] : "";
                size_t len = strlen(string) + 1;

                if (len > HELPER_PATH_MAX || len > left)
                        return -ENAMETOOLONG;
                memcpy(p, string, len);
                p += len;
                left -= len;
        }
        if (a->len > left)
                return -EFBIG;
        if (a->len > 0)
                memcpy(p, a->data, a->len);
        return p - out + (ssize_t)a->len;
}

int file_call_decode(struct file_call_args *a, const uint8_t *data, size_t len) {
        const uint8_t *end = data + len, *nul;
        const char **strings[STRINGS] = { &a->dir, &a->name, &a->dir2, &a->name2 };

        if (len < FILE_ARGS_SIZE || data[0] >= FILE_OP_N)
                return -EPROTO;
        a->op = get(&data, 1);
        a->flags = get(&data, 4);
        a->mode = get(&data, 4);
        a->uid = get(&data, 4);
        a->gid = get(&data, 4);
        a->which = get(&data, 4);
        a->handle = get(&data, 8);
        a->handle2 = get(&data, 8);
        a->offset = get(&data, 8);
        a->offset2 = get(&data, 8);
        a->size = get(&data, 8);
        a->atime = get_time(&data);
        a->mtime = get_time(&data);
        for (int i = 0; i < STRINGS; i++) {
                nul = data < end ? memchr(data, '\0', end - data) : NULL;
                if (!nul)
                        return -EPROTO;
                *strings[i] = (const char *)data;
                data = nul + 1;
        }
        a->data = data;
        a->len = end - data;
        if (a->offset > INT64_MAX || a->offset2 > INT64_MAX || a->size > INT64_MAX)
                return -EPROTO;
        return 0;
}

/* answers */

size_t file_put_attributes(uint8_t *out, const struct file_attributes *a) {
        uint8_t *p = put(put(put(put(out, a->mode, 4), a->nlink, 4), a->uid, 4), a->gid, 4);

        p = put(put(put(put(put(p, a->ino, 8), a->dev, 8), a->size, 8), a->blocks, 8), a->rdev, 8);
        p = put_time(put_time(put_time(p, &a->atime), &a->mtime), &a->ctime);
        return put(p, a->flags, 1) - out;
}

size_t file_put_handle_head(uint8_t *out, const struct file_handle_head *h) {
        uint8_t *p = put(put(out, h->handle, 8), h->whole, 1);

        return p - out + file_put_attributes(p, &h->attributes);
}

size_t file_put_space(uint8_t *out, const struct file_space *s) {
        const uint64_t *member = (const uint64_t *)s;
        uint8_t *p = out;

        for (size_t i = 0; i < sizeof(*s) / sizeof(*member); i++)
                p = put(p, member[i], 8);
        return p - out;
}

size_t file_put_u64(uint8_t *out, uint64_t value) {
        return put(out, value, 8) - out;
}

/* The kernel takes no others. */
static int check_attributes(const struct file_attributes *a) {
        if (a->size > INT64_MAX || a->blocks > INT64_MAX)
                return -EPROTO;
        if (a->atime.ns >= NS_PER_S || a->mtime.ns >= NS_PER_S || a->ctime.ns >= NS_PER_S)
                return -EPROTO;
        if (a->uid == FILE_NO_ID || a->gid == FILE_NO_ID)
                return -EPROTO;
        switch (a->mode & S_IFMT) {
        case S_IFREG:
        case S_IFDIR:
        case S_IFLNK:
        case S_IFIFO:
        case S_IFSOCK:
        case S_IFCHR:
        case S_IFBLK:
                return a->mode & ~(uint32_t)(S_IFMT | 07777) ? -EPROTO : 0;
        default:
                return -EPROTO;
        }
}

int file_get_attributes(struct file_attributes *a, const uint8_t *data, size_t len) {
        if (len < FILE_ATTRIBUTES_SIZE)
                return -EPROTO;
        a->mode = get(&data, 4);
        a->nlink = get(&data, 4);
        a->uid = get(&data, 4);
        a->gid = get(&data, 4);
        a->ino = get(&data, 8);
        a->dev = get(&data, 8);
        a->size = get(&data, 8);
        a->blocks = get(&data, 8);
        a->rdev = get(&data, 8);
        a->atime = get_time(&data);
        a->mtime = get_time(&data);
        a->ctime = get_time(&data);
        a->flags = get(&data, 1);
        return check_attributes(a);
}

int file_get_handle_head(struct file_handle_head *h, const uint8_t *data, size_t len) {
        if (len < FILE_HANDLE_HEAD_SIZE)
                return -EPROTO;
        h->handle = get(&data, 8);
        h->whole = get(&data, 1);
        return h->whole > 1 ? -EPROTO : file_get_attributes(&h->attributes, data, FILE_ATTRIBUTES_SIZE);
}

int file_get_space(struct file_space *s, const uint8_t *data, size_t len) {
        uint64_t *member = (uint64_t *)s;

        if (len != FILE_SPACE_SIZE)
                return -EPROTO;
        for (size_t i = 0; i < sizeof(*s) / sizeof(*member); i++)
                member[i] = get(&data, 8);
        return 0;
}

int file_get_u64(uint64_t *value, const uint8_t *data, size_t len) {
        if (len != 8)
                return -EPROTO;
        *value = get(&data, 8);
        return *value > INT64_MAX ? -EPROTO : 0;
}

/* entries */

size_t file_entry_size(size_t name_len) {
        return FILE_ATTRIBUTES_SIZE + 1 + name_len;
}

size_t file_put_entry(uint8_t *out, const struct file_entry *e) {
        size_t n = file_put_attributes(out, &e->attributes);

        out[n++] = e->name_len;
        memcpy(out + n, e->name, e->name_len);
        return n + e->name_len;
}

int file_get_entry(struct file_entry *e, const uint8_t **data, size_t *len) {
        size_t size;
        int r;

        if (*len == 0)
                return 0;
        r = file_get_attributes(&e->attributes, *data, *len);
        if (r < 0 || *len < FILE_ATTRIBUTES_SIZE + 1)
                return -EPROTO;
        e->name_len = (*data)[FILE_ATTRIBUTES_SIZE];
        size = file_entry_size(e->name_len);
        if (*len < size)
                return -EPROTO;
        e->name = (const char *)*data + FILE_ATTRIBUTES_SIZE + 1;
        *data += size;
        *len -= size;
        return 1;
}
