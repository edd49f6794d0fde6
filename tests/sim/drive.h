/* The disk of one simulated node, as far as one shard sees it: a log whose records gather, are synced as a group, and are
 * lost by a crash until they are; a checkpoint of the state, which is replaced as a whole; the mark of an install under
 * way. What it holds of the log's entries is kept by index as well, so that invariants can look into it. */
#pragma once

#include "shardd/epochs.h"
#include "tests/sim/chance.h"
#include "tests/sim/machine.h"

#include <stddef.h>

enum record_kind {
    RECORD_ENTRY,
    RECORD_ADOPT, /* the epoch `epoch` is stored and the log cut behind `index` */
    RECORD_TIME,  /* the leader's time was `time_us` (R26) */
};

struct record {
    enum record_kind kind;
    uint32_t entry; /* ENTRY: which (sim's entries) */
    uint64_t index, epoch, time_us;
};

/* State as a checkpoint and as a snapshot have it (R25). */
struct image {
    struct machine machine;
    struct epochs epochs; /* up to the applied index */
    uint64_t stored_epoch;
    uint64_t time_us;
    uint64_t replay_from; /* checkpoint: position of the first record that it does not hold */
};

/* Position of a record: how many were appended before it. */
struct drive {
    /* the store */
    uint64_t store;      /* its id: another one after a wipe */
    uint32_t node;       /* whose it is; 0: not known yet */
    uint64_t replica_id; /* of its stay; 0: none */
    bool suspect;        /* a sync has failed: never opened again (R23) */
    bool lost_tail;      /* what it had said is synced, and no process has told metad of its start since (R31) */
    bool full;           /* appends are refused for now */
    uint64_t slow_us;    /* a sync takes about as long for now; 0: as usual */

    /* the log */
    struct record *records; /* owned; from position 0 */
    uint64_t end, room;
    uint64_t synced;  /* position behind what is durable */
    uint64_t group;   /* position behind the group in flight; = synced if there is none */
    uint64_t release; /* position of the first record that is kept */

    /* the state */
    struct image image;
    struct image next; /* being written */
    bool checkpointing;
    bool installing;      /* durably marked: until it is done the store counts as empty */
    uint64_t void_before; /* entries and cuts before this position are of before an install */

    /* entries that would be there after a crash now, by index */
    uint32_t *durable; /* owned; 0: not in the log */
    uint64_t durable_last, durable_room;
    uint64_t agreed; /* invariants: equal to what is committed up to here */
};

void drive_init(struct drive *drive, uint64_t store);
void drive_deinit(struct drive *drive);

/* A new, empty store. */
void drive_wipe(struct drive *drive, uint64_t store);

/* The replica's stay has ended: its state and log are gone, durably. */
void drive_drop_replica(struct drive *drive);

/* False: full. */
bool drive_append(struct drive *drive, const struct record *record);

/* Starts a group if there is something to sync and none is in flight. */
bool drive_flush(struct drive *drive);

/* The group in flight is durable. */
void drive_complete(struct drive *drive);

/* The process, or the machine, has died. What is not synced is lost, but for some first records of the group in flight. A
 * checkpoint under way has not happened; an install under way leaves an empty store. */
void drive_crash(struct drive *drive, struct chance *chance);

/* After a crash: entries at the end of the log that had been synced are gone. False: there are none that may go. */
bool drive_lose_tail(struct drive *drive, struct chance *chance);

void drive_start_checkpoint(struct drive *drive, const struct image *image);
void drive_end_checkpoint(struct drive *drive, bool written);

/* From here until its end the store counts as empty. */
void drive_start_install(struct drive *drive);

/* Replaces state and log. NULL: it failed and nothing has changed. */
void drive_end_install(struct drive *drive, const struct image *image);

/* Whether index would survive a crash now: in the log as `*entry`, or (0) in the state. */
bool drive_has(const struct drive *drive, uint64_t index, uint32_t *entry);
