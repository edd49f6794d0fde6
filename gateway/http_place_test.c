#include "gateway/http_place.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

static struct http_place place;

static void takes(const char *target, enum http_resource resource) {
    if (http_place_init(&place, target) != SK_OK) fail_msg("%s: %s", target, place.error);
    assert_int_equal(place.resource, resource);
}

static void key_is(const char *target, const char *key, size_t size) {
    takes(target, HTTP_KEY);
    assert_int_equal(place.key.size, size);
    assert_memory_equal(place.key.data == NULL ? (const void *)"" : place.key.data, key, size);
    http_place_deinit(&place);
}

static void refused(const char *target, int err, const char *why) {
    assert_int_equal(http_place_init(&place, target), err);
    if (strstr(place.error, why) == NULL) fail_msg("%s: '%s' does not say '%s'", target, place.error, why);
    http_place_deinit(&place);
}

static void keys_are_any_bytes(void **state) {
    (void)state;
    key_is("/v1/keys/k", "k", 1);
    key_is("/v1/keys/", "", 0);
    key_is("/v1/keys/a/b//c/", "a/b//c/", 7);
    key_is("/v1/keys/a%2fb%2F", "a/b/", 4);
    key_is("/v1/keys/%00%ff%3f+%25", "\0\xff?+%", 5);
    key_is("/v1/keys/{tag}:x?timeout_ms=1", "{tag}:x", 7);
    refused("/v1/keys/%", SK_BADREQUEST, "hex digits");
    refused("/v1/keys/%4", SK_BADREQUEST, "hex digits");
    refused("/v1/keys/%4g", SK_BADREQUEST, "hex digits");
    refused("/v1/keys/%g4", SK_BADREQUEST, "hex digits");
}

static void keys_are_limited(void **state) {
    (void)state;
    static char target[70000] = "/v1/keys/";
    memset(target + 9, 'k', 65536);
    takes(target, HTTP_KEY);
    assert_int_equal(place.key.size, 65536);
    http_place_deinit(&place);
    target[9 + 65536] = 'k';
    refused(target, SK_TOOLARGE, "64 KiB");
}

static void places_are_told_apart(void **state) {
    (void)state;
    static const char *const nowhere[] = {"/v1/",     "/v1/key", "/v1/keysk",    "/v1/commands/",
                                          "/v2/keys", "",        "/v1/keys%2fa", "/v1/x?y"};
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
        takes(nowhere[i], HTTP_NOWHERE);
        http_place_deinit(&place);
    }
    takes("/v1/keys", HTTP_KEYS);
    assert_int_equal(place.limit, HTTP_LIMIT_DEFAULT);
    takes("/v1/keys?", HTTP_KEYS);
    takes("/v1/commands", HTTP_COMMANDS);
    takes("/v1/openapi.json", HTTP_OPENAPI);
}

static void queries_are_read(void **state) {
    (void)state;
    takes("/v1/keys?prefix=a%26+b%2B&cursor=18446744073709551615&limit=10000&read=leader", HTTP_KEYS);
    assert_true(slice_equal(buffer_slice(&place.prefix), slice_of_text("a& b+")));
    assert_true(place.cursor == UINT64_MAX && place.limit == 10000 && !place.follower_reads);
    http_place_deinit(&place);
    takes("/v1/keys?prefix=", HTTP_KEYS);
    assert_int_equal(place.prefix.size, 0);
    http_place_deinit(&place);
    takes("/v1/keys/k?ttl_ms=9223372036854775807&read=follower&keep_ttl=false", HTTP_KEY);
    assert_true(place.ttl_ms == INT64_MAX && place.follower_reads && !place.keep_ttl);
    http_place_deinit(&place);
    takes("/v1/keys/k?keep_ttl=%74rue&timeout_ms=60000", HTTP_KEY);
    assert_true(place.keep_ttl && place.timeout_ms == 60000);
    http_place_deinit(&place);
}

static void queries_are_checked(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"ttl_ms=0", "ttl_ms is"},
        {"ttl_ms=", "ttl_ms is"},
        {"ttl_ms=1s", "ttl_ms is"},
        {"ttl_ms=-1", "ttl_ms is"},
        {"ttl_ms=9223372036854775808", "ttl_ms is"},
        {"ttl_ms", "no value"},
        {"ttl_ms=1&ttl_ms=1", "twice"},
        {"keep_ttl=1", "keep_ttl is"},
        {"ttl_ms=1&keep_ttl=true", "exclude"},
        {"timeout_ms=0", "timeout_ms is"},
        {"timeout_ms=60001", "timeout_ms is"},
        {"read=any", "read is"},
        {"prefix=a", "not known"},
        {"x=1", "not known"},
        {"=1", "not known"},
        {"ttl_ms=1&", "not known"},
        {"&ttl_ms=1", "not known"},
        {"read=%", "hex digits"},
        {"TTL_MS=1", "not known"},
    };
    char target[100];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        (void)snprintf(target, sizeof target, "/v1/keys/k?%s", bad[i][0]);
        refused(target, SK_BADREQUEST, bad[i][1]);
    }
    refused("/v1/keys?limit=0", SK_BADREQUEST, "limit is");
    refused("/v1/keys?limit=10001", SK_BADREQUEST, "limit is");
    refused("/v1/keys?cursor=18446744073709551616", SK_BADREQUEST, "cursor is");
    refused("/v1/keys?cursor=", SK_BADREQUEST, "cursor is");
    refused("/v1/keys?ttl_ms=1", SK_BADREQUEST, "not known");
    refused("/v1/commands?limit=1", SK_BADREQUEST, "not known");
    refused("/v1/openapi.json?read=leader", SK_BADREQUEST, "not known");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_any_bytes),    cmocka_unit_test(keys_are_limited),
        cmocka_unit_test(places_are_told_apart), cmocka_unit_test(queries_are_read),
        cmocka_unit_test(queries_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
