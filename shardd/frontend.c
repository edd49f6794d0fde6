#include "shardd/frontend.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/cluster_net.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/metrics.h"
#include "libcommon/pipeline.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/supplemental/util/platform.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define LINKS_MAX         256u
#define FRAME_FILL_BYTES  (1u * 1024 * 1024) /* beyond this an answer goes into the next frame */
#define UNTOLD_FRAMES_MAX 2u /* taken frames that a gateway is told of at once; it has 4 in flight */
/* A gateway that goes on asking and has seen no more answers for so long does not get them: another connection is made, after
 * a long cut TCP would try the old one again only seconds after its end. Each time it has twice as long, until it has
 * seen one: a slow network must have time for a large frame. */
#define STALL_US     1000000u
#define STALL_US_MAX 16000000u

_Static_assert(ANSWERS_BYTES_SOFT + MESSAGE_BYTES_MAX < ANSWERS_BYTES_MAX, "small answers have room left");

/* An answer frame being filled. */
struct outgoing {
    struct outgoing *next;
    nng_msg *message; /* owned; header written, item count patched when it leaves */
    uint32_t count;
    size_t item_bytes;
};

struct link {
    atomic_uint refs;
    struct frontend *frontend;
    uint64_t session;
    char address[WIRE_ADDRESS_BYTES_MAX + 1];
    atomic_size_t
        answer_bytes; /* of items with the lanes and in the frames below: each counts from its reservation on */
    atomic_ullong dropped; /* answers for which there was no room */

    pthread_mutex_t lock; /* guards what follows */
    struct outgoing *head, *tail;
    struct pipeline *pipeline; /* owned; may be NULL */
    bool connected, sending;   /* of the pipeline */
    uint64_t redial_us;        /* if not connected: another takes its place */
    bool closed;               /* nothing is sent any more */
    uint64_t number;           /* of the last frame sent */
    uint64_t seen;             /* number of the newest frame that the gateway has seen */
    uint64_t moved_us;         /* when it had seen another, or a frame was sent after it had seen all */
    uint64_t stall_us;         /* STALL_US, or more */
    bool stalled;
    uint64_t taken;   /* highest frame of requests taken */
    uint64_t told;    /* what the gateway has been told of it */
    uint64_t used_us; /* when a frame came last */
};

struct frontend {
    struct frontend_options options;
    nng_socket socket;
    nng_aio *receive;
    uint64_t cluster, incarnation;
    metrics_counter frames, commands, refused; /* written by the receive callback only */
    atomic_ullong answer_frames, answers;

    pthread_mutex_t lock; /* guards what follows */
    struct link *links[LINKS_MAX];
    size_t link_count;
    uint64_t dropped_before; /* answers to gateways that have no link any more */
};

/* ---- counted things ---- */

static struct link *link_ref(struct link *link) {
    atomic_fetch_add(&link->refs, 1);
    return link;
}

static void outgoing_free(struct outgoing *outgoing) {
    nng_msg_free(outgoing->message);
    free(outgoing);
}

/* The last reference: nothing uses the link, and it has no pipeline. */
static void link_unref(struct link *link) {
    if (atomic_fetch_sub(&link->refs, 1) != 1) return;
    while (link->head != NULL) {
        struct outgoing *outgoing = link->head;
        link->head = outgoing->next;
        outgoing_free(outgoing);
    }
    pthread_mutex_destroy(&link->lock);
    free(link);
}

struct frame *frame_ref(struct frame *frame) {
    atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
    return frame;
}

void frame_unref(struct frame *frame) {
    if (frame == NULL || atomic_fetch_sub(&frame->refs, 1) != 1) return;
    if (frame->message != NULL) nng_msg_free(frame->message);
    link_unref(frame->link);
    free(frame);
}

struct frame *frame_stub(const struct frame *frame) {
    struct frame *stub = calloc(1, sizeof *stub);
    if (stub == NULL) return NULL;
    atomic_init(&stub->refs, 1);
    stub->header = frame->header;
    stub->header.return_address = slice_of(NULL, 0);
    stub->link = link_ref(frame->link);
    stub->received_us = frame->received_us;
    return stub;
}

/* ---- room for answers ---- */

bool frontend_has_room(const struct link *link) { return atomic_load(&link->answer_bytes) < ANSWERS_BYTES_SOFT; }

