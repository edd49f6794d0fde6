/* Commands against a gateway that answers what the test says: what is sent, printed, repeated, and with which code it
 * ends. */
#include "session.h"

#include "client.h"
#include "fake_gateway.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define REQUESTS_MAX 8

/* What the fake does with each request in turn; the last stays. */
enum fake_deed { FAKE_OK, FAKE_HANG_UP, FAKE_REFUSE, FAKE_GARBAGE, FAKE_OTHER_MSGID, FAKE_ECHO, FAKE_BATCH };

struct fixture {
    struct fake_gateway *fake;
    struct session *session;
    struct session_options options;
    char address[64];     /* outlives the fake */
    pthread_mutex_t lock; /* for the next three, which the fake's thread sees too */
    enum fake_deed deeds[REQUESTS_MAX];
    struct buffer requests[REQUESTS_MAX];
    size_t request_count;
    char *out;
    size_t out_bytes;
};

static void set_deed(struct fixture *fixture, size_t at, enum fake_deed deed) {
    pthread_mutex_lock(&fixture->lock);
    fixture->deeds[at] = deed;
    pthread_mutex_unlock(&fixture->lock);
}

static size_t count_requests(struct fixture *fixture) {
    pthread_mutex_lock(&fixture->lock);
    size_t count = fixture->request_count;
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

/* Keeps the request and says what to do with it. */
static enum fake_deed keep_request(struct fixture *fixture, struct slice request) {
    pthread_mutex_lock(&fixture->lock);
    size_t at = fixture->request_count < REQUESTS_MAX ? fixture->request_count++ : REQUESTS_MAX - 1;
    buffer_clear(&fixture->requests[at], 0);
    buffer_append(&fixture->requests[at], request.data, request.size);
    enum fake_deed deed = fixture->deeds[at];
    pthread_mutex_unlock(&fixture->lock);
    return deed;
}

static void answer(void *arg, struct slice request, struct buffer *reply) {
    enum fake_deed deed = keep_request(arg, request);
    struct fake_request read;
    if (!fake_request_read(request, &read)) return;
    switch (deed) {
    case FAKE_HANG_UP:
        return;
    case FAKE_REFUSE:
        fake_reply_error(reply, read.msgid, "WRONGTYPE", "not a string");
        return;
    case FAKE_GARBAGE:
        buffer_append(reply, "\xc1", 1);
        return;
    case FAKE_OTHER_MSGID:
        fake_reply_begin(reply, read.msgid + 1);
        break;
    default:
        fake_reply_begin(reply, read.msgid);
        break;
    }
    if (deed == FAKE_ECHO) {
        mp_write_raw(reply, read.params);
    } else if (deed == FAKE_BATCH) {
        mp_write_array(reply, 2);
        mp_write_array(reply, 2);
        mp_write_nil(reply);
        mp_write_text(reply, "OK");
        mp_write_array(reply, 2);
        mp_write_array(reply, 2);
        mp_write_text(reply, "BADVALUE");
        mp_write_text(reply, "no integer");
        mp_write_nil(reply);
    } else {
        mp_write_text(reply, "OK");
    }
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    pthread_mutex_init(&fixture->lock, NULL);
    fixture->fake = fake_gateway_new(answer, fixture);
    if (fixture->fake == NULL) return -1;
    snprintf(fixture->address, sizeof fixture->address, "%s", fake_gateway_address(fixture->fake));
    fixture->options = (struct session_options){
        .gateway = fixture->address, .timeout_ms = 5000, .nil_word = "(nil)", .format = PRINT_TTY};
    *state = fixture;
    return session_open(&fixture->session, &fixture->options);
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    session_close(fixture->session);
    if (fixture->fake != NULL) fake_gateway_free(fixture->fake);
    for (int i = 0; i < REQUESTS_MAX; i++) buffer_deinit(&fixture->requests[i]);
    free(fixture->out);
    pthread_mutex_destroy(&fixture->lock);
    free(fixture);
    return 0;
}

static FILE *begin_output(struct fixture *fixture) {
    free(fixture->out);
    fixture->out = NULL;
    FILE *out = open_memstream(&fixture->out, &fixture->out_bytes);
    assert_non_null(out);
    return out;
}

static enum exit_code run(struct fixture *fixture, const char *line) {
    struct words words;
    assert_int_equal(words_parse(slice_of_text(line), &words), SK_OK);
    FILE *out = begin_output(fixture);
    enum exit_code code = session_run(fixture->session, words.items, words.count, out);
    fclose(out);
    words_deinit(&words);
    return code;
}

static enum exit_code run_input(struct fixture *fixture, const char *text, bool batch, bool atomic) {
    FILE *in = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    FILE *out = begin_output(fixture);
    enum exit_code code = batch ? session_run_batch(fixture->session, in, atomic, out)
                                : session_run_lines(fixture->session, in, out);
    fclose(in);
    fclose(out);
    return code;
}

static struct fake_request request_at(struct fixture *fixture, size_t at) {
    struct fake_request request;
    assert_true(at < count_requests(fixture));
    assert_true(fake_request_read(buffer_slice(&fixture->requests[at]), &request));
    return request;
}

/* The value of an option as its encoded bytes; empty: not there. */
static struct slice option_of(struct slice options, const char *name) {
    struct mp_reader reader = mp_reader_of(options);
    uint32_t count = 0;
    if (options.size > 0) assert_int_equal(mp_read_map(&reader, &count), SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        struct slice key, value;
        assert_int_equal(mp_read_str(&reader, &key), SK_OK);
        assert_int_equal(mp_skip(&reader, &value), SK_OK);
        if (slice_equal(key, slice_of_text(name))) return value;
    }
    return slice_of(NULL, 0);
}

static void writes_have_fresh_ids_and_reads_none(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(run(fixture, "set k v"), EXIT_OK);
    assert_int_equal(run(fixture, "SET k v"), EXIT_OK);
    assert_int_equal(run(fixture, "GET k"), EXIT_OK);
    struct slice first = option_of(request_at(fixture, 0).options, "id");
    struct slice second = option_of(request_at(fixture, 1).options, "id");
    assert_int_equal(first.size, 18); /* bin 8 of 16 bytes */
    assert_int_equal(second.size, 18);
    assert_false(slice_equal(first, second));
    assert_int_equal(option_of(request_at(fixture, 2).options, "id").size, 0);
    assert_string_equal(fixture->out, "OK\n");
}

static void params_are_bin(void **state) {
    struct fixture *fixture = *state;
    run(fixture, "SET k \"\\x00\" EX 5");
    struct fake_request request = request_at(fixture, 0);
    static const char params[] = "\x94\xc4\x01k\xc4\x01\x00\xc4\x02"
                                 "EX\xc4\x01"
                                 "5";
    assert_true(slice_equal(request.method, slice_of_text("SET")));
    assert_true(slice_equal(request.params, slice_of(params, sizeof params - 1)));
}

static void nil_is_nil_only_in_cas_and_unquoted(void **state) {
    struct fixture *fixture = *state;
    run(fixture, "cas (nil) (nil) \"(nil)\"");
    static const char cas[] = "\x93\xc4\x05(nil)\xc0\xc4\x05(nil)";
    assert_true(slice_equal(request_at(fixture, 0).params, slice_of(cas, sizeof cas - 1)));
    run(fixture, "SET k (nil)");
    static const char set[] = "\x92\xc4\x01k\xc4\x05(nil)";
    assert_true(slice_equal(request_at(fixture, 1).params, slice_of(set, sizeof set - 1)));
    fixture->options.nil_word = "absent";
    run(fixture, "CAS k absent (nil)");
    static const char other[] = "\x93\xc4\x01k\xc0\xc4\x05(nil)";
    assert_true(slice_equal(request_at(fixture, 2).params, slice_of(other, sizeof other - 1)));
}

static void options_are_sent(void **state) {
    struct fixture *fixture = *state;
    fixture->options.id = "mine";
    fixture->options.read_follower = true;
    fixture->options.timeout_ms = 1234;
    run(fixture, "SET k v");
    struct slice options = request_at(fixture, 0).options;
    assert_true(slice_equal(option_of(options, "id"), slice_of_text("\xc4\x04mine")));
    assert_true(slice_equal(option_of(options, "read"), slice_of_text("\xa8"
                                                                      "follower")));
    assert_true(slice_equal(option_of(options, "timeout_ms"), slice_of_text("\xcd\x04\xd2")));
    assert_int_equal(option_of(options, "atomic").size, 0);
}

static void a_given_id_names_each_write_apart(void **state) {
    struct fixture *fixture = *state;
    fixture->options.id = "mine";
    assert_int_equal(run_input(fixture, "SET a 1\nGET a\nSET b 2\n", false, false), EXIT_OK);
    assert_int_equal(run_input(fixture, "SET c 3\nGET c\n", true, true), EXIT_ERROR_ANSWER);
    assert_true(slice_equal(option_of(request_at(fixture, 0).options, "id"), slice_of_text("\xc4\x04mine")));
    assert_int_equal(option_of(request_at(fixture, 1).options, "id").size, 0);
    assert_true(slice_equal(option_of(request_at(fixture, 2).options, "id"), slice_of_text("\xc4\x06mine#2")));
    assert_true(slice_equal(option_of(request_at(fixture, 3).options, "id"), slice_of_text("\xc4\x06mine#3")));
}

static void an_empty_id_is_none(void **state) {
    struct fixture *fixture = *state;
    fixture->options.id = "";
    set_deed(fixture, 0, FAKE_HANG_UP);
    assert_int_equal(run(fixture, "INCR k"), EXIT_ERROR_ANSWER);
    assert_int_equal(count_requests(fixture), 1);
    assert_non_null(strstr(fixture->out, "the write may have happened"));
}

static void a_lost_connection_repeats_under_the_same_id(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_HANG_UP);
    set_deed(fixture, 1, FAKE_HANG_UP);
    assert_int_equal(run(fixture, "INCR k"), EXIT_OK);
    assert_int_equal(count_requests(fixture), 3);
    struct fake_request first = request_at(fixture, 0), last = request_at(fixture, 2);
    assert_true(option_of(first.options, "id").size > 0);
    assert_true(slice_equal(buffer_slice(&fixture->requests[0]), buffer_slice(&fixture->requests[2])));
    assert_true(first.msgid == last.msgid);
}

