/* Nodes' pipelines against each other and against bare sockets: real nng. Within the process, but for one test: nng 1.5.2
 * leaks a connection over the network whose handshake is under way when its listener is closed. */
#include "shardd/peer_outbox.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/testing.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <pthread.h>
#include <time.h>

enum { CLUSTER = 77, NODES = 3, WAIT_S = 20, SEEN_MAX = 4096, HELD_MAX = 256, ENTRY_BYTES = 40000 };

/* An item that has come, as its frame said it. */
struct seen {
    uint32_t from, shard;
    uint64_t from_incarnation;
    bool bulk;
    uint64_t number; /* of an APPEND its first index, of an ACK the last */
    uint64_t bytes;  /* of an APPEND's payloads */
};

struct node {
    struct peers *peers; /* NULL: not open */
    struct peer_outbox outbox;
    uint32_t id;
    uint64_t incarnation;
    char address[64];

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool hold; /* frames with bulk items are kept */
    struct peer_frame *held[HELD_MAX];
    size_t held_count;
    struct seen seen[SEEN_MAX];
    size_t seen_count;
    uint64_t bulk_bytes;                                         /* that have come */
    unsigned ups[NODES + 1], downs[NODES + 1], rooms[NODES + 1]; /* by node */
};

struct fixture {
    struct node nodes[NODES]; /* id = place + 1 */
    uint64_t map_version;
};

/* ---- callbacks: nng's threads ---- */

static void note_item(struct node *node, const struct peer_frame *frame, const struct peer_item *item, bool bulk) {
    sk_assert(node->seen_count < SEEN_MAX);
    struct seen *seen = &node->seen[node->seen_count++];
    const struct replica_message *message = &item->is.message;
    *seen = (struct seen){.from = frame->header.from,
                          .from_incarnation = frame->header.from_incarnation,
                          .shard = item->shard,
                          .bulk = bulk};
    if (item->kind != PEER_MESSAGE) return;
    seen->number = bulk ? message->prev_index + 1 : message->last_index;
    if (!bulk) return;
    struct peer_entries entries = peer_entries_of(item);
    struct wal_entry entry;
    while (peer_entries_next(&entries, &entry) == SK_OK) {
        for (size_t i = 0; i < entry.payload.size; i += 997) sk_assert(entry.payload.data[i] == (uint8_t)(i * 7));
        seen->bytes += entry.payload.size;
    }
}

static void note_items(struct node *node, const struct peer_frame *frame, struct slice items, bool bulk) {
    struct peer_item item;
    while (peer_wire_read_item(&frame->header, &items, &item) == SK_OK) note_item(node, frame, &item, bulk);
    sk_assert(items.size == 0);
}

static void frame_cb(void *arg, struct peer_frame *frame) {
    struct node *node = arg;
    pthread_mutex_lock(&node->lock);
    note_items(node, frame, frame->urgent, false);
    note_items(node, frame, frame->bulk, true);
    node->bulk_bytes += frame->bulk.size;
    bool hold = node->hold && frame->bulk.size > 0;
    if (hold) {
        sk_assert(node->held_count < HELD_MAX);
        node->held[node->held_count++] = frame;
    }
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    if (!hold) peer_frame_unref(frame);
}

