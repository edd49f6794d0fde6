/* The whole gateway in this process, between a metad that is a thread and shardds that are this test: it takes frames
 * and answers them as each story wants. All addresses are ipc:// in a directory of its own, but those of
 * the shardds: an ipc listener of nng 1.5.2 takes no more once a connection has ended in its handshake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/gateway.h"
#include "gateway/window.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "libcommon/map.h"
#include "libcommon/mp.h"
#include "libcommon/slot.h"
#include "libcommon/wire.h"

#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/pubsub0/pub.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLUSTER_ID 0x1122334455667788u
#define WAIT_MS    20000 /* for what must come */
#define ITEMS_MAX  64u
#define NODES      2u
#define SHARDS     16u

/* A shardd: the test's end of it. */
struct shardd {
    nng_socket requests;
    nng_socket answers;
    bool dialled;
    uint64_t incarnation;
    uint64_t number; /* of the last frame of answers */
};

/* A frame of requests that came. */
struct taken {
    nng_msg *message;
    struct frame_header header;
    struct request_item items[ITEMS_MAX];
    uint32_t count;
};

struct cluster {
    char directory[64];
    char urls[8][96];
    pthread_t metad_thread, gateway_thread;
    nng_socket metad, publisher;
    pthread_mutex_t lock; /* guards map */
    struct map *map;
    struct gateway *gateway;
    int exit_code;
    struct shardd shardds[NODES + 1]; /* by node id */
    bool leader_alone;                /* in sync, in the next map */
    nng_socket client;
};

static const char *url(struct cluster *cluster, int which, const char *name) {
    (void)snprintf(cluster->urls[which], sizeof cluster->urls[which], "ipc://%s/%s", cluster->directory, name);
    return cluster->urls[which];
}

/* --- metad --------------------------------------------------------------------------------------------------- */

static void metad_answer(struct cluster *cluster, struct slice bytes, struct buffer *reply) {
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t count;
    uint64_t kind, msgid, known = 0;
    struct slice method;
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(mp_read_uint(&reader, &kind), SK_OK);
    assert_int_equal(mp_read_uint(&reader, &msgid), SK_OK);
    assert_int_equal(mp_read_str(&reader, &method), SK_OK);
    mp_write_array(reply, 4);
    mp_write_uint(reply, 1);
    mp_write_uint(reply, msgid);
    mp_write_nil(reply);
    pthread_mutex_lock(&cluster->lock);
    if (slice_equal(method, slice_of_text("register"))) {
        mp_write_map(reply, 3);
        mp_write_text(reply, "cluster");
        mp_write_uint(reply, CLUSTER_ID);
        mp_write_text(reply, "node_id");
        mp_write_uint(reply, 0);
        mp_write_text(reply, "incarnation");
        mp_write_uint(reply, 0);
    } else if (slice_equal(method, slice_of_text("heartbeat"))) {
        mp_write_map(reply, 1);
        mp_write_text(reply, "map_version");
        mp_write_uint(reply, cluster->map == NULL ? 0 : cluster->map->version);
    } else {
        (void)mp_read_array(&reader, &count);
        (void)mp_read_uint(&reader, &known);
        if (cluster->map == NULL || cluster->map->version <= known) mp_write_nil(reply);
        else map_encode(cluster->map, reply);
    }
    pthread_mutex_unlock(&cluster->lock);
}

static void *metad_thread(void *arg) {
    struct cluster *cluster = arg;
    nng_msg *message;
    struct buffer reply;
    buffer_init(&reply);
    while (nng_recvmsg(cluster->metad, &message, 0) == 0) {
        buffer_clear(&reply, 65536);
        metad_answer(cluster, slice_of(nng_msg_body(message), nng_msg_len(message)), &reply);
        nng_msg_clear(message);
        assert_int_equal(nng_msg_append(message, reply.data, reply.size), 0);
        if (nng_sendmsg(cluster->metad, message, 0) != 0) nng_msg_free(message);
    }
    buffer_deinit(&reply);
    return NULL;
}

/* A new map in which `leader` leads every shard (0: none does), published. */
static void set_map(struct cluster *cluster, uint32_t leader, uint64_t epoch) {
    static uint64_t version;
    struct map *map;
    assert_int_equal(map_new(&map, SHARDS, NODES), SK_OK);
    map->version = ++version;
    map->cluster = CLUSTER_ID;
    for (uint32_t i = 0; i < NODES; i++) {
        map->nodes[i].id = i + 1;
        map->nodes[i].alive = true;
        map->nodes[i].incarnation = 1;
        map->nodes[i].lanes = 1;
        (void)snprintf(map->nodes[i].host, MAP_ADDRESS_BYTES, "node-%u", i + 1);
        (void)snprintf(map->nodes[i].frames_address, MAP_ADDRESS_BYTES, "inproc://%s/shardd-%u",
                       cluster->directory, i + 1);
        (void)snprintf(map->nodes[i].replication_address, MAP_ADDRESS_BYTES, "ipc://%s/peer-%u",
                       cluster->directory, i + 1);
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct map_shard *shard = &map->shards[i];
        shard->leader = leader;
        shard->leader_epoch = epoch;
        shard->leader_incarnation = leader == 0 ? 0 : 1;
        shard->config_version = epoch;
        shard->min_isr = 1;
        shard->replica_count = NODES;
        for (uint32_t j = 0; j < NODES; j++) {
            shard->replicas[j] = (struct map_replica){.node = j + 1, .replica_id = j + 1};
        }
        shard->isr_count = cluster->leader_alone ? 1 : NODES;
        shard->isr[0] = leader == 0 ? 1 : leader;
        if (!cluster->leader_alone) shard->isr[1] = NODES + 1 - shard->isr[0];
    }
    pthread_mutex_lock(&cluster->lock);
    map_unref(cluster->map);
    cluster->map = map;
    pthread_mutex_unlock(&cluster->lock);
    struct buffer text;
    buffer_init(&text);
    buffer_append(&text, "map", 3);
    mp_write_uint(&text, map->version);
    assert_int_equal(nng_send(cluster->publisher, text.data, text.size, 0), 0);
    buffer_deinit(&text);
}

/* --- shardd -------------------------------------------------------------------------------------------------- */

