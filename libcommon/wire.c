#include "wire.h"

#include "check.h"
#include "error.h"
#include "limits.h"

/* The structs below are the layout on the wire, copied as they are. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian and not swapped");

#define REQUEST_FLAGS_KNOWN (REQUEST_WRITE | REQUEST_ATOMIC | REQUEST_AFTER | REQUEST_STALE | REQUEST_WAITS)

struct __attribute__((packed)) wire_header {
    uint32_t magic;
    uint8_t version;
    uint8_t kind;
    uint16_t address_bytes;
    uint64_t cluster;
    uint64_t session;
    uint64_t incarnation;
    uint64_t number;
    uint64_t taken;
    uint32_t item_count;
    uint32_t reserved; /* 0 */
};

struct __attribute__((packed)) wire_request {
    uint32_t bytes; /* of the item without this field */
    uint64_t number;
    uint64_t floor;
    uint64_t epoch;
    uint64_t map_version;
    uint32_t shard;
    uint32_t timeout_ms;
    uint32_t id_part;
    uint8_t flags;
    uint8_t id_bytes;
    uint16_t reserved; /* 0 */
};

/* Behind a request with REQUEST_WAITS. */
struct __attribute__((packed)) wire_waiting {
    uint64_t waited_us;
    uint64_t follows;
};

struct __attribute__((packed)) wire_answer {
    uint32_t bytes; /* of the item without this field */
    uint64_t number;
    uint64_t map_version;
    int32_t err;
};

_Static_assert(sizeof(struct wire_header) == WIRE_HEADER_BYTES, "wire.h says how long a header is");
_Static_assert(sizeof(struct wire_request) == 4 + 32 + 12 + 4, "no padding");
_Static_assert(sizeof(struct wire_answer) == 4 + 16 + 4, "no padding");
_Static_assert(ID_BYTES_MAX <= UINT8_MAX, "id_bytes is one byte");
_Static_assert(WIRE_ADDRESS_BYTES_MAX <= UINT16_MAX, "address_bytes is two bytes");

void frame_begin(struct buffer *buffer, const struct frame_header *header) {
    sk_assert(header->return_address.size <= WIRE_ADDRESS_BYTES_MAX);
    struct wire_header fixed = {
        .magic = WIRE_MAGIC,
        .version = WIRE_VERSION,
        .kind = (uint8_t)header->kind,
        .address_bytes = (uint16_t)header->return_address.size,
        .cluster = header->cluster,
        .session = header->session,
        .incarnation = header->incarnation,
        .number = header->number,
        .taken = header->taken,
        .item_count = header->item_count,
    };
    buffer_append(buffer, &fixed, sizeof fixed);
    buffer_append(buffer, header->return_address.data, header->return_address.size);
}

size_t frame_request_bytes(const struct request_item *item) {
    size_t waiting_bytes = (item->flags & REQUEST_WAITS) != 0 ? sizeof(struct wire_waiting) : 0;
    return sizeof(struct wire_request) + waiting_bytes + item->id.size + item->body.size;
}

size_t frame_answer_bytes(const struct answer_item *item) { return sizeof(struct wire_answer) + item->body.size; }

static uint8_t *put(uint8_t *at, const void *data, size_t size) {
    if (size != 0) memcpy(at, data, size);
    return at + size;
}

void frame_add_request(struct buffer *buffer, const struct request_item *item) {
    size_t size = frame_request_bytes(item);
    sk_assert(item->id.size <= ID_BYTES_MAX);
    sk_assert((item->flags & ~REQUEST_FLAGS_KNOWN) == 0);
    sk_assert(size <= UINT32_MAX);
    uint8_t *at = buffer_extend(buffer, size);
    if (at == NULL) return;
    struct wire_request fixed = {
        .bytes = (uint32_t)(size - sizeof fixed.bytes),
        .number = item->number,
        .floor = item->floor,
        .epoch = item->epoch,
        .map_version = item->map_version,
        .shard = item->shard,
        .timeout_ms = item->timeout_ms,
        .id_part = item->id_part,
        .flags = item->flags,
        .id_bytes = (uint8_t)item->id.size,
    };
    at = put(at, &fixed, sizeof fixed);
    struct wire_waiting waiting = {.waited_us = item->waited_us, .follows = item->follows};
    if ((item->flags & REQUEST_WAITS) != 0) at = put(at, &waiting, sizeof waiting);
    at = put(at, item->id.data, item->id.size);
    put(at, item->body.data, item->body.size);
}

void frame_add_answer(struct buffer *buffer, const struct answer_item *item) {
    size_t size = frame_answer_bytes(item);
    sk_assert(item->err >= 0);
    sk_assert(size <= UINT32_MAX);
    uint8_t *at = buffer_extend(buffer, size);
    if (at == NULL) return;
    struct wire_answer fixed = {
        .bytes = (uint32_t)(size - sizeof fixed.bytes),
        .number = item->number,
        .map_version = item->map_version,
        .err = item->err,
    };
    at = put(at, &fixed, sizeof fixed);
    put(at, item->body.data, item->body.size);
}

