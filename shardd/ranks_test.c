#include "shardd/ranks.h"

#include "shardd/exec_fixture.h"

#define ID   77u
#define PART 1u

/* What the set should be: keys in their order. */
#define MODEL_MAX 8192u
struct model {
    struct ranks_key keys[MODEL_MAX];
    uint64_t count;
};
static struct model model;

static struct slice model_key(uint64_t rank) { return ranks_key_slice(&model.keys[rank]); }

static uint64_t model_before(struct slice key) {
    uint64_t low = 0, high = model.count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (slice_compare(model_key(middle), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool model_has(struct slice key, uint64_t rank) {
    return rank < model.count && slice_equal(model_key(rank), key);
}

static void model_change(struct slice key, bool add) {
    uint64_t rank = model_before(key);
    struct ranks_key *at = &model.keys[rank];
    if (add) {
        assert_true(model.count < MODEL_MAX);
        memmove(at + 1, at, (model.count - rank) * sizeof *at);
        at->size = key.size;
        memcpy(at->bytes, key.data, key.size);
        model.count++;
    } else {
        model.count--;
        memmove(at, at + 1, (model.count - rank) * sizeof *at);
    }
}

struct test {
    struct fixture fixture;
    struct ranks ranks;
    uint64_t chance;
};

static void test_init(struct test *test) {
    model.count = 0;
    test->chance = 1;
    fixture_init(&test->fixture);
    assert_int_equal(ranks_open(&test->fixture.exec, ID, PART, 0, &test->ranks), SK_OK);
}

static void test_deinit(struct test *test) { fixture_deinit(&test->fixture); }

static uint64_t draw(struct test *test, uint64_t limit) {
    struct chance chance = {.state = test->chance};
    uint64_t number = chance_below(&chance, limit);
    test->chance = chance.state;
    return number;
}

/* Stores the root and reads it again, as two commands do. */
static void reopen(struct test *test) {
    uint64_t count = test->ranks.count;
    assert_int_equal(ranks_save(&test->ranks), SK_OK);
    assert_int_equal(ranks_open(&test->fixture.exec, ID, PART, count, &test->ranks), SK_OK);
}

static void toggle(struct test *test, struct slice key) {
    bool add = !model_has(key, model_before(key));
    int err = add ? ranks_add(&test->ranks, key) : ranks_remove(&test->ranks, key);
    assert_int_equal(err, SK_OK);
    model_change(key, add);
}

/* Numbers in their order; some are as long as a key can be and differ only at the end. */
static struct slice key_of_number(uint64_t number, uint8_t room[RANKS_KEY_MAX]) {
    size_t size = number % 7 == 0 ? RANKS_KEY_MAX : number % 7 == 1 ? 8 : 30;
    memset(room, 'x', size);
    put_u64(room + size - 8, number);
    return slice_of(room, size);
}

static void check_ends(const struct test *test) {
    assert_true(test->ranks.count == model.count);
    if (model.count == 0) {
        assert_int_equal(test->ranks.first.size, 0);
        return;
    }
    assert_true(slice_equal(ranks_key_slice(&test->ranks.first), model_key(0)));
    assert_true(slice_equal(ranks_key_slice(&test->ranks.last), model_key(model.count - 1)));
}

static void check_rank(struct test *test, struct slice key) {
    uint64_t rank;
    assert_int_equal(ranks_before(&test->ranks, key, &rank), SK_OK);
    assert_true(rank == model_before(key));
}

static void check_select(struct test *test, uint64_t rank) {
    struct ranks_key key;
    assert_int_equal(ranks_select(&test->ranks, rank, &key), SK_OK);
    assert_true(slice_equal(ranks_key_slice(&key), model_key(rank)));
}

static void check_walk(struct test *test, struct slice from, struct slice below, bool down, uint64_t skip) {
    struct ranks_walk walk;
    struct ranks_range range = {.from = from, .below = below};
    struct slice key;
    uint64_t low = model_before(from), high = model_before(below);
    assert_int_equal(ranks_walk_open(&test->ranks, &range, down, skip, &walk), SK_OK);
    uint64_t length = high > low + skip ? high - low - skip : 0;
    for (uint64_t i = 0; i < length; i++) {
        assert_int_equal(ranks_walk_next(&walk, &key), SK_OK);
        assert_true(slice_equal(key, model_key(down ? high - 1 - skip - i : low + skip + i)));
    }
    assert_int_equal(ranks_walk_next(&walk, &key), SK_NOT_FOUND);
    ranks_walk_close(&walk);
}

/* Every record of the collection, to compare: what is behind the id. */
static void tell_records(struct test *test, uint64_t id, struct buffer *told) {
    uint8_t room[ELEMENT_PREFIX_BYTES];
    struct kv_iter *iter;
    struct slice key, value;
    buffer_clear(told, 0);
    assert_int_equal(kv_iter_open(test->fixture.kv, element_prefix(id, 0, room), &iter), SK_OK);
    while (kv_iter_next(iter, &key, &value) == SK_OK && element_key_is_of(key, id)) {
        mp_write_bin(told, slice_of(key.data + 9, key.size - 9));
        mp_write_bin(told, value);
    }
    kv_iter_close(iter);
}

/* What is stored is what adding the same keys in their order stores. */
static void check_records(struct test *test) {
    struct ranks anew;
    struct buffer told, expected;
    buffer_init(&told);
    buffer_init(&expected);
    uint64_t id = ID + 1 + draw(test, 1000000000);
    assert_int_equal(ranks_open(&test->fixture.exec, id, PART, 0, &anew), SK_OK);
    for (uint64_t i = 0; i < model.count; i++) assert_int_equal(ranks_add(&anew, model_key(i)), SK_OK);
    assert_int_equal(ranks_save(&anew), SK_OK);
    reopen(test);
    tell_records(test, ID, &told);
    tell_records(test, id, &expected);
    assert_true(slice_equal(buffer_slice(&told), buffer_slice(&expected)));
    buffer_deinit(&told);
    buffer_deinit(&expected);
}

static void check_some(struct test *test, uint64_t numbers) {
    uint8_t a[RANKS_KEY_MAX], b[RANKS_KEY_MAX];
    check_ends(test);
    check_rank(test, key_of_number(draw(test, numbers), a));
    if (model.count > 0) check_select(test, draw(test, model.count));
    struct slice from = key_of_number(draw(test, numbers), a), below = key_of_number(draw(test, numbers), b);
    if (draw(test, 20) == 0) check_walk(test, from, below, draw(test, 2) == 0, draw(test, 3) * draw(test, 200));
}

/* Grows, and shrinks again to nothing, with `numbers` different keys. */
static void run_random(struct test *test, uint64_t numbers, uint64_t steps) {
    for (uint64_t i = 0; i < steps; i++) {
        uint8_t room[RANKS_KEY_MAX];
        struct slice key = key_of_number(draw(test, numbers), room);
        bool grows = i < steps / 2, has = model_has(key, model_before(key));
        if (grows == has && draw(test, 4) != 0) continue;
        toggle(test, key);
        if (draw(test, 3) == 0) reopen(test);
        check_some(test, numbers);
        if (i % (steps / 8) == 0) check_records(test);
    }
    while (model.count > 0) {
        struct ranks_key key = model.keys[draw(test, model.count)];
        toggle(test, ranks_key_slice(&key));
        check_ends(test);
    }
    reopen(test);
    assert_int_equal(fixture_elements(&test->fixture, ID), 0);
}

static void agrees_with_a_plain_order(void **state) {
    (void)state;
    static const uint64_t sizes[] = {10, 100, 1000, 6000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct test test;
        test_init(&test);
        run_random(&test, sizes[i], 10 * sizes[i]);
        test_deinit(&test);
    }
}

/* Hashes that make every key a boundary of all levels, of the first only, of none. */
static uint64_t hash_all(struct slice key) {
    (void)key;
    return 0;
}
static uint64_t hash_first(struct slice key) {
    (void)key;
    return 32;
}
static uint64_t hash_none(struct slice key) {
    (void)key;
    return 1;
}
static uint64_t hash_steep(struct slice key) { return 1ull << (key.data[key.size - 1] % 60); }

static void any_hash_will_do(void **state) {
    (void)state;
    uint64_t (*const hashes[])(struct slice) = {hash_all, hash_first, hash_none, hash_steep};
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++) {
        struct keyspace_hasher hasher = {.hash64 = hashes[i], .hash128 = keyspace_hasher_xxh3.hash128};
        struct test test;
        test_init(&test);
        test.fixture.exec.hasher = &hasher;
        run_random(&test, 150, 3000);
        test_deinit(&test);
    }
}

static void records_are_laid_out_as_written(void **state) {
    (void)state;
    struct keyspace_hasher hasher = {.hash64 = hash_first};
    struct test test;
    test_init(&test);
    test.fixture.exec.hasher = &hasher;
    assert_int_equal(ranks_add(&test.ranks, slice_of_text("b")), SK_OK);
    assert_int_equal(ranks_add(&test.ranks, slice_of_text("a")), SK_OK);
    hasher.hash64 = hash_none;
    assert_int_equal(ranks_add(&test.ranks, slice_of_text("A")), SK_OK);
    assert_int_equal(ranks_add(&test.ranks, slice_of_text("bb")), SK_OK);
    assert_int_equal(ranks_save(&test.ranks), SK_OK);
    static const uint8_t expected[] = "\xc4\x02\x01"
                                      "A\xc4\x00\xc4\x02\x01"
                                      "a\xc4\x00\xc4\x02\x01"
                                      "b\xc4\x00\xc4\x03\x01"
                                      "bb\xc4\x00"
                                      "\xc4\x01\x02\xc4\x0e\x01\0\0\0\0\0\0\0\x01\0\x01"
                                      "Abb"
                                      "\xc4\x02\x03"
                                      "a\xc4\x08\0\0\0\0\0\0\0\x01"
                                      "\xc4\x02\x03"
                                      "b\xc4\x08\0\0\0\0\0\0\0\x02";
    struct buffer told;
    buffer_init(&told);
    tell_records(&test, ID, &told);
    assert_int_equal(told.size, sizeof expected - 1);
    assert_memory_equal(told.data, expected, told.size);
    buffer_deinit(&told);
    test_deinit(&test);
}

static uint64_t cost(struct test *test) {
    return kv_memory_met(test->fixture.kv) + kv_memory_passed(test->fixture.kv);
}

/* By counting records, since time tells nothing here. */
static void costs_do_not_grow_with_the_set(void **state) {
    (void)state;
    enum { KEYS = 100000, ROUNDS = 500 };
    struct test test;
    test_init(&test);
    uint8_t room[RANKS_KEY_MAX];
    uint64_t before = cost(&test);
    for (uint64_t i = 0; i < KEYS; i++) {
        assert_int_equal(ranks_add(&test.ranks, key_of_number(7 * (i * 7919 % KEYS) + 2, room)), SK_OK);
    }
    assert_true(cost(&test) - before < 8 * KEYS); /* one record of each level, and more at a boundary */
    uint64_t most = 0, sum = 0;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct ranks_key key;
        uint64_t rank = draw(&test, KEYS), found;
        before = cost(&test);
        assert_int_equal(ranks_select(&test.ranks, rank, &key), SK_OK);
        assert_int_equal(ranks_before(&test.ranks, ranks_key_slice(&key), &found), SK_OK);
        assert_true(found == rank);
        uint64_t here = cost(&test) - before;
        sum += here;
        if (here > most) most = here;
    }
    assert_true(sum < ROUNDS * 2 * 32 * 4);
    assert_true(most < 2000);
    test_deinit(&test);
}

/* A queue: what goes in at one end and out at either, again and again, with what is removed still there as deleted records. */
static void removed_keys_are_not_passed_again(void **state) {
    (void)state;
    enum { ROUNDS = 20000, KEPT = 300 };
    for (int from_end = 0; from_end < 2; from_end++) {
        struct test test;
        test_init(&test);
        uint8_t room[RANKS_KEY_MAX];
        uint64_t before = 0;
        for (uint64_t i = 0; i < ROUNDS + KEPT; i++) {
            if (i == KEPT) before = cost(&test);
            uint64_t number = from_end ? 2 * ROUNDS - i : i;
            assert_int_equal(ranks_add(&test.ranks, key_of_number(7 * number + 2, room)), SK_OK);
            if (i < KEPT) continue;
            reopen(&test);
            struct ranks_key key = from_end ? test.ranks.last : test.ranks.first;
            struct ranks_walk walk;
            struct ranks_range all = {.from = slice_of("", 0), .below = slice_of("z", 1)};
            struct slice found;
            assert_int_equal(ranks_walk_open(&test.ranks, &all, from_end, 0, &walk), SK_OK);
            assert_int_equal(ranks_walk_next(&walk, &found), SK_OK);
            assert_true(slice_equal(found, ranks_key_slice(&key)));
            ranks_walk_close(&walk);
            assert_int_equal(ranks_remove(&test.ranks, ranks_key_slice(&key)), SK_OK);
            struct ranks_key middle;
            if (i % 16 == 0) assert_int_equal(ranks_select(&test.ranks, KEPT / 2, &middle), SK_OK);
        }
        assert_true(cost(&test) - before < 20 * ROUNDS);
        test_deinit(&test);
    }
}

static void damage_is_told(void **state) {
    (void)state;
    struct test test;
    test_init(&test);
    uint8_t room[RANKS_KEY_MAX], root_room[ELEMENT_PREFIX_BYTES];
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(ranks_add(&test.ranks, key_of_number(7 * i + 2, room)), SK_OK);
    }
    assert_true(test.ranks.levels > 0);
    reopen(&test);
    struct slice root = element_prefix(ID, PART + 1, root_room), stored;
    uint8_t copy[256];
    assert_int_equal(kv_get(test.fixture.kv, root, &stored), SK_OK);
    size_t size = stored.size;
    memcpy(copy, stored.data, size);
    size_t whole = size - 30; /* without its last key, of 30 bytes */
    struct ranks ranks;
    for (size_t cut = 0; cut <= whole; cut++) {
        assert_int_equal(kv_put(test.fixture.kv, root, slice_of(copy, cut)), SK_OK);
        assert_int_equal(ranks_open(&test.fixture.exec, ID, PART, 200, &ranks), SK_ECORRUPT);
    }
    copy[0] = RANKS_LEVELS_MAX + 1;
    assert_int_equal(kv_put(test.fixture.kv, root, slice_of(copy, size)), SK_OK);
    assert_int_equal(ranks_open(&test.fixture.exec, ID, PART, 200, &ranks), SK_ECORRUPT);
    assert_int_equal(kv_del(test.fixture.kv, root), SK_OK);
    assert_int_equal(ranks_open(&test.fixture.exec, ID, PART, 200, &ranks), SK_ECORRUPT);
    /* A boundary whose count is cut off, and a key that is not there. */
    for (uint64_t i = 0; i < 200; i++) {
        uint8_t record[KV_KEY_BYTES_MAX];
        struct slice key = key_of_number(7 * i + 2, room);
        (void)element_prefix(ID, PART + 2, record);
        memcpy(record + ELEMENT_PREFIX_BYTES, key.data, key.size);
        struct slice at = slice_of(record, ELEMENT_PREFIX_BYTES + key.size);
        if (kv_get(test.fixture.kv, at, &stored) != SK_OK) continue;
        assert_int_equal(kv_put(test.fixture.kv, at, slice_of("1234567", 7)), SK_OK);
    }
    struct ranks_key key;
    uint64_t rank;
    assert_int_equal(ranks_select(&test.ranks, 199, &key), SK_ECORRUPT);
    assert_int_equal(ranks_before(&test.ranks, ranks_key_slice(&test.ranks.last), &rank), SK_ECORRUPT);
    test_deinit(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_laid_out_as_written),
        cmocka_unit_test(agrees_with_a_plain_order),
        cmocka_unit_test(any_hash_will_do),
        cmocka_unit_test(costs_do_not_grow_with_the_set),
        cmocka_unit_test(removed_keys_are_not_passed_again),
        cmocka_unit_test(damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
