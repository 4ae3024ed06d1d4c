/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The processes of one sandbox, by the router's exec calls.
 *
 *   process   starting → running → freed    started() at most once, ended(result, code) once
 *
 * A sandbox embeds one struct modal_processes and reads nothing of a process. What concerns all of the sandbox comes to
 * it by events: that it is gone, that the router does not know a process, that the start of a cancelled one was
 * answered. A process belongs to this table; the pointer of who started it is good until ended() returns or it is
 * cancelled.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/backend/backend.h"
#include "pool/backend/modal/exec/stdin.h"
#include "pool/backend/modal/identity.h"
#include "pool/backend/modal/rpc/endpoint.h"

struct modal_process;
struct modal_processes;

struct modal_processes_events {
        /* The sandbox is no more. */
        void (*lost)(struct modal_processes *t, const char *what);
        /* The router does not know a process. modal_processes_lost() or modal_processes_unknown() has to follow. */
        void (*unknown)(struct modal_processes *t);
        /* The start of a cancelled process was answered; @sure: it is known whether it was started. */
        void (*start_known)(struct modal_processes *t, bool sure);
};

struct modal_processes {
        const struct modal_processes_events *events;
        struct modal_endpoint *router;
        const struct modal_identity *identity; /* it has its task before the first process */
        struct list listened;   /* processes with an owner; they leave when they end or are cancelled */
        struct list unanswered; /* those without, whose start is not answered yet: they may still be started */
        bool lost;              /* the sandbox is dead: its end is that of its processes too */
};

void modal_processes_init(struct modal_processes *t, const struct modal_processes_events *events,
                          struct modal_endpoint *router, const struct modal_identity *identity);

/* Stop listening to all that nobody else cancels; and do not even wait for the answers to their starts. */
void modal_processes_cancel(struct modal_processes *t);
void modal_processes_forget(struct modal_processes *t);

/* The sandbox is known to be dead: no process reports a failure any more. */
void modal_processes_lost(struct modal_processes *t);

/* The sandbox lives, but those of its processes that the router does not know are not there. */
void modal_processes_unknown(struct modal_processes *t);

struct modal_process_events {
        void (*started)(void *owner); /* may be NULL */
        void (*output)(void *owner, enum stream stream, const void *data, size_t len);
        void (*ended)(void *owner, const struct result *r, int code);
        void (*polled)(void *owner, bool running); /* NULL where nobody asks */
        void (*room)(void *owner); /* live input was written, or is read no more; NULL without */
};

/* Borrowed for the time of the call. */
struct modal_process_spec {
        const char *const *args;
        size_t n_args;
        const char *const *env;
        bool keep_stderr;        /* else it is thrown away */
        bool only_start;         /* its start is all that matters: started() or ended() */
        struct modal_stdin *input; /* taken over, also on failure; NULL: nothing is written */
        bool live_input;         /* behind that comes what modal_process_write() brings; not with resume */
        const char *exec_id;     /* NULL: a new one */
        bool resume;             /* it was started by an earlier run: only follow it … */
        uint64_t offsets[2];     /* … from here */
        int64_t retry_for_us;     /* for its start; 0: START_RETRY_US */
};

/* 0 or -errno; then events come, until ended() or a cancel. */
int modal_process_start(struct modal_processes *t, const struct modal_process_spec *spec,
                        const struct modal_process_events *events, void *owner, struct modal_process **out);
void modal_process_cancel(struct modal_process *p);

/* As exec_write(), exec_end_input() and exec_hold_output(), but for ended(), which a failure may bring at any time. */
ssize_t modal_process_write(struct modal_process *p, const void *data, size_t len);
void modal_process_end_input(struct modal_process *p);
void modal_process_hold_output(struct modal_process *p, bool hold);

/* Ask whether it still runs, once it has started. 0 or -errno; then polled() comes, unless ended() does. */
int modal_process_poll(struct modal_process *p);
