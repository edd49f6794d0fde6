/* A lane: one thread that alone touches everything of its shards, their log and their LMDB file; the shell around the
 * pure cores. Shard s lives in lane s mod L. Others reach it by its mailbox: frames of commands, maps, completions.
 *
 *   frame ──> append ──> [log: one write, one sync for all that gathered] ──> execute ──> answer
 *
 * A write is appended to the filling group of the log, becomes durable with it, is committed by the replication core,
 * executed in the order of the log, and answered. Reads execute at once on what has been executed. */
#pragma once

#include "libcommon/map.h"
#include "libcommon/metrics.h"
#include "shardd/frontend.h"
#include "shardd/peers.h"
#include "shardd/replica.h"
#include "shardd/verify_stats.h"

struct lane;

struct lane_options {
    const char *directory; /* the lane's own: log/, store/ and snapshots; borrowed for lane_open */
    uint32_t number, lane_count;
    uint64_t segment_bytes, memtable_bytes;
    uint64_t cache_bytes;            /* of records that reads have found in LMDB; 0: none */
    uint64_t map_bytes;              /* LMDB's map: addresses, not memory; the store cannot grow beyond */
    uint64_t checkpoint_interval_ms; /* a memtable that is not empty is checkpointed after this */
    uint32_t sync_interval_ms;       /* 0: durable before acknowledged */
    uint32_t id_window_ms;           /* how long a client's `id` is remembered */
    uint64_t ids_max;                /* ids remembered per shard; beyond: OVERLOADED */
    uint64_t verify_interval_ms;     /* each shard led is verified so often; 0 = only when a person wants it */
    uint64_t log_keep_bytes;         /* of the log are kept for replicas that lag; beyond, they get a snapshot */
    struct replica_times times;
    struct frontend *frontend; /* borrowed: answers go there */
    struct peers *peers;       /* borrowed */
    /* The core of a shard asks metad for a change; it asks again. On the lane's thread. */
    void (*change_cb)(void *arg, uint32_t shard, const struct replica_change *change);
    /* The disk failed (R23): called once, on the lane's thread. */
    void (*failed_cb)(void *arg);
    void *arg;
};

enum lane_peer_news { LANE_PEER_UP, LANE_PEER_DOWN, LANE_PEER_ROOM };

/* For status and heartbeats. */
struct lane_stats {
    uint64_t shards, leading;
    uint64_t applied;   /* sum of the shards' applied indexes: replicas that are level have the same */
    uint64_t unapplied; /* entries in the log that are not executed yet */
    uint64_t behind;    /* entries that followers of the shards led here lack, summed over followers */
    uint64_t keys, expires, key_bytes, value_bytes, ids;
    uint64_t log_bytes, store_bytes, memtable_bytes;
    uint64_t reads, writes, syncs;
    uint64_t follower_reads; /* of the reads, those of shards that are not led here (R17) */
    uint64_t snapshot_bytes; /* of snapshots, received */
    bool disk_full, failed;
};

/* What one of its shards is doing. */
struct lane_shard_stats {
    uint32_t shard;
    enum replica_role role;
    uint64_t epoch, commit_index, applied_index, last_index;
    uint64_t behind;         /* entries that followers lack, if it leads */
    uint64_t garbage;        /* collections that are gone, and whose elements are not */
    uint32_t replicas, isr;  /* how many, by metad's record */
    bool in_sync;            /* this replica is one of these */
    bool alone;              /* leads, and nobody else could: it needs no lease */
    int64_t lease_margin_us; /* leads: so long it may still serve reads without hearing of the others */
};

/* The way of a write through the lane. */
enum lane_stage {
    LANE_STAGE_QUEUE,     /* its frame has come, until it is appended */
    LANE_STAGE_LOG,       /* until it is synced here */
    LANE_STAGE_REPLICATE, /* until every replica in sync has it, too */
    LANE_STAGE_EXECUTE,   /* until it is executed and answered */
    LANE_STAGES,
};

struct lane_metrics {
    struct metrics_histogram write[LANE_STAGES];
    struct metrics_histogram read; /* its frame has come, until it is executed */
};

/* Opens store and log, replays, and starts the thread; commands are refused with NOT_LEADER until the lane has been
 * identified and a map says that it leads. On an error `text` names file, offset and what is wrong; codes as store_open
 * and wal_open. */
int lane_open(struct lane **lane, const struct lane_options *options, char *text, size_t text_bytes);

/* Any thread. Which node of which start this is; once. */
int lane_identify(struct lane *lane, uint32_t node, uint64_t incarnation);

/* Any thread. A newer map; the lane takes a reference of its own. */
int lane_set_map(struct lane *lane, const struct map *map);

/* Any thread. Takes the caller's reference to the frame, also on SK_BUSY. */
int lane_post_frame(struct lane *lane, struct frame *frame);

/* Any thread. What comes from peers: a frame (takes the caller's reference); that a node is connected anew, is not any
 * more, or has room again. */
void lane_post_peer_frame(struct lane *lane, struct peer_frame *frame);
void lane_post_peer(struct lane *lane, uint32_t node, enum lane_peer_news news);

/* Any thread. */
void lane_stats(struct lane *lane, struct lane_stats *stats);

/* Any thread. */
void lane_verify_stats(struct lane *lane, struct verify_stats *stats);

/* Any thread. Of its shards, into `stats`, at most `most`; how many. They are at most 20 ms old if the lane works. */
size_t lane_shard_stats(struct lane *lane, struct lane_shard_stats *stats, size_t most);

/* Any thread, until lane_close. */
const struct lane_metrics *lane_metrics(const struct lane *lane);

/* Any thread. When the lane's thread was last seen to work, by CLOCK_BOOTTIME. */
uint64_t lane_seen_us(const struct lane *lane);

/* Finishes what is in the log's buffers, answers it, stops the thread, closes log and store. */
void lane_close(struct lane *lane);
