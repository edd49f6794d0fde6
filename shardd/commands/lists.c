/* Lists. Semantics, order of checks and texts are Redis 7.0's; what is bounded here and not there says shardd/list.h. */
#include "shardd/commands/multiple_pop.h"
#include "shardd/list.h"

#include "libcommon/error.h"

/* ---- arguments ---- */

static bool read_end(struct slice word, enum list_end *end) {
    *end = args_is_word(word, "LEFT") ? LIST_HEAD : LIST_TAIL;
    return *end == LIST_HEAD || args_is_word(word, "RIGHT");
}

static int refuse_arity(struct call *call) {
    char name[CALL_NAME_SHOWN_MAX];
    return call_refuse(call, SK_BADREQUEST, "wrong number of arguments for '%s' command",
                       call_name_shown(slice_of_text(call->command->name), name));
}

static int refuse_large_answer(struct call *call) {
    return call_refuse(call, SK_TOOLARGE, "the answer would be too large");
}

/* An index, from the tail when negative, as one from the head; false: there is no such element. */
static bool place_of(const struct list *list, int64_t index, uint64_t *place) {
    uint64_t count = list->collection.count;
    *place = (uint64_t)index + (index < 0 ? count : 0);
    return *place < count;
}

/* A range with both ends in it, as Redis reads it: `from` and how many. */
static uint64_t range_of(const struct list *list, int64_t start, int64_t stop, uint64_t *from) {
    int64_t count = (int64_t)list->collection.count;
    if (start < 0) start = start + count < 0 ? 0 : start + count;
    if (stop < 0) stop += count;
    if (stop >= count) stop = count - 1;
    *from = (uint64_t)start;
    return start > stop ? 0 : (uint64_t)(stop - start) + 1;
}

/* Only a key whose record is shared with others (a long one) can be refused once elements are stored. */
static int all_or_nothing(struct call *call, struct slice key, int (*body)(struct call *call)) {
    bool refusable = key.size > KEYSPACE_KEY_INLINE_MAX && !call->in_batch;
    return refusable ? call_all_or_nothing(call, body) : body(call);
}

/* ---- pushing ---- */

static int push_all(struct call *call, enum list_end end, bool only_if_found) {
    struct list list;
    int err = list_find_for_write(call, call->args[0], &list);
    if (err != SK_OK) return err;
    if (only_if_found && list.collection.count == 0) return call_answer_int(call, 0);
    for (size_t i = 1; err == SK_OK && i < call->count; i++) err = list_push(call, &list, end, call->args[i]);
    if (err != SK_OK) return err;
    call_answer_int(call, (int64_t)list.collection.count);
    return list_save(call, &list);
}

static int push_left(struct call *call) { return push_all(call, LIST_HEAD, false); }
static int push_right(struct call *call) { return push_all(call, LIST_TAIL, false); }

int execute_lpush(struct call *call) { return all_or_nothing(call, call->args[0], push_left); }
int execute_rpush(struct call *call) { return all_or_nothing(call, call->args[0], push_right); }
int execute_lpushx(struct call *call) { return push_all(call, LIST_HEAD, true); }
int execute_rpushx(struct call *call) { return push_all(call, LIST_TAIL, true); }

/* ---- popping ---- */

/* Answers elements from an index on as an array. */
static int answer_elements(struct call *call, const struct list *list, uint64_t index, uint64_t count,
                           enum list_end towards) {
    mp_write_array(call->answer, (uint32_t)count);
    struct list_walk walk;
    int err = list_walk_open(call, list, index, towards, &walk);
    if (err != SK_OK) return err;
    for (uint64_t i = 0; err == SK_OK && i < count; i++) {
        struct slice value;
        err = list_walk_next(&walk, &value);
        if (err == SK_OK) call_answer_bin(call, value);
        if (call->answer->size - call->answer_start > RESULT_BYTES_MAX) err = refuse_large_answer(call);
    }
    list_walk_close(&walk);
    return err;
}

/* Answers the next elements from an end, which are dropped then. */
static int pop_many(struct call *call, struct list *list, enum list_end end, uint64_t count) {
    if (count > list->collection.count) count = list->collection.count;
    uint64_t index = end == LIST_HEAD || count == 0 ? 0 : list->collection.count - 1;
    int err = answer_elements(call, list, index, count, end == LIST_HEAD ? LIST_TAIL : LIST_HEAD);
    if (err != SK_OK || count == 0) return err;
    list_drop(list, end, count);
    return list_save(call, list);
}

