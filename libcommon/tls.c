#include "tls.h"

#include "buffer.h"
#include "error.h"

#include <errno.h>
#include <mbedtls/pk.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <nng/supplemental/tls/tls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEM_BYTES_MAX 1048576u

struct tls {
    struct buffer ca, cert, key; /* PEM with a zero at the end; empty: none */
};

bool tls_is_url(const char *url) { return strncmp(url, "tls+", 4) == 0; }

/* ---- files ---- */

struct reading {
    const char *flags;
    char *text;
    size_t text_bytes;
};

static int complain(const struct reading *reading, const char *flag, const char *path, const char *what) {
    (void)snprintf(reading->text, reading->text_bytes, "%s-%s: %s: %s", reading->flags, flag, path, what);
    return SK_ECONFIG;
}

static int read_pem(const struct reading *reading, const char *flag, const char *path, struct buffer *pem) {
    if (path == NULL || path[0] == '\0') return SK_OK;
    FILE *file = fopen(path, "re");
    if (file == NULL) return complain(reading, flag, path, strerror(errno));
    uint8_t chunk[4096];
    size_t size;
    while (pem->size <= PEM_BYTES_MAX && (size = fread(chunk, 1, sizeof chunk, file)) > 0) {
        buffer_append(pem, chunk, size);
    }
    bool failed = ferror(file) != 0;
    int number = errno;
    (void)fclose(file);
    if (failed) return complain(reading, flag, path, strerror(number));
    if (pem->size > PEM_BYTES_MAX || memchr(pem->data == NULL ? chunk : pem->data, 0, pem->size) != NULL) {
        return complain(reading, flag, path, "not PEM");
    }
    buffer_append(pem, "", 1);
    if (!pem->failed) return SK_OK;
    (void)snprintf(reading->text, reading->text_bytes, "%s", error_text(SK_ENOMEM));
    return SK_ENOMEM;
}

static bool pair_fits(const mbedtls_pk_context *certified, const mbedtls_pk_context *key) {
#if MBEDTLS_VERSION_MAJOR < 3
    return mbedtls_pk_check_pair(certified, key) == 0;
#else
    (void)certified, (void)key;
    return true;
#endif
}

static int parse_key(mbedtls_pk_context *key, struct slice pem) {
#if MBEDTLS_VERSION_MAJOR < 3
    return mbedtls_pk_parse_key(key, pem.data, pem.size, NULL, 0);
#else
    (void)key, (void)pem;
    return 0;
#endif
}

/* nng would take a key of another certificate, and then no handshake would succeed. */
static int check_pair(const struct reading *reading, const struct tls *tls, const struct tls_files *files) {
    mbedtls_x509_crt cert;
    mbedtls_pk_context key;
    mbedtls_x509_crt_init(&cert);
    mbedtls_pk_init(&key);
    int err = SK_OK;
    if (mbedtls_x509_crt_parse(&cert, tls->cert.data, tls->cert.size) != 0) {
        err = complain(reading, "cert", files->cert, "no certificate, or a damaged one");
    } else if (parse_key(&key, buffer_slice(&tls->key)) != 0) {
        err = complain(reading, "key", files->key, "no private key, or an encrypted or damaged one");
    } else if (!pair_fits(&cert.pk, &key)) {
        err = complain(reading, "key", files->key, "not the key of the certificate");
    } else if (mbedtls_x509_time_is_past(&cert.valid_to)) {
        err = complain(reading, "cert", files->cert, "the certificate has expired");
    }
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&cert);
    return err;
}

static int check_ca(const struct reading *reading, const struct tls *tls, const struct tls_files *files) {
    mbedtls_x509_crt ca;
    mbedtls_x509_crt_init(&ca);
    bool good = mbedtls_x509_crt_parse(&ca, tls->ca.data, tls->ca.size) == 0;
    mbedtls_x509_crt_free(&ca);
    return good ? SK_OK : complain(reading, "ca", files->ca, "no certificate, or a damaged one");
}

