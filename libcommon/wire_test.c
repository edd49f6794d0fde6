#include "wire.h"

#include "error.h"
#include "limits.h"

#include "testing.h"

/* Where fields stand in a header and in items, as wire.h draws them. */
enum {
    AT_VERSION = 4,
    AT_KIND = 5,
    AT_ADDRESS_BYTES = 6,
    AT_ITEM_COUNT = 48,
    AT_RESERVED = 52,
    REQUEST_BYTES = 52,
    REQUEST_AT_FLAGS = 48,
    REQUEST_AT_ID_BYTES = 49,
    REQUEST_AT_RESERVED = 50,
    ANSWER_BYTES = 24,
    ANSWER_AT_ERR = 20,
};

static const struct frame_header requests_header = {
    .kind = FRAME_REQUESTS,
    .cluster = 0x1122334455667788,
    .session = 2,
    .incarnation = 3,
    .number = 4,
    .taken = 5,
    .return_address = {(const uint8_t *)"tcp://gateway:7410", 18},
};

static const struct frame_header answers_header = {.kind = FRAME_ANSWERS, .cluster = 1, .session = 2};

static struct request_item request_of(const char *id, struct slice body) {
    return (struct request_item){
        .number = 11,
        .floor = 7,
        .epoch = 12,
        .map_version = UINT64_MAX,
        .shard = 63,
        .timeout_ms = 5000,
        .flags = REQUEST_WRITE | REQUEST_ATOMIC,
        .id_part = 3,
        .id = slice_of_text(id),
        .body = body,
    };
}

static void assert_requests_equal(const struct request_item *a, const struct request_item *b) {
    assert_true(a->number == b->number && a->floor == b->floor && a->epoch == b->epoch);
    assert_true(a->map_version == b->map_version && a->shard == b->shard && a->timeout_ms == b->timeout_ms);
    assert_true(a->flags == b->flags && a->id_part == b->id_part);
    assert_true(slice_equal(a->id, b->id) && slice_equal(a->body, b->body));
}

/* A frame of two requests or two answers; the buffer is the caller's. */
static struct buffer requests_frame(void) {
    struct buffer frame;
    struct request_item first = request_of("id", slice_of("\xa3GET\x91\xa1k", 7)),
                        second = request_of("", slice_of("", 0));
    buffer_init(&frame);
    frame_begin(&frame, &requests_header);
    frame_add_request(&frame, &first);
    frame_add_request(&frame, &second);
    frame_finish(frame.data, 40, 50, 2);
    assert_false(frame.failed);
    return frame;
}

static struct buffer answers_frame(void) {
    struct buffer frame;
    struct answer_item first = {.number = 11, .map_version = 9, .err = SK_OK, .body = slice_of("\xc0", 1)};
    struct answer_item second = {.number = 12, .map_version = 9, .err = SK_NOT_LEADER};
    buffer_init(&frame);
    frame_begin(&frame, &answers_header);
    frame_add_answer(&frame, &first);
    frame_add_answer(&frame, &second);
    frame_finish(frame.data, 1, 0, 2);
    assert_false(frame.failed);
    return frame;
}

static void test_requests_round_trip(void **state) {
    (void)state;
    struct buffer frame = requests_frame();
    struct frame_header header;
    struct slice rest;
    struct request_item item, first = request_of("id", slice_of("\xa3GET\x91\xa1k", 7)),
                              second = request_of("", slice_of("", 0));
    assert_int_equal(frame_read_header(buffer_slice(&frame), &header, &rest), SK_OK);
    assert_true(header.kind == FRAME_REQUESTS && header.cluster == requests_header.cluster);
    assert_true(header.session == 2 && header.incarnation == 3 && header.number == 40 && header.taken == 50);
    assert_true(slice_equal(header.return_address, requests_header.return_address));
    assert_int_equal(header.item_count, 2);
    assert_int_equal(rest.size, frame_request_bytes(&first) + frame_request_bytes(&second));
    assert_int_equal(frame_read_request(&rest, &item), SK_OK);
    assert_requests_equal(&item, &first);
    assert_int_equal(frame_read_request(&rest, &item), SK_OK);
    assert_requests_equal(&item, &second);
    assert_int_equal(frame_read_request(&rest, &item), SK_NOT_FOUND);
    buffer_deinit(&frame);
}

