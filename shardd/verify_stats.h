/* What comes of comparing replicas (shardd/verify.h), of one lane or all of a process together, as it is told to metad:
 *
 *   {generation, done: bin, findings: [[generation, index, shard, node, fault], …]}
 *
 * Pure; any thread. */
#pragma once

#include "libcommon/buffer.h"
#include "libcommon/limits.h"
#include "shardd/verify.h"

#define VERIFY_FINDINGS_MAX 32u

struct verify_stats {
    uint64_t generation; /* the map's */
    uint8_t done[SHARD_COUNT_MAX /
                 8];   /* bit s (of byte s / 8 from the lowest): shard s is led here, and was verified for it */
    uint64_t verified; /* shards, since the start */
    uint64_t differing, damaged; /* replicas that were found so */
    uint64_t undecided;          /* shards whose replicas differ without a majority */
    uint64_t running;            /* scrubs under way */
    uint32_t finding_count;      /* the latest, oldest first */
    struct verify_finding findings[VERIFY_FINDINGS_MAX];
};

/* One more; the oldest goes if there is no room. Counts it. */
void verify_stats_note(struct verify_stats *stats, const struct verify_finding *finding);

void verify_stats_set_done(struct verify_stats *stats, uint32_t shard);

/* Another lane's, which has other shards. What either has not done for the lower generation of the two it has not. */
void verify_stats_add(struct verify_stats *sum, const struct verify_stats *lane);

/* Appends the map above; failure shows in buffer->failed. */
void verify_stats_encode(const struct verify_stats *stats, struct buffer *buffer);
