#include "shardd/peer_wire.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

/* The structs below are the layout on the wire, copied as they are. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian and not swapped");

#define MAGIC       0x50594b53u /* "SKYP" */
#define NUMBERS_MAX 6u

struct __attribute__((packed)) wire_header {
    uint32_t magic;
    uint8_t version;
    uint8_t reserved[3]; /* 0 */
    uint64_t cluster;
    uint32_t from, to;
    uint64_t from_incarnation, to_incarnation;
    uint64_t connection, number, bulk_before;
    uint64_t heard_connection, heard_number, heard_taken;
    uint32_t item_count, urgent_bytes;
};

/* Of every item but a chunk. Numbers by kind and type follow, then what is variable. */
struct __attribute__((packed)) wire_item {
    uint32_t bytes; /* of the whole item */
    uint8_t kind;
    uint8_t type;   /* of a message; the answer of SNAPSHOT_TAKEN */
    uint16_t flags; /* WIRE_… */
    uint32_t shard;
    uint32_t count; /* of entries or epochs */
    uint64_t replica_id;
    uint64_t epoch;
};

struct __attribute__((packed)) wire_chunk {
    uint32_t bytes;
    uint8_t kind;
    uint8_t reserved[3]; /* 0 */
    uint64_t stream;
    uint32_t total_bytes, offset;
};

struct __attribute__((packed)) wire_epoch {
    uint64_t epoch, index;
};

struct __attribute__((packed)) wire_entry {
    uint64_t epoch, time_us;
    uint32_t bytes; /* of the payload */
    uint8_t type;
    uint8_t reserved[3]; /* 0 */
};

_Static_assert(sizeof(struct wire_header) == PEER_HEADER_BYTES, "peer_wire.h says how long a header is");
_Static_assert(sizeof(struct wire_item) == 32, "no padding");
_Static_assert(sizeof(struct wire_chunk) == 24, "no padding");
_Static_assert(sizeof(struct wire_entry) == 24, "no padding");

enum { WIRE_GAP = 1, WIRE_COUNTED = 2 };

/* What a message of each type carries besides shard, replica id and epoch. */
struct layout {
    uint16_t flags; /* that may be set */
    uint8_t number_count;
    size_t numbers[NUMBERS_MAX]; /* where they stand in struct replica_message */
};

#define AT(field) offsetof(struct replica_message, field)

static const struct layout layouts[] = {
    [REPLICA_OPEN] = {.flags = WIRE_COUNTED},
    [REPLICA_APPEND] = {0, 3, {AT(prev_index), AT(prev_epoch), AT(commit_index)}},
    [REPLICA_ACK] = {WIRE_GAP, 2, {AT(durable_index), AT(last_index)}},
    [REPLICA_BEACON] =
        {0, 6, {AT(commit_index), AT(keep_index), AT(time_us), AT(sent_us), AT(echo_us), AT(echo_incarnation)}},
    [REPLICA_PROMISE] = {0, 4, {AT(sent_us), AT(promised_us), AT(durable_index), AT(last_index)}},
    [REPLICA_REFUSAL] = {0},
    [REPLICA_RELEASE] = {0},
};

#define TYPE_LAST (sizeof layouts / sizeof layouts[0] - 1)

_Static_assert(TYPE_LAST == REPLICA_RELEASE, "every type of message has its layout");

/* ---- writing ---- */

void peer_wire_write_header(uint8_t *at, const struct peer_header *header) {
    struct wire_header fixed = {
        .magic = MAGIC,
        .version = PEER_WIRE_VERSION,
        .cluster = header->cluster,
        .from = header->from,
        .to = header->to,
        .from_incarnation = header->from_incarnation,
        .to_incarnation = header->to_incarnation,
        .connection = header->connection,
        .number = header->number,
        .bulk_before = header->bulk_before,
        .heard_connection = header->heard_connection,
        .heard_number = header->heard_number,
        .heard_taken = header->heard_taken,
        .item_count = header->item_count,
        .urgent_bytes = header->urgent_bytes,
    };
    memcpy(at, &fixed, sizeof fixed);
}

