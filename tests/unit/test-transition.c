/* SPDX-License-Identifier: MIT */

/* Each transition between states that is not legal is refused, and in tests it aborts. */

#include "rig.h"
#include "pool/environment/pool-body.h"
#include "pool/util/log.h"
#include "pool/util/transition.h"

struct pair {
        unsigned from, to;
};

static bool is_one_of(const struct pair *pairs, size_t n, unsigned from, unsigned to) {
        for (size_t i = 0; i < n; i++)
                if (pairs[i].from == from && pairs[i].to == to)
                        return true;
        return false;
}

static void in_production(void) {
        unsetenv("MODALPOOL_STRICT");
}

static void in_tests(void) {
        setenv("MODALPOOL_STRICT", "1", 1);
}

/* Of all pairs of states exactly those in @legal are allowed. */
static void check_table(const struct transitions *t, const struct pair *legal, size_t n) {
        for (unsigned from = 0; from < t->n; from++)
                for (unsigned to = 0; to < t->n; to++) {
                        if (is_one_of(legal, n, from, to)) {
                                CHECK(transition_check(t, "x", from, to));
                                continue;
                        }
                        CHECK_ABORTS(transition_check(t, "x", from, to));
                        in_production();
                        CHECK(!transition_check(t, "x", from, to));
                        in_tests();
                }
}

#define CHECK_TABLE(table, legal) check_table(&(table), (legal), sizeof(legal) / sizeof((legal)[0]))

/* sandboxes */

static const struct pair sandbox_legal[] = {
        { SANDBOX_CREATING, SANDBOX_LIVE },   { SANDBOX_CREATING, SANDBOX_FAILED },
        { SANDBOX_CREATING, SANDBOX_ENDING }, { SANDBOX_LIVE, SANDBOX_DEAD },
        { SANDBOX_LIVE, SANDBOX_ENDING },     { SANDBOX_FAILED, SANDBOX_ENDING },
        { SANDBOX_DEAD, SANDBOX_ENDING },     { SANDBOX_ENDING, SANDBOX_GONE },
};

static unsigned n_events, n_calls;

static void on_result(void *owner, const struct result *r) {
        n_events++;
}

static void end(struct sandbox *s) {
        n_calls++;
}

static void on_cleaned(void *owner, const struct result *r, const struct sandbox_changes *changes) {
        n_events++;
}

static const struct sandbox_events events = {
        .created = on_result,
        .died = on_result,
        .cleaned = on_cleaned,
        .destroyed = on_result,
};
static const struct backend_ops ops = { .name = "fake", .destroy = end, .leave = end };

/* What a backend says, or its user asks for, to bring a sandbox into this state. There is nothing for CREATING. */
static void bring_to(struct sandbox *s, enum sandbox_state state, bool leave) {
        static const struct result ok = {}, failed = { .code = RESULT_FAILED };

        switch (state) {
        case SANDBOX_CREATING:
                break;
        case SANDBOX_LIVE:
                sandbox_created(s, &ok);
                break;
        case SANDBOX_FAILED:
                sandbox_created(s, &failed);
                break;
        case SANDBOX_DEAD:
                sandbox_died(s, &failed);
                break;
        case SANDBOX_ENDING:
                if (leave)
                        sandbox_leave(s);
                else
                        sandbox_destroy(s);
                break;
        case SANDBOX_GONE:
                sandbox_destroyed(s, &ok);
                break;
        }
}

static void sandbox_goes(unsigned from, unsigned to, bool leave) {
        struct backend b = { .ops = &ops, .n_sandboxes = 1 };
        struct sandbox s = { .backend = &b, .events = &events, .state = from };
        bool legal = is_one_of(sandbox_legal, sizeof(sandbox_legal) / sizeof(sandbox_legal[0]), from, to);

        n_events = n_calls = 0;
        if (!legal) {
                CHECK_ABORTS(bring_to(&s, to, leave));
                in_production();
        }
        bring_to(&s, to, leave);
        in_tests();
        CHECK_INT(s.state, legal ? to : from);
        CHECK_INT(n_events + n_calls, legal); /* what is illegal reaches nobody */
        CHECK_INT(b.n_sandboxes, legal && to == SANDBOX_GONE ? 0 : 1);
}

