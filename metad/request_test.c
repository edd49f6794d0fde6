#include "metad/request.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static char text[REQUEST_TEXT_BYTES];
static struct request request;

/* Decodes a copy of exactly these bytes, so that a sanitizer sees a read beyond. Slices in `request` are dead then. */
static int decode(const struct buffer *message) {
    uint8_t *exact = malloc(message->size + 1);
    memcpy(exact, message->data, message->size);
    text[0] = 0;
    int err = request_decode(slice_of(exact, message->size), &request, text);
    free(exact);
    return err;
}

static int decode_and_free(struct buffer *message) {
    assert_false(message->failed);
    int err = decode(message);
    buffer_deinit(message);
    return err;
}

static struct buffer begin(const char *method, uint32_t parameters) {
    struct buffer message;
    buffer_init(&message);
    mp_write_array(&message, 4);
    mp_write_uint(&message, 0);
    mp_write_uint(&message, 77);
    mp_write_text(&message, method);
    mp_write_array(&message, parameters);
    return message;
}

enum omission { WHOLE, NO_STORE_ID, NO_LANES, NO_HOST, NO_FRAMES, NO_REPLICATION, OMISSIONS };

static struct buffer registration(const char *sender, enum omission omission) {
    struct buffer message = begin("register", 2);
    mp_write_text(&message, sender);
    mp_write_map(&message, omission == WHOLE ? 9 : 8);
    mp_write_text(&message, "node_id");
    mp_write_uint(&message, 3);
    mp_write_text(&message, "cluster");
    mp_write_uint(&message, UINT64_MAX);
    mp_write_text(&message, "start");
    mp_write_bin(&message, slice_of("abcdef", 6));
    mp_write_text(&message, "unknown");
    mp_write_array(&message, 1);
    mp_write_map(&message, 0);
    if (omission != NO_STORE_ID) {
        mp_write_text(&message, "store_id");
        mp_write_bin(&message, slice_of("0123456789abcdef", 16));
    }
    if (omission != NO_LANES) {
        mp_write_text(&message, "lanes");
        mp_write_uint(&message, 4);
    }
    if (omission != NO_HOST) {
        mp_write_text(&message, "host");
        mp_write_text(&message, "h");
    }
    if (omission != NO_FRAMES) {
        mp_write_text(&message, "frames_address");
        mp_write_text(&message, "tcp://h:1");
    }
    if (omission != NO_REPLICATION) {
        mp_write_text(&message, "replication_address");
        mp_write_text(&message, "tcp://h:2");
    }
    return message;
}

static void a_registration_is_read(void **state) {
    (void)state;
    struct buffer message = registration("shardd", WHOLE);
    assert_int_equal(decode_and_free(&message), SK_OK);
    assert_int_equal(request.msgid, 77);
    assert_int_equal(request.method, REQUEST_REGISTER);
    assert_int_equal(request.sender, REQUEST_SHARDD);
    const struct command_register_node *node = &request.registration;
    assert_memory_equal(node->store_id, "0123456789abcdef", 16);
    assert_int_equal(node->node_id, 3);
    assert_true(node->cluster == UINT64_MAX);
    assert_int_equal(node->lanes, 4);
    assert_int_equal(node->start_name_bytes, 6);
    assert_string_equal(node->host, "h");
    assert_string_equal(node->frames_address, "tcp://h:1");
    assert_string_equal(node->replication_address, "tcp://h:2");
}

static void what_is_missing_is_named(void **state) {
    (void)state;
    static const char *const names[OMISSIONS] = {
        [NO_STORE_ID] = "register: `store_id` is missing",
        [NO_LANES] = "register: `lanes` is missing",
        [NO_HOST] = "register: `host` is missing",
        [NO_FRAMES] = "register: `frames_address` is missing",
        [NO_REPLICATION] = "register: `replication_address` is missing",
    };
    for (enum omission omission = NO_STORE_ID; omission < OMISSIONS; omission++) {
        struct buffer message = registration("shardd", omission);
        assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
        assert_string_equal(text, names[omission]);
        assert_int_equal(request.msgid, 77);

        message = registration("gateway", omission);
        bool optional = omission == NO_LANES || omission == NO_REPLICATION;
        assert_int_equal(decode_and_free(&message), optional ? SK_OK : SK_BADREQUEST);
    }
    struct buffer message = registration("sharddd", WHOLE);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
}

