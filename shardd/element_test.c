#include "shardd/element.h"

#include "shardd/exec_fixture.h"
#include "shardd/record_kind.h"

#define ID 77u

static uint64_t same_hash64(struct slice key) {
    (void)key;
    return 0x1234567890abcdef;
}

static void same_hash128(struct slice key, uint8_t hash[16]) {
    (void)key;
    memset(hash, 7, 16);
}

static const struct keyspace_hasher colliding = {.hash64 = same_hash64, .hash128 = same_hash128};

static void put(struct fixture *fixture, uint64_t id, struct slice name, struct slice value) {
    struct element element;
    assert_int_equal(element_find(&fixture->exec, id, name, &element), SK_OK);
    assert_int_equal(element_put(&fixture->exec, &element, value), SK_OK);
    assert_true(element.found);
}

static void expect(struct fixture *fixture, uint64_t id, struct slice name, const struct slice *value) {
    struct element element;
    assert_int_equal(element_find(&fixture->exec, id, name, &element), SK_OK);
    assert_int_equal(element.found, value != NULL);
    if (value != NULL) assert_true(slice_equal(element.value, *value));
}

static void drop(struct fixture *fixture, uint64_t id, struct slice name) {
    struct element element;
    assert_int_equal(element_find(&fixture->exec, id, name, &element), SK_OK);
    assert_int_equal(element_remove(&fixture->exec, &element), SK_OK);
}

static void records_are_laid_out_as_written(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    put(&fixture, ID, slice_of_text("name"), slice_of_text("value"));
    struct slice value;
    assert_int_equal(kv_get(fixture.kv,
                            slice_of("\x50\0\0\0\0\0\0\0\x4d\0\x12\x34\x56\x78\x90\xab"
                                     "name",
                                     20),
                            &value),
                     SK_OK);
    assert_true(slice_equal(value, slice_of_text("value")));
    fixture_deinit(&fixture);
}

static void names_of_every_length(void **state) {
    (void)state;
    static char room[KEY_BYTES_MAX];
    static const size_t sizes[] = {0, 1, 8, 399, 400, 401, 416, 417, 418, 435, 511, 512, 4096, KEY_BYTES_MAX};
    struct fixture fixture;
    fixture_init(&fixture);
    memset(room, 'n', sizeof room);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        expect(&fixture, ID, slice_of(room, sizes[i]), NULL);
        put(&fixture, ID, slice_of(room, sizes[i]), slice_of(&sizes[i], sizeof sizes[i]));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct slice value = slice_of(&sizes[i], sizeof sizes[i]);
        expect(&fixture, ID, slice_of(room, sizes[i]), &value);
        expect(&fixture, ID + 1, slice_of(room, sizes[i]), NULL);
        drop(&fixture, ID, slice_of(room, sizes[i]));
        expect(&fixture, ID, slice_of(room, sizes[i]), NULL);
    }
    assert_int_equal(fixture_elements(&fixture, ID), 0);
    fixture_deinit(&fixture);
}

/* `size` bytes, told apart by the number at the end alone. */
static struct slice long_name(char *room, size_t size, unsigned number) {
    memset(room, 'x', size);
    snprintf(room + size - 8, 9, "%08u", number);
    return slice_of(room, size);
}

/* Names that share prefix and hashes take different places, which are used again; too many are refused. */
static void names_that_collide(void **state) {
    (void)state;
    char room[601];
    struct fixture fixture;
    struct element element;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    for (unsigned i = 0; i < ELEMENT_DISCRIMINATORS; i++) {
        put(&fixture, ID, long_name(room, 600, i), slice_of(&i, sizeof i));
    }
    assert_int_equal(element_find(&fixture.exec, ID, long_name(room, 600, 999), &element), SK_OK);
    assert_false(element.found);
    assert_int_equal(element_put(&fixture.exec, &element, slice_of("", 0)), SK_TOOLARGE);
    drop(&fixture, ID, long_name(room, 600, 0));
    drop(&fixture, ID, long_name(room, 600, 100));
    unsigned last = 255, other = 1000;
    struct slice value = slice_of(&last, sizeof last);
    expect(&fixture, ID, long_name(room, 600, 255), &value);
    put(&fixture, ID, long_name(room, 600, other), slice_of(&other, sizeof other));
    put(&fixture, ID, long_name(room, 600, 255), slice_of(&other, sizeof other));
    value = slice_of(&other, sizeof other);
    expect(&fixture, ID, long_name(room, 600, 255), &value);
    expect(&fixture, ID, long_name(room, 600, other), &value);
    expect(&fixture, ID, long_name(room, 600, 100), NULL);
    assert_int_equal(fixture_elements(&fixture, ID), ELEMENT_DISCRIMINATORS - 1);
    fixture_deinit(&fixture);
}

