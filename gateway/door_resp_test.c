/* The door by itself, over TCP on the loopback; the test is the loop, and answers messages when the story wants it. */
#include "gateway/door_resp.h"

#include "gateway/load.h"
#include "gateway/post.h"
#include "gateway/tally.h"
#include "libcommon/clock.h"
#include "libcommon/mp.h"
#include "libcommon/secret.h"
#include "libcommon/testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS      20000u
#define MESSAGES_MAX 16u

struct fixture {
    struct mailbox *mailbox;
    struct load load;
    struct tally tally;
    struct tokens *tokens; /* NULL: none are needed */
    struct door_resp *door;
    struct { /* that came and are not answered */
        struct client *client;
        struct slice bytes;
    } messages[MESSAGES_MAX];
    uint32_t message_count;
};

static void request_cb(void *arg, struct client *client, struct slice bytes, int err) {
    struct fixture *fixture = arg;
    assert_int_equal(err, 0);
    assert_int_equal(client->ops->door, DOOR_RESP);
    assert_true(fixture->message_count < MESSAGES_MAX);
    fixture->messages[fixture->message_count].client = client;
    fixture->messages[fixture->message_count++].bytes = bytes;
}

/* Takes the tokens. */
static struct fixture *fixture_new_guarded(uint32_t requests_max, uint64_t bytes_max, uint32_t connections_max,
                                           struct tokens *tokens) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    char text[200];
    assert_non_null(fixture);
    fixture->tokens = tokens;
    load_init(&fixture->load, bytes_max, connections_max);
    assert_int_equal(mailbox_new(&fixture->mailbox, 64), 0);
    struct door_resp_options options = {
        .mailbox = fixture->mailbox,
        .address = "tcp://127.0.0.1:0",
        .load = &fixture->load,
        .tally = &fixture->tally,
        .tokens = tokens,
        .requests_max = requests_max,
        .message_bytes_max = 1u << 20,
        .connection_bytes_max = 4u << 20,
        .arg = fixture,
        .request_cb = request_cb,
    };
    if (door_resp_open(&fixture->door, &options, text, sizeof text) != 0) fail_msg("%s", text);
    return fixture;
}

static struct fixture *fixture_new(uint32_t requests_max, uint64_t bytes_max, uint32_t connections_max) {
    return fixture_new_guarded(requests_max, bytes_max, connections_max, NULL);
}

static struct tokens *tokens_of(const char *token) {
    char path[] = "/tmp/door_resp_XXXXXX", text[256];
    struct tokens *tokens;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, token, strlen(token)), (ssize_t)strlen(token));
    (void)close(fd);
    assert_int_equal(tokens_read(&tokens, "--token-file", path, text, sizeof text), 0);
    (void)unlink(path);
    return tokens;
}

static void handle_mail(struct fixture *fixture, uint64_t until_us) {
    for (struct mail *mail = mailbox_take(fixture->mailbox, until_us), *next; mail != NULL; mail = next) {
        next = mail->next;
        post_handle(mail);
    }
}

static void fixture_free(struct fixture *fixture) {
    door_resp_close(fixture->door);
    handle_mail(fixture, 0);
    door_resp_free(fixture->door);
    assert_int_equal(atomic_load(&fixture->load.bytes), 0); /* nothing is counted that is not there */
    assert_int_equal(atomic_load(&fixture->load.connections), 0);
    mailbox_free(fixture->mailbox);
    tokens_free(fixture->tokens);
    free(fixture);
}

