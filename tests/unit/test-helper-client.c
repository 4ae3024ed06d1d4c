/* SPDX-License-Identifier: MIT */

/*
 * The daemon's end of the helper, in a simulation. The helper's end is the real one as far as it has to do with frames,
 * jobs and what is kept of them (jobs.c, store.c); processes are made up here, and so are carriers, which delay, cut
 * into pieces, and break at any byte. The daemon is restarted now and then.
 */

#include <errno.h>
#include <string.h>

#include "check.h"
#include "pool/helper/agent/clean.h"
#include "pool/helper/agent/cleaner.h"
#include "pool/helper/agent/cleaning.h"
#include "pool/helper/agent/job.h"
#include "pool/helper/agent/jobs.h"
#include "pool/helper/agent/reapers.h"
#include "pool/helper/client.h"
#include "pool/util/list.h"
#include "prng.h"

#define JOBS 24 /* of a run */
#define COMMAND_MAX 60000

static struct prng dice;
static int64_t now;

/* Byte @at of stream @stream of job @n; its input is stream 2, its command stream 3. */
static uint8_t byte_of(unsigned n, unsigned stream, uint64_t at) {
        return (uint8_t)(n * 31 + stream * 17 + at * 7 + at / 253) | 1; /* no NUL: they are commands, too */
}

/* What is true of a job, whatever the daemon and the helper believe. */
struct truth {
        unsigned starts;                /* of its process */
        uint64_t total[2], produced[2]; /* bytes of output */
        uint64_t input;                 /* bytes that it read */
        bool input_ended, killed;
        unsigned signals; /* that it got; each is one more than the one before */
        bool over;

        /* What the daemon has on disk. */
        bool asked, started, ended, forgotten;
        uint64_t streams[2], room; /* bytes of output, and at most so many of both streams */
        uint64_t taken;
        unsigned orders;  /* signals that were ordered */
        unsigned n_ended; /* events */
        uint64_t command_len, input_size;
        bool has_input, wants_kill, kill_ordered;
        struct client_job *job;
        uint64_t given[2]; /* bytes of output, to this daemon: all are acknowledged, with those that it has no room for */
};

static struct truth truths[JOBS];

static unsigned number_of(const uint8_t *id) {
        return id[0] - 1U;
}

/* the helper's processes */

void reapers_reaped(pid_t pid) {
}

void reapers_stopped(pid_t pid) {
}

int helper_job_init(const struct job_context *context) {
        return 0;
}

static void start(struct job *j) {
        truths[number_of(j->id)].starts++;
        j->state = HELPER_JOB_RUNNING;
        j->tell = true;
}

void helper_job_new(struct job *j, const struct frame *f) {
        *j = (struct job){ .used = true, .flags = f->flags, .spec_len = f->spec_len, .window = f->window };
        memcpy(j->id, f->job, sizeof(j->id));
        output_init(&j->output);
        input_init(&j->input);
        CHECK_INT(f->timeout_us, 5000000 + number_of(f->job));
        helper_job_spec(j, 0, f->data, f->len);
}

bool helper_job_spec(struct job *j, uint64_t offset, const uint8_t *data, size_t len) {
        static const char head[] = "bash\0/w\0\0nobody\0A=1"; /* with its final NUL */

        if (j->state != HELPER_JOB_RECEIVING)
                return true;
        if (offset > j->spec_have || offset + len > j->spec_len)
                return false;
        for (uint64_t at = offset; at < offset + len; at++) {
                uint8_t expected = at < sizeof(head)     ? (uint8_t)head[at]
                                   : at == j->spec_len - 1 ? 0
                                                           : byte_of(number_of(j->id), 3, at - sizeof(head));
                CHECK_INT(data[at - offset], expected);
        }
        if (offset + len <= j->spec_have)
                return true;
        j->spec_have = offset + len;
        return true;
}

void helper_job_start(struct job *j) {
        if (j->state == HELPER_JOB_RECEIVING && j->spec_have == j->spec_len)
                start(j);
}

