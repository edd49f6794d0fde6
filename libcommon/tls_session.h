/* TLS (1.2, mbedtls) on a socket that its owner polls: for connections that are not nng's, with certificates on both sides as
 * between daemons (cluster_net.h). No loop, no thread, no clock of its own; each call does what can be done without waiting. A
 * session belongs to one thread, a context to those of its sessions.
 *
 * Handshakes are counted with nng's, and those that fail are told (tls_guard.h). */
#pragma once

#include "slice.h"
#include "tls.h"

#include <stdbool.h>
#include <stddef.h>

/* Of one read, at least: then nothing that has come is kept within the session, and the socket's readiness says all. */
#define TLS_SESSION_BYTES 16384u

struct tls_context;
struct tls_session;

/* What sessions share. `tls` has all three files, and is not needed afterwards. SK_ENOMEM, SK_EUNEXPECTED (no random numbers). */
int tls_context_new(struct tls_context **context, const struct tls *tls);
void tls_context_free(struct tls_context *context); /* NULL is allowed */

/* On a connected socket that does not block; both are borrowed until tls_session_free. `server`: the host that was called, which
 * the other's certificate must be for; NULL on the side that was called. SK_ENOMEM; SK_ECONFIG: a name too long for TLS. */
int tls_session_new(struct tls_session **session, const struct tls_context *context, int fd, const char *server);

/* The next steps. SK_OK: each side knows the other. SK_RETRY: when the socket can be written to (tls_session_is_full) or has
 * something to read. SK_EPROTO: one side refuses the other, or what comes is no TLS. SK_ENET: the connection has ended. After
 * these two, nothing but tls_session_free. */
int tls_session_handshake(struct tls_session *session);

/* After the handshake. SK_OK: `size` > 0 bytes were read. SK_RETRY. SK_ENET: the connection has ended, with or without a word.
 * SK_EPROTO: what comes is not what was sent. */
int tls_session_read(struct tls_session *session, uint8_t room[TLS_SESSION_BYTES], size_t *size);

/* Of `bytes`, at least one, `taken` > 0 have gone. SK_RETRY: when the socket can be written to, with the same bytes. SK_ENET. */
int tls_session_write(struct tls_session *session, struct slice bytes, size_t *taken);

/* Whether the last call stopped because the socket takes no more. */
bool tls_session_is_full(const struct tls_session *session);

/* Says that nothing more will come, if the socket takes that at once. */
void tls_session_finish(struct tls_session *session);

/* `late`: a handshake under way is ended because it took too long. NULL is allowed. */
void tls_session_free(struct tls_session *session, bool late);
