#include "shardd/peer_wire.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

/* Where fields stand, as peer_wire.c lays them out. */
enum {
    AT_VERSION = 4,
    AT_RESERVED = 5,
    AT_FROM = 16,
    AT_TO = 20,
    AT_CONNECTION = 40,
    AT_BULK_BEFORE = 56,
    AT_ITEM_COUNT = 88,
    AT_URGENT_BYTES = 92,
    ITEM_AT_KIND = 4,
    ITEM_AT_TYPE = 5,
    ITEM_AT_FLAGS = 6,
    ITEM_AT_SHARD = 8,
    ITEM_AT_COUNT = 12,
    ITEM_BYTES = 32,
    NUMBERS_BYTES = 24, /* of an APPEND */
    ENTRY_AT_EPOCH = 0,
    ENTRY_AT_BYTES = 16,
    ENTRY_AT_TYPE = 20,
    ENTRY_AT_RESERVED = 21,
    CHUNK_AT_TOTAL = 16,
    CHUNK_AT_OFFSET = 20,
};

static const struct peer_header sent_header = {
    .cluster = 0x1122334455667788,
    .from = 2,
    .to = 3,
    .from_incarnation = 4,
    .to_incarnation = 5,
    .connection = 6,
    .number = 7,
    .bulk_before = 8,
    .heard_connection = 9,
    .heard_number = 10,
    .heard_taken = 11,
};

static struct replica_message message_of(enum replica_message_type type) {
    return (struct replica_message){.type = type, .shard = 63, .replica_id = 77, .epoch = 12};
}

/* Items of one frame; urgent ones must be added before bulk ones. */
struct draft {
    struct buffer frame;
    uint32_t item_count;
    size_t urgent_bytes;
};

static void draft_begin(struct draft *draft) {
    *draft = (struct draft){0};
    assert_non_null(buffer_extend(&draft->frame, PEER_HEADER_BYTES));
}

static void draft_add(struct draft *draft, const struct replica_message *message) {
    peer_wire_add_message(&draft->frame, message);
    draft->item_count++;
    draft->urgent_bytes = draft->frame.size - PEER_HEADER_BYTES;
}

static struct slice draft_end(struct draft *draft) {
    struct peer_header header = sent_header;
    header.item_count = draft->item_count;
    header.urgent_bytes = (uint32_t)draft->urgent_bytes;
    peer_wire_write_header(draft->frame.data, &header);
    assert_false(draft->frame.failed);
    return buffer_slice(&draft->frame);
}

static struct wal_entry entry_of(uint64_t epoch, uint64_t index, const char *payload) {
    return (struct wal_entry){.type = WAL_COMMAND,
                              .epoch = epoch,
                              .index = index,
                              .time_us = 1000 + index,
                              .payload = slice_of_text(payload)};
}

/* An APPEND of two entries, epochs 11 and 12, behind index 40. */
static void add_append(struct draft *draft) {
    struct replica_message message = message_of(REPLICA_APPEND);
    struct wal_entry first = entry_of(11, 41, "one"), second = entry_of(12, 42, "");
    message.prev_index = 40;
    message.prev_epoch = 11;
    message.commit_index = 39;
    second.type = WAL_NOOP;
    size_t begin = peer_wire_begin_append(&draft->frame, &message);
    peer_wire_add_entry(&draft->frame, &first);
    peer_wire_add_entry(&draft->frame, &second);
    peer_wire_end_append(&draft->frame, begin, 2);
    draft->item_count++;
}

static int read_frame(struct slice frame) {
    struct peer_header header;
    struct slice urgent, bulk;
    return peer_wire_read_frame(frame, &header, &urgent, &bulk);
}

/* ---- what is written is read ---- */

