/* SPDX-License-Identifier: MIT */
#include "pool/lease/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/util/cleanup.h"
#include "pool/util/clock.h"
#include "pool/util/io.h"
#include "pool/util/list.h"
#include "pool/util/log.h"
#include "pool/util/removal.h"

#define N_STREAMS 2

/* Where a run of bytes of one stream begins: how much of each stream stands before it. */
struct turn {
        uint64_t before[N_STREAMS];
        uint64_t stream;
};

enum {
        FILE_ORDER = N_STREAMS,
        N_FILES,
};

struct file {
        struct list link; /* in open_files, while it is open */
        int fd;           /* or -1 */
        bool exists;
};

struct spool {
        unsigned refs;
        unsigned readers;
        bool ended;
        bool kept; /* its files outlive it */
        int dir;
        char name[SPOOL_NAME_MAX];
        uint64_t max;
        struct quota_account *quota;
        uint64_t charged; /* bytes of all files */
        uint64_t size[N_STREAMS];
        int64_t written_wall_us[N_STREAMS]; /* wall time of the last byte; 0: none yet */
        uint64_t n_turns;  /* in the order file; the run that goes on is `turn` too */
        struct turn turn;  /* the newest */
        struct file files[N_FILES];
};

/*
 * Descriptors are a cache, for a file can be opened again by its name. Where there are no more of them, the file that
 * was not used for longest is closed, or in the last resort a spare descriptor: so output never waits for one. And half
 * of what this process may have is left to others.
 */
static struct list open_files = LIST_INIT(open_files); /* in order of use */
static rlim_t n_open;
static int spare = -1;

static const char *const suffix[N_FILES] = { "stdout", "stderr", "order" };

int spool_new(struct spool **out, int dir, uint64_t max, struct quota_account *quota) {
        struct spool *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->refs = 1;
        s->dir = dir;
        s->max = max;
        s->quota = quota;
        for (int i = 0; i < N_FILES; i++) {
                list_init(&s->files[i].link);
                s->files[i].fd = -1;
        }
        if (spare < 0)
                spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
        *out = s;
        return 0;
}

void spool_name(struct spool *s, const char *name) {
        for (int i = 0; i < N_FILES; i++)
                assert(!s->files[i].exists);
        snprintf(s->name, sizeof(s->name), "%s", name);
}

struct spool *spool_ref(struct spool *s) {
        s->refs++;
        return s;
}

static void file_path(const struct spool *s, int file, char *path, size_t len) {
        snprintf(path, len, "%s.%s", s->name, suffix[file]);
}

static void close_file(struct file *f) {
        if (f->fd < 0)
                return;
        list_remove(&f->link);
        close(TAKE_FD(f->fd));
        n_open--;
}

static void close_files(struct spool *s) {
        for (int i = 0; i < N_FILES; i++)
                close_file(&s->files[i]);
}

/* False when there is none to give up. */
static bool give_up_descriptor(void) {
        struct file *f = list_first(&open_files, struct file, link);

        if (!f && spare < 0)
                return false;
        if (f)
                close_file(f);
        else
                close(TAKE_FD(spare));
        return true;
}

void spool_unref(struct spool *s) {
        char path[128];

        if (!s || --s->refs > 0)
                return;
        close_files(s);
        for (int i = 0; i < N_FILES; i++)
                if (s->files[i].exists && !s->kept) {
                        file_path(s, i, path, sizeof(path));
                        removal_add(s->dir, path, i == FILE_ORDER ? s->n_turns * sizeof(struct turn) : s->size[i]);
                }
        quota_refund(s->quota, s->charged);
        free(s);
}

static void charge(struct spool *s, uint64_t bytes) {
        quota_charge(s->quota, bytes);
        s->charged += bytes;
}

/* Others have their half of what this process may have. */
static void leave_room(void) {
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
                while (n_open > limit.rlim_cur / 2 && give_up_descriptor())
                        ;
}

