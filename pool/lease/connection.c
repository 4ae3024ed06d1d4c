/* SPDX-License-Identifier: MIT */
#include "pool/lease/connection.h"

#include <errno.h>
#include <inttypes.h>

#include "pool/base/config.h"
#include "pool/lease/files.h"
#include "pool/lease/lease-body.h"
#include "pool/lease/run.h"

static const char *file_of(const struct connection_spec *spec) {
        return spec->kind == CONNECTION_PORT ? "ports" : "watch";
}

/* A path is looked up in the workdir, which the first job makes otherwise. A port needs none, but a clean-up behind it. */
static int prepare(struct lease *l, const struct connection_spec *spec) {
        return spec->kind == CONNECTION_WATCH ? lease_prepare(l) : lease_write_use(l);
}

static int remark(struct lease *l, const struct connection_spec *spec, int r) {
        if (r == -EAGAIN)
                r = -EMFILE;
        if (r == -EMFILE)
                lease_remark(l, "%s: refused: %u connections and watches are open (connections_max)", file_of(spec),
                             l->n_connections);
        if (r == -EOPNOTSUPP)
                lease_remark(l, "%s: refused: environment %s has no helper, which it needs", file_of(spec), lease_environment(l));
        return r;
}

int lease_connect(struct lease *l, const struct connection_spec *spec, struct connection *c) {
        struct connection_spec full = *spec;
        int r;

        if (l->state == LEASE_RELEASED)
                return -ESTALE;
        if (l->state != LEASE_LEASED)
                return l->state == LEASE_WAITING ? -EAGAIN : -ENODEV;
        if (environment_sandbox(l->claim.environment)->plain)
                return remark(l, spec, -EOPNOTSUPP);
        if (l->n_connections >= l->table->config->connections_max)
                return remark(l, spec, -EMFILE);
        r = prepare(l, spec);
        if (r < 0)
                return r;
        full.workdir = l->workdir;
        r = sandbox_connect(environment_sandbox(l->claim.environment), &full, c);
        if (r < 0)
                return remark(l, spec, r);
        l->n_connections++;
        return 0;
}

void lease_disconnect(struct lease *l, struct connection *c) {
        connection_close(c);
        l->n_connections--;
}
