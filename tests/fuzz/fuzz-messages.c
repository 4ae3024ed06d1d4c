/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "pool/backend/modal/wire/codec.h"
#include "pool/util/text.h"
#include "tests/fuzz/fuzz.h"

static void take_line(void *owner, const char *text) {
        if (!*text)
                __builtin_trap();
}

static int take_info(void *owner, const struct modal_info *info) {
        if (!text_is_id(info->id, 79) || !info->tag)
                __builtin_trap();
        return 0;
}

static void take_data(void *owner, const void *data, size_t len) {
        if (len == 0)
                __builtin_trap();
}

static void explain(const struct modal_result *result) {
        char words[MODAL_RESULT_TEXT_MAX];

        modal_result_explain(result, words);
        if (!*words || !memchr(words, '\0', sizeof(words)))
                __builtin_trap();
}

/* The first byte says as which answer the rest is read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        char *text = NULL, *other = NULL;
        struct modal_result result;
        struct modal_created created;
        uint64_t taken;
        bool ended;
        int code;

        if (len-- == 0)
                return 0;
        switch (*data++ % 14) {
        case 0:
                modal_read_environment(data, len, &text);
                break;
        case 1:
                if (modal_read_id(data, len, &text) == 0 && !text_is_id(text, 79))
                        __builtin_trap();
                break;
        case 2:
                if (modal_read_image(data, len, &text, &result) == 0 && !text_is_id(text, 79))
                        __builtin_trap();
                break;
        case 3:
                text = strdup("");
                modal_read_image_join(data, len, take_line, NULL, &text, &result);
                break;
        case 4:
                if (modal_read_task(data, len, &text, &result) == 0 && *text && !text_is_id(text, 79))
                        __builtin_trap();
                break;
        case 5:
                modal_read_access(data, len, &text, &other);
                break;
        case 6:
                modal_read_list(data, len, "modalpool-create", take_info, NULL);
                break;
        case 7:
                modal_read_exec_read(data, len, take_data, NULL);
                break;
        case 8:
                if (modal_read_exec_wait(data, len, &ended, &code) == 0 && ended && (code < 0 || code > 255))
                        __builtin_trap();
                break;
        case 9:
                modal_read_exec_input(data, len, &taken, &ended);
                break;
        case 11:
                if (modal_read_created(data, len, &created) == 0 &&
                    (!text_is_id(created.id, 79) || (*created.task_id && !text_is_id(created.task_id, 79)) ||
                     !*created.url != !*created.jwt || !created.token))
                        __builtin_trap();
                modal_created_deinit(&created);
                break;
        case 10:
                if (modal_read_token(data, len, &text) == 0 && !*text)
                        __builtin_trap();
                break;
        case 12:
                if (modal_read_wait(data, len, &result) == 0)
                        explain(&result);
                break;
        case 13:
                modal_read_ready(data, len);
                break;
        }
        free(text);
        free(other);
        return 0;
}
