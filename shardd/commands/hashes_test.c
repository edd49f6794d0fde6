#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_INT   "-BADREQUEST value is not an integer or out of range"
#define NOT_FLOAT "-BADREQUEST value is not a valid float"
#define SYNTAX    "-BADREQUEST syntax error"

static void sets_and_gets(void **state) {
    (void)state;
    FIXTURE_TABLE({"HGET h a", "nil"}, {"HSET h a 1", "1"}, {"HSET h a 2 b 3 b 4", "1"}, {"HGET h a", "\"2\""},
                  {"HGET h b", "\"4\""}, {"HGET h c", "nil"}, {"HMSET h c \"\" \"\" x", "+OK"},
                  {"HGET h c", "\"\""}, {"HGET h \"\"", "\"x\""}, {"HLEN h", "4"}, {"HLEN n", "0"},
                  {"HMGET h a n b a", "[\"2\" nil \"4\" \"2\"]"}, {"HMGET n a b", "[nil nil]"},
                  {"HEXISTS h a", "1"}, {"HEXISTS h n", "0"}, {"HEXISTS n a", "0"}, {"HSET h a :-12 b #0.5", "0"},
                  {"HMGET h a b", "[\"-12\" \"0.5\"]"}, {"HSTRLEN h a", "3"}, {"HSTRLEN h c", "0"},
                  {"HSTRLEN h n", "0"}, {"HSTRLEN n a", "0"}, {"TYPE h", "+hash"}, {"EXPIRE h 10", "1"},
                  {"HSET h d 1", "1"}, {"TTL h", "10"}, {"@10000", ""}, {"HLEN h", "0"}, {"HSET h a 1", "1"},
                  {"TTL h", "-1"}, {"HLEN h", "1"}, {"SET h v", "+OK"}, {"GET h", "\"v\""});
    FIXTURE_TABLE({"HSET h a", "-BADREQUEST wrong number of arguments for 'hset' command"},
                  {"HSET h a 1 b", "-BADREQUEST wrong number of arguments for 'hset' command"},
                  {"HMSET h a 1 b", "-BADREQUEST wrong number of arguments for 'hmset' command"},
                  {"HMGET h", "-BADREQUEST wrong number of arguments for 'hmget' command"},
                  {"HSETNX h a 1 b", "-BADREQUEST wrong number of arguments for 'hsetnx' command"},
                  {"HDEL h", "-BADREQUEST wrong number of arguments for 'hdel' command"}, {"EXISTS h", "0"});
}

static void sets_what_is_not_there(void **state) {
    (void)state;
    FIXTURE_TABLE({"HSETNX h a 1", "1"}, {"HSETNX h a 2", "0"}, {"HGET h a", "\"1\""}, {"HSETNX h b 2", "1"},
                  {"HLEN h", "2"});
}

static void deletes(void **state) {
    (void)state;
    FIXTURE_TABLE({"HDEL h a", "0"}, {"HSET h a 1 b 2 c 3", "3"}, {"HDEL h a a n", "1"}, {"HLEN h", "2"},
                  {"HDEL h n", "0"}, {"HDEL h b c a", "2"}, {"EXISTS h", "0"}, {"HSET h a 1", "1"},
                  {"HLEN h", "1"});
}

/* In the order of their hashes, which is that of HSCAN. */
static void tells_all(void **state) {
    (void)state;
    FIXTURE_TABLE({"HGETALL h", "{}"}, {"HKEYS h", "[]"}, {"HVALS h", "[]"}, {"HSET h a 1", "1"},
                  {"HGETALL h", "{\"a\" \"1\"}"}, {"HKEYS h", "[\"a\"]"}, {"HVALS h", "[\"1\"]"},
                  {"HSET h b 2 c 3", "2"}, {"HGETALL h", "{\"b\" \"2\" \"c\" \"3\" \"a\" \"1\"}"},
                  {"HKEYS h", "[\"b\" \"c\" \"a\"]"}, {"HVALS h", "[\"2\" \"3\" \"1\"]"},
                  {"HSCAN h 0", "[\"0\" [\"b\" \"2\" \"c\" \"3\" \"a\" \"1\"]]"});
}