static void shardd_listen(struct cluster *cluster, uint32_t node) {
    struct shardd *shardd = &cluster->shardds[node];
    char address[96];
    (void)snprintf(address, sizeof address, "inproc://%s/shardd-%u", cluster->directory, node);
    assert_int_equal(nng_pull0_open(&shardd->requests), 0);
    assert_int_equal(nng_socket_set_ms(shardd->requests, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
    assert_int_equal(nng_listen(shardd->requests, address, NULL, 0), 0);
    assert_int_equal(nng_push0_open(&shardd->answers), 0);
    assert_int_equal(nng_socket_set_ms(shardd->answers, NNG_OPT_SENDTIMEO, WAIT_MS), 0);
    shardd->dialled = false;
    shardd->incarnation++;
    shardd->number = 0;
}

static void shardd_close(struct cluster *cluster, uint32_t node) {
    (void)nng_close(cluster->shardds[node].requests);
    (void)nng_close(cluster->shardds[node].answers);
}

static void read_taken(struct taken *taken) {
    struct slice rest;
    struct slice frame = slice_of(nng_msg_body(taken->message), nng_msg_len(taken->message));
    assert_int_equal(frame_read_header(frame, &taken->header, &rest), SK_OK);
    assert_int_equal(taken->header.kind, FRAME_REQUESTS);
    assert_int_equal(taken->header.cluster, CLUSTER_ID);
    while (rest.size > 0) {
        assert_true(taken->count < ITEMS_MAX);
        assert_int_equal(frame_read_request(&rest, &taken->items[taken->count++]), SK_OK);
    }
    assert_int_equal(taken->count, taken->header.item_count);
}

/* The next frame of requests to `node`. */
static void take(struct cluster *cluster, uint32_t node, struct taken *taken) {
    *taken = (struct taken){0};
    assert_int_equal(nng_recvmsg(cluster->shardds[node].requests, &taken->message, 0), 0);
    read_taken(taken);
}

static void drop(struct taken *taken) {
    nng_msg_free(taken->message);
    taken->message = NULL;
}

static void push_answer(struct cluster *cluster, uint32_t node, const struct taken *taken, uint32_t item, int err,
                        struct slice body, uint64_t session) {
    struct shardd *shardd = &cluster->shardds[node];
    if (!shardd->dialled) {
        char address[WIRE_ADDRESS_BYTES_MAX + 1];
        (void)snprintf(address, sizeof address, "%.*s", (int)taken->header.return_address.size,
                       (const char *)taken->header.return_address.data);
        assert_int_equal(nng_dial(shardd->answers, address, NULL, 0), 0);
        shardd->dialled = true;
    }
    struct buffer frame;
    buffer_init(&frame);
    frame_begin(&frame, &(struct frame_header){.kind = FRAME_ANSWERS,
                                               .cluster = CLUSTER_ID,
                                               .session = session,
                                               .incarnation = shardd->incarnation});
    frame_add_answer(&frame, &(struct answer_item){
                                 .number = taken->items[item].number,
                                 .map_version = taken->items[item].map_version,
                                 .err = err,
                                 .body = body,
                             });
    frame_finish(frame.data, ++shardd->number, taken->header.number, 1);
    assert_int_equal(nng_send(shardd->answers, frame.data, frame.size, 0), 0);
    buffer_deinit(&frame);
}

static void answer(struct cluster *cluster, uint32_t node, const struct taken *taken, uint32_t item, int err,
                   const char *body, size_t size) {
    push_answer(cluster, node, taken, item, err, slice_of(body, size), taken->header.session);
}

/* --- clients ------------------------------------------------------------------------------------------------- */

static nng_socket client_open(struct cluster *cluster) {
    nng_socket client;
    assert_int_equal(nng_req0_open_raw(&client), 0);
    assert_int_equal(nng_socket_set_ms(client, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
    assert_int_equal(nng_socket_set_ms(client, NNG_OPT_SENDTIMEO, WAIT_MS), 0);
    assert_int_equal(nng_socket_set_size(client, NNG_OPT_RECVMAXSZ, 0), 0);
    assert_int_equal(nng_dial(client, gateway_address(cluster->gateway), NULL, 0), 0);
    return client;
}

/* A raw REQ socket: any number of requests in flight, told apart by msgid. */
static int try_send_bytes(nng_socket client, struct slice bytes) {
    static uint32_t id;
    nng_msg *message;
    assert_int_equal(nng_msg_alloc(&message, 0), 0);
    assert_int_equal(nng_msg_append(message, bytes.data, bytes.size), 0);
    assert_int_equal(nng_msg_header_append_u32(message, 0x80000000u | ++id), 0);
    int rv = nng_sendmsg(client, message, 0);
    if (rv != 0) nng_msg_free(message);
    return rv;
}

static void send_bytes(nng_socket client, struct slice bytes) {
    assert_int_equal(try_send_bytes(client, bytes), 0);
}

/* "SET a 1", with the options timeout_ms unless 0, and read unless NULL. */
static void send_options(nng_socket client, uint64_t msgid, uint32_t timeout_ms, const char *read,
                         const char *words) {
    char copy[256];
    char *list[32] = {0};
    char *rest = NULL;
    uint32_t count = 0;
    (void)snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        list[count++] = word;
    }
    struct buffer bytes;
    buffer_init(&bytes);
    mp_write_array(&bytes, 5);
    mp_write_uint(&bytes, 0);
    mp_write_uint(&bytes, msgid);
    mp_write_text(&bytes, list[0]);
    mp_write_array(&bytes, count - 1);
    for (uint32_t i = 1; i < count; i++) mp_write_bin(&bytes, slice_of_text(list[i]));
    mp_write_map(&bytes, (timeout_ms != 0 ? 1u : 0u) + (read != NULL ? 1u : 0u));
    if (timeout_ms != 0) {
        mp_write_text(&bytes, "timeout_ms");
        mp_write_uint(&bytes, timeout_ms);
    }
    if (read != NULL) {
        mp_write_text(&bytes, "read");
        mp_write_text(&bytes, read);
    }
    send_bytes(client, buffer_slice(&bytes));
    buffer_deinit(&bytes);
}

static void send_words(nng_socket client, uint64_t msgid, uint32_t timeout_ms, const char *words) {
    send_options(client, msgid, timeout_ms, NULL, words);
}

/* A reply, as text for comparing: "OK" and the result's bytes follow in `result`, or "CODE text". */
struct reply {
    uint64_t msgid;
    char error[256];
    uint8_t result[4096];
    size_t result_bytes;
};

static void read_reply(nng_socket client, struct reply *reply) {
    nng_msg *message;
    uint32_t count;
    uint64_t kind;
    struct mp_value value;
    struct slice code, text, result;
    *reply = (struct reply){0};
    assert_int_equal(nng_recvmsg(client, &message, 0), 0);
    struct mp_reader reader = mp_reader_of(slice_of(nng_msg_body(message), nng_msg_len(message)));
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(count, 4);
    assert_int_equal(mp_read_uint(&reader, &kind), SK_OK);
    assert_int_equal(kind, 1);
    assert_int_equal(mp_read_uint(&reader, &reply->msgid), SK_OK);
    assert_int_equal(mp_read(&reader, &value), SK_OK);
    if (value.type == MP_ARRAY) {
        assert_int_equal(mp_read_str(&reader, &code), SK_OK);
        assert_int_equal(mp_read_str(&reader, &text), SK_OK);
        (void)snprintf(reply->error, sizeof reply->error, "%.*s %.*s", (int)code.size, (const char *)code.data,
                       (int)text.size, (const char *)text.data);
    } else {
        assert_int_equal(value.type, MP_NIL);
        (void)snprintf(reply->error, sizeof reply->error, "OK");
    }
    assert_int_equal(mp_skip(&reader, &result), SK_OK);
    assert_int_equal(mp_left(&reader), 0);
    reply->result_bytes = result.size;
    memcpy(reply->result, result.data, result.size < sizeof reply->result ? result.size : sizeof reply->result);
    nng_msg_free(message);
}

static void expect_result(nng_socket client, uint64_t msgid, const char *result, size_t size) {
    struct reply reply;
    read_reply(client, &reply);
    assert_string_equal(reply.error, "OK");
    assert_int_equal(reply.msgid, msgid);
    assert_int_equal(reply.result_bytes, size);
    assert_memory_equal(reply.result, result, size);
}

static void expect_error(nng_socket client, uint64_t msgid, const char *error) {
    struct reply reply;
    read_reply(client, &reply);
    assert_int_equal(reply.msgid, msgid);
    assert_string_equal(reply.error, error);
}

/* --- set up -------------------------------------------------------------------------------------------------- */

static void *gateway_thread(void *arg) {
    struct cluster *cluster = arg;
    cluster->exit_code = gateway_run(cluster->gateway);
    return NULL;
}

static struct cluster *start(uint64_t connection_requests_max, uint64_t connection_bytes_max) {
    struct cluster *cluster = calloc(1, sizeof *cluster);
    (void)snprintf(cluster->directory, sizeof cluster->directory, "/tmp/skerry-gateway-XXXXXX");
    assert_non_null(mkdtemp(cluster->directory));
    pthread_mutex_init(&cluster->lock, NULL);
    assert_int_equal(nng_rep0_open(&cluster->metad), 0);
    assert_int_equal(nng_listen(cluster->metad, url(cluster, 0, "metad"), NULL, 0), 0);
    assert_int_equal(nng_pub0_open(&cluster->publisher), 0);
    assert_int_equal(nng_listen(cluster->publisher, url(cluster, 1, "publish"), NULL, 0), 0);
    assert_int_equal(pthread_create(&cluster->metad_thread, NULL, metad_thread, cluster), 0);
    for (uint32_t node = 1; node <= NODES; node++) shardd_listen(cluster, node);
    struct gateway_options options = {
        .metad = cluster->urls[0],
        .metad_publish = cluster->urls[1],
        .listen = url(cluster, 2, "clients"),
        .frames_listen = url(cluster, 3, "answers"),
        .connections_max = 1000,
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .requests_max = 64,
        .connection_requests_max = connection_requests_max,
        .connection_bytes_max = connection_bytes_max,
        .bytes_max = 512u * 1024 * 1024,
        .timeout_ms = 15000,
    };
    char text[256];
    assert_int_equal(gateway_open(&cluster->gateway, &options, text, sizeof text), SK_OK);
    assert_int_equal(pthread_create(&cluster->gateway_thread, NULL, gateway_thread, cluster), 0);
    cluster->client = client_open(cluster);
    return cluster;
}

static int set_up(void **state) {
    *state = start(32, 512u * 1024 * 1024);
    return 0;
}

static int set_up_small(void **state) {
    *state = start(2, 4096);
    return 0;
}

static int tear_down(void **state) {
    struct cluster *cluster = *state;
    (void)nng_close(cluster->client);
    gateway_stop(cluster->gateway);
    (void)pthread_join(cluster->gateway_thread, NULL);
    assert_int_equal(cluster->exit_code, 0);
    gateway_free(cluster->gateway);
    for (uint32_t node = 1; node <= NODES; node++) shardd_close(cluster, node);
    (void)nng_close(cluster->metad);
    (void)nng_close(cluster->publisher);
    (void)pthread_join(cluster->metad_thread, NULL);
    map_unref(cluster->map);
    pthread_mutex_destroy(&cluster->lock);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", cluster->directory);
    assert_int_equal(system(command), 0);
    free(cluster);
    return 0;
}

/* --- stories ------------------------------------------------------------------------------------------------- */

#define OK_STATUS "\xa2OK"

static void a_command_and_its_answer(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 1, 5);
    send_words(cluster->client, 9, 0, "SET a 1");
    take(cluster, 1, &taken);
    const struct request_item *item = &taken.items[0];
    assert_int_equal(taken.count, 1);
    assert_int_equal(item->number, 1);
    assert_int_equal(item->floor, 1);
    assert_int_equal(item->epoch, 5);
    assert_int_equal(item->shard, slot_shard(slot_of_key(slice_of_text("a")), SHARDS));
    assert_int_equal(item->flags, REQUEST_WRITE);
    assert_true(item->timeout_ms > 0 && item->timeout_ms <= 15000);
    static const char body[] = "\xa3SET\x92\xc4\x01"
                               "a\xc4\x01"
                               "1";
    assert_true(slice_equal(item->body, slice_of(body, sizeof body - 1)));
    answer(cluster, 1, &taken, 0, SK_OK, OK_STATUS, 3);
    drop(&taken);
    expect_result(cluster->client, 9, OK_STATUS, 3);
}

static void local_commands_need_no_map(void **state) {
    struct cluster *cluster = *state;
    send_words(cluster->client, 1, 0, "PING");
    expect_result(cluster->client, 1, "\xa4PONG", 5);
    send_words(cluster->client, 2, 0, "echo hi");
    expect_result(cluster->client, 2, "\xc4\x02hi", 4);
    send_words(cluster->client, 3, 0, "nosuch");
    expect_error(cluster->client, 3, "BADREQUEST unknown command 'nosuch'");
    send_bytes(cluster->client, slice_of("\xc1", 1));
    expect_error(cluster->client, 0, "BADREQUEST the message is not a MessagePack array");
    send_words(cluster->client, 4, 0, "PING");
    expect_result(cluster->client, 4, "\xa4PONG", 5);
}

static void requests_wait_for_the_first_map(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    send_words(cluster->client, 1, 40, "GET a");
    expect_error(cluster->client, 1, "UNAVAILABLE no shard map yet");
    send_words(cluster->client, 2, 0, "GET a");
    send_words(cluster->client, 3, 0, "PING"); /* the one before it has been seen */
    expect_result(cluster->client, 3, "\xa4PONG", 5);
    set_map(cluster, 1, 1);
    take(cluster, 1, &taken);
    answer(cluster, 1, &taken, 0, SK_OK, "\xc0", 1);
    drop(&taken);
    expect_result(cluster->client, 2, "\xc0", 1);
}

static void not_leader_is_tried_again_under_the_same_number(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "SET a 1");
    take(cluster, 1, &first);
    answer(cluster, 1, &first, 0, SK_NOT_LEADER, "", 0);
    take(cluster, 1, &second); /* after a backoff, by the same map */
    assert_int_equal(second.items[0].number, first.items[0].number);
    drop(&first);
    set_map(cluster, 2, 2); /* now another node leads: it goes there without being refused */
    take(cluster, 2, &first);
    assert_int_equal(first.items[0].number, second.items[0].number);
    assert_int_equal(first.items[0].epoch, 2);
    answer(cluster, 1, &second, 0, SK_NOT_LEADER, "", 0); /* late, and no business of the newer attempt */
    answer(cluster, 2, &first, 0, SK_OK, OK_STATUS, 3);
    drop(&first);
    drop(&second);
    expect_result(cluster->client, 1, OK_STATUS, 3);
}

static void a_lost_connection_sends_again(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "INCR a");
    take(cluster, 1, &first);
    shardd_close(cluster, 1);
    shardd_listen(cluster, 1);
    take(cluster, 1, &second);
    assert_int_equal(second.items[0].number, first.items[0].number);
    assert_true(second.header.number > first.header.number);
    answer(cluster, 1, &second, 0, SK_OK, "\x01", 1);
    expect_result(cluster->client, 1, "\x01", 1);
    drop(&first);
    drop(&second);
}

