/* What stands in the way of replicas that are to move, as far as a map tells: for a person who sees nothing change. The
 * rules are metad's (metad/moves.h). Pure. Any thread. */
#pragma once

#include "libcommon/map.h"

#define OBSTACLE_TEXT_BYTES 160

/* Of what is to leave `node`, or to come to it; names the first shard that waits. False: nothing waits. */
bool obstacle_find(const struct map *map, uint32_t node, char text[OBSTACLE_TEXT_BYTES]);
