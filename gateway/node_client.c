#include "gateway/node_client.h"

#include "gateway/post.h"
#include "gateway/window.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/map.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/push.h>
#include <stdlib.h>

#define RECONNECT_MS_MIN   10
#define RECONNECT_MS_MAX   200
#define FRAME_BYTES_WANTED (1u * 1024 * 1024) /* a frame ends here even if more is queued */

struct node_client {
    struct node_client_handler handler;
    struct mailbox *mailbox; /* borrowed */
    const char *return_address;
    uint64_t cluster, session;
    uint32_t node;
    char address[MAP_ADDRESS_BYTES];

    nng_socket socket;
    bool closed;
    int pipe; /* id of the connection, 0 = none */
    struct window window;
    struct seen seen; /* frames of answers */
    struct list pending;
    struct list sent;
    size_t pending_bytes;

    nng_aio *aio;    /* owned: the one send */
    bool sending;    /* from nng_send_aio until its post is handled */
    int send_result; /* written by the callback before it posts */
    struct post sent_post;
};

/* A connection came or went; posted by nng's callback. */
struct pipe_post {
    struct post post;
    struct node_client *client;
    int pipe;
    bool connected;
};

/* --- what nng calls ------------------------------------------------------------------------------------------ */

static void on_pipe(struct post *post);

static void pipe_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    struct node_client *client = arg;
    struct pipe_post *note = malloc(sizeof *note);
    if (note == NULL) return; /* found again by the stalled window */
    *note = (struct pipe_post){
        .post.handle = on_pipe,
        .client = client,
        .pipe = nng_pipe_id(pipe),
        .connected = event == NNG_PIPE_EV_ADD_POST,
    };
    post_to(client->mailbox, &note->post);
}

static void sent_cb(void *arg) {
    struct node_client *client = arg;
    client->send_result = nng_aio_result(client->aio);
    if (client->send_result != 0) {
        nng_msg_free(nng_aio_get_msg(client->aio));
        nng_aio_set_msg(client->aio, NULL);
    }
    post_to(client->mailbox, &client->sent_post);
}

/* --- open and close ------------------------------------------------------------------------------------------ */

static void on_sent(struct post *post);

int node_client_open(struct node_client **out, const struct node_client_options *options) {
    struct node_client *client = calloc(1, sizeof *client);
    if (client == NULL) return SK_ENOMEM;
    client->handler = options->handler;
    client->mailbox = options->mailbox;
    client->return_address = options->return_address;
    client->cluster = options->cluster;
    client->session = options->session;
    client->node = options->node;
    client->sent_post.handle = on_sent;
    size_t bytes = strlen(options->frames_address);
    if (bytes >= sizeof client->address) bytes = sizeof client->address - 1;
    memcpy(client->address, options->frames_address, bytes);
    window_init(&client->window, options->node);
    list_init(&client->pending);
    list_init(&client->sent);

    nng_dialer dialer;
    int rv = nng_push0_open(&client->socket);
    if (rv != 0) {
        free(client);
        return SK_ENOMEM;
    }
    if (rv == 0) rv = nng_socket_set_size(client->socket, NNG_OPT_RECVMAXSZ, FRAME_BYTES_MAX);
    if (rv == 0) rv = nng_socket_set_ms(client->socket, NNG_OPT_RECONNMINT, RECONNECT_MS_MIN);
    if (rv == 0) rv = nng_socket_set_ms(client->socket, NNG_OPT_RECONNMAXT, RECONNECT_MS_MAX);
    if (rv == 0) rv = nng_pipe_notify(client->socket, NNG_PIPE_EV_ADD_POST, pipe_cb, client);
    if (rv == 0) rv = nng_pipe_notify(client->socket, NNG_PIPE_EV_REM_POST, pipe_cb, client);
    if (rv == 0) rv = nng_aio_alloc(&client->aio, sent_cb, client);
    if (rv == 0) rv = nng_dial(client->socket, client->address, &dialer, NNG_FLAG_NONBLOCK);
    if (rv != 0) {
        char room[MAP_ADDRESS_BYTES + 16];
        log_event(LOG_ERROR, "node_address_bad", "node=%u address=%s error=\"%s\"", client->node,
                  log_quote(client->address, room, sizeof room), nng_strerror(rv));
        (void)nng_close(client->socket);
        if (client->aio != NULL) nng_aio_free(client->aio);
        free(client);
        return rv == NNG_ENOMEM ? SK_ENOMEM : SK_ENET;
    }
    *out = client;
    return SK_OK;
}