bool frontend_reserve(struct link *link, size_t bytes) {
    size_t before = atomic_fetch_add(&link->answer_bytes, bytes);
    bool small = bytes <= ANSWER_BYTES_SMALL;
    if (small ? before + bytes <= ANSWERS_BYTES_MAX : before < ANSWERS_BYTES_SOFT) return true;
    frontend_release(link, bytes);
    if (small && atomic_fetch_add(&link->dropped, 1) == 0) {
        log_event(LOG_WARNING, "answers_dropped", "gateway=%s queued_bytes=%zu", link->address, before);
    }
    return false;
}

void frontend_release(struct link *link, size_t bytes) { atomic_fetch_sub(&link->answer_bytes, bytes); }

/* ---- answers ---- */

/* With the lock held: hands the oldest frame to nng unless one is on its way. */
static void link_send_next(struct link *link) {
    struct outgoing *outgoing = link->head;
    if (!link->connected || link->sending || link->closed || outgoing == NULL) return;
    frame_finish(nng_msg_body(outgoing->message), link->number + 1, link->taken, outgoing->count);
    if (pipeline_send(link->pipeline, outgoing->message) != SK_OK) {
        link->connected = false; /* its end is about to be told: the frame goes out on the next */
        return;
    }
    link->sending = true;
    atomic_fetch_add_explicit(&link->frontend->answer_frames, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&link->frontend->answers, outgoing->count, memory_order_relaxed);
    if (link->number == link->seen) link->moved_us = clock_boottime_us();
    link->number++;
    link->told = link->taken;
    link->head = outgoing->next;
    if (link->head == NULL) link->tail = NULL;
    frontend_release(link, outgoing->item_bytes);
    free(outgoing);
}

/* A new frame at the tail; NULL when out of memory. Lock held. */
static struct outgoing *link_new_frame(struct link *link) {
    struct outgoing *outgoing = calloc(1, sizeof *outgoing);
    struct buffer header;
    buffer_init(&header);
    frame_begin(&header, &(struct frame_header){.kind = FRAME_ANSWERS,
                                                .cluster = link->frontend->cluster,
                                                .session = link->session,
                                                .incarnation = link->frontend->incarnation});
    bool made = outgoing != NULL && !header.failed && nng_msg_alloc(&outgoing->message, 0) == 0;
    if (made && nng_msg_append(outgoing->message, header.data, header.size) != 0) {
        nng_msg_free(outgoing->message);
        made = false;
    }
    buffer_deinit(&header);
    if (!made) {
        free(outgoing);
        return NULL;
    }
    if (link->tail == NULL) {
        link->head = outgoing;
    } else {
        link->tail->next = outgoing;
    }
    link->tail = outgoing;
    return outgoing;
}

static bool link_append(struct link *link, struct slice items, uint32_t count) {
    if (link->closed) return false;
    struct outgoing *outgoing = link->tail;
    bool full =
        outgoing != NULL && outgoing->count > 0 && nng_msg_len(outgoing->message) + items.size > FRAME_FILL_BYTES;
    if (outgoing == NULL || full) outgoing = link_new_frame(link);
    if (outgoing == NULL) return false;
    if (items.size > 0 && nng_msg_append(outgoing->message, items.data, items.size) != 0) return false;
    outgoing->count += count;
    outgoing->item_bytes += items.size;
    return true;
}

void frontend_answer(struct link *link, struct slice items, uint32_t count) {
    pthread_mutex_lock(&link->lock);
    if (!link_append(link, items, count))
        frontend_release(link, items.size); /* out of memory, or nobody is there */
    link_send_next(link);
    pthread_mutex_unlock(&link->lock);
}

/* ---- links ---- */

static void link_up_cb(void *arg, struct pipeline *pipeline) {
    struct link *link = arg;
    pthread_mutex_lock(&link->lock);
    link->connected = link->pipeline == pipeline;
    link_send_next(link);
    pthread_mutex_unlock(&link->lock);
}

static void link_lost_cb(void *arg, struct pipeline *pipeline) {
    struct link *link = arg;
    pthread_mutex_lock(&link->lock);
    if (link->pipeline == pipeline) {
        link->connected = false;
        link->redial_us = clock_boottime_us() + PIPELINE_PAUSE_MS * 1000u;
    }
    pthread_mutex_unlock(&link->lock);
}

static void link_sent_cb(void *arg, struct pipeline *pipeline) {
    struct link *link = arg;
    pthread_mutex_lock(&link->lock);
    if (link->pipeline == pipeline) {
        link->sending = false;
        link_send_next(link);
    }
    pthread_mutex_unlock(&link->lock);
}

