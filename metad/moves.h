/* Which replica goes where next (R19): nodes that are drained, removed or dead for long lose theirs to others; shards with
 * too few get one more; and what members of the cluster hold, and should lead, becomes even. One step at a time, of
 * `open_max` moves at most, not counting any that has long been ready and hangs: what is under way stands in the records of
 * the shards, so whoever leads metad goes on with it.
 * What is seen is noted by moves_watch, what follows is answered by moves_choose; both are functions of the catalog and of
 * the time, in milliseconds of CLOCK_BOOTTIME, that come in. One thread.
 *
 * It comes to rest: each move of a replica makes the sum of the squares of what the nodes hold smaller, and nothing that
 * is done for the spread of leaders changes that sum. */
#pragma once

#include "libcommon/limits.h"
#include "metad/catalog.h"

#define MOVES_AWAY_MS 30000u /* a move whose new replica is on a node that is dead for so long is cancelled, */
#define MOVES_IDLE_MS                                                                                             \
    600000u /* and one whose new replica neither joins nor receives anything for so long (R18), */
#define MOVES_ALONE_MS  30000u /* after which the shard is left alone for this long */
#define MOVES_SETTLE_MS 10000u /* a replica that is to go waits so long until the others are in sync */
#define MOVES_STALL_MS  1000u  /* not watched for so long, what was seen before proves nothing (R21) */
#define MOVES_WISHED_MS 30000u /* after a person's wish who leads what is left as it is for so long */

struct moves_shard {
    uint32_t to;        /* move_to as seen last */
    uint64_t began_ms;  /* when it was seen first, or outside the isr again, */
    uint64_t joined_ms; /* and when in the isr; 0 = it is not */
    uint64_t alone_until_ms;
};

/* Embedded; fields are private. */
struct moves {
    uint32_t open_max;
    uint64_t dead_after_ms;                    /* a node that is dead for so long loses its replicas */
    uint64_t watched_ms;                       /* the last time */
    uint64_t wished_ms;                        /* when a person has wished for a leader last; 0 = never */
    uint64_t received[MAP_NODES_MAX + 1];      /* by node id, of snapshots, as told last */
    uint64_t received_ms[MAP_NODES_MAX + 1];   /* when that was another figure than before; 0 = never */
    uint64_t dead_since_ms[MAP_NODES_MAX + 1]; /* by node id, as seen here; 0 = it is alive */
    struct moves_shard shards[SHARD_COUNT_MAX];
};

enum moves_kind {
    MOVES_START, /* COMMAND_MOVE_REPLICA */
    MOVES_FINISH,
    MOVES_CANCEL,
    MOVES_PREFER, /* COMMAND_WISH_LEADER, preferred: node `to` has the first place from now on */
};

/* What to propose. */
struct moves_step {
    enum moves_kind kind;
    uint32_t shard;
    uint64_t config_version;
    uint32_t from, to; /* nodes, as far as the kind names them; else 0 */
};

/* Nothing has been seen yet: a new leader of metad begins here. */
void moves_init(struct moves *moves, uint32_t open_max, uint64_t dead_after_ms, uint64_t now_ms);

/* How many bytes of snapshots the node says that it has received: while that changes, what it waits for makes progress. */
void moves_note_received(struct moves *moves, uint32_t node, uint64_t bytes, uint64_t now_ms);

/* A person has wished for a leader, and maybe will for the next in a moment: it is not undone under their hands. */
void moves_note_wish(struct moves *moves, uint64_t now_ms);

/* Notes who is dead and what moves. Call it more often than MOVES_STALL_MS. */
void moves_watch(struct moves *moves, const struct catalog *catalog, uint64_t now_ms);

/* The next step; false = none now. */
bool moves_choose(const struct moves *moves, const struct catalog *catalog, uint64_t now_ms,
                  struct moves_step *step);

/* Who stands first among the replicas when the shard's move is over: that node should lead. */
uint32_t moves_first_of(const struct map_shard *shard);