/* For a moment, so that others wait. */
bool helper_job_is_dying(const struct job *j) {
        return j->state == HELPER_JOB_RUNNING && prng_chance(&dice, 100);
}

static void end(struct job *j, enum helper_end how, int value) {
        j->end = (struct start_failure){ .how = how, .value = value };
        j->state = HELPER_JOB_ENDED;
        j->tell = true;
        input_shut(&j->input);
}

void helper_job_kill(struct job *j, int64_t grace_us) {
        if (j->state == HELPER_JOB_ENDED)
                return;
        truths[number_of(j->id)].killed = true;
        end(j, HELPER_END_SIGNAL, 9);
}

void helper_job_signal(struct job *j, int signo) {
        CHECK_INT(signo, ++truths[number_of(j->id)].signals);
}

void helper_job_resize(struct job *j, uint16_t rows, uint16_t columns) {
        CHECK(false);
}

void helper_job_forget(struct job *j) {
        output_deinit(&j->output);
        j->used = false;
}

void helper_job_on_input(struct job *j) {
}

void helper_job_on_room(struct job *j) {
}

/* The table in jobs.c gives each of its jobs a turn: a process reads, writes, ends. */
int64_t helper_job_tick(struct job *j, int64_t at) {
        struct truth *t = &truths[number_of(j->id)];
        unsigned stream = prng_below(&dice, 2);
        const uint8_t *input;
        size_t room, len;
        uint8_t *p;

        if (j->state != HELPER_JOB_RUNNING)
                return 0;
        while (prng_chance(&dice, 700) && (len = input_peek(&j->input, &input)) > 0) {
                len = 1 + prng_below(&dice, len);
                for (size_t i = 0; i < len; i++)
                        CHECK_INT(input[i], byte_of(number_of(j->id), 2, t->input + i));
                t->input += len;
                j->tell |= input_take(&j->input, len);
        }
        t->input_ended = j->input.end && j->input.taken == j->input.have;
        len = 1 + prng_scaled(&dice, PACKET_SIZE - 1);
        if (len > t->total[stream] - t->produced[stream])
                len = t->total[stream] - t->produced[stream];
        p = len > 0 ? output_room(&j->output, stream, &room) : NULL;
        for (size_t i = 0; p && i < len; i++)
                p[i] = byte_of(number_of(j->id), stream, t->produced[stream] + i);
        if (p) {
                output_add(&j->output, stream, len);
                t->produced[stream] += len;
        }
        if (t->produced[0] == t->total[0] && t->produced[1] == t->total[1] && (t->input_ended || !t->has_input) &&
            t->signals == 3) {
                t->over = true;
                end(j, HELPER_END_EXIT, (int)number_of(j->id));
        }
        return 0;
}

void helper_job_reaped(struct job *j, pid_t pid, int status) {
}

/* the helper's cleaner */

static void (*cleaner_done)(const struct clean_report *report); /* NULL: there is none */
static struct clean_report cleaner_report;
static unsigned n_cleaners[HELPER_N_REQUESTS], n_cancelled;

const char *clean_check(struct clean_request *q) {
        static const char lists[] = "\0/tmp\0/var/tmp\0\0/opt"; /* behind the workdir, with its final NUL */
        size_t len = strlen(q->strings);

        CHECK_INT(q->flags, q->kind == HELPER_CLEAN ? CLEAN_SANDBOX : 0);
        CHECK_INT(q->len, len + sizeof(lists));
        CHECK(!memcmp(q->strings + len, lists, sizeof(lists)));
        return NULL;
}

/* Its report says which request it was for. */
int cleaner_start(const struct clean_request *q, void (*done)(const struct clean_report *report)) {
        CHECK(!cleaner_done);
        cleaner_done = done;
        cleaner_report.error = EBUSY;
        cleaner_report.len = snprintf(cleaner_report.text, sizeof(cleaner_report.text), "%s", q->strings);
        n_cleaners[q->kind]++;
        return 0;
}

void cleaner_cancel(void) {
        CHECK(cleaner_done);
        cleaner_done = NULL;
        n_cancelled++;
}