/* A registration with this key twice: the second time with a value that does not fit. */
static void assert_refused(const char *key, struct slice value) {
    struct buffer message = begin("register", 2);
    mp_write_text(&message, "shardd");
    mp_write_map(&message, 1);
    mp_write_text(&message, key);
    mp_write_raw(&message, value);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    assert_non_null(strstr(text, key));
    assert_non_null(strstr(text, "is not valid"));
}

static void values_that_do_not_fit_are_refused(void **state) {
    (void)state;
    assert_refused("store_id", slice_of("\xc4\x0f"
                                        "0123456789abcde",
                                        17));
    assert_refused("store_id", slice_of("\x01", 1));
    assert_refused("node_id", slice_of("\xff", 1));                                 /* -1 */
    assert_refused("node_id", slice_of("\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 9)); /* 2^32 */
    assert_refused("cluster", slice_of("\xa1x", 2));
    assert_refused("lanes", slice_of("\x00", 1));
    assert_refused("lanes", slice_of("\xcd\x10\x01", 3)); /* 4097 */
    assert_refused("host", slice_of("\xa0", 1));
    assert_refused("host", slice_of("\xa3"
                                    "a b",
                                    4));
    assert_refused("frames_address", slice_of("\xa3"
                                              "a\0b",
                                              4));
    assert_refused("start", slice_of("\xb1"
                                     "0123456789abcdefg",
                                     18));
    struct buffer long_address;
    char letters[MAP_ADDRESS_BYTES];
    memset(letters, 'a', sizeof letters);
    buffer_init(&long_address);
    mp_write_str(&long_address, slice_of(letters, sizeof letters));
    assert_refused("replication_address", buffer_slice(&long_address));
    buffer_deinit(&long_address);
}

static struct buffer heartbeat(size_t stats_bytes) {
    struct buffer message = begin("heartbeat", 5);
    mp_write_text(&message, "shardd");
    mp_write_uint(&message, 9);
    mp_write_uint(&message, 12);
    mp_write_bin(&message, slice_of("0123456789abcdef", 16));
    mp_write_map(&message, 1);
    mp_write_text(&message, "x");
    uint8_t *zeros = calloc(1, stats_bytes + 1);
    mp_write_bin(&message, slice_of(zeros, stats_bytes));
    free(zeros);
    return message;
}

static void a_heartbeat_is_read(void **state) {
    (void)state;
    struct buffer message = heartbeat(2);
    assert_int_equal(decode(&message), SK_OK);
    assert_int_equal(request.method, REQUEST_HEARTBEAT);
    assert_int_equal(request.heartbeat.node_id, 9);
    assert_int_equal(request.heartbeat.incarnation, 12);
    assert_memory_equal(request.heartbeat.store_id, "0123456789abcdef", 16);
    assert_int_equal(request.heartbeat.stats.size, 7); /* 81 a1 'x' c4 02 00 00 */
    buffer_deinit(&message);
    message = heartbeat(REQUEST_STATS_BYTES_MAX);
    assert_int_equal(decode_and_free(&message), SK_TOOLARGE);
}

static void a_heartbeat_that_is_wrong_is_refused(void **state) {
    (void)state;
    for (int wrong = 0; wrong < 5; wrong++) {
        struct buffer message = begin("heartbeat", 5);
        mp_write_text(&message, wrong == 0 ? "router" : "gateway");
        if (wrong == 1) mp_write_nil(&message);
        if (wrong != 1) mp_write_uint(&message, 0);
        if (wrong == 2) mp_write_text(&message, "0");
        if (wrong != 2) mp_write_uint(&message, 0);
        mp_write_bin(&message, slice_of("0123456789abcdef", wrong == 3 ? 15 : 16));
        if (wrong == 4) mp_write_array(&message, 0);
        if (wrong != 4) mp_write_map(&message, 0);
        assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
        assert_true(text[0] != 0);
    }
}

static void map_and_status_are_read(void **state) {
    (void)state;
    struct buffer message = begin("map", 1);
    mp_write_uint(&message, 1ull << 40);
    assert_int_equal(decode_and_free(&message), SK_OK);
    assert_int_equal(request.method, REQUEST_MAP);
    assert_true(request.known_version == 1ull << 40);
    message = begin("map", 1);
    mp_write_nil(&message);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    message = begin("status", 0);
    assert_int_equal(decode_and_free(&message), SK_OK);
    assert_int_equal(request.method, REQUEST_STATUS);
    message = begin("status", 1);
    mp_write_nil(&message);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    message = begin("STATUS?", 0);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    assert_string_equal(text, "unknown method");
}

/* A request with a claim of each of `count` shards. */
static struct buffer claims(uint32_t count) {
    struct buffer message = begin("change", 4);
    mp_write_uint(&message, 9);
    mp_write_uint(&message, 12);
    mp_write_bin(&message, slice_of("0123456789abcdef", 16));
    mp_write_array(&message, count);
    for (uint32_t i = 0; i < count; i++) {
        struct shard_change change = {.kind = SHARD_CHANGE_CLAIM, .shard = i, .config_version = 5};
        shard_change_encode(&change, &message);
    }
    return message;
}

static void changes_are_read(void **state) {
    (void)state;
    struct buffer message = claims(3);
    assert_int_equal(request_decode(buffer_slice(&message), &request, text), SK_OK);
    assert_int_equal(request.method, REQUEST_CHANGE);
    assert_int_equal(request.change.node_id, 9);
    assert_int_equal(request.change.incarnation, 12);
    assert_memory_equal(request.change.store_id, "0123456789abcdef", 16);
    assert_int_equal(request.change.count, 3);
    struct mp_reader reader = mp_reader_of(request.change.changes);
    for (uint32_t i = 0; i < 3; i++) {
        struct shard_change change;
        assert_int_equal(shard_change_decode(&reader, &change), SK_OK);
        assert_int_equal(change.shard, i);
    }
    assert_int_equal(mp_left(&reader), 0);
    buffer_deinit(&message);

    message = claims(SHARD_CHANGES_MAX);
    assert_int_equal(decode_and_free(&message), SK_OK);
    message = claims(SHARD_CHANGES_MAX + 1);
    assert_int_equal(decode_and_free(&message), SK_TOOLARGE);
    message = claims(0);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
}

static void changes_that_are_wrong_are_refused(void **state) {
    (void)state;
    for (int wrong = 0; wrong < 5; wrong++) {
        struct buffer message = begin("change", 4);
        if (wrong == 0) mp_write_nil(&message);
        if (wrong != 0) mp_write_uint(&message, 1);
        if (wrong == 1) mp_write_nil(&message);
        if (wrong != 1) mp_write_uint(&message, 2);
        mp_write_bin(&message, slice_of("0123456789abcdef", wrong == 2 ? 15 : 16));
        if (wrong == 3) mp_write_map(&message, 1);
        if (wrong != 3) mp_write_array(&message, 2);
        struct shard_change change = {.kind = SHARD_CHANGE_CLAIM};
        shard_change_encode(&change, &message);
        mp_write_text(&message, "claim"); /* no change */
        assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
        if (wrong == 4) assert_string_equal(text, "change: number 2 is not valid");
    }
}

static int decode_leader(const char *method, uint64_t shard, uint64_t node) {
    struct buffer message = begin(method, 2);
    mp_write_uint(&message, shard);
    mp_write_uint(&message, node);
    return decode_and_free(&message);
}

static void a_persons_wishes_are_read(void **state) {
    (void)state;
    struct buffer verify = begin("verify", 0);
    assert_int_equal(decode_and_free(&verify), SK_OK);
    assert_int_equal(request.method, REQUEST_VERIFY);
    assert_int_equal(decode_leader("handover", 16383, 4), SK_OK);
    assert_int_equal(request.method, REQUEST_HANDOVER);
    assert_int_equal(request.leader.shard, 16383);
    assert_int_equal(request.leader.node, 4);
    assert_int_equal(decode_leader("force_leader", 0, UINT32_MAX), SK_OK);
    assert_int_equal(request.method, REQUEST_FORCE_LEADER);
    assert_int_equal(decode_leader("handover", 16384, 4), SK_BADREQUEST);
    assert_int_equal(decode_leader("force_leader", 1, 1ull << 32), SK_BADREQUEST);
    assert_int_equal(decode_leader("force_leader", 1, 0), SK_BADREQUEST); /* nobody */
}

static int decode_node(uint64_t node, const char *change) {
    struct buffer message = begin("node", 2);
    mp_write_uint(&message, node);
    mp_write_text(&message, change);
    return decode_and_free(&message);
}

static void changes_of_nodes_are_read(void **state) {
    (void)state;
    const char *const names[] = {"add", "drain", "remove"};
    for (int change = COMMAND_NODE_ADD; change <= COMMAND_NODE_REMOVE; change++) {
        assert_int_equal(decode_node(7, names[change]), SK_OK);
        assert_int_equal(request.method, REQUEST_CHANGE_NODE);
        assert_int_equal(request.node.node, 7);
        assert_int_equal(request.node.change, change);
    }
    assert_int_equal(decode_node(0, "drain"), SK_BADREQUEST); /* nobody */
    assert_int_equal(decode_node(1ull << 32, "drain"), SK_BADREQUEST);
    assert_int_equal(decode_node(1, "drop"), SK_BADREQUEST);
    struct buffer message = begin("node", 2);
    mp_write_uint(&message, 1);
    mp_write_uint(&message, 1);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    assert_string_equal(text, "node: \"add\", \"drain\" or \"remove\"");
}

static struct buffer server_change(const char *change, const char *name) {
    struct buffer message = begin("server", 2);
    mp_write_text(&message, change);
    mp_write_text(&message, name);
    return message;
}

static void changes_of_servers_are_read(void **state) {
    (void)state;
    const char *const names[] = {"remove", "add"};
    for (int add = 0; add < 2; add++) {
        struct buffer message = server_change(names[add], "metad-2:7100");
        assert_int_equal(request_decode(buffer_slice(&message), &request, text), SK_OK);
        assert_int_equal(request.msgid, 77);
        assert_int_equal(request.method, REQUEST_CHANGE_SERVER);
        assert_int_equal(request.server.add, add);
        assert_true(slice_equal(request.server.name, slice_of_text("metad-2:7100")));
        buffer_deinit(&message);
    }
    struct buffer empty = server_change("add", ""); /* whether it is a name, the group says */
    assert_int_equal(decode_and_free(&empty), SK_OK);
    assert_int_equal(request.server.name.size, 0);
    const char *const bad[] = {"", "ad", "adds", "Add", "drain", "removed"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buffer message = server_change(bad[i], "metad-2:7100");
        assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
        assert_string_equal(text, "server: the change is \"add\" or \"remove\"");
    }
    struct buffer message = begin("server", 2);
    mp_write_uint(&message, 1);
    mp_write_text(&message, "metad-2:7100");
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    assert_string_equal(text, "server: the change is \"add\" or \"remove\"");
    message = begin("server", 2);
    mp_write_text(&message, "add");
    mp_write_uint(&message, 7100);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    assert_string_equal(text, "server: the name is \"host:port\"");
    message = begin("server", 1);
    mp_write_text(&message, "add");
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
    message = begin("server", 3);
    mp_write_text(&message, "add");
    mp_write_text(&message, "metad-2:7100");
    mp_write_nil(&message);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    struct buffer whole[] = {registration("shardd", WHOLE), heartbeat(5), claims(2),
                             server_change("remove", "metad-2:7100")};
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        size_t size = whole[i].size;
        for (whole[i].size = 0; whole[i].size < size; whole[i].size++) {
            assert_int_equal(decode(&whole[i]), SK_BADREQUEST);
            assert_true(text[0] != 0);
        }
        buffer_append(&whole[i], "\0", 1); /* and a byte too many */
        assert_int_equal(decode_and_free(&whole[i]), SK_BADREQUEST);
        assert_string_equal(text, "bytes after the request");
    }
}

static void other_shapes_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        uint64_t msgid;
    } messages[] = {
        {"\xc0", 1, 0},
        {"\x90", 1, 0},
        {"\x95\x00\x01\xa6status\x90\x80", 12, 0}, /* five elements */
        {"\x94\x01\x05\xa6status\x90", 11, 0},     /* a reply */
        {"\x94\x00\xa1x\xa6status\x90", 12, 0},    /* msgid a text */
        {"\x94\x00\x05\x07\x90", 5, 5},            /* method a number */
        {"\x94\x00\x05\xa6status\x80", 11, 5},     /* params a map */
        {"\x94\x00\x05\xa6status\xdd\xff\xff\xff\xff", 15, 5},
        {"\xc1\xc1\xc1\xc1", 4, 0},
        {"\xdd\xff\xff\xff\xff", 5, 0},
    };
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        struct buffer message;
        buffer_init(&message);
        buffer_append(&message, messages[i].bytes, messages[i].size);
        assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
        assert_true(request.msgid == messages[i].msgid);
    }
}

