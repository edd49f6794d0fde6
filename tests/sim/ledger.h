/* What must be true in every state of the cluster, whatever has failed; checked after each event. The first breach ends the
 * run (sim_fail). What each invariant says stands at its function. */
#pragma once

#include "tests/sim/host.h"

struct ledger_index {
    uint32_t committed; /* the entry that some replica considers committed here; 0: none does */
    uint32_t newest;    /* the entry created last for this index; older ones hang behind it */
    uint64_t digest;    /* of the state after executing it; 0: nobody has */
};

struct ledger_epoch {
    bool led;
    uint32_t host, life;
};

/* A name that was executed. */
struct ledger_name {
    uint64_t number, index;
    bool surely_not; /* a client was told that it has not happened */
};

/* What answers had shown by then. */
struct ledger_shown {
    uint64_t at_us; /* true time */
    uint64_t index, time_us;
};

struct ledger {
    struct ledger_index *indexes; /* owned; by index */
    uint64_t index_room;
    uint64_t committed_last;
    struct ledger_epoch *epochs; /* owned; by epoch */
    uint64_t epoch_room;
    struct ledger_name *names[CLIENTS_MAX]; /* owned; by number */
    uint64_t name_rooms[CLIENTS_MAX];
    uint64_t answered_last;     /* the highest position that any answer has shown */
    uint64_t answered_time_us;  /* the highest leader's time, */
    uint64_t answered_at_us;    /* and when */
    struct ledger_shown *shown; /* owned; of leaders' answers, growing in all: [0] is not used */
    uint64_t shown_count, shown_room;
    uint64_t checked[HOSTS_MAX]; /* commit index of the replica up to which it was compared */
};

/* What had been answered at a moment. */
struct ledger_floor {
    uint64_t index, time_us;
    uint64_t at_us; /* when a node gave the time out */
};

struct sim;

void ledger_init(struct sim *sim);
void ledger_deinit(struct ledger *ledger);

/* An entry was created by a leader. */
void ledger_on_created(struct sim *sim, uint32_t entry);

/* A replica was opened, or its log was replaced: everything is compared anew. */
void ledger_on_opened(struct sim *sim, const struct host *host);

/* After a step of the core of `host`. */
void ledger_on_step(struct sim *sim, const struct host *host);
void ledger_on_became_leader(struct sim *sim, const struct host *host);
void ledger_on_executed(struct sim *sim, const struct host *host, uint32_t entry, enum machine_outcome outcome);

/* What has been answered by now. */
struct ledger_floor ledger_floor(const struct ledger *ledger);

/* A client was answered with success. */
void ledger_on_answered(struct sim *sim, const struct command *command, const struct ledger_floor *floor,
                        const struct parcel_answer *answer);

/* A client's read that began at `begin_us` was served by a follower (R17). */
void ledger_on_stale(struct sim *sim, const struct command *command, uint64_t begin_us,
                     const struct parcel_answer *answer);

/* A client was told that its write has surely not happened. */
void ledger_on_refused(struct sim *sim, const struct command *command);

/* After every event. */
void ledger_check(struct sim *sim);
