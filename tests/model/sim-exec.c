/* SPDX-License-Identifier: MIT */

/* What runs in simulated sandboxes: jobs, whether anybody listens or not, and probes. */

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/base/exec-id.h"
#include "sim-internal.h"

char sim_output_byte(uint64_t serial, uint32_t number, int stream, uint64_t offset) {
        return (char)(serial * 131 + number * 31 + stream * 17 + offset * 7 + offset / 251);
}

/* jobs */

static bool listens(const struct sim_exec *x) {
        return x->heard && x->told;
}

static void end_exec(struct sim_exec *x) {
        struct sim_backend *b = sim_backend_of(x->sandbox);

        timer_cancel(&x->timer);
        timer_cancel(&x->polled);
        x->over = true;
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " ends%s: %s %d", x->sandbox->sandbox.id, x->serial, x->number,
                  listens(x) ? "" : ", unheard", result_code_name(x->result.code), x->code);
        if (!listens(x))
                return;
        x->heard = false;
        list_remove(&x->link);
        if (b->hooks && b->hooks->ending)
                b->hooks->ending(x, &x->result, x->code);
        list_add_head(&x->sandbox->past, &x->link);
        x->in_past = true;
        exec_ended(&x->exec, &x->result, x->code);
}

/* Give what was printed since. */
static void give_output(struct sim_exec *x, int stream) {
        const struct sim_hooks *hooks = sim_backend_of(x->sandbox)->hooks;
        size_t len = x->printed[stream] - x->wrote[stream];
        char *data = malloc(len + 1);

        if (!data)
                abort();
        for (size_t i = 0; i < len; i++)
                data[i] = sim_output_byte(x->serial, x->number, stream, x->wrote[stream] + i);
        x->wrote[stream] += len;
        if (hooks && hooks->giving)
                hooks->giving(x, len);
        exec_output(&x->exec, stream, data, len);
        free(data);
}

static void print_chunk(struct sim_exec *x) {
        int stream = (int)sim_below(2);
        size_t len = prng_scaled(&sim.prng, sim_backend_of(x->sandbox)->rates.output_max);

        x->printed[stream] += len;
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " prints %zu to %d%s", x->sandbox->sandbox.id, x->serial, x->number,
                  len, stream, listens(x) ? "" : ", unheard");
        if (listens(x))
                give_output(x, stream);
}

static void tell_start(struct sim_exec *x) {
        if (!x->started_us)
                x->started_us = sim.now_us;
        exec_started(&x->exec);
}

static void note_begun(struct sim_backend *b, const struct sim_exec *x) {
        struct sim_begun *begun;

        HASH_FIND_STR(b->begun, x->id, begun);
        SIM_CHECK(!begun, "job %s begins twice", x->id);
        begun = calloc(1, sizeof(*begun));
        if (!begun)
                abort();
        memcpy(begun->id, x->id, sizeof(begun->id));
        begun->sandbox = x->sandbox->number;
        HASH_ADD_STR(b->begun, id, begun);
}

static void on_step(struct timer *t) {
        struct sim_exec *x = container_of(t, struct sim_exec, timer);
        struct sim_backend *b = sim_backend_of(x->sandbox);

        if (!x->began && x->result.code != RESULT_FAILED) {
                sim_trace("%s job %" PRIu64 ".%" PRIu32 " starts%s", x->sandbox->sandbox.id, x->serial, x->number,
                          listens(x) ? "" : ", unheard");
                note_begun(b, x);
                x->began = true;
                x->sandbox->workdir_made = true;
                timer_arm(&x->timer, x->n_chunks ? 0 : x->duration_us, on_step);
                if (listens(x))
                        tell_start(x);
        } else if (x->n_chunks > 0) {
                x->n_chunks--;
                timer_arm(&x->timer, x->duration_us / (x->n_chunks + 1), on_step);
                print_chunk(x);
        } else {
                end_exec(x);
        }
}

