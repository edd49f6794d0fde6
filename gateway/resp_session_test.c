#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/resp_session.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/secret.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct fixture {
    struct tokens *tokens;
    struct resp_host host;
    struct resp_session session;
    struct resp_reader reader;
    struct resp_command *command;
    struct resp_batch batch;
    struct buffer out;
    struct resp_choice killed; /* the last choice of CLIENT KILL */
    uint32_t unauthorized;
    uint64_t room; /* for what waits for EXEC */
    char told[8192];
};

/* --- host ---------------------------------------------------------------------------------------------------- */

static void list_cb(void *arg, const struct resp_session *self, const struct resp_choice *choice,
                    struct buffer *out) {
    (void)arg;
    char line[64];
    int size =
        snprintf(line, sizeof line, "id=%" PRIu64 " asked=%d\n", self->id, choice == NULL ? -1 : (int)choice->id);
    buffer_append(out, line, (size_t)size);
}

static uint32_t kill_cb(void *arg, struct resp_session *self, const struct resp_choice *choice) {
    struct fixture *fixture = arg;
    (void)self;
    fixture->killed = *choice;
    return choice->id == 9 || slice_equal(choice->address, slice_of_text("1.2.3.4:5")) ? 1 : 0;
}

static bool has_room_cb(void *arg, const struct resp_session *self, uint64_t bytes) {
    (void)self;
    const struct fixture *fixture = arg;
    return bytes <= fixture->room;
}

static void unauthorized_cb(void *arg) {
    struct fixture *fixture = arg;
    fixture->unauthorized++;
}

static struct fixture *fixture_new(bool guarded) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    if (guarded) {
        char path[] = "/tmp/resp_session_XXXXXX", text[256];
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "sixteen bytes ok\n", 17), 17);
        (void)close(fd);
        assert_int_equal(tokens_read(&fixture->tokens, "--token-file", path, text, sizeof text), SK_OK);
        (void)unlink(path);
    }
    fixture->host = (struct resp_host){.tokens = fixture->tokens,
                                       .arg = fixture,
                                       .list_cb = list_cb,
                                       .kill_cb = kill_cb,
                                       .has_room_cb = has_room_cb,
                                       .unauthorized_cb = unauthorized_cb};
    fixture->room = UINT64_MAX;
    fixture->command = malloc(sizeof *fixture->command);
    assert_non_null(fixture->command);
    resp_session_init(&fixture->session, &fixture->host, 5);
    resp_reader_init(&fixture->reader, MESSAGE_BYTES_MAX);
    resp_batch_init(&fixture->batch);
    return fixture;
}

static int set_up(void **state) {
    *state = fixture_new(false);
    return 0;
}

static int set_up_guarded(void **state) {
    *state = fixture_new(true);
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    resp_session_deinit(&fixture->session);
    resp_reader_deinit(&fixture->reader);
    resp_batch_deinit(&fixture->batch);
    buffer_deinit(&fixture->out);
    tokens_free(fixture->tokens);
    free(fixture->command);
    free(fixture);
    return 0;
}

/* --- telling ------------------------------------------------------------------------------------------------- */