/* The fixed part of a message with its numbers; `item->bytes` is set to what `more` bytes behind it make. */
static void add_message_head(struct buffer *buffer, const struct replica_message *message, struct wire_item *item,
                             size_t more) {
    const struct layout *layout = &layouts[message->type];
    uint64_t numbers[NUMBERS_MAX];
    size_t numbers_bytes = layout->number_count * sizeof numbers[0];
    for (unsigned i = 0; i < layout->number_count; i++) {
        memcpy(&numbers[i], (const uint8_t *)message + layout->numbers[i], sizeof numbers[i]);
    }
    item->bytes = (uint32_t)(sizeof *item + numbers_bytes + more);
    item->kind = PEER_MESSAGE;
    item->type = (uint8_t)message->type;
    item->shard = message->shard;
    item->replica_id = message->replica_id;
    item->epoch = message->epoch;
    buffer_append(buffer, item, sizeof *item);
    buffer_append(buffer, numbers, numbers_bytes);
}

void peer_wire_add_message(struct buffer *buffer, const struct replica_message *message) {
    sk_assert(message->type >= REPLICA_OPEN && message->type <= TYPE_LAST && message->type != REPLICA_APPEND);
    struct wire_item item = {0};
    uint32_t epochs = 0;
    if (message->type == REPLICA_OPEN) {
        epochs = item.count = message->epochs.count;
        item.flags = message->counted ? WIRE_COUNTED : 0;
    } else if (message->type == REPLICA_ACK) {
        item.flags = message->gap ? WIRE_GAP : 0;
    }
    add_message_head(buffer, message, &item, epochs * sizeof(struct wire_epoch));
    for (uint32_t i = 0; i < epochs; i++) {
        const struct epoch_start *start = &message->epochs.starts[i];
        struct wire_epoch fixed = {.epoch = start->epoch, .index = start->index};
        buffer_append(buffer, &fixed, sizeof fixed);
    }
}

size_t peer_wire_begin_append(struct buffer *buffer, const struct replica_message *message) {
    sk_assert(message->type == REPLICA_APPEND);
    size_t begin = buffer->size;
    struct wire_item item = {0};
    add_message_head(buffer, message, &item, 0);
    return begin;
}

size_t peer_wire_entry_bytes(size_t payload_bytes) { return sizeof(struct wire_entry) + payload_bytes; }

void peer_wire_add_entry(struct buffer *buffer, const struct wal_entry *entry) {
    sk_assert(entry->payload.size <= PEER_ITEM_BYTES_MAX);
    struct wire_entry fixed = {
        .epoch = entry->epoch,
        .time_us = entry->time_us,
        .bytes = (uint32_t)entry->payload.size,
        .type = entry->type,
    };
    buffer_append(buffer, &fixed, sizeof fixed);
    buffer_append(buffer, entry->payload.data, entry->payload.size);
}

void peer_wire_end_append(struct buffer *buffer, size_t begin, uint32_t entry_count) {
    if (buffer->failed) return;
    size_t size = buffer->size - begin;
    sk_assert(size <= PEER_ITEM_BYTES_MAX);
    uint32_t bytes = (uint32_t)size;
    memcpy(buffer->data + begin + offsetof(struct wire_item, bytes), &bytes, sizeof bytes);
    memcpy(buffer->data + begin + offsetof(struct wire_item, count), &entry_count, sizeof entry_count);
}

/* An item that is not a message: `item` is filled in but for its size. */
static void add_item(struct buffer *buffer, struct wire_item item, const uint64_t *numbers, size_t number_count,
                     struct slice more) {
    size_t numbers_bytes = number_count * sizeof numbers[0];
    item.bytes = (uint32_t)(sizeof item + numbers_bytes + more.size);
    buffer_append(buffer, &item, sizeof item);
    buffer_append(buffer, numbers, numbers_bytes);
    buffer_append(buffer, more.data, more.size);
}

static void add_snapshot_item(struct buffer *buffer, enum peer_item_kind kind, uint8_t type,
                              const struct snapshot_transfer *transfer, const uint64_t *numbers,
                              size_t number_count, struct slice more) {
    struct wire_item item = {
        .kind = (uint8_t)kind,
        .type = type,
        .shard = transfer->shard,
        .replica_id = transfer->replica_id,
        .epoch = transfer->epoch,
    };
    add_item(buffer, item, numbers, number_count, more);
}

void peer_wire_add_begin(struct buffer *buffer, const struct snapshot_begin *begin) {
    uint64_t numbers[] = {begin->transfer.number, begin->total_bytes, begin->applied_index, begin->applied_epoch};
    add_snapshot_item(buffer, PEER_SNAPSHOT_BEGIN, 0, &begin->transfer, numbers, 4, slice_of(NULL, 0));
}

