/* An even spread of leaders: placement gives each node the first place of its share of the shards, and after a failover the
 * leaders go back there. metad asks for it (a wish in the record, R20) when the one that should lead has been there for a
 * while, or at once where a move waits for the leader to go (R19) or its process is about to end, a few shards at a time, and backs off where a leader does
 * not hand over (R18). What is seen is noted by
 * balance_watch, what follows is answered by balance_choose; both are functions of the catalog and of the time, in
 * milliseconds of CLOCK_BOOTTIME, that come in. One thread. */
#pragma once

#include "libcommon/limits.h"
#include "metad/catalog.h"

#define BALANCE_READY_MS    5000u  /* alive and in sync for so long, before it is to lead */
#define BALANCE_WISH_MS     5000u  /* a wish that was not fulfilled by then is withdrawn */
#define BALANCE_ALONE_MS    30000u /* and the shard is left alone for this long */
#define BALANCE_STALL_MS    1000u  /* not watched for so long, what was seen before proves nothing */
#define BALANCE_WISHES_MAX  2u     /* open at once */
#define BALANCE_LEAVING_MAX 8u     /* the same, while a leader is about to end */

struct balance_shard {
    uint32_t first;          /* node: the first replica that is alive, if it is in sync; 0 = it is not */
    uint64_t incarnation;    /* of that node */
    uint64_t ready_since_ms; /* that this has been so */
    uint32_t wished;         /* wanted_leader as seen last */
    uint64_t wished_since_ms;
    uint64_t alone_until_ms; /* 0 = is not left alone */
};

/* Embedded; fields are private. */
struct balance {
    uint64_t watched_ms;                 /* the last time */
    uint64_t leaving[MAP_NODES_MAX + 1]; /* by node id: the incarnation that is about to end; 0 = none is */
    struct balance_shard shards[SHARD_COUNT_MAX];
};

/* What to propose: COMMAND_WISH_LEADER. */
struct balance_wish {
    uint32_t shard;
    uint64_t config_version;
    uint32_t node; /* 0 = withdraw */
};

/* Nothing has been seen yet: a new leader of metad begins here. */
void balance_init(struct balance *balance, uint64_t now_ms);

/* The node's process says that it is about to end: what it leads others are to lead. */
void balance_note_leaving(struct balance *balance, uint32_t node, uint64_t incarnation);

/* Whether such a process is still there, as far as is known. */
bool balance_is_anybody_leaving(const struct balance *balance, const struct catalog *catalog);

/* Notes what every shard looks like. Call it more often than BALANCE_STALL_MS. */
void balance_watch(struct balance *balance, const struct catalog *catalog, uint64_t now_ms);

/* The same for one shard whose wish has changed just now, so that one which is given up at once is seen. */
void balance_watch_shard(struct balance *balance, const struct catalog *catalog, uint32_t shard, uint64_t now_ms);

/* The next wish to make or to withdraw. False = none now. */
bool balance_choose(const struct balance *balance, const struct catalog *catalog, uint64_t now_ms,
                    struct balance_wish *wish);
