/* SPDX-License-Identifier: MIT */
#include "sim-backend.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/exec-id.h"
#include "pool/limits.h"

static struct sim_backend *backend_of(const struct sim_sandbox *s) {
        return container_of(s->sandbox.backend, struct sim_backend, backend);
}

static int64_t any_delay(const struct sim_backend *b) {
        return b->rates.delay_max_us ? (int64_t)prng_scaled(&sim.prng, b->rates.delay_max_us) : SIM_DELAY_US;
}

struct sim_sandbox *sim_backend_find(struct sim_backend *b, const char *id) {
        struct sim_sandbox *s;

        list_for_each (s, &b->sandboxes, link)
                if (!strcmp(s->sandbox.id, id))
                        return s;
        return NULL;
}

char sim_output_byte(uint64_t serial, uint32_t number, int stream, uint64_t offset) {
        return (char)(serial * 131 + number * 31 + stream * 17 + offset * 7 + offset / 251);
}

/* creation and death */

void sim_sandbox_die(struct sim_sandbox *s) {
        struct sim_backend *b = backend_of(s);
        struct result why;

        timer_cancel(&s->died);
        s->dead = true;
        b->totals.died++;
        sim_trace("%s dies", s->sandbox.id);
        if (b->hooks && b->hooks->dying)
                b->hooks->dying(s);
        result_set(&why, RESULT_LOST, "environment %s: died", s->sandbox.id);
        sandbox_died(&s->sandbox, &why);
}

static void on_died(struct timer *t) {
        sim_sandbox_die(container_of(t, struct sim_sandbox, died));
}

static void on_created(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, created);
        struct sim_backend *b = backend_of(s);
        static const enum result_code hopeless[] = { RESULT_INVALID, RESULT_DENIED };
        static const enum result_code transient[] = { RESULT_FAILED, RESULT_TIMEOUT, RESULT_BUSY };
        struct result r = {};

        if (sim_chance(b->rates.create_hopeless))
                result_set(&r, hopeless[sim_below(2)], "create: refused");
        else if (sim_chance(b->rates.create_fails))
                result_set(&r, transient[sim_below(3)], "create: did not work");
        sim_trace("%s created: %s", s->sandbox.id, result_code_name(r.code));
        if (result_ok(&r)) {
                b->totals.created++;
                s->made_us = s->idle_since_us = s->checked_us = sim.now_us;
                if (sim_chance(b->rates.expires))
                        s->sandbox.expires_us = sim.now_us + 1 + (int64_t)sim_below(3600 * USEC_PER_SEC);
                if (sim_chance(b->rates.dies))
                        timer_arm(&s->died, prng_scaled(&sim.prng, b->rates.life_max_us), on_died);
        } else {
                b->totals.create_failures++;
        }
        if (b->hooks && b->hooks->created)
                b->hooks->created(s, &r);
        sandbox_created(&s->sandbox, &r);
}

static int op_create(struct backend *backend, const char *nonce, struct sandbox **out) {
        struct sim_backend *b = container_of(backend, struct sim_backend, backend);
        bool refused = sim_chance(b->rates.create_refused);
        struct sim_sandbox *s;

        if (b->hooks && b->hooks->creating)
                b->hooks->creating(refused);
        if (refused) {
                sim_trace("create refused");
                return -EAGAIN;
        }
        s = calloc(1, sizeof(*s));
        if (!s)
                return -ENOMEM;
        b->totals.creates++;
        s->number = ++b->last_number;
        s->sent_us = sim.now_us;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "sb-%u", s->number);
        list_init(&s->link);
        list_add_tail(&b->sandboxes, &s->link);
        timer_arm(&s->created, sim_chance(b->rates.create_slow) ? (int64_t)sim_below(600 * USEC_PER_SEC) : any_delay(b),
                  on_created);
        sim_trace("%s creating", s->sandbox.id);
        *out = &s->sandbox;
        return 0;
}

/* the end of a sandbox */

static void on_destroyed(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, destroyed);
        struct sim_backend *b = backend_of(s);
        struct result r = {};

        if (sim_chance(b->rates.destroy_fails)) {
                b->totals.destroy_failures++;
                result_set(&r, RESULT_FAILED, "destroy: no answer");
        }
        b->totals.destroyed++;
        sim_trace("%s destroyed: %s", s->sandbox.id, result_code_name(r.code));
        timer_cancel(&s->cleaned);
        list_remove(&s->link);
        sandbox_destroyed(&s->sandbox, &r);
        free(s);
}

