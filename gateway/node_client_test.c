/* The queue of a node without its network; frames, lost connections and windows are in gateway_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/node_client.h"
#include "gateway/post.h"
#include "libcommon/error.h"
#include "libcommon/log.h"

#include <stdlib.h>

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

static int tear_down(void **state) {
    struct fixture *fixture = *state;
    node_client_close(fixture->client);
    for (struct mail *mail = mailbox_take(fixture->mailbox, 0); mail != NULL;) {
        struct mail *next = mail->next;
        post_handle(mail);
        mail = next;
    }
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
        TEST(an_address_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