static void count(struct node *node, unsigned *counter) {
    pthread_mutex_lock(&node->lock);
    ++*counter;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static void up_cb(void *arg, uint32_t peer) {
    struct node *node = arg;
    count(node, &node->ups[peer]);
}

static void down_cb(void *arg, uint32_t peer) {
    struct node *node = arg;
    count(node, &node->downs[peer]);
}

static void room_cb(void *arg, uint32_t peer) {
    struct node *node = arg;
    count(node, &node->rooms[peer]);
}

/* ---- nodes ---- */

static void open_at(struct node *node, const char *address) {
    struct peers_options options = {.listen = address,
                                    .arg = node,
                                    .frame_cb = frame_cb,
                                    .up_cb = up_cb,
                                    .down_cb = down_cb,
                                    .room_cb = room_cb};
    char text[256] = "";
    int port;
    if (peers_open(&node->peers, &options, text, sizeof text, &port) != SK_OK) fail_msg("%s", text);
    snprintf(node->address, sizeof node->address, "%s", address);
    if (port > 0) snprintf(node->address, sizeof node->address, "tcp://127.0.0.1:%d", port);
    node->incarnation++;
    assert_int_equal(peers_start(node->peers, CLUSTER, node->id, node->incarnation), SK_OK);
    node->outbox.peers = node->peers;
}

static void open_node(struct node *node) {
    static unsigned opened;
    char address[64];
    snprintf(address, sizeof address, "inproc://node-%u-%u", node->id, opened++);
    open_at(node, address);
}

static void release_held(struct node *node, bool hold) {
    struct peer_frame *held[HELD_MAX];
    pthread_mutex_lock(&node->lock);
    size_t held_count = node->held_count;
    memcpy(held, node->held, sizeof held);
    node->held_count = 0;
    node->hold = hold;
    pthread_mutex_unlock(&node->lock);
    for (size_t i = 0; i < held_count; i++) peer_frame_unref(held[i]);
}

static void close_node(struct node *node) {
    if (node->peers == NULL) return;
    peer_outbox_deinit(&node->outbox);
    peers_stop_receiving(node->peers);
    release_held(node, false);
    peers_close(node->peers);
    node->peers = NULL;
}

/* A map of the first `count` nodes, by the addresses that they have. */
static struct map *make_map(struct fixture *fixture, uint32_t node_count) {
    struct map *map;
    assert_int_equal(map_new(&map, 1, node_count), SK_OK);
    map->version = ++fixture->map_version;
    map->cluster = CLUSTER;
    for (uint32_t i = 0; i < node_count; i++) {
        const struct node *node = &fixture->nodes[i];
        map->nodes[i].id = node->id;
        map->nodes[i].incarnation = node->incarnation;
        memcpy(map->nodes[i].replication_address, node->address, sizeof node->address);
    }
    return map;
}

static void give_map(struct fixture *fixture, uint32_t node_count) {
    struct map *map = make_map(fixture, node_count);
    for (uint32_t i = 0; i < NODES; i++)
        if (fixture->nodes[i].peers != NULL) peers_set_map(fixture->nodes[i].peers, map);
    map_unref(map);
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *node = &fixture->nodes[i];
        node->id = i + 1;
        node->incarnation = 10 * i;
        pthread_mutex_init(&node->lock, NULL);
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&node->changed, &attributes);
        pthread_condattr_destroy(&attributes);
    }
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < NODES; i++) close_node(&fixture->nodes[i]);
    for (uint32_t i = 0; i < NODES; i++) {
        pthread_cond_destroy(&fixture->nodes[i].changed);
        pthread_mutex_destroy(&fixture->nodes[i].lock);
    }
    free(fixture);
    return 0;
}

/* Waits until *counter, which the node's lock guards, is at least `least`. */
static void wait_for(struct node *node, const unsigned *counter, const size_t *size, size_t least) {
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&node->lock);
    while ((counter != NULL ? *counter : *size) < least && rc == 0)
        rc = pthread_cond_timedwait(&node->changed, &node->lock, &until);
    pthread_mutex_unlock(&node->lock);
    assert_int_equal(rc, 0);
}

static void wait_seen(struct node *node, size_t least) { wait_for(node, NULL, &node->seen_count, least); }

static struct seen seen_at(struct node *node, size_t at) {
    pthread_mutex_lock(&node->lock);
    struct seen seen = node->seen[at];
    pthread_mutex_unlock(&node->lock);
    return seen;
}

static size_t seen_count(struct node *node) {
    pthread_mutex_lock(&node->lock);
    size_t seen = node->seen_count;
    pthread_mutex_unlock(&node->lock);
    return seen;
}

/* Waits until two nodes are connected both ways, and forgets when they were not yet: on a busy machine that counts as down. */
static void wait_for_pair(struct node *a, struct node *b) {
    wait_for(a, &a->ups[b->id], NULL, 1);
    wait_for(b, &b->ups[a->id], NULL, 1);
    for (int i = 0; i < 2; i++) {
        struct node *node = i == 0 ? a : b, *other = i == 0 ? b : a;
        pthread_mutex_lock(&node->lock);
        node->downs[other->id] = 0;
        pthread_mutex_unlock(&node->lock);
    }
}

/* Two nodes that are connected both ways. */
static void open_pair(struct fixture *fixture) {
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_node(a);
    open_node(b);
    give_map(fixture, 2);
    wait_for_pair(a, b);
}

/* ---- what is sent ---- */

