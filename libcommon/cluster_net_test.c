#include "cluster_net.h"

#include "error.h"
#include "testing_tls.h"

#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

static void use(const char *name) {
    struct paths paths;
    char text[512] = "";
    struct cluster_net_settings settings = {.files = files_of(&paths, "ca", name)};
    cluster_net_end();
    if (name == NULL) return;
    if (cluster_net_use(&settings, text, sizeof text) != SK_OK) fail_msg("%s", text);
}

static void all_three_files_or_none(void **state) {
    (void)state;
    char text[512] = "";
    struct cluster_net_settings none = {.files = {.ca = "", .cert = NULL, .key = ""}};
    struct cluster_net_settings two = {.files = {.ca = "", .cert = "cert", .key = "key"}};
    assert_int_equal(cluster_net_use(&none, text, sizeof text), SK_OK);
    assert_int_equal(cluster_net_use(&two, text, sizeof text), SK_ECONFIG);
    assert_string_equal(text, "--tls-ca, --tls-cert and --tls-key go together");
}

static void who_may_listen(void **state) {
    (void)state;
    char text[512] = "";
    struct cluster_net_settings plain = {.insecure = false}, insecure = {.insecure = true};
    assert_int_equal(cluster_net_check(&plain, "--listen", "tcp://127.0.0.1:1", text, sizeof text), SK_OK);
    assert_int_equal(cluster_net_check(&insecure, "--listen", "tcp://0.0.0.0:1", text, sizeof text), SK_OK);
    assert_int_equal(cluster_net_check(&plain, "--listen", "tcp://0.0.0.0:1", text, sizeof text), SK_ECONFIG);
    assert_non_null(strstr(text, "--listen: "));
    use("node");
    assert_int_equal(cluster_net_check(&plain, "--listen", "tcp://0.0.0.0:1", text, sizeof text), SK_OK);
    use(NULL);
}

/* A PULL socket; its port. */
static int listen_with(const char *name, nng_socket *socket) {
    nng_listener listener;
    int port;
    use(name);
    assert_int_equal(nng_pull0_open(socket), 0);
    assert_int_equal(nng_socket_set_ms(*socket, NNG_OPT_RECVTIMEO, 20000), 0);
    assert_int_equal(cluster_net_listen(*socket, "tcp://127.0.0.1:0", &listener), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    return port;
}

/* What dialling once answers. */
static int dial_with(const char *name, nng_socket *socket, int port) {
    nng_dialer dialer;
    char address[64];
    use(name);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port);
    assert_int_equal(nng_push0_open(socket), 0);
    assert_int_equal(cluster_net_dialer(&dialer, *socket, address), 0);
    return nng_dialer_start(dialer, 0);
}

static void both_have_an_identity_or_neither(void **state) {
    (void)state;
    static const char *const names[] = {NULL, "node"};
    for (int i = 0; i < 4; i++) {
        const char *listening = names[i / 2], *dialling = names[i % 2];
        nng_socket pull, push;
        int port = listen_with(listening, &pull);
        int rv = dial_with(dialling, &push, port);
        if (listening == dialling) {
            char room[8];
            size_t size = sizeof room;
            assert_int_equal(rv, 0);
            assert_int_equal(nng_send(push, "message", 7, 0), 0);
            assert_int_equal(nng_recv(pull, room, &size, 0), 0);
        } else {
            assert_int_not_equal(rv, 0);
        }
        nng_close(push);
        nng_close(pull);
    }
    use(NULL);
}

static void only_plain_addresses_are_known(void **state) {
    (void)state;
    nng_socket socket;
    nng_dialer dialer;
    assert_int_equal(nng_push0_open(&socket), 0);
    use("node");
    assert_int_equal(cluster_net_dialer(&dialer, socket, "tls+tcp://127.0.0.1:1"), NNG_EADDRINVAL);
    assert_int_equal(cluster_net_listen(socket, "tls+tcp://127.0.0.1:0", NULL), NNG_EADDRINVAL);
    assert_int_equal(cluster_net_listen(socket, "inproc://as-it-is", NULL), 0);
    static const char *const plain[] = {"ws://127.0.0.1:0/",
                                        "TCP://127.0.0.1:0"}; /* what nng would take, without TLS */
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(cluster_net_listen(socket, plain[i], NULL), NNG_EADDRINVAL);
        assert_int_equal(cluster_net_dialer(&dialer, socket, plain[i]), NNG_EADDRINVAL);
    }
    use(NULL);
    assert_int_not_equal(cluster_net_listen(socket, "nonsense", NULL), 0);
    nng_close(socket);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_three_files_or_none),
        cmocka_unit_test(who_may_listen),
        cmocka_unit_test(both_have_an_identity_or_neither),
        cmocka_unit_test(only_plain_addresses_are_known),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
