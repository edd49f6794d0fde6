#include "shardd/peers.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/cluster_net.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/pipeline.h"
#include "libcommon/ticker.h"
#include "shardd/peer_intake.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define TICK_MS         20u  /* where a connection is missing */
#define SETTLED_TICK_MS 100u /* else; a loss and a new map wake the ticker */
#define DOWN_US         40000u
#define REDIAL_US       2000000u /* without a sign of life; also how long one attempt to connect may take */
#define TELL_BYTES      (PEER_WINDOW_BYTES / 4) /* taken and not told: said at once */
#define TELL_US         200000u /* frames that have come are confirmed so often if nothing else is said */
#define MESSAGE_MAX     (4u * 1024 * 1024)
#define REFUSED_LOGGED  1000u /* one of so many refused frames is logged */

_Static_assert(PEER_HEADER_BYTES + 2 * (PEER_FRAME_BYTES + PEER_CHUNK_BYTES) < MESSAGE_MAX,
               "a frame is full before its last parcel, and no parcel of small items is larger than these");

struct peer_link {
    struct peers *peers;
    uint32_t node;

    /* the ticker only */
    char dialled[MAP_ADDRESS_BYTES];
    uint64_t dialled_us;

    pthread_mutex_t
        lock; /* guards what follows; callbacks to the node's owner run under it, so they keep its order */
    char address[MAP_ADDRESS_BYTES]; /* as in the map; empty = in it no more */
    struct pipeline *pipeline;       /* owned; dialling, connected or lost; the ticker replaces it. May be NULL */
    bool connected, lost;            /* of the pipeline */
    bool sending;                    /* until it says that it has sent */
    bool down;                       /* down_cb was called */
    bool full;                       /* somebody met no room */
    uint64_t lost_us;
    uint64_t connection; /* number of the last */
    struct peer_queue queue;
    struct peer_intake intake;
    uint64_t told_us, told_number, told_taken; /* of what has come */
};

struct peers {
    struct peers_options options;
    nng_socket socket;
    nng_aio *receive;
    struct ticker *ticker;         /* owned; from peers_start on */
    uint64_t cluster, incarnation; /* set before anything is received, then constant */
    uint32_t node;
    metrics_counter frames_in, bytes_in, refused; /* written by the receive callback only */
    atomic_ullong frames_out, bytes_out;
    uint64_t map_version; /* the thread of peers_set_map only */
    atomic_uint_least64_t streams;

    pthread_mutex_t lock;     /* guards what follows */
    uint32_t *nodes;          /* owned: of the links, in their order */
    struct peer_link **links; /* owned, and so is each; none goes before peers_close */
    size_t link_count;
};

static struct peer_link *find_link(struct peers *peers, uint32_t node) {
    struct peer_link *link = NULL;
    pthread_mutex_lock(&peers->lock);
    for (size_t i = 0; i < peers->link_count && link == NULL; i++) {
        if (peers->nodes[i] == node) link = peers->links[i];
    }
    pthread_mutex_unlock(&peers->lock);
    return link;
}

/* The link after the first `at`, or NULL. Links are only ever added, at the end. */
static struct peer_link *link_at(struct peers *peers, size_t at) {
    pthread_mutex_lock(&peers->lock);
    struct peer_link *link = at < peers->link_count ? peers->links[at] : NULL;
    pthread_mutex_unlock(&peers->lock);
    return link;
}

/* ---- sending; link->lock is held ---- */

