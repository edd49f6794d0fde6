#include "tests/sim/sim_moves.h"

#include "libcommon/error.h"
#include "metad/shard_record.h"
#include "tests/sim/sim.h"

#define LOST_US  4000000u /* a replica of which nothing is heard for so long is replaced */
#define AWAY_US  2500000u /* a move to a host that is silent for so long is cancelled */
#define GROW_PPM 100000u  /* at each look */

static bool is_silent(const struct sim *sim, uint32_t node, uint64_t for_us) {
    const struct sim_metad_node *place = &sim->metad.places[node - 1];
    return place->gone || sim->now_us - place->heard_us > for_us;
}

static bool conclude(struct sim *sim, const char *step, int err, const char *text) {
    const struct map_shard *record = &sim->metad.record;
    sim_trace(sim, "metad move %s from=%u to=%u -> %s: %s", step, record->move_from, record->move_to,
              error_name(err), err == SK_OK ? "done" : text);
    sim->moves += err == SK_OK;
    return err == SK_OK;
}

static bool start(struct sim *sim, uint32_t from, uint32_t to) {
    struct sim_metad *metad = &sim->metad;
    const struct map_node *nodes[MAP_REPLICAS_MAX];
    const char *text = NULL;
    if (to == 0 || (from == 0 && metad->record.replica_count >= sim->weather.wanted)) return false;
    sim_metad_find_nodes(metad, nodes);
    int err = shard_record_start_move(&metad->record, nodes, metad->record.config_version, from,
                                      &metad->nodes[to - 1], metad->next_replica_id, &text);
    metad->next_replica_id += err == SK_OK;
    return conclude(sim, "start", err, text);
}

/* A planted bug: the one that came takes the place of the one that goes, whatever it holds. */
static void take_unjoined(struct map_shard *record) {
    for (uint32_t i = 0; i < record->isr_count; i++) {
        bool goes = record->isr[i] == record->move_from && record->leader != record->move_from;
        if (goes && !map_in_isr(record, record->move_to)) record->isr[i] = record->move_to;
    }
}

/* As metad/moves has it: as many as a write needs are alive, or who goes is lost and counts for nothing. */
static bool may_finish(const struct sim *sim) {
    struct map_shard left = sim->metad.record;
    uint32_t alive = 0, goes = left.move_from;
    const char *text;
    if (goes != 0 && !sim_metad_may_lead(sim, goes) && is_silent(sim, goes, LOST_US)) return true;
    if (shard_record_finish_move(&left, left.config_version, &text) != SK_OK) return true; /* refused */
    for (uint32_t i = 0; i < left.isr_count; i++) alive += sim->metad.nodes[left.isr[i] - 1].alive;
    return alive >= left.min_isr;
}

static bool finish(struct sim *sim) {
    struct map_shard *record = &sim->metad.record;
    const char *text = NULL;
    uint32_t before = record->isr_count;
    if (!may_finish(sim)) return false;
    if (record->move_to != 0 && sim->options.plant == PLANT_MOVE_UNJOINED) take_unjoined(record);
    int err = shard_record_finish_move(record, record->config_version, &text);
    bool fewer = err == SK_OK && record->isr_count < before;
    if (fewer && record->isr_count < record->min_isr) sim_fail(sim, "a move has left too few in sync");
    return conclude(sim, "finish", err, text);
}

static bool cancel(struct sim *sim) {
    struct map_shard *record = &sim->metad.record;
    const char *text = NULL;
    int err = shard_record_cancel_move(record, record->config_version, &text);
    return conclude(sim, "cancel", err, text);
}

/* The node of a host that has registered, without a replica if so wanted; 0: that host has none. */
static uint32_t draw_node(struct sim *sim) {
    uint32_t host = (uint32_t)chance_below(&sim->chance, sim->host_count), node = sim->hosts[host].drive.node;
    return node != 0 && sim_metad_host_of(sim, node) == host ? node : 0;
}

static uint32_t draw_replica(struct sim *sim) {
    const struct map_shard *record = &sim->metad.record;
    return record->replicas[chance_below(&sim->chance, record->replica_count)].node;
}

void sim_moves_disturb(struct sim *sim) {
    if (!sim->metad.created || sim->metad.down) return;
    bool open = sim->metad.record.move_to != 0, changed = false;
    switch (chance_below(&sim->chance, open ? 4 : 1)) {
    case 0:
        changed = start(sim, open || !chance_happens(&sim->chance, CHANCE_ALWAYS / 4) ? draw_replica(sim) : 0,
                        open ? sim->metad.record.move_to : draw_node(sim));
        break;
    case 1:
        changed = cancel(sim);
        break;
    default:
        changed = finish(sim);
    }
    if (changed) sim_metad_publish(sim);
}

/* A host that could have one more; 0: none. */
static uint32_t find_spare(const struct sim *sim) {
    for (uint32_t i = 0; i < sim->host_count; i++) {
        uint32_t node = sim->hosts[i].drive.node;
        bool there = node != 0 && sim_metad_host_of(sim, node) == i && !is_silent(sim, node, LOST_US);
        if (there && map_find_replica(&sim->metad.record, node) == NULL) return node;
    }
    return 0;
}

/* A replica that is lost, but for `but`; 0: none. */
static uint32_t find_lost(const struct sim *sim, uint32_t but, bool counted_too) {
    const struct map_shard *record = &sim->metad.record;
    for (uint32_t i = 0; i < record->replica_count; i++) {
        uint32_t node = record->replicas[i].node;
        if (node == but || node == record->move_to || (!counted_too && sim_metad_may_lead(sim, node))) continue;
        if (is_silent(sim, node, LOST_US)) return node;
    }
    return 0;
}

static bool go_on(struct sim *sim) {
    struct sim_metad *metad = &sim->metad;
    struct map_shard *record = &metad->record;
    if (finish(sim)) return true;
    if (is_silent(sim, record->move_to, AWAY_US) && cancel(sim)) return true;
    bool joined = map_in_isr(record, record->move_to);
    if (joined && record->leader == record->move_from && record->wanted_leader == 0) {
        const struct map_node *nodes[MAP_REPLICAS_MAX];
        const char *text;
        sim_metad_find_nodes(metad, nodes);
        return shard_record_wish(record, nodes, record->config_version, record->move_to, false, &text) == SK_OK;
    }
    uint32_t lost = joined ? find_lost(sim, record->move_from, false) : 0;
    return lost != 0 && start(sim, lost, record->move_to);
}

bool sim_moves_watch(struct sim *sim) {
    const struct map_shard *record = &sim->metad.record;
    if (!faults_may(sim, FAULT_MOVE)) return false;
    if (record->move_to != 0) return go_on(sim);
    uint32_t lost = find_lost(sim, 0, true);
    if (lost != 0) return start(sim, lost, find_spare(sim));
    bool grows = record->replica_count < sim->weather.wanted && chance_happens(&sim->chance, GROW_PPM);
    return grows && start(sim, 0, find_spare(sim));
}
