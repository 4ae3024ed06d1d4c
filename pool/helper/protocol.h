/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The protocol between the daemon and the helper, the program inside a sandbox: frames, and how to encode and decode
 * them. Both ends use this file, and it needs nothing but libc.
 *
 * A frame is a head of four bytes, then fields of fixed size, then data:
 *
 *   u24  bytes that follow the head
 *   u8   type
 *   …    the fields of the type, in the order of the table in protocol.c, little-endian, without padding
 *   …    data, up to the end of the frame
 *
 * Frames travel over a carrier, a stream of bytes in both directions, which may break at any byte. What matters is
 * therefore numbered, by the offset of its first byte or by an order's number, and the receiver passes over what it
 * has already. A new carrier begins with HELLO, which the helper answers with WELCOME and one JOB for each job that it
 * has. From then on both ends know what the other lacks.
 *
 * The helper accepts one carrier, the newest. Carriers are compared by epoch, then by number. A HELLO that is higher
 * than the present carrier's closes that one, and bytes of it that were not read are lost. Any other HELLO is answered
 * with STALE. So is the carrier that is closed, so that its daemon learns of the newer one.
 *
 * A job, as the daemon's end sees it (client.c); "→ X" is a frame that it sends, "X" one that it receives:
 *
 *   state      on                          to         does
 *   --------   -------------------------   --------   ---------------------------------------------------------
 *   (none)     client_job_start()          STARTING   → START, → SPEC until all strings are sent
 *   STARTING   JOB: receiving              STARTING   goes on with SPEC at the offset that the helper wants
 *   STARTING   JOB: running                RUNNING    event started
 *   STARTING   WELCOME, then no JOB        STARTING   → START again, from the first byte
 *   RUNNING    WELCOME, then no JOB        (none)     event ended: lost
 *   RUNNING    OUTPUT                      RUNNING    event output, unless it has the bytes
 *   any        OUTPUT, ENDED behind a gap  same       first event missed: an earlier run has acknowledged what is not there
 *   any        ENDED                       ENDED      event ended, once all output is there
 *   ENDED      client_job_forget()         (none)     → FORGET
 *   (none)     JOB, OUTPUT                 (none)     → KILL: nobody wants the job any more
 *   (none)     ENDED                       (none)     → FORGET
 *   any        a new carrier               same       → ACK, and the orders that no JOB has confirmed
 *
 * The same, as the helper sees it (agent/jobs.c):
 *
 *   state      on                          to         does
 *   --------   -------------------------   --------   ---------------------------------------------------------
 *   (none)     START                       RECEIVING  keeps the strings; → JOB where they are not complete
 *   RECEIVING  SPEC                        RECEIVING  keeps more of them
 *   RECEIVING  the strings are complete    STARTING   once no job is being killed: nothing of one is seen by the next
 *   any other  START, SPEC                 same       nothing: the daemon could not know; → JOB
 *   STARTING   the shell runs              RUNNING    → JOB
 *   STARTING   it cannot be started        ENDED      → ENDED
 *   RUNNING    the shell ends              DRAINING   reads what output there is
 *   DRAINING   all output is read          ENDED      → ENDED, behind the last OUTPUT
 *   RUNNING…   SIGNAL, KILL, RESIZE        same       does it, unless it has that number already; → JOB
 *   RUNNING…   INPUT                       same       keeps the bytes; → JOB, and again when more may be sent
 *   any        ACK                         same       drops what is acknowledged
 *   ENDED      FORGET                      (none)     drops the job; its id is then unknown
 *   any        HELLO                       same       → JOB; OUTPUT from the first byte that is not acknowledged; ENDED
 *
 * A channel is a stream of bytes in both directions, between the daemon and something inside: a connection to a port, or a
 * watch of files, which has one direction only. The daemon numbers channels, from 1, and uses no number twice in an epoch.
 * Each end keeps what it sends until the other says that it has it, and sends nothing beyond the other's limit (flow.h). As
 * the daemon's end sees it (client-channel.c):
 *
 *   state      on                          to         does
 *   --------   -------------------------   --------   ---------------------------------------------------------
 *   (none)     client_channel_open()       OPENING    → OPEN
 *   OPENING    OPENED                      OPEN
 *   OPEN       DATA                        OPEN       keeps it; → WINDOW as its owner reads
 *   OPENING…   RESET                       BROKEN     gives its owner the error behind the last byte
 *   any        client_channel_close()      CLOSING    → DATA until all is sent, → CLOSE
 *   CLOSING    DATA, OPENED, RESET         CLOSING    nothing
 *   CLOSING    CLOSED                      (none)
 *   any        a new carrier               same       → OPEN with RESUME, → WINDOW, → DATA from what it has not, → CLOSE
 *
 * The same, as the helper sees it (agent/channels.c):
 *
 *   state      on                          to         does
 *   --------   -------------------------   --------   ---------------------------------------------------------
 *   (none)     OPEN                        OPENING    connects, or begins to watch
 *   (none)     OPEN with RESUME            OVER       → RESET
 *   OPENING    it is there                 OPEN       → OPENED
 *   OPENING    it fails                    OVER       → RESET
 *   OPEN       DATA                        OPEN       hands it on; → WINDOW as the other side takes it
 *   OPEN       the other side breaks       OVER       → DATA until all is sent, → RESET
 *   any        OPEN                        same       → OPENED or RESET; → DATA from the first byte that is not acknowledged
 *   any        CLOSE                       CLOSING    hands on what it has
 *   CLOSING    all is handed on, or late   (none)     → CLOSED
 *   (none)     CLOSE                       (none)     → CLOSED
 *   any        HELLO of a new epoch        (none)
 *   any        a CLEAN begins              OVER       → RESET
 *
 * A request is answered by a REPLY with its kind and number. PING is lost with its carrier. The others take time and are
 * done once: the daemon asks again over each new carrier, with the same number, until it has the answer. The helper
 * goes on with what it is doing under that number and epoch, and keeps its last answer of each kind. Another number, or
 * a new epoch, asks for the same work once more. Numbers begin with 1.
 *
 * A CALL is about the files of the sandbox (file-call.h), and is answered by an ANSWER with its number, in any order. It
 * is done once. The daemon numbers its calls from 1 on, without a gap, in each epoch. It sends number N once it has the
 * answers of all up to N - HELPER_CALLS_MAX: so the helper has a place for each call that has no answer yet, and keeps
 * its answer there until that place is taken by a later one. Over a new carrier the daemon sends the calls without an
 * answer again. A call, as the helper sees it (agent/files/files.c):
 *
 *   state      on                          to         does
 *   --------   -------------------------   --------   ---------------------------------------------------------
 *   (none)     CALL                        WAITING    gives it to the process that looks after files
 *   WAITING    that process has done it    DONE       → ANSWER, if this carrier has asked
 *   WAITING    that process is gone        DONE       → ANSWER: EIO; the call may have been done
 *   WAITING    CALL again                  WAITING    this carrier has asked
 *   DONE       CALL again                  DONE       → ANSWER, the same
 *   DONE       CALL of a later number      WAITING    the place is that call's
 *   any        a new carrier               same       it has not asked
 *   any        CLEAN, or another epoch     (none)     all files are closed, and all answers dropped
 *
 * Texts of the helper are for people. Whoever is inside may have written them.
 *
 * Whatever is sent that this does not allow ends the carrier: the helper says why with ERROR, the daemon with an event.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pool/helper/limits.h"

