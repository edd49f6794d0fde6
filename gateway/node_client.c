#include "gateway/node_client.h"

#include "gateway/post.h"
#include "gateway/window.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/map.h"
#include "libcommon/pipeline.h"

#include <nng/nng.h>
#include <stdatomic.h>
#include <stdlib.h>

#define FRAME_BYTES_WANTED (1u * 1024 * 1024) /* a frame ends here even if more is queued */

/* Writes are answered together, when the log has them on disk. While so many of them are out, further ones gather until the frames
 * before are taken, which they hear of with those answers; but not for long, and no more than a frame is worth. Each frame
 * costs three nodes some 100 microseconds of processor time, whatever is in it. Where the answers take long it is the
 * disk that does, and the logs have to have the next group while they sync this one. */
#define GATHER_WRITES_OUT 4u
#define GATHER_PARTS_MAX  32u
#define GATHER_BYTES_MAX  65536u
#define GATHER_MS_MAX     5u /* also: so long a write may take on average */

/* Of the last frame. The loop waits for the end of its way only when there is something to send behind it. */
enum sending { SENDING_NOTHING, SENDING, SENDING_AWAITED };

/* One connection, or the dialling for it, and what its callbacks post, each at most once at a time. */
struct connection {
    struct node_client *client;
    struct pipeline *pipeline; /* owned until `ended` */
    bool ended;                /* what is still in the mailbox means nothing */
    atomic_int sending;        /* enum sending */
    atomic_bool sent_posted;   /* sent_post is in the mailbox */
    struct post up_post, lost_post, sent_post;
    struct post end_post; /* the last: nothing of it is in the mailbox behind this */
};

struct node_client {
    struct node_client_handler handler;
    struct mailbox *mailbox; /* borrowed */
    struct tally *tally;     /* borrowed */
    const char *return_address;
    uint64_t cluster, session;
    uint32_t node;
    char address[MAP_ADDRESS_BYTES];

    bool closed;
    struct connection *connection; /* owned; NULL: there is none until redial_ms */
    bool connected;
    uint64_t redial_ms; /* if not connected */
    struct window window;
    struct seen seen; /* frames of answers */
    struct list pending;
    struct list sent;
    size_t pending_bytes;
    uint32_t pending_parts;
    uint32_t pending_writes, sent_writes; /* without those that may wait for something to take */
    const struct part *timed;             /* one of sent_writes, on its way since timed_ms */
    uint64_t timed_ms;
    uint64_t write_eighths_ms; /* how long writes take, a moving average: eight times as much */
};

/* --- what the pipeline calls --------------------------------------------------------------------------------- */

static void up_cb(void *arg, struct pipeline *pipeline) {
    struct connection *connection = arg;
    (void)pipeline;
    post_to(connection->client->mailbox, &connection->up_post);
}

static void lost_cb(void *arg, struct pipeline *pipeline) {
    struct connection *connection = arg;
    (void)pipeline;
    post_to(connection->client->mailbox, &connection->lost_post);
}

static void sent_cb(void *arg, struct pipeline *pipeline) {
    struct connection *connection = arg;
    (void)pipeline;
    bool awaited = atomic_exchange(&connection->sending, SENDING_NOTHING) == SENDING_AWAITED;
    if (!awaited || atomic_exchange(&connection->sent_posted, true)) return;
    post_to(connection->client->mailbox, &connection->sent_post);
}

/* --- connections --------------------------------------------------------------------------------------------- */

static void on_up(struct post *post);
static void on_lost(struct post *post);
static void on_sent(struct post *post);

static void on_end(struct post *post) { free(list_entry(post, struct connection, end_post)); }

/* `end`: how the pipeline is closed. */
static void end_connection(struct node_client *client, void (*end)(struct pipeline *pipeline)) {
    struct connection *connection = client->connection;
    client->connection = NULL;
    client->connected = false;
    if (connection == NULL) return;
    connection->ended = true;
    end(connection->pipeline); /* none of the callbacks comes after it */
    post_to(client->mailbox, &connection->end_post);
}

