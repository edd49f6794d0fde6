#include "shardd/collection.h"

#include "shardd/exec_fixture.h"

static struct collection find(struct fixture *fixture, const char *key, uint8_t type) {
    struct call call = {.exec = &fixture->exec, .now_us = fixture->now_us, .answer = &fixture->answer};
    struct collection collection;
    assert_int_equal(collection_find(&call, slice_of_text(key), type, &collection), SK_OK);
    assert_true(collection.object.found);
    return collection;
}

__attribute__((format(printf, 2, 3))) static void run(struct fixture *fixture, const char *format, ...) {
    char line[700];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    fixture_run(fixture, line);
    assert_int_equal(fixture->err, SK_OK);
}

static void elements_get_a_new_id_when_many_are_gone(void **state) {
    (void)state;
    enum { STAY = 5, GO = 1024 + 8 * STAY };
    struct fixture fixture;
    fixture_init(&fixture);
    for (unsigned i = 0; i < STAY - 1; i++) run(&fixture, "HSET h stay%u value", i);
    run(&fixture, "HSET h %0500u v", 7u);
    fixture_expect(&fixture, "EXPIRE h 100", "1");
    uint64_t id = find(&fixture, "h", OBJECT_HASH).id;
    for (unsigned i = 0; i < GO; i++) {
        assert_true(find(&fixture, "h", OBJECT_HASH).id == id);
        run(&fixture, "HSET h %u value", i);
        run(&fixture, "HDEL h %u", i);
    }
    struct collection hash = find(&fixture, "h", OBJECT_HASH);
    assert_true(hash.id > id && hash.count == STAY);
    assert_int_equal(hash.numbers[COLLECTION_REMOVED], 0);
    assert_int_equal(fixture_elements(&fixture, id), 0);
    assert_int_equal(fixture.exec.counters.garbage, 0);
    fixture_expect(&fixture, "TTL h", "100");
    fixture_expect(&fixture, "HGET h stay3", "\"value\"");
    run(&fixture, "HDEL h %0500u", 7u);
    fixture_expect(&fixture, "HLEN h", "4");
    fixture_audit(&fixture);
    fixture_expect(&fixture, "DEL h", "1");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Undone as all else: the elements are back where they were. */
static void a_move_is_undone_with_its_batch(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SADD s a b", "2");
    for (unsigned i = 0; i < 1024 + 8 * 2 - 1; i++) {
        run(&fixture, "SADD s %u", i);
        run(&fixture, "SREM s %u", i);
    }
    uint64_t id = find(&fixture, "s", OBJECT_SET).id;
    static const char *const lines[] = {"SADD s c", "SREM s c", "SMEMBERS s", "GET s"};
    assert_string_equal(fixture_run_atomic(&fixture, lines, 4),
                        "-WRONGTYPE command 4: Operation against a key holding the wrong kind of value");
    assert_true(find(&fixture, "s", OBJECT_SET).id == id);
    fixture_expect(&fixture, "SMEMBERS s", "[\"b\" \"a\"]");
    fixture_audit(&fixture);
    fixture_run_atomic(&fixture, lines, 3);
    assert_int_equal(fixture.err, SK_OK);
    assert_true(find(&fixture, "s", OBJECT_SET).id > id);
    fixture_expect(&fixture, "SMEMBERS s", "[\"b\" \"a\"]");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Moving costs what is left, so that has to be little. */
static void much_is_not_moved(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    buffer_clear(&fixture.body, 0);
    mp_write_text(&fixture.body, "HSET");
    mp_write_array(&fixture.body, 3);
    mp_write_text(&fixture.body, "h");
    mp_write_text(&fixture.body, "large");
    uint8_t *large = calloc(1, 1048576);
    mp_write_bin(&fixture.body, slice_of(large, 1048576));
    free(large);
    assert_string_equal(fixture_run_body(&fixture, false, true), "1");
    uint64_t id = find(&fixture, "h", OBJECT_HASH).id;
    for (unsigned i = 0; i < 1200; i++) {
        run(&fixture, "HSET h %u value", i);
        run(&fixture, "HDEL h %u", i);
    }
    assert_true(find(&fixture, "h", OBJECT_HASH).id == id);
    fixture_expect(&fixture, "HSET h large small", "0");
    assert_true(find(&fixture, "h", OBJECT_HASH).id > id);
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_get_a_new_id_when_many_are_gone),
        cmocka_unit_test(a_move_is_undone_with_its_batch),
        cmocka_unit_test(much_is_not_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
