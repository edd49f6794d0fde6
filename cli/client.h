/* A connection to the gateway for one call at a time: MessagePack-RPC over nng REQ. REQ's own resending is off,
 * since it repeats writes behind the caller's back; this module repeats a call only when the call says that it may
 * be, under the same id. One thread. */
#pragma once

#include "libcommon/buffer.h"

#define CLIENT_ID_BYTES 16 /* of an id made here */

struct client;

struct client_call {
    struct slice method; /* str */
    struct slice params; /* one encoded MessagePack array */
    struct slice id;     /* empty: none */
    bool atomic;
    bool read_follower;
    bool repeatable; /* safe to send again after a lost connection: a read, or a write with an id */
    uint32_t
        timeout_ms; /* the gateway's deadline; the client waits a second longer, so that its answer comes first */
    uint64_t wait_ms; /* so long a blocking command waits besides */
};

/* Points into the client: good until its next call. */
struct client_reply {
    bool failed;       /* the gateway answered an error: code and text; else result */
    struct slice code; /* "WRONGTYPE" */
    struct slice text;
    struct slice result; /* one encoded MessagePack value */
};

/* Connects, once, and says why not: SK_OK, SK_ECONFIG (not an address), SK_ENET (refused or no answer within
 * `timeout_ms`), SK_ENOMEM; `text` then says what in words. Later losses are repaired in the background. */
int client_open(struct client **client, const char *address, uint32_t timeout_ms, char *text, size_t text_bytes);
void client_close(struct client *client); /* NULL is allowed */

/* SK_OK: an answer came. SK_ENET: it could not be sent, so nothing happened. SK_ETIMEDOUT: sent, and no answer
 * came or the connection broke: a write may have happened. SK_EPROTO: the answer is malformed. SK_ENOMEM. */
int client_call(struct client *client, const struct client_call *call, struct client_reply *reply);

/* `id` gets random bytes. */
void client_make_id(uint8_t id[CLIENT_ID_BYTES]);

struct mp_reader;

/* Reads `error, result`, which end a reply and make a pair of a batch's answer. SK_OK, SK_EPROTO. */
int client_read_answer(struct mp_reader *reader, struct client_reply *reply);

/* Reads `[1, msgid, error, result]`. SK_OK, SK_EPROTO; also for a reply to another msgid. */
int client_read_reply(struct slice message, uint64_t msgid, struct client_reply *reply);