int tls_read(struct tls **tls, const struct tls_files *files, const char *flags, char *text, size_t text_bytes) {
    const struct reading reading = {.flags = flags, .text = text, .text_bytes = text_bytes};
    struct tls *made = calloc(1, sizeof *made);
    if (made == NULL) {
        (void)snprintf(text, text_bytes, "%s", error_text(SK_ENOMEM));
        return SK_ENOMEM;
    }
    int err = read_pem(&reading, "ca", files->ca, &made->ca);
    if (err == SK_OK) err = read_pem(&reading, "cert", files->cert, &made->cert);
    if (err == SK_OK) err = read_pem(&reading, "key", files->key, &made->key);
    if (err == SK_OK && (made->cert.size == 0) != (made->key.size == 0)) {
        (void)snprintf(text, text_bytes, "%s-cert and %s-key go together", flags, flags);
        err = SK_ECONFIG;
    }
    if (err == SK_OK && made->ca.size > 0) err = check_ca(&reading, made, files);
    if (err == SK_OK && made->cert.size > 0) err = check_pair(&reading, made, files);
    if (err != SK_OK) {
        tls_free(made);
        return err;
    }
    *tls = made;
    return SK_OK;
}

void tls_free(struct tls *tls) {
    if (tls == NULL) return;
    if (tls->key.data != NULL) explicit_bzero(tls->key.data, tls->key.capacity);
    buffer_deinit(&tls->ca);
    buffer_deinit(&tls->cert);
    buffer_deinit(&tls->key);
    free(tls);
}

struct tls_pem tls_pem(const struct tls *tls) {
    return (struct tls_pem){
        .ca = buffer_slice(&tls->ca), .cert = buffer_slice(&tls->cert), .key = buffer_slice(&tls->key)};
}

/* ---- nng ---- */

/* What both sides have; the caller frees it. */
static int make_config(nng_tls_config **config, nng_tls_mode mode, const struct tls *tls) {
    nng_tls_config *made;
    int rv = nng_tls_config_alloc(&made, mode);
    if (rv != 0) return rv;
    bool checks = mode == NNG_TLS_MODE_CLIENT || tls->ca.size > 0;
    rv = nng_tls_config_auth_mode(made, checks ? NNG_TLS_AUTH_MODE_REQUIRED : NNG_TLS_AUTH_MODE_NONE);
    if (rv == 0 && tls->ca.size > 0) rv = nng_tls_config_ca_chain(made, (const char *)tls->ca.data, NULL);
    if (rv == 0 && tls->cert.size > 0) {
        rv = nng_tls_config_own_cert(made, (const char *)tls->cert.data, (const char *)tls->key.data, NULL);
    }
    if (rv == 0) {
        *config = made;
    } else {
        nng_tls_config_free(made);
    }
    return rv;
}

/* The host of the URL: without it mbedtls would take the certificate of any server. */
static int set_server_name(nng_tls_config *config, const char *address) {
    nng_url *url;
    int rv = nng_url_parse(&url, address);
    if (rv != 0) return rv;
    rv = url->u_hostname == NULL || url->u_hostname[0] == '\0'
             ? NNG_EADDRINVAL
             : nng_tls_config_server_name(config, url->u_hostname);
    nng_url_free(url);
    return rv;
}

int tls_dialer(nng_dialer *dialer, nng_socket socket, const char *url, const struct tls *tls) {
    nng_tls_config *config;
    int rv = make_config(&config, NNG_TLS_MODE_CLIENT, tls);
    if (rv != 0) return rv;
    nng_dialer made;
    rv = set_server_name(config, url);
    if (rv == 0) rv = nng_dialer_create(&made, socket, url);
    if (rv == 0) {
        rv = nng_dialer_set_ptr(made, NNG_OPT_TLS_CONFIG, config);
        if (rv == 0) {
            *dialer = made;
        } else {
            (void)nng_dialer_close(made);
        }
    }
    nng_tls_config_free(config); /* the dialer holds it */
    return rv;
}

int tls_listener(nng_listener *listener, nng_socket socket, const char *url, const struct tls *tls) {
    nng_tls_config *config;
    int rv = make_config(&config, NNG_TLS_MODE_SERVER, tls);
    if (rv != 0) return rv;
    nng_listener made;
    rv = nng_listener_create(&made, socket, url);
    if (rv == 0) {
        rv = nng_listener_set_ptr(made, NNG_OPT_TLS_CONFIG, config);
        if (rv == 0) {
            *listener = made;
        } else {
            (void)nng_listener_close(made);
        }
    }
    nng_tls_config_free(config);
    return rv;
}
