/* SORT and SORT_RO. Semantics, order of checks and texts are Redis 7's, but for BY and GET: the keys that they name must lie in
 * the slot of the key that is sorted, so their pattern has a hash tag of that slot before the asterisk ("{user}:name:*"). */
#include "shardd/commands/members.h"
#include "shardd/list.h"
#include "shardd/zset.h"

#include "libcommon/error.h"
#include "libcommon/slot.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#define ELEMENTS_MAX    250000u             /* that are sorted: all of it is one step */
#define TEXT_BYTES_MAX  (32u * 1024 * 1024) /* of them, of what they are sorted by, and of the output, each */
#define TEXT_KEPT_BYTES 65536u

/* Runs of bytes in one growing buffer: told by where they are, since it moves. */
struct run {
    size_t at, size;
    bool is_nil;
};

struct item {
    struct run name;
    struct run by; /* what it is compared by, with ALPHA */
    double score;  /* without */
};

struct sort {
    struct call *call;
    bool descending, alphabetic, unsorted;
    bool has_by;
    struct slice by;
    struct slice *gets; /* owned: patterns */
    size_t get_count;
    int64_t offset, limit;
    bool stores;
    struct slice target;

    struct buffer text; /* owned; names, what they are sorted by, output */
    struct item *items; /* owned */
    uint64_t count, reserved;
    struct run *outputs; /* owned */
    uint64_t output_count;
};

/* ---- options ---- */

/* Whether a pattern names keys of this slot, whatever stands for the asterisk. */
static bool is_of_slot(struct slice pattern, uint32_t slot) {
    const uint8_t *open = memchr(pattern.data, '{', pattern.size);
    const uint8_t *star = memchr(pattern.data, '*', pattern.size);
    if (open == NULL || (star != NULL && star < open)) return false;
    size_t left = pattern.size - (size_t)(open - pattern.data);
    const uint8_t *close = memchr(open, '}', left);
    bool has_tag = close != NULL && close > open + 1 && (star == NULL || star > close);
    return has_tag && slot_of_key(pattern) == slot;
}

static int check_pattern(struct call *call, struct slice pattern) {
    if (is_of_slot(pattern, slot_of_key(call->args[0]))) return SK_OK;
    return call_refuse(call, SK_CROSSSLOT, "BY and GET need a pattern with a hash tag of the slot of the key");
}

static bool is_self(struct slice pattern) { return pattern.size == 1 && pattern.data[0] == '#'; }

static int read_limit(struct sort *sort, size_t at) {
    struct call *call = sort->call;
    bool good = args_parse_int(call->args[at], &sort->offset) && args_parse_int(call->args[at + 1], &sort->limit);
    return good ? SK_OK : call_refuse_not_int(call);
}

static int read_by(struct sort *sort, struct slice pattern) {
    sort->by = pattern;
    sort->has_by = true;
    sort->unsorted = memchr(pattern.data, '*', pattern.size) == NULL;
    return sort->unsorted ? SK_OK : check_pattern(sort->call, pattern);
}

static int read_get(struct sort *sort, struct slice pattern) {
    if (sort->gets == NULL) sort->gets = calloc(sort->call->count, sizeof *sort->gets);
    if (sort->gets == NULL) return SK_ENOMEM;
    sort->gets[sort->get_count++] = pattern;
    bool needs_key = !is_self(pattern) && memchr(pattern.data, '*', pattern.size) != NULL;
    return needs_key ? check_pattern(sort->call, pattern) : SK_OK;
}

static int read_store(struct sort *sort, struct slice target) {
    sort->stores = true;
    sort->target = target;
    if (target.size > KEY_BYTES_MAX) {
        return call_refuse(sort->call, SK_TOOLARGE, "key exceeds maximum allowed size of %u bytes", KEY_BYTES_MAX);
    }
    if (slot_of_key(target) == slot_of_key(sort->call->args[0])) return SK_OK;
    return call_refuse(sort->call, SK_CROSSSLOT, "Keys in request don't hash to the same slot");
}

