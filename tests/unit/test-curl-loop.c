/* SPDX-License-Identifier: MIT */
#include <curl/curl.h>
#include <uv.h>

#include "check.h"
#include "pool/net/curl-loop.h"

enum { TIMES = 1000 };

static CURL *easy;
static int n_driven;

/* In place of curl's: it wants to act at once again, as it does while a stream comes as fast as it is read. */
CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int events, int *running) {
        n_driven++;
        *running = 1;
        curl_multi_remove_handle(multi, easy);
        return n_driven < TIMES ? curl_multi_add_handle(multi, easy) : CURLM_OK;
}

static void nothing(void *owner) {
}

static void on_alive(uv_timer_t *timer) {
}

/* Once in each turn of the loop, so that others have theirs. */
static void at_once_is_the_next_turn(void) {
        struct curl_loop cl;
        uv_timer_t alive;
        uv_loop_t loop;
        int most = 0;

        CHECK_INT(uv_loop_init(&loop), 0);
        uv_timer_init(&loop, &alive);
        uv_timer_start(&alive, on_alive, 1000000, 0);
        CHECK_INT(curl_loop_init(&cl, &loop, nothing, nothing, NULL), 0);
        easy = curl_easy_init();
        curl_easy_setopt(easy, CURLOPT_URL, "http://127.0.0.1/");
        curl_multi_add_handle(cl.multi, easy);
        CHECK_INT(n_driven, 0);
        for (int turn = 0; turn < 2 * TIMES && n_driven < TIMES; turn++) {
                int before = n_driven;

                uv_run(&loop, UV_RUN_NOWAIT);
                if (n_driven - before > most)
                        most = n_driven - before;
        }
        CHECK_INT(n_driven, TIMES);
        CHECK_INT(most, 1);

        curl_easy_cleanup(easy);
        curl_loop_close(&cl, nothing);
        uv_close((uv_handle_t *)&alive, NULL);
        uv_run(&loop, UV_RUN_DEFAULT);
        CHECK_INT(uv_loop_close(&loop), 0);
}

int main(void) {
        RUN(at_once_is_the_next_turn);
        return check_done();
}