/* With the lock held: another pipeline, or none, in the place of the one there is, which is returned. */
static struct pipeline *link_exchange(struct link *link, struct pipeline *pipeline) {
    struct pipeline *before = link->pipeline;
    link->pipeline = pipeline;
    link->connected = link->sending = link->stalled = false;
    link->redial_us = clock_boottime_us() + PIPELINE_DIAL_MS * 1000u;
    return before;
}

/* Puts a pipeline, or none, in the place of none. */
static void link_set(struct link *link, struct pipeline *pipeline) {
    pthread_mutex_lock(&link->lock);
    (void)link_exchange(link, pipeline);
    pthread_mutex_unlock(&link->lock);
}

/* There is no pipeline. */
static int link_dial(struct link *link) {
    struct pipeline_options options = {.address = link->address,
                                       .arg = link,
                                       .up_cb = link_up_cb,
                                       .lost_cb = link_lost_cb,
                                       .sent_cb = link_sent_cb};
    struct pipeline *pipeline;
    int err = pipeline_open(&pipeline, &options);
    if (err != SK_OK) return err;
    link_set(link, pipeline); /* before the first callback */
    err = pipeline_dial(pipeline);
    if (err != SK_OK) {
        link_set(link, NULL);
        pipeline_retire(pipeline);
    }
    return err;
}

static int link_new(struct frontend *frontend, const struct frame_header *header, struct link **made) {
    struct link *link = calloc(1, sizeof *link);
    if (link == NULL) return SK_ENOMEM;
    link->frontend = frontend;
    link->session = header->session;
    link->stall_us = STALL_US;
    memcpy(link->address, header->return_address.data, header->return_address.size);
    pthread_mutex_init(&link->lock, NULL);
    atomic_init(&link->refs, 1);
    int err = link_dial(link);
    if (err != SK_OK) {
        char quoted[WIRE_ADDRESS_BYTES_MAX * 4 + 3];
        log_event(LOG_WARNING, "gateway_refused", "address=%s reason=%s",
                  log_quote(link->address, quoted, sizeof quoted), error_name(err));
        link_unref(link);
        return err;
    }
    *made = link;
    return SK_OK;
}

/* Ends the sending; `end`: how the pipeline is closed. The memory goes with the last reference. */
static void link_close(struct link *link, void (*end)(struct pipeline *pipeline)) {
    pthread_mutex_lock(&link->lock);
    link->closed = true;
    struct pipeline *pipeline = link_exchange(link, NULL);
    pthread_mutex_unlock(&link->lock);
    end(pipeline); /* none of its callbacks comes after it */
    link_unref(link);
}

/* Dials again after a lost connection: what waits goes out on the next. */
static void link_tick(struct link *link) {
    pthread_mutex_lock(&link->lock);
    bool redial = link->stalled || (!link->connected && clock_boottime_us() >= link->redial_us);
    if (link->stalled) log_event(LOG_WARNING, "gateway_stalled", "address=%s", link->address);
    /* At once, so that it does not connect and take a frame meanwhile. */
    struct pipeline *before = redial ? link_exchange(link, NULL) : NULL;
    bool tell = link->taken > link->told && link->head == NULL && !link->sending;
    if (tell && link_append(link, slice_of(NULL, 0), 0)) link_send_next(link);
    pthread_mutex_unlock(&link->lock);
    if (!redial) return;
    pipeline_retire(before);
    (void)link_dial(link); /* or later */
}

/* With the lock held: takes a link out of the table; the caller closes it outside. */
static struct link *table_remove(struct frontend *frontend, size_t at) {
    struct link *link = frontend->links[at];
    frontend->links[at] = frontend->links[--frontend->link_count];
    frontend->dropped_before += atomic_load(&link->dropped);
    return link;
}

/* Which link makes room for a new one: the same address (an earlier start of that gateway), else when the table is full
 * the one that was silent longest. */
static struct link *make_room(struct frontend *frontend, struct slice address) {
    size_t oldest = 0;
    for (size_t i = 0; i < frontend->link_count; i++) {
        if (slice_equal(slice_of_text(frontend->links[i]->address), address)) return table_remove(frontend, i);
        if (frontend->links[i]->used_us < frontend->links[oldest]->used_us) oldest = i;
    }
    return frontend->link_count == LINKS_MAX ? table_remove(frontend, oldest) : NULL;
}