static void assert_messages_equal(const struct replica_message *a, const struct replica_message *b) {
    assert_true(a->type == b->type && a->shard == b->shard && a->replica_id == b->replica_id);
    assert_true(a->from == b->from && a->to == b->to && a->from_incarnation == b->from_incarnation);
    assert_true(a->epoch == b->epoch && a->prev_index == b->prev_index && a->prev_epoch == b->prev_epoch);
    assert_true(a->entry_count == b->entry_count && a->commit_index == b->commit_index);
    assert_true(a->keep_index == b->keep_index && a->time_us == b->time_us && a->sent_us == b->sent_us);
    assert_true(a->promised_us == b->promised_us && a->echo_us == b->echo_us);
    assert_true(a->echo_incarnation == b->echo_incarnation);
    assert_true(a->durable_index == b->durable_index && a->last_index == b->last_index);
    assert_true(a->gap == b->gap && a->counted == b->counted && a->epochs.count == b->epochs.count);
    for (uint32_t i = 0; i < a->epochs.count; i++) {
        assert_int_equal(a->epochs.starts[i].epoch, b->epochs.starts[i].epoch);
        assert_int_equal(a->epochs.starts[i].index, b->epochs.starts[i].index);
    }
}

static void assert_transfers_equal(const struct snapshot_transfer *a, const struct snapshot_transfer *b) {
    assert_true(a->shard == b->shard && a->replica_id == b->replica_id);
    assert_true(a->epoch == b->epoch && a->number == b->number);
}

static void test_header_round_trip(void **state) {
    (void)state;
    struct draft draft;
    struct peer_header header;
    struct slice urgent, bulk;
    draft_begin(&draft);
    struct replica_message message = message_of(REPLICA_RELEASE);
    draft_add(&draft, &message);
    add_append(&draft);
    struct slice frame = draft_end(&draft);
    assert_int_equal(peer_wire_read_frame(frame, &header, &urgent, &bulk), SK_OK);
    assert_true(header.cluster == sent_header.cluster && header.from == 2 && header.to == 3);
    assert_true(header.from_incarnation == 4 && header.to_incarnation == 5 && header.connection == 6);
    assert_true(header.number == 7 && header.bulk_before == 8 && header.heard_connection == 9);
    assert_true(header.heard_number == 10 && header.heard_taken == 11 && header.item_count == 2);
    assert_int_equal(urgent.size, draft.urgent_bytes);
    assert_int_equal(urgent.size + bulk.size, frame.size - PEER_HEADER_BYTES);
    buffer_deinit(&draft.frame);
}

static void test_messages_round_trip(void **state) {
    (void)state;
    struct replica_message messages[] = {
        message_of(REPLICA_OPEN),    message_of(REPLICA_OPEN),    message_of(REPLICA_ACK),
        message_of(REPLICA_BEACON),  message_of(REPLICA_PROMISE), message_of(REPLICA_REFUSAL),
        message_of(REPLICA_RELEASE),
    };
    enum { COUNT = sizeof messages / sizeof messages[0] };
    messages[0].counted = true;
    messages[0].epochs.count = EPOCHS_MAX;
    for (uint32_t i = 0; i < EPOCHS_MAX; i++)
        messages[0].epochs.starts[i] = (struct epoch_start){.epoch = 100 + i, .index = 1 + 3 * i};
    messages[0].epoch = 100 + EPOCHS_MAX - 1;
    messages[2].gap = true;
    messages[2].durable_index = 1;
    messages[2].last_index = UINT64_MAX;
    messages[3].commit_index = 3;
    messages[3].keep_index = 4;
    messages[3].time_us = 5;
    messages[3].sent_us = 6;
    messages[3].echo_us = 7;
    messages[3].echo_incarnation = 8;
    messages[4].sent_us = 9;
    messages[4].promised_us = 10;
    messages[4].durable_index = 11;
    messages[4].last_index = 12;
    struct draft draft;
    draft_begin(&draft);
    for (int i = 0; i < COUNT; i++) draft_add(&draft, &messages[i]);

    struct peer_header header;
    struct slice rest, bulk;
    struct peer_item item;
    assert_int_equal(peer_wire_read_frame(draft_end(&draft), &header, &rest, &bulk), SK_OK);
    for (int i = 0; i < COUNT; i++) {
        messages[i].from = 2;
        messages[i].to = 3;
        messages[i].from_incarnation = 4;
        struct slice skipped = rest;
        uint32_t shard;
        assert_int_equal(peer_wire_skip_item(&skipped, &shard), SK_OK);
        assert_int_equal(shard, 63);
        assert_int_equal(peer_wire_read_item(&header, &rest, &item), SK_OK);
        assert_ptr_equal(skipped.data, rest.data);
        assert_true(item.kind == PEER_MESSAGE && item.shard == 63);
        assert_messages_equal(&item.is.message, &messages[i]);
    }
    assert_int_equal(peer_wire_read_item(&header, &rest, &item), SK_NOT_FOUND);
    assert_int_equal(peer_wire_skip_item(&rest, &(uint32_t){0}), SK_NOT_FOUND);
    buffer_deinit(&draft.frame);
}

