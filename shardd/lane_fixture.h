/* Lanes of several nodes in one process, with real logs and stores and nothing real around them: the pipelines between the
 * nodes, the gateway and metad are the test's. Messages can be lost, or made up by a node that has no lane of its own;
 * metad can be silent. Stands before frontend.c and peers.c for the whole program, so it is included by one test program
 * each. Time is real: who waits, waits for a state. */
#pragma once

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/slot.h"
#include "libcommon/testing.h"
#include "shardd/entry.h"
#include "shardd/lane.h"
#include "shardd/peer_intake.h"

#include <pthread.h>
#include <time.h>

enum { CLUSTER = 77, NODES = 3, SHARDS = 2, SESSION = 9, WAIT_S = 60, ASKED_MAX = 4096, RESULT_BYTES = 256 };

/* What is asked and answered, by number. */
struct asked {
    unsigned answers;
    int err;
    char result[RESULT_BYTES];
};

struct frontend {
    struct cluster *cluster;
};

struct link {
    struct cluster *cluster;
};

struct peers {
    struct cluster *cluster;
    uint32_t node;
    uint64_t streams;
};

struct node {
    struct cluster *cluster;
    uint32_t id;
    uint64_t incarnation;
    char directory[96];
    struct lane_options options; /* of the next start */
    struct frontend frontend;
    struct peers peers;
    struct lane *lane; /* NULL: not running */
};

struct cluster {
    char directory[64];
    struct node nodes[NODES + 1]; /* by id; 0 is unused */
    struct link link;
    uint64_t incarnations, numbers;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct map *map; /* owned: metad's word */
    bool metad_is_silent;
    unsigned changes_asked;
    unsigned one_in, seed; /* so many messages one is lost of; 0 = none */
    uint32_t
        lost[NODES + 1]
            [NODES + 1]; /* [from][to], bit 1 << type: such messages are lost; bit 0: items that are no messages */
    struct passed {
        unsigned count; /* lost ones too */
        struct replica_message last;
    } passed[NODES + 1][NODES + 1][SHARDS][REPLICA_RELEASE + 1]; /* [from][to][shard][type] */
    struct verify_reply replies[NODES + 1][NODES + 1];           /* [from][to]: the last */
    struct peer_intake chunks[NODES + 1][NODES + 1];
    struct asked asked[ASKED_MAX];
};

#define ALL_MESSAGES UINT32_MAX

static inline uint32_t shard_of(const char *key) { return slot_shard(slot_of_key(slice_of_text(key)), SHARDS); }

/* ---- waiting ---- */

static inline struct timespec wait_deadline(void) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    return until;
}

/* With the lock, once: something has changed, or a little time has passed. */
static inline void wait_a_little(struct cluster *cluster, const struct timespec *deadline) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    sk_assert(until.tv_sec < deadline->tv_sec);
    until.tv_nsec += 5000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void)pthread_cond_timedwait(&cluster->changed, &cluster->lock, &until);
}

/* Waits until the expression, judged under the lock, is true. */
#define wait_until(cluster, condition)                                                                            \
    do {                                                                                                          \
        struct timespec deadline_ = wait_deadline();                                                              \
        pthread_mutex_lock(&(cluster)->lock);                                                                     \
        while (!(condition)) wait_a_little((cluster), &deadline_);                                                \
        pthread_mutex_unlock(&(cluster)->lock);                                                                   \
    } while (0)

/* ---- frames of gateways: before frontend.c ---- */

struct frame *frame_ref(struct frame *frame) {
    atomic_fetch_add(&frame->refs, 1);
    return frame;
}

void frame_unref(struct frame *frame) {
    if (frame == NULL || atomic_fetch_sub(&frame->refs, 1) != 1) return;
    free(frame->message);
    free(frame);
}

struct frame *frame_stub(const struct frame *frame) {
    struct frame *stub = calloc(1, sizeof *stub);
    sk_assert(stub != NULL);
    atomic_init(&stub->refs, 1);
    stub->header = frame->header;
    stub->link = frame->link;
    return stub;
}

bool frontend_has_room(const struct link *link) { return link != NULL; }
bool frontend_reserve(struct link *link, size_t bytes) { return link != NULL && bytes > 0; }
void frontend_release(struct link *link, size_t bytes) { (void)link, (void)bytes; }
void frontend_tick(struct frontend *frontend) { (void)frontend; }

