/* What the core of a shard asks of metad, in metad's words. Pure; any thread. */
#pragma once

#include "libcommon/shard_change.h"
#include "shardd/replica.h"

/* `change` is of any kind but REPLICA_CHANGE_NONE. */
struct shard_change replica_change_translate(uint32_t shard, const struct replica_change *change);