static void tell(char **at, const char *end, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void tell(char **at, const char *end, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(*at, (size_t)(end - *at), format, arguments);
    va_end(arguments);
    assert_true(size >= 0 && size < end - *at);
    *at += size;
}

/* A value as text: [a, b], {k: v}, bins and strs plainly. */
static void tell_value(struct mp_reader *reader, char **at, const char *end) {
    struct mp_value value;
    assert_int_equal(mp_read(reader, &value), SK_OK);
    switch (value.type) {
    case MP_UINT:
        tell(at, end, "%" PRIu64, value.uint);
        return;
    case MP_STR:
    case MP_BIN:
        tell(at, end, "%.*s", (int)value.bytes.size, (const char *)value.bytes.data);
        return;
    case MP_ARRAY:
        tell(at, end, "[");
        for (uint32_t i = 0; i < value.count; i++) {
            if (i > 0) tell(at, end, " ");
            tell_value(reader, at, end);
        }
        tell(at, end, "]");
        return;
    case MP_MAP:
        for (uint32_t i = 0; i < 2 * value.count; i++) {
            tell(at, end, i % 2 == 0 ? "{" : ": ");
            tell_value(reader, at, end);
        }
        tell(at, end, "}");
        return;
    default:
        fail();
    }
}

/* Takes the commands in `lines` (inline, one a line), as far as the batch takes them. How many bytes of them. */
static size_t take(struct fixture *fixture, const char *lines) {
    struct slice rest = slice_of_text(lines);
    size_t taken;
    while (rest.size > 0 && !fixture->batch.full) {
        enum resp_event event = resp_reader_next(&fixture->reader, rest, false, fixture->command, &taken);
        assert_int_equal(event, RESP_COMMAND);
        if (!resp_session_take(&fixture->session, fixture->command, &fixture->batch)) break;
        rest = slice_of(rest.data + taken, rest.size - taken);
    }
    return strlen(lines) - rest.size;
}

/* The message of the batch as text. */
static const char *message(struct fixture *fixture) {
    char *at = fixture->told;
    struct mp_reader reader = mp_reader_of(resp_batch_seal(&fixture->batch, fixture->session.follower_reads));
    tell_value(&reader, &at, fixture->told + sizeof fixture->told);
    assert_int_equal(mp_left(&reader), 0);
    return fixture->told;
}

/* The replies, when the contract's is [1, 0, nil, <results>]; the batch is cleared. */
static const char *replies(struct fixture *fixture, const char *results, size_t size) {
    struct buffer reply;
    buffer_init(&reply);
    buffer_append(&reply, "\x94\x01\x00\xc0", 4);
    buffer_append(&reply, results, size);
    buffer_clear(&fixture->out, 65536);
    assert_int_equal(resp_session_answer(&fixture->session, &fixture->batch, buffer_slice(&reply), &fixture->out),
                     SK_OK);
    buffer_append(&fixture->out, "", 1);
    buffer_deinit(&reply);
    resp_batch_clear(&fixture->batch);
    return (const char *)fixture->out.data;
}

#define REPLIES(fixture, results) replies(fixture, results, sizeof results - 1)

/* What commands are answered that go to no shard. */
static const char *say(struct fixture *fixture, const char *lines) {
    assert_int_equal(take(fixture, lines), strlen(lines));
    assert_int_equal(fixture->batch.commands, 0);
    return replies(fixture, "", 0);
}

/* --- commands ------------------------------------------------------------------------------------------------ */

static void commands_go_on_in_one_message(void **state) {
    struct fixture *fixture = *state;
    (void)take(fixture, "SET k v\nPING\nget k\nFOO a\nGET\nECHO hi\n");
    assert_int_equal(fixture->batch.commands, 2);
    assert_string_equal(message(fixture), "[0 0 batch [[SET [k v]] [get [k]]]]");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\xa2OK\x92\xc0\xc4\x01v"),
                        "+OK\r\n+PONG\r\n$1\r\nv\r\n-ERR unknown command 'FOO', with args beginning with: 'a' \r\n"
                        "-ERR wrong number of arguments for 'get' command\r\n$2\r\nhi\r\n");
}

static void errors_stand_in_their_place(void **state) {
    struct fixture *fixture = *state;
    (void)take(fixture, "GET a\nINCR b\n");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\xc0\x92\x92\xa8"
                                         "BADVALUE\xa4text\xc0"),
                        "$-1\r\n-ERR text\r\n");
    /* the whole message is refused */
    (void)take(fixture, "GET a\nPING\nGET b\n");
    buffer_clear(&fixture->out, 65536);
    static const char refused[] = "\x94\x01\x00\x92\xaaOVERLOADED\xa3too\xc0";
    assert_int_equal(resp_session_answer(&fixture->session, &fixture->batch, slice_of(refused, sizeof refused - 1),
                                         &fixture->out),
                     SK_OK);
    buffer_append(&fixture->out, "", 1);
    assert_string_equal(fixture->out.data, "-OVERLOADED too\r\n+PONG\r\n-OVERLOADED too\r\n");
}

static void replies_that_do_not_fit(void **state) {
    struct fixture *fixture = *state;
    const struct slice wrong[] = {slice_of_text(""), slice_of("\x94\x01\x00\xc0\x90", 5),
                                  slice_of("\x94\x01\x00\xc0\x91\x91\xc0", 7), slice_of("\x94\x00\x00\xc0\x90", 5),
                                  slice_of("\x94\x01\x00\x01\xc0", 5)};
    (void)take(fixture, "GET a\nGET b\n");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(resp_session_answer(&fixture->session, &fixture->batch, wrong[i], &fixture->out),
                         SK_EPROTO);
    }
}