/*
 * HELLO names the newest and the oldest version that the daemon speaks. The helper answers with the newest that both speak.
 * Version 2 has CALL, version 3 has channels.
 */
#define PROTOCOL_VERSION 3
#define PROTOCOL_OLDEST 1
#define PROTOCOL_CHANNELS 3
#define HELPER_KEY_SIZE 16
#define HELPER_JOB_SIZE 16 /* of a job's id, which the daemon chooses and never uses twice */

enum frame_type {
        /* From the daemon. */
        FRAME_HELLO = 1, /* version, oldest version, key, epoch, carrier; data: name of the pool */
        FRAME_START,     /* a job: how to run it, length of its strings; data: the first of them */
        FRAME_SPEC,      /* more of the strings, from an offset */
        FRAME_INPUT,     /* bytes of standard input, from an offset; "end" says that these are the last */
        FRAME_ACK,       /* bytes of each stream that the daemon has for good, and how many more may be under way */
        FRAME_SIGNAL,    /* an order: to every process of the job */
        FRAME_KILL,      /* an order: TERM to every process, and KILL after a grace; KILL at once with 0 */
        FRAME_RESIZE,    /* an order: size of the terminal */
        FRAME_FORGET,    /* the job, which has ended */
        FRAME_REQUEST,   /* something else, by kind and number; answered by REPLY */