static void reads_are_repeated_too(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_HANG_UP);
    assert_int_equal(run(fixture, "GET k"), EXIT_OK);
    assert_int_equal(count_requests(fixture), 2);
}

static void a_write_without_id_is_never_repeated(void **state) {
    struct fixture *fixture = *state;
    fixture->options.no_id = true;
    set_deed(fixture, 0, FAKE_HANG_UP);
    assert_int_equal(run(fixture, "INCR k"), EXIT_ERROR_ANSWER);
    assert_int_equal(count_requests(fixture), 1);
    assert_string_equal(fixture->out, "(error) TIMEOUT no answer from the gateway; the write may have happened\n");
    assert_int_equal(run(fixture, "GET k"), EXIT_OK); /* and the connection comes back */
}

/* The fake keeps hanging up: the deadline ends it. */
static void repeating_ends_at_the_deadline(void **state) {
    struct fixture *fixture = *state;
    for (size_t i = 0; i < REQUESTS_MAX; i++) set_deed(fixture, i, FAKE_HANG_UP);
    fixture->options.timeout_ms = 50;
    assert_int_equal(run(fixture, "INCR k"), EXIT_ERROR_ANSWER);
    assert_true(count_requests(fixture) >= 2);
    assert_non_null(strstr(fixture->out, "(error) TIMEOUT"));
}

