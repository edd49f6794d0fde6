/* The way of a snapshot's file from a leader to a follower: who says what next, and what it means. Pure, on a lane's
 * thread; the caller reads and writes the files, sends the items (shardd/peer_wire.h) and tells the time. The bytes mean
 * nothing here: shardd/snapshot_file checks them.
 *
 *   sender                                         receiver
 *     BEGIN transfer, total bytes    ───────>      a new file
 *                                    <───────      TAKEN written, from    go on from there
 *     PIECE offset, bytes            ───────>      written in order
 *                                    <───────      TAKEN written          so far
 *                                    <───────      TAKEN written, from    what follows is missing
 *                                    <───────      TAKEN: done, or refused
 *
 * At most SNAPSHOT_WINDOW_BYTES are under way. A connection that breaks loses what is under way (docs/replication.md, R27);
 * the sender then begins the same transfer again and waits to be told from where. So it does when it has not been answered
 * for a while: the items keep their order, so what has not come before a second BEGIN is lost. Of two transfers the one of
 * the higher epoch counts, within an epoch (one leader, one process: R6) the later; what belongs to another is dropped (R1). */
#pragma once

#include "libcommon/slice.h"

#define SNAPSHOT_PIECE_BYTES  (128u * 1024)
#define SNAPSHOT_WINDOW_BYTES (4u * 1024 * 1024) /* of the file, sent and not written there yet */

/* Which transfer an item belongs to. */
struct snapshot_transfer {
    uint32_t shard;
    uint64_t replica_id; /* the follower's stay */
    uint64_t epoch;      /* of the leader that sends */
    uint64_t number;     /* grows within an epoch */
};

struct snapshot_begin {
    struct snapshot_transfer transfer;
    uint64_t total_bytes;                  /* of the file, at least 1 */
    uint64_t applied_index, applied_epoch; /* what the snapshot holds */
};

struct snapshot_piece {
    struct snapshot_transfer transfer;
    uint64_t offset;
    struct slice bytes; /* 1 to SNAPSHOT_PIECE_BYTES */
};

enum snapshot_answer {
    SNAPSHOT_GOES_ON,
    SNAPSHOT_FROM,    /* go on from there */
    SNAPSHOT_DONE,    /* all is written */
    SNAPSHOT_REFUSED, /* it will not be */
};

struct snapshot_taken {
    struct snapshot_transfer transfer;
    uint64_t written; /* bytes of the file */
    uint64_t from;    /* FROM: go on at this offset; else 0 */
    enum snapshot_answer answer;
};

struct snapshot_times {
    uint64_t retry_us;   /* what was not answered is asked again */
    uint64_t give_up_us; /* a side that has heard nothing for so long gives up */
};

/* ---- the leader's side ---- */

enum snapshot_sender_state {
    SNAPSHOT_SENDING,
    SNAPSHOT_SENT,   /* all of it is written there */
    SNAPSHOT_FAILED, /* refused, or nobody answers */
};

struct snapshot_sender {
    struct snapshot_begin begin;
    struct snapshot_times times;
    enum snapshot_sender_state state;
    bool begin_due;
    bool from_awaited; /* BEGIN went; pieces only when it is answered */
    uint64_t next;     /* offset of the next piece */
    uint64_t taken;    /* written there */
    uint64_t heard_us; /* an answer came */
    uint64_t asked_us; /* the later of that and of BEGIN's sending */
};

void snapshot_sender_init(struct snapshot_sender *sender, const struct snapshot_begin *begin,
                          const struct snapshot_times *times, uint64_t now_us);

enum snapshot_send { SNAPSHOT_SEND_NOTHING, SNAPSHOT_SEND_BEGIN, SNAPSHOT_SEND_PIECE };

/* A piece of the file to be read and sent. */
struct snapshot_extent {
    uint64_t offset;
    uint32_t bytes;
};

/* What is to be sent now, if there is room for so many bytes to the peer; to be called until it says NOTHING. BEGIN: send
 * `sender->begin`. PIECE: send `extent` of the file. It counts as sent. */
enum snapshot_send snapshot_sender_next(struct snapshot_sender *sender, size_t room, uint64_t now_us,
                                        struct snapshot_extent *extent);

/* An answer came. What belongs to another transfer or makes no sense is ignored. A transfer that was SENT may still be
 * refused. */
void snapshot_sender_on_taken(struct snapshot_sender *sender, const struct snapshot_taken *taken, uint64_t now_us);

/* A new connection to the peer: what was under way may be lost. */
void snapshot_sender_on_reconnect(struct snapshot_sender *sender);

/* Time passes: asks again, gives up. */
void snapshot_sender_tick(struct snapshot_sender *sender, uint64_t now_us);

/* ---- the follower's side ---- */

enum snapshot_receiver_state {
    SNAPSHOT_IDLE, /* nothing has come yet */
    SNAPSHOT_RECEIVING,
    SNAPSHOT_COMPLETE, /* all of it is written */
    SNAPSHOT_ENDED,    /* refused or given up */
};

/* All zero is one that has received nothing and never gives up. */
struct snapshot_receiver {
    struct snapshot_begin begin; /* of the newest transfer */
    struct snapshot_times times;
    enum snapshot_receiver_state state;
    uint64_t accepted; /* handed to the caller to write */
    uint64_t written;  /* and written */
    uint64_t told;     /* what the sender was told of it */
    bool end_due;      /* that the transfer has ended is to be told */
    bool from_due;     /* FROM is to be told: BEGIN came, or something is missing */
    uint64_t from_at;  /* `accepted` when it was told last, */
    uint64_t from_us;  /* and the time; 0 = never */
    uint64_t heard_us; /* something of the transfer came */
};

void snapshot_receiver_init(struct snapshot_receiver *receiver, const struct snapshot_times *times);

/* True: a new transfer, so make its file anew, empty; what is being written of an earlier one is void. False: it was begun
 * before, or it is an old one. */
bool snapshot_receiver_on_begin(struct snapshot_receiver *receiver, const struct snapshot_begin *begin,
                                uint64_t now_us);

/* True: write it at its offset, then call snapshot_receiver_written. False: nothing to do. */
bool snapshot_receiver_on_piece(struct snapshot_receiver *receiver, const struct snapshot_piece *piece,
                                uint64_t now_us);

/* The next `bytes` of what was accepted are in the file. True: that was all of it. */
bool snapshot_receiver_written(struct snapshot_receiver *receiver, uint64_t bytes);

/* The newest transfer will not be installed (no space, the core refuses it, …): it has ended, and its sender is told. */
void snapshot_receiver_refuse(struct snapshot_receiver *receiver);

/* What is to be answered now, until it says nothing (false). At the end of a step and at a tick. It counts as told. */
bool snapshot_receiver_answer(struct snapshot_receiver *receiver, uint64_t now_us, struct snapshot_taken *taken);

/* Time passes. True: the sender is silent and the transfer has ended; remove its file. */
bool snapshot_receiver_tick(struct snapshot_receiver *receiver, uint64_t now_us);
