/* Two sessions at the ends of a pair of sockets; each is called until it has to wait. */
#include "tls_session.h"

#include "error.h"
#include "testing_tls.h"
#include "tls_guard.h"

#include <errno.h>
#include <sys/socket.h>

enum { CALLER, CALLED, SIDES };

#define STEPS_MAX 100 /* of a handshake, that it takes with a socket that keeps everything */

struct pair {
    struct tls_context *contexts[SIDES];
    struct tls_session *sessions[SIDES];
    int fds[SIDES];
};

static void pair_open(struct pair *pair, const char *const names[SIDES], const char *const cas[SIDES],
                      const char *server) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair->fds), 0);
    for (int i = 0; i < SIDES; i++) {
        struct tls *tls = read_tls(cas[i], names[i]);
        assert_int_equal(tls_context_new(&pair->contexts[i], tls), SK_OK);
        tls_free(tls); /* not needed any more */
        assert_int_equal(
            tls_session_new(&pair->sessions[i], pair->contexts[i], pair->fds[i], i == CALLER ? server : NULL),
            SK_OK);
    }
}

static void pair_open_alike(struct pair *pair) {
    pair_open(pair, (const char *const[]){"node", "node"}, (const char *const[]){"ca", "ca"}, "localhost");
}

static void pair_close(struct pair *pair) {
    for (int i = 0; i < SIDES; i++) {
        tls_session_free(pair->sessions[i], false);
        tls_context_free(pair->contexts[i]);
        assert_int_equal(close(pair->fds[i]), 0);
    }
}

/* Until both have said something else than SK_RETRY. */
static void shake(struct pair *pair, int errs[SIDES]) {
    errs[CALLER] = errs[CALLED] = SK_RETRY;
    for (int step = 0; errs[CALLER] == SK_RETRY || errs[CALLED] == SK_RETRY; step++) {
        assert_true(step < STEPS_MAX);
        int side = step % SIDES;
        if (errs[side] == SK_RETRY) errs[side] = tls_session_handshake(pair->sessions[side]);
    }
}

static void shake_well(struct pair *pair) {
    int errs[SIDES];
    shake(pair, errs);
    assert_int_equal(errs[CALLER], SK_OK);
    assert_int_equal(errs[CALLED], SK_OK);
}

static void write_text(struct tls_session *session, const char *text) {
    size_t taken;
    assert_int_equal(tls_session_write(session, slice_of_text(text), &taken), SK_OK);
    assert_int_equal(taken, strlen(text));
}

static uint8_t room[TLS_SESSION_BYTES];

static void assert_reads(struct tls_session *session, const char *text) {
    size_t size;
    assert_int_equal(tls_session_read(session, room, &size), SK_OK);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(room, text, size);
}

/* ---- tests ---- */

static void both_sides_know_each_other_and_speak(void **state) {
    (void)state;
    struct pair pair;
    size_t size;
    struct tls_guard_counts accepted = tls_guard_accepted(), dialled = tls_guard_dialled();
    pair_open_alike(&pair);
    shake_well(&pair);
    assert_int_equal(tls_guard_accepted().done, accepted.done + 1);
    assert_int_equal(tls_guard_dialled().done, dialled.done + 1);
    assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_RETRY);
    write_text(pair.sessions[CALLER], "there");
    write_text(pair.sessions[CALLED], "back");
    assert_reads(pair.sessions[CALLED], "there");
    assert_reads(pair.sessions[CALLER], "back");
    pair_close(&pair);
    assert_int_equal(tls_guard_accepted().broken, accepted.broken); /* an end later is none of a handshake */
}

/* Nothing of it is kept within the session. */
static void a_whole_record_is_read_at_once(void **state) {
    (void)state;
    static const uint8_t bytes[TLS_SESSION_BYTES * 2] = {1, 2, 3};
    struct pair pair;
    size_t taken, size;
    pair_open_alike(&pair);
    shake_well(&pair);
    assert_int_equal(tls_session_write(pair.sessions[CALLER], slice_of(bytes, sizeof bytes), &taken), SK_OK);
    assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_OK);
    assert_int_equal(size, taken);
    assert_memory_equal(room, bytes, size);
    assert_int_equal(recv(pair.fds[CALLED], room, 1, MSG_PEEK), -1);
    assert_int_equal(errno, EAGAIN);
    pair_close(&pair);
}

static void a_full_socket_is_waited_for(void **state) {
    (void)state;
    static const uint8_t bytes[TLS_SESSION_BYTES];
    struct pair pair;
    size_t taken, size, written = 0, read = 0;
    pair_open_alike(&pair);
    shake_well(&pair);
    struct tls_session *writer = pair.sessions[CALLER];
    int err;
    while ((err = tls_session_write(writer, slice_of(bytes, sizeof bytes), &taken)) == SK_OK) written += taken;
    assert_int_equal(err, SK_RETRY);
    assert_true(tls_session_is_full(writer));
    assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_OK);
    read += size;
    while ((err = tls_session_write(writer, slice_of(bytes, sizeof bytes), &taken)) == SK_RETRY) {
        assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_OK);
        read += size;
    }
    assert_int_equal(err, SK_OK);
    assert_false(tls_session_is_full(writer));
    written += taken;
    while (read < written) {
        assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_OK);
        read += size;
    }
    assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_RETRY);
    pair_close(&pair);
}

