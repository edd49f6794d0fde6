/* Known histories, good and bad, told line by line: client, begin-end (? = unknown), operation, = answer. */
#include "check.h"
#include "libcommon/testing.h"
#include "memory.h"

#include <inttypes.h>

static struct check_value value_of(const char *word) {
    if (strcmp(word, "nil") == 0) return (struct check_value){.present = false};
    return (struct check_value){.present = true, .bytes = slice_of_text(strcmp(word, "''") == 0 ? "" : word)};
}

static void set_answer(struct check_op *op, const char *answer) {
    op->got = value_of(answer);
    op->answer = strtoll(answer, NULL, 10);
}

/* "3 10-20 cas a b = 1"; "3 10-20 set a until 50" is a value that expires; a key other than "k" may stand behind a /: "get/j". */
static void add_line(struct check *check, const char *line) {
    char words[8][64] = {{0}}, *key;
    const char *dash;
    int count = sscanf(line, "%63s %63s %63s %63s %63s %63s %63s %63s", words[0], words[1], words[2], words[3],
                       words[4], words[5], words[6], words[7]);
    struct check_op op = {.client = strtoull(words[0], NULL, 10), .begin = strtoll(words[1], NULL, 10)};
    dash = strchr(words[1], '-');
    op.unknown = dash[1] == '?';
    if (!op.unknown) op.end = strtoll(dash + 1, NULL, 10);
    key = strchr(words[2], '/');
    if (key != NULL) *key++ = '\0';
    static const char *const kinds[] = {"get", "set", "del", "cas", "incr", "append"};
    for (int i = 0; i < 6; i++) {
        if (strcmp(words[2], kinds[i]) == 0) op.kind = (enum check_kind)i;
    }
    int at = 3;
    if (op.kind == CHECK_CAS) op.expected = value_of(words[at++]);
    if (op.kind == CHECK_SET || op.kind == CHECK_CAS || op.kind == CHECK_APPEND) op.value = value_of(words[at++]);
    if (op.kind == CHECK_INCR) op.amount = strtoll(words[at++], NULL, 10);
    if (at < count && strcmp(words[at], "until") == 0) op.expires = strtoll(words[at + 1], NULL, 10);
    else if (at < count) set_answer(&op, words[at + 1]);
    assert_null(check_add(check, slice_of_text(key == NULL ? "k" : key), &op));
}

static struct check *tell(const char *story) {
    struct check *check = check_new();
    char line[256];
    while (*story != '\0') {
        size_t size = strcspn(story, ";");
        assert_true(size < sizeof line);
        memcpy(line, story, size);
        line[size] = '\0';
        add_line(check, line);
        story += size + (story[size] == ';');
    }
    return check;
}

static enum check_verdict verdict_of(const char *story) {
    struct check *check = tell(story);
    struct check_report report;
    check_run(check, &report);
    enum check_verdict verdict = report.verdict;
    check_report_deinit(&report);
    check_free(check);
    return verdict;
}

#define GOOD(story) assert_int_equal(verdict_of(story), CHECK_GOOD)
#define BAD(story)  assert_int_equal(verdict_of(story), CHECK_BAD)

/* The report of a bad story says all of `parts`, which a NULL ends. */
static void says(const char *story, const char *const *parts) {
    struct check *check = tell(story);
    struct check_report report;
    check_run(check, &report);
    assert_int_equal(report.verdict, CHECK_BAD);
    buffer_append(&report.text, "", 1);
    for (; *parts != NULL; parts++) {
        if (strstr((const char *)report.text.data, *parts) == NULL) {
            fail_msg("'%s' is not said in\n%s", *parts, (const char *)report.text.data);
        }
    }
    check_report_deinit(&report);
    check_free(check);
}

#define SAYS(story, ...) says(story, (const char *const[]){__VA_ARGS__, NULL})

static void test_nothing_is_good(void **state) {
    (void)state;
    struct check *check = check_new();
    struct check_report report;
    check_run(check, &report);
    assert_int_equal(report.verdict, CHECK_GOOD);
    assert_int_equal(report.keys, 0);
    assert_int_equal(report.text.size, 0);
    check_report_deinit(&report);
    check_free(check);
    check_free(NULL);
}

