#include "gateway/door_http.h"

#include "gateway/load.h"
#include "gateway/post.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"

#include <stdatomic.h>
#include <stdlib.h>

/* A body that nobody wants is read on, so that the client gets to read the answer; up to here. */
#define DROPPED_BYTES_MAX (2ull * MESSAGE_BYTES_MAX)

/* A request. */
struct ask {
    struct post post;
    struct client client;
    struct door_http *door;
    struct http_exchange *exchange;
    struct http_call call;
    struct buffer body, message, reply; /* one after the other */
    uint64_t dropped_bytes;
    uint64_t bytes; /* counted for it */
    bool admitted;
};

struct door_http {
    struct door_http_options options;
    struct http_service service;
    atomic_uint in_flight;
    atomic_uint admitted; /* of these, those that the loop was given and that were not refused */
    atomic_uint waiting;  /* for the loop */
    atomic_bool ended;
};

/* ---- counting ---- */

static void count(struct ask *ask, uint64_t bytes) {
    ask->bytes += bytes;
    load_add(ask->door->options.load, bytes);
}

static void uncount(struct ask *ask, uint64_t bytes) {
    ask->bytes -= bytes;
    load_sub(ask->door->options.load, bytes);
}

static bool count_if_room(struct ask *ask, uint64_t bytes) {
    const struct door_http_options *options = &ask->door->options;
    if (ask->bytes + bytes > options->connection_bytes_max || !load_has_room(options->load, bytes)) return false;
    count(ask, bytes);
    return true;
}

/* Gives a buffer's memory back. */
static void release(struct ask *ask, struct buffer *buffer) {
    uncount(ask, buffer->size);
    buffer_deinit(buffer);
}

/* ---- as the loop sees it ---- */

static bool charge(struct client *client, uint64_t bytes) {
    return count_if_room(list_entry(client, struct ask, client), bytes);
}

static bool gone(const struct client *client) {
    const struct ask *ask = list_entry(client, struct ask, client);
    return http_is_gone(ask->exchange);
}

static void name(const struct client *client, char room[PEER_NAME_BYTES]) {
    const struct ask *ask = list_entry(client, struct ask, client);
    http_peer_name(ask->exchange, room);
}

static void reply_to(struct client *client, struct slice reply) {
    struct ask *ask = list_entry(client, struct ask, client);
    struct door_http *door = ask->door;
    uncount(ask, ask->bytes); /* the message, and what the loop made of it */
    buffer_deinit(&ask->message);
    buffer_append(&ask->reply, reply.data, reply.size);
    count(ask, ask->reply.size);
    if (ask->reply.failed) log_event(LOG_ERROR, "reply_dropped", "bytes=%zu", reply.size);
    struct http_exchange *exchange = ask->exchange;
    atomic_fetch_sub(&door->waiting, 1);
    http_resume(exchange);
}

static const struct client_ops http_client = {
    .door = DOOR_HTTP, .charge = charge, .gone = gone, .name = name, .reply = reply_to};

static void on_ask(struct post *post) {
    struct ask *ask = list_entry(post, struct ask, post);
    struct door_http *door = ask->door;
    ask->admitted = atomic_load(&door->admitted) < door->options.requests_max;
    if (ask->admitted) atomic_fetch_add(&door->admitted, 1);
    door->options.request_cb(door->options.arg, &ask->client, buffer_slice(&ask->message),
                             ask->admitted ? SK_OK : SK_OVERLOADED);
}

/* ---- as the HTTP thread sees it ---- */

static void *head_cb(void *arg, struct http_exchange *exchange) {
    struct door_http *door = arg;
    struct ask *ask = calloc(1, sizeof *ask);
    struct http_head head = {.method = http_method(exchange), .target = http_target(exchange)};
    if (ask == NULL) return NULL;
    *ask = (struct ask){.post.handle = on_ask, .client.ops = &http_client, .door = door, .exchange = exchange};
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        buffer_init(&head.fields[i]);
        head.counts[i] = http_fields(exchange, http_head_names[i], &head.fields[i]);
    }
    head.certified = door->options.rules.certificates && http_is_certified(exchange);
    http_call_init(&ask->call, &head, &door->options.rules);
    for (size_t i = 0; i < FIELD_COUNT; i++) buffer_deinit(&head.fields[i]);
    ask->client.proven = http_call_is_proven(&ask->call);
    if (http_call_is_too_long(&ask->call)) http_refuse_body(exchange);
    atomic_fetch_add(&door->in_flight, 1);
    return ask;
}

