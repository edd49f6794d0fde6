#include "shardd/collection.h"
#include "shardd/exec_fixture.h"

static void renames(void **state) {
    (void)state;
    FIXTURE_TABLE({"RENAME {t}a {t}b", "-BADREQUEST no such key"}, {"RENAME {t}a {t}a", "-BADREQUEST no such key"},
                  {"RENAMENX {t}a {t}b", "-BADREQUEST no such key"}, {"SET {t}a 1 PX 5000", "+OK"},
                  {"RENAME {t}a {t}a", "+OK"}, {"RENAMENX {t}a {t}a", "0"}, {"RENAME {t}a {t}b", "+OK"},
                  {"EXISTS {t}a", "0"}, {"GET {t}b", "\"1\""}, {"PTTL {t}b", "5000"}, {"SET {t}a 2", "+OK"},
                  {"RENAMENX {t}a {t}b", "0"}, {"GET {t}b", "\"1\""}, {"RENAME {t}a {t}b", "+OK"},
                  {"GET {t}b", "\"2\""}, {"PTTL {t}b", "-1"}, {"SET {t}c 3 PX 10", "+OK"}, {"@10", ""},
                  {"RENAMENX {t}b {t}c", "1"}, {"GET {t}c", "\"2\""},
                  {"RENAME a b", "-CROSSSLOT Keys in request don't "
                                 "hash to the same slot"});
}

static void copies(void **state) {
    (void)state;
    FIXTURE_TABLE({"COPY {t}a {t}b", "0"}, {"SET {t}a 1 PX 5000", "+OK"}, {"COPY {t}a {t}b", "1"},
                  {"GET {t}a", "\"1\""}, {"GET {t}b", "\"1\""}, {"PTTL {t}b", "5000"}, {"SET {t}a 2", "+OK"},
                  {"COPY {t}a {t}b", "0"}, {"COPY {t}a {t}b replace", "1"}, {"GET {t}b", "\"2\""},
                  {"PTTL {t}b", "-1"}, {"COPY {t}a {t}b DB 0 REPLACE REPLACE", "1"},
                  {"COPY {t}a {t}a", "-BADREQUEST source and destination objects are the same"},
                  {"COPY {t}x {t}x", "-BADREQUEST source and destination objects are the same"},
                  {"COPY {t}a {t}b DB 1", "-BADREQUEST DB index is out of range"},
                  {"COPY {t}a {t}b DB 2147483648",
                   "-BADREQUEST value is out of range, value must between -2147483648 and 2147483647"},
                  {"COPY {t}a {t}b DB x", "-BADREQUEST value is not an integer or out of range"},
                  {"COPY {t}a {t}b DB", "-BADREQUEST syntax error"},
                  {"COPY {t}a {t}b FOO", "-BADREQUEST syntax error"});
}

/* A hash of `count` fields, each with `bytes` bytes. */
static void make(struct fixture *fixture, const char *key, uint32_t count, size_t bytes) {
    struct call call = {.exec = &fixture->exec, .now_us = fixture->now_us, .answer = &fixture->answer};
    struct collection collection;
    struct element element;
    uint8_t *value = calloc(1, bytes);
    assert_int_equal(collection_find_for_write(&call, slice_of_text(key), OBJECT_HASH, &collection), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        collection_begin(&call, &collection);
        assert_int_equal(element_find(&fixture->exec, collection.id, slice_of(&i, sizeof i), &element), SK_OK);
        assert_int_equal(collection_put(&call, &collection, &element, slice_of(value, bytes)), SK_OK);
    }
    assert_int_equal(collection_save(&call, &collection), SK_OK);
    free(value);
}

static uint64_t elements_of(struct fixture *fixture, const char *key) {
    struct object object;
    assert_int_equal(keyspace_find(&fixture->exec, slice_of_text(key), fixture->now_us, &object), SK_OK);
    return object.found ? fixture_elements(fixture, object.elements_id) : 0;
}

