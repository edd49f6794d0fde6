#include "fake_gateway.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct fake_gateway {
    nng_socket socket;
    char address[64];
    pthread_t thread;
    fake_answer_cb answer_cb;
    void *arg;
};

static void answer(struct fake_gateway *fake, nng_msg *message) {
    struct buffer reply;
    buffer_init(&reply);
    fake->answer_cb(fake->arg, slice_of(nng_msg_body(message), nng_msg_len(message)), &reply);
    if (reply.size == 0) {
        nng_pipe_close(nng_msg_get_pipe(message));
        nng_msg_free(message);
    } else {
        nng_msg_clear(message);
        if (nng_msg_append(message, reply.data, reply.size) != 0 || nng_sendmsg(fake->socket, message, 0) != 0)
            nng_msg_free(message);
    }
    buffer_deinit(&reply);
}

static void *serve(void *arg) {
    struct fake_gateway *fake = arg;
    for (;;) {
        nng_msg *message;
        int rc = nng_recvmsg(fake->socket, &message, 0);
        if (rc == NNG_ECLOSED) return NULL;
        if (rc == 0) answer(fake, message);
    }
}

struct fake_gateway *fake_gateway_new(fake_answer_cb answer_cb, void *arg) {
    struct fake_gateway *fake = calloc(1, sizeof *fake);
    if (fake == NULL) return NULL;
    fake->answer_cb = answer_cb;
    fake->arg = arg;
    nng_listener listener;
    int port = 0;
    int rc = nng_rep0_open(&fake->socket);
    if (rc == 0) rc = nng_listen(fake->socket, "tcp://127.0.0.1:0", &listener, 0);
    if (rc == 0) rc = nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port);
    if (rc == 0) rc = pthread_create(&fake->thread, NULL, serve, fake);
    if (rc != 0) {
        nng_close(fake->socket);
        free(fake);
        return NULL;
    }
    snprintf(fake->address, sizeof fake->address, "tcp://127.0.0.1:%d", port);
    return fake;
}

void fake_gateway_free(struct fake_gateway *fake) {
    nng_close(fake->socket);
    pthread_join(fake->thread, NULL);
    free(fake);
}

const char *fake_gateway_address(const struct fake_gateway *fake) { return fake->address; }

bool fake_request_read(struct slice request, struct fake_request *read) {
    struct mp_reader reader = mp_reader_of(request);
    *read = (struct fake_request){0};
    uint32_t count;
    uint64_t kind;
    bool sound = mp_read_array(&reader, &count) == SK_OK && (count == 4 || count == 5) &&
                 mp_read_uint(&reader, &kind) == SK_OK && kind == 0 &&
                 mp_read_uint(&reader, &read->msgid) == SK_OK && mp_read_str(&reader, &read->method) == SK_OK &&
                 mp_skip(&reader, &read->params) == SK_OK;
    if (sound && count == 5) sound = mp_skip(&reader, &read->options) == SK_OK;
    return sound && mp_left(&reader) == 0;
}

void fake_reply_begin(struct buffer *reply, uint64_t msgid) {
    mp_write_array(reply, 4);
    mp_write_uint(reply, 1);
    mp_write_uint(reply, msgid);
    mp_write_nil(reply);
}

void fake_reply_error(struct buffer *reply, uint64_t msgid, const char *code, const char *text) {
    mp_write_array(reply, 4);
    mp_write_uint(reply, 1);
    mp_write_uint(reply, msgid);
    mp_write_array(reply, 2);
    mp_write_text(reply, code);
    mp_write_text(reply, text);
    mp_write_nil(reply);
}
