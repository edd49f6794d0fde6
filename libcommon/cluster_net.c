#include "cluster_net.h"

#include "error.h"
#include "exposure.h"

#include <stdio.h>
#include <string.h>

#define URL_BYTES 512u

static struct tls *identity; /* owned; NULL: none. Written before there are threads, and after */

static bool is_given(const char *path) { return path != NULL && path[0] != '\0'; }

int cluster_net_use(const struct cluster_net_settings *settings, char *text, size_t text_bytes) {
    const struct tls_files *files = &settings->files;
    int given = is_given(files->ca) + is_given(files->cert) + is_given(files->key);
    if (given == 0) return SK_OK;
    if (given != 3) {
        (void)snprintf(text, text_bytes, "--tls-ca, --tls-cert and --tls-key go together");
        return SK_ECONFIG;
    }
    return tls_read(&identity, files, "--tls", text, text_bytes);
}

int cluster_net_check(const struct cluster_net_settings *settings, const char *flag, const char *address,
                      char *text, size_t text_bytes) {
    if (identity != NULL || settings->insecure || exposure_is_local(address)) return SK_OK;
    (void)snprintf(
        text, text_bytes,
        "%s: other hosts can reach '%s': give --tls-ca, --tls-cert and --tls-key, listen on 127.0.0.1, or "
        "allow it with --insecure",
        flag, address);
    return SK_ECONFIG;
}

void cluster_net_end(void) {
    tls_free(identity);
    identity = NULL;
}

const struct tls *cluster_net_identity(void) { return identity; }

/* What nng has for addresses within this machine. */
static bool stays_here(const char *address) {
    return strncmp(address, "ipc://", 6) == 0 || strncmp(address, "inproc://", 9) == 0;
}

/* The URL behind an address. With an identity there is none for what would go to other hosts without TLS, such as ws://. */
static int url_of(const char *address, char url[URL_BYTES]) {
    if (tls_is_url(address)) return NNG_EADDRINVAL;
    bool secured = identity != NULL && strncmp(address, "tcp", 3) == 0;
    if (identity != NULL && !secured && !stays_here(address)) return NNG_EADDRINVAL;
    int size = snprintf(url, URL_BYTES, "%s%s", secured ? "tls+" : "", address);
    return size < 0 || (size_t)size >= URL_BYTES ? NNG_EADDRINVAL : 0;
}

int cluster_net_dialer(nng_dialer *dialer, nng_socket socket, const char *address) {
    char url[URL_BYTES];
    int rv = url_of(address, url);
    if (rv != 0) return rv;
    return tls_is_url(url) ? tls_dialer(dialer, socket, url, identity) : nng_dialer_create(dialer, socket, url);
}

int cluster_net_listen(nng_socket socket, const char *address, nng_listener *listener) {
    char url[URL_BYTES];
    nng_listener made;
    int rv = url_of(address, url);
    if (rv != 0) return rv;
    rv = tls_is_url(url) ? tls_listener(&made, socket, url, identity) : nng_listener_create(&made, socket, url);
    if (rv != 0) return rv;
    rv = nng_listener_start(made, 0);
    if (rv != 0) {
        (void)nng_listener_close(made);
    } else if (listener != NULL) {
        *listener = made;
    }
    return rv;
}