/* Integers, texts and bytes; of an array all of them, with spaces between; nil is nothing. */
static inline void tell_result(struct mp_reader *reader, char *result, size_t room) {
    struct mp_value value = {.type = MP_NIL};
    if (mp_read(reader, &value) != SK_OK) return;
    if (value.type == MP_UINT) snprintf(result, room, "%llu", (unsigned long long)value.uint);
    if (value.type == MP_STR || value.type == MP_BIN) {
        snprintf(result, room, "%.*s", (int)value.bytes.size, (const char *)value.bytes.data);
    }
    for (uint32_t i = 0; value.type == MP_ARRAY && i < value.count; i++) {
        size_t used = strlen(result);
        if (i > 0 && used + 1 < room) result[used++] = ' ';
        tell_result(reader, result + used, room - used);
    }
}

static inline void note_answer(struct cluster *cluster, const struct answer_item *item) {
    struct asked *asked = &cluster->asked[item->number];
    struct mp_reader reader = mp_reader_of(item->body);
    asked->answers++;
    asked->err = item->err;
    memset(asked->result, 0, RESULT_BYTES);
    if (item->err == SK_OK) tell_result(&reader, asked->result, RESULT_BYTES);
}

void frontend_answer(struct link *link, struct slice items, uint32_t count) {
    struct cluster *cluster = link->cluster;
    struct answer_item item;
    (void)count;
    pthread_mutex_lock(&cluster->lock);
    while (frame_read_answer(&items, &item) == SK_OK) note_answer(cluster, &item);
    pthread_cond_broadcast(&cluster->changed);
    pthread_mutex_unlock(&cluster->lock);
}

/* ---- frames of peers: before peers.c ---- */

struct peer_frame *peer_frame_ref(struct peer_frame *frame) {
    atomic_fetch_add(&frame->refs, 1);
    return frame;
}

void peer_frame_unref(struct peer_frame *frame) {
    if (frame == NULL || atomic_fetch_sub(&frame->refs, 1) != 1) return;
    buffer_deinit(&frame->item);
    free(frame);
}

/* With the lock. Owns `items`. */
static inline void deliver(struct cluster *cluster, uint32_t from, uint32_t to, struct buffer *items, bool bulk) {
    struct peer_frame *frame = calloc(1, sizeof *frame);
    sk_assert(frame != NULL && !items->failed);
    atomic_init(&frame->refs, 1);
    frame->header = (struct peer_header){
        .cluster = CLUSTER, .from = from, .to = to, .from_incarnation = cluster->nodes[from].incarnation};
    frame->item = *items;
    if (bulk) frame->bulk = buffer_slice(&frame->item);
    else frame->urgent = buffer_slice(&frame->item);
    if (items->size > 0 && cluster->nodes[to].lane != NULL) {
        lane_post_peer_frame(cluster->nodes[to].lane, frame);
    } else {
        peer_frame_unref(frame);
    }
}

static inline bool is_lost(struct cluster *cluster, uint32_t from, uint32_t to, const struct peer_item *item) {
    if (cluster->one_in > 0 && (unsigned)rand_r(&cluster->seed) % cluster->one_in == 0) return true;
    if (item->kind == PEER_VERIFY_REPLY) cluster->replies[from][to] = item->is.reply;
    if (item->kind != PEER_MESSAGE) return (cluster->lost[from][to] & 1) != 0;
    enum replica_message_type type = item->is.message.type;
    struct passed *passed = &cluster->passed[from][to][item->shard][type];
    passed->count++;
    passed->last = item->is.message;
    return (cluster->lost[from][to] >> type & 1) != 0;
}

static inline void pass_items(struct cluster *cluster, uint32_t from, uint32_t to, struct slice items, bool bulk) {
    struct peer_header header = {.from = from, .to = to, .from_incarnation = cluster->nodes[from].incarnation};
    struct peer_item item;
    struct buffer passed, whole;
    buffer_init(&passed);
    for (struct slice rest = items; peer_wire_read_item(&header, &rest, &item) == SK_OK; items = rest) {
        if (item.kind == PEER_CHUNK) {
            if (peer_intake_on_chunk(&cluster->chunks[from][to], &item.is.chunk, &whole) != SK_OK) continue;
            pass_items(cluster, from, to, buffer_slice(&whole), bulk);
            buffer_deinit(&whole);
        } else if (!is_lost(cluster, from, to, &item)) {
            buffer_append(&passed, items.data, items.size - rest.size);
        }
    }
    deliver(cluster, from, to, &passed, bulk);
}

