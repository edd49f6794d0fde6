#include "metad_names.h"

#include "error.h"
#include "testing.h"

#include <stdio.h>

static void test_names_of_a_list(void **state) {
    (void)state;
    char names[METAD_SERVERS_MAX][METAD_NAME_BYTES];
    uint32_t count;
    assert_int_equal(metad_names_of("tcp://a:7100", names, &count), SK_OK);
    assert_int_equal(count, 1);
    assert_string_equal(names[0], "a:7100");
    assert_int_equal(metad_names_of("tcp://metad-1.metad:1,tcp://[::1]:65525,tcp://10.0.0.1:7100", names, &count),
                     SK_OK);
    assert_int_equal(count, 3);
    assert_string_equal(names[0], "metad-1.metad:1");
    assert_string_equal(names[1], "[::1]:65525");
    assert_string_equal(names[2], "10.0.0.1:7100");
}

static void test_lists_that_are_none(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "a:7100",
        "tcp://",
        "tcp://a",
        "tcp://a:",
        "tcp://:7100",
        "tcp://a:0",
        "tcp://a:07100",
        "tcp://a:65526", /* its Raft port would be beyond the last */
        "tcp://a:99999999999999999999",
        "tcp://a:7100x",
        "tcp://a:7100/",
        "tcp://a b:7100",
        "tcp://::1:7100",
        "tcp://a:7100,",
        ",tcp://a:7100",
        "tcp://a:7100,,tcp://b:7100",
        "tcp://a:7100, tcp://b:7100",
        "tcp://a:7100,tcp://a:7100",
        "ipc:///tmp/metad",
    };
    char names[METAD_SERVERS_MAX][METAD_NAME_BYTES];
    uint32_t count;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(metad_names_of(bad[i], names, &count), SK_ECONFIG);
    }
}

static void append_address(char *list, size_t bytes, unsigned number) {
    size_t used = strlen(list);
    (void)snprintf(list + used, bytes - used, "%stcp://a:%u", used > 0 ? "," : "", 7000 + number);
}

static void test_no_more_than_fit(void **state) {
    (void)state;
    char names[METAD_SERVERS_MAX][METAD_NAME_BYTES], list[1024] = "", longest[METAD_NAME_BYTES + 32];
    uint32_t count;
    for (unsigned i = 0; i < METAD_SERVERS_MAX; i++) append_address(list, sizeof list, i);
    assert_int_equal(metad_names_of(list, names, &count), SK_OK);
    assert_int_equal(count, METAD_SERVERS_MAX);
    append_address(list, sizeof list, METAD_SERVERS_MAX);
    assert_int_equal(metad_names_of(list, names, &count), SK_ECONFIG);
    int host = (int)METAD_NAME_BYTES - 1 - (int)strlen(":7100");
    (void)snprintf(longest, sizeof longest, "tcp://%0*d:7100", host, 0);
    assert_int_equal(metad_names_of(longest, names, &count), SK_OK);
    (void)snprintf(longest, sizeof longest, "tcp://%0*d:7100", host + 1, 0);
    assert_int_equal(metad_names_of(longest, names, &count), SK_ECONFIG);
}

static void test_other_ports(void **state) {
    (void)state;
    char shifted[METAD_NAME_BYTES];
    assert_int_equal(metad_name_shift("metad-1:7100", METAD_RAFT_OFFSET, shifted, sizeof shifted), SK_OK);
    assert_string_equal(shifted, "metad-1:7110");
    assert_int_equal(metad_name_shift("[::1]:9999", 1, shifted, sizeof shifted), SK_OK);
    assert_string_equal(shifted, "[::1]:10000");
    assert_int_equal(metad_name_shift("a:9999", 1, shifted, sizeof "a:9999"), SK_ECONFIG); /* no room */
    assert_int_equal(metad_name_shift("nothing", 1, shifted, sizeof shifted), SK_ECONFIG);
}

static void test_publishers(void **state) {
    (void)state;
    struct buffer publish;
    buffer_init(&publish);
    assert_int_equal(metad_names_publish("tcp://a:7100,tcp://[::1]:8100", &publish), SK_OK);
    assert_string_equal((const char *)publish.data, "tcp://a:7101,tcp://[::1]:8101");
    buffer_clear(&publish, 0);
    assert_int_equal(metad_names_publish("tcp://a:7100,b:7100", &publish), SK_ECONFIG);
    buffer_deinit(&publish);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_of_a_list),  cmocka_unit_test(test_lists_that_are_none),
        cmocka_unit_test(test_no_more_than_fit), cmocka_unit_test(test_other_ports),
        cmocka_unit_test(test_publishers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
