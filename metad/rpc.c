#include "metad/rpc.h"

#include "libcommon/check.h"
#include "libcommon/cluster_net.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/mailbox.h"
#include "libcommon/mp.h"

#include <nng/nng.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Who has a call: nng (RECEIVING, SENDING) or the loop (QUEUED, from the post on). Only the owner moves it on.
 *
 *   RECEIVING -> QUEUED -> SENDING -> RECEIVING …
 */
enum call_state { CALL_IDLE, CALL_RECEIVING, CALL_QUEUED, CALL_SENDING };

struct rpc_call {
    struct mail mail; /* first: the mailbox hands out its address */
    struct rpc *rpc;
    nng_ctx context;
    nng_aio *aio;
    nng_msg *message; /* owned while QUEUED: the request's slices point into it */
    nng_pipe pipe;    /* it came from there */
    struct request request;
    int err; /* of request_decode */
    char text[REQUEST_TEXT_BYTES];
    _Atomic int state;
};

struct rpc {
    struct rpc_options options; /* the addresses are not used after rpc_open */
    nng_socket rep;
    nng_socket pub;
    struct mailbox *mailbox;
    atomic_bool closing;
    struct rpc_call calls[RPC_CALLS];
};

_Static_assert(offsetof(struct rpc_call, mail) == 0, "rpc_take casts");

static void receive(struct rpc_call *call) {
    atomic_store(&call->state, CALL_RECEIVING);
    /* In this order: rpc_close sets `closing` first and looks at the state then, so one of us sees the other. */
    if (atomic_load(&call->rpc->closing)) return;
    nng_aio_set_timeout(call->aio, NNG_DURATION_INFINITE);
    nng_ctx_recv(call->context, call->aio);
}

static void on_received(struct rpc_call *call, int code) {
    if (code == NNG_ECLOSED || code == NNG_ECANCELED) return;
    if (code != 0) { /* out of memory, say: the context is still good */
        receive(call);
        return;
    }
    call->message = nng_aio_get_msg(call->aio);
    nng_aio_set_msg(call->aio, NULL);
    call->pipe = nng_msg_get_pipe(call->message);
    struct slice bytes = slice_of(nng_msg_body(call->message), nng_msg_len(call->message));
    call->err = request_decode(bytes, &call->request, call->text);
    atomic_store(&call->state, CALL_QUEUED);
    mailbox_post_always(call->rpc->mailbox, &call->mail);
    call->rpc->options.wake_cb(call->rpc->options.arg);
}

static void on_sent(struct rpc_call *call, int code) {
    if (code != 0) { /* the message is ours again */
        nng_msg_free(nng_aio_get_msg(call->aio));
        nng_aio_set_msg(call->aio, NULL);
    }
    /* A client that sends and does not read would hold the context for ever. */
    if (code == NNG_ETIMEDOUT) (void)nng_pipe_close(call->pipe);
    receive(call);
}

static void aio_cb(void *arg) {
    struct rpc_call *call = arg;
    int code = nng_aio_result(call->aio);
    if (atomic_load(&call->state) == CALL_SENDING) {
        on_sent(call, code);
    } else {
        on_received(call, code);
    }
}

/* ---- open and close ---- */

static int listen_failed(const char *address, int code, char *text, size_t text_bytes) {
    (void)snprintf(text, text_bytes, "%s: cannot listen: %s", address, nng_strerror(code));
    switch (code) {
    case NNG_ENOMEM:
        return SK_ENOMEM;
    case NNG_EINVAL:
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP:
        return SK_ECONFIG;
    default:
        return SK_ENET;
    }
}

static int open_sockets(struct rpc *rpc, char *text, size_t text_bytes) {
    int code = nng_rep0_open(&rpc->rep);
    if (code == 0) code = nng_pub0_open(&rpc->pub);
    /* 0, no limit, by default here: set before listening. */
    if (code == 0) code = nng_socket_set_size(rpc->rep, NNG_OPT_RECVMAXSZ, RPC_REQUEST_BYTES_MAX);
    if (code != 0) {
        (void)snprintf(text, text_bytes, "sockets: %s", nng_strerror(code));
        return code == NNG_ENOMEM ? SK_ENOMEM : SK_ENET;
    }
    code = cluster_net_listen(rpc->rep, rpc->options.listen, NULL);
    if (code != 0) return listen_failed(rpc->options.listen, code, text, text_bytes);
    code = cluster_net_listen(rpc->pub, rpc->options.publish, NULL);
    if (code != 0) return listen_failed(rpc->options.publish, code, text, text_bytes);
    return SK_OK;
}

static int open_calls(struct rpc *rpc, char *text, size_t text_bytes) {
    for (uint32_t i = 0; i < RPC_CALLS; i++) {
        struct rpc_call *call = &rpc->calls[i];
        call->rpc = rpc;
        int code = nng_aio_alloc(&call->aio, aio_cb, call);
        if (code == 0) code = nng_ctx_open(&call->context, rpc->rep);
        if (code != 0) {
            (void)snprintf(text, text_bytes, "sockets: %s", nng_strerror(code));
            return SK_ENOMEM;
        }
    }
    return SK_OK;
}