static inline void pass_parcels(struct cluster *cluster, uint32_t from, uint32_t to,
                                const struct parcel_list *parcels, bool bulk) {
    for (const struct parcel *parcel = parcels->head; parcel != NULL; parcel = parcel->next) {
        pass_items(cluster, from, to, slice_of(parcel->data, parcel->size), bulk);
    }
}

void peers_send(struct peers *peers, uint32_t node, struct parcel_list *urgent, struct parcel_list *bulk) {
    struct cluster *cluster = peers->cluster;
    pthread_mutex_lock(&cluster->lock);
    pass_parcels(cluster, peers->node, node, urgent, false);
    pass_parcels(cluster, peers->node, node, bulk, true);
    pthread_cond_broadcast(&cluster->changed);
    pthread_mutex_unlock(&cluster->lock);
    parcel_list_free(urgent);
    parcel_list_free(bulk);
}

size_t peers_room(struct peers *peers, uint32_t node) {
    return peers->cluster != NULL && node != 0 ? PEER_BULK_BYTES_MAX : 0;
}

uint64_t peers_next_stream(struct peers *peers) { return ++peers->streams; }

static inline void lose(struct cluster *cluster, uint32_t from, uint32_t to, uint32_t types) {
    pthread_mutex_lock(&cluster->lock);
    cluster->lost[from][to] = types;
    pthread_mutex_unlock(&cluster->lock);
}

static inline void lose_between(struct cluster *cluster, uint32_t a, uint32_t b, uint32_t types) {
    lose(cluster, a, b, types);
    lose(cluster, b, a, types);
}

static inline void lose_one_in(struct cluster *cluster, unsigned one_in) {
    pthread_mutex_lock(&cluster->lock);
    cluster->one_in = one_in;
    pthread_mutex_unlock(&cluster->lock);
}

/* ---- metad ---- */

/* With the lock: the record of a shard to be changed, in a map that nobody has seen yet. */
static inline struct map_shard *change_record(struct cluster *cluster, uint32_t shard) {
    const struct map *old = cluster->map;
    struct map *map;
    sk_assert(map_new(&map, SHARDS, NODES) == SK_OK);
    memcpy(map->shards, old->shards, SHARDS * sizeof *map->shards);
    memcpy(map->nodes, old->nodes, NODES * sizeof *map->nodes);
    map->version = old->version + 1;
    map->cluster = old->cluster;
    map->verify_generation = old->verify_generation;
    map_unref(cluster->map);
    cluster->map = map;
    map->shards[shard].config_version++;
    return &map->shards[shard];
}

/* With the lock. */
static inline void publish(struct cluster *cluster) {
    for (uint32_t id = 1; id <= NODES; id++) {
        if (cluster->nodes[id].lane != NULL)
            sk_assert(lane_set_map(cluster->nodes[id].lane, cluster->map) == SK_OK);
    }
    pthread_cond_broadcast(&cluster->changed);
}

static inline void set_leader(struct cluster *cluster, struct map_shard *record, uint32_t node) {
    record->leader = node;
    record->leader_incarnation = cluster->nodes[node].incarnation;
    record->leader_epoch++;
}

static inline void leave_isr(struct map_shard *record, uint32_t node) {
    uint32_t kept = 0;
    if (record->isr_count <= record->min_isr) return;
    for (uint32_t i = 0; i < record->isr_count; i++) {
        if (record->isr[i] != node) record->isr[kept++] = record->isr[i];
    }
    record->isr_count = kept;
}

