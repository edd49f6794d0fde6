#include "metad/command.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct log_command registration(void) {
    struct log_command command = {
        .kind = COMMAND_REGISTER_NODE,
        .origin = UINT64_MAX,
        .number = 3,
        .register_node = {.store_id = "0123456789abcde",
                          .node_id = 2,
                          .cluster = 0x1122334455667788u,
                          .lanes = 4,
                          .start_name_bytes = 3,
                          .start_name = "xyz",
                          .host = "host-a",
                          .frames_address = "tcp://host-a:7200",
                          .replication_address = "tcp://host-a:7210"},
    };
    return command;
}

/* Encodes, checks the length, decodes into `back`. */
static void round_trip(const struct log_command *command, struct log_command *back) {
    struct buffer buffer;
    buffer_init(&buffer);
    command_encode(command, &buffer);
    assert_false(buffer.failed);
    assert_int_equal(buffer.size % 8, 0);
    assert_int_equal(command_decode(buffer_slice(&buffer), back), SK_OK);
    assert_int_equal(back->kind, command->kind);
    assert_true(back->origin == command->origin);
    assert_true(back->number == command->number);
    buffer_deinit(&buffer);
}

static void each_kind_comes_back(void **state) {
    (void)state;
    struct log_command back;
    struct log_command init = {.kind = COMMAND_INIT, .init = {UINT64_MAX, 16384, 7, 1024}};
    round_trip(&init, &back);
    assert_true(back.init.cluster == UINT64_MAX);
    assert_int_equal(back.init.shard_count, 16384);
    assert_int_equal(back.init.replicas, 7);
    assert_int_equal(back.init.expect_nodes, 1024);

    struct log_command node = registration();
    round_trip(&node, &back);
    assert_memory_equal(&back.register_node, &node.register_node, sizeof node.register_node);

    uint32_t nodes[] = {1, 2, 3, 4, 1000, 6, 7, 8};
    struct log_command create = {.kind = COMMAND_CREATE_SHARDS, .create_shards = {9, 4, 2, nodes}};
    round_trip(&create, &back);
    assert_true(back.create_shards.catalog_version == 9);
    assert_int_equal(back.create_shards.shard_count, 4);
    assert_int_equal(back.create_shards.replica_count, 2);
    assert_memory_equal(back.create_shards.nodes, nodes, sizeof nodes);
    command_deinit(&back);

    struct log_command alive = {.kind = COMMAND_NODE_ALIVE, .node_alive = {5, 77, true}};
    round_trip(&alive, &back);
    assert_int_equal(back.node_alive.node_id, 5);
    assert_true(back.node_alive.incarnation == 77);
    assert_true(back.node_alive.alive);

    struct shard_change changes[] = {{.kind = SHARD_CHANGE_CLAIM, .shard = 7, .config_version = 8},
                                     {.kind = SHARD_CHANGE_RETIRE, .shard = 9, .config_version = 1, .node = 2}};
    struct log_command change = {.kind = COMMAND_CHANGE_SHARDS, .change_shards = {5, 77, 2, changes}};
    round_trip(&change, &back);
    assert_int_equal(back.change_shards.node_id, 5);
    assert_true(back.change_shards.incarnation == 77);
    assert_int_equal(back.change_shards.change_count, 2);
    assert_memory_equal(back.change_shards.changes, changes, sizeof changes);
    command_deinit(&back);

    struct log_command wish = {.kind = COMMAND_WISH_LEADER, .wish_leader = {16383, UINT64_MAX, 3, true}};
    round_trip(&wish, &back);
    assert_memory_equal(&back.wish_leader, &wish.wish_leader, sizeof wish.wish_leader);

    struct log_command replace = {.kind = COMMAND_REPLACE_REPLICA, .replace_replica = {1, 2, 3, 4}};
    round_trip(&replace, &back);
    assert_memory_equal(&back.replace_replica, &replace.replace_replica, sizeof replace.replace_replica);

    struct log_command verify = {.kind = COMMAND_VERIFY, .number = 12};
    round_trip(&verify, &back);

    struct log_command force = {.kind = COMMAND_FORCE_LEADER, .force_leader = {1, 2, 3}};
    round_trip(&force, &back);
    assert_memory_equal(&back.force_leader, &force.force_leader, sizeof force.force_leader);

    struct log_command move = {
        .kind = COMMAND_MOVE_REPLICA,
        .move_replica = {
            .shard = 16383, .config_version = UINT64_MAX, .step = COMMAND_MOVE_CANCEL, .from = 2, .to = 3}};
    round_trip(&move, &back);
    assert_memory_equal(&back.move_replica, &move.move_replica, sizeof move.move_replica);

    struct log_command node_change = {.kind = COMMAND_CHANGE_NODE, .change_node = {1024, COMMAND_NODE_REMOVE}};
    round_trip(&node_change, &back);
    assert_memory_equal(&back.change_node, &node_change.change_node, sizeof node_change.change_node);
}

