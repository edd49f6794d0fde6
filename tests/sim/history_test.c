/* What clients were told, as the judge gets it. */
#include "tests/sim/history.h"

#include "libcommon/testing.h"

static struct value text(const char *word) {
    struct value value = {.present = true, .length = (uint8_t)strlen(word)};
    memcpy(value.bytes, word, value.length);
    return value;
}

static struct history_item item(uint64_t begin_us, uint64_t end_us, enum command_op op) {
    return (struct history_item){.command = {.op = op}, .begin_us = begin_us, .end_us = end_us};
}

static struct history_item set(uint64_t begin_us, uint64_t end_us, const char *word) {
    struct history_item made = item(begin_us, end_us, COMMAND_SET);
    made.command.value = text(word);
    return made;
}

static struct history_item get(uint64_t begin_us, uint64_t end_us, const char *word) {
    struct history_item made = item(begin_us, end_us, COMMAND_GET);
    if (word != NULL) made.result.got = text(word);
    return made;
}

static struct history_item incr(uint64_t begin_us, uint64_t end_us, int64_t amount, int64_t answer) {
    struct history_item made = item(begin_us, end_us, COMMAND_INCR);
    made.command.amount = amount;
    made.result.answer = answer;
    return made;
}

static struct history_item cas(uint64_t begin_us, uint64_t end_us, const char *from, const char *to, int answer) {
    struct history_item made = item(begin_us, end_us, COMMAND_CAS);
    if (from != NULL) made.command.expected = text(from);
    if (to != NULL) made.command.value = text(to);
    made.result.answer = answer;
    return made;
}

static struct history_item unknown(struct history_item made) {
    made.unknown = true;
    return made;
}

static struct history_item of_key(uint32_t key, struct history_item made) {
    made.command.key = key;
    return made;
}

static bool judged(const struct history_item *items, size_t count) {
    struct history history;
    char why[200] = "";
    history_init(&history);
    for (size_t i = 0; i < count; i++) history_add(&history, &items[i]);
    enum history_verdict verdict = history_judge(&history, why, sizeof why);
    assert_int_not_equal(verdict, HISTORY_UNDECIDED);
    bool good = verdict == HISTORY_GOOD;
    assert_true(good == (why[0] == '\0'));
    history_deinit(&history);
    return good;
}

#define JUDGED(...)                                                                                               \
    judged((const struct history_item[]){__VA_ARGS__},                                                            \
           sizeof((const struct history_item[]){__VA_ARGS__}) / sizeof(struct history_item))

static void test_each_kind_of_operation(void **state) {
    (void)state;
    struct history_item del = item(50, 60, COMMAND_DEL), append = item(70, 80, COMMAND_APPEND);
    del.result.answer = 1;
    append.command.value = text("x");
    append.result.answer = 1;
    assert_true(
        JUDGED(set(0, 5, "4"), incr(10, 20, 3, 7), cas(30, 40, "7", "8", 1), del, append, get(90, 95, "x")));
    assert_true(JUDGED(set(0, 5, "a"), cas(10, 20, "a", NULL, 1), cas(30, 40, NULL, "b", 1), get(50, 60, "b")));
    assert_false(JUDGED(set(0, 5, "4"), incr(10, 20, 3, 8)));
    assert_false(JUDGED(set(0, 5, "4"), cas(10, 20, "4", "5", 0)));
    del.result.answer = 0;
    assert_false(JUDGED(set(0, 5, "4"), del));
    append.result.answer = 2;
    assert_false(JUDGED(append));
}

static void test_a_stale_read(void **state) {
    (void)state;
    assert_false(JUDGED(set(0, 5, "a"), set(10, 15, "b"), get(20, 25, "a")));
    assert_true(JUDGED(set(0, 5, "a"), set(10, 22, "b"), get(20, 25, "a")));
}

static void test_a_write_done_twice(void **state) {
    (void)state;
    assert_false(JUDGED(set(0, 5, "1"), incr(10, 15, 2, 3), get(20, 25, "5")));
    assert_false(JUDGED(set(0, 5, "1"), unknown(incr(10, 0, 2, 0)), get(20, 25, "5")));
}

static void test_a_write_lost(void **state) {
    (void)state;
    assert_false(JUDGED(set(0, 5, "a"), get(10, 15, NULL)));
    assert_true(JUDGED(unknown(set(0, 0, "a")), get(10, 15, NULL), get(20, 25, "a")));
}

static void test_keys_are_apart(void **state) {
    (void)state;
    assert_true(JUDGED(set(0, 5, "a"), of_key(1, get(10, 15, NULL))));
    assert_true(JUDGED(set(0, 5, "a"), of_key(1, set(0, 5, "b")), get(10, 15, "a"), of_key(1, get(10, 15, "b"))));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_kind_of_operation), cmocka_unit_test(test_a_stale_read),
        cmocka_unit_test(test_a_write_done_twice),     cmocka_unit_test(test_a_write_lost),
        cmocka_unit_test(test_keys_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
