#include "gateway/http_call.h"

#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/secret.h"
#include "libcommon/testing.h"

#include <stdio.h>

/* A request in the making. */
static struct http_head head;
static struct http_rules rules;
static struct http_call call;
static struct http_answer answer;
static struct buffer message;

static void begin(const char *method, const char *target) {
    head = (struct http_head){.method = method, .target = target};
    rules = (struct http_rules){.hosts = "", .message_bytes_max = MESSAGE_BYTES_MAX};
    buffer_init(&message);
}

static void field(enum http_head_field name, const char *value) {
    if (head.counts[name]++ > 0) buffer_append(&head.fields[name], ", ", 2);
    buffer_append(&head.fields[name], value, strlen(value));
}

static void look(void) {
    if (head.counts[FIELD_HOST] == 0) field(FIELD_HOST, "127.0.0.1:7480");
    http_call_init(&call, &head, &rules);
    for (size_t i = 0; i < FIELD_COUNT; i++) buffer_deinit(&head.fields[i]);
}

static void end(void) {
    http_call_deinit(&call);
    buffer_deinit(&answer.body);
    buffer_deinit(&message);
}

static void give(const char *reply, size_t size) {
    answer = (struct http_answer){.status = 200, .type = "text/plain"};
    buffer_init(&answer.body);
    http_call_answer(&call, slice_of(reply, size), &answer);
    assert_false(answer.body.failed);
}

static const char *told(const char *name) {
    for (size_t i = 0; i < answer.field_count; i++) {
        if (strcmp(answer.fields[i].name, name) == 0) return answer.fields[i].value;
    }
    return NULL;
}

/* The answer is a problem of that status and code. */
static void expect_problem(unsigned status, const char *code) {
    char members[100];
    int size = snprintf(members, sizeof members, "\"status\":%u,\"code\":\"%s\",", status, code);
    assert_string_equal(answer.type, "application/problem+json");
    assert_int_equal(answer.status, status);
    if (memmem(answer.body.data, answer.body.size, members, (size_t)size) == NULL) {
        fail_msg("not %s: %.*s", code, (int)answer.body.size, (const char *)answer.body.data);
    }
}

/* Nothing is to be asked, and the answer is this. */
static void refused(unsigned status, const char *code) {
    look();
    assert_false(http_call_asks(&call));
    assert_int_equal(http_call_body_max(&call), 0);
    give(NULL, 0);
    expect_problem(status, code);
    end();
}

static void ask(const char *body, const char *wanted, size_t size) {
    look();
    if (!http_call_asks(&call)) fail_msg("refused: %s", call.text);
    http_call_message(&call, slice_of_text(body), &message);
    assert_int_equal(message.size, size + 3);
    assert_memory_equal(message.data, "\x95\0\0", 3);
    assert_memory_equal(message.data + 3, wanted, size);
}

#define ASK(body, wanted) ask(body, wanted, sizeof wanted - 1)
#define REPLY(result)     give("\x94\1\0\xc0" result, sizeof result + 3)
#define BODY_IS(text)                                                                                             \
    do {                                                                                                          \
        assert_int_equal(answer.body.size, sizeof text - 1);                                                      \
        assert_memory_equal(answer.body.data == NULL ? (const void *)"" : answer.body.data, text,                 \
                            sizeof text - 1);                                                                     \
    } while (0)

/* ---- keys ---- */

static void get(void) { begin("GET", "/v1/keys/k"); }

#define VGET "\xa4VGET\x91\xc4\1k\x80"
#define KEY  "\x93\x11\xc4\3a\0\xff" /* version 17 */

static void a_key_is_read(void **state) {
    (void)state;
    get();
    ASK("", VGET);
    REPLY(KEY "\xff");
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.type, "application/octet-stream");
    assert_string_equal(told("ETag"), "\"17\"");
    assert_string_equal(told("Cache-Control"), "no-cache");
    assert_null(told("Skerry-TTL-Ms"));
    BODY_IS("a\0\xff");
    end();

    begin("HEAD", "/v1/keys/k?timeout_ms=200&read=follower");
    field(FIELD_ACCEPT, "text/html, application/json, */*;q=0.1");
    field(FIELD_IDEMPOTENCY_KEY, "is not for reads");
    ASK("", "\xa4VGET\x91\xc4\1k\x82\xaatimeout_ms\xcc\xc8\xa4read\xa8"
            "follower");
    REPLY(KEY "\xcd\x03\xe8");
    assert_string_equal(told("Skerry-TTL-Ms"), "1000");
    assert_string_equal(answer.type, "application/json");
    BODY_IS("{\"key\":\"k\",\"value\":{\"base64\":\"YQD/\"},\"version\":17,\"ttl_ms\":1000}\n");
    end();

    get();
    field(FIELD_ACCEPT, "application/json");
    ASK("", VGET);
    REPLY("\x93\x01\xc4\0\xff");
    BODY_IS("{\"key\":\"k\",\"value\":\"\",\"version\":1,\"ttl_ms\":null}\n");
    end();

    get();
    ASK("", VGET);
    REPLY("\xc0");
    expect_problem(404, "NOT_FOUND");
    end();
}

