#include "metad/liveness.h"

#include "libcommon/check.h"

void liveness_init(struct liveness *liveness, uint64_t timeout_ms, uint64_t now_ms) {
    liveness->timeout_ms = timeout_ms;
    liveness_reset(liveness, now_ms);
}

void liveness_reset(struct liveness *liveness, uint64_t now_ms) {
    liveness->tick_ms = now_ms;
    for (uint32_t id = 0; id <= MAP_NODES_MAX; id++) liveness->heard_ms[id] = now_ms;
}

void liveness_hear(struct liveness *liveness, uint32_t node_id, uint64_t now_ms) {
    sk_assert(node_id <= MAP_NODES_MAX);
    if (now_ms > liveness->heard_ms[node_id]) liveness->heard_ms[node_id] = now_ms;
}

void liveness_tick(struct liveness *liveness, uint64_t now_ms) {
    if (now_ms - liveness->tick_ms > liveness->timeout_ms / 2) liveness_reset(liveness, now_ms);
    liveness->tick_ms = now_ms;
}

bool liveness_silent(const struct liveness *liveness, uint32_t node_id, uint64_t now_ms) {
    return liveness_age_ms(liveness, node_id, now_ms) > liveness->timeout_ms;
}

uint64_t liveness_age_ms(const struct liveness *liveness, uint32_t node_id, uint64_t now_ms) {
    sk_assert(node_id <= MAP_NODES_MAX);
    uint64_t heard_ms = liveness->heard_ms[node_id];
    return now_ms > heard_ms ? now_ms - heard_ms : 0;
}