static void test_one_after_the_other(void **state) {
    (void)state;
    GOOD("1 0-1 get = nil; 1 2-3 set a; 1 4-5 get = a; 1 6-7 del = 1; 1 8-9 get = nil; 1 10-11 del = 0");
    GOOD(
        "1 0-1 cas nil a = 1; 1 2-3 cas nil b = 0; 1 4-5 cas a nil = 1; 1 6-7 cas a b = 0; 1 8-9 cas nil nil = 1");
    GOOD("1 0-1 incr 1 = 1; 1 2-3 incr 5 = 6; 1 4-5 get = 6; 1 6-7 incr -7 = -1; 1 8-9 get = -1");
    GOOD("1 0-1 append ab = 2; 1 2-3 append c = 3; 1 4-5 get = abc; 1 6-7 append '' = 3");
    GOOD("1 0-1 set 9; 1 2-3 incr 1 = 10; 1 4-5 append 0 = 3; 1 6-7 incr 1 = 101; 1 8-9 get = 101");
    BAD("1 0-1 get = a");
    BAD("1 0-1 set a; 1 2-3 get = nil");
    BAD("1 0-1 del = 1");
    BAD("1 0-1 set a; 1 2-3 del = 0");
    BAD("1 0-1 set a; 1 2-3 cas a b = 0");
    BAD("1 0-1 incr 1 = 2");
    BAD("1 0-1 set ab; 1 2-3 append c = 2");
    BAD("1 0-1 append '' = 0; 1 2-3 get = nil");
    BAD("1 0-1 set 07; 1 2-3 incr 1 = 8"); /* no integer as the store takes one */
}

static void test_stale_read(void **state) {
    (void)state;
    BAD("1 0-10 set a; 1 20-30 set b; 2 40-50 get = a");
    GOOD("1 0-10 set a; 1 20-45 set b; 2 40-50 get = a");                 /* it overlaps the write */
    BAD("1 0-10 set a; 1 20-60 set b; 2 30-40 get = b; 3 50-55 get = a"); /* the new value was seen before */
    GOOD("1 0-10 set a; 1 20-60 set b; 2 30-40 get = a; 3 50-55 get = b");
}

static void test_lost_write(void **state) {
    (void)state;
    BAD("1 0-10 set a; 2 5-15 get = a; 1 20-30 set b; 2 40-50 get = a; 2 60-70 get = a");
    BAD("1 0-10 incr 1 = 1; 2 20-30 incr 1 = 1");
    BAD("1 0-10 append x = 1; 2 20-30 append y = 1");
    BAD("1 0-10 set a; 1 20-30 del = 1; 2 40-50 get = a");
}

static void test_expiry(void **state) {
    (void)state;
    GOOD("1 0-10 set a until 50; 2 20-30 get = a; 2 55-60 get = nil");
    GOOD("1 0-10 set a until 50; 2 40-60 get = nil; 2 70-80 get = nil");
    GOOD("1 0-10 set a until 50; 2 90-95 get = a");                    /* nobody has said when it must be gone */
    GOOD("1 0-10 set a until 50; 2 60-65 get = nil; 3 62-70 get = a"); /* it went between them */
    GOOD("1 0-10 set a until 50; 2 60-65 del = 0; 2 70-75 set b; 2 80-85 get = b");
    GOOD("1 0-? set a until 50; 2 60-65 get = a; 2 70-75 get = nil");
    GOOD("1 0-10 set a until 50; 1 20-30 set b until 90; 2 95-99 get = nil");
    BAD("1 0-10 set a until 50; 2 20-45 get = nil");                  /* too early */
    BAD("1 0-10 set a until 50; 2 60-65 get = nil; 2 70-75 get = a"); /* it came back */
    BAD("1 0-10 set a until 50; 1 20-30 set b; 2 60-65 get = nil");   /* the other value does not expire */
    BAD("1 0-10 set a until 50; 1 20-30 set b until 90; 2 60-65 get = nil");
    BAD("1 0-10 set a until 50; 2 20-45 del = 0");
    BAD("1 0-10 set a until 50; 2 55-60 del = 0; 2 70-75 del = 1");
    BAD("1 0-10 set a; 2 55-60 get = nil");
}

