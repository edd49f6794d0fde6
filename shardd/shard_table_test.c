#include "shardd/shard_table.h"

#include "libcommon/error.h"
#include "shardd/kv_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_finds_what_was_added(void **state) {
    (void)state;
    struct shard_table table = {.lane = 2, .lane_count = 3};
    const struct replica_times times = REPLICA_TIMES_DEFAULT;
    struct kv *kv;
    assert_int_equal(kv_new_memory(&kv), SK_OK);
    assert_null(shard_table_find(&table, 2));
    for (uint32_t id = 2; id < 60; id += 6) {
        struct shard *shard;
        assert_int_equal(shard_new(&shard, &(struct shard_options){.id = id,
                                                                   .shard_count = 64,
                                                                   .replica_id = id,
                                                                   .segment_bytes = 1 << 20,
                                                                   .times = &times,
                                                                   .kv = kv}),
                         SK_OK);
        assert_int_equal(shard_table_add(&table, shard), SK_OK);
        assert_ptr_equal(shard_table_find(&table, id), shard);
    }
    assert_int_equal(shard_table_reserve(&table, 16384), SK_OK);
    for (uint32_t id = 0; id < 20000; id++) {
        const struct shard *shard = shard_table_find(&table, id);
        assert_int_equal(shard != NULL, id < 60 && id % 6 == 2);
        assert_int_equal(shard_table_owns(&table, id), id % 3 == 2);
        if (shard != NULL) assert_int_equal(shard->id, id);
    }
    shard_table_deinit(&table);
    kv_free_memory(kv);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_finds_what_was_added)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
