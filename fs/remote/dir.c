/* SPDX-License-Identifier: MIT */
#include "fs/remote/dir.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fs/remote/file.h"
#include "fs/remote/remote.h"
#include "fs/remote/request.h"
#include "pool/util/log.h"

#define REPLY_MAX (64 << 10)
#define DOTS 2 /* the first positions are "." and ".."; entry N is at position N + DOTS */

/* One that is under way. */
struct ask {
        struct list link; /* in the directory's */
        struct file_call call;
        struct remote_dir *dir;
        int64_t asked_us;
};

struct dir_read {
        struct request request;
        struct remote_dir *dir;
        uint64_t position;
        size_t size;
        bool plus;
};

static char reply[REPLY_MAX];

/* their lives */

static void ask_drop(struct ask *a) {
        sandbox_file_cancel(&a->call);
        list_remove(&a->link);
        a->dir->n_asks--;
        free(a);
}

static void part_drop(struct remote_dir *d, struct remote_part *p) {
        list_remove(&p->link);
        d->bytes -= p->len;
        free(p);
}

/* As it was when it was opened. */
static void dir_reset(struct remote_dir *d) {
        struct remote_part *p;
        struct ask *a;

        while ((a = list_first(&d->asks, struct ask, link)))
                ask_drop(a);
        while ((p = list_first(&d->parts, struct remote_part, link)))
                part_drop(d, p);
        if (d->handle)
                remote_close_handle(d->node->tree, d->handle);
        d->handle = 0;
        d->begun = d->ended = false;
        d->n = d->n_read = 0;
        d->n_parts = 0;
}

void remote_dir_leave_ahead(struct remote_dir *d) {
        if (!d->ahead)
                return;
        d->ahead = false;
        list_remove(&d->ahead_link);
        d->node->ahead = NULL;
        d->node->tree->n_aheads--;
}

void remote_dir_free(struct remote_dir *d) {
        requests_answer_owned(&d->reads, -EBADF);
        dir_reset(d);
        list_remove(&d->link);
        remote_dir_leave_ahead(d);
        remote_node_unref(d->node);
        free(d);
}

void remote_dirs_end(struct remote_tree *t, int error) {
        struct remote_dir *d;

        list_for_each (d, &t->dirs, link) {
                d->handle = 0;
                dir_reset(d);
                d->ended = d->begun = true;
                d->error = error;
                requests_answer_owned(&d->reads, error);
        }
}

void remote_dirs_free(struct remote_tree *t) {
        struct remote_dir *d;

        while ((d = list_first(&t->dirs, struct remote_dir, link)))
                remote_dir_free(d);
}

/* what comes */

static int check_part(const uint8_t *data, size_t len, uint64_t *n) {
        struct file_entry e;
        int r;

        for (*n = 0; (r = file_get_entry(&e, &data, &len)) == 1; (*n)++)
                ;
        return r;
}

static int add_part(struct remote_dir *d, const uint8_t *data, size_t len, int64_t asked_us) {
        struct remote_part *p = malloc(sizeof(*p) + len);
        uint64_t n;

        if (!p)
                return -ENOMEM;
        if (check_part(data, len, &n) < 0) {
                free(p);
                return -EIO;
        }
        *p = (struct remote_part){ .first = d->n, .n = n, .asked_us = asked_us, .len = len };
        memcpy(p->data, data, len);
        list_add_tail(&d->parts, &p->link);
        d->bytes += len;
        d->n += n;
        d->n_parts++;
        return 0;
}

static void answer_reads(struct remote_dir *d);
static void ask_ahead(struct remote_dir *d);

static void dir_fail(struct remote_dir *d, int error) {
        d->ended = true;
        d->error = error;
}

/* Those that were asked for behind the end have no handle any more. */
static void on_part(struct file_call *call, int error, const void *data, size_t len) {
        struct ask *a = container_of(call, struct ask, call);
        struct file_handle_head head;
        int64_t asked_us = a->asked_us;
        struct remote_dir *d = a->dir;
        int r = error ? -error : file_get_handle_head(&head, data, len);

        ask_drop(a);
        if (!d->ended && r < 0)
                dir_fail(d, r == -EPROTO ? -EIO : remote_tree_error(d->node->tree, r));
        if (!d->ended) {
                r = add_part(d, (const uint8_t *)data + FILE_HANDLE_HEAD_SIZE, len - FILE_HANDLE_HEAD_SIZE, asked_us);
                if (r == 0 && head.handle && (len == FILE_HANDLE_HEAD_SIZE || d->n > LIST_ENTRIES_MAX))
                        r = -EOVERFLOW; /* it has no end */
                if (r < 0)
                        dir_fail(d, r);
                d->handle = head.handle;
                d->ended = d->ended || !head.handle;
        }
        ask_ahead(d);
        answer_reads(d);
        if (d->node->tree->listed)
                d->node->tree->listed(d->node->tree, d);
}