static void lost_answers_are_asked_for_again(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "INCR a");
    take(cluster, 1, &first);
    send_words(cluster->client, 2, 0, "INCR b");
    take(cluster, 1, &second);
    answer(cluster, 1, &first, 0, SK_OK, "\x01", 1);
    expect_result(cluster->client, 1, "\x01", 1);
    (void)nng_close(cluster->shardds[1].answers); /* only the way back breaks */
    assert_int_equal(nng_push0_open(&cluster->shardds[1].answers), 0);
    cluster->shardds[1].dialled = false;
    uint64_t number = second.items[0].number;
    drop(&second);
    drop(&first);
    take(cluster, 1, &second);
    assert_int_equal(second.count, 1);
    assert_int_equal(second.items[0].number, number);
    answer(cluster, 1, &second, 0, SK_OK, "\x02", 1);
    drop(&second);
    expect_result(cluster->client, 2, "\x02", 1);
}

static int pipe_of(const struct taken *taken) { return nng_pipe_id(nng_msg_get_pipe(taken->message)); }

/* The old connection may be one whose packets were lost for long: TCP would hardly try it any more. */
static void frames_that_are_not_taken_are_sent_again_on_another_connection(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "INCR a");
    take(cluster, 1, &first); /* and lost: the connection stays, nothing is told */
    take(cluster, 1, &second);
    assert_int_equal(second.items[0].number, first.items[0].number);
    assert_int_not_equal(pipe_of(&second), pipe_of(&first));
    answer(cluster, 1, &second, 0, SK_OK, "\x01", 1);
    expect_result(cluster->client, 1, "\x01", 1);
    drop(&first);
    drop(&second);
}

/* Answers everything that comes to `node` with `errs` in turn, until nothing has come for a second: beyond the deadline of
 * what is asked. How many there were. */
static uint32_t refuse_until_quiet(struct cluster *cluster, uint32_t node, const int *errs, uint32_t err_count) {
    uint32_t refusals = 0;
    nng_msg *message;
    assert_int_equal(nng_socket_set_ms(cluster->shardds[node].requests, NNG_OPT_RECVTIMEO, 1000), 0);
    while (nng_recvmsg(cluster->shardds[node].requests, &message, 0) == 0) {
        struct taken taken = {.message = message};
        read_taken(&taken);
        for (uint32_t i = 0; i < taken.count; i++) {
            answer(cluster, node, &taken, i, errs[refusals++ % err_count], "", 0);
        }
        drop(&taken);
    }
    assert_int_equal(nng_socket_set_ms(cluster->shardds[node].requests, NNG_OPT_RECVTIMEO, WAIT_MS), 0);
    return refusals;
}

