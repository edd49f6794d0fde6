#include "shardd/garbage.h"

#include "shardd/collection.h"
#include "shardd/exec_fixture.h"

/* A collection of `count` elements, whose names are numbers. */
static void make(struct fixture *fixture, const char *key, uint32_t count) {
    struct call call = {.exec = &fixture->exec, .now_us = fixture->now_us, .answer = &fixture->answer};
    struct collection collection;
    struct element element;
    assert_int_equal(collection_find_for_write(&call, slice_of_text(key), OBJECT_HASH, &collection), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        collection_begin(&call, &collection);
        assert_int_equal(element_find(&fixture->exec, collection.id, slice_of(&i, sizeof i), &element), SK_OK);
        assert_int_equal(collection_put(&call, &collection, &element, slice_of_text("value")), SK_OK);
    }
    assert_int_equal(collection_save(&call, &collection), SK_OK);
    fixture_audit(fixture);
}

static uint64_t element_records(struct fixture *fixture) {
    static const uint8_t from[1] = {RECORD_ELEMENT};
    struct kv_iter *iter;
    struct slice key, value;
    uint64_t count = 0;
    assert_int_equal(kv_iter_open(fixture->kv, slice_of(from, 1), &iter), SK_OK);
    while (kv_iter_next(iter, &key, &value) == SK_OK && key.data[0] == RECORD_ELEMENT) count++;
    kv_iter_close(iter);
    return count;
}

static uint64_t deadline(struct fixture *fixture) {
    uint64_t deadline_us;
    assert_int_equal(exec_next_deadline(&fixture->exec, &deadline_us), SK_OK);
    return deadline_us;
}

static void sweep(struct fixture *fixture, uint32_t limit) {
    uint32_t removed;
    assert_int_equal(exec_sweep(&fixture->exec, fixture->now_us, limit, &removed), SK_OK);
    fixture_audit(fixture);
}

static void few_elements_go_at_once(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "h", 64);
    fixture_expect(&fixture, "TYPE h", "+hash");
    fixture_expect(&fixture, "DEL h", "1");
    fixture_audit(&fixture);
    assert_int_equal(element_records(&fixture), 0);
    assert_true(deadline(&fixture) == UINT64_MAX);
    fixture_deinit(&fixture);
}

static void many_are_left_to_sweeps(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "a", 100);
    make(&fixture, "b", 65);
    make(&fixture, "c", 3);
    fixture_expect(&fixture, "DEL a", "1");
    fixture_expect(&fixture, "SET b string", "+OK");
    fixture_audit(&fixture);
    assert_int_equal(fixture.exec.counters.garbage, 2);
    assert_int_equal(element_records(&fixture), 168);
    assert_int_equal(deadline(&fixture), 0);
    fixture_expect(&fixture, "EXISTS a", "0");
    make(&fixture, "a", 5); /* under another id: not touched */
    uint64_t left = 173;
    for (int i = 0; i < 4; i++) { /* 30 30 30 and the last 10 */
        sweep(&fixture, 30);
        left -= i < 3 ? 30 : 10;
        assert_int_equal(element_records(&fixture), left);
        assert_int_equal(fixture.exec.counters.garbage, i < 3 ? 2 : 1);
    }
    sweep(&fixture, 64);
    assert_int_equal(fixture.exec.counters.garbage, 1); /* it cannot know yet that one is left */
    sweep(&fixture, 64);
    assert_int_equal(fixture.exec.counters.garbage, 0);
    assert_int_equal(element_records(&fixture), 8);
    assert_true(deadline(&fixture) == UINT64_MAX);
    sweep(&fixture, 64);
    fixture_deinit(&fixture);
}

/* What one entry removes is bounded over all its keys. */
static void one_entry_removes_so_many(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    char line[256] = "DEL", key[8];
    for (int i = 0; i < 9; i++) {
        snprintf(key, sizeof key, "k%d", i);
        make(&fixture, key, 60);
        strcat(strcat(line, " "), key);
    }
    fixture_expect(&fixture, line, "9");
    fixture_audit(&fixture);
    assert_int_equal(element_records(&fixture), 5 * 60);
    assert_int_equal(fixture.exec.counters.garbage, 5);
    make(&fixture, "again", 60); /* the next entry may again */
    fixture_expect(&fixture, "DEL again", "1");
    assert_int_equal(fixture.exec.counters.garbage, 5);
    while (fixture.exec.counters.garbage > 0) sweep(&fixture, 256);
    assert_int_equal(element_records(&fixture), 0);
    fixture_deinit(&fixture);
}

static void expiry_leaves_them_too(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "h", 1000);
    fixture_expect(&fixture, "PEXPIRE h 10", "1");
    fixture_expect(&fixture, "PTTL h", "10");
    fixture.now_us += 10000;
    fixture_expect(&fixture, "EXISTS h", "0");
    sweep(&fixture, 256);
    assert_int_equal(fixture.exec.counters.keys, 0);
    assert_int_equal(element_records(&fixture), 1000 - 256);
    while (fixture.exec.counters.garbage > 0) sweep(&fixture, 256);
    assert_int_equal(element_records(&fixture), 0);
    fixture_deinit(&fixture);
}

