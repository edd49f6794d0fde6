/* The clients' door by itself, over TCP on the loopback: who gets in, who does not, and that nobody is counted who is not there. */
#include "gateway/door_nng.h"

#include "gateway/load.h"
#include "gateway/post.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/testing.h"

#include <arpa/inet.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PLACES      3u
#define MESSAGE_MAX 4096u
#define WAIT_MS     10000u

struct fixture {
    struct mailbox *mailbox;
    struct door_nng *door;
    struct load load;
};

static void request_cb(void *arg, struct client *client, struct slice bytes, int err) {
    uint8_t copy[MESSAGE_MAX]; /* the request's own bytes end with the reply */
    (void)arg, (void)err;
    assert_true(bytes.size <= sizeof copy);
    memcpy(copy, bytes.data, bytes.size);
    client->ops->reply(client, slice_of(copy, bytes.size));
}

static void open_at(struct fixture *fixture, const char *address) {
    char text[200];
    assert_int_equal(mailbox_new(&fixture->mailbox, 64), SK_OK);
    load_init(&fixture->load, 1u << 20, PLACES);
    struct door_nng_options options = {
        .mailbox = fixture->mailbox,
        .address = address,
        .message_bytes_max = MESSAGE_MAX,
        .requests_max = 8,
        .connection_requests_max = 8,
        .connection_bytes_max = 1u << 20,
        .load = &fixture->load,
        .request_cb = request_cb,
    };
    assert_int_equal(door_nng_open(&fixture->door, &options, text, sizeof text), SK_OK);
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    open_at(fixture, "tcp://127.0.0.1:0");
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    door_nng_close(fixture->door);
    door_nng_free(fixture->door);
    mailbox_free(fixture->mailbox);
    free(fixture);
    return 0;
}

/* A client that tries again until it gets in. */
static nng_socket dial(const struct fixture *fixture) {
    nng_socket client;
    assert_int_equal(nng_req0_open_raw(&client), 0);
    assert_int_equal(nng_socket_set_ms(client, NNG_OPT_RECONNMINT, 1), 0);
    assert_int_equal(nng_socket_set_ms(client, NNG_OPT_RECONNMAXT, 1), 0);
    assert_int_equal(nng_socket_set_ms(client, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
    assert_int_equal(nng_dial(client, door_nng_address(fixture->door), NULL, NNG_FLAG_NONBLOCK), 0);
    return client;
}

static void wait_for_refusals(const struct door_nng *door, uint64_t least) {
    uint64_t until_ms = clock_boottime_ms() + WAIT_MS;
    while (door_nng_connections_refused(door) < least && clock_boottime_ms() < until_ms) usleep(1000);
    assert_true(door_nng_connections_refused(door) >= least);
}

static void wait_for_connections(const struct door_nng *door, uint32_t count) {
    uint64_t until_ms = clock_boottime_ms() + WAIT_MS;
    while (door_nng_connections(door) != count && clock_boottime_ms() < until_ms) usleep(1000);
    assert_int_equal(door_nng_connections(door), count);
}

static void send_request(nng_socket client, size_t bytes) {
    nng_msg *message;
    assert_int_equal(nng_msg_alloc(&message, bytes), 0);
    assert_int_equal(nng_msg_header_append_u32(message, 0x80000001u), 0);
    assert_int_equal(nng_sendmsg(client, message, 0), 0);
}

/* The test is the loop: answers what comes within so long. */
static bool answer_requests(const struct fixture *fixture, uint64_t wait_ms) {
    struct mail *mail = mailbox_take(fixture->mailbox, (clock_boottime_ms() + wait_ms) * 1000u);
    bool any = mail != NULL;
    while (mail != NULL) {
        struct mail *next = mail->next;
        post_handle(mail);
        mail = next;
    }
    return any;
}

/* Sends a request and gets it back. */
static void ask(const struct fixture *fixture, nng_socket client, size_t bytes) {
    nng_msg *message;
    send_request(client, bytes);
    assert_true(answer_requests(fixture, WAIT_MS));
    assert_int_equal(nng_recvmsg(client, &message, 0), 0);
    assert_int_equal(nng_msg_len(message), bytes);
    nng_msg_free(message);
}

/* The same for a client that was refused so far: what it sends on a connection that is being closed is lost. */
static void ask_until_in(const struct fixture *fixture, nng_socket client) {
    nng_msg *message;
    uint64_t until_ms = clock_boottime_ms() + WAIT_MS;
    do send_request(client, 100);
    while (!answer_requests(fixture, 20) && clock_boottime_ms() < until_ms);
    assert_int_equal(nng_recvmsg(client, &message, 0), 0);
    nng_msg_free(message);
}

static void beyond_the_cap_connections_are_closed_and_free_places_are_given(void **state) {
    struct fixture *fixture = *state;
    nng_socket clients[PLACES], late;
    for (uint32_t i = 0; i < PLACES; i++) clients[i] = dial(fixture);
    wait_for_connections(fixture->door, PLACES);
    assert_int_equal(door_nng_connections_refused(fixture->door), 0);
    late = dial(fixture); /* again and again */
    wait_for_refusals(fixture->door, 20);
    assert_int_equal(door_nng_connections(fixture->door), PLACES);
    ask(fixture, clients[0], 100); /* it is in nobody's way */
    for (uint32_t i = 0; i < PLACES; i++) {
        (void)nng_close(clients[i]);
        if (i == 0) ask_until_in(fixture, late);
    }
    wait_for_connections(fixture->door, 1);
    for (uint32_t i = 1; i < PLACES; i++) clients[i] = dial(fixture);
    wait_for_connections(fixture->door, PLACES);
    for (uint32_t i = 1; i < PLACES; i++) {
        ask(fixture, clients[i], 100);
        (void)nng_close(clients[i]);
    }
    (void)nng_close(late);
    wait_for_connections(fixture->door, 0);
}

/* They come again without end; whoever leaves makes room all the same. */
static void a_crowd_does_not_keep_places_empty(void **state) {
    enum { CROWD = 60 };
    struct fixture *fixture = *state;
    nng_socket clients[CROWD];
    for (uint32_t i = 0; i < CROWD; i++) clients[i] = dial(fixture);
    uint64_t until_ms = clock_boottime_ms() + WAIT_MS;
    while (door_nng_connections_refused(fixture->door) < 2000 && clock_boottime_ms() < until_ms) {
        assert_true(door_nng_connections(fixture->door) <= PLACES); /* who is refused takes no place */
    }
    assert_true(door_nng_connections_refused(fixture->door) >= 2000);
    for (uint32_t i = 0; i + PLACES < CROWD; i++) (void)nng_close(clients[i]);
    wait_for_connections(fixture->door, PLACES);
    for (uint32_t i = CROWD - PLACES; i < CROWD; i++) ask_until_in(fixture, clients[i]);
    for (uint32_t i = CROWD - PLACES; i < CROWD; i++) (void)nng_close(clients[i]);
    wait_for_connections(fixture->door, 0);
}

static unsigned port_of(const struct door_nng *door) {
    return (unsigned)strtoul(strrchr(door_nng_address(door), ':') + 1, NULL, 10);
}

/* Connects, sends the bytes, and waits until the door has closed the connection. */
static void be_shown_out(const struct door_nng *door, const uint8_t *bytes, size_t count) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_of(door))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    uint8_t byte;
    ssize_t got = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(write(fd, bytes, count), count);
    while (got > 0) got = read(fd, &byte, 1);
    (void)close(fd);
}