/* What If-Match and If-None-Match say of version 17, and of no key. */
static void reads_are_conditional(void **state) {
    (void)state;
    static const struct {
        enum http_head_field field;
        const char *value;
        unsigned there, not_there;
    } cases[] = {
        {FIELD_IF_NONE_MATCH, "\"17\"", 304, 404},
        {FIELD_IF_NONE_MATCH, "W/\"17\"", 304, 404},
        {FIELD_IF_NONE_MATCH, "\"1\",\"17\"", 304, 404},
        {FIELD_IF_NONE_MATCH, "\"18\"", 200, 404},
        {FIELD_IF_NONE_MATCH, "*", 304, 404},
        {FIELD_IF_MATCH, "\"17\"", 200, 412},
        {FIELD_IF_MATCH, "W/\"17\"", 412, 412},
        {FIELD_IF_MATCH, "\"16\", \"17\"", 200, 412},
        {FIELD_IF_MATCH, "\"x\"", 412, 412},
        {FIELD_IF_MATCH, "*", 200, 412},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int there = 0; there < 2; there++) {
            get();
            field(cases[i].field, cases[i].value);
            ASK("", VGET);
            if (there == 1) REPLY(KEY "\xff");
            else REPLY("\xc0");
            assert_int_equal(answer.status, there == 1 ? cases[i].there : cases[i].not_there);
            if (answer.status == 304) {
                assert_null(answer.type);
                assert_string_equal(told("ETag"), "\"17\"");
                BODY_IS("");
            }
            end();
        }
    }
    get();
    field(FIELD_IF_MATCH, "17");
    refused(400, "BADREQUEST");
    get();
    field(FIELD_IF_NONE_MATCH, "");
    refused(400, "BADREQUEST");
}

static void put(const char *target) { begin("PUT", target); }

#define DONE_OK "\x92\xc0\xa2OK"

static void a_key_is_set(void **state) {
    (void)state;
    put("/v1/keys/k");
    field(FIELD_CONTENT_TYPE, "application/x-www-form-urlencoded");
    field(FIELD_ACCEPT, "text/html");
    ASK("v", "\xa4"
             "EXEC\x92\x90\x93\x92\xa6"
             "EXISTS\x91\xc4\1k\x92\xa3SET\x92\xc4\1k\xc4\1v\x92\xa7VERSION\x91\xc4\1k\x80");
    REPLY("\x93\x92\xc0\0" DONE_OK "\x92\xc0\x12");
    assert_int_equal(answer.status, 201);
    assert_string_equal(told("ETag"), "\"18\"");
    assert_null(answer.type);
    BODY_IS("");
    buffer_deinit(&answer.body);
    REPLY("\x93\x92\xc0\1" DONE_OK "\x92\xc0\x12");
    assert_int_equal(answer.status, 204);
    end();

    put("/v1/keys/k?ttl_ms=60000&timeout_ms=1");
    field(FIELD_IDEMPOTENCY_KEY, "\"abc\"");
    ASK("", "\xa4"
            "EXEC\x92\x90\x93\x92\xa6"
            "EXISTS\x91\xc4\1k\x92\xa3SET\x94\xc4\1k\xc4\0\xa2PX\xcd\xea\x60\x92\xa7VERSION\x91\xc4\1k"
            "\x82\xa2id\xc4\3"
            "abc\xaatimeout_ms\1");
    assert_int_equal(http_call_body_max(&call), VALUE_BYTES_MAX);
    end();
    put("/v1/keys/k?keep_ttl=true");
    field(FIELD_IDEMPOTENCY_KEY, "\"");
    ASK("v", "\xa4"
             "EXEC\x92\x90\x93\x92\xa6"
             "EXISTS\x91\xc4\1k\x92\xa3SET\x93\xc4\1k\xc4\1v\xa7KEEPTTL\x92\xa7VERSION\x91\xc4\1k"
             "\x81\xa2id\xc4\1\"");
    end();
}

