/* What mbedtls hears from the socket is only that it has to wait: an end of the connection is noted beside that. So a
 * handshake which ends with its connection has not failed for mbedtls, and tls_guard tells the one from the other. */
#include "tls_session.h"

#include "error.h"
#include "tls_guard.h"

#include <errno.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/socket.h>

_Static_assert(TLS_SESSION_BYTES >= MBEDTLS_SSL_IN_CONTENT_LEN, "a record is read at once");

struct tls_context {
    mbedtls_x509_crt ca, cert;
    mbedtls_pk_context key;
    mbedtls_ssl_config calls, answers;
};

struct tls_session {
    mbedtls_ssl_context ssl;
    int fd;     /* borrowed */
    bool full;  /* since the last call */
    bool ended; /* the connection */
};

/* ---- what is shared ---- */

static int random_cb(void *arg, unsigned char *bytes, size_t size) {
    (void)arg;
    randombytes_buf(bytes, size);
    return 0;
}

static int parse_key(mbedtls_pk_context *key, struct slice pem) {
#if MBEDTLS_VERSION_MAJOR < 3
    return mbedtls_pk_parse_key(key, pem.data, pem.size, NULL, 0);
#else
    return mbedtls_pk_parse_key(key, pem.data, pem.size, NULL, 0, random_cb, NULL);
#endif
}

static int configure(struct tls_context *context, mbedtls_ssl_config *config, int endpoint) {
    int code =
        mbedtls_ssl_config_defaults(config, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
    if (code != 0) return code;
    mbedtls_ssl_conf_min_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_authmode(config, MBEDTLS_SSL_VERIFY_REQUIRED);
    mbedtls_ssl_conf_ca_chain(config, &context->ca, NULL);
    mbedtls_ssl_conf_rng(config, random_cb, NULL);
    return mbedtls_ssl_conf_own_cert(config, &context->cert, &context->key);
}

int tls_context_new(struct tls_context **out, const struct tls *tls) {
    if (sodium_init() < 0) return SK_EUNEXPECTED;
    struct tls_context *context = calloc(1, sizeof *context);
    if (context == NULL) return SK_ENOMEM;
    struct tls_pem pem = tls_pem(tls);
    mbedtls_x509_crt_init(&context->ca);
    mbedtls_x509_crt_init(&context->cert);
    mbedtls_pk_init(&context->key);
    mbedtls_ssl_config_init(&context->calls);
    mbedtls_ssl_config_init(&context->answers);
    int code = mbedtls_x509_crt_parse(&context->ca, pem.ca.data, pem.ca.size);
    if (code == 0) code = mbedtls_x509_crt_parse(&context->cert, pem.cert.data, pem.cert.size);
    if (code == 0) code = parse_key(&context->key, pem.key);
    if (code == 0) code = configure(context, &context->calls, MBEDTLS_SSL_IS_CLIENT);
    if (code == 0) code = configure(context, &context->answers, MBEDTLS_SSL_IS_SERVER);
    if (code != 0) { /* tls_read has parsed them all: memory */
        tls_context_free(context);
        return SK_ENOMEM;
    }
    *out = context;
    return SK_OK;
}

void tls_context_free(struct tls_context *context) {
    if (context == NULL) return;
    mbedtls_ssl_config_free(&context->answers);
    mbedtls_ssl_config_free(&context->calls);
    mbedtls_pk_free(&context->key);
    mbedtls_x509_crt_free(&context->cert);
    mbedtls_x509_crt_free(&context->ca);
    free(context);
}

/* ---- the socket ---- */

static int send_cb(void *arg, const unsigned char *bytes, size_t size) {
    struct tls_session *session = arg;
    ssize_t sent = send(session->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return (int)sent;
    session->full = errno == EAGAIN || errno == EINTR;
    session->ended = !session->full;
    return MBEDTLS_ERR_SSL_WANT_WRITE;
}

static int receive_cb(void *arg, unsigned char *room, size_t size) {
    struct tls_session *session = arg;
    ssize_t received = recv(session->fd, room, size, MSG_DONTWAIT);
    if (received > 0) return (int)received;
    session->ended = received == 0 || (errno != EAGAIN && errno != EINTR);
    return MBEDTLS_ERR_SSL_WANT_READ;
}

static int err_of(const struct tls_session *session, int code) {
    switch (code) {
    case MBEDTLS_ERR_SSL_WANT_READ:
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return session->ended ? SK_ENET : SK_RETRY;
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
        return SK_ENET;
    default:
        return SK_EPROTO;
    }
}

/* ---- the life of a session ---- */

int tls_session_new(struct tls_session **out, const struct tls_context *context, int fd, const char *server) {
    struct tls_session *session = calloc(1, sizeof *session);
    if (session == NULL) return SK_ENOMEM;
    session->fd = fd;
    mbedtls_ssl_init(&session->ssl);
    int code = mbedtls_ssl_setup(&session->ssl, server != NULL ? &context->calls : &context->answers);
    if (code == 0 && server != NULL) code = mbedtls_ssl_set_hostname(&session->ssl, server);
    if (code != 0) {
        tls_session_free(session, false);
        return code == MBEDTLS_ERR_SSL_BAD_INPUT_DATA ? SK_ECONFIG : SK_ENOMEM;
    }
    mbedtls_ssl_set_bio(&session->ssl, session, send_cb, receive_cb, NULL);
    tls_guard_on_socket(&session->ssl, fd);
    *out = session;
    return SK_OK;
}

int tls_session_handshake(struct tls_session *session) {
    session->full = false;
    int code = mbedtls_ssl_handshake(&session->ssl);
    return code == 0 ? SK_OK : err_of(session, code);
}

int tls_session_read(struct tls_session *session, uint8_t room[TLS_SESSION_BYTES], size_t *size) {
    session->full = false;
    int code = mbedtls_ssl_read(&session->ssl, room, TLS_SESSION_BYTES);
    if (code == 0) return SK_ENET;
    if (code < 0) return err_of(session, code);
    *size = (size_t)code;
    return SK_OK;
}

int tls_session_write(struct tls_session *session, struct slice bytes, size_t *taken) {
    session->full = false;
    int code = mbedtls_ssl_write(&session->ssl, bytes.data, bytes.size);
    if (code < 0) return err_of(session, code);
    *taken = (size_t)code;
    return SK_OK;
}

bool tls_session_is_full(const struct tls_session *session) { return session->full; }

void tls_session_finish(struct tls_session *session) { (void)mbedtls_ssl_close_notify(&session->ssl); }

void tls_session_free(struct tls_session *session, bool late) {
    if (session == NULL) return;
    if (late) tls_guard_on_late(&session->ssl);
    mbedtls_ssl_free(&session->ssl);
    free(session);
}