/* Compare-and-set; of what metad does the plain part. */
static inline void change_cb(void *arg, uint32_t shard, const struct replica_change *change) {
    struct node *node = arg;
    struct cluster *cluster = node->cluster;
    pthread_mutex_lock(&cluster->lock);
    cluster->changes_asked++;
    bool applies =
        !cluster->metad_is_silent && change->config_version == cluster->map->shards[shard].config_version;
    if (applies) {
        struct map_shard *record = change_record(cluster, shard);
        uint32_t before = record->leader;
        switch (change->kind) {
        case REPLICA_CHANGE_ISR:
            memcpy(record->isr, change->isr, sizeof record->isr);
            record->isr_count = change->isr_count;
            break;
        case REPLICA_CHANGE_CLAIM:
            set_leader(cluster, record, node->id);
            leave_isr(record, before);
            break;
        case REPLICA_CHANGE_HANDOVER:
            set_leader(cluster, record, change->to);
            break;
        case REPLICA_CHANGE_RETIRE:
            leave_isr(record, change->to);
            break;
        case REPLICA_CHANGE_REBUILD:
            leave_isr(record, change->to);
            record->replicas[change->to - 1].replica_id += 100;
            if (change->successor != 0) set_leader(cluster, record, change->successor);
            break;
        default:
            break;
        }
        publish(cluster);
    }
    pthread_mutex_unlock(&cluster->lock);
}

static inline void lane_failed_cb(void *arg) { (void)arg; }

static inline void silence_metad(struct cluster *cluster, bool silent) {
    pthread_mutex_lock(&cluster->lock);
    cluster->metad_is_silent = silent;
    pthread_mutex_unlock(&cluster->lock);
}

static inline struct map_shard record_of(struct cluster *cluster, uint32_t shard) {
    pthread_mutex_lock(&cluster->lock);
    struct map_shard record = cluster->map->shards[shard];
    pthread_mutex_unlock(&cluster->lock);
    return record;
}

/* What has passed of a kind of message. */
static inline struct passed passed_of(struct cluster *cluster, uint32_t from, uint32_t to, uint32_t shard,
                                      enum replica_message_type type) {
    pthread_mutex_lock(&cluster->lock);
    struct passed passed = cluster->passed[from][to][shard][type];
    pthread_mutex_unlock(&cluster->lock);
    return passed;
}

/* ---- nodes ---- */

static inline void tell_peers(struct cluster *cluster, uint32_t node, enum lane_peer_news news) {
    for (uint32_t id = 1; id <= NODES; id++) {
        if (id == node || cluster->nodes[id].lane == NULL) continue;
        lane_post_peer(cluster->nodes[id].lane, node, news);
        if (cluster->nodes[node].lane != NULL) lane_post_peer(cluster->nodes[node].lane, id, news);
    }
}

/* A process begins: metad gives it an incarnation, and a new epoch to what it led (R6). */
static inline int try_start_node(struct cluster *cluster, uint32_t id, char *text, size_t text_bytes) {
    struct node *node = &cluster->nodes[id];
    struct lane *lane;
    int err = lane_open(&lane, &node->options, text, text_bytes);
    if (err != SK_OK) return err;
    pthread_mutex_lock(&cluster->lock);
    node->incarnation = ++cluster->incarnations;
    node->lane = lane;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        if (cluster->map->shards[shard].leader == id) set_leader(cluster, change_record(cluster, shard), id);
    }
    sk_assert(lane_identify(lane, id, node->incarnation) == SK_OK);
    publish(cluster);
    tell_peers(cluster, id, LANE_PEER_UP);
    pthread_mutex_unlock(&cluster->lock);
    return SK_OK;
}

static inline void start_node(struct cluster *cluster, uint32_t id) {
    char text[512] = "";
    int err = try_start_node(cluster, id, text, sizeof text);
    if (err != SK_OK) fail_msg("node %u: %s: %s", id, error_name(err), text);
}

static inline void stop_node(struct cluster *cluster, uint32_t id) {
    struct node *node = &cluster->nodes[id];
    pthread_mutex_lock(&cluster->lock);
    struct lane *lane = node->lane;
    node->lane = NULL;
    tell_peers(cluster, id, LANE_PEER_DOWN);
    pthread_mutex_unlock(&cluster->lock);
    lane_close(lane);
}

static inline void restart_node(struct cluster *cluster, uint32_t id) {
    stop_node(cluster, id);
    start_node(cluster, id);
}

/* Every node has every shard; node 1 leads. */
static inline struct map *first_map(void) {
    struct map *map;
    assert_int_equal(map_new(&map, SHARDS, NODES), SK_OK);
    map->version = 1;
    map->cluster = CLUSTER;
    for (uint32_t i = 0; i < NODES; i++) map->nodes[i].id = i + 1;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        struct map_shard *record = &map->shards[shard];
        *record = (struct map_shard){.leader_epoch = 1,
                                     .config_version = 1,
                                     .leader = 1,
                                     .leader_incarnation = 1,
                                     .min_isr = 2,
                                     .replica_count = NODES,
                                     .isr_count = NODES};
        for (uint32_t i = 0; i < NODES; i++) {
            record->replicas[i] = (struct map_replica){.node = i + 1, .replica_id = 10 * (shard + 1) + i};
            record->isr[i] = i + 1;
        }
    }
    return map;
}

