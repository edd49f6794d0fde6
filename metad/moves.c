#include "metad/moves.h"

#include "libcommon/error.h"
#include "metad/balance.h"
#include "metad/placement.h"
#include "metad/shard_record.h"

void moves_init(struct moves *moves, uint32_t open_max, uint64_t dead_after_ms, uint64_t now_ms) {
    memset(moves, 0, sizeof *moves);
    moves->open_max = open_max;
    moves->dead_after_ms = dead_after_ms;
    moves->watched_ms = now_ms;
}

/* ---- watching ---- */

static const struct map_node *node_of(const struct catalog *catalog, uint32_t id) {
    return &catalog_find_node(catalog, id)->map;
}

static void watch_node(struct moves *moves, const struct map_node *node, bool stalled, uint64_t now_ms) {
    uint64_t *since_ms = &moves->dead_since_ms[node->id];
    if (node->alive) *since_ms = 0;
    else if (*since_ms == 0 || stalled) *since_ms = now_ms;
}

static void watch_shard(struct moves_shard *seen, const struct map_shard *shard, bool stalled, uint64_t now_ms) {
    if (seen->to != shard->move_to) {
        bool cancelled = seen->to != 0 && map_find_replica(shard, seen->to) == NULL;
        uint64_t alone_until_ms = cancelled ? now_ms + MOVES_ALONE_MS : seen->alone_until_ms; /* R18 */
        *seen = (struct moves_shard){.to = shard->move_to, .began_ms = now_ms, .alone_until_ms = alone_until_ms};
    }
    bool joined = shard->move_to != 0 && map_in_isr(shard, shard->move_to);
    if (stalled || (!joined && seen->joined_ms != 0)) seen->began_ms = now_ms;
    if (!joined) seen->joined_ms = 0;
    else if (stalled || seen->joined_ms == 0) seen->joined_ms = now_ms;
}

void moves_note_received(struct moves *moves, uint32_t node, uint64_t bytes, uint64_t now_ms) {
    if (moves->received[node] != bytes) moves->received_ms[node] = now_ms;
    moves->received[node] = bytes;
}

void moves_note_wish(struct moves *moves, uint64_t now_ms) { moves->wished_ms = now_ms; }

void moves_watch(struct moves *moves, const struct catalog *catalog, uint64_t now_ms) {
    bool stalled = now_ms - moves->watched_ms > MOVES_STALL_MS;
    moves->watched_ms = now_ms;
    for (uint32_t i = 0; i < catalog->node_count; i++) {
        watch_node(moves, &catalog->nodes[i].map, stalled, now_ms);
    }
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        watch_shard(&moves->shards[i], &catalog->shards[i], stalled, now_ms);
    }
}

/* ---- who has what ---- */

/* It does not come back, as far as can be known, or is not wanted back. */
static bool is_lost(const struct moves *moves, const struct map_node *node, uint64_t now_ms) {
    if (node->alive) return false;
    uint64_t since_ms = moves->dead_since_ms[node->id];
    return node->state != MAP_NODE_MEMBER || (since_ms != 0 && now_ms - since_ms >= moves->dead_after_ms);
}

/* For longer than a restart takes. */
static bool is_away(const struct moves *moves, const struct map_node *node, uint64_t now_ms) {
    uint64_t since_ms = moves->dead_since_ms[node->id];
    return !node->alive && since_ms != 0 && now_ms - since_ms >= MOVES_AWAY_MS;
}

uint32_t moves_first_of(const struct map_shard *shard) {
    uint32_t first = shard->replicas[0].node;
    return first == shard->move_from ? shard->move_to : first;
}

/* When all that moves has moved. */
struct loads {
    uint32_t replicas[MAP_NODES_MAX + 1]; /* by node id */
    uint32_t firsts[MAP_NODES_MAX + 1];   /* of them, those that should lead */
};

static void count_loads(const struct catalog *catalog, struct loads *loads) {
    memset(loads, 0, sizeof *loads);
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        for (uint32_t j = 0; j < shard->replica_count; j++) loads->replicas[shard->replicas[j].node]++;
        if (shard->move_from != 0) loads->replicas[shard->move_from]--;
        loads->firsts[moves_first_of(shard)]++;
    }
}