/* Gives parts of both lists to the handler: the queue's were not sent, and their state says so. */
static void give_back(struct node_client *client, bool queue_too) {
    struct list parts;
    list_init(&parts);
    list_move_all(&parts, &client->sent);
    if (queue_too) {
        list_move_all(&parts, &client->pending);
        client->pending_bytes = 0;
    }
    if (!list_empty(&parts)) client->handler.lost_cb(client->handler.arg, &parts);
}

void node_client_close(struct node_client *client) {
    if (client->closed) return;
    client->closed = true;
    client->pipe = 0;
    nng_aio_cancel(client->aio);
    (void)nng_close(client->socket);
    nng_aio_stop(client->aio);
    give_back(client, true);
}

void node_client_free(struct node_client *client) {
    if (client == NULL) return;
    sk_assert(client->closed && list_empty(&client->pending) && list_empty(&client->sent));
    nng_aio_free(client->aio);
    free(client);
}

uint32_t node_client_node(const struct node_client *client) { return client->node; }

const char *node_client_address(const struct node_client *client) { return client->address; }

bool node_client_connected(const struct node_client *client) { return client->pipe != 0; }

/* --- connection ---------------------------------------------------------------------------------------------- */

static void on_pipe(struct post *post) {
    struct pipe_post *note = list_entry(post, struct pipe_post, post);
    struct node_client *client = note->client;
    int pipe = note->pipe;
    bool connected = note->connected;
    free(note);
    if (client->closed) return;
    if (connected) {
        client->pipe = pipe;
        log_event(LOG_INFO, "node_connected", "node=%u", client->node);
        client->handler.connected_cb(client->handler.arg, client);
        return;
    }
    if (client->pipe != pipe) return; /* an older connection's end, told late */
    client->pipe = 0;
    log_event(LOG_WARNING, "node_lost", "node=%u", client->node);
    /* What nng still holds would go out on the next connection; its commands go by themselves. */
    if (client->sending) nng_aio_cancel(client->aio);
    window_reset(&client->window);
    give_back(client, true);
}

void node_client_on_answers_lost(struct node_client *client) {
    if (client->closed) return;
    log_event(LOG_WARNING, "answers_lost", "node=%u", client->node);
    give_back(client, false);
}

bool node_client_on_answers(struct node_client *client, const struct frame_header *header, uint64_t now_ms) {
    window_on_taken(&client->window, header->taken, now_ms);
    return seen_first_time(&client->seen, header->incarnation, header->number);
}

void node_client_tick(struct node_client *client, uint64_t now_ms) {
    if (client->closed || client->pipe == 0 || !window_stalled(&client->window, now_ms)) return;
    window_reset(&client->window);
    if (list_empty(&client->sent)) return;
    log_event(LOG_WARNING, "node_stalled", "node=%u", client->node);
    give_back(client, false);
}

/* --- the queue ----------------------------------------------------------------------------------------------- */

/* What a part costs while it is queued. */
static size_t cost_of(const struct part *part) { return part->body.size + sizeof *part; }

int node_client_add(struct node_client *client, struct part *part, bool again) {
    sk_assert(!client->closed && !link_in_list(&part->link));
    size_t bytes = cost_of(part);
    bool full = client->pending_bytes > 0 && client->pending_bytes + bytes > NODE_PENDING_BYTES_MAX;
    if (full && !again) return SK_OVERLOADED;
    client->pending_bytes += bytes;
    part->node = client;
    part->state = PART_PENDING;
    list_add_last(&client->pending, &part->link);
    return SK_OK;
}

