/* SPDX-License-Identifier: MIT */
#include "pool/util/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pool/util/text.h"

int log_level = LOG_INFO;
static bool log_to_syslog;

void log_open(int level, bool to_syslog) {
        log_level = level;
        log_to_syslog = to_syslog;
        if (to_syslog)
                openlog("modalpool", LOG_PID, LOG_DAEMON);
}

void log_message(int priority, const char *format, ...) {
        char line[2048] = "modalpool: ";
        size_t head = strlen(line);
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(line + head, sizeof(line) - head - 1, format, ap);
        va_end(ap);
        if (n < 0)
                return;
        text_show(line + head, sizeof(line) - head - 1, line + head, strlen(line + head));
        if (log_to_syslog) {
                syslog(priority, "%s", line + head);
                return;
        }

        /* One write for each line, so that lines of several processes do not mix. */
        n = strlen(line);
        line[n++] = '\n';
        (void)!write(STDERR_FILENO, line, n);
}
