/* SPDX-License-Identifier: MIT */
#pragma once

/* What a URL says, read by curl's own parser: so it means here what it means to the transfer. */

#include <stdbool.h>

#define URL_LEN_MAX 2048 /* bytes */

struct http_url {
        bool plain;    /* http; else https */
        bool loopback; /* the host is 127.0.0.0/8, ::1 or localhost, which curl takes for these without asking anybody */
        bool address;  /* scheme, host and perhaps a port: no user, path, query or fragment */
};

/* 0, -EINVAL for what is no http or https URL, or -ENOMEM. */
int http_url_read(const char *url, struct http_url *out);
