/* SPDX-License-Identifier: MIT */
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "check.h"
#include "fs/daemon/sd-notify.h"
#include "pool/util/clock.h"
#include "pool/util/log.h"

#define START (1000 * USEC_PER_SEC)

static int manager; /* its socket */
static char address[64];

/* A manager on an abstract address, and the variables that name it; NULL leaves one unset. */
static void listen_and_set(const char *watchdog, const char *pid) {
        struct sockaddr_un at = { .sun_family = AF_UNIX };

        snprintf(address, sizeof(address), "@modalpool-unit-%d", (int)getpid());
        memcpy(at.sun_path + 1, address + 1, strlen(address) - 1);
        manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        CHECK_INT(bind(manager, (struct sockaddr *)&at, offsetof(struct sockaddr_un, sun_path) + strlen(address)), 0);
        setenv("NOTIFY_SOCKET", address, 1);
        if (watchdog)
                setenv("WATCHDOG_USEC", watchdog, 1);
        if (pid)
                setenv("WATCHDOG_PID", pid, 1);
}

static const char *heard(void) {
        static char text[1024];
        ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

        text[n > 0 ? n : 0] = '\0';
        return text;
}

static void tells(void) {
        struct notify n;

        listen_and_set(NULL, NULL);
        notify_open(&n);
        notify_send(&n, "READY=%d\nSTATUS=%s", 1, "fine");
        CHECK_STR(heard(), "READY=1\nSTATUS=fine");
        CHECK_INT(notify_tick(&n, START), USEC_NEVER); /* no sign of life is wanted */
        CHECK_STR(heard(), "");
        notify_close(&n);
        close(manager);
}

/* Once a half of the interval, however often the loop turns. */
static void signs_of_life(void) {
        char own[16];
        struct notify n;

        snprintf(own, sizeof(own), "%d", (int)getpid());
        listen_and_set("4000000", own);
        notify_open(&n);
        CHECK_INT(notify_tick(&n, START), START + 2 * USEC_PER_SEC);
        CHECK_STR(heard(), "WATCHDOG=1");
        CHECK_INT(notify_tick(&n, START + 2 * USEC_PER_SEC - 1), START + 2 * USEC_PER_SEC);
        CHECK_STR(heard(), "");
        CHECK_INT(notify_tick(&n, START + 5 * USEC_PER_SEC), START + 7 * USEC_PER_SEC);
        CHECK_STR(heard(), "WATCHDOG=1");
        CHECK_STR(heard(), "");
        notify_close(&n);
        close(manager);
}

/* What is not meant for us, or makes no sense, asks for nothing. */
static void no_watchdog(void) {
        static const char *const cases[][2] = { { "4000000", "1" }, { "4000000", "x" }, { "soon", NULL }, { "0", NULL },
                                                { "99999999999999999999", NULL } };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct notify n;

                listen_and_set(cases[i][0], cases[i][1]);
                notify_open(&n);
                CHECK_INT(notify_tick(&n, START), USEC_NEVER);
                CHECK_STR(heard(), "");
                notify_close(&n);
                close(manager);
        }
}

/* No child is to speak for the daemon. */
static void variables_are_unset(void) {
        struct notify n;

        listen_and_set("4000000", "1");
        notify_open(&n);
        CHECK(!getenv("NOTIFY_SOCKET") && !getenv("WATCHDOG_USEC") && !getenv("WATCHDOG_PID"));
        CHECK_INT(fcntl(n.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        notify_close(&n);
        CHECK_INT(n.fd, -1);
        close(manager);
}

static void nobody_listens(void) {
        static const char *const names[] = { NULL, "", "relative", "@", "/", "/no/such/socket" };
        struct notify n;

        log_open(-1, false);
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                if (names[i])
                        setenv("NOTIFY_SOCKET", names[i], 1);
                setenv("WATCHDOG_USEC", "4000000", 1);
                notify_open(&n);
                notify_send(&n, "READY=1");
                CHECK_INT(notify_tick(&n, START) == USEC_NEVER, i + 1 < sizeof(names) / sizeof(names[0]));
                notify_close(&n);
        }
}

int main(void) {
        RUN(tells);
        RUN(signs_of_life);
        RUN(no_watchdog);
        RUN(variables_are_unset);
        RUN(nobody_listens);
        return check_done();
}