/* How long its client waits is in a frame only with the request that does. */
static void test_a_waiting_request(void **state) {
    (void)state;
    struct buffer frame;
    struct slice rest;
    struct request_item item, waiting = request_of("id", slice_of_text("body"));
    size_t plain_bytes = frame_request_bytes(&waiting);
    waiting.flags = REQUEST_WRITE | REQUEST_WAITS;
    waiting.waited_us = UINT64_MAX - 1;
    waiting.follows = 10;
    assert_int_equal(frame_request_bytes(&waiting), plain_bytes + 16);
    buffer_init(&frame);
    frame_add_request(&frame, &waiting);
    assert_int_equal(frame.size, plain_bytes + 16);
    rest = buffer_slice(&frame);
    assert_int_equal(frame_read_request(&rest, &item), SK_OK);
    assert_requests_equal(&item, &waiting);
    assert_true(item.waited_us == waiting.waited_us && item.follows == 10);
    frame.data[REQUEST_AT_FLAGS] = REQUEST_WAITS; /* which only a write does */
    rest = buffer_slice(&frame);
    assert_int_equal(frame_read_request(&rest, &item), SK_EPROTO);

    struct request_item empty = {.flags = REQUEST_WRITE};
    buffer_clear(&frame, 0);
    frame_add_request(&frame, &empty);
    frame.data[REQUEST_AT_FLAGS] |= REQUEST_WAITS; /* without the time */
    rest = buffer_slice(&frame);
    assert_int_equal(frame_read_request(&rest, &item), SK_EPROTO);
    buffer_deinit(&frame);
}

static void test_answers_round_trip(void **state) {
    (void)state;
    struct buffer frame = answers_frame();
    struct frame_header header;
    struct slice rest;
    struct answer_item item;
    assert_int_equal(frame_read_header(buffer_slice(&frame), &header, &rest), SK_OK);
    assert_int_equal(header.kind, FRAME_ANSWERS);
    assert_int_equal(header.return_address.size, 0);
    assert_int_equal(frame_read_answer(&rest, &item), SK_OK);
    assert_true(item.number == 11 && item.map_version == 9 && item.err == SK_OK && item.body.size == 1);
    assert_int_equal(frame_read_answer(&rest, &item), SK_OK);
    assert_true(item.number == 12 && item.err == SK_NOT_LEADER && item.body.size == 0);
    assert_int_equal(frame_read_answer(&rest, &item), SK_NOT_FOUND);
    buffer_deinit(&frame);
}

static void test_a_frame_follows_other_content(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    buffer_append(&buffer, "before", 6);
    frame_begin(&buffer, &answers_header);
    frame_finish(buffer.data + 6, 8, 9, 0);
    struct frame_header header;
    struct slice rest;
    assert_memory_equal(buffer.data, "before", 6);
    struct slice frame = slice_of(buffer.data + 6, buffer.size - 6);
    assert_int_equal(frame_read_header(frame, &header, &rest), SK_OK);
    assert_true(header.number == 8 && header.taken == 9 && header.item_count == 0 && rest.size == 0);
    buffer_deinit(&buffer);
}

static void test_the_layout_is_little_endian(void **state) {
    (void)state;
    struct buffer frame = requests_frame();
    assert_memory_equal(frame.data, "SKRY\x02\x01\x12\x00\x88\x77\x66\x55\x44\x33\x22\x11", 16);
    assert_memory_equal(frame.data + AT_ITEM_COUNT, "\x02\0\0\0\0\0\0\0", 8);
    assert_memory_equal(frame.data + WIRE_HEADER_BYTES, "tcp://gateway:7410", 18);
    /* 48 of fixed fields, 2 of id, 7 of body */
    assert_memory_equal(frame.data + WIRE_HEADER_BYTES + 18, "\x39\0\0\0\x0b\0\0\0\0\0\0\0", 12);
    buffer_deinit(&frame);
}

