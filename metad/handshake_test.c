/* Two sides that talk by memory alone, and what strangers may try on each. */
#include "metad/handshake.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

struct pair {
    struct handshake_key dialer_key, acceptor_key;
    struct handshake_server dialer_server, acceptor_server;
    enum handshake_purpose purpose;
    uint64_t wanted;
    struct handshake dialer, acceptor;
    struct slice hello, reply, proof, verdict; /* as they were said */
};

static struct handshake_server server_of(uint64_t id) {
    struct handshake_server server = {.id = id, .cluster = 77, .last_index = 1000 + id, .peers = 5 * id};
    (void)snprintf(server.name, sizeof server.name, "host%llu:7101", (unsigned long long)id);
    return server;
}

/* Server 1 calls server 2 and wants it. */
static struct pair pair_of(void) {
    struct pair pair = {
        .dialer_server = server_of(1), .acceptor_server = server_of(2), .purpose = HANDSHAKE_RAFT, .wanted = 2};
    assert_int_equal(handshake_key_init(&pair.dialer_key, slice_of_text("secret")), SK_OK);
    assert_int_equal(handshake_key_init(&pair.acceptor_key, slice_of_text("secret")), SK_OK);
    return pair;
}

static void begin(struct pair *pair) {
    handshake_begin_dialer(&pair->dialer, &pair->dialer_key, &pair->dialer_server, pair->purpose, pair->wanted,
                           &pair->hello);
    handshake_begin_acceptor(&pair->acceptor, &pair->acceptor_key, &pair->acceptor_server);
    assert_int_equal(pair->hello.size, HANDSHAKE_HELLO_BYTES);
    assert_null(handshake_other(&pair->dialer));
    assert_null(handshake_other(&pair->acceptor));
}

/* Until the acceptor has to decide. */
static void talk(struct pair *pair) {
    struct slice nothing;
    begin(pair);
    assert_int_equal(handshake_feed(&pair->acceptor, pair->hello, &pair->reply), SK_RETRY);
    assert_int_equal(pair->reply.size, HANDSHAKE_REPLY_BYTES);
    assert_null(handshake_other(&pair->acceptor));
    assert_int_equal(handshake_feed(&pair->dialer, pair->reply, &pair->proof), SK_RETRY);
    assert_int_equal(pair->proof.size, HANDSHAKE_PROOF_BYTES);
    assert_int_equal(handshake_feed(&pair->acceptor, pair->proof, &nothing), SK_OK);
    assert_int_equal(nothing.size, 0);
}

static void assert_same_server(const struct handshake_server *server, const struct handshake_server *expected) {
    assert_non_null(server);
    assert_true(server->id == expected->id);
    assert_true(server->cluster == expected->cluster);
    assert_true(server->last_index == expected->last_index);
    assert_true(server->peers == expected->peers);
    assert_string_equal(server->name, expected->name);
}

/* Both sides come to `err`, and each knows the other. */
static void assert_end(struct pair *pair, bool is_member, int err) {
    struct slice nothing;
    talk(pair);
    assert_int_equal(handshake_purpose(&pair->acceptor), pair->purpose);
    assert_int_equal(handshake_decide(&pair->acceptor, is_member, &pair->verdict), err);
    assert_int_equal(pair->verdict.size, HANDSHAKE_VERDICT_BYTES);
    assert_int_equal(handshake_feed(&pair->dialer, pair->verdict, &nothing), err);
    assert_int_equal(nothing.size, 0);
    assert_same_server(handshake_other(&pair->dialer), &pair->acceptor_server);
    assert_same_server(handshake_other(&pair->acceptor), &pair->dialer_server);
    assert_true((handshake_reason(&pair->dialer)[0] == 0) == (err == SK_OK));
    assert_string_equal(handshake_reason(&pair->dialer), handshake_reason(&pair->acceptor));
}

