#include "pipeline.h"

#include "error.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define RECEIVE_BYTES_MAX 1u /* nobody sends to a PUSH socket */

struct pipeline {
    struct pipeline_options options;
    nng_socket socket;
    nng_dialer dialer;
    nng_aio *aio; /* owned */

    pthread_mutex_t lock; /* guards what follows, and that nothing is sent at the end */
    bool used;            /* it has had its connection */
    int pipe;             /* nng's id of it; 0 = none or not any more */
};

static void sent_cb(void *arg) {
    struct pipeline *pipeline = arg;
    if (nng_aio_result(pipeline->aio) != 0) {
        nng_msg_free(nng_aio_get_msg(pipeline->aio)); /* ours again after a failed send */
        nng_aio_set_msg(pipeline->aio, NULL);
    }
    pipeline->options.sent_cb(pipeline->options.arg, pipeline);
}

/* Before the protocol sees a connection: a second one must not reach it. */
static void adding_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct pipeline *pipeline = arg;
    (void)event;
    pthread_mutex_lock(&pipeline->lock);
    bool first = !pipeline->used;
    pipeline->used = true;
    pthread_mutex_unlock(&pipeline->lock);
    if (!first) nng_pipe_close(pipe);
}

static void added_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct pipeline *pipeline = arg;
    (void)event;
    pthread_mutex_lock(&pipeline->lock);
    pipeline->pipe = nng_pipe_id(pipe);
    pthread_mutex_unlock(&pipeline->lock);
    pipeline->options.up_cb(pipeline->options.arg, pipeline);
}

/* The memory of the connection is freed after this has returned. */
static void removed_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct pipeline *pipeline = arg;
    (void)event;
    pthread_mutex_lock(&pipeline->lock);
    bool ours = pipeline->pipe != 0 && pipeline->pipe == nng_pipe_id(pipe);
    if (ours) pipeline->pipe = 0;
    pthread_mutex_unlock(&pipeline->lock);
    if (!ours) return;
    nng_aio_cancel(pipeline->aio);
    pipeline->options.lost_cb(pipeline->options.arg, pipeline);
}

static int error_of(int rc) {
    if (rc == NNG_ENOMEM) return SK_ENOMEM;
    return rc == NNG_EADDRINVAL || rc == NNG_EINVAL || rc == NNG_ENOTSUP ? SK_ECONFIG : SK_ENET;
}

int pipeline_open(struct pipeline **made, const struct pipeline_options *options) {
    struct pipeline *pipeline = calloc(1, sizeof *pipeline);
    if (pipeline == NULL) return SK_ENOMEM;
    pipeline->options = *options;
    pipeline->options.address = NULL;
    if (nng_push0_open(&pipeline->socket) != 0) {
        free(pipeline);
        return SK_ENOMEM;
    }
    pthread_mutex_init(&pipeline->lock, NULL);
    nng_socket socket = pipeline->socket;
    int rc = nng_aio_alloc(&pipeline->aio, sent_cb, pipeline);
    if (rc == 0) rc = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, RECEIVE_BYTES_MAX);
    if (rc == 0) rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, (nng_duration)options->retry_ms_min);
    if (rc == 0) rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, (nng_duration)options->retry_ms_max);
    if (rc == 0) rc = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, adding_cb, pipeline);
    if (rc == 0) rc = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, added_cb, pipeline);
    if (rc == 0) rc = nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, removed_cb, pipeline);
    if (rc == 0) rc = nng_dialer_create(&pipeline->dialer, socket, options->address);
    if (rc != 0) {
        pipeline_close(pipeline);
        return error_of(rc);
    }
    *made = pipeline;
    return SK_OK;
}

int pipeline_dial(struct pipeline *pipeline) {
    int rc = nng_dialer_start(pipeline->dialer, NNG_FLAG_NONBLOCK);
    return rc == 0 ? SK_OK : error_of(rc);
}

int pipeline_send(struct pipeline *pipeline, struct nng_msg *message) {
    pthread_mutex_lock(&pipeline->lock);
    bool connected = pipeline->pipe != 0;
    if (connected) {
        nng_aio_set_msg(pipeline->aio, message);
        nng_send_aio(pipeline->socket, pipeline->aio);
    }
    pthread_mutex_unlock(&pipeline->lock);
    return connected ? SK_OK : SK_ECLOSED;
}

void pipeline_close(struct pipeline *pipeline) {
    if (pipeline == NULL) return;
    if (pipeline->aio != NULL) nng_aio_stop(pipeline->aio);
    nng_close(pipeline->socket);
    if (pipeline->aio != NULL) nng_aio_free(pipeline->aio);
    pthread_mutex_destroy(&pipeline->lock);
    free(pipeline);
}
