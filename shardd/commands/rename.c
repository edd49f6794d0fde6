/* Keys that become others: RENAME RENAMENX COPY. Semantics, order of checks and texts are Redis 7's. */
#include "shardd/collection.h"
#include "shardd/pieces.h"

#include "libcommon/error.h"

#define COPY_BYTES_MAX    (64u * 1024 * 1024) /* elements and keys of one that is copied, */
#define COPY_ELEMENTS_MAX ELEMENTS_MET_MAX    /* and their count: all of it is one entry's step */
#define PORTION_BYTES     (1u << 20)
#define PORTION_KEPT      65536u

/* A copy of an object's payload, since what is found lies in a store that changes. */
static int keep_payload(struct call *call, struct object *object) {
    struct buffer *kept = &call->exec->gathered;
    buffer_clear(kept, PORTION_KEPT);
    buffer_append(kept, object->payload.data, object->payload.size);
    object->payload = buffer_slice(kept);
    return kept->failed ? SK_ENOMEM : SK_OK;
}

static int store_as(struct call *call, struct object *target, const struct object *source) {
    struct buffer *value = keyspace_build(call->exec, target, source->type, source->deadline_us);
    buffer_append(value, source->payload.data, source->payload.size);
    return call_put(call, target);
}

/* ---- RENAME ---- */

/* The elements of a collection stay where they are: its id goes to the other key. */
static int move(struct call *call, struct object *source, struct object *target) {
    int err = keep_payload(call, source);
    if (err == SK_OK) err = store_as(call, target, source);
    return err == SK_OK ? keyspace_remove_record(call->exec, source) : err;
}

/* The target first: looking for it may remove what has expired, and so move what is found. */
static int find_both(struct call *call, struct object *source, struct object *target) {
    int err = keyspace_find_for_write(call->exec, call->args[1], call->now_us, target);
    return err == SK_OK ? keyspace_find_for_write(call->exec, call->args[0], call->now_us, source) : err;
}

static int rename_key(struct call *call, bool only_new) {
    struct object source, target;
    int err = find_both(call, &source, &target);
    if (err != SK_OK) return err;
    if (!source.found) return call_refuse(call, SK_BADREQUEST, "no such key");
    if (only_new) {
        call_answer_int(call, !target.found);
    } else {
        call_answer_ok(call);
    }
    bool is_same = slice_equal(call->args[0], call->args[1]);
    return is_same || (only_new && target.found) ? SK_OK : move(call, &source, &target);
}

int execute_rename(struct call *call) { return rename_key(call, false); }

int execute_renamenx(struct call *call) { return rename_key(call, true); }

/* ---- COPY ---- */

static int read_copy_options(struct call *call, bool *replace) {
    *replace = false;
    for (size_t i = 2; i < call->count; i++) {
        if (args_is_word(call->args[i], "REPLACE")) {
            *replace = true;
        } else if (args_is_word(call->args[i], "DB") && i + 1 < call->count) {
            int64_t database;
            if (!args_parse_int(call->args[++i], &database)) return call_refuse_not_int(call);
            if (database < INT32_MIN || database > INT32_MAX) {
                return call_refuse(call, SK_BADREQUEST, "value is out of range, value must between %d and %d",
                                   INT32_MIN, INT32_MAX);
            }
            if (database != 0) return call_refuse(call, SK_BADREQUEST, "DB index is out of range");
        } else {
            return call_refuse_syntax(call);
        }
    }
    return SK_OK;
}

/* Elements with their keys as they will be, gathered before they are put, each key before its value. */
struct portion {
    struct buffer *records;
    uint8_t next[KV_KEY_BYTES_MAX]; /* where the next one begins; size 0: there is none */
    size_t next_size;
};

static void append_record(struct buffer *records, uint64_t id, struct slice key, struct slice value) {
    uint8_t own[KV_KEY_BYTES_MAX];
    memcpy(own, key.data, key.size);
    (void)element_prefix(id, key.data[ELEMENT_PREFIX_BYTES - 1], own);
    pieces_add(records, slice_of(own, key.size));
    pieces_add(records, value);
}