void peer_wire_add_piece(struct buffer *buffer, const struct snapshot_piece *piece) {
    sk_assert(piece->bytes.size > 0 && piece->bytes.size <= SNAPSHOT_PIECE_BYTES);
    uint64_t numbers[] = {piece->transfer.number, piece->offset};
    add_snapshot_item(buffer, PEER_SNAPSHOT_PIECE, 0, &piece->transfer, numbers, 2, piece->bytes);
}

void peer_wire_add_taken(struct buffer *buffer, const struct snapshot_taken *taken) {
    uint64_t numbers[] = {taken->transfer.number, taken->written, taken->from};
    add_snapshot_item(buffer, PEER_SNAPSHOT_TAKEN, (uint8_t)taken->answer, &taken->transfer, numbers, 3,
                      slice_of(NULL, 0));
}

static struct wire_item verify_item(enum peer_item_kind kind, uint8_t type, const struct verify_question *about) {
    return (struct wire_item){
        .kind = (uint8_t)kind,
        .type = type,
        .shard = about->shard,
        .replica_id = about->replica_id,
        .epoch = about->epoch,
    };
}

void peer_wire_add_question(struct buffer *buffer, const struct verify_question *question) {
    add_item(buffer, verify_item(PEER_VERIFY_QUESTION, 0, question), &question->index, 1, slice_of(NULL, 0));
}

void peer_wire_add_reply(struct buffer *buffer, const struct verify_reply *reply) {
    uint64_t numbers[] = {reply->to.index, reply->sum.low, reply->sum.high};
    add_item(buffer, verify_item(PEER_VERIFY_REPLY, (uint8_t)reply->news, &reply->to), numbers, 3,
             slice_of(NULL, 0));
}

void peer_wire_add_chunk(struct buffer *buffer, const struct peer_chunk *chunk) {
    sk_assert(chunk->bytes.size > 0 && chunk->bytes.size <= PEER_CHUNK_BYTES);
    struct wire_chunk fixed = {
        .bytes = (uint32_t)(sizeof fixed + chunk->bytes.size),
        .kind = PEER_CHUNK,
        .stream = chunk->stream,
        .total_bytes = chunk->total_bytes,
        .offset = chunk->offset,
    };
    buffer_append(buffer, &fixed, sizeof fixed);
    buffer_append(buffer, chunk->bytes.data, chunk->bytes.size);
}

/* ---- reading ---- */

static struct slice slice_after(struct slice bytes, size_t size) {
    return slice_of(bytes.data + size, bytes.size - size);
}

/* Copies a fixed part off the front of `rest`. False: it is shorter. */
static bool take(struct slice *rest, void *fixed, size_t fixed_bytes) {
    if (rest->size < fixed_bytes) return false;
    if (fixed_bytes > 0) memcpy(fixed, rest->data, fixed_bytes);
    *rest = slice_after(*rest, fixed_bytes);
    return true;
}

/* ---- entries ---- */

struct peer_entries peer_entries_of(const struct peer_item *item) {
    sk_assert(item->kind == PEER_MESSAGE && item->is.message.type == REPLICA_APPEND);
    return (struct peer_entries){
        .rest = item->entries,
        .shard = item->shard,
        .replica_id = item->is.message.replica_id,
        .next_index = item->is.message.prev_index + 1,
    };
}

int peer_entries_next(struct peer_entries *entries, struct wal_entry *entry) {
    struct wire_entry fixed;
    if (entries->rest.size == 0) return SK_NOT_FOUND;
    if (!take(&entries->rest, &fixed, sizeof fixed)) return SK_EPROTO;
    if (fixed.bytes > entries->rest.size) return SK_EPROTO;
    if (!wal_type_is_replicated(fixed.type) || fixed.reserved[0] != 0 || fixed.reserved[1] != 0 ||
        fixed.reserved[2] != 0)
        return SK_EPROTO;
    *entry = (struct wal_entry){
        .shard = entries->shard,
        .type = fixed.type,
        .replica_id = entries->replica_id,
        .epoch = fixed.epoch,
        .index = entries->next_index++,
        .time_us = fixed.time_us,
        .payload = slice_of(entries->rest.data, fixed.bytes),
    };
    entries->rest = slice_after(entries->rest, fixed.bytes);
    return SK_OK;
}

