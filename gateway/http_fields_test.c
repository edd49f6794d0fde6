#include "gateway/http_fields.h"

#include "libcommon/testing.h"

static bool reads(struct http_etags *etags, const char *field) {
    return http_etags_read(etags, slice_of_text(field));
}

static void etags_are_read(void **state) {
    (void)state;
    struct http_etags etags;
    assert_true(reads(&etags, "\"17\""));
    assert_true(etags.given && !etags.any && etags.count == 1);
    assert_true(etags.list[0].version == 17 && !etags.list[0].weak);
    assert_true(reads(&etags, " W/\"1\" ,\"x,y\",\t\"\", \"9999999999999999999\""));
    assert_int_equal(etags.count, 4);
    assert_true(etags.list[0].weak && etags.list[0].version == 1);
    assert_true(etags.list[1].version == 0 && etags.list[2].version == 0);
    assert_true(etags.list[3].version == UINT64_C(9999999999999999999));
    assert_true(reads(&etags, " * "));
    assert_true(etags.any && etags.count == 0);
    static const char *const nobodys[] = {"\"0\"",  "\"017\"", "\"-1\"",
                                          "\"+1\"", "\"1x\"",  "\"99999999999999999999\""};
    for (size_t i = 0; i < sizeof nobodys / sizeof *nobodys; i++) {
        assert_true(reads(&etags, nobodys[i]));
        assert_true(etags.list[0].version == 0);
    }
    static const char *const bad[] = {"",       "17",       "\"17",    "17\"",    "\"1\" \"2\"", "\"1\",",
                                      ",\"1\"", "*, \"1\"", "w/\"1\"", "\"a b\"", "W/ \"1\""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (reads(&etags, bad[i])) fail_msg("taken: %s", bad[i]);
    }
    char many[5 * (HTTP_ETAGS_MAX + 1)] = "\"1\"";
    for (size_t i = 1; i < HTTP_ETAGS_MAX; i++) strcat(many, ",\"1\"");
    assert_true(reads(&etags, many));
    strcat(many, ",\"1\"");
    assert_false(reads(&etags, many));
}

static void etags_are_compared(void **state) {
    (void)state;
    struct http_etags etags;
    assert_true(reads(&etags, "\"3\", W/\"5\""));
    assert_true(http_etags_match(&etags, 3, true) && http_etags_match(&etags, 3, false));
    assert_true(!http_etags_match(&etags, 5, true) && http_etags_match(&etags, 5, false));
    assert_false(http_etags_match(&etags, 4, false));
    assert_true(reads(&etags, "\"x\""));
    assert_false(http_etags_match(&etags, 0, false));
    assert_true(reads(&etags, "*"));
    assert_true(http_etags_match(&etags, 1, true));
    assert_false(http_etags_match(&etags, 0, true));
}

static void accepted_types_are_weighed(void **state) {
    (void)state;
    static const struct {
        const char *accept;
        unsigned quality;
    } cases[] = {{"", 1000},
                 {"*/*", 1000},
                 {"application/json", 1000},
                 {"APPLICATION/JSON", 1000},
                 {"application/*;q=0.5", 500},
                 {"text/html", 0},
                 {"text/html, */*;q=0.8", 800},
                 {"*/*;q=0.1, application/*;q=0.2, application/json;q=0.3", 300},
                 {"application/json;q=0.3, */*", 300},
                 {"application/json;q=0", 0},
                 {"application/json;q=0.001", 1},
                 {"application/json;q=1.000", 1000},
                 {"application/json;charset=utf-8 ; q=0.7", 700},
                 {"application/json;q=x", 0},
                 {"application/json;q=2", 0},
                 {"application/json;q=0,5", 0},
                 {"application/jsonx, application/jso", 0},
                 {"application", 0},
                 {",,;,", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unsigned quality = http_accepts(slice_of_text(cases[i].accept), "application/json");
        if (quality != cases[i].quality) fail_msg("'%s': %u", cases[i].accept, quality);
    }
}

static void types_are_compared(void **state) {
    (void)state;
    assert_true(http_type_is(slice_of_text("application/json"), "application/json"));
    assert_true(http_type_is(slice_of_text(" Application/JSON ; charset=utf-8"), "application/json"));
    assert_false(http_type_is(slice_of_text("application/json5"), "application/json"));
    assert_false(http_type_is(slice_of_text("text/plain;application/json"), "application/json"));
    assert_false(http_type_is(slice_of(NULL, 0), "application/json"));
}

static void tokens_are_found(void **state) {
    (void)state;
    struct slice token;
    assert_true(http_bearer(slice_of_text("Bearer abc"), &token));
    assert_true(slice_equal(token, slice_of_text("abc")));
    assert_true(http_bearer(slice_of_text(" bearer  a b "), &token));
    assert_true(slice_equal(token, slice_of_text("a b")));
    static const char *const bad[] = {"", "Bearer", "Bearer ", "Basic abc", "Bearerabc", "abc"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(http_bearer(slice_of_text(bad[i]), &token));
}

static void hosts_are_ours_or_not(void **state) {
    (void)state;
    static const char *const ours[] = {"127.0.0.1",
                                       "127.0.0.1:7480",
                                       "10.1.2.3:80",
                                       "[::1]:7480",
                                       "[fe80::1]",
                                       "localhost",
                                       "LOCALHOST:7480",
                                       "gateway:7480",
                                       "a.localhost:7480",
                                       "gateway.skerry.svc.cluster.local:7480",
                                       "gateway.skerry.svc",
                                       "db.internal",
                                       "db.example.com",
                                       "DB.example.com:7480",
                                       "x.org"};
    static const char *const strange[] = {
        "",          "evil.com", "evil.com:7480", "127.0.0.1.evil.com", "localhost.evil.com", "xlocalhost.de",
        "local.com", ".local",   "a.svc.com",     "1.2.3.4.5",          "db.example.com.",    "db.example.co",
        ":7480",     "."};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        if (!http_host_is_ours(slice_of_text(ours[i]), "db.example.com, x.org")) fail_msg("%s", ours[i]);
    }
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        if (http_host_is_ours(slice_of_text(strange[i]), "db.example.com, x.org")) fail_msg("%s", strange[i]);
    }
    assert_false(http_host_is_ours(slice_of_text("evil.com"), ""));
    assert_true(http_host_is_ours(slice_of_text("evil.com"), "*"));
    assert_true(http_host_is_ours(slice_of_text(""), "*"));
}

static void origins_are_the_host_or_not(void **state) {
    (void)state;
    struct slice host = slice_of_text("db:7480");
    assert_true(http_origin_is_host(slice_of_text("http://db:7480"), host));
    assert_true(http_origin_is_host(slice_of_text("https://DB:7480"), host));
    static const char *const bad[] = {
        "null", "", "http://db", "http://db:7481", "http://evil.com", "ftp://db:7480", "http://db:7480.evil.com"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(http_origin_is_host(slice_of_text(bad[i]), host));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(etags_are_read),
        cmocka_unit_test(etags_are_compared),
        cmocka_unit_test(accepted_types_are_weighed),
        cmocka_unit_test(types_are_compared),
        cmocka_unit_test(tokens_are_found),
        cmocka_unit_test(hosts_are_ours_or_not),
        cmocka_unit_test(origins_are_the_host_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
