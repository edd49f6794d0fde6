/* Replicas that move between hosts (R19), as metad decides: each step by the real rules (metad/shard_record.h), at moments
 * that are drawn, so that also what metad/moves would not choose is met. */
#pragma once

#include <stdbool.h>

struct sim;

/* Something at random: a move begins, another replica is to go, or the move that is under way is to finish or to be
 * cancelled now. */
void sim_moves_disturb(struct sim *sim);

/* What metad does now and then: goes on with a move, gives up one whose host is away, replaces a replica that is lost, has
 * the shard grow. Whether the record has changed. */
bool sim_moves_watch(struct sim *sim);
