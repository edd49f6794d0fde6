#include "pipeline.h"

#include "cluster_net.h"
#include "error.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define RECEIVE_BYTES_MAX 1u /* nobody sends to a PUSH socket */
#define RETRY_MS_MIN      10 /* between attempts to connect */
#define RETRY_MS_MAX      100

/* A connection may end while nng still tells that it has begun. */
enum pipeline_state { PIPELINE_DIALLING, PIPELINE_BEGINNING, PIPELINE_UP, PIPELINE_LOST };

struct pipeline {
    struct pipeline_options options;
    nng_socket socket;
    nng_dialer dialer;
    nng_aio *aio; /* owned */

    pthread_mutex_t lock; /* guards what follows, and that nothing is sent at the end */
    pthread_cond_t idle;  /* no callback runs */
    uint32_t running;     /* callbacks of the owner's */
    bool closed;          /* none runs from now on */
    enum pipeline_state state;
    int pipe; /* nng's id of the one connection */

    pthread_mutex_t order; /* of up_cb and lost_cb; taken before `lock` */
};

/* Runs a callback of the owner's, unless it has closed. */
static void call(struct pipeline *pipeline, void (*callback)(void *arg, struct pipeline *pipeline)) {
    pthread_mutex_lock(&pipeline->lock);
    bool wanted = !pipeline->closed;
    if (wanted) pipeline->running++;
    pthread_mutex_unlock(&pipeline->lock);
    if (!wanted) return;
    callback(pipeline->options.arg, pipeline);
    pthread_mutex_lock(&pipeline->lock);
    if (--pipeline->running == 0) pthread_cond_signal(&pipeline->idle);
    pthread_mutex_unlock(&pipeline->lock);
}

static void sent_cb(void *arg) {
    struct pipeline *pipeline = arg;
    if (nng_aio_result(pipeline->aio) != 0) {
        nng_msg_free(nng_aio_get_msg(pipeline->aio)); /* ours again after a failed send */
        nng_aio_set_msg(pipeline->aio, NULL);
    }
    call(pipeline, pipeline->options.sent_cb);
}

/* Whether the connection is ours and goes from one of these states to the next. */
static bool move(struct pipeline *pipeline, nng_pipe pipe, enum pipeline_state from, enum pipeline_state until,
                 enum pipeline_state to) {
    pthread_mutex_lock(&pipeline->lock);
    bool moved = pipeline->pipe == nng_pipe_id(pipe) && pipeline->state >= from && pipeline->state <= until;
    if (moved) pipeline->state = to;
    pthread_mutex_unlock(&pipeline->lock);
    return moved;
}

/* Before the protocol sees a connection: a second one must not reach it. */
static void adding_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct pipeline *pipeline = arg;
    (void)event;
    pthread_mutex_lock(&pipeline->lock);
    bool first = pipeline->state == PIPELINE_DIALLING;
    if (first) {
        pipeline->state = PIPELINE_BEGINNING;
        pipeline->pipe = nng_pipe_id(pipe);
    }
    pthread_mutex_unlock(&pipeline->lock);
    if (!first) nng_pipe_close(pipe);
}

static void added_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct pipeline *pipeline = arg;
    (void)event;
    pthread_mutex_lock(&pipeline->order);
    bool up = move(pipeline, pipe, PIPELINE_BEGINNING, PIPELINE_BEGINNING, PIPELINE_UP);
    if (up) call(pipeline, pipeline->options.up_cb);
    pthread_mutex_unlock(&pipeline->order);
}

/* The memory of the connection is freed after this has returned. */
static void removed_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct pipeline *pipeline = arg;
    (void)event;
    pthread_mutex_lock(&pipeline->order);
    if (move(pipeline, pipe, PIPELINE_BEGINNING, PIPELINE_UP, PIPELINE_LOST)) {
        nng_aio_cancel(pipeline->aio);
        call(pipeline, pipeline->options.lost_cb);
    }
    pthread_mutex_unlock(&pipeline->order);
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
    pthread_mutex_init(&pipeline->order, NULL);
    pthread_cond_init(&pipeline->idle, NULL);
    nng_socket socket = pipeline->socket;
    int rc = nng_aio_alloc(&pipeline->aio, sent_cb, pipeline);
    if (rc == 0) rc = nng_socket_set_size(socket, NNG_OPT_RECVMAXSZ, RECEIVE_BYTES_MAX);
    if (rc == 0) rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMINT, RETRY_MS_MIN);
    if (rc == 0) rc = nng_socket_set_ms(socket, NNG_OPT_RECONNMAXT, RETRY_MS_MAX);
    if (rc == 0) rc = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_PRE, adding_cb, pipeline);
    if (rc == 0) rc = nng_pipe_notify(socket, NNG_PIPE_EV_ADD_POST, added_cb, pipeline);
    if (rc == 0) rc = nng_pipe_notify(socket, NNG_PIPE_EV_REM_POST, removed_cb, pipeline);
    if (rc == 0) rc = cluster_net_dialer(&pipeline->dialer, socket, options->address);
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
    bool connected = pipeline->state == PIPELINE_UP && !pipeline->closed;
    if (connected) {
        nng_aio_set_msg(pipeline->aio, message);
        nng_send_aio(pipeline->socket, pipeline->aio);
    }
    pthread_mutex_unlock(&pipeline->lock);
    return connected ? SK_OK : SK_ECLOSED;
}

/* No callback runs any more. */
static void end_callbacks(struct pipeline *pipeline) {
    pthread_mutex_lock(&pipeline->lock);
    pipeline->closed = true;
    while (pipeline->running > 0) pthread_cond_wait(&pipeline->idle, &pipeline->lock);
    pthread_mutex_unlock(&pipeline->lock);
}

static void destroy(struct pipeline *pipeline) {
    if (pipeline->aio != NULL) nng_aio_stop(pipeline->aio);
    nng_close(pipeline->socket);
    if (pipeline->aio != NULL) nng_aio_free(pipeline->aio);
    pthread_cond_destroy(&pipeline->idle);
    pthread_mutex_destroy(&pipeline->order);
    pthread_mutex_destroy(&pipeline->lock);
    free(pipeline);
}

void pipeline_close(struct pipeline *pipeline) {
    if (pipeline == NULL) return;
    end_callbacks(pipeline);
    destroy(pipeline);
}

static void *retire_main(void *arg) {
    destroy(arg);
    return NULL;
}

/* nng_close waits for the library's threads: half a second was seen on a busy machine. */
void pipeline_retire(struct pipeline *pipeline) {
    pthread_t thread;
    if (pipeline == NULL) return;
    end_callbacks(pipeline);
    if (pthread_create(&thread, NULL, retire_main, pipeline) == 0) {
        pthread_detach(thread);
    } else {
        destroy(pipeline);
    }
}
