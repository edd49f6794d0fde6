#include "tests/sim/sim.h"

#include "libcommon/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE_US      60000000u /* the cluster is whole again this long after faults have stopped */
#define LOOK_US       50000u    /* how often that is looked at */
#define BEACON_US_MIN 60000u    /* some ticks: else the core takes itself for one that was stopped */

/* ---- for the parts ---- */

void sim_print(const struct sim *sim, const char *format, ...) {
    va_list arguments;
    printf("%4" PRIu64 ".%06" PRIu64 " ", sim->now_us / 1000000, sim->now_us % 1000000);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

void sim_fail(struct sim *sim, const char *format, ...) {
    va_list arguments;
    if (sim->options.judge_alone) sim_end(sim, "an invariant is broken");
    va_start(arguments, format);
    vsnprintf(sim->report->text, sizeof sim->report->text, format, arguments);
    va_end(arguments);
    sim_trace(sim, "FAILED %s", sim->report->text);
    sim->report->failed = true;
    longjmp(sim->ended, 1);
}

void sim_end(struct sim *sim, const char *limit) {
    sim_trace(sim, "ends early: %s", limit);
    sim->report->limit = limit;
    longjmp(sim->ended, 1);
}

void sim_after(struct sim *sim, uint64_t delay_us, void (*run)(struct sim *sim, const struct event *event),
               uint64_t a, uint64_t b, void *data) {
    queue_put(&sim->queue,
              (struct event){.at_us = sim->now_us + delay_us, .run = run, .a = a, .b = b, .data = data});
}

uint32_t sim_add_entry(struct sim *sim, const struct sim_entry *entry) {
    if (sim->entry_count + 1 >= sim->entry_room) {
        sim->entry_room = sim->entry_room == 0 ? 1024 : sim->entry_room * 2;
        sim->entries = realloc(sim->entries, sim->entry_room * sizeof *sim->entries);
        sk_assert(sim->entries != NULL);
    }
    sim->entries[++sim->entry_count] = *entry; /* 0 is no entry */
    return sim->entry_count;
}

/* ---- what the world is like ---- */

static uint32_t draw_replicas(struct chance *chance) {
    static const uint8_t by_weight[] = {3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1, 2, 2, 4, 4, 5, 5, 5};
    return by_weight[chance_below(chance, sizeof by_weight)];
}

static void draw_rates(struct sim *sim) {
    struct sim_weather *weather = &sim->weather;
    struct chance *chance = &sim->chance;
    uint32_t spike = (uint32_t)chance_spread(chance, 1000, 50000);
    uint64_t spike_us = chance_spread(chance, 10000, 2000000);
    uint32_t loss = (uint32_t)chance_spread(chance, 500, 50000),
             twice = (uint32_t)chance_spread(chance, 500, 50000);
    uint32_t late = (uint32_t)chance_between(chance, 100000, 900000);
    uint32_t release = (uint32_t)chance_between(chance, 300000, CHANCE_ALWAYS);
    uint32_t client = (uint32_t)chance_spread(chance, 1000, 30000);
    if (faults_has(sim, FAULT_DELAY)) weather->spike_ppm = spike;
    weather->spike_us_max = spike_us;
    if (faults_has(sim, FAULT_LOSS)) weather->loss_ppm = loss;
    if (faults_has(sim, FAULT_DOUBLE)) weather->double_ppm = twice;
    if (faults_has(sim, FAULT_LATE)) weather->late_ppm = late;
    if (faults_has(sim, FAULT_RELEASE)) weather->release_ppm = release;
    if (faults_has(sim, FAULT_INSTALL)) weather->install_fails_ppm = CHANCE_ALWAYS / 4;
    if (faults_has(sim, FAULT_CLIENT)) weather->client_loss_ppm = client;
}

/* Mostly the half of all and one more, as metad has it. */
static uint32_t draw_min_isr(struct chance *chance, uint32_t replicas) {
    uint32_t drawn = (uint32_t)chance_between(chance, 1, replicas);
    return chance_happens(chance, CHANCE_ALWAYS / 3) ? drawn : replicas / 2 + 1;
}

/* Where replicas move there are hosts without one, and the shard may begin with fewer than are wanted. */
static void draw_hosts(struct sim *sim) {
    struct sim_weather *weather = &sim->weather;
    uint32_t spare = (uint32_t)chance_between(&sim->chance, 1, 2);
    uint32_t fewer = (uint32_t)chance_below(&sim->chance, weather->wanted);
    bool starts_small = chance_happens(&sim->chance, CHANCE_ALWAYS / 4);
    weather->replicas = weather->hosts = weather->wanted;
    if (!faults_has(sim, FAULT_MOVE)) return;
    weather->hosts += weather->hosts + spare <= HOSTS_MAX ? spare : HOSTS_MAX - weather->hosts;
    if (starts_small) weather->replicas -= fewer;
    if (weather->min_isr > weather->replicas) weather->min_isr = weather->replicas;
}

/* As they are, or others that go together: promises outlast leases with any clocks that host.c gives out. */
static struct replica_times draw_times(struct chance *chance) {
    struct replica_times times = REPLICA_TIMES_DEFAULT;
    if (chance_happens(chance, CHANCE_ALWAYS / 2)) return times;
    times.lease_us = chance_between(chance, 4 * BEACON_US_MIN, 800000);
    times.grace_us = times.lease_us * 5 / 4 + chance_between(chance, 10000, 100000);
    times.beacon_us = chance_between(chance, BEACON_US_MIN, times.lease_us / 4);
    times.lag_us = times.lease_us * 4 / 5;
    times.retry_us = chance_between(chance, 50000, 150000);
    return times;
}

static void draw_weather(struct sim *sim) {
    struct sim_weather *weather = &sim->weather;
    struct chance *chance = &sim->chance;
    weather->wanted = draw_replicas(chance);
    weather->min_isr = draw_min_isr(chance, weather->wanted);
    draw_hosts(sim);
    weather->times = draw_times(chance);
    if (sim->options.plant == PLANT_SHORT_GRACE) weather->times.grace_us = weather->times.lease_us / 2;
    weather->net_us_min = chance_between(chance, 20, 200);
    weather->net_us_max = weather->net_us_min + chance_spread(chance, 20, 2000);
    weather->sync_us_min = chance_between(chance, 50, 200);
    weather->sync_us_max = weather->sync_us_min + chance_spread(chance, 100, 5000);
    weather->step_us_max = chance_spread(chance, 1, 500);
    weather->checkpoint_us = chance_spread(chance, 100000, 3000000);
    weather->think_us_max = chance_spread(chance, 1000, 100000);
    weather->batch_max = (uint32_t)chance_spread(chance, 1, BATCH_MAX);
    weather->execute_max = (uint32_t)chance_spread(chance, 1, 256);
    weather->flying_max = (uint32_t)chance_spread(chance, 1, 8);
    weather->appends_max = (uint32_t)chance_between(chance, 1, 8);
    weather->two_streams = chance_happens(chance, CHANCE_ALWAYS / 2);
    weather->bulk_waits = chance_happens(chance, CHANCE_ALWAYS / 2);
    weather->durable_once = chance_happens(chance, CHANCE_ALWAYS / 2);
    weather->durable_of_cut = chance_happens(chance, CHANCE_ALWAYS / 2);
    weather->replay_all = chance_happens(chance, CHANCE_ALWAYS / 2);
    draw_rates(sim);
}

static void begin(struct sim *sim, const struct sim_options *options, struct sim_report *report) {
    *report = (struct sim_report){0};
    *sim = (struct sim){.options = *options, .report = report};
    chance_init(&sim->chance, options->seed);
    queue_init(&sim->queue);
    parcel_pool_init(&sim->parcels);
    history_init(&sim->history);
    faults_init(sim);
    draw_weather(sim);
    network_init(sim);
    sim_metad_init(sim);
    ledger_init(sim);
    clients_init(sim);
    sim->host_count = sim->weather.hosts;
    for (uint32_t i = 0; i < sim->host_count; i++) {
        host_init(sim, i);
        host_start(sim, &sim->hosts[i]);
    }
    clients_start(sim);
    faults_start(sim);
}

static void end(struct sim *sim) {
    struct sim_report *report = sim->report;
    report->at_us = sim->now_us;
    report->events = sim->events;
    report->digest = sim->digest;
    report->writes = sim->clients.writes_done;
    report->reads = sim->clients.reads_done;
    report->stale = sim->clients.stale_done;
    report->unknown = sim->clients.unknown;
    report->epochs = sim->metad.record.leader_epoch;
    report->snapshots = sim->snapshots;
    report->moves = sim->moves;
    for (uint32_t i = 0; i < sim->host_count; i++) host_deinit(&sim->hosts[i]);
    history_deinit(&sim->history);
    ledger_deinit(&sim->ledger);
    parcel_pool_deinit(&sim->parcels);
    queue_deinit(&sim->queue);
    free(sim->entries);
}

/* ---- the course of a run ---- */

static void run_event(struct sim *sim) {
    struct event event = queue_take(&sim->queue);
    sim->now_us = event.at_us;
    sim->events++;
    sim->digest = (sim->digest ^ event.at_us ^ event.a << 40 ^ event.b << 20) * 0x9e3779b97f4a7c15u;
    event.run(sim, &event);
    ledger_check(sim);
}

/* Whether the node is there, with its store. */
static bool is_back(const struct sim *sim, uint32_t node) {
    return sim_metad_is_intact(sim, node) && !faults_is_dead(sim, sim_metad_host_of(sim, node));
}

/* Whether somebody who may lead is there with a store: else there is nothing to recover from. */
static bool may_recover(const struct sim *sim) {
    const struct map_shard *record = &sim->metad.record;
    if (!sim->metad.created) return true;
    for (uint32_t i = 0; i < record->replica_count; i++) {
        uint32_t node = record->replicas[i].node;
        if (sim_metad_may_lead(sim, node) && is_back(sim, node)) return true;
    }
    return false;
}

/* What is missing until the cluster is whole; NULL: nothing. */
static const char *what_is_missing(const struct sim *sim, uint64_t stopped_us) {
    const struct map_shard *record = &sim->metad.record;
    if (!sim->metad.created) return "the shard is not created";
    if (sim->clients.last_write_begin_us < stopped_us) return "no write has succeeded";
    if (record->move_to != 0) return "a replica still moves";
    for (uint32_t i = 0; i < record->replica_count; i++) {
        uint32_t node = record->replicas[i].node;
        bool away = !is_back(sim, node);
        if (sim_metad_may_lead(sim, node) == away)
            return away ? "a dead replica is in the in-sync set" : "a replica is not in the in-sync set";
    }
    uint32_t leader = sim_metad_host_of(sim, record->leader);
    if (leader == HOSTS_MAX || sim->hosts[leader].replica.role != REPLICA_LEADER) return "nobody leads";
    if (!host_may_serve(sim, &sim->hosts[leader])) return "the leader does not serve reads";
    if (!sim->clients.stopped) return NULL;
    for (uint32_t i = 0; i < record->replica_count; i++) {
        uint32_t host = sim_metad_host_of(sim, record->replicas[i].node);
        if (faults_is_dead(sim, host) || (host == HOSTS_MAX && sim->faults.dead != 0)) continue;
        if (host == HOSTS_MAX || !sim->hosts[host].has_replica) return "a replica is missing";
        if (sim->hosts[host].machine.applied_index != sim->hosts[leader].replica.last_index) {
            return "not all replicas are level";
        }
        if (host != leader && !host_may_serve_stale(sim, &sim->hosts[host])) {
            return "a follower does not serve reads that may be stale";
        }
    }
    return NULL;
}

/* What clients would read now: so a write that is lost shows even if nobody happens to read its key again. */
static void read_all(struct sim *sim) {
    const struct host *leader = &sim->hosts[sim_metad_host_of(sim, sim->metad.record.leader)];
    for (uint32_t key = 0; key < MACHINE_EXPIRES; key++) {
        struct history_item item = {.command = {.client = CLIENTS_MAX, .op = COMMAND_GET, .key = key},
                                    .begin_us = sim->now_us,
                                    .end_us = sim->now_us};
        item.result = machine_read(&leader->machine, &item.command, 0);
        history_add(&sim->history, &item);
    }
}

/* Faults are over. Within WHOLE_US a write succeeds, all replicas are in the in-sync set, and, when clients have stopped,
 * all have executed the same. */
static void run_until_whole(struct sim *sim) {
    uint64_t stopped_us = sim->now_us, look_us = sim->now_us;
    if (!may_recover(sim)) return;
    for (;;) {
        while (sim->now_us < look_us) run_event(sim);
        look_us = sim->now_us + LOOK_US;
        const char *missing = what_is_missing(sim, stopped_us);
        if (missing == NULL && sim->clients.stopped) break;
        if (missing == NULL) sim->clients.stopped = true;
        if (sim->now_us <= stopped_us + WHOLE_US) continue;
        if (!may_recover(sim)) return; /* with a small min_isr, a change on its way has left only the dead in it */
        sim_fail(sim, "not whole after the faults: %s", missing);
    }
    read_all(sim);
}

static void run(struct sim *sim) {
    while (sim->events < sim->options.events) run_event(sim);
    faults_stop(sim);
    run_until_whole(sim);
}

/* However the run has ended: what clients were told must be what one store could have told them. */
static void judge(struct sim *sim) {
    struct sim_report *report = sim->report;
    clients_end(sim);
    enum history_verdict verdict = history_judge(&sim->history, report->text, sizeof report->text);
    report->failed = verdict == HISTORY_BAD;
    if (verdict == HISTORY_UNDECIDED) report->limit = "the judge gives up";
}

bool sim_run(const struct sim_options *options, struct sim_report *report) {
    struct sim *sim = malloc(sizeof *sim);
    sk_assert(sim != NULL);
    begin(sim, options, report);
    if (setjmp(sim->ended) == 0) run(sim);
    if (!report->failed) judge(sim);
    end(sim);
    free(sim);
    return !report->failed;
}
