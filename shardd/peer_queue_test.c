#include "shardd/peer_queue.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

enum { NODE = 2, PEER = 3, CONNECTION = 50 };

static int set_up(void **state) {
    struct peer_queue *queue = calloc(1, sizeof *queue);
    peer_queue_connect(queue, CONNECTION);
    *state = queue;
    return 0;
}

static int tear_down(void **state) {
    struct peer_queue *queue = *state;
    peer_queue_deinit(queue);
    free(queue);
    return 0;
}

/* ---- what is put in ---- */

static struct replica_message message_of(enum replica_message_type type, uint32_t shard) {
    return (struct replica_message){.type = type, .shard = shard, .epoch = 1};
}

/* An urgent item that names `shard`. */
static void add_urgent(struct peer_queue *queue, uint32_t shard) {
    struct parcel_list urgent = {0}, bulk = {0};
    struct replica_message message = message_of(REPLICA_REFUSAL, shard);
    struct buffer buffer;
    buffer_init(&buffer);
    peer_wire_add_message(&buffer, &message);
    assert_true(parcel_list_add(&urgent, &buffer, 1, false));
    peer_queue_add(queue, &urgent, &bulk);
    assert_null(urgent.head);
}

/* A bulk item that names `shard`, of some `bytes`. */
static void add_bulk(struct peer_queue *queue, uint32_t shard, size_t bytes) {
    struct parcel_list urgent = {0}, bulk = {0};
    struct replica_message message = message_of(REPLICA_APPEND, shard);
    uint8_t *payload = calloc(1, bytes);
    struct wal_entry entry = {.epoch = 1, .type = WAL_COMMAND, .payload = slice_of(payload, bytes)};
    struct buffer buffer;
    buffer_init(&buffer);
    size_t begin = peer_wire_begin_append(&buffer, &message);
    peer_wire_add_entry(&buffer, &entry);
    peer_wire_end_append(&buffer, begin, 1);
    free(payload);
    assert_true(parcel_list_add(&bulk, &buffer, 1, false));
    peer_queue_add(queue, &urgent, &bulk);
}

static void add_chunk(struct peer_queue *queue, uint32_t offset) {
    struct parcel_list urgent = {0}, bulk = {0};
    struct peer_chunk chunk = {.stream = 1, .total_bytes = 100, .offset = offset, .bytes = slice_of_text("bytes")};
    struct buffer buffer;
    buffer_init(&buffer);
    peer_wire_add_chunk(&buffer, &chunk);
    assert_true(parcel_list_add(&bulk, &buffer, 1, true));
    peer_queue_add(queue, &urgent, &bulk);
}

/* ---- what comes out ---- */

struct taken {
    struct peer_header header;
    uint32_t urgent_count, bulk_count;
    uint32_t urgent[64], bulk[64]; /* shards; of a chunk its offset */
    size_t bulk_bytes;
};

static void read_items(const struct peer_header *header, struct slice items, uint32_t *shards, uint32_t *count) {
    struct peer_item item;
    for (*count = 0; peer_wire_read_item(header, &items, &item) == SK_OK; ++*count) {
        assert_true(*count < 64);
        shards[*count] = item.kind == PEER_CHUNK ? item.is.chunk.offset : item.shard;
    }
}

/* The next frame, as the other side reads it. False: nothing can go. */
static bool take(struct peer_queue *queue, struct taken *taken, uint64_t now_us) {
    struct peer_cut cut;
    struct slice urgent, bulk;
    if (!peer_queue_cut(queue, &cut)) return false;
    size_t bytes = PEER_HEADER_BYTES + cut.urgent_bytes + cut.bulk_bytes;
    uint8_t *frame = malloc(bytes);
    struct peer_header header = {.from = NODE, .to = PEER};
    peer_queue_fill(queue, &cut, &header, frame, now_us);
    assert_int_equal(peer_wire_read_frame(slice_of(frame, bytes), &taken->header, &urgent, &bulk), SK_OK);
    read_items(&taken->header, urgent, taken->urgent, &taken->urgent_count);
    read_items(&taken->header, bulk, taken->bulk, &taken->bulk_count);
    taken->bulk_bytes = bulk.size;
    free(frame);
    return true;
}

static void hear(struct peer_queue *queue, uint64_t number, uint64_t bulk_taken, uint64_t now_us) {
    struct peer_header header = {
        .heard_connection = CONNECTION, .heard_number = number, .heard_taken = bulk_taken};
    peer_queue_on_heard(queue, &header, now_us);
}

