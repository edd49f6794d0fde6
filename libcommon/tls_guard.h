/* A way around two defects of nng 1.5.2's TLS (src/supplemental/tls/tls_common.c), and what nng does not tell about handshakes:
 * how many have failed, why, and with whom. Linked into every program like nng_guard, beside which it works; nothing needs to be
 * called.
 *
 * The first: a handshake that stands still is never ended. The transport gives it ten seconds, but it cancels what waits to
 * be sent, and while a handshake waits for the peer there is no such operation below. So each peer that connects and
 * says nothing, or half of it, keeps a descriptor and memory for ever, and a dialer whose server stands still waits for
 * ever. Here each handshake has TLS_GUARD_HANDSHAKE_MS, and is then aborted as one that has timed out.
 *
 * The second makes a listener deaf for ever, and a dialer stop: for nng an accept that ends with NNG_ECLOSED was ended by
 * its owner. But TLS closes the TCP connection below it when something is wrong, so that what goes on there ends with
 * NNG_ECLOSED; if the transport has asked for the peer's greeting meanwhile, that is what it gets. A peer causes this by
 * resetting its connection just behind the handshake. So the operations below are aborted as reset before the connection
 * is closed, and what nng_guard ends is ended so as well.
 *
 * Each failure is one of the log's events, one a second of each kind:
 *   tls_refused    no certificate, one that the CA has not signed or that is for another name, or something that is no TLS; or the
 *                  peer has refused ours
 *   tls_timed_out  it stood still
 *   tls_broken     the connection ended within the handshake: the peer does not speak TLS, or has gone
 *
 * nng calls mbedtls through the dynamic linker, which finds ours first. With any other version of nng than the one whose
 * source this follows they only pass on, and nothing is counted. */
#pragma once

#include <nng/nng.h>
#include <stdint.h>

struct mbedtls_ssl_context;

#define TLS_GUARD_HANDSHAKE_MS 10000u

struct tls_guard_counts {
    uint64_t done; /* handshakes that succeeded */
    uint64_t refused, timed_out, broken;
};

/* Of connections that others made to this process, and that it made. Any thread. */
struct tls_guard_counts tls_guard_accepted(void);
struct tls_guard_counts tls_guard_dialled(void);

/* Handshakes of others with this process that failed, however. Any thread. */
uint64_t tls_guard_refused(void);

/* For tests: another time for handshakes that begin from now on. */
void tls_guard_limit(uint32_t handshake_ms);

/* For nng_guard: an operation is about to begin on the stream. */
void tls_guard_on_receive(nng_stream *stream, nng_aio *aio);
void tls_guard_on_send(nng_stream *stream, nng_aio *aio);

/* For tls_session, whose handshakes are counted and told with nng's, and whose owners end them in time: before its first step,
 * by which socket its peer is known. */
void tls_guard_on_socket(const struct mbedtls_ssl_context *ssl, int fd);
/* Its handshake stands still, and is about to be ended for that. */
void tls_guard_on_late(const struct mbedtls_ssl_context *ssl);
