#include "gateway/json_command.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

static struct buffer message;
static struct json_command command;
static char text[200];

static int take(struct slice body) {
    buffer_init(&message);
    return json_command_read(body, &command, &message, text, sizeof text);
}

/* The message is these bytes. */
static void expect(const char *body, const char *wanted, size_t size) {
    if (take(slice_of_text(body)) != SK_OK) fail_msg("%s", text);
    assert_false(message.failed);
    assert_int_equal(message.size, size);
    assert_memory_equal(message.data, wanted, size);
    buffer_deinit(&message);
}

#define EXPECT(body, wanted) expect(body, wanted, sizeof wanted - 1)

static void refused(const char *body, const char *why) {
    assert_int_equal(take(slice_of_text(body)), SK_BADREQUEST);
    if (strstr(text, why) == NULL || strncmp(text, "at byte ", 8) != 0)
        fail_msg("'%s' does not say '%s'", text, why);
    buffer_deinit(&message);
}

static void commands_become_messages(void **state) {
    (void)state;
    EXPECT("{\"command\":[\"PING\"]}", "\xa4PING\x90");
    assert_false(command.batch || command.atomic);
    EXPECT(" { \"command\" : [ \"set\" , \"k\\u00e4\" , \"\" ] } ", "\xa3set\x92\xa3k\xc3\xa4\xa0");
    EXPECT("{\"commands\":[]}", "\xa5"
                                "batch\x90");
    assert_true(command.batch);
    EXPECT("{\"atomic\":true,\"commands\":[[\"DEL\",\"a\"],[\"GET\",\"b\"]]}", "\xa5"
                                                                               "batch\x92\x92\xa3"
                                                                               "DEL\x91\xa1"
                                                                               "a\x92\xa3GET\x91\xa1"
                                                                               "b");
    assert_true(command.batch && command.atomic);
    EXPECT("{\"commands\":[[\"TIME\"]],\"atomic\":false}", "\xa5"
                                                           "batch\x91\x92\xa4TIME\x90");
    assert_false(command.atomic);
}

static void arguments_are_exact(void **state) {
    (void)state;
    EXPECT("{\"command\":[\"X\",0,-1,127,-128,9007199254740993]}",
           "\xa1X\x95\x00\xff\x7f\xd0\x80\xcf\x00\x20\x00\x00\x00\x00\x00\x01");
    EXPECT("{\"command\":[\"X\",-9223372036854775808,18446744073709551615]}",
           "\xa1X\x92\xd3\x80\x00\x00\x00\x00\x00\x00\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff");
    EXPECT("{\"command\":[\"X\",-9223372036854775809,18446744073709551616]}",
           "\xa1X\x92\xb4-9223372036854775809\xb4"
           "18446744073709551616");
    EXPECT("{\"command\":[\"X\",1.50,1e3,-0,0.1]}", "\xa1X\x94\xa4"
                                                    "1.50\xa3"
                                                    "1e3\xa2-0\xa3"
                                                    "0.1");
    EXPECT("{\"command\":[\"CAS\",\"k\",null,true]}", "\xa3"
                                                      "CAS\x93\xa1k\xc0\xc3");
    EXPECT("{\"command\":[\"X\",{\"base64\":\"AP8=\"},{\"base64\":\"\"},{\"base64\":\"\\u002f/79\"}]}",
           "\xa1X\x93\xc4\x02\x00\xff\xc4\x00\xc4\x03\xff\xfe\xfd");
    EXPECT("{\"command\":[\"X\",\"a\\u0000b\"]}", "\xa1X\x91\xa3"
                                                  "a\0b");
    EXPECT("{\"command\":[\"EXEC\",[[\"k\",7]],[[\"SET\",[\"k\",\"v\"]]]]}",
           "\xa4"
           "EXEC\x92\x91\x92\xa1k\x07\x91\x92\xa3SET\x92\xa1k\xa1v");
}

static void long_arrays_are_counted(void **state) {
    (void)state;
    EXPECT("{\"command\":[\"X\",1,2,3,4,5,6,7,8,9,1,2,3,4,5,6]}", "\xa1X\x9f\1\2\3\4\5\6\7\x08\x09\1\2\3\4\5\6");
    EXPECT("{\"command\":[\"X\",1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7]}",
           "\xa1X\xdd\x00\x00\x00\x10\1\2\3\4\5\6\7\x08\x09\1\2\3\4\5\6\7");
    /* a short one of much is not moved */
    struct buffer body;
    buffer_init(&body);
    buffer_append(&body, "{\"command\":[\"X\",\"", 17);
    memset(buffer_extend(&body, 70000), 'v', 70000);
    buffer_append(&body, "\"]}", 3);
    assert_int_equal(take(buffer_slice(&body)), SK_OK);
    assert_int_equal(message.size, 2 + 5 + 5 + 70000);
    assert_memory_equal(message.data, "\xa1X\xdd\x00\x00\x00\x01\xdb\x00\x01\x11\x70v", 13);
    buffer_deinit(&message);
    buffer_deinit(&body);
}

