#include "tls_channel.h"

#include "error.h"
#include "tls.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <stdlib.h>

#define PLAIN_CHUNK 16384u /* the most that a record of TLS holds */

struct tls_server {
    mbedtls_ssl_config config;
    mbedtls_x509_crt cert, ca;
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

struct tls_channel {
    mbedtls_ssl_context ssl;
    bool open;
    struct slice input;    /* during a call: what was not read yet */
    struct buffer *output; /* during a call */
};

/* ---- server ---- */

static int parse_key(struct tls_server *server, struct slice pem) {
#if MBEDTLS_VERSION_MAJOR < 3
    return mbedtls_pk_parse_key(&server->key, pem.data, pem.size, NULL, 0);
#else
    return mbedtls_pk_parse_key(&server->key, pem.data, pem.size, NULL, 0, mbedtls_ctr_drbg_random,
                                &server->random);
#endif
}

static int configure(struct tls_server *server, const struct tls *tls) {
    struct tls_pem pem = tls_pem(tls);
    int rv = mbedtls_ctr_drbg_seed(&server->random, mbedtls_entropy_func, &server->entropy, NULL, 0);
    if (rv == 0) rv = mbedtls_x509_crt_parse(&server->cert, pem.cert.data, pem.cert.size);
    if (rv == 0) rv = parse_key(server, pem.key);
    if (rv == 0 && pem.ca.size > 0) rv = mbedtls_x509_crt_parse(&server->ca, pem.ca.data, pem.ca.size);
    if (rv == 0) {
        rv = mbedtls_ssl_config_defaults(&server->config, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
                                         MBEDTLS_SSL_PRESET_DEFAULT);
    }
    if (rv != 0) return rv;
    mbedtls_ssl_conf_rng(&server->config, mbedtls_ctr_drbg_random, &server->random);
    mbedtls_ssl_conf_min_version(&server->config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_authmode(&server->config,
                              pem.ca.size > 0 ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    if (pem.ca.size > 0) mbedtls_ssl_conf_ca_chain(&server->config, &server->ca, NULL);
    return mbedtls_ssl_conf_own_cert(&server->config, &server->cert, &server->key);
}

int tls_server_new(struct tls_server **out, const struct tls *tls) {
    struct tls_server *server = calloc(1, sizeof *server);
    if (server == NULL) return SK_ENOMEM;
    mbedtls_ssl_config_init(&server->config);
    mbedtls_x509_crt_init(&server->cert);
    mbedtls_x509_crt_init(&server->ca);
    mbedtls_pk_init(&server->key);
    mbedtls_entropy_init(&server->entropy);
    mbedtls_ctr_drbg_init(&server->random);
    if (configure(server, tls) != 0) {
        tls_server_free(server);
        return SK_ECONFIG;
    }
    *out = server;
    return SK_OK;
}

void tls_server_free(struct tls_server *server) {
    if (server == NULL) return;
    mbedtls_ssl_config_free(&server->config);
    mbedtls_x509_crt_free(&server->cert);
    mbedtls_x509_crt_free(&server->ca);
    mbedtls_pk_free(&server->key);
    mbedtls_ctr_drbg_free(&server->random);
    mbedtls_entropy_free(&server->entropy);
    free(server);
}

/* ---- channel ---- */

static int send_cb(void *arg, const unsigned char *bytes, size_t size) {
    struct tls_channel *channel = arg;
    buffer_append(channel->output, bytes, size);
    return channel->output->failed ? MBEDTLS_ERR_SSL_ALLOC_FAILED : (int)size;
}

static int receive_cb(void *arg, unsigned char *room, size_t size) {
    struct tls_channel *channel = arg;
    struct slice *input = &channel->input;
    if (input->size == 0) return MBEDTLS_ERR_SSL_WANT_READ;
    if (size > input->size) size = input->size;
    memcpy(room, input->data, size);
    *input = slice_of(input->data + size, input->size - size);
    return (int)size;
}

int tls_channel_new(struct tls_channel **out, struct tls_server *server) {
    struct tls_channel *channel = calloc(1, sizeof *channel);
    if (channel == NULL) return SK_ENOMEM;
    mbedtls_ssl_init(&channel->ssl);
    if (mbedtls_ssl_setup(&channel->ssl, &server->config) != 0) {
        tls_channel_free(channel);
        return SK_ENOMEM;
    }
    mbedtls_ssl_set_bio(&channel->ssl, channel, send_cb, receive_cb, NULL);
    *out = channel;
    return SK_OK;
}

void tls_channel_free(struct tls_channel *channel) {
    if (channel == NULL) return;
    mbedtls_ssl_free(&channel->ssl);
    free(channel);
}

bool tls_channel_open(const struct tls_channel *channel) { return channel->open; }

static int translate(int rv) {
    switch (rv) {
    case MBEDTLS_ERR_SSL_WANT_READ:
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return SK_OK;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return SK_ECLOSED;
    case MBEDTLS_ERR_SSL_ALLOC_FAILED:
        return SK_ENOMEM;
    default:
        return SK_EPROTO;
    }
}

static bool is_handshake_over(const struct tls_channel *channel) {
#if MBEDTLS_VERSION_MAJOR < 3
    return channel->ssl.state == MBEDTLS_SSL_HANDSHAKE_OVER;
#else
    return mbedtls_ssl_is_handshake_over((mbedtls_ssl_context *)(uintptr_t)&channel->ssl) != 0;
#endif
}

/* In steps: mbedtls_ssl_handshake is tls_guard's, which knows nng's connections. */
static int shake_hands(struct tls_channel *channel) {
    int rv = 0;
    while (rv == 0 && !is_handshake_over(channel)) rv = mbedtls_ssl_handshake_step(&channel->ssl);
    channel->open = rv == 0;
    return rv == 0 ? SK_OK : translate(rv);
}

/* Reads all that the input says. */
static int read_all(struct tls_channel *channel, struct buffer *plain) {
    for (;;) {
        uint8_t *room = buffer_extend(plain, PLAIN_CHUNK);
        if (room == NULL) return SK_ENOMEM;
        int rv = mbedtls_ssl_read(&channel->ssl, room, PLAIN_CHUNK);
        plain->size -= PLAIN_CHUNK - (rv > 0 ? (size_t)rv : 0);
        if (rv == 0) return SK_ECLOSED;
        if (rv < 0) return translate(rv);
    }
}

int tls_channel_receive(struct tls_channel *channel, struct slice bytes, struct buffer *plain,
                        struct buffer *out) {
    channel->input = bytes;
    channel->output = out;
    int err = SK_OK;
    if (!channel->open) err = shake_hands(channel);
    if (err == SK_OK && channel->open) err = read_all(channel, plain);
    channel->output = NULL;
    return err;
}

int tls_channel_send(struct tls_channel *channel, struct slice plain, struct buffer *out) {
    channel->output = out;
    int err = SK_OK;
    while (err == SK_OK && plain.size > 0) {
        int rv = mbedtls_ssl_write(&channel->ssl, plain.data, plain.size);
        if (rv <= 0) err = rv == MBEDTLS_ERR_SSL_ALLOC_FAILED ? SK_ENOMEM : SK_EPROTO;
        else plain = slice_of(plain.data + rv, plain.size - (size_t)rv);
    }
    channel->output = NULL;
    return err;
}