static void cleaner_turn(void) {
        void (*done)(const struct clean_report *report) = cleaner_done;

        if (!done || !prng_chance(&dice, 100))
                return;
        cleaner_done = NULL;
        done(&cleaner_report);
}

/* carriers: the present one, and the helper's end of it */

struct pipe {
        uint8_t bytes[1 << 20];
        size_t len;
};

static struct pipe to_helper, to_daemon;
static bool connected, attached; /* there is a carrier; the helper has accepted it */
static struct decoder decoder;
static uint64_t newest_epoch, newest_carrier;
static unsigned n_refusals;

static void put(struct pipe *p, const void *data, size_t len) {
        CHECK(len <= sizeof(p->bytes) - p->len);
        memcpy(p->bytes + p->len, data, len);
        p->len += len;
}

/* Some of what is in it. */
static size_t take(struct pipe *p, uint8_t *out, size_t most) {
        size_t len = p->len < most ? p->len : most;

        if (len > 0)
                len = 1 + prng_scaled(&dice, len - 1);
        memcpy(out, p->bytes, len);
        memmove(p->bytes, p->bytes + len, p->len - len);
        p->len -= len;
        return len;
}

static void helper_says(const struct frame *f) {
        static uint8_t bytes[FRAME_MAX];

        put(&to_daemon, bytes, frame_encode(f, bytes));
}

static void helper_hello(const struct frame *f) {
        static uint8_t all[8192];

        CHECK(f->epoch > newest_epoch || (f->epoch == newest_epoch && f->carrier > newest_carrier));
        newest_epoch = f->epoch;
        newest_carrier = f->carrier;
        attached = true;
        cleaning_new_carrier();
        helper_says(&(struct frame){ .type = FRAME_WELCOME, .version = 1, .epoch = f->epoch, .carrier = f->carrier,
                                     .count = helper_jobs_count() });
        put(&to_daemon, all, helper_jobs_tell_all(all));
}

static void helper_turn(void) {
        struct frame f;
        size_t room;
        int r;

        if (connected) {
                uint8_t *p = decoder_room(&decoder, &room);

                decoder_add(&decoder, take(&to_helper, p, room));
                while ((r = decoder_next(&decoder, &f)) == 1) {
                        const char *wrong = NULL;

                        if (f.type == FRAME_HELLO)
                                helper_hello(&f);
                        else if (f.type == FRAME_REQUEST && f.kind == HELPER_PING)
                                helper_says(&(struct frame){ .type = FRAME_REPLY, .request = f.request });
                        else if (f.type == FRAME_REQUEST)
                                wrong = cleaning_take(&f, newest_epoch);
                        else
                                wrong = helper_jobs_take(&f);
                        if (wrong)
                                printf("# %s: %s\n", frame_name(f.type), wrong);
                        n_refusals += wrong != NULL;
                }
                CHECK_INT(r, 0);
        }
        helper_jobs_tick();
        cleaner_turn();
        while (attached && cleaning_next_reply(&f))
                helper_says(&f);
        while (attached && to_daemon.len < 100000 && (helper_jobs_next_state(&f) || helper_jobs_next_output(&f)))
                helper_says(&f);
}

/* the daemon */

static struct client *client;
static uint64_t epoch;
static bool is_broken;
static unsigned n_replies, n_missed;
static unsigned n_asked[HELPER_N_REQUESTS], n_answered[HELPER_N_REQUESTS]; /* by and to all daemons */
static bool is_asked[HELPER_N_REQUESTS];                                    /* by this one */

static void answered(enum helper_request kind, int error, const char *text, size_t len) {
        char expected[32];

        snprintf(expected, sizeof(expected), "/w/%u", n_asked[kind]);
        CHECK(is_asked[kind]);
        if (error == EBUSY) {
                CHECK_INT(len, strlen(expected));
                CHECK(!memcmp(text, expected, len));
        } else {
                CHECK_INT(error, ECANCELED);
                CHECK_INT(kind, HELPER_NOTE);
        }
        is_asked[kind] = false;
        n_answered[kind]++;
}

