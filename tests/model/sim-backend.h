/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A provider of sandboxes that exists only as timers and records.
 *
 * It behaves as backend.h allows, at random, as badly as its rates say. And it
 * checks on its own what may never be done to a sandbox: run a job twice, run one
 * lease's job over another's remains, be used when dead, failed or ending.
 *
 * It outlives the core: what one core had, the next one adopts.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <uthash.h>

#include "pool/backend/backend.h"
#include "sim.h"
#include "pool/util/list.h"
#include "pool/util/uuid.h"

#define SIM_DELAY_US 10000

/* How often, in a thousand. All zero: everything succeeds, each answer after SIM_DELAY_US. */
struct sim_rates {
        unsigned create_refused, create_fails, create_hopeless, create_slow, create_no_room;
        unsigned dies;
        unsigned expires; /* has an end set by the provider */
        unsigned clean_refused, clean_fails, clean_hangs;
        unsigned note_fails, job_changes;
        bool compares; /* its clean-ups find what was changed */
        unsigned destroy_slow, destroy_fails;
        unsigned snapshot_fails, delete_snapshot_fails;
        unsigned adopt_fails, list_fails;
        unsigned probe_refused, probe_fails, probe_hangs;
        unsigned exec_refused, exec_fails, exec_lost, exec_hangs, exec_ignores_kill, exec_prints, exec_codes;
        int64_t delay_max_us; /* of any answer that is not slow */
        int64_t life_max_us;  /* until a sandbox that dies does */
        int64_t job_max_us;
        uint64_t output_max; /* bytes at a time */
};

enum sim_note {
        SIM_NOTE_NONE,
        SIM_NOTE_BEGUN,
        SIM_NOTE_DONE,
};

struct sim_sandbox {
        struct sandbox sandbox; /* first: it is the same object */
        struct list link;       /* in the backend's sandboxes, or in its strays */
        struct sim_backend *provider;
        unsigned number;
        char nonce[UUID_SIZE], resume_token[16];
        struct timer created, died, cleaned, destroyed, adopted, noted, snapshotted;
        char snapshot_id[UUID_SIZE];
        bool dead, clean_failed;
        enum sim_note note;
        bool changed;       /* a job did what no clean-up undoes, … */
        bool found_changed; /* … and a clean-up said so */
        bool gone;         /* a stray that the provider has not, or has no more */
        bool has_resume_token;     /* the core knows its resume token */
        bool doomed;       /* it must not be lent again: its end was asked for, or its create never answered */
        bool given_up;     /* who asked for its end does not hear of it any more */
        bool adopted_by_nonce;
        int64_t expires_us;
        bool adopting;     /* asked whether it lives */
        bool adopt_failed; /* and the answer was not that it does */
        uint64_t tenant;   /* serial of the lease whose job ran here since it was last clean; 0: clean */
        char workdir[300]; /* the tenant's */
        bool workdir_made;
        bool in_use_before; /* for hooks: the new core has it as one that must be cleaned */
        int64_t clean_since_us;
        struct list execs; /* jobs that run, or that ended unheard; oldest first */
        struct list past;  /* those before, until it is clean: how they ended can be asked for again */
        struct sim_probe *probe;
        struct sim_live *live; /* a program with live input */
        unsigned n_lent; /* for hooks */
        int64_t sent_us, made_us;
        uid_t user, ran;    /* for hooks: to whom it was lent, and whose jobs ran here; 0: nobody's */
        bool lent, retired; /* for hooks: a lease had it; it was there when the pool was recycled */
        bool condemned;     /* likewise: a lease gave it up */
        bool clean_refused; /* for hooks */
        int64_t idle_since_us; /* for hooks: since nobody has it */
        int64_t checked_us;    /* when it showed that it works */
        unsigned bad_probes;   /* in a row, by now */
        bool cut;              /* for hooks: the newest probe was cancelled before its time was up */
};

struct sim_exec {
        struct exec exec; /* first */
        struct list link; /* in its sandbox's execs, or past */
        struct sim_sandbox *sandbox;
        struct timer timer;
        char id[UUID_SIZE];
        uint64_t instance, serial;     /* of the lease */
        uint32_t number;               /* of the job */
        bool began, over;              /* the command runs; it has ended, and nobody heard of it yet */
        bool in_past;
        bool heard;                    /* a core listens, … */
        bool told;                     /* … and has been told all there is so far */
        struct timer tell;             /* when it will be */
        struct timer polled;           /* when it is said that it runs */
        uint64_t printed[2];
        void *job;                     /* for hooks */
        int64_t started_us, polled_us, killed_us; /* as the core knows; 0: not yet */
        int64_t grace_us;                         /* that the kill left it */
        bool ignores_kill;
        unsigned n_chunks; /* output still to come */
        uint64_t wrote[2]; /* of what it printed: that the core was given */
        int64_t duration_us;
        struct result result; /* how it is to end */
        int code;
};

