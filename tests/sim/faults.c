#include "tests/sim/faults.h"

#include "tests/sim/sim.h"

#include <string.h>

#define MEAN_US_MIN  30000u
#define MEAN_US_MAX  2000000u
#define SHORT_US     20000u
#define LONG_US      4000000u
#define JUMP_US      2000000u /* of CLOCK_REALTIME */
#define APPENDS_MAX  8u
#define LATER_US_MAX 500000u
#define SUSPECTS_MAX 2u       /* at a time */
#define DEAD_PPM     300000u  /* how often a host stays away in the end */
#define PERSON_US    1500000u /* how often a person looks */
#define AIM_PPM      250000u  /* how often a fault strikes at a moment that matters, */
#define AIMED_PPM    600000u  /* him for whom it does, */
#define AIM_US_MAX   300000u  /* and how soon */

static const char *const names[] = {
#define X(symbol, name, text) name,
    FAULTS(X)
#undef X
};

/* Those that happen at a moment; the others are how the world is. */
static const enum fault momentary[] = {
    FAULT_BREAK, FAULT_CUT,  FAULT_ONEWAY, FAULT_CRASH, FAULT_POWER,    FAULT_PAUSE, FAULT_SLOW,       FAULT_FULL,
    FAULT_FSYNC, FAULT_WIPE, FAULT_CLOCK,  FAULT_METAD, FAULT_HANDOVER, FAULT_TAIL,  FAULT_SUCCESSION, FAULT_MOVE};

bool faults_may(const struct sim *sim, enum fault fault) { return (sim->faults.active >> fault & 1) != 0; }

bool faults_is_dead(const struct sim *sim, uint32_t host) { return (sim->faults.dead >> host & 1) != 0; }

bool faults_has(const struct sim *sim, enum fault fault) { return !sim->faults.stopped && faults_may(sim, fault); }

static bool mask_of_name(const char *name, size_t length, uint32_t *mask) {
    for (uint32_t i = 0; i < FAULT_COUNT; i++) {
        if (strlen(names[i]) != length || memcmp(names[i], name, length) != 0) continue;
        *mask |= 1u << i;
        return true;
    }
    return false;
}

bool faults_parse(const char *text, uint32_t *mask) {
    *mask = strcmp(text, "all") == 0 ? FAULTS_ALL : 0;
    if (strcmp(text, "all") == 0 || strcmp(text, "none") == 0) return true;
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        if (!mask_of_name(text, length, mask)) return false;
        text += length + (text[length] == ',');
    }
    return true;
}

/* Each run has its own mixture: a few faults that happen often find more than all of them seldom. */
void faults_init(struct sim *sim) {
    struct faults *faults = &sim->faults;
    *faults = (struct faults){.mean_us = chance_spread(&sim->chance, MEAN_US_MIN, MEAN_US_MAX)};
    uint32_t share = (uint32_t)chance_between(&sim->chance, CHANCE_ALWAYS / 10, CHANCE_ALWAYS * 9 / 10);
    for (uint32_t i = 0; i < FAULT_COUNT; i++) {
        bool drawn = chance_happens(&sim->chance, share);
        if (drawn && (sim->options.faults >> i & 1) != 0) faults->active |= 1u << i;
    }
    for (uint32_t i = 0; i < sizeof momentary / sizeof momentary[0]; i++) {
        if (faults_has(sim, momentary[i])) faults->kinds[faults->kind_count++] = momentary[i];
    }
}

/* ---- who is hit ---- */

static struct host *draw_host(struct sim *sim) { return &sim->hosts[chance_below(&sim->chance, sim->host_count)]; }

/* Any host, the leader more often; whom the fault is aimed at most often. */
static struct host *draw_victim(struct sim *sim) {
    uint32_t leader = sim_metad_host_of(sim, sim->metad.record.leader), aimed = sim->faults.aimed;
    if (aimed != 0 && chance_happens(&sim->chance, AIMED_PPM)) return &sim->hosts[aimed - 1];
    if (leader < HOSTS_MAX && chance_happens(&sim->chance, 300000)) return &sim->hosts[leader];
    return draw_host(sim);
}

static uint64_t draw_while(struct sim *sim) { return chance_spread(&sim->chance, SHORT_US, LONG_US); }

