/* One lane by itself, for a benchmark: thread, log, memtable, LMDB and commands are the product's, and nothing is around it. No
 * socket, no peer, no metad; one replica, which leads every shard alone. engine.c stands before shardd/frontend.c and
 * shardd/peers.c for the whole program: what a lane answers comes back here, and what it would send to peers goes nowhere.
 *
 * Like a gateway, the caller sends frames of commands, a few of them under way at a time. One thread calls. */
#pragma once

#include "libcommon/slice.h"

#include <stdbool.h>

struct engine;

struct engine_options {
    const char *directory; /* of the lane; made if missing. Borrowed for engine_open. */
    uint32_t shard_count;  /* fixed with the directory */
    uint64_t memtable_bytes, cache_bytes, checkpoint_interval_ms;
    uint64_t map_bytes;  /* of LMDB: addresses, not memory */
    uint32_t frames_max; /* under way at a time */
};

/* Returns when the lane leads all its shards. Codes and `text` as lane_open; SK_RETRY: it does not come to lead. */
int engine_open(struct engine **engine, const struct engine_options *options, char *text, size_t text_bytes);

/* Adds a command to the frame that is being put together: two MessagePack values, method and arguments, copied. */
void engine_add(struct engine *engine, struct slice key, bool is_write, struct slice body);

/* Sends that frame as soon as fewer than frames_max are under way. SK_OK; SK_ENOMEM; SK_EIO: the lane's disk has failed, and it
 * answers no more. */
int engine_send(struct engine *engine);

/* Waits until everything is answered. As engine_send. */
int engine_drain(struct engine *engine);

struct engine_counts {
    uint64_t answered; /* all */
    uint64_t missing;  /* of them nil */
    uint64_t refused;  /* of them with an error, */
    int refused_err;   /* the last of them */
};

/* Of what was answered so far, also while more is under way. */
struct engine_counts engine_counts(const struct engine *engine);

struct engine_state {
    uint64_t lane_cpu_us; /* processor time of the lane's thread; at most some 20 ms old */
    uint64_t memtable_bytes, store_bytes, log_bytes;
};

struct engine_state engine_state(struct engine *engine);

/* Waits until all that was written is in the store, or on its way there, by checkpoints whose time comes: after engine_drain. */
void engine_wait_for_checkpoint(struct engine *engine);

/* Ends the lane, with a checkpoint that is under way. */
void engine_close(struct engine *engine); /* NULL is allowed */
