#include "shardd/replica_change.h"

#include <string.h>

struct shard_change replica_change_translate(uint32_t shard, const struct replica_change *change) {
    static const enum shard_change_kind kinds[] = {
        [REPLICA_CHANGE_ISR] = SHARD_CHANGE_ISR,           [REPLICA_CHANGE_CLAIM] = SHARD_CHANGE_CLAIM,
        [REPLICA_CHANGE_HANDOVER] = SHARD_CHANGE_HANDOVER, [REPLICA_CHANGE_STAY] = SHARD_CHANGE_HANDOVER_GIVEN_UP,
        [REPLICA_CHANGE_RETIRE] = SHARD_CHANGE_RETIRE,     [REPLICA_CHANGE_REBUILD] = SHARD_CHANGE_REBUILD,
    };
    struct shard_change asked = {.kind = kinds[change->kind],
                                 .shard = shard,
                                 .config_version = change->config_version,
                                 .leader_epoch = change->leader_epoch,
                                 .node = change->to,
                                 .successor = change->successor,
                                 .isr_count = change->isr_count};
    memcpy(asked.isr, change->isr, sizeof asked.isr);
    memcpy(asked.incarnations, change->incarnations, sizeof asked.incarnations);
    return asked;
}
