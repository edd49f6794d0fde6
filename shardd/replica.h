/* The replication protocol of one replica of one shard, as a pure core: replica_step takes one event, with the time
 * inside it, and returns effects. It reads no clock, socket or disk and allocates nothing; the lane is its shell, and the
 * simulator will be. Primary-backup in the manner of PacificA (Lin et al., 2008); the rules R1-R31 are in
 * docs/replication.md. Today a shard has one replica, so the in-sync set is this replica alone; what is here is the shape
 * that followers, leases and catch-up are added to.
 *
 *                 CONFIG: leads, new epoch                 first entry of the epoch executed (R5)
 *   FOLLOWER ------------------------------> STARTING -----------------------------------------> LEADER
 *      ^                                        |                                                  |
 *      |     CONFIG: another leads              |                                                  |
 *      +----------------------------------------+--------------------------------------------------+
 *   any role --FAILED--> FAILED (final, R23)
 */
#pragma once

#include "libcommon/map.h"

enum replica_role { REPLICA_FOLLOWER, REPLICA_STARTING, REPLICA_LEADER, REPLICA_FAILED };

struct replica {
    /* who this is */
    uint32_t shard;
    uint32_t node;
    uint64_t incarnation; /* of this process: only it leads what metad gave to it (R6) */
    uint64_t replica_id;
    uint64_t grace_us;

    /* what metad said last */
    uint64_t config_version;
    uint64_t leader_epoch;
    uint32_t leader;
    uint32_t isr_count;
    uint32_t min_isr;

    /* the log: indexes are 1-based, 0 = none */
    enum replica_role role;
    uint64_t last_index;
    uint64_t last_epoch;     /* of the entry at last_index */
    uint64_t durable_index;  /* synced here */
    uint64_t commit_index;   /* on every ISR member */
    uint64_t applied_index;  /* executed here */
    uint64_t first_of_epoch; /* leader: index of the entry that opened its epoch */

    /* time in the state machine, microseconds since 1970 (R26) */
    uint64_t last_time_us;  /* highest stamp seen */
    uint64_t epoch_wall_us; /* leader: the time at which its epoch began, */
    uint64_t epoch_boot_us; /* and CLOCK_BOOTTIME then: within an epoch time advances by it */
};

enum replica_event_type {
    REPLICA_CONFIG,   /* metad's record of the shard */
    REPLICA_WRITE,    /* a command wants to be appended */
    REPLICA_SWEEP,    /* the lane wants what has expired removed */
    REPLICA_APPENDED, /* the entry of the last effect is in the log's buffer */
    REPLICA_DURABLE,  /* the log is synced up to `index` */
    REPLICA_EXECUTED, /* the entry at `index`, the next one, has been executed */
    REPLICA_READ,     /* a command wants to read */
    REPLICA_FAIL,     /* the disk has failed (R23) */
};

struct replica_event {
    enum replica_event_type type;
    uint64_t boot_us;               /* CLOCK_BOOTTIME now */
    uint64_t wall_us;               /* CLOCK_REALTIME now; looked at only when an epoch begins */
    uint64_t index;                 /* DURABLE */
    const struct map_shard *config; /* CONFIG */
};

enum replica_entry_kind { REPLICA_ENTRY_NONE, REPLICA_ENTRY_NOOP, REPLICA_ENTRY_COMMAND, REPLICA_ENTRY_SWEEP };

/* What is to be done, in this order. */
struct replica_effects {
    int refused;                      /* WRITE, SWEEP, READ: SK_OK, or why not: SK_NOT_LEADER, SK_UNAVAILABLE;
                                        CONFIG: SK_STALE_EPOCH, the log is of a later epoch than metad knows */
    enum replica_entry_kind append;   /* append this; when it is in the log feed REPLICA_APPENDED, else nothing */
    uint64_t epoch, index, time_us;   /* of the entry to append; READ: time_us to judge expiry by */
    bool became_leader, stepped_down; /* for the log line; stepped_down: answer waiting requests "unknown" (R8) */
};

/* A replica of nobody yet: a store is opened, and its log replayed, before metad says which node this is. */
void replica_init(struct replica *replica, uint32_t shard, uint64_t replica_id, uint64_t grace_us);
void replica_identify(struct replica *replica, uint32_t node, uint64_t incarnation);

/* Opening a store: the state after applied_index, then every entry of the log behind it, in order. The entries are
 * durable; whether they are committed is known up to `commit_index`. SK_ECORRUPT if they do not follow each other. */
void replica_restore_state(struct replica *replica, uint64_t applied_index, uint64_t epoch, uint64_t time_us);
int replica_restore_entry(struct replica *replica, uint64_t index, uint64_t epoch, uint64_t time_us,
                          uint64_t commit_index);

void replica_step(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);

/* Whether a result of an entry of `epoch` may be told now (R8). */
bool replica_may_answer(const struct replica *replica, uint64_t epoch);

const char *replica_role_name(enum replica_role role);