static void test_entries_round_trip(void **state) {
    (void)state;
    struct draft draft;
    struct peer_header header;
    struct slice urgent, bulk;
    struct peer_item item;
    struct wal_entry entry;
    draft_begin(&draft);
    add_append(&draft);
    assert_int_equal(peer_wire_read_frame(draft_end(&draft), &header, &urgent, &bulk), SK_OK);
    assert_int_equal(bulk.size, ITEM_BYTES + NUMBERS_BYTES + peer_wire_entry_bytes(3) + peer_wire_entry_bytes(0));
    assert_int_equal(peer_wire_read_item(&header, &bulk, &item), SK_OK);
    const struct replica_message *message = &item.is.message;
    assert_true(message->type == REPLICA_APPEND && message->prev_index == 40 && message->prev_epoch == 11);
    assert_true(message->commit_index == 39 && message->entry_count == 2 && message->epoch == 12);

    struct peer_entries entries = peer_entries_of(&item);
    assert_int_equal(peer_entries_next(&entries, &entry), SK_OK);
    assert_true(entry.shard == 63 && entry.replica_id == 77 && entry.type == WAL_COMMAND);
    assert_true(entry.epoch == 11 && entry.index == 41 && entry.time_us == 1041);
    assert_true(slice_equal(entry.payload, slice_of_text("one")));
    assert_int_equal(peer_entries_next(&entries, &entry), SK_OK);
    assert_true(entry.epoch == 12 && entry.index == 42 && entry.type == WAL_NOOP && entry.payload.size == 0);
    assert_int_equal(peer_entries_next(&entries, &entry), SK_NOT_FOUND);
    buffer_deinit(&draft.frame);
}