/* ---- tests ---- */

static void test_order(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken;
    add_bulk(queue, 1, 10);
    add_urgent(queue, 2);
    add_bulk(queue, 3, 10);
    add_urgent(queue, 4);
    assert_true(take(queue, &taken, 1));
    assert_true(taken.urgent_count == 2 && taken.urgent[0] == 2 && taken.urgent[1] == 4);
    assert_true(taken.bulk_count == 2 && taken.bulk[0] == 1 && taken.bulk[1] == 3);
    assert_true(taken.header.connection == CONNECTION && taken.header.number == 1);
    assert_int_equal(taken.header.item_count, 4);
    assert_int_equal(taken.header.bulk_before, 0);
    assert_false(take(queue, &taken, 1));
    size_t bulk_bytes = taken.bulk_bytes;
    add_bulk(queue, 5, 10);
    assert_true(take(queue, &taken, 1));
    assert_int_equal(taken.header.number, 2);
    assert_int_equal(taken.header.bulk_before, bulk_bytes);
}

/* Frames end; what is urgent and comes later overtakes what waits. */
static void test_frames_end(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken;
    for (uint32_t i = 0; i < 8; i++) add_bulk(queue, i, 100000);
    assert_true(take(queue, &taken, 1));
    assert_int_equal(taken.bulk_count, 3);
    add_urgent(queue, 60);
    assert_true(take(queue, &taken, 1));
    assert_true(taken.urgent_count == 1 && taken.bulk_count == 3 && taken.bulk[0] == 3);
}

/* Bulk waits for the window, urgent items do not. */
static void test_the_window(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken = {0};
    uint64_t sent = 0;
    for (uint32_t i = 0; i < 16; i++) add_bulk(queue, i, 100000);
    while (take(queue, &taken, 1)) sent = taken.header.bulk_before + taken.bulk_bytes;
    assert_in_range(sent, PEER_WINDOW_BYTES, PEER_WINDOW_BYTES + PEER_FRAME_BYTES + 100100);
    add_urgent(queue, 60);
    assert_true(take(queue, &taken, 1));
    assert_true(taken.urgent_count == 1 && taken.bulk_count == 0);
    hear(queue, taken.header.number, sent - PEER_WINDOW_BYTES, 2);
    assert_false(take(queue, &taken, 1));
    hear(queue, taken.header.number, sent - PEER_WINDOW_BYTES + 1, 2);
    assert_true(take(queue, &taken, 1));
    assert_true(taken.bulk_count > 0);
}

static void test_chunks_go_alone(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken;
    add_bulk(queue, 7, 10);
    add_chunk(queue, 10);
    add_chunk(queue, 20);
    add_bulk(queue, 8, 10);
    add_urgent(queue, 9);
    static const uint32_t expected[] = {7, 10, 20, 8};
    for (int i = 0; i < 4; i++) {
        assert_true(take(queue, &taken, 1));
        assert_true(taken.bulk_count == 1 && taken.bulk[0] == expected[i]);
        assert_int_equal(taken.urgent_count, i == 0 ? 1 : 0);
    }
    assert_false(take(queue, &taken, 1));
}

static void test_a_connection_takes_all_along(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken;
    add_bulk(queue, 1, 10);
    assert_true(take(queue, &taken, 1));
    add_bulk(queue, 1, 10);
    add_urgent(queue, 2);
    peer_queue_connect(queue, 0);
    add_bulk(queue, 1, 10);
    add_urgent(queue, 2);
    assert_int_equal(peer_queue_room(queue), 0);
    assert_false(take(queue, &taken, 1));
    peer_queue_connect(queue, CONNECTION + 1);
    assert_false(take(queue, &taken, 1));
    add_bulk(queue, 3, 10);
    assert_true(take(queue, &taken, 1));
    assert_true(taken.header.connection == CONNECTION + 1 && taken.header.number == 1);
    assert_int_equal(taken.header.bulk_before, 0);
    hear(queue, 1, 10, 2); /* of the connection before */
    assert_int_equal(queue->heard_number, 0);
    assert_int_equal(queue->bulk_taken, 0);
}

static void test_room(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken;
    assert_int_equal(peer_queue_room(queue), PEER_BULK_BYTES_MAX);
    add_bulk(queue, 1, PEER_BULK_BYTES_MAX - 1000);
    assert_in_range(peer_queue_room(queue), 1, 1000);
    add_bulk(queue, 1, 5000);
    assert_int_equal(peer_queue_room(queue), 0);
    assert_true(take(queue, &taken, 1));
    assert_in_range(peer_queue_room(queue), PEER_BULK_BYTES_MAX - 6000, PEER_BULK_BYTES_MAX - 5000);
}