static void refuse_truncations(const struct log_command *command) {
    struct buffer buffer;
    buffer_init(&buffer);
    command_encode(command, &buffer);
    size_t size = buffer.size;
    while (buffer.data[size - 1] == 0) size--; /* the padding */
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a read beyond */
        memcpy(exact, buffer.data, cut);
        struct log_command back;
        assert_int_equal(command_decode(slice_of(exact, cut), &back), SK_EPROTO);
        free(exact);
    }
    buffer_deinit(&buffer);
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    struct log_command command = registration();
    refuse_truncations(&command);
    struct shard_change changes[] = {{.kind = SHARD_CHANGE_CLAIM, .shard = 7, .config_version = 8},
                                     {.kind = SHARD_CHANGE_RETIRE, .shard = 9, .config_version = 1, .node = 2}};
    command = (struct log_command){.kind = COMMAND_CHANGE_SHARDS, .change_shards = {5, 77, 2, changes}};
    refuse_truncations(&command);
    command = (struct log_command){.kind = COMMAND_WISH_LEADER, .wish_leader = {1, 2, 3, true}};
    refuse_truncations(&command);
}

/* [format, kind, 0, 0, numbers…] and what decoding says. */
static int decode_numbers(uint64_t format, uint64_t kind, const uint64_t *numbers, uint32_t count) {
    struct buffer buffer;
    buffer_init(&buffer);
    mp_write_array(&buffer, 4 + count);
    mp_write_uint(&buffer, format);
    mp_write_uint(&buffer, kind);
    mp_write_uint(&buffer, 0);
    mp_write_uint(&buffer, 0);
    for (uint32_t i = 0; i < count; i++) mp_write_uint(&buffer, numbers[i]);
    struct log_command command;
    int err = command_decode(buffer_slice(&buffer), &command);
    if (err == SK_OK) command_deinit(&command);
    buffer_deinit(&buffer);
    return err;
}

static void the_future_is_told_apart_from_damage(void **state) {
    (void)state;
    const uint64_t init[] = {1, 64, 3, 1};
    assert_int_equal(decode_numbers(1, COMMAND_INIT, init, 4), SK_OK);
    assert_int_equal(decode_numbers(2, COMMAND_INIT, init, 4), SK_EVERSION);
    assert_int_equal(decode_numbers(0, COMMAND_INIT, init, 4), SK_EPROTO);
    assert_int_equal(decode_numbers(1, 99, init, 4), SK_EVERSION);
    assert_int_equal(decode_numbers(1, 0, init, 4), SK_EPROTO);
}

static void senseless_values_are_refused(void **state) {
    (void)state;
    const uint64_t inits[][4] = {
        {0, 64, 3, 1},    /* no cluster */
        {1, 0, 3, 1},     /* no shards */
        {1, 48, 3, 1},    /* not a power of two */
        {1, 32768, 3, 1}, /* too many */
        {1, 64, 0, 1},    /* no replicas */
        {1, 64, 8, 1},    /* too many */
        {1, 64, 3, 0},    /* no nodes */
        {1, 64, 3, 1025}, /* too many */
        {1, 1ull << 40, 3, 1},
    };
    for (size_t i = 0; i < sizeof inits / sizeof inits[0]; i++) {
        assert_int_equal(decode_numbers(1, COMMAND_INIT, inits[i], 4), SK_EPROTO);
    }
    const uint64_t few[] = {1, 64, 3};
    assert_int_equal(decode_numbers(1, COMMAND_INIT, few, 3), SK_EPROTO);
    assert_int_equal(decode_numbers(1, COMMAND_REGISTER_NODE, few, 3), SK_EPROTO);
    assert_int_equal(decode_numbers(1, COMMAND_CREATE_SHARDS, few, 3), SK_EPROTO);
    assert_int_equal(decode_numbers(1, COMMAND_NODE_ALIVE, few, 2), SK_EPROTO);
    assert_int_equal(decode_numbers(1, COMMAND_NODE_ALIVE, few, 3), SK_EPROTO);    /* alive is no boolean */
    assert_int_equal(decode_numbers(1, COMMAND_CHANGE_SHARDS, few, 3), SK_EPROTO); /* no array */
    const uint64_t far[] = {16384, 1, 1, 2};
    const uint64_t near[] = {16383, 1, 1, 2};
    assert_int_equal(decode_numbers(1, COMMAND_FORCE_LEADER, far, 3), SK_EPROTO); /* no such shard */
    assert_int_equal(decode_numbers(1, COMMAND_FORCE_LEADER, near, 3), SK_OK);
    assert_int_equal(decode_numbers(1, COMMAND_REPLACE_REPLICA, far, 4), SK_EPROTO);
    assert_int_equal(decode_numbers(1, COMMAND_REPLACE_REPLICA, near, 4), SK_OK);
    assert_int_equal(decode_numbers(1, COMMAND_REPLACE_REPLICA, near, 3), SK_EPROTO);
    assert_int_equal(decode_numbers(1, COMMAND_WISH_LEADER, near, 4), SK_EPROTO); /* preferred is no boolean */
    const uint64_t moves[][5] = {{16384, 1, 0, 1, 2}, {1, 1, 3, 1, 2}, {1, 1, 0, 1, 1ull << 32}, {1, 1, 2, 0, 0}};
    for (size_t i = 0; i < 4; i++) { /* no such shard, no such step, no node */
        assert_int_equal(decode_numbers(1, COMMAND_MOVE_REPLICA, moves[i], 5), i < 3 ? SK_EPROTO : SK_OK);
    }
    const uint64_t node_changes[][2] = {{1, 3}, {1ull << 32, 0}, {1, 2}};
    for (size_t i = 0; i < 3; i++) { /* no such change, no node */
        assert_int_equal(decode_numbers(1, COMMAND_CHANGE_NODE, node_changes[i], 2), i < 2 ? SK_EPROTO : SK_OK);
    }
}