/* R9 at the deadline. */
static void the_deadline_tells_unknown_from_not_done(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 0, 1);
    send_words(cluster->client, 1, 100, "SET {t}a 1");
    char expected[96];
    (void)snprintf(expected, sizeof expected, "UNAVAILABLE shard %u has no leader",
                   slot_shard(slot_of_key(slice_of_text("t")), SHARDS));
    expect_error(cluster->client, 1, expected);

    set_map(cluster, 1, 1);
    send_words(cluster->client, 2, 400, "SET a 1"); /* sent, no answer */
    take(cluster, 1, &taken);
    struct reply reply;
    read_reply(cluster->client, &reply);
    assert_int_equal(reply.msgid, 2);
    assert_int_equal(strncmp(reply.error, "TIMEOUT ", 8), 0);
    answer(cluster, 1, &taken, 0, SK_OK, OK_STATUS, 3); /* too late: ignored */
    drop(&taken);

    /* Every attempt refused. One that is out at the very deadline is not, so another try may be needed. */
    for (uint64_t msgid = 3; msgid == 3 || strncmp(reply.error, "TIMEOUT ", 8) == 0; msgid++) {
        assert_true(msgid < 10);
        send_words(cluster->client, msgid, 600, "SET a 1");
        assert_true(refuse_until_quiet(cluster, 1, (int[]){SK_RETRY}, 1) > 1);
        read_reply(cluster->client, &reply);
        assert_int_equal(reply.msgid, msgid);
    }
    assert_int_equal(strncmp(reply.error, "UNAVAILABLE ", 12), 0);
}

/* R8, R9: what was in the log of a leader that leads no more may have happened; the next one knows its name. And a shard
 * that cannot serve now mostly can a little later. Neither is the client's business before its deadline. */
static void what_a_leader_has_lost_is_asked_for_again(void **state) {
    struct cluster *cluster = *state;
    struct taken first, next;
    struct reply reply;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "INCR a");
    take(cluster, 1, &first);
    answer(cluster, 1, &first, 0, SK_LOST, "", 0);
    take(cluster, 1, &next);
    assert_int_equal(next.items[0].number, first.items[0].number);
    answer(cluster, 1, &next, 0, SK_UNAVAILABLE, "", 0);
    drop(&next);
    take(cluster, 1, &next);
    assert_int_equal(next.items[0].number, first.items[0].number);
    answer(cluster, 1, &next, 0, SK_OK, "\x01", 1);
    expect_result(cluster->client, 1, "\x01", 1);
    drop(&next);
    drop(&first);
    send_words(cluster->client, 2, 300, "INCR a");
    take(cluster, 1, &first);
    answer(cluster, 1, &first, 0, SK_LOST, "", 0);
    drop(&first);
    assert_true(refuse_until_quiet(cluster, 1, (int[]){SK_NOT_LEADER, SK_UNAVAILABLE}, 2) > 0);
    read_reply(cluster->client, &reply);
    assert_int_equal(strncmp(reply.error, "TIMEOUT ", 8), 0);
}

/* An attempt whose fate is open, then refusals: the write may have happened. On a busy machine the deadline may come before
 * both kinds of refusal have, so another try may be needed. */
static void a_refusal_after_a_lost_attempt_is_not_definite(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    struct reply reply;
    uint32_t refusals = 0;
    for (uint64_t msgid = 1; refusals < 2; msgid++) {
        assert_true(msgid < 10);
        set_map(cluster, 1, 2 * msgid - 1);
        send_words(cluster->client, msgid, 1500, "SET a 1");
        take(cluster, 1, &taken);
        drop(&taken);
        set_map(cluster, 2, 2 * msgid);
        refusals = refuse_until_quiet(cluster, 2, (int[]){SK_UNAVAILABLE, SK_NOT_LEADER}, 2);
        read_reply(cluster->client, &reply);
        assert_int_equal(reply.msgid, msgid);
        assert_int_equal(strncmp(reply.error, "TIMEOUT ", 8), 0);
    }
}

/* A leader that stepped down does not know what becomes of a write in its log: the next one is asked, under the same name. */
static void what_a_leader_has_lost_the_next_one_is_asked(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "SET a 1");
    take(cluster, 1, &first);
    answer(cluster, 1, &first, 0, SK_LOST, "", 0);
    set_map(cluster, 2, 2);
    take(cluster, 2, &second);
    assert_int_equal(second.items[0].number, first.items[0].number);
    answer(cluster, 1, &first, 0, SK_LOST, "", 0); /* an older attempt's says nothing about this one */
    answer(cluster, 2, &second, 0, SK_OK, OK_STATUS, 3);
    drop(&first);
    drop(&second);
    expect_result(cluster->client, 1, OK_STATUS, 3);

    send_words(cluster->client, 2, 1500, "SET a 1");
    take(cluster, 2, &first);
    answer(cluster, 2, &first, 0, SK_LOST, "", 0);
    drop(&first);
    assert_true(refuse_until_quiet(cluster, 2, (int[]){SK_UNAVAILABLE, SK_NOT_LEADER}, 2) > 1);
    struct reply reply;
    read_reply(cluster->client, &reply);
    assert_int_equal(strncmp(reply.error, "TIMEOUT ", 8), 0);
}

/* A read has not been served if its last attempt was refused, though one before was lost. */
static void a_busy_read_is_unavailable(void **state) {
    struct cluster *cluster = *state;
    struct reply reply = {0};
    set_map(cluster, 1, 1);
    for (uint64_t msgid = 1; msgid == 1 || strncmp(reply.error, "TIMEOUT ", 8) == 0; msgid++) {
        assert_true(msgid < 10); /* an attempt may be out at the very deadline */
        struct taken taken;
        send_words(cluster->client, msgid, 800, "GET a");
        take(cluster, 1, &taken);
        drop(&taken);
        shardd_close(cluster, 1);
        shardd_listen(cluster, 1);
        assert_true(refuse_until_quiet(cluster, 1, (int[]){SK_BUSY}, 1) > 1);
        read_reply(cluster->client, &reply);
    }
    assert_int_equal(strncmp(reply.error, "UNAVAILABLE ", 12), 0);
    assert_non_null(strstr(reply.error, "a queue is full"));
}

/* A client that has gone: nothing is asked again for it, and its requests end. Every command is refused; INFO, whose text
 * says what is in flight, is answered. */
static void nothing_is_asked_again_for_who_has_gone(void **state) {
    struct cluster *cluster = *state;
    struct taken read, write, taken;
    struct reply reply;
    set_map(cluster, 1, 1);
    nng_socket gone = client_open(cluster);
    send_words(gone, 1, TIMEOUT_MS_MAX, "GET a");
    take(cluster, 1, &read);
    send_words(gone, 2, TIMEOUT_MS_MAX, "SET a 1");
    take(cluster, 1, &write);
    (void)nng_close(gone);
    answer(cluster, 1, &read, 0, SK_NOT_LEADER, "", 0);
    answer(cluster, 1, &write, 0, SK_NOT_LEADER, "", 0);
    drop(&read);
    drop(&write);
    uint64_t end_ms = clock_boottime_ms() + WAIT_MS;
    do { /* the gateway may not have seen the end of the connection at the first tries */
        assert_true(clock_boottime_ms() < end_ms);
        send_words(cluster->client, 3, 0, "INFO");
        for (uint32_t shards = 0; shards < SHARDS;) {
            take(cluster, 1, &taken);
            for (uint32_t i = 0; i < taken.count; i++) {
                bool info = memcmp(taken.items[i].body.data, "\xa4INFO", 5) == 0;
                answer(cluster, 1, &taken, i, info ? SK_OK : SK_NOT_LEADER, "\x80", info ? 1 : 0);
                shards += info;
            }
            drop(&taken);
        }
        read_reply(cluster->client, &reply);
        assert_string_equal(reply.error, "OK");
    } while (memmem(reply.result, reply.result_bytes, "requests_in_flight:1\r", 21) == NULL);
}