static void two_servers_meet(void **state) {
    (void)state;
    struct pair pair = pair_of();
    assert_end(&pair, true, SK_OK);
    pair.wanted = 0;
    assert_end(&pair, true, SK_OK);
    pair.purpose = HANDSHAKE_ASK;
    assert_end(&pair, false, SK_OK);
}

static void what_stood_in_the_name_before_is_not_said(void **state) {
    (void)state;
    struct pair pair = pair_of();
    memset(pair.dialer_server.name, 'x', sizeof pair.dialer_server.name);
    (void)snprintf(pair.dialer_server.name, sizeof pair.dialer_server.name, "short:1");
    assert_end(&pair, true, SK_OK);
}

static void who_is_not_wanted_is_known_all_the_same(void **state) {
    (void)state;
    struct pair pair = pair_of();
    pair.wanted = 3;
    assert_end(&pair, true, SK_NOT_FOUND);
}

static void another_cluster_is_told(void **state) {
    (void)state;
    struct pair pair = pair_of();
    pair.dialer_server.cluster = 78;
    assert_end(&pair, true, SK_CONFLICT);
    pair.purpose = HANDSHAKE_ASK;
    assert_end(&pair, true, SK_CONFLICT);
    pair.dialer_server.cluster = 0; /* it knows none yet */
    assert_end(&pair, true, SK_OK);
    pair = pair_of();
    pair.acceptor_server.cluster = 0;
    assert_end(&pair, true, SK_OK);
}

static void who_is_no_member_is_not_heard(void **state) {
    (void)state;
    struct pair pair = pair_of();
    assert_end(&pair, false, SK_REMOVED);
}

static void a_server_may_ask_itself_and_not_send_to_itself(void **state) {
    (void)state;
    struct pair pair = pair_of();
    pair.dialer_server = pair.acceptor_server;
    assert_end(&pair, true, SK_NOT_FOUND);
    pair.purpose = HANDSHAKE_ASK;
    pair.wanted = 0;
    assert_end(&pair, true, SK_OK);
}

static void another_secret_is_noticed_by_both(void **state) {
    (void)state;
    struct pair pair = pair_of();
    assert_int_equal(handshake_key_init(&pair.acceptor_key, slice_of_text("secrets")), SK_OK);
    begin(&pair);
    assert_int_equal(handshake_feed(&pair.acceptor, pair.hello, &pair.reply), SK_RETRY);
    assert_int_equal(handshake_feed(&pair.dialer, pair.reply, &pair.proof), SK_EPROTO);
    assert_int_equal(pair.proof.size, 0);
    assert_null(handshake_other(&pair.dialer));
    assert_non_null(strstr(handshake_reason(&pair.dialer), "another secret"));
    assert_non_null(strstr(handshake_reason(&pair.acceptor), "another secret")); /* if it ends now */
    uint8_t guessed[HANDSHAKE_PROOF_BYTES] = {0};
    assert_int_equal(handshake_feed(&pair.acceptor, slice_of(guessed, sizeof guessed), &pair.verdict), SK_EPROTO);
    assert_int_equal(pair.verdict.size, 0);
    assert_null(handshake_other(&pair.acceptor));
}

/* However the bytes are cut, the same comes out. */
static int feed_bytewise(struct handshake *handshake, struct slice bytes, struct slice *say) {
    int err = SK_RETRY;
    for (size_t i = 0; i < bytes.size; i++) {
        assert_int_equal(err, SK_RETRY);
        err = handshake_feed(handshake, slice_of(bytes.data + i, 1), say);
        if (i + 1 < bytes.size) assert_int_equal(say->size, 0);
    }
    return err;
}

static void bytes_may_come_one_by_one(void **state) {
    (void)state;
    struct pair pair = pair_of();
    begin(&pair);
    struct slice nothing;
    assert_int_equal(handshake_feed(&pair.acceptor, slice_of(NULL, 0), &nothing), SK_RETRY);
    assert_int_equal(feed_bytewise(&pair.acceptor, pair.hello, &pair.reply), SK_RETRY);
    assert_int_equal(feed_bytewise(&pair.dialer, pair.reply, &pair.proof), SK_RETRY);
    assert_int_equal(feed_bytewise(&pair.acceptor, pair.proof, &nothing), SK_OK);
    assert_int_equal(handshake_decide(&pair.acceptor, true, &pair.verdict), SK_OK);
    assert_int_equal(feed_bytewise(&pair.dialer, pair.verdict, &nothing), SK_OK);
}

