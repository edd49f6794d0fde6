#include "engine.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/slot.h"
#include "shardd/lane.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define NODE         1u
#define CLUSTER      1u
#define LEAD_WAIT_MS 30000u
#define POLL_MS      5
#define SEGMENT      (64u << 20)
#define LOG_KEEP     (512u << 20)
#define ID_WINDOW_MS (600u * 1000)
#define IDS_MAX      1000000u

/* A frame that is under way. */
struct flight {
    uint64_t first; /* its commands have the numbers from here on */
    uint32_t count;
    uint32_t left; /* not answered; 0: the place is free */
};

/* What a lane knows its gateway by: here there is one. */
struct link {
    struct engine *engine;
};

struct frontend {
    metrics_counter lane_cpu_us;
};

struct peers {
    uint64_t streams; /* never used */
};

struct engine {
    struct lane *lane; /* owned */
    struct frontend frontend;
    struct peers peers;
    struct link link;
    uint32_t shard_count;
    uint64_t session;

    /* The caller's. */
    struct buffer frame;     /* being put together; its bytes go to the lane */
    uint32_t frame_commands; /* in it */
    uint64_t next_number;
    struct flight *flights; /* owned; frames_max */
    uint32_t frames_max;
    struct buffer taken; /* answers that are being read */
    struct engine_counts counts;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t arrived;
    struct buffer answers;
    bool failed;
};

/* ---- before frontend.c ---- */

struct frame *frame_ref(struct frame *frame) {
    atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
    return frame;
}

void frame_unref(struct frame *frame) {
    if (frame == NULL || atomic_fetch_sub_explicit(&frame->refs, 1, memory_order_acq_rel) != 1) return;
    free(frame->message);
    free(frame);
}

struct frame *frame_stub(const struct frame *frame) {
    struct frame *stub = calloc(1, sizeof *stub);
    if (stub == NULL) return NULL;
    atomic_init(&stub->refs, 1);
    stub->header = frame->header;
    stub->link = frame->link;
    return stub;
}

/* The caller takes answers as they come: there are never more than of the frames under way. */
bool frontend_has_room(const struct link *link) { return link != NULL; }
bool frontend_reserve(struct link *link, size_t bytes) { return link != NULL && bytes > 0; }
void frontend_release(struct link *link, size_t bytes) { (void)link, (void)bytes; }

void frontend_answer(struct link *link, struct slice items, uint32_t count) {
    struct engine *engine = link->engine;
    (void)count;
    pthread_mutex_lock(&engine->lock);
    buffer_append(&engine->answers, items.data, items.size);
    pthread_mutex_unlock(&engine->lock);
    pthread_cond_signal(&engine->arrived);
}

/* On the lane's thread. */
void frontend_tick(struct frontend *frontend) {
    atomic_store_explicit(&frontend->lane_cpu_us, clock_thread_cpu_us(), memory_order_relaxed);
}

/* ---- before peers.c: there are none ---- */

struct peer_frame *peer_frame_ref(struct peer_frame *frame) {
    return frame;
}
void peer_frame_unref(struct peer_frame *frame) { (void)frame; }

void peers_send(struct peers *peers, uint32_t node, struct parcel_list *urgent, struct parcel_list *bulk) {
    (void)peers, (void)node;
    parcel_list_free(urgent);
    parcel_list_free(bulk);
}

size_t peers_room(struct peers *peers, uint32_t node) {
    (void)peers, (void)node;
    return 0;
}

uint64_t peers_next_stream(struct peers *peers) { return ++peers->streams; }

/* ---- in place of metad ---- */

/* A leader that is alone asks for nothing. */
static void change_cb(void *arg, uint32_t shard, const struct replica_change *change) {
    (void)arg, (void)shard, (void)change;
}

static void lane_failed_cb(void *arg) {
    struct engine *engine = arg;
    pthread_mutex_lock(&engine->lock);
    engine->failed = true;
    pthread_mutex_unlock(&engine->lock);
    pthread_cond_signal(&engine->arrived);
}