/* Node 1 leads, and both are connected. */
static void lead_with_both(struct cluster *cluster) {
    struct taken taken;
    for (uint32_t node = 2; node >= 1; node--) {
        set_map(cluster, node, 3 - node);
        send_words(cluster->client, 100, 0, "GET a");
        take(cluster, node, &taken);
        answer(cluster, node, &taken, 0, SK_OK, "\xc0", 1);
        drop(&taken);
        expect_result(cluster->client, 100, "\xc0", 1);
    }
}

/* Nodes may still have what was asked of them by an older map. */
static void take_stale_of(struct cluster *cluster, uint32_t node, struct taken *taken) {
    take(cluster, node, taken);
    while (taken->items[0].flags != REQUEST_STALE) {
        drop(taken);
        take(cluster, node, taken);
    }
}

/* Two reads that may be stale: one goes to each node. Where the follower was slow (on a machine that is), the leader has both, and
 * they are asked anew. */
static void take_stale(struct cluster *cluster, struct taken *by_leader, struct taken *by_follower) {
    for (;;) {
        send_options(cluster->client, 1, 0, "follower", "GET a");
        send_options(cluster->client, 2, 0, "follower", "GET a");
        take_stale_of(cluster, 1, by_leader);
        bool has_both = by_leader->count == 2 && by_leader->items[1].flags == REQUEST_STALE;
        if (!has_both) take_stale_of(cluster, 2, by_follower);
        if (by_leader->count == 1) {
            assert_int_equal(by_follower->count, 1);
            return;
        }
        for (uint32_t i = 0; i < by_leader->count; i++) {
            struct reply reply;
            answer(cluster, 1, by_leader, i, SK_OK, "\x01", 1);
            read_reply(cluster->client, &reply);
        }
        drop(by_leader);
        if (!has_both) drop(by_follower);
    }
}

/* Answers what the leader has, and then what it is asked instead of the follower: as a read like any other. */
static void answer_instead(struct cluster *cluster, struct taken *by_leader, struct taken *by_follower) {
    struct taken again;
    answer(cluster, 1, by_leader, 0, SK_OK, "\x07", 1);
    take(cluster, 1, &again);
    assert_int_equal(again.count, 1);
    assert_int_equal(again.items[0].number, by_follower->items[0].number);
    assert_int_equal(again.items[0].flags, 0);
    answer(cluster, 1, &again, 0, SK_OK, "\x07", 1);
    for (int i = 0; i < 2; i++) {
        struct reply reply;
        read_reply(cluster->client, &reply);
        assert_string_equal(reply.error, "OK");
        assert_int_equal(reply.result[0], 7);
    }
    drop(&again);
    drop(by_leader);
    drop(by_follower);
}

static void in_sync_replicas_take_turns(void **state) {
    struct cluster *cluster = *state;
    struct taken by_leader, by_follower;
    lead_with_both(cluster);
    take_stale(cluster, &by_leader, &by_follower);
    answer(cluster, 1, &by_leader, 0, SK_OK, "\x01", 1);
    answer(cluster, 2, &by_follower, 0, SK_WRONGTYPE, "", 0); /* is true of the command, wherever it runs */
    for (int i = 0; i < 2; i++) {
        struct reply reply;
        read_reply(cluster->client, &reply);
        assert_true(strcmp(reply.error, "OK") == 0 || strncmp(reply.error, "WRONGTYPE", 9) == 0);
    }
    drop(&by_leader);
    drop(&by_follower);
}

/* Whatever a follower has, it is no error of the client's. */
static void what_a_follower_refuses_the_leader_is_asked(void **state) {
    struct cluster *cluster = *state;
    static const int errs[] = {SK_NOT_LEADER, SK_BUSY, SK_INTERNAL, SK_UNAVAILABLE, SK_OVERLOADED};
    struct taken by_leader, by_follower;
    lead_with_both(cluster);
    for (size_t i = 0; i < sizeof errs / sizeof *errs; i++) {
        take_stale(cluster, &by_leader, &by_follower);
        answer(cluster, 2, &by_follower, 0, errs[i], "", 0);
        answer_instead(cluster, &by_leader, &by_follower);
    }
}

static void what_a_lost_follower_had_the_leader_is_asked(void **state) {
    struct cluster *cluster = *state;
    struct taken by_leader, by_follower;
    lead_with_both(cluster);
    take_stale(cluster, &by_leader, &by_follower);
    shardd_close(cluster, 2);
    answer_instead(cluster, &by_leader, &by_follower);
    for (int i = 0; i < 2; i++) { /* and whose turn it would be */
        send_options(cluster->client, 5, 0, "follower", "GET a");
        take(cluster, 1, &by_leader);
        answer(cluster, 1, &by_leader, 0, SK_OK, "\x01", 1);
        drop(&by_leader);
        expect_result(cluster->client, 5, "\x01", 1);
    }
}

/* It is stopped, say: its connection stays. Its frames count as lost later than this read may take. */
static void a_follower_that_takes_nothing_is_not_waited_for(void **state) {
    struct cluster *cluster = *state;
    struct taken by_leader, by_follower, again;
    assert_true(WINDOW_SLOW_MS < WINDOW_STALL_MS);
    lead_with_both(cluster);
    for (int i = 0; i < 2; i++) send_options(cluster->client, 1, WINDOW_STALL_MS - 1, "follower", "GET a");
    take_stale_of(cluster, 1, &by_leader);
    take_stale_of(cluster, 2, &by_follower);
    answer(cluster, 1, &by_leader, 0, SK_OK, "\x01", 1);
    expect_result(cluster->client, 1, "\x01", 1);
    take(cluster, 1, &again);
    assert_int_equal(again.items[0].number, by_follower.items[0].number);
    answer(cluster, 1, &again, 0, SK_OK, "\x01", 1);
    expect_result(cluster->client, 1, "\x01", 1);
    drop(&again);
    drop(&by_leader);
    drop(&by_follower);
}

/* It is not waited for: what it says later is no answer, unless it is one. */
static void who_is_in_sync_no_more_is_not_waited_for(void **state) {
    struct cluster *cluster = *state;
    struct taken by_leader, by_follower, again;
    lead_with_both(cluster);
    take_stale(cluster, &by_leader, &by_follower);
    answer(cluster, 1, &by_leader, 0, SK_OK, "\x07", 1);
    cluster->leader_alone = true;
    set_map(cluster, 1, 3);
    take(cluster, 1, &again);
    assert_int_equal(again.items[0].number, by_follower.items[0].number);
    answer(cluster, 2, &by_follower, 0, SK_INTERNAL, "", 0);
    answer(cluster, 1, &again, 0, SK_OK, "\x07", 1);
    for (int i = 0; i < 2; i++) {
        struct reply reply;
        read_reply(cluster->client, &reply);
        assert_string_equal(reply.error, "OK");
    }
    drop(&again);
    drop(&by_leader);
    drop(&by_follower);
}

static void split_commands_are_joined(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "MGET a b a");
    uint32_t seen = 0;
    while (seen < 2) {
        take(cluster, 1, &taken);
        for (uint32_t i = 0; i < taken.count; i++) {
            bool of_a = taken.items[i].shard == slot_shard(slot_of_key(slice_of_text("a")), SHARDS);
            answer(cluster, 1, &taken, i, SK_OK, of_a ? "\x92\x01\x02" : "\x91\x03", of_a ? 3 : 2);
            seen++;
        }
        drop(&taken);
    }
    expect_result(cluster->client, 1, "\x93\x01\x03\x02", 4);
}

static void a_batch_answers_in_order(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 1, 1);
    static const char batch[] = "\x94\x00\x05\xa5"
                                "batch\x93\x92\xa3GET\x91\xa1"
                                "a\x92\xa4PING\x90\x92\xa3GET\x91\xa1"
                                "b";
    send_bytes(cluster->client, slice_of(batch, sizeof batch - 1));
    take(cluster, 1, &taken);
    assert_int_equal(taken.count, 2);
    assert_int_equal(taken.items[1].id_part, 2);
    answer(cluster, 1, &taken, 1, SK_WRONGTYPE, "no", 2);
    answer(cluster, 1, &taken, 0, SK_OK, "\xa1x", 2);
    drop(&taken);
    static const char expected[] = "\x93\x92\xc0\xa1x\x92\xc0\xa4PONG\x92\x92\xa9WRONGTYPE\xa2no\xc0";
    expect_result(cluster->client, 5, expected, sizeof expected - 1);
}