/* Reads whose answers are too large together are asked again; writes are not, and what stands alone is too large itself. */
static void what_did_not_fit_is_asked_again(void **state) {
    struct fixture *fixture = *state;
    static const char reply[] = "\x94\x01\x00\xc0\x93\x92\xc0\xa1x\x92\x92\xa8TOOLARGE\xa1t\xc0\x92\xc0\xa1y";
    (void)take(fixture, "ECHO a\nGET a\nECHO b\nGET b\nGET c\nPING\n");
    (void)resp_batch_seal(&fixture->batch, true);
    int err =
        resp_session_answer(&fixture->session, &fixture->batch, slice_of(reply, sizeof reply - 1), &fixture->out);
    assert_int_equal(err, SK_RETRY);
    buffer_append(&fixture->out, "", 1);
    assert_string_equal(fixture->out.data, "$1\r\na\r\n+x\r\n$1\r\nb\r\n");
    fixture->session.follower_reads = true;
    assert_string_equal(message(fixture), "[0 0 batch [[GET [b]] [GET [c]]] {read: follower}]");
    assert_string_equal(REPLIES(fixture, "\x92\x92\x92\xa8TOOLARGE\xa1t\xc0\x92\xc0\xa1y"),
                        "-TOOLARGE t\r\n+y\r\n+PONG\r\n");
    (void)take(fixture, "SET a 1\nGET b\n");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\xa2OK\x92\x92\xa8TOOLARGE\xa1t\xc0"),
                        "+OK\r\n-TOOLARGE t\r\n");
}

static void connection_commands(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(say(fixture, "PING\nPING x\nPING x y\nECHO a\n"),
                        "+PONG\r\n$1\r\nx\r\n-ERR wrong number of arguments for 'ping' command\r\n$1\r\na\r\n");
    assert_string_equal(say(fixture, "SELECT 0\nSELECT 1\nSELECT 00\nSELECT 4294967296\nDEBUG SLEEP 1\n"),
                        "+OK\r\n-ERR DB index is out of range\r\n-ERR value is not an integer or out of range\r\n"
                        "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n-ERR DEBUG "
                        "command not allowed\r\n");
    assert_string_equal(say(fixture, "CONFIG GET save appendonly\n"),
                        "*4\r\n$4\r\nsave\r\n$0\r\n\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n");
    assert_string_equal(say(fixture, "CONFIG GET max*-pol?cy\nCONFIG GET nosuch\nCONFIG GET\n"),
                        "*2\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n*0\r\n"
                        "-ERR wrong number of arguments for 'config|get' command\r\n");
    assert_non_null(strstr(say(fixture, "CONFIG SET save x\n"), "-ERR CONFIG SET is not supported"));
    assert_false(fixture->session.closing);
    assert_string_equal(say(fixture, "QUIT\n"), "+OK\r\n");
    assert_true(fixture->session.closing);
}

static void http_is_not_answered(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(say(fixture, "POST / HTTP/1.1\n"), "");
    assert_true(fixture->session.closing);
}

static void hello_chooses_the_protocol(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(
        say(fixture, "HELLO 4\nHELLO x\nHELLO 3 AUTH a\nHELLO 3 NOSUCH\n"),
        "-NOPROTO unsupported protocol version\r\n"
        "-ERR Protocol version is not an integer or out of range\r\n"
        "-ERR Syntax error in HELLO option 'AUTH'\r\n-ERR Syntax error in HELLO option 'NOSUCH'\r\n");
    assert_int_equal(fixture->session.protocol, RESP2);
    assert_string_equal(
        say(fixture, "HELLO 3 SETNAME me\nCLIENT GETNAME\n"),
        "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n" REDIS_VERSION
        "\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:5\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n"
        "$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n$2\r\nme\r\n");
    /* each reply by the protocol that was spoken when its command came */
    (void)take(fixture, "GET a\nHELLO 2\nGET a\n");
    const char *told = REPLIES(fixture, "\x92\x92\xc0\xc0\x92\xc0\xc0");
    assert_int_equal(strncmp(told, "_\r\n*14\r\n", 8), 0);
    assert_string_equal(told + strlen(told) - 5, "$-1\r\n");
    told = say(fixture, "HELLO 3\nRESET\nCLIENT GETNAME\n");
    assert_int_equal(strncmp(told, "%7\r\n", 4), 0);
    assert_non_null(strstr(told, "+RESET\r\n$-1\r\n"));
    assert_int_equal(fixture->session.protocol, RESP2);
    assert_string_equal(fixture->session.name, "");
}

