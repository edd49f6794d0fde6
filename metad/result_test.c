#include "metad/result.h"

#include "libcommon/error.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Byte for byte as docs/ARCHITECTURE.md tells it. */
static void assert_bytes(struct buffer *result, const char *bytes, size_t size) {
    assert_false(result->failed);
    assert_true(slice_equal(buffer_slice(result), slice_of(bytes, size)));
    buffer_deinit(result);
}

#define ASSERT_BYTES(result, bytes) assert_bytes(result, bytes, sizeof(bytes) - 1)

static void results_have_the_shape_of_the_table(void **state) {
    (void)state;
    struct buffer result;
    struct catalog_answer answer = {.cluster = 1, .node_id = 2, .incarnation = 3, .config_version = 4};
    buffer_init(&result);
    result_encode_registration(&result, &answer);
    ASSERT_BYTES(&result, "\x83\xa7"
                          "cluster\1\xa7node_id\2\xabincarnation\3");
    result_encode_version(&result, 5);
    ASSERT_BYTES(&result, "\x81\xabmap_version\5");
    result_encode_record(&result, 5, &answer);
    ASSERT_BYTES(&result, "\x82\xabmap_version\5\xae"
                          "config_version\4");
}

static void each_change_has_its_answer(void **state) {
    (void)state;
    struct buffer result;
    struct catalog_change_answer changes[] = {{.err = SK_OK, .config_version = 7},
                                              {.err = SK_CONFLICT, .text = "why", .config_version = 8}};
    struct catalog_answer answer = {.changes = changes, .change_count = 2};
    buffer_init(&result);
    result_encode_changes(&result, 5, &answer);
    ASSERT_BYTES(&result, "\x82\xabmap_version\5\xa7"
                          "changes\x92\x92\xc0\7\x92\x92\xa8"
                          "CONFLICT\xa3why\x08");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_have_the_shape_of_the_table),
        cmocka_unit_test(each_change_has_its_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
