/* SPDX-License-Identifier: MIT */
#include "sim.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool/util/clock.h"

struct sim sim;
bool sim_verbose;

static struct timer **heap; /* from 1 */
static size_t heap_len, heap_size;
static uint64_t next_order;

static char trace[SIM_TRACE_LINES][256];
static uint64_t trace_next;

void sim_reset(uint64_t seed, uint64_t planned) {
        SIM_CHECK(heap_len == 0, "%zu timers are left over", heap_len);
        sim = (struct sim){ .seed = seed, .planned = planned, .prng.state = seed, .now_us = 1000 * USEC_PER_SEC };
        trace_next = 0;
}

void sim_free(void) {
        free(heap);
        heap = NULL;
        heap_size = heap_len = 0;
}

int64_t sim_clock(void) {
        return sim.now_us;
}

uint64_t sim_below(uint64_t n) {
        return prng_below(&sim.prng, n);
}

bool sim_chance(unsigned per_thousand) {
        return prng_chance(&sim.prng, per_thousand);
}

/* timers: a binary heap, each timer knows its place in it */

static bool before(const struct timer *a, const struct timer *b) {
        return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void put(struct timer *t, size_t place) {
        heap[place] = t;
        t->place = place;
}

static void sift(struct timer *t, size_t place) {
        for (; place > 1 && before(t, heap[place / 2]); place /= 2)
                put(heap[place / 2], place);
        for (size_t child; (child = place * 2) <= heap_len; place = child) {
                if (child < heap_len && before(heap[child + 1], heap[child]))
                        child++;
                if (!before(heap[child], t))
                        break;
                put(heap[child], place);
        }
        put(t, place);
}

void timer_arm(struct timer *t, int64_t after_us, void (*fire)(struct timer *)) {
        timer_cancel(t);
        if (heap_len + 2 > heap_size) {
                heap_size = heap_size ? heap_size * 2 : 64;
                heap = realloc(heap, heap_size * sizeof(*heap));
                if (!heap)
                        abort();
        }
        t->at_us = clock_after(sim.now_us, after_us);
        t->order = next_order++;
        t->fire = fire;
        sift(t, ++heap_len);
}

void timer_cancel(struct timer *t) {
        size_t place = t->place;

        if (!place)
                return;
        t->place = 0;
        if (place < heap_len)
                sift(heap[heap_len--], place);
        else
                heap_len--;
}

struct timer *timer_next(void) {
        return heap_len ? heap[1] : NULL;
}

void timer_fire(struct timer *t) {
        timer_cancel(t);
        if (t->at_us > sim.now_us)
                sim.now_us = t->at_us;
        sim.n_events++;
        t->fire(t);
}

/* the trace */

void sim_trace(const char *format, ...) {
        char *line = trace[trace_next++ % SIM_TRACE_LINES];
        int n = snprintf(line, sizeof(trace[0]), "%9" PRIu64 " %14.6f  ", sim.n_events,
                         (double)sim.now_us / USEC_PER_SEC);
        va_list ap;

        va_start(ap, format);
        vsnprintf(line + n, sizeof(trace[0]) - n, format, ap);
        va_end(ap);
        if (sim_verbose)
                fprintf(stderr, "%s\n", line);
}

static void dump(void) {
        uint64_t from = trace_next > SIM_TRACE_LINES ? trace_next - SIM_TRACE_LINES : 0;

        printf("# the newest events (number, time, what):\n");
        for (uint64_t i = from; i < trace_next; i++)
                printf("# %s\n", trace[i % SIM_TRACE_LINES]);
        printf("# seed %" PRIu64 ", event %" PRIu64 "; to replay: simulate --seed %" PRIu64 " --events %" PRIu64 "\n",
               sim.seed, sim.n_events, sim.seed, sim.planned);
        fflush(stdout);
}

void sim_fail(const char *format, ...) {
        va_list ap;

        printf("not ok - ");
        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        printf("\n");
        dump();
        _exit(1);
}

static void on_death(void) {
        printf("not ok - the process was ended, see stderr\n");
        dump();
}

static void on_abort(int signo) {
        on_death();
        _exit(1);
}

/* There when a sanitizer is linked in. */
extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

void sim_catch_aborts(void) {
        if (__sanitizer_set_death_callback)
                __sanitizer_set_death_callback(on_death);
        signal(SIGABRT, on_abort);
        signal(SIGSEGV, on_abort);
}
