/* The gateway of the bare chain: REP contexts, a pipe to each server, answers matched by context. */
#include "bare_pipe.h"

#include <nng/protocol/reqrep0/rep.h>
#include <string.h>
#include <unistd.h>

struct context {
    nng_ctx ctx;
    nng_aio *aio;
    uint32_t number;
    bool replying;
};

static struct gateway {
    nng_socket rep;
    struct bare_receiver answers;
    struct bare_sender servers[BARE_SERVERS_MAX];
    uint32_t server_count;
    struct context contexts[BARE_CONTEXTS];
} gateway;

static void pass_on(struct context *context, nng_msg *request) {
    struct bare_item item = {.number = context->number, .kind = BARE_WORK};
    memcpy(item.content, nng_msg_body(request), nng_msg_len(request));
    nng_msg_free(request);
    bare_sender_add(&gateway.servers[context->number % gateway.server_count], &item, 1);
}

static void context_cb(void *arg) {
    struct context *context = arg;
    bare_must(nng_aio_result(context->aio), "client");
    if (!context->replying) {
        pass_on(context, nng_aio_get_msg(context->aio));
        return;
    }
    context->replying = false;
    nng_ctx_recv(context->ctx, context->aio);
}

static void answers_cb(void *arg, struct bare_item *items, size_t count) {
    (void)arg;
    for (size_t i = 0; i < count; i++) {
        nng_msg *reply;
        struct context *context = &gateway.contexts[items[i].number];
        bare_must(nng_msg_alloc(&reply, 8), "message");
        context->replying = true;
        nng_aio_set_msg(context->aio, reply);
        nng_ctx_send(context->ctx, context->aio);
    }
}

static void open_contexts(void) {
    bare_must(nng_rep0_open(&gateway.rep), "rep");
    for (uint32_t i = 0; i < BARE_CONTEXTS; i++) {
        struct context *context = &gateway.contexts[i];
        context->number = i;
        bare_must(nng_ctx_open(&context->ctx, gateway.rep), "context");
        bare_must(nng_aio_alloc(&context->aio, context_cb, context), "aio");
        nng_ctx_recv(context->ctx, context->aio);
    }
}

_Noreturn void bare_gateway_run(const struct bare_options *options) {
    char url[64];
    gateway.server_count = (uint32_t)options->servers;
    bare_url(options, BARE_PORT_ANSWERS, url);
    bare_receiver_open(&gateway.answers, url, answers_cb, NULL);
    for (int i = 0; i < (int)gateway.server_count; i++) {
        bare_url(options, BARE_PORT_SERVERS + i, url);
        bare_sender_open(&gateway.servers[i], url);
    }
    open_contexts();
    bare_url(options, BARE_PORT_CLIENTS, url);
    bare_must(nng_listen(gateway.rep, url, NULL, 0), url);
    for (;;) pause();
}