/* A core that came later is told what happened so far. */
static void on_tell(struct timer *t) {
        struct sim_exec *x = container_of(t, struct sim_exec, tell);

        x->told = true;
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " is heard again", x->sandbox->sandbox.id, x->serial, x->number);
        if (x->began)
                tell_start(x);
        for (int i = 0; i < 2; i++)
                if (x->printed[i] > x->wrote[i])
                        give_output(x, i);
        if (x->over)
                end_exec(x);
}

static void on_killed(struct timer *t) {
        struct sim_exec *x = container_of(t, struct sim_exec, timer);

        x->result = (struct result){};
        x->code = 128 + SIGKILL;
        end_exec(x);
}

/* It hears of a TERM, and does what it likes about it; the KILL behind that finds it in any case. */
static void on_termed(struct timer *t) {
        struct sim_exec *x = container_of(t, struct sim_exec, timer);

        if (sim_chance(300)) {
                timer_arm(&x->timer, x->grace_us, on_killed);
                return;
        }
        x->result = (struct result){};
        x->code = sim_chance(700) ? 128 + SIGTERM : (int)sim_below(3);
        end_exec(x);
}

/* Decide how it will go. */
static void draw_fate(struct sim_exec *x) {
        const struct sim_rates *rates = &sim_backend_of(x->sandbox)->rates;

        x->duration_us = sim_chance(700) ? (int64_t)prng_scaled(&sim.prng, rates->job_max_us)
                                         : (int64_t)sim_below(rates->job_max_us + 1);
        if (sim_chance(rates->exec_prints))
                x->n_chunks = 1 + sim_below(4);
        x->ignores_kill = sim_chance(rates->exec_ignores_kill);
        if (sim_chance(rates->exec_fails))
                x->n_chunks = 0, result_set(&x->result, RESULT_FAILED, "exec: did not start");
        else if (sim_chance(rates->exec_lost))
                result_set(&x->result, RESULT_LOST, "exec: stream lost");
        else if (!sim_chance(rates->exec_codes))
                x->code = 0;
        else if (sim_chance(100))
                x->code = EXEC_NO_CWD, exec_no_cwd(&x->result, "/gone");
        else
                x->code = sim_chance(200) ? 128 + 1 + (int)sim_below(31) : 1 + (int)sim_below(2);
}

/* probes */

static void on_probed(struct timer *t) {
        struct sim_probe *x = container_of(t, struct sim_probe, timer);
        struct sim_sandbox *s = x->sandbox;
        struct sim_backend *b = sim_backend_of(s);
        bool good = !sim_chance(b->rates.probe_fails);
        int code = good || sim_chance(500) ? 0 : 1;
        struct result r = {};

        if (!good && code == 0)
                result_set(&r, RESULT_FAILED, "probe: did not start");
        sim_trace("%s probed: %s", s->sandbox.id, good ? "good" : "bad");
        s->probe = NULL;
        s->bad_probes = good ? 0 : s->bad_probes + 1;
        if (good)
                s->checked_us = sim.now_us;
        if (b->hooks && b->hooks->probed)
                b->hooks->probed(s, good);
        exec_ended(&x->exec, &r, code);
        free(x);
}

static int start_probe(struct sim_sandbox *s, const struct exec_spec *spec, struct exec **out) {
        struct sim_backend *b = sim_backend_of(s);
        char command[16] = "";

        blob_read(spec->command, 0, command, sizeof(command) - 1);
        SIM_CHECK(list_empty(&s->execs) && !s->probe, "%s is probed while something runs in it", s->sandbox.id);
        SIM_CHECK(!strcmp(command, "true") && !strcmp(spec->cwd, "/") && !spec->fresh && !spec->input && !spec->resume &&
                          strlen(spec->id) == UUID_SIZE - 1,
                  "%s is probed by \"%s\"", s->sandbox.id, command);
        if (!sim_chance(b->rates.probe_refused)) {
                s->probe = calloc(1, sizeof(*s->probe));
                if (!s->probe)
                        return -ENOMEM;
                s->probe->sandbox = s;
                s->probe->begun_us = sim.now_us;
                if (!sim_chance(b->rates.probe_hangs))
                        timer_arm(&s->probe->timer, sim_any_delay(b), on_probed);
                b->totals.probes++;
        }
        sim_trace("%s probe %s", s->sandbox.id, s->probe ? "begins" : "refused");
        if (b->hooks && b->hooks->probing)
                b->hooks->probing(s);
        if (!s->probe) {
                s->bad_probes = 0;
                s->checked_us = sim.now_us;
                return -EMFILE;
        }
        *out = &s->probe->exec;
        return 0;
}

