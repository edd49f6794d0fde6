#include "shardd/entry.h"

#include "libcommon/error.h"
#include "libcommon/limits.h"

enum { FLAG_ATOMIC = 1, FLAG_ID = 2, FLAG_CHANCE = 4, FLAG_WAITS = 8 };

static void put_u32(struct buffer *buffer, uint32_t number) { buffer_append(buffer, &number, sizeof number); }

static void put_u64(struct buffer *buffer, uint64_t number) { buffer_append(buffer, &number, sizeof number); }

static bool take(struct slice *rest, void *target, size_t size) {
    if (rest->size < size) return false;
    memcpy(target, rest->data, size);
    *rest = slice_of(rest->data + size, rest->size - size);
    return true;
}

void entry_encode_plain(struct buffer *buffer, uint64_t commit_index) { put_u64(buffer, commit_index); }

void entry_encode_command(struct buffer *buffer, const struct entry *entry) {
    const struct entry_name *name = &entry->name;
    uint8_t flags = (uint8_t)((entry->atomic ? FLAG_ATOMIC : 0) | (name->id.size > 0 ? FLAG_ID : 0) |
                              (entry->chance != 0 ? FLAG_CHANCE : 0) | (entry->waits ? FLAG_WAITS : 0));

    put_u64(buffer, entry->commit_index);
    buffer_append(buffer, &flags, 1);
    if (name->id.size > 0) {
        uint8_t id_bytes = (uint8_t)name->id.size;
        buffer_append(buffer, &id_bytes, 1);
        buffer_append(buffer, name->id.data, name->id.size);
        put_u32(buffer, name->id_part);
        put_u32(buffer, name->window_ms);
    } else {
        put_u64(buffer, name->session);
        put_u64(buffer, name->number);
        put_u64(buffer, name->floor);
    }
    if (entry->chance != 0) put_u64(buffer, entry->chance);
    buffer_append(buffer, entry->body.data, entry->body.size);
}

static bool take_id(struct slice *rest, struct entry_name *name) {
    uint8_t id_bytes;
    if (!take(rest, &id_bytes, 1)) return false;
    if (id_bytes == 0 || id_bytes > ID_BYTES_MAX || rest->size < id_bytes) return false;
    name->id = slice_of(rest->data, id_bytes);
    *rest = slice_of(rest->data + id_bytes, rest->size - id_bytes);
    return take(rest, &name->id_part, sizeof name->id_part) &&
           take(rest, &name->window_ms, sizeof name->window_ms);
}

static bool take_number(struct slice *rest, struct entry_name *name) {
    return take(rest, &name->session, sizeof name->session) && take(rest, &name->number, sizeof name->number) &&
           take(rest, &name->floor, sizeof name->floor);
}

int entry_decode(struct slice payload, bool is_command, struct entry *entry) {
    *entry = (struct entry){0};
    struct slice rest = payload;
    if (!take(&rest, &entry->commit_index, sizeof entry->commit_index)) return SK_EPROTO;
    if (!is_command) return rest.size == 0 ? SK_OK : SK_EPROTO;

    uint8_t flags;
    if (!take(&rest, &flags, 1) || (flags & ~(FLAG_ATOMIC | FLAG_ID | FLAG_CHANCE | FLAG_WAITS)) != 0) {
        return SK_EPROTO;
    }
    entry->atomic = (flags & FLAG_ATOMIC) != 0;
    entry->waits = (flags & FLAG_WAITS) != 0;
    bool whole = (flags & FLAG_ID) != 0 ? take_id(&rest, &entry->name) : take_number(&rest, &entry->name);
    if (whole && (flags & FLAG_CHANCE) != 0) {
        whole = take(&rest, &entry->chance, sizeof entry->chance) && entry->chance != 0;
    }
    if (!whole) return SK_EPROTO;
    entry->body = rest;
    return SK_OK;
}
