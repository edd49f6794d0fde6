/* A server's session in memory, and mbedtls's client at the other end of it. */
#include "tls_channel.h"

#include "error.h"
#include "testing_tls.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>

struct client {
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    struct tls *tls;
    struct buffer sent;     /* to the server */
    struct buffer received; /* from it */
    size_t read;
};

struct pair {
    struct tls *tls;
    struct tls_server *server;
    struct tls_channel *session;
    struct client client;
    struct buffer plain; /* what the server has read */
    size_t step;         /* bytes that reach the server at a time */
};

static int send_cb(void *arg, const unsigned char *bytes, size_t size) {
    struct client *client = arg;
    buffer_append(&client->sent, bytes, size);
    return (int)size;
}

static int receive_cb(void *arg, unsigned char *room, size_t size) {
    struct client *client = arg;
    size_t left = client->received.size - client->read;
    if (left == 0) return MBEDTLS_ERR_SSL_WANT_READ;
    if (size > left) size = left;
    memcpy(room, client->received.data + client->read, size);
    client->read += size;
    return (int)size;
}

/* `name`: of its certificate, or NULL. */
static void client_init(struct client *client, const char *name) {
    memset(client, 0, sizeof *client);
    mbedtls_ssl_init(&client->ssl);
    mbedtls_ssl_config_init(&client->config);
    mbedtls_entropy_init(&client->entropy);
    mbedtls_ctr_drbg_init(&client->random);
    mbedtls_x509_crt_init(&client->cert);
    mbedtls_pk_init(&client->key);
    assert_int_equal(mbedtls_ctr_drbg_seed(&client->random, mbedtls_entropy_func, &client->entropy, NULL, 0), 0);
    assert_int_equal(mbedtls_ssl_config_defaults(&client->config, MBEDTLS_SSL_IS_CLIENT,
                                                 MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT),
                     0);
    mbedtls_ssl_conf_rng(&client->config, mbedtls_ctr_drbg_random, &client->random);
    mbedtls_ssl_conf_authmode(&client->config, MBEDTLS_SSL_VERIFY_NONE);
    if (name != NULL) {
        client->tls = read_tls("ca", name);
        struct slice cert = tls_pem(client->tls).cert, key = tls_pem(client->tls).key;
        assert_int_equal(mbedtls_x509_crt_parse(&client->cert, cert.data, cert.size), 0);
        assert_int_equal(mbedtls_pk_parse_key(&client->key, key.data, key.size, NULL, 0), 0);
        assert_int_equal(mbedtls_ssl_conf_own_cert(&client->config, &client->cert, &client->key), 0);
    }
    assert_int_equal(mbedtls_ssl_setup(&client->ssl, &client->config), 0);
    mbedtls_ssl_set_bio(&client->ssl, client, send_cb, receive_cb, NULL);
}

static void client_deinit(struct client *client) {
    mbedtls_ssl_free(&client->ssl);
    mbedtls_ssl_config_free(&client->config);
    mbedtls_ctr_drbg_free(&client->random);
    mbedtls_entropy_free(&client->entropy);
    mbedtls_x509_crt_free(&client->cert);
    mbedtls_pk_free(&client->key);
    tls_free(client->tls);
    buffer_deinit(&client->sent);
    buffer_deinit(&client->received);
}

static void pair_init(struct pair *pair, const char *ca, const char *client_name, size_t step) {
    memset(pair, 0, sizeof *pair);
    pair->step = step;
    pair->tls = read_tls(ca, "node");
    assert_int_equal(tls_server_new(&pair->server, pair->tls), SK_OK);
    assert_int_equal(tls_channel_new(&pair->session, pair->server), SK_OK);
    client_init(&pair->client, client_name);
}

static void pair_deinit(struct pair *pair) {
    client_deinit(&pair->client);
    tls_channel_free(pair->session);
    tls_server_free(pair->server);
    tls_free(pair->tls);
    buffer_deinit(&pair->plain);
}

/* Gives the server what the client has sent, in pieces. */
static int pump(struct pair *pair) {
    struct client *client = &pair->client;
    int err = SK_OK;
    for (size_t at = 0; err == SK_OK && at < client->sent.size; at += pair->step) {
        size_t size = client->sent.size - at < pair->step ? client->sent.size - at : pair->step;
        err = tls_channel_receive(pair->session, slice_of(client->sent.data + at, size), &pair->plain,
                                  &client->received);
    }
    client->sent.size = 0;
    return err;
}