/* Two answers of 40 MB do not fit in one reply. */
static void large_answers(struct cluster *cluster, const char *method, const char *error) {
    static uint8_t body[40u * 1024 * 1024] = {0xc6, 0x02, 0x7f, 0xff, 0xfb}; /* a bin of all that follows */
    struct taken taken;
    struct buffer bytes;
    buffer_init(&bytes);
    mp_write_array(&bytes, 4);
    mp_write_uint(&bytes, 0);
    mp_write_uint(&bytes, 6);
    mp_write_text(&bytes, "batch");
    mp_write_array(&bytes, 2);
    for (int i = 0; i < 2; i++) {
        mp_write_array(&bytes, 2);
        mp_write_text(&bytes, method);
        mp_write_array(&bytes, 1);
        mp_write_text(&bytes, "a");
    }
    send_bytes(cluster->client, buffer_slice(&bytes));
    buffer_deinit(&bytes);
    take(cluster, 1, &taken);
    assert_int_equal(taken.count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        push_answer(cluster, 1, &taken, i, SK_OK, slice_of(body, sizeof body), taken.header.session);
    }
    drop(&taken);
    nng_msg *message;
    assert_int_equal(nng_recvmsg(cluster->client, &message, 0), 0);
    size_t size = nng_msg_len(message);
    assert_true(size > sizeof body && size < sizeof body + 1000);
    struct mp_reader reader = mp_reader_of(slice_of((uint8_t *)nng_msg_body(message), size));
    uint32_t count;
    uint64_t number;
    struct slice code;
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(mp_read_uint(&reader, &number), SK_OK);
    assert_int_equal(mp_read_uint(&reader, &number), SK_OK);
    assert_int_equal(mp_skip(&reader, NULL), SK_OK);
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(mp_skip(&reader, NULL), SK_OK); /* the first came whole */
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(mp_read_array(&reader, &count), SK_OK);
    assert_int_equal(mp_read_str(&reader, &code), SK_OK);
    assert_true(slice_equal(code, slice_of_text(error)));
    nng_msg_free(message);
}

static void a_read_that_does_not_fit_in_the_reply(void **state) {
    set_map(*state, 1, 1);
    large_answers(*state, "GET", "TOOLARGE");
}

static void a_write_that_does_not_fit_in_the_reply(void **state) {
    set_map(*state, 1, 1);
    large_answers(*state, "GETDEL", "DONE"); /* it has happened */
}

/* While four frames are out nothing more is sent; then all that has gathered goes in one. */
static void commands_gather_behind_a_full_window(void **state) {
    struct cluster *cluster = *state;
    struct taken taken[4], rest;
    set_map(cluster, 1, 1);
    for (uint32_t i = 0; i < 4; i++) {
        send_words(cluster->client, i, 0, "GET a");
        take(cluster, 1, &taken[i]);
        assert_int_equal(taken[i].count, 1);
    }
    for (uint32_t i = 4; i < 10; i++) send_words(cluster->client, i, 0, "GET a");
    send_words(cluster->client, 10, 0, "PING"); /* all before it are with the loop */
    expect_result(cluster->client, 10, "\xa4PONG", 5);
    answer(cluster, 1, &taken[3], 0, SK_OK, "\xc0", 1); /* tells that all four are taken */
    expect_result(cluster->client, 3, "\xc0", 1);
    take(cluster, 1, &rest);
    assert_int_equal(rest.count, 6);
    for (uint32_t i = 0; i < 3; i++) answer(cluster, 1, &taken[i], 0, SK_OK, "\xc0", 1);
    for (uint32_t i = 0; i < 6; i++) answer(cluster, 1, &rest, i, SK_OK, "\xc0", 1);
    struct reply reply;
    for (uint32_t i = 0; i < 9; i++) {
        read_reply(cluster->client, &reply);
        assert_string_equal(reply.error, "OK");
    }
    for (uint32_t i = 0; i < 4; i++) drop(&taken[i]);
    drop(&rest);
}

static void answers_of_strangers_are_ignored(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "GET a");
    take(cluster, 1, &taken);
    push_answer(cluster, 1, &taken, 0, SK_OK, slice_of("\x05", 1), taken.header.session + 1);
    assert_int_equal(nng_send(cluster->shardds[1].answers, (char[]){"rubbish"}, 7, 0), 0);
    answer(cluster, 1, &taken, 0, SK_OK, "\x01", 1);
    expect_result(cluster->client, 1, "\x01", 1);
    answer(cluster, 1, &taken, 0, SK_OK, "\x01", 1); /* again */
    drop(&taken);
    send_words(cluster->client, 2, 0, "PING");
    expect_result(cluster->client, 2, "\xa4PONG", 5);
}

static void a_connection_has_caps(void **state) {
    struct cluster *cluster = *state; /* 2 requests, 4096 bytes */
    struct taken first, taken;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "GET a");
    take(cluster, 1, &first);
    send_words(cluster->client, 2, 0, "GET a");
    take(cluster, 1, &taken);
    send_words(cluster->client, 3, 0, "GET a");
    struct reply reply;
    read_reply(cluster->client, &reply);
    assert_int_equal(reply.msgid, 3);
    assert_int_equal(strncmp(reply.error, "OVERLOADED ", 11), 0);
    nng_socket other = client_open(cluster); /* its own caps */
    send_words(other, 4, 0, "PING");
    expect_result(other, 4, "\xa4PONG", 5);
    struct buffer bytes;
    buffer_init(&bytes);
    static uint8_t zeros[5000];
    mp_write_array(&bytes, 4);
    mp_write_uint(&bytes, 0);
    mp_write_uint(&bytes, 5);
    mp_write_text(&bytes, "ECHO");
    mp_write_array(&bytes, 1);
    mp_write_bin(&bytes, slice_of(zeros, sizeof zeros));
    send_bytes(other, buffer_slice(&bytes));
    buffer_deinit(&bytes);
    read_reply(other, &reply);
    assert_int_equal(reply.msgid, 5);
    assert_int_equal(strncmp(reply.error, "OVERLOADED ", 11), 0);
    (void)nng_close(other);
    answer(cluster, 1, &taken, 0, SK_OK, "\xc0", 1);
    drop(&taken);
    expect_result(cluster->client, 2, "\xc0", 1);
    answer(cluster, 1, &first, 0, SK_OK, "\xc0", 1);
    drop(&first);
    expect_result(cluster->client, 1, "\xc0", 1);
}

/* Sends as many requests as one connection may have in flight and one more. When one of them is refused all have come. */
static void fill_connection(nng_socket client, uint32_t requests) {
    struct reply reply;
    for (uint32_t i = 0; i <= requests; i++) send_words(client, i, 0, "GET a");
    read_reply(client, &reply);
    assert_int_equal(strncmp(reply.error, "OVERLOADED ", 11), 0);
}

/* A third client is told at once when two others have all that may be in flight. */
static void all_together_have_a_cap(void **state) {
    struct cluster *cluster = *state; /* 64 requests, 32 of one connection */
    nng_socket second = client_open(cluster), third = client_open(cluster);
    fill_connection(cluster->client, 32);
    fill_connection(second, 32);
    struct reply reply;
    for (uint64_t i = 0; i < 20; i++) { /* also again and again */
        send_words(third, i, 0, "PING");
        read_reply(third, &reply);
        assert_int_equal(strncmp(reply.error, "OVERLOADED ", 11), 0);
    }
    set_map(cluster, 1, 1);
    for (uint32_t answered = 0; answered < 64;) {
        struct taken taken;
        take(cluster, 1, &taken);
        for (uint32_t i = 0; i < taken.count; i++) answer(cluster, 1, &taken, i, SK_OK, "\xc0", 1);
        answered += taken.count;
        drop(&taken);
    }
    for (uint32_t i = 0; i < 32; i++) {
        read_reply(cluster->client, &reply);
        read_reply(second, &reply);
    }
    do { /* until the last replies count no more */
        send_words(third, 5, 0, "PING");
        read_reply(third, &reply);
    } while (strcmp(reply.error, "OK") != 0);
    (void)nng_close(second);
    (void)nng_close(third);
}

