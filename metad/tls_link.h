/* TLS under a stream of libuv: a link stands between a socket, on which it speaks TLS (libcommon/tls_session.h), and one end of
 * a pair of local sockets, whose other end is a uv_stream_t like that of any connection. Both sides show a certificate. On the
 * thread of the loop, callbacks too.
 *
 * What goes through is kept within the link by at most a record in each direction; beyond that a slow reader stops its
 * writer, as over TCP. A link ends with either of its ends: when the stream is closed, what was written to it is still sent, for
 * TLS_LINK_LINGER_MS at most; when the other side goes, what it had sent can still be read, and then the stream is at its end.
 * Handshakes with those who call leave most of the loop's time to others. */
#pragma once

#include "libcommon/tls.h"

#include <uv.h>

#define TLS_LINK_LINGER_MS 2000u

struct tls_links; /* all of one owner's */
struct tls_link;

/* `loop` is borrowed. Of `tls`, which has all three files, a copy is made. SK_ENOMEM, SK_EUNEXPECTED (no random numbers). */
int tls_links_new(struct tls_links **links, uv_loop_t *loop, const struct tls *tls);

/* Once, never from within tls_link_begin. SK_OK: the two sides know each other, and `stream`, without data, now belongs to who is
 * called: closed by uv_close, and freed by raft_free. SK_EPROTO: one of them refuses the other, or the other speaks no TLS. SK_ENET: the
 * connection has ended. SK_ENOMEM. Only SK_OK leaves a link behind, which goes on alone. It may call anything here. */
typedef void (*tls_link_up_cb)(void *arg, int err, uv_stream_t *stream);

/* On a connected socket that does not block; `fd` is taken, whatever comes of this. `server`: the host that was called; NULL on the side that was. How
 * long the handshake may take is for the caller to say, by tls_link_cancel. SK_ENOMEM, SK_ENET; SK_ECLOSED after
 * tls_links_close. */
int tls_link_begin(struct tls_link **link, struct tls_links *links, int fd, const char *server,
                   tls_link_up_cb up_cb, void *arg);

/* Before up_cb, which then does not come. `late`: because it took too long. */
void tls_link_cancel(struct tls_link *link, bool late);

/* Ends all links as they are; up_cb does not come. closed_cb comes, maybe before this returns, when none is left on the loop. */
void tls_links_close(struct tls_links *links, void (*closed_cb)(void *arg), void *arg);

/* When no link is left on the loop. NULL is allowed. */
void tls_links_free(struct tls_links *links);