/* Whether everything committed is on the disk of somebody who may lead, `node` left out. */
static bool others_hold_all(const struct sim *sim, uint32_t node) {
    const struct map_shard *record = &sim->metad.record;
    if (!sim->metad.created) return false;
    if (!sim_metad_may_lead(sim, node)) return true;
    for (uint32_t i = 0; i < record->replica_count; i++) {
        uint32_t other = record->replicas[i].node;
        if (other == node || !sim_metad_may_lead(sim, other)) continue;
        if (sim_metad_is_intact(sim, other)) return true;
    }
    return false;
}

/* ---- processes ---- */

static void on_start(struct sim *sim, const struct event *event) {
    if (!faults_is_dead(sim, (uint32_t)event->a)) host_start(sim, &sim->hosts[event->a]);
}

static void start_later(struct sim *sim, const struct host *host) {
    sim_after(sim, chance_spread(&sim->chance, 1000, 3000000), on_start, host->number, 0, NULL);
}

static void crash(struct sim *sim) {
    struct host *host = draw_victim(sim);
    if (host->state == HOST_DOWN) return;
    host_crash(sim, host, chance_happens(&sim->chance, 300000));
    start_later(sim, host);
}

/* As a disk that lies, or durability by interval, may bring it about (R31). Of those on which nobody counts: what a member
 * of the in-sync set has acknowledged must be there. */
static void lose_tail(struct sim *sim) {
    uint32_t first = (uint32_t)chance_below(&sim->chance, sim->host_count);
    for (uint32_t i = 0; i < sim->host_count; i++) {
        struct host *host = &sim->hosts[(first + i) % sim->host_count];
        uint32_t node = host->drive.node;
        bool unused = sim->metad.created && node != 0 && !host->drive.suspect && !host->drive.installing;
        if (!unused || sim_metad_may_lead(sim, node)) continue;
        host_crash(sim, host, true);
        if (drive_lose_tail(&host->drive, &sim->chance)) sim_trace(sim, "fault tail h%u", host->number);
        start_later(sim, host);
        return;
    }
}

static void cut_power(struct sim *sim) {
    sim_trace(sim, "fault power");
    for (uint32_t i = 0; i < sim->host_count; i++) {
        host_crash(sim, &sim->hosts[i], true);
        start_later(sim, &sim->hosts[i]);
    }
}

static void on_resume(struct sim *sim, const struct event *event) { host_resume(sim, &sim->hosts[event->a]); }

/* ---- the network ---- */

static void break_one(struct sim *sim) {
    uint32_t a = draw_host(sim)->number, b = draw_host(sim)->number;
    if (a == b) return;
    network_break(sim, a, b, false);
    if (chance_happens(&sim->chance, CHANCE_ALWAYS / 2)) network_break(sim, b, a, false);
}

/* a: bit i: host i does not reach metad; b: bit i × HOSTS_MAX + j: the link from i to j is cut. */
static void on_heal(struct sim *sim, const struct event *event) {
    for (uint32_t i = 0; i < HOSTS_MAX * HOSTS_MAX; i++) {
        if ((event->b >> i & 1) != 0) network_heal(sim, i / HOSTS_MAX, i % HOSTS_MAX);
    }
    for (uint32_t i = 0; i < HOSTS_MAX; i++) {
        if ((event->a >> i & 1) != 0) sim->metad.unreachable[i] = false;
    }
}

static uint64_t link_bit(uint32_t from, uint32_t to) { return 1ull << (from * HOSTS_MAX + to); }

/* Each pair, and who is without metad, at a time of its own. */
static void heal_by_and_by(struct sim *sim, uint64_t hosts, uint64_t links, uint64_t while_us) {
    for (uint32_t i = 0; i < HOSTS_MAX; i++) {
        for (uint32_t j = 0; j < i; j++) {
            uint64_t pair = links & (link_bit(i, j) | link_bit(j, i));
            uint64_t after_us = chance_between(&sim->chance, while_us / 2, while_us);
            if (pair != 0) sim_after(sim, after_us, on_heal, 0, pair, NULL);
        }
        uint64_t after_us = chance_between(&sim->chance, while_us / 2, while_us);
        if ((hosts >> i & 1) != 0) sim_after(sim, after_us, on_heal, 1ull << i, 0, NULL);
    }
}

