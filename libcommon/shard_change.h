/* A change of metad's record of a shard, as a shardd asks for it: compare-and-set on config_version (docs/replication.md,
 * R18). metad's rules for each are in metad/shard_record.h. Encoded as one MessagePack array, in requests to metad and in
 * its log alike:
 *
 *   ["isr", shard, config_version, leader_epoch, [[node, incarnation], …]]
 *   ["claim", shard, config_version]
 *   ["handover", shard, config_version, leader_epoch, to]
 *   ["handover_given_up", shard, config_version]
 *   ["retire", shard, config_version, node]
 *   ["rebuild", shard, config_version, node, successor]
 *
 * Pure; any thread. */
#pragma once

#include "map.h"
#include "mp.h"

/* In one request to metad; a shardd with more of them asks again. */
#define SHARD_CHANGES_MAX 4096u

enum shard_change_kind {
    SHARD_CHANGE_ISR,               /* the leader: another in-sync set */
    SHARD_CHANGE_CLAIM,             /* whoever holds everything committed: let me lead */
    SHARD_CHANGE_HANDOVER,          /* the leader: let that one lead (R20) */
    SHARD_CHANGE_HANDOVER_GIVEN_UP, /* the leader: no hand-over, neither one wanted nor one on its way */
    SHARD_CHANGE_RETIRE,            /* the leader: that replica has lost what it had acknowledged (R31) */
    SHARD_CHANGE_REBUILD,           /* the leader: that replica has other content than it should (R24) */
};

struct shard_change {
    enum shard_change_kind kind;
    uint32_t shard;
    uint64_t config_version; /* of the record that the change was decided on */
    uint64_t leader_epoch;   /* ISR, HANDOVER: of the leader that asks */
    uint32_t node;           /* HANDOVER: to whom; RETIRE, REBUILD: whose replica */
    uint32_t successor;      /* REBUILD of the leader's own: who leads then; else 0 */
    uint32_t isr_count; /* ISR: the set that is wanted, and what the leader knows as each member's incarnation */
    uint32_t isr[MAP_REPLICAS_MAX];
    uint64_t incarnations[MAP_REPLICAS_MAX];
};

void shard_change_encode(const struct shard_change *change, struct buffer *buffer);

/* Reads one change; what its kind does not carry is 0. SK_OK, SK_EPROTO (malformed, or a kind that is not known). */
int shard_change_decode(struct mp_reader *reader, struct shard_change *change);

const char *shard_change_name(enum shard_change_kind kind);
