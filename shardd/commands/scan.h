/* SCAN on one shard. Its cursor is a place in the order of data records, slot << 48 | hash, which no change moves.
 */
#pragma once

#include "libcommon/slice.h"

/* Whether a cursor is one, and leads to this shard (to the last one also when it lies behind all slots). */
bool scan_cursor_is_for(struct slice cursor, uint32_t shard, uint32_t shard_count);