static void send_frame(struct peer_link *link, const struct peer_cut *cut, uint64_t now_us) {
    nng_msg *message;
    size_t bytes = PEER_HEADER_BYTES + cut->urgent_bytes + cut->bulk_bytes;
    if (nng_msg_alloc(&message, bytes) != 0) return; /* the next tick tries again */
    struct peer_header header = {
        .cluster = link->peers->cluster,
        .from = link->peers->node,
        .to = link->node,
        .from_incarnation = link->peers->incarnation,
        .to_incarnation = link->intake.incarnation,
        .heard_connection = link->intake.connection,
        .heard_number = link->intake.number,
        .heard_taken = peer_intake_taken(&link->intake),
    };
    link->told_us = now_us;
    link->told_number = header.heard_number;
    link->told_taken = header.heard_taken;
    peer_queue_fill(&link->queue, cut, &header, nng_msg_body(message), now_us);
    link->sending = pipeline_send(link->pipeline, message) == SK_OK;
    if (!link->sending) { /* the connection has ended, and its end will be told */
        nng_msg_free(message);
        return;
    }
    atomic_fetch_add_explicit(&link->peers->frames_out, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&link->peers->bytes_out, bytes, memory_order_relaxed);
}

static bool may_send(const struct peer_link *link) { return link->connected && !link->sending; }

/* Sends what may go. While a frame is on its way, what comes gathers for the next one. */
static void send_next(struct peer_link *link) {
    struct peer_cut cut;
    if (!may_send(link) || !peer_queue_cut(&link->queue, &cut)) return;
    send_frame(link, &cut, clock_boottime_us());
    if (link->full && peer_queue_room(&link->queue) >= PEER_BULK_BYTES_MAX / 2) {
        link->full = false;
        link->peers->options.room_cb(link->peers->options.arg, link->node);
    }
}

/* Tells what has come and been taken in a frame of its own, if none has by the way: when it is much, and at a tick. */
static void tell(struct peer_link *link, bool at_tick) {
    static const struct peer_cut nothing;
    if (!may_send(link)) return;
    uint64_t now_us = clock_boottime_us();
    uint64_t untold = peer_intake_taken(&link->intake) - link->told_taken; /* much, too, of another connection */
    bool late = link->intake.number != link->told_number && now_us >= link->told_us + TELL_US;
    if (untold >= TELL_BYTES || (at_tick && (untold > 0 || late))) send_frame(link, &nothing, now_us);
}

static void sent_cb(void *arg, struct pipeline *pipeline) {
    struct peer_link *link = arg;
    pthread_mutex_lock(&link->lock);
    if (link->pipeline == pipeline) {
        link->sending = false;
        send_next(link);
    }
    pthread_mutex_unlock(&link->lock);
}

void peers_send(struct peers *peers, uint32_t node, struct parcel_list *urgent, struct parcel_list *bulk) {
    struct peer_link *link = find_link(peers, node);
    if (link == NULL) {
        parcel_list_free(urgent);
        parcel_list_free(bulk);
        return;
    }
    pthread_mutex_lock(&link->lock);
    uint64_t dropped = link->queue.dropped;
    peer_queue_add(&link->queue, urgent, bulk);
    if (dropped == 0 && link->queue.dropped > 0) {
        log_event(LOG_WARNING, "peer_items_dropped", "node=%u queued_bytes=%zu", node, link->queue.urgent.bytes);
    }
    send_next(link);
    pthread_mutex_unlock(&link->lock);
}

size_t peers_room(struct peers *peers, uint32_t node) {
    struct peer_link *link = find_link(peers, node);
    if (link == NULL) return 0;
    pthread_mutex_lock(&link->lock);
    size_t room = peer_queue_room(&link->queue);
    if (room == 0 && link->connected) link->full = true;
    pthread_mutex_unlock(&link->lock);
    return room;
}

uint64_t peers_next_stream(struct peers *peers) { return atomic_fetch_add(&peers->streams, 1) + 1; }

/* ---- connections ---- */

static void connected_cb(void *arg, struct pipeline *pipeline) {
    struct peer_link *link = arg;
    pthread_mutex_lock(&link->lock);
    if (link->pipeline == pipeline) { /* else it is being closed */
        /* The clock makes the number new to the other side also after a restart. */
        uint64_t now_us = clock_boottime_us();
        link->connection = now_us > link->connection ? now_us : link->connection + 1;
        link->connected = true;
        link->down = false;
        peer_queue_connect(&link->queue, link->connection);
        link->told_number = link->told_taken = 0; /* what was told may be lost too */
        link->peers->options.up_cb(link->peers->options.arg, link->node);
    }
    pthread_mutex_unlock(&link->lock);
}