static int open_anew(struct spool *s, int file) {
        struct file *f = &s->files[file];
        char path[128];

        leave_room();
        file_path(s, file, path, sizeof(path));
        do
                f->fd = openat(s->dir, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (f->exists ? 0 : O_CREAT | O_EXCL), 0600);
        while (f->fd < 0 && (errno == EMFILE || errno == ENFILE) && give_up_descriptor());
        if (f->fd < 0)
                return -errno;
        f->exists = true;
        n_open++;
        return 0;
}

static int open_or_move(struct spool *s, int file) {
        struct file *f = &s->files[file];
        int r = f->fd < 0 ? open_anew(s, file) : 0;

        if (r < 0)
                return r;
        list_remove(&f->link);
        list_add_tail(&open_files, &f->link);
        return 0;
}

/*
 * To be called before each use: another file may need the descriptor that was there a moment ago. The newest in the
 * list, which is the one that is used next most often, is open.
 */
static inline int open_file(struct spool *s, int file) {
        return open_files.prev == &s->files[file].link ? 0 : open_or_move(s, file);
}

/* How many bytes a file of an earlier run has, and when the last of them was written. */
static int restore_file(struct spool *s, int file, uint64_t *size, int64_t *written_wall_us) {
        char path[128];
        struct stat st;

        file_path(s, file, path, sizeof(path));
        if (fstatat(s->dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        s->files[file].exists = true;
        charge(s, st.st_size);
        *size = st.st_size;
        *written_wall_us = st.st_size ? st.st_mtim.tv_sec * USEC_PER_SEC + st.st_mtim.tv_nsec / 1000 : 0;
        return 0;
}

static int read_turn(struct spool *s, uint64_t number, struct turn *turn) {
        ssize_t n = open_file(s, FILE_ORDER);

        if (n == 0)
                n = read_at(s->files[FILE_ORDER].fd, turn, sizeof(*turn), number * sizeof(*turn));
        if (n < 0)
                return n;
        return n == sizeof(*turn) ? 0 : -EIO;
}

/* Whether @next can stand behind @turn (NULL: first) in the order of the bytes that are there. */
static bool turn_follows(const struct spool *s, const struct turn *turn, const struct turn *next) {
        if (next->stream >= N_STREAMS || next->before[0] > s->size[0] || next->before[1] > s->size[1])
                return false;
        if (!turn)
                return next->before[0] == 0 && next->before[1] == 0;
        return next->stream == !turn->stream && next->before[!turn->stream] == turn->before[!turn->stream] &&
               next->before[turn->stream] >= turn->before[turn->stream];
}

/* Goes on to the last turn that follows from those before it. */
static int find_last_turn(struct spool *s) {
        struct turn turns[512];
        ssize_t n;

        do {
                n = open_file(s, FILE_ORDER);
                if (n == 0)
                        n = read_at(s->files[FILE_ORDER].fd, turns, sizeof(turns), s->n_turns * sizeof(*turns));
                if (n < 0)
                        return n;
                for (size_t i = 0; i < n / sizeof(*turns); i++) {
                        if (!turn_follows(s, s->n_turns ? &s->turn : NULL, &turns[i]))
                                return 0;
                        s->turn = turns[i];
                        s->n_turns++;
                }
        } while (n == sizeof(turns));
        return 0;
}

static int add_turn(struct spool *s, struct turn turn) {
        int r = open_file(s, FILE_ORDER);

        if (r == 0)
                r = append_at(s->files[FILE_ORDER].fd, &turn, sizeof(turn), s->n_turns * sizeof(turn));
        if (r < 0)
                return r;
        s->turn = turn;
        s->n_turns++;
        charge(s, sizeof(turn));
        return 0;
}

/* Bytes whose order is not known come last, first those of the stream that is at hand. */
static int complete_order(struct spool *s) {
        struct turn next = s->turn;
        int r = 0;

        if (s->n_turns == 0 && s->size[0] > 0 && s->size[1] > 0)
                r = add_turn(s, next);
        next.stream = !next.stream;
        next.before[!next.stream] = s->size[!next.stream];
        if (r < 0 || s->n_turns == 0 || s->size[next.stream] == next.before[next.stream])
                return r;
        log_warning("spool: %s: from byte %" PRIu64 " of its output on, the order of stdout and stderr is lost", s->name,
                    s->turn.before[0] + s->turn.before[1]);
        return add_turn(s, next);
}

/*
 * A turn is written before its bytes, so the newest may have none; half a turn was never one. After the machine itself
 * was cut off, any file may lack its last bytes, or have zeros there. Then what there is of each stream is the output.
 */
static int restore_order(struct spool *s) {
        uint64_t size = 0, whole;
        int64_t written_wall_us;
        int r = restore_file(s, FILE_ORDER, &size, &written_wall_us);

        if (r == 0 && size > 0)
                r = find_last_turn(s);
        whole = s->n_turns * sizeof(struct turn);
        if (r == 0 && size > whole) {
                r = open_file(s, FILE_ORDER);
                if (r == 0 && ftruncate(s->files[FILE_ORDER].fd, whole) < 0)
                        r = -errno;
                quota_refund(s->quota, size - whole);
                s->charged -= size - whole;
        }
        return r < 0 ? r : complete_order(s);
}

int spool_restore(struct spool **out, int dir, const char *name, uint64_t max, struct quota_account *quota) {
        struct spool *s;
        int r = spool_new(&s, dir, max, quota);

        if (r < 0)
                return r;
        spool_name(s, name);
        for (int i = 0; i < N_STREAMS && r == 0; i++)
                r = restore_file(s, i, &s->size[i], &s->written_wall_us[i]);
        if (r == 0)
                r = restore_order(s);
        close_files(s);
        if (r < 0) {
                s->kept = true; /* whatever is wrong with them, they are not ours to remove */
                spool_unref(s);
                return r;
        }
        if (s->size[0] + s->size[1] > s->max)
                s->max = s->size[0] + s->size[1]; /* output_max was lowered meanwhile */
        *out = s;
        return 0;
}

void spool_keep(struct spool *s) {
        s->kept = true;
}

/* Whether the order has to say that bytes of @stream come next. One stream alone needs no order. */
static bool is_turn(const struct spool *s, enum stream stream) {
        return s->n_turns > 0 ? s->turn.stream != stream : s->size[!stream] > 0;
}

/* Note it before the bytes: a turn without bytes does no harm. */
static int take_turn(struct spool *s, enum stream stream) {
        const struct turn first = { .stream = !stream };
        const struct turn turns[] = { first, { .before = { s->size[0], s->size[1] }, .stream = stream } };
        unsigned n = s->n_turns == 0 ? 2 : 1; /* the first is written with the second */
        int r;

        if (quota_room(s->quota) < n * sizeof(turns[0]))
                return -EDQUOT;

        r = open_file(s, FILE_ORDER);
        if (r == 0)
                r = append_at(s->files[FILE_ORDER].fd, turns + 2 - n, n * sizeof(turns[0]), s->n_turns * sizeof(turns[0]));
        if (r < 0)
                return r;
        s->n_turns += n;
        s->turn = turns[1];
        charge(s, n * sizeof(turns[0]));
        return 0;
}

/* As many bytes as the quota has room for. */
static int append(struct spool *s, enum stream stream, const void *data, size_t len) {
        int r = is_turn(s, stream) ? take_turn(s, stream) : 0;
        uint64_t room = quota_room(s->quota);
        size_t n = len < room ? len : room;

        if (r == 0 && n == 0)
                r = -EDQUOT;
        if (r == 0)
                r = open_file(s, stream);
        if (r == 0)
                r = append_at(s->files[stream].fd, data, n, s->size[stream]);
        if (r < 0)
                return r;
        s->size[stream] += n;
        s->written_wall_us[stream] = clock_read_us(CLOCK_REALTIME);
        charge(s, n);
        return n < len ? -EDQUOT : 0;
}

int spool_append(struct spool *s, enum stream stream, const void *data, size_t len) {
        uint64_t room = s->max - s->size[0] - s->size[1];
        size_t n = len < room ? len : room;
        int r;

        assert(!s->ended);
        r = n > 0 ? append(s, stream, data, n) : 0;
        return r == 0 && n < len ? -EFBIG : r;
}

void spool_end(struct spool *s) {
        s->ended = true;
        if (s->readers == 0)
                close_files(s);
}

void spool_open(struct spool *s) {
        s->readers++;
}

void spool_close(struct spool *s) {
        assert(s->readers > 0);
        if (--s->readers == 0 && s->ended)
                close_files(s);
}

uint64_t spool_size(const struct spool *s, enum view view) {
        return view == VIEW_OUTPUT ? s->size[0] + s->size[1] : s->size[view];
}

int64_t spool_written_wall_us(const struct spool *s, enum view view) {
        const int64_t *at = s->written_wall_us;

        return view != VIEW_OUTPUT ? at[view] : at[0] > at[1] ? at[0] : at[1];
}

static ssize_t read_stream(struct spool *s, int stream, uint64_t offset, void *data, size_t len) {
        int r;

        if (len > s->size[stream] - offset)
                len = s->size[stream] - offset;
        r = open_file(s, stream);
        if (r < 0)
                return r;
        return read_at(s->files[stream].fd, data, len, offset);
}

/* The number of the turn that holds the byte at @offset of the output. */
static int find_turn(struct spool *s, uint64_t offset, uint64_t *number) {
        uint64_t low = 0, high = s->n_turns - 1;
        struct turn turn;
        int r;

        while (low < high) {
                uint64_t middle = low + (high - low + 1) / 2;

                r = read_turn(s, middle, &turn);
                if (r < 0)
                        return r;
                if (turn.before[0] + turn.before[1] <= offset)
                        low = middle;
                else
                        high = middle - 1;
        }
        *number = low;
        return 0;
}

static ssize_t read_in_order(struct spool *s, uint64_t offset, char *data, size_t len) {
        uint64_t number;
        size_t done = 0;
        int r;

        r = find_turn(s, offset, &number);
        for (; r == 0 && done < len && number < s->n_turns; number++) {
                struct turn turn, after = { .before = { s->size[0], s->size[1] } };
                uint64_t start, end, skip;
                size_t want;
                ssize_t n;

                r = read_turn(s, number, &turn);
                if (r == 0 && number + 1 < s->n_turns)
                        r = read_turn(s, number + 1, &after);
                if (r < 0)
                        break;
                start = turn.before[turn.stream];
                end = after.before[turn.stream];
                skip = offset + done - turn.before[0] - turn.before[1];
                want = end - start - skip < len - done ? end - start - skip : len - done;
                if (want == 0)
                        continue;
                n = read_stream(s, turn.stream, start + skip, data + done, want);
                if (n < 0)
                        r = n;
                else if (n == 0)
                        r = -EIO;
                else
                        done += n;
                if (r == 0 && (size_t)n < want)
                        break;
        }
        return done > 0 ? (ssize_t)done : r;
}

ssize_t spool_read(struct spool *s, enum view view, uint64_t offset, void *data, size_t len) {
        if (s->readers == 0)
                return -EBADF;
        if (offset >= spool_size(s, view))
                return 0;
        if (view != VIEW_OUTPUT)
                return read_stream(s, (int)view, offset, data, len);
        if (s->n_turns > 0)
                return read_in_order(s, offset, data, len);
        return read_stream(s, s->size[STREAM_STDOUT] ? STREAM_STDOUT : STREAM_STDERR, offset, data, len);
}