static void op_destroy(struct sandbox *sandbox) {
        struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);
        struct sim_backend *b = backend_of(s);

        SIM_CHECK(!s->destroyed.place, "%s is destroyed twice", sandbox->id);
        SIM_CHECK(!s->exec, "%s is destroyed under a job", sandbox->id);
        SIM_CHECK(!s->probe, "%s is destroyed under a probe", sandbox->id);
        sim_trace("%s ending%s", sandbox->id, s->tenant ? ", not clean" : "");
        if (s->cleaned.place && !s->dead && b->hooks && b->hooks->giving_up_clean)
                b->hooks->giving_up_clean(s);
        if (b->hooks && b->hooks->destroying)
                b->hooks->destroying(s);
        timer_cancel(&s->created);
        timer_cancel(&s->died);
        /* Its answer may still come: nobody may listen any more. */
        if (sim_chance(500))
                timer_cancel(&s->cleaned);
        timer_arm(&s->destroyed,
                  sim_chance(b->rates.destroy_slow) ? (int64_t)sim_below(60 * USEC_PER_SEC) : any_delay(b),
                  on_destroyed);
}

static void on_cleaned(struct timer *t) {
        struct sim_sandbox *s = container_of(t, struct sim_sandbox, cleaned);
        struct sim_backend *b = backend_of(s);
        struct result r = {};

        if (sim_chance(b->rates.clean_fails))
                result_set(&r, RESULT_FAILED, "clean: processes are left");
        sim_trace("%s cleaned: %s", s->sandbox.id, result_code_name(r.code));
        if (result_ok(&r)) {
                s->tenant = 0;
                s->workdir_made = false;
                s->bad_probes = 0;
                s->idle_since_us = s->checked_us = sim.now_us;
        } else {
                s->clean_failed = true;
        }
        if (s->sandbox.state == SANDBOX_LIVE) {
                b->totals.cleaned += result_ok(&r);
                b->totals.clean_failures += !result_ok(&r);
        }
        sandbox_cleaned(&s->sandbox, &r);
}

static int op_clean(struct sandbox *sandbox, const char *workdir) {
        struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);
        struct sim_backend *b = backend_of(s);
        int64_t delay = any_delay(b);

        SIM_CHECK(!s->exec && !s->probe, "%s is cleaned under a job", sandbox->id);
        SIM_CHECK(!s->clean_failed, "%s is cleaned again after that failed", sandbox->id);
        SIM_CHECK(!s->tenant || !strcmp(workdir, s->workdir), "%s: %s is cleaned away, %s was used", sandbox->id,
                  workdir, s->workdir);
        if (sim_chance(b->rates.clean_refused)) {
                sim_trace("%s clean refused", sandbox->id);
                s->clean_refused = true;
                return -EIO;
        }
        if (sim_chance(b->rates.clean_hangs))
                delay = 2 * CLEAN_TIMEOUT_US;
        s->clean_since_us = sim.now_us;
        timer_arm(&s->cleaned, delay, on_cleaned);
        sim_trace("%s cleaning %s", sandbox->id, workdir);
        return 0;
}

/* jobs */

static void end_exec(struct sim_exec *x) {
        struct sim_backend *b = backend_of(x->sandbox);

        sim_trace("%s job %" PRIu64 ".%" PRIu32 " ends: %s %d", x->sandbox->sandbox.id, x->serial, x->number,
                  result_code_name(x->result.code), x->code);
        timer_cancel(&x->timer);
        x->sandbox->exec = NULL;
        if (b->hooks && b->hooks->ending)
                b->hooks->ending(x, &x->result, x->code);
        exec_ended(&x->exec, &x->result, x->code);
        free(x);
}

static void on_step(struct timer *t);