/* The proofs cover every byte: each of them changed is an error, and nothing is proved by it. */
static void no_byte_can_be_changed_on_the_way(void **state) {
    (void)state;
    for (size_t i = 0; i < HANDSHAKE_HELLO_BYTES; i++) {
        struct pair pair = pair_of();
        uint8_t hello[HANDSHAKE_HELLO_BYTES];
        begin(&pair);
        memcpy(hello, pair.hello.data, sizeof hello);
        hello[i] ^= 1;
        int err = handshake_feed(&pair.acceptor, slice_of(hello, sizeof hello), &pair.reply);
        if (err == SK_RETRY) err = handshake_feed(&pair.dialer, pair.reply, &pair.proof);
        assert_int_equal(err, i >= 8 && i < 12 ? SK_EVERSION : SK_EPROTO);
        assert_null(handshake_other(&pair.dialer));
        assert_null(handshake_other(&pair.acceptor));
    }
    for (size_t i = 0; i < HANDSHAKE_REPLY_BYTES; i++) {
        struct pair pair = pair_of();
        uint8_t reply[HANDSHAKE_REPLY_BYTES];
        begin(&pair);
        assert_int_equal(handshake_feed(&pair.acceptor, pair.hello, &pair.reply), SK_RETRY);
        memcpy(reply, pair.reply.data, sizeof reply);
        reply[i] ^= 1;
        assert_int_equal(handshake_feed(&pair.dialer, slice_of(reply, sizeof reply), &pair.proof),
                         i >= 8 && i < 12 ? SK_EVERSION : SK_EPROTO);
        assert_null(handshake_other(&pair.dialer));
    }
    for (size_t i = 0; i < HANDSHAKE_PROOF_BYTES; i++) {
        struct pair pair = pair_of();
        struct slice nothing;
        uint8_t proof[HANDSHAKE_PROOF_BYTES];
        begin(&pair);
        assert_int_equal(handshake_feed(&pair.acceptor, pair.hello, &pair.reply), SK_RETRY);
        assert_int_equal(handshake_feed(&pair.dialer, pair.reply, &pair.proof), SK_RETRY);
        memcpy(proof, pair.proof.data, sizeof proof);
        proof[i] ^= 1;
        assert_int_equal(handshake_feed(&pair.acceptor, slice_of(proof, sizeof proof), &nothing), SK_EPROTO);
        assert_null(handshake_other(&pair.acceptor));
    }
}

static void what_was_heard_once_cannot_be_said_again(void **state) {
    (void)state;
    struct pair heard = pair_of(), pair = pair_of();
    struct slice nothing;
    talk(&heard);
    begin(&pair);
    assert_int_equal(handshake_feed(&pair.acceptor, heard.hello, &pair.reply), SK_RETRY);
    assert_int_equal(handshake_feed(&pair.acceptor, heard.proof, &nothing), SK_EPROTO);
    assert_int_equal(handshake_feed(&pair.dialer, heard.reply, &nothing), SK_EPROTO);
}

/* A server's own words are no proof to it: neither as the other's, nor in the other's role. */
static void words_cannot_be_sent_back(void **state) {
    (void)state;
    struct pair pair = pair_of();
    struct slice nothing;
    begin(&pair);
    assert_int_equal(handshake_feed(&pair.acceptor, pair.hello, &pair.reply), SK_RETRY);
    struct slice proof = slice_of(pair.reply.data + HANDSHAKE_SIGNED_BYTES, HANDSHAKE_PROOF_BYTES);
    assert_int_equal(handshake_feed(&pair.acceptor, proof, &nothing), SK_EPROTO);
    uint8_t hello[HANDSHAKE_REPLY_BYTES] = {0};
    memcpy(hello, pair.hello.data, pair.hello.size);
    assert_int_equal(handshake_feed(&pair.dialer, slice_of(hello, sizeof hello), &nothing), SK_EPROTO);
    assert_null(handshake_other(&pair.dialer));
}