static void writes_are_conditional(void **state) {
    (void)state;
    put("/v1/keys/k");
    field(FIELD_IF_NONE_MATCH, "*");
    ASK("v", "\xa4"
             "EXEC\x92\x90\x92\x92\xa3SET\x93\xc4\1k\xc4\1v\xa2NX\x92\xa7VERSION\x91\xc4\1k\x80");
    REPLY("\x92" DONE_OK "\x92\xc0\x12");
    assert_int_equal(answer.status, 201);
    buffer_deinit(&answer.body);
    REPLY("\x92\x92\xc0\xc0\x92\xc0\x12");
    expect_problem(412, "PRECONDITION_FAILED");
    end();

    put("/v1/keys/k");
    field(FIELD_IF_MATCH, "*");
    ASK("v", "\xa4"
             "EXEC\x92\x90\x92\x92\xa3SET\x93\xc4\1k\xc4\1v\xa2XX\x92\xa7VERSION\x91\xc4\1k\x80");
    REPLY("\x92" DONE_OK "\x92\xc0\x12");
    assert_int_equal(answer.status, 204);
    end();

    put("/v1/keys/k");
    field(FIELD_IF_MATCH, "\"17\"");
    ASK("v", "\xa4"
             "EXEC\x92\x91\x92\xc4\1k\x11\x92\x92\xa3SET\x92\xc4\1k\xc4\1v\x92\xa7VERSION\x91\xc4\1k\x80");
    REPLY("\x92" DONE_OK "\x92\xc0\x12");
    assert_int_equal(answer.status, 204);
    assert_string_equal(told("ETag"), "\"18\"");
    buffer_deinit(&answer.body);
    REPLY("\xc0");
    expect_problem(412, "PRECONDITION_FAILED");
    buffer_deinit(&answer.body);
    REPLY("\x92\x92\x92\xaa"
          "BADREQUEST\xa1x\xc0\x92\xc0\x11"); /* what EXEC cannot do does not undo the others */
    expect_problem(400, "BADREQUEST");
    end();

    begin("DELETE", "/v1/keys/k");
    field(FIELD_IF_MATCH, "\"17\"");
    ASK("", "\xa4"
            "EXEC\x92\x91\x92\xc4\1k\x11\x91\x92\xa3"
            "DEL\x91\xc4\1k\x80");
    REPLY("\x91\x92\xc0\1");
    assert_int_equal(answer.status, 204);
    buffer_deinit(&answer.body);
    REPLY("\xc0");
    expect_problem(412, "PRECONDITION_FAILED");
    end();

    static const char *const never[] = {"W/\"17\"", "\"x\"", "\"0\""};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        put("/v1/keys/k");
        field(FIELD_IF_MATCH, never[i]);
        refused(412, "PRECONDITION_FAILED");
    }
    static const struct {
        const char *method, *match, *none;
    } bad[] = {{"PUT", "\"1\",\"2\"", NULL}, {"PUT", "*", "*"},    {"PUT", NULL, "\"1\""},
               {"DELETE", NULL, "*"},        {"PUT", "\"1", NULL}, {"PUT", NULL, "**"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        begin(bad[i].method, "/v1/keys/k");
        if (bad[i].match != NULL) field(FIELD_IF_MATCH, bad[i].match);
        if (bad[i].none != NULL) field(FIELD_IF_NONE_MATCH, bad[i].none);
        refused(400, "BADREQUEST");
    }
}

static void a_key_is_deleted(void **state) {
    (void)state;
    begin("DELETE", "/v1/keys/%00");
    ASK("", "\xa3"
            "DEL\x91\xc4\1\0\x80");
    REPLY("\1");
    assert_int_equal(answer.status, 204);
    buffer_deinit(&answer.body);
    REPLY("\0");
    expect_problem(404, "NOT_FOUND");
    end();
    begin("DELETE", "/v1/keys/k");
    field(FIELD_IF_MATCH, "*");
    ASK("", "\xa3"
            "DEL\x91\xc4\1k\x80");
    REPLY("\0");
    expect_problem(412, "PRECONDITION_FAILED");
    end();
}

