#include "shardd/peer_intake.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

static int set_up(void **state) {
    struct peer_intake *intake = calloc(1, sizeof *intake);
    peer_intake_on_incarnation(intake, 7);
    *state = intake;
    return 0;
}

static int tear_down(void **state) {
    struct peer_intake *intake = *state;
    peer_intake_deinit(intake);
    free(intake);
    return 0;
}

static bool frame(struct peer_intake *intake, uint64_t connection, uint64_t number, uint64_t before, size_t bulk) {
    struct peer_header header = {
        .connection = connection, .number = number, .bulk_before = before, .item_count = 1};
    return peer_intake_on_frame(intake, &header, bulk);
}

static void test_earlier_processes(void **state) {
    struct peer_intake *intake = *state;
    assert_true(peer_intake_on_incarnation(intake, 7));
    assert_true(frame(intake, 50, 1, 0, 10));
    assert_false(peer_intake_on_incarnation(intake, 6));
    assert_int_equal(intake->connection, 50);
    assert_true(peer_intake_on_incarnation(intake, 8));
    assert_true(frame(intake, 3, 1, 0, 10)); /* its numbers begin anew */
}

static void test_frames_count_once(void **state) {
    struct peer_intake *intake = *state;
    assert_true(frame(intake, 50, 1, 0, 10));
    assert_false(frame(intake, 50, 1, 0, 10));
    assert_true(frame(intake, 50, 3, 30, 10));
    assert_false(frame(intake, 50, 2, 10, 20));
    assert_false(frame(intake, 49, 4, 40, 10));
    assert_true(frame(intake, 51, 1, 0, 10));
    assert_false(frame(intake, 50, 4, 40, 10));
    assert_false(frame(intake, 51, 2, 9, 10)); /* bytes that were counted already */
}

/* It says what was heard, with the number of the frame before. */
static void test_a_frame_without_items(void **state) {
    struct peer_intake *intake = *state;
    struct peer_header header = {.connection = 50, .number = 1, .bulk_before = 10};
    assert_true(frame(intake, 50, 1, 0, 10));
    assert_true(peer_intake_on_frame(intake, &header, 0));
    assert_true(peer_intake_on_frame(intake, &header, 0));
    assert_int_equal(intake->number, 1);
    assert_int_equal(peer_intake_taken(intake), 10);
    header.connection = 49;
    assert_false(peer_intake_on_frame(intake, &header, 0));
}

static void test_held_and_released(void **state) {
    struct peer_intake *intake = *state;
    frame(intake, 50, 1, 0, 10);
    uint64_t first = peer_intake_hold(intake, 10);
    frame(intake, 50, 2, 10, 20);
    uint64_t second = peer_intake_hold(intake, 20);
    assert_int_equal(peer_intake_taken(intake), 0);
    peer_intake_release(intake, second, 20); /* in any order */
    assert_int_equal(peer_intake_taken(intake), 20);
    peer_intake_release(intake, first, 10);
    assert_int_equal(peer_intake_taken(intake), 30);
}

/* What was refused or never came must not close the sender's window for ever. */
static void test_lost_frames_count_as_taken(void **state) {
    struct peer_intake *intake = *state;
    frame(intake, 50, 5, 1000, 10);
    assert_int_equal(peer_intake_taken(intake), 1010);
    frame(intake, 50, 9, 5000, 0);
    assert_int_equal(peer_intake_taken(intake), 5000);
}

/* What is held of an earlier connection is nothing to this one, whatever the peer calls them. */
static void test_held_over_a_reconnection(void **state) {
    struct peer_intake *intake = *state;
    frame(intake, 50, 1, 0, 10);
    uint64_t first = peer_intake_hold(intake, 10);
    frame(intake, 51, 1, 0, 5);
    uint64_t second = peer_intake_hold(intake, 5);
    peer_intake_release(intake, first, 10);
    assert_int_equal(peer_intake_taken(intake), 0);
    peer_intake_on_incarnation(intake, 8);
    frame(intake, 51, 1, 0, 3);
    peer_intake_release(intake, second, 5);
    assert_int_equal(peer_intake_taken(intake), 3);
}

/* ---- chunks ---- */

/* An APPEND of one entry of some bytes; the buffer is the caller's. */
static struct buffer large_item(size_t payload_bytes) {
    struct replica_message message = {.type = REPLICA_APPEND, .shard = 9, .epoch = 1};
    uint8_t *payload = malloc(payload_bytes);
    for (size_t i = 0; i < payload_bytes; i++) payload[i] = (uint8_t)(i * 7);
    struct wal_entry entry = {.epoch = 1, .type = WAL_COMMAND, .payload = slice_of(payload, payload_bytes)};
    struct buffer item;
    buffer_init(&item);
    size_t begin = peer_wire_begin_append(&item, &message);
    peer_wire_add_entry(&item, &entry);
    peer_wire_end_append(&item, begin, 1);
    free(payload);
    return item;
}

