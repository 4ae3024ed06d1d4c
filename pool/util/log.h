/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The log. It goes to stderr, and to syslog once the daemon is in the
 * background. Each message is one line, which text_show() makes printable.
 * Lines about a lease, environment or job begin with lease=, environment= or
 * job=. No line has a secret.
 */

#include <stdbool.h>
#include <syslog.h>

/* Messages of a priority (LOG_ERR … LOG_DEBUG) above @level are not printed. */
void log_open(int level, bool to_syslog);

void log_message(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));

extern int log_level;

#define log_at(priority, ...)                                \
        ({                                                   \
                if ((priority) <= log_level)                 \
                        log_message((priority), __VA_ARGS__); \
        })
#define log_error(...) log_at(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