/* Whatever waits belongs to the connection that is gone. */
static void lose_connection(struct peer_link *link) {
    link->connected = link->full = false;
    link->lost_us = clock_boottime_us();
    peer_queue_connect(&link->queue, 0);
    log_event(LOG_INFO, "peer_lost", "node=%u", link->node);
}

static void lost_cb(void *arg, struct pipeline *pipeline) {
    struct peer_link *link = arg;
    pthread_mutex_lock(&link->lock);
    if (link->pipeline == pipeline) {
        link->lost = true;
        if (link->connected) lose_connection(link);
        ticker_wake(link->peers->ticker);
    }
    pthread_mutex_unlock(&link->lock);
}

/* Puts a pipeline, or none, in the place of the one there is; returns that. */
static struct pipeline *exchange(struct peer_link *link, struct pipeline *pipeline) {
    pthread_mutex_lock(&link->lock);
    struct pipeline *before = link->pipeline;
    link->pipeline = pipeline;
    link->lost = link->sending = false;
    if (link->connected) lose_connection(link);
    pthread_mutex_unlock(&link->lock);
    return before;
}

/* Ends the connection, if there is one, or the attempt to connect, and begins another. */
static void redial(struct peer_link *link, const char *address, uint64_t now_us) {
    bool same = strcmp(address, link->dialled) == 0;
    pipeline_retire(exchange(link, NULL));
    link->dialled_us = now_us;
    memcpy(link->dialled, address, sizeof link->dialled);
    if (address[0] == '\0') return;
    struct pipeline_options options = {
        .address = address, .arg = link, .up_cb = connected_cb, .lost_cb = lost_cb, .sent_cb = sent_cb};
    struct pipeline *pipeline;
    int err = pipeline_open(&pipeline, &options);
    if (err == SK_OK) {
        exchange(link, pipeline);
        err = pipeline_dial(pipeline);
    }
    if (err != SK_OK && !same) {
        char quoted[MAP_ADDRESS_BYTES * 4 + 3];
        log_event(LOG_ERROR, "peer_not_dialled", "node=%u address=%s error=%s", link->node,
                  log_quote(address, quoted, sizeof quoted), error_name(err));
    }
}

/* Whether all is as it is to stay. */
static bool tick_link(struct peer_link *link) {
    uint64_t now_us = clock_boottime_us();
    char address[MAP_ADDRESS_BYTES];
    pthread_mutex_lock(&link->lock);
    if (!link->connected && !link->down && now_us >= link->lost_us + DOWN_US) {
        link->down = true;
        link->peers->options.down_cb(link->peers->options.arg, link->node);
    }
    bool stalled = link->connected && peer_queue_stalled(&link->queue, now_us, REDIAL_US);
    bool nobody = !link->connected && now_us >= link->dialled_us + REDIAL_US;
    uint64_t paused_us = now_us - PIPELINE_PAUSE_MS * 1000u;
    bool lost = link->lost && paused_us >= link->lost_us && paused_us >= link->dialled_us;
    if (stalled) log_event(LOG_WARNING, "peer_stalled", "node=%u", link->node);
    memcpy(address, link->address, sizeof address);
    tell(link, true);
    send_next(link); /* if memory was short */
    bool settled = link->connected || (link->down && address[0] == '\0');
    pthread_mutex_unlock(&link->lock);
    bool redials = stalled || nobody || lost || strcmp(address, link->dialled) != 0;
    if (redials) redial(link, address, now_us);
    return settled && !redials;
}