static void add_ack(struct node *node, uint32_t to, uint32_t shard, uint64_t number) {
    struct replica_message message = {
        .type = REPLICA_ACK, .to = to, .shard = shard, .epoch = 1, .last_index = number};
    peer_outbox_add_message(&node->outbox, &message);
}

static void send_ack(struct node *node, uint32_t to, uint32_t shard, uint64_t number) {
    add_ack(node, to, shard, number);
    peer_outbox_flush(&node->outbox);
}

/* An APPEND of one entry at `index`. */
static void add_append(struct node *node, uint32_t to, uint32_t shard, uint64_t index, size_t bytes) {
    struct replica_message message = {
        .type = REPLICA_APPEND, .to = to, .shard = shard, .epoch = 1, .prev_index = index - 1};
    uint8_t *payload = malloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++) payload[i] = (uint8_t)(i * 7);
    struct wal_entry entry = {
        .epoch = 1, .index = index, .type = WAL_COMMAND, .payload = slice_of(payload, bytes)};
    peer_outbox_begin_append(&node->outbox, &message);
    assert_true(peer_outbox_add_entry(&node->outbox, &entry));
    assert_int_equal(peer_outbox_end_append(&node->outbox), 1);
    free(payload);
}

/* ---- tests ---- */

static void test_both_ways(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_pair(fixture);
    add_append(a, b->id, 7, 41, 100);
    add_ack(a, b->id, 8, 5);
    peer_outbox_flush(&a->outbox);
    wait_seen(b, 2);
    struct seen ack = seen_at(b, 0), append = seen_at(b, 1);
    assert_true(!ack.bulk && ack.shard == 8 && ack.number == 5);
    assert_true(append.bulk && append.shard == 7 && append.number == 41 && append.bytes == 100);
    assert_true(append.from == a->id && append.from_incarnation == a->incarnation);
    send_ack(b, a->id, 9, 6);
    wait_seen(a, 1);
    assert_true(seen_at(a, 0).shard == 9 && seen_at(a, 0).from == b->id);
}

static void test_over_the_network(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_at(a, "tcp://127.0.0.1:0");
    open_at(b, "tcp://127.0.0.1:0");
    give_map(fixture, 2);
    wait_for_pair(a, b);
    for (uint64_t i = 1; i <= 100; i++) add_append(a, b->id, 7, i, ENTRY_BYTES);
    peer_outbox_flush(&a->outbox);
    send_ack(b, a->id, 9, 6);
    wait_seen(b, 100);
    wait_seen(a, 1);
    assert_int_equal(seen_at(b, 99).number, 100);
    give_map(fixture, 0); /* both stop dialling before a listener is closed */
    wait_for(a, &a->downs[b->id], NULL, 1);
    wait_for(b, &b->downs[a->id], NULL, 1);
}

static void test_three_nodes(void **state) {
    struct fixture *fixture = *state;
    for (uint32_t i = 0; i < NODES; i++) open_node(&fixture->nodes[i]);
    give_map(fixture, NODES);
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *node = &fixture->nodes[i];
        for (uint32_t to = 1; to <= NODES; to++)
            if (to != node->id) wait_for(node, &node->ups[to], NULL, 1);
        for (uint32_t to = 1; to <= NODES; to++)
            if (to != node->id) add_ack(node, to, to, node->id);
        peer_outbox_flush(&node->outbox);
    }
    for (uint32_t i = 0; i < NODES; i++) {
        struct node *node = &fixture->nodes[i];
        wait_seen(node, NODES - 1);
        for (size_t at = 0; at < NODES - 1; at++) {
            assert_int_equal(seen_at(node, at).shard, node->id);
            assert_int_equal(seen_at(node, at).number, seen_at(node, at).from);
        }
    }
}

/* What is larger than a frame travels in many and arrives in order, none missing, once. */
static void test_order(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    enum { STEPS = 100, PER_STEP = 10 };
    open_pair(fixture);
    uint64_t index = 0;
    for (int step = 0; step < STEPS; step++) {
        while (peer_outbox_room(&a->outbox, b->id) == 0) wait_for(a, &a->rooms[b->id], NULL, 1);
        for (int i = 0; i < PER_STEP; i++) add_append(a, b->id, 1, ++index, ENTRY_BYTES);
        peer_outbox_flush(&a->outbox);
    }
    wait_seen(b, STEPS * PER_STEP);
    for (size_t i = 0; i < STEPS * PER_STEP; i++) assert_int_equal(seen_at(b, i).number, i + 1);
    assert_int_equal(seen_count(b), STEPS * PER_STEP);
}

