/* What a connection of the Redis protocol has of its own (its protocol, its proof, its name, a transaction), and what each
 * command means to it: a reply at once, or commands of the contract for the shards. Commands gather in a batch, which is
 * one message of the contract; what comes of it is told in their order. Pure but for the host's callbacks; one thread at
 * a time. */
#pragma once

#include "gateway/resp_reader.h"
#include "gateway/resp_reply.h"

#define RESP_NAME_BYTES 64u /* of a client's name, library and version, with a zero; longer ones are refused */

struct resp_session;
struct tokens;

/* Which connections CLIENT LIST and CLIENT KILL mean: those that fit all that is said. */
struct resp_choice {
    bool by_id;
    uint64_t id;
    struct slice address, local_address; /* "host:port"; empty: any */
    bool skip_self;
};

/* Of the door: what concerns other connections. */
struct resp_host {
    const struct tokens *tokens; /* borrowed; NULL: nobody has to show one */
    void *arg;
    /* Appends a line for each of the chosen connections; for `self` if `choice` is NULL. */
    void (*list_cb)(void *arg, const struct resp_session *self, const struct resp_choice *choice,
                    struct buffer *out);
    /* Closes them, `self` after its reply. How many they were. */
    uint32_t (*kill_cb)(void *arg, struct resp_session *self, const struct resp_choice *choice);
    /* Whether `self` may keep a command of so many bytes until EXEC. */
    bool (*has_room_cb)(void *arg, const struct resp_session *self, uint64_t bytes);
    /* Somebody has shown a wrong token, or none. */
    void (*unauthorized_cb)(void *arg);
};

enum resp_replies { REPLIES_ON, REPLIES_OFF, REPLIES_SKIP_NEXT, REPLIES_SKIP_THIS };

/* Commands behind MULTI. */
struct resp_transaction {
    bool open;
    bool aborted;           /* one of them was refused: EXEC is, too */
    struct buffer commands; /* those for shards, as [method, params] */
    struct buffer told;     /* private: what to make of the reply to each */
    struct buffer text;     /* replies that are known already */
    uint32_t count;         /* of all */
    uint32_t command_count; /* of those for shards */
    uint32_t words;         /* in these */
};

/* Embedded in a connection. */
struct resp_session {
    const struct resp_host *host; /* borrowed */
    uint64_t id;
    enum resp_protocol protocol;
    bool proven;
    bool closing; /* after the replies to what was taken so far */
    bool follower_reads;
    enum resp_replies replies;
    char name[RESP_NAME_BYTES], library[RESP_NAME_BYTES], version[RESP_NAME_BYTES];
    const struct command *last; /* NULL: none yet */

    struct resp_transaction transaction;
    struct buffer watched;  /* [key, version] */
    struct buffer watching; /* keys whose versions are asked for, as MessagePack */
    uint32_t watched_count;
};

/* What was taken and is not answered yet. Embedded in a connection. */
struct resp_batch {
    struct buffer message; /* of the contract, when it is sealed */
    struct buffer told;    /* private: what to make of the reply to each */
    struct buffer inner;   /* private: the same of what stands in transactions */
    struct buffer text;    /* replies that are known already, in their order */
    uint32_t commands;     /* in the message; 0: there is nothing to send */
    uint32_t words;        /* in these */
    uint32_t count;        /* of all that was taken */
    bool full;             /* large enough, or what comes next depends on its answer */
    bool only_reads;       /* its commands change nothing: what is left unanswered can be asked again */
};

void resp_session_init(struct resp_session *session, const struct resp_host *host, uint64_t id);
void resp_session_deinit(struct resp_session *session);
size_t resp_session_bytes(const struct resp_session *session); /* memory that it holds */

void resp_batch_init(struct resp_batch *batch);
void resp_batch_deinit(struct resp_batch *batch);
void resp_batch_clear(struct resp_batch *batch);
size_t resp_batch_bytes(const struct resp_batch *batch);

/* Takes a command into a batch that is not full. False, and it was not taken: the batch must be answered first. */
bool resp_session_take(struct resp_session *session, const struct resp_command *command, struct resp_batch *batch);

/* What could not be read is answered with this error ("": with nothing), and the session ends. */
void resp_session_break(struct resp_session *session, const char *error, struct resp_batch *batch);

/* The message of a batch with commands, [0, 0, "batch", …], or of a single command, valid until the batch is cleared; empty:
 * out of memory. */
struct slice resp_batch_seal(struct resp_batch *batch, bool follower_reads);

/* Appends the replies to all that the batch took; `reply` is the contract's, or empty where there was nothing to send.
 * SK_OK; SK_RETRY: the answers to all of them are too large for one reply, and the batch is now what is left of it, to
 * be sealed and sent again. SK_EPROTO: the reply does not fit the batch; SK_ENOMEM: then the connection is of no use any
 * more. */
int resp_session_answer(struct resp_session *session, struct resp_batch *batch, struct slice reply,
                        struct buffer *out);
