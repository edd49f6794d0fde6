#include "metad_client.h"

#include "clock.h"
#include "error.h"

#include <stdatomic.h>

#include "testing_metad.h"

#define LONG_MS  20000u /* more than a test ever waits for what must come */
#define SHORT_MS 150u   /* for what never comes */

static const char *const names[] = {"a", "b", "c"};
static char directory[32];
static char a_address[64], b_address[64], c_address[64], both[130];

static int make_directory(void **state) {
    (void)state;
    directory_make(directory);
    address_in(directory, "a", a_address);
    address_in(directory, "b", b_address);
    address_in(directory, "c", c_address);
    snprintf(both, sizeof both, "%s,%s", a_address, b_address);
    return 0;
}

static int remove_directory(void **state) {
    (void)state;
    directory_remove(directory, names, 3);
    return 0;
}

/* A server that does as told and counts. */
struct script {
    atomic_int rc; /* SK_OK: echoes method and params */
    const char *text;
    struct slice raw;
    atomic_uint calls;
};

static int follow_script(void *arg, struct slice method, struct slice params, struct buffer *result, char *text) {
    struct script *script = arg;
    int rc = atomic_load(&script->rc);
    if (rc == SK_OK) {
        mp_write_array(result, 2);
        mp_write_str(result, method);
        mp_write_raw(result, params);
    }
    if (rc == FAKE_RAW) mp_write_raw(result, script->raw);
    if (script->text != NULL) snprintf(text, 256, "%s", script->text);
    atomic_fetch_add(&script->calls, 1);
    return rc;
}

static struct metad_client *new_client(const char *addresses) {
    struct metad_client *client;
    assert_int_equal(metad_client_new(&client, addresses), SK_OK);
    return client;
}

static char text[256]; /* of the last call */

static int call(struct metad_client *client, uint32_t timeout_ms) {
    strcpy(text, "untouched");
    return metad_client_call(client, "map", slice_of("\x91\x07", 2), timeout_ms, NULL, text, sizeof text);
}

static void test_addresses(void **state) {
    (void)state;
    static const char *const bad[] = {"", ",", "tcp://a:1,", "nonsense", "xyz://a:1", ",tcp://127.0.0.1:1"};
    struct metad_client *client;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(metad_client_new(&client, bad[i]), SK_ECONFIG);
    }
    char large[400] = "tcp://";
    memset(large + 6, 'x', sizeof large - 7);
    assert_int_equal(metad_client_new(&client, large), SK_ECONFIG);
    char many[17 * 6 + 200] = "tcp://127.0.0.1:1";
    for (int i = 0; i < 16; i++) strcat(many, ",ipc:///x");
    assert_int_equal(metad_client_new(&client, many), SK_ECONFIG);
    metad_client_free(NULL);
}

static void test_a_call_and_its_result(void **state) {
    (void)state;
    struct script script = {.rc = SK_OK};
    struct fake_metad fake;
    fake_start(&fake, a_address, follow_script, &script);
    struct metad_client *client = new_client(a_address);
    struct buffer result;
    buffer_init(&result);
    buffer_append(&result, "old", 3);
    for (int i = 0; i < 300; i++) { /* msgids of one and of more bytes */
        assert_int_equal(
            metad_client_call(client, "map", slice_of("\x91\x07", 2), LONG_MS, &result, text, sizeof text), SK_OK);
        assert_true(slice_equal(buffer_slice(&result), slice_of("\x92\xa3map\x91\x07", 7)));
        assert_string_equal(text, "");
    }
    assert_int_equal(script.calls, 300);
    buffer_deinit(&result);
    metad_client_free(client);
    fake_stop(&fake);
}

static void test_errors_answered(void **state) {
    (void)state;
    struct script script = {.rc = SK_CONFLICT, .text = "a store of another cluster"};
    struct fake_metad fake;
    fake_start(&fake, a_address, follow_script, &script);
    struct metad_client *client = new_client(a_address);
    assert_int_equal(call(client, LONG_MS), SK_CONFLICT);
    assert_string_equal(text, "a store of another cluster");
    char little[5];
    assert_int_equal(metad_client_call(client, "map", slice_of("\x90", 1), LONG_MS, NULL, little, sizeof little),
                     SK_CONFLICT);
    assert_string_equal(little, "a st");
    assert_int_equal(metad_client_call(client, "map", slice_of("\x90", 1), LONG_MS, NULL, NULL, 0), SK_CONFLICT);
    metad_client_free(client);
    fake_stop(&fake);
}