static void cut_links(struct sim *sim, uint64_t hosts, uint64_t links, uint64_t while_us) {
    for (uint32_t i = 0; i < HOSTS_MAX * HOSTS_MAX; i++) {
        if ((links >> i & 1) != 0) network_cut(sim, i / HOSTS_MAX, i % HOSTS_MAX);
    }
    for (uint32_t i = 0; i < HOSTS_MAX; i++) {
        if ((hosts >> i & 1) != 0) sim->metad.unreachable[i] = true;
    }
    if (chance_happens(&sim->chance, CHANCE_ALWAYS / 2)) {
        sim_after(sim, while_us, on_heal, hosts, links, NULL);
    } else {
        heal_by_and_by(sim, hosts, links, while_us);
    }
}

/* Between two groups; towards one of them only if `oneway`. One of them may be without metad, too. */
static void cut(struct sim *sim, bool oneway) {
    uint64_t links = 0, side = chance_u64(&sim->chance);
    if (chance_happens(&sim->chance, CHANCE_ALWAYS / 2)) side = 1ull << draw_victim(sim)->number;
    if (oneway && chance_happens(&sim->chance, CHANCE_ALWAYS / 2)) side = ~side;
    for (uint32_t i = 0; i < sim->host_count; i++) {
        for (uint32_t j = 0; j < sim->host_count; j++) {
            bool crosses = (side >> i & 1) != (side >> j & 1);
            if (crosses && (!oneway || (side >> i & 1) != 0)) links |= link_bit(i, j);
        }
    }
    uint64_t hosts = chance_happens(&sim->chance, CHANCE_ALWAYS / 2) ? side : 0;
    cut_links(sim, hosts, links, draw_while(sim));
}

/* A process stands still. As when a machine does, what was on its way to it may come only some time after it goes on. */
static void pause_one(struct sim *sim) {
    struct host *host = draw_victim(sim);
    uint64_t while_us = draw_while(sim), links = 0;
    host_pause(sim, host);
    sim_after(sim, while_us, on_resume, host->number, 0, NULL);
    if (!chance_happens(&sim->chance, CHANCE_ALWAYS / 2)) return;
    for (uint32_t i = 0; i < sim->host_count; i++) {
        if (i != host->number) links |= link_bit(host->number, i) | link_bit(i, host->number);
    }
    while_us += chance_spread(&sim->chance, 1000, LATER_US_MAX);
    cut_links(sim, 1ull << host->number, links, while_us);
}

/* ---- disks ---- */

static void on_fast(struct sim *sim, const struct event *event) { sim->hosts[event->a].drive.slow_us = 0; }

static void slow_one(struct sim *sim) {
    struct host *host = draw_victim(sim);
    host->drive.slow_us = chance_spread(&sim->chance, 20000, 3000000);
    sim_trace(sim, "fault slow h%u %llu us", host->number, (unsigned long long)host->drive.slow_us);
    sim_after(sim, draw_while(sim), on_fast, host->number, 0, NULL);
}

static void on_space(struct sim *sim, const struct event *event) { sim->hosts[event->a].drive.full = false; }

static void fill_one(struct sim *sim) {
    struct host *host = draw_victim(sim);
    sim_trace(sim, "fault full h%u", host->number);
    host->drive.full = true;
    sim_after(sim, draw_while(sim), on_space, host->number, 0, NULL);
}

/* An operator replaces the store by an empty one, if nothing is lost by that. */
static bool replace_store(struct sim *sim, struct host *host) {
    uint32_t node = host->drive.node;
    bool room = sim->metad.node_count + 2 * HOSTS_MAX < NODES_MAX;
    if (node == 0 || !room || !others_hold_all(sim, node)) return false;
    host_crash(sim, host, true);
    sim_metad_lose(sim, node);
    host_wipe(sim, host);
    return true;
}

static void wipe_one(struct sim *sim) {
    struct host *host = draw_victim(sim);
    if (replace_store(sim, host)) start_later(sim, host);
}

static void on_replace(struct sim *sim, const struct event *event) {
    struct host *host = &sim->hosts[event->a];
    if (!host->drive.suspect) return;
    if (replace_store(sim, host)) {
        start_later(sim, host);
    } else {
        sim_after(sim, LONG_US, on_replace, event->a, 0, NULL);
    }
}