static void adds_integers(void **state) {
    (void)state;
    FIXTURE_TABLE({"HINCRBY h a 5", "5"}, {"HINCRBY h a -7", "-2"}, {"HGET h a", "\"-2\""}, {"HLEN h", "1"},
                  {"HINCRBY h a x", NOT_INT}, {"HINCRBY h a 1.5", NOT_INT}, {"HINCRBY h a \" 1\"", NOT_INT},
                  {"HSET h x text f 1.5 e \"\"", "3"}, {"HINCRBY h x 1", "-BADVALUE hash value is not an integer"},
                  {"HINCRBY h f 1", "-BADVALUE hash value is not an integer"},
                  {"HINCRBY h e 1", "-BADVALUE hash value is not an integer"},
                  {"HINCRBY h m 9223372036854775807", "9223372036854775807"},
                  {"HINCRBY h m 1", "-BADVALUE increment or decrement would overflow"},
                  {"HGET h m", "\"9223372036854775807\""}, {"HINCRBY n m x", NOT_INT}, {"EXISTS n", "0"},
                  {"EXPIRE h 10", "1"}, {"HINCRBY h a 1", "-1"}, {"TTL h", "10"});
}

static void adds_decimals(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"HINCRBYFLOAT h a 0.1", "\"0.1\""}, {"HINCRBYFLOAT h a 1e3", "\"1000.09999999999999998\""},
        {"HGET h a", "\"1000.09999999999999998\""}, {"HINCRBYFLOAT h a -1000.1", "\"0\""}, {"HLEN h", "1"},
        {"HINCRBYFLOAT h a x", NOT_FLOAT}, {"HINCRBYFLOAT h a nan", NOT_FLOAT},
        {"HINCRBYFLOAT h a 1e5000", NOT_FLOAT}, {"HINCRBYFLOAT n a -inf", "-BADREQUEST value is NaN or Infinity"},
        {"EXISTS n", "0"}, {"HSET h x text e \"\" i inf", "3"},
        {"HINCRBYFLOAT h x 1", "-BADVALUE hash value is not a float"},
        {"HINCRBYFLOAT h e 1", "-BADVALUE hash value is not a float"},
        {"HINCRBYFLOAT h i 1", "-BADVALUE increment would produce NaN or Infinity"}, {"HGET h i", "\"inf\""});
}

static void draws_fields(void **state) {
    (void)state;
    FIXTURE_TABLE({"HRANDFIELD n", "nil"}, {"HRANDFIELD n 5", "[]"}, {"HRANDFIELD n -5 WITHVALUES", "[]"},
                  {"HSET h a 1", "1"}, {"HRANDFIELD h", "\"a\""}, {"HRANDFIELD h 0", "[]"},
                  {"HRANDFIELD h 0 WITHVALUES", "[]"}, {"HRANDFIELD h 5", "[\"a\"]"},
                  {"HRANDFIELD h -2", "[\"a\" \"a\"]"}, {"HRANDFIELD h 1 withvalues", "[[\"a\" \"1\"]]"},
                  {"HRANDFIELD h -2 WITHVALUES", "[[\"a\" \"1\"] [\"a\" \"1\"]]"}, {"HRANDFIELD h x", NOT_INT},
                  {"HRANDFIELD h 1 WITHSCORES", SYNTAX}, {"HRANDFIELD h 1 WITHVALUES x", SYNTAX},
                  {"HRANDFIELD h -9223372036854775808",
                   "-BADREQUEST value is out of range, value must between -9223372036854775807 and "
                   "9223372036854775807"},
                  {"HRANDFIELD h 9223372036854775807", "[\"a\"]"}, {"HRANDFIELD n -9223372036854775807", "[]"},
                  {"HRANDFIELD n 9223372036854775807 WITHVALUES", "-BADREQUEST value is out of range"},
                  {"HRANDFIELD n 4611686018427387903 WITHVALUES", "[]"},
                  {"HRANDFIELD n -4611686018427387904 WITHVALUES", "-BADREQUEST value is out of range"},
                  {"HRANDFIELD n -4611686018427387903 WITHVALUES", "[]"},
                  {"HRANDFIELD h -10001", "-TOOLARGE count is limited to 10000, unless it is that of all"},
                  {"HSET h b 2 c 3", "2"},
                  {"HRANDFIELD h 3 WITHVALUES", "[[\"b\" \"2\"] [\"c\" \"3\"] [\"a\" \"1\"]]"});
}