static void client_commands(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(say(fixture, "CLIENT ID\nCLIENT GETNAME\nCLIENT SETNAME a-b\nCLIENT GETNAME\n"),
                        ":5\r\n$-1\r\n+OK\r\n$3\r\na-b\r\n");
    assert_string_equal(say(fixture, "CLIENT SETNAME \"a b\"\nCLIENT NO-EVICT on\nCLIENT NO-TOUCH maybe\n"),
                        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n+OK\r\n"
                        "-ERR syntax error\r\n");
    assert_string_equal(
        say(fixture, "CLIENT SETINFO LIB-NAME lib\nCLIENT SETINFO LIB-VER 1.2\nCLIENT SETINFO x y\n"),
        "+OK\r\n+OK\r\n-ERR Unrecognized option 'x'\r\n");
    assert_string_equal(fixture->session.library, "lib");
    assert_string_equal(fixture->session.version, "1.2");
    assert_string_equal(say(fixture, "CLIENT INFO\nCLIENT LIST\nCLIENT LIST ID 7 8\nCLIENT LIST TYPE master\n"),
                        "$14\r\nid=5 asked=-1\n\r\n"
                        "$13\r\nid=5 asked=0\n\r\n$26\r\nid=5 asked=7\nid=5 asked=8\n\r\n$0\r\n\r\n");
    assert_string_equal(say(fixture, "CLIENT NOSUCH\nCLIENT LIST ID x\nCLIENT LIST BAD y\nCLIENT KILL\n"),
                        "-ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.\r\n-ERR Invalid client ID\r\n"
                        "-ERR syntax error\r\n-ERR unknown subcommand 'KILL'. Try CLIENT HELP.\r\n");
}

static void client_kill(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(say(fixture, "CLIENT KILL ID 9\n"), ":1\r\n");
    assert_true(fixture->killed.by_id && fixture->killed.skip_self);
    assert_string_equal(say(fixture, "CLIENT KILL ID 8 SKIPME no\n"), ":0\r\n");
    assert_false(fixture->killed.skip_self);
    assert_string_equal(say(fixture, "CLIENT KILL 1.2.3.4:5\n"), "+OK\r\n");
    assert_false(fixture->killed.skip_self);
    assert_string_equal(say(fixture, "CLIENT KILL TYPE pubsub ADDR a\nCLIENT KILL ID 0\nCLIENT KILL ID\n"),
                        ":0\r\n-ERR client-id should be greater than 0\r\n-ERR No such client\r\n");
}

static void replies_can_be_switched_off(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(say(fixture, "CLIENT REPLY SKIP\nPING\nECHO a\n"), "$1\r\na\r\n");
    assert_string_equal(say(fixture, "CLIENT REPLY OFF\nPING\nECHO a\n"), "");
    (void)take(fixture, "GET a\nCLIENT REPLY ON\nGET b\n");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\xa1x\x92\xc0\xa1y"), "+OK\r\n+y\r\n");
    assert_string_equal(say(fixture, "CLIENT REPLY x\n"), "-ERR syntax error\r\n");
}

/* --- proof --------------------------------------------------------------------------------------------------- */