static void what_is_no_command_is_refused(void **state) {
    (void)state;
    refused("", "an object is expected");
    refused("[]", "an object is expected");
    refused("{}", "missing");
    refused("{\"command\":[]}", "no name");
    refused("{\"command\":[7]}", "a string is expected");
    refused("{\"command\":\"PING\"}", "an array is expected");
    refused("{\"command\":[\"PING\"],\"command\":[\"PING\"]}", "once");
    refused("{\"command\":[\"PING\"],\"commands\":[]}", "once");
    refused("{\"command\":[\"PING\"],\"atomic\":true}", "goes with");
    refused("{\"commands\":[],\"atomic\":true,\"atomic\":true}", "twice");
    refused("{\"commands\":[],\"atomic\":1}", "true or false");
    refused("{\"commands\":[\"GET\"]}", "an array is expected");
    refused("{\"commands\":[[]]}", "no name");
    refused("{\"commands\":[[\"GET\"]", "a comma or ]");
    refused("{\"commands\":[[\"GET\"],]}", "an array is expected");
    refused("{\"command\":[\"PING\"],\"id\":\"x\"}", "the names are");
    refused("{\"command\":[\"PING\"]} x", "follows");
    refused("{\"command\":[\"GET\",{}]}", "base64");
    refused("{\"command\":[\"GET\",{\"base\":\"\"}]}", "base64");
    refused("{\"command\":[\"GET\",{\"base64\":\"\",\"base64\":\"\"}]}", "base64");
    refused("{\"command\":[\"GET\",{\"base64\":1}]}", "a string is expected");
    refused("{\"command\":[\"GET\",{\"base64\":\"AP8\"}]}", "not base64");
    refused("{\"command\":[\"GET\",{\"base64\":\"AP8 \"}]}", "not base64");
    refused("{\"command\":[\"GET\",{\"base64\":\"A===\"}]}", "not base64");
    refused("{\"command\":[\"GET\",{\"base64\":\"_-79\"}]}", "not base64");
    refused("{\"command\":[\"GET\",}", "a value is expected");
    assert_string_equal(text, "at byte 18: a value is expected");
    char deep[200] = "{\"command\":[\"X\",";
    memset(deep + strlen(deep), '[', 40);
    refused(deep, "nested too deep");
}

static void becomes(const char *bytes, size_t size, const char *wanted) {
    struct buffer out;
    struct json json;
    struct mp_reader reader = mp_reader_of(slice_of(bytes, size));
    buffer_init(&out);
    json_init(&json, &out);
    assert_int_equal(json_command_write(&json, NULL, &reader), SK_OK);
    assert_int_equal(mp_left(&reader), 0);
    buffer_append(&out, "", 1);
    assert_string_equal(out.data, wanted);
    buffer_deinit(&out);
}

#define BECOMES(bytes, wanted) becomes(bytes, sizeof bytes - 1, wanted)

static void answers_become_json(void **state) {
    (void)state;
    BECOMES("\xc0", "null");
    BECOMES("\xc3", "true");
    BECOMES("\xcf\x00\x20\x00\x00\x00\x00\x00\x01", "9007199254740993");
    BECOMES("\xff", "-1");
    BECOMES("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", "1.5");
    BECOMES("\xa2OK", "\"OK\"");
    BECOMES("\xc4\x02\xc3\xa4", "\"\xc3\xa4\"");
    BECOMES("\xc4\x01\xff", "{\"base64\":\"/w==\"}");
    BECOMES("\x93\x01\xc0\x91\xa1x", "[1,null,[\"x\"]]");
    BECOMES("\x90", "[]");
    BECOMES("\x80", "{}");
    BECOMES("\x82\xa1"
            "a\x01\xc4\x01"
            "b\x92\x02\x03",
            "{\"a\":1,\"b\":[2,3]}");
    BECOMES("\x82\xa1"
            "a\x01\xc4\x01\xff\x02",
            "[[\"a\",1],[{\"base64\":\"/w==\"},2]]");
    BECOMES("\x81\x05\x06", "[[5,6]]");
}

static void what_is_no_answer_is_told(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"", 0},
               {"\xc1", 1},
               {"\x92\x01", 2},
               {"\x81\xa1"
                "a",
                3},
               {"\xd4\x01\x02", 3},
               {"\x91\xd4\x01\x02", 4},
               {"\x81\x01\xd4\x01\x02", 5}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buffer out;
        struct json json;
        struct mp_reader reader = mp_reader_of(slice_of(bad[i].bytes, bad[i].size));
        buffer_init(&out);
        json_init(&json, &out);
        assert_int_equal(json_command_write(&json, NULL, &reader), SK_EPROTO);
        buffer_deinit(&out);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_become_messages), cmocka_unit_test(arguments_are_exact),
        cmocka_unit_test(long_arrays_are_counted),  cmocka_unit_test(what_is_no_command_is_refused),
        cmocka_unit_test(answers_become_json),      cmocka_unit_test(what_is_no_answer_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