static void test_expiry_is_told(void **state) {
    (void)state;
    struct check *check = tell("1 0-10 set a until 50; 2 60-65 get = nil; 2 70-75 get = a");
    struct check_report report;
    check_run(check, &report);
    assert_int_equal(report.operations, 3);
    assert_int_equal(report.unknown, 0);
    buffer_append(&report.text, "", 1);
    assert_non_null(strstr((const char *)buffer_slice(&report.text).data, "time ends \"a\""));
    check_report_deinit(&report);
    check_free(check);
}

static void test_read_of_the_future(void **state) {
    (void)state;
    BAD("2 0-10 get = a; 1 20-30 set a");
    GOOD("2 0-10 get = a; 1 10-30 set a"); /* what touches overlaps */
    BAD("2 0-10 get = 1; 1 20-30 incr 1 = 1");
    BAD("2 0-10 get = ab; 1 0-5 append a = 1; 1 20-30 append b = 2");
}

static void test_done_twice(void **state) {
    (void)state;
    BAD("1 0-10 incr 1 = 1; 2 20-30 get = 2");
    BAD("1 0-10 incr 1 = 2");
    BAD("1 0-10 incr 1 = 1; 2 5-15 incr 1 = 3; 2 20-30 get = 3");
    BAD("1 0-10 append ab = 4; 2 20-30 get = abab");
    BAD("1 0-10 append ab = 2; 2 20-30 get = abab");
    BAD("1 0-10 set a; 1 20-30 set b; 2 40-50 get = b; 2 60-70 get = a; 2 80-90 get = b");
    BAD("1 0-? incr 1; 2 20-30 get = 1; 2 40-50 get = 2"); /* unknown is once or never */
    BAD("1 0-? append ab; 2 20-30 get = abab");
}

static void test_both_win(void **state) {
    (void)state;
    BAD("1 0-10 set a; 1 20-30 cas a b = 1; 2 20-30 cas a c = 1");
    GOOD("1 0-10 set a; 1 20-30 cas a b = 1; 2 20-30 cas a c = 0");
    BAD("1 0-10 set a; 1 20-30 cas a b = 0; 2 20-30 cas a c = 0");
    GOOD("1 0-10 set a; 1 20-30 cas a b = 1; 2 20-30 cas b a = 1; 3 20-30 cas a c = 1");
    BAD("1 0-10 cas nil a = 1; 2 0-10 cas nil b = 1");
    BAD("1 0-10 set a; 2 20-30 del = 1; 3 20-30 del = 1");
    BAD("1 0-10 incr 1 = 1; 2 0-10 incr 1 = 1");
}

static void test_unknown_writes(void **state) {
    (void)state;
    GOOD("1 0-? set a; 2 100-110 get = nil");
    GOOD("1 0-? set a; 2 100-110 get = nil; 2 120-130 get = a; 2 140-150 get = a"); /* later */
    BAD("1 0-? set a; 2 10-20 get = a; 2 30-40 get = nil; 2 50-60 get = a");        /* and gone, and there again */
    BAD("1 50-? set a; 2 10-20 get = a");                                           /* before it began */
    GOOD("1 0-? set a; 3 0-10 set b; 2 20-30 get = a; 2 40-50 get = a");
    BAD("1 0-? set a; 3 0-10 set b; 2 20-30 get = a; 2 40-50 get = b; 2 60-70 get = a");
    GOOD("1 0-? set a; 1 0-? set a; 3 0-10 set b; 2 20-30 get = a; 3 32-36 set b; 2 40-50 get = b; 2 60-70 get = "
         "a");
    GOOD("1 0-? del; 3 0-10 set b; 2 20-30 get = b; 2 40-50 get = nil");
    BAD("1 0-? del; 3 0-10 set b; 2 20-30 get = nil; 2 40-50 get = b");
    GOOD("1 0-? cas b c; 3 0-10 set b; 2 20-30 get = c");
    BAD("1 0-? cas b c; 3 0-10 set d; 2 20-30 get = c");
    GOOD("1 0-? get; 1 1-? cas a a; 2 20-30 get = nil"); /* what changes nothing */
}

