#include "verdict.h"

#include "libcommon/testing.h"

/* "AAB-x": sums A, A and B, one that did not answer, one that is damaged. */
static struct verdict judge(const char *answers) {
    struct verdict_answer told[MAP_REPLICAS_MAX] = {0};
    uint32_t count = 0;
    for (; answers[count] != 0; count++) {
        char one = answers[count];
        if (one == 'x') told[count].kind = VERDICT_DAMAGED;
        if (one >= 'A' && one <= 'Z') told[count].kind = VERDICT_SUM;
        told[count].sum = (struct scrub_sum){.low = 7, .high = (uint64_t)one};
    }
    return verdict_of(told, count);
}

/* Bits as they stand in the text: "01" is the second answer. */
static void assert_bits(uint32_t mask, const char *expected) {
    char text[MAP_REPLICAS_MAX + 1] = "";
    for (size_t i = 0; expected[i] != 0; i++) text[i] = (mask >> i & 1) != 0 ? '1' : '0';
    assert_string_equal(text, expected);
    assert_int_equal(mask >> strlen(expected), 0);
}

static void test_all_agree(void **state) {
    (void)state;
    static const char *const equal[] = {"A", "AA", "AAA", "BBBBBBB"};
    for (size_t i = 0; i < sizeof equal / sizeof equal[0]; i++) {
        struct verdict verdict = judge(equal[i]);
        assert_true(verdict.equal);
        assert_false(verdict.undecided);
        assert_int_equal(verdict.differs | verdict.damaged | verdict.missing, 0);
        assert_int_equal(verdict.sound, (1u << strlen(equal[i])) - 1);
    }
}

static void test_a_majority_tells_who_differs(void **state) {
    (void)state;
    static const char *const told[][3] = {/* answers, who differs, who is sound */
                                          {"AAB", "001", "110"},
                                          {"BAA", "100", "011"}, /* the leader like anybody */
                                          {"AABA", "0010", "1101"},
                                          {"AABCA", "00110", "11001"},
                                          {"AAB-", "0010", "1100"},
                                          {"AABx", "0010", "1100"},
                                          {"CAAABAA", "1000100", "0111011"}};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        struct verdict verdict = judge(told[i][0]);
        assert_bits(verdict.differs, told[i][1]);
        assert_bits(verdict.sound, told[i][2]);
        assert_false(verdict.equal || verdict.undecided);
    }
}

static void test_without_a_majority_nobody_is_wrong(void **state) {
    (void)state;
    static const char *const told[] = {"AB", "ABC", "AB-", "ABx", "AABB", "AABBC", "AABCD-"};
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++) {
        struct verdict verdict = judge(told[i]);
        assert_true(verdict.undecided);
        assert_int_equal(verdict.differs, 0);
        assert_int_equal(verdict.sound, 0);
        assert_false(verdict.equal);
    }
}

static void test_damage_needs_no_majority(void **state) {
    (void)state;
    struct verdict verdict = judge("xA");
    assert_bits(verdict.damaged, "10");
    assert_bits(verdict.sound, "01");
    assert_false(verdict.equal || verdict.undecided);
    verdict = judge("AxB");
    assert_bits(verdict.damaged, "010");
    assert_true(verdict.undecided);
    verdict = judge("xx");
    assert_bits(verdict.damaged, "11");
    assert_int_equal(verdict.sound, 0);
    assert_false(verdict.equal || verdict.undecided);
}

static void test_who_did_not_answer_is_not_equal(void **state) {
    (void)state;
    struct verdict verdict = judge("A-A");
    assert_bits(verdict.missing, "010");
    assert_bits(verdict.sound, "101");
    assert_false(verdict.equal || verdict.undecided);
    assert_int_equal(verdict.differs | verdict.damaged, 0);
    assert_false(judge("--").equal);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_agree),
        cmocka_unit_test(test_a_majority_tells_who_differs),
        cmocka_unit_test(test_without_a_majority_nobody_is_wrong),
        cmocka_unit_test(test_damage_needs_no_majority),
        cmocka_unit_test(test_who_did_not_answer_is_not_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
