/* The connections between simulated nodes: one for each ordered pair, in order and without loss while it lasts, as nng's
 * pipelines on TCP (of two streams, if the run has it so: entries, and what is urgent); what is under way when it breaks is lost or comes late, behind messages of its successor (R27). On
 * top of that single messages are lost or doubled, as the protocol says that it bears. */
#pragma once

#include "tests/sim/parcel.h"

#define HOSTS_MAX 6u

/* From one host to another. */
struct link {
    bool open;
    bool cut;             /* nothing arrives for now; the ends do not notice */
    uint64_t session;     /* raised when it breaks */
    uint64_t last_us[2];  /* when the last message arrives: later ones of its stream do not overtake it */
    uint32_t flying;      /* messages with entries on their way */
    struct parcel *held;  /* owned: oldest first; of this session, behind a cut, or waiting for a connection */
    struct parcel **tail; /* where the next one is hung */
    uint32_t held_count;
};

struct network {
    struct link links[HOSTS_MAX][HOSTS_MAX]; /* [from][to] */
};

struct sim;

void network_init(struct sim *sim);

/* Sends a message between hosts. Owns the parcel. False: nothing more goes out now, the parcel is dropped. */
bool network_send(struct sim *sim, uint32_t from, uint32_t to, struct parcel *parcel);

/* Breaks a connection; it comes back by itself when both ends run. `silent`: the sender is not told before that. */
void network_break(struct sim *sim, uint32_t from, uint32_t to, bool silent);

/* A process has gone: all its connections break; has come: they are made. */
void network_on_host_down(struct sim *sim, uint32_t host, bool silent);
void network_on_host_up(struct sim *sim, uint32_t host);

void network_cut(struct sim *sim, uint32_t from, uint32_t to);
void network_heal(struct sim *sim, uint32_t from, uint32_t to);

/* Whether data gets from one to the other now. */
bool network_connects(const struct sim *sim, uint32_t from, uint32_t to);
