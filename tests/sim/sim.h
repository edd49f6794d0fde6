/* A whole cluster of the real replication core in virtual time, for one seed: everything that happens, and when, is drawn
 * from it, so a run can be repeated exactly. One shard (shards are independent), its replicas, metad, clients, and what
 * goes wrong. One thread, no clock, no dependence on addresses.
 *
 *   queue ──event──> host (shell + shardd/replica.c) ── drive
 *     ^                │            │
 *     └── network <────┘            └──> ledger: invariants after every event
 *           ^
 *     clients, sim_metad, faults
 *
 * After `events` events faults stop, everything that may come back does, and the cluster must become whole again. */
#pragma once

#include "tests/sim/clients.h"
#include "tests/sim/faults.h"
#include "tests/sim/history.h"
#include "tests/sim/host.h"
#include "tests/sim/ledger.h"
#include "tests/sim/plant.h"
#include "tests/sim/queue.h"
#include "tests/sim/sim_metad.h"
#include "tests/sim/sim_moves.h"
#include "tests/sim/succession.h"

#include <setjmp.h>

#define SHARD      5u
#define FAULT_TEXT 400u

struct sim_options {
    uint64_t seed;
    uint64_t events; /* before faults stop */
    uint32_t faults; /* mask of enum fault: which may be drawn */
    enum plant plant;
    bool judge_alone; /* no invariants: what clients were told decides alone, as if nobody could look inside */
    bool verbose;     /* a line for everything that happens, to stdout */
};

/* What became of a run. */
struct sim_report {
    bool failed;
    const char *limit;     /* a known limit that the run came to, and has not proved all; static */
    char text[FAULT_TEXT]; /* failed: which invariant, and how */
    uint64_t at_us;        /* virtual time of its end */
    uint64_t events;
    uint64_t digest; /* of all that has happened: equal for equal runs */
    uint64_t writes, reads, stale, unknown, epochs, snapshots, moves;
};

/* What this run's world is like. */
struct sim_weather {
    uint32_t hosts;
    uint32_t replicas, min_isr; /* of the shard as it is created */
    uint32_t wanted;            /* replicas that it may grow to */
    struct replica_times times;
    uint64_t net_us_min, net_us_max; /* a message takes so long, */
    uint32_t spike_ppm;              /* sometimes */
    uint64_t spike_us_max;           /* up to this */
    uint32_t loss_ppm, double_ppm, late_ppm;
    uint64_t sync_us_min, sync_us_max;
    uint64_t step_us_max;   /* from mail to the step that takes it */
    uint64_t checkpoint_us; /* about so often */
    uint32_t release_ppm;   /* released whether or not all have it */
    uint32_t install_fails_ppm;
    uint32_t client_loss_ppm;
    uint64_t think_us_max;
    uint32_t batch_max, execute_max, flying_max, appends_max;
    bool two_streams;    /* entries do not hold up what is urgent */
    bool bulk_waits;     /* messages whose entries find a full disk wait, and are not dropped */
    bool durable_once;   /* the core is told of a group once, not for each entry */
    bool durable_of_cut; /* and of entries too that were cut meanwhile */
    bool replay_all;     /* the log is replayed from its oldest record, not from the checkpoint's */
};

struct sim_entry {
    uint64_t index, epoch, time_us;
    uint64_t commit_index; /* the leader's, when it was appended */
    enum replica_entry_kind kind;
    uint32_t older; /* ledger: another entry with the same index */
    struct command command;
};

struct sim {
    struct sim_options options;
    struct sim_report *report; /* borrowed */
    struct chance chance;
    struct queue queue;
    struct parcel_pool parcels;
    uint64_t now_us;
    uint64_t events;
    uint64_t digest;
    struct sim_weather weather;
    struct sim_entry *entries; /* owned; from 1 on */
    uint32_t entry_count, entry_room;
    struct network network;
    struct sim_metad metad;
    struct host hosts[HOSTS_MAX];
    uint32_t host_count;
    struct clients clients;
    struct ledger ledger;
    struct faults faults;
    struct succession succession;
    struct history history;
    uint64_t snapshots, stores, moves;
    jmp_buf ended;
};

/* One seed from its beginning to its end. False: it has failed; the report says how. */
bool sim_run(const struct sim_options *options, struct sim_report *report);

/* ---- for the parts of the simulation ---- */

/* Ends the run: an invariant is broken, or (judge_alone) it cannot go on, and only the judge fails it. */
_Noreturn void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Ends the run early: it has come to a known limit, and has proved nothing more. */
_Noreturn void sim_end(struct sim *sim, const char *limit);

/* A call of `run` after so long. */
void sim_after(struct sim *sim, uint64_t delay_us, void (*run)(struct sim *sim, const struct event *event),
               uint64_t a, uint64_t b, void *data);

/* The number of a new entry, which is a copy of `entry`. */
uint32_t sim_add_entry(struct sim *sim, const struct sim_entry *entry);

/* A line of the trace: time, who, what. */
#define sim_trace(sim, ...)                                                                                       \
    do {                                                                                                          \
        if ((sim)->options.verbose) sim_print(sim, __VA_ARGS__);                                                  \
    } while (0)
void sim_print(const struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
