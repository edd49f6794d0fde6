/* What peers can do to a listener of TLS: without the guard the first test waits for ever, and in the last nobody is accepted any
 * more after a while. */
#include "tls_guard.h"

#include "testing_tls.h"

#include <arpa/inet.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>
#include <sys/socket.h>

enum { SILENT = 20, PLAIN = 5, RESETS = 100, RESETTERS = 2, TEST_S = 120 };

struct server {
    nng_socket socket;
    struct tls *tls;
    uint16_t port;
};

static void open_server(struct server *server, const char *ca) {
    nng_listener listener;
    int port;
    server->tls = read_tls(ca, "node");
    assert_int_equal(nng_rep0_open(&server->socket), 0);
    assert_int_equal(nng_socket_set_ms(server->socket, NNG_OPT_RECVTIMEO, 20000), 0);
    assert_int_equal(tls_listener(&listener, server->socket, "tls+tcp://127.0.0.1:0", server->tls), 0);
    assert_int_equal(nng_listener_start(listener, 0), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    server->port = (uint16_t)port;
}

static void close_server(struct server *server) {
    nng_close(server->socket);
    tls_free(server->tls);
}

/* A client that does all as it should is served. */
static void serves(struct server *server) {
    nng_socket client;
    nng_dialer dialer;
    char url[64], room[8];
    size_t size = sizeof room;
    struct tls *tls = read_tls("ca", "node");
    snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%u", server->port);
    assert_int_equal(nng_req0_open(&client), 0);
    assert_int_equal(tls_dialer(&dialer, client, url, tls), 0);
    assert_int_equal(nng_dialer_start(dialer, 0), 0);
    assert_int_equal(nng_send(client, "question", 8, 0), 0);
    assert_int_equal(nng_recv(server->socket, room, &size, 0), 0);
    nng_close(client);
    tls_free(tls);
}

static int connect_to(const struct server *server) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(server->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* The other end has closed the connection, or will. */
static void wait_for_end(int fd) {
    char bytes[256];
    while (recv(fd, bytes, sizeof bytes, 0) > 0) continue;
    close(fd);
}

/* Half of them say something. */
static void connect_silently(const struct server *server, int fds[SILENT]) {
    static const uint8_t half[] = {22, 3, 1, 2, 0, 1, 0, 1}; /* of a ClientHello */
    for (int i = 0; i < SILENT; i++) {
        fds[i] = connect_to(server);
        if (i % 2 == 0) assert_int_equal(send(fds[i], half, sizeof half, 0), sizeof half);
    }
}

static void handshakes_that_stand_still_are_ended(void **state) {
    (void)state;
    struct server server;
    int fds[SILENT];
    open_server(&server, "ca");
    connect_silently(&server, fds);
    serves(&server); /* beside them */
    for (int i = 0; i < SILENT; i++) close(fds[i]);

    tls_guard_limit(300);
    uint64_t before = tls_guard_accepted().timed_out;
    connect_silently(&server, fds);
    for (int i = 0; i < SILENT; i++) wait_for_end(fds[i]);
    while (tls_guard_accepted().timed_out < before + SILENT) nng_msleep(1); /* counted when they are gone */
    tls_guard_limit(TLS_GUARD_HANDSHAKE_MS);
    serves(&server);
    close_server(&server);
}

/* A client whose handshake was in time, however slow this machine is. */
static struct tls *dial_in_time(struct server *server, nng_socket *client) {
    nng_dialer dialer;
    char url[64];
    struct tls *tls = read_tls("ca", "node");
    snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%u", server->port);
    for (uint32_t limit_ms = 250;; limit_ms *= 2) {
        tls_guard_limit(limit_ms);
        assert_int_equal(nng_req0_open(client), 0);
        assert_int_equal(nng_socket_set_ms(*client, NNG_OPT_RECONNMINT, 60000),
                         0); /* a second one would be seen */
        assert_int_equal(tls_dialer(&dialer, *client, url, tls), 0);
        if (nng_dialer_start(dialer, 0) == 0) return tls;
        nng_close(*client);
    }
}

static void an_open_connection_has_no_limit(void **state) {
    (void)state;
    struct server server;
    nng_socket client;
    char room[8];
    size_t size = sizeof room;
    open_server(&server, "ca");
    struct tls *tls = dial_in_time(&server, &client);
    wait_for_end(
        connect_to(&server)); /* it begins later: when it is ended, the client's time would be over, too */
    assert_int_equal(nng_send(client, "question", 8, 0), 0);
    assert_int_equal(nng_recv(server.socket, room, &size, 0), 0);
    nng_close(client);
    tls_free(tls);
    close_server(&server);
    tls_guard_limit(TLS_GUARD_HANDSHAKE_MS);
}

static void what_is_not_tls_is_refused_and_counted(void **state) {
    (void)state;
    struct server server;
    open_server(&server, "ca");
    uint64_t before = tls_guard_accepted().refused;
    for (int i = 0; i < PLAIN; i++) {
        int fd = connect_to(&server);
        assert_int_equal(send(fd, "\0SP\0\0\x30\0\0", 8, 0), 8);
        wait_for_end(fd);
    }
    assert_int_equal(tls_guard_accepted().refused, before + PLAIN);
    serves(&server);
    close_server(&server);
}

/* ---- clients that reset their connection behind the handshake ---- */

static int take_random(void *arg, unsigned char *bytes, size_t size) {
    (void)arg;
    return getrandom(bytes, size, 0) == (ssize_t)size ? 0 : -1;
}

static int take_bytes(void *arg, unsigned char *bytes, size_t size) {
    ssize_t got = recv(*(int *)arg, bytes, size, 0);
    return got > 0 ? (int)got : MBEDTLS_ERR_NET_CONN_RESET;
}

static int give_bytes(void *arg, const unsigned char *bytes, size_t size) {
    ssize_t sent = send(*(int *)arg, bytes, size, MSG_NOSIGNAL);
    return sent >= 0 ? (int)sent : MBEDTLS_ERR_NET_CONN_RESET;
}

static void handshake_and_reset(struct server *server, mbedtls_ssl_config *config) {
    static const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    mbedtls_ssl_context ssl;
    int fd = connect_to(server);
    mbedtls_ssl_init(&ssl);
    if (mbedtls_ssl_setup(&ssl, config) != 0) abort();
    mbedtls_ssl_set_bio(&ssl, &fd, give_bytes, take_bytes, NULL);
    (void)mbedtls_ssl_handshake(&ssl);
    mbedtls_ssl_free(&ssl);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}

static void *resetter(void *arg) {
    mbedtls_ssl_config config;
    mbedtls_ssl_config_init(&config);
    if (mbedtls_ssl_config_defaults(&config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
        abort();
    }
    mbedtls_ssl_conf_authmode(&config, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_rng(&config, take_random, NULL);
    for (int i = 0; i < RESETS; i++) handshake_and_reset(arg, &config);
    mbedtls_ssl_config_free(&config);
    return NULL;
}

static void resets_behind_the_handshake_leave_the_listener_alive(void **state) {
    (void)state;
    struct server server;
    pthread_t threads[RESETTERS];
    open_server(&server, NULL);
    for (int i = 0; i < RESETTERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, resetter, &server), 0);
    for (int i = 0; i < RESETTERS; i++) pthread_join(threads[i], NULL);
    serves(&server);
    close_server(&server);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handshakes_that_stand_still_are_ended),
        cmocka_unit_test(an_open_connection_has_no_limit),
        cmocka_unit_test(what_is_not_tls_is_refused_and_counted),
        cmocka_unit_test(resets_behind_the_handshake_leave_the_listener_alive),
    };
    alarm(TEST_S); /* a deaf listener would keep us for ever */
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