/* The answers of commands that need no shard count too, and when they are gone there is room again. */
static void local_answers_count(void **state) {
    struct cluster *cluster = *state; /* 4096 bytes */
    struct reply reply;
    for (uint64_t i = 0; i < 10; i++) {
        send_words(cluster->client, 2 * i, 0, "COMMAND DOCS");
        read_reply(cluster->client, &reply);
        assert_string_equal(reply.error, "OVERLOADED no room for the answer");
        send_words(cluster->client, 2 * i + 1, 0, "PING");
        expect_result(cluster->client, 2 * i + 1, "\xa4PONG", 5);
    }
}

static void count_cb(nng_pipe pipe, nng_pipe_ev event, void *arg) {
    (void)pipe;
    (void)event;
    atomic_fetch_add((atomic_int *)arg, 1);
}

/* A client that sends and never reads: its replies fill the connection, it is closed, and others are served. */
static void who_does_not_read_is_closed(void **state) {
    struct cluster *cluster = *state;
    nng_socket silent = client_open(cluster);
    assert_int_equal(nng_socket_set_ms(silent, NNG_OPT_SENDTIMEO, 50), 0);
    assert_int_equal(nng_socket_set_int(silent, NNG_OPT_RECVBUF, 1), 0);
    atomic_int closed;
    atomic_init(&closed, 0);
    assert_int_equal(nng_pipe_notify(silent, NNG_PIPE_EV_REM_POST, count_cb, &closed), 0);
    static uint8_t zeros[1024 * 1024];
    struct buffer bytes;
    buffer_init(&bytes);
    mp_write_array(&bytes, 4);
    mp_write_uint(&bytes, 0);
    mp_write_uint(&bytes, 5);
    mp_write_text(&bytes, "ECHO");
    mp_write_array(&bytes, 1);
    mp_write_bin(&bytes, slice_of(zeros, sizeof zeros));
    for (int i = 0; i < 1000 && atomic_load(&closed) == 0; i++) {
        (void)try_send_bytes(silent, buffer_slice(&bytes));
        send_words(cluster->client, 7, 0, "PING");
        expect_result(cluster->client, 7, "\xa4PONG", 5);
    }
    assert_true(atomic_load(&closed) > 0);
    buffer_deinit(&bytes);
    (void)nng_close(silent);
}

static void stopping_refuses_and_finishes(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "GET a");
    take(cluster, 1, &taken);
    gateway_stop(cluster->gateway);
    struct reply reply;
    do { /* until the loop has read it */
        send_words(cluster->client, 2, 0, "PING");
        read_reply(cluster->client, &reply);
    } while (strcmp(reply.error, "OK") == 0);
    assert_string_equal(reply.error, "UNAVAILABLE the gateway is stopping");
    answer(cluster, 1, &taken, 0, SK_OK, "\xc0", 1);
    drop(&taken);
    expect_result(cluster->client, 1, "\xc0", 1);
}

/* --- blocking commands --- */

#define NIL "\xc0"
#define GOT "\x92\xa1q\xa1x"

/* Takes the frame with one item, of which the fields are those of a slice of waiting. */
static void take_slice(struct cluster *cluster, uint32_t node, struct taken *taken) {
    take(cluster, node, taken);
    assert_int_equal(taken->count, 1);
    assert_int_equal(taken->items[0].flags, REQUEST_WRITE | REQUEST_WAITS);
    assert_true(taken->items[0].timeout_ms > 0 && taken->items[0].timeout_ms <= WAIT_SLICE_MS);
    assert_int_equal(taken->items[0].floor, taken->items[0].number); /* nothing before it may come again */
}

static void waiting_goes_on_under_other_names(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second, third;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "BLPOP q 0");
    take_slice(cluster, 1, &first);
    assert_int_equal(first.items[0].timeout_ms, WAIT_SLICE_MS);
    answer(cluster, 1, &first, 0, SK_NOT_LEADER, "", 0);
    take_slice(cluster, 1, &second); /* that said nothing of its name */
    assert_int_equal(second.items[0].number, first.items[0].number);
    answer(cluster, 1, &second, 0, SK_OK, NIL, 1);
    take_slice(cluster, 1, &third);
    assert_true(third.items[0].number > second.items[0].number);
    assert_int_equal(second.items[0].follows, 0);
    assert_int_equal(third.items[0].follows, second.items[0].number);
    assert_true(third.items[0].waited_us > second.items[0].waited_us);
    answer(cluster, 1, &second, 0, SK_OK, GOT, 5); /* nobody's any more */
    answer(cluster, 1, &third, 0, SK_OK, GOT, 5);
    expect_result(cluster->client, 1, GOT, 5);
    drop(&first);
    drop(&second);
    drop(&third);
}

static void waiting_ends_in_time_and_never_early(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second;
    struct reply reply;
    set_map(cluster, 1, 1);
    uint64_t begin_ms = clock_boottime_ms();
    send_words(cluster->client, 1, 0, "BLPOP q 0.4");
    take_slice(cluster, 1, &first);
    assert_true(first.items[0].timeout_ms <= 400);
    answer(cluster, 1, &first, 0, SK_OK, NIL, 1); /* earlier than was asked */
    do {
        take_slice(cluster, 1, &second);
        assert_true(second.items[0].timeout_ms <= first.items[0].timeout_ms);
        uint64_t over_ms = clock_boottime_ms() + second.items[0].timeout_ms;
        while (clock_boottime_ms() <= over_ms) (void)usleep(1000);
        answer(cluster, 1, &second, 0, SK_OK, NIL, 1);
        drop(&second);
    } while (clock_boottime_ms() < begin_ms + 400);
    drop(&first);
    read_reply(cluster->client, &reply);
    assert_string_equal(reply.error, "OK");
    assert_memory_equal(reply.result, NIL, 1);
    assert_true(clock_boottime_ms() >= begin_ms + 400);
}

/* Once its time is over it does not wait any more, but wants to be answered. */
static void a_shard_that_is_away_for_long_is_asked_at_the_end(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "BLPOP q 0.05");
    do {
        take(cluster, 1, &taken);
        bool waits = (taken.items[0].flags & REQUEST_WAITS) != 0;
        answer(cluster, 1, &taken, 0, waits ? SK_NOT_LEADER : SK_OK, NIL, waits ? 0 : 1);
        if (!waits) break;
        drop(&taken);
    } while (true);
    assert_int_equal(taken.items[0].flags, REQUEST_WRITE);
    assert_true(taken.items[0].timeout_ms > WAIT_SLICE_MS); /* that of any request */
    drop(&taken);
    expect_result(cluster->client, 1, NIL, 1);
}

/* What is asked of the next leader under a name is not ended by what the last one says of it. */
static void a_late_nil_is_not_believed(void **state) {
    struct cluster *cluster = *state;
    struct taken first, second;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "BLPOP q 0");
    take_slice(cluster, 1, &first);
    set_map(cluster, 2, 2);
    take_slice(cluster, 2, &second);
    assert_int_equal(second.items[0].number, first.items[0].number);
    answer(cluster, 1, &first, 0, SK_OK, NIL, 1);
    send_words(cluster->client, 2, 0, "PING");
    expect_result(cluster->client, 2, "\xa4PONG", 5);
    answer(cluster, 2, &second, 0, SK_OK, GOT, 5);
    expect_result(cluster->client, 1, GOT, 5);
    drop(&first);
    drop(&second);
}

