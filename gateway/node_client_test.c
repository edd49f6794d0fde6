/* The queue of a node without its network; frames, lost connections and windows are in gateway_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/node_client.h"
#include "gateway/post.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <stdlib.h>

#define WAIT_MS 20000u

struct fixture {
    struct mailbox *mailbox;
    struct node_client *client;
    uint32_t filled, lost;
};

static void fill_cb(void *arg, const struct part *part, uint64_t now_ms, struct request_item *item) {
    struct fixture *fixture = arg;
    (void)part;
    (void)now_ms;
    (void)item;
    fixture->filled++;
}

static void lost_cb(void *arg, struct list *parts) {
    struct fixture *fixture = arg;
    for (struct link *link = list_first(parts); link != NULL; link = list_first(parts)) {
        list_remove(link);
        fixture->lost++;
    }
}

static void connected_cb(void *arg, struct node_client *client) {
    (void)arg;
    (void)client;
}

static int open_client(struct fixture *fixture, const char *address) {
    static struct tally tally;
    struct node_client_options options = {
        .tally = &tally,
        .mailbox = fixture->mailbox,
        .node = 3,
        .frames_address = address,
        .return_address = "inproc://answers",
        .cluster = 1,
        .session = 2,
        .handler = {.arg = fixture, .fill_cb = fill_cb, .lost_cb = lost_cb, .connected_cb = connected_cb},
    };
    return node_client_open(&fixture->client, &options);
}

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_int_equal(mailbox_new(&fixture->mailbox, 16), SK_OK);
    assert_int_equal(open_client(fixture, "inproc://nobody-listens"), SK_OK);
    *state = fixture;
    return 0;
}

/* What has been posted, or is until then. */
static void handle_all(struct fixture *fixture, uint64_t wait_ms) {
    uint64_t until_us = wait_ms == 0 ? 0 : (clock_boottime_ms() + wait_ms) * 1000u;
    for (struct mail *mail = mailbox_take(fixture->mailbox, until_us); mail != NULL;) {
        struct mail *next = mail->next;
        post_handle(mail);
        mail = next;
    }
}

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    node_client_close(fixture->client);
    handle_all(fixture, 0);
    node_client_free(fixture->client);
    mailbox_free(fixture->mailbox);
    free(fixture);
    return 0;
}

static void what_waits_is_bounded(void **state) {
    struct fixture *fixture = *state;
    struct part parts[6] = {0};
    static uint8_t body[1];
    for (int i = 0; i < 6; i++) parts[i].body = slice_of(body, NODE_PENDING_BYTES_MAX / 4); /* never looked at */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(node_client_add(fixture->client, &parts[i], false), SK_OK);
        assert_int_equal(parts[i].state, PART_PENDING);
    }
    assert_int_equal(node_client_add(fixture->client, &parts[3], false), SK_OVERLOADED);
    assert_int_equal(parts[3].state, PART_NEW);
    assert_int_equal(node_client_add(fixture->client, &parts[4], true), SK_OK); /* in flight already */
    node_client_remove(fixture->client, &parts[0]);
    node_client_remove(fixture->client, &parts[1]);
    assert_int_equal(node_client_add(fixture->client, &parts[5], false), SK_OK);
    node_client_close(fixture->client);
    assert_int_equal(fixture->lost, 3);
}

/* One part that is larger than the bound goes when nothing else waits. */
static void one_large_part_passes(void **state) {
    struct fixture *fixture = *state;
    struct part part = {0};
    static uint8_t body[1];
    part.body = slice_of(body, MESSAGE_BYTES_MAX);
    assert_int_equal(node_client_add(fixture->client, &part, false), SK_OK);
    node_client_remove(fixture->client, &part);
}

static void nothing_is_sent_without_a_connection(void **state) {
    struct fixture *fixture = *state;
    struct part part = {.body = slice_of("\xa4PING\x90", 6)};
    assert_false(node_client_connected(fixture->client));
    assert_int_equal(node_client_add(fixture->client, &part, false), SK_OK);
    node_client_flush(fixture->client, 1);
    node_client_tick(fixture->client, 100000);
    assert_int_equal(fixture->filled, 0);
    assert_int_equal(part.state, PART_PENDING);
    node_client_remove(fixture->client, &part);
    assert_null(part.node);
}

/* ---- with a node that is this test ---- */

static nng_socket listen_as_node(struct fixture *fixture, const char *address) {
    nng_socket socket;
    struct node_client *unconnected = fixture->client;
    assert_int_equal(nng_pull0_open(&socket), 0);
    assert_int_equal(nng_listen(socket, address, NULL, 0), 0);
    assert_int_equal(open_client(fixture, address), SK_OK);
    node_client_close(unconnected);
    handle_all(fixture, 0);
    node_client_free(unconnected);
    for (uint64_t end_ms = clock_boottime_ms() + WAIT_MS; !node_client_connected(fixture->client);) {
        assert_true(clock_boottime_ms() < end_ms);
        handle_all(fixture, 10);
    }
    return socket;
}

