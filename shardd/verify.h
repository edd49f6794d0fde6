/* Comparing the content of a shard's replicas: what they tell each other. The leader appends a marker to the log (WAL_VERIFY);
 * each replica that executes it begins a scrub of its content as of there (shardd/scrub.h). Once the leader's own is done it
 * asks the others of the in-sync set, again and again until each has told, and judges (shardd/verdict.h). So whatever is lost
 * on the way is asked for again, and who has lost its scrub says so. lane_verify.c does it. */
#pragma once

#include "libcommon/map.h"
#include "shardd/scrub.h"

/* Of a leader to a replica: what came of the marker? */
struct verify_question {
    uint32_t shard;
    uint64_t replica_id;   /* of who is asked */
    uint64_t epoch, index; /* of the marker */
};

enum verify_news {
    VERIFY_UNDER_WAY, /* or the marker is not executed yet */
    VERIFY_SUMMED,
    VERIFY_DAMAGED, /* a record cannot be read (R24) */
    VERIFY_DROPPED, /* the process, or the content by an install, is another than when the marker was executed */
};

/* An answer; or, unasked, `to` with epoch and index 0: DAMAGED, it executes nothing any more. */
struct verify_reply {
    struct verify_question to;
    enum verify_news news;
    struct scrub_sum sum; /* SUMMED */
};

/* What a replica of the in-sync set has told its leader of a marker. */
struct verify_told {
    uint32_t node;
    uint64_t replica_id;
    enum verify_news news;
    struct scrub_sum sum;
    uint64_t heard_us; /* when it told anything; before that, when it was first asked */
};

/* A replica that is to begin anew. Of the leader's there may be several, with one of those who may lead then each. */
struct verify_repair {
    struct map_replica wrong;
    struct map_replica successor; /* node 0: it is not the leader's */
};

/* Part of a shard; lane_verify.c's. */
struct verification {
    /* R24: executing an entry has met a record that cannot be read. Nothing more is executed; the leader is told, again and
     * again, until this replica's stay ends. */
    bool is_damaged;
    uint64_t damage_told_us;

    /* the last marker that was executed here, and its scrub */
    struct scrub *scrub; /* owned; NULL: there is none, or it was dropped */
    bool is_running;     /* it is in its lane's count of those that run */
    uint64_t scrub_epoch, scrub_index;
    uint64_t scrub_generation; /* the highest that a scrub of this replica was done for */

    /* as the leader */
    bool is_open; /* the marker at `index` of `epoch` is appended and not judged */
    uint64_t epoch, index;
    uint64_t generation; /* of the map when the marker was appended: judged, it counts for that */
    uint32_t told_count;
    struct verify_told told[MAP_REPLICAS_MAX];
    uint64_t done_generation; /* the highest that was completed here */
    uint64_t due_us;          /* when the next one begins in the background; 0 = not set */
    bool
        is_suspected; /* a read has met a record that cannot be read: the next one begins at once, and a follower is damaged */
    uint64_t again_us; /* not before */
    uint32_t repair_count;
    struct verify_repair repairs[MAP_REPLICAS_MAX];
    uint64_t repair_us; /* when they were asked for last */
};

/* What was found to be wrong. */
enum verify_fault {
    VERIFY_FAULT_DIFFERS,   /* the node's content is not what a majority has */
    VERIFY_FAULT_DAMAGED,   /* it has records that cannot be read */
    VERIFY_FAULT_UNDECIDED, /* contents differ and there is no majority; node 0 */
};

struct verify_finding {
    uint64_t generation, index;
    uint32_t shard, node;
    enum verify_fault fault;
};

const char *verify_fault_name(enum verify_fault fault);