static void refuse(struct ask *ask, int err, const char *text) {
    http_call_refuse(&ask->call, err, text);
    release(ask, &ask->body);
}

static void body_cb(void *request, struct slice piece) {
    struct ask *ask = request;
    uint64_t most = http_call_body_max(&ask->call);
    if (most == 0) {
        ask->dropped_bytes += piece.size;
        if (ask->dropped_bytes > DROPPED_BYTES_MAX) http_cut(ask->exchange);
    } else if (ask->body.size + piece.size > most) {
        refuse(ask, SK_TOOLARGE, http_call_length_text(&ask->call));
    } else if (!count_if_room(ask, piece.size)) {
        refuse(ask, SK_OVERLOADED, "too many bytes in flight");
    } else {
        uint8_t *room = buffer_extend(&ask->body, piece.size);
        if (room != NULL) memcpy(room, piece.data, piece.size);
        else uncount(ask, piece.size);
        if (room == NULL) refuse(ask, SK_OVERLOADED, "out of memory");
    }
}

/* The message, in place of the body. */
static void make_message(struct ask *ask) {
    if (!http_call_asks(&ask->call)) return;
    http_call_message(&ask->call, buffer_slice(&ask->body), &ask->message);
    release(ask, &ask->body);
    if (!count_if_room(ask, ask->message.size)) {
        http_call_refuse(&ask->call, SK_OVERLOADED, "too many bytes in flight");
        buffer_deinit(&ask->message);
    }
}

static bool whole_cb(void *request) {
    struct ask *ask = request;
    struct door_http *door = ask->door;
    make_message(ask);
    if (!http_call_asks(&ask->call)) return true;
    atomic_fetch_add(&door->waiting,
                     1); /* before the look at `ended`: door_http_end does it the other way round */
    if (!atomic_load(&door->ended)) return false;
    atomic_fetch_sub(&door->waiting, 1);
    http_call_refuse(&ask->call, SK_UNAVAILABLE, "the gateway is stopping");
    return true;
}

static void submit_cb(void *request) {
    struct ask *ask = request;
    post_to(ask->door->options.mailbox, &ask->post);
}

static void answer_cb(void *request, struct http_answer *answer) {
    struct ask *ask = request;
    http_call_answer(&ask->call, buffer_slice(&ask->reply), answer);
    release(ask, &ask->reply);
    count(ask, answer->body.size);
}

static void end_cb(void *request) {
    struct ask *ask = request;
    struct door_http *door = ask->door;
    uncount(ask, ask->bytes);
    if (ask->admitted) atomic_fetch_sub(&door->admitted, 1);
    atomic_fetch_sub(&door->in_flight, 1);
    http_call_deinit(&ask->call);
    buffer_deinit(&ask->body);
    buffer_deinit(&ask->message);
    buffer_deinit(&ask->reply);
    free(ask);
}

/* ---- open and close ---- */

int door_http_new(struct door_http **made, const struct door_http_options *options) {
    struct door_http *door = calloc(1, sizeof *door);
    if (door == NULL) return SK_ENOMEM;
    door->options = *options;
    door->service = (struct http_service){.prefix = HTTP_PREFIX,
                                          .arg = door,
                                          .head_cb = head_cb,
                                          .body_cb = body_cb,
                                          .whole_cb = whole_cb,
                                          .submit_cb = submit_cb,
                                          .answer_cb = answer_cb,
                                          .end_cb = end_cb};
    *made = door;
    return SK_OK;
}

const struct http_service *door_http_service(const struct door_http *door) { return &door->service; }

uint32_t door_http_in_flight(const struct door_http *door) {
    return door == NULL ? 0 : atomic_load(&door->in_flight);
}

void door_http_end(struct door_http *door) {
    if (door != NULL) atomic_store(&door->ended, true);
}

bool door_http_waits(const struct door_http *door) { return door != NULL && atomic_load(&door->waiting) > 0; }

void door_http_free(struct door_http *door) { free(door); }