static int shake_hands(struct pair *pair) {
    int err = SK_OK;
    for (int i = 0; err == SK_OK && !tls_channel_open(pair->session); i++) {
        assert_true(i < 20);
        (void)mbedtls_ssl_handshake_step(&pair->client.ssl);
        while (pair->client.ssl.state != MBEDTLS_SSL_HANDSHAKE_OVER &&
               mbedtls_ssl_handshake_step(&pair->client.ssl) == 0) {
        }
        err = pump(pair);
    }
    return err;
}

static void what_both_say_arrives(void **state) {
    (void)state;
    const size_t steps[] = {1, 7, 100000};
    for (size_t i = 0; i < 3; i++) {
        struct pair pair;
        pair_init(&pair, NULL, NULL, steps[i]);
        assert_int_equal(shake_hands(&pair), SK_OK);
        while (pair.client.ssl.state != MBEDTLS_SSL_HANDSHAKE_OVER) {
            assert_int_equal(mbedtls_ssl_handshake_step(&pair.client.ssl), 0);
        }
        assert_int_equal(mbedtls_ssl_write(&pair.client.ssl, (const unsigned char *)"question", 8), 8);
        assert_int_equal(pump(&pair), SK_OK);
        assert_true(slice_equal(buffer_slice(&pair.plain), slice_of_text("question")));
        /* more than one record */
        static uint8_t large[100000], room[sizeof large];
        memset(large, 'x', sizeof large);
        assert_int_equal(tls_channel_send(pair.session, slice_of(large, sizeof large), &pair.client.received),
                         SK_OK);
        size_t size = 0;
        while (size < sizeof large) {
            int rv = mbedtls_ssl_read(&pair.client.ssl, room + size, sizeof room - size);
            assert_true(rv > 0);
            size += (size_t)rv;
        }
        assert_memory_equal(room, large, sizeof large);
        assert_int_equal(mbedtls_ssl_close_notify(&pair.client.ssl), 0);
        assert_int_equal(pump(&pair), SK_ECLOSED);
        pair_deinit(&pair);
    }
}

static void a_client_must_show_a_certificate_where_there_is_a_ca(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int err;
    } cases[] = {{"node", SK_OK}, {NULL, SK_EPROTO}, {"other", SK_EPROTO}};
    for (size_t i = 0; i < 3; i++) {
        struct pair pair;
        pair_init(&pair, "ca", cases[i].name, 100000);
        assert_int_equal(shake_hands(&pair), cases[i].err);
        assert_true(tls_channel_open(pair.session) == (cases[i].err == SK_OK));
        pair_deinit(&pair);
    }
}

static void what_is_no_tls_is_refused(void **state) {
    (void)state;
    struct pair pair;
    pair_init(&pair, NULL, NULL, 100000);
    buffer_append(&pair.client.sent, "*1\r\n$4\r\nPING\r\n", 14);
    assert_int_equal(pump(&pair), SK_EPROTO);
    assert_int_equal(pair.plain.size, 0);
    pair_deinit(&pair);
}

/* Any byte of a record that is another one. */
static void damage_is_noticed(void **state) {
    (void)state;
    struct pair pair;
    pair_init(&pair, NULL, NULL, 100000);
    assert_int_equal(shake_hands(&pair), SK_OK);
    while (pair.client.ssl.state != MBEDTLS_SSL_HANDSHAKE_OVER) {
        assert_int_equal(mbedtls_ssl_handshake_step(&pair.client.ssl), 0);
    }
    assert_int_equal(mbedtls_ssl_write(&pair.client.ssl, (const unsigned char *)"question", 8), 8);
    pair.client.sent.data[pair.client.sent.size - 1] ^= 1;
    assert_int_equal(pump(&pair), SK_EPROTO);
    assert_int_equal(pair.plain.size, 0);
    pair_deinit(&pair);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_both_say_arrives),
        cmocka_unit_test(a_client_must_show_a_certificate_where_there_is_a_ca),
        cmocka_unit_test(what_is_no_tls_is_refused),
        cmocka_unit_test(damage_is_noticed),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