static void an_end_is_told_with_and_without_a_word(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair;
        size_t size;
        pair_open_alike(&pair);
        shake_well(&pair);
        write_text(pair.sessions[CALLER], "last words");
        if (i == 0) tls_session_finish(pair.sessions[CALLER]);
        if (i == 1) assert_int_equal(shutdown(pair.fds[CALLER], SHUT_WR), 0);
        assert_reads(pair.sessions[CALLED], "last words");
        assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_ENET);
        pair_close(&pair);
    }
}

static void a_write_to_one_who_has_gone_fails(void **state) {
    (void)state;
    struct pair pair;
    size_t taken;
    pair_open_alike(&pair);
    shake_well(&pair);
    assert_int_equal(shutdown(pair.fds[CALLED], SHUT_RDWR), 0);
    assert_int_equal(tls_session_write(pair.sessions[CALLER], slice_of_text("words"), &taken), SK_ENET);
    assert_false(tls_session_is_full(pair.sessions[CALLER]));
    pair_close(&pair);
}

static void what_was_not_sent_so_is_refused(void **state) {
    (void)state;
    struct pair pair;
    size_t size;
    pair_open_alike(&pair);
    shake_well(&pair);
    write_text(pair.sessions[CALLER], "words");
    ssize_t sealed = recv(pair.fds[CALLED], room, sizeof room, 0);
    assert_true(sealed > 5);
    room[sealed - 1] ^= 1;
    assert_int_equal(send(pair.fds[CALLER], room, (size_t)sealed, 0), sealed);
    assert_int_equal(tls_session_read(pair.sessions[CALLED], room, &size), SK_EPROTO);
    pair_close(&pair);
}

static void certificates_that_do_not_fit_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *names[SIDES], *cas[SIDES], *server;
    } cases[] = {
        {{"node", "other"}, {"ca", "ca"}, "localhost"},    /* who is called is of another CA */
        {{"other", "node"}, {"ca", "ca"}, "localhost"},    /* who calls is */
        {{"node", "stranger"}, {"ca", "ca"}, "localhost"}, /* for another name */
        {{"node", "node"}, {"ca", "ca"}, "elsewhere.example"}, {{"node", "node"}, {"ca", "other-ca"}, "localhost"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct pair pair;
        int errs[SIDES];
        struct tls_guard_counts accepted = tls_guard_accepted(), dialled = tls_guard_dialled();
        pair_open(&pair, cases[i].names, cases[i].cas, cases[i].server);
        shake(&pair, errs);
        assert_int_equal(errs[CALLER], SK_EPROTO);
        assert_int_equal(errs[CALLED], SK_EPROTO);
        pair_close(&pair);
        assert_int_equal(tls_guard_accepted().refused, accepted.refused + 1);
        assert_int_equal(tls_guard_dialled().refused, dialled.refused + 1);
        assert_int_equal(tls_guard_accepted().broken, accepted.broken);
        assert_int_equal(tls_guard_dialled().broken, dialled.broken);
    }
}

static void a_handshake_that_ends_is_counted_by_how(void **state) {
    (void)state;
    struct tls_guard_counts before = tls_guard_accepted();
    struct pair pair;
    pair_open_alike(&pair);
    assert_int_equal(send(pair.fds[CALLER], "plain", 5, 0), 5);
    assert_int_equal(tls_session_handshake(pair.sessions[CALLED]), SK_EPROTO);
    pair_close(&pair);
    assert_int_equal(tls_guard_accepted().refused, before.refused + 1);

    pair_open_alike(&pair);
    assert_int_equal(tls_session_handshake(pair.sessions[CALLED]), SK_RETRY);
    assert_int_equal(shutdown(pair.fds[CALLER], SHUT_RDWR), 0);
    assert_int_equal(tls_session_handshake(pair.sessions[CALLED]), SK_ENET);
    pair_close(&pair);
    assert_int_equal(tls_guard_accepted().broken, before.broken + 1);

    pair_open_alike(&pair);
    assert_int_equal(tls_session_handshake(pair.sessions[CALLED]), SK_RETRY);
    tls_session_free(pair.sessions[CALLED], true);
    pair.sessions[CALLED] = NULL;
    pair_close(&pair);
    assert_int_equal(tls_guard_accepted().timed_out, before.timed_out + 1);
    assert_int_equal(tls_guard_accepted().refused, before.refused + 1);
}

static void a_name_that_is_too_long_is_refused(void **state) {
    (void)state;
    struct tls *tls = read_tls("ca", "node");
    struct tls_context *context;
    struct tls_session *session;
    char name[400];
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(tls_context_new(&context, tls), SK_OK);
    assert_int_equal(tls_session_new(&session, context, 0, name), SK_ECONFIG);
    tls_context_free(context);
    tls_free(tls);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_know_each_other_and_speak),
        cmocka_unit_test(a_whole_record_is_read_at_once),
        cmocka_unit_test(a_full_socket_is_waited_for),
        cmocka_unit_test(an_end_is_told_with_and_without_a_word),
        cmocka_unit_test(a_write_to_one_who_has_gone_fails),
        cmocka_unit_test(what_was_not_sent_so_is_refused),
        cmocka_unit_test(certificates_that_do_not_fit_are_refused),
        cmocka_unit_test(a_handshake_that_ends_is_counted_by_how),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