static void other_types_are_refused(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SADD s a", "1");
    fixture_expect(&fixture, "SET k v", "+OK");
    static const char *const refused[] = {
        "HSET k a 1",     "HMSET k a 1", "HSETNX k a 1",  "HGET k a",     "HMGET k a",
        "HGETALL k",      "HKEYS k",     "HVALS k",       "HDEL k a",     "HEXISTS k a",
        "HLEN k",         "HSTRLEN k a", "HINCRBY k a 1", "HRANDFIELD k", "HINCRBYFLOAT k a 1.",
        "HRANDFIELD k 1", "HSCAN k 0",   "HLEN s",        "HSET s a 1",   "HRANDFIELD s 0"};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        fixture_expect(&fixture, refused[i], WRONGTYPE);
    }
    /* arguments are looked at first */
    fixture_expect(&fixture, "HSET k a 1 b", "-BADREQUEST wrong number of arguments for 'hset' command");
    fixture_expect(&fixture, "HINCRBY k a x", NOT_INT);
    fixture_expect(&fixture, "HINCRBYFLOAT k a x", NOT_FLOAT);
    fixture_expect(&fixture, "HRANDFIELD k 1 x", SYNTAX);
    fixture_expect(&fixture, "HRANDFIELD k 9223372036854775807 WITHVALUES", "-BADREQUEST value is out of range");
    fixture_expect(&fixture, "HSCAN k x", "-BADREQUEST invalid cursor");
    fixture_expect(&fixture, "HSCAN k 0 x", WRONGTYPE);
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

static const char *set_large(struct fixture *fixture, size_t field_bytes, size_t value_bytes) {
    size_t size = field_bytes > value_bytes ? field_bytes : value_bytes;
    uint8_t *bytes = calloc(1, size);
    assert_non_null(bytes);
    buffer_clear(&fixture->body, 0);
    mp_write_text(&fixture->body, "HSET");
    mp_write_array(&fixture->body, 3);
    mp_write_text(&fixture->body, "h");
    mp_write_bin(&fixture->body, slice_of(bytes, field_bytes));
    mp_write_bin(&fixture->body, slice_of(bytes, value_bytes));
    free(bytes);
    return fixture_run_body(fixture, false, true);
}

static void sizes_are_limited(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_string_equal(set_large(&fixture, KEY_BYTES_MAX + 1, 1),
                        "-TOOLARGE a member or field exceeds the maximum size of 65536 bytes");
    fixture_expect(&fixture, "EXISTS h", "0");
    assert_string_equal(set_large(&fixture, KEY_BYTES_MAX, VALUE_BYTES_MAX), "1");
    assert_string_equal(set_large(&fixture, 401, VALUE_BYTES_MAX), "1");
    assert_string_equal(set_large(&fixture, 3, VALUE_BYTES_MAX), "1");
    fixture_expect(&fixture, "HVALS h", "[\"(16777216 bytes)\" \"(16777216 bytes)\" \"(16777216 bytes)\"]");
    assert_string_equal(set_large(&fixture, 4, VALUE_BYTES_MAX), "1");
    fixture_expect(&fixture, "HVALS h", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "HGETALL h", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "HRANDFIELD h -40 WITHVALUES", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "HLEN h", "4");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_and_gets),     cmocka_unit_test(sets_what_is_not_there),
        cmocka_unit_test(deletes),           cmocka_unit_test(tells_all),
        cmocka_unit_test(adds_integers),     cmocka_unit_test(adds_decimals),
        cmocka_unit_test(draws_fields),      cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(sizes_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