static inline int setup_cluster(void **state) {
    struct cluster *cluster = calloc(1, sizeof *cluster);
    snprintf(cluster->directory, sizeof cluster->directory, "/tmp/skerry-lanes-XXXXXX");
    if (mkdtemp(cluster->directory) == NULL) return -1;
    pthread_mutex_init(&cluster->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cluster->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    cluster->link.cluster = cluster;
    cluster->map = first_map();
    for (uint32_t id = 1; id <= NODES; id++) {
        struct node *node = &cluster->nodes[id];
        node->cluster = cluster;
        node->id = id;
        node->frontend.cluster = cluster;
        node->peers = (struct peers){.cluster = cluster, .node = id};
        snprintf(node->directory, sizeof node->directory, "%s/node-%u", cluster->directory, id);
        node->options = (struct lane_options){.directory = node->directory,
                                              .lane_count = 1,
                                              .segment_bytes = 4 << 20,
                                              .memtable_bytes = 4 << 20,
                                              .cache_bytes = 1 << 20,
                                              .map_bytes = 1 << 30,
                                              .checkpoint_interval_ms = 3600 * 1000,
                                              .id_window_ms = 600 * 1000,
                                              .ids_max = 1000,
                                              .log_keep_bytes = 64 << 20,
                                              .times = REPLICA_TIMES_DEFAULT,
                                              .frontend = &node->frontend,
                                              .peers = &node->peers,
                                              .change_cb = change_cb,
                                              .failed_cb = lane_failed_cb,
                                              .arg = node};
    }
    *state = cluster;
    return 0;
}

static inline int teardown_cluster(void **state) {
    struct cluster *cluster = *state;
    char command[128];
    for (uint32_t id = 1; id <= NODES; id++) {
        if (cluster->nodes[id].lane != NULL) stop_node(cluster, id);
    }
    for (uint32_t from = 1; from <= NODES; from++) {
        for (uint32_t to = 1; to <= NODES; to++) peer_intake_deinit(&cluster->chunks[from][to]);
    }
    map_unref(cluster->map);
    pthread_cond_destroy(&cluster->changed);
    pthread_mutex_destroy(&cluster->lock);
    snprintf(command, sizeof command, "rm -rf %s", cluster->directory);
    int rc = system(command);
    free(cluster);
    return rc;
}

/* ---- a node without a lane, whose messages the test makes up ---- */

/* It is said to lead everything; from here on metad says nothing new. */
static inline void make_puppet_leader(struct cluster *cluster, uint32_t id) {
    pthread_mutex_lock(&cluster->lock);
    cluster->nodes[id].incarnation = ++cluster->incarnations;
    for (uint32_t shard = 0; shard < SHARDS; shard++) set_leader(cluster, change_record(cluster, shard), id);
    cluster->metad_is_silent = true;
    publish(cluster);
    pthread_mutex_unlock(&cluster->lock);
}

/* A message as that leader would fill it in, to be completed. */
static inline struct replica_message puppet_message(struct cluster *cluster, uint32_t from, uint32_t to,
                                                    uint32_t shard, enum replica_message_type type,
                                                    uint64_t epoch) {
    struct map_shard record = record_of(cluster, shard);
    return (struct replica_message){.type = type,
                                    .shard = shard,
                                    .from = from,
                                    .to = to,
                                    .replica_id = record.replicas[to - 1].replica_id,
                                    .epoch = epoch};
}

static inline void puppet_deliver(struct cluster *cluster, uint32_t from, uint32_t to, struct buffer *items,
                                  bool bulk) {
    pthread_mutex_lock(&cluster->lock);
    deliver(cluster, from, to, items, bulk);
    pthread_mutex_unlock(&cluster->lock);
}

static inline void puppet_send(struct cluster *cluster, const struct replica_message *message) {
    struct buffer items;
    buffer_init(&items);
    peer_wire_add_message(&items, message);
    puppet_deliver(cluster, message->from, message->to, &items, false);
}

/* Opens an epoch whose leader's log ends at `last_index` with entries of it from 1 on, and waits for the answer. */
static inline void puppet_open(struct cluster *cluster, uint32_t from, uint32_t to, uint32_t shard,
                               uint64_t epoch) {
    struct replica_message open = puppet_message(cluster, from, to, shard, REPLICA_OPEN, epoch);
    open.epochs = (struct epochs){.count = 1, .starts = {{.epoch = epoch, .index = 1}}};
    const struct passed *ack = &cluster->passed[to][from][shard][REPLICA_ACK];
    puppet_send(cluster, &open);
    wait_until(cluster, ack->last.epoch == epoch);
}

static inline void puppet_beacon(struct cluster *cluster, uint32_t from, uint32_t to, uint32_t shard,
                                 uint64_t epoch, uint64_t commit_index) {
    struct replica_message beacon = puppet_message(cluster, from, to, shard, REPLICA_BEACON, epoch);
    beacon.commit_index = beacon.keep_index = commit_index;
    puppet_send(cluster, &beacon);
}

/* One APPEND with one entry behind prev_index. */
static inline void puppet_append_payload(struct cluster *cluster, uint32_t from, uint32_t to, uint32_t shard,
                                         uint64_t epoch, uint64_t prev_index, uint8_t type, struct slice payload) {
    struct replica_message append = puppet_message(cluster, from, to, shard, REPLICA_APPEND, epoch);
    append.prev_index = prev_index;
    struct wal_entry entry = {.epoch = epoch, .type = type, .payload = payload};
    struct buffer items;
    buffer_init(&items);
    size_t begin = peer_wire_begin_append(&items, &append);
    peer_wire_add_entry(&items, &entry);
    peer_wire_end_append(&items, begin, 1);
    puppet_deliver(cluster, from, to, &items, true);
}

/* The same with a SET of `filling` bytes, or without any an empty entry. */
static inline void puppet_append(struct cluster *cluster, uint32_t from, uint32_t to, const char *key,
                                 uint64_t epoch, uint64_t prev_index, size_t filling) {
    struct buffer body, payload;
    buffer_init(&body);
    buffer_init(&payload);
    if (filling > 0) {
        uint8_t *bytes = malloc(filling);
        memset(bytes, 'f', filling);
        mp_write_text(&body, "SET");
        mp_write_array(&body, 2);
        mp_write_bin(&body, slice_of_text(key));
        mp_write_bin(&body, slice_of(bytes, filling));
        struct entry entry = {.name = {.session = SESSION, .number = prev_index + 1, .floor = 1},
                              .body = buffer_slice(&body)};
        entry_encode_command(&payload, &entry);
        free(bytes);
    } else {
        entry_encode_plain(&payload, 0);
    }
    puppet_append_payload(cluster, from, to, shard_of(key), epoch, prev_index,
                          filling > 0 ? WAL_COMMAND : WAL_NOOP, buffer_slice(&payload));
    buffer_deinit(&body);
    buffer_deinit(&payload);
}

static inline void start_all(struct cluster *cluster) {
    for (uint32_t id = 1; id <= NODES; id++) start_node(cluster, id);
}

static inline struct lane_stats stats_of(struct cluster *cluster, uint32_t id) {
    struct lane_stats stats = {0};
    if (cluster->nodes[id].lane != NULL) lane_stats(cluster->nodes[id].lane, &stats);
    return stats;
}

/* ---- the gateway ---- */

/* Asks a node, under a number, for "METHOD argument …" with `filling` bytes more as the last argument if there are any. */
static inline void ask_node(struct cluster *cluster, uint32_t id, uint64_t number, uint32_t shard, uint8_t flags,
                            const char *words, size_t filling) {
    char copy[256], *rest = NULL, *arguments[8] = {0};
    uint32_t count = 0;
    struct buffer body, buffer;
    buffer_init(&body);
    buffer_init(&buffer);
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        arguments[count++] = word;
    }
    mp_write_text(&body, arguments[0]);
    mp_write_array(&body, count - 1 + (filling > 0));
    for (uint32_t i = 1; i < count; i++) mp_write_bin(&body, slice_of_text(arguments[i]));
    if (filling > 0) {
        uint8_t *bytes = malloc(filling);
        memset(bytes, 'f', filling);
        mp_write_bin(&body, slice_of(bytes, filling));
        free(bytes);
    }
    struct frame_header header = {.kind = FRAME_REQUESTS, .cluster = CLUSTER, .session = SESSION};
    struct request_item item = {.number = number,
                                .floor = 1,
                                .shard = shard,
                                .timeout_ms = 60000,
                                .flags = flags,
                                .body = buffer_slice(&body)};
    frame_begin(&buffer, &header);
    frame_add_request(&buffer, &item);
    frame_finish(buffer.data, number, 0, 1);

    struct frame *frame = calloc(1, sizeof *frame);
    atomic_init(&frame->refs, 1);
    frame->link = &cluster->link;
    frame->message = buffer.data; /* the frame's now */
    sk_assert(frame_read_header(buffer_slice(&buffer), &frame->header, &frame->items) == SK_OK);
    buffer_deinit(&body);
    pthread_mutex_lock(&cluster->lock);
    int err = SK_ECLOSED;
    if (cluster->nodes[id].lane != NULL) err = lane_post_frame(cluster->nodes[id].lane, frame);
    else frame_unref(frame);
    pthread_mutex_unlock(&cluster->lock);
    if (err == SK_OK) return;
    struct asked *asked = &cluster->asked[number];
    pthread_mutex_lock(&cluster->lock);
    asked->answers++;
    asked->err = SK_NOT_LEADER;
    pthread_mutex_unlock(&cluster->lock);
}

