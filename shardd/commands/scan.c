#include "shardd/commands/scan.h"

#include "libcommon/error.h"
#include "shardd/commands/call.h"
#include "shardd/commands/scan_page.h"

struct scan {
    struct scan_others others; /* first: read_type has this */
    struct scan_options options;
    uint64_t from; /* positions from here on, */
    uint64_t end;  /* up to here: the first of the next shard */
    bool typed;
    struct slice type;
};

bool scan_cursor_is_for(struct slice cursor, uint32_t shard, uint32_t shard_count) {
    uint64_t position;
    if (!args_parse_uint(cursor, &position)) return false;
    uint64_t slot = position >> 48;
    if (slot >= SLOT_COUNT) slot = SLOT_COUNT - 1;
    return slot_shard((uint32_t)slot, shard_count) == shard;
}

static bool read_type(struct scan_others *others, struct slice word, struct slice argument) {
    struct scan *scan = (struct scan *)others;
    if (!args_is_word(word, "TYPE")) return false;
    scan->typed = true;
    scan->type = argument;
    return true;
}

static int read_scan(struct call *call, struct scan *scan) {
    const struct exec *exec = call->exec;
    uint64_t first = slot_first_of_shard(exec->shard, exec->shard_count);
    uint64_t next = slot_first_of_shard(exec->shard + 1, exec->shard_count);
    *scan = (struct scan){.others.read_cb = read_type, .end = next << 48};
    if (!args_parse_uint(call->args[0], &scan->from)) return call_refuse(call, SK_BADREQUEST, "invalid cursor");
    if (scan->from < first << 48) scan->from = first << 48;
    return scan_read_options(call, 1, &scan->others, &scan->options);
}

static bool is_type(struct slice wanted, uint8_t type) {
    const char *name = keyspace_type_name(type);
    if (wanted.size != strlen(name)) return false;
    for (size_t i = 0; i < wanted.size; i++) {
        if ((wanted.data[i] | 0x20) != (uint8_t)name[i]) return false;
    }
    return true;
}

/* Expired, or of another type: as if it were not there. */
static bool is_hidden(const struct scan *scan, const struct record *record, uint64_t now_us) {
    if (record->deadline_us != 0 && record->deadline_us <= now_us) return true;
    return scan->typed && !is_type(scan->type, record->type);
}

static int walk(struct call *call, const struct scan *scan, struct scan_page *page) {
    uint8_t from[KEYSPACE_POSITION_BYTES], end[KEYSPACE_POSITION_BYTES];
    keyspace_position_key(scan->from, from);
    keyspace_position_key(scan->end, end);
    struct kv_iter *iter;
    int err = kv_iter_open(call->exec->kv, slice_of(from, sizeof from), &iter);
    if (err != SK_OK) return err;
    kv_iter_end_at(iter, slice_of(end, sizeof end));
    struct slice key, value;
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK) {
        struct record record;
        err = keyspace_read_record(key, value, &record);
        if (err != SK_OK) break;
        uint64_t position = keyspace_position(key);
        if (scan_page_ends(page, &scan->options, position)) break;
        bool wanted = scan_page_wants(page, &scan->options, position, record.key);
        if (wanted && !is_hidden(scan, &record, call->now_us)) {
            mp_write_bin(page->items, record.key);
            page->item_count++;
        }
    }
    kv_iter_close(iter);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

int execute_scan(struct call *call) {
    struct scan scan;
    int err = read_scan(call, &scan);
    if (err != SK_OK) return err;
    struct scan_page page;
    scan_page_start(call, &page);
    page.next = scan.end >= (uint64_t)SLOT_COUNT << 48 ? 0 : scan.end; /* when nothing is left here */
    if (scan.from < scan.end) err = walk(call, &scan, &page);
    return err == SK_OK ? scan_page_answer(call, &page) : err;
}