static void on_cleaned(void *owner, int error, const char *text, size_t len) {
        answered(HELPER_CLEAN, error, text, len);
}

static void on_noted(void *owner, int error, const char *text, size_t len) {
        answered(HELPER_NOTE, error, text, len);
}

static int ask_once(enum helper_request kind, const struct client_cleanup *what) {
        return kind == HELPER_CLEAN ? client_clean(client, what) : client_note(client, what);
}

static void daemon_asks_once(enum helper_request kind) {
        static const char *const emptied[] = { "/tmp", "/var/tmp", NULL }, *const unwatched[] = { "/opt", NULL };
        char workdir[32];
        struct client_cleanup what = { .sandbox = true, .workdir = workdir,
                                       .emptied = emptied, .unwatched = unwatched };

        snprintf(workdir, sizeof(workdir), "/w/%u", n_asked[kind] + 1);
        if (is_asked[kind]) {
                CHECK_INT(ask_once(kind, &what), -EBUSY);
                return;
        }
        n_asked[kind]++;
        is_asked[kind] = true;
        CHECK_INT(ask_once(kind, &what), 0);
}

static void on_open(void *owner) {
}

static void on_broken(void *owner, const char *why, size_t len) {
        printf("# broken: %.*s\n", (int)len, why);
        is_broken = true;
}

static void on_stale(void *owner) {
        CHECK(false);
}

static void on_refused(void *owner, uint32_t count) {
        CHECK(false);
}

static void on_replied(void *owner, uint64_t request) {
        CHECK_INT(request, 77);
        n_replies++;
}

static const struct client_events events = { on_open, on_broken, on_stale, on_refused, on_replied, on_cleaned, on_noted };

static void job_started(void *owner) {
        struct truth *t = owner;

        CHECK(!t->started);
        t->started = true;
}

static void job_output(void *owner, unsigned stream, const void *data, size_t len) {
        struct truth *t = owner;

        uint64_t room = t->room - t->streams[0] - t->streams[1];

        CHECK(t->started);
        for (size_t i = 0; i < len; i++)
                CHECK_INT(((const uint8_t *)data)[i], byte_of((unsigned)(t - truths), stream, t->given[stream] + i));
        t->given[stream] += len;
        t->streams[stream] += len < room ? len : room;
        if (prng_chance(&dice, 900))
                client_job_acknowledge(t->job, t->given);
}

/* A daemon before had no room for them. */
static void job_missed(void *owner, unsigned stream, uint64_t offset) {
        struct truth *t = owner;

        CHECK(offset > t->given[stream]);
        CHECK_INT(t->streams[0] + t->streams[1], t->room);
        t->given[stream] = offset;
        n_missed++;
}

static bool job_command(void *owner, uint64_t offset, void *data, size_t len) {
        struct truth *t = owner;

        CHECK(offset + len <= t->command_len);
        for (size_t i = 0; i < len; i++)
                ((uint8_t *)data)[i] = byte_of((unsigned)(t - truths), 3, offset + i);
        return true;
}

static bool job_input(void *owner, uint64_t offset, void *data, size_t len) {
        struct truth *t = owner;

        CHECK(offset >= t->taken && offset + len <= t->input_size);
        for (size_t i = 0; i < len; i++)
                ((uint8_t *)data)[i] = byte_of((unsigned)(t - truths), 2, offset + i);
        return true;
}

static void job_taken(void *owner, uint64_t offset) {
        struct truth *t = owner;

        CHECK(offset >= t->taken);
        t->taken = offset;
}

static void job_ended(void *owner, const struct client_end *e) {
        struct truth *t = owner;

        t->n_ended++;
        t->ended = true;
        CHECK(e->how == HELPER_END_EXIT ? t->started && t->over : e->how == HELPER_END_SIGNAL && t->wants_kill);
        if (e->how == HELPER_END_EXIT)
                CHECK_INT(e->value, t - truths);
        CHECK_INT(t->given[0], t->produced[0]);
        CHECK_INT(t->given[1], t->produced[1]);
        if (prng_chance(&dice, 500)) {
                client_job_free(t->job);
                t->job = NULL;
                t->forgotten = true;
        }
}

