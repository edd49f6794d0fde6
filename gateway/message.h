/* A client's message, decoded and taken apart: which commands it holds, and for each the parts that go to shards.
 * Pure: bytes in, a description out, all of it in the request's arena or borrowed from the bytes. The bytes are
 * not trusted.
 *
 *   request = [0, msgid, method, params] or [0, msgid, method, params, options]
 *   options = {id: bin or str, timeout_ms: int, read: "leader" or "follower", atomic: bool, token: bin or str}
 *
 * A command over keys of one shard is one part whose body is the client's own bytes (method and params stand next
 * to each other there as they do in a frame). A split command over several shards gets a rebuilt body for each. */
#pragma once

#include "gateway/arena.h"
#include "gateway/list.h"
#include "libcommon/commands.h"
#include "libcommon/limits.h"
#include "libcommon/slot.h"

/* Parts of one message: bounds what a batch of commands to all shards can make the gateway do. */
#define MESSAGE_PARTS_MAX 65536u

struct node_client;
struct request;
struct tokens;

enum part_state {
    PART_NEW,     /* not routed yet */
    PART_WAITING, /* for a newer map, a connection or its next try: never sent, refused, or lost */
    PART_PENDING, /* in a node's queue */
    PART_SENT,    /* in a frame */
    PART_DONE,
};

/* What one command asks of one shard. */
struct part {
    /* by message_parse */
    struct slice body; /* method and params */
    uint32_t shard;
    uint32_t command; /* index in the message: the part of the client's id */
    uint8_t flags;    /* enum request_flags, but for REQUEST_WAITS, which each attempt decides */
    bool waits;       /* of a blocking command that may wait for something to take */

    /* by request.c */
    uint8_t state;        /* enum part_state */
    bool lost;            /* an attempt may have reached the shard without a definite answer (R9) */
    uint16_t backoff_ms;  /* before the next try */
    int err;              /* when done */
    struct slice result;  /* when done: the encoded value, or a text */
    uint64_t number;      /* 0 = none yet */
    uint64_t follows;     /* of a blocking command: the number that it has waited under before; 0 = none */
    uint64_t epoch;       /* of the newest attempt */
    uint64_t retry_at_ms; /* PART_WAITING */
    struct request *request;
    struct node_client *node; /* PART_PENDING, PART_SENT */
    struct link link;         /* in the node's queue or list of sent, or among those that wait */
    struct link write_link;   /* among the shard's writes that may still be sent again */
};

/* One command of a message. */
struct sub {
    const struct command *command; /* NULL: not valid, or an atomic batch as a whole */
    struct slice params;           /* the encoded array */
    struct part *parts;
    uint32_t part_count;
    uint32_t parts_left;
    uint32_t key_count;
    const uint32_t *key_parts; /* split over several shards: which part each key is in */
    bool answered;
    int err;             /* when answered; set by message_parse for what cannot be run */
    struct slice result; /* when answered: the encoded value, or a text */
};

struct message {
    uint64_t msgid; /* 0 when none could be read */
    bool batch;
    bool atomic;         /* then `subs` is one, with one part */
    bool follower_reads; /* asked for: what only reads is REQUEST_STALE */
    uint32_t timeout_ms; /* 0 = not given */
    uint64_t wait_ms;    /* of a blocking command, alone in its message; 0 = it does not wait */
    struct slice id;     /* empty = not given */
    struct sub *subs;
    uint32_t sub_count;
    uint32_t part_count;
    uint32_t key_count;
    const char *error; /* why message_parse refused, in the arena or static */
};

/* What parsing needs besides and keeps between messages: about 300 KiB. */
struct message_scratch;
int message_scratch_new(struct message_scratch **scratch); /* SK_ENOMEM */
void message_scratch_free(struct message_scratch *scratch);

/* `shard_count` is the map's, a power of two. `tokens`: one of them must be shown; NULL: none need be. SK_OK; or what the
 * whole message is answered: SK_NOAUTH (the token is missing or wrong, and nothing but the message's frame was looked
 * at), SK_BADREQUEST, SK_TOOLARGE, SK_CROSSSLOT (only atomic), SK_OVERLOADED (out of memory), with `error` set. A command
 * of a batch that cannot be run has its own error in its sub instead. */
int message_parse(struct message *message, struct slice bytes, uint32_t shard_count, const struct tokens *tokens,
                  struct arena *arena, struct message_scratch *scratch);
