/* What may become of metad's record of a shard: each function checks one change against the rules (docs/replication.md)
 * and applies it, or says why not and changes nothing. Whatever is applied raises config_version by one, and was decided
 * on the config_version that it names (R18). What the rules ask of nodes comes in: `nodes[i]` is the node of
 * `replicas[i]`. A refusal is one of SK_CONFLICT (something else came first), SK_NOT_LEADER, SK_STALE_EPOCH,
 * SK_UNAVAILABLE (not now), SK_BADREQUEST (never); `text`, static memory, says why.
 *
 * Always true (shard_record_is_sound): isr and eligible are replicas, and no node is in both; the leader is in the isr;
 * eligible is empty when the isr has min_isr members (R11). Pure. Any thread. */
#pragma once

#include "libcommon/shard_change.h"

bool shard_record_is_sound(const struct map_shard *shard);

bool shard_record_in_isr(const struct map_shard *shard, uint32_t node);
bool shard_record_is_eligible(const struct map_shard *shard, uint32_t node);

/* A new shard in epoch 1 on `count` nodes, the first of which leads. All replicas are empty, so all are in sync. They get
 * the ids from `first_replica_id` on. */
void shard_record_start(struct map_shard *shard, const struct map_node *const nodes[], uint32_t count,
                        uint64_t first_replica_id);

/* `node` has started again (R6): if it leads, it does so in a new epoch and under its new incarnation only. False = it
 * does not lead, and nothing has changed. */
bool shard_record_restart(struct map_shard *shard, const struct map_node *node);

/* What the shardd `sender`, in its present incarnation, asks for; any kind but REBUILD. */
int shard_record_change(struct map_shard *shard, const struct map_node *const nodes[],
                        const struct map_node *sender, const struct shard_change *change, const char **text);

/* R24: the leader `sender` says that the content of change->node's replica is not what the others have. The replica leaves
 * the isr, which holds everything committed without it, and the node begins anew with an empty one under `replica_id`. It may
 * be the leader's own; then change->successor, of the isr, leads in a new epoch. Never below min_isr: better a copy that
 * differs than one copy alone. */
int shard_record_rebuild(struct map_shard *shard, const struct map_node *const nodes[],
                         const struct map_node *sender, const struct shard_change *change, uint64_t replica_id,
                         const char **text);

/* The leader is asked to hand over to `node` (R20); 0 = no longer. `preferred`: a person wants it: the node takes the first
 * place among the replicas, else the balance of leaders would have it back; then it may also lead already. */
int shard_record_wish(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                      uint32_t node, bool preferred, const char **text);

/* The place of the dead node `from` goes to `to`, with an empty replica that is in no set (R13). That another store
 * has started where `from` was proves nothing about the data of `from`: as long as isr or eligible need it, it stays. */
int shard_record_replace(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                         uint32_t from, const struct map_node *to, uint64_t replica_id, const char **text);

/* R12: a person makes `node` the leader and alone in sync, and everybody else's data void: the other replicas get ids
 * from `first_replica_id` on, so whatever these nodes have of the shard is of a stay that is over. */
int shard_record_force(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                       uint32_t node, uint64_t first_replica_id, const char **text);
