/* Clients, each with a gateway: it has one operation at a time, sends it to the node it takes for the leader, again under
 * the same name when that was refused or there is no answer, and gives up at a deadline, the outcome unknown (R9). */
#pragma once

#include "tests/sim/ledger.h"

struct client {
    uint32_t number;
    uint64_t generation; /* of its timers */
    bool busy;
    struct command command;
    uint64_t begin_us, deadline_us;
    struct ledger_floor floor;  /* what had been answered when it began */
    uint64_t attempts, refused; /* sent, and surely not done */
    bool stale; /* a read whose first attempt goes to whatever node, as a follower may serve it (R17) */
    uint64_t last_attempt;
    struct value seen[MACHINE_KEYS]; /* last known, for CAS */
    uint64_t last_number;

    /* its gateway's map */
    uint64_t map_version;
    uint32_t leader;
    uint64_t poll_us; /* when it was asked for last */
    uint64_t deaf_us; /* no map reaches it before */
};

struct clients {
    struct client clients[CLIENTS_MAX];
    uint32_t count;

    bool stopped; /* no new operations */
    uint64_t writes_done, reads_done, stale_done, unknown, not_done;
    uint64_t last_write_begin_us; /* the latest begin of a write that has succeeded */
};

struct sim;

void clients_init(struct sim *sim);
void clients_start(struct sim *sim);

/* metad has published a map. */
void clients_publish(struct sim *sim);

/* A node's answer to `client`. */
void clients_answer(struct sim *sim, uint32_t host, uint32_t client, const struct parcel_answer *answer);

/* The run is over: what is under way has an unknown outcome. */
void clients_end(struct sim *sim);