static void cancel_probe(struct sim_sandbox *s) {
        struct sim_backend *b = sim_backend_of(s);

        sim_trace("%s probe is left alone", s->sandbox.id);
        if (b->hooks && b->hooks->dropping_probe && b->core == SIM_CORE_SERVES)
                b->hooks->dropping_probe(s);
        timer_cancel(&s->probe->timer);
        free(s->probe);
        s->probe = NULL;
}

static struct sim_exec *find_in(const struct list *list, uint64_t instance, uint64_t serial, uint32_t number) {
        struct sim_exec *x;

        list_for_each (x, list, link)
                if (x->instance == instance && x->serial == serial && x->number == number)
                        return x;
        return NULL;
}

struct sim_exec *sim_exec_find(const struct sim_sandbox *s, uint64_t instance, uint64_t serial, uint32_t number) {
        return find_in(&s->execs, instance, serial, number) ?: find_in(&s->past, instance, serial, number);
}

bool sim_exec_is_heard(const struct sim_sandbox *s) {
        const struct sim_exec *x;

        list_for_each (x, &s->execs, link)
                if (x->heard)
                        return true;
        return false;
}

/* Listen to what runs already. */
static void listen_again(struct sim_exec *x, const struct exec_spec *spec) {
        struct sim_backend *b = sim_backend_of(x->sandbox);

        for (int i = 0; i < 2; i++) {
                SIM_CHECK(spec->offsets[i] <= x->wrote[i], "job %s goes on at %" PRIu64 ", was given %" PRIu64,
                          spec->id, spec->offsets[i], x->wrote[i]);
                x->wrote[i] = spec->offsets[i];
        }
        list_remove(&x->link);
        list_add_tail(&x->sandbox->execs, &x->link);
        x->in_past = false;
        x->exec = (struct exec){};
        x->polled_us = x->killed_us = 0;
        x->heard = true;
        x->told = false;
        timer_arm(&x->tell, sim_any_delay(b), on_tell);
        b->totals.resumed++;
}

static struct sim_exec *begin_exec(struct sim_sandbox *s, const struct exec_spec *spec, uint64_t instance,
                                   uint64_t serial, uint32_t number) {
        struct sim_backend *b = sim_backend_of(s);
        struct sim_exec *x = calloc(1, sizeof(*x));
        struct sim_begun *begun;

        SIM_CHECK(!spec->resume || b->was_lenient, "%s is to go on with job %s, which never ran there", s->sandbox.id,
                  spec->id);
        if (!x)
                abort();
        x->sandbox = s;
        snprintf(x->id, sizeof(x->id), "%s", spec->id);
        x->instance = instance;
        x->serial = serial;
        x->number = number;
        x->heard = x->told = true;
        draw_fate(x);
        HASH_FIND_STR(b->begun, spec->id, begun);
        SIM_CHECK(!begun || (b->was_lenient && begun->sandbox == s->number), "job %s is started twice", spec->id);
        /* A later core does not know whether the job that was to use it began: rather than lose files it empties nothing. */
        SIM_CHECK(spec->fresh ? begun || !s->workdir_made || s->tenant != serial : s->workdir_made || s->in_use_before,
                  "%s job %s: fresh is %d", s->sandbox.id, spec->id, spec->fresh);
        SIM_CHECK(begun || (!spec->offsets[0] && !spec->offsets[1]), "job %s never began, and has output", spec->id);
        /* What it printed that the core does not have yet is gone with it. */
        for (int i = 0; i < 2; i++)
                x->printed[i] = x->wrote[i] = spec->offsets[i];
        if (spec->resume || begun)
                x->n_chunks = 0, result_set(&x->result, RESULT_FAILED, "exec: it is not there");
        if (!sim_chance(b->rates.exec_hangs))
                timer_arm(&x->timer, sim_any_delay(b), on_step);
        list_add_tail(&s->execs, &x->link);
        sim_note_job_begins(s);
        s->tenant = serial;
        snprintf(s->workdir, sizeof(s->workdir), "%s", spec->workdir);
        b->totals.execs++;
        return x;
}

