#include "tests/sim/sim_metad.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "metad/shard_record.h"
#include "shardd/replica_change.h"
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <string.h>

#define WATCH_US   150000u  /* how often metad looks who is dead and who is to be replaced */
#define DEAD_US    2000000u /* not heard of for so long */
#define LOST_PPM   20000u   /* requests and answers, while faults go on */
#define DOUBLE_PPM 20000u

void sim_metad_init(struct sim *sim) {
    sim->metad = (struct sim_metad){.next_incarnation = 1, .next_replica_id = 100};
}

uint32_t sim_metad_host_of(const struct sim *sim, uint32_t node) {
    const struct sim_metad *metad = &sim->metad;
    if (node == 0 || node > metad->node_count || metad->places[node - 1].gone) return HOSTS_MAX;
    return metad->places[node - 1].host;
}

bool sim_metad_may_lead(const struct sim *sim, uint32_t node) {
    const struct map_shard *record = &sim->metad.record;
    return shard_record_is_counted(record, node);
}

bool sim_metad_is_intact(const struct sim *sim, uint32_t node) {
    uint32_t host = sim_metad_host_of(sim, node);
    return host < HOSTS_MAX && sim->hosts[host].drive.node == node && !sim->hosts[host].drive.suspect;
}

void sim_metad_find_nodes(const struct sim_metad *metad, const struct map_node *nodes[MAP_REPLICAS_MAX]) {
    for (uint32_t i = 0; i < metad->record.replica_count; i++) {
        nodes[i] = &metad->nodes[metad->record.replicas[i].node - 1];
    }
}

/* ---- the network between ---- */

static uint64_t draw_delay(struct sim *sim) {
    uint64_t delay_us = chance_between(&sim->chance, 300, 3000); /* metad's own log is in it */
    if (faults_has(sim, FAULT_DELAY) && chance_happens(&sim->chance, 50000)) {
        delay_us += chance_spread(&sim->chance, 1000, 1000000);
    }
    return delay_us;
}

static bool is_lost(struct sim *sim, uint32_t host) {
    if (sim->metad.unreachable[host]) return true;
    return faults_has(sim, FAULT_METAD) && chance_happens(&sim->chance, LOST_PPM);
}

/* a: host, b: its life when the record left: a process that has started since asks for a newer one (R29). */
static void on_config_arrives(struct sim *sim, const struct event *event) {
    bool old = sim->hosts[event->a].life != event->b && sim->options.plant != PLANT_OLD_RECORD;
    if (old) {
        parcel_free(&sim->parcels, event->data);
        return;
    }
    host_deliver(sim, &sim->hosts[event->a], (struct mail){.kind = MAIL_CONFIG, .parcel = event->data});
}

/* The record as it is now, on its way to a host. */
static void publish_to(struct sim *sim, uint32_t host) {
    if (!sim->metad.created || is_lost(sim, host) || sim->metad.unheard[host]) return;
    struct parcel *parcel = parcel_new(&sim->parcels);
    parcel->config = sim->metad.record;
    sim_after(sim, draw_delay(sim), on_config_arrives, host, sim->hosts[host].life, parcel);
}

void sim_metad_publish(struct sim *sim) {
    const struct map_shard *record = &sim->metad.record;
    sim_trace(sim,
              "metad record version=%" PRIu64 " epoch=%" PRIu64
              " leader=%u isr=%u,%u,%u,%u,%u/%u wanted=%u move=%u>%u",
              record->config_version, record->leader_epoch, record->leader, record->isr[0], record->isr[1],
              record->isr[2], record->isr[3], record->isr[4], record->isr_count, record->wanted_leader,
              record->move_from, record->move_to);
    for (uint32_t i = 0; i < record->replica_count; i++) {
        sim_trace(sim, "metad   replica node=%u id=%" PRIu64, record->replicas[i].node,
                  record->replicas[i].replica_id);
    }
    for (uint32_t host = 0; host < sim->host_count; host++) publish_to(sim, host);
    clients_publish(sim);
}

static void hear(struct sim *sim, uint32_t node) {
    if (node == 0 || sim->metad.places[node - 1].gone) return;
    sim->metad.places[node - 1].heard_us = sim->now_us;
    sim->metad.nodes[node - 1].alive = true;
}

/* ---- what metad does by itself ---- */

/* The node that now lives where `old` did; 0: none yet. */
static uint32_t successor_of(const struct sim_metad *metad, uint32_t old) {
    for (uint32_t node = metad->node_count; node > old; node--) {
        bool same = metad->places[node - 1].host == metad->places[old - 1].host;
        if (same && !metad->places[node - 1].gone) return node;
    }
    return 0;
}

