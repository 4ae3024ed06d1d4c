/* SPDX-License-Identifier: MIT */

/*
 * Calls about files from the daemon's end, beside a helper that keeps to protocol.h: carriers break at any byte, answers
 * come in any order, some calls are cancelled. Each is done once, and each that is not cancelled is answered once.
 */

#include <errno.h>
#include <stdlib.h>

#include "check.h"
#include "pool/helper/client.h"
#include "pool/helper/file-call.h"
#include "pool/util/clock.h"
#include "pool/util/list.h"
#include "prng.h"

#define CALLS 3000
#define HANDLES 1000 /* what the helper has opened has a number above this */

struct test_call {
        struct file_call call;
        unsigned number;
        bool started, over;
};

static struct test_call calls[CALLS];
static unsigned n_started, n_over, n_cancelled;
static struct client *client;
static struct prng dice;
static uint64_t carrier;

/* the helper: a place for each call, with what it is about, and whether it has an answer */

static struct place {
        uint64_t number;
        unsigned about;
        bool done, asked;
        int error;
} places[HELPER_CALLS_MAX];
static unsigned n_done[CALLS], n_opened, n_closed;
static struct decoder decoder;
static bool accepted;

static void say(const struct frame *f) {
        static uint8_t bytes[FRAME_MAX];

        client_receive(client, bytes, frame_encode(f, bytes), 0);
}

static void on_call(const struct frame *f) {
        struct place *p = &places[f->request % HELPER_CALLS_MAX];
        struct file_call_args a;

        CHECK(f->request >= p->number);
        if (f->request > p->number) {
                CHECK(p->number == 0 || p->done);
                CHECK_INT(file_call_decode(&a, f->data, f->len), 0);
                *p = (struct place){ .number = f->request, .about = a.op == FILE_OP_CLOSE ? CALLS : (unsigned)a.size };
                n_closed += a.op == FILE_OP_CLOSE && a.handle > HANDLES;
                if (p->about < CALLS)
                        n_done[p->about]++;
        }
        p->asked = true;
}

static void on_frame(const struct frame *f) {
        if (f->type == FRAME_HELLO) {
                accepted = true;
                for (int i = 0; i < HELPER_CALLS_MAX; i++)
                        places[i].asked = false;
                say(&(struct frame){ .type = FRAME_WELCOME, .version = 2, .epoch = f->epoch, .carrier = f->carrier });
        } else {
                CHECK_INT(f->type, FRAME_CALL);
                on_call(f);
        }
}

/* A place at random that has a call without an answer, or with one that this carrier has not had. */
static void answer_one(void) {
        struct place *p = &places[prng_scaled(&dice, HELPER_CALLS_MAX - 1)];
        uint8_t data[FILE_HANDLE_HEAD_SIZE];
        struct file_handle_head head = { .handle = HANDLES + p->number, .attributes.mode = 0100644 };
        bool opens = p->about % 2 == 0 && p->about < CALLS;

        if (!p->number || !p->asked)
                return;
        p->asked = false;
        n_opened += opens && !p->done;
        p->done = true;
        file_put_handle_head(data, &head);
        say(&(struct frame){ .type = FRAME_ANSWER, .request = p->number, .value = opens ? 0 : EEXIST, .data = data,
                             .len = opens ? sizeof(data) : 0 });
}

/* the daemon */

static void on_open(void *owner) {
}

static void on_broken(void *owner, const char *why, size_t len) {
        printf("# broken: %.*s\n", (int)len, why);
        CHECK(false);
}

static const struct client_events events = { .open = on_open, .broken = on_broken };

static void on_done(struct file_call *c, int error, const void *data, size_t len) {
        struct test_call *t = container_of(c, struct test_call, call);

        CHECK(t->started && !t->over && !c->cancel);
        CHECK_INT(error, t->number % 2 ? EEXIST : 0);
        CHECK_INT(len, t->number % 2 ? 0 : FILE_HANDLE_HEAD_SIZE);
        t->over = true;
        n_over++;
        n_closed += t->number % 2 == 0; /* by its owner, as it were */
}

static void start_one(void) {
        struct test_call *t = &calls[n_started];
        struct file_call_args args = { .op = n_started % 2 ? FILE_OP_MKDIR : FILE_OP_OPEN, .size = n_started, .dir = "d" };

        if (n_started == CALLS)
                return;
        t->number = n_started++;
        t->started = true;
        t->call.done = on_done;
        CHECK_INT(client_call(client, &args, &t->call), 0);
}

