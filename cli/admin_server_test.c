/* Against a metad that a test plays: its answers to one request after another. */
#include "admin_server.h"

#include "fake_gateway.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"
#include "session.h"

static struct play {
    const char *codes[8]; /* NULL: it is done */
    unsigned asked;
    char change[16], name[64];
} play;

static void copy(char *room, size_t bytes, struct slice text) {
    assert_true(text.size < bytes);
    memcpy(room, text.data, text.size);
    room[text.size] = 0;
}

static void play_metad(void *arg, struct slice bytes, struct buffer *reply) {
    struct fake_request request;
    (void)arg;
    if (!fake_request_read(bytes, &request)) return;
    struct mp_reader reader = mp_reader_of(request.params);
    struct slice change, name;
    uint32_t count;
    bool ok = slice_equal(request.method, slice_of_text("server")) && mp_read_array(&reader, &count) == SK_OK &&
              count == 2 && mp_read_bytes(&reader, &change) == SK_OK && mp_read_bytes(&reader, &name) == SK_OK;
    const char *code = !ok ? "BADREQUEST" : play.asked < 8 ? play.codes[play.asked] : NULL;
    play.asked++;
    if (code != NULL) {
        fake_reply_error(reply, request.msgid, code, "so it is");
        return;
    }
    copy(play.change, sizeof play.change, change);
    copy(play.name, sizeof play.name, name);
    fake_reply_begin(reply, request.msgid);
    mp_write_map(reply, 0);
}

static char said[1024], complained[1024];

static int run(bool add) {
    struct fake_gateway *metad = fake_gateway_new(play_metad, NULL);
    assert_non_null(metad);
    struct admin_server_options options = {
        .metad = fake_gateway_address(metad), .timeout_ms = 5000, .add = add, .name = "metad-3:7100"};
    struct capture out, err;
    capture_begin(&out, STDOUT_FILENO);
    capture_begin(&err, STDERR_FILENO);
    int code = admin_server(&options);
    capture_end(&err, complained, sizeof complained);
    capture_end(&out, said, sizeof said);
    fake_gateway_free(metad);
    return code;
}

static int set_up(void **state) {
    (void)state;
    play = (struct play){0};
    return 0;
}

static void a_server_is_added(void **state) {
    (void)state;
    assert_int_equal(run(true), EXIT_OK);
    assert_string_equal(said, "metad-3:7100 is one of metad's servers\n");
    assert_string_equal(play.change, "add");
    assert_string_equal(play.name, "metad-3:7100");
    assert_int_equal(play.asked, 1);
}

static void a_server_is_removed(void **state) {
    (void)state;
    assert_int_equal(run(false), EXIT_OK);
    assert_string_equal(said, "metad-3:7100 is no server of metad any more\n");
    assert_string_equal(play.change, "remove");
}

static void what_may_pass_is_waited_for(void **state) {
    (void)state;
    const char *const codes[] = {"RETRY", "TIMEOUT", "BUSY"};
    memcpy(play.codes, codes, sizeof codes);
    assert_int_equal(run(true), EXIT_OK);
    assert_int_equal(play.asked, 4);
    assert_string_equal(complained, "");
}

static void a_refusal_says_why(void **state) {
    (void)state;
    play.codes[0] = "CONFLICT";
    assert_int_equal(run(true), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: CONFLICT so it is\n");
    assert_string_equal(said, "");
    assert_int_equal(play.asked, 1);
}

static void what_is_gone_after_a_doubt_was_removed(void **state) {
    (void)state;
    play.codes[0] = "TIMEOUT";
    play.codes[1] = "NOT_FOUND";
    assert_int_equal(run(false), EXIT_OK);
    assert_string_equal(said, "metad-3:7100 is no server of metad any more\n");
}

/* A name that was mistyped, while the leader was changing. */
static void what_was_never_there_was_not_removed(void **state) {
    (void)state;
    play.codes[0] = "RETRY";
    play.codes[1] = "NOT_FOUND";
    assert_int_equal(run(false), EXIT_ERROR_ANSWER);
    assert_string_equal(complained, "skerry: NOT_FOUND so it is\n");
    play = (struct play){.codes = {"TIMEOUT", "NOT_FOUND"}};
    assert_int_equal(run(true), EXIT_ERROR_ANSWER);
}

static void metad_that_is_not_there(void **state) {
    (void)state;
    struct capture err;
    struct admin_server_options options = {.metad = "nonsense", .timeout_ms = 100, .add = true, .name = "x:7100"};
    capture_begin(&err, STDERR_FILENO);
    assert_int_equal(admin_server(&options), EXIT_USAGE);
    capture_end(&err, complained, sizeof complained);
    assert_string_equal(complained, "skerry: 'nonsense' is not an address of metad\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_server_is_added, set_up),
        cmocka_unit_test_setup(a_server_is_removed, set_up),
        cmocka_unit_test_setup(what_may_pass_is_waited_for, set_up),
        cmocka_unit_test_setup(a_refusal_says_why, set_up),
        cmocka_unit_test_setup(what_is_gone_after_a_doubt_was_removed, set_up),
        cmocka_unit_test_setup(what_was_never_there_was_not_removed, set_up),
        cmocka_unit_test_setup(metad_that_is_not_there, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
