#include "libcommon/peer_name.h"

#include "libcommon/testing.h"

#include <arpa/inet.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <sys/socket.h>

static void addresses_as_they_are_written(void **state) {
    (void)state;
    char name[PEER_NAME_BYTES];
    nng_sockaddr address;
    memset(&address, 0, sizeof address);
    assert_string_equal(peer_name(&address, name), "local");
    address.s_in.sa_family = NNG_AF_INET;
    address.s_in.sa_addr = htonl(0x0a000007);
    address.s_in.sa_port = htons(65535);
    assert_string_equal(peer_name(&address, name), "10.0.0.7:65535");
    memset(&address, 0, sizeof address);
    address.s_in6.sa_family = NNG_AF_INET6;
    address.s_in6.sa_port = htons(7400);
    assert_int_equal(inet_pton(AF_INET6, "fd00::7", address.s_in6.sa_addr), 1);
    assert_string_equal(peer_name(&address, name), "[fd00::7]:7400");
    assert_int_equal(inet_pton(AF_INET6, "abcd:abcd:abcd:abcd:abcd:abcd:abcd:abcd", address.s_in6.sa_addr), 1);
    address.s_in6.sa_port = htons(65535);
    assert_string_equal(peer_name(&address, name), "[abcd:abcd:abcd:abcd:abcd:abcd:abcd:abcd]:65535");
}

/* The pipe of a message that has come to a server at `url`; the client sees its own address under `own`. */
static void the_peer_is_named(const char *url, char own[PEER_NAME_BYTES], char named[PEER_NAME_BYTES],
                              char afterwards[PEER_NAME_BYTES]) {
    nng_socket server, client;
    nng_listener listener;
    nng_msg *message;
    char *bound;
    nng_sockaddr address;
    assert_int_equal(nng_rep0_open(&server), 0);
    assert_int_equal(nng_req0_open(&client), 0);
    assert_int_equal(nng_listen(server, url, &listener, 0), 0);
    assert_int_equal(nng_listener_get_string(listener, NNG_OPT_URL, &bound), 0);
    assert_int_equal(nng_dial(client, bound, NULL, 0), 0);
    nng_strfree(bound);
    assert_int_equal(nng_msg_alloc(&message, 0), 0);
    assert_int_equal(nng_sendmsg(client, message, 0), 0);
    assert_int_equal(nng_recvmsg(server, &message, 0), 0);
    nng_pipe pipe = nng_msg_get_pipe(message);
    (void)peer_name_of_pipe(pipe, named);
    assert_int_equal(nng_sendmsg(server, message, 0), 0);
    assert_int_equal(nng_recvmsg(client, &message, 0), 0);
    assert_int_equal(nng_pipe_get_addr(nng_msg_get_pipe(message), NNG_OPT_LOCADDR, &address), 0);
    (void)peer_name(&address, own);
    nng_msg_free(message);
    (void)nng_close(client);
    (void)nng_close(server);
    (void)peer_name_of_pipe(pipe, afterwards);
}

static void a_pipe_has_the_address_of_its_client(void **state) {
    (void)state;
    char own[PEER_NAME_BYTES], named[PEER_NAME_BYTES], afterwards[PEER_NAME_BYTES], url[64];
    the_peer_is_named("tcp://127.0.0.1:0", own, named, afterwards);
    assert_memory_equal(named, "127.0.0.1:", 10);
    assert_string_equal(named, own);
    assert_string_equal(afterwards, "gone");
    (void)snprintf(url, sizeof url, "ipc:///tmp/skerry-peer-name-%d", (int)getpid());
    the_peer_is_named(url, own, named, afterwards);
    assert_string_equal(named, "local");
}

/* A connection within this host, and how its client sees it; false: that family is not there. */
static bool connect_to(struct sockaddr *address, socklen_t bytes, int *server, int *client) {
    int listener = socket(address->sa_family, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, address, bytes) != 0) {
        if (listener >= 0) close(listener);
        return false;
    }
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, address, &bytes), 0);
    *client = socket(address->sa_family, SOCK_STREAM, 0);
    assert_int_equal(connect(*client, address, bytes), 0);
    *server = accept(listener, NULL, NULL);
    assert_true(*server >= 0);
    close(listener);
    return true;
}

static void a_socket_has_the_address_of_its_client(void **state) {
    (void)state;
    char name[PEER_NAME_BYTES], wanted[PEER_NAME_BYTES];
    int server, client;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(connect_to((struct sockaddr *)&four, sizeof four, &server, &client));
    socklen_t bytes = sizeof four;
    assert_int_equal(getsockname(client, (struct sockaddr *)&four, &bytes), 0);
    (void)snprintf(wanted, sizeof wanted, "127.0.0.1:%u", ntohs(four.sin_port));
    assert_string_equal(peer_name_of_socket(server, name), wanted);
    close(server);
    close(client);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    if (connect_to((struct sockaddr *)&six, sizeof six, &server, &client)) {
        assert_memory_equal(peer_name_of_socket(server, name), "[::1]:", 6);
        close(server);
        close(client);
    }
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_string_equal(peer_name_of_socket(pair[0], name), "local");
    close(pair[0]);
    close(pair[1]);
    int alone = socket(AF_INET, SOCK_STREAM, 0);
    assert_string_equal(peer_name_of_socket(alone, name), "gone");
    close(alone);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_as_they_are_written),
        cmocka_unit_test(a_pipe_has_the_address_of_its_client),
        cmocka_unit_test(a_socket_has_the_address_of_its_client),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