static void keys_are_listed(void **state) {
    (void)state;
    begin("GET", "/v1/keys");
    ASK("", "\xa4SCAN\x93\0\xa5"
            "COUNT\x64\x80");
    REPLY("\x92\xc4\1"
          "0\x90");
    assert_string_equal(answer.type, "application/json");
    BODY_IS("{\"keys\":[],\"cursor\":null}\n");
    end();
    begin("GET", "/v1/keys?prefix=a*%5B%3F%5C-%5D&cursor=18446744073709551615&limit=7");
    ASK("", "\xa4SCAN\x95\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa5"
            "COUNT\7\xa5MATCH\xc4\x0c"
            "a\\*\\[\\?\\\\-]*\x80");
    REPLY("\x92\xc4\2"
          "12\x92\xc4\1k\xc4\1\xff");
    BODY_IS("{\"keys\":[\"k\",{\"base64\":\"/w==\"}],\"cursor\":\"12\"}\n");
    end();
}

/* ---- commands ---- */

static void post(void) {
    begin("POST", "/v1/commands");
    field(FIELD_CONTENT_TYPE, "application/json; charset=utf-8");
}

static void commands_are_run(void **state) {
    (void)state;
    post();
    ASK("{\"command\":[\"GET\",\"k\"]}", "\xa3GET\x91\xa1k\x80");
    REPLY("\xc4\1v");
    assert_int_equal(answer.status, 200);
    BODY_IS("{\"result\":\"v\"}\n");
    end();
    post();
    field(FIELD_IDEMPOTENCY_KEY, "a");
    ASK("{\"commands\":[[\"GET\",\"k\"]],\"atomic\":true}", "\xa5"
                                                            "batch\x91\x92\xa3GET\x91\xa1k\x82\xa2id\xc4\1"
                                                            "a\xa6"
                                                            "atomic\xc3");
    end();
    post();
    ASK("{\"commands\":[[\"GET\",\"k\"],[\"INCR\",\"k\"]]}",
        "\xa5"
        "batch\x92\x92\xa3GET\x91\xa1k\x92\xa4INCR\x91\xa1k\x80");
    REPLY("\x92\x92\xc0\x93\1\xc0\xff\x92\x92\xa8"
          "BADVALUE\xa2no\xc0");
    assert_int_equal(answer.status, 200);
    BODY_IS("{\"results\":[{\"result\":[1,null,-1]},{\"error\":{\"code\":\"BADVALUE\",\"happened\":\"no\","
            "\"detail\":\"no\"}}]}\n");
    end();
}

static void bad_json_is_told(void **state) {
    (void)state;
    post();
    look();
    assert_int_equal(http_call_body_max(&call), MESSAGE_BYTES_MAX);
    http_call_message(&call, slice_of_text("{\"command\":[\"GET\" \"k\"]}"), &message);
    assert_false(http_call_asks(&call));
    give(NULL, 0);
    expect_problem(400, "BADREQUEST");
    assert_non_null(memmem(answer.body.data, answer.body.size, "at byte 18", 10));
    end();
}

/* ---- errors ---- */