int rpc_open(struct rpc **out, const struct rpc_options *options, char *text, size_t text_bytes) {
    struct rpc *rpc = calloc(1, sizeof *rpc);
    if (rpc == NULL) {
        (void)snprintf(text, text_bytes, "out of memory");
        return SK_ENOMEM;
    }
    rpc->options = *options;
    rpc->rep = (nng_socket)NNG_SOCKET_INITIALIZER;
    rpc->pub = (nng_socket)NNG_SOCKET_INITIALIZER;
    int err = mailbox_new(&rpc->mailbox, RPC_CALLS);
    if (err == SK_OK) {
        err = open_sockets(rpc, text, text_bytes);
    } else {
        (void)snprintf(text, text_bytes, "out of memory");
    }
    if (err == SK_OK) err = open_calls(rpc, text, text_bytes);
    if (err != SK_OK) {
        rpc_close(rpc);
        return err;
    }
    *out = rpc;
    return SK_OK;
}

void rpc_start(struct rpc *rpc) {
    for (uint32_t i = 0; i < RPC_CALLS; i++) receive(&rpc->calls[i]);
}

static void drop_message(struct rpc_call *call) {
    nng_msg_free(call->message);
    call->message = NULL;
}

/* The calls' operations go before the contexts they were used on: the thread of nng that lets them time out may still be
 * about to cancel one that has just ended by itself; nng_aio_free waits for that. */
void rpc_close(struct rpc *rpc) {
    if (rpc == NULL) return;
    atomic_store(&rpc->closing, true);
    for (uint32_t i = 0; i < RPC_CALLS; i++) {
        struct rpc_call *call = &rpc->calls[i];
        if (call->aio == NULL) continue;
        if (atomic_load(&call->state) == CALL_SENDING) nng_aio_wait(call->aio);
        nng_aio_stop(call->aio); /* waits for its callback */
    }
    while (rpc->mailbox != NULL && mailbox_take(rpc->mailbox, 0) != NULL) continue;
    for (uint32_t i = 0; i < RPC_CALLS; i++) {
        struct rpc_call *call = &rpc->calls[i];
        if (call->message != NULL) drop_message(call);
        nng_aio_free(call->aio);
    }
    (void)nng_close(rpc->rep); /* with its contexts */
    (void)nng_close(rpc->pub);
    mailbox_free(rpc->mailbox);
    free(rpc);
}

/* ---- on the loop ---- */

void rpc_take(struct rpc *rpc) {
    struct mail *next;
    for (struct mail *mail = mailbox_take(rpc->mailbox, 0); mail != NULL; mail = next) {
        next = mail->next; /* the call is somebody else's as soon as it is answered */
        struct rpc_call *call = (struct rpc_call *)mail;
        if (call->err != SK_OK) {
            rpc_refuse(call, call->err, call->text);
        } else {
            rpc->options.call_cb(rpc->options.arg, call, &call->request);
        }
    }
}

/* Sends `head` and `body` as one message; takes `head`. Without memory for it the request ends without an answer: the
 * client's deadline tells it. */
static void reply(struct rpc_call *call, struct buffer *head, struct slice body) {
    sk_assert(atomic_load(&call->state) == CALL_QUEUED);
    drop_message(call);
    nng_msg *message = NULL;
    if (head->failed || nng_msg_alloc(&message, head->size + body.size) != 0) {
        log_event(LOG_ERROR, "reply_dropped", "error=ENOMEM");
        receive(call);
    } else {
        uint8_t *bytes = nng_msg_body(message);
        memcpy(bytes, head->data, head->size);
        if (body.size > 0) memcpy(bytes + head->size, body.data, body.size);
        atomic_store(&call->state, CALL_SENDING);
        nng_aio_set_timeout(call->aio, RPC_SEND_TIMEOUT_MS);
        nng_aio_set_msg(call->aio, message);
        nng_ctx_send(call->context, call->aio);
    }
    buffer_deinit(head);
}

void rpc_answer(struct rpc_call *call, struct slice result) {
    struct buffer head;
    buffer_init(&head);
    request_encode_result_head(&head, call->request.msgid);
    reply(call, &head, result);
}

void rpc_refuse(struct rpc_call *call, int err, const char *text) {
    struct buffer head;
    buffer_init(&head);
    request_encode_error(&head, call->request.msgid, err, text);
    reply(call, &head, slice_of(NULL, 0));
}

void rpc_publish(struct rpc *rpc, uint64_t version) {
    struct buffer bytes;
    buffer_init(&bytes);
    buffer_append(&bytes, "map", 3); /* the topic */
    mp_write_uint(&bytes, version);
    if (!bytes.failed) (void)nng_send(rpc->pub, bytes.data, bytes.size, NNG_FLAG_NONBLOCK);
    buffer_deinit(&bytes);
}