static int begin_connection(struct node_client *client, uint64_t now_ms) {
    struct connection *connection = calloc(1, sizeof *connection);
    client->redial_ms = now_ms + PIPELINE_DIAL_MS;
    if (connection == NULL) return SK_ENOMEM;
    connection->client = client;
    connection->up_post.handle = on_up;
    connection->lost_post.handle = on_lost;
    connection->sent_post.handle = on_sent;
    connection->end_post.handle = on_end;
    struct pipeline_options options = {
        .address = client->address, .arg = connection, .up_cb = up_cb, .lost_cb = lost_cb, .sent_cb = sent_cb};
    int err = pipeline_open(&connection->pipeline, &options);
    if (err != SK_OK) {
        free(connection);
        return err;
    }
    client->connection = connection;
    err = pipeline_dial(connection->pipeline);
    if (err != SK_OK) end_connection(client, pipeline_close);
    return err;
}

/* --- open and close ------------------------------------------------------------------------------------------ */

int node_client_open(struct node_client **out, const struct node_client_options *options) {
    struct node_client *client = calloc(1, sizeof *client);
    if (client == NULL) return SK_ENOMEM;
    client->handler = options->handler;
    client->mailbox = options->mailbox;
    client->tally = options->tally;
    client->return_address = options->return_address;
    client->cluster = options->cluster;
    client->session = options->session;
    client->node = options->node;
    size_t bytes = strlen(options->frames_address);
    if (bytes >= sizeof client->address) bytes = sizeof client->address - 1;
    memcpy(client->address, options->frames_address, bytes);
    window_init(&client->window, options->node);
    list_init(&client->pending);
    list_init(&client->sent);
    int err = begin_connection(client, clock_boottime_ms());
    if (err != SK_OK) {
        char room[MAP_ADDRESS_BYTES + 16];
        log_event(LOG_ERROR, "node_address_bad", "node=%u address=%s error=%s", client->node,
                  log_quote(client->address, room, sizeof room), error_name(err));
        free(client);
        return err == SK_ENOMEM ? SK_ENOMEM : SK_ENET;
    }
    *out = client;
    return SK_OK;
}

static uint32_t writes_in(const struct part *part) {
    return (part->flags & REQUEST_WRITE) != 0 && !part->waits ? 1 : 0;
}

/* Gives parts of both lists to the handler: the queue's were not sent, and their state says so. */
static void give_back(struct node_client *client, bool queue_too) {
    struct list parts;
    list_init(&parts);
    list_move_all(&parts, &client->sent);
    client->sent_writes = 0;
    client->timed = NULL;
    if (queue_too) {
        list_move_all(&parts, &client->pending);
        client->pending_bytes = 0;
        client->pending_parts = client->pending_writes = 0;
    }
    if (!list_empty(&parts)) client->handler.lost_cb(client->handler.arg, &parts);
}

void node_client_close(struct node_client *client) {
    if (client->closed) return;
    client->closed = true;
    end_connection(client, pipeline_close);
    give_back(client, true);
}

void node_client_free(struct node_client *client) {
    if (client == NULL) return;
    sk_assert(client->closed && list_empty(&client->pending) && list_empty(&client->sent));
    free(client);
}

uint32_t node_client_node(const struct node_client *client) { return client->node; }

const char *node_client_address(const struct node_client *client) { return client->address; }

bool node_client_connected(const struct node_client *client) { return client->connected; }

bool node_client_slow(const struct node_client *client, uint64_t now_ms) {
    return client->connected && window_slow(&client->window, now_ms);
}

/* --- what was posted ----------------------------------------------------------------------------------------- */

static void on_up(struct post *post) {
    struct connection *connection = list_entry(post, struct connection, up_post);
    struct node_client *client = connection->client;
    if (connection->ended) return;
    client->connected = true;
    log_event(LOG_INFO, "node_connected", "node=%u", client->node);
    client->handler.connected_cb(client->handler.arg, client);
}

/* Another is to take its place. */
static void lose_connection(struct node_client *client, uint64_t now_ms) {
    end_connection(client, pipeline_retire);
    client->redial_ms = now_ms + PIPELINE_PAUSE_MS;
    window_reset(&client->window);
    give_back(client, true);
}