static bool replace_one(struct sim *sim) {
    struct sim_metad *metad = &sim->metad;
    const struct map_node *nodes[MAP_REPLICAS_MAX];
    const char *text;
    sim_metad_find_nodes(metad, nodes);
    for (uint32_t i = 0; i < metad->record.replica_count; i++) {
        uint32_t old = metad->record.replicas[i].node;
        uint32_t node = metad->places[old - 1].gone ? successor_of(metad, old) : 0;
        if (node == 0) continue;
        int err = shard_record_replace(&metad->record, nodes, metad->record.config_version, old,
                                       &metad->nodes[node - 1], metad->next_replica_id, &text);
        if (err != SK_OK) continue;
        metad->next_replica_id++;
        return true;
    }
    return false;
}

static void on_watch(struct sim *sim, const struct event *event) {
    (void)event;
    struct sim_metad *metad = &sim->metad;
    sim_after(sim, WATCH_US, on_watch, 0, 0, NULL);
    for (uint32_t i = 0; i < metad->node_count; i++) {
        if (metad->down) metad->places[i].heard_us = sim->now_us; /* R21: nobody dies of our own absence */
        metad->nodes[i].alive = sim->now_us - metad->places[i].heard_us < DEAD_US && !metad->places[i].gone;
    }
    if (!metad->down && (replace_one(sim) || sim_moves_watch(sim))) sim_metad_publish(sim);
}

/* ---- registration ---- */

static void create_shard(struct sim *sim) {
    struct sim_metad *metad = &sim->metad;
    const struct map_node *nodes[MAP_REPLICAS_MAX];
    uint32_t replicas = sim->weather.replicas;
    for (uint32_t i = 0; i < replicas; i++) nodes[i] = &metad->nodes[i];
    shard_record_start(&metad->record, nodes, replicas, metad->next_replica_id);
    metad->record.min_isr = sim->weather.min_isr;
    metad->next_replica_id += replicas;
    metad->created = true;
    sim_metad_publish(sim);
    sim_after(sim, WATCH_US, on_watch, 0, 0, NULL);
}

/* The node with this store; 0: metad has no room. */
static uint32_t find_or_add_node(struct sim *sim, const struct host *host) {
    struct sim_metad *metad = &sim->metad;
    for (uint32_t i = 0; i < metad->node_count; i++) {
        if (metad->places[i].store == host->drive.store) return i + 1;
    }
    if (metad->node_count == NODES_MAX) return 0;
    uint32_t node = ++metad->node_count;
    metad->nodes[node - 1] = (struct map_node){.id = node};
    metad->places[node - 1] = (struct sim_metad_node){.host = host->number, .store = host->drive.store};
    return node;
}

/* A process has started: R6. */
static void start_node(struct sim *sim, uint32_t node, uint32_t life) {
    struct sim_metad *metad = &sim->metad;
    struct map_node *known = &metad->nodes[node - 1];
    metad->places[node - 1].life = life;
    if (sim->options.plant == PLANT_SAME_INCARNATION && known->incarnation != 0) return;
    known->incarnation = metad->next_incarnation++;
    struct drive *drive = &sim->hosts[metad->places[node - 1].host].drive;
    if (drive->lost_tail && sim_metad_may_lead(sim, node)) sim_end(sim, "a lost tail was counted on");
    drive->lost_tail = false;
    if (metad->created && shard_record_restart(&metad->record, known)) sim_metad_publish(sim);
}

/* a: host, b: its life. */
static void on_register(struct sim *sim, const struct event *event) {
    struct sim_metad *metad = &sim->metad;
    struct host *host = &sim->hosts[event->a];
    uint32_t life = (uint32_t)event->b;
    if (metad->down || is_lost(sim, host->number) || life != host->life || host->state == HOST_DOWN) return;
    uint32_t node = find_or_add_node(sim, host);
    if (node == 0) return;
    hear(sim, node);
    if (metad->places[node - 1].life != life) start_node(sim, node, life);
    if (!metad->created && metad->node_count == sim->weather.replicas) create_shard(sim);
    uint64_t incarnation = metad->nodes[node - 1].incarnation;
    sim_trace(sim, "metad register h%u node=%u incarnation=%" PRIu64, host->number, node, incarnation);
    host_deliver(sim, host, (struct mail){.kind = MAIL_REGISTERED, .other = node, .number = incarnation});
    publish_to(sim, host->number);
}

void sim_metad_register(struct sim *sim, uint32_t host) {
    if (is_lost(sim, host)) return;
    sim_after(sim, draw_delay(sim), on_register, host, sim->hosts[host].life, NULL);
}

