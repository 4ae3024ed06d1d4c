/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where calls go: the control plane (rpc/control.h), or the router of one sandbox (rpc/router.h).
 *
 * A call knows its endpoint by the functions below and by nothing else. An endpoint whose access has to be fetched
 * first, and fetched anew when it is refused, makes the calls wait in the list here; it asks for the access by a call
 * over another endpoint, and then tells all that wait by modal_endpoint_answer().
 *
 * Embedded in its owner; no call over it may be left when that goes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "pool/backend/modal/client.h"
#include "pool/util/list.h"

#define MODAL_METADATA_MAX 12 /* lines that a call has in its head */

/* The metadata of one try. The lines may hold secrets, so their memory is wiped. */
struct modal_metadata {
        const char *lines[MODAL_METADATA_MAX + 1]; /* "name: value", NULL at the end */
        size_t n;
};

/* 0, -ENOMEM, or -E2BIG. */
int modal_metadata_add(struct modal_metadata *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
void modal_metadata_deinit(struct modal_metadata *m);

/* A text from outside that may be the value of a line: printable ASCII without blanks. */
bool modal_metadata_is_value(const char *text);

/* What an endpoint may say of a try in its metadata. */
struct modal_try {
        const char *key;    /* of the call, the same for all its tries; "" without keyed */
        unsigned failures;  /* in a row, before this one */
        unsigned throttled; /* likewise: tries that the server put off */
};

struct modal_endpoint;

struct modal_endpoint_ops {
        const char *service;            /* "/package.Service/" */
        int64_t delay_us, delay_max_us; /* between tries, doubling */
        bool keyed;                     /* it wants an idempotency key */
        bool moves; /* one that cannot be reached, or does not know what we ask for, may be elsewhere: fetch() tells */
        /* The lines that each call has. 0 or -errno. */
        int (*metadata)(const struct modal_endpoint *e, const struct modal_try *try, struct modal_metadata *out);
        /* The access is there and holds for a while. NULL, with fetch(): none is needed. */
        bool (*is_ready)(const struct modal_endpoint *e);
        /* Ask for access, unless that is under way. 0 or -errno; then modal_endpoint_answer() follows. */
        int (*fetch)(struct modal_endpoint *e);
};

struct modal_endpoint {
        const struct modal_endpoint_ops *ops;
        struct modal_client *client;
        const char *url;     /* borrowed from the owner; NULL before the first access */
        unsigned generation; /* how many accesses there were */
        unsigned peer;       /* how many other sides there were: another number is another program, maybe */
        struct list waiting; /* calls that wait for access */
};

void modal_endpoint_init(struct modal_endpoint *e, const struct modal_endpoint_ops *ops, struct modal_client *client);

static inline bool modal_endpoint_is_ready(const struct modal_endpoint *e) {
        return !e->ops->is_ready || e->ops->is_ready(e);
}