static void test_unknown_writes_that_only_counters_tell(void **state) {
    (void)state;
    GOOD("1 0-? incr 5; 2 0-10 incr 1 = 1; 2 20-30 incr 1 = 7; 2 40-50 incr 1 = 8");
    BAD("1 0-? incr 5; 2 0-10 incr 1 = 1; 2 20-30 incr 1 = 7; 2 40-50 incr 1 = 13");
    GOOD("1 0-? incr 5; 3 0-? incr 5; 2 0-10 incr 1 = 1; 2 20-30 incr 1 = 7; 2 40-50 incr 1 = 13");
    GOOD("1 0-? incr 2; 1 0-? incr 3; 1 0-? incr 7; 2 10-20 get = 9");
    BAD("1 0-? incr 2; 1 0-? incr 3; 1 0-? incr 7; 2 10-20 get = 11");
    GOOD("1 0-? incr -3; 2 10-20 set 5; 2 30-40 get = 2");
    GOOD("1 0-? incr -4; 2 0-10 set 5; 2 20-30 incr 4 = 9; 2 40-50 get = 5"); /* left, and had again */
    BAD("1 0-? incr 4; 2 0-10 set 5; 2 20-30 incr 4 = 9; 2 40-50 get = 5");
    GOOD("1 0-? incr 1; 2 0-10 set 16; 2 20-30 set ''; 2 40-50 append 15 = 2; 2 60-70 get = 16");
    GOOD("1 0-? append xy; 2 0-10 append a = 1; 2 20-30 append b = 4; 2 40-50 get = axyb");
    BAD("1 0-? append xy; 2 0-10 append a = 1; 2 20-30 append b = 3");
    GOOD("1 0-? append xy; 1 0-? append z; 2 0-10 append a = 4; 2 20-30 get = zxya");
    BAD("1 0-? append xy; 1 0-? append z; 2 0-10 append a = 4; 2 20-30 get = xyxya");
}

static void test_chains_of_unknown_writes(void **state) {
    (void)state;
    GOOD("1 0-? set 5; 1 0-? incr 1; 1 0-? cas 6 z; 2 10-20 get = nil; 2 30-40 get = z");
    BAD("1 0-? set 5; 1 0-? incr 2; 1 0-? cas 6 z; 2 10-20 get = nil; 2 30-40 get = z");
    GOOD("1 0-? append -; 1 0-? append 5; 1 0-? incr 12; 2 10-20 get = nil; 2 30-40 get = 7");
    BAD("1 0-? append -; 1 0-? append 5; 1 0-? incr 12; 2 10-20 get = nil; 2 30-40 get = 8");
    GOOD("1 0-? set 5; 1 0-? incr -3; 2 10-20 get = nil; 2 30-40 get = 2");
    GOOD("1 0-? set 5; 1 0-? append 1; 1 0-? incr 1; 1 0-? append x; 2 10-20 get = nil; 2 30-40 get = 52x");
    GOOD("1 0-? cas nil a; 1 0-? cas a b; 1 0-? cas b c; 2 10-20 cas c d = 1");
    BAD("1 0-? cas nil a; 1 0-? cas b c; 2 10-20 cas c d = 1");
}

