/* SPDX-License-Identifier: MIT */

/* For compilers without libFuzzer: each file of the corpus directories, and many damaged copies of each. */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define INPUT_MAX 65536
#define DAMAGES 2000

static uint32_t dice(void) {
        static uint64_t state = 1;

        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return state >> 33;
}

/* Exactly as much memory as there is input, so that a sanitizer sees a byte too far. */
static void try(const uint8_t *data, size_t len) {
        uint8_t *copy = malloc(len ? len : 1);

        if (!copy)
                abort();
        memcpy(copy, data, len);
        LLVMFuzzerTestOneInput(copy, len);
        free(copy);
}

static void try_file(const char *path) {
        static uint8_t data[INPUT_MAX], damaged[INPUT_MAX];
        FILE *f = fopen(path, "re");
        size_t len;

        if (!f)
                return;
        len = fread(data, 1, sizeof(data), f);
        fclose(f);
        try(data, len);
        for (int i = 0; len > 0 && i < DAMAGES; i++) {
                size_t n = dice() % 4 ? len : dice() % len;

                memcpy(damaged, data, len);
                for (uint32_t flips = dice() % 4; flips > 0; flips--)
                        damaged[dice() % len] = dice() % 3 ? (uint8_t)dice() : (uint8_t)"\0\xff\x80\x7f"[dice() % 4];
                try(damaged, n);
        }
}

int main(int argc, char **argv) {
        char path[4096];
        unsigned n = 0;

        for (int i = 1; i < argc; i++) {
                DIR *d = opendir(argv[i]);

                for (struct dirent *e; d && (e = readdir(d));)
                        if (e->d_name[0] != '.') {
                                snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
                                try_file(path);
                                n++;
                        }
                if (d)
                        closedir(d);
        }
        printf("%u inputs\n", n);
        return n > 0 ? 0 : 1;
}