static int ask(struct remote_dir *d) {
        struct remote_tree *t = d->node->tree;
        struct file_call_args args = { .op = FILE_OP_LIST, .handle = d->handle };
        struct ask *a = calloc(1, sizeof(*a));
        int r = a ? 0 : -ENOMEM;

        if (r == 0 && !d->handle)
                r = remote_name_in(&args, d->node, "");
        if (r < 0) {
                free(a);
                return r;
        }
        *a = (struct ask){ .call.done = on_part, .dir = d, .asked_us = remote_now(t) };
        list_add_tail(&d->asks, &a->link);
        d->n_asks++;
        r = lease_file_call(t->lease, &args, &a->call);
        if (r < 0)
                ask_drop(a);
        return r < 0 ? remote_tree_error(t, r) : 0;
}

static size_t bytes_ahead(const struct remote_dir *d) {
        const struct remote_part *p;
        size_t sum = 0;

        list_for_each (p, &d->parts, link)
                if (p->first + p->n > d->n_read)
                        sum += p->len;
        return sum;
}

/* One that the kernel has read before is likely to be read as a whole again. */
static size_t bytes_wanted(const struct remote_dir *d) {
        return d->ahead && !d->node->read_us ? LIST_UNASKED_BYTES : LIST_AHEAD_BYTES;
}

static void ask_ahead(struct remote_dir *d) {
        while (d->handle && !d->ended && d->n_asks < LIST_AHEAD && d->n_asks < 4 * d->n_parts && bytes_ahead(d) < bytes_wanted(d))
                if (ask(d) < 0)
                        return; /* what was asked for says why */
}

int remote_dir_begin(struct remote_dir *d) {
        int r;

        if (d->begun)
                return 0;
        d->begun_us = remote_now(d->node->tree);
        d->whole = true;
        r = ask(d);
        if (r < 0)
                return r;
        d->begun = true;
        return 0;
}

/* what goes */

/* The nodes that a reply has told the kernel of: it does not count them if it does not want the reply. */
static struct remote_node *told[REPLY_MAX / 128];
static size_t n_told;

static size_t add_plus(fuse_req_t req, struct remote_dir *d, char *at, size_t room, const char *name, size_t len,
                       const struct file_entry *e, int64_t asked_us, uint64_t next) {
        struct fuse_entry_param entry = { .generation = 1 };
        struct remote_node *n;
        size_t size = fuse_add_direntry_plus(req, NULL, 0, name, NULL, 0);

        if (size > room || n_told == sizeof(told) / sizeof(*told))
                return room + 1;
        n = remote_node_take(d->node, name, len, &e->attributes, asked_us);
        if (n) {
                entry.ino = remote_node_number(n);
                remote_node_stat(n, &entry.attr);
                entry.attr_timeout = remote_node_tell(n);
                n->lookups++;
                told[n_told++] = n;
        } else {
                entry.attr.st_ino = 1;
                d->whole = false;
        }
        return fuse_add_direntry_plus(req, at, room, name, &entry, (off_t)next);
}

static size_t add_name(fuse_req_t req, char *at, size_t room, const char *name, mode_t mode, uint64_t number, uint64_t next,
                       bool plus) {
        struct fuse_entry_param entry = { .attr = { .st_ino = number, .st_mode = mode } };

        if (plus)
                return fuse_add_direntry_plus(req, at, room, name, &entry, (off_t)next);
        return fuse_add_direntry(req, at, room, name, &entry.attr, (off_t)next);
}

static void note_odd(struct remote_dir *d) {
        if (!d->odd)
                log_warning("lease=%s environment=%s: a directory has names that cannot be; they are not shown",
                            lease_name(d->node->tree->lease), d->node->tree->environment);
        d->odd = true;
}

static size_t add_entry(fuse_req_t req, const struct dir_read *r, size_t used, const struct remote_part *p,
                        const struct file_entry *e, uint64_t next) {
        struct remote_dir *d = r->dir;
        char name[NAME_MAX + 1];

        if (!remote_is_name(e->name, e->name_len)) {
                note_odd(d);
                return 0;
        }
        memcpy(name, e->name, e->name_len);
        name[e->name_len] = '\0';
        if (r->plus)
                return add_plus(req, d, reply + used, r->size - used, name, e->name_len, e, p->asked_us, next);
        d->whole = false;
        return add_name(req, reply + used, r->size - used, name, e->attributes.mode, e->attributes.ino ?: 1, next, false);
}

static struct remote_part *part_of(const struct remote_dir *d, uint64_t number) {
        struct remote_part *p;

        list_for_each (p, &d->parts, link)
                if (number >= p->first && number < p->first + p->n)
                        return p;
        return NULL;
}

/* From one entry on, as far as there is room. True: that was all of the part. */
static bool fill_from_part(fuse_req_t req, struct dir_read *r, const struct remote_part *p, size_t *used) {
        const uint8_t *data = p->data;
        size_t len = p->len, n;
        struct file_entry e;

        for (uint64_t number = p->first; file_get_entry(&e, &data, &len) == 1; number++) {
                if (number + DOTS < r->position)
                        continue;
                n = add_entry(req, r, *used, p, &e, number + DOTS + 1);
                if (n > r->size - *used)
                        return false;
                *used += n;
                r->position = number + DOTS + 1;
        }
        return true;
}