/* Unknown writes whose values nothing names may still be what makes an answer right, each of them once. */
static void test_unnamed_unknown_writes(void **state) {
    (void)state;
    GOOD("1 0-? set x; 2 0-10 set a; 2 20-30 cas a b = 0");
    GOOD("1 0-? set x; 2 0-10 del = 1");
    GOOD("1 0-? set x; 1 0-? set y; 2 0-10 del = 1; 2 20-30 del = 1");
    BAD("1 0-? set x; 2 0-10 del = 1; 2 20-30 del = 1");
    BAD("1 0-? set x; 1 15-? set y; 2 0-10 del = 1; 2 11-12 del = 1");
    GOOD("1 0-? set xyz; 2 0-10 append a = 4");
    GOOD("1 0-? append xyz; 1 0-? append uvw; 2 0-10 append a = 7");
    BAD("1 0-? append xyz; 1 0-? append uvw; 2 0-10 append a = 10");
    GOOD("1 0-? del; 1 0-? del; 2 0-10 set a; 2 20-30 set b; 2 32-38 cas nil c = 1; 2 40-50 cas nil d = 1");
    BAD("1 0-? del; 2 0-10 set a; 2 20-30 set b; 2 32-38 cas nil c = 1; 2 40-50 cas nil d = 1");
}

static void test_concurrent_writes(void **state) {
    (void)state;
    GOOD("1 0-100 set a; 2 0-100 set b; 3 10-20 get = b; 3 30-40 get = a");
    BAD("1 0-100 set a; 2 0-100 set b; 3 10-20 get = b; 3 30-40 get = a; 3 50-60 get = b");
    GOOD("1 0-100 incr 1 = 3; 2 0-100 incr 1 = 2; 3 0-100 incr 1 = 1");
    BAD("1 0-100 incr 1 = 3; 2 0-100 incr 1 = 2; 3 0-100 incr 1 = 1; 4 0-100 get = 4");
    GOOD("1 0-100 append a = 2; 2 0-100 append b = 1; 3 0-100 get = b; 3 101-110 get = ba");
    BAD("1 0-100 append a = 2; 2 0-100 append b = 1; 3 0-100 get = a");
    GOOD("1 0-9 set a; 2 0-9 set a; 3 1-2 get = a; 3 3-4 cas a b = 1; 3 5-6 get = b; 3 7-8 get = a");
}

/* More clients than bits in a word. */
static void test_very_many_clients(void **state) {
    (void)state;
    struct check *check = check_new();
    char line[64];
    for (int i = 1; i <= 150; i++) {
        snprintf(line, sizeof line, "%d 0-1000 incr 1 = %d", i, 151 - i);
        add_line(check, line);
    }
    struct check_report report;
    check_run(check, &report);
    assert_int_equal(report.verdict, CHECK_GOOD);
    check_report_deinit(&report);
    add_line(check, "151 2000-2001 get = 149");
    check_run(check, &report); /* more may be added after a run */
    assert_int_equal(report.verdict, CHECK_BAD);
    assert_int_equal(report.operations, 151);
    check_report_deinit(&report);
    check_free(check);
}

/* A long text that is begun, deleted, and made anew. */
static void test_a_long_list(void **state) {
    (void)state;
    struct check *check = tell("1 0-1 append a = 1; 1 2-3 del = 1");
    char line[256], text[101] = "";
    for (int i = 1; i <= 100; i++) {
        snprintf(line, sizeof line, "1 %d-%d append a = %d", 10 * i, 10 * i + 5, i);
        add_line(check, line);
        text[i - 1] = 'a';
    }
    struct check_op get = {.begin = 2000, .end = 2001, .got = {.present = true, .bytes = slice_of(text, 100)}};
    assert_null(check_add(check, slice_of_text("k"), &get));
    struct check_report report;
    check_run(check, &report);
    assert_int_equal(report.verdict, CHECK_GOOD);
    check_report_deinit(&report);
    check_free(check);
}

static void test_keys_are_apart(void **state) {
    (void)state;
    GOOD("1 0-10 set/i a; 1 20-30 get/j = nil; 2 40-50 get/i = a");
    struct check *check =
        tell("1 0-10 set/i a; 2 20-30 get/i = nil; 1 0-10 set/j b; 1 0-? set/j c; 2 20-30 get/j = c");
    struct check_report report;
    check_run(check, &report);
    assert_int_equal(report.verdict, CHECK_BAD);
    assert_int_equal(report.keys, 2);
    assert_int_equal(report.keys_bad, 1);
    assert_int_equal(report.operations, 5);
    assert_int_equal(report.unknown, 1);
    check_report_deinit(&report);
    check_free(check);
}