/* How many shards that `first` should lead have a replica on `node`. */
static uint32_t count_followed(const struct catalog *catalog, uint32_t first, uint32_t node) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        count += moves_first_of(shard) == first && map_find_replica(shard, node) != NULL;
    }
    return count;
}

static bool is_whole(const struct map_shard *shard) { return shard->isr_count == shard->replica_count; }

/* Whether something can come of a move now. */
static bool may_start(const struct moves *moves, const struct catalog *catalog, uint32_t shard, uint64_t now_ms) {
    const struct map_shard *record = &catalog->shards[shard];
    return record->move_to == 0 && record->replica_count < MAP_REPLICAS_MAX &&
           node_of(catalog, record->leader)->alive && now_ms >= moves->shards[shard].alone_until_ms;
}

static struct moves_step step_of(const struct catalog *catalog, enum moves_kind kind, uint32_t shard) {
    return (struct moves_step){
        .kind = kind, .shard = shard, .config_version = catalog->shards[shard].config_version};
}

/* ---- moves under way ---- */

/* All that stay and are alive are in sync: the next failure finds the shard as well off as before. */
static bool stayers_are_in_sync(const struct catalog *catalog, const struct map_shard *shard) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t node = shard->replicas[i].node;
        if (node == shard->move_from || !node_of(catalog, node)->alive) continue;
        if (!map_in_isr(shard, node)) return false;
    }
    return true;
}

/* Whether as many as a write needs are alive: the set that is left may count one that has just died, and who goes is better. */
static bool enough_are_alive(const struct catalog *catalog, const struct map_shard *left) {
    uint32_t alive = 0;
    for (uint32_t i = 0; i < left->isr_count; i++) alive += node_of(catalog, left->isr[i])->alive;
    return alive >= left->min_isr;
}

/* It is lost, and nobody counts on what it had. Whoever is drained may be back in a moment, and would be of use until it goes. */
static bool is_spare(const struct moves *moves, const struct catalog *catalog, const struct map_shard *shard,
                     uint32_t node, uint64_t now_ms) {
    const struct map_node *of = node_of(catalog, node);
    return !shard_record_is_counted(shard, node) && is_away(moves, of, now_ms) && is_lost(moves, of, now_ms);
}

static bool may_finish(const struct moves *moves, const struct catalog *catalog, uint32_t shard, uint64_t now_ms) {
    struct map_shard record = catalog->shards[shard];
    const struct moves_shard *seen = &moves->shards[shard];
    const char *text;
    bool settled = stayers_are_in_sync(catalog, &record) ||
                   (seen->joined_ms != 0 && now_ms - seen->joined_ms >= MOVES_SETTLE_MS);
    bool spare = record.move_from != 0 && is_spare(moves, catalog, &record, record.move_from, now_ms);
    return settled && shard_record_finish_move(&record, record.config_version, &text) == SK_OK &&
           (spare || enough_are_alive(catalog, &record));
}

static bool may_cancel(const struct moves *moves, const struct catalog *catalog, uint32_t shard, uint64_t now_ms) {
    struct map_shard record = catalog->shards[shard];
    const struct moves_shard *seen = &moves->shards[shard];
    const struct map_node *to = node_of(catalog, record.move_to);
    uint64_t got_ms = moves->received_ms[to->id];
    uint64_t since_ms = got_ms > seen->began_ms ? got_ms : seen->began_ms;
    bool idle = seen->to == to->id && now_ms - since_ms >= MOVES_IDLE_MS;
    const char *text;
    return (is_away(moves, to, now_ms) || idle || to->state != MAP_NODE_MEMBER) &&
           shard_record_cancel_move(&record, record.config_version, &text) == SK_OK;
}

/* Its replica has joined, so nothing is sent for it, and for long it could not finish: maybe nobody leads the shard. Others do
 * not wait for it. */
