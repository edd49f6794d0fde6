/* What `skerry bench --engine` asks: commands by name, each on keys of its own kind, so that all of them fit on one lane. Every
 * number stands for a key, or for an element of a collection that has a hundred of them. */
#pragma once

#include "keys.h"
#include "libcommon/buffer.h"

struct engine_load; /* immutable */

/* "GET", "set", …; NULL: there is no such load. */
const struct engine_load *engine_load_find(struct slice name);

/* All of them, for help. NULL behind the last. */
const struct engine_load *engine_load_at(size_t at);

const char *engine_load_name(const struct engine_load *load);
bool engine_load_is_write(const struct engine_load *load);

/* The command about `number` as a lane reads it, method and arguments, in place of what `body` has; and its key. */
void engine_load_write(const struct engine_load *load, uint64_t number, struct slice value, struct buffer *body,
                       uint8_t key[KEYS_BYTES]);
