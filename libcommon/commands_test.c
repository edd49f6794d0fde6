#include "commands.h"

#include <ctype.h>
#include <string.h>

#include "testing.h"

static const struct command *find(const char *name) { return command_find(slice_of_text(name)); }

static void test_every_name_in_any_case(void **state) {
    (void)state;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &command_table[i];
        char lower[32], mixed[32];
        size_t size = strlen(command->name);
        for (size_t j = 0; j <= size; j++) {
            lower[j] = (char)tolower((unsigned char)command->name[j]);
            mixed[j] = j % 2 == 0 ? lower[j] : command->name[j];
        }
        assert_int_equal(command->id, i);
        assert_ptr_equal(find(command->name), command);
        assert_ptr_equal(find(lower), command);
        assert_ptr_equal(find(mixed), command);
        /* Neither a part of a name nor a name and more. */
        const struct command *shorter = command_find(slice_of(command->name, size - 1));
        assert_true(shorter != command);
        assert_null(command_find(slice_of(command->name, size + 1))); /* with its final 0 */
    }
}

static void test_unknown_names(void **state) {
    (void)state;
    char large[1000];
    memset(large, 'G', sizeof large);
    assert_null(command_find(slice_of(NULL, 0)));
    assert_null(find(""));
    assert_null(find("GETT"));
    assert_null(find("G"));
    assert_null(find(" GET"));
    assert_null(find("get\x01"));
    assert_null(command_find(slice_of("\0\0\0", 3)));
    assert_null(command_find(slice_of("GET\0\0\0\0\0", 8)));
    assert_null(find("\xe7\xe5\xf4")); /* GET with the eighth bit */
    for (size_t size = 1; size <= sizeof large; size++) assert_null(command_find(slice_of(large, size)));
}

static void test_arity(void **state) {
    (void)state;
    const struct command *get = find("GET"), *set = find("SET"), *ping = find("PING");
    assert_false(command_arity_ok(get, 1));
    assert_true(command_arity_ok(get, 2));
    assert_false(command_arity_ok(get, 3));
    assert_false(command_arity_ok(set, 2));
    assert_true(command_arity_ok(set, 3));
    assert_true(command_arity_ok(set, 10000));
    assert_false(command_arity_ok(ping, 0));
    assert_true(command_arity_ok(ping, 1));
}

static void expect_keys(const struct command *command, size_t words, const char *numkeys, const char *expected) {
    struct command_keys keys = command_keys(command, words, command_read_numkeys(slice_of_text(numkeys)));
    char told[16];
    assert_true(words < sizeof told);
    for (size_t word = 0; word < words; word++) told[word] = command_keys_have(&keys, word) ? 'k' : '.';
    told[words] = '\0';
    assert_string_equal(told, expected);
}

static void test_keys(void **state) {
    (void)state;
    expect_keys(find("GET"), 2, "", ".k");
    expect_keys(find("MGET"), 4, "", ".kkk");
    expect_keys(find("MSET"), 5, "", ".k.k.");
    expect_keys(find("PING"), 2, "", "..");
    struct command counted = {
        .arity = -4, .flags = COMMAND_NUMKEYS, .first_key = 2, .last_key = -1, .key_step = 1};
    assert_int_equal(command_numkeys_word(&counted), 1);
    assert_int_equal(command_numkeys_word(find("GET")), 0);
    expect_keys(&counted, 6, "1", "..k...");
    expect_keys(&counted, 6, "3", "..kkk.");
    expect_keys(&counted, 6, "4", "..kkkk");
    counted.flags |= COMMAND_KEY_ALSO;
    counted.first_key = 3;
    expect_keys(&counted, 6, "2", ".k.kk.");
    static const char *const wrong[] = {
        "", "0", "-1", "01", "+1", "1 ", "x", "4", "999999999", "1000000000", "18446744073709551617"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) expect_keys(&counted, 6, wrong[i], ".k....");
}

static void expect_awaited(const struct command *command, size_t words, size_t numkeys, size_t wait_word,
                           const char *expected) {
    struct command_keys keys = command_awaited_keys(command, words, numkeys);
    assert_int_equal(command_wait_word(command, words), wait_word);
    for (size_t word = 0; word < words; word++) {
        assert_int_equal(command_keys_have(&keys, word), expected[word] == 'k');
    }
}

static void test_awaited_keys(void **state) {
    (void)state;
    expect_awaited(find("BLPOP"), 3, 0, 2, ".k.");
    expect_awaited(find("BRPOP"), 5, 0, 4, ".kkk.");
    expect_awaited(find("BLMPOP"), 6, 2, 1, "...kk.");
    expect_awaited(find("BLMPOP"), 6, 0, 1, "......");
    expect_awaited(find("BLMOVE"), 6, 0, 5, ".k....");
    expect_awaited(find("BRPOPLPUSH"), 4, 0, 3, ".k..");
}

/* What routing relies on. */
static void test_the_table_makes_sense(void **state) {
    (void)state;
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &command_table[i];
        bool reads = (command->flags & COMMAND_READ) != 0, writes = (command->flags & COMMAND_WRITE) != 0;
        bool by_gateway = (command->flags & COMMAND_GATEWAY) != 0,
             by_door = (command->flags & COMMAND_SESSION) != 0;
        assert_int_equal(reads + writes + by_gateway + by_door, 1);
        assert_true(command->arity != 0);
        assert_true((command->first_key == 0) == (command->key_step == 0));
        int least_words = command->arity > 0 ? command->arity : -command->arity;
        assert_true(command->first_key < least_words); /* an accepted command has its first key */
        bool counted = (command->flags & COMMAND_NUMKEYS) != 0;
        if (counted) assert_true(command->first_key >= 2 && command->key_step == 1);
        if (command->flags & COMMAND_KEY_ALSO) assert_true(counted && command->first_key >= 3);
        if (command->flags & COMMAND_BLOCKING)
            assert_true(writes && command->first_key > 0 && !(command->flags & COMMAND_SPLIT));
        if (command->flags & COMMAND_FOR_ZSET) assert_true(command->flags & COMMAND_BLOCKING);
        bool split = (command->flags & (COMMAND_SPLIT | COMMAND_ALL_SHARDS)) != 0;
        assert_true(split == (command->join != JOIN_NONE));
        assert_true(strlen(command->summary) > 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_name_in_any_case),
        cmocka_unit_test(test_unknown_names),
        cmocka_unit_test(test_arity),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_awaited_keys),
        cmocka_unit_test(test_the_table_makes_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