/* What comes from a stranger instead of a HELLO, `size` bytes of it. */
static int greet(const uint8_t *bytes, size_t size, struct slice *say) {
    static struct pair pair;
    pair = pair_of();
    begin(&pair);
    return handshake_feed(&pair.acceptor, slice_of(bytes, size), say);
}

static void strangers_get_no_answer(void **state) {
    (void)state;
    struct slice say;
    static const uint8_t http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    static const uint8_t raft[24] = {1, [8] = 1, [16] = 16}; /* libraft's own greeting */
    uint8_t zeros[1024] = {0};
    assert_int_equal(greet(http, sizeof http - 1, &say), SK_EPROTO);
    assert_int_equal(say.size, 0);
    assert_int_equal(greet(raft, sizeof raft, &say), SK_EPROTO);
    assert_int_equal(say.size, 0);
    assert_int_equal(greet(zeros, sizeof zeros, &say), SK_EPROTO);
    assert_int_equal(say.size, 0);
    assert_int_equal(greet(zeros, 11, &say), SK_RETRY);
    assert_int_equal(say.size, 0);
}

#define PURPOSE_AT HANDSHAKE_HEAD_BYTES
#define ID_AT      (HANDSHAKE_HEAD_BYTES + 12)
#define NAME_AT    (ID_AT + 32)

static int greet_changed(size_t at, const void *bytes, size_t size) {
    struct pair pair = pair_of();
    struct slice say;
    uint8_t hello[HANDSHAKE_HELLO_BYTES];
    begin(&pair);
    memcpy(hello, pair.hello.data, sizeof hello);
    memcpy(hello + at, bytes, size);
    int err = greet(hello, sizeof hello, &say);
    assert_int_equal(say.size, err == SK_RETRY ? HANDSHAKE_REPLY_BYTES : 0);
    return err;
}

static void malformed_fields_are_refused(void **state) {
    (void)state;
    static const uint8_t zeros[HANDSHAKE_NAME_BYTES], purpose[4] = {0, 0, 0, 2};
    uint8_t longest[HANDSHAKE_NAME_BYTES];
    assert_int_equal(greet_changed(PURPOSE_AT, purpose, sizeof purpose), SK_EPROTO);
    assert_int_equal(greet_changed(ID_AT, zeros, 8), SK_EPROTO);
    assert_int_equal(greet_changed(NAME_AT, zeros, HANDSHAKE_NAME_BYTES), SK_EPROTO);
    assert_int_equal(greet_changed(NAME_AT, "a\nb", 3), SK_EPROTO);
    assert_int_equal(greet_changed(NAME_AT, "a b", 3), SK_EPROTO);
    assert_int_equal(greet_changed(NAME_AT, "a\x7f", 2), SK_EPROTO);
    assert_int_equal(greet_changed(NAME_AT, "a\xc3", 2), SK_EPROTO);
    assert_int_equal(greet_changed(NAME_AT, "a\0b", 3), SK_EPROTO); /* something behind the end */
    memset(longest, 'a', sizeof longest);
    assert_int_equal(greet_changed(NAME_AT, longest, sizeof longest), SK_EPROTO); /* no end */
    longest[sizeof longest - 1] = 0;
    assert_int_equal(greet_changed(NAME_AT, longest, sizeof longest), SK_RETRY);
}