static void test_malformed_replies(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } replies[] = {
        {"", 0},
        {"\xc1", 1},
        {"\x93\x01\x01\xc0", 4},              /* three parts */
        {"\x94\x00\x01\xc0\xc0", 5},          /* a request */
        {"\x94\x01\x63\xc0\xc0", 5},          /* another msgid */
        {"\x94\x01\xff\xc0\xc0", 5},          /* a msgid below 0 */
        {"\x94\x01\x01\xc0\xc0\xc0", 6},      /* and more */
        {"\x94\x01\x01\xc0\x91", 5},          /* result cut */
        {"\x94\x01\x01\xa1x\xc0", 6},         /* an error that is a str */
        {"\x94\x01\x01\x91\xa1x\xc0", 7},     /* without a text */
        {"\x94\x01\x01\x92\x01\xa1x\xc0", 8}, /* whose code is a number */
        {"\x94\x01\x01\x92\xa1x\x01\xc0", 8}, /* whose text is one */
    };
    struct script script = {.rc = FAKE_RAW};
    struct fake_metad fake;
    fake_start(&fake, a_address, follow_script, &script);
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        script.raw = slice_of(replies[i].bytes, replies[i].size);
        struct metad_client *client = new_client(a_address); /* begins with msgid 1 */
        assert_int_equal(call(client, LONG_MS), SK_EPROTO);
        assert_non_null(strstr(text, a_address));
        metad_client_free(client);
    }
    script.raw = slice_of("\x94\x01\x01\x92\xa3NEW\xa1x\xc0", 11); /* a code of a newer version */
    struct metad_client *client = new_client(a_address);
    assert_int_equal(call(client, LONG_MS), SK_EUNEXPECTED);
    assert_string_equal(text, "x");
    metad_client_free(client);
    fake_stop(&fake);
}

static void test_nobody_there(void **state) {
    (void)state;
    struct metad_client *client = new_client(both);
    assert_int_equal(call(client, SHORT_MS), SK_ETIMEDOUT);
    assert_non_null(strstr(text, "no connection"));
    assert_int_equal(call(client, 0), SK_ETIMEDOUT);
    metad_client_free(client);
}

static void test_silence_and_then_an_answer(void **state) {
    (void)state;
    struct script script = {.rc = FAKE_SILENT};
    struct fake_metad fake;
    fake_start(&fake, a_address, follow_script, &script);
    struct metad_client *client = new_client(a_address);
    while (atomic_load(&script.calls) == 0) assert_int_equal(call(client, SHORT_MS), SK_ETIMEDOUT);
    assert_non_null(strstr(text, "no answer"));
    atomic_store(&script.rc, SK_OK);
    assert_int_equal(call(client, LONG_MS), SK_OK);
    metad_client_free(client);
    fake_stop(&fake);
}

struct late_start {
    struct fake_metad *fake;
    struct script *script;
};

static void *start_late(void *arg) {
    struct late_start *late = arg;
    fake_start(late->fake, a_address, follow_script, late->script);
    return NULL;
}

static void test_waits_for_a_server_that_comes(void **state) {
    (void)state;
    struct script script = {.rc = SK_OK};
    struct fake_metad fake;
    struct late_start late = {&fake, &script};
    struct metad_client *client = new_client(a_address);
    assert_int_equal(call(client, SHORT_MS), SK_ETIMEDOUT);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start_late, &late), 0);
    assert_int_equal(call(client, LONG_MS), SK_OK);
    pthread_join(thread, NULL);
    metad_client_free(client);
    fake_stop(&fake);
}

/* A server that goes away with the request is asked once: nng must not send it again. */
static void test_never_sent_twice(void **state) {
    (void)state;
    struct script script = {.rc = FAKE_SILENT}, again = {.rc = SK_OK};
    struct fake_metad fake;
    fake_start(&fake, a_address, follow_script, &script);
    struct metad_client *client = new_client(a_address);
    pthread_t thread;
    struct late_start late = {&fake, &again};
    /* Connected for sure, so that the next request goes out at once. */
    atomic_store(&script.rc, SK_OK);
    assert_int_equal(call(client, LONG_MS), SK_OK);
    fake_stop(&fake);
    assert_int_equal(pthread_create(&thread, NULL, start_late, &late), 0);
    int rc = call(client, LONG_MS); /* met the old connection (no answer) or the new server */
    pthread_join(thread, NULL);
    assert_true(rc == SK_OK || rc == SK_ENET);
    assert_int_equal(again.calls, rc == SK_OK ? 1 : 0);
    assert_int_equal(call(client, LONG_MS), SK_OK);
    assert_int_equal(again.calls, rc == SK_OK ? 2 : 1);
    metad_client_free(client);
    fake_stop(&fake);
}