/* The outermost element, which is there. */
static int get_outermost(struct call *call, const struct list *list, enum list_end end, struct slice *value) {
    return list_get(call, list, end == LIST_HEAD ? 0 : list->collection.count - 1, value);
}

static int pop_one(struct call *call, struct list *list, enum list_end end) {
    struct slice value;
    int err = get_outermost(call, list, end, &value);
    if (err != SK_OK) return err;
    call_answer_bin(call, value);
    list_drop(list, end, 1);
    return list_save(call, list);
}

static int pop(struct call *call, enum list_end end) {
    int64_t count = 1;
    bool counted = call->count == 2;
    if (call->count > 2) return refuse_arity(call);
    if (counted && (!args_parse_int(call->args[1], &count) || count < 0)) {
        return call_refuse(call, SK_BADREQUEST, "value is out of range, must be positive");
    }
    struct list list;
    int err = list_find_for_write(call, call->args[0], &list);
    if (err != SK_OK) return err;
    if (list.collection.count == 0) return call_answer_nil(call);
    return counted ? pop_many(call, &list, end, (uint64_t)count) : pop_one(call, &list, end);
}

int execute_lpop(struct call *call) { return pop(call, LIST_HEAD); }
int execute_rpop(struct call *call) { return pop(call, LIST_TAIL); }

/* To be changed, unless only what there is is asked. */
static int find_to_take(struct call *call, struct slice key, struct list *list) {
    return call->looks ? list_find(call, key, list) : list_find_for_write(call, key, list);
}

/* The first of the keys that has a list; SK_NOT_FOUND: none of them. */
static int find_first(struct call *call, const struct slice *keys, size_t count, struct list *list) {
    for (size_t i = 0; i < count; i++) {
        int err = find_to_take(call, keys[i], list);
        if (err != SK_OK || list->collection.count > 0) return err;
    }
    return SK_NOT_FOUND;
}

/* Answers the key of a list, before what is taken from it. */
static void answer_key(struct call *call, const struct list *list) {
    mp_write_array(call->answer, 2);
    call_answer_bin(call, list->collection.object.key);
}

static int pop_multiple(struct call *call, const struct multiple_pop *wanted) {
    struct list list;
    int err = find_first(call, wanted->keys, wanted->key_count, &list);
    if (err == SK_NOT_FOUND) return call_answer_nothing(call);
    if (err != SK_OK || call->looks) return err;
    answer_key(call, &list);
    return pop_many(call, &list, wanted->from_last ? LIST_TAIL : LIST_HEAD, (uint64_t)wanted->count);
}

int execute_lmpop(struct call *call) {
    struct multiple_pop wanted;
    int err = multiple_pop_read(call, 0, "LEFT", "RIGHT", &wanted);
    return err == SK_OK ? pop_multiple(call, &wanted) : err;
}

/* ---- popping or waiting ---- */

static int pop_blocking(struct call *call, enum list_end end) {
    struct list list;
    int err = call_check_wait_time(call, call->args[call->count - 1]);
    if (err == SK_OK) err = find_first(call, call->args, call->count - 1, &list);
    if (err == SK_NOT_FOUND) return call_answer_nothing(call);
    if (err != SK_OK || call->looks) return err;
    answer_key(call, &list);
    return pop_one(call, &list, end);
}

int execute_blpop(struct call *call) { return pop_blocking(call, LIST_HEAD); }
int execute_brpop(struct call *call) { return pop_blocking(call, LIST_TAIL); }

int execute_blmpop(struct call *call) {
    struct multiple_pop wanted;
    int err = multiple_pop_read(call, 1, "LEFT", "RIGHT", &wanted);
    if (err == SK_OK) err = call_check_wait_time(call, call->args[0]);
    return err == SK_OK ? pop_multiple(call, &wanted) : err;
}

/* ---- moving ---- */

/* From a list to itself: both ends of one head change. */
static int rotate(struct call *call, struct list *list, enum list_end from, enum list_end to) {
    struct slice value;
    int err = get_outermost(call, list, from, &value);
    if (err != SK_OK) return err;
    call_answer_bin(call, value);
    list_drop(list, from, 1);
    err = list_push(call, list, to, value);
    return err == SK_OK ? list_save(call, list) : err;
}