/* Reads a whole frame as a receiver does. The copy lets a sanitizer see a step beyond the end. */
static int read_all(struct slice bytes) {
    uint8_t *copy = malloc(bytes.size == 0 ? 1 : bytes.size);
    assert_non_null(copy);
    if (bytes.size > 0) memcpy(copy, bytes.data, bytes.size);
    struct frame_header header;
    struct slice rest;
    uint32_t items = 0;
    int rc = frame_read_header(slice_of(copy, bytes.size), &header, &rest);
    while (rc == SK_OK) {
        struct request_item request;
        struct answer_item answer;
        rc = header.kind == FRAME_REQUESTS ? frame_read_request(&rest, &request)
                                           : frame_read_answer(&rest, &answer);
        if (rc == SK_OK) items++;
    }
    free(copy);
    if (rc != SK_NOT_FOUND) return rc;
    return items == header.item_count ? SK_OK : SK_EPROTO;
}

static void test_truncated_frames(void **state) {
    (void)state;
    struct buffer frames[] = {requests_frame(), answers_frame()};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(read_all(buffer_slice(&frames[i])), SK_OK);
        for (size_t size = 0; size < frames[i].size; size++) {
            assert_int_equal(read_all(slice_of(frames[i].data, size)), SK_EPROTO);
        }
        buffer_append(&frames[i], "x", 1);
        assert_int_equal(read_all(buffer_slice(&frames[i])), SK_EPROTO);
        buffer_deinit(&frames[i]);
    }
}

/* A good frame with one place overwritten. */
static int read_patched(struct buffer frame, size_t at, const void *bytes, size_t size) {
    assert_true(at + size <= frame.size);
    memcpy(frame.data + at, bytes, size);
    int rc = read_all(buffer_slice(&frame));
    buffer_deinit(&frame);
    return rc;
}

static void test_bad_headers(void **state) {
    (void)state;
    assert_int_equal(read_patched(requests_frame(), 0, "X", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), AT_VERSION, "\x03", 1), SK_EVERSION);
    assert_int_equal(read_patched(requests_frame(), AT_VERSION, "\x00", 1), SK_EVERSION);
    assert_int_equal(read_patched(requests_frame(), AT_KIND, "\x00", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), AT_KIND, "\x03", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), AT_RESERVED, "\x01", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), AT_ADDRESS_BYTES, "\xff\xff", 2), SK_EPROTO);
    assert_int_equal(read_patched(answers_frame(), AT_ADDRESS_BYTES, "\xff\x00", 2), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), AT_ITEM_COUNT, "\xff\xff\xff\xff", 4), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), AT_ITEM_COUNT, "\x01", 1), SK_EPROTO);

    /* A header alone may not announce what cannot follow. */
    struct buffer frame = requests_frame();
    struct frame_header header;
    struct slice rest;
    uint32_t count = 3; /* two are there */
    memcpy(frame.data + AT_ITEM_COUNT, &count, sizeof count);
    assert_int_equal(frame_read_header(buffer_slice(&frame), &header, &rest), SK_EPROTO);
    buffer_deinit(&frame);
}

static void test_an_address_too_long(void **state) {
    (void)state;
    struct buffer frame = answers_frame();
    static const uint8_t filling[WIRE_ADDRESS_BYTES_MAX + 100];
    buffer_append(&frame, filling, sizeof filling);
    uint16_t most = WIRE_ADDRESS_BYTES_MAX, more = WIRE_ADDRESS_BYTES_MAX + 1;
    struct frame_header header;
    struct slice rest;
    memcpy(frame.data + AT_ADDRESS_BYTES, &most, sizeof most);
    assert_int_equal(frame_read_header(buffer_slice(&frame), &header, &rest), SK_OK);
    memcpy(frame.data + AT_ADDRESS_BYTES, &more, sizeof more);
    assert_int_equal(frame_read_header(buffer_slice(&frame), &header, &rest), SK_EPROTO);
    buffer_deinit(&frame);
}