/* How many items the next frame has; 0: none has come. `number`: the frame's. */
static uint32_t take_frame(nng_socket socket, uint64_t *number) {
    nng_msg *message;
    struct frame_header header;
    struct slice rest;
    int rc = nng_recvmsg(socket, &message, NNG_FLAG_NONBLOCK);
    if (rc == NNG_EAGAIN) return 0;
    assert_int_equal(rc, 0);
    assert_int_equal(frame_read_header(slice_of(nng_msg_body(message), nng_msg_len(message)), &header, &rest),
                     SK_OK);
    *number = header.number;
    nng_msg_free(message);
    return header.item_count;
}

/* More than one frame takes: the rest follows by itself, without another round of the loop. */
static void what_one_frame_does_not_take_follows(void **state) {
    enum { PARTS = 8, FRAMES = 3, BODY_BYTES = 340000 };
    static uint8_t body[BODY_BYTES];
    struct fixture *fixture = *state;
    nng_socket node = listen_as_node(fixture, "inproc://node_client_test-follows");
    static struct part parts[PARTS]; /* teardown gives them back where the test fails */
    uint64_t number, end_ms = clock_boottime_ms() + WAIT_MS;
    for (int i = 0; i < PARTS; i++) {
        parts[i].body = slice_of(body, sizeof body);
        parts[i].flags = REQUEST_WRITE; /* so many bytes do not gather */
        assert_int_equal(node_client_add(fixture->client, &parts[i], false), SK_OK);
    }
    node_client_flush(fixture->client, clock_boottime_ms());
    for (uint32_t taken = 0; taken < PARTS;) {
        assert_true(clock_boottime_ms() < end_ms);
        handle_all(fixture, 1);
        taken += take_frame(node, &number);
    }
    assert_int_equal(number & 0xffff, FRAMES);
    node_client_close(fixture->client);
    assert_int_equal(fixture->lost, PARTS);
    assert_int_equal(nng_close(node), 0);
}

/* Rounds of the loop that end while frames go out: what a frame's end posts is in the mailbox once, however they fall. */
static void rounds_and_ends_of_frames_meet(void **state) {
    enum { PARTS = 40000, GATHERED_MAX = 40 };
    static struct part parts[PARTS];
    static uint8_t body[60000];
    struct fixture *fixture = *state;
    nng_socket node = listen_as_node(fixture, "inproc://node_client_test-rounds");
    uint64_t end_ms = clock_boottime_ms() + 3 * WAIT_MS;
    unsigned seed = 5;
    for (uint32_t added = 0, taken = 0; taken < PARTS;) {
        assert_true(clock_boottime_ms() < end_ms);
        uint32_t gathers = (uint32_t)rand_r(&seed) % GATHERED_MAX;
        for (; gathers > 0 && added < PARTS && added - taken < 400; gathers--, added++) {
            size_t bytes = rand_r(&seed) % 4 == 0 ? sizeof body : 100;
            parts[added].body = slice_of(body, bytes);
            assert_int_equal(node_client_add(fixture->client, &parts[added], false), SK_OK);
        }
        node_client_flush(fixture->client, clock_boottime_ms());
        handle_all(fixture, 0);
        uint64_t number;
        uint32_t items;
        while ((items = take_frame(node, &number)) > 0) {
            struct frame_header answers = {.incarnation = 1, .number = number, .taken = number};
            (void)node_client_on_answers(fixture->client, &answers, clock_boottime_ms());
            for (uint32_t i = 0; i < items; i++) node_client_remove(fixture->client, &parts[taken++]);
        }
    }
    node_client_close(fixture->client);
    assert_int_equal(fixture->lost, 0);
    assert_int_equal(nng_close(node), 0);
}

/* `count` parts, each in a round of the loop that lets what is on its way end; all of them at `now_ms`. */
static void add_in_rounds(struct fixture *fixture, struct part *parts, uint32_t count, uint8_t flags,
                          uint64_t now_ms) {
    for (uint32_t i = 0; i < count; i++) {
        parts[i].flags = flags;
        assert_int_equal(node_client_add(fixture->client, &parts[i], false), SK_OK);
        node_client_flush(fixture->client, now_ms);
        handle_all(fixture, 2);
    }
}

static void expect_frame(struct fixture *fixture, nng_socket node, uint32_t items, uint64_t *number) {
    uint32_t taken;
    for (uint64_t end_ms = clock_boottime_ms() + WAIT_MS; (taken = take_frame(node, number)) == 0;) {
        assert_true(clock_boottime_ms() < end_ms);
        handle_all(fixture, 1);
    }
    assert_int_equal(taken, items);
}

