/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pool/helper/file-call.h"
#include "tests/fuzz/fuzz.h"

/* A call that is accepted is the same once it is written again, and its strings end in it. */
static void check_call(const uint8_t *data, size_t len) {
        static uint8_t again[HELPER_DATA_MAX];
        struct file_call_args a;
        ssize_t n;

        if (file_call_decode(&a, data, len) < 0)
                return;
        n = file_call_encode(&a, again);
        if (n != -ENAMETOOLONG && n != -EFBIG && (n != (ssize_t)len || memcmp(again, data, len)))
                abort();
}

static void check_attributes(const uint8_t *data, size_t len) {
        uint8_t again[FILE_ATTRIBUTES_SIZE];
        struct file_attributes a;

        if (file_get_attributes(&a, data, len) < 0)
                return;
        if (file_put_attributes(again, &a) != sizeof(again) || memcmp(again, data, sizeof(again)))
                abort();
}

static void check_entries(const uint8_t *data, size_t len) {
        const uint8_t *end = data + len;
        struct file_handle_head head;
        struct file_entry e;
        size_t sum = 0;
        int r;

        if (file_get_handle_head(&head, data, len) < 0)
                return;
        data += FILE_HANDLE_HEAD_SIZE;
        len -= FILE_HANDLE_HEAD_SIZE;
        while ((r = file_get_entry(&e, &data, &len)) == 1) {
                for (size_t i = 0; i < e.name_len; i++)
                        sum += (uint8_t)e.name[i]; /* all of it can be read */
                if (data + len != end || sum > 255 * 255)
                        abort();
                sum = 0;
        }
        if (r == 0 && len != 0)
                abort();
}

/* The first byte says as what the rest is read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
        struct file_space space;
        uint64_t value;

        if (len < 1 || len > HELPER_DATA_MAX)
                return 0;
        if (data[0] % 4 == 0)
                check_call(data + 1, len - 1);
        else if (data[0] % 4 == 1)
                check_attributes(data + 1, len - 1);
        else if (data[0] % 4 == 2)
                check_entries(data + 1, len - 1);
        else
                (void)file_get_space(&space, data + 1, len - 1), (void)file_get_u64(&value, data + 1, len - 1);
        return 0;
}