/* The link of a session with a reference for the caller, made at its first frame. NULL: not to be had. */
static struct link *find_link(struct frontend *frontend, const struct frame_header *header) {
    struct link *evicted = NULL, *link = NULL;
    pthread_mutex_lock(&frontend->lock);
    for (size_t i = 0; i < frontend->link_count && link == NULL; i++) {
        if (frontend->links[i]->session == header->session) link = frontend->links[i];
    }
    if (link == NULL) {
        evicted = make_room(frontend, header->return_address);
        if (link_new(frontend, header, &link) == SK_OK) {
            frontend->links[frontend->link_count++] = link;
            log_event(LOG_INFO, "gateway_seen", "address=%s session=%016llx", link->address,
                      (unsigned long long)link->session);
        }
    }
    if (link != NULL) link_ref(link)->used_us = clock_boottime_us();
    pthread_mutex_unlock(&frontend->lock);
    if (evicted != NULL) link_close(evicted, pipeline_retire); /* a thread of nng's does not wait for nng */
    return link;
}

/* ---- requests ---- */

/* Every item must be whole before a lane sees one. */
static int check_items(struct slice items, uint32_t expected) {
    struct request_item item;
    uint32_t count = 0;
    int err;
    while ((err = frame_read_request(&items, &item)) == SK_OK) count++;
    if (err != SK_NOT_FOUND) return err;
    return count == expected ? SK_OK : SK_EPROTO;
}

/* A frame out of a message; the message stays the caller's on an error. */
static int make_frame(struct frontend *frontend, nng_msg *message, struct frame **made) {
    struct frame_header header;
    struct slice items;
    int err = frame_read_header(slice_of(nng_msg_body(message), nng_msg_len(message)), &header, &items);
    if (err != SK_OK) return err;
    bool ours = header.kind == FRAME_REQUESTS && header.cluster == frontend->cluster;
    bool for_us = header.incarnation == 0 || header.incarnation == frontend->incarnation;
    if (!ours || header.session == 0 || header.return_address.size == 0) return SK_EPROTO;
    if (memchr(header.return_address.data, 0, header.return_address.size) != NULL) return SK_EPROTO;
    if (!for_us) return SK_STALE_EPOCH;
    err = check_items(items, header.item_count);
    if (err != SK_OK) return err;

    struct frame *frame = calloc(1, sizeof *frame);
    if (frame == NULL) return SK_ENOMEM;
    frame->link = find_link(frontend, &header);
    if (frame->link == NULL) {
        free(frame);
        return SK_ENET;
    }
    atomic_init(&frame->refs, 1);
    frame->header = header;
    frame->items = items;
    frame->message = message;
    frame->received_us = clock_boottime_us();
    metrics_add(&frontend->frames, 1);
    metrics_add(&frontend->commands, header.item_count);
    *made = frame;
    return SK_OK;
}

/* With the lock held: the gateway has sent a frame, and has seen answers up to `seen`. */
static void note_seen(struct link *link, uint64_t seen) {
    uint64_t now_us = clock_boottime_us();
    if (seen > link->seen && seen <= link->number) {
        link->seen = seen;
        link->moved_us = now_us;
        link->stall_us = STALL_US;
    } else if (link->connected && link->number != link->seen && now_us >= link->moved_us + link->stall_us) {
        link->stalled = true;
        link->moved_us = now_us;
        link->stall_us = link->stall_us < STALL_US_MAX / 2 ? 2 * link->stall_us : STALL_US_MAX;
    }
}

/* Counts the frame as taken; tells at once when the gateway's window is half used up. */
static void note_taken(struct link *link, const struct frame_header *header) {
    pthread_mutex_lock(&link->lock);
    note_seen(link, header->taken);
    if (header->number > link->taken) link->taken = header->number;
    bool tell = link->taken - link->told >= UNTOLD_FRAMES_MAX && link->head == NULL && !link->sending;
    if (tell && link_append(link, slice_of(NULL, 0), 0)) link_send_next(link);
    pthread_mutex_unlock(&link->lock);
}

static void received_cb(void *arg) {
    struct frontend *frontend = arg;
    int rc = nng_aio_result(frontend->receive);
    if (rc == NNG_ECLOSED || rc == NNG_ECANCELED) return;
    if (rc == 0) {
        nng_msg *message = nng_aio_get_msg(frontend->receive);
        struct frame *frame;
        int err = make_frame(frontend, message, &frame);
        if (err == SK_OK) {
            note_taken(frame->link, &frame->header);
            frontend->options.frame_cb(frontend->options.arg, frame);
        } else {
            nng_msg_free(message);
            metrics_add(&frontend->refused, 1);
            uint64_t refused = metrics_get(&frontend->refused);
            if (refused % 1000 == 1) {
                log_event(LOG_WARNING, "frame_refused", "reason=%s refused=%llu", error_name(err),
                          (unsigned long long)refused);
            }
        }
    }
    nng_recv_aio(frontend->socket, frontend->receive);
}

