/* The server's end of TLS from bytes to bytes, for sockets that somebody else reads and writes (libuv). By the files that nng's
 * listeners take (libcommon/tls.h), with the same library, mbedtls, and the same rules. One thread at a time for a server and all of its
 * sessions. */
#pragma once

#include "buffer.h"

struct tls;
struct tls_server;
struct tls_channel;

/* `tls` has a certificate. SK_ENOMEM; SK_ECONFIG: mbedtls does not take what is in the files. */
int tls_server_new(struct tls_server **server, const struct tls *tls);
void tls_server_free(struct tls_server *server); /* no session is left; NULL is allowed */

int tls_channel_new(struct tls_channel **channel, struct tls_server *server); /* SK_ENOMEM */
void tls_channel_free(struct tls_channel *channel);                           /* NULL is allowed */

/* Bytes came. Appends what they say to `plain`, and to `out` what must be sent for it. SK_OK; SK_ECLOSED: the client has ended
 * the session; SK_EPROTO: it is no TLS, or not of a client that is let in (what is in `out` may tell it so); SK_ENOMEM. */
int tls_channel_receive(struct tls_channel *channel, struct slice bytes, struct buffer *plain, struct buffer *out);

/* Whether the handshake is done; before nothing may be sent. */
bool tls_channel_open(const struct tls_channel *channel);

/* Appends to `out` what says `plain`. SK_OK, SK_EPROTO, SK_ENOMEM. */
int tls_channel_send(struct tls_channel *channel, struct slice plain, struct buffer *out);
