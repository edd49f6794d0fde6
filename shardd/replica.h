/* The replication protocol of one replica of one shard, as a pure core: replica_step takes one event, with the time
 * inside it, and fills in what is to be done. It reads no clock, socket or disk and allocates nothing; the lane is its
 * shell, and so is the simulator (tests/sim). Primary-backup in the manner of PacificA (Lin et al., 2008), in-sync set and
 * table of epochs after Kafka; the rules R1-R31 are in docs/replication.md.
 *
 *                 CONFIG: leads, new epoch             the epoch's first entry is committed and executed (R5)
 *   FOLLOWER ------------------------------> STARTING -----------------------------------------> LEADER
 *      ^                                        |                                                  |
 *      |   CONFIG: another leads; a higher epoch was seen (R1)                                     |
 *      +----------------------------------------+--------------------------------------------------+
 *   any role --FAIL, or a cut below what is committed (R7)--> FAILED (final, R23)
 *
 * A leader stores its epoch and opens it at the others; its first entry follows once as many of them have opened it as a
 * commit needs. A follower's log is a copy of its leader's once OPEN, which carries the leader's table of epochs, has been
 * adopted: epoch stored, tail cut, both durable. From then on entries simply continue, acknowledgements are cumulative, and
 * what is lost on the way is sent again.
 *
 *   leader                                     follower
 *     OPEN epoch, table            ───────>    ADOPT: store the epoch, cut behind the common point
 *                                  <───────    ACK durable, last
 *     APPEND prev, entries, commit ───────>    append, sync
 *                                  <───────    ACK
 *     BEACON sent, commit, time,   ───────>    promise not to lead for grace (R15)
 *            echo                  <───────    PROMISE sent, own clock, durable, last
 */
#pragma once

#include "libcommon/map.h"
#include "shardd/epochs.h"
#include "shardd/progress.h"

enum replica_role { REPLICA_FOLLOWER, REPLICA_STARTING, REPLICA_LEADER, REPLICA_FAILED };

/* The times of the protocol, microseconds. grace > lease × (1 + drift) + margin (R15). */
struct replica_times {
    uint64_t beacon_us; /* between beacons */
    uint64_t lease_us;  /* a follower's answer counts so long from the beacon's sending */
    uint64_t grace_us;  /* a promise holds so long from the beacon's arrival */
    uint64_t lag_us;    /* a member of the in-sync set that owes something for so long is put out of it */
    uint64_t retry_us;  /* what was not answered is asked again */
};

/* Reads show no time that is further than AGE beyond what is on disk; a process that starts with what it finds there begins
 * behind that (R26). The leader's time goes to disk whenever it is KEPT beyond what went there last (the shell's task):
 * a sync may take the rest, before the time of reads stands still. */
#define REPLICA_TIME_AGE_US  1500000u
#define REPLICA_TIME_KEPT_US (REPLICA_TIME_AGE_US / 2)

/* A follower's read shows everything that was acknowledged so long before it, by the follower's clock (R17). */
#define REPLICA_STALE_US 500000u

#define REPLICA_TIMES_DEFAULT                                                                                     \
    (struct replica_times) {                                                                                      \
        .beacon_us = 100000, .lease_us = 500000, .grace_us = 700000, .lag_us = 400000, .retry_us = 100000         \
    }

/* ---- messages between replicas of a shard ---- */

enum replica_message_type {
    REPLICA_OPEN = 1, /* leader: my epoch and where the epochs of my log begin */
    REPLICA_APPEND,   /* leader: entries that follow `prev_index` */
    REPLICA_ACK,      /* follower: what I have */
    REPLICA_BEACON,   /* leader: I am here */
    REPLICA_PROMISE,  /* follower: the answer to a beacon, and what I have */
    REPLICA_REFUSAL,  /* follower: my epoch is not yours. Higher: you lead no more (R1). Else: open first. */
    REPLICA_RELEASE,  /* leader: what you have promised me in this epoch is void (R20) */
};

