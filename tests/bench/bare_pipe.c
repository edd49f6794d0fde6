#include "bare_pipe.h"

#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <stdio.h>
#include <unistd.h>

void bare_must(int rv, const char *what) {
    if (rv == 0) return;
    fprintf(stderr, "bare_chain: %s: %s\n", what, nng_strerror(rv));
    _exit(1);
}

void bare_url(const struct bare_options *options, int port, char url[64]) {
    snprintf(url, 64, "tcp://127.0.0.1:%d", (int)options->port + port);
}

/* ---- sending ---- */

static void send_next(struct bare_sender *sender) {
    if (sender->sending || sender->pending == NULL) return;
    nng_aio_set_msg(sender->aio, sender->pending);
    sender->pending = NULL;
    sender->sending = true;
    nng_send_aio(sender->socket, sender->aio);
}

static void sent_cb(void *arg) {
    struct bare_sender *sender = arg;
    bare_must(nng_aio_result(sender->aio), "send");
    pthread_mutex_lock(&sender->lock);
    sender->sending = false;
    send_next(sender);
    pthread_mutex_unlock(&sender->lock);
}

void bare_sender_open(struct bare_sender *sender, const char *url) {
    pthread_mutex_init(&sender->lock, NULL);
    bare_must(nng_push0_open(&sender->socket), "push");
    bare_must(nng_aio_alloc(&sender->aio, sent_cb, sender), "aio");
    bare_must(nng_socket_set_ms(sender->socket, NNG_OPT_RECONNMINT, 10), "option");
    bare_must(nng_dial(sender->socket, url, NULL, NNG_FLAG_NONBLOCK), url);
}

void bare_sender_add(struct bare_sender *sender, const struct bare_item *items, size_t count) {
    if (count == 0) return;
    pthread_mutex_lock(&sender->lock);
    if (sender->pending == NULL) bare_must(nng_msg_alloc(&sender->pending, 0), "message");
    bare_must(nng_msg_append(sender->pending, items, count * sizeof *items), "append");
    send_next(sender);
    pthread_mutex_unlock(&sender->lock);
}

/* ---- receiving ---- */

static void received_cb(void *arg) {
    struct bare_receiver *receiver = arg;
    bare_must(nng_aio_result(receiver->aio), "receive");
    nng_msg *frame = nng_aio_get_msg(receiver->aio);
    receiver->frame_cb(receiver->arg, nng_msg_body(frame), nng_msg_len(frame) / sizeof(struct bare_item));
    nng_msg_free(frame);
    nng_recv_aio(receiver->socket, receiver->aio);
}

void bare_receiver_open(struct bare_receiver *receiver, const char *url,
                        void (*frame_cb)(void *arg, struct bare_item *items, size_t count), void *arg) {
    receiver->frame_cb = frame_cb;
    receiver->arg = arg;
    bare_must(nng_pull0_open(&receiver->socket), "pull");
    bare_must(nng_aio_alloc(&receiver->aio, received_cb, receiver), "aio");
    bare_must(nng_listen(receiver->socket, url, NULL, 0), url);
    nng_recv_aio(receiver->socket, receiver->aio);
}