static void what_waits_has_its_time_besides(void **state) {
    struct fixture *fixture = *state;
    for (size_t i = 0; i < REQUESTS_MAX; i++) set_deed(fixture, i, FAKE_HANG_UP);
    fixture->options.timeout_ms = 50;
    uint64_t begin_ms = clock_boottime_ms();
    assert_int_equal(run(fixture, "BLMPOP 1.5 1 k LEFT"), EXIT_ERROR_ANSWER);
    assert_true(clock_boottime_ms() - begin_ms >= 1550);
    assert_int_equal(run(fixture, "BLPOP k never"), EXIT_ERROR_ANSWER); /* which is no time */
}

static void unknown_commands_may_be_writes(void **state) {
    struct fixture *fixture = *state;
    run(fixture, "FROBNICATE k");
    assert_true(option_of(request_at(fixture, 0).options, "id").size > 0);
}

static void an_error_answer_is_printed(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_REFUSE);
    assert_int_equal(run(fixture, "GET k"), EXIT_ERROR_ANSWER);
    assert_string_equal(fixture->out, "(error) WRONGTYPE not a string\n");
}

static void malformed_answers_are_told(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_GARBAGE);
    set_deed(fixture, 1, FAKE_OTHER_MSGID);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(run(fixture, "GET k"), EXIT_ERROR_ANSWER);
        assert_string_equal(fixture->out, "(error) INTERNAL the gateway's answer is malformed\n");
    }
    assert_int_equal(run(fixture, "GET k"), EXIT_OK);
}

static void a_gateway_gone_for_good_is_unreachable(void **state) {
    struct fixture *fixture = *state;
    fixture->options.timeout_ms = 1;
    assert_int_equal(run(fixture, "GET k"), EXIT_OK);
    fake_gateway_free(fixture->fake);
    fixture->fake = NULL;
    /* The first call after it may meet the connection as it breaks; none is answered. */
    int code = run(fixture, "GET k");
    assert_true(code == EXIT_UNREACHABLE || code == EXIT_ERROR_ANSWER);
    assert_int_equal(run(fixture, "GET k"), EXIT_UNREACHABLE);
}

static void nobody_listens(void **state) {
    struct fixture *fixture = *state;
    session_close(fixture->session);
    fixture->session = NULL;
    fake_gateway_free(fixture->fake);
    fixture->fake = NULL;
    assert_int_equal(session_open(&fixture->session, &fixture->options), SK_ENET);
    fixture->options.gateway = "no address";
    assert_int_equal(session_open(&fixture->session, &fixture->options), SK_ECONFIG);
}