static void print_chunk(struct sim_exec *x) {
        int stream = (int)sim_below(2);
        size_t len = prng_scaled(&sim.prng, backend_of(x->sandbox)->rates.output_max);
        char *data = malloc(len + 1);

        if (!data)
                abort();
        for (size_t i = 0; i < len; i++)
                data[i] = sim_output_byte(x->serial, x->number, stream, x->wrote[stream] + i);
        x->wrote[stream] += len;
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " prints %zu to %d", x->sandbox->sandbox.id, x->serial, x->number, len,
                  stream);
        exec_output(&x->exec, stream, data, len);
        free(data);
}

static void on_step(struct timer *t) {
        struct sim_exec *x = container_of(t, struct sim_exec, timer);

        if (!x->started_us && x->result.code != RESULT_FAILED) {
                sim_trace("%s job %" PRIu64 ".%" PRIu32 " starts", x->sandbox->sandbox.id, x->serial, x->number);
                x->started_us = sim.now_us;
                x->sandbox->workdir_made = true;
                timer_arm(&x->timer, x->n_chunks ? 0 : x->duration_us, on_step);
                exec_started(&x->exec);
        } else if (x->n_chunks > 0) {
                x->n_chunks--;
                timer_arm(&x->timer, x->duration_us / (x->n_chunks + 1), on_step);
                print_chunk(x);
        } else {
                end_exec(x);
        }
}

static void on_killed(struct timer *t) {
        struct sim_exec *x = container_of(t, struct sim_exec, timer);

        x->result = (struct result){};
        x->code = 128 + SIGKILL;
        end_exec(x);
}

/* Decide how it will go. */
static void draw_fate(struct sim_exec *x) {
        const struct sim_rates *rates = &backend_of(x->sandbox)->rates;

        x->duration_us = sim_chance(700) ? (int64_t)prng_scaled(&sim.prng, rates->job_max_us)
                                         : (int64_t)sim_below(rates->job_max_us + 1);
        if (sim_chance(rates->exec_prints))
                x->n_chunks = 1 + sim_below(4);
        x->ignores_kill = sim_chance(rates->exec_ignores_kill);
        if (sim_chance(rates->exec_fails))
                result_set(&x->result, RESULT_FAILED, "exec: did not start");
        else if (sim_chance(rates->exec_lost))
                result_set(&x->result, RESULT_LOST, "exec: stream lost");
        else if (!sim_chance(rates->exec_codes))
                x->code = 0;
        else if (sim_chance(100))
                x->code = 126, result_set(&x->result, RESULT_OK, "cwd is not there");
        else
                x->code = sim_chance(200) ? 128 + 1 + (int)sim_below(31) : 1 + (int)sim_below(2);
}

/* probes */

static void on_probed(struct timer *t) {
        struct sim_probe *x = container_of(t, struct sim_probe, timer);
        struct sim_sandbox *s = x->sandbox;
        struct sim_backend *b = backend_of(s);
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
        struct sim_backend *b = backend_of(s);
        char command[16] = "";

        blob_read(spec->command, 0, command, sizeof(command) - 1);
        SIM_CHECK(!s->exec && !s->probe, "%s is probed while something runs in it", s->sandbox.id);
        SIM_CHECK(!strcmp(command, "true") && !*spec->cwd && !spec->fresh && !spec->input && !spec->resume &&
                          strlen(spec->id) == UUID_SIZE - 1,
                  "%s is probed by \"%s\"", s->sandbox.id, command);
        if (!sim_chance(b->rates.probe_refused)) {
                s->probe = calloc(1, sizeof(*s->probe));
                if (!s->probe)
                        return -ENOMEM;
                s->probe->sandbox = s;
                s->probe->begun_us = sim.now_us;
                if (!sim_chance(b->rates.probe_hangs))
                        timer_arm(&s->probe->timer, any_delay(b), on_probed);
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
        struct sim_backend *b = backend_of(s);

        sim_trace("%s probe is left alone", s->sandbox.id);
        if (b->hooks && b->hooks->dropping_probe)
                b->hooks->dropping_probe(s);
        timer_cancel(&s->probe->timer);
        free(s->probe);
        s->probe = NULL;
}

static int op_exec(struct sandbox *sandbox, const struct exec_spec *spec, struct exec **out) {
        struct sim_sandbox *s = container_of(sandbox, struct sim_sandbox, sandbox);
        struct sim_backend *b = backend_of(s);
        struct sim_exec *x = NULL;
        uint64_t instance, serial;
        uint32_t number;

        if (!strcmp(spec->workdir, "/"))
                return start_probe(s, spec, out);
        SIM_CHECK(!s->probe, "%s gets job %s beside a probe", sandbox->id, spec->id);
        SIM_CHECK(exec_id_parse(spec->id, &instance, &serial, &number) == 0, "exec id \"%s\"", spec->id);
        SIM_CHECK(!s->exec, "%s gets job %s while another runs", sandbox->id, spec->id);
        SIM_CHECK(!s->clean_failed, "%s gets job %s after a failed clean-up", sandbox->id, spec->id);
        SIM_CHECK(!s->tenant || s->tenant == serial, "%s gets job %s over the remains of lease %" PRIu64, sandbox->id,
                  spec->id, s->tenant);
        SIM_CHECK(spec->fresh == !s->workdir_made, "%s job %s: fresh is %d", sandbox->id, spec->id, spec->fresh);

        if (!sim_chance(b->rates.exec_refused)) {
                x = calloc(1, sizeof(*x));
                if (!x)
                        return -ENOMEM;
                x->sandbox = s;
                x->serial = serial;
                x->number = number;
                draw_fate(x);
                if (!sim_chance(b->rates.exec_hangs))
                        timer_arm(&x->timer, any_delay(b), on_step);
                s->exec = x;
                s->tenant = serial;
                snprintf(s->workdir, sizeof(s->workdir), "%s", spec->workdir);
                b->totals.execs++;
        }
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " %s", sandbox->id, serial, number, x ? "starting" : "refused");
        if (b->hooks && b->hooks->exec)
                b->hooks->exec(s, spec, serial, number, x);
        if (!x)
                return -EMFILE;
        *out = &x->exec;
        return 0;
}