static bool fill_dots(fuse_req_t req, struct dir_read *r, size_t *used) {
        static const char *const names[DOTS] = { ".", ".." };

        for (; r->position < DOTS; r->position++) {
                size_t n = add_name(req, reply + *used, r->size - *used, names[r->position], S_IFDIR,
                                    remote_node_number(r->dir->node), r->position + 1, r->plus);

                if (n > r->size - *used)
                        return false;
                *used += n;
        }
        return true;
}

/* Only what the kernel has read may be dropped, and only when there is much of it. */
static void drop_read(struct remote_dir *d) {
        struct remote_part *p;

        while (d->bytes > LIST_KEPT_BYTES + LIST_AHEAD_BYTES && (p = list_first(&d->parts, struct remote_part, link)) &&
               p->first + p->n <= d->n_read)
                part_drop(d, p);
}

static bool is_dropped(const struct remote_dir *d, uint64_t number) {
        const struct remote_part *p = list_first(&d->parts, struct remote_part, link);

        return p ? number < p->first : number < d->n;
}

/* At its end, without a gap: then a name that has no node is not there. */
static void note_whole(struct remote_dir *d) {
        if (d->ended && !d->error && d->whole && d->n_read == d->n && !d->odd)
                d->node->complete_us = d->begun_us;
}

/* Bytes of the reply, 0 at the end, -EAGAIN when they have not come, or what is wrong. */
static int64_t fill(fuse_req_t req, struct dir_read *r) {
        struct remote_dir *d = r->dir;
        const struct remote_part *p;
        size_t used = 0;

        n_told = 0;
        if (!fill_dots(req, r, &used))
                return (int64_t)used;
        while ((p = part_of(d, r->position - DOTS)) && fill_from_part(req, r, p, &used))
                ;
        if (r->position - DOTS > d->n_read)
                d->n_read = r->position - DOTS;
        drop_read(d);
        note_whole(d);
        if (used > 0)
                return (int64_t)used;
        return d->error ? d->error : d->ended ? 0 : -EAGAIN;
}

static void succeed(struct request *r, fuse_req_t req, int64_t n) {
        if (fuse_reply_buf(req, reply, (size_t)n) != -ENOENT)
                return;
        while (n_told > 0)
                remote_forget(told[--n_told], 1);
}

static const struct request_kind read_kind = { .succeed = succeed, .size = sizeof(struct dir_read) };

static int64_t try(struct dir_read *r, fuse_req_t req) {
        struct remote_dir *d = r->dir;
        uint64_t number = r->position < DOTS ? 0 : r->position - DOTS;
        int error;

        if (d->begun && !d->error && is_dropped(d, number))
                dir_reset(d);
        error = remote_dir_begin(d);
        if (error < 0)
                return error;
        error = (int)fill(req, r);
        ask_ahead(d);
        return error;
}

static void answer_reads(struct remote_dir *d) {
        struct list pending = LIST_INIT(pending);
        struct request *request;

        list_move_all(&pending, &d->reads);
        while ((request = list_first(&pending, struct request, link))) {
                int64_t n;

                list_remove(&request->link);
                list_add_tail(&d->reads, &request->link);
                n = try(container_of(request, struct dir_read, request), request->req);
                if (n != -EAGAIN)
                        request_answer(request, n);
        }
}

void remote_dirs_retry(struct remote_tree *t) {
        struct remote_dir *d, *tmp;

        list_for_each_safe (d, tmp, &t->dirs, link) {
                struct request *request;

                list_for_each (request, &d->reads, link)
                        request_set_due(request, remote_deadline(t));
                answer_reads(d);
        }
}

struct remote_dir *remote_dir_new(struct remote_node *n) {
        struct remote_dir *d = calloc(1, sizeof(*d));

        if (!d)
                return NULL;
        d->node = remote_node_ref(n);
        list_init(&d->parts);
        list_init(&d->asks);
        list_init(&d->reads);
        list_init(&d->ahead_link);
        list_add_tail(&n->tree->dirs, &d->link);
        return d;
}

/* rewinddir(3) wants what there is now. */
void remote_readdir(fuse_req_t req, size_t size, off_t offset, const struct fuse_file_info *fi, bool plus) {
        struct dir_read r = {
                .request = REQUEST_INIT(&read_kind, req),
                .dir = (struct remote_dir *)(uintptr_t)fi->fh,
                .position = (uint64_t)offset,
                .size = size < REPLY_MAX ? size : REPLY_MAX,
                .plus = plus,
        };
        struct remote_tree *t = r.dir->node->tree;
        struct request *waiting;
        int64_t n;

        if (offset == 0 && r.dir->n_read > 0 && !t->over)
                dir_reset(r.dir);
        n = try(&r, req);
        if (n == -EAGAIN) {
                n = request_wait(&r.request, &waiting, &t->fs->requests, &r.dir->reads, remote_now(t), remote_deadline(t));
                if (n == 0)
                        return;
        }
        request_answer(&r.request, n);
}

void remote_releasedir(fuse_req_t req, const struct fuse_file_info *fi) {
        remote_dir_free((struct remote_dir *)(uintptr_t)fi->fh);
        fuse_reply_err(req, 0);
}