/* As many as the message says, of epochs that never fall and go no further than the message's. */
static bool entries_are_sound(const struct peer_item *item) {
    const struct replica_message *message = &item->is.message;
    if (message->prev_index > UINT64_MAX - message->entry_count) return false;
    struct peer_entries entries = peer_entries_of(item);
    struct wal_entry entry;
    uint32_t count = 0;
    uint64_t epoch = message->prev_epoch > 0 ? message->prev_epoch : 1;
    int rc;
    while ((rc = peer_entries_next(&entries, &entry)) == SK_OK) {
        if (entry.epoch < epoch || entry.epoch > message->epoch) return false;
        epoch = entry.epoch;
        count++;
    }
    return rc == SK_NOT_FOUND && count == message->entry_count;
}

/* ---- items ---- */

/* The epochs of an OPEN, as many as fill `rest`: growing in both, none after the leader's own. */
static bool read_epochs(struct slice rest, uint32_t count, struct replica_message *message) {
    if (count > EPOCHS_MAX || rest.size != count * sizeof(struct wire_epoch)) return false;
    struct wire_epoch fixed, before = {0, 0};
    message->epochs.count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!take(&rest, &fixed, sizeof fixed)) return false;
        if (fixed.epoch <= before.epoch || fixed.index <= before.index) return false;
        message->epochs.starts[i] = (struct epoch_start){.epoch = fixed.epoch, .index = fixed.index};
        before = fixed;
    }
    return before.epoch <= message->epoch;
}

static bool read_message(const struct peer_header *header, const struct wire_item *fixed, struct slice rest,
                         struct peer_item *item) {
    if (fixed->type < REPLICA_OPEN || fixed->type > TYPE_LAST) return false;
    const struct layout *layout = &layouts[fixed->type];
    if ((fixed->flags & ~layout->flags) != 0) return false;
    uint64_t numbers[NUMBERS_MAX];
    if (!take(&rest, numbers, layout->number_count * sizeof numbers[0])) return false;

    struct replica_message *message = &item->is.message;
    message->type = (enum replica_message_type)fixed->type;
    message->shard = fixed->shard;
    message->from = header->from;
    message->to = header->to;
    message->from_incarnation = header->from_incarnation;
    message->replica_id = fixed->replica_id;
    message->epoch = fixed->epoch;
    message->gap = (fixed->flags & WIRE_GAP) != 0;
    message->counted = (fixed->flags & WIRE_COUNTED) != 0;
    for (unsigned i = 0; i < layout->number_count; i++) {
        memcpy((uint8_t *)message + layout->numbers[i], &numbers[i], sizeof numbers[i]);
    }
    if (message->type == REPLICA_OPEN) return read_epochs(rest, fixed->count, message);
    if (message->type == REPLICA_APPEND) {
        message->entry_count = fixed->count;
        item->entries = rest;
        return true; /* the entries are looked at by who walks them */
    }
    return fixed->count == 0 && rest.size == 0;
}

static bool read_begin(struct slice rest, struct snapshot_transfer transfer, struct snapshot_begin *begin) {
    uint64_t numbers[4];
    if (!take(&rest, numbers, sizeof numbers) || rest.size != 0) return false;
    transfer.number = numbers[0];
    *begin = (struct snapshot_begin){
        .transfer = transfer, .total_bytes = numbers[1], .applied_index = numbers[2], .applied_epoch = numbers[3]};
    return begin->total_bytes > 0;
}

static bool read_piece(struct slice rest, struct snapshot_transfer transfer, struct snapshot_piece *piece) {
    uint64_t numbers[2];
    if (!take(&rest, numbers, sizeof numbers)) return false;
    transfer.number = numbers[0];
    *piece = (struct snapshot_piece){.transfer = transfer, .offset = numbers[1], .bytes = rest};
    return rest.size > 0 && rest.size <= SNAPSHOT_PIECE_BYTES && piece->offset <= UINT64_MAX - rest.size;
}

static bool read_taken(struct slice rest, struct snapshot_transfer transfer, uint8_t answer,
                       struct snapshot_taken *taken) {
    uint64_t numbers[3];
    if (!take(&rest, numbers, sizeof numbers) || rest.size != 0) return false;
    transfer.number = numbers[0];
    *taken = (struct snapshot_taken){
        .transfer = transfer, .written = numbers[1], .from = numbers[2], .answer = (enum snapshot_answer)answer};
    return answer <= SNAPSHOT_REFUSED;
}