int sim_exec_start(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out) {
        struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);
        struct sim_backend *b = sim_backend_of(s);
        struct sim_exec *x = NULL;
        uint64_t instance, serial;
        uint32_t number;

        if (spec->live_input)
                return sim_live_start(s, out);
        if (!strcmp(spec->workdir, "/"))
                return start_probe(s, spec, out);
        SIM_CHECK(!s->probe, "%s gets job %s beside a probe", sandbox->id, spec->id);
        SIM_CHECK(exec_id_parse(spec->id, &instance, &serial, &number) == 0, "exec id \"%s\"", spec->id);
        SIM_CHECK(!s->clean_failed, "%s gets job %s after a failed clean-up", sandbox->id, spec->id);
        SIM_CHECK(!s->found_changed, "%s gets job %s after it was found changed", sandbox->id, spec->id);
        SIM_CHECK(!s->tenant || s->tenant == serial, "%s gets job %s over the remains of lease %" PRIu64, sandbox->id,
                  spec->id, s->tenant);

        b->refusal = sim_chance(b->rates.exec_refused) ? sim_chance(500) ? -EMFILE : -ENOMEM : 0;
        if (b->refusal == 0) {
                x = sim_exec_find(s, instance, serial, number);
                SIM_CHECK(!x || !x->heard, "%s gets job %s, which it runs", sandbox->id, spec->id);
                if (x)
                        listen_again(x, spec);
                else
                        x = begin_exec(s, spec, instance, serial, number);
        }
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " %s", sandbox->id, serial, number,
                  !x        ? "refused"
                  : x->told ? "starting"
                            : "goes on");
        if (b->hooks && b->hooks->exec)
                b->hooks->exec(s, spec, serial, number, x);
        if (!x)
                return b->refusal;
        *out = &x->exec;
        return 0;
}

void sim_exec_signal(struct exec *exec, int signo) {
        struct sim_exec *x = container_of(exec, struct sim_exec, exec);
        struct sim_backend *b = sim_backend_of(x->sandbox);

        sim_trace("%s job %" PRIu64 ".%" PRIu32 " gets signal %d", x->sandbox->sandbox.id, x->serial, x->number, signo);
        SIM_CHECK(signo != SIGKILL, "KILL is no signal");
        b->totals.signals++;
        if (x->began && !x->over && !x->killed_us && sim_chance(500)) {
                x->result = (struct result){};
                x->code = 128 + signo;
                x->n_chunks = 0;
                timer_arm(&x->timer, sim_any_delay(b), on_step);
        }
}

static void on_polled(struct timer *t) {
        struct sim_exec *x = container_of(t, struct sim_exec, polled);
        bool killed = x->killed_us;

        sim_trace("%s job %" PRIu64 ".%" PRIu32 " is said to run", x->sandbox->sandbox.id, x->serial, x->number);
        exec_polled(&x->exec, true);
        SIM_CHECK(killed || x->killed_us, "job %" PRIu64 ".%" PRIu32 " runs past its time", x->serial, x->number);
}

