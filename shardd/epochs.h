/* Where each leader epoch begins in a replica's log: what two logs are compared by (docs/replication.md, R7; the leader
 * epoch cache of Kafka's KIP-101). Entries of one epoch are written by one leader, so logs that both have entries of an
 * epoch agree on where it begins and on all of it that both have. Pure; embedded in struct replica. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define EPOCHS_MAX 32u /* the oldest is forgotten beyond: only logs that differ by more epochs than this need it */

struct epoch_start {
    uint64_t epoch;
    uint64_t index; /* of its first entry */
};

struct epochs {
    uint32_t count;                        /* 0 with a log: all that is known was cut */
    struct epoch_start starts[EPOCHS_MAX]; /* growing in both */
};

/* An entry of `epoch` at `index` follows the log. Epochs never fall. */
void epochs_add(struct epochs *epochs, uint64_t epoch, uint64_t index);

/* The log is cut behind `index`. */
void epochs_cut(struct epochs *epochs, uint64_t index);

/* The epoch of the entry at `index`, which is in the log; 0: none, or too old to be known. */
uint64_t epochs_at(const struct epochs *epochs, uint64_t index);

/* The last index up to which a log (`ours`, ending at `last_index`) agrees with the log of the leader that opened epoch
 * `theirs`' last start. False: the tables do not reach back far enough to tell. */
bool epochs_common(const struct epochs *ours, uint64_t last_index, const struct epochs *theirs, uint64_t *common);

/* Whether bytes from disk or a peer make sense as the table of a log that ends at `last_index`. */
bool epochs_are_valid(const struct epochs *epochs, uint64_t last_index);