static void test_bad_requests(void **state) {
    (void)state;
    const size_t item = WIRE_HEADER_BYTES + 18;
    uint32_t bytes = REQUEST_BYTES - 4 - 1; /* one less than the fixed part */
    assert_int_equal(read_patched(requests_frame(), item, &bytes, 4), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item, "\0\0\0\0", 4), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item, "\xff\xff\xff\xff", 4), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_FLAGS, "\x08", 1), SK_OK);
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_FLAGS, "\x0c", 1), SK_EPROTO); /* both */
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_FLAGS, "\x10", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_FLAGS, "\x80", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_RESERVED, "\x01", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_RESERVED + 1, "\x01", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_ID_BYTES, "\x0a", 1), SK_EPROTO);
    assert_int_equal(read_patched(requests_frame(), item + REQUEST_AT_ID_BYTES, "\x09", 1), SK_OK); /* all of it */
}

static void test_ids_end_at_their_limit(void **state) {
    (void)state;
    static const uint8_t filling[100];
    struct buffer frame;
    struct request_item item = request_of("", slice_of("", 0)), got;
    struct frame_header header;
    struct slice rest;
    item.id = slice_of(filling, ID_BYTES_MAX);
    item.body = slice_of(filling, 10);
    buffer_init(&frame);
    frame_begin(&frame, &requests_header);
    frame_add_request(&frame, &item);
    frame_finish(frame.data, 1, 0, 1);
    assert_int_equal(frame_read_header(buffer_slice(&frame), &header, &rest), SK_OK);
    assert_int_equal(frame_read_request(&rest, &got), SK_OK);
    assert_int_equal(got.id.size, ID_BYTES_MAX);
    frame.data[WIRE_HEADER_BYTES + 18 + REQUEST_AT_ID_BYTES] = ID_BYTES_MAX + 1;
    assert_int_equal(frame_read_header(buffer_slice(&frame), &header, &rest), SK_OK);
    assert_int_equal(frame_read_request(&rest, &got), SK_EPROTO);
    buffer_deinit(&frame);
}

static void test_bad_answers(void **state) {
    (void)state;
    const size_t item = WIRE_HEADER_BYTES;
    uint32_t bytes = ANSWER_BYTES - 4 - 1;
    assert_int_equal(read_patched(answers_frame(), item, &bytes, 4), SK_EPROTO);
    assert_int_equal(read_patched(answers_frame(), item, "\xff\xff\xff\xff", 4), SK_EPROTO);
    assert_int_equal(read_patched(answers_frame(), item + ANSWER_AT_ERR, "\xff\xff\xff\xff", 4), SK_EPROTO);
    assert_int_equal(read_patched(answers_frame(), item + ANSWER_AT_ERR + 3, "\x80", 1), SK_EPROTO);
    assert_int_equal(read_patched(answers_frame(), item + ANSWER_AT_ERR, "\x70", 1), SK_OK); /* a newer code */
}

/* Every single-byte change is either refused or read without harm. */
static void test_every_byte_changed(void **state) {
    (void)state;
    struct buffer frames[] = {requests_frame(), answers_frame()};
    for (size_t i = 0; i < 2; i++) {
        for (size_t at = 0; at < frames[i].size; at++) {
            uint8_t right = frames[i].data[at];
            for (unsigned value = 0; value < 256; value++) {
                frames[i].data[at] = (uint8_t)value;
                int rc = read_all(buffer_slice(&frames[i]));
                assert_true(rc == SK_OK || rc == SK_EPROTO || rc == SK_EVERSION);
            }
            frames[i].data[at] = right;
        }
        buffer_deinit(&frames[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_round_trip),
        cmocka_unit_test(test_a_waiting_request),
        cmocka_unit_test(test_answers_round_trip),
        cmocka_unit_test(test_a_frame_follows_other_content),
        cmocka_unit_test(test_the_layout_is_little_endian),
        cmocka_unit_test(test_truncated_frames),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_an_address_too_long),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_ids_end_at_their_limit),
        cmocka_unit_test(test_bad_answers),
        cmocka_unit_test(test_every_byte_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