static int dial(const struct fixture *fixture) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)atoi(strrchr(door_resp_address(fixture->door), ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = WAIT_MS / 1000};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    return fd;
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void expect(int fd, const char *text) {
    char room[4096];
    size_t size = strlen(text);
    assert_int_equal(recv(fd, room, size, MSG_WAITALL), (ssize_t)size);
    room[size] = '\0';
    assert_string_equal(room, text);
}

static void expect_end(int fd) {
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    (void)close(fd);
}

/* Goes for good: a mere close could be half of one, and its replies still wanted. */
static void reset(int fd) {
    struct linger at_once = {.l_onoff = 1};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    (void)close(fd);
}

static void wait_for_messages(struct fixture *fixture, uint32_t count) {
    uint64_t until_us = clock_boottime_us() + WAIT_MS * 1000u;
    while (fixture->message_count < count && clock_boottime_us() < until_us) handle_mail(fixture, until_us);
    assert_int_equal(fixture->message_count, count);
}

/* Answers the only message, of one command, with so many bytes. */
static void answer_bytes(struct fixture *fixture, size_t bytes) {
    struct client *client = fixture->messages[0].client;
    struct buffer reply;
    buffer_init(&reply);
    buffer_append(&reply, "\x94\x01\x00\xc0", 4);
    uint8_t *value = calloc(1, bytes);
    assert_non_null(value);
    mp_write_bin(&reply, slice_of(value, bytes));
    free(value);
    fixture->message_count = 0;
    client->ops->reply(client, buffer_slice(&reply));
    buffer_deinit(&reply);
}

/* Answers message `index` with "OK" for each of its commands, and forgets it. */
static void answer(struct fixture *fixture, uint32_t index, uint32_t commands) {
    struct client *client = fixture->messages[index].client;
    struct buffer reply;
    buffer_init(&reply);
    mp_write_array(&reply, 4);
    mp_write_uint(&reply, 1);
    mp_write_uint(&reply, 0);
    mp_write_nil(&reply);
    if (commands > 1) mp_write_array(&reply, commands);
    for (uint32_t i = 0; i < commands; i++) {
        if (commands > 1) {
            mp_write_array(&reply, 2);
            mp_write_nil(&reply);
        }
        mp_write_text(&reply, "OK");
    }
    fixture->messages[index] = fixture->messages[--fixture->message_count];
    client->ops->reply(client, buffer_slice(&reply));
    buffer_deinit(&reply);
}

static void one_message_is_under_way(void **state) {
    struct fixture *fixture = fixture_new(8, 1u << 26, 10);
    (void)state;
    int fd = dial(fixture), other = dial(fixture);
    say(fd, "GET a\r\n");
    wait_for_messages(fixture, 1);
    say(fd, "PING\r\nGET b\r\nGET c\r\n"); /* gathers behind it */
    say(other, "GET d\r\n");               /* does not */
    wait_for_messages(fixture, 2);
    assert_int_equal(door_resp_in_flight(fixture->door), 2);
    assert_int_equal(door_resp_connections(fixture->door), 2);
    answer(fixture, 1, 1);
    expect(other, "+OK\r\n");
    answer(fixture, 0, 1);
    expect(fd, "+OK\r\n");
    wait_for_messages(fixture, 1);
    struct mp_reader reader = mp_reader_of(fixture->messages[0].bytes);
    assert_int_equal(mp_skip(&reader, NULL), 0);
    assert_int_equal(mp_left(&reader), 0);
    answer(fixture, 0, 2);
    expect(fd, "+PONG\r\n+OK\r\n+OK\r\n");
    (void)close(fd);
    (void)close(other);
    fixture_free(fixture);
}

/* Answers the only message, of three commands: the second had no room. */
static void answer_in_part(struct fixture *fixture) {
    static const char reply[] = "\x94\x01\x00\xc0\x93\x92\xc0\xa2OK\x92\x92\xa8TOOLARGE\xa1x\xc0\x92\xc0\xa2OK";
    fixture->message_count = 0;
    struct client *client = fixture->messages[0].client;
    client->ops->reply(client, slice_of(reply, sizeof reply - 1));
}

static void what_had_no_room_is_asked_again(void **state) {
    struct fixture *fixture = fixture_new(8, 1u << 26, 10);
    (void)state;
    int fd = dial(fixture);
    say(fd, "GET first\r\n"); /* so that the others are one message */
    wait_for_messages(fixture, 1);
    say(fd, "GET a\r\nGET b\r\nGET c\r\nQUIT\r\n");
    answer(fixture, 0, 1);
    expect(fd, "+OK\r\n");
    uint32_t commands = 0;
    while (commands < 3) { /* it may have been read in parts all the same */
        wait_for_messages(fixture, 1);
        struct mp_reader reader = mp_reader_of(fixture->messages[0].bytes);
        struct slice method, params;
        uint32_t four, count = 1;
        uint64_t number;
        assert_int_equal(mp_read_array(&reader, &four), 0);
        assert_int_equal(mp_read_uint(&reader, &number), 0);
        assert_int_equal(mp_read_uint(&reader, &number), 0);
        assert_int_equal(mp_read_str(&reader, &method), 0);
        if (slice_equal(method, slice_of_text("batch"))) assert_int_equal(mp_read_array(&reader, &count), 0);
        else assert_int_equal(mp_skip(&reader, &params), 0);
        if (count == 3) {
            answer_in_part(fixture);
            expect(fd, "+OK\r\n");
            commands++;
            continue;
        }
        answer(fixture, 0, count);
        for (uint32_t i = 0; i < count; i++) expect(fd, "+OK\r\n");
        commands += count;
    }
    expect(fd, "+OK\r\n");
    expect_end(fd);
    fixture_free(fixture);
}

static void more_messages_wait_for_others(void **state) {
    struct fixture *fixture = fixture_new(1, 1u << 26, 10);
    (void)state;
    int first = dial(fixture), second = dial(fixture), third = dial(fixture);
    say(first, "GET a\r\n");
    wait_for_messages(fixture, 1);
    say(second, "GET b\r\nPING\r\n");
    say(third, "GET c\r\n");
    while (door_resp_in_flight(fixture->door) < 3) usleep(1000);
    reset(third); /* waits no more */
    while (door_resp_connections(fixture->door) > 2) usleep(1000);
    handle_mail(fixture, 0);
    assert_int_equal(fixture->message_count, 1);
    answer(fixture, 0, 1);
    expect(first, "+OK\r\n");
    wait_for_messages(fixture, 1);
    answer(fixture, 0, 1);
    expect(second, "+OK\r\n+PONG\r\n");
    (void)close(first);
    (void)close(second);
    fixture_free(fixture);
}

static void who_goes_is_gone(void **state) {
    struct fixture *fixture = fixture_new(8, 1u << 26, 10);
    (void)state;
    int fd = dial(fixture);
    say(fd, "GET a\r\n");
    wait_for_messages(fixture, 1);
    struct client *client = fixture->messages[0].client;
    assert_false(client->ops->gone(client));
    char name[PEER_NAME_BYTES];
    client->ops->name(client, name);
    assert_int_equal(strncmp(name, "127.0.0.1:", 10), 0);
    reset(fd);
    while (!client->ops->gone(client)) usleep(1000);
    answer(fixture, 0, 1); /* nobody hears it, and the connection is freed by it */
    while (door_resp_in_flight(fixture->door) > 0) usleep(1000);
    /* and messages that nobody answers are dropped at the end */
    fd = dial(fixture);
    say(fd, "GET a\r\n");
    wait_for_messages(fixture, 1);
    fixture_free(fixture);
    (void)close(fd);
}

/* Who drains waits for what is in flight, and then closes. */
static void replies_are_in_flight_until_they_are_written(void **state) {
    enum { REPLY_BYTES = 16u << 20 }; /* more than sockets take */
    static const char head[] = "$16777216\r\n";
    struct fixture *fixture = fixture_new(8, 1u << 26, 10);
    (void)state;
    int fd = dial(fixture);
    say(fd, "GET a\r\n");
    wait_for_messages(fixture, 1);
    answer_bytes(fixture, REPLY_BYTES);
    while (atomic_load(&fixture->load.bytes) < REPLY_BYTES) usleep(1000); /* the door has it */
    assert_int_equal(door_resp_in_flight(fixture->door), 1);
    expect(fd, head);
    char *room = malloc(REPLY_BYTES);
    assert_non_null(room);
    assert_int_equal(recv(fd, room, REPLY_BYTES, MSG_WAITALL), REPLY_BYTES);
    free(room);
    expect(fd, "\r\n");
    while (door_resp_in_flight(fixture->door) > 0) usleep(1000);
    (void)close(fd);
    fixture_free(fixture);
}

/* What was taken while the token counted goes on its way as such. */
static void a_reset_is_not_for_what_stands_before_it(void **state) {
    struct fixture *fixture = fixture_new_guarded(8, 1u << 26, 10, tokens_of("sixteen bytes ok\n"));
    (void)state;
    int fd = dial(fixture);
    say(fd, "GET a\r\nAUTH \"sixteen bytes ok\"\r\nGET a\r\nRESET\r\nGET a\r\n");
    wait_for_messages(fixture, 1);
    assert_true(fixture->messages[0].client->proven);
    answer(fixture, 0, 1);
    expect(fd, "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n+RESET\r\n-NOAUTH Authentication required.\r\n");
    assert_int_equal(metrics_get(&fixture->tally.unauthorized[DOOR_RESP]), 2);
    (void)close(fd);
    fixture_free(fixture);
}

/* What waits for EXEC is counted, and no more of it is taken where there is no room. */
static void transactions_need_room(void **state) {
    struct fixture *fixture = fixture_new(8, 1u << 20, 10);
    (void)state;
    int fd = dial(fixture);
    say(fd, "MULTI\r\nSET a 1\r\n");
    expect(fd, "+OK\r\n+QUEUED\r\n");
    load_add(&fixture->load, 1u << 20);
    say(fd, "SET a 2\r\nEXEC\r\n");
    expect(fd, "-OVERLOADED too many bytes in flight\r\n"
               "-EXECABORT Transaction discarded because of previous errors.\r\n");
    load_sub(&fixture->load, 1u << 20);
    (void)close(fd);
    fixture_free(fixture);
}

/* A connection's share is for the message of its EXEC, too. */
static void transactions_have_half_a_share(void **state) {
    enum { VALUE_BYTES = 1000000 };
    struct fixture *fixture = fixture_new(8, 1u << 26, 10);
    (void)state;
    int fd = dial(fixture);
    say(fd, "MULTI\r\n");
    expect(fd, "+OK\r\n");
    char *value = malloc(VALUE_BYTES + 1);
    assert_non_null(value);
    memset(value, 'x', VALUE_BYTES);
    value[VALUE_BYTES] = '\0';
    char line[64] = "+QUEUED\r\n";
    for (int i = 0; i < 3 && strcmp(line, "+QUEUED\r\n") == 0; i++) { /* the third does not fit beside the first */
        say(fd, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000000\r\n");
        say(fd, value);
        say(fd, "\r\n");
        size_t size = 0;
        do assert_int_equal(recv(fd, line + size, 1, 0), 1);
        while (line[size++] != '\n' && size < sizeof line - 1);
        line[size] = '\0';
    }
    free(value);
    assert_string_equal(line, "-OVERLOADED too many bytes in flight\r\n");
    (void)close(fd);
    fixture_free(fixture);
}

static void charges_are_counted_until_the_reply(void **state) {
    struct fixture *fixture = fixture_new(8, 6u << 20, 10);
    (void)state;
    int fd = dial(fixture);
    say(fd, "GET a\r\n");
    wait_for_messages(fixture, 1);
    struct client *client = fixture->messages[0].client;
    uint64_t before = atomic_load(&fixture->load.bytes);
    assert_true(client->ops->charge(client, 3u << 20));
    assert_false(client->ops->charge(client, (1u << 20) + 1)); /* more than a connection may */
    assert_true(atomic_load(&fixture->load.bytes) >= before + (3u << 20));
    load_add(&fixture->load, 3u << 20);
    assert_false(client->ops->charge(client, 1)); /* more than all may */
    load_sub(&fixture->load, 3u << 20);
    answer(fixture, 0, 1);
    expect(fd, "+OK\r\n");
    while (atomic_load(&fixture->load.bytes) >= 1u << 20) usleep(1000);
    (void)close(fd);
    fixture_free(fixture);
}

/* Without room for more nothing more is read, until there is room. */
static void an_overload_ends(void **state) {
    struct fixture *fixture = fixture_new(8, 1u << 20, 10);
    (void)state;
    int fd = dial(fixture);
    load_add(&fixture->load, 1u << 20);
    static char half[40000];
    memset(half, 'x', sizeof half - 1);
    say(fd, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$79998\r\n");
    say(fd, half);
    load_sub(&fixture->load, 1u << 20);
    say(fd, half);
    say(fd, "\r\n");
    wait_for_messages(fixture, 1);
    answer(fixture, 0, 1);
    expect(fd, "+OK\r\n");
    (void)close(fd);
    fixture_free(fixture);
}

static void there_is_an_end_to_places(void **state) {
    struct fixture *fixture = fixture_new(8, 1u << 26, 1);
    (void)state;
    int fd = dial(fixture);
    say(fd, "PING\r\n");
    expect(fd, "+PONG\r\n");
    int late = dial(fixture);
    expect(late, "-ERR max number of clients reached\r\n");
    expect_end(late);
    assert_int_equal(metrics_get(&fixture->tally.connections_refused[DOOR_RESP]), 1);
    (void)close(fd);
    fixture_free(fixture);
}

static void sessions_see_each_other(void **state) {
    struct fixture *fixture = fixture_new(8, 1u << 26, 10);
    (void)state;
    int fd = dial(fixture), other = dial(fixture);
    say(other, "CLIENT SETNAME victim\r\nCLIENT ID\r\n");
    expect(other, "+OK\r\n:2\r\n");
    char room[4096] = "";
    say(fd, "CLIENT LIST\r\n");
    while (strstr(room, "name=victim") == NULL) {
        size_t size = strlen(room);
        ssize_t more = recv(fd, room + size, sizeof room - size - 1, 0);
        assert_true(more > 0);
    }
    while (strstr(room, "lib-ver=\n\r\n") == NULL) {
        size_t size = strlen(room);
        assert_true(recv(fd, room + size, sizeof room - size - 1, 0) > 0);
    }
    assert_non_null(strstr(room, "id=1 addr=127.0.0.1:"));
    say(fd, "CLIENT KILL ID 2\r\nCLIENT KILL ID 1 SKIPME no\r\nPING\r\n");
    expect(fd, ":1\r\n:1\r\n");
    expect_end(other);
    expect_end(fd);
    fixture_free(fixture);
}

static void addresses_that_are_none(void **state) {
    (void)state;
    struct fixture *fixture = fixture_new(8, 1u << 26, 10);
    static const char *const bad[] = {"tcp://", "tcp://127.0.0.1", "tcp://nosuch.invalid:1", "nonsense", NULL};
    struct door_resp_options options = {
        .mailbox = fixture->mailbox, .load = &fixture->load, .tally = &fixture->tally};
    struct door_resp *door;
    char text[200];
    for (size_t i = 0; i < 5; i++) {
        options.address = bad[i] != NULL ? bad[i] : door_resp_address(fixture->door); /* in use */
        text[0] = '\0';
        assert_int_not_equal(door_resp_open(&door, &options, text, sizeof text), 0);
        assert_non_null(strstr(text, options.address));
    }
    fixture_free(fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message_is_under_way),
        cmocka_unit_test(more_messages_wait_for_others),
        cmocka_unit_test(what_had_no_room_is_asked_again),
        cmocka_unit_test(who_goes_is_gone),
        cmocka_unit_test(replies_are_in_flight_until_they_are_written),
        cmocka_unit_test(a_reset_is_not_for_what_stands_before_it),
        cmocka_unit_test(transactions_need_room),
        cmocka_unit_test(transactions_have_half_a_share),
        cmocka_unit_test(charges_are_counted_until_the_reply),
        cmocka_unit_test(an_overload_ends),
        cmocka_unit_test(there_is_an_end_to_places),
        cmocka_unit_test(sessions_see_each_other),
        cmocka_unit_test(addresses_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