static int close_connections(void *arg, struct slice method, struct slice params, struct buffer *result,
                             char *reason) {
    struct script *script = arg;
    (void)method;
    (void)params;
    (void)result;
    (void)reason;
    return atomic_fetch_add(&script->calls, 1) == 0 ? FAKE_SILENT : SK_INTERNAL;
}

static void *stop_after_a_call(void *arg) {
    struct late_start *late = arg;
    while (atomic_load(&late->script->calls) == 0) sched_yield();
    fake_stop(late->fake);
    return NULL;
}

static void test_a_connection_that_breaks_is_told(void **state) {
    (void)state;
    struct script script = {0};
    struct fake_metad fake;
    struct late_start late = {&fake, &script};
    fake_start(&fake, a_address, close_connections, &script);
    struct metad_client *client = new_client(a_address);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stop_after_a_call, &late), 0);
    assert_int_equal(call(client, LONG_MS), SK_ENET);
    assert_int_equal(script.calls, 1);
    pthread_join(thread, NULL);
    metad_client_free(client);
}

static void test_the_next_address_in_turn(void **state) {
    (void)state;
    struct script script = {.rc = SK_OK};
    struct fake_metad fake;
    fake_start(&fake, b_address, follow_script, &script); /* nobody at a */
    struct metad_client *client = new_client(both);
    assert_int_equal(call(client, LONG_MS), SK_OK);
    uint64_t before_ms = clock_boottime_ms();
    for (int i = 0; i < 20; i++) assert_int_equal(call(client, LONG_MS), SK_OK); /* it stays there */
    assert_true(clock_boottime_ms() - before_ms < 20 * 300);                     /* a turn past a takes 300 ms */
    metad_client_free(client);
    fake_stop(&fake);
}

/* Stopped, or cut off from the others. */
static void test_one_of_several_is_of_no_use(void **state) {
    (void)state;
    static const int useless[] = {FAKE_SILENT, SK_RETRY};
    for (int i = 0; i < 2; i++) {
        struct script one = {.rc = useless[i], .text = "no leader is known"}, other = {.rc = SK_OK};
        struct fake_metad fakes[2];
        fake_start(&fakes[0], a_address, follow_script, &one);
        fake_start(&fakes[1], b_address, follow_script, &other);
        struct metad_client *client = new_client(both);
        assert_int_equal(call(client, LONG_MS), useless[i] == FAKE_SILENT ? SK_ETIMEDOUT : SK_OK);
        for (int j = 0; j < 3; j++) assert_int_equal(call(client, LONG_MS), SK_OK);
        assert_int_equal(one.calls, 1);
        metad_client_free(client);
        for (int j = 0; j < 2; j++) fake_stop(&fakes[j]);
    }
}

static void test_none_of_several_knows(void **state) {
    (void)state;
    struct script one = {.rc = SK_RETRY, .text = "no leader is known"}, other = one;
    struct fake_metad fakes[2];
    fake_start(&fakes[0], a_address, follow_script, &one);
    fake_start(&fakes[1], b_address, follow_script, &other);
    struct metad_client *client = new_client(both);
    assert_int_equal(call(client, LONG_MS), SK_RETRY);
    assert_string_equal(text, "no leader is known");
    assert_int_equal(one.calls + other.calls, 4); /* and no more: whoever calls waits a little */
    metad_client_free(client);
    for (int j = 0; j < 2; j++) fake_stop(&fakes[j]);
}

static void test_follows_to_the_leader(void **state) {
    (void)state;
    char where[128];
    snprintf(where, sizeof where, "the leader is %s", c_address); /* not among the given ones */
    struct script follower = {.rc = SK_NOT_LEADER, .text = where}, leader = {.rc = SK_OK};
    struct fake_metad fakes[2];
    fake_start(&fakes[0], a_address, follow_script, &follower);
    fake_start(&fakes[1], c_address, follow_script, &leader);
    struct metad_client *client = new_client(both);
    assert_int_equal(call(client, LONG_MS), SK_OK);
    assert_int_equal(call(client, LONG_MS), SK_OK);
    assert_int_equal(follower.calls, 1); /* and stays with it */
    assert_int_equal(leader.calls, 2);
    fake_stop(&fakes[1]);
    atomic_store(&follower.rc, SK_OK); /* the old one leads again */
    int rc = call(client, LONG_MS);
    if (rc != SK_OK) rc = call(client, LONG_MS); /* the first may have met the connection as it broke */
    assert_int_equal(rc, SK_OK);
    assert_int_equal(follower.calls, 2);
    metad_client_free(client);
    fake_stop(&fakes[0]);
}