/* `count` writes in one round of the loop, and so in one frame; its number. */
static uint64_t send_writes(struct fixture *fixture, nng_socket node, struct part *parts, uint32_t count,
                            uint64_t now_ms) {
    uint64_t number;
    for (uint32_t i = 0; i < count; i++) {
        parts[i].flags = REQUEST_WRITE;
        assert_int_equal(node_client_add(fixture->client, &parts[i], false), SK_OK);
    }
    node_client_flush(fixture->client, now_ms);
    expect_frame(fixture, node, count, &number);
    return number;
}

static void writes_gather_while_others_are_out(void **state) {
    enum { OUT = 4, LATER = 3, WHOLE = 32, LATE = 2, PARTS = OUT + LATER + WHOLE + 2 + LATE };
    static struct part parts[PARTS]; /* teardown gives them back where the test fails */
    struct fixture *fixture = *state;
    struct part *part = parts;
    nng_socket node = listen_as_node(fixture, "inproc://node_client_test-gathers");
    uint64_t number, now_ms = clock_boottime_ms();
    number = send_writes(fixture, node, parts, OUT, now_ms);
    part += OUT;
    add_in_rounds(fixture, part, LATER, REQUEST_WRITE, now_ms);
    struct frame_header answers = {.incarnation = 1, .number = 1, .taken = number};
    (void)node_client_on_answers(fixture->client, &answers, now_ms);
    node_client_flush(fixture->client, now_ms);
    expect_frame(fixture, node, LATER, &number);
    part += LATER;

    add_in_rounds(fixture, part, WHOLE, REQUEST_WRITE, now_ms); /* as many as are worth a frame wait no longer */
    expect_frame(fixture, node, WHOLE, &number);
    part += WHOLE;

    add_in_rounds(fixture, part, 1, REQUEST_WRITE, now_ms);
    add_in_rounds(fixture, part + 1, 1, 0, now_ms); /* a read waits for nothing */
    expect_frame(fixture, node, 2, &number);
    part += 2;

    answers.taken = number - 1; /* so that the window has room */
    answers.number++;
    (void)node_client_on_answers(fixture->client, &answers, now_ms);
    add_in_rounds(fixture, part, LATE, REQUEST_WRITE, now_ms);
    node_client_flush(fixture->client, now_ms + 5); /* nor does anything for long */
    expect_frame(fixture, node, LATE, &number);
    node_client_close(fixture->client);
    assert_int_equal(fixture->lost, PARTS);
    assert_int_equal(nng_close(node), 0);
}

/* A slow disk: its log needs the next group while it syncs this one. */
static void nothing_gathers_where_writes_take_long(void **state) {
    enum { OUT = 5 };
    static struct part parts[OUT + 1];
    struct fixture *fixture = *state;
    nng_socket node = listen_as_node(fixture, "inproc://node_client_test-slow");
    uint64_t number, begin_ms = clock_boottime_ms();
    (void)send_writes(fixture, node, parts, OUT, begin_ms);
    while (clock_boottime_ms() < begin_ms + 100) handle_all(fixture, 10);
    node_client_remove(fixture->client, &parts[0]); /* it took 100 ms */
    add_in_rounds(fixture, &parts[OUT], 1, REQUEST_WRITE, begin_ms);
    expect_frame(fixture, node, 1, &number);
    node_client_close(fixture->client);
    assert_int_equal(nng_close(node), 0);
}

/* Who waits for something to take is answered when it comes, and holds up nobody. */
static void nothing_gathers_behind_those_that_wait(void **state) {
    enum { WAITING = 8 };
    static struct part parts[WAITING + 1];
    struct fixture *fixture = *state;
    nng_socket node = listen_as_node(fixture, "inproc://node_client_test-waits");
    uint64_t number, now_ms = clock_boottime_ms();
    for (int i = 0; i < WAITING; i++) parts[i].waits = true;
    (void)send_writes(fixture, node, parts, WAITING, now_ms);
    add_in_rounds(fixture, &parts[WAITING], 1, REQUEST_WRITE, now_ms);
    expect_frame(fixture, node, 1, &number);
    node_client_close(fixture->client);
    assert_int_equal(nng_close(node), 0);
}

static void an_address_that_is_none(void **state) {
    struct fixture *fixture = *state;
    struct node_client *client = fixture->client;
    assert_int_equal(open_client(fixture, "nonsense"), SK_ENET);
    fixture->client = client;
}

int main(void) {
    log_init("gateway", LOG_ERROR);
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(what_waits_is_bounded),
        TEST(one_large_part_passes),
        TEST(nothing_is_sent_without_a_connection),
        TEST(what_one_frame_does_not_take_follows),
        TEST(rounds_and_ends_of_frames_meet),
        TEST(writes_gather_while_others_are_out),
        TEST(nothing_gathers_where_writes_take_long),
        TEST(nothing_gathers_behind_those_that_wait),
        TEST(an_address_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