/* ---- life ---- */

static int listen_error(int rc, const char *url, char *text, size_t text_bytes) {
    snprintf(text, text_bytes, "cannot listen on %s: %s", url, nng_strerror(rc));
    return rc == NNG_ENOMEM ? SK_ENOMEM : SK_ECONFIG;
}

int frontend_open(struct frontend **made, const struct frontend_options *options, char *text, size_t text_bytes,
                  int *port) {
    struct frontend *frontend = calloc(1, sizeof *frontend);
    if (frontend == NULL) return SK_ENOMEM;
    frontend->options = *options;
    pthread_mutex_init(&frontend->lock, NULL);
    nng_listener listener;
    int rc = nng_pull0_open(&frontend->socket);
    if (rc == 0) rc = nng_aio_alloc(&frontend->receive, received_cb, frontend);
    if (rc == 0) rc = nng_socket_set_size(frontend->socket, NNG_OPT_RECVMAXSZ, FRAME_BYTES_MAX);
    if (rc == 0) rc = cluster_net_listen(frontend->socket, options->listen, &listener);
    if (rc == 0 && port != NULL && nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, port) != 0) *port = 0;
    if (rc != 0) {
        if (frontend->receive != NULL) nng_aio_free(frontend->receive);
        nng_close(frontend->socket);
        pthread_mutex_destroy(&frontend->lock);
        free(frontend);
        return listen_error(rc, options->listen, text, text_bytes);
    }
    *made = frontend;
    return SK_OK;
}

void frontend_start(struct frontend *frontend, uint64_t cluster, uint64_t incarnation) {
    frontend->cluster = cluster;
    frontend->incarnation = incarnation;
    nng_recv_aio(frontend->socket, frontend->receive);
}

/* In this order: a receive that received_cb begins while the socket is closed stays in it, and stopping would look for it in memory that
 * is freed (nng 1.5.2). */
void frontend_stop_receiving(struct frontend *frontend) {
    nng_aio_stop(frontend->receive);
    nng_close(frontend->socket);
}

void frontend_tick(struct frontend *frontend) {
    pthread_mutex_lock(&frontend->lock);
    for (size_t i = 0; i < frontend->link_count; i++) link_tick(frontend->links[i]);
    pthread_mutex_unlock(&frontend->lock);
}

void frontend_stats(struct frontend *frontend, struct frontend_stats *stats) {
    *stats = (struct frontend_stats){
        .frames = metrics_get(&frontend->frames),
        .commands = metrics_get(&frontend->commands),
        .refused_frames = metrics_get(&frontend->refused),
        .answer_frames = atomic_load_explicit(&frontend->answer_frames, memory_order_relaxed),
        .answers = atomic_load_explicit(&frontend->answers, memory_order_relaxed),
    };
    pthread_mutex_lock(&frontend->lock);
    stats->answers_dropped = frontend->dropped_before;
    for (size_t i = 0; i < frontend->link_count; i++) {
        struct link *link = frontend->links[i];
        pthread_mutex_lock(&link->lock);
        stats->gateways += link->connected;
        pthread_mutex_unlock(&link->lock);
        stats->answers_dropped += atomic_load(&link->dropped);
    }
    pthread_mutex_unlock(&frontend->lock);
}

static bool all_sent(struct frontend *frontend) {
    bool sent = true;
    pthread_mutex_lock(&frontend->lock);
    for (size_t i = 0; i < frontend->link_count; i++) {
        struct link *link = frontend->links[i];
        pthread_mutex_lock(&link->lock);
        sent = sent && link->head == NULL && !link->sending;
        pthread_mutex_unlock(&link->lock);
    }
    pthread_mutex_unlock(&frontend->lock);
    return sent;
}

void frontend_flush(struct frontend *frontend, uint32_t timeout_ms) {
    uint64_t deadline_ms = clock_boottime_ms() + timeout_ms;
    while (!all_sent(frontend) && clock_boottime_ms() < deadline_ms) nng_msleep(1);
}

void frontend_close(struct frontend *frontend) {
    if (frontend == NULL) return;
    frontend_stop_receiving(frontend);
    while (frontend->link_count > 0) {
        pthread_mutex_lock(&frontend->lock);
        struct link *link = table_remove(frontend, 0);
        pthread_mutex_unlock(&frontend->lock);
        link_close(link, pipeline_close);
    }
    nng_aio_free(frontend->receive);
    pthread_mutex_destroy(&frontend->lock);
    free(frontend);
}