static bool hangs(const struct moves_shard *seen, uint64_t now_ms) {
    return seen->joined_ms != 0 && now_ms - seen->joined_ms >= MOVES_IDLE_MS;
}

/* The new replica has joined, but the one that is to go cannot, or nobody is to go and the shard cannot grow. If another one is
 * lost, that one goes. 0 = there is none. */
static uint32_t find_lost(const struct moves *moves, const struct catalog *catalog, const struct map_shard *shard,
                          uint64_t now_ms) {
    if (!map_in_isr(shard, shard->move_to)) return 0;
    if (shard->move_from != 0 && is_spare(moves, catalog, shard, shard->move_from, now_ms)) return 0;
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t node = shard->replicas[i].node;
        if (node != shard->move_from && is_spare(moves, catalog, shard, node, now_ms)) return node;
    }
    return 0;
}

static bool go_on(const struct moves *moves, const struct catalog *catalog, uint32_t shard, uint64_t now_ms,
                  struct moves_step *step) {
    const struct map_shard *record = &catalog->shards[shard];
    if (may_finish(moves, catalog, shard, now_ms)) {
        *step = step_of(catalog, MOVES_FINISH, shard);
        return true;
    }
    if (may_cancel(moves, catalog, shard, now_ms)) {
        *step = step_of(catalog, MOVES_CANCEL, shard);
        return true;
    }
    uint32_t lost = find_lost(moves, catalog, record, now_ms);
    if (lost == 0) return false;
    *step = step_of(catalog, MOVES_START, shard);
    step->from = lost;
    step->to = record->move_to;
    return true;
}

/* ---- replicas that have to go, and those that are missing ---- */

/* Who gets a replica of the shard: has the least; then should lead the least, or have the least of what the same node
 * leads, so that the followers of each stay spread. 0 = nobody can. */
static uint32_t find_taker(const struct catalog *catalog, const struct loads *loads, const struct map_shard *shard,
                           bool leads) {
    uint32_t best = 0, best_second = 0;
    for (uint32_t id = 1; id <= catalog->node_count; id++) {
        if (!map_takes_replicas(node_of(catalog, id)) || map_find_replica(shard, id) != NULL) continue;
        if (best != 0 && loads->replicas[id] > loads->replicas[best]) continue;
        uint32_t second = leads ? loads->firsts[id] : count_followed(catalog, moves_first_of(shard), id);
        bool better = best == 0 || loads->replicas[id] < loads->replicas[best] || second < best_second;
        if (!better) continue;
        best = id;
        best_second = second;
    }
    return best;
}

/* It was started anew on an empty directory, and what is there now has a replica of the shard already: nobody will take this
 * one over (placement_replacements). */
static bool is_left_over(const struct catalog *catalog, const struct map_shard *shard,
                         const struct map_node *node) {
    if (node->alive) return false;
    uint32_t heir = placement_heir(catalog, node);
    return heir != 0 && map_find_replica(shard, heir) != NULL;
}

/* The replica that has to go first: one that is lost if `lost`, else one that is drained. 0 = none. */
static uint32_t find_leaver(const struct moves *moves, const struct catalog *catalog,
                            const struct map_shard *shard, bool lost, uint64_t now_ms) {
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        const struct map_node *node = node_of(catalog, shard->replicas[i].node);
        bool goes = lost ? is_lost(moves, node, now_ms) || is_left_over(catalog, shard, node)
                         : node->state != MAP_NODE_MEMBER;
        if (goes) return node->id;
    }
    return 0;
}

static bool start_away(const struct moves *moves, const struct catalog *catalog, const struct loads *loads,
                       bool lost, uint64_t now_ms, struct moves_step *step) {
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        uint32_t from = find_leaver(moves, catalog, shard, lost, now_ms);
        if (from == 0 || !may_start(moves, catalog, i, now_ms)) continue;
        uint32_t to = find_taker(catalog, loads, shard, from == moves_first_of(shard));
        if (to == 0) continue;
        *step = step_of(catalog, MOVES_START, i);
        step->from = from;
        step->to = to;
        return true;
    }
    return false;
}