static void errors_of_the_reply_are_told(void **state) {
    (void)state;
    static const struct {
        const char *reply;
        size_t size;
        unsigned status;
        const char *code;
    } cases[] = {{"\x94\1\0\x92\xa9WRONGTYPE\xa1x\xc0", 17, 409, "WRONGTYPE"},
                 {"\x94\1\0\x92\xa7TIMEOUT\xa1x\xc0", 15, 504, "TIMEOUT"},
                 {"\x94\1\0\x92\xa5NOPES\xa1x\xc0", 13, 500, "INTERNAL"},
                 {"\x94\1\0\x91\xa1x\xc0", 7, 500, "INTERNAL"},
                 {"\x94\1\0\xc0\xc3", 5, 500, "INTERNAL"},
                 {"\x94\1\0\xc0\xd4\1\1", 7, 500, "INTERNAL"},
                 {"\x93\1\0\xc0", 4, 500, "INTERNAL"},
                 {"", 0, 500, "INTERNAL"},
                 {"\x94\1", 2, 500, "INTERNAL"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int verb = 0; verb < 5; verb++) {
            static const char *const methods[] = {"PUT", "DELETE", "PUT", "GET", "POST"};
            begin(methods[verb], verb < 3 ? "/v1/keys/k" : verb == 3 ? "/v1/keys" : "/v1/commands");
            if (verb == 2) field(FIELD_IF_MATCH, "\"1\"");
            if (verb == 4) field(FIELD_CONTENT_TYPE, "application/json");
            look();
            http_call_message(&call, slice_of_text("{\"commands\":[]}"), &message);
            give(cases[i].reply, cases[i].size);
            expect_problem(cases[i].status, cases[i].code);
            end();
        }
    }
    get(); /* a value of another shape than VGET's */
    ASK("", VGET);
    REPLY("\xc4\1v");
    expect_problem(500, "INTERNAL");
    end();
}

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    begin("GET", "/v1/nothing");
    refused(404, "NOT_FOUND");
    static const char *const wrong[][3] = {{"POST", "/v1/keys/k", "GET, HEAD, PUT, DELETE"},
                                           {"PATCH", "/v1/keys/k", "GET, HEAD, PUT, DELETE"},
                                           {"PUT", "/v1/keys", "GET, HEAD"},
                                           {"GET", "/v1/commands", "POST"},
                                           {"OPTIONS", "/v1/commands", "POST"},
                                           {"get", "/v1/openapi.json", "GET, HEAD"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        begin(wrong[i][0], wrong[i][1]);
        refused(405, "METHOD_NOT_ALLOWED");
        assert_string_equal(told("Allow"), wrong[i][2]);
    }
    begin("GET", "/v1/keys/k?x=1");
    refused(400, "BADREQUEST");
    begin("GET", "/v1/keys/k?ttl_ms=1");
    refused(400, "BADREQUEST");
    begin("GET", "/v1/keys/k");
    field(FIELD_ACCEPT, "text/html");
    refused(406, "NOT_ACCEPTABLE");
    begin("GET", "/v1/keys");
    field(FIELD_ACCEPT, "application/octet-stream");
    refused(406, "NOT_ACCEPTABLE");
    begin("POST", "/v1/commands");
    field(FIELD_CONTENT_TYPE, "text/plain");
    refused(415, "UNSUPPORTED_MEDIA_TYPE");
    assert_string_equal(told("Accept"), "application/json");
    begin("POST", "/v1/commands");
    refused(415, "UNSUPPORTED_MEDIA_TYPE");
    put("/v1/keys/k");
    field(FIELD_CONTENT_ENCODING, "gzip");
    refused(415, "UNSUPPORTED_MEDIA_TYPE");
    put("/v1/keys/k");
    field(FIELD_CONTENT_RANGE, "bytes 0-2/10");
    refused(400, "BADREQUEST");
    static const char *const ids[] = {"", "\"\"",
                                      "65 bytes, which is one more than the contract allows for an id...."};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        put("/v1/keys/k");
        field(FIELD_IDEMPOTENCY_KEY, ids[i]);
        refused(400, "BADREQUEST");
    }
    put("/v1/keys/k");
    field(FIELD_IDEMPOTENCY_KEY, "a");
    field(FIELD_IDEMPOTENCY_KEY, "b");
    refused(400, "BADREQUEST");
}