/* Entries gather in one message until it is large enough. */
static void test_an_append_ends(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_pair(fixture);
    struct replica_message message = {.type = REPLICA_APPEND, .to = b->id, .shard = 1, .epoch = 1};
    uint8_t *payload = malloc(ENTRY_BYTES);
    for (size_t i = 0; i < ENTRY_BYTES; i++) payload[i] = (uint8_t)(i * 7);
    struct wal_entry entry = {.epoch = 1, .type = WAL_COMMAND, .payload = slice_of(payload, ENTRY_BYTES)};
    peer_outbox_begin_append(&a->outbox, &message);
    uint32_t entries = 0;
    while (peer_outbox_add_entry(&a->outbox, &entry)) entries++;
    assert_int_equal(entries, PEER_APPEND_BYTES / ENTRY_BYTES);
    assert_int_equal(peer_outbox_end_append(&a->outbox), entries);
    peer_outbox_begin_append(&a->outbox, &message); /* none: no message */
    assert_int_equal(peer_outbox_end_append(&a->outbox), 0);
    add_ack(a, b->id, 2, 1);
    peer_outbox_flush(&a->outbox);
    wait_seen(b, 2);
    assert_int_equal(seen_at(b, 1).bytes, entries * ENTRY_BYTES);
    assert_int_equal(seen_count(b), 2);
    free(payload);
}

/* An entry that fits no frame arrives as one, in its place. */
static void test_large_entries(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    static const size_t sizes[] = {
        100, PEER_APPEND_BYTES, PEER_CHUNK_BYTES, 3 * PEER_CHUNK_BYTES + 1, 1 << 24, 100, 300000, 70};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    open_pair(fixture);
    for (uint64_t i = 0; i < COUNT; i++) add_append(a, b->id, 3, i + 1, sizes[i]);
    peer_outbox_flush(&a->outbox);
    wait_seen(b, COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(seen_at(b, i).number, i + 1);
        assert_int_equal(seen_at(b, i).bytes, sizes[i]);
    }
}

/* A receiver that keeps bulk frames slows the sender down, and nothing that is urgent. */
static void test_held_frames(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_pair(fixture);
    release_held(b, true);
    uint64_t sent = 0;
    while (peer_outbox_room(&a->outbox, b->id) > 0) {
        add_append(a, b->id, 1, ++sent, ENTRY_BYTES);
        peer_outbox_flush(&a->outbox);
    }
    assert_int_equal(peers_room(a->peers, b->id), 0);
    for (uint64_t i = 1; i <= 5; i++) {
        send_ack(a, b->id, 2, i);
        bool came = false;
        for (size_t at = 0; !came;) { /* among the bulk items that the window lets through */
            wait_seen(b, at + 1);
            for (; at < seen_count(b); at++) came = came || (!seen_at(b, at).bulk && seen_at(b, at).number == i);
        }
    }
    pthread_mutex_lock(&b->lock);
    uint64_t came = b->bulk_bytes;
    pthread_mutex_unlock(&b->lock);
    assert_true(came <= PEER_WINDOW_BYTES + PEER_FRAME_BYTES + ENTRY_BYTES + 100);
    assert_int_equal(a->rooms[b->id], 0);
    release_held(b, false);
    wait_for(a, &a->rooms[b->id], NULL, 1);
    assert_true(peers_room(a->peers, b->id) > 0);
    wait_seen(b, sent + 5);
}

/* The other side of a window is told without any other traffic, also of the last bytes. */
static void test_taken_is_told(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_pair(fixture);
    for (uint64_t round = 0; round < 20; round++) {
        uint64_t rounds = round * 25;
        for (uint64_t i = 1; i <= 25; i++) add_append(a, b->id, 1, rounds + i, ENTRY_BYTES);
        peer_outbox_flush(&a->outbox);
        wait_seen(b, rounds + 25);
    }
}