static bool start_growth(const struct moves *moves, const struct catalog *catalog, const struct loads *loads,
                         uint64_t now_ms, struct moves_step *step) {
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        if (shard->replica_count >= catalog->replicas_wanted || !may_start(moves, catalog, i, now_ms)) continue;
        uint32_t to = find_taker(catalog, loads, shard, false);
        if (to == 0) continue;
        *step = step_of(catalog, MOVES_START, i);
        step->to = to;
        return true;
    }
    return false;
}

/* ---- an even spread of replicas ---- */

/* Of the members that are alive, who has the most and who the least; by `counts`. False: nobody is there. */
static bool find_extremes(const struct catalog *catalog, const uint32_t *counts, uint32_t *most, uint32_t *least) {
    *most = *least = 0;
    for (uint32_t id = 1; id <= catalog->node_count; id++) {
        if (!map_takes_replicas(node_of(catalog, id))) continue;
        if (*most == 0 || counts[id] > counts[*most]) *most = id;
        if (*least == 0 || counts[id] < counts[*least]) *least = id;
    }
    return *most != 0;
}

/* What a move from any of the fullest nodes to the emptiest is judged by. */
struct even {
    const struct catalog *catalog;
    const struct loads *loads;
    uint32_t most; /* what the fullest have */
    uint32_t to;
    uint32_t followed[MAP_NODES_MAX + 1]; /* of the shards that each node should lead, how many `to` has */
};

/* The less the better: followers move, by how many shards of the same leader the node has already; what should lead is passed
 * on later, among those that have a replica then, or each node's followers would be there where its leaders came from.
 * UINT32_MAX = it cannot be. */
static uint32_t rate_move(const struct even *even, const struct map_shard *shard, uint32_t from) {
    uint32_t first = moves_first_of(shard);
    bool full = even->loads->replicas[from] == even->most && map_takes_replicas(node_of(even->catalog, from));
    if (!full) return UINT32_MAX;
    return first == from ? SHARD_COUNT_MAX + 1 : even->followed[first];
}

static bool find_even(const struct moves *moves, const struct even *even, uint64_t now_ms,
                      struct moves_step *step) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < even->catalog->shard_count; i++) {
        const struct map_shard *shard = &even->catalog->shards[i];
        if (map_find_replica(shard, even->to) != NULL || !is_whole(shard)) continue;
        if (!may_start(moves, even->catalog, i, now_ms)) continue;
        for (uint32_t j = 0; j < shard->replica_count; j++) {
            uint32_t from = shard->replicas[j].node, rating = rate_move(even, shard, from);
            if (rating >= best) continue;
            best = rating;
            *step = step_of(even->catalog, MOVES_START, i);
            step->from = from;
            step->to = even->to;
        }
    }
    return best != UINT32_MAX;
}

static bool start_even(const struct moves *moves, const struct catalog *catalog, const struct loads *loads,
                       uint64_t now_ms, struct moves_step *step) {
    struct even even = {.catalog = catalog, .loads = loads};
    uint32_t from;
    if (!find_extremes(catalog, loads->replicas, &from, &even.to)) return false;
    even.most = loads->replicas[from];
    if (even.most < loads->replicas[even.to] + 2) return false;
    /* What is moved to it would take the place of what it is to get, and leave the shard with a replica that is lost. */
    if (placement_inherits(catalog, even.to)) return false;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        even.followed[moves_first_of(shard)] += map_find_replica(shard, even.to) != NULL;
    }
    return find_even(moves, &even, now_ms, step);
}

/* ---- an even spread of first places ---- */

/* Whether the first place of the shard can go to another of its nodes by a hand-over alone. */
static bool may_pass(const struct catalog *catalog, const struct map_shard *shard) {
    return shard->move_to == 0 && shard->wanted_leader == 0 && is_whole(shard) &&
           map_takes_replicas(node_of(catalog, shard->replicas[0].node)) && node_of(catalog, shard->leader)->alive;
}