/* An exec that is no lease's: whether the sandbox still works. */
struct sim_probe {
        struct exec exec; /* first */
        struct sim_sandbox *sandbox;
        struct timer timer;
        int64_t begun_us;
        int64_t timeout_us; /* for hooks */
};

/* Told of what happens, before the core is; any may be NULL. */
struct sim_hooks {
        void (*creating)(bool refused);
        void (*created)(const struct sim_sandbox *s, const struct result *r);
        void (*adopted)(struct sim_sandbox *s, const struct result *r);
        void (*dying)(struct sim_sandbox *s);
        void (*giving_up_clean)(struct sim_sandbox *s);
        void (*exec)(struct sim_sandbox *s, const struct exec_spec *spec, uint64_t serial, uint32_t number,
                     struct sim_exec *x); /* @x is NULL when it is refused */
        void (*giving)(struct sim_exec *x, size_t len); /* bytes of output */
        void (*killing)(struct sim_exec *x);
        void (*ending)(struct sim_exec *x, const struct result *r, int code);
        void (*cancelling)(struct sim_exec *x);
        void (*destroying)(struct sim_sandbox *s);
        void (*probing)(struct sim_sandbox *s); /* its probe is NULL when it is refused */
        void (*probed)(struct sim_sandbox *s, bool good);
        void (*dropping_probe)(struct sim_sandbox *s);
};

/* A job that began: none may begin again, anywhere. */
struct sim_begun {
        char id[UUID_SIZE];
        unsigned sandbox; /* its number */
        UT_hash_handle hh;
};

/* Counts since the start. */
struct sim_totals {
        uint64_t creates, created, create_failures, destroyed, destroy_failures, died;
        uint64_t cleaned, changed, clean_failures, cleans_given_up, execs, probes, signals;
        uint64_t adopted, adopt_failures, orphans, resumed, lists, snapshots;
};

enum sim_core {
        SIM_CORE_SERVES,
        SIM_CORE_LEAVES,  /* it stops and keeps everything for the next one */
        SIM_CORE_CRASHES, /* nothing that it does now reaches the provider, nor what it did a moment ago, perhaps */
};

struct sim_backend {
        struct backend backend; /* first */
        struct backend_client client; /* of this backend alone; never freed */
        struct sim_rates rates;
        const struct sim_hooks *hooks;
        struct list sandboxes; /* all that the core has, oldest first */
        struct list strays;    /* that no core has: an earlier one had, or ended them and did not succeed */
        enum sim_core core;
        struct sim_begun *begun; /* a hash of them */
        bool lenient;            /* what nobody left may be asked after, and is not there; */
        bool was_lenient;        /* likewise jobs, from then on */
        int refusal;             /* of the newest exec, or 0: -EMFILE passes, the other stays */
        bool cannot_list;        /* like the local backend */
        struct timer listed;
        int64_t list_us; /* when the core asked last what there is */
        struct list snapshots;  /* that the provider has */
        struct list deletions;  /* of them, that are under way */
        unsigned last_number, last_snapshot;
        struct sim_totals totals;
};

extern const struct backend_ops sim_backend_ops;

void sim_backend_init(struct sim_backend *b, const struct sim_rates *rates, const struct sim_hooks *hooks);

/* How many snapshots the provider has; of these, whose name a core was told; and that their time limits have come. */
unsigned sim_snapshots_count(const struct sim_backend *b);
unsigned sim_snapshots_heard(const struct sim_backend *b);
void sim_snapshots_forget(struct sim_backend *b);

/* The sandbox with this id, or NULL. */
struct sim_sandbox *sim_backend_find(struct sim_backend *b, const char *id);

/* What was started there as this job of this lease, or NULL. */
struct sim_exec *sim_exec_find(const struct sim_sandbox *s, uint64_t instance, uint64_t serial, uint32_t number);

/* Let a live sandbox die now. */
void sim_sandbox_die(struct sim_sandbox *s);

/*
 * The core that had everything is thrown away: first say how, then let it go through its end, then let it go. What
 * it had becomes strays, which the next core adopts.
 */
void sim_backend_end_core(struct sim_backend *b, enum sim_core how);
void sim_backend_let_go(struct sim_backend *b);

/* Forget the strays: the provider's own time limits have come. */
void sim_backend_forget_strays(struct sim_backend *b);

/* Byte @offset of what job @number of lease @serial prints on @stream. */
char sim_output_byte(uint64_t serial, uint32_t number, int stream, uint64_t offset);