        /* From the helper. */
        FRAME_WELCOME, /* version in use, epoch, carrier, how many JOB frames follow */
        FRAME_STALE,   /* there is a newer carrier: this one */
        FRAME_JOB,     /* what the helper has of a job: state, strings, input and how far it may be sent, last order, flags */
        FRAME_OUTPUT,  /* bytes of a stream, from an offset, in the order in which the helper read them */
        FRAME_ENDED,   /* how the job ended, and how many bytes each stream has; data: text, for people */
        FRAME_REPLY,   /* to a request: its kind and number, errno, data */
        FRAME_REFUSED, /* how many carriers have come with a wrong key */
        FRAME_ERROR,   /* the helper closes the carrier; data: why */

        FRAME_CALL = 64, /* from the daemon: about files, by its number; data: file-call.h */
        FRAME_ANSWER,    /* from the helper: to a CALL, its number and errno; data: file-call.h */

        /* Channels. From the daemon, */
        FRAME_OPEN = 96, /* a channel: its kind, flags, port, bytes of both windows; data: strings, see enum channel_kind */
        FRAME_CLOSE,     /* its owner is gone: nothing is read any more, and what was sent is handed on */
        /* from either, */
        FRAME_DATA,   /* bytes of a channel, from an offset; "end" says that these are the last */
        FRAME_WINDOW, /* the bytes before an offset are there; those before a limit may be sent */
        /* and from the helper. */
        FRAME_OPENED,
        FRAME_RESET,  /* it is over, for this errno; behind the last DATA */
        FRAME_CLOSED, /* the answer to CLOSE */
};
#define FRAME_N_TYPES 128

enum {
        START_FRESH = 1,    /* first empty the workdir of whatever is there */
        START_INPUT = 2,    /* INPUT follows; else standard input is /dev/null */
        START_TERMINAL = 4, /* on a pseudo-terminal of that size; all output is stdout, input is its keyboard */
        START_FLAGS = START_FRESH | START_INPUT | START_TERMINAL,
};

/* Flags of JOB. */
enum {
        JOB_INPUT_CLOSED = 1, /* nobody reads its input any more: what is sent is dropped */
};

enum channel_kind {
        CHANNEL_PORT,  /* a connection to the port of 127.0.0.1, else of ::1 */
        CHANNEL_WATCH, /* lines about what changes (agent/watcher.h); data: workdir, path, each with a final NUL */
};
#define CHANNEL_N_KINDS (CHANNEL_WATCH + 1)

/* Flags of OPEN. */
enum {
        CHANNEL_RESUME = 1,    /* it was opened: it is not to be opened again */
        CHANNEL_RECURSIVE = 2, /* a watch of all below a directory */
        CHANNEL_FLAGS = CHANNEL_RESUME | CHANNEL_RECURSIVE,
};

enum helper_job_state {
        HELPER_JOB_RECEIVING,
        HELPER_JOB_STARTING,
        HELPER_JOB_RUNNING,
        HELPER_JOB_DRAINING,
        HELPER_JOB_ENDED,
};
#define HELPER_JOB_N_STATES (HELPER_JOB_ENDED + 1)

enum helper_end {
        HELPER_END_EXIT,    /* value is the exit code */
        HELPER_END_SIGNAL,  /* value is the signal */
        HELPER_END_TIMEOUT, /* its time was over, and its processes were ended */
        HELPER_END_CWD,     /* it never ran: the text says which directory is not there */
        HELPER_END_USER,    /* it never ran: there is no such user */
        HELPER_END_FAILED,  /* it never ran: value is an errno, and the text says what failed */
        HELPER_END_UNKNOWN, /* it ran, and its end cannot be known: what looked after it is gone */
};
#define HELPER_END_N (HELPER_END_UNKNOWN + 1)

enum helper_request {
        HELPER_PING,  /* answered at once, after the JOB of each job whose state has changed */
        HELPER_CLEAN, /* ends and removes what a lease has left; data: strings; data of the answer: text, what is left */
        HELPER_NOTE,  /* notes how the sandbox is, for a CLEAN to compare with; data: strings; of the answer: text */
};
#define HELPER_N_REQUESTS (HELPER_NOTE + 1)

/*
 * CLEAN ends all jobs, and every process below the helper, with KILL. It removes the workdir, empties some directories,
 * and checks that a file can be written in the workdir and in the first of those. It follows no link that is younger
 * than the helper, and enters nothing that is mounted. Afterwards the workdir is not there.
 *
 * With COMPARE it goes on: whatever was added since the NOTE is removed, and the times of directories are set back. If
 * anything else is not as it was, the answer is ESTALE, and its data are strings, each with a final NUL: the first paths
 * of what was changed or may have been; "DIRECTORY/" where something of that is gone. agent/manifest.h says what is
 * noticed.
 *
 * NOTE is for a sandbox in which no job has run yet. It runs with low priority, and a CLEAN that comes before it is done
 * ends it: then its answer is ECANCELED, and there is no note.
 *
 * The strings of both, each with a final NUL: workdir ("": none; so in NOTE), the directories to be emptied, and behind
 * one that is "" the paths that are not watched. With COMPARE the lists have to be those of the NOTE. All are absolute;
 * where the sandbox is only a directory (serve -r), they lie in there, and it cannot be noted.
 */
