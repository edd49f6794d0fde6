/* Frames between nodes. What is read is written again and must be the bytes that came; a frame that passes the check is
 * read to its end without an error, and every slice lies inside it. The same bytes are also an item that came in chunks. */
#include "shardd/peer_wire.h"
#include "libcommon/check.h"
#include "libcommon/error.h"

static void check_inside(struct slice part, struct slice whole) {
    if (part.size == 0) return;
    sk_assert(part.data >= whole.data && part.data + part.size <= whole.data + whole.size);
}

static void copy_append(const struct peer_item *item, struct slice whole, struct buffer *again) {
    struct peer_entries entries = peer_entries_of(item);
    struct wal_entry entry;
    uint64_t index = item->is.message.prev_index;
    uint64_t epoch = item->is.message.prev_epoch;
    uint32_t count = 0;
    size_t begin = peer_wire_begin_append(again, &item->is.message);
    while (peer_entries_next(&entries, &entry) == SK_OK) {
        check_inside(entry.payload, whole);
        sk_assert(entry.index == ++index && entry.epoch >= epoch && entry.epoch <= item->is.message.epoch);
        epoch = entry.epoch;
        peer_wire_add_entry(again, &entry);
        count++;
    }
    sk_assert(entries.rest.size == 0 && count == item->is.message.entry_count);
    peer_wire_end_append(again, begin, count);
}

static void copy_item(const struct peer_item *item, struct slice whole, struct buffer *again) {
    switch (item->kind) {
    case PEER_MESSAGE:
        if (item->is.message.type == REPLICA_APPEND) {
            copy_append(item, whole, again);
        } else {
            peer_wire_add_message(again, &item->is.message);
        }
        break;
    case PEER_SNAPSHOT_BEGIN:
        peer_wire_add_begin(again, &item->is.begin);
        break;
    case PEER_SNAPSHOT_PIECE:
        check_inside(item->is.piece.bytes, whole);
        peer_wire_add_piece(again, &item->is.piece);
        break;
    case PEER_SNAPSHOT_TAKEN:
        peer_wire_add_taken(again, &item->is.taken);
        break;
    case PEER_VERIFY_QUESTION:
        peer_wire_add_question(again, &item->is.question);
        break;
    case PEER_VERIFY_REPLY:
        peer_wire_add_reply(again, &item->is.reply);
        break;
    case PEER_CHUNK:
        check_inside(item->is.chunk.bytes, whole);
        peer_wire_add_chunk(again, &item->is.chunk);
        break;
    default:
        sk_assert(!"a kind that does not exist");
    }
}

static uint32_t copy_items(const struct peer_header *header, struct slice items, struct slice whole,
                           struct buffer *again) {
    struct slice skipped = items;
    struct peer_item item;
    uint32_t count = 0, shard;
    int rc;
    while ((rc = peer_wire_read_item(header, &items, &item)) == SK_OK) {
        sk_assert(peer_wire_skip_item(&skipped, &shard) == SK_OK && skipped.data == items.data);
        sk_assert(item.kind == PEER_CHUNK || shard == item.shard);
        copy_item(&item, whole, again);
        count++;
    }
    sk_assert(rc == SK_NOT_FOUND);
    return count;
}

static void read_frame(struct slice frame) {
    struct peer_header header;
    struct slice urgent, bulk;
    struct buffer again;
    if (peer_wire_read_frame(frame, &header, &urgent, &bulk) != SK_OK) return;
    buffer_init(&again);
    uint8_t *at = buffer_extend(&again, PEER_HEADER_BYTES);
    sk_assert(at != NULL);
    peer_wire_write_header(at, &header);
    uint32_t count = copy_items(&header, urgent, frame, &again);
    count += copy_items(&header, bulk, frame, &again);
    sk_assert(count == header.item_count);
    sk_assert(!again.failed && slice_equal(buffer_slice(&again), frame));
    buffer_deinit(&again);
}

static void read_assembled(struct slice bytes) {
    static const struct peer_header nobody;
    struct buffer again;
    if (peer_wire_check_assembled(bytes) != SK_OK) return;
    buffer_init(&again);
    sk_assert(copy_items(&nobody, bytes, bytes, &again) == 1);
    sk_assert(!again.failed && slice_equal(buffer_slice(&again), bytes));
    buffer_deinit(&again);
}

/* Items wherever they begin: what is no frame must be as harmless. */
static void read_items(struct slice rest) {
    static const struct peer_header nobody;
    struct peer_item item;
    struct wal_entry entry;
    while (peer_wire_read_item(&nobody, &rest, &item) == SK_OK) {
        if (item.kind != PEER_MESSAGE || item.is.message.type != REPLICA_APPEND) continue;
        struct peer_entries entries = peer_entries_of(&item);
        while (peer_entries_next(&entries, &entry) == SK_OK) continue;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_frame(slice_of(data, size));
    read_assembled(slice_of(data, size));
    read_items(slice_of(data, size));
    return 0;
}