/* An atomic batch that fails gives the elements back. */
static void undone_with_its_batch(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "{t}h", 100);
    make(&fixture, "{t}few", 10);
    const char *lines[] = {"DEL {t}h {t}few", "SET {t}n text", "INCR {t}n"};
    assert_memory_equal(fixture_run_atomic(&fixture, lines, 3), "-BADVALUE", 9);
    fixture_expect(&fixture, "EXISTS {t}h {t}few", "2");
    fixture_audit(&fixture);
    assert_int_equal(element_records(&fixture), 110);
    assert_int_equal(fixture.exec.counters.garbage, 0);
    fixture_deinit(&fixture);
}

/* How many deleted records are passed when all that is left is swept. */
static uint64_t sweep_all(struct fixture *fixture, uint32_t limit, uint32_t *sweeps) {
    uint64_t before = kv_memory_passed(fixture->kv);
    uint32_t removed;
    for (*sweeps = 0; fixture->exec.counters.garbage > 0; ++*sweeps) {
        assert_int_equal(exec_sweep(&fixture->exec, fixture->now_us, limit, &removed), SK_OK);
    }
    return kv_memory_passed(fixture->kv) - before;
}

/* Until a checkpoint takes it away, what was swept lies behind the index of what expires, where that has nothing more to tell.
 * If it were passed by each sweep, one would cost what all those before it have removed. */
static void sweeps_do_not_pass_what_was_swept(void **state) {
    (void)state;
    enum { COUNT = 5000, LIMIT = 100 };
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "many", COUNT);
    fixture_expect(&fixture, "DEL many", "1");
    uint32_t sweeps;
    uint64_t passed = sweep_all(&fixture, LIMIT, &sweeps);
    assert_true(sweeps >= COUNT / LIMIT);
    assert_true(passed <= sweeps); /* each begins at the last one that is gone */
    fixture_expect(&fixture, "SET k v PX 1", "+OK");
    fixture.now_us += 1000;
    uint64_t before = kv_memory_passed(fixture.kv);
    assert_int_equal(deadline(&fixture), fixture.now_us);
    uint32_t removed;
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us, LIMIT, &removed), SK_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(kv_memory_passed(fixture.kv), before);
    fixture_deinit(&fixture);
}

/* Nor does who walks to the end of what lies before it. */
static void walks_do_not_pass_what_was_swept(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    static const struct {
        const char *make, *made, *walk, *answer;
    } cases[] = {
        {"SET {t}a v", "+OK", "SCAN 0", "[\"0\" [\"{t}a\"]]"},
        {"RPUSH {t}a v", "1", "COPY {t}a {t}b", "1"},
        {"SETBIT {t}a 1000000 0", "0", "BITCOUNT {t}a", "0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture fixture;
        fixture_init(&fixture);
        fixture_expect(&fixture, cases[i].make, cases[i].made);
        make(&fixture, "many", COUNT);
        fixture_expect(&fixture, "DEL many", "1");
        uint32_t sweeps;
        (void)sweep_all(&fixture, COUNT, &sweeps);
        uint64_t before = kv_memory_passed(fixture.kv);
        fixture_expect(&fixture, cases[i].walk, cases[i].answer);
        assert_true(kv_memory_passed(fixture.kv) - before <= 1); /* the key "many" itself */
        fixture_deinit(&fixture);
    }
}

/* A counter without its record, and a record that names no element of its collection. */
static void damage_is_told(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    uint32_t removed;
    fixture.exec.counters.garbage = 1;
    assert_int_equal(exec_sweep(&fixture.exec, 0, 1, &removed), SK_ECORRUPT);
    uint8_t key[9] = {RECORD_GARBAGE, 0, 0, 0, 0, 0, 0, 0, 5}, room[ELEMENT_PREFIX_BYTES];
    assert_int_equal(kv_put(fixture.kv, slice_of(key, sizeof key), element_prefix(6, 0, room)), SK_OK);
    assert_int_equal(exec_sweep(&fixture.exec, 0, 1, &removed), SK_ECORRUPT);
    assert_int_equal(kv_put(fixture.kv, slice_of(key, sizeof key), element_prefix(5, 0, room)), SK_OK);
    assert_int_equal(exec_sweep(&fixture.exec, 0, 1, &removed), SK_OK);
    assert_int_equal(fixture.exec.counters.garbage, 0);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_elements_go_at_once),
        cmocka_unit_test(many_are_left_to_sweeps),
        cmocka_unit_test(one_entry_removes_so_many),
        cmocka_unit_test(expiry_leaves_them_too),
        cmocka_unit_test(undone_with_its_batch),
        cmocka_unit_test(sweeps_do_not_pass_what_was_swept),
        cmocka_unit_test(walks_do_not_pass_what_was_swept),
        cmocka_unit_test(damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