static uint32_t tick_cb(void *arg) {
    struct peers *peers = arg;
    struct peer_link *link;
    bool settled = true;
    for (size_t i = 0; (link = link_at(peers, i)) != NULL; i++) settled = tick_link(link) && settled;
    return settled ? SETTLED_TICK_MS : TICK_MS;
}

/* ---- the map ---- */

/* A link that the ticker will dial; NULL when out of memory. */
static struct peer_link *add_link(struct peers *peers, uint32_t node) {
    struct peer_link *link = calloc(1, sizeof *link);
    if (link == NULL) return NULL;
    link->peers = peers;
    link->node = node;
    link->lost_us = clock_boottime_us();
    pthread_mutex_init(&link->lock, NULL);

    pthread_mutex_lock(&peers->lock);
    size_t count = peers->link_count + 1;
    uint32_t *nodes = realloc(peers->nodes, count * sizeof *nodes);
    if (nodes != NULL) peers->nodes = nodes;
    struct peer_link **links = realloc(peers->links, count * sizeof *links);
    if (links != NULL) peers->links = links;
    bool added = nodes != NULL && links != NULL;
    if (added) {
        nodes[count - 1] = node;
        links[count - 1] = link;
        peers->link_count = count;
    }
    pthread_mutex_unlock(&peers->lock);
    if (added) return link;
    pthread_mutex_destroy(&link->lock);
    free(link);
    return NULL;
}

static void set_node(struct peers *peers, const struct map_node *node) {
    struct peer_link *link = find_link(peers, node->id);
    if (link == NULL) link = add_link(peers, node->id);
    if (link == NULL) {
        log_event(LOG_ERROR, "peer_not_added", "node=%u error=%s", node->id, error_name(SK_ENOMEM));
        return;
    }
    pthread_mutex_lock(&link->lock);
    memcpy(link->address, node->replication_address, sizeof link->address);
    peer_intake_on_incarnation(&link->intake, node->incarnation);
    pthread_mutex_unlock(&link->lock);
}

void peers_set_map(struct peers *peers, const struct map *map) {
    struct peer_link *link;
    sk_assert(peers->node != 0);
    if (map->version <= peers->map_version) return;
    peers->map_version = map->version;
    for (uint32_t i = 0; i < map->node_count; i++) {
        if (map->nodes[i].id != peers->node) set_node(peers, &map->nodes[i]);
    }
    for (size_t i = 0; (link = link_at(peers, i)) != NULL; i++) {
        if (map_find_node(map, link->node) != NULL) continue;
        pthread_mutex_lock(&link->lock);
        link->address[0] = '\0';
        pthread_mutex_unlock(&link->lock);
    }
    ticker_wake(peers->ticker);
}

/* ---- receiving ---- */

struct peer_frame *peer_frame_ref(struct peer_frame *frame) {
    atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
    return frame;
}

static void frame_free(struct peer_frame *frame) {
    if (frame->message != NULL) nng_msg_free(frame->message);
    buffer_deinit(&frame->item);
    free(frame);
}

void peer_frame_unref(struct peer_frame *frame) {
    if (frame == NULL || atomic_fetch_sub(&frame->refs, 1) != 1) return;
    struct peer_link *link = frame->link;
    if (frame->held_bytes > 0) {
        pthread_mutex_lock(&link->lock);
        peer_intake_release(&link->intake, frame->generation, frame->held_bytes);
        tell(link, false);
        pthread_mutex_unlock(&link->lock);
    }
    frame_free(frame);
}

/* Whether the one bulk item is a chunk. */
static bool take_chunk(const struct peer_frame *frame, struct peer_chunk *chunk) {
    struct peer_item item;
    struct slice rest = frame->bulk;
    if (peer_wire_read_item(&frame->header, &rest, &item) != SK_OK || item.kind != PEER_CHUNK) return false;
    *chunk = item.is.chunk;
    return true;
}

