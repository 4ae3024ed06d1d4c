/* SPDX-License-Identifier: MIT */
#pragma once

/* The maximum of everything that can grow, and every fixed time. */

#include <stdint.h>

#include "pool/util/clock.h"

#define NAME_LEN_MAX 200                            /* bytes of a lease's name */
#define LEASES_MAX 1000000                          /* the most that max_leases= takes */
#define ENVIRONMENTS_MAX 100000                     /* the most that max= takes */
#define COMMAND_SIZE_MAX (UINT64_C(16) << 20)       /* bytes of one command */
#define INPUT_SIZE_MAX (UINT64_C(1) << 30)          /* bytes of standard input for one job */
#define SETTING_SIZE_MAX (64 << 10)                 /* bytes of cwd or of env */
#define QUEUE_MAX 64                                /* jobs that wait in one lease */
#define JOB_NUMBER_MAX ((UINT32_C(1) << 24) - 1)    /* jobs of one lease: what a node number holds */
#define LEASE_SERIAL_MAX ((UINT64_C(1) << 34) - 1)  /* leases of one mount: what a node number holds */
#define EVENTS_MAX 4096                             /* lines kept in .pool/events */
#define EVENT_LEN_MAX 2048                          /* bytes of one */
#define TEXT_FILE_MAX (UINT64_C(64) << 20)          /* bytes of a rendered file */
#define CREATES_MAX 1000                            /* the most that creates= takes */
#define LISTED_NAMED_MAX 10                         /* sandboxes of a listing that the log names, of each kind */
#define PROBES_AT_ONCE 8                            /* idle environments that are asked whether they work */

#define CLEAN_TIMEOUT_US (60 * USEC_PER_SEC)        /* then the environment is destroyed instead */
#define START_TIMEOUT_US (120 * USEC_PER_SEC)      /* a job handed over that has not begun by then is lost with its environment */
#define KILL_TIMEOUT_US (60 * USEC_PER_SEC)         /* likewise one that was killed: over Modal a kill waits its turn */
#define EXEC_POLL_TIMEOUT_US (60 * USEC_PER_SEC)    /* likewise one whose time is up, and whose backend does not say whether it runs */
#define EXEC_POLL_AGAIN_US (USEC_PER_SEC / 10)      /* before that is asked again, when it could not be */
#define STARVED_AGAIN_US (USEC_PER_SEC / 10)        /* before jobs that this machine had no descriptors for are tried again … */
#define STARVED_WARN_EVERY_US (60 * USEC_PER_SEC)   /* between words about it in the log */
#define STARVED_TRIES 8                             /* … until so many in a row still have none */
#define ORPHAN_GRACE_US (60 * USEC_PER_SEC)         /* a sandbox made since the start that is not in the books is ended from this age on */
#define TERMINATED_MAX 4096                         /* environments that are remembered for ORPHAN_GRACE_US after their end */
#define ORPHAN_INTERVAL_US (600 * USEC_PER_SEC)     /* between looks for such */
#define START_QUIET_US USEC_PER_SEC                  /* what takes longer at the start is spoken of */
#define STOP_MARGIN_US (5 * USEC_PER_SEC)            /* that a service manager is asked for beyond stop_timeout */
#define LAG_SLOW_US (USEC_PER_SEC / 10)             /* a turn of the loop that is counted as slow … */
#define LAG_STALL_US USEC_PER_SEC                   /* … and one that the log is told of, … */
#define LAG_WARN_EVERY_US (60 * USEC_PER_SEC)       /* … at most so often */
#define BACKOFF_MIN_US (USEC_PER_SEC / 2)           /* between failed creates, doubling … */
#define BACKOFF_MAX_US (30 * USEC_PER_SEC)          /* … up to this */
#define BREAKER_ERRORS 3                            /* creates refused for good in a row: then there are no more … */
#define BREAKER_PAUSE_US (30 * USEC_PER_SEC)        /* … for so long, and then one to see */
#define PROBE_TIMEOUT_MIN_US (USEC_PER_SEC / 10)    /* the least that probe_timeout= takes */

/* Modal */
#define MODAL_LIFETIME_MAX 86400                    /* seconds that a sandbox may live */
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
#define LISTED_MAX 1000000                          /* sandboxes in one listing */
#define FOUND_SIZE_MAX (16 << 10)                   /* bytes of the ids of those that one create made */
#define LOOKS_MAX 32                                /* sandboxes whose end is waited for at one time */
#define CALL_COUNTS_MAX 320                         /* kinds of ended calls: 18 methods, each with 17 statuses */

#define CALL_TIMEOUT_US (10 * USEC_PER_SEC)         /* one try of a short call */
#define CALL_TRIES 3                                /* after the first */
#define CALL_DELAY_MIN_US (USEC_PER_SEC / 10)       /* between tries, doubling … */
#define CALL_DELAY_MAX_US USEC_PER_SEC              /* … up to this */
#define ROUTER_DELAY_MIN_US (USEC_PER_SEC / 100)
#define ROUTER_DELAY_MAX_US (2 * USEC_PER_SEC)
#define POLL_TIMEOUT_US (25 * USEC_PER_SEC)         /* a call whose answer the server holds back */
#define STREAM_RENEW_US (120 * USEC_PER_SEC)        /* an output stream is asked for anew */
#define STREAM_GOOD_US (10 * USEC_PER_SEC)          /* one that was open so long was in order */
#define ACCESS_PATIENCE_US (30 * USEC_PER_SEC)      /* for access to a router */
#define START_PATIENCE_US (120 * USEC_PER_SEC)      /* for the start of a command */
#define RUN_PATIENCE_US (120 * USEC_PER_SEC)        /* for a router that is gone while a command runs */
#define CREATE_PATIENCE_US (300 * USEC_PER_SEC)     /* for a sandbox to come up */
#define DESTROY_PATIENCE_US (12 * USEC_PER_SEC)     /* to end one with Modal; less than stop_timeout */
#define BUILD_PATIENCE_US (120 * USEC_PER_SEC)      /* for the next sign of an image build */
#define LOOK_INTERVAL_MS 45000                      /* then it is asked again whether a sandbox runs, when that failed */
#define RIDDLE_US (2 * USEC_PER_SEC)                /* what a router is asked that should not know the answer */
#define JWT_MARGIN_US (30 * USEC_PER_SEC)           /* a router's token is renewed so long before its end */
#define ASK_AGAIN_MS 500                            /* when an answer says that a command has not ended */
#define PROOF_TIMEOUT_US (5 * USEC_PER_SEC)         /* for an answer over a connection that should work */
#define SILENCE_MS 1000                             /* of an output stream after the command's end … */
#define SILENCES_MAX 3                              /* … until it is believed */