/* This node leads all shards, alone, in an epoch above those of earlier runs on the same directory. */
static int make_map(const struct engine *engine, struct map **made) {
    struct map *map;
    int err = map_new(&map, engine->shard_count, 1);
    if (err != SK_OK) return err;
    map->version = engine->session;
    map->cluster = CLUSTER;
    map->nodes[0].id = NODE;
    for (uint32_t shard = 0; shard < engine->shard_count; shard++) {
        struct map_shard *record = &map->shards[shard];
        *record = (struct map_shard){.leader_epoch = engine->session,
                                     .config_version = engine->session,
                                     .leader = NODE,
                                     .leader_incarnation = engine->session,
                                     .min_isr = 1,
                                     .replica_count = 1,
                                     .isr_count = 1};
        record->replicas[0] = (struct map_replica){.node = NODE, .replica_id = shard + 1};
        record->isr[0] = NODE;
    }
    *made = map;
    return SK_OK;
}

static void pause_a_little(void) { nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL); }

static int lead(struct engine *engine) {
    struct map *map;
    struct lane_stats stats = {0};
    int err = make_map(engine, &map);
    if (err == SK_OK) {
        err = lane_identify(engine->lane, NODE, engine->session);
        if (err == SK_OK) err = lane_set_map(engine->lane, map);
        map_unref(map);
    }
    uint64_t deadline_ms = clock_boottime_ms() + LEAD_WAIT_MS;
    while (err == SK_OK && stats.leading < engine->shard_count) {
        if (clock_boottime_ms() > deadline_ms) return SK_RETRY;
        pause_a_little();
        lane_stats(engine->lane, &stats);
    }
    return err;
}

/* ---- opening ---- */

static int open_lane(struct engine *engine, const struct engine_options *options, char *text, size_t text_bytes) {
    struct lane_options lane = {.directory = options->directory,
                                .lane_count = 1,
                                .segment_bytes = SEGMENT,
                                .memtable_bytes = options->memtable_bytes,
                                .cache_bytes = options->cache_bytes,
                                .map_bytes = options->map_bytes,
                                .checkpoint_interval_ms = options->checkpoint_interval_ms,
                                .id_window_ms = ID_WINDOW_MS,
                                .ids_max = IDS_MAX,
                                .log_keep_bytes = LOG_KEEP,
                                .times = REPLICA_TIMES_DEFAULT,
                                .frontend = &engine->frontend,
                                .peers = &engine->peers,
                                .change_cb = change_cb,
                                .failed_cb = lane_failed_cb,
                                .arg = engine};
    return lane_open(&engine->lane, &lane, text, text_bytes);
}

int engine_open(struct engine **made, const struct engine_options *options, char *text, size_t text_bytes) {
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) return SK_ENOMEM;
    *engine = (struct engine){.link = {.engine = engine},
                              .shard_count = options->shard_count,
                              .session = clock_realtime_us(),
                              .next_number = 1,
                              .frames_max = options->frames_max,
                              .flights = calloc(options->frames_max, sizeof *engine->flights)};
    pthread_mutex_init(&engine->lock, NULL);
    pthread_cond_init(&engine->arrived, NULL);
    int err = engine->flights == NULL ? SK_ENOMEM : open_lane(engine, options, text, text_bytes);
    if (err == SK_OK) {
        err = lead(engine);
        if (err != SK_OK) snprintf(text, text_bytes, "the lane does not lead its shards");
    }
    if (err != SK_OK) {
        engine_close(engine);
        return err;
    }
    *made = engine;
    return SK_OK;
}

