/* How the servers of a metad group reach each other: libraft's transport on connections that have proved, before libraft
 * reads a byte, that their other end knows the group's secret and who it is (metad/handshake.h). So a server is found by its
 * id, whatever its address is now, and a stranger gets nowhere. On the thread of the loop, callbacks too; the process ignores
 * SIGPIPE. */
#pragma once

#include "libcommon/slice.h"
#include "libcommon/tls.h"
#include "metad/handshake.h"

#include <raft/uv.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRANSPORT_ADDRESS_BYTES 280u /* "host:port" with its zero */

/* Callers that have not been heard out; when another comes, the one that has been here longest is sent away. */
#define TRANSPORT_STRANGERS_MAX 64u

#define TRANSPORT_MS 2000u /* for a name to be looked up, a connection made and its two ends known */

struct transport;

/* Addresses are "host:port": a name, an IPv4 address, or an IPv6 address in brackets; the port a number. */
struct transport_options {
    uv_loop_t *loop;     /* borrowed until transport_free */
    struct slice secret; /* copied */
    const char *bind;    /* copied; port 0 = any */
    /* Copied. With it every connection is protected by TLS before anything is proved on it (metad/tls_link.h), with certificates on
     * both sides, and plain ones are refused; NULL: all are plain. */
    const struct tls *tls;
    uint32_t limit_ms; /* instead of TRANSPORT_MS; 0 = that */
    /* Of the callbacks. All must be there; the first three only answer and call nothing of the transport. */
    void *arg;
    /* What this server says of itself now. */
    void (*self_cb)(void *arg, struct handshake_server *self);
    /* Whether Raft's messages of that server are heard. */
    bool (*is_member_cb)(void *arg, uint64_t id);
    /* Where the Raft socket of a server is now; `name`: what libraft's configuration says of it. Empty = nobody knows. */
    void (*address_cb)(void *arg, uint64_t id, const char *name, char address[TRANSPORT_ADDRESS_BYTES]);
    /* A server has proved who it is, whichever side has called and whatever becomes of the connection. */
    void (*met_cb)(void *arg, const struct handshake_server *server);
};

/* `secret`: at least one byte. SK_ECONFIG (`bind` is no address), SK_ENOMEM, SK_EUNEXPECTED (no random numbers). Nothing is
 * bound yet. */
int transport_new(struct transport **transport, const struct transport_options *options);

/* For raft_uv_init: its listen binds and listens, its close ends all that is under way. If it cannot listen, RAFT_IOERR, and
 * its errmsg, which libraft 0.22 does not pass on, begins with "bind". Without libraft its close may be called by others, once,
 * listening or not; its callback comes when nothing of the transport is on the loop any more, maybe before close returns. */
struct raft_uv_transport *transport_raft(struct transport *transport);

/* SK_OK: `server` is who answers at the address. SK_ENET (nobody does, or not to the end), SK_ETIMEDOUT (not in TRANSPORT_MS),
 * SK_EPROTO (no metad, or one with another secret or another CA), SK_EVERSION, SK_CONFLICT (of another cluster), SK_ENOMEM, SK_ECLOSED (the
 * transport was closed meanwhile). `server` is borrowed, and NULL if nobody has proved who it is. */
typedef void (*transport_asked_cb)(void *arg, int err, const struct handshake_server *server);

/* Who is at that Raft socket? asked_cb always comes, and later, if this returns SK_OK; else SK_ENOMEM, or SK_ECLOSED from the
 * close of transport_raft on. */
int transport_ask(struct transport *transport, const char *address, transport_asked_cb asked_cb, void *arg);

/* After libraft has closed it, or without libraft ever having had it; the loop has then run until nothing of the transport was
 * left on it. NULL is allowed. */
void transport_free(struct transport *transport);
