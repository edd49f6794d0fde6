#include "slot.h"

#include "testing.h"

static uint32_t slot(const char *key) { return slot_of_key(slice_of_text(key)); }

static void test_crc16_vectors(void **state) {
    (void)state;
    assert_int_equal(slot_crc16(slice_of_text("123456789")), 0x31c3); /* the specification's own */
    assert_int_equal(slot_crc16(slice_of(NULL, 0)), 0);
    assert_int_equal(slot_crc16(slice_of_text("A")), 0x58e5);
    assert_int_equal(slot_crc16(slice_of("\0", 1)), 0);
    assert_int_equal(slot_crc16(slice_of("\xff", 1)), 0x1ef0);
}

/* Bit by bit, as the polynomial is divided. */
static uint16_t plain_crc16(struct slice bytes) {
    unsigned crc = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        crc ^= (unsigned)bytes.data[i] << 8;
        for (int bit = 0; bit < 8; bit++) crc = (crc << 1 ^ ((crc & 0x8000u) != 0 ? 0x1021u : 0)) & 0xffffu;
    }
    return (uint16_t)crc;
}

static void test_crc16_of_any_length(void **state) {
    (void)state;
    uint8_t bytes[100];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 151 + 7);
    for (size_t size = 0; size <= sizeof bytes; size++)
        assert_int_equal(slot_crc16(slice_of(bytes, size)), plain_crc16(slice_of(bytes, size)));
}

/* What a Redis Cluster answers to CLUSTER KEYSLOT. */
static void test_slots_as_in_redis(void **state) {
    (void)state;
    assert_int_equal(slot("123456789"), 12739);
    assert_int_equal(slot("foo"), 12182);
    assert_int_equal(slot("bar"), 5061);
    assert_int_equal(slot("hello"), 866);
    assert_int_equal(slot(""), 0);
}

static void test_hash_tags(void **state) {
    (void)state;
    assert_int_equal(slot("{user1000}.following"), slot("{user1000}.followers"));
    assert_int_equal(slot("{user1000}.following"), slot("user1000"));
    assert_int_equal(slot("foo{bar}{zap}"), slot("bar")); /* the first tag */
    assert_int_equal(slot("{{a}"), slot("{a"));           /* from the first brace on */
    assert_int_equal(slot("{{a}}"), slot("{a"));
    assert_int_equal(slot("foo{{bar}}zap"), slot("{bar"));
    assert_int_equal(slot("x{a}y"), slot("a"));
}

/* Keys without a tag are hashed whole. */
static void test_no_hash_tag(void **state) {
    (void)state;
    static const char *const keys[] = {"{}", "foo{}{bar}", "{", "}", "a{", "}a{", "{abc", "abc}", "}{"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_int_equal(slot(keys[i]), slot_crc16(slice_of_text(keys[i])) % SLOT_COUNT);
    }
    assert_int_not_equal(slot("{}a"), slot("a"));
}

static void test_tags_hold_any_bytes(void **state) {
    (void)state;
    assert_int_equal(slot_of_key(slice_of("x{\0\xff}", 5)), slot_of_key(slice_of("\0\xff", 2)));
    assert_int_equal(slot_of_key(slice_of("\0{a}", 4)), slot("a"));
}

static void test_shards_are_equal_ranges(void **state) {
    (void)state;
    for (uint32_t count = 1; count <= SLOT_COUNT; count *= 2) {
        assert_int_equal(slot_shard(0, count), 0);
        assert_int_equal(slot_shard(SLOT_COUNT - 1, count), count - 1);
        for (uint32_t shard = 0; shard < count; shard++) {
            uint32_t first = slot_first_of_shard(shard, count);
            assert_int_equal(slot_shard(first, count), shard);
            if (first > 0) assert_int_equal(slot_shard(first - 1, count), shard - 1);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc16_vectors),       cmocka_unit_test(test_slots_as_in_redis),
        cmocka_unit_test(test_hash_tags),           cmocka_unit_test(test_no_hash_tag),
        cmocka_unit_test(test_tags_hold_any_bytes), cmocka_unit_test(test_shards_are_equal_ranges),
        cmocka_unit_test(test_crc16_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