static void test_impossible_numbers(void **state) {
    (void)state;
    BAD("1 0-1 incr 2 = -9223372036854775807"); /* nothing that there is, with 2 more, is that little */
    SAYS("1 0-1 incr 2 = -9223372036854775807", "no value explains this answer");
    GOOD("1 0-1 incr 9223372036854775807 = 9223372036854775807; 2 5-? incr 1; 1 6-7 get = 9223372036854775807");
}

static void test_what_is_wrong_is_told(void **state) {
    (void)state;
    SAYS("1 0-10 set a; 7 20-30 get = zz", "key \"k\": not linearizable", "\"zz\" was seen, but nothing wrote it",
         "[20, 30] client 7: get answered \"zz\"");
    SAYS("2 0-10 get = a; 1 20-? set a", "\"a\" was seen before anything that writes it had begun",
         "[0, 10] client 2: get answered \"a\"", "[20, ...] client 1: set \"a\", outcome unknown");
    SAYS("1 0-10 set a; 1 20-30 cas a b = 1; 2 20-30 cas a nil = 1",
         "more operations replaced \"a\" than wrote it", "client 1: cas \"a\" to \"b\" answered 1",
         "client 2: cas \"a\" to nil answered 1", "[0, 10] client 1: set \"a\"");
}

static void test_how_far_it_can_be_explained_is_told(void **state) {
    (void)state;
    SAYS("1 0-10 set a; 1 20-30 set b; 3 35-60 set c; 2 40-50 get = a; 2 70-80 del = 1",
         "The first 2 answers of 5 can be explained", "[20, 30] client 1: set \"b\"", "leaves the value \"b\"",
         "No order explains them and the next to end:\n    [40, 50] client 2: get answered \"a\"",
         "\"a\" was written by\n    [0, 10] client 1: set \"a\"",
         "Also in flight then, without being of help:\n    [35, 60] client 3: set \"c\"");
    SAYS("1 0-10 incr 1 = 1; 1 20-? incr 1; 1 40-50 del = 1; 1 60-70 append x = 2; 1 80-90 del = 0",
         "first 3 answers", "incr by 1, outcome unknown", "append \"x\" answered 2",
         "[80, 90] client 1: del answered 0");
}

/* A long history: only its end is told. Long values are cut, bytes that cannot be printed are written in hex. */
static void test_long_explanations_are_cut(void **state) {
    (void)state;
    struct check *check = check_new();
    char line[64];
    for (int i = 1; i <= 30; i++) {
        snprintf(line, sizeof line, "1 %d-%d incr 1 = %d", 10 * i, 10 * i + 5, i);
        add_line(check, line);
    }
    uint8_t bytes[100];
    memset(bytes, 1, sizeof bytes);
    struct check_op op = {.kind = CHECK_SET, .begin = 400, .end = 410};
    op.value = (struct check_value){.present = true, .bytes = slice_of(bytes, sizeof bytes)};
    assert_null(check_add(check, slice_of_text("k"), &op));
    add_line(check, "1 420-430 get = 30");
    struct check_report report;
    check_run(check, &report);
    buffer_append(&report.text, "", 1);
    const char *text = (const char *)report.text.data;
    assert_int_equal(report.verdict, CHECK_BAD);
    assert_non_null(strstr(text, "... 21 before these"));
    assert_null(strstr(text, "answered 21\n"));
    assert_non_null(strstr(text, "answered 22\n"));
    assert_non_null(strstr(text, "\\x01...(100 bytes)...\\x01"));
    check_report_deinit(&report);
    check_free(check);
}

/* Many bad keys are counted, but not all explained. */
static void test_many_bad_keys(void **state) {
    (void)state;
    struct check *check = check_new();
    char line[64];
    for (int i = 0; i < 8; i++) {
        snprintf(line, sizeof line, "1 0-1 set/k%d a", i);
        add_line(check, line);
        snprintf(line, sizeof line, "1 2-3 get/k%d = nil", i);
        add_line(check, line);
    }
    struct check_report report;
    check_run(check, &report);
    buffer_append(&report.text, "", 1);
    assert_int_equal(report.keys_bad, 8);
    assert_int_equal(count_of((const char *)report.text.data, "not linearizable"), 8);
    assert_int_equal(count_of((const char *)report.text.data, "next to end"), 3);
    check_report_deinit(&report);
    check_free(check);
}

