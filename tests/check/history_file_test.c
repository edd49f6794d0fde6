#include "history_file.h"
#include "libcommon/testing.h"

static FILE *file_of(const char *text, size_t size) {
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, size, file), size);
    rewind(file);
    return file;
}

/* The verdict, and how many operations there were. */
static enum check_verdict judge(const char *text, uint64_t operations) {
    char fault[256] = "";
    FILE *file = file_of(text, strlen(text));
    struct check *check = check_new();
    struct check_report report;
    if (!history_read(file, check, fault, sizeof fault)) fail_msg("%s", fault);
    check_run(check, &report);
    assert_int_equal(report.operations, operations);
    enum check_verdict verdict = report.verdict;
    check_report_deinit(&report);
    check_free(check);
    fclose(file);
    return verdict;
}

static void refused(const char *text, const char *part) {
    char fault[256] = "";
    FILE *file = file_of(text, strlen(text));
    struct check *check = check_new();
    assert_false(history_read(file, check, fault, sizeof fault));
    if (strstr(fault, part) == NULL) fail_msg("'%s' is not said in '%s' of %s", part, fault, text);
    check_free(check);
    fclose(file);
}

static void test_every_kind_is_read(void **state) {
    (void)state;
    static const char good[] =
        "{\"client\":1,\"key\":\"k\",\"op\":\"set\",\"value\":\"a\",\"begin\":0,\"end\":1}\n"
        "\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"get\",\"begin\":2,\"end\":3,\"result\":\"a\",\"more\":[1,2]}\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"cas\",\"expected\":\"a\",\"value\":null,\"begin\":4,\"end\":5,"
        "\"result\":1}\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"get\",\"begin\":6,\"end\":7,\"result\":null}\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"incr\",\"amount\":5,\"begin\":8,\"end\":9,\"result\":5}\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"incr\",\"begin\":10,\"end\":11,\"result\":6}\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"append\",\"value\":\"0\",\"begin\":12,\"end\":13,\"result\":2}\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"del\",\"begin\":14,\"end\":15,\"result\":1}\n"
        "{\"key\":\"k\",\"op\":\"cas\",\"expected\":null,\"value\":\"z\",\"begin\":16,\"end\":17,\"result\":1}\r\n"
        "{\"client\":1,\"key\":\"k\",\"op\":\"get\",\"begin\":18,\"end\":19,\"result\":\"z\",\"outcome\":"
        "\"done\"}";
    assert_int_equal(judge(good, 10), CHECK_GOOD);
}

/* Each field counts: another value of it makes the same history a bad one. */
static void test_fields_count(void **state) {
    (void)state;
#define SET "{\"key\":\"k\",\"op\":\"set\",\"value\":\"a\",\"begin\":10,\"end\":20}\n"
    assert_int_equal(judge(SET "{\"key\":\"k\",\"op\":\"get\",\"begin\":30,\"end\":40,\"result\":null}", 2),
                     CHECK_BAD);
    assert_int_equal(judge(SET "{\"key\":\"j\",\"op\":\"get\",\"begin\":30,\"end\":40,\"result\":null}", 2),
                     CHECK_GOOD);
    assert_int_equal(judge(SET "{\"key\":\"k\",\"op\":\"get\",\"begin\":20,\"end\":40,\"result\":null}", 2),
                     CHECK_GOOD);
    assert_int_equal(judge(SET "{\"key\":\"k\",\"op\":\"get\",\"begin\":0,\"end\":9,\"result\":null}", 2),
                     CHECK_GOOD);
    assert_int_equal(judge(SET "{\"key\":\"k\",\"op\":\"del\",\"begin\":30,\"end\":40,\"result\":0}", 2),
                     CHECK_BAD);
    assert_int_equal(judge(SET "{\"key\":\"k\",\"op\":\"cas\",\"expected\":\"b\",\"value\":\"c\",\"begin\":30,"
                               "\"end\":40,\"result\":1}",
                           2),
                     CHECK_BAD);
    assert_int_equal(
        judge("{\"key\":\"k\",\"op\":\"set\",\"value\":\"a\",\"expires\":30,\"begin\":10,\"end\":20}\n"
              "{\"key\":\"k\",\"op\":\"get\",\"begin\":30,\"end\":40,\"result\":null}",
              2),
        CHECK_GOOD);
    assert_int_equal(
        judge(SET "{\"key\":\"k\",\"op\":\"append\",\"value\":\"b\",\"begin\":30,\"end\":40,\"result\":3}", 2),
        CHECK_BAD);
    assert_int_equal(judge("{\"key\":\"k\",\"op\":\"incr\",\"amount\":2,\"begin\":30,\"end\":40,\"result\":1}", 1),
                     CHECK_BAD);
#undef SET
}

static void test_unknown_and_failed(void **state) {
    (void)state;
#define GET_A "\n{\"key\":\"k\",\"op\":\"get\",\"begin\":30,\"end\":40,\"result\":\"a\"}"
#define SET_A "{\"key\":\"k\",\"op\":\"set\",\"value\":\"a\",\"begin\":10"
    assert_int_equal(judge(SET_A ",\"end\":null}" GET_A, 2), CHECK_GOOD);
    assert_int_equal(judge(SET_A ",\"outcome\":\"unknown\"}" GET_A, 2), CHECK_GOOD);
    assert_int_equal(judge(SET_A ",\"end\":20,\"outcome\":\"unknown\"}" GET_A, 2), CHECK_GOOD);
    assert_int_equal(judge(SET_A ",\"end\":20,\"outcome\":\"failed\"}" GET_A, 1), CHECK_BAD);
    assert_int_equal(judge(SET_A ",\"outcome\":\"failed\"}", 0), CHECK_GOOD);
    assert_int_equal(judge("", 0), CHECK_GOOD);
#undef GET_A
#undef SET_A
}

