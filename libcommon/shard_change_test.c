#include "shard_change.h"

#include "error.h"

#include "testing.h"

static const struct shard_change samples[] = {
    {.kind = SHARD_CHANGE_ISR,
     .shard = 16383,
     .config_version = UINT64_MAX,
     .leader_epoch = 5,
     .isr_count = 3,
     .isr = {1, UINT32_MAX, 3},
     .incarnations = {7, 8, UINT64_MAX}},
    {.kind = SHARD_CHANGE_ISR,
     .shard = 1,
     .config_version = 2,
     .leader_epoch = 3}, /* read; refused by metad's rules */
    {.kind = SHARD_CHANGE_CLAIM, .shard = 3, .config_version = 4},
    {.kind = SHARD_CHANGE_HANDOVER, .shard = 3, .config_version = 4, .leader_epoch = 6, .node = 2},
    {.kind = SHARD_CHANGE_HANDOVER_GIVEN_UP, .shard = 3, .config_version = 4},
    {.kind = SHARD_CHANGE_RETIRE, .shard = 0, .config_version = 4, .node = UINT32_MAX},
    {.kind = SHARD_CHANGE_REBUILD, .shard = 7, .config_version = 4, .node = 3, .successor = UINT32_MAX},
};
#define SAMPLES (sizeof samples / sizeof samples[0])

static int decode(struct slice bytes, struct shard_change *change) {
    uint8_t *exact = malloc(bytes.size + 1); /* so that a sanitizer sees a read beyond */
    memcpy(exact, bytes.data, bytes.size);
    struct mp_reader reader = mp_reader_of(slice_of(exact, bytes.size));
    int rc = shard_change_decode(&reader, change);
    if (rc == SK_OK && mp_left(&reader) > 0) rc = SK_EPROTO;
    free(exact);
    return rc;
}

static void test_round_trip(void **state) {
    (void)state;
    for (size_t i = 0; i < SAMPLES; i++) {
        struct buffer buffer;
        struct shard_change back;
        buffer_init(&buffer);
        shard_change_encode(&samples[i], &buffer);
        assert_int_equal(decode(buffer_slice(&buffer), &back), SK_OK);
        assert_memory_equal(&back, &samples[i], sizeof back);
        for (size_t cut = 0; cut < buffer.size; cut++) {
            assert_int_equal(decode(slice_of(buffer.data, cut), &back), SK_EPROTO);
        }
        buffer_deinit(&buffer);
    }
}

/* What is written elsewhere, too (docs/ARCHITECTURE.md). */
static void test_bytes(void **state) {
    (void)state;
    struct shard_change change = {.kind = SHARD_CHANGE_ISR,
                                  .shard = 1,
                                  .config_version = 2,
                                  .leader_epoch = 3,
                                  .isr_count = 1,
                                  .isr = {4},
                                  .incarnations = {5}};
    struct buffer buffer;
    buffer_init(&buffer);
    shard_change_encode(&change, &buffer);
    assert_true(slice_equal(buffer_slice(&buffer), slice_of_text("\x95\xa3isr\1\2\3\x91\x92\4\5")));
    buffer_deinit(&buffer);
}

static void test_what_does_not_fit_is_refused(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x93\xa4"
        "born\1\2", /* no such kind */
        "\x94\xa5"
        "claim\1\2\3", /* too much */
        "\x92\xa5"
        "claim\1", /* too little */
        "\x93\xa5"
        "claim\xcd\x40\x01\2", /* no such shard */
        "\x93\xa5"
        "claim\xff\2", /* -1 */
        "\x95\xa3isr\1\2\3\x99\x92\1\1\x92\2\1\x92\3\1\x92\4\1\x92\5\1\x92\6\1\x92\7\1\x92\x08\1\x92\x09"
        "\1",                                     /* too many */
        "\x95\xa3isr\1\2\3\x91\x91\1",            /* no incarnation */
        "\x94\xa6retire\1\2\xcf\1\1\1\1\1\1\1\1", /* over 32 bits */
        "\xa5"
        "claim",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct shard_change change;
        assert_int_equal(decode(slice_of_text(bad[i]), &change), SK_EPROTO);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