static void strangers_prove_themselves(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(say(fixture, "PING\nGET k\nNOSUCH\nMULTI\n"),
                        "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n"
                        "-NOAUTH Authentication required.\r\n-NOAUTH Authentication required.\r\n");
    assert_string_equal(say(fixture, "AUTH nosuch\nAUTH other \"sixteen bytes ok\"\nAUTH a b c\n"),
                        "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
                        "-WRONGPASS invalid username-password pair or user is disabled.\r\n-ERR syntax error\r\n");
    assert_int_equal(strncmp(say(fixture, "HELLO 3\n"), "-NOAUTH HELLO must be called", 28), 0);
    assert_int_equal(fixture->session.protocol, RESP2);
    assert_string_equal(say(fixture, "HELLO 3 AUTH default wrong\n"),
                        "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
    assert_int_equal(fixture->unauthorized, 8);
    assert_false(fixture->session.proven);
    assert_string_equal(say(fixture, "AUTH \"sixteen bytes ok\"\nPING\n"), "+OK\r\n+PONG\r\n");
    assert_string_equal(say(fixture, "RESET\nPING\n"), "+RESET\r\n-NOAUTH Authentication required.\r\n");
    assert_string_equal(say(fixture, "AUTH default \"sixteen bytes ok\"\n"), "+OK\r\n");
    assert_string_equal(say(fixture, "RESET\n"), "+RESET\r\n");
    assert_int_equal(strncmp(say(fixture, "HELLO 3 AUTH default \"sixteen bytes ok\"\n"), "%7", 2), 0);
    assert_true(fixture->session.proven);
}

static void nobody_has_to(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(strncmp(say(fixture, "AUTH x\n"), "-ERR AUTH <password> called without", 35), 0);
    assert_string_equal(say(fixture, "AUTH default x\n"), "+OK\r\n");
}

/* --- transactions -------------------------------------------------------------------------------------------- */

static void a_transaction_is_one_command(void **state) {
    struct fixture *fixture = *state;
    (void)take(fixture, "MULTI\nSET k v\nECHO hi\nNOSUCH\nEXEC\n");
    assert_string_equal(REPLIES(fixture, ""),
                        "+OK\r\n+QUEUED\r\n+QUEUED\r\n-ERR unknown command 'NOSUCH', with args "
                        "beginning with: \r\n"
                        "-EXECABORT Transaction discarded because of previous errors.\r\n");
    (void)take(fixture, "MULTI\nSET k v\nPING\nINCR k\nEXEC\nGET k\n");
    assert_string_equal(message(fixture), "[0 0 batch [[EXEC [[] [[SET [k v]] [INCR [k]]]]] [GET [k]]]]");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\x92\x92\xc0\xa2OK\x92\x92\xa8"
                                         "BADVALUE\xa3not\xc0\x92\xc0\xc4\x01v"),
                        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+PONG\r\n-ERR not\r\n$1\r\nv\r\n");
    (void)take(fixture, "MULTI\nPING\nINCR k\nEXEC\n");
    assert_string_equal(REPLIES(fixture, "\x91\x92\xc0\x07"),
                        "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n:7\r\n");
    /* refused as a whole, and not done */
    (void)take(fixture, "GET k\nMULTI\nPING\nSET k v\nEXEC\nPING\n");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\xc0\x92\x92\xa9"
                                         "CROSSSLOT\xa3why\xc0"),
                        "$-1\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n-CROSSSLOT why\r\n+PONG\r\n");
}

static void transactions_without_room(void **state) {
    struct fixture *fixture = *state;
    fixture->room = 10;
    assert_string_equal(say(fixture, "MULTI\nSET k v\nSET k longer-than-that\nSET k v\nEXEC\n"),
                        "+OK\r\n+QUEUED\r\n-OVERLOADED too many bytes in flight\r\n+QUEUED\r\n"
                        "-EXECABORT Transaction discarded because of previous errors.\r\n");
}

/* What will not be executed is not kept. */
static void aborted_transactions_keep_nothing(void **state) {
    struct fixture *fixture = *state;
    char line[40000] = "ECHO ";
    memset(line + 5, 'x', sizeof line - 7);
    line[sizeof line - 2] = '\n';
    (void)say(fixture, "MULTI\nNOSUCH\n");
    size_t before = resp_session_bytes(&fixture->session);
    for (int i = 0; i < 4; i++) assert_string_equal(say(fixture, line), "+QUEUED\r\n");
    assert_true(resp_session_bytes(&fixture->session) < before + 20000);
    assert_string_equal(say(fixture, "EXEC\nPING\n"),
                        "-EXECABORT Transaction discarded because of previous errors.\r\n+PONG\r\n");
}

/* With the command at hand, not without it: EXEC has to fit a message. */
static void transactions_have_an_end(void **state) {
    struct fixture *fixture = *state;
    struct slice words[] = {slice_of_text("SET"), slice_of_text("k"), {0}};
    uint8_t *value = calloc(1, VALUE_BYTES_MAX);
    assert_non_null(value);
    (void)say(fixture, "MULTI\n");
    words[2] = slice_of(value, VALUE_BYTES_MAX);
    for (uint32_t i = 0; i < 3; i++) memcpy(&fixture->command->words[i], &words[i], sizeof *words);
    fixture->command->count = 3;
    assert_true(resp_session_take(&fixture->session, fixture->command, &fixture->batch));
    assert_true(resp_session_take(&fixture->session, fixture->command, &fixture->batch));
    free(value);
    assert_string_equal(REPLIES(fixture, ""), "+QUEUED\r\n-TOOLARGE the transaction is too large\r\n");
}

