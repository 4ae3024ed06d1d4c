/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time: the Modal backend. */

#include <stdint.h>

#include "pool/util/clock.h"

#define MODAL_LIFETIME_MAX 86400                    /* seconds that a sandbox may live */
#define DOMAIN_LEN_MAX 253                          /* characters of a name in the DNS, … */
#define LABEL_LEN_MAX 63                            /* … and of each of its parts */
#define MODAL_LIST_MAX 64                           /* secrets, volumes, regions or CIDRs */
#define DOCKERFILE_SIZE_MAX (256 << 10)             /* bytes */
#define TOML_FILE_MAX (1 << 20)                     /* bytes of ~/.modal.toml */
#define TOML_VALUE_MAX (64 << 10)                   /* bytes of one key or value */
#define TOML_DEPTH_MAX 32                           /* arrays and inline tables in one another */
#define MODAL_MESSAGE_MAX (4 << 20)                 /* bytes of one answer */
#define MODAL_OUTPUT_MAX (16 << 20)                 /* bytes of one message of an output stream */
#define MODAL_REQUEST_MAX (4 << 20)                 /* bytes of one request */
#define SCRIPT_SIZE_MAX (2 << 20)                   /* bytes of a script's arguments while they are put together */
#define ARGUMENTS_MAX 60000                         /* bytes of arguments; the router takes 65,536 */
#define INPUT_CHUNK (512 << 10)                     /* bytes of standard input in one request; 2 MiB are refused */
#define COMPLAINT_MAX 512                           /* bytes of stderr held back at the beginning */
#define PROBE_SIZE_MAX (32 << 10)                   /* bytes that the probe of a new sandbox may print */
#define SANDBOX_TOKEN_MAX (8 << 10)                 /* bytes of the token of a V2 sandbox */
#define SECRET_PART_MIN 4                           /* bytes of a secret at the end of a text that was cut */
#define LISTED_MAX 1000000                          /* sandboxes in one listing */
#define FOUND_SIZE_MAX (16 << 10)                   /* bytes of the ids of those that one create made */
#define LIVENESS_POLLS_MAX 32                       /* at one time */
#define CALL_COUNTS_MAX 476                         /* kinds of ended calls: 28 methods, each with 17 statuses */
#define END_COUNTS_MAX 64                           /* kinds of ends of sandboxes: causes with their exit codes */
#define WARNINGS_MAX 16                             /* warnings of Modal that are kept */
#define WARNINGS_NEW_MAX 32                         /* that are taken in an hour */
#define WARNING_READ_MAX 4096                       /* bytes of one that are looked at … */
#define WARNING_LEN_MAX 256                         /* … and kept, with the final NUL */

#define CALL_TIMEOUT_US (10 * USEC_PER_SEC)         /* one try of a short call */
#define CALL_TRIES 3                                /* after the first */
#define CALL_DELAY_MIN_US (USEC_PER_SEC / 10)       /* between tries, doubling … */
#define CALL_DELAY_MAX_US USEC_PER_SEC              /* … up to this */
#define ROUTER_DELAY_MIN_US (USEC_PER_SEC / 100)
#define ROUTER_DELAY_MAX_US (2 * USEC_PER_SEC)
#define POLL_TIMEOUT_US (25 * USEC_PER_SEC)         /* a call whose answer the server holds back */
#define STREAM_RENEW_US (120 * USEC_PER_SEC)        /* an output stream is asked for anew */
#define STREAM_GOOD_US (10 * USEC_PER_SEC)          /* one that was open so long was in order */
#define ACCESS_RETRY_US (30 * USEC_PER_SEC)         /* for access to a router */
#define START_RETRY_US (120 * USEC_PER_SEC)         /* for the start of a command */
#define RUN_RETRY_US (120 * USEC_PER_SEC)           /* for a router that is gone while a command runs */
#define LOOKUP_RETRY_US (300 * USEC_PER_SEC)        /* for the app, secrets and volumes, and lists of sandboxes */
#define ADOPT_RETRY_US (300 * USEC_PER_SEC)         /* for an answer of a sandbox of an earlier run */
#define DESTROY_RETRY_US (12 * USEC_PER_SEC)        /* to end one with Modal; less than stop_timeout */
#define BUILD_RETRY_US (120 * USEC_PER_SEC)         /* for the next sign of an image build */
#define SNAPSHOT_TIMEOUT_US (55 * USEC_PER_SEC)     /* for a snapshot; shorter than its environment would wait */
#define LIVENESS_RETRY_MS 45000                     /* when one failed */
#define CAUSE_WAIT_US (3 * USEC_PER_SEC)            /* for Modal to say why a sandbox has ended */
#define JWT_MARGIN_US (30 * USEC_PER_SEC)           /* a router's token is renewed so long before its end */
#define ASK_AGAIN_MS 500                            /* when an answer says that a command has not ended */
#define PROOF_TIMEOUT_US (5 * USEC_PER_SEC)         /* for an answer over a connection that should work */
#define SILENCE_MS 1000                             /* of an output stream after the command's end … */
#define SILENCES_MAX 3                              /* … until it is believed */