static const struct client_job_events job_events = {
        job_started, job_output, job_missed, job_command, job_input, job_taken, job_ended
};

static void ask(struct truth *t) {
        static const char *const env[] = { "A=1", NULL };
        struct client_job_spec spec = {
                .flags = t->has_input ? START_INPUT : 0, .shell = "bash", .workdir = "/w", .cwd = "", .user = "nobody",
                .env = env, .command_len = t->command_len, .timeout_us = 5000000 + (t - truths), .resume = t->started,
                .streams = { t->streams[0], t->streams[1] },
        };
        int r;

        spec.id[0] = (uint8_t)(t - truths + 1);
        if (!t->started)
                spec.streams[0] = spec.streams[1] = t->taken = 0; /* its input is read from the first byte */
        memcpy(t->given, spec.streams, sizeof(t->given));
        r = client_job_start(client, &spec, &job_events, t, &t->job);
        CHECK_INT(r, 0);
        t->asked = true;
        client_job_input(t->job, t->input_size, true);
}

static void daemon_starts(void) {
        uint8_t key[HELPER_KEY_SIZE] = { 1 };

        CHECK_INT(client_new(&client, key, "pool", ++epoch, &events, NULL), 0);
        for (unsigned i = 0; i < JOBS; i++)
                if (truths[i].asked && !truths[i].ended)
                        ask(&truths[i]);
}

static void disconnect(void) {
        connected = attached = false;
        to_helper.len = to_daemon.len = 0;
        client_carrier_lost(client);
}

/* Killed. What is in the truths is on its disk; of orders, those that were done. */
static void daemon_dies(void) {
        disconnect();
        for (unsigned i = 0; i < JOBS; i++) {
                truths[i].orders = truths[i].signals;
                truths[i].kill_ordered = truths[i].killed;
                truths[i].forgotten |= truths[i].ended;
                if (!truths[i].job)
                        continue;
                client_job_free(truths[i].job);
                truths[i].job = NULL;
        }
        client_free(client);
        client = NULL;
        memset(is_asked, 0, sizeof(is_asked));
}

static void connect_carrier(void) {
        connected = true;
        is_broken = false;
        decoder_init(&decoder, FRAME_OF_DAEMON);
        CHECK_INT(client_carrier_new(client, now), 0);
}

static void daemon_orders(struct truth *t) {
        if (!t->job || t->ended)
                return;
        if (t->orders < 3 && prng_chance(&dice, 100) && client_job_signal(t->job, t->orders + 1) == 0)
                t->orders++;
        if (t->wants_kill && !t->kill_ordered && t->orders == 3 && prng_chance(&dice, 100))
                t->kill_ordered = client_job_kill(t->job, 0) == 0;
}

static void daemon_turn(void) {
        static uint8_t bytes[1 << 16];
        size_t len;

        for (unsigned i = 0; i < JOBS; i++) {
                struct truth *t = &truths[i];

                if (!t->asked && prng_chance(&dice, 50))
                        ask(t);
                daemon_orders(t);
                if (t->job && t->ended && prng_chance(&dice, 100)) {
                        client_job_free(t->job);
                        t->job = NULL;
                        t->forgotten = true;
                }
        }
        if (prng_chance(&dice, 20))
                daemon_asks_once(HELPER_CLEAN);
        if (prng_chance(&dice, 20))
                daemon_asks_once(HELPER_NOTE);
        if (connected && is_broken)
                disconnect();
        if (!connected)
                return;
        len = take(&to_daemon, bytes, sizeof(bytes));
        client_receive(client, bytes, len, now);
        client_tick(client, now);
        if (client_send_at(client, now) <= now && to_helper.len < 200000)
                put(&to_helper, bytes, client_send(client, bytes, sizeof(bytes), now));
}

static bool all_forgotten(void) {
        for (unsigned i = 0; i < JOBS; i++)
                if (!truths[i].forgotten)
                        return false;
        return true;
}