static void test_too_much_that_is_urgent(void **state) {
    struct peer_queue *queue = *state;
    for (int i = 0; i < 9; i++) {
        struct parcel_list urgent = {0}, bulk = {0};
        struct buffer buffer;
        buffer_init(&buffer);
        buffer_extend(&buffer, 2 * 1024 * 1024);
        assert_true(parcel_list_add(&urgent, &buffer, 20, false));
        peer_queue_add(queue, &urgent, &bulk);
        assert_null(urgent.head);
    }
    assert_int_equal(queue->urgent.bytes, PEER_URGENT_BYTES_MAX);
    assert_int_equal(queue->dropped, 20);
}

/* Numbers that were never sent, and old ones, change nothing. */
static void test_what_cannot_have_been_heard(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken;
    add_bulk(queue, 1, 10);
    assert_true(take(queue, &taken, 1));
    add_bulk(queue, 1, 10);
    assert_true(take(queue, &taken, 1));
    hear(queue, 3, 0, 2);
    hear(queue, 2, 1000, 2);
    assert_int_equal(queue->heard_number, 0);
    hear(queue, 2, 20, 2);
    hear(queue, 1, 10, 3);
    assert_int_equal(queue->heard_number, 2);
    assert_int_equal(queue->bulk_taken, 20);
    struct peer_header other = {.heard_connection = CONNECTION + 1, .heard_number = 2, .heard_taken = 30};
    peer_queue_on_heard(queue, &other, 4);
    assert_int_equal(queue->bulk_taken, 20);
}

static void test_stalled(void **state) {
    struct peer_queue *queue = *state;
    struct taken taken;
    assert_false(peer_queue_stalled(queue, 1000000, 100));
    add_urgent(queue, 1);
    assert_true(take(queue, &taken, 1000));
    assert_false(peer_queue_stalled(queue, 1099, 100));
    assert_true(peer_queue_stalled(queue, 1100, 100));
    add_urgent(queue, 1);
    assert_true(take(queue, &taken, 1090)); /* another frame does not help */
    assert_true(peer_queue_stalled(queue, 1100, 100));
    hear(queue, 1, 0, 1100);
    assert_false(peer_queue_stalled(queue, 1199, 100));
    assert_true(peer_queue_stalled(queue, 1200, 100));
    hear(queue, 2, 0, 1200);
    assert_false(peer_queue_stalled(queue, 99999, 100));
}

/* Frames that only tell what was heard carry no number of their own: they are not to be confirmed. */
static void test_a_frame_without_items(void **state) {
    struct peer_queue *queue = *state;
    struct peer_cut nothing = {0};
    struct peer_header header = {.from = NODE, .to = PEER, .heard_number = 9}, read;
    struct slice urgent, bulk;
    uint8_t frame[PEER_HEADER_BYTES];
    struct taken taken;
    add_urgent(queue, 1);
    assert_true(take(queue, &taken, 1000));
    hear(queue, 1, 0, 1000);
    peer_queue_fill(queue, &nothing, &header, frame, 1001);
    assert_int_equal(peer_wire_read_frame(slice_of(frame, sizeof frame), &read, &urgent, &bulk), SK_OK);
    assert_true(read.number == 1 && read.heard_number == 9 && read.item_count == 0);
    assert_false(peer_queue_stalled(queue, 99999, 100));
}

static void test_a_failed_buffer_makes_no_parcel(void **state) {
    (void)state;
    struct parcel_list list = {0};
    struct buffer buffer;
    buffer_init(&buffer);
    buffer_append(&buffer, "some", 4);
    buffer.failed = true;
    assert_false(parcel_list_add(&list, &buffer, 1, false));
    assert_null(list.head);
    assert_null(buffer.data);
    assert_false(buffer.failed);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_order),
        TEST(test_frames_end),
        TEST(test_the_window),
        TEST(test_chunks_go_alone),
        TEST(test_a_connection_takes_all_along),
        TEST(test_room),
        TEST(test_too_much_that_is_urgent),
        TEST(test_what_cannot_have_been_heard),
        TEST(test_stalled),
        TEST(test_a_frame_without_items),
        TEST(test_a_failed_buffer_makes_no_parcel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