/* All fields of all types; those that a type does not name are 0. Entries travel behind it (the shell's). */
struct replica_message {
    enum replica_message_type type;
    uint32_t shard;
    uint32_t from, to;         /* nodes */
    uint64_t from_incarnation; /* of the sending process (R1, R4) */
    uint64_t replica_id;       /* the follower's stay, by its sender's knowledge, either way */
    uint64_t epoch;            /* all: the leader's epoch; REFUSAL: the highest that the sender has seen */
    uint64_t prev_index;       /* APPEND: the entries are prev_index + 1, … */
    uint64_t prev_epoch;       /* APPEND: of the entry at prev_index; 0 = not known any more */
    uint32_t entry_count;      /* APPEND */
    uint64_t commit_index;     /* APPEND, BEACON */
    uint64_t keep_index;       /* BEACON: every replica has what is not above it */
    uint64_t time_us;          /* BEACON: the leader's time when it was sent (R26) */
    uint64_t sent_us;          /* BEACON: the leader's clock before sending; PROMISE: the same, back */
    uint64_t promised_us;      /* PROMISE: the follower's clock before sending */
    uint64_t echo_us;          /* BEACON: that of the last promise, back; 0 = the leader does not vouch (R17) */
    uint64_t echo_incarnation; /* BEACON: of the process whose clock that is */
    uint64_t durable_index;    /* ACK, PROMISE */
    uint64_t last_index;       /* ACK, PROMISE: received, maybe not durable */
    bool gap;                  /* ACK: entries were missing before those that came */
    bool counted;         /* OPEN: the receiver may hold the only other copy of something (it is in the ISR) */
    struct epochs epochs; /* OPEN */
};

/* ---- changes asked of metad (compare-and-set on config_version) ---- */

enum replica_change_kind {
    REPLICA_CHANGE_NONE,
    REPLICA_CHANGE_ISR,      /* the in-sync set is to be `isr` */
    REPLICA_CHANGE_CLAIM,    /* this replica wants to lead */
    REPLICA_CHANGE_HANDOVER, /* `to` is to lead (R20) */
    REPLICA_CHANGE_STAY,     /* the wish to hand over is given up */
    REPLICA_CHANGE_RETIRE,   /* `to` has lost what it had acknowledged (R31) */
    REPLICA_CHANGE_REBUILD,  /* `to` has other content than it should: it is to begin anew (R24) */
};

struct replica_change {
    enum replica_change_kind kind;
    uint64_t config_version, leader_epoch;
    uint32_t to;
    uint32_t successor; /* REBUILD of the leader's own replica: who leads then; else 0 */
    uint32_t isr_count;
    uint32_t isr[MAP_REPLICAS_MAX];
    uint64_t incarnations[MAP_REPLICAS_MAX]; /* of the members as this leader knows them (R4); 0 = not known */
};

/* ---- events ---- */

enum replica_event_type {
    REPLICA_CONFIG,  /* metad's record of the shard: `config` */
    REPLICA_WRITE,   /* a command wants to be appended */
    REPLICA_SWEEP,   /* the lane wants what has expired removed */
    REPLICA_VERIFY,  /* the lane wants every replica's content summed up as of one entry */
    REPLICA_REBUILD, /* the replica of node `peer` has other content than it should; `successor` as in the change */
    REPLICA_READ,    /* a command wants to read now (R14) */
    REPLICA_APPENDED, /* an entry is in the log's buffer: `index`, `epoch`, `time_us` */
    REPLICA_DURABLE,  /* the entry `index` of `epoch`, `time_us`, is synced, and so is all before it */
    REPLICA_ADOPTED,  /* the record that effects->adopt asked for is in the log's buffer: `epoch`, `index` */
    REPLICA_STORED,   /* that record is synced: `epoch` */
    REPLICA_EXECUTED, /* the entry at `index`, the next one, of `time_us`, has been executed */
    REPLICA_MESSAGE,  /* from a peer: `message` */
    REPLICA_SENT,     /* APPEND to node `peer` carries entries up to `index` */
    REPLICA_FLUSH,    /* the end of a step of the shell: what is to be sent now? */
    REPLICA_TICK, /* time passes; every 20 ms or so, or 50 (replica_is_settled). `time_us`: the leader's time as it is on disk (R26) */
    REPLICA_PEER_DOWN,       /* node `peer`: its connection closed and does not come back */
    REPLICA_PEER_UP,         /* node `peer`: a new connection; what was under way may be lost (R27) */
    REPLICA_RELEASED,        /* the log's first entry is now `index` */
    REPLICA_SNAPSHOT_FAILED, /* to node `peer`: it is not under way any more */
    REPLICA_INSTALL,         /* a snapshot up to `index` of `epoch` wants to be installed; refused or not */
    REPLICA_INSTALLED,       /* the state and log are now the snapshot's: `index`, `epoch`, `time_us`, `epochs` */
    REPLICA_INSTALL_FAILED,  /* it was not installed and nothing has changed */
    REPLICA_READ_STALE,      /* like READ, and a follower may serve it (R17) */
    REPLICA_FAIL,            /* the disk has failed (R23) */
};