static void sandbox_table(void) {
        CHECK_TABLE(sandbox_transitions, sandbox_legal);
}

static void sandbox_setter(void) {
        for (unsigned from = 0; from < SANDBOX_N_STATES; from++)
                for (unsigned to = SANDBOX_CREATING + 1; to < SANDBOX_N_STATES; to++) {
                        sandbox_goes(from, to, false);
                        if (to == SANDBOX_ENDING)
                                sandbox_goes(from, to, true);
                }
}

/* environments */

static const struct pair environment_legal[] = {
        { ENVIRONMENT_CREATING, ENVIRONMENT_IDLE },     { ENVIRONMENT_CREATING, ENVIRONMENT_LEASED },
        { ENVIRONMENT_CREATING, ENVIRONMENT_CLEANING }, { ENVIRONMENT_CREATING, ENVIRONMENT_ENDING },
        { ENVIRONMENT_IDLE, ENVIRONMENT_LEASED },       { ENVIRONMENT_IDLE, ENVIRONMENT_ENDING },
        { ENVIRONMENT_LEASED, ENVIRONMENT_IDLE },       { ENVIRONMENT_LEASED, ENVIRONMENT_CLEANING },
        { ENVIRONMENT_LEASED, ENVIRONMENT_ENDING },     { ENVIRONMENT_CLEANING, ENVIRONMENT_IDLE },
        { ENVIRONMENT_CLEANING, ENVIRONMENT_ENDING },
};

static void environment_table(void) {
        CHECK_TABLE(environment_transitions, environment_legal);
}

/* The function that brings an environment into this state. There is none for CREATING. */
static void bring_environment_to(struct environment *e, enum environment_state state) {
        static const struct claim_events none = {};
        static struct claim_line line;
        static struct claim claim;

        switch (state) {
        case ENVIRONMENT_IDLE:
                environment_set_idle(e);
                break;
        case ENVIRONMENT_LEASED:
                claim_line_init(&line);
                CHECK_INT(claim_init(&claim, &line, &none, "a", 1000), 0);
                environment_lease(e, &claim);
                break;
        case ENVIRONMENT_CLEANING:
                CHECK_INT(environment_clean(e), 0);
                break;
        case ENVIRONMENT_ENDING:
                environment_terminate(e);
                break;
        case ENVIRONMENT_CREATING:
        case ENVIRONMENT_N_STATES:
                break;
        }
}

/* The exit status of a child that tries to: whether the environment is in the new state. */
static int environment_goes(struct environment *e, enum environment_state from, enum environment_state to) {
        pid_t child = check_fork();
        int status = -1;

        if (child == 0) {
                in_production();
                e->state = from;
                bring_environment_to(e, to);
                _exit(e->state == to);
        }
        CHECK_INT(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void environment_setter(void) {
        struct environment *e;

        rig_start();
        pool_prewarm(rig.pool, 1);
        rig_run(SIM_DELAY_US);
        e = list_first(&rig.pool->environments.in[ENVIRONMENT_IDLE], struct environment, link);
        e->workdir = strdup("/work");
        for (unsigned from = 0; from < ENVIRONMENT_N_STATES; from++)
                for (unsigned to = ENVIRONMENT_CREATING + 1; to < ENVIRONMENT_N_STATES; to++) {
                        bool legal = is_one_of(environment_legal,
                                               sizeof(environment_legal) / sizeof(environment_legal[0]), from, to);

                        if (!legal)
                                CHECK_ABORTS({
                                        e->state = from;
                                        bring_environment_to(e, to);
                                });
                        CHECK_INT(environment_goes(e, from, to), legal || from == to);
                }
        rig_stop();
}

static const struct pair snapshot_legal[] = {
        { SNAPSHOT_TAKING, SNAPSHOT_READY },
        { SNAPSHOT_TAKING, SNAPSHOT_FAILED },
        { SNAPSHOT_READY, SNAPSHOT_DELETING },
        { SNAPSHOT_FAILED, SNAPSHOT_DELETING },
};

static void snapshot_table(void) {
        CHECK_TABLE(snapshot_transitions, snapshot_legal);
}

int main(void) {
        log_open(-1, false);
        RUN(sandbox_table);
        RUN(sandbox_setter);
        RUN(environment_table);
        RUN(environment_setter);
        RUN(snapshot_table);
        return check_done();
}
