/* The sockets between the daemons of a cluster, and from `skerry` to metad: who dials or listens there does it by these
 * functions, so that what protects them is decided in one place. A process belongs to one cluster and has one identity in it:
 * it is set once, before the first socket, and then only read.
 *
 * Addresses are "tcp://host:port" everywhere: in flags, in the map, in answers of metad. With an identity each of them means
 * TLS on that port with certificates on both sides, and nothing else is dialled or accepted there; so daemons with and
 * without one refuse each other. Other transports (inproc, ipc) stay within this host and are used as they are. */
#pragma once

#include "config.h"
#include "tls.h"

struct cluster_net_settings {
    struct tls_files files; /* all three, or none */
    bool insecure;          /* listen for others than this host without an identity */
};

/* For the table of a daemon's options. */
#define CLUSTER_NET_OPTIONS(settings)                                                                             \
    {.name = "tls-ca",                                                                                            \
     .type = CONFIG_TEXT,                                                                                         \
     .target = &(settings)->files.ca,                                                                             \
     .fallback = "",                                                                                              \
     .help = "file (PEM) with the CA that signed the certificates of the cluster's daemons"},                     \
        {.name = "tls-cert",                                                                                      \
         .type = CONFIG_TEXT,                                                                                     \
         .target = &(settings)->files.cert,                                                                       \
         .fallback = "",                                                                                          \
         .help =                                                                                                  \
             "file with this daemon's certificate, shown to other daemons; with tls-ca and tls-key TLS is used "  \
             "between them"},                                                                                     \
        {.name = "tls-key",                                                                                       \
         .type = CONFIG_TEXT,                                                                                     \
         .target = &(settings)->files.key,                                                                        \
         .fallback = "",                                                                                          \
         .help = "file with the key of tls-cert"},                                                                \
    {                                                                                                             \
        .name = "insecure", .type = CONFIG_SWITCH, .target = &(settings)->insecure, .fallback = "false",          \
        .help =                                                                                                   \
            "listen for other hosts without TLS or a token: whoever reaches the ports can read and change all"    \
    }

/* Once. Reads the identity, if there is one. SK_ECONFIG, SK_ENOMEM: `text` is one line. */
int cluster_net_use(const struct cluster_net_settings *settings, char *text, size_t text_bytes);

/* Whether this daemon may listen at `address`, the value of `flag`: it is local, or there is an identity, or nobody minds. SK_OK,
 * or SK_ECONFIG with `text`. */
int cluster_net_check(const struct cluster_net_settings *settings, const char *flag, const char *address,
                      char *text, size_t text_bytes);

/* The daemon has ended: forgets the identity. No socket of these may be open. */
void cluster_net_end(void);

/* For connections that are not nng's (metad/transport.h). NULL: none, they are plain. Until cluster_net_end. */
const struct tls *cluster_net_identity(void);

/* A dialer, not started. NNG codes; NNG_EADDRINVAL also for "tls+tcp://". */
int cluster_net_dialer(nng_dialer *dialer, nng_socket socket, const char *address);

/* Listens. `listener` may be NULL. NNG codes as above. */
int cluster_net_listen(nng_socket socket, const char *address, nng_listener *listener);