struct replica_event {
    enum replica_event_type type;
    uint64_t boot_us; /* CLOCK_BOOTTIME now, in every event */
    uint64_t wall_us; /* CLOCK_REALTIME now: CONFIG; looked at only when an epoch begins */
    uint64_t index, epoch, time_us;
    uint32_t peer, successor;
    const struct map_shard *config;        /* CONFIG; borrowed, as all here */
    const struct replica_message *message; /* MESSAGE */
    const struct epochs *epochs;           /* INSTALLED */
};

/* ---- effects ---- */

enum replica_entry_kind {
    REPLICA_ENTRY_NONE,
    REPLICA_ENTRY_NOOP,
    REPLICA_ENTRY_COMMAND,
    REPLICA_ENTRY_SWEEP,
    REPLICA_ENTRY_VERIFY, /* changes nothing: marks where contents are compared */
};

#define REPLICA_SENDS_MAX 16u

/* What is to be done, in this order. What the shell cannot do now (a full buffer, a full disk) it leaves, feeds no event
 * for it, and the core asks again. */
struct replica_effects {
    /* WRITE, SWEEP, VERIFY, READ: SK_OK, SK_NOT_LEADER, SK_UNAVAILABLE (surely not done, may serve later). REBUILD: the
     * same, and SK_BUSY, another change is open. CONFIG, if this replica is to lead and does not: SK_STALE_EPOCH, the log is
     * of a later epoch than metad knows; SK_CONFLICT, a snapshot is being installed: to be told again. INSTALL:
     * SK_STALE_EPOCH, SK_CONFLICT; SK_BUSY, what is committed must be executed first, so ask again. READ_STALE as READ. */
    int refused;
    /* Store `epoch` and cut behind `index` with one record of the log; then ADOPTED, later STORED. For its own epoch a
     * leader cuts nothing. */
    bool adopt;
    enum replica_entry_kind append; /* append this as `epoch`, `index`, `time_us`; then APPENDED */
    uint32_t take_skip,
        take_count; /* of the message's entries: leave out the first, append so many; APPENDED each */
    uint64_t epoch, index, time_us;   /* of adopt or append; READ: time_us to judge expiry by */
    bool became_leader, stepped_down; /* stepped_down: answer waiting requests "unknown" (R8) */
    const char *failed;               /* the replica stops, and why: a bug was found (R7) */
    struct replica_change change;     /* ask metad for this; kind NONE: nothing */
    uint32_t snapshot_to;             /* node that needs a snapshot; 0 = none */
    uint32_t send_count;
    struct replica_send {
        struct replica_message message;
        bool
            with_entries; /* APPEND: add entries from prev_index + 1 on, as many as fit, and set entry_count; then SENT */
    } sends[REPLICA_SENDS_MAX];
};

/* ---- the replica ---- */

struct replica {
    /* who this is */
    uint32_t shard;
    uint32_t node;        /* 0: not known yet */
    uint64_t incarnation; /* of this process: only it leads what metad gave to it (R6) */
    uint64_t replica_id;
    struct replica_times times;

    /* what metad said last */
    struct map_shard config;
    uint64_t seen_epoch; /* highest of any message or record; lower ones are refused (R1) */

    /* the log: indexes are 1-based, 0 = none */
    enum replica_role role;
    struct epochs epochs;
    uint64_t last_index;
    uint64_t last_epoch;    /* of the entry at last_index */
    uint64_t durable_index; /* synced here */
    uint64_t commit_index;  /* on every ISR member, as far as known here */
    uint64_t applied_index; /* executed here */
    uint64_t first_index;   /* the oldest entry that the log still has; last_index + 1 if none */
    uint64_t keep_index;    /* what is not above it every replica has: the log need not keep it */
    uint64_t stored_epoch;  /* highest durable epoch (R1) */
    uint64_t left_out;      /* opening: the first index of what was left out, and has to be cut; 0 = nothing */
    uint64_t unsynced_us;   /* since when something waits for its sync; 0 = nothing does (R22) */

    /* time in the state machine, microseconds since 1970 (R26) */
    uint64_t last_time_us;     /* highest stamp seen */
    uint64_t recorded_time_us; /* of it, what is on disk */
    bool time_is_old;          /* it is from the disk: no leader was heard since this process began */
    uint64_t epoch_wall_us;    /* leader: the time at which its epoch began, */
    uint64_t epoch_boot_us;    /* and CLOCK_BOOTTIME then: within an epoch time advances by it; */
    uint64_t epoch_ahead_us;   /* so far ahead of the wall clock the epoch had to begin */

