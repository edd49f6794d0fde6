/* What the parts of the core share: replica.c (own log, configuration), replica_leader.c and replica_follower.c. */
#pragma once

#include "shardd/replica.h"

/* ---- replica.c ---- */

/* Which of config.replicas is `node`'s; -1: none. */
int replica_slot(const struct replica *replica, uint32_t node);
/* Bit i: config.replicas[i] is in the confirmed in-sync set. */
uint32_t replica_isr(const struct replica *replica);
/* The same, and whoever was proposed for it under this config_version (R3). */
uint32_t replica_widest(const struct replica *replica);
bool replica_is_in_sync(const struct replica *replica); /* by metad's record */
bool replica_may_lead(const struct replica *replica);   /* by metad's record: in isr or eligible */

/* A message to a replica of the shard, put behind the effects so far and to be filled in. */
struct replica_message *replica_send(struct replica *replica, struct replica_effects *effects,
                                     enum replica_message_type type, uint32_t to, uint64_t replica_id,
                                     uint64_t epoch);

/* Why a leader may not serve a read now: SK_OK, SK_NOT_LEADER, SK_UNAVAILABLE (its lease has run out). */
int replica_read_refusal(const struct replica *replica, uint64_t now_us);

/* An epoch was seen: whoever leads a lower one leads no more (R1). */
void replica_see_epoch(struct replica *replica, uint64_t epoch, struct replica_effects *effects);

/* The replica stops: it or a peer has a bug. */
void replica_fail(struct replica *replica, const char *why, struct replica_effects *effects);

/* ---- replica_leader.c ---- */

void leader_begin_epoch(struct replica *replica, const struct replica_event *event,
                        struct replica_effects *effects);
void leader_end_epoch(struct replica *replica);
void leader_propose_entry(const struct replica *replica, const struct replica_event *event,
                          enum replica_entry_kind kind, struct replica_effects *effects);
void leader_on_config(struct replica *replica, const struct map_shard *old, uint64_t now_us);
void leader_on_message(struct replica *replica, const struct replica_event *event,
                       struct replica_effects *effects);
void leader_on_sent(struct replica *replica, const struct replica_event *event);
void leader_on_rebuild(struct replica *replica, const struct replica_event *event,
                       struct replica_effects *effects);
void leader_on_peer_up(struct replica *replica, struct progress *progress);
void leader_advance_commit(struct replica *replica, uint64_t now_us);
void leader_tick(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);
void leader_flush(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);

/* ---- replica_follower.c ---- */

void follower_on_message(struct replica *replica, const struct replica_event *event,
                         struct replica_effects *effects);
void follower_on_adopted(struct replica *replica, const struct replica_event *event);
void follower_on_stored(struct replica *replica, const struct replica_event *event);
void follower_advance_commit(struct replica *replica);
void follower_read(const struct replica *replica, const struct replica_event *event,
                   struct replica_effects *effects);
void follower_on_install(struct replica *replica, const struct replica_event *event,
                         struct replica_effects *effects);
void follower_on_installed(struct replica *replica, const struct replica_event *event);
void follower_tick(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);
void follower_flush(struct replica *replica, const struct replica_event *event, struct replica_effects *effects);
