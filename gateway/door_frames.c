#include "gateway/door_frames.h"

#include "gateway/post.h"
#include "libcommon/cluster_net.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <stdio.h>
#include <stdlib.h>

#define RECEIVES      8u /* frames at once with the loop: what bounds the memory of answers not looked at yet */
#define ADDRESS_BYTES 256u

/* One receive under way, or its frame with the loop. */
struct receive {
    struct post post;
    struct door_frames *door;
    nng_aio *aio;
    nng_msg *message; /* owned; NULL: the receive failed */
};

struct door_frames {
    struct door_frames_handler handler;
    struct mailbox *mailbox;
    nng_socket socket;
    bool closed;
    char address[ADDRESS_BYTES];
    struct receive receives[RECEIVES];
};

struct pipe_post {
    struct post post;
    struct door_frames *door;
    int pipe;
};

static void on_pipe_lost(struct post *post) {
    struct pipe_post *note = list_entry(post, struct pipe_post, post);
    struct door_frames *door = note->door;
    int pipe = note->pipe;
    free(note);
    if (!door->closed) door->handler.lost_cb(door->handler.arg, pipe);
}

static void pipe_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    (void)event;
    struct door_frames *door = arg;
    struct pipe_post *note = malloc(sizeof *note);
    if (note == NULL) return; /* its commands are found by their deadline */
    *note = (struct pipe_post){.post.handle = on_pipe_lost, .door = door, .pipe = nng_pipe_id(pipe)};
    post_to(door->mailbox, &note->post);
}

static void on_receive(struct post *post) {
    struct receive *receive = list_entry(post, struct receive, post);
    struct door_frames *door = receive->door;
    nng_msg *message = receive->message;
    receive->message = NULL;
    if (message != NULL) {
        int pipe = nng_pipe_id(nng_msg_get_pipe(message));
        struct slice frame = slice_of(nng_msg_body(message), nng_msg_len(message));
        if (!door->closed) door->handler.frame_cb(door->handler.arg, frame, pipe);
        nng_msg_free(message);
    }
    if (!door->closed) nng_recv_aio(door->socket, receive->aio);
}

static void receive_cb(void *arg) {
    struct receive *receive = arg;
    int rv = nng_aio_result(receive->aio);
    if (rv == NNG_ECLOSED || rv == NNG_ECANCELED) return;
    if (rv == 0) receive->message = nng_aio_get_msg(receive->aio);
    post_to(receive->door->mailbox, &receive->post);
}

/* The address with the port that the system chose: "tcp://host:0" listens somewhere. Others know it without "tls+". */
static int resolve_address(struct door_frames *door, nng_listener listener) {
    char *url;
    int rv = nng_listener_get_string(listener, NNG_OPT_URL, &url);
    if (rv != 0) return rv;
    (void)snprintf(door->address, sizeof door->address, "%s", tls_is_url(url) ? strchr(url, '+') + 1 : url);
    nng_strfree(url);
    return 0;
}

int door_frames_open(struct door_frames **out, struct mailbox *mailbox, const char *address,
                     const struct door_frames_handler *handler, char *text, size_t text_bytes) {
    struct door_frames *door = calloc(1, sizeof *door);
    if (door == NULL) return SK_ENOMEM;
    door->handler = *handler;
    door->mailbox = mailbox;
    nng_listener listener;
    int rv = nng_pull0_open(&door->socket);
    if (rv != 0) {
        free(door);
        return SK_ENOMEM;
    }
    rv = nng_socket_set_size(door->socket, NNG_OPT_RECVMAXSZ, FRAME_BYTES_MAX);
    if (rv == 0) rv = nng_pipe_notify(door->socket, NNG_PIPE_EV_REM_POST, pipe_cb, door);
    for (uint32_t i = 0; rv == 0 && i < RECEIVES; i++) {
        struct receive *receive = &door->receives[i];
        receive->door = door;
        receive->post.handle = on_receive;
        rv = nng_aio_alloc(&receive->aio, receive_cb, receive);
    }
    if (rv == 0) rv = cluster_net_listen(door->socket, address, &listener);
    if (rv == 0) rv = resolve_address(door, listener);
    if (rv != 0) {
        (void)snprintf(text, text_bytes, "cannot listen at %s: %s", address, nng_strerror(rv));
        door_frames_close(door);
        door_frames_free(door);
        return SK_ECONFIG;
    }
    for (uint32_t i = 0; i < RECEIVES; i++) nng_recv_aio(door->socket, door->receives[i].aio);
    *out = door;
    return SK_OK;
}

const char *door_frames_address(const struct door_frames *door) { return door->address; }

void door_frames_close(struct door_frames *door) {
    if (door == NULL || door->closed) return;
    door->closed = true;
    for (uint32_t i = 0; i < RECEIVES; i++) { /* before the socket: shardd/frontend.c says why */
        if (door->receives[i].aio != NULL) nng_aio_stop(door->receives[i].aio);
    }
    (void)nng_close(door->socket);
}

void door_frames_free(struct door_frames *door) {
    if (door == NULL) return;
    for (uint32_t i = 0; i < RECEIVES; i++) {
        if (door->receives[i].aio != NULL) nng_aio_free(door->receives[i].aio);
        if (door->receives[i].message != NULL) nng_msg_free(door->receives[i].message);
    }
    free(door);
}