static int gather(struct call *call, uint64_t from_id, uint64_t to_id, struct portion *portion) {
    struct kv_iter *iter;
    uint8_t end[ELEMENT_PREFIX_BYTES];
    int err = kv_iter_open(call->exec->kv, slice_of(portion->next, portion->next_size), &iter);
    if (err != SK_OK) return err;
    kv_iter_end_at(iter, element_prefix(from_id + 1, 0, end));
    struct slice key, value;
    portion->next_size = 0;
    buffer_clear(portion->records, PORTION_KEPT);
    while ((err = kv_iter_next(iter, &key, &value)) == SK_OK && element_key_is_of(key, from_id)) {
        if (portion->records->size >= PORTION_BYTES) {
            memcpy(portion->next, key.data, key.size);
            portion->next_size = key.size;
            break;
        }
        append_record(portion->records, to_id, key, value);
    }
    kv_iter_close(iter);
    if (portion->records->failed) return SK_ENOMEM;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int put_portion(struct call *call, const struct portion *portion) {
    struct slice rest = buffer_slice(portion->records);
    int err = SK_OK;
    while (err == SK_OK && rest.size > 0) {
        struct slice key = pieces_take(&rest), value = pieces_take(&rest);
        err = kv_put(call->exec->kv, key, value);
    }
    return err;
}

static int copy_elements(struct call *call, uint64_t from_id, uint64_t to_id) {
    struct portion portion = {.records = &call->exec->assembled};
    portion.next_size = element_prefix(from_id, 0, portion.next).size;
    int err = SK_OK;
    while (err == SK_OK && portion.next_size > 0) {
        err = gather(call, from_id, to_id, &portion);
        if (err == SK_OK) err = put_portion(call, &portion);
    }
    return err;
}

/* The copy of a collection has an id, and elements, of its own. */
static int copy(struct call *call) {
    struct object source, target;
    int err = find_both(call, &source, &target);
    if (err == SK_OK) err = keep_payload(call, &source);
    if (err != SK_OK) return err;
    if (source.elements_id != 0) {
        uint64_t id = ++call->exec->counters.changes;
        err = copy_elements(call, source.elements_id, id);
        if (err != SK_OK) return err;
        put_u64(call->exec->gathered.data, id); /* the head begins with it (keyspace.h) */
    }
    call_answer_int(call, 1);
    return store_as(call, &target, &source);
}

static int check_copy_size(struct call *call, const struct object *source) {
    struct collection collection = {.type = source->type};
    if (source->elements_id == 0) return SK_OK;
    int err = collection_read(source->type, source->payload, &collection);
    if (err != SK_OK) return err;
    bool is_array = source->type == OBJECT_BITMAP; /* whose count is bytes, most of which may be nowhere */
    if (collection.bytes <= COPY_BYTES_MAX && (is_array || collection.count <= COPY_ELEMENTS_MAX)) return SK_OK;
    return call_refuse(call, SK_TOOLARGE, "the value is too large to be copied");
}

int execute_copy(struct call *call) {
    bool replace;
    int err = read_copy_options(call, &replace);
    if (err != SK_OK) return err;
    if (slice_equal(call->args[0], call->args[1])) {
        return call_refuse(call, SK_BADREQUEST, "source and destination objects are the same");
    }
    struct object source, target;
    err = find_both(call, &source, &target);
    if (err != SK_OK) return err;
    if (!source.found || (target.found && !replace)) return call_answer_int(call, 0);
    err = check_copy_size(call, &source);
    if (err != SK_OK) return err;
    /* A target that is refused at the end leaves elements behind. */
    bool may_be_refused =
        call->args[1].size > KEYSPACE_KEY_INLINE_MAX && source.elements_id != 0 && !call->in_batch;
    return may_be_refused ? call_all_or_nothing(call, copy) : copy(call);
}
