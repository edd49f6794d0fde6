#include "metad/balance.h"

#include "metad/shard_record.h"

void balance_init(struct balance *balance, uint64_t now_ms) {
    memset(balance, 0, sizeof *balance);
    balance->watched_ms = now_ms;
}

static bool is_alive(const struct catalog *catalog, uint32_t node) {
    return node != 0 && catalog_find_node(catalog, node)->map.alive;
}

void balance_note_leaving(struct balance *balance, uint32_t node, uint64_t incarnation) {
    balance->leaving[node] = incarnation;
}

static bool is_leaving(const struct balance *balance, const struct catalog *catalog, uint32_t node) {
    return node != 0 && balance->leaving[node] != 0 &&
           balance->leaving[node] == catalog_find_node(catalog, node)->map.incarnation;
}

bool balance_is_anybody_leaving(const struct balance *balance, const struct catalog *catalog) {
    for (uint32_t id = 1; id <= catalog->node_count; id++) {
        if (is_alive(catalog, id) && is_leaving(balance, catalog, id)) return true;
    }
    return false;
}

/* R19: whoever is to go hands over first, as soon as the one that comes is in sync. */
static bool has_to_go(const struct map_shard *shard, uint32_t node) {
    return node == shard->move_from && map_in_isr(shard, shard->move_to);
}

/* Who should lead: the first of the replicas that is alive; the one that comes stands where the one that goes does. So the
 * leaders of a node that is gone for long are spread, too, as its followers were. 0 = that one is not in sync, or nobody is
 * alive. But where the leader has to go, or is about to end, anybody in sync is better. */
static uint32_t first_of(const struct balance *balance, const struct catalog *catalog,
                         const struct map_shard *shard) {
    bool must = has_to_go(shard, shard->leader) || is_leaving(balance, catalog, shard->leader);
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t node = shard->replicas[i].node;
        if (has_to_go(shard, node)) node = shard->move_to;
        if (!is_alive(catalog, node) || is_leaving(balance, catalog, node)) continue;
        if (map_in_isr(shard, node)) return node;
        if (!must) return 0;
    }
    return 0;
}

static void watch_readiness(struct balance *balance, const struct catalog *catalog, uint32_t number,
                            uint64_t now_ms) {
    struct balance_shard *seen = &balance->shards[number];
    uint32_t first = first_of(balance, catalog, &catalog->shards[number]);
    uint64_t incarnation = first == 0 ? 0 : catalog_find_node(catalog, first)->map.incarnation;
    if (seen->first == first && seen->incarnation == incarnation) return;
    seen->first = first;
    seen->incarnation = incarnation;
    seen->ready_since_ms = now_ms;
}

static void watch_wish(struct balance_shard *seen, const struct map_shard *shard, uint64_t now_ms) {
    if (seen->wished == shard->wanted_leader) return;
    bool vain = seen->wished != 0 && shard->leader != seen->wished;
    if (vain) seen->alone_until_ms = now_ms + BALANCE_ALONE_MS; /* R18 */
    seen->wished = shard->wanted_leader;
    seen->wished_since_ms = now_ms;
}

void balance_watch_shard(struct balance *balance, const struct catalog *catalog, uint32_t shard, uint64_t now_ms) {
    watch_readiness(balance, catalog, shard, now_ms);
    watch_wish(&balance->shards[shard], &catalog->shards[shard], now_ms);
}

void balance_watch(struct balance *balance, const struct catalog *catalog, uint64_t now_ms) {
    bool stalled = now_ms - balance->watched_ms > BALANCE_STALL_MS;
    balance->watched_ms = now_ms;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        balance_watch_shard(balance, catalog, i, now_ms);
        if (stalled) balance->shards[i].ready_since_ms = now_ms;
    }
}

/* It was not fulfilled in time, or is for one that is about to end. */
static bool is_vain(const struct balance *balance, const struct catalog *catalog, uint32_t number,
                    uint64_t now_ms) {
    const struct balance_shard *seen = &balance->shards[number];
    uint32_t wanted = catalog->shards[number].wanted_leader;
    if (wanted == 0) return false;
    return is_leaving(balance, catalog, wanted) ||
           (seen->wished == wanted && now_ms - seen->wished_since_ms >= BALANCE_WISH_MS);
}

/* A leader that is dead hands nothing over; whoever claims its shard should not have to ask twice. */
static bool is_due(const struct balance *balance, const struct catalog *catalog, uint32_t number,
                   uint64_t now_ms) {
    const struct balance_shard *seen = &balance->shards[number];
    const struct map_shard *shard = &catalog->shards[number];
    bool at_once = has_to_go(shard, shard->leader) || is_leaving(balance, catalog, shard->leader);
    bool looked_at = seen->wished == 0; /* how the last wish has ended (R18) */
    return seen->first != 0 && seen->first == first_of(balance, catalog, shard) && seen->first != shard->leader &&
           shard->wanted_leader == 0 && looked_at && is_alive(catalog, shard->leader) &&
           (at_once || now_ms - seen->ready_since_ms >= BALANCE_READY_MS) && now_ms >= seen->alone_until_ms;
}

bool balance_choose(const struct balance *balance, const struct catalog *catalog, uint64_t now_ms,
                    struct balance_wish *wish) {
    uint32_t open = 0, most = 0; /* as many as the one that was found may stand beside */
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        const struct balance_shard *seen = &balance->shards[i];
        uint32_t may_be = is_leaving(balance, catalog, shard->leader) ? BALANCE_LEAVING_MAX : BALANCE_WISHES_MAX;
        open += shard->wanted_leader != 0;
        if (is_vain(balance, catalog, i, now_ms)) {
            *wish = (struct balance_wish){.shard = i, .config_version = shard->config_version};
            return true;
        }
        if (may_be <= most || !is_due(balance, catalog, i, now_ms)) continue;
        *wish = (struct balance_wish){.shard = i, .config_version = shard->config_version, .node = seen->first};
        most = may_be;
    }
    return open < most;
}