/* Who is how far, in first places passed on from node to node, from one that has two fewer than the most. */
struct distances {
    uint32_t hops[MAP_NODES_MAX + 1];  /* by node id; 0 = it is one of these, UINT32_MAX = there is no way */
    uint32_t next[MAP_NODES_MAX + 1];  /* the next one on the way */
    uint32_t shard[MAP_NODES_MAX + 1]; /* whose first place goes there */
};

/* Notes that the first place of `shard` may go to the node `to`, if that is a way, or a better one: what was changed last,
 * maybe by a person, is left as it is if another will do. */
static bool note_hop(const struct catalog *catalog, uint32_t shard, uint32_t to, struct distances *distances) {
    const struct map_shard *record = &catalog->shards[shard];
    uint32_t from = record->replicas[0].node, hops = distances->hops[to] + 1;
    if (distances->hops[from] < hops) return false;
    bool first = distances->hops[from] > hops;
    if (!first && record->config_version >= catalog->shards[distances->shard[from]].config_version) return false;
    distances->hops[from] = hops;
    distances->next[from] = to;
    distances->shard[from] = shard;
    return true;
}

/* One hop more for everybody who reaches a node at `hops`; false: nobody does. */
static bool spread_hop(const struct catalog *catalog, uint32_t hops, struct distances *distances) {
    bool any = false;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        for (uint32_t j = 1; may_pass(catalog, shard) && j < shard->replica_count; j++) {
            uint32_t to = shard->replicas[j].node;
            if (distances->hops[to] == hops) any = note_hop(catalog, i, to, distances) || any;
        }
    }
    return any;
}

/* A node with the most first places may share no shard with one that has two fewer; then places are passed on along a
 * shortest way. All between have one fewer than the most, so each step leaves the spread as it is, and a shorter way; the
 * last one makes it more even. So it ends. */
static bool pass_first_place(const struct catalog *catalog, const struct loads *loads, struct moves_step *step) {
    uint32_t most, least, giver = 0;
    struct distances distances;
    if (!find_extremes(catalog, loads->firsts, &most, &least)) return false;
    if (loads->firsts[most] < loads->firsts[least] + 2) return false;
    for (uint32_t id = 1; id <= catalog->node_count; id++) {
        bool low = map_takes_replicas(node_of(catalog, id)) && loads->firsts[id] + 2 <= loads->firsts[most];
        distances.hops[id] = low ? 0 : UINT32_MAX;
    }
    for (uint32_t hops = 0; giver == 0 && spread_hop(catalog, hops, &distances); hops++) {
        for (uint32_t id = 1; giver == 0 && id <= catalog->node_count; id++) {
            bool is_most = map_takes_replicas(node_of(catalog, id)) && loads->firsts[id] == loads->firsts[most];
            if (is_most && distances.hops[id] == hops + 1) giver = id;
        }
    }
    if (giver == 0) return false;
    *step = step_of(catalog, MOVES_PREFER, distances.shard[giver]);
    step->to = distances.next[giver];
    return true;
}

/* ---- the choice ---- */

bool moves_choose(const struct moves *moves, const struct catalog *catalog, uint64_t now_ms,
                  struct moves_step *step) {
    uint32_t open = 0, wishes = 0;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        wishes += catalog->shards[i].wanted_leader != 0;
        if (catalog->shards[i].move_to == 0) continue;
        if (go_on(moves, catalog, i, now_ms, step)) return true;
        open += !hangs(&moves->shards[i], now_ms);
    }
    if (open >= moves->open_max) return false;
    struct loads loads;
    bool may_wish_on = moves->wished_ms != 0 && now_ms - moves->wished_ms < MOVES_WISHED_MS;
    count_loads(catalog, &loads);
    return start_away(moves, catalog, &loads, true, now_ms, step) ||
           start_away(moves, catalog, &loads, false, now_ms, step) ||
           start_growth(moves, catalog, &loads, now_ms, step) ||
           start_even(moves, catalog, &loads, now_ms, step) ||
           (wishes < BALANCE_WISHES_MAX && !may_wish_on && pass_first_place(catalog, &loads, step));
}