static void test_no_leader(void **state) {
    (void)state;
    struct script scripts[2] = {{.rc = SK_NOT_LEADER, .text = "no leader now"}, {.rc = SK_NOT_LEADER, .text = ""}};
    struct fake_metad fakes[2];
    fake_start(&fakes[0], a_address, follow_script, &scripts[0]);
    fake_start(&fakes[1], b_address, follow_script, &scripts[1]);
    struct metad_client *client = new_client(both);
    assert_int_equal(call(client, LONG_MS), SK_NOT_LEADER);
    assert_true(scripts[0].calls + scripts[1].calls < 10); /* it does not spin */
    assert_true(scripts[0].calls > 0 && scripts[1].calls > 0);
    metad_client_free(client);

    /* Two that each name the other, and one that names itself. */
    scripts[0].text = b_address;
    scripts[1].text = a_address;
    client = new_client(both);
    assert_int_equal(call(client, LONG_MS), SK_NOT_LEADER);
    metad_client_free(client);
    scripts[0].text = a_address;
    client = new_client(a_address);
    assert_int_equal(call(client, LONG_MS), SK_NOT_LEADER);
    metad_client_free(client);
    scripts[0].text = "it is at xyz://nowhere"; /* no address that we can use */
    client = new_client(a_address);
    assert_int_equal(call(client, LONG_MS), SK_NOT_LEADER);
    metad_client_free(client);
    for (int i = 0; i < 2; i++) fake_stop(&fakes[i]);
}

/* Answers that name ever new leaders neither end the places for addresses nor the client. */
static int name_another(void *arg, struct slice method, struct slice params, struct buffer *result, char *reason) {
    struct script *script = arg;
    (void)method;
    (void)params;
    (void)result;
    snprintf(reason, 256, "(ipc://%s/none%u)", directory, atomic_fetch_add(&script->calls, 1));
    return SK_NOT_LEADER;
}

static void test_many_named_leaders(void **state) {
    (void)state;
    struct script script = {0};
    struct fake_metad fake;
    fake_start(&fake, a_address, name_another, &script);
    struct metad_client *client = new_client(a_address);
    for (int i = 0; i < 40; i++) assert_true(call(client, 20) != SK_OK);
    assert_true(script.calls > 1);
    metad_client_free(client);
    fake_stop(&fake);
}

static void *cancel_after_a_call(void *arg) {
    void **both_args = arg;
    struct script *script = both_args[1];
    while (atomic_load(&script->calls) == 0) sched_yield();
    metad_client_cancel(both_args[0]);
    return NULL;
}

static void test_cancel(void **state) {
    (void)state;
    struct script script = {.rc = FAKE_SILENT};
    struct fake_metad fake;
    fake_start(&fake, a_address, follow_script, &script);
    struct metad_client *client = new_client(a_address);
    void *args[] = {client, &script};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_after_a_call, args), 0);
    uint64_t before_ms = clock_boottime_ms();
    assert_int_equal(call(client, LONG_MS), SK_ECLOSED);
    assert_int_equal(call(client, LONG_MS), SK_ECLOSED);
    assert_true(clock_boottime_ms() - before_ms < LONG_MS);
    pthread_join(thread, NULL);
    metad_client_free(client);
    fake_stop(&fake);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_addresses),
        TEST(test_a_call_and_its_result),
        TEST(test_errors_answered),
        TEST(test_malformed_replies),
        TEST(test_nobody_there),
        TEST(test_silence_and_then_an_answer),
        TEST(test_waits_for_a_server_that_comes),
        TEST(test_never_sent_twice),
        TEST(test_a_connection_that_breaks_is_told),
        TEST(test_the_next_address_in_turn),
        TEST(test_one_of_several_is_of_no_use),
        TEST(test_none_of_several_knows),
        TEST(test_follows_to_the_leader),
        TEST(test_no_leader),
        TEST(test_many_named_leaders),
        TEST(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
