/* SPDX-License-Identifier: MIT */

/*
 * The daemon's end of the helper and the program itself, on this machine: real processes, a real socket, which breaks
 * after a random number of bytes. Argument: the program.
 */

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "check.h"
#include "pool/helper/client.h"
#include "pool/util/buf.h"
#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "prng.h"
#include "unexpected.h"

#define JOBS 100

static const char *program;
static struct check_dir dir;
static char path[128];
static uint8_t key[HELPER_KEY_SIZE] = "0123456789abcdef";
static struct prng dice = { 1 };
static struct client *client;
static int carrier = -1;
static int64_t bytes_left; /* until the carrier breaks */

struct job {
        struct client_job *job;
        char command[200];
        struct buf expected[2], streams[2];
        char input[5000];
        unsigned n_started, n_ended;
        bool over;
};

static struct job jobs[JOBS];
static unsigned n_over, n_breaks;

static pid_t serve(void) {
        int fds[2];
        pid_t pid;

        CHECK_INT(pipe(fds), 0);
        pid = check_fork();
        if (pid == 0) {
                dup2(fds[0], 0);
                close(fds[1]);
                execl(program, program, "serve", "-f", path, NULL);
                _exit(127);
        }
        close(fds[0]);
        CHECK_INT(write(fds[1], key, sizeof(key)), sizeof(key));
        close(fds[1]);
        return pid;
}

static int try_connect(void) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strcpy(address.sun_path, path);
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
                return fd;
        close(fd);
        return -1;
}

static void connect_carrier(void) {
        for (int i = 0; i < 6000 && (carrier = try_connect()) < 0; i++)
                poll(NULL, 0, 10); /* it is not there yet */
        CHECK(carrier >= 0);
        bytes_left = 1 + (int64_t)prng_scaled(&dice, n_breaks < 200 ? 60000 : INT64_MAX - 1);
        CHECK_INT(client_carrier_new(client, clock_now()), 0);
}

static void disconnect(void) {
        close(carrier);
        carrier = -1;
        n_breaks++;
        client_carrier_lost(client);
}

/* events */

static void on_open(void *owner) {
}

static const struct client_events events = { .open = on_open, UNEXPECTED_CLIENT_EVENTS };

static void job_started(void *owner) {
        struct job *j = owner;

        j->n_started++;
}

static void job_output(void *owner, unsigned stream, const void *data, size_t len) {
        struct job *j = owner;

        CHECK_INT(buf_append(&j->streams[stream], data, len), 0);
        client_job_acknowledge(j->job, (uint64_t[]){ j->streams[0].len, j->streams[1].len });
}

static void job_missed(void *owner, unsigned stream, uint64_t offset) {
        check_failed_now = true;
}

static bool job_command(void *owner, uint64_t offset, void *data, size_t len) {
        struct job *j = owner;

        memcpy(data, j->command + offset, len);
        return true;
}

static bool job_input(void *owner, uint64_t offset, void *data, size_t len) {
        struct job *j = owner;

        memcpy(data, j->input + offset, len);
        return true;
}

static void job_taken(void *owner, uint64_t offset) {
}

static void job_ended(void *owner, const struct client_end *end) {
        struct job *j = owner;

        CHECK_INT(end->how, HELPER_END_EXIT);
        CHECK_INT(end->value, (j - jobs) % 200);
        j->n_ended++;
        j->over = true;
        n_over++;
        client_job_free(j->job);
}

static const struct client_job_events job_events = {
        job_started, job_output, job_missed, job_command, job_input, job_taken, job_ended
};

static void start(unsigned n) {
        static const char *const none[] = { NULL };
        struct job *j = &jobs[n];
        unsigned out = prng_scaled(&dice, 20000), err = prng_scaled(&dice, 2000), input = prng_scaled(&dice, 5000);
        struct client_job_spec spec = {
                .id = { (uint8_t)(n + 1) }, .flags = START_INPUT, .shell = "/bin/sh", .workdir = "/", .cwd = "",
                .user = "", .env = none,
        };

        for (int s = 0; s < 2; s++) {
                j->expected[s] = (struct buf)BUF_INIT(1 << 20);
                j->streams[s] = (struct buf)BUF_INIT(1 << 20);
                for (unsigned i = 1; i <= (s ? err : out); i++)
                        buf_printf(&j->expected[s], "%u\n", i);
        }
        for (unsigned i = 0; i < input; i++)
                j->input[i] = (char)('a' + i % 26);
        buf_append(&j->expected[0], j->input, input);
        snprintf(j->command, sizeof(j->command), "seq %u; seq %u >&2; cat; exit %u", out, err, n % 200);
        spec.command_len = strlen(j->command);
        CHECK_INT(client_job_start(client, &spec, &job_events, j, &j->job), 0);
        client_job_input(j->job, input, true);
}

/* Some bytes in each direction. */
static void turn(void) {
        static uint8_t out[2 * FRAME_MAX], in[65536];
        static size_t at, len;
        struct pollfd p = { .fd = carrier, .events = POLLIN };
        int64_t now = clock_now();
        ssize_t n = 0;

        if (carrier < 0) {
                at = len = 0;
                connect_carrier();
                return;
        }
        if (at == len) {
                at = 0;
                len = client_send_at(client, now) <= now ? client_send(client, out, sizeof(out), now) : 0;
        }
        if (len > at)
                p.events |= POLLOUT;
        poll(&p, 1, 20);
        if (p.revents & POLLOUT) {
                n = len - at < (size_t)bytes_left ? (ssize_t)(len - at) : bytes_left;
                n = send(carrier, out + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
                at += n > 0 ? n : 0;
                bytes_left -= n > 0 ? n : 0;
        }
        if (bytes_left > 0 && p.revents & POLLIN) {
                n = recv(carrier, in, (size_t)bytes_left < sizeof(in) ? (size_t)bytes_left : sizeof(in), MSG_DONTWAIT);
                bytes_left -= n > 0 ? n : 0;
                CHECK(n > 0);
                client_receive(client, in, n > 0 ? n : 0, now);
        }
        if (bytes_left == 0)
                disconnect();
}

static void jobs_over_carriers_that_break(void) {
        int64_t until = clock_now() + 240 * USEC_PER_SEC;
        unsigned next = 0;
        pid_t helper;
        int status;

        snprintf(path, sizeof(path), "%s/socket", dir.path);
        helper = serve();
        CHECK_INT(client_new(&client, key, "pool", 1, &events, NULL), 0);
        while (n_over < JOBS && !check_failed_now && clock_now() < until) {
                while (next < JOBS && next - n_over < 20)
                        start(next++);
                turn();
        }
        CHECK_INT(n_over, JOBS);
        CHECK(n_breaks > 20);
        for (unsigned i = 0; i < next; i++) {
                struct job *j = &jobs[i];

                CHECK_INT(j->n_started, 1);
                CHECK_INT(j->n_ended, 1);
                if (!j->over)
                        client_job_free(j->job);
                for (int s = 0; s < 2; s++) {
                        CHECK_STR(buf_text(&j->streams[s]), buf_text(&j->expected[s]));
                        buf_deinit(&j->streams[s]);
                        buf_deinit(&j->expected[s]);
                }
        }
        client_free(client);
        close_fd(carrier);
        kill(helper, SIGKILL);
        CHECK_INT(waitpid(helper, &status, 0), helper);
        unlink(path);
}

int main(int argc, char **argv) {
        program = argc == 2 ? argv[1] : "";
        dir = check_dir_make();
        RUN(jobs_over_carriers_that_break);
        check_dir_remove(&dir);
        return check_done();
}
