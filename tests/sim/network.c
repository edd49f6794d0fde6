#include "tests/sim/network.h"

#include "tests/sim/sim.h"

#define NOTICE_US        40000u /* a connection that has not come back by then is reported */
#define RECONNECT_US_MAX 200000u
#define LATE_US_MAX      3000000u
#define HELD_MAX         64u /* messages that wait for a connection, or behind a cut */

static uint64_t pack(uint32_t from, uint32_t to) { return (uint64_t)from << 8 | to; }

static struct link *link_of(struct sim *sim, uint64_t packed) {
    return &sim->network.links[packed >> 8][packed & 0xff];
}

static bool carries_entries(const struct parcel *parcel) {
    return parcel->message.head.type == REPLICA_APPEND && parcel->message.entry_count > 0;
}

void network_init(struct sim *sim) {
    sim->network = (struct network){0};
    for (uint32_t from = 0; from < HOSTS_MAX; from++) {
        for (uint32_t to = 0; to < HOSTS_MAX; to++) {
            struct link *link = &sim->network.links[from][to];
            link->session = 1;
            link->tail = &link->held;
        }
    }
}

/* ---- arriving ---- */

static void hand_over(struct sim *sim, uint64_t packed, struct parcel *parcel) {
    struct host *host = &sim->hosts[packed & 0xff];
    host_deliver(sim, host,
                 (struct mail){.kind = MAIL_MESSAGE, .other = (uint32_t)(packed >> 8), .parcel = parcel});
}

static void hold(struct sim *sim, struct link *link, struct parcel *parcel) {
    if (link->held_count == HELD_MAX) {
        parcel_free(&sim->parcels, parcel);
        return;
    }
    parcel->next = NULL;
    *link->tail = parcel;
    link->tail = &parcel->next;
    link->held_count++;
}

/* Outside the order of any connection. */
static void on_late(struct sim *sim, const struct event *event) {
    if (link_of(sim, event->a)->cut) {
        parcel_free(&sim->parcels, event->data);
    } else {
        hand_over(sim, event->a, event->data);
    }
}

static void lose_or_delay(struct sim *sim, uint64_t packed, struct parcel *parcel) {
    if (!chance_happens(&sim->chance, sim->weather.late_ppm)) {
        parcel_free(&sim->parcels, parcel);
        return;
    }
    sim_after(sim, chance_spread(&sim->chance, 100, LATE_US_MAX), on_late, packed, 0, parcel);
}

static void on_arrival(struct sim *sim, const struct event *event) {
    struct link *link = link_of(sim, event->a);
    struct parcel *parcel = event->data;
    if (parcel->session != link->session) { /* the connection broke meanwhile */
        lose_or_delay(sim, event->a, parcel);
        return;
    }
    if (carries_entries(parcel)) link->flying--;
    if (link->cut || link->held != NULL) {
        hold(sim, link, parcel);
    } else {
        hand_over(sim, event->a, parcel);
    }
}

/* ---- leaving ---- */

static uint64_t draw_delay(struct sim *sim) {
    const struct sim_weather *weather = &sim->weather;
    uint64_t delay_us = chance_between(&sim->chance, weather->net_us_min, weather->net_us_max);
    if (chance_happens(&sim->chance, weather->spike_ppm)) {
        delay_us += chance_spread(&sim->chance, 100, weather->spike_us_max);
    }
    return delay_us;
}

static void put(struct sim *sim, uint64_t packed, struct parcel *parcel) {
    struct link *link = link_of(sim, packed);
    uint64_t *last_us = &link->last_us[sim->weather.two_streams && carries_entries(parcel)];
    uint64_t at_us = sim->now_us + draw_delay(sim);
    if (at_us <= *last_us) at_us = *last_us + 1;
    *last_us = at_us;
    if (carries_entries(parcel)) link->flying++;
    parcel->session = link->session;
    sim_after(sim, at_us - sim->now_us, on_arrival, packed, 0, parcel);
}

static void put_double(struct sim *sim, uint64_t packed, const struct parcel *parcel) {
    struct parcel *copy = parcel_new(&sim->parcels);
    copy->message = parcel->message;
    sim_after(sim, chance_spread(&sim->chance, 100, LATE_US_MAX), on_late, packed, 0, copy);
}

bool network_send(struct sim *sim, uint32_t from, uint32_t to, struct parcel *parcel) {
    uint64_t packed = pack(from, to);
    struct link *link = link_of(sim, packed);
    if (carries_entries(parcel) && link->flying >= sim->weather.flying_max) {
        parcel_free(&sim->parcels, parcel);
        return false;
    }
    if (chance_happens(&sim->chance, sim->weather.loss_ppm)) {
        parcel_free(&sim->parcels, parcel);
    } else if (!link->open) {
        hold(sim, link, parcel);
    } else {
        if (chance_happens(&sim->chance, sim->weather.double_ppm)) put_double(sim, packed, parcel);
        put(sim, packed, parcel);
    }
    return true;
}