/* A kill that nobody heeds is how a sandbox is that says nothing. */
int sim_exec_poll(struct exec *exec) {
        struct sim_exec *x = container_of(exec, struct sim_exec, exec);
        struct sim_backend *b = sim_backend_of(x->sandbox);

        SIM_CHECK(!x->polled_us && !x->killed_us, "job %" PRIu64 ".%" PRIu32 " is asked after twice", x->serial,
                  x->number);
        x->polled_us = sim.now_us;
        if (!x->ignores_kill || sim_chance(500))
                timer_arm(&x->polled, sim_any_delay(b), on_polled);
        return 0;
}

void sim_exec_kill(struct exec *exec, int64_t grace_us) {
        struct sim_exec *x = container_of(exec, struct sim_exec, exec);
        struct sim_backend *b = container_of(exec->sandbox->backend, struct sim_backend, backend);

        if (exec->live_input) {
                sim_live_kill(exec);
                return;
        }
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " is killed, grace %" PRId64 "%s", x->sandbox->sandbox.id, x->serial,
                  x->number, grace_us, x->ignores_kill ? ", ignored" : "");
        SIM_CHECK(!x->killed_us || grace_us == 0, "job %" PRIu64 ".%" PRIu32 " has a second grace", x->serial, x->number);
        if (!x->killed_us) {
                if (b->hooks && b->hooks->killing)
                        b->hooks->killing(x);
                x->killed_us = sim.now_us;
                x->grace_us = grace_us;
        }
        if (x->ignores_kill && sim_chance(500))
                timer_cancel(&x->timer);
        else if (!x->ignores_kill && !x->over)
                timer_arm(&x->timer, sim_any_delay(b), grace_us ? on_termed : on_killed);
}

void sim_exec_cancel(struct exec *exec) {
        struct sim_sandbox *s = container_of(exec->sandbox, struct sim_sandbox, sandbox);
        struct sim_exec *x = container_of(exec, struct sim_exec, exec);

        if (s->probe && exec == &s->probe->exec) {
                cancel_probe(s);
                return;
        }
        if (exec->live_input) {
                sim_live_cancel(exec);
                return;
        }
        if (sim_backend_of(x->sandbox)->core != SIM_CORE_SERVES) {
                sim_exec_leave(x, sim_backend_of(x->sandbox)->core == SIM_CORE_CRASHES);
                return;
        }
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " is left alone", x->sandbox->sandbox.id, x->serial, x->number);
        sim_exec_discard(x);
}

void sim_exec_discard(struct sim_exec *x) {
        struct sim_backend *b = sim_backend_of(x->sandbox);

        if (b->hooks && b->hooks->cancelling)
                b->hooks->cancelling(x);
        timer_cancel(&x->timer);
        timer_cancel(&x->tell);
        timer_cancel(&x->polled);
        list_remove(&x->link);
        free(x);
}

void sim_exec_discard_all(struct sim_sandbox *s) {
        struct sim_exec *x, *tmp;

        list_for_each_safe (x, tmp, &s->execs, link)
                sim_exec_discard(x);
}

void sim_exec_forget_past(struct sim_sandbox *s) {
        struct sim_exec *x, *tmp;

        list_for_each_safe (x, tmp, &s->past, link) {
                list_remove(&x->link);
                free(x);
        }
}

void sim_exec_leave(struct sim_exec *x, bool lossy) {
        if (lossy && !x->began && !x->over && sim_chance(300)) {
                sim_trace("%s job %" PRIu64 ".%" PRIu32 " never arrived", x->sandbox->sandbox.id, x->serial, x->number);
                x->sandbox->tenant = x->sandbox->workdir_made ? x->sandbox->tenant : 0;
                sim_exec_discard(x);
                return;
        }
        timer_cancel(&x->tell);
        timer_cancel(&x->polled);
        x->heard = x->told = false;
        x->polled_us = x->killed_us = 0;
        x->exec = (struct exec){};
}