static void fail_sync(struct sim *sim) {
    struct host *host = draw_victim(sim);
    uint32_t suspects = 0;
    for (uint32_t i = 0; i < sim->host_count; i++) suspects += sim->hosts[i].drive.suspect;
    bool room = sim->metad.node_count + 4 * HOSTS_MAX < NODES_MAX;
    bool may = room && host->state == HOST_RUNNING && !host->drive.suspect && host->drive.node != 0;
    if (!may || suspects >= SUSPECTS_MAX || !others_hold_all(sim, host->drive.node)) return;
    sim_trace(sim, "fault fsync h%u", host->number);
    host_fail_disk(sim, host);
    sim_after(sim, draw_while(sim), on_replace, host->number, 0, NULL);
}

/* ---- clocks, metad ---- */

/* A person sees that too few replicas are left for the in-sync set to come back by itself, and lets one of those lead that
 * hold everything (R12). */
static void on_person(struct sim *sim, const struct event *event) {
    (void)event;
    const struct map_shard *record = &sim->metad.record;
    uint32_t intact = 0, chosen = 0;
    sim_after(sim, PERSON_US, on_person, 0, 0, NULL);
    if (!sim->metad.created || sim->metad.down) return;
    for (uint32_t i = 0; i < record->replica_count; i++) {
        uint32_t node = record->replicas[i].node;
        if (!sim_metad_is_intact(sim, node)) continue;
        intact++;
        if (sim_metad_may_lead(sim, node)) chosen = node;
    }
    bool stuck = chosen != 0 && intact < record->min_isr;
    bool lost = false; /* somebody who counts */
    for (uint32_t i = 0; i < record->isr_count; i++) lost = lost || !sim_metad_is_intact(sim, record->isr[i]);
    for (uint32_t i = 0; i < record->eligible_count; i++) {
        lost = lost || !sim_metad_is_intact(sim, record->eligible[i]);
    }
    if (stuck && lost) sim_metad_force(sim, chosen);
}

static void jump_one(struct sim *sim) {
    struct host *host = draw_host(sim);
    host->wall_offset_us = (int64_t)chance_between(&sim->chance, 0, 2 * (uint64_t)JUMP_US) - (int64_t)JUMP_US;
}

static void on_metad_up(struct sim *sim, const struct event *event) {
    (void)event;
    sim->metad.down = false;
}

static void on_metad_reached(struct sim *sim, const struct event *event) {
    sim->metad.unreachable[event->a] = false;
}

static void on_metad_heard(struct sim *sim, const struct event *event) { sim->metad.unheard[event->a] = false; }

static void disturb_metad(struct sim *sim) {
    if (chance_happens(&sim->chance, CHANCE_ALWAYS / 3)) {
        uint32_t host = draw_victim(sim)->number;
        sim_trace(sim, "fault metad unheard h%u", host);
        sim->metad.unheard[host] = true;
        sim_after(sim, draw_while(sim), on_metad_heard, host, 0, NULL);
    } else if (chance_happens(&sim->chance, CHANCE_ALWAYS / 2)) {
        sim_trace(sim, "fault metad down");
        sim->metad.down = true;
        sim_after(sim, draw_while(sim), on_metad_up, 0, 0, NULL);
    } else {
        uint32_t host = draw_victim(sim)->number;
        sim_trace(sim, "fault metad unreachable h%u", host);
        sim->metad.unreachable[host] = true;
        sim_after(sim, draw_while(sim), on_metad_reached, host, 0, NULL);
    }
}

static void want_handover(struct sim *sim) {
    const struct map_shard *record = &sim->metad.record;
    if (record->isr_count == 0) return;
    sim_metad_want_leader(sim, record->isr[chance_below(&sim->chance, record->isr_count)]);
}

/* ---- the course of a run ---- */

static void happen(struct sim *sim, enum fault fault) {
    switch (fault) {
    case FAULT_BREAK:
        break_one(sim);
        return;
    case FAULT_CUT:
        cut(sim, false);
        return;
    case FAULT_ONEWAY:
        cut(sim, true);
        return;
    case FAULT_CRASH:
        crash(sim);
        return;
    case FAULT_POWER:
        cut_power(sim);
        return;
    case FAULT_PAUSE:
        pause_one(sim);
        return;
    case FAULT_SLOW:
        slow_one(sim);
        return;
    case FAULT_FULL:
        fill_one(sim);
        return;
    case FAULT_FSYNC:
        fail_sync(sim);
        return;
    case FAULT_WIPE:
        wipe_one(sim);
        return;
    case FAULT_CLOCK:
        jump_one(sim);
        return;
    case FAULT_METAD:
        disturb_metad(sim);
        return;
    case FAULT_HANDOVER:
        want_handover(sim);
        return;
    case FAULT_MOVE:
        sim_moves_disturb(sim);
        return;
    case FAULT_SUCCESSION:
        succession_begin(sim);
        return;
    case FAULT_TAIL:
        lose_tail(sim);
        return;
    default:
        return;
    }
}