static void test_snapshot_items_round_trip(void **state) {
    (void)state;
    struct draft draft;
    struct peer_header header;
    struct slice urgent, bulk;
    struct peer_item item;
    struct snapshot_transfer transfer = {.shard = 5, .replica_id = 6, .epoch = 7, .number = 8};
    struct snapshot_taken taken = {.transfer = transfer, .written = 9, .from = 10, .answer = SNAPSHOT_REFUSED};
    struct snapshot_begin begin = {
        .transfer = transfer, .total_bytes = 11, .applied_index = 12, .applied_epoch = 13};
    struct snapshot_piece piece = {.transfer = transfer, .offset = 14, .bytes = slice_of_text("piece")};
    draft_begin(&draft);
    peer_wire_add_taken(&draft.frame, &taken);
    draft.urgent_bytes = draft.frame.size - PEER_HEADER_BYTES;
    peer_wire_add_begin(&draft.frame, &begin);
    peer_wire_add_piece(&draft.frame, &piece);
    draft.item_count = 3;
    assert_int_equal(peer_wire_read_frame(draft_end(&draft), &header, &urgent, &bulk), SK_OK);

    assert_int_equal(peer_wire_read_item(&header, &urgent, &item), SK_OK);
    assert_true(item.kind == PEER_SNAPSHOT_TAKEN && item.shard == 5);
    assert_transfers_equal(&item.is.taken.transfer, &transfer);
    assert_true(item.is.taken.written == 9 && item.is.taken.from == 10);
    assert_int_equal(item.is.taken.answer, SNAPSHOT_REFUSED);
    assert_int_equal(peer_wire_read_item(&header, &bulk, &item), SK_OK);
    assert_true(item.kind == PEER_SNAPSHOT_BEGIN && item.is.begin.total_bytes == 11);
    assert_transfers_equal(&item.is.begin.transfer, &transfer);
    assert_true(item.is.begin.applied_index == 12 && item.is.begin.applied_epoch == 13);
    assert_int_equal(peer_wire_read_item(&header, &bulk, &item), SK_OK);
    assert_true(item.kind == PEER_SNAPSHOT_PIECE && item.is.piece.offset == 14);
    assert_transfers_equal(&item.is.piece.transfer, &transfer);
    assert_true(slice_equal(item.is.piece.bytes, slice_of_text("piece")));
    buffer_deinit(&draft.frame);
}

static void assert_questions_equal(const struct verify_question *a, const struct verify_question *b) {
    assert_true(a->shard == b->shard && a->replica_id == b->replica_id);
    assert_true(a->epoch == b->epoch && a->index == b->index);
}

static void test_verify_items_round_trip(void **state) {
    (void)state;
    struct draft draft;
    struct peer_header header;
    struct slice urgent, bulk;
    struct peer_item item;
    struct verify_question question = {.shard = 5, .replica_id = 6, .epoch = 7, .index = 8};
    struct verify_reply reply = {.to = question, .news = VERIFY_DROPPED, .sum = {.low = 9, .high = UINT64_MAX}};
    draft_begin(&draft);
    peer_wire_add_question(&draft.frame, &question);
    peer_wire_add_reply(&draft.frame, &reply);
    draft.urgent_bytes = draft.frame.size - PEER_HEADER_BYTES;
    draft.item_count = 2;
    struct slice frame = draft_end(&draft);
    assert_int_equal(peer_wire_read_frame(frame, &header, &urgent, &bulk), SK_OK);
    assert_int_equal(peer_wire_read_item(&header, &urgent, &item), SK_OK);
    assert_true(item.kind == PEER_VERIFY_QUESTION && item.shard == 5);
    assert_questions_equal(&item.is.question, &question);
    assert_int_equal(peer_wire_read_item(&header, &urgent, &item), SK_OK);
    assert_true(item.kind == PEER_VERIFY_REPLY && item.shard == 5);
    assert_questions_equal(&item.is.reply.to, &question);
    assert_int_equal(item.is.reply.news, VERIFY_DROPPED);
    assert_true(item.is.reply.sum.low == 9 && item.is.reply.sum.high == UINT64_MAX);
    buffer_deinit(&draft.frame);
}

static void test_a_frame_without_items(void **state) {
    (void)state;
    struct draft draft;
    draft_begin(&draft);
    assert_int_equal(read_frame(draft_end(&draft)), SK_OK);
    buffer_deinit(&draft.frame);
}

/* ---- what is not as it should be is refused ---- */

static void test_every_cut_is_refused(void **state) {
    (void)state;
    struct draft draft;
    struct replica_message message = message_of(REPLICA_OPEN);
    message.epochs = (struct epochs){.count = 1, .starts = {{3, 1}}};
    draft_begin(&draft);
    draft_add(&draft, &message);
    add_append(&draft);
    struct slice frame = draft_end(&draft);
    assert_int_equal(read_frame(frame), SK_OK);
    for (size_t size = 0; size < frame.size; size++) {
        uint8_t *copy = malloc(size + 1); /* its own, so that the sanitizer sees a byte too far */
        memcpy(copy, frame.data, size);
        assert_int_equal(read_frame(slice_of(copy, size)), SK_EPROTO);
        free(copy);
    }
    buffer_deinit(&draft.frame);
}

