#include "log.h"

#include "error.h"

#include <pthread.h>
#include <regex.h>
#include <string.h>

#include "testing.h"

#define STAMP "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z"

static void assert_matches(const char *text, const char *pattern) {
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int rc = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    if (rc != 0) fail_msg("'%s' does not match '%s'", text, pattern);
}

static void test_lines(void **state) {
    (void)state;
    struct capture capture;
    char text[8192];
    log_init("shardd", LOG_INFO);
    capture_begin(&capture, STDERR_FILENO);
    log_event(LOG_INFO, "checkpoint_done", "lane=%d entries=%d", 0, 1200);
    capture_end(&capture, text, sizeof text);
    assert_matches(text, "^" STAMP " level=info daemon=shardd event=checkpoint_done lane=0 entries=1200\n$");
    capture_begin(&capture, STDERR_FILENO);
    log_event(LOG_ERROR, "bare", "%s", "");
    capture_end(&capture, text, sizeof text);
    assert_matches(text, "^" STAMP " level=error daemon=shardd event=bare ?\n$");
}

static void test_levels(void **state) {
    (void)state;
    struct capture capture;
    char text[8192];
    log_init("shardd", LOG_WARNING);
    capture_begin(&capture, STDERR_FILENO);
    log_event(LOG_DEBUG, "a", "x=1");
    log_event(LOG_INFO, "b", "x=1");
    log_event(LOG_WARNING, "c", "x=1");
    log_event(LOG_ERROR, "d", "x=1");
    capture_end(&capture, text, sizeof text);
    assert_int_equal(count_of(text, "\n"), 2);
    assert_non_null(strstr(text, "level=warning daemon=shardd event=c x=1\n"));
    assert_non_null(strstr(text, "level=error daemon=shardd event=d x=1\n"));

    enum log_level level = LOG_ERROR;
    assert_int_equal(log_level_parse("debug", &level), SK_OK);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse("info", &level), SK_OK);
    assert_int_equal(log_level_parse("Info", &level), SK_ECONFIG);
    assert_int_equal(log_level_parse("", &level), SK_ECONFIG);
    assert_int_equal(level, LOG_INFO);
}

static void test_a_line_is_one_line(void **state) {
    (void)state;
    struct capture capture;
    char text[16384], large[9000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    log_init("shardd", LOG_INFO);
    capture_begin(&capture, STDERR_FILENO);
    log_event(LOG_INFO, "broken", "text=%s", "one\ntwo\r\n");
    log_event(LOG_INFO, "large", "text=%s", large);
    size_t size = capture_end(&capture, text, sizeof text);
    assert_int_equal(count_of(text, "\n"), 2);
    assert_int_equal(text[size - 1], '\n');
    assert_non_null(strstr(text, "text=one two  \n"));
    assert_true(size < 4096 + 200);
}

static void test_quote(void **state) {
    (void)state;
    char room[64];
    assert_string_equal(log_quote("plain", room, sizeof room), "\"plain\"");
    assert_string_equal(log_quote("", room, sizeof room), "\"\"");
    assert_string_equal(log_quote("a \"b\" \\ \n \t \xff", room, sizeof room),
                        "\"a \\\"b\\\" \\\\ \\n \\x09 \\xff\"");
    assert_string_equal(log_quote("abcdef", room, 6), "\"abc\"");
    assert_string_equal(log_quote("ab\xff", room, 8), "\"ab\""); /* an escape is never cut */
    assert_string_equal(log_quote("abc", room, 3), "\"\"");
    assert_string_equal(log_quote("abc", room, 2), "");
    assert_string_equal(log_quote("abc", room, 1), "");
    room[0] = 'z';
    log_quote("abc", room, 0);
    assert_int_equal(room[0], 'z');
}

#define WRITERS 4
#define LINES   500

static void *write_lines(void *arg) {
    for (int i = 0; i < LINES; i++) log_event(LOG_INFO, "many", "writer=%d end=yes", *(int *)arg);
    return NULL;
}

static void test_threads_do_not_mix_lines(void **state) {
    (void)state;
    struct capture capture;
    static char text[WRITERS * LINES * 128];
    pthread_t threads[WRITERS];
    int numbers[WRITERS];
    log_init("shardd", LOG_INFO);
    capture_begin(&capture, STDERR_FILENO);
    for (int i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(threads[i], NULL);
    capture_end(&capture, text, sizeof text);
    assert_int_equal(count_of(text, "\n"), WRITERS * LINES);
    assert_int_equal(count_of(text, " level=info daemon=shardd event=many writer="), WRITERS * LINES);
    assert_int_equal(count_of(text, " end=yes\n2"), WRITERS * LINES - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_a_line_is_one_line),
        cmocka_unit_test(test_quote),
        cmocka_unit_test(test_threads_do_not_mix_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