static void happen_any(struct sim *sim) {
    struct faults *faults = &sim->faults;
    if (faults->stopped || faults->kind_count == 0) return;
    happen(sim, (enum fault)faults->kinds[chance_below(&sim->chance, faults->kind_count)]);
}

/* a: host. */
static void on_strike(struct sim *sim, const struct event *event) {
    sim->faults.aimed = (uint32_t)event->a + 1;
    happen_any(sim);
    sim->faults.aimed = 0;
}

void faults_aim(struct sim *sim, uint32_t host) {
    if (!faults_has(sim, FAULT_AIM) || !chance_happens(&sim->chance, AIM_PPM)) return;
    sim_after(sim, chance_spread(&sim->chance, 100, AIM_US_MAX), on_strike, host, 0, NULL);
}

static void on_fault(struct sim *sim, const struct event *event) {
    (void)event;
    const struct faults *faults = &sim->faults;
    if (faults->stopped || faults->kind_count == 0) return;
    happen_any(sim);
    sim_after(sim, chance_spread(&sim->chance, faults->mean_us / 4, faults->mean_us * 2), on_fault, 0, 0, NULL);
}

void faults_start(struct sim *sim) {
    sim_after(sim, sim->faults.mean_us, on_fault, 0, 0, NULL);
    sim_after(sim, PERSON_US, on_person, 0, 0, NULL);
}

static void calm_weather(struct sim_weather *weather) {
    weather->loss_ppm = weather->double_ppm = weather->late_ppm = weather->spike_ppm = 0;
    weather->install_fails_ppm = weather->client_loss_ppm = 0;
    weather->batch_max = BATCH_MAX; /* else who lags may never catch up with the clients */
    weather->appends_max = weather->flying_max = APPENDS_MAX;
}

/* Whether the cluster goes on without `hosts`: enough others, one of which may lead. */
static bool can_do_without(const struct sim *sim, uint32_t hosts) {
    const struct map_shard *record = &sim->metad.record;
    uint32_t others = 0, leaders = 0;
    for (uint32_t i = 0; i < record->replica_count; i++) {
        uint32_t node = record->replicas[i].node;
        if (!sim_metad_is_intact(sim, node) || (hosts >> sim_metad_host_of(sim, node) & 1) != 0) continue;
        others++;
        leaders += sim_metad_may_lead(sim, node);
    }
    return sim->metad.created && others >= record->min_isr && leaders > 0;
}

static void draw_dead(struct sim *sim) {
    if ((sim->options.faults >> FAULT_CRASH & 1) == 0) return;
    for (uint32_t i = 0; i < sim->host_count / 2; i++) {
        uint32_t hosts = sim->faults.dead | 1u << draw_victim(sim)->number;
        if (chance_happens(&sim->chance, DEAD_PPM) && can_do_without(sim, hosts)) sim->faults.dead = hosts;
    }
}

static void recover(struct sim *sim, struct host *host) {
    if (faults_is_dead(sim, host->number)) {
        host_crash(sim, host, true);
        return;
    }
    host->drive.full = false;
    host->drive.slow_us = 0;
    sim->metad.unreachable[host->number] = sim->metad.unheard[host->number] = false;
    for (uint32_t other = 0; other < sim->host_count; other++) network_heal(sim, host->number, other);
    if (host->drive.suspect && !replace_store(sim, host)) return;
    host_resume(sim, host);
    host_start(sim, host);
}

void faults_stop(struct sim *sim) {
    sim_trace(sim, "fault none any more");
    sim->faults.stopped = true;
    sim->metad.down = false;
    calm_weather(&sim->weather);
    draw_dead(sim);
    for (uint32_t i = 0; i < sim->host_count; i++) recover(sim, &sim->hosts[i]);
}