    /* as a follower */
    uint64_t opened_epoch;     /* the log is a copy of this epoch's leader's; 0 = not yet */
    uint64_t adopting_epoch;   /* ADOPTED, not STORED yet; 0 = none */
    uint32_t open_node;        /* who leads that epoch, */
    uint64_t open_incarnation; /* and its process */
    uint64_t promised_epoch;   /* the highest that a promise was given in */
    uint64_t heard_us;         /* the leader was heard of */
    uint64_t promise_until_us; /* not to lead before (R15) */
    uint64_t claimed_us;       /* last CLAIM */
    bool ack_owed, gap_owed;   /* at the next FLUSH */
    struct {
        uint32_t from;
        uint64_t epoch, sent_us, time_us;
    } beacon; /* to be answered once its time is near enough to what is on disk (R26); epoch 0 = none */
    struct {
        uint64_t epoch;        /* of the leader who vouches; 0 = nobody does */
        uint64_t echo_us;      /* what was acknowledged before this, by our clock, by anybody, */
        uint64_t commit_index; /* lies no further than here, */
        uint64_t time_us;      /* and this was the leader's time then or later */
    } vouched;                 /* R17 */
    uint64_t executed_time_us; /* of the last entry that was executed since this process began */
    uint64_t leader_commit;    /* what the leader has said is committed; may be beyond our log */
    bool installing;           /* a snapshot: never claims (R30) */

    /* as a leader */
    uint64_t first_of_epoch; /* index of the entry that opened its epoch; 0 = not appended yet */
    struct progress progress[MAP_REPLICAS_MAX]; /* one for each replica of config, in its order; ours is unused */
    uint32_t proposed; /* bit i: replica i is in an ISR proposed under this config_version (R3) */
    uint32_t joining;  /* the same, of those that what is committed waits for until they can be proposed */
    struct replica_change open;   /* the last change asked for under this config_version */
    uint64_t open_us;             /* when it was asked for */
    uint64_t tick_us, resumed_us; /* last tick, last time that ticks had stopped */
    uint32_t handover_to;         /* writes have stopped for it, but for wants_to_stay (R20); 0 = none */
    uint64_t handover_us;         /* since when */
    bool may_have_left;           /* the hand-over was asked for and its outcome is not known */
    bool wants_to_stay;           /* the wish to hand over is to be given up */
};

/* A replica of nobody yet: a store is opened, and its log replayed, before metad says which node this is. `start_us`: when
 * this process began, as its predecessor's promises may hold (R15). */
void replica_init(struct replica *replica, uint32_t shard, uint64_t replica_id, const struct replica_times *times,
                  uint64_t start_us);
void replica_identify(struct replica *replica, uint32_t node, uint64_t incarnation);

/* Opening a store: the state after applied_index, then what the log holds behind it, in order. All of it is durable;
 * whether an entry is committed is known up to `commit_index`. The log may begin before the state, with entries that were
 * cut since and lie behind applied_index too: SK_STALE_EPOCH, such an entry is left out. SK_ECORRUPT if what is there does
 * not follow each other; restore_end: if what was left out was not cut. */
void replica_restore_state(struct replica *replica, uint64_t applied_index, const struct epochs *epochs,
                           uint64_t stored_epoch, uint64_t time_us);
int replica_restore_entry(struct replica *replica, uint64_t index, uint64_t epoch, uint64_t time_us,
                          uint64_t commit_index);
int replica_restore_adopted(struct replica *replica, uint64_t epoch, uint64_t index);
void replica_restore_time(struct replica *replica, uint64_t time_us);
int replica_restore_end(const struct replica *replica);

void replica_step(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);

/* A leader's time now: what its entries and beacons carry. What a read goes by may be less (REPLICA_TIME_AGE_US). */
uint64_t replica_time_us(const struct replica *replica, uint64_t boot_us);

/* Whether a result of an entry of `epoch` may be told now (R8). */
bool replica_may_answer(const struct replica *replica, uint64_t epoch);

/* Whether this replica leads, serving or about to. */
bool replica_leads(const struct replica *replica);

/* A leader's followers, all of them: entries of its log that they lack, as far as it knows. 0 of anybody else. */
uint64_t replica_behind(const struct replica *replica);

/* Until when reads may be served, by the leases of the widest ISR (R15); UINT64_MAX: no one else can lead (R16). */
uint64_t replica_lease_until_us(const struct replica *replica);

/* Whether it serves and has nothing open, or hears who does: then little is to come of time but beacons. */
bool replica_is_settled(const struct replica *replica, uint64_t boot_us);

const char *replica_role_name(enum replica_role role);