static void lengths_are_known_from_the_head(void **state) {
    (void)state;
    static const struct {
        const char *length;
        bool too_long;
    } cases[] = {{"16777216", false}, {"16777217", true}, {"99999999999999999999999", true}, {"0", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("/v1/keys/k");
        field(FIELD_CONTENT_LENGTH, cases[i].length);
        look();
        assert_int_equal(http_call_is_too_long(&call), cases[i].too_long);
        if (cases[i].too_long) {
            give(NULL, 0);
            expect_problem(413, "TOOLARGE");
        }
        end();
    }
    post();
    field(FIELD_CONTENT_LENGTH, "67108865");
    refused(413, "TOOLARGE");
    put("/v1/keys/k");
    rules.message_bytes_max = 1000;
    field(FIELD_CONTENT_LENGTH, "1001");
    refused(413, "TOOLARGE");
    begin("GET", "/v1/keys/k"); /* a body that is of no interest */
    field(FIELD_CONTENT_LENGTH, "67108865");
    look();
    assert_false(http_call_is_too_long(&call));
    end();
}

static void a_door_may_refuse(void **state) {
    (void)state;
    put("/v1/keys/k");
    look();
    http_call_refuse(&call, SK_OVERLOADED, "too much");
    http_call_refuse(&call, SK_TOOLARGE, "the first counts");
    assert_false(http_call_asks(&call));
    give(NULL, 0);
    expect_problem(503, "OVERLOADED");
    assert_string_equal(told("Retry-After"), "1");
    end();
}

/* ---- who is let in ---- */

static void who_is_let_in(void **state) {
    (void)state;
    get();
    rules.closed = "it is closed";
    refused(403, "FORBIDDEN");
    begin("GET", "/v1/openapi.json");
    rules.closed = "it is closed";
    refused(403, "FORBIDDEN");
    get();
    rules.certificates = true;
    refused(403, "FORBIDDEN");
    get();
    rules.certificates = true;
    head.certified = true;
    ASK("", VGET);
    end();
    get();
    field(FIELD_HOST, "evil.com");
    refused(421, "MISDIRECTED");
    get();
    field(FIELD_HOST, "db.example.com");
    rules.hosts = "db.example.com";
    ASK("", VGET);
    end();
    get();
    field(FIELD_ORIGIN, "http://evil.com");
    refused(403, "FORBIDDEN");
    get();
    field(FIELD_ORIGIN, "null");
    refused(403, "FORBIDDEN");
    get();
    field(FIELD_ORIGIN, "http://127.0.0.1:7480");
    ASK("", VGET);
    end();
}

static const struct tokens *some_tokens(void) {
    static struct tokens *tokens;
    char path[] = "/tmp/http_call_test_XXXXXX", text[200];
    if (tokens != NULL) return tokens;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "the first of them\nthe second of them\n", 37), 36 + 1);
    close(fd);
    assert_int_equal(tokens_read(&tokens, "--token-file", path, text, sizeof text), SK_OK);
    unlink(path);
    return tokens;
}

static void tokens_are_looked_at_first(void **state) {
    (void)state;
    static const char *const good[] = {"Bearer the first of them", "bearer the second of them"};
    for (size_t i = 0; i < 2; i++) {
        get();
        rules.tokens = some_tokens();
        field(FIELD_HOST, "any.example.com"); /* who has a token is no page that was led here */
        field(FIELD_AUTHORIZATION, good[i]);
        ASK("", VGET);
        assert_true(http_call_is_proven(&call));
        end();
    }
    static const struct {
        const char *authorization, *options, *challenge;
    } bad[] = {{NULL, "\x80", "Bearer realm=\"skerry\""},
               {"Basic abc", "\x80", "Bearer realm=\"skerry\""},
               {"Bearer x", "\x81\xa5token\xc4\1x", "Bearer realm=\"skerry\", error=\"invalid_token\""}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char wanted[100];
        put("/v1/keys/k?nonsense=1");
        rules.tokens = some_tokens();
        if (bad[i].authorization != NULL) field(FIELD_AUTHORIZATION, bad[i].authorization);
        (void)snprintf(wanted, sizeof wanted, "\xa4PING\x90%s", bad[i].options);
        ask("v", wanted, strlen(wanted));
        assert_false(http_call_is_proven(&call));
        assert_int_equal(http_call_body_max(&call), 0);
        give("\x94\1\0\x92\xa6NOAUTH\xa1x\xc0", 14);
        expect_problem(401, "NOAUTH");
        assert_string_equal(told("WWW-Authenticate"), bad[i].challenge);
        end();
    }
    begin("GET", "/v1/openapi.json");
    rules.tokens = some_tokens();
    look();
    assert_false(http_call_asks(&call));
    give(NULL, 0);
    assert_int_equal(answer.status, 200);
    end();
}

static void the_description_is_there(void **state) {
    (void)state;
    begin("GET", "/v1/openapi.json");
    look();
    give(NULL, 0);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.type, "application/json");
    assert_non_null(memmem(answer.body.data, answer.body.size, "\"openapi\": \"3.1.0\"", 18));
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_read),
        cmocka_unit_test(reads_are_conditional),
        cmocka_unit_test(a_key_is_set),
        cmocka_unit_test(writes_are_conditional),
        cmocka_unit_test(a_key_is_deleted),
        cmocka_unit_test(keys_are_listed),
        cmocka_unit_test(commands_are_run),
        cmocka_unit_test(bad_json_is_told),
        cmocka_unit_test(errors_of_the_reply_are_told),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(lengths_are_known_from_the_head),
        cmocka_unit_test(a_door_may_refuse),
        cmocka_unit_test(who_is_let_in),
        cmocka_unit_test(tokens_are_looked_at_first),
        cmocka_unit_test(the_description_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