static void what_cannot_wait_does_not(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    set_map(cluster, 1, 1);
    static const char batch[] = "\x94\x00\x05\xa5"
                                "batch\x91\x92\xa5"
                                "BLPOP\x92\xa1q\x00";
    send_bytes(cluster->client, slice_of(batch, sizeof batch - 1));
    take(cluster, 1, &taken);
    assert_int_equal(taken.items[0].flags, REQUEST_WRITE);
    answer(cluster, 1, &taken, 0, SK_OK, NIL, 1);
    drop(&taken);
    expect_result(cluster->client, 5, "\x91\x92\xc0\xc0", 4);
    send_words(cluster->client, 6, 0, "BLPOP q -1");
    take(cluster, 1, &taken);
    assert_int_equal(taken.items[0].flags, REQUEST_WRITE);
    answer(cluster, 1, &taken, 0, SK_BADREQUEST, "no", 2);
    drop(&taken);
    expect_error(cluster->client, 6, "BADREQUEST no");
}

/* Those who wait leave room for those who do not. */
/* As shard 1 would: what waits has got something, what does not is done. */
static void answer_all(struct cluster *cluster, struct taken *taken) {
    for (uint32_t i = 0; i < taken->count; i++) {
        bool waits = (taken->items[i].flags & REQUEST_WAITS) != 0;
        answer(cluster, 1, taken, i, SK_OK, waits ? GOT : OK_STATUS, waits ? 5 : 3);
    }
    drop(taken);
}

static void waiting_has_a_cap(void **state) {
    struct cluster *cluster = *state; /* 64 requests, 32 of one connection; 48 may wait */
    struct taken taken;
    struct reply reply;
    set_map(cluster, 1, 1);
    nng_socket second = client_open(cluster);
    struct taken first[30];
    uint32_t frames = 0;
    for (uint32_t i = 0; i < 30; i++) send_words(cluster->client, 100 + i, 0, "BLPOP q 0");
    for (uint32_t waiting = 0; waiting < 30; waiting += first[frames++].count) take(cluster, 1, &first[frames]);
    for (uint32_t i = 0; i < 30; i++) send_words(second, 200 + i, 0, "BLPOP q 0");
    for (uint32_t i = 0; i < 12; i++) {
        read_reply(second, &reply);
        assert_string_equal(reply.error, "OVERLOADED too many clients wait");
    }
    send_words(second, 1, 0, "SET a 1");
    for (uint32_t i = 0; i < frames; i++) answer_all(cluster, &first[i]);
    for (uint32_t answered = 0; answered < 19;) {
        take(cluster, 1, &taken);
        answered += taken.count;
        answer_all(cluster, &taken);
    }
    for (uint32_t i = 0; i < 19; i++) read_reply(second, &reply);
    for (uint32_t i = 0; i < 30; i++) read_reply(cluster->client, &reply);
    send_words(second, 2, 0, "BLPOP q 0"); /* there is room again */
    take_slice(cluster, 1, &taken);
    answer(cluster, 1, &taken, 0, SK_OK, GOT, 5);
    drop(&taken);
    expect_result(second, 2, GOT, 5);
    (void)nng_close(second);
}

static void nobody_waits_for_who_has_gone(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    struct reply reply;
    set_map(cluster, 1, 1);
    nng_socket gone = client_open(cluster);
    send_words(gone, 1, 0, "BLPOP q 0");
    take_slice(cluster, 1, &taken);
    (void)nng_close(gone);
    answer(cluster, 1, &taken, 0, SK_OK, NIL, 1);
    drop(&taken);
    uint64_t end_ms = clock_boottime_ms() + WAIT_MS;
    do { /* the gateway may not have seen the end of the connection at the first slices */
        assert_true(clock_boottime_ms() < end_ms);
        send_words(cluster->client, 3, 0, "INFO");
        for (uint32_t shards = 0; shards < SHARDS;) {
            take(cluster, 1, &taken);
            for (uint32_t i = 0; i < taken.count; i++) {
                bool info = memcmp(taken.items[i].body.data, "\xa4INFO", 5) == 0;
                answer(cluster, 1, &taken, i, SK_OK, info ? "\x80" : NIL, 1);
                shards += info;
            }
            drop(&taken);
        }
        read_reply(cluster->client, &reply);
        assert_string_equal(reply.error, "OK");
    } while (memmem(reply.result, reply.result_bytes, "requests_in_flight:1\r", 21) == NULL);
}

static void waiting_ends_when_the_gateway_stops(void **state) {
    struct cluster *cluster = *state;
    struct taken taken;
    struct reply reply;
    set_map(cluster, 1, 1);
    send_words(cluster->client, 1, 0, "BLPOP q 0");
    take_slice(cluster, 1, &taken);
    gateway_stop(cluster->gateway);
    do { /* until the loop has read it */
        send_words(cluster->client, 2, 0, "PING");
        read_reply(cluster->client, &reply);
    } while (strcmp(reply.error, "OK") == 0);
    answer(cluster, 1, &taken, 0, SK_OK, NIL, 1);
    drop(&taken);
    expect_error(cluster->client, 1, "UNAVAILABLE the gateway is stopping");
}

static void bad_addresses_say_what_and_where(void **state) {
    struct cluster *cluster = *state;
    struct gateway *gateway;
    char text[256];
    struct gateway_options options = {
        .metad = cluster->urls[0],
        .metad_publish = cluster->urls[1],
        .listen = cluster->urls[2], /* taken */
        .frames_listen = url(cluster, 4, "other"),
        .connections_max = 1000,
        .message_bytes_max = MESSAGE_BYTES_MAX,
        .requests_max = 2,
        .connection_requests_max = 2,
        .connection_bytes_max = 4096,
        .bytes_max = 4096,
        .timeout_ms = 1000,
    };
    assert_int_equal(gateway_open(&gateway, &options, text, sizeof text), SK_ECONFIG);
    assert_non_null(strstr(text, options.listen));
    options.listen = url(cluster, 5, "free");
    options.metad = "nonsense";
    assert_int_equal(gateway_open(&gateway, &options, text, sizeof text), SK_ECONFIG);
    assert_non_null(strstr(text, "nonsense"));
}

int main(void) {
    log_init("gateway", LOG_ERROR);
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_command_and_its_answer),
        TEST(local_commands_need_no_map),
        TEST(requests_wait_for_the_first_map),
        TEST(not_leader_is_tried_again_under_the_same_number),
        TEST(what_a_leader_has_lost_is_asked_for_again),
        TEST(a_lost_connection_sends_again),
        TEST(lost_answers_are_asked_for_again),
        TEST(frames_that_are_not_taken_are_sent_again_on_another_connection),
        TEST(the_deadline_tells_unknown_from_not_done),
        TEST(a_refusal_after_a_lost_attempt_is_not_definite),
        TEST(what_a_leader_has_lost_the_next_one_is_asked),
        TEST(a_busy_read_is_unavailable),
        TEST(nothing_is_asked_again_for_who_has_gone),
        TEST(in_sync_replicas_take_turns),
        TEST(what_a_follower_refuses_the_leader_is_asked),
        TEST(what_a_lost_follower_had_the_leader_is_asked),
        TEST(a_follower_that_takes_nothing_is_not_waited_for),
        TEST(who_is_in_sync_no_more_is_not_waited_for),
        TEST(split_commands_are_joined),
        TEST(a_batch_answers_in_order),
        TEST(a_read_that_does_not_fit_in_the_reply),
        TEST(a_write_that_does_not_fit_in_the_reply),
        TEST(commands_gather_behind_a_full_window),
        TEST(answers_of_strangers_are_ignored),
        cmocka_unit_test_setup_teardown(a_connection_has_caps, set_up_small, tear_down),
        TEST(all_together_have_a_cap),
        cmocka_unit_test_setup_teardown(local_answers_count, set_up_small, tear_down),
        TEST(who_does_not_read_is_closed),
        TEST(stopping_refuses_and_finishes),
        TEST(waiting_goes_on_under_other_names),
        TEST(waiting_ends_in_time_and_never_early),
        TEST(a_shard_that_is_away_for_long_is_asked_at_the_end),
        TEST(a_late_nil_is_not_believed),
        TEST(what_cannot_wait_does_not),
        TEST(waiting_has_a_cap),
        TEST(nobody_waits_for_who_has_gone),
        TEST(waiting_ends_when_the_gateway_stops),
        TEST(bad_addresses_say_what_and_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
