/* SPDX-License-Identifier: MIT */
#include "pool/util/transition.h"

#include <stdlib.h>

#include "pool/util/log.h"

bool transition_check(const struct transitions *t, const char *name, unsigned from, unsigned to) {
        if (transition_is_legal(t, from, to))
                return true;
        log_error("%s=%s: this %s cannot go from %s to %s: a mistake of this program", t->key, name, t->what,
                  t->names[from], t->names[to]);
        if (getenv("MODALPOOL_STRICT"))
                abort();
        return false;
}