/* A chunk makes way for the item that it completes, or for nothing. SK_OK also when there is more to come. */
static int assemble(struct peer_frame *frame, const struct peer_chunk *chunk) {
    int err = peer_intake_on_chunk(&frame->link->intake, chunk, &frame->item);
    frame->bulk = buffer_slice(&frame->item);
    return err == SK_RETRY ? SK_OK : err;
}

/* With the link's lock: the frame in its order. SK_STALE_EPOCH: it is of an earlier process or connection. */
static int take_in(struct peer_frame *frame) {
    struct peer_link *link = frame->link;
    const struct peer_header *header = &frame->header;
    size_t bulk_bytes = frame->bulk.size;
    struct peer_chunk chunk;
    int err = SK_OK;
    if (!peer_intake_on_incarnation(&link->intake, header->from_incarnation)) return SK_STALE_EPOCH;
    if (!peer_intake_on_frame(&link->intake, header, bulk_bytes)) return SK_STALE_EPOCH;
    peer_queue_on_heard(&link->queue, header, clock_boottime_us());
    send_next(link); /* the window may have opened */
    if (take_chunk(frame, &chunk)) err = assemble(frame, &chunk);
    if (frame->bulk.size > 0) {
        frame->held_bytes = bulk_bytes;
        frame->generation = peer_intake_hold(&link->intake, bulk_bytes);
    }
    tell(link, false);
    return err;
}

/* A frame of the message that it owns. */
static int make_frame(struct peers *peers, struct peer_frame *frame) {
    struct slice bytes = slice_of(nng_msg_body(frame->message), nng_msg_len(frame->message));
    struct peer_header *header = &frame->header;
    int err = peer_wire_read_frame(bytes, header, &frame->urgent, &frame->bulk);
    if (err != SK_OK) return err;
    if (header->cluster != peers->cluster || header->to != peers->node) return SK_EPROTO;
    if (header->to_incarnation != 0 && header->to_incarnation != peers->incarnation) return SK_STALE_EPOCH;
    frame->link = find_link(peers, header->from);
    if (frame->link == NULL) return SK_NOT_FOUND;
    pthread_mutex_lock(&frame->link->lock);
    err = take_in(frame);
    pthread_mutex_unlock(&frame->link->lock);
    return err;
}

static void log_refused(struct peers *peers, const struct peer_frame *frame, int err) {
    metrics_add(&peers->refused, 1);
    uint64_t refused = metrics_get(&peers->refused);
    if (refused % REFUSED_LOGGED != 1) return;
    log_event(LOG_WARNING, "peer_frame_refused", "node=%u reason=%s refused=%llu", frame->header.from,
              error_name(err), (unsigned long long)refused);
}

static void on_message(struct peers *peers, nng_msg *message) {
    struct peer_frame *frame = calloc(1, sizeof *frame);
    if (frame == NULL) {
        nng_msg_free(message);
        return;
    }
    metrics_add(&peers->frames_in, 1);
    metrics_add(&peers->bytes_in, nng_msg_len(message));
    atomic_init(&frame->refs, 1);
    frame->message = message;
    int err = make_frame(peers, frame);
    if (err != SK_OK) log_refused(peers, frame, err);
    if (err == SK_OK && frame->urgent.size + frame->bulk.size > 0) {
        peers->options.frame_cb(peers->options.arg, frame);
    } else {
        frame_free(frame);
    }
}

static void received_cb(void *arg) {
    struct peers *peers = arg;
    int rc = nng_aio_result(peers->receive);
    if (rc == NNG_ECLOSED || rc == NNG_ECANCELED) return;
    if (rc == 0) on_message(peers, nng_aio_get_msg(peers->receive));
    nng_recv_aio(peers->socket, peers->receive);
}

