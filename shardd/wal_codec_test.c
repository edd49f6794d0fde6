#include "shardd/wal_codec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define SEED UINT64_C(0x1122334455667788)
#define AT   UINT64_C(65536 + 4096 + 56)

static struct wal_entry make_entry(size_t payload_bytes) {
    static const uint8_t payload[64] = "what a client stored, and what else there is to say about it";
    return (struct wal_entry){
        .shard = 0x01020304,
        .type = WAL_SWEEP,
        .replica_id = UINT64_MAX,
        .epoch = 5,
        .index = UINT64_C(1) << 40,
        .time_us = 1789,
        .payload = slice_of(payload, payload_bytes),
    };
}

static void test_entries_come_back(void **state) {
    (void)state;
    for (size_t payload_bytes = 0; payload_bytes <= 64; payload_bytes++) {
        uint8_t bytes[WAL_ENTRY_HEADER_BYTES + 64];
        memset(bytes, 0xEE, sizeof bytes);
        struct wal_entry entry = make_entry(payload_bytes), back;
        wal_encode_entry(bytes, SEED, AT, &entry);
        size_t size;
        assert_int_equal(wal_decode_entry(slice_of(bytes, sizeof bytes), SEED, AT, &back, &size), SK_OK);
        assert_int_equal(size, wal_entry_bytes(payload_bytes));
        assert_int_equal(back.shard, entry.shard);
        assert_int_equal(back.type, entry.type);
        assert_true(back.replica_id == entry.replica_id);
        assert_int_equal(back.epoch, entry.epoch);
        assert_int_equal(back.index, entry.index);
        assert_int_equal(back.time_us, entry.time_us);
        assert_true(slice_equal(back.payload, entry.payload));
    }
}

/* What replication notes in the log: nothing but a header, and every number at its limits. */
static void test_entries_without_payload_come_back(void **state) {
    (void)state;
    struct wal_entry notes[] = {
        {.shard = 9, .type = WAL_EPOCH, .replica_id = 3, .epoch = UINT64_MAX, .index = 0},
        {.shard = 9, .type = WAL_EPOCH, .replica_id = 3, .epoch = 8, .index = UINT64_MAX},
        {.type = WAL_TIME, .time_us = UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        uint8_t bytes[WAL_ENTRY_HEADER_BYTES];
        struct wal_entry back;
        size_t size;
        wal_encode_entry(bytes, SEED, AT, &notes[i]);
        assert_int_equal(wal_decode_entry(slice_of(bytes, sizeof bytes), SEED, AT, &back, &size), SK_OK);
        assert_int_equal(size, sizeof bytes);
        assert_int_equal(back.shard, notes[i].shard);
        assert_int_equal(back.type, notes[i].type);
        assert_true(back.replica_id == notes[i].replica_id);
        assert_true(back.epoch == notes[i].epoch);
        assert_true(back.index == notes[i].index);
        assert_true(back.time_us == notes[i].time_us);
        assert_int_equal(back.payload.size, 0);
    }
}

static void test_damaged_entries_are_refused(void **state) {
    (void)state;
    uint8_t bytes[WAL_ENTRY_HEADER_BYTES + 40];
    struct wal_entry entry = make_entry(37), back;
    size_t size;
    wal_encode_entry(bytes, SEED, AT, &entry);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(wal_decode_entry(slice_of(bytes, sizeof bytes), SEED, AT, &back, &size), SK_ECORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < sizeof bytes; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a read beyond */
        assert_non_null(exact);
        memcpy(exact + 1, bytes, cut);
        assert_int_equal(wal_decode_entry(slice_of(exact + 1, cut), SEED, AT, &back, &size), SK_ECORRUPT);
        free(exact);
    }
}

/* Elsewhere, of another log: right bytes at the wrong place are wrong. */
static void test_entries_belong_to_their_place(void **state) {
    (void)state;
    uint8_t bytes[WAL_ENTRY_HEADER_BYTES + 8];
    struct wal_entry entry = make_entry(8), back;
    struct slice slice = slice_of(bytes, sizeof bytes);
    size_t size;
    wal_encode_entry(bytes, SEED, AT, &entry);
    assert_int_equal(wal_decode_entry(slice, SEED, AT, &back, &size), SK_OK);
    assert_int_equal(wal_decode_entry(slice, SEED, AT + 8, &back, &size), SK_ECORRUPT);
    assert_int_equal(wal_decode_entry(slice, SEED, AT + 65536, &back, &size), SK_ECORRUPT);
    assert_int_equal(wal_decode_entry(slice, SEED + 1, AT, &back, &size), SK_ECORRUPT);
    assert_true(wal_payload_checksum(SEED, AT, bytes, 64) != wal_payload_checksum(SEED, AT + 65536, bytes, 64));
    assert_true(wal_payload_checksum(SEED, AT, bytes, 64) != wal_payload_checksum(SEED + 1, AT, bytes, 64));
}

static void test_group_headers(void **state) {
    (void)state;
    uint8_t bytes[WAL_GROUP_HEADER_BYTES];
    struct wal_group_header header = {3, AT, 9, AT - 100, 800, 0xFEED}, back;
    wal_encode_group_header(bytes, SEED, &header);
    assert_true(wal_decode_group_header(bytes, SEED, AT, &back));
    assert_int_equal(back.entry_count, 3);
    assert_int_equal(back.position, AT);
    assert_int_equal(back.sequence, 9);
    assert_int_equal(back.synced, AT - 100);
    assert_int_equal(back.payload_bytes, 800);
    assert_int_equal(back.payload_checksum, 0xFEED);
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    assert_true(wal_is_group_magic(word));

    assert_false(wal_decode_group_header(bytes, SEED, AT + 65536, &back));
    assert_false(wal_decode_group_header(bytes, SEED + 1, AT, &back));
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(wal_decode_group_header(bytes, SEED, AT, &back));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(bytes, 0, sizeof bytes);
    assert_false(wal_decode_group_header(bytes, SEED, AT, &back));
}

static void test_segment_headers(void **state) {
    (void)state;
    uint8_t bytes[WAL_SEGMENT_HEADER_BYTES];
    for (int recycled = 0; recycled < 2; recycled++) {
        struct wal_segment_header header = {1 << 20, 77, SEED, recycled == 1}, back;
        wal_encode_segment_header(bytes, &header);
        assert_int_equal(wal_decode_segment_header(bytes, &back), SK_OK);
        assert_int_equal(back.segment_bytes, 1 << 20);
        assert_int_equal(back.sequence, 77);
        assert_true(back.seed == SEED);
        assert_int_equal(back.recycled, recycled);
        for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(wal_decode_segment_header(bytes, &back), SK_ECORRUPT);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_come_back),
        cmocka_unit_test(test_entries_without_payload_come_back),
        cmocka_unit_test(test_damaged_entries_are_refused),
        cmocka_unit_test(test_entries_belong_to_their_place),
        cmocka_unit_test(test_group_headers),
        cmocka_unit_test(test_segment_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
