#include "gateway/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void growth_is_told_before(void **state) {
    (void)state;
    static const size_t sizes[] = {0,
                                   1,
                                   700,
                                   100,
                                   5000,
                                   ARENA_CHUNK_BYTES / 4,
                                   ARENA_CHUNK_BYTES / 4 + 1,
                                   ARENA_CHUNK_BYTES - 15,
                                   ARENA_CHUNK_BYTES,
                                   ARENA_CHUNK_BYTES + 1,
                                   1000000,
                                   16,
                                   8000,
                                   8000,
                                   8000,
                                   8000};
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool);
    arena_init(&arena, &pool);
    for (int round = 0; round < 2; round++) { /* the second one with the pool's chunks */
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            size_t growth = arena_growth(&arena, sizes[i]), held = arena.held_bytes;
            uint8_t *room = arena_alloc(&arena, sizes[i]);
            assert_non_null(room);
            assert_int_equal((uintptr_t)room % 16, 0);
            memset(room, 0xee, sizes[i]);
            assert_int_equal(arena.held_bytes, held + growth);
        }
        arena_clear(&arena);
        assert_int_equal(arena.held_bytes, 0);
    }
    arena_pool_deinit(&pool);
}

static void what_fits_takes_nothing(void **state) {
    (void)state;
    struct arena_pool pool;
    struct arena arena;
    arena_pool_init(&pool);
    arena_init(&arena, &pool);
    assert_int_equal(arena_growth(&arena, ARENA_FIRST_BYTES), 0);
    assert_int_equal(arena_growth(&arena, ARENA_FIRST_BYTES + 1), ARENA_CHUNK_BYTES);
    assert_int_equal(arena_growth(&arena, 1000000), 1000000);
    assert_null(arena_alloc(&arena, SIZE_MAX));
    arena_clear(&arena);
    arena_pool_deinit(&pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth_is_told_before),
        cmocka_unit_test(what_fits_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