/* Values are bytes: also 0, and what is no ASCII. */
static void test_any_bytes(void **state) {
    (void)state;
    assert_int_equal(
        judge("{\"key\":\"\\u0000\",\"op\":\"append\",\"value\":\"\\u0000\xc3\xa9\",\"begin\":1,\"end\":2,"
              "\"result\":3}\n"
              "{\"key\":\"\\u0000\",\"op\":\"get\",\"begin\":3,\"end\":4,\"result\":\"\\u0000\\u00e9\"}",
              2),
        CHECK_GOOD);
}

static void test_what_is_no_history_is_refused(void **state) {
    (void)state;
    refused("{\"key\":\"k\",\"op\":\"get\",\"begin\":1,\"end\":2,\"result\":null}\nnonsense", "line 2: ");
    refused("\n\n[]", "line 3: not an object");
    refused("{", "line 1: ");
    refused("{\"op\":\"get\",\"begin\":1,\"end\":2,\"result\":null}", "key is missing");
    refused("{\"key\":1,\"op\":\"get\",\"begin\":1,\"end\":2,\"result\":null}", "key is missing");
    refused("{\"key\":\"k\",\"client\":\"x\",\"op\":\"get\",\"begin\":1,\"end\":2,\"result\":null}", "client");
    refused("{\"key\":\"k\",\"begin\":1,\"end\":2,\"result\":null}", "op is missing");
    refused("{\"key\":\"k\",\"op\":\"getset\",\"begin\":1,\"end\":2,\"result\":null}", "op is missing");
    refused("{\"key\":\"k\",\"op\":\"get\",\"end\":2,\"result\":null}", "integer");
    refused("{\"key\":\"k\",\"op\":\"get\",\"begin\":1.5,\"end\":2,\"result\":null}", "integer");
    refused("{\"key\":\"k\",\"op\":\"get\",\"begin\":1,\"result\":null}", "integer");
    refused("{\"key\":\"k\",\"op\":\"get\",\"begin\":1,\"end\":2}", "value is missing");
    refused("{\"key\":\"k\",\"op\":\"get\",\"begin\":1,\"end\":2,\"result\":5}", "neither a string nor null");
    refused("{\"key\":\"k\",\"op\":\"set\",\"begin\":1,\"end\":2}", "value is missing");
    refused("{\"key\":\"k\",\"op\":\"set\",\"value\":null,\"begin\":1,\"end\":2}", "nil is none");
    refused("{\"key\":\"k\",\"op\":\"cas\",\"value\":\"a\",\"begin\":1,\"end\":2,\"result\":1}",
            "value is missing");
    refused("{\"key\":\"k\",\"op\":\"cas\",\"expected\":\"a\",\"begin\":1,\"end\":2,\"result\":1}",
            "value is missing");
    refused("{\"key\":\"k\",\"op\":\"del\",\"begin\":1,\"end\":2,\"result\":2}", "answers 0 or 1");
    refused("{\"key\":\"k\",\"op\":\"del\",\"begin\":1,\"end\":2,\"result\":true}", "integer");
    refused("{\"key\":\"k\",\"op\":\"incr\",\"amount\":\"1\",\"begin\":1,\"end\":2,\"result\":1}", "integer");
    refused("{\"key\":\"k\",\"op\":\"set\",\"value\":\"a\",\"expires\":null,\"begin\":1,\"end\":2}", "integer");
    refused("{\"key\":\"k\",\"op\":\"set\",\"value\":\"a\",\"expires\":1,\"begin\":2,\"end\":3}",
            "before it begins");
    refused("{\"key\":\"k\",\"op\":\"del\",\"begin\":2,\"end\":1,\"result\":1}", "ends before it begins");
    refused("{\"key\":\"k\",\"op\":\"del\",\"begin\":2,\"end\":3,\"result\":1,\"outcome\":\"maybe\"}", "outcome");
    refused("{\"key\":\"k\",\"op\":\"del\",\"begin\":2,\"end\":3,\"result\":1,\"outcome\":3}", "outcome");
    refused("{\"key\":\"k\",\"key\":\"j\",\"op\":\"del\",\"begin\":2,\"end\":3,\"result\":1}", "duplicate");
}

/* A directory can be opened and not read. */
static void test_a_file_that_cannot_be_read(void **state) {
    (void)state;
    char fault[256] = "";
    FILE *file = fopen(".", "r");
    struct check *check = check_new();
    assert_non_null(file);
    assert_false(history_read(file, check, fault, sizeof fault));
    assert_non_null(strstr(fault, "cannot be read"));
    check_free(check);
    fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_is_read),
        cmocka_unit_test(test_fields_count),
        cmocka_unit_test(test_unknown_and_failed),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_what_is_no_history_is_refused),
        cmocka_unit_test(test_a_file_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
