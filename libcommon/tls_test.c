#include "testing_tls.h"

#include "error.h"

#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

/* ---- files ---- */

static void refused(const char *ca, const char *cert, const char *key, const char *text_wanted) {
    char paths[3][128], text[512] = "";
    const char *names[] = {ca, cert, key};
    for (int i = 0; i < 3; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", certificates, names[i] == NULL ? "" : names[i]);
    }
    struct tls_files files = {.ca = ca == NULL ? NULL : paths[0],
                              .cert = cert == NULL ? NULL : paths[1],
                              .key = key == NULL ? "" : paths[2]};
    struct tls *tls = NULL;
    assert_int_equal(tls_read(&tls, &files, "--tls", text, sizeof text), SK_ECONFIG);
    if (strstr(text, text_wanted) == NULL) fail_msg("'%s' does not say '%s'", text, text_wanted);
}

static void write_file(const char *name, const char *content, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", certificates, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, size, file), size);
    fclose(file);
}

static void what_is_wrong_with_files_is_told(void **state) {
    (void)state;
    write_file("empty", "", 0);
    write_file("text", "no PEM at all\n", 14);
    write_file("zeros", "\0\0\0\0", 4);
    write_file("half.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n", 33);
    refused("none.pem", "node.pem", "node.key", "none.pem: No such file");
    refused("ca.pem", "none.pem", "node.key", "--tls-cert: ");
    refused("ca.pem", "node.pem", "none.key", "--tls-key: ");
    refused("ca.pem", "node.pem", NULL, "--tls-cert and --tls-key go together");
    refused("ca.pem", NULL, "node.key", "--tls-cert and --tls-key go together");
    refused("text", NULL, NULL, "text: no certificate");
    refused("empty", NULL, NULL, "empty: no certificate");
    refused("zeros", NULL, NULL, "zeros: not PEM");
    refused("half.pem", NULL, NULL, "half.pem: no certificate");
    refused("ca.pem", "text", "node.key", "--tls-cert: ");
    refused("ca.pem", "node.pem", "text", "--tls-key: ");
    refused("ca.pem", "node.pem", "node.pem", "no private key");
    refused("ca.pem", "node.pem", "other.key", "other.key: not the key of the certificate");
    refused("ca.pem", "old.pem", "old.key", "old.pem: the certificate has expired");
}

/* ---- connections ---- */

struct pair {
    nng_socket server, client;
    struct tls *server_tls, *client_tls;
    char url[64];
};

/* NULL as a certificate or CA: none. */
static void listen_with(struct pair *pair, const char *ca, const char *name) {
    nng_listener listener;
    int port;
    pair->server_tls = read_tls(ca, name);
    assert_int_equal(nng_rep0_open(&pair->server), 0);
    assert_int_equal(tls_listener(&listener, pair->server, "tls+tcp://127.0.0.1:0", pair->server_tls), 0);
    assert_int_equal(nng_listener_start(listener, 0), 0);
    assert_int_equal(nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port), 0);
    snprintf(pair->url, sizeof pair->url, "tls+tcp://127.0.0.1:%d", port);
}

/* What dialling answers: once, and nothing is tried again. */
static int dial_with(struct pair *pair, const char *ca, const char *name) {
    nng_dialer dialer;
    pair->client_tls = read_tls(ca, name);
    assert_int_equal(nng_req0_open(&pair->client), 0);
    assert_int_equal(nng_socket_set_ms(pair->client, NNG_OPT_RECVTIMEO, 20000), 0);
    assert_int_equal(nng_socket_set_ms(pair->server, NNG_OPT_RECVTIMEO, 20000), 0);
    assert_int_equal(tls_dialer(&dialer, pair->client, pair->url, pair->client_tls), 0);
    return nng_dialer_start(dialer, 0);
}

static void hang_up(struct pair *pair) {
    nng_close(pair->client);
    tls_free(pair->client_tls);
}

static void end(struct pair *pair) {
    nng_close(pair->server);
    tls_free(pair->server_tls);
}

static void carries_a_message(struct pair *pair) {
    char room[16];
    size_t size = sizeof room;
    assert_int_equal(nng_send(pair->client, "question", 8, 0), 0);
    assert_int_equal(nng_recv(pair->server, room, &size, 0), 0);
    assert_memory_equal(room, "question", 8);
    assert_int_equal(nng_send(pair->server, "answer", 6, 0), 0);
    size = sizeof room;
    assert_int_equal(nng_recv(pair->client, room, &size, 0), 0);
    assert_memory_equal(room, "answer", 6);
}

static void both_sides_show_certificates(void **state) {
    (void)state;
    struct pair pair;
    listen_with(&pair, "ca", "node");
    assert_int_equal(dial_with(&pair, "ca", "node"), 0);
    carries_a_message(&pair);
    hang_up(&pair);
    assert_int_not_equal(dial_with(&pair, "ca", NULL), 0);
    hang_up(&pair);
    assert_int_not_equal(dial_with(&pair, "ca", "other"), 0); /* not signed by the CA */
    hang_up(&pair);
    assert_int_equal(dial_with(&pair, "ca", "stranger"), 0); /* a client's name is not looked at */
    carries_a_message(&pair);
    hang_up(&pair);
    end(&pair);
}

static void clients_need_no_certificate_without_a_ca(void **state) {
    (void)state;
    struct pair pair;
    listen_with(&pair, NULL, "node");
    assert_int_equal(dial_with(&pair, "ca", NULL), 0);
    carries_a_message(&pair);
    hang_up(&pair);
    assert_int_equal(dial_with(&pair, "other-ca", NULL), NNG_ECRYPTO);
    hang_up(&pair);
    end(&pair);
}

static void the_server_is_who_the_address_names(void **state) {
    (void)state;
    struct pair pair;
    listen_with(&pair, "ca", "stranger");
    assert_int_not_equal(dial_with(&pair, "ca", "node"), 0);
    hang_up(&pair);
    end(&pair);
    listen_with(&pair, "ca", "other");
    assert_int_not_equal(dial_with(&pair, "ca", "node"), 0);
    hang_up(&pair);
    end(&pair);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_wrong_with_files_is_told),
        cmocka_unit_test(both_sides_show_certificates),
        cmocka_unit_test(clients_need_no_certificate_without_a_ca),
        cmocka_unit_test(the_server_is_who_the_address_names),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