static int read_options(struct sort *sort, bool may_store) {
    struct call *call = sort->call;
    sort->limit = -1;
    for (size_t i = 1; i < call->count; i++) {
        const struct slice *word = &call->args[i];
        size_t left = call->count - i - 1;
        int err = SK_OK;
        if (args_is_word(word[0], "ASC")) sort->descending = false;
        else if (args_is_word(word[0], "DESC")) sort->descending = true;
        else if (args_is_word(word[0], "ALPHA")) sort->alphabetic = true;
        else if (args_is_word(word[0], "LIMIT") && left >= 2) err = read_limit(sort, i + 1), i += 2;
        else if (args_is_word(word[0], "BY") && left >= 1) err = read_by(sort, word[1]), i++;
        else if (args_is_word(word[0], "GET") && left >= 1) err = read_get(sort, word[1]), i++;
        else if (may_store && args_is_word(word[0], "STORE") && left >= 1) err = read_store(sort, word[1]), i++;
        else return call_refuse_syntax(call);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* ---- bytes ---- */

static int refuse_size(struct sort *sort) {
    return call_refuse(sort->call, SK_TOOLARGE, "there is too much to be sorted");
}

static int keep(struct sort *sort, struct slice bytes, struct run *run) {
    *run = (struct run){.at = sort->text.size, .size = bytes.size};
    if (sort->text.size + bytes.size > 3u * TEXT_BYTES_MAX) return refuse_size(sort);
    buffer_append(&sort->text, bytes.data, bytes.size);
    return sort->text.failed ? SK_ENOMEM : SK_OK;
}

static struct slice bytes_of(const struct sort *sort, const struct run *run) {
    return run->size == 0 ? slice_of("", 0) : slice_of(sort->text.data + run->at, run->size);
}

/* ---- elements ---- */

static int reserve(struct sort *sort, uint64_t count) {
    if (count > ELEMENTS_MAX) return refuse_size(sort);
    sort->reserved = count;
    sort->items = calloc(count == 0 ? 1 : count, sizeof *sort->items);
    return sort->items == NULL ? SK_ENOMEM : SK_OK;
}

/* More than the head has told of is damage. */
static int add(struct sort *sort, struct slice name) {
    if (sort->count == sort->reserved) return SK_ECORRUPT;
    return keep(sort, name, &sort->items[sort->count++].name);
}

/* In their order, or from the end when that is what is asked for. */
static int gather_list(struct sort *sort) {
    struct list list;
    struct list_walk walk;
    struct slice value;
    bool down = sort->unsorted && sort->descending;
    int err = list_find(sort->call, sort->call->args[0], &list);
    uint64_t count = list.collection.count;
    if (err == SK_OK) err = reserve(sort, count);
    if (err != SK_OK || count == 0) return err;
    err = list_walk_open(sort->call, &list, down ? count - 1 : 0, down ? LIST_HEAD : LIST_TAIL, &walk);
    if (err != SK_OK) return err;
    while (err == SK_OK && (err = list_walk_next(&walk, &value)) == SK_OK) err = add(sort, value);
    list_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int gather_zset(struct sort *sort) {
    struct zset zset;
    struct zset_range all;
    struct zset_walk walk;
    struct slice name;
    double score;
    int err = zset_find(sort->call, sort->call->args[0], &zset);
    if (err == SK_OK) err = reserve(sort, zset.collection.count);
    if (err == SK_OK) err = zset_open(sort->call, &zset);
    if (err != SK_OK) return err;
    zset_range_all(&all);
    err = zset_walk_open(sort->call, &zset, &all, sort->unsorted && sort->descending, 0, &walk);
    if (err != SK_OK) return err;
    while (err == SK_OK && (err = zset_walk_next(&walk, &name, &score)) == SK_OK) err = add(sort, name);
    zset_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int gather_set(struct sort *sort) {
    struct collection set;
    struct element_walk walk;
    struct slice name, value;
    uint64_t position;
    int err = collection_find(sort->call, sort->call->args[0], OBJECT_SET, &set);
    if (err == SK_OK) err = reserve(sort, set.count);
    if (err == SK_OK) err = element_walk_open(sort->call->exec, set.id, 0, &walk);
    if (err != SK_OK) return err;
    while (err == SK_OK && (err = element_walk_next(&walk, &position, &name, &value)) == SK_OK)
        err = add(sort, name);
    element_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int gather(struct sort *sort) {
    struct object object;
    int err = keyspace_find(sort->call->exec, sort->call->args[0], sort->call->now_us, &object);
    if (err != SK_OK || !object.found) return err;
    switch (object.type) {
    case OBJECT_LIST:
        return gather_list(sort);
    case OBJECT_ZSET:
        return gather_zset(sort);
    case OBJECT_SET:
        if (sort->unsorted && sort->stores) { /* the order of a set is nobody's business */
            sort->unsorted = sort->has_by = false;
            sort->alphabetic = true;
        }
        return gather_set(sort);
    default:
        return call_refuse_wrong_type(sort->call);
    }
}

/* ---- what patterns name ---- */

static int look_up_field(struct sort *sort, const struct object *object, struct slice field, struct run *found) {
    struct element element;
    if (object->type != OBJECT_HASH) return SK_OK;
    int err = element_find(sort->call->exec, object->elements_id, field, &element);
    if (err != SK_OK || !element.found) return err;
    return keep(sort, element.value, found);
}

/* The value of the key that a pattern names for an element, or of a field of it ("{t}h_*->field"). */
static int look_up(struct sort *sort, struct slice pattern, const struct run *name, struct run *found) {
    struct call *call = sort->call;
    const uint8_t *star = memchr(pattern.data, '*', pattern.size);
    *found = (struct run){.is_nil = true};
    if (star == NULL) return SK_OK;
    size_t before = (size_t)(star - pattern.data);
    struct slice behind = slice_of(star + 1, pattern.size - before - 1), field = slice_of(NULL, 0);
    const uint8_t *arrow = memmem(behind.data, behind.size, "->", 2);
    if (arrow != NULL && arrow + 2 < behind.data + behind.size) {
        field = slice_of(arrow + 2, (size_t)(behind.data + behind.size - arrow - 2));
        behind.size = (size_t)(arrow - behind.data);
    }
    struct buffer *key = &call->exec->gathered;
    buffer_clear(key, TEXT_KEPT_BYTES);
    buffer_append(key, pattern.data, before);
    struct slice word = bytes_of(sort, name);
    buffer_append(key, word.data, word.size);
    buffer_append(key, behind.data, behind.size);
    if (key->failed) return SK_ENOMEM;
    if (key->size > KEY_BYTES_MAX) return SK_OK;
    struct object object;
    int err = keyspace_find(call->exec, buffer_slice(key), call->now_us, &object);
    if (err != SK_OK || !object.found) return err;
    if (field.data != NULL) return look_up_field(sort, &object, field, found);
    if (object.type != OBJECT_STRING && object.type != OBJECT_BITMAP) return SK_OK;
    err = call_load_string(call, &object);
    return err == SK_OK ? keep(sort, object.payload, found) : err;
}

/* ---- order ---- */

/* As strtod takes a number, and nothing as 0: a text ends at a zero. */
static bool parse_score(struct slice text, double *score) {
    text.size = strnlen((const char *)text.data, text.size);
    *score = 0;
    return text.size == 0 || (args_parse_bound(text, score) && errno != ERANGE);
}

static int weigh(struct sort *sort, struct item *item) {
    item->by = item->name;
    if (sort->has_by) {
        int err = look_up(sort, sort->by, &item->name, &item->by);
        if (err != SK_OK) return err;
    }
    if (sort->alphabetic || item->by.is_nil || parse_score(bytes_of(sort, &item->by), &item->score)) return SK_OK;
    return call_refuse(sort->call, SK_BADREQUEST, "One or more scores can't be converted into double");
}

static int compare(const void *left, const void *right, void *arg) {
    const struct sort *sort = arg;
    const struct item *a = left, *b = right;
    int order = 0;
    if (sort->alphabetic) {
        order = a->by.is_nil || b->by.is_nil ? b->by.is_nil - a->by.is_nil
                                             : slice_compare(bytes_of(sort, &a->by), bytes_of(sort, &b->by));
    } else if (a->score != b->score) {
        order = a->score < b->score ? -1 : 1;
    } else { /* so that the order is one */
        order = slice_compare(bytes_of(sort, &a->name), bytes_of(sort, &b->name));
    }
    if (order == 0) order = slice_compare(bytes_of(sort, &a->name), bytes_of(sort, &b->name));
    return sort->descending ? -order : order;
}

static int put_in_order(struct sort *sort) {
    if (sort->unsorted) return SK_OK;
    for (uint64_t i = 0; i < sort->count; i++) {
        int err = weigh(sort, &sort->items[i]);
        if (err != SK_OK) return err;
    }
    if (sort->count > 0) qsort_r(sort->items, sort->count, sizeof *sort->items, compare, sort);
    return SK_OK;
}

/* ---- output ---- */

/* The first of the items that are wanted, and the one behind the last. */
static void cut(const struct sort *sort, uint64_t *first, uint64_t *end) {
    uint64_t offset = sort->offset < 0 ? 0 : (uint64_t)sort->offset;
    *first = offset < sort->count ? offset : sort->count;
    uint64_t left = sort->count - *first;
    *end = *first + (sort->limit < 0 || (uint64_t)sort->limit > left ? left : (uint64_t)sort->limit);
}

static int output_item(struct sort *sort, const struct item *item) {
    if (sort->get_count == 0) sort->outputs[sort->output_count++] = item->name;
    for (size_t i = 0; i < sort->get_count; i++) {
        struct run *output = &sort->outputs[sort->output_count++];
        int err = SK_OK;
        if (is_self(sort->gets[i])) *output = item->name;
        else err = look_up(sort, sort->gets[i], &item->name, output);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

static int make_output(struct sort *sort) {
    uint64_t first, end, each = sort->get_count == 0 ? 1 : sort->get_count;
    cut(sort, &first, &end);
    if ((end - first) * each > ELEMENTS_MAX) return refuse_size(sort);
    sort->outputs = calloc((end - first) * each + 1, sizeof *sort->outputs);
    if (sort->outputs == NULL) return SK_ENOMEM;
    for (uint64_t i = first; i < end; i++) {
        int err = output_item(sort, &sort->items[i]);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

static int answer(struct sort *sort) {
    struct call *call = sort->call;
    mp_write_array(call->answer, (uint32_t)sort->output_count);
    for (uint64_t i = 0; i < sort->output_count; i++) {
        const struct run *output = &sort->outputs[i];
        if (output->is_nil) mp_write_nil(call->answer);
        else mp_write_bin(call->answer, bytes_of(sort, output));
    }
    return call_limit_answer(call);
}

static int put_list(struct sort *sort) {
    struct list list;
    int err = list_replace(sort->call, sort->target, &list);
    for (uint64_t i = 0; err == SK_OK && i < sort->output_count; i++) {
        err = list_push(sort->call, &list, LIST_TAIL, bytes_of(sort, &sort->outputs[i]));
    }
    if (err != SK_OK) return err;
    call_answer_int(sort->call, (int64_t)sort->output_count);
    return list_save(sort->call, &list);
}

/* A long key may be refused when its elements are there. */
static int store(struct sort *sort) {
    struct call_attempt attempt;
    int err = call_attempt_begin(sort->call, sort->target.size > KEYSPACE_KEY_INLINE_MAX, &attempt);
    return err == SK_OK ? call_attempt_end(sort->call, &attempt, put_list(sort)) : err;
}

static int run(struct sort *sort, bool may_store) {
    int err = read_options(sort, may_store);
    if (err == SK_OK) err = gather(sort);
    if (err == SK_OK) err = put_in_order(sort);
    if (err == SK_OK) err = make_output(sort);
    if (err != SK_OK) return err;
    return sort->stores ? store(sort) : answer(sort);
}

static int execute(struct call *call, bool may_store) {
    struct sort sort = {.call = call};
    buffer_init(&sort.text);
    int err = run(&sort, may_store);
    buffer_deinit(&sort.text);
    free(sort.gets);
    free(sort.items);
    free(sort.outputs);
    return err;
}

int execute_sort(struct call *call) { return execute(call, true); }

int execute_sort_ro(struct call *call) { return execute(call, false); }
