/* SPDX-License-Identifier: MIT */

/*
 * What lets a sandbox outlive its daemon: its helper's process, what the helper is told, and the resume token.
 *
 * The token: "1 NUMBER PID START", the sandbox's number, and the helper's process of this machine with the time of its
 * start.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pool/backend/local/internal.h"
#include "pool/util/cleanup.h"
#include "pool/util/crash.h"

/* proc(5), stat: the time of its start is the 20th field behind the name. */
static uint64_t start_of(pid_t pid) {
        char path[32], text[1024], *at;
        _cleanup_(cleanup_close) int fd = -1;
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return 0;
        text[n] = '\0';
        at = strrchr(text, ')');
        for (int i = 0; at && i < 20; i++)
                at = strchr(at + 1, ' ');
        return at ? strtoull(at, NULL, 10) : 0;
}

bool local_helper_lives(const struct local_sandbox *s) {
        return s->helper_pid > 0 && start_of(s->helper_pid) == s->helper_start;
}

void local_kill_helper(struct local_sandbox *s) {
        if (local_helper_lives(s))
                kill(s->helper_pid, SIGKILL); /* the first process of its namespace: with it all others end */
}

void local_note_helper(struct local_sandbox *s, pid_t pid) {
        s->helper_pid = pid;
        s->helper_start = start_of(pid);
}

void local_make_token(struct local_sandbox *s) {
        unsigned number = 0;

        sscanf(s->sandbox.id, "local-%u", &number);
        snprintf(s->token, sizeof(s->token), "1 %u %d %" PRIu64, number, (int)s->helper_pid, s->helper_start);
        s->sandbox.resume_token = s->token;
}

int local_read_token(struct local_sandbox *s, const char *token) {
        unsigned number;
        int pid, n = 0;

        if (sscanf(token, "1 %u %d %" SCNu64 "%n", &number, &pid, &s->helper_start, &n) != 3 || token[n] || pid <= 1)
                return -EINVAL;
        s->helper_pid = pid;
        snprintf(s->sandbox.id, sizeof(s->sandbox.id), "local-%u", number);
        snprintf(s->token, sizeof(s->token), "%s", token);
        s->sandbox.resume_token = s->token;
        if (number > sandbox_local(s)->client->last_number)
                sandbox_local(s)->client->last_number = number;
        return 0;
}

void local_send_wait(struct local_sandbox *s, uint64_t us) {
        uint8_t bytes[CONTROL_WAIT_SIZE] = { CONTROL_WAIT };

        for (int i = 0; i < 8; i++)
                bytes[1 + i] = (uint8_t)(us >> 8 * i);
        if (s->control_fd < 0)
                return;
        (void)send(s->control_fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT);
        crash_point("helper", "was told to wait");
}

void local_send_end(struct local_sandbox *s) {
        static const uint8_t byte = CONTROL_END;

        if (s->control_fd >= 0)
                (void)send(s->control_fd, &byte, sizeof(byte), MSG_NOSIGNAL | MSG_DONTWAIT);
}