static void cancel_one(void) {
        struct test_call *t = &calls[prng_scaled(&dice, CALLS - 1)];

        if (!t->started || t->over)
                return;
        t->call.cancel(&t->call);
        CHECK(!t->call.cancel);
        t->over = true;
        n_over++;
        n_cancelled++;
}

static void new_carrier(void) {
        client_carrier_lost(client);
        CHECK_INT(client_carrier_new(client, 0), 0);
        decoder_init(&decoder, FRAME_OF_DAEMON);
        accepted = false;
        carrier++;
}

/* Some of what is sent arrives; what does not is lost with the carrier. */
static void carry(void) {
        static uint8_t bytes[4 * FRAME_MAX];
        size_t n = client_send(client, bytes, sizeof(bytes), 0), at = 0, room;
        bool breaks = prng_scaled(&dice, 20) == 0;
        size_t most = breaks && n > 0 ? prng_scaled(&dice, n) : n;
        struct frame f;

        while (at < most) {
                uint8_t *p = decoder_room(&decoder, &room);

                room = room < most - at ? room : most - at;
                memcpy(p, bytes + at, room);
                decoder_add(&decoder, room);
                at += room;
                while (decoder_next(&decoder, &f) == 1)
                        on_frame(&f);
        }
        if (breaks)
                new_carrier();
}

static void once(void) {
        uint8_t key[HELPER_KEY_SIZE] = {};

        dice = (struct prng){ 7 };
        CHECK_INT(client_new(&client, key, "pool", 1, &events, NULL), 0);
        new_carrier();
        while (n_over < CALLS || client_has_calls(client)) {
                for (unsigned n = prng_scaled(&dice, 8); n > 0; n--)
                        start_one();
                if (prng_scaled(&dice, 3) == 0)
                        cancel_one();
                carry();
                for (unsigned n = prng_scaled(&dice, 60); n > 0 && accepted; n--)
                        answer_one();
        }
        for (int i = 0; i < CALLS; i++)
                CHECK(n_done[i] <= 1);
        CHECK_INT(n_opened, n_closed);
        printf("# %u cancelled, %u carriers\n", n_cancelled, (unsigned)carrier);
        CHECK(n_cancelled > 50 && carrier > 20);
        client_free(client);
}

/* The sandbox is gone: all end, also those that were not sent. */
static void at_the_end(void) {
        uint8_t key[HELPER_KEY_SIZE] = {};

        memset(calls, 0, sizeof(calls));
        n_started = n_over = 0;
        CHECK_INT(client_new(&client, key, "pool", 1, &events, NULL), 0);
        for (int i = 0; i < 300; i++)
                start_one();
        for (unsigned i = 0; i < n_started; i++)
                calls[i].number = 1; /* of those that end with this error */
        client_calls_end(client, EEXIST);
        CHECK_INT(n_over, 300);
        CHECK(!client_has_calls(client));
        client_free(client);
}

static int last_error;

static void on_refused(struct file_call *c, int error, const void *data, size_t len) {
        last_error = error;
}

/* ENOSYS would end such calls for the whole mount, and no kernel says 5000. */
static void errors_that_cannot_be(void) {
        static const struct {
                uint32_t said;
                int given;
        } errors[] = { { ENOENT, ENOENT }, { ENOSYS, EIO }, { 5000, EIO }, { UINT32_MAX, EIO }, { EOPNOTSUPP, EOPNOTSUPP } };
        struct file_call call = { .done = on_refused };
        struct file_call_args args = { .op = FILE_OP_LOOKUP };
        uint8_t key[HELPER_KEY_SIZE] = {}, bytes[4 * FRAME_MAX];

        CHECK_INT(client_new(&client, key, "pool", 1, &events, NULL), 0);
        CHECK_INT(client_carrier_new(client, 0), 0);
        (void)client_send(client, bytes, sizeof(bytes), 0);
        say(&(struct frame){ .type = FRAME_WELCOME, .version = 2, .epoch = 1, .carrier = 1 });
        for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
                CHECK_INT(client_call(client, &args, &call), 0);
                CHECK(client_send(client, bytes, sizeof(bytes), 0) > 0);
                say(&(struct frame){ .type = FRAME_ANSWER, .request = i + 1, .value = errors[i].said });
                CHECK_INT(last_error, errors[i].given);
        }
        client_free(client);
}

int main(void) {
        RUN(once);
        RUN(at_the_end);
        RUN(errors_that_cannot_be);
        return check_done();
}
