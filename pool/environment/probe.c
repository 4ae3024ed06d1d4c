/* SPDX-License-Identifier: MIT */
#include "pool/environment/probe.h"

#include <stdio.h>
#include <string.h>

#include "pool/environment/command.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"
#include "pool/util/uuid.h"

#define PROBE_COMMAND "true"

void probes_init(struct probes *all, const struct config *config, int64_t (*clock)(void),
                 const struct probe_events *events) {
        *all = (struct probes){ .config = config, .clock = clock, .events = events };
        list_init(&all->running);
}

void probe_init(struct probe *p, struct probes *all) {
        *p = (struct probe){ .all = all };
        list_init(&p->link);
}

void probe_passed(struct probe *p) {
        p->checked_us = p->all->clock();
        p->suspect = false;
}

int64_t probe_due(const struct probe *p) {
        int64_t keepalive = p->all->config->keepalive_us;

        if (p->exec || !keepalive)
                return USEC_NEVER;
        return p->suspect ? p->checked_us : clock_after(p->checked_us, keepalive);
}

static void probe_over(struct probe *p) {
        p->exec = NULL;
        list_remove(&p->link);
        p->all->n_running--;
        p->all->events->over(p);
}

void probe_cancel(struct probe *p) {
        if (!p->exec)
                return;
        exec_cancel(p->exec);
        probe_over(p);
}

static void probe_failed(struct probe *p, const char *how) {
        bool second = p->suspect;
        struct result why;

        log_warning("environment=%s: probe failed: %s", p->sandbox->id, how);
        p->suspect = true;
        probe_over(p);
        if (!second)
                return;
        result_set(&why, RESULT_LOST, "environment %s does not work any more, two probes in a row failed: %s",
                   p->sandbox->id, how);
        p->all->events->failed(p, &why);
}

static void on_started(void *owner) {
}

static void on_output(void *owner, enum stream stream, const void *data, size_t len) {
}

static void on_ended(void *owner, const struct result *r, int code) {
        struct probe *p = owner;
        char how[32];

        if (result_ok(r) && code == 0) {
                probe_passed(p);
                probe_over(p);
                return;
        }
        snprintf(how, sizeof(how), "exit code %d", code);
        probe_failed(p, result_ok(r) ? how : r->text);
}

static const struct exec_events exec_events = {
        .started = on_started,
        .output = on_output,
        .ended = on_ended,
};

static int run_command(struct probe *p, const struct blob *text) {
        struct command command;
        char id[UUID_SIZE];
        int r = uuid_make(id);

        if (r == 0)
                r = command_init(&command, &(struct command_settings){
                                                   .id = id, .shell = "", .workdir = "/", .cwd = "", .pool_env = "",
                                                   .env = "" });
        if (r < 0)
                return r;
        command.spec.command = text;
        command.spec.brief = true;
        r = sandbox_exec(p->sandbox, &command.spec, &exec_events, p, &p->exec);
        command_deinit(&command);
        return r;
}

static int start_exec(struct probe *p) {
        struct blob text;
        int r;

        blob_init(&text, -1, BLOB_MEMORY_MAX); /* short enough to need no file */
        r = blob_append(&text, PROBE_COMMAND, strlen(PROBE_COMMAND));
        if (r == 0)
                r = run_command(p, &text);
        blob_deinit(&text);
        return r;
}

void probe_start(struct probe *p, struct sandbox *s) {
        int r;

        p->sandbox = s;
        r = start_exec(p);
        if (r < 0) {
                log_warning("environment=%s: not probed: %s", s->id, strerror(-r));
                probe_passed(p);
                return;
        }
        p->deadline_us = clock_after(p->all->clock(), p->all->config->probe_timeout_us);
        list_add_tail(&p->all->running, &p->link);
        p->all->n_running++;
}

/* There are few: the loop takes them all. */
void probes_end_late(struct probes *all, int64_t now_us) {
        struct probe *p, *tmp;

        list_for_each_safe (p, tmp, &all->running, link)
                if (p->deadline_us <= now_us) {
                        exec_cancel(p->exec);
                        probe_failed(p, "no end in time");
                }
}

int64_t probes_due(const struct probes *all) {
        int64_t next = USEC_NEVER;
        const struct probe *p;

        list_for_each (p, &all->running, link)
                next = clock_earlier(next, p->deadline_us);
        return next;
}
