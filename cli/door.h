/* How this run of `skerry` comes in at the gateway: the token that it shows, and TLS. Set once, from its options, before it
 * connects; then only read. */
#pragma once

#include "libcommon/slice.h"
#include "libcommon/tls.h"

struct door_settings {
    const char *token_file; /* NULL or "": none */
    struct tls_files
        files; /* the CA of the gateway's certificate; the own certificate, where the gateway wants one */
};

/* Reads the files. SK_ECONFIG, SK_ENOMEM: `text` is one line. */
int door_use(const struct door_settings *settings, char *text, size_t text_bytes);
void door_end(void);

/* A dialer, not started. NNG codes. */
int door_dialer(nng_dialer *dialer, nng_socket socket, const char *url);

/* What goes into each request as the option `token`; empty: none. */
struct slice door_token(void);