static inline uint64_t next_number(struct cluster *cluster) {
    sk_assert(cluster->numbers + 1 < ASKED_MAX);
    return ++cluster->numbers;
}

static inline bool is_answered(struct cluster *cluster, uint64_t number, unsigned answers) {
    return cluster->asked[number].answers >= answers;
}

static inline int await(struct cluster *cluster, uint64_t number, char *result) {
    wait_until(cluster, is_answered(cluster, number, 1));
    pthread_mutex_lock(&cluster->lock);
    struct asked asked = cluster->asked[number];
    pthread_mutex_unlock(&cluster->lock);
    if (result != NULL) memcpy(result, asked.result, RESULT_BYTES);
    return asked.err;
}

/* Asks who leads until there is a definite answer, as a gateway does: under one name. A node that answers nothing for a
 * second may be stopping or cut off. */
static inline int run_for(struct cluster *cluster, const char *key, uint8_t flags, const char *words,
                          size_t filling, char *result) {
    uint64_t number = next_number(cluster);
    uint32_t shard = shard_of(key);
    struct timespec deadline = wait_deadline();
    for (;;) {
        uint32_t leader = record_of(cluster, shard).leader;
        pthread_mutex_lock(&cluster->lock);
        unsigned before = cluster->asked[number].answers;
        pthread_mutex_unlock(&cluster->lock);
        ask_node(cluster, leader, number, shard, flags, words, filling);
        pthread_mutex_lock(&cluster->lock);
        uint64_t again_us = clock_boottime_us() + 1000000;
        while (!is_answered(cluster, number, before + 1) && clock_boottime_us() < again_us) {
            wait_a_little(cluster, &deadline);
        }
        bool answered = is_answered(cluster, number, before + 1);
        struct asked asked = cluster->asked[number];
        bool again = !answered || asked.err == SK_NOT_LEADER || asked.err == SK_RETRY || asked.err == SK_BUSY ||
                     asked.err == SK_LOST || asked.err == SK_UNAVAILABLE;
        if (again) wait_a_little(cluster, &deadline);
        pthread_mutex_unlock(&cluster->lock);
        if (again) continue;
        if (result != NULL) memcpy(result, asked.result, RESULT_BYTES);
        return asked.err;
    }
}

static inline void set(struct cluster *cluster, const char *key, const char *value) {
    char words[128], result[RESULT_BYTES];
    snprintf(words, sizeof words, "SET %s %s", key, value);
    assert_int_equal(run_for(cluster, key, REQUEST_WRITE, words, 0, result), SK_OK);
    assert_string_equal(result, "OK");
}

static inline void expect(struct cluster *cluster, const char *key, const char *expected) {
    char words[128], result[RESULT_BYTES];
    snprintf(words, sizeof words, "GET %s", key);
    assert_int_equal(run_for(cluster, key, 0, words, 0, result), SK_OK);
    assert_string_equal(result, expected);
}
