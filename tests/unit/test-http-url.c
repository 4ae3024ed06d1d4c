/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "pool/net/http.h"

static void addresses(void) {
        static const struct {
                const char *url;
                bool plain;
        } good[] = {
                { "https://api.modal.com", false },
                { "https://api.modal.com/", false },
                { "HTTPS://worker-7.modal.host:8443", false },
                { "https://127.0.0.1:7777", false },
                { "https://192.0.2.1", false },
                { "https://[2001:db8::1]:443/", false },
                { "http://127.0.0.1:80", true },
                { "http://127.255.0.9", true },
                { "http://127.1", true }, /* curl makes 127.0.0.1 of it */
                { "http://[::1]:80/", true },
                { "http://localhost:1234", true },
                { "http://LocalHost", true },
        };

        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
                bool plain = !good[i].plain;
                struct result why = {};

                CHECK_INT(http_check_url(good[i].url, &plain, &why), 0);
                CHECK_STR(why.text, "");
                CHECK_INT(plain, good[i].plain);
        }
}

/* Each would send a token to somewhere else than it seems, or in the clear, or begins what a method is added to. */
static void no_addresses(void) {
        static const char *const bad[] = {
                /* this machine is an address, and no name that begins like one */
                "http://127.0.0.1.example.com",
                "http://127.example.com:80",
                "http://localhost.example.com",
                "http://127.0.0.1.",
                "http://localhost.",
                "http://128.0.0.1",
                "http://0.0.0.0",
                "http://[::]",
                "http://[::ffff:127.0.0.1]",
                "http://[::1",
                "http://::1",
                "http://192.0.2.1:80",
                "http://api.modal.com",
                "http://3232235777", /* 192.168.1.1 */
                /* users, paths, queries, fragments */
                "http://127.0.0.1@example.com",
                "https://user@api.modal.com",
                "https://user:secret@api.modal.com",
                "https://@api.modal.com",
                "https://127.0.0.1\\@example.com",
                "https://api.modal.com/v2",
                "https://api.modal.com//",
                "https://api.modal.com/..",
                "https://api.modal.com?",
                "https://api.modal.com/?x=",
                "https://api.modal.com#",
                "https://api.modal.com/#x",
                "https://api.modal.com%2fx",
                "https://%31%32%37.0.0.1",
                /* no http, no URL */
                "",
                "api.modal.com",
                "//api.modal.com",
                "https:api.modal.com",
                "https://",
                "https://:443",
                "https://api.modal.com:0x50",
                "https://api.modal.com:99999",
                "ftp://127.0.0.1",
                "file:///etc/passwd",
                "unix:/run/x.sock",
                "javascript:alert(1)",
                " https://api.modal.com",
                "https://api.modal.com ",
                "https://api.modal.com\n",
                "https://api.modal.com\r\nHost: example.com",
                "https://api\tmodal.com",
                "https://api.modal.com\x1b[2J",
                "https://\xd0\xb0pi.modal.com", /* a Cyrillic letter */
                "https://api.modal.com\xe2\x80\xae",
        };

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct result why = {};
                bool plain;
                int r = http_check_url(bad[i], &plain, &why);

                        continue;
                if (r == 0)
                        printf("# %s was taken\n", bad[i]);
                CHECK_INT(r, -EINVAL);
                CHECK_INT(why.code, RESULT_INVALID);
                CHECK(*why.text);
        }
}

static void long_ones(void) {
        char url[4096] = "https://";
        struct result why = {};
        bool plain;

        memset(url + strlen(url), 'a', sizeof(url) - strlen(url) - 1);
        CHECK_INT(http_check_url(url, &plain, &why), -EINVAL);
}

int main(void) {
        RUN(addresses);
        RUN(no_addresses);
        RUN(long_ones);
        return check_done();
}
