#include "shardd/commands/scan.h"

#include "libcommon/error.h"
#include "shardd/commands/call.h"
#include "shardd/commands/glob.h"

#define COUNT_DEFAULT     10
#define PATTERN_BYTES_MAX 1024u

/* A page ends early (COUNT is a hint) when its keys are this many bytes, or so many bytes of pattern and key were
 * laid against each other: a step of the lane stays short. */
#define PAGE_BYTES 1048576u
#define PAGE_WORK  8388608u

struct scan {
    uint64_t from; /* positions from here on, */
    uint64_t end;  /* up to here: the first of the next shard */
    int64_t count; /* examine so many keys */
    bool matches;
    struct slice pattern;
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

static int read_count(struct call *call, struct slice text, int64_t *count) {
    if (!args_parse_int(text, count)) return call_refuse_not_int(call);
    if (*count < 1) return call_refuse_syntax(call);
    if (*count > (int64_t)SCAN_COUNT_MAX) {
        return call_refuse(call, SK_TOOLARGE, "COUNT is limited to %u", SCAN_COUNT_MAX);
    }
    return SK_OK;
}

static int read_pattern(struct call *call, struct slice pattern, struct scan *scan) {
    if (pattern.size > PATTERN_BYTES_MAX) {
        return call_refuse(call, SK_TOOLARGE, "MATCH is limited to %u bytes", PATTERN_BYTES_MAX);
    }
    scan->pattern = pattern;
    scan->matches = !slice_equal(pattern, slice_of_text("*"));
    return SK_OK;
}

static int read_scan_options(struct call *call, struct scan *scan) {
    for (size_t i = 1; i < call->count; i += 2) {
        struct slice word = call->args[i];
        if (i + 1 == call->count) return call_refuse_syntax(call);
        struct slice argument = call->args[i + 1];
        int err = SK_OK;
        if (args_is_word(word, "COUNT")) {
            err = read_count(call, argument, &scan->count);
        } else if (args_is_word(word, "MATCH")) {
            err = read_pattern(call, argument, scan);
        } else if (args_is_word(word, "TYPE")) {
            scan->typed = true;
            scan->type = argument;
        } else {
            err = call_refuse_syntax(call);
        }
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

static int read_scan(struct call *call, struct scan *scan) {
    const struct exec *exec = call->exec;
    uint64_t first = slot_first_of_shard(exec->shard, exec->shard_count);
    uint64_t next = slot_first_of_shard(exec->shard + 1, exec->shard_count);
    *scan = (struct scan){.end = next << 48, .count = COUNT_DEFAULT};
    if (!args_parse_uint(call->args[0], &scan->from)) return call_refuse(call, SK_BADREQUEST, "invalid cursor");
    if (scan->from < first << 48) scan->from = first << 48;
    return read_scan_options(call, scan);
}

static bool is_type(struct slice wanted, uint8_t type) {
    const char *name = keyspace_type_name(type);
    if (wanted.size != strlen(name)) return false;
    for (size_t i = 0; i < wanted.size; i++) {
        if ((wanted.data[i] | 0x20) != (uint8_t)name[i]) return false;
    }
    return true;
}

static bool is_wanted(const struct scan *scan, const struct record *record, uint64_t now_us) {
    if (record->deadline_us != 0 && record->deadline_us <= now_us) return false;
    if (scan->typed && !is_type(scan->type, record->type)) return false;
    return !scan->matches || glob_match(scan->pattern, record->key);
}

/* What a page has come to. Keys are gathered in the exec's scratch, since the cursor stands before them in the
 * answer. */
struct page {
    struct buffer *keys;
    uint32_t key_count;
    int64_t examined;
    uint64_t work;
    uint64_t position; /* of the key examined last */
    uint64_t next;
};

/* Never between keys of one position: the cursor could not tell them apart. */
static bool page_is_full(const struct scan *scan, const struct page *page, uint64_t position) {
    if (page->examined == 0 || position == page->position) return false;
    return page->examined >= scan->count || page->keys->size >= PAGE_BYTES || page->work >= PAGE_WORK;
}

static int walk(struct call *call, const struct scan *scan, struct page *page) {
    uint8_t from[KEYSPACE_POSITION_BYTES];
    keyspace_position_key(scan->from, from);
    struct kv_iter *iter;
    int err = kv_iter_open(call->exec->kv, slice_of(from, sizeof from), &iter);
    if (err != SK_OK) return err;
    struct slice key, value;
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK) {
        struct record record;
        if (key.data[0] >= RECORD_EXPIRY) break;
        err = keyspace_read_record(key, value, &record);
        if (err != SK_OK) break;
        uint64_t position = keyspace_position(key);
        if (position >= scan->end) break;
        if (page_is_full(scan, page, position)) {
            page->next = position;
            break;
        }
        page->position = position;
        page->examined++;
        page->work += scan->matches ? scan->pattern.size * record.key.size : 0;
        if (is_wanted(scan, &record, call->now_us)) {
            mp_write_bin(page->keys, record.key);
            page->key_count++;
        }
        if (page->keys->size > RESULT_BYTES_MAX) break;
    }
    kv_iter_close(iter);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

int execute_scan(struct call *call) {
    struct scan scan;
    int err = read_scan(call, &scan);
    if (err != SK_OK) return err;
    struct page page = {.keys = &call->exec->scratch};
    page.next = scan.end >= (uint64_t)SLOT_COUNT << 48 ? 0 : scan.end; /* when nothing is left here */
    buffer_clear(page.keys, PAGE_BYTES);
    if (scan.from < scan.end) err = walk(call, &scan, &page);
    if (err != SK_OK) return err;
    if (page.keys->failed) return SK_ENOMEM;
    if (page.keys->size > RESULT_BYTES_MAX) {
        return call_refuse(call, SK_TOOLARGE, "the answer would be too large");
    }
    char text[ARGS_INT_TEXT_MAX];
    mp_write_array(call->answer, 2);
    mp_write_bin(call->answer, slice_of(text, args_print_uint(page.next, text)));
    mp_write_array(call->answer, page.key_count);
    mp_write_raw(call->answer, buffer_slice(page.keys));
    return SK_OK;
}