void node_client_remove(struct node_client *client, struct part *part) {
    sk_assert(part->node == client);
    if (part->state == PART_PENDING) client->pending_bytes -= cost_of(part);
    list_remove(&part->link);
    part->node = NULL;
}

void node_client_visit(struct node_client *client, void (*visit)(void *arg, struct part *part), void *arg) {
    struct list *lists[] = {&client->pending, &client->sent};
    for (size_t i = 0; i < 2; i++) {
        struct link *link = list_first(lists[i]);
        while (link != NULL) {
            struct link *next = list_next(lists[i], link);
            visit(arg, list_entry(link, struct part, link));
            link = next;
        }
    }
}

/* --- frames -------------------------------------------------------------------------------------------------- */

static void fill_item(const struct node_client *client, const struct part *part, uint64_t now_ms,
                      struct request_item *item) {
    *item = (struct request_item){0};
    client->handler.fill_cb(client->handler.arg, part, now_ms, item);
    item->body = part->body;
}

/* How many of the queue's parts the next frame takes, at least one if there is any, and its bytes. */
static uint32_t frame_extent(const struct node_client *client, uint64_t now_ms, size_t *bytes) {
    uint32_t count = 0;
    *bytes = WIRE_HEADER_BYTES + strlen(client->return_address);
    for (struct link *link = list_first(&client->pending); link != NULL;
         link = list_next(&client->pending, link)) {
        const struct part *part = list_entry(link, struct part, link);
        struct request_item item;
        fill_item(client, part, now_ms, &item);
        size_t item_bytes = frame_request_bytes(&item);
        if (count > 0 && *bytes + item_bytes > FRAME_BYTES_WANTED) break;
        *bytes += item_bytes;
        count++;
    }
    return count;
}

/* A frame with the first `count` parts, written where nng will send it from; they move to `sent`. NULL when out of
 * memory: they stay queued. */
static nng_msg *build_frame(struct node_client *client, uint32_t count, size_t bytes, uint64_t now_ms) {
    nng_msg *message;
    if (nng_msg_alloc(&message, bytes) != 0) return NULL;
    struct buffer buffer = {.data = nng_msg_body(message), .capacity = bytes};
    struct frame_header header = {
        .kind = FRAME_REQUESTS,
        .cluster = client->cluster,
        .session = client->session,
        .return_address = slice_of_text(client->return_address),
        .item_count = count,
    };
    frame_begin(&buffer, &header);
    for (uint32_t i = 0; i < count; i++) {
        struct part *part = list_entry(list_first(&client->pending), struct part, link);
        struct request_item item;
        fill_item(client, part, now_ms, &item);
        frame_add_request(&buffer, &item);
        client->pending_bytes -= cost_of(part);
        list_remove(&part->link);
        list_add_last(&client->sent, &part->link);
        part->state = PART_SENT;
        part->epoch = item.epoch;
    }
    /* frame_request_bytes is exact, so the buffer never had to grow away from the message */
    sk_assert(buffer.data == nng_msg_body(message) && buffer.size == bytes);
    frame_finish(buffer.data, window_send(&client->window, now_ms), client->seen.highest, count);
    return message;
}

void node_client_flush(struct node_client *client, uint64_t now_ms) {
    bool ready = !client->closed && client->pipe != 0 && !client->sending && window_open(&client->window);
    if (!ready || list_empty(&client->pending)) return;
    size_t bytes;
    uint32_t count = frame_extent(client, now_ms, &bytes);
    nng_msg *message = build_frame(client, count, bytes, now_ms);
    if (message == NULL) return; /* the next round tries again */
    client->sending = true;
    nng_aio_set_msg(client->aio, message);
    nng_send_aio(client->socket, client->aio);
}

static void on_sent(struct post *post) {
    struct node_client *client = list_entry(post, struct node_client, sent_post);
    client->sending = false;
    /* A failed send ends with the connection, and that gives its parts back. */
    if (!client->closed) node_client_flush(client, clock_boottime_ms());
}
