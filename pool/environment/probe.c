/* SPDX-License-Identifier: MIT */

/*
 * Probes: whether an idle environment still works.
 *
 * A provider may call one running that is dead, or hangs; a command that has
 * to run in it tells the truth. A single failure may be the network's, so it
 * takes two in a row to give one up. Nobody waits for a probe: it is forgotten
 * when its environment leaves the idle state.
 */

#include <stdio.h>
#include <string.h>

#include "pool/environment/internal.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/random.h"

#define PROBE_COMMAND "true"

void environment_works(struct environment *e) {
        e->checked_us = e->pool->clock();
        e->suspect = false;
}

void environment_draw_patience(struct environment *e) {
        e->patience = (unsigned)random_below(&e->pool->random, 1001);
}

int64_t environment_idle_end(const struct environment *e) {
        int64_t most = e->pool->config->idle_timeout_us;

        return most ? clock_after(e->since_us, most + most / 10 * e->patience / 1000) : USEC_NEVER;
}

int64_t environment_probe_time(const struct environment *e) {
        int64_t keepalive = e->pool->config->keepalive_us;

        if (e->probe || !keepalive)
                return USEC_NEVER;
        return e->suspect ? e->checked_us : clock_after(e->checked_us, keepalive);
}

static void probe_over(struct environment *e) {
        struct pool *p = e->pool;

        e->probe = NULL;
        list_remove(&e->probing);
        p->n_probing--;
        pool_look(p, e);
}

void environment_forget_probe(struct environment *e) {
        if (!e->probe)
                return;
        exec_cancel(e->probe);
        probe_over(e);
}

static void probe_failed(struct environment *e, const char *how) {
        bool second = e->suspect;
        struct result why;

        log_warning("environment=%s: probe failed: %s", e->sandbox->id, how);
        e->suspect = true;
        probe_over(e);
        if (!second)
                return;
        result_set(&why, RESULT_LOST, "environment %s does not work any more, two probes in a row failed: %s",
                   e->sandbox->id, how);
        environment_lose(e, &why);
}

static void on_started(void *owner) {
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct environment *e = owner;
        char how[32];

        if (result_ok(r) && code == 0) {
                environment_works(e);
                probe_over(e);
                return;
        }
        snprintf(how, sizeof(how), "exit code %d", code);
        probe_failed(e, result_ok(r) ? how : r->text);
}

static const struct exec_events probe_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
};

static int start_probe(struct environment *e) {
        char id[UUID_SIZE], mark[UUID_SIZE + sizeof(EXEC_MARK "=")];
        struct blob command;
        int r;

        blob_init(&command, -1, BLOB_MEMORY_MAX); /* short enough to need no file */
        r = blob_append(&command, PROBE_COMMAND, strlen(PROBE_COMMAND));
        if (r == 0)
                r = uuid_make(id);
        if (r == 0) {
                snprintf(mark, sizeof(mark), "%s=%s", EXEC_MARK, id);
                r = sandbox_exec(e->sandbox,
                                 &(struct exec_spec){
                                         .id = id,
                                         .command = &command,
                                         .workdir = "/",
                                         .cwd = "",
                                         .env = (const char *const[]){ mark, NULL },
                                 },
                                 &probe_events, e, &e->probe);
        }
        blob_deinit(&command);
        return r;
}

void environment_probe(struct environment *e) {
        struct pool *p = e->pool;
        int r = start_probe(e);

        if (r < 0) {
                /* That is this machine's fault and says nothing about the environment: as if it had not been due. */
                log_warning("environment=%s: not probed: %s", e->sandbox->id, strerror(-r));
                environment_works(e);
                return;
        }
        e->probe_end_us = clock_after(p->clock(), p->config->probe_timeout_us);
        list_add_tail(&p->probing, &e->probing);
        p->n_probing++;
}

/* Give up on probes that take too long. There are few: each is looked at. */
void pool_end_late_probes(struct pool *p, int64_t now) {
        struct environment *e, *tmp;

        list_for_each_safe (e, tmp, &p->probing, probing)
                if (e->probe_end_us <= now) {
                        exec_cancel(e->probe);
                        probe_failed(e, "no end in time");
                }
}

int64_t pool_probes_due(const struct pool *p) {
        int64_t next = USEC_NEVER;
        const struct environment *e;

        list_for_each (e, &p->probing, probing)
                next = clock_earlier(next, e->probe_end_us);
        return next;
}
