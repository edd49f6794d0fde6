#include "gateway/http_problem.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

static struct http_answer answer;

static void expect(unsigned status, const char *body) {
    assert_int_equal(answer.status, status);
    assert_string_equal(answer.type, "application/problem+json");
    buffer_append(&answer.body, "", 1);
    assert_string_equal(answer.body.data, body);
    buffer_deinit(&answer.body);
}

static void begin(void) {
    answer = (struct http_answer){.status = 200};
    buffer_init(&answer.body);
    buffer_append(&answer.body, "what was there", 14);
}

static void every_code_has_a_status(void **state) {
    (void)state;
    static const struct {
        int err;
        unsigned status;
        const char *code, *happened;
    } table[] = {{SK_BADREQUEST, 400, "BADREQUEST", "no"},
                 {SK_BADVALUE, 409, "BADVALUE", "no"},
                 {SK_WRONGTYPE, 409, "WRONGTYPE", "no"},
                 {SK_TOOLARGE, 413, "TOOLARGE", "no"},
                 {SK_CROSSSLOT, 400, "CROSSSLOT", "no"},
                 {SK_OVERLOADED, 503, "OVERLOADED", "no"},
                 {SK_UNAVAILABLE, 503, "UNAVAILABLE", "no"},
                 {SK_DISKFULL, 507, "DISKFULL", "no"},
                 {SK_TIMEOUT, 504, "TIMEOUT", "perhaps"},
                 {SK_DONE, 410, "DONE", "yes"},
                 {SK_FORGOTTEN, 410, "FORGOTTEN", "perhaps"},
                 {SK_INTERNAL, 500, "INTERNAL", "perhaps"},
                 {SK_NOAUTH, 401, "NOAUTH", "no"}};
    assert_int_equal(sizeof table / sizeof *table, SK_CLIENT_LAST);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char wanted[400];
        begin();
        http_problem_answer_error(&answer, table[i].err, slice_of_text("why"));
        assert_int_equal(answer.field_count, table[i].status == 503);
        (void)snprintf(wanted, sizeof wanted,
                       "{\"type\":\"urn:skerry:error:%s\",\"title\":\"%s\",\"status\":%u,\"code\":\"%s\","
                       "\"happened\":\"%s\",\"detail\":\"why\"}\n",
                       table[i].code, error_text(table[i].err), table[i].status, table[i].code, table[i].happened);
        expect(table[i].status, wanted);
    }
    begin();
    http_problem_answer_error(&answer, SK_ENOMEM, slice_of_text(""));
    assert_int_equal(answer.status, 500);
    buffer_deinit(&answer.body);
}

static void problems_of_http_have_happened_to_nothing(void **state) {
    (void)state;
    begin();
    http_problem_answer(&answer, PROBLEM_PRECONDITION, slice_of_text("a\"b\xff"));
    expect(412, "{\"type\":\"urn:skerry:error:PRECONDITION_FAILED\",\"title\":\"the key is not as If-Match or "
                "If-None-Match "
                "wants "
                "it\",\"status\":412,\"code\":\"PRECONDITION_FAILED\",\"happened\":\"no\",\"detail\":"
                "\"a\\\"b\xef\xbf\xbd\"}\n");
}

static void one_of_several_is_told(void **state) {
    (void)state;
    struct json json;
    begin();
    buffer_clear(&answer.body, SIZE_MAX);
    json_init(&json, &answer.body);
    http_problem_write(&json, NULL, SK_TIMEOUT, slice_of_text("late"));
    buffer_append(&answer.body, "", 1);
    assert_string_equal(answer.body.data, "{\"code\":\"TIMEOUT\",\"happened\":\"perhaps\",\"detail\":\"late\"}");
    buffer_deinit(&answer.body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_status),
        cmocka_unit_test(problems_of_http_have_happened_to_nothing),
        cmocka_unit_test(one_of_several_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
