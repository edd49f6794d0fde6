#include "tests/sim/parcel.h"

#include "libcommon/check.h"

#include <stdlib.h>

void parcel_pool_init(struct parcel_pool *pool) { *pool = (struct parcel_pool){0}; }

void parcel_pool_deinit(struct parcel_pool *pool) {
    for (uint64_t i = 0; i < pool->count; i++) free(pool->all[i]);
    free(pool->all);
    *pool = (struct parcel_pool){0};
}

struct parcel *parcel_new(struct parcel_pool *pool) {
    struct parcel *parcel = pool->free;
    if (parcel != NULL) {
        pool->free = parcel->next;
        parcel->next = NULL;
        return parcel;
    }
    if (pool->count == pool->room) {
        pool->room = pool->room == 0 ? 64 : pool->room * 2;
        pool->all = realloc(pool->all, pool->room * sizeof *pool->all);
        sk_assert(pool->all != NULL);
    }
    parcel = calloc(1, sizeof *parcel);
    sk_assert(parcel != NULL);
    pool->all[pool->count++] = parcel;
    return parcel;
}

void parcel_free(struct parcel_pool *pool, struct parcel *parcel) {
    if (parcel == NULL) return;
    parcel->next = pool->free;
    pool->free = parcel;
}