static void make_truths(void) {
        memset(truths, 0, sizeof(truths));
        for (unsigned i = 0; i < JOBS; i++) {
                struct truth *t = &truths[i];

                t->command_len = prng_scaled(&dice, COMMAND_MAX);
                t->total[0] = prng_scaled(&dice, 300000);
                t->total[1] = prng_scaled(&dice, 30000);
                t->room = prng_chance(&dice, 200) ? prng_scaled(&dice, 100000) : UINT64_MAX;
                t->has_input = prng_chance(&dice, 500);
                t->input_size = t->has_input ? prng_scaled(&dice, 200000) : 0;
                t->wants_kill = prng_chance(&dice, 200);
        }
}

static unsigned n_answers[HELPER_N_REQUESTS]; /* of all runs */

/* Each was done once. */
static void check_requests(enum helper_request kind, bool deaths) {
        n_answers[kind] += n_answered[kind];
        CHECK(n_cleaners[kind] <= n_asked[kind]);
        if (!deaths)
                CHECK_INT(n_answered[kind] + is_asked[kind], n_asked[kind]);
        if (!deaths && kind == HELPER_CLEAN)
                CHECK(n_cleaners[kind] + 1 >= n_asked[kind]);
}

/* @cuts and @deaths: in a thousand turns of the world. */
static void run_world(uint64_t seed, unsigned cuts, unsigned deaths) {
        unsigned turns = 0;

        dice = (struct prng){ seed };
        newest_carrier = 0;
        n_refusals = 0;
        memset(n_cleaners, 0, sizeof(n_cleaners));
        memset(n_asked, 0, sizeof(n_asked));
        memset(n_answered, 0, sizeof(n_answered));
        now = USEC_PER_SEC;
        make_truths();
        daemon_starts();
        for (; turns < 400000 && (!all_forgotten() || helper_jobs_count() > 0); turns++) {
                now += prng_scaled(&dice, 100000);
                if (connected && prng_chance(&dice, cuts))
                        disconnect();
                if (deaths && prng_chance(&dice, deaths)) {
                        daemon_dies();
                        daemon_starts();
                }
                if (!connected && prng_chance(&dice, 300))
                        connect_carrier();
                helper_turn();
                daemon_turn();
        }
        while (cleaner_done)
                cleaner_turn();
        for (unsigned i = 0; i < JOBS; i++) {
                struct truth *t = &truths[i];

                CHECK(t->starts == 1 || (t->starts == 0 && t->killed && !t->started));
                CHECK_INT(t->n_ended, 1);
                CHECK(t->forgotten);
                CHECK_INT(t->signals, 3);
                if (!t->killed)
                        CHECK_INT(t->input, t->input_size);
        }
        CHECK_INT(helper_jobs_count(), 0);
        CHECK_INT(n_refusals, 0);
        check_requests(HELPER_CLEAN, deaths > 0);
        check_requests(HELPER_NOTE, deaths > 0);
        if (check_failed_now)
                printf("# seed %" PRIu64 ", %u turns\n", seed, turns);
        daemon_dies();
}

static void carriers_that_hold(void) {
        for (uint64_t seed = 1; seed <= 5 && !check_failed_now; seed++)
                run_world(seed, 0, 0);
}

static void carriers_that_break(void) {
        for (uint64_t seed = 100; seed < 200 && !check_failed_now; seed++)
                run_world(seed, 1 + seed % 30, 0);
}

/* With what it has on disk the next one goes on. */
static void daemons_that_die(void) {
        for (uint64_t seed = 200; seed < 300 && !check_failed_now; seed++)
                run_world(seed, seed % 10, 1 + seed % 20);
}

static void requests_of_all_runs(void) {
        CHECK(n_answers[HELPER_CLEAN] > 1000);
        CHECK(n_answers[HELPER_NOTE] > 1000);
        CHECK(n_cancelled > 100);
}

static void output_that_daemons_refused(void) {
        CHECK(n_missed > 100);
}

int main(void) {
        RUN(carriers_that_hold);
        RUN(carriers_that_break);
        RUN(daemons_that_die);
        RUN(requests_of_all_runs);
        RUN(output_that_daemons_refused);
        return check_done();
}
