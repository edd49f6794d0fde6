#include "exposure.h"

#include "testing.h"

static void test_local(void **state) {
    (void)state;
    static const char *const local[] = {"tcp://127.0.0.1:7400",      "tcp://127.8.9.1:0", "tls+tcp://127.0.0.1:1",
                                        "tcp://localhost:7400",      "tcp://[::1]:7400",  "tcp6://[::1]:7400",
                                        "ipc:///run/skerry/gateway", "inproc://gateway",  "abstract://gateway"};
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++) {
        if (!exposure_is_local(local[i])) fail_msg("%s", local[i]);
    }
}

static void test_others(void **state) {
    (void)state;
    static const char *const others[] = {"tcp://0.0.0.0:7400",
                                         "tcp://10.77.0.1:7400",
                                         "tcp://*:7400",
                                         "tcp://:7400",
                                         "tcp://[::]:7400",
                                         "tcp://[::1",
                                         "tcp://127.0.0.1.example:1",
                                         "tcp://127.1:1",
                                         "tcp://host:1",
                                         "ws://0.0.0.0:80",
                                         "tcp://localhost.:1",
                                         "tcp://10.0.0.1;127.0.0.1:1",
                                         "127.0.0.1:7400",
                                         "",
                                         "tcp://",
                                         "tls+tcp://[fe80::1]:1",
                                         "tcp://[::ffff:127.0.0.1]:1"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (exposure_is_local(others[i])) fail_msg("%s", others[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_local), cmocka_unit_test(test_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
