/* What may become of metad's record of a shard: each function checks one change against the rules (docs/replication.md)
 * and applies it, or says why not and changes nothing. Whatever is applied raises config_version by one, and was decided
 * on the config_version that it names (R18). What the rules ask of nodes comes in: `nodes[i]` is the node of
 * `replicas[i]`. A refusal is one of SK_CONFLICT (something else came first), SK_NOT_LEADER, SK_STALE_EPOCH,
 * SK_UNAVAILABLE (not now), SK_BADREQUEST (never); `text`, static memory, says why.
 *
 * Always true (shard_record_is_sound): isr and eligible are replicas, and no node is in both; the leader is in the isr;
 * eligible is empty when the isr has min_isr members (R11); a move names replicas. Pure. Any thread. */
#pragma once

#include "libcommon/shard_change.h"

bool shard_record_is_sound(const struct map_shard *shard);

bool shard_record_is_eligible(const struct map_shard *shard, uint32_t node);

/* One of both: it may hold what was committed and others have lost. */
bool shard_record_is_counted(const struct map_shard *shard, uint32_t node);

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

/* ---- moving a replica (R19) ----
 *
 *   {a, b, c} --start c, d--> {a, b, c, d} --d catches up, and its leader has it join the isr (R4)--> --finish--> {a, b, d}
 *                                  |
 *                                  +--cancel, as long as d is in no set--> {a, b, c}
 *
 * The move stands in the record, so whoever leads metad goes on with it. Why each step is safe at any moment:
 *
 * - Start adds a replica that is in no set: nobody waits for it, and it may not lead. min_isr stays: a shard that grows is
 *   no harder to write to before it has grown.
 * - Joining is the leader's, as for any replica. A leader that has proposed d commits on it too (R3), on more than the
 *   record asks for; so whatever becomes of the proposal, the record's sets hold all that is committed.
 * - Finish makes the isr smaller without asking its leader. What was committed before was on all of the larger one, or
 *   more (R3), hence on the members of the smaller one; what is committed later is on these, once the leader knows. Only
 *   they may lead next, and each of them has to answer for the leader's lease (R15), before and after. Too few for min_isr
 *   are not left, so eligible stays empty (R11). One that is in no set may go in any case: the sets stay as they are. A
 *   leader is not removed: it hands over first (R20), or its lease would have to run out.
 * - Cancel removes what is in no set, as start has added it.
 * - Any of them races with claims, hand-overs and changes of the isr by compare-and-set: one is applied, the others
 *   were decided on an older record and are refused. A wish for a node that has gone is over.
 * - The node that is removed has its data deleted when it reads the record (R29); it may get the shard again under
 *   another replica id.
 * - A forced leader (R12) leaves the move as it is: all other replicas begin anew, d too, and finish waits for d as ever. */

/* `to` gets an empty replica; when that has joined, the one of node `from` goes, and `to` has its place among the replicas.
 * From 0: nobody's goes, and the shard has one more. With the same `to` as the move that is under way, `from` takes the
 * place of the one that was to go: a move that cannot finish while another replica is lost rids the shard of that one. */
int shard_record_start_move(struct map_shard *shard, const struct map_node *const nodes[], uint64_t config_version,
                            uint32_t from, const struct map_node *to, uint64_t replica_id, const char **text);

/* Whoever is to go goes. A shard with one replica more gets the min_isr of its new count. */
int shard_record_finish_move(struct map_shard *shard, uint64_t config_version, const char **text);

/* The replica that came goes again, if nobody can need it. */
int shard_record_cancel_move(struct map_shard *shard, uint64_t config_version, const char **text);
