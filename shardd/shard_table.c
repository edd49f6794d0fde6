#include "shardd/shard_table.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stdlib.h>

void shard_table_deinit(struct shard_table *table) {
    for (uint32_t i = 0; i < table->slot_count; i++) shard_free(table->slots[i]);
    free(table->slots);
    table->slots = NULL;
    table->slot_count = 0;
}

bool shard_table_owns(const struct shard_table *table, uint32_t id) {
    return id % table->lane_count == table->lane;
}

struct shard *shard_table_find(const struct shard_table *table, uint32_t id) {
    uint32_t at = id / table->lane_count;
    return shard_table_owns(table, id) && at < table->slot_count ? table->slots[at] : NULL;
}

int shard_table_reserve(struct shard_table *table, uint32_t shard_count) {
    uint32_t count = (shard_count + table->lane_count - 1) / table->lane_count;
    if (count <= table->slot_count) return SK_OK;
    struct shard **grown = realloc(table->slots, count * sizeof *grown);
    if (grown == NULL) return SK_ENOMEM;
    memset(grown + table->slot_count, 0, (count - table->slot_count) * sizeof *grown);
    table->slots = grown;
    table->slot_count = count;
    return SK_OK;
}

int shard_table_add(struct shard_table *table, struct shard *shard) {
    sk_assert(shard_table_owns(table, shard->id));
    int err = shard_table_reserve(table, shard->id + 1);
    if (err != SK_OK) return err;
    struct shard **slot = &table->slots[shard->id / table->lane_count];
    sk_assert(*slot == NULL);
    *slot = shard;
    return SK_OK;
}

void shard_table_remove(struct shard_table *table, const struct shard *shard) {
    struct shard **slot = &table->slots[shard->id / table->lane_count];
    sk_assert(*slot == shard);
    *slot = NULL;
}