/* Puts `number` of `bytes` at `at`, reads, and puts back what was there. */
static int read_changed(struct slice frame, size_t at, uint64_t number, size_t bytes) {
    uint8_t *data = (uint8_t *)frame.data;
    uint8_t before[sizeof number];
    memcpy(before, data + at, bytes);
    memcpy(data + at, &number, bytes);
    int rc = read_frame(frame);
    memcpy(data + at, before, bytes);
    return rc;
}

static void test_bad_headers(void **state) {
    (void)state;
    struct draft draft;
    struct replica_message message = message_of(REPLICA_ACK);
    draft_begin(&draft);
    draft_add(&draft, &message);
    draft_add(&draft, &message);
    struct slice frame = draft_end(&draft);
    assert_int_equal(read_frame(frame), SK_OK);
    assert_int_equal(read_changed(frame, 0, 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_VERSION, PEER_WIRE_VERSION + 1, 1), SK_EVERSION);
    for (size_t i = 0; i < 3; i++) assert_int_equal(read_changed(frame, AT_RESERVED + i, 1, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_FROM, 0, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_TO, 0, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_CONNECTION, 0, 8), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_BULK_BEFORE, UINT64_MAX, 8), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_ITEM_COUNT, 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_ITEM_COUNT, 3, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_URGENT_BYTES, draft.urgent_bytes + 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_URGENT_BYTES, draft.urgent_bytes - 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, AT_URGENT_BYTES, 0, 4), SK_EPROTO); /* ACKs are not bulk */
    buffer_deinit(&draft.frame);
}

static void test_bad_messages(void **state) {
    (void)state;
    struct draft draft;
    struct replica_message message = message_of(REPLICA_ACK);
    draft_begin(&draft);
    draft_add(&draft, &message);
    struct slice frame = draft_end(&draft);
    size_t item = PEER_HEADER_BYTES, size = frame.size - item;
    assert_int_equal(read_frame(frame), SK_OK);
    assert_int_equal(read_changed(frame, item, 0, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, item, size - 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, item, size + 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, item, UINT32_MAX, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_KIND, 0, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_KIND, PEER_CHUNK + 1, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_TYPE, 0, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_TYPE, REPLICA_RELEASE + 1, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_TYPE, REPLICA_BEACON, 1), SK_EPROTO); /* longer */
    assert_int_equal(read_changed(frame, item + ITEM_AT_TYPE, REPLICA_REFUSAL, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_FLAGS, 1, 2), SK_OK);
    assert_int_equal(read_changed(frame, item + ITEM_AT_FLAGS, 2, 2), SK_EPROTO); /* another type's */
    assert_int_equal(read_changed(frame, item + ITEM_AT_FLAGS, 4, 2), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_SHARD, SHARD_COUNT_MAX, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_COUNT, 1, 4), SK_EPROTO);
    buffer_deinit(&draft.frame);
}