/* Each once, in the order of positions, from any position on; neighbours by id are not met. */
static void walks_in_order_of_position(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    struct fixture fixture;
    fixture_init(&fixture);
    char name[600];
    for (int i = 0; i < COUNT; i++) {
        int size = i % 10 == 0 ? 500 : snprintf(name, sizeof name, "name %d", i);
        if (i % 10 == 0) (void)long_name(name, 500, (unsigned)i);
        for (uint64_t id = ID - 1; id <= ID + 1; id++)
            put(&fixture, id, slice_of(name, (size_t)size), slice_of(&i, sizeof i));
    }
    bool seen[COUNT] = {false};
    uint64_t positions[COUNT];
    struct element_walk walk;
    assert_int_equal(element_walk_open(&fixture.exec, ID, 0, &walk), SK_OK);
    struct slice found, value;
    int count = 0, number;
    uint64_t position;
    while (element_walk_next(&walk, &position, &found, &value) == SK_OK) {
        assert_int_equal(value.size, sizeof number);
        memcpy(&number, value.data, sizeof number);
        assert_false(seen[number]);
        seen[number] = true;
        assert_true(count == 0 || positions[count - 1] <= position);
        assert_true(position == keyspace_hasher_xxh3.hash64(found) >> 16);
        positions[count++] = position;
    }
    element_walk_close(&walk);
    assert_int_equal(count, COUNT);
    assert_int_equal(element_walk_open(&fixture.exec, ID, positions[500], &walk), SK_OK);
    assert_int_equal(element_walk_next(&walk, &position, &found, &value), SK_OK);
    assert_true(position == positions[500]);
    element_walk_close(&walk);
    assert_int_equal(element_walk_open(&fixture.exec, ID, ELEMENT_POSITION_MAX, &walk), SK_OK);
    assert_int_equal(element_walk_next(&walk, &position, &found, &value), SK_NOT_FOUND);
    element_walk_close(&walk);
    fixture_deinit(&fixture);
}

/* In the order of names, and back to them; a long name by its hash. */
static void places_lead_back(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    char room[601], last[601];
    size_t last_size = 0;
    for (size_t size = 0; size <= 600; size += size == 399 || size == 400 ? 1 : 57) {
        uint8_t place_room[ELEMENT_PLACE_MAX], last_room[ELEMENT_PLACE_MAX];
        memset(room, 'p', sizeof room);
        memset(last, 'p', sizeof last);
        struct slice name = slice_of(room, size), found;
        struct element element, other;
        put(&fixture, ID, name, slice_of(&size, sizeof size));
        assert_int_equal(element_find(&fixture.exec, ID, name, &element), SK_OK);
        struct slice place = element_place(&element, place_room);
        assert_int_equal(place.size, size <= ELEMENT_NAME_INLINE_MAX ? size : ELEMENT_PLACE_MAX);
        assert_int_equal(element_name_at(&fixture.exec, ID, place, &found), SK_OK);
        assert_true(slice_equal(found, name));
        assert_int_equal(element_find(&fixture.exec, ID, slice_of(last, last_size), &other), SK_OK);
        bool in_order = slice_compare(element_place(&other, last_room), place) < 0;
        assert_true(in_order || size == 0 || last_size > ELEMENT_NAME_INLINE_MAX);
        if (size > ELEMENT_NAME_INLINE_MAX) {
            assert_int_equal(element_name_at(&fixture.exec, ID + 1, place, &found), SK_ECORRUPT);
            assert_int_equal(element_name_at(&fixture.exec, ID, slice_of(place_room, 402), &found), SK_ECORRUPT);
        }
        last_size = size;
    }
    fixture_deinit(&fixture);
}

static void damage_is_told(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    char room[500];
    struct element element;
    struct slice name = long_name(room, 499, 1);
    assert_int_equal(element_find(&fixture.exec, ID, name, &element), SK_OK);
    for (size_t size = 0; size < 4 + name.size; size += 41) { /* cut off within what stands before the value */
        uint8_t stored[600] = {0, 0, 1, 0xf3};
        memcpy(stored + 4, name.data, name.size);
        assert_int_equal(kv_put(fixture.kv, slice_of(element.key, element.key_size), slice_of(stored, size)),
                         SK_OK);
        struct element again;
        assert_int_equal(element_find(&fixture.exec, ID, name, &again), SK_ECORRUPT);
    }
    fixture_deinit(&fixture);
}

/* A long name that is not there is looked for among those that share its hashes, and not behind them. */
static void what_was_removed_behind_a_long_name_is_not_passed(void **state) {
    (void)state;
    enum { REMOVED = 300 };
    struct fixture fixture;
    uint8_t name[ELEMENT_NAME_INLINE_MAX + 1] = {0};
    fixture_init(&fixture);
    for (uint32_t i = 0; i < REMOVED; i++) {
        struct element element;
        assert_int_equal(element_find(&fixture.exec, ID, slice_of(&i, sizeof i), &element), SK_OK);
        assert_int_equal(element_put(&fixture.exec, &element, slice_of("", 0)), SK_OK);
        assert_int_equal(element_remove(&fixture.exec, &element), SK_OK);
    }
    for (uint32_t i = 0; i < 20; i++) {
        struct element element;
        name[0] = (uint8_t)i;
        assert_int_equal(element_find(&fixture.exec, ID, slice_of(name, sizeof name), &element), SK_OK);
    }
    assert_int_equal(kv_memory_passed(fixture.kv), 0);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_laid_out_as_written),
        cmocka_unit_test(names_of_every_length),
        cmocka_unit_test(names_that_collide),
        cmocka_unit_test(walks_in_order_of_position),
        cmocka_unit_test(places_lead_back),
        cmocka_unit_test(what_was_removed_behind_a_long_name_is_not_passed),
        cmocka_unit_test(damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
