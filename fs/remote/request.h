/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A request of the kernel that is answered by a call to the helper; see remote.h for its states.
 *
 * An operation fills one in on the stack and starts it. It holds references to its nodes, and copies of its names, until
 * it is answered.
 */

#include "fs/remote/tree.h"
#include "fs/request.h"

struct remote_request;

struct remote_op {
        struct request_kind kind;
        /* What to ask. Strings are good until the next call of anything. 0 or -errno. */
        int (*args)(struct remote_request *r, struct file_call_args *a);
        /* Take an answer. The result for the kind's succeed(), or -errno. */
        int64_t (*take)(struct remote_request *r, const uint8_t *data, size_t len);
        /* Take an errno; NULL: it is the result. */
        int64_t (*fail)(struct remote_request *r, int error);
        bool changes; /* the directories that it names: they are changed from now on, and the answer has their attributes */
};

struct remote_request {
        struct request request;
        struct remote_tree *tree; /* a reference */
        struct file_call call;
        struct list waiting;    /* in the tree's, while it waits for the environment */
        uint64_t renames;       /* of the tree, when the call was made */
        int64_t asked_us;       /* when it was made */
        struct remote_node *node, *node2; /* references, or NULL */
        char *name, *name2, *text; /* or NULL */
        struct remote_file *file;  /* borrowed: the kernel keeps it open */
        size_t text_len;
        uint32_t flags, mode, which;
        uint64_t offset, offset2, size, handle2;
        uid_t uid; /* of the caller */
        gid_t gid;
        struct file_time atime, mtime;

        /* The answer. */
        struct remote_node *made; /* a reference: of what was found or made; or NULL */
        char *reply;              /* bytes */
        size_t reply_len;
        struct statvfs space;
};

/* @n: a reference is taken. */
#define REMOTE_REQUEST_INIT(of_op, of_req, of_node) \
        { .request = REQUEST_INIT(&(of_op)->kind, of_req), .tree = remote_tree_ref((of_node)->tree), .node = remote_node_ref(of_node) }

/* Start it: it is answered now or later, and all that it holds is released then. */
void remote_start(struct remote_request *r);

/* Answer it now. */
void remote_answer(struct remote_request *r, int64_t result);

/* Attributes of a directory, at the end of an answer: they are known if there is nothing wrong with them. */
void remote_take_directory(struct remote_request *r, struct remote_node *dir, const uint8_t *data, size_t len);

/* For the kind of each. */
void remote_request_answered(struct request *r);
#define REMOTE_KIND(of_succeed) { .succeed = (of_succeed), .answered = remote_request_answered, .size = sizeof(struct remote_request) }

/* The environment is there, or there is another chance: those that wait are asked for. */
void remote_requests_retry(struct remote_tree *t);

/* A request that waits has no deadline before there is an environment. */
int64_t remote_deadline(const struct remote_tree *t);

/* What of a node goes into a call: its directory and its name there, or the handle of an open file. */
int remote_name_node(struct file_call_args *a, const struct remote_node *n);

/* The directory @dir with @name in it; and a second one. */
int remote_name_in(struct file_call_args *a, const struct remote_node *dir, const char *name);
int remote_name_second(struct file_call_args *a, const struct remote_node *dir, const char *name);