enum { PIECE = 1000, PAYLOAD = 4500 };

static struct peer_chunk chunk_of(const struct buffer *item, uint64_t stream, size_t number) {
    size_t offset = number * PIECE, left = item->size - offset;
    return (struct peer_chunk){.stream = stream,
                               .total_bytes = (uint32_t)item->size,
                               .offset = (uint32_t)offset,
                               .bytes = slice_of(item->data + offset, left < PIECE ? left : PIECE)};
}

static int give(struct peer_intake *intake, const struct buffer *item, uint64_t stream, size_t number,
                struct buffer *whole) {
    struct peer_chunk chunk = chunk_of(item, stream, number);
    return peer_intake_on_chunk(intake, &chunk, whole);
}

/* Gives all chunks of `item` and checks that it arrives. */
static void assert_arrives(struct peer_intake *intake, const struct buffer *item, uint64_t stream) {
    struct buffer whole;
    for (size_t i = 0; i < 4; i++) assert_int_equal(give(intake, item, stream, i, &whole), SK_RETRY);
    assert_int_equal(give(intake, item, stream, 4, &whole), SK_OK);
    assert_true(slice_equal(buffer_slice(&whole), buffer_slice(item)));
    assert_null(intake->assembled.data);
    buffer_deinit(&whole);
}

static void test_an_item_in_chunks(void **state) {
    struct peer_intake *intake = *state;
    struct buffer item = large_item(PAYLOAD);
    assert_arrives(intake, &item, 1);
    assert_arrives(intake, &item, 2);
    buffer_deinit(&item);
}

/* A missing chunk makes the item nothing; the next item is whole. */
static void test_chunks_that_do_not_follow(void **state) {
    struct peer_intake *intake = *state;
    struct buffer item = large_item(PAYLOAD), whole;
    for (size_t missing = 0; missing < 5; missing++) {
        for (size_t i = 0; i < 5; i++)
            if (i != missing) assert_int_equal(give(intake, &item, 1, i, &whole), SK_RETRY);
        if (missing < 4) assert_null(intake->assembled.data);
    }
    give(intake, &item, 1, 0, &whole);
    assert_int_equal(give(intake, &item, 2, 1, &whole), SK_RETRY); /* another stream's */
    assert_int_equal(give(intake, &item, 1, 1, &whole), SK_RETRY);
    assert_null(intake->assembled.data);
    give(intake, &item, 1, 0, &whole);
    struct peer_chunk chunk = chunk_of(&item, 1, 1);
    chunk.total_bytes++;
    assert_int_equal(peer_intake_on_chunk(intake, &chunk, &whole), SK_RETRY);
    assert_null(intake->assembled.data);
    give(intake, &item, 1, 0, &whole); /* begun, and begun again */
    assert_arrives(intake, &item, 1);
    buffer_deinit(&item);
}

/* Half of an item is not carried over a gap, into another connection or process. */
static void test_what_ends_an_item(void **state) {
    struct peer_intake *intake = *state;
    struct buffer item = large_item(PAYLOAD), whole;
    for (int how = 0; how < 3; how++) {
        intake->connection = 50;
        intake->number = 1;
        give(intake, &item, 1, 0, &whole);
        assert_non_null(intake->assembled.data);
        if (how == 0) assert_true(frame(intake, 50, 3, 0, 0));
        if (how == 1) assert_true(frame(intake, 51, 1, 0, 0));
        if (how == 2) assert_true(peer_intake_on_incarnation(intake, 8));
        assert_null(intake->assembled.data);
        assert_int_equal(give(intake, &item, 1, 1, &whole), SK_RETRY);
        assert_null(intake->assembled.data);
    }
    buffer_deinit(&item);
}

static void test_a_malformed_item(void **state) {
    struct peer_intake *intake = *state;
    struct buffer item = large_item(PAYLOAD), whole;
    item.data[4] = 99; /* its kind */
    for (size_t i = 0; i < 4; i++) assert_int_equal(give(intake, &item, 1, i, &whole), SK_RETRY);
    assert_int_equal(give(intake, &item, 1, 4, &whole), SK_EPROTO);
    assert_null(intake->assembled.data);
    buffer_deinit(&item);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_earlier_processes), TEST(test_frames_count_once),          TEST(test_a_frame_without_items),
        TEST(test_held_and_released), TEST(test_lost_frames_count_as_taken), TEST(test_held_over_a_reconnection),
        TEST(test_an_item_in_chunks), TEST(test_chunks_that_do_not_follow),  TEST(test_what_ends_an_item),
        TEST(test_a_malformed_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