/* A node that ends is down, one that starts again is up, and neither gets what was meant for the other. */
static void test_a_node_starts_again(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    char address[64];
    open_pair(fixture);
    send_ack(a, b->id, 1, 1);
    wait_seen(b, 1);
    memcpy(address, b->address, sizeof address);
    close_node(b);
    wait_for(a, &a->downs[b->id], NULL, 1);
    send_ack(a, b->id, 1, 2);
    add_append(a, b->id, 1, 3, 100);
    peer_outbox_flush(&a->outbox);
    assert_int_equal(peers_room(a->peers, b->id), 0);

    open_at(b, address);
    wait_for(a, &a->ups[b->id], NULL, 2);
    give_map(fixture, 2);
    wait_for(b, &b->ups[a->id], NULL, 2);
    assert_int_equal(peers_room(a->peers, b->id), PEER_BULK_BYTES_MAX);
    send_ack(a, b->id, 1, 4);
    wait_seen(b, 2);
    assert_int_equal(seen_at(b, 1).number, 4);
    assert_int_equal(a->downs[b->id], 1);
}

static void test_a_node_that_was_never_there(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_node(a);
    open_node(b);
    close_node(b);
    give_map(fixture, 2);
    wait_for(a, &a->downs[b->id], NULL, 1);
    assert_int_equal(a->ups[b->id], 0);
    assert_int_equal(peers_room(a->peers, b->id), 0);
    char address[64];
    memcpy(address, b->address, sizeof address);
    open_at(b, address);
    wait_for(a, &a->ups[b->id], NULL, 1);
}

static void test_another_address(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1], *c = &fixture->nodes[2];
    open_pair(fixture);
    open_node(c);
    struct map *map = make_map(fixture, 2), *old = make_map(fixture, 2);
    old->version = map->version - 1;
    /* node 2 has moved to where node 3 listens: what it is sent there is refused, since it is not node 3's */
    memcpy(map->nodes[1].replication_address, c->address, sizeof c->address);
    peers_set_map(a->peers, map);
    wait_for(a, &a->ups[b->id], NULL, 2);
    peers_set_map(a->peers, old); /* ignored (R29) */
    send_ack(a, b->id, 1, 1);
    map_unref(map);
    map_unref(old);
    fixture->map_version++;
    give_map(fixture, 3);
    wait_for(a, &a->ups[b->id], NULL, 3);
    wait_for(a, &a->ups[c->id], NULL, 1);
    wait_for(c, &c->ups[a->id], NULL, 1);
    send_ack(a, b->id, 1, 2);
    send_ack(a, c->id, 1, 3);
    wait_seen(b, 1);
    wait_seen(c, 1);
    assert_int_equal(seen_at(b, 0).number, 2);
    assert_int_equal(seen_at(c, 0).number, 3);
}

static void test_a_node_leaves(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_pair(fixture);
    give_map(fixture, 1);
    wait_for(a, &a->downs[b->id], NULL, 1);
    assert_int_equal(peers_room(a->peers, b->id), 0);
    send_ack(a, b->id, 1, 1);
    give_map(fixture, 2);
    wait_for(a, &a->ups[b->id], NULL, 2);
    send_ack(a, b->id, 1, 2);
    wait_seen(b, 1);
    assert_int_equal(seen_at(b, 0).number, 2);
    send_ack(a, 9, 1, 1); /* nobody */
}

/* ---- against bare sockets ---- */

static void push_frame(nng_socket socket, const struct peer_header *changed, uint64_t number) {
    struct replica_message message = {.type = REPLICA_ACK, .shard = 1, .epoch = 1, .last_index = number};
    struct peer_header header = *changed;
    struct buffer frame;
    buffer_init(&frame);
    buffer_extend(&frame, PEER_HEADER_BYTES);
    peer_wire_add_message(&frame, &message);
    header.number = number;
    header.item_count = 1;
    header.urgent_bytes = (uint32_t)(frame.size - PEER_HEADER_BYTES);
    peer_wire_write_header(frame.data, &header);
    assert_int_equal(nng_send(socket, frame.data, frame.size, 0), 0);
    buffer_deinit(&frame);
}

