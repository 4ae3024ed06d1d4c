/* SPDX-License-Identifier: MIT */
#include "pool/helper/agent/boundary.h"

#include <string.h>

#include "pool/helper/agent/path.h"

/* What lies over something else comes later, and counts. */
static const struct mount *mount_at(const struct mounts *m, const char *path) {
        for (size_t i = m->n; i > 0; i--)
                if (strcmp(m->list[i - 1].point, path) == 0)
                        return &m->list[i - 1];
        return NULL;
}

static bool is_own(const struct mount *m) {
        if (m->read_only)
                return false;
        return strcmp(m->point, "/") == 0 || strcmp(m->type, "tmpfs") == 0 || strcmp(m->type, "overlay") == 0;
}

bool boundary_is_foreign(const struct mounts *mounts, const char *path) {
        const struct mount *m = mount_at(mounts, path);

        return m && !is_own(m);
}

static bool is_listed(const char *const *list, const char *path) {
        for (; *list; list++)
                if (strcmp(*list, path) == 0)
                        return true;
        return false;
}

enum boundary boundary_at(const struct boundaries *b, const char *path) {
        if (is_listed(b->unwatched, path))
                return BOUNDARY_UNWATCHED;
        if (is_listed(b->emptied, path))
                return BOUNDARY_EMPTIED;
        return boundary_is_foreign(b->mounts, path) ? BOUNDARY_OTHER : BOUNDARY_NONE;
}

bool boundary_is_below(const struct boundaries *b, const char *dir) {
        if (strcmp(dir, "/") == 0)
                return true;
        for (size_t i = 0; i < b->mounts->n; i++)
                if (path_is_within(b->mounts->list[i].point, dir))
                        return true;
        for (const char *const *p = b->emptied; *p; p++)
                if (path_is_within(*p, dir))
                        return true;
        for (const char *const *p = b->unwatched; *p; p++)
                if (path_is_within(*p, dir))
                        return true;
        return false;
}
