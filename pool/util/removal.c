/* SPDX-License-Identifier: MIT */
#include "pool/util/removal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/list.h"

struct removal {
        struct list link;
        int dir;
        char name[];
};

/* Global, because the process has one loop. */
static struct list waiting = LIST_INIT(waiting);
static unsigned n_waiting;
static int cut_fd = -1;   /* the unlinked file that is being truncated */
static uint64_t cut_size; /* its bytes */

void removal_add(int dir, const char *name, uint64_t size) {
        struct removal *r = NULL;

        if (size > REMOVAL_PIECE && n_waiting < REMOVALS_MAX)
                r = malloc(sizeof(*r) + strlen(name) + 1);
        if (!r) {
                unlinkat(dir, name, 0);
                return;
        }
        r->dir = dir;
        strcpy(r->name, name);
        list_add_tail(&waiting, &r->link);
        n_waiting++;
}

static struct removal *take_first(void) {
        struct removal *r = list_first(&waiting, struct removal, link);

        if (r) {
                list_remove(&r->link);
                n_waiting--;
        }
        return r;
}

/*
 * A process in a sandbox may still read its input from the file. The kernel gives a write lease (fcntl(2)) only if
 * nobody else has the file open.
 */
static bool is_open_elsewhere(int file) {
        return fcntl(file, F_SETLEASE, F_WRLCK) < 0;
}

/* Begin with the next queued file. */
static void begin(void) {
        _cleanup_(cleanup_free) struct removal *r = take_first();
        struct stat st;

        if (!r)
                return;
        cut_fd = openat(r->dir, r->name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
        unlinkat(r->dir, r->name, 0);
        if (cut_fd < 0)
                return;
        if (fstat(cut_fd, &st) < 0 || is_open_elsewhere(cut_fd))
                close_fd(TAKE_FD(cut_fd));
        else
                cut_size = st.st_size;
}

void removal_tick(void) {
        if (cut_fd < 0)
                begin();
        if (cut_fd < 0)
                return;
        cut_size = cut_size > REMOVAL_PIECE ? cut_size - REMOVAL_PIECE : 0;
        if (ftruncate(cut_fd, cut_size) < 0 || cut_size == 0)
                close_fd(TAKE_FD(cut_fd));
}

bool removal_is_under_way(void) {
        return cut_fd >= 0 || n_waiting > 0;
}

void removal_forget(void) {
        struct removal *r;

        while ((r = take_first()))
                free(r);
        close_fd(TAKE_FD(cut_fd));
}