static int move_between(struct call *call, struct list *source, struct list *target, enum list_end from,
                        enum list_end to) {
    struct slice value;
    int err = get_outermost(call, source, from, &value);
    if (err != SK_OK) return err;
    call_answer_bin(call, value);
    err = list_push(call, target, to, value);
    if (err == SK_OK) err = list_save(call, target);
    if (err != SK_OK) return err;
    list_drop(source, from, 1);
    return list_save(call, source);
}

static int move(struct call *call, enum list_end from, enum list_end to) {
    struct list source, target;
    int err = find_to_take(call, call->args[0], &source);
    if (err != SK_OK) return err;
    if (source.collection.count == 0) return call_answer_nothing(call);
    if (call->looks) return SK_OK;
    if (slice_equal(call->args[0], call->args[1])) return rotate(call, &source, from, to);
    err = list_find_for_write(call, call->args[1], &target);
    return err == SK_OK ? move_between(call, &source, &target, from, to) : err;
}

/* LMOVE, and with one word more BLMOVE. */
static int move_by_words(struct call *call) {
    enum list_end from, to;
    if (!read_end(call->args[2], &from) || !read_end(call->args[3], &to)) return call_refuse_syntax(call);
    int err = call->count > 4 ? call_check_wait_time(call, call->args[4]) : SK_OK;
    return err == SK_OK ? move(call, from, to) : err;
}

/* RPOPLPUSH, and with one word more BRPOPLPUSH. */
static int move_right_to_left(struct call *call) {
    int err = call->count > 2 ? call_check_wait_time(call, call->args[2]) : SK_OK;
    return err == SK_OK ? move(call, LIST_TAIL, LIST_HEAD) : err;
}

int execute_lmove(struct call *call) { return all_or_nothing(call, call->args[1], move_by_words); }
int execute_rpoplpush(struct call *call) { return all_or_nothing(call, call->args[1], move_right_to_left); }
int execute_blmove(struct call *call) { return all_or_nothing(call, call->args[1], move_by_words); }
int execute_brpoplpush(struct call *call) { return all_or_nothing(call, call->args[1], move_right_to_left); }

/* ---- reading ---- */

int execute_llen(struct call *call) {
    struct list list;
    int err = list_find(call, call->args[0], &list);
    return err == SK_OK ? call_answer_int(call, (int64_t)list.collection.count) : err;
}

int execute_lindex(struct call *call) {
    struct list list;
    int64_t index;
    uint64_t place;
    int err = list_find(call, call->args[0], &list);
    if (err != SK_OK) return err;
    if (list.collection.count == 0) return call_answer_nil(call);
    if (!args_parse_int(call->args[1], &index)) return call_refuse_not_int(call);
    if (!place_of(&list, index, &place)) return call_answer_nil(call);
    struct slice value;
    err = list_get(call, &list, place, &value);
    return err == SK_OK ? call_answer_bin(call, value) : err;
}

int execute_lrange(struct call *call) {
    struct list list;
    int64_t start, stop;
    if (!args_parse_int(call->args[1], &start) || !args_parse_int(call->args[2], &stop)) {
        return call_refuse_not_int(call);
    }
    int err = list_find(call, call->args[0], &list);
    if (err != SK_OK) return err;
    uint64_t from, count = range_of(&list, start, stop, &from);
    return answer_elements(call, &list, from, count, LIST_TAIL);
}

/* ---- searching ---- */

/* A walk that compares. */
struct search {
    struct list_walk walk;
    struct slice wanted;
    struct list_searched searched;
    uint64_t index; /* of the element that the last step found */
    uint64_t count; /* of the list */
};

static int search_open(struct call *call, const struct list *list, struct slice wanted, enum list_end from,
                       struct search *search) {
    uint64_t count = list->collection.count;
    *search = (struct search){.wanted = wanted, .searched = {.from = from}, .count = count};
    if (from == LIST_HEAD) return list_walk_open(call, list, 0, LIST_TAIL, &search->walk);
    return list_walk_open(call, list, count - 1, LIST_HEAD, &search->walk);
}