static void nesting_has_an_end(void **state) {
    (void)state;
    struct buffer message = begin("register", 2);
    mp_write_text(&message, "shardd");
    mp_write_map(&message, 1);
    mp_write_text(&message, "unknown");
    for (int i = 0; i < 10000; i++) mp_write_array(&message, 1);
    mp_write_nil(&message);
    assert_int_equal(decode_and_free(&message), SK_BADREQUEST);
}

static void replies_have_the_shape_of_the_contract(void **state) {
    (void)state;
    struct buffer reply;
    buffer_init(&reply);
    request_encode_result_head(&reply, 5);
    assert_true(slice_equal(buffer_slice(&reply), slice_of("\x94\x01\x05\xc0", 4)));
    buffer_clear(&reply, 1024);
    request_encode_error(&reply, 5, SK_BUSY, "no");
    assert_true(slice_equal(buffer_slice(&reply), slice_of("\x94\x01\x05\x92\xa4"
                                                           "BUSY\xa2no\xc0",
                                                           13)));
    buffer_clear(&reply, 1024);
    request_encode_error(&reply, 5, SK_ENOMEM, NULL); /* faults have no names outside */
    assert_non_null(memmem(reply.data, reply.size, "INTERNAL", 8));
    buffer_deinit(&reply);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_registration_is_read),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(values_that_do_not_fit_are_refused),
        cmocka_unit_test(a_heartbeat_is_read),
        cmocka_unit_test(a_heartbeat_that_is_wrong_is_refused),
        cmocka_unit_test(map_and_status_are_read),
        cmocka_unit_test(changes_are_read),
        cmocka_unit_test(changes_that_are_wrong_are_refused),
        cmocka_unit_test(a_persons_wishes_are_read),
        cmocka_unit_test(changes_of_nodes_are_read),
        cmocka_unit_test(changes_of_servers_are_read),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(other_shapes_are_refused),
        cmocka_unit_test(nesting_has_an_end),
        cmocka_unit_test(replies_have_the_shape_of_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