enum {
        /*
         * All of the sandbox is the helper's: ends, unmounts and frees whatever is younger than it. Not where it is only a
         * directory.
         */
        CLEAN_SANDBOX = 1,
        CLEAN_COMPARE = 2, /* only with SANDBOX */
        CLEAN_FLAGS = CLEAN_SANDBOX | CLEAN_COMPARE,
};

/*
 * One frame of any type. Those members count that the table gives its type; the others are 0 after decoding. @data is
 * borrowed: of the decoder until it is asked for the next frame.
 */
struct frame {
        enum frame_type type;
        uint8_t job[HELPER_JOB_SIZE], key[HELPER_KEY_SIZE];
        uint64_t epoch, carrier;
        uint64_t offset;     /* of the first byte of data */
        uint64_t streams[2]; /* bytes of stdout and of stderr */
        uint64_t limit;      /* INPUT may be sent up to this offset */
        uint64_t timeout_us; /* 0: none */
        uint64_t grace_us;
        uint64_t ran_us; /* from the start of the shell to its end */
        uint64_t request;
        uint32_t version, oldest;
        uint32_t spec_len; /* JOB: how many bytes of it are there */
        uint32_t n_env;
        uint32_t order;  /* orders of a job are numbered from 1; JOB: the last that was done */
        uint32_t window; /* bytes of output that may be under way without an acknowledgement */
        uint32_t count;
        uint32_t value;
        uint32_t channel;
        uint16_t rows, columns;
        uint16_t port;
        uint8_t flags, stream, end, state, how, signo;
        uint8_t kind; /* of a request; of a channel */
        const uint8_t *data;
        size_t len;
};

/*
 * The strings of a job, each with a final NUL: shell ("": bash where there is one, else sh), workdir (absolute), cwd
 * (absolute, or relative to the workdir; "": the workdir), user (a name or a number; "": as the helper), n_env times
 * KEY=VALUE, command.
 */
#define HELPER_SPEC_STRINGS 5 /* besides the variables */

#define FRAME_HEAD 4
#define FRAME_MAX (FRAME_HEAD + 104 + HELPER_DATA_MAX) /* bytes of any frame; the fields of none need more than 104 */

/* The name of a type, for logs: "START". */
const char *frame_name(enum frame_type type);

/* Bytes of a frame of that type with @len bytes of data. */
size_t frame_size(enum frame_type type, size_t len);

/* The most bytes of data that a frame of that type may have. */
size_t frame_data_max(enum frame_type type);

/* Writes the frame to @out, which has room for frame_size(). Returns that size. A field out of range is our mistake. */
size_t frame_encode(const struct frame *f, uint8_t *out);

/* Who sends what a decoder reads. */
enum frame_sender {
        FRAME_OF_DAEMON,
        FRAME_OF_HELPER,
        FRAME_OF_EITHER, /* of types only */
};

/*
 * Takes frames out of a stream that comes in pieces. As large as the largest frame and one read more; it allocates
 * nothing. Put bytes where decoder_room() says, tell how many with decoder_add(), then take frames with
 * decoder_next() until it gives 0.
 */
struct decoder {
        enum frame_sender from;
        size_t start, len; /* of the bytes in buffer that are not yet taken */
        uint8_t buffer[2 * FRAME_MAX];
};

void decoder_init(struct decoder *d, enum frame_sender from);

/* Where the next bytes go; there is always room for one at least, once decoder_next() has given 0. */
uint8_t *decoder_room(struct decoder *d, size_t *len);
void decoder_add(struct decoder *d, size_t len);

/* No part of a frame waits for the rest. */
static inline bool decoder_is_empty(const struct decoder *d) {
        return d->len == 0;
}

/* 1: there is a frame in @f. 0: there is no whole one. -EPROTO: the bytes are no frame that this end may be sent. */
int decoder_next(struct decoder *d, struct frame *f);

/*
 * The next string of a block of them that begins at *@next and ends at @end, and *@next behind it. NULL where there is
 * none whole.
 */
const char *spec_string(const char **next, const char *end);
