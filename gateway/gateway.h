/* The gateway: owns the client door, the answers' door, a connection to each shardd, the requests and the one loop
 * thread that touches them all. nng's threads and the member's post to its mailbox; the loop takes all mail at
 * once, so batches grow by themselves under load. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gateway;
struct tls;
struct tokens;

struct gateway_options {
    const char *listen;           /* nng URL for clients */
    const struct tls *client_tls; /* if that is of TLS; with a certificate, resp_listen is. Borrowed until free */
    const struct tokens *tokens;  /* clients show one of them; NULL: they need not. Borrowed until free */
    const char *resp_listen;      /* for clients of the Redis protocol (door_resp.h); NULL or "none": none */
    const char *frames_listen;    /* for the answers of shardds (cluster_net.h) */
    const char *http_listen;      /* see libcommon/http.h, with client_tls for https; NULL: none */
    const char *http_closed;      /* why clients are not served there, but pages are; NULL: they are */
    const char *http_hosts;       /* names of this host for its HTTP door (http_fields.h); NULL: none */
    bool http_certificates;       /* clients of that door show a certificate */
    uint64_t http_connections_max;
    uint64_t http_connections_of_one_max; /* of one address */
    const char *metad, *metad_publish;
    const char *
        advertise; /* host name, or a whole nng URL, by which shardds reach frames_listen; NULL: the host's name */
    uint64_t connections_max;   /* of clients */
    uint64_t message_bytes_max; /* of what a client sends */
    uint64_t requests_max;      /* of each door */
    uint64_t connection_requests_max;
    uint64_t connection_bytes_max;
    uint64_t bytes_max;
    uint64_t timeout_ms; /* of requests that do not say one */
};

/* Opens the doors and starts asking metad for the map. The options' texts are borrowed until free. SK_ENOMEM;
 * SK_ECONFIG and SK_EUNEXPECTED, with the reason in `text` of `text_bytes`. */
int gateway_open(struct gateway **gateway, const struct gateway_options *options, char *text, size_t text_bytes);

/* Where it listens for clients, and for answers: with the ports that the system chose for 0. */
const char *gateway_address(const struct gateway *gateway);
const char *gateway_resp_address(const struct gateway *gateway); /* "none": there is none */
const char *gateway_return_address(const struct gateway *gateway);

/* The loop, on the calling thread, until gateway_stop or until metad has refused this process. Then new requests
 * are answered UNAVAILABLE and those in flight get up to 5 s. Returns the exit code: 0, or 2 with the reason in
 * the log. */
int gateway_run(struct gateway *gateway);

/* Any thread, not a signal handler. */
void gateway_stop(struct gateway *gateway);

/* After gateway_run. */
void gateway_free(struct gateway *gateway);