/* Both sides can tell, whichever of them is the newer. */
static void another_version_is_told_apart(void **state) {
    (void)state;
    struct pair pair = pair_of();
    struct slice say, nothing;
    uint8_t head[HANDSHAKE_HEAD_BYTES];
    begin(&pair);
    memcpy(head, pair.hello.data, sizeof head);
    head[11] = 9;
    assert_int_equal(greet(head, sizeof head, &say), SK_EVERSION);
    assert_int_equal(say.size, HANDSHAKE_HEAD_BYTES);
    assert_memory_equal(say.data, pair.hello.data, HANDSHAKE_HEAD_BYTES); /* its own */
    assert_int_equal(handshake_feed(&pair.dialer, slice_of(head, sizeof head), &nothing), SK_EVERSION);
    assert_int_equal(nothing.size, 0);
    head[0] ^= 1; /* magic first */
    assert_int_equal(greet(head, sizeof head, &say), SK_EPROTO);
}

static void more_than_a_message_is_refused(void **state) {
    (void)state;
    struct pair pair = pair_of();
    struct slice say;
    uint8_t bytes[HANDSHAKE_PROOF_BYTES + 1] = {0};
    begin(&pair);
    assert_int_equal(handshake_feed(&pair.acceptor, pair.hello, &pair.reply), SK_RETRY);
    assert_int_equal(handshake_feed(&pair.dialer, pair.reply, &pair.proof), SK_RETRY);
    memcpy(bytes, pair.proof.data, HANDSHAKE_PROOF_BYTES);
    assert_int_equal(handshake_feed(&pair.acceptor, slice_of(bytes, sizeof bytes), &say), SK_EPROTO);
    assert_non_null(handshake_other(&pair.acceptor));
    assert_int_equal(handshake_feed(&pair.dialer, slice_of(bytes + HANDSHAKE_PROOF_BYTES, 1), &say), SK_OK);
    assert_int_equal(handshake_feed(&pair.dialer, slice_of(bytes, 1), &say), SK_EPROTO);
}

static int hear_verdict(struct pair *pair, uint8_t verdict) {
    struct slice say;
    talk(pair);
    return handshake_feed(&pair->dialer, slice_of(&verdict, 1), &say);
}

static void only_known_verdicts_count(void **state) {
    (void)state;
    struct pair pair = pair_of();
    assert_int_equal(hear_verdict(&pair, 0), SK_OK);
    assert_int_equal(hear_verdict(&pair, SK_CONFLICT), SK_CONFLICT);
    assert_int_equal(hear_verdict(&pair, 1), SK_EPROTO);
    assert_int_equal(hear_verdict(&pair, 255), SK_EPROTO);
    pair.wanted = 3; /* "taken" by who is not wanted */
    assert_int_equal(hear_verdict(&pair, 0), SK_NOT_FOUND);
}

static void keys_are_wiped(void **state) {
    (void)state;
    static const struct handshake_key zeros;
    struct handshake_key key, other;
    assert_int_equal(handshake_key_init(&key, slice_of_text("a")), SK_OK);
    assert_int_equal(handshake_key_init(&other, slice_of_text("b")), SK_OK);
    assert_memory_not_equal(&key, &other, sizeof key);
    handshake_key_deinit(&key);
    assert_memory_equal(&key, &zeros, sizeof key);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_servers_meet),
        cmocka_unit_test(what_stood_in_the_name_before_is_not_said),
        cmocka_unit_test(who_is_not_wanted_is_known_all_the_same),
        cmocka_unit_test(another_cluster_is_told),
        cmocka_unit_test(who_is_no_member_is_not_heard),
        cmocka_unit_test(a_server_may_ask_itself_and_not_send_to_itself),
        cmocka_unit_test(another_secret_is_noticed_by_both),
        cmocka_unit_test(bytes_may_come_one_by_one),
        cmocka_unit_test(no_byte_can_be_changed_on_the_way),
        cmocka_unit_test(what_was_heard_once_cannot_be_said_again),
        cmocka_unit_test(words_cannot_be_sent_back),
        cmocka_unit_test(strangers_get_no_answer),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(another_version_is_told_apart),
        cmocka_unit_test(more_than_a_message_is_refused),
        cmocka_unit_test(only_known_verdicts_count),
        cmocka_unit_test(keys_are_wiped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