/* nng tells of their end, but not that they have come in. */
static void who_speaks_another_protocol_is_not_counted_off(void **state) {
    static const uint8_t greeting_of_sub[] = {0, 'S', 'P', 0, 0, 0x21, 0, 0};
    struct fixture *fixture = *state;
    nng_socket client = dial(fixture);
    wait_for_connections(fixture->door, 1);
    for (uint32_t i = 0; i < 20; i++) be_shown_out(fixture->door, greeting_of_sub, sizeof greeting_of_sub);
    wait_for_connections(fixture->door, 1);
    ask(fixture, client, 100);
    (void)nng_close(client);
    wait_for_connections(fixture->door, 0);
}

static void a_message_beyond_the_limit_costs_its_connection(void **state) {
    static const uint8_t greeting_and_length[] = {0, 'S', 'P', 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x01};
    struct fixture *fixture = *state;
    nng_socket client = dial(fixture);
    ask(fixture, client, MESSAGE_MAX - 4); /* with nng's number of the request */
    be_shown_out(fixture->door, greeting_and_length, sizeof greeting_and_length);
    wait_for_connections(fixture->door, 1);
    ask(fixture, client, 100);
    (void)nng_close(client);
}

/* The kernel's table of connections: those that the door has accepted wait for their keepalive timer ("02:"). */
static void peers_that_are_silent_are_asked_by_the_kernel(void **state) {
    struct fixture *fixture = *state;
    nng_socket client = dial(fixture);
    wait_for_connections(fixture->door, 1);
    unsigned port = port_of(fixture->door), found = 0, local, status, timer;
    char line[512];
    FILE *table = fopen("/proc/self/net/tcp", "r");
    assert_non_null(table);
    while (fgets(line, sizeof line, table) != NULL) {
        int fields = sscanf(line, "%*d: %*8x:%x %*8x:%*x %x %*x:%*x %x:", &local, &status, &timer);
        if (fields != 3 || local != port || status != 1) continue; /* 1: established */
        found++;
        assert_int_equal(timer, 2);
    }
    (void)fclose(table);
    assert_int_equal(found, 1);
    (void)nng_close(client);
}

static void other_transports_have_no_keepalive(void **state) {
    (void)state;
    struct fixture fixture;
    char address[64];
    (void)snprintf(address, sizeof address, "ipc:///tmp/skerry-door-%d", (int)getpid());
    open_at(&fixture, address);
    nng_socket client = dial(&fixture);
    ask(&fixture, client, 100);
    (void)nng_close(client);
    door_nng_close(fixture.door);
    door_nng_free(fixture.door);
    mailbox_free(fixture.mailbox);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(beyond_the_cap_connections_are_closed_and_free_places_are_given),
        TEST(a_crowd_does_not_keep_places_empty),
        TEST(who_speaks_another_protocol_is_not_counted_off),
        TEST(a_message_beyond_the_limit_costs_its_connection),
        TEST(peers_that_are_silent_are_asked_by_the_kernel),
        cmocka_unit_test(other_transports_have_no_keepalive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