/* The elements of a renamed collection are where they were; those of a copy are its own. */
static void collections(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "{t}a", 3000, 1000); /* some portions */
    make(&fixture, "{t}b", 10, 10);
    fixture_expect(&fixture, "RENAME {t}a {t}b", "+OK");
    fixture_audit(&fixture); /* what {t}b had is gone */
    assert_int_equal(elements_of(&fixture, "{t}b"), 3000);
    fixture_expect(&fixture, "COPY {t}b {t}c", "1");
    fixture_audit(&fixture);
    fixture_expect(&fixture, "DEL {t}b", "1");
    uint32_t removed;
    while (fixture.exec.counters.garbage > 0) {
        assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us, 256, &removed), SK_OK);
    }
    fixture_audit(&fixture);
    fixture_expect(&fixture, "TYPE {t}c", "+hash");
    assert_int_equal(elements_of(&fixture, "{t}c"), 3000);
    struct collection collection;
    struct element element;
    struct call call = {.exec = &fixture.exec, .now_us = fixture.now_us, .answer = &fixture.answer};
    uint32_t number = 2999;
    assert_int_equal(collection_find(&call, slice_of_text("{t}c"), OBJECT_HASH, &collection), SK_OK);
    assert_int_equal(collection.count, 3000);
    assert_int_equal(element_find(&fixture.exec, collection.id, slice_of(&number, sizeof number), &element),
                     SK_OK);
    assert_true(element.found && element.value.size == 1000);
    fixture_deinit(&fixture);
}

static void copies_are_bounded(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "{t}big", 5, VALUE_BYTES_MAX);
    fixture_expect(&fixture, "COPY {t}big {t}c", "-TOOLARGE the value is too large to be copied");
    make(&fixture, "{t}many", ELEMENTS_MET_MAX + 1, 0);
    fixture_expect(&fixture, "COPY {t}many {t}c", "-TOOLARGE the value is too large to be copied");
    fixture_expect(&fixture, "EXISTS {t}c", "0");
    fixture_expect(&fixture, "SETBIT {t}far 100000000 1", "0");
    fixture_expect(&fixture, "COPY {t}far {t}c", "1");
    fixture_expect(&fixture, "BITPOS {t}c 1", "100000000");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

static void encodings(void **state) {
    (void)state;
    FIXTURE_TABLE({"OBJECT ENCODING none", "nil"}, {"OBJECT REFCOUNT none", "nil"}, {"SET a 1", "+OK"},
                  {"OBJECT encoding a", "\"int\""}, {"OBJECT REFCOUNT a", "1"}, {"SET a 01", "+OK"},
                  {"OBJECT ENCODING a", "\"embstr\""}, {"SET a 9223372036854775808", "+OK"},
                  {"OBJECT ENCODING a", "\"embstr\""}, {"SETRANGE a 43 x", "44"},
                  {"OBJECT ENCODING a", "\"embstr\""}, {"APPEND a x", "45"}, {"OBJECT ENCODING a", "\"raw\""},
                  {"SETBIT b 80000 1", "0"}, {"OBJECT ENCODING b", "\"raw\""},
                  {"OBJECT FREQ a", "-BADREQUEST access to keys is not tracked"},
                  {"OBJECT FOO a", "-BADREQUEST unknown subcommand 'foo'. Try OBJECT ENCODING."});
    struct fixture fixture;
    fixture_init(&fixture);
    make(&fixture, "h", 128, 64);
    fixture_expect(&fixture, "OBJECT ENCODING h", "\"listpack\"");
    make(&fixture, "more", 129, 64);
    fixture_expect(&fixture, "OBJECT ENCODING more", "\"hashtable\"");
    make(&fixture, "longer", 1, 65);
    fixture_expect(&fixture, "OBJECT ENCODING longer", "\"hashtable\"");
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renames),     cmocka_unit_test(copies),
        cmocka_unit_test(collections), cmocka_unit_test(copies_are_bounded),
        cmocka_unit_test(encodings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