static bool read_snapshot_item(const struct wire_item *fixed, struct slice rest, struct peer_item *item) {
    struct snapshot_transfer transfer = {
        .shard = fixed->shard, .replica_id = fixed->replica_id, .epoch = fixed->epoch};
    if (fixed->flags != 0 || fixed->count != 0) return false;
    if (fixed->kind != PEER_SNAPSHOT_TAKEN && fixed->type != 0) return false;
    switch (fixed->kind) {
    case PEER_SNAPSHOT_BEGIN:
        return read_begin(rest, transfer, &item->is.begin);
    case PEER_SNAPSHOT_PIECE:
        return read_piece(rest, transfer, &item->is.piece);
    case PEER_SNAPSHOT_TAKEN:
        return read_taken(rest, transfer, fixed->type, &item->is.taken);
    default:
        return false;
    }
}

static bool read_question(const struct wire_item *fixed, struct slice rest, struct verify_question *question) {
    *question =
        (struct verify_question){.shard = fixed->shard, .replica_id = fixed->replica_id, .epoch = fixed->epoch};
    return fixed->type == 0 && take(&rest, &question->index, sizeof question->index) && rest.size == 0;
}

static bool read_reply(const struct wire_item *fixed, struct slice rest, struct verify_reply *reply) {
    uint64_t numbers[3];
    if (!take(&rest, numbers, sizeof numbers) || rest.size != 0) return false;
    *reply = (struct verify_reply){
        .to = {.shard = fixed->shard, .replica_id = fixed->replica_id, .epoch = fixed->epoch, .index = numbers[0]},
        .news = (enum verify_news)fixed->type,
        .sum = {.low = numbers[1], .high = numbers[2]}};
    return fixed->type <= VERIFY_DROPPED;
}

static bool read_verify_item(const struct wire_item *fixed, struct slice rest, struct peer_item *item) {
    if (fixed->flags != 0 || fixed->count != 0) return false;
    return fixed->kind == PEER_VERIFY_QUESTION ? read_question(fixed, rest, &item->is.question)
                                               : read_reply(fixed, rest, &item->is.reply);
}

static bool read_chunk(struct slice bytes, struct peer_chunk *chunk) {
    struct wire_chunk fixed;
    if (!take(&bytes, &fixed, sizeof fixed)) return false;
    if (fixed.reserved[0] != 0 || fixed.reserved[1] != 0 || fixed.reserved[2] != 0) return false;
    *chunk = (struct peer_chunk){
        .stream = fixed.stream, .total_bytes = fixed.total_bytes, .offset = fixed.offset, .bytes = bytes};
    if (bytes.size == 0 || bytes.size > PEER_CHUNK_BYTES) return false;
    if (fixed.total_bytes > PEER_ITEM_BYTES_MAX || fixed.offset > fixed.total_bytes) return false;
    return bytes.size <= fixed.total_bytes - fixed.offset;
}

/* All but the walk through an APPEND's entries. */
static bool read_whole_item(const struct peer_header *header, struct slice bytes, struct peer_item *item) {
    struct wire_item fixed;
    memset(item, 0, sizeof *item);
    item->kind = (enum peer_item_kind)bytes.data[offsetof(struct wire_item, kind)];
    if (item->kind == PEER_CHUNK) return read_chunk(bytes, &item->is.chunk);
    if (!take(&bytes, &fixed, sizeof fixed)) return false;
    if (fixed.shard >= SHARD_COUNT_MAX) return false;
    item->shard = fixed.shard;
    if (item->kind == PEER_MESSAGE) return read_message(header, &fixed, bytes, item);
    bool verifies = item->kind == PEER_VERIFY_QUESTION || item->kind == PEER_VERIFY_REPLY;
    return verifies ? read_verify_item(&fixed, bytes, item) : read_snapshot_item(&fixed, bytes, item);
}

/* Cuts the next item off `rest`, at least as long as what tells its kind and shard. */
static int cut_item(struct slice *rest, struct slice *item) {
    uint32_t bytes;
    if (rest->size == 0) return SK_NOT_FOUND;
    if (rest->size < sizeof bytes) return SK_EPROTO;
    memcpy(&bytes, rest->data, sizeof bytes);
    if (bytes < sizeof(struct wire_chunk) || bytes > rest->size) return SK_EPROTO;
    *item = slice_of(rest->data, bytes);
    *rest = slice_after(*rest, bytes);
    return SK_OK;
}