void peers_stats(struct peers *peers, struct peers_stats *stats) {
    *stats = (struct peers_stats){
        .frames_in = metrics_get(&peers->frames_in),
        .bytes_in = metrics_get(&peers->bytes_in),
        .refused_frames = metrics_get(&peers->refused),
        .frames_out = atomic_load_explicit(&peers->frames_out, memory_order_relaxed),
        .bytes_out = atomic_load_explicit(&peers->bytes_out, memory_order_relaxed),
    };
    struct peer_link *link;
    for (size_t i = 0; (link = link_at(peers, i)) != NULL; i++) {
        pthread_mutex_lock(&link->lock);
        stats->known += link->address[0] != '\0';
        stats->connected += link->address[0] != '\0' && link->connected;
        pthread_mutex_unlock(&link->lock);
    }
}

/* ---- life ---- */

int peers_open(struct peers **made, const struct peers_options *options, char *text, size_t text_bytes,
               int *port) {
    struct peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL) return SK_ENOMEM;
    peers->options = *options;
    pthread_mutex_init(&peers->lock, NULL);
    nng_listener listener;
    int rc = nng_pull0_open(&peers->socket);
    bool open = rc == 0;
    if (rc == 0) rc = nng_aio_alloc(&peers->receive, received_cb, peers);
    if (rc == 0) rc = nng_socket_set_size(peers->socket, NNG_OPT_RECVMAXSZ, MESSAGE_MAX);
    if (rc == 0) rc = cluster_net_listen(peers->socket, options->listen, &listener);
    if (rc == 0 && port != NULL && nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, port) != 0) *port = 0;
    if (rc == 0) {
        *made = peers;
        return SK_OK;
    }
    snprintf(text, text_bytes, "cannot listen on %s: %s", options->listen, nng_strerror(rc));
    if (open) nng_close(peers->socket);
    if (peers->receive != NULL) nng_aio_free(peers->receive);
    pthread_mutex_destroy(&peers->lock);
    free(peers);
    return rc == NNG_ENOMEM ? SK_ENOMEM : SK_ECONFIG;
}

int peers_start(struct peers *peers, uint64_t cluster, uint32_t node, uint64_t incarnation) {
    sk_assert(peers->node == 0 && node != 0);
    peers->cluster = cluster;
    peers->node = node;
    peers->incarnation = incarnation;
    nng_recv_aio(peers->socket, peers->receive);
    return ticker_new(&peers->ticker, tick_cb, peers);
}

/* The socket stays open: nng 1.5.2 may wait for ever where one is closed while a message arrives (libcommon/ending.h). */
void peers_stop_receiving(struct peers *peers) { nng_aio_stop(peers->receive); }

static bool all_sent(struct peers *peers) {
    struct peer_link *link;
    bool sent = true;
    for (size_t i = 0; sent && (link = link_at(peers, i)) != NULL; i++) {
        pthread_mutex_lock(&link->lock);
        sent = !link->sending && link->queue.urgent.head == NULL && link->queue.bulk.head == NULL;
        pthread_mutex_unlock(&link->lock);
    }
    return sent;
}

void peers_flush(struct peers *peers, uint32_t timeout_ms) {
    uint64_t deadline_ms = clock_boottime_ms() + timeout_ms;
    while (!all_sent(peers) && clock_boottime_ms() < deadline_ms) nng_msleep(1);
}

static void link_free(struct peer_link *link) {
    pipeline_close(exchange(link, NULL));
    peer_queue_deinit(&link->queue);
    peer_intake_deinit(&link->intake);
    pthread_mutex_destroy(&link->lock);
    free(link);
}

void peers_close(struct peers *peers) {
    if (peers == NULL) return;
    peers_stop_receiving(peers);
    ticker_stop(peers->ticker);
    nng_close(peers->socket);
    for (size_t i = 0; i < peers->link_count; i++) link_free(peers->links[i]);
    ticker_free(peers->ticker); /* connections that end wake it */
    nng_aio_free(peers->receive);
    pthread_mutex_destroy(&peers->lock);
    free(peers->nodes);
    free(peers->links);
    free(peers);
}
