/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Shared by the parts of the client, and by nobody else:
 *
 *   client.c        carriers, and what comes over them
 *   client-job.c    jobs, and what the helper says of one
 *   client-calls.c  calls about files
 *   client-channel.c  channels
 *   client-send.c   what is sent next
 */

#include "pool/helper/client.h"
#include "pool/util/buf.h"
#include "pool/util/clock.h"
#include "pool/util/list.h"

enum client_state {
        CLIENT_NO_CARRIER,
        CLIENT_OPENING, /* until WELCOME and all its JOB have come */
        CLIENT_OPEN,
        CLIENT_STALE,
};

struct client_order {
        enum frame_type type;
        uint32_t number; /* 0: not given yet, for the helper has not said which was the last */
        uint64_t a, b;
        bool sent; /* over this carrier */
};

struct client_job {
        struct list link; /* in the client's jobs */
        struct client *client;
        const struct client_job_events *events;
        void *owner;
        struct client_job_spec spec; /* without the strings */
        struct buf strings;          /* before the command */
        uint32_t spec_len, n_env;
        bool started, ended;
        bool over;     /* its shell has ended, as the helper has said */
        bool known;    /* the helper has it, as far as this end can know */
        bool listed;   /* … and said so to this carrier */
        bool asked;    /* START was sent over this carrier */
        uint32_t spec_sent;
        uint64_t input_size, input_sent, input_limit, input_taken;
        bool input_end, end_sent;
        bool input_closed; /* nobody reads it any more */
        uint64_t streams[2]; /* bytes that came, */
        uint64_t acked[2];   /* that are acknowledged, */
        uint64_t told[2];    /* and of which the helper was told over this carrier */
        bool tell;           /* all of it, to a new carrier */
        struct client_order orders[CLIENT_ORDERS_MAX];
        unsigned n_orders;
        uint32_t last_order;
};

/*
 * A job of the helper that nobody here wants. It is killed, and forgotten when it has ended. Its output is acknowledged as
 * it comes, for it ends once all of that has been sent. It stays here until a later carrier has shown that it is gone: so
 * at most as many forgotten ones are kept as the helper has jobs.
 */
struct client_leftover {
        struct list link; /* in the client's leftovers, the oldest first */
        uint8_t id[HELPER_JOB_SIZE];
        uint32_t order; /* of the KILL */
        bool ended;     /* FORGET it; else KILL it */
        bool sent;      /* over this carrier */
        bool listed;    /* this carrier's helper has it, or may have it */
        uint64_t acked[2]; /* bytes of its streams that came, */
        uint64_t told[2];  /* and of which the helper was told over this carrier */
};

/* One that is done once. At most one of its kind is under way. */
struct client_request {
        uint64_t number; /* of the last one */
        bool asked;      /* there is no answer yet */
        bool sent;       /* over this carrier */
        uint8_t flags;
        struct buf data;
};

/* Calls about files. Those with a number are in the window until they are answered; the others wait for a place there. */
struct client_file_call;
struct client_calls {
        struct client_file_call **window; /* by number; NULL while there is no call */
        uint64_t first; /* the lowest number without an answer, */
        uint64_t next;  /* the next to be given, */
        uint64_t resend; /* and the first that may have to be sent again over this carrier */
        struct list queue;
        unsigned n_queued;
};

struct client {
        const struct client_events *events;
        void *owner;
        enum client_state state;
        uint8_t key[HELPER_KEY_SIZE];
        char pool[HELPER_POOL_MAX + 1];
        uint64_t epoch, carrier;
        struct decoder *decoder; /* NULL while no part of a frame waits for the rest */
        int64_t opened_us;
        int64_t silent_us; /* since when an answer is waited for, and nothing comes; or never */
        uint64_t bytes; /* in both directions */
        bool hello_sent;
        uint32_t version; /* that the helper speaks over this carrier */
        uint32_t expected; /* JOB frames that belong to WELCOME */
        bool broken;       /* told so */
        struct list jobs, leftovers;
        unsigned n_jobs, n_leftovers, n_forgotten;
        uint64_t *pings; /* NULL while there is none; the first @n_pings_sent are under way */
        unsigned n_pings, n_pings_sent;
        struct client_request requests[HELPER_N_REQUESTS];
        struct client_calls calls;
        bool calls_turn; /* the next frame was not one of a call */
        struct list channels;
        unsigned n_channels;
        uint32_t last_channel; /* the number of the newest */
        bool channels_turn;    /* the next frame was not one of a channel */
        int64_t lazy_us; /* since when something waits for company; or never */
};

/* client-job.c: */
struct client_job *client_find_job(struct client *c, const uint8_t *id);
void client_job_on_carrier(struct client_job *j);  /* there is a new one */

/* The helper has said which jobs it has: one that it does not have, but had; and its end. */
struct client_job *client_find_lost(struct client *c);
void client_job_lose(struct client_job *j);

/* What is wrong with a frame, or NULL. An event may have freed the job. */
const char *client_job_on_state(struct client_job *j, const struct frame *f);
const char *client_job_on_output(struct client_job *j, const struct frame *f);
const char *client_job_on_end(struct client_job *j, const struct frame *f);

/* Nobody wants the job any more. False: the helper says that it has more jobs than a helper can have. */
bool client_leave(struct client *c, const uint8_t *id, uint32_t order, bool ended, bool listed);
void client_leftover_drop(struct client *c, struct client_leftover *l);
void client_leave_output(struct client *c, const struct frame *f);

/* client-calls.c: */
void client_calls_init(struct client_calls *calls);
void client_calls_on_carrier(struct client *c); /* there is a new one */
void client_calls_on_open(struct client *c);    /* … which is open */
bool client_calls_next(struct client *c, struct frame *out);
bool client_calls_are_urgent(struct client *c);
const char *client_on_answer(struct client *c, const struct frame *f); /* what is wrong with it, or NULL */

/* client-channel.c: */
void client_channels_on_carrier(struct client *c); /* there is a new one */
void client_channels_on_open(struct client *c);    /* … which is open */
bool client_channels_next(struct client *c, struct frame *f);
bool client_channels_are_urgent(const struct client *c);
int64_t client_channels_tick(struct client *c, int64_t now);
const char *client_on_channel(struct client *c, const struct frame *f); /* what is wrong with it, or NULL */

/* client-send.c: the next frame; false when there is none. @data has room for HELPER_DATA_MAX. */
bool client_next_frame(struct client *c, struct frame *f, uint8_t *data);
bool client_is_urgent(const struct client *c);
bool client_is_lazy(const struct client *c);
