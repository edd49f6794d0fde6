/* When each node was last heard of. Only the leader's counts, and it decides nothing by itself: what follows from
 * silence is proposed to the log, so that `alive` in the map comes from the state machine. Pure: time comes in, in
 * milliseconds of CLOCK_BOOTTIME. One thread. */
#pragma once

#include "libcommon/map.h"

/* Embedded; fields are private. */
struct liveness {
    uint64_t timeout_ms;
    uint64_t tick_ms;                     /* of the last liveness_tick */
    uint64_t heard_ms[MAP_NODES_MAX + 1]; /* by node id */
};

/* Nobody is silent before a full timeout from `now_ms` on. */
void liveness_init(struct liveness *liveness, uint64_t timeout_ms, uint64_t now_ms);

/* Everyone counts as heard of now: a new leader declares no node dead before a full period of its own (R21). */
void liveness_reset(struct liveness *liveness, uint64_t now_ms);

void liveness_hear(struct liveness *liveness, uint32_t node_id, uint64_t now_ms);

/* Before a round of liveness_silent. When the last tick is longer ago than half a timeout it was this process that
 * stood still, with the heartbeats of all waiting in its sockets: everyone gets a full period again. */
void liveness_tick(struct liveness *liveness, uint64_t now_ms);

/* Whether nothing has come for longer than the timeout. */
bool liveness_silent(const struct liveness *liveness, uint32_t node_id, uint64_t now_ms);

/* Milliseconds since the node was heard of (or the last reset). */
uint64_t liveness_age_ms(const struct liveness *liveness, uint32_t node_id, uint64_t now_ms);