/* a: host, b: node. */
static void on_poll(struct sim *sim, const struct event *event) {
    if (sim->metad.down) return;
    hear(sim, (uint32_t)event->b);
    publish_to(sim, (uint32_t)event->a);
}

void sim_metad_poll(struct sim *sim, uint32_t host) {
    if (!is_lost(sim, host)) sim_after(sim, draw_delay(sim), on_poll, host, sim->hosts[host].drive.node, NULL);
}

/* ---- changes ---- */

/* What `sender` in its present incarnation asks for; another one is not heard, as metad's service has it. */
static int apply_change(struct sim *sim, const struct parcel_change *parcel, const char **text) {
    struct sim_metad *metad = &sim->metad;
    const struct map_node *nodes[MAP_REPLICAS_MAX], *sender = &metad->nodes[parcel->node - 1];
    struct shard_change change = replica_change_translate(SHARD, &parcel->change);
    *text = "another process of the node has started";
    if (sender->incarnation != parcel->incarnation) return SK_CONFLICT;
    hear(sim, parcel->node);
    sim_metad_find_nodes(metad, nodes);
    if (sim->options.plant == PLANT_NO_COMPARE) change.config_version = metad->record.config_version;
    uint64_t epoch = metad->record.leader_epoch;
    *text = "done";
    int err;
    if (change.kind == SHARD_CHANGE_REBUILD) {
        err = shard_record_rebuild(&metad->record, nodes, sender, &change, metad->next_replica_id, text);
        if (err == SK_OK) metad->next_replica_id++;
    } else {
        err = shard_record_change(&metad->record, nodes, sender, &change, text);
    }
    if (sim->options.plant == PLANT_CLAIM_KEEPS_EPOCH) metad->record.leader_epoch = epoch;
    return err;
}

/* a: host. */
static void on_change(struct sim *sim, const struct event *event) {
    struct parcel *parcel = event->data;
    if (!sim->metad.down && sim->metad.created) {
        const char *text;
        const struct replica_change *change = &parcel->change.change;
        int err = apply_change(sim, &parcel->change, &text);
        sim_trace(sim, "metad change %d h%u version=%" PRIu64 " to=%u isr=%u,%u,%u/%u -> %s: %s", change->kind,
                  (unsigned)event->a, change->config_version, change->to, change->isr[0], change->isr[1],
                  change->isr[2], change->isr_count, error_name(err), text);
        if (err == SK_OK) sim_metad_publish(sim);
        publish_to(sim, (uint32_t)event->a); /* whoever asked looks at the record then */
    }
    parcel_free(&sim->parcels, parcel);
}

void sim_metad_change(struct sim *sim, uint32_t host, const struct replica_change *change) {
    const struct host *who = &sim->hosts[host];
    faults_aim(sim, host);
    uint32_t copies = faults_has(sim, FAULT_METAD) && chance_happens(&sim->chance, DOUBLE_PPM) ? 2 : 1;
    for (uint32_t i = 0; i < copies; i++) {
        if (is_lost(sim, host)) continue;
        struct parcel *parcel = parcel_new(&sim->parcels);
        parcel->change =
            (struct parcel_change){.change = *change, .node = who->drive.node, .incarnation = who->incarnation};
        sim_after(sim, draw_delay(sim), on_change, host, 0, parcel);
    }
}

/* ---- persons ---- */

void sim_metad_want_leader(struct sim *sim, uint32_t node) {
    struct sim_metad *metad = &sim->metad;
    const struct map_node *nodes[MAP_REPLICAS_MAX];
    const char *text;
    if (metad->down || !metad->created) return;
    sim_metad_find_nodes(metad, nodes);
    bool preferred = chance_happens(&sim->chance, CHANCE_ALWAYS / 2);
    int err = shard_record_wish(&metad->record, nodes, metad->record.config_version, node, preferred, &text);
    if (err == SK_OK) sim_metad_publish(sim);
}

void sim_metad_lose(struct sim *sim, uint32_t node) {
    sim->metad.places[node - 1].gone = true;
    sim->metad.nodes[node - 1].alive = false;
}

void sim_metad_force(struct sim *sim, uint32_t node) {
    struct sim_metad *metad = &sim->metad;
    const struct map_node *nodes[MAP_REPLICAS_MAX];
    const char *text;
    sim_metad_find_nodes(metad, nodes);
    int err = shard_record_force(&metad->record, nodes, metad->record.config_version, node, metad->next_replica_id,
                                 &text);
    sim_trace(sim, "metad force node=%u -> %s", node, error_name(err));
    if (err != SK_OK) return;
    metad->next_replica_id += MAP_REPLICAS_MAX;
    sim_metad_publish(sim);
}