static void a_placement_of_another_size_is_refused(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    mp_write_array(&buffer, 8);
    const uint64_t head[] = {1, COMMAND_CREATE_SHARDS, 0, 0, 1, 4, 2};
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) mp_write_uint(&buffer, head[i]);
    mp_write_array(&buffer, 7); /* 8 would be right */
    for (uint64_t i = 0; i < 7; i++) mp_write_uint(&buffer, 1);
    struct log_command command;
    assert_int_equal(command_decode(buffer_slice(&buffer), &command), SK_EPROTO);
    buffer_deinit(&buffer);
}

static void changes_have_a_number(void **state) {
    (void)state;
    static struct shard_change changes[SHARD_CHANGES_MAX + 1];
    for (uint32_t i = 0; i <= SHARD_CHANGES_MAX; i++) changes[i].kind = SHARD_CHANGE_CLAIM;
    const uint32_t counts[] = {0, SHARD_CHANGES_MAX + 1, SHARD_CHANGES_MAX};
    for (size_t i = 0; i < 3; i++) {
        struct log_command back,
            command = {.kind = COMMAND_CHANGE_SHARDS, .change_shards = {1, 1, counts[i], changes}};
        struct buffer buffer;
        buffer_init(&buffer);
        command_encode(&command, &buffer);
        assert_int_equal(command_decode(buffer_slice(&buffer), &back), i < 2 ? SK_EPROTO : SK_OK);
        if (i == 2) command_deinit(&back);
        buffer_deinit(&buffer);
    }
}

static void only_zero_padding_may_follow(void **state) {
    (void)state;
    struct log_command command = {.kind = COMMAND_NODE_ALIVE, .node_alive = {1, 1, true}}, back;
    struct buffer buffer;
    buffer_init(&buffer);
    command_encode(&command, &buffer);
    size_t size = buffer.size;
    buffer.data[size - 1] = 1;
    assert_int_equal(command_decode(buffer_slice(&buffer), &back), SK_EPROTO);
    buffer.data[size - 1] = 0;
    buffer_append(&buffer, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(command_decode(buffer_slice(&buffer), &back), SK_EPROTO);
    buffer_deinit(&buffer);
}

/* A long address, one with a 0 inside, and a long start name would not fit what holds them. */
static void texts_that_do_not_fit_are_refused(void **state) {
    (void)state;
    char long_text[MAP_ADDRESS_BYTES + 1];
    memset(long_text, 'a', sizeof long_text);
    const struct slice hosts[] = {slice_of(long_text, MAP_ADDRESS_BYTES), slice_of("a\0b", 3), slice_of("a", 1)};
    for (size_t i = 0; i < 3; i++) {
        struct buffer buffer;
        buffer_init(&buffer);
        mp_write_array(&buffer, 12);
        const uint64_t head[] = {1, COMMAND_REGISTER_NODE, 0, 0};
        for (size_t j = 0; j < 4; j++) mp_write_uint(&buffer, head[j]);
        mp_write_bin(&buffer, slice_of("0123456789abcdef", 16));
        for (size_t j = 0; j < 3; j++) mp_write_uint(&buffer, 1);
        mp_write_bin(&buffer, slice_of(long_text, i == 2 ? 17 : 3));
        mp_write_str(&buffer, hosts[i]);
        mp_write_text(&buffer, "f");
        mp_write_text(&buffer, "r");
        struct log_command command;
        assert_int_equal(command_decode(buffer_slice(&buffer), &command), SK_EPROTO);
        buffer_deinit(&buffer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_comes_back),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(the_future_is_told_apart_from_damage),
        cmocka_unit_test(senseless_values_are_refused),
        cmocka_unit_test(a_placement_of_another_size_is_refused),
        cmocka_unit_test(changes_have_a_number),
        cmocka_unit_test(only_zero_padding_may_follow),
        cmocka_unit_test(texts_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