/* Tables of epochs must be as struct epochs keeps them: others would trip its assertions. */
static void test_bad_epochs(void **state) {
    (void)state;
    static const struct {
        struct epochs epochs;
        int expected;
    } cases[] = {
        {{.count = 0}, SK_OK},
        {{.count = 2, .starts = {{3, 1}, {12, 2}}}, SK_OK},
        {{.count = 2, .starts = {{3, 1}, {3, 2}}}, SK_EPROTO},
        {{.count = 2, .starts = {{3, 2}, {4, 2}}}, SK_EPROTO},
        {{.count = 2, .starts = {{4, 1}, {3, 2}}}, SK_EPROTO},
        {{.count = 1, .starts = {{0, 1}}}, SK_EPROTO},
        {{.count = 1, .starts = {{1, 0}}}, SK_EPROTO},
        {{.count = 1, .starts = {{13, 1}}}, SK_EPROTO}, /* after the leader's own */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct draft draft;
        struct replica_message message = message_of(REPLICA_OPEN);
        message.epochs = cases[i].epochs;
        draft_begin(&draft);
        draft_add(&draft, &message);
        struct slice frame = draft_end(&draft);
        assert_int_equal(read_frame(frame), cases[i].expected);
        size_t count_at = PEER_HEADER_BYTES + ITEM_AT_COUNT;
        assert_int_equal(read_changed(frame, count_at, EPOCHS_MAX + 1, 4), SK_EPROTO);
        assert_int_equal(read_changed(frame, count_at, cases[i].epochs.count + 1, 4), SK_EPROTO);
        buffer_deinit(&draft.frame);
    }
}