/* The next element that is equal, of the first `limit` of the list. SK_OK; SK_NOT_FOUND; SK_TOOLARGE (told); a fault. */
static int search_next(struct call *call, struct search *search, uint64_t limit) {
    struct list_searched *searched = &search->searched;
    struct slice value;
    int err;
    while (searched->count < limit && (err = list_walk_next(&search->walk, &value)) != SK_NOT_FOUND) {
        if (err != SK_OK) return err;
        if (searched->count == LIST_SEARCHED_MAX || searched->bytes > LIST_SEARCHED_BYTES_MAX) {
            return call_refuse(call, SK_TOOLARGE, "more than %u elements of the list would have to be searched",
                               LIST_SEARCHED_MAX);
        }
        uint64_t passed = searched->count++;
        searched->bytes += value.size;
        search->index = searched->from == LIST_HEAD ? passed : search->count - 1 - passed;
        if (slice_equal(value, search->wanted)) return SK_OK;
    }
    return SK_NOT_FOUND;
}

static void search_close(struct search *search) { list_walk_close(&search->walk); }

struct position_options {
    enum list_end from;
    uint64_t skipped; /* matches before the first that counts */
    bool counted;
    uint64_t count; /* UINT64_MAX = all */
    uint64_t limit; /* elements to look at; UINT64_MAX = all */
};

static int read_rank(struct call *call, struct slice word, struct position_options *options) {
    int64_t rank;
    if (!args_parse_int(word, &rank)) return call_refuse_not_int(call);
    if (rank == 0) {
        return call_refuse(call, SK_BADREQUEST,
                           "RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use "
                           "negative to start from the end of the list");
    }
    options->from = rank < 0 ? LIST_TAIL : LIST_HEAD;
    if (rank == INT64_MIN) rank = -1; /* it has no opposite; Redis takes the first from the end then, too */
    options->skipped = (uint64_t)(rank < 0 ? -rank : rank) - 1;
    return SK_OK;
}

/* COUNT and MAXLEN: 0 is all. */
static int read_amount(struct call *call, struct slice word, const char *name, uint64_t *amount) {
    int64_t number;
    if (!args_parse_int(word, &number) || number < 0) {
        return call_refuse(call, SK_BADREQUEST, "%s can't be negative", name);
    }
    *amount = number == 0 ? UINT64_MAX : (uint64_t)number;
    return SK_OK;
}

