/* SPDX-License-Identifier: MIT */

/* What is kept on disk: that the core counts the files that are there, and keeps to the maximum. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sim-model.h"

#define FILES_EVERY 50 /* turns */
#define TURN_SIZE   24 /* bytes of a record of a spool's order; two at most come before bytes of output */
#define USERS_MAX   16

void quota_giving(struct sim_exec *x, size_t len) {
        struct model_job *j = x->job;

        if (j->job->output_error)
                return;
        j->room = quota_room(lease_quota(j->lease->lease));
        j->given = len;
}

bool quota_cut(struct model_job *j) {
        if (!j->cut && j->job->output_error == -EDQUOT) {
                SIM_CHECK(j->room < j->given + 2 * TURN_SIZE,
                          "job %" PRIu64 ".%" PRIu32 " was cut at %zu bytes with room for %" PRIu64, j->lease->serial,
                          j->number, j->given, j->room);
                j->cut = j->overflowed = true;
                model.n_cut++;
        }
        return j->cut;
}

static const struct model_lease *owner_of(uint64_t serial) {
        const struct model_lease *m;

        list_for_each (m, &model.leases, link)
                if (m->serial == serial)
                        return m;
        list_for_each (m, &model.gone, link)
                if (m->serial == serial)
                        return m;
        return NULL;
}

struct kept {
        uint64_t all;
        unsigned n_users;
        struct {
                uid_t uid;
                uint64_t bytes;
        } users[USERS_MAX];
};

static void add_file(struct kept *kept, const char *name) {
        const struct model_lease *m;
        uint64_t serial;
        struct stat st;
        unsigned i = 0;

        SIM_CHECK(sscanf(name, "%" SCNu64 ".", &serial) == 1 && fstatat(model.spool_dir, name, &st, 0) == 0,
                  "there is a file %s", name);
        m = owner_of(serial);
        SIM_CHECK(m, "file %s is nobody's", name);
        while (i < kept->n_users && kept->users[i].uid != m->uid)
                i++;
        SIM_CHECK(i < USERS_MAX, "too many users");
        kept->n_users = i == kept->n_users ? i + 1 : kept->n_users;
        kept->users[i].uid = m->uid;
        kept->users[i].bytes += st.st_size;
        kept->all += st.st_size;
}

static void look_at_files(struct kept *kept) {
        int fd = dup(model.spool_dir);
        DIR *dir = fdopendir(fd);
        struct dirent *entry;

        SIM_CHECK(dir, "no directory");
        rewinddir(dir);
        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.')
                        add_file(kept, entry->d_name);
        closedir(dir);
}

void check_quota(void) {
        uint64_t counted = leases_spool_bytes(model.table), max = model.config.spool_max;
        uint64_t max_per_user = model.config.spool_max_per_user;
        struct kept kept = {};

        SIM_CHECK(!max || counted <= max, "%" PRIu64 " bytes are kept", counted);
        if (sim.turn % FILES_EVERY)
                return;
        look_at_files(&kept);
        SIM_CHECK(kept.all == counted, "the files have %" PRIu64 " bytes, %" PRIu64 " are counted", kept.all, counted);
        for (unsigned i = 0; i < kept.n_users; i++)
                SIM_CHECK(!max_per_user || kept.users[i].bytes <= max_per_user, "user %u keeps %" PRIu64 " bytes",
                          (unsigned)kept.users[i].uid, kept.users[i].bytes);
}