static void test_what_is_refused(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    nng_socket socket;
    open_pair(fixture);
    close_node(b); /* we play it */
    assert_int_equal(nng_push0_open(&socket), 0);
    nng_socket_set_ms(socket, NNG_OPT_SENDTIMEO, WAIT_S * 1000);
    assert_int_equal(nng_dial(socket, a->address, NULL, 0), 0);
    struct peer_header good = {.cluster = CLUSTER,
                               .from = b->id,
                               .to = a->id,
                               .from_incarnation = b->incarnation,
                               .to_incarnation = a->incarnation,
                               .connection = UINT64_MAX - 1};
    struct peer_header header = good;
    push_frame(socket, &good, 1);
    header.cluster++;
    push_frame(socket, &header, 2);
    header = good;
    header.to++;
    push_frame(socket, &header, 3);
    header = good;
    header.to_incarnation++;
    push_frame(socket, &header, 4);
    header = good;
    header.from = 9;
    push_frame(socket, &header, 5);
    header = good;
    header.from_incarnation--;
    push_frame(socket, &header, 6);
    header = good;
    header.connection--;
    push_frame(socket, &header, 7);
    assert_int_equal(nng_send(socket, (void *)"garbage", 7, 0), 0);
    assert_int_equal(nng_send(socket, (void *)"", 0, 0), 0);
    push_frame(socket, &good, 1); /* again */
    header = good;
    header.to_incarnation = 0; /* not known */
    push_frame(socket, &header, 8);
    header.from_incarnation++; /* a new process */
    header.connection = 1;
    push_frame(socket, &header, 9);
    wait_seen(a, 3);
    assert_int_equal(seen_at(a, 0).number, 1);
    assert_int_equal(seen_at(a, 1).number, 8);
    assert_int_equal(seen_at(a, 2).number, 9);
    nng_close(socket);
}

/* Somebody listens and takes everything, but nothing is heard of it: the connection is dialled anew. */
static void test_a_connection_that_says_nothing(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    nng_socket socket;
    nng_msg *message;
    open_node(a);
    snprintf(b->address, sizeof b->address, "inproc://says-nothing");
    assert_int_equal(nng_pull0_open(&socket), 0);
    assert_int_equal(nng_listen(socket, b->address, NULL, 0), 0);
    nng_socket_set_ms(socket, NNG_OPT_RECVTIMEO, WAIT_S * 1000);
    give_map(fixture, 2);
    wait_for(a, &a->ups[b->id], NULL, 1);
    send_ack(a, b->id, 1, 1);
    assert_int_equal(nng_recvmsg(socket, &message, 0), 0);
    nng_msg_free(message);
    wait_for(a, &a->ups[b->id], NULL, 2);
    send_ack(a, b->id, 1, 1);
    struct peer_header header;
    struct slice urgent, bulk;
    assert_int_equal(nng_recvmsg(socket, &message, 0), 0);
    struct slice frame = slice_of(nng_msg_body(message), nng_msg_len(message));
    assert_int_equal(peer_wire_read_frame(frame, &header, &urgent, &bulk), SK_OK);
    assert_int_equal(header.number, 1);
    nng_msg_free(message);
    close_node(a);
    nng_close(socket);
}

static void test_bad_addresses(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    struct peers_options options = {.listen = a->address};
    struct peers *second;
    char text[256];
    open_node(a);
    assert_int_equal(peers_open(&second, &options, text, sizeof text, NULL), SK_ECONFIG);
    assert_non_null(strstr(text, a->address));
    options.listen = "nonsense";
    assert_int_equal(peers_open(&second, &options, text, sizeof text, NULL), SK_ECONFIG);
    assert_non_null(strstr(text, "nonsense"));

    snprintf(b->address, sizeof b->address, "nonsense");
    give_map(fixture, 2);
    wait_for(a, &a->downs[b->id], NULL, 1);
    open_node(b);
    give_map(fixture, 2);
    wait_for(a, &a->ups[b->id], NULL, 1);
}

/* Nothing comes any more, what is sent still goes out. */
static void test_the_end(void **state) {
    struct fixture *fixture = *state;
    struct node *a = &fixture->nodes[0], *b = &fixture->nodes[1];
    open_pair(fixture);
    peers_stop_receiving(a->peers);
    send_ack(b, a->id, 1, 1);
    send_ack(a, b->id, 1, 2);
    peers_flush(a->peers, WAIT_S * 1000);
    peers_flush(b->peers, WAIT_S * 1000);
    wait_seen(b, 1);
    assert_int_equal(seen_count(a), 0);
}

int main(void) {
    log_init("peers_test", LOG_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_both_ways),           TEST(test_over_the_network),
        TEST(test_three_nodes),         TEST(test_order),
        TEST(test_an_append_ends),      TEST(test_large_entries),
        TEST(test_held_frames),         TEST(test_taken_is_told),
        TEST(test_a_node_starts_again), TEST(test_a_node_that_was_never_there),
        TEST(test_another_address),     TEST(test_a_node_leaves),
        TEST(test_what_is_refused),     TEST(test_a_connection_that_says_nothing),
        TEST(test_bad_addresses),       TEST(test_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