static void lines_run_in_order(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 1, FAKE_ECHO);
    int code =
        run_input(fixture, "SET a 1\n\n  # a comment\nMGET 'x y' \"\\x01\"\nGET \"open\nDEL k", false, false);
    assert_int_equal(code, EXIT_ERROR_ANSWER);
    assert_string_equal(fixture->out,
                        "OK\n1) \"x y\"\n2) \"\\x01\"\n(error) BADREQUEST a quote is not closed\nOK\n");
    assert_int_equal(count_requests(fixture), 3);
}

static void a_batch_is_one_request(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_BATCH);
    assert_int_equal(run_input(fixture, "SET a 1\nINCR b\n", true, true), EXIT_ERROR_ANSWER);
    assert_string_equal(fixture->out, "OK\n(error) BADVALUE no integer\n");
    assert_int_equal(count_requests(fixture), 1);
    struct fake_request request = request_at(fixture, 0);
    static const char params[] = "\x92\x92\xa3SET\x92\xc4\x01"
                                 "a\xc4\x01"
                                 "1\x92\xa4INCR\x91\xc4\x01"
                                 "b";
    assert_true(slice_equal(request.method, slice_of_text("batch")));
    assert_true(slice_equal(request.params, slice_of(params, sizeof params - 1)));
    assert_true(slice_equal(option_of(request.options, "atomic"), slice_of_text("\xc3")));
    assert_int_equal(option_of(request.options, "id").size, 18);
}

static void a_batch_of_reads_has_no_id(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_BATCH);
    run_input(fixture, "GET a\nGET b\n", true, false);
    assert_int_equal(option_of(request_at(fixture, 0).options, "id").size, 0);
    assert_int_equal(option_of(request_at(fixture, 0).options, "atomic").size, 0);
}

static void a_batch_answer_of_another_length_is_malformed(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_BATCH);
    assert_int_equal(run_input(fixture, "GET a\nGET b\nGET c\n", true, false), EXIT_ERROR_ANSWER);
    assert_string_equal(fixture->out, "(error) INTERNAL the gateway's answer is malformed\n");
}

/* More commands than a message may hold go in several. */
static void a_long_batch_is_cut(void **state) {
    struct fixture *fixture = *state;
    set_deed(fixture, 0, FAKE_REFUSE);
    set_deed(fixture, 1, FAKE_REFUSE);
    char *text = malloc(10001 * 6 + 1);
    for (size_t i = 0; i < 10001; i++) memcpy(text + i * 6, "GET k\n", 6);
    text[10001 * 6] = 0;
    assert_int_equal(run_input(fixture, text, true, false), EXIT_ERROR_ANSWER);
    free(text);
    assert_int_equal(count_requests(fixture), 2);
    static const char one[] = "\x91\x92\xa3GET\x91\xc4\x01k";
    assert_true(slice_equal(request_at(fixture, 1).params, slice_of(one, sizeof one - 1)));
}

static void an_unclosed_quote_stops_a_batch(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(run_input(fixture, "SET a 1\nSET \"b 2\n", true, false), EXIT_ERROR_ANSWER);
    assert_int_equal(count_requests(fixture), 0);
}

static void replies_are_checked(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {{"", 0},
               {"\x94\x01\x07\xc0", 4},
               {"\x93\x01\x07\xc0", 4},
               {"\x94\x00\x07\xc0\xc0", 5},
               {"\x94\x01\x08\xc0\xc0", 5},
               {"\x94\x01\x07\xc0\xc0\xc0", 6},
               {"\x94\x01\x07\x91\xa1x\xc0", 7},
               {"\x94\x01\x07\xa1x\xc0", 6},
               {"\x94\x01\x07\x92\x01\x02\xc0", 7}};
    struct client_reply reply;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(client_read_reply(slice_of(bad[i].bytes, bad[i].size), 7, &reply), SK_EPROTO);
    assert_int_equal(client_read_reply(slice_of("\x94\x01\x07\xc0\x05", 5), 7, &reply), SK_OK);
    assert_false(reply.failed);
    assert_int_equal(reply.result.size, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_have_fresh_ids_and_reads_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(params_are_bin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nil_is_nil_only_in_cas_and_unquoted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(options_are_sent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_connection_repeats_under_the_same_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads_are_repeated_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_write_without_id_is_never_repeated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repeating_ends_at_the_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_waits_has_its_time_besides, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unknown_commands_may_be_writes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_error_answer_is_printed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(malformed_answers_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_gateway_gone_for_good_is_unreachable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobody_listens, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_run_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_is_one_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_given_id_names_each_write_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_id_is_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_of_reads_has_no_id, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_batch_answer_of_another_length_is_malformed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_batch_is_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unclosed_quote_stops_a_batch, set_up, tear_down),
        cmocka_unit_test(replies_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