/* All that is held, oldest first; the link holds nothing any more. */
static struct parcel *take_held(struct link *link) {
    struct parcel *first = link->held;
    link->held = NULL;
    link->tail = &link->held;
    link->held_count = 0;
    return first;
}

/* What was held goes on its way, in its order. */
static void release_held(struct sim *sim, uint64_t packed) {
    struct parcel *parcel = take_held(link_of(sim, packed));
    while (parcel != NULL) {
        struct parcel *next = parcel->next;
        put(sim, packed, parcel);
        parcel = next;
    }
}

/* ---- connections ---- */

static bool runs(const struct sim *sim, uint64_t host) { return sim->hosts[host].state == HOST_RUNNING; }

static void connect_later(struct sim *sim, uint64_t packed);

static void on_connect(struct sim *sim, const struct event *event) {
    struct link *link = link_of(sim, event->a);
    uint64_t from = event->a >> 8, to = event->a & 0xff;
    if (link->open || link->session != event->b || !runs(sim, from) || !runs(sim, to)) return;
    if (link->cut || sim->network.links[to][from].cut) {
        connect_later(sim, event->a);
        return;
    }
    sim_trace(sim, "net   connect h%u>h%u", (unsigned)from, (unsigned)to);
    link->open = true;
    host_deliver(sim, &sim->hosts[from], (struct mail){.kind = MAIL_PEER_UP, .other = (uint32_t)to});
    release_held(sim, event->a);
}

static void connect_later(struct sim *sim, uint64_t packed) {
    uint64_t delay_us = chance_spread(&sim->chance, 100, RECONNECT_US_MAX);
    sim_after(sim, delay_us, on_connect, packed, link_of(sim, packed)->session, NULL);
}

static void on_notice(struct sim *sim, const struct event *event) {
    const struct link *link = link_of(sim, event->a);
    if (link->open || link->session != event->b) return;
    host_deliver(sim, &sim->hosts[event->a >> 8],
                 (struct mail){.kind = MAIL_PEER_DOWN, .other = (uint32_t)(event->a & 0xff)});
}

void network_break(struct sim *sim, uint32_t from, uint32_t to, bool silent) {
    uint64_t packed = pack(from, to);
    struct link *link = link_of(sim, packed);
    if (!link->open) return;
    sim_trace(sim, "net   break h%u>h%u", from, to);
    link->open = false;
    link->session++;
    link->flying = 0;
    struct parcel *parcel = take_held(link);
    while (parcel != NULL) {
        struct parcel *next = parcel->next;
        lose_or_delay(sim, packed, parcel);
        parcel = next;
    }
    if (!silent) sim_after(sim, NOTICE_US, on_notice, packed, link->session, NULL);
    connect_later(sim, packed);
}

void network_on_host_down(struct sim *sim, uint32_t host, bool silent) {
    for (uint32_t other = 0; other < sim->host_count; other++) {
        if (other == host) continue;
        network_break(sim, host, other, true);
        network_break(sim, other, host, silent);
    }
}

void network_on_host_up(struct sim *sim, uint32_t host) {
    for (uint32_t other = 0; other < sim->host_count; other++) {
        if (other == host || !runs(sim, other)) continue;
        connect_later(sim, pack(host, other));
        connect_later(sim, pack(other, host));
    }
    for (uint32_t other = 0; other < sim->host_count; other++) { /* one that never came is missed as well */
        const struct link *link = &sim->network.links[host][other];
        if (other != host) sim_after(sim, NOTICE_US, on_notice, pack(host, other), link->session, NULL);
    }
}

void network_cut(struct sim *sim, uint32_t from, uint32_t to) {
    struct link *link = link_of(sim, pack(from, to));
    if (link->cut) return;
    sim_trace(sim, "net   cut h%u>h%u", from, to);
    link->cut = true;
}

void network_heal(struct sim *sim, uint32_t from, uint32_t to) {
    uint64_t packed = pack(from, to);
    struct link *link = link_of(sim, packed);
    if (!link->cut) return;
    sim_trace(sim, "net   heal h%u>h%u", from, to);
    link->cut = false;
    if (link->open) release_held(sim, packed);
}

bool network_connects(const struct sim *sim, uint32_t from, uint32_t to) {
    const struct link *there = &sim->network.links[from][to], *back = &sim->network.links[to][from];
    return there->open && back->open && !there->cut && !back->cut;
}