static void on_lost(struct post *post) {
    struct connection *connection = list_entry(post, struct connection, lost_post);
    struct node_client *client = connection->client;
    if (connection->ended) return;
    if (client->connected) log_event(LOG_WARNING, "node_lost", "node=%u", client->node);
    lose_connection(client, clock_boottime_ms());
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
    if (!client->closed && !client->connected && now_ms >= client->redial_ms) {
        end_connection(client, pipeline_retire);
        (void)begin_connection(client, now_ms); /* or later */
    }
    if (!client->connected || !window_stalled(&client->window, now_ms)) return;
    /* A new connection: after a long cut TCP would try the old one again only seconds after its end. */
    log_event(LOG_WARNING, "node_stalled", "node=%u", client->node);
    window_on_stall(&client->window);
    lose_connection(client, now_ms);
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
    client->pending_parts++;
    client->pending_writes += writes_in(part);
    part->node = client;
    part->state = PART_PENDING;
    list_add_last(&client->pending, &part->link);
    return SK_OK;
}

/* Out of the queue. */
static void take_pending(struct node_client *client, struct part *part) {
    client->pending_bytes -= cost_of(part);
    client->pending_parts--;
    client->pending_writes -= writes_in(part);
    list_remove(&part->link);
}

static void add_sent(struct node_client *client, struct part *part, uint64_t now_ms) {
    client->sent_writes += writes_in(part);
    if (client->timed == NULL && writes_in(part) > 0) {
        client->timed = part;
        client->timed_ms = now_ms;
    }
    part->state = PART_SENT;
    list_add_last(&client->sent, &part->link);
}

static void take_sent(struct node_client *client, struct part *part) {
    if (part == client->timed) {
        client->write_eighths_ms += clock_boottime_ms() - client->timed_ms - client->write_eighths_ms / 8;
        client->timed = NULL;
    }
    client->sent_writes -= writes_in(part);
    list_remove(&part->link);
}

void node_client_remove(struct node_client *client, struct part *part) {
    sk_assert(part->node == client);
    if (part->state == PART_PENDING) take_pending(client, part);
    else take_sent(client, part);
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
        take_pending(client, part);
        add_sent(client, part, now_ms);
        part->epoch = item.epoch;
    }
    /* frame_request_bytes is exact, so the buffer never had to grow away from the message */
    sk_assert(buffer.data == nng_msg_body(message) && buffer.size == bytes);
    frame_finish(buffer.data, window_send(&client->window, now_ms), client->seen.highest, count);
    return message;
}

/* If not, sent_cb will post. */
static bool has_sent(struct connection *connection) {
    int sending = SENDING;
    bool awaits = atomic_compare_exchange_strong(&connection->sending, &sending, SENDING_AWAITED);
    return !awaits && sending == SENDING_NOTHING;
}

/* A read goes with the next frame, and takes with it what has gathered. */
static bool gathers(const struct node_client *client, uint64_t now_ms) {
    bool soon = !window_empty(&client->window) && !window_still(&client->window, GATHER_MS_MAX, now_ms) &&
                client->write_eighths_ms <= 8 * GATHER_MS_MAX;
    bool small = client->pending_parts < GATHER_PARTS_MAX && client->pending_bytes < GATHER_BYTES_MAX;
    return soon && small && client->pending_parts == client->pending_writes &&
           client->sent_writes >= GATHER_WRITES_OUT;
}

void node_client_flush(struct node_client *client, uint64_t now_ms) {
    bool ready = client->connected && !list_empty(&client->pending) && window_open(&client->window);
    if (!ready || gathers(client, now_ms) || !has_sent(client->connection)) return;
    size_t bytes;
    uint32_t count = frame_extent(client, now_ms, &bytes);
    nng_msg *message = build_frame(client, count, bytes, now_ms);
    if (message == NULL) return; /* the next round tries again */
    atomic_store(&client->connection->sending, list_empty(&client->pending) ? SENDING : SENDING_AWAITED);
    if (pipeline_send(client->connection->pipeline, message) != SK_OK) { /* its end gives the parts back */
        atomic_store(&client->connection->sending, SENDING_NOTHING);
        nng_msg_free(message);
        return;
    }
    metrics_add(&client->tally->frames, 1);
    metrics_add(&client->tally->frame_commands, count);
}

static void on_sent(struct post *post) {
    struct connection *connection = list_entry(post, struct connection, sent_post);
    struct node_client *client = connection->client;
    atomic_store(&connection->sent_posted, false); /* before the flush: what ends from here on posts again */
    if (connection->ended) return;
    node_client_flush(client, clock_boottime_ms());
}
