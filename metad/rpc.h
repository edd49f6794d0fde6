/* metad's sockets: REP for requests, PUB for the versions of the map. This file alone includes nng.
 *
 * A request's way: an nng thread receives it into a context, decodes it, posts the call to a mailbox and wakes the
 * loop; the loop takes all calls (rpc_take), and answers each, at once or later; the answer goes out on the
 * context, whose completion receives again. So there are at most RPC_CALLS requests in here, and clients beyond
 * that wait in nng. */
#pragma once

#include "metad/request.h"

#include <stddef.h>

#define RPC_CALLS             128u
#define RPC_REQUEST_BYTES_MAX ((size_t)1024 * 1024)
#define RPC_SEND_TIMEOUT_MS   500 /* a client that takes its answer no sooner loses its connection */

struct rpc;

/* One request, from rpc_take until it is answered; on the loop's thread. */
struct rpc_call;

struct rpc_options {
    const char *listen; /* of cluster_net.h */
    const char *publish;
    void *arg;
    void (*wake_cb)(void *arg); /* nng threads: calls have arrived. Not before rpc_start. */
    void (*call_cb)(void *arg, struct rpc_call *call, const struct request *request); /* from rpc_take */
};

/* Opens and binds the sockets; nothing is received yet. On failure `text` is one line: SK_ENET (the address is
 * taken or not here), SK_ECONFIG (not an address), SK_ENOMEM. */
int rpc_open(struct rpc **rpc, const struct rpc_options *options, char *text, size_t text_bytes);

/* Begins to receive. */
void rpc_start(struct rpc *rpc);

/* The loop, after wake_cb: call_cb for each request that has come. Malformed ones are refused here. */
void rpc_take(struct rpc *rpc);

/* Answers with one encoded value; copied. Ends the call. */
void rpc_answer(struct rpc_call *call, struct slice result);

/* Answers with an error; `text` NULL = the code's own. Ends the call. */
void rpc_refuse(struct rpc_call *call, int err, const char *text);

/* Tells subscribers that the map has this version. May be lost on the way. */
void rpc_publish(struct rpc *rpc, uint64_t version);

/* Stops receiving, lets answers under way leave (for RPC_SEND_TIMEOUT_MS at most) and closes. Calls not answered
 * are dropped: their pointers are dead. NULL is allowed. */
void rpc_close(struct rpc *rpc);
