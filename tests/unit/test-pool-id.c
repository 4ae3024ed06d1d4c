/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "check.h"
#include "fs/daemon/pool-id.h"
#include "pool/util/io.h"

#define MACHINE "0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210"

static struct check_dir dir;

static void put(const char *text) {
        int fd = openat(dir.fd, "pool", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        CHECK_INT(write_at(fd, text, strlen(text), 0), 0);
        close(fd);
}

/* What reading the id that is there gives, and that it is @id. */
static int reread(const char *path, const char *machine, const char *id) {
        char found[UUID_SIZE] = "";
        int r = pool_id_read(dir.fd, path, machine, found);

        CHECK_STR(found, id);
        return r;
}

static void it_stays(void) {
        char id[UUID_SIZE], other[UUID_SIZE];

        CHECK_INT(pool_id_read(dir.fd, "/state", MACHINE, id), -ENOENT);
        CHECK_INT(pool_id_make(dir.fd, "/state", MACHINE, id), 0);
        CHECK_INT(strlen(id), UUID_SIZE - 1);
        CHECK_INT(reread("/state", MACHINE, id), 0);
        CHECK_INT(reread("/state", MACHINE, id), 0);
        CHECK_INT(pool_id_make(dir.fd, "/state", MACHINE, other), 0);
        CHECK(strcmp(id, other));
        CHECK_INT(reread("/state", MACHINE, other), 0);
        CHECK_INT(pool_id_make(dir.fd, "/two lines\nof it ", MACHINE, id), 0);
        CHECK_INT(reread("/two lines\nof it ", MACHINE, id), 0);
}

static void another_machine_or_path(void) {
        char id[UUID_SIZE];

        CHECK_INT(pool_id_make(dir.fd, "/state", MACHINE, id), 0);
        CHECK_INT(reread("/state", OTHER, id), -EXDEV);
        CHECK_INT(reread("/elsewhere", MACHINE, id), -EXDEV);
        CHECK_INT(reread("/state", MACHINE, id), 0);
}

/* Written by the same path to the same machine, and yet another file. */
static void copied_file(void) {
        char id[UUID_SIZE], text[512];
        int fd;
        ssize_t n;

        CHECK_INT(pool_id_make(dir.fd, "/state", MACHINE, id), 0);
        fd = openat(dir.fd, "pool", O_RDONLY | O_CLOEXEC);
        n = read_at(fd, text, sizeof(text) - 1, 0);
        CHECK(n > 0);
        text[n] = '\0';
        CHECK_INT(unlinkat(dir.fd, "pool", 0), 0);
        put(text);
        CHECK_INT(reread("/state", MACHINE, id), -EXDEV);
        close(fd); /* until here it kept its inode */
}

/* A machine without an id, as containers are, may come to have one. */
static void unknown_machine(void) {
        char id[UUID_SIZE];

        CHECK_INT(pool_id_make(dir.fd, "/state", "", id), 0);
        CHECK_INT(reread("/state", "", id), 0);
        CHECK_INT(reread("/state", MACHINE, id), 0);
        CHECK_INT(reread("/state", "", id), 0);
        CHECK_INT(reread("/state", OTHER, id), -EXDEV);
}

/* The file of a version that wrote the id alone is taken up, and bound from then on. */
static void id_alone(void) {
        static const char id[] = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";

        put(id);
        CHECK_INT(reread("/state", MACHINE, id), 0);
        CHECK_INT(reread("/state", OTHER, id), -EXDEV);
}

static void damaged(void) {
        char id[UUID_SIZE];

        put("");
        CHECK_INT(pool_id_read(dir.fd, "/state", MACHINE, id), -EUCLEAN);
        put("6f9619ff-8b86-4011-b42d-00cf4fc964ff\nmachine -\n");
        CHECK_INT(pool_id_read(dir.fd, "/state", MACHINE, id), -EUCLEAN);
        put("6f9619ff-8b86-4011-b42d-00cf4fc964ff\nmachine -\nfile 1 2\npath /state");
        CHECK_INT(pool_id_read(dir.fd, "/state", MACHINE, id), -EUCLEAN);
}

int main(void) {
        dir = check_dir_make();
        RUN(it_stays);
        RUN(another_machine_or_path);
        RUN(copied_file);
        RUN(unknown_machine);
        RUN(id_alone);
        RUN(damaged);
        CHECK_INT(remove_contents(dir.fd), 0);
        check_dir_remove(&dir);
        return check_done();
}