static void test_bad_entries(void **state) {
    (void)state;
    struct draft draft;
    draft_begin(&draft);
    add_append(&draft);
    struct slice frame = draft_end(&draft);
    size_t item = PEER_HEADER_BYTES, numbers = item + ITEM_BYTES, first = numbers + NUMBERS_BYTES;
    size_t second = first + peer_wire_entry_bytes(3);
    assert_int_equal(read_frame(frame), SK_OK);
    assert_int_equal(read_changed(frame, item + ITEM_AT_COUNT, 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, item + ITEM_AT_COUNT, 3, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, numbers, UINT64_MAX - 1, 8), SK_EPROTO); /* no such indexes */
    assert_int_equal(read_changed(frame, numbers, UINT64_MAX - 2, 8), SK_OK);
    assert_int_equal(read_changed(frame, numbers + 8, 12, 8), SK_EPROTO); /* the epoch falls behind prev_epoch */
    assert_int_equal(read_changed(frame, numbers + 8, 0, 8), SK_OK);      /* which may not be known */
    assert_int_equal(read_changed(frame, first + ENTRY_AT_EPOCH, 13, 8), SK_EPROTO);
    assert_int_equal(read_changed(frame, second + ENTRY_AT_EPOCH, 10, 8), SK_EPROTO);
    assert_int_equal(read_changed(frame, second + ENTRY_AT_EPOCH, 13, 8), SK_EPROTO); /* after the leader's */
    assert_int_equal(read_changed(frame, first + ENTRY_AT_BYTES, 4, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, first + ENTRY_AT_BYTES, UINT32_MAX, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, second + ENTRY_AT_BYTES, 1, 4), SK_EPROTO);
    for (int type = 0; type < 256; type++) { /* the other types are a replica's own */
        bool known = type == WAL_COMMAND || type == WAL_NOOP || type == WAL_SWEEP || type == WAL_VERIFY;
        assert_int_equal(read_changed(frame, first + ENTRY_AT_TYPE, (uint64_t)type, 1), known ? SK_OK : SK_EPROTO);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(read_changed(frame, first + ENTRY_AT_RESERVED + i, 1, 1), SK_EPROTO);
    buffer_deinit(&draft.frame);
}

static void test_bad_snapshot_items(void **state) {
    (void)state;
    struct snapshot_begin begin = {.transfer = {.epoch = 1}, .total_bytes = 1};
    struct snapshot_piece piece = {.bytes = slice_of_text("piece")};
    struct snapshot_taken taken = {.answer = SNAPSHOT_REFUSED};
    struct draft draft;
    draft_begin(&draft);
    peer_wire_add_taken(&draft.frame, &taken);
    draft.urgent_bytes = draft.frame.size - PEER_HEADER_BYTES;
    size_t begin_at = draft.frame.size;
    peer_wire_add_begin(&draft.frame, &begin);
    size_t piece_at = draft.frame.size;
    peer_wire_add_piece(&draft.frame, &piece);
    draft.item_count = 3;
    struct slice frame = draft_end(&draft);
    size_t taken_at = PEER_HEADER_BYTES;
    assert_int_equal(read_frame(frame), SK_OK);
    assert_int_equal(read_changed(frame, taken_at + ITEM_AT_TYPE, SNAPSHOT_REFUSED + 1, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, taken_at + ITEM_AT_KIND, PEER_SNAPSHOT_BEGIN, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, begin_at + ITEM_BYTES + 8, 0, 8), SK_EPROTO); /* of no bytes */
    assert_int_equal(read_changed(frame, begin_at + ITEM_AT_TYPE, 1, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, begin_at + ITEM_AT_FLAGS, 1, 2), SK_EPROTO);
    assert_int_equal(read_changed(frame, begin_at + ITEM_AT_COUNT, 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, begin_at + ITEM_AT_SHARD, SHARD_COUNT_MAX, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, piece_at + ITEM_BYTES + 8, UINT64_MAX - 4, 8), SK_EPROTO);
    assert_int_equal(read_changed(frame, piece_at + ITEM_BYTES + 8, UINT64_MAX - 5, 8), SK_OK);
    buffer_deinit(&draft.frame);
}

static void test_bad_verify_items(void **state) {
    (void)state;
    struct verify_question question = {.replica_id = 6, .epoch = 7, .index = 8};
    struct verify_reply reply = {.to = question, .news = VERIFY_DROPPED};
    struct draft draft;
    draft_begin(&draft);
    size_t question_at = draft.frame.size;
    peer_wire_add_question(&draft.frame, &question);
    size_t reply_at = draft.frame.size;
    peer_wire_add_reply(&draft.frame, &reply);
    draft.urgent_bytes = draft.frame.size - PEER_HEADER_BYTES;
    draft.item_count = 2;
    struct slice frame = draft_end(&draft);
    assert_int_equal(read_frame(frame), SK_OK);
    assert_int_equal(read_changed(frame, question_at + ITEM_AT_TYPE, 1, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, question_at + ITEM_AT_FLAGS, 1, 2), SK_EPROTO);
    assert_int_equal(read_changed(frame, question_at + ITEM_AT_COUNT, 1, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, question_at + ITEM_AT_KIND, PEER_VERIFY_REPLY, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, question_at + ITEM_AT_SHARD, SHARD_COUNT_MAX, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, reply_at + ITEM_AT_TYPE, VERIFY_DROPPED + 1, 1), SK_EPROTO);
    assert_int_equal(read_changed(frame, reply_at + ITEM_AT_KIND, PEER_VERIFY_QUESTION, 1), SK_EPROTO);
    buffer_deinit(&draft.frame);
}

/* ---- chunks ---- */

static void test_chunks(void **state) {
    (void)state;
    struct draft draft;
    struct peer_header header;
    struct slice urgent, bulk;
    struct peer_item item;
    struct peer_chunk chunk = {.stream = 9, .total_bytes = 100, .offset = 95, .bytes = slice_of_text("bytes")};
    draft_begin(&draft);
    peer_wire_add_chunk(&draft.frame, &chunk);
    draft.item_count = 1;
    struct slice frame = draft_end(&draft);
    assert_int_equal(peer_wire_read_frame(frame, &header, &urgent, &bulk), SK_OK);
    assert_int_equal(peer_wire_read_item(&header, &bulk, &item), SK_OK);
    assert_true(item.kind == PEER_CHUNK && item.is.chunk.stream == 9);
    assert_true(item.is.chunk.total_bytes == 100 && item.is.chunk.offset == 95);
    assert_true(slice_equal(item.is.chunk.bytes, chunk.bytes));

    size_t at = PEER_HEADER_BYTES;
    assert_int_equal(read_changed(frame, at + CHUNK_AT_OFFSET, 96, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, at + CHUNK_AT_OFFSET, UINT32_MAX, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, at + CHUNK_AT_TOTAL, 99, 4), SK_EPROTO);
    assert_int_equal(read_changed(frame, at + CHUNK_AT_TOTAL, PEER_ITEM_BYTES_MAX, 4), SK_OK);
    assert_int_equal(read_changed(frame, at + CHUNK_AT_TOTAL, PEER_ITEM_BYTES_MAX + 1, 4), SK_EPROTO);
    for (size_t i = 5; i < 8; i++) assert_int_equal(read_changed(frame, at + i, 1, 1), SK_EPROTO);
    buffer_deinit(&draft.frame);
}

/* Nothing stands beside a chunk but what is urgent. */
static void test_a_chunk_goes_alone(void **state) {
    (void)state;
    struct peer_chunk chunk = {.stream = 9, .total_bytes = 5, .bytes = slice_of_text("bytes")};
    struct replica_message message = message_of(REPLICA_REFUSAL);
    for (int other = 0; other < 3; other++) {
        struct draft draft;
        draft_begin(&draft);
        if (other == 0) draft_add(&draft, &message);
        if (other == 1) add_append(&draft);
        peer_wire_add_chunk(&draft.frame, &chunk);
        draft.item_count++;
        if (other == 2) add_append(&draft);
        assert_int_equal(read_frame(draft_end(&draft)), other == 0 ? SK_OK : SK_EPROTO);
        buffer_deinit(&draft.frame);
    }
}

static void test_assembled_items(void **state) {
    (void)state;
    struct draft append, other;
    draft_begin(&append);
    add_append(&append);
    struct slice item = slice_of(append.frame.data + PEER_HEADER_BYTES, append.frame.size - PEER_HEADER_BYTES);
    assert_int_equal(peer_wire_check_assembled(item), SK_OK);
    for (size_t size = 0; size < item.size; size++)
        assert_int_equal(peer_wire_check_assembled(slice_of(item.data, size)), SK_EPROTO);
    append.frame.data[PEER_HEADER_BYTES + ITEM_AT_COUNT]++; /* entries are walked */
    assert_int_equal(peer_wire_check_assembled(item), SK_EPROTO);
    append.frame.data[PEER_HEADER_BYTES + ITEM_AT_COUNT]--;
    add_append(&append); /* two items */
    item = slice_of(append.frame.data + PEER_HEADER_BYTES, append.frame.size - PEER_HEADER_BYTES);
    assert_int_equal(peer_wire_check_assembled(item), SK_EPROTO);
    buffer_deinit(&append.frame);

    struct peer_chunk chunk = {.stream = 9, .total_bytes = 5, .bytes = slice_of_text("bytes")};
    struct replica_message message = message_of(REPLICA_ACK);
    draft_begin(&other);
    peer_wire_add_chunk(&other.frame, &chunk);
    assert_int_equal(peer_wire_check_assembled(slice_of(other.frame.data + PEER_HEADER_BYTES, 29)), SK_EPROTO);
    buffer_clear(&other.frame, SIZE_MAX);
    peer_wire_add_message(&other.frame, &message); /* urgent: never large */
    assert_int_equal(peer_wire_check_assembled(buffer_slice(&other.frame)), SK_EPROTO);
    buffer_deinit(&other.frame);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_round_trip),
        cmocka_unit_test(test_messages_round_trip),
        cmocka_unit_test(test_entries_round_trip),
        cmocka_unit_test(test_snapshot_items_round_trip),
        cmocka_unit_test(test_verify_items_round_trip),
        cmocka_unit_test(test_a_frame_without_items),
        cmocka_unit_test(test_every_cut_is_refused),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_messages),
        cmocka_unit_test(test_bad_epochs),
        cmocka_unit_test(test_bad_entries),
        cmocka_unit_test(test_bad_snapshot_items),
        cmocka_unit_test(test_bad_verify_items),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_a_chunk_goes_alone),
        cmocka_unit_test(test_assembled_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