static int read_position_options(struct call *call, struct position_options *options) {
    *options = (struct position_options){.count = 1, .limit = UINT64_MAX};
    for (size_t i = 2; i < call->count; i += 2) {
        struct slice word = call->args[i];
        int err;
        if (i + 1 == call->count) return call_refuse_syntax(call);
        if (args_is_word(word, "RANK")) {
            err = read_rank(call, call->args[i + 1], options);
        } else if (args_is_word(word, "COUNT")) {
            options->counted = true;
            err = read_amount(call, call->args[i + 1], "COUNT", &options->count);
        } else if (args_is_word(word, "MAXLEN")) {
            err = read_amount(call, call->args[i + 1], "MAXLEN", &options->limit);
        } else {
            err = call_refuse_syntax(call);
        }
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* Gathers the indexes of what is equal, each 8 bytes as they lie in memory. */
static int gather(struct call *call, struct search *search, uint64_t skipped, uint64_t count, uint64_t limit) {
    struct buffer *gathered = &call->exec->gathered;
    int err = SK_OK;
    buffer_clear(gathered, 65536);
    while (count > 0 && (err = search_next(call, search, limit)) == SK_OK) {
        if (skipped > 0) {
            skipped--;
            continue;
        }
        buffer_append(gathered, &search->index, sizeof search->index);
        count--;
    }
    if (gathered->failed) return SK_ENOMEM;
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static uint64_t gathered_at(const struct call *call, size_t place) {
    uint64_t index;
    memcpy(&index, call->exec->gathered.data + place * sizeof index, sizeof index);
    return index;
}

static size_t gathered_count(const struct call *call) { return call->exec->gathered.size / sizeof(uint64_t); }

int execute_lpos(struct call *call) {
    struct position_options options;
    struct list list;
    struct search search;
    int err = read_position_options(call, &options);
    if (err == SK_OK) err = list_find(call, call->args[0], &list);
    if (err == SK_OK) err = search_open(call, &list, call->args[1], options.from, &search);
    if (err != SK_OK) return err;
    err = gather(call, &search, options.skipped, options.count, options.limit);
    search_close(&search);
    if (err != SK_OK) return err;
    size_t found = gathered_count(call);
    if (!options.counted)
        return found == 0 ? call_answer_nil(call) : call_answer_int(call, (int64_t)gathered_at(call, 0));
    mp_write_array(call->answer, (uint32_t)found);
    for (size_t i = 0; i < found; i++) call_answer_int(call, (int64_t)gathered_at(call, i));
    return SK_OK;
}

/* ---- changing in the middle ---- */

int execute_lset(struct call *call) {
    struct list list;
    int64_t index;
    uint64_t place;
    int err = list_find_for_write(call, call->args[0], &list);
    if (err != SK_OK) return err;
    if (list.collection.count == 0) return call_refuse(call, SK_BADVALUE, "no such key");
    if (!args_parse_int(call->args[1], &index)) return call_refuse_not_int(call);
    if (!place_of(&list, index, &place)) return call_refuse(call, SK_BADVALUE, "index out of range");
    err = list_set(call, &list, place, call->args[2]);
    if (err != SK_OK) return err;
    call_answer_ok(call);
    return list_save(call, &list);
}

int execute_linsert(struct call *call) {
    struct list list;
    struct search search;
    bool before = args_is_word(call->args[1], "BEFORE");
    if (!before && !args_is_word(call->args[1], "AFTER")) return call_refuse_syntax(call);
    int err = list_find_for_write(call, call->args[0], &list);
    if (err != SK_OK) return err;
    if (list.collection.count == 0) return call_answer_int(call, 0);
    err = search_open(call, &list, call->args[2], LIST_HEAD, &search);
    if (err != SK_OK) return err;
    err = search_next(call, &search, UINT64_MAX);
    search_close(&search);
    if (err == SK_NOT_FOUND) return call_answer_int(call, -1);
    if (err == SK_OK) err = list_insert(call, &list, search.index + !before, &search.searched, call->args[3]);
    if (err != SK_OK) return err;
    call_answer_int(call, (int64_t)list.collection.count);
    return list_save(call, &list);
}

/* What was gathered from the tail on stands the wrong way round. */
static uint64_t *rising(struct call *call, enum list_end from) {
    uint64_t *indexes = (uint64_t *)(void *)call->exec->gathered.data; /* as malloc gave it: aligned */
    size_t count = gathered_count(call);
    for (size_t i = 0; from == LIST_TAIL && i < count / 2; i++) {
        uint64_t index = indexes[i];
        indexes[i] = indexes[count - 1 - i];
        indexes[count - 1 - i] = index;
    }
    return indexes;
}

int execute_lrem(struct call *call) {
    struct list list;
    struct search search;
    int64_t amount;
    if (!args_parse_int(call->args[1], &amount)) return call_refuse_not_int(call);
    int err = list_find_for_write(call, call->args[0], &list);
    if (err != SK_OK) return err;
    if (list.collection.count == 0) return call_answer_int(call, 0);
    enum list_end from = amount < 0 ? LIST_TAIL : LIST_HEAD;
    uint64_t limit = amount == 0 ? UINT64_MAX : amount < 0 ? -(uint64_t)amount : (uint64_t)amount;
    err = search_open(call, &list, call->args[2], from, &search);
    if (err != SK_OK) return err;
    err = gather(call, &search, 0, limit, UINT64_MAX);
    search_close(&search);
    uint64_t found = gathered_count(call);
    if (err == SK_OK && found > 0) err = list_remove(call, &list, rising(call, from), found, &search.searched);
    if (err != SK_OK) return err;
    call_answer_int(call, (int64_t)found);
    return found > 0 ? list_save(call, &list) : SK_OK;
}

int execute_ltrim(struct call *call) {
    struct list list;
    int64_t start, stop;
    if (!args_parse_int(call->args[1], &start) || !args_parse_int(call->args[2], &stop)) {
        return call_refuse_not_int(call);
    }
    int err = list_find_for_write(call, call->args[0], &list);
    if (err != SK_OK) return err;
    call_answer_ok(call);
    uint64_t count = list.collection.count;
    if (count == 0) return SK_OK;
    uint64_t from, kept = range_of(&list, start, stop, &from);
    if (kept == 0) from = count;
    if (kept == count) return SK_OK;
    list_drop(&list, LIST_HEAD, from);
    list_drop(&list, LIST_TAIL, count - from - kept);
    return list_save(call, &list);
}