static void transactions_without_shards(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(
        say(fixture, "MULTI\nEXEC\nMULTI\nPING\nSELECT 1\nEXEC\n"),
        "+OK\r\n*0\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+PONG\r\n-ERR DB index is out of range\r\n");
    assert_string_equal(say(fixture, "EXEC\nDISCARD\nMULTI\nMULTI\nWATCH a\nDISCARD\n"),
                        "-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n+OK\r\n"
                        "-ERR MULTI calls can not be nested\r\n-ERR WATCH inside MULTI is not allowed\r\n+OK\r\n");
    assert_string_equal(say(fixture, "MULTI\nDBSIZE\nEXEC\nMULTI\nGET\nEXEC\n"),
                        "+OK\r\n-ERR Command not allowed inside a transaction\r\n"
                        "-EXECABORT Transaction discarded because of previous errors.\r\n+OK\r\n"
                        "-ERR wrong number of arguments for 'get' command\r\n"
                        "-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_string_equal(
        say(fixture, "MULTI\nMSET a 1 b\nEXEC\nMULTI\nEXEC x\nEXEC\n"),
        "+OK\r\n+QUEUED\r\n*1\r\n-ERR wrong number of arguments for 'mset' command\r\n+OK\r\n"
        "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n"
        "-ERR EXEC without MULTI\r\n");
    assert_string_equal(say(fixture, "MULTI\nSET k v\nDISCARD\nMULTI\nEXEC\n"),
                        "+OK\r\n+QUEUED\r\n+OK\r\n+OK\r\n*0\r\n");
}

static void watched_keys_go_with_exec(void **state) {
    struct fixture *fixture = *state;
    static const char lines[] = "GET x\nWATCH a b\nMULTI\nSET a 1\nEXEC\nGET a\n";
    /* what follows waits for the versions */
    assert_int_equal(take(fixture, lines), strlen("GET x\nWATCH a b\n"));
    assert_string_equal(message(fixture), "[0 0 batch [[GET [x]] [VERSION [a]] [VERSION [b]]]]");
    assert_string_equal(REPLIES(fixture, "\x93\x92\xc0\xc0\x92\xc0\x07\x92\xc0\x00"), "$-1\r\n+OK\r\n");
    (void)take(fixture, lines + strlen("GET x\nWATCH a b\n"));
    assert_string_equal(message(fixture), "[0 0 batch [[EXEC [[[a 7] [b 0]] [[SET [a 1]]]]] [GET [a]]]]");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\xc0\x92\xc0\xc0"), "+OK\r\n+QUEUED\r\n*-1\r\n$-1\r\n");
    /* and are forgotten behind it */
    (void)take(fixture, "MULTI\nSET a 1\nEXEC\n");
    assert_string_equal(message(fixture), "[0 0 EXEC [[] [[SET [a 1]]]]]");
    (void)REPLIES(fixture, "\x91\x92\xc0\xa2OK");
    /* nothing but watched keys */
    (void)take(fixture, "WATCH a\n");
    (void)REPLIES(fixture, "\x07");
    (void)take(fixture, "MULTI\nEXEC\n");
    assert_string_equal(message(fixture), "[0 0 EXEC [[[a 7]] []]]");
    assert_string_equal(REPLIES(fixture, "\x90"), "+OK\r\n*0\r\n");
}

/* What waits is a message of its own, and what follows comes after it. */
static void blocking_commands_are_alone(void **state) {
    struct fixture *fixture = *state;
    static const char lines[] = "GET a\nBLPOP q 0\nGET b\n";
    assert_int_equal(take(fixture, lines), strlen("GET a\n"));
    assert_string_equal(message(fixture), "[0 0 GET [a]]");
    (void)REPLIES(fixture, "\xc0");
    assert_int_equal(take(fixture, lines + strlen("GET a\n")), strlen("BLPOP q 0\n"));
    assert_string_equal(message(fixture), "[0 0 BLPOP [q 0]]");
    assert_string_equal(REPLIES(fixture, "\xc0"), "*-1\r\n");
    /* also behind what is answered without a shard, which would not come before it has waited */
    assert_int_equal(take(fixture, "PING\nBLPOP q 0\n"), strlen("PING\n"));
    assert_string_equal(REPLIES(fixture, ""), "+PONG\r\n");
    (void)take(fixture, "BRPOPLPUSH q q 0\n");
    assert_string_equal(REPLIES(fixture, "\xc0"), "*-1\r\n");
    /* in a transaction they do not wait */
    (void)take(fixture, "MULTI\nGET a\nBLPOP q 0\nBRPOPLPUSH q q 0\nEXEC\n");
    assert_string_equal(message(fixture), "[0 0 EXEC [[] [[GET [a]] [BLPOP [q 0]] [BRPOPLPUSH [q q 0]]]]]");
    assert_string_equal(REPLIES(fixture, "\x93\x92\xc0\xc0\x92\xc0\xc0\x92\xc0\xc0"),
                        "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n$-1\r\n*-1\r\n$-1\r\n");
}