static void op_exec_signal(struct exec *exec, int signo) {
        struct sim_exec *x = container_of(exec, struct sim_exec, exec);
        struct sim_backend *b = backend_of(x->sandbox);

        sim_trace("%s job %" PRIu64 ".%" PRIu32 " gets signal %d%s", x->sandbox->sandbox.id, x->serial, x->number,
                  signo, x->ignores_kill ? ", ignored" : "");
        if (signo == SIGKILL) {
                if (b->hooks && b->hooks->killing)
                        b->hooks->killing(x);
                SIM_CHECK(!x->killed_us, "job %" PRIu64 ".%" PRIu32 " is killed twice", x->serial, x->number);
                x->killed_us = sim.now_us;
                if (x->ignores_kill && sim_chance(500))
                        timer_cancel(&x->timer);
                else if (!x->ignores_kill)
                        timer_arm(&x->timer, any_delay(b), on_killed);
        } else if (x->started_us && !x->killed_us && sim_chance(500)) {
                x->result = (struct result){};
                x->code = 128 + signo;
                x->n_chunks = 0;
                timer_arm(&x->timer, any_delay(b), on_step);
        }
}

static void op_exec_cancel(struct exec *exec) {
        struct sim_sandbox *s = container_of(exec->sandbox, struct sim_sandbox, sandbox);
        struct sim_exec *x = container_of(exec, struct sim_exec, exec);

        if (s->probe && exec == &s->probe->exec) {
                cancel_probe(s);
                return;
        }
        sim_trace("%s job %" PRIu64 ".%" PRIu32 " is left alone", x->sandbox->sandbox.id, x->serial, x->number);
        if (backend_of(x->sandbox)->hooks && backend_of(x->sandbox)->hooks->cancelling)
                backend_of(x->sandbox)->hooks->cancelling(x);
        timer_cancel(&x->timer);
        x->sandbox->exec = NULL;
        free(x);
}

static int op_start(struct backend *b) {
        return 0;
}

static void op_free(struct backend *b) {
}

static const struct backend_ops ops = {
        .name = "simulated",
        .start = op_start,
        .free = op_free,
        .create = op_create,
        .destroy = op_destroy,
        .clean = op_clean,
        .exec = op_exec,
        .exec_signal = op_exec_signal,
        .exec_cancel = op_exec_cancel,
};

void sim_backend_init(struct sim_backend *b, const struct sim_rates *rates, const struct sim_hooks *hooks) {
        *b = (struct sim_backend){ .backend.ops = &ops, .rates = *rates, .hooks = hooks };
        list_init(&b->sandboxes);
}