void frame_finish(uint8_t *frame, uint64_t number, uint64_t taken, uint32_t item_count) {
    memcpy(frame + offsetof(struct wire_header, number), &number, sizeof number);
    memcpy(frame + offsetof(struct wire_header, taken), &taken, sizeof taken);
    memcpy(frame + offsetof(struct wire_header, item_count), &item_count, sizeof item_count);
}

static struct slice slice_after(struct slice bytes, size_t size) {
    return slice_of(bytes.data + size, bytes.size - size);
}

int frame_read_header(struct slice frame, struct frame_header *header, struct slice *rest) {
    struct wire_header fixed;
    if (frame.size < sizeof fixed) return SK_EPROTO;
    memcpy(&fixed, frame.data, sizeof fixed);
    if (fixed.magic != WIRE_MAGIC) return SK_EPROTO;
    if (fixed.version != WIRE_VERSION) return SK_EVERSION;
    if (fixed.kind != FRAME_REQUESTS && fixed.kind != FRAME_ANSWERS) return SK_EPROTO;
    if (fixed.reserved != 0) return SK_EPROTO;
    if (fixed.address_bytes > WIRE_ADDRESS_BYTES_MAX) return SK_EPROTO;
    struct slice variable = slice_after(frame, sizeof fixed);
    if (fixed.address_bytes > variable.size) return SK_EPROTO;
    struct slice items = slice_after(variable, fixed.address_bytes);
    /* So that a reader may make room for item_count items. */
    size_t least = fixed.kind == FRAME_REQUESTS ? sizeof(struct wire_request) : sizeof(struct wire_answer);
    if (fixed.item_count > items.size / least) return SK_EPROTO;
    *header = (struct frame_header){
        .kind = (enum frame_kind)fixed.kind,
        .cluster = fixed.cluster,
        .session = fixed.session,
        .incarnation = fixed.incarnation,
        .number = fixed.number,
        .taken = fixed.taken,
        .return_address = slice_of(variable.data, fixed.address_bytes),
        .item_count = fixed.item_count,
    };
    *rest = items;
    return SK_OK;
}

/* Copies the fixed part of the next item, which opens with its `bytes`, and cuts its variable part off `rest`. */
static inline int take_item(struct slice *rest, void *fixed, size_t fixed_bytes, struct slice *variable) {
    if (rest->size == 0) return SK_NOT_FOUND;
    uint32_t bytes;
    if (rest->size < fixed_bytes) return SK_EPROTO;
    memcpy(&bytes, rest->data, sizeof bytes);
    size_t item_bytes = sizeof bytes + (size_t)bytes;
    if (item_bytes < fixed_bytes || item_bytes > rest->size) return SK_EPROTO;
    memcpy(fixed, rest->data, fixed_bytes);
    *variable = slice_of(rest->data + fixed_bytes, item_bytes - fixed_bytes);
    *rest = slice_after(*rest, item_bytes);
    return SK_OK;
}

int frame_read_request(struct slice *rest, struct request_item *item) {
    struct wire_request fixed;
    struct slice variable;
    int rc = take_item(rest, &fixed, sizeof fixed, &variable);
    if (rc != SK_OK) return rc;
    if ((fixed.flags & ~REQUEST_FLAGS_KNOWN) != 0 || fixed.reserved != 0) return SK_EPROTO;
    if ((fixed.flags & REQUEST_STALE) != 0 && fixed.flags != REQUEST_STALE) return SK_EPROTO;
    struct wire_waiting waiting = {0};
    if ((fixed.flags & REQUEST_WAITS) != 0) {
        if (fixed.flags != (REQUEST_WAITS | REQUEST_WRITE) || variable.size < sizeof waiting) return SK_EPROTO;
        memcpy(&waiting, variable.data, sizeof waiting);
        variable = slice_after(variable, sizeof waiting);
    }
    if (fixed.id_bytes > ID_BYTES_MAX || fixed.id_bytes > variable.size) return SK_EPROTO;
    *item = (struct request_item){
        .number = fixed.number,
        .floor = fixed.floor,
        .epoch = fixed.epoch,
        .map_version = fixed.map_version,
        .shard = fixed.shard,
        .timeout_ms = fixed.timeout_ms,
        .flags = fixed.flags,
        .waited_us = waiting.waited_us,
        .follows = waiting.follows,
        .id_part = fixed.id_part,
        .id = slice_of(variable.data, fixed.id_bytes),
        .body = slice_after(variable, fixed.id_bytes),
    };
    return SK_OK;
}

int frame_read_answer(struct slice *rest, struct answer_item *item) {
    struct wire_answer fixed;
    struct slice variable;
    int rc = take_item(rest, &fixed, sizeof fixed, &variable);
    if (rc != SK_OK) return rc;
    if (fixed.err < 0) return SK_EPROTO;
    *item = (struct answer_item){
        .number = fixed.number,
        .map_version = fixed.map_version,
        .err = fixed.err,
        .body = variable,
    };
    return SK_OK;
}
