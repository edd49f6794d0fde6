/* TLS as nng has it (1.2, mbedtls): configurations out of files, and dialers and listeners that use them. What is in the files
 * is read and checked once; a process takes up new ones when it starts again. Any thread.
 *
 * A client checks that the server's certificate was signed by the CA and is for the host in the address. mbedtls 2.28 compares that
 * with the DNS entries of subjectAltName (with the CN if there is no subjectAltName) and does not know IP entries: who is
 * reached at 10.0.0.1 needs a DNS entry "10.0.0.1". nng takes the name from the URL only for a configuration of its own, so
 * each dialer gets one here. */
#pragma once

#include "slice.h"

#include <nng/nng.h>
#include <stdbool.h>
#include <stddef.h>

struct tls;

struct tls_files { /* paths of PEM files; NULL or "": none */
    const char *ca;
    const char *cert; /* and what lies between it and the CA */
    const char *key;  /* of the first certificate; not encrypted */
};

/* Cert and key go together; `flags` is what the flags begin with ("--tls": --tls-ca, --tls-cert, --tls-key). SK_ECONFIG: `text`
 * says which of them is wrong with which file. SK_ENOMEM. */
int tls_read(struct tls **tls, const struct tls_files *files, const char *flags, char *text, size_t text_bytes);
void tls_free(struct tls *tls); /* NULL is allowed */

/* What was read, for connections that are not nng's (tls_session.h): PEM with a zero at the end; empty: none. Borrowed. */
struct tls_pem {
    struct slice ca, cert, key;
};
struct tls_pem tls_pem(const struct tls *tls);

/* Whether the URL is of TLS, "tls+tcp://…". */
bool tls_is_url(const char *url);

/* A dialer, not started, to a URL of TLS. Shows the certificate, if there is one, and trusts the CA only. NNG codes. */
int tls_dialer(nng_dialer *dialer, nng_socket socket, const char *url, const struct tls *tls);

/* A listener, not started, at a URL of TLS. With a CA, clients must show a certificate signed by it. NNG codes. */
int tls_listener(nng_listener *listener, nng_socket socket, const char *url, const struct tls *tls);