int peer_wire_read_item(const struct peer_header *header, struct slice *rest, struct peer_item *item) {
    struct slice bytes;
    int rc = cut_item(rest, &bytes);
    if (rc != SK_OK) return rc;
    return read_whole_item(header, bytes, item) ? SK_OK : SK_EPROTO;
}

int peer_wire_skip_item(struct slice *rest, uint32_t *shard) {
    struct slice bytes;
    int rc = cut_item(rest, &bytes);
    if (rc != SK_OK) return rc;
    memcpy(shard, bytes.data + offsetof(struct wire_item, shard), sizeof *shard);
    return SK_OK;
}

/* ---- frames ---- */

static bool is_bulk(const struct peer_item *item) {
    return item->kind == PEER_SNAPSHOT_BEGIN || item->kind == PEER_SNAPSHOT_PIECE || item->kind == PEER_CHUNK ||
           (item->kind == PEER_MESSAGE && item->is.message.type == REPLICA_APPEND);
}

static bool is_sound(const struct peer_item *item) {
    bool append = item->kind == PEER_MESSAGE && item->is.message.type == REPLICA_APPEND;
    return !append || entries_are_sound(item);
}

/* Every item of one of a frame's two parts; `count` is raised by theirs. */
static int check_items(const struct peer_header *header, struct slice items, bool bulk, uint32_t *count) {
    struct peer_item item;
    uint32_t before = *count;
    bool chunk = false;
    int rc;
    while ((rc = peer_wire_read_item(header, &items, &item)) == SK_OK) {
        if (is_bulk(&item) != bulk || !is_sound(&item)) return SK_EPROTO;
        chunk = chunk || item.kind == PEER_CHUNK;
        ++*count;
    }
    if (rc != SK_NOT_FOUND) return rc;
    return chunk && *count != before + 1 ? SK_EPROTO : SK_OK;
}

int peer_wire_check_assembled(struct slice bytes) {
    static const struct peer_header nobody;
    struct peer_item item;
    if (peer_wire_read_item(&nobody, &bytes, &item) != SK_OK || bytes.size != 0) return SK_EPROTO;
    return is_bulk(&item) && item.kind != PEER_CHUNK && is_sound(&item) ? SK_OK : SK_EPROTO;
}

static bool read_header(struct slice *rest, struct peer_header *header, int *rc) {
    struct wire_header fixed;
    *rc = SK_EPROTO;
    if (!take(rest, &fixed, sizeof fixed) || fixed.magic != MAGIC) return false;
    if (fixed.version != PEER_WIRE_VERSION) {
        *rc = SK_EVERSION;
        return false;
    }
    *header = (struct peer_header){
        .cluster = fixed.cluster,
        .from = fixed.from,
        .to = fixed.to,
        .from_incarnation = fixed.from_incarnation,
        .to_incarnation = fixed.to_incarnation,
        .connection = fixed.connection,
        .number = fixed.number,
        .bulk_before = fixed.bulk_before,
        .heard_connection = fixed.heard_connection,
        .heard_number = fixed.heard_number,
        .heard_taken = fixed.heard_taken,
        .item_count = fixed.item_count,
        .urgent_bytes = fixed.urgent_bytes,
    };
    if (fixed.reserved[0] != 0 || fixed.reserved[1] != 0 || fixed.reserved[2] != 0) return false;
    if (fixed.from == 0 || fixed.to == 0 || fixed.connection == 0) return false;
    return fixed.urgent_bytes <= rest->size && fixed.bulk_before <= UINT64_MAX - rest->size;
}

int peer_wire_read_frame(struct slice frame, struct peer_header *header, struct slice *urgent,
                         struct slice *bulk) {
    uint32_t count = 0;
    int rc;
    if (!read_header(&frame, header, &rc)) return rc;
    *urgent = slice_of(frame.data, header->urgent_bytes);
    *bulk = slice_after(frame, header->urgent_bytes);
    rc = check_items(header, *urgent, false, &count);
    if (rc == SK_OK) rc = check_items(header, *bulk, true, &count);
    if (rc != SK_OK) return rc;
    return count == header->item_count ? SK_OK : SK_EPROTO;
}