void engine_close(struct engine *engine) {
    if (engine == NULL) return;
    lane_close(engine->lane);
    buffer_deinit(&engine->frame);
    buffer_deinit(&engine->taken);
    buffer_deinit(&engine->answers);
    free(engine->flights);
    pthread_cond_destroy(&engine->arrived);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

/* ---- answers ---- */

static void note_answer(struct engine *engine, const struct answer_item *item) {
    static const uint8_t nil = 0xc0;
    bool is_nil = item->err == SK_OK && item->body.size == 1 && item->body.data[0] == nil;
    engine->counts.answered++;
    engine->counts.missing += is_nil;
    if (item->err != SK_OK) {
        engine->counts.refused++;
        engine->counts.refused_err = item->err;
    }
    for (uint32_t i = 0; i < engine->frames_max; i++) {
        struct flight *flight = &engine->flights[i];
        bool is_of_it = item->number >= flight->first && item->number - flight->first < flight->count;
        if (is_of_it) flight->left--;
    }
}

/* Waits for answers and reads what has come. */
static int take_answers(struct engine *engine) {
    pthread_mutex_lock(&engine->lock);
    while (engine->answers.size == 0 && !engine->failed && !engine->answers.failed)
        pthread_cond_wait(&engine->arrived, &engine->lock);
    struct buffer come = engine->answers;
    engine->answers = engine->taken;
    engine->answers.size = 0;
    bool failed = engine->failed;
    pthread_mutex_unlock(&engine->lock);

    engine->taken = come;
    struct slice rest = buffer_slice(&engine->taken);
    struct answer_item item;
    while (frame_read_answer(&rest, &item) == SK_OK) note_answer(engine, &item);
    if (engine->taken.failed) return SK_ENOMEM;
    return failed ? SK_EIO : SK_OK;
}

struct engine_counts engine_counts(const struct engine *engine) {
    return engine->counts;
}

/* ---- commands ---- */

/* A place for one more frame; NULL: as many as may be are under way. */
static struct flight *free_flight(struct engine *engine) {
    for (uint32_t i = 0; i < engine->frames_max; i++)
        if (engine->flights[i].left == 0) return &engine->flights[i];
    return NULL;
}

/* Below it nothing is sent again: the lane may forget the results (R10). */
static uint64_t floor_of(const struct engine *engine) {
    uint64_t floor = engine->next_number - engine->frame_commands;
    for (uint32_t i = 0; i < engine->frames_max; i++)
        if (engine->flights[i].left > 0 && engine->flights[i].first < floor) floor = engine->flights[i].first;
    return floor;
}

void engine_add(struct engine *engine, struct slice key, bool is_write, struct slice body) {
    if (engine->frame_commands == 0) {
        struct frame_header header = {.kind = FRAME_REQUESTS, .cluster = CLUSTER, .session = engine->session};
        frame_begin(&engine->frame, &header);
    }
    sk_assert(engine->frame_commands < MESSAGE_COMMANDS_MAX);
    struct request_item item = {.number = engine->next_number++,
                                .floor = floor_of(engine),
                                .shard = slot_shard(slot_of_key(key), engine->shard_count),
                                .timeout_ms = TIMEOUT_MS_MAX,
                                .flags = is_write ? REQUEST_WRITE : 0,
                                .body = body};
    frame_add_request(&engine->frame, &item);
    engine->frame_commands++;
}

/* The bytes that were put together become a frame of the lane's. */
static int post_frame(struct engine *engine, struct flight *flight) {
    struct frame *frame = calloc(1, sizeof *frame);
    if (frame == NULL || engine->frame.failed) {
        free(frame);
        return SK_ENOMEM;
    }
    frame_finish(engine->frame.data, engine->next_number, 0, engine->frame_commands);
    atomic_init(&frame->refs, 1);
    frame->link = &engine->link;
    frame->message = engine->frame.data;
    frame->received_us = clock_boottime_us();
    int err = frame_read_header(buffer_slice(&engine->frame), &frame->header, &frame->items);
    sk_assert(err == SK_OK);
    uint32_t count = engine->frame_commands;
    *flight = (struct flight){.first = engine->next_number - count, .count = count, .left = count};
    buffer_init(&engine->frame);
    engine->frame_commands = 0;
    return lane_post_frame(engine->lane, frame);
}

int engine_send(struct engine *engine) {
    struct flight *flight;
    if (engine->frame_commands == 0) return SK_OK;
    while ((flight = free_flight(engine)) == NULL) {
        int err = take_answers(engine);
        if (err != SK_OK) return err;
    }
    return post_frame(engine, flight);
}

int engine_drain(struct engine *engine) {
    int err = engine_send(engine);
    for (uint32_t i = 0; i < engine->frames_max; i++)
        while (err == SK_OK && engine->flights[i].left > 0) err = take_answers(engine);
    return err;
}

/* ---- the lane's state ---- */

struct engine_state engine_state(struct engine *engine) {
    struct lane_stats stats;
    lane_stats(engine->lane, &stats);
    return (struct engine_state){.lane_cpu_us = metrics_get(&engine->frontend.lane_cpu_us),
                                 .memtable_bytes = stats.memtable_bytes,
                                 .store_bytes = stats.store_bytes,
                                 .log_bytes = stats.log_bytes};
}

void engine_wait_for_checkpoint(struct engine *engine) {
    uint64_t asked_us = clock_boottime_us();
    struct lane_stats stats;
    bool is_newer;
    do {
        pause_a_little();
        is_newer = lane_seen_us(engine->lane) > asked_us; /* before the figures: these are published first */
        lane_stats(engine->lane, &stats);
    } while (!is_newer || stats.memtable_bytes > 0);
}