static void a_watch_that_fails_watches_nothing(void **state) {
    struct fixture *fixture = *state;
    (void)take(fixture, "WATCH a b\n");
    assert_string_equal(REPLIES(fixture, "\x92\x92\xc0\x07\x92\x92\xabUNAVAILABLE\xa2no\xc0"), "-TRYAGAIN no\r\n");
    assert_int_equal(fixture->session.watched_count, 0);
    assert_int_equal(fixture->session.watched.size, 0);
    (void)take(fixture, "WATCH a\n");
    assert_string_equal(REPLIES(fixture, "\x08"), "+OK\r\n");
    assert_string_equal(say(fixture, "UNWATCH\nMULTI\nEXEC\n"), "+OK\r\n+OK\r\n*0\r\n");
}

/* --- limits -------------------------------------------------------------------------------------------------- */

static void reads_of_followers_are_a_message_of_their_own(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(take(fixture, "GET a\nREADONLY\nGET b\n"), strlen("GET a\n"));
    assert_string_equal(message(fixture), "[0 0 GET [a]]");
    (void)REPLIES(fixture, "\xc0");
    assert_int_equal(take(fixture, "READONLY\nGET b\nREADWRITE\n"), strlen("READONLY\nGET b\n"));
    assert_string_equal(message(fixture), "[0 0 GET [b] {read: follower}]");
    assert_string_equal(REPLIES(fixture, "\xc0"), "+OK\r\n$-1\r\n");
    assert_string_equal(say(fixture, "READWRITE\n"), "+OK\r\n");
}

/* Takes an MSET of so many keys. */
static bool take_many(struct fixture *fixture, uint32_t keys) {
    fixture->command->count = 1 + 2 * keys;
    fixture->command->words[0] = slice_of_text("MSET");
    for (uint32_t i = 1; i <= 2 * keys; i++) fixture->command->words[i] = slice_of_text("w");
    return resp_session_take(&fixture->session, fixture->command, &fixture->batch);
}

static void a_message_has_limits(void **state) {
    struct fixture *fixture = *state;
    assert_true(take_many(fixture, 10000));
    assert_false(take_many(fixture, 1));
    resp_batch_clear(&fixture->batch);
    assert_true(take_many(fixture, 1));
    assert_false(take_many(fixture, 5000));
    resp_batch_clear(&fixture->batch);
    uint32_t count = 0;
    while (take(fixture, "GET key\n") > 0) count++;
    assert_int_equal(count, MESSAGE_COMMANDS_MAX / 2); /* two words each */
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(commands_go_on_in_one_message),
        TEST(errors_stand_in_their_place),
        TEST(replies_that_do_not_fit),
        TEST(what_did_not_fit_is_asked_again),
        TEST(connection_commands),
        TEST(http_is_not_answered),
        TEST(hello_chooses_the_protocol),
        TEST(client_commands),
        TEST(client_kill),
        TEST(replies_can_be_switched_off),
        cmocka_unit_test_setup_teardown(strangers_prove_themselves, set_up_guarded, tear_down),
        TEST(nobody_has_to),
        TEST(a_transaction_is_one_command),
        TEST(transactions_without_room),
        TEST(aborted_transactions_keep_nothing),
        TEST(transactions_have_an_end),
        TEST(transactions_without_shards),
        TEST(blocking_commands_are_alone),
        TEST(watched_keys_go_with_exec),
        TEST(a_watch_that_fails_watches_nothing),
        TEST(reads_of_followers_are_a_message_of_their_own),
        TEST(a_message_has_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