/* A budget that does not suffice is said so; a bad key is bad all the same, whatever the others are. */
static void test_budget(void **state) {
    (void)state;
    struct check *check = tell("1 0-100 incr 1 = 3; 2 0-100 incr 1 = 2; 3 0-100 incr 1 = 1");
    struct check_report report;
    check_set_budget(check, 2);
    check_run(check, &report);
    assert_int_equal(report.verdict, CHECK_UNDECIDED);
    assert_int_equal(report.keys_undecided, 1);
    assert_true(report.states <= 2);
    buffer_append(&report.text, "", 1);
    assert_non_null(strstr((const char *)report.text.data, "key \"k\": undecided"));
    check_report_deinit(&report);
    add_line(check, "1 0-1 get/j = a");
    check_run(check, &report);
    assert_int_equal(report.verdict, CHECK_BAD);
    assert_int_equal(report.keys_undecided, 1);
    check_report_deinit(&report);
    check_set_budget(check, CHECK_STATES_DEFAULT);
    check_run(check, &report);
    assert_int_equal(report.keys_undecided, 0);
    check_report_deinit(&report);
    check_free(check);
}

static void test_operations_that_cannot_be(void **state) {
    (void)state;
    struct check *check = check_new();
    struct slice key = slice_of_text("k");
    assert_non_null(check_add(check, key, &(struct check_op){.kind = CHECK_GET, .begin = 2, .end = 1}));
    assert_non_null(check_add(check, key, &(struct check_op){.kind = CHECK_SET}));
    assert_non_null(check_add(check, key, &(struct check_op){.kind = CHECK_DEL, .expires = 9}));
    assert_non_null(check_add(check, key, &(struct check_op){.kind = CHECK_APPEND, .unknown = true}));
    assert_non_null(check_add(check, key, &(struct check_op){.kind = CHECK_DEL, .answer = 2}));
    assert_non_null(check_add(check, key, &(struct check_op){.kind = CHECK_CAS, .answer = -1}));
    struct check_op append = {.kind = CHECK_APPEND, .value = {.present = true}, .answer = -1};
    assert_non_null(check_add(check, key, &append));
    append.answer = 0;
    assert_null(check_add(check, slice_of(NULL, 0), &append)); /* empty key, empty value */
    struct check_report report;
    check_run(check, &report);
    assert_int_equal(report.keys, 1);
    assert_int_equal(report.operations, 1);
    assert_int_equal(report.verdict, CHECK_GOOD);
    check_report_deinit(&report);
    check_free(check);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_good),
        cmocka_unit_test(test_one_after_the_other),
        cmocka_unit_test(test_stale_read),
        cmocka_unit_test(test_lost_write),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_expiry_is_told),
        cmocka_unit_test(test_read_of_the_future),
        cmocka_unit_test(test_done_twice),
        cmocka_unit_test(test_both_win),
        cmocka_unit_test(test_unknown_writes),
        cmocka_unit_test(test_unknown_writes_that_only_counters_tell),
        cmocka_unit_test(test_chains_of_unknown_writes),
        cmocka_unit_test(test_unnamed_unknown_writes),
        cmocka_unit_test(test_concurrent_writes),
        cmocka_unit_test(test_very_many_clients),
        cmocka_unit_test(test_a_long_list),
        cmocka_unit_test(test_keys_are_apart),
        cmocka_unit_test(test_impossible_numbers),
        cmocka_unit_test(test_what_is_wrong_is_told),
        cmocka_unit_test(test_how_far_it_can_be_explained_is_told),
        cmocka_unit_test(test_long_explanations_are_cut),
        cmocka_unit_test(test_many_bad_keys),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_operations_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
