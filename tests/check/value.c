#include "value.h"

#include "index.h"
#include "memory.h"
#include "number.h"
#include "sums.h"

#include <xxhash.h>

struct values {
    bool appends, adds;
    struct slice *named; /* owned array, sorted, each once */
    uint32_t named_count;
    struct value *items; /* owned */
    size_t count, capacity;
    struct index index;
    struct sums mentions; /* by target, so that those of all texts that begin alike can be summed */
};

/* A text that APPEND makes a number out of without being one. */
static bool is_half_number(struct slice text) { return text.size == 0 || (text.size == 1 && text.data[0] == '-'); }

static int compare_named(const void *a, const void *b) {
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* Sorted, each once. The half numbers are named if they can matter, which keeps them apart from "other". */
static void take_named(struct values *values, const struct slice *named, size_t count) {
    struct slice *all = memory_zeroed(count + 2, sizeof *all);
    if (count > 0) memcpy(all, named, count * sizeof *all);
    if (values->appends && values->adds) {
        all[count++] = slice_of_text("");
        all[count++] = slice_of_text("-");
    }
    qsort(all, count, sizeof *all, compare_named);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && slice_equal(all[i], all[i - 1])) continue;
        all[values->named_count++] = all[i];
    }
    values->named = all;
}

static uint32_t intern(struct values *values, const struct value *value) {
    const uint64_t identity[] = {value->kind, value->low, value->bytes, (uint64_t)value->number};
    uint64_t hash = XXH3_64bits(identity, sizeof identity);
    struct index_walk walk;
    for (uint32_t id = index_first(&values->index, hash, &walk); id != INDEX_NONE;
         id = index_next(&values->index, &walk)) {
        const struct value *known = &values->items[id];
        if (known->kind == value->kind && known->low == value->low && known->bytes == value->bytes &&
            known->number == value->number) {
            return id;
        }
    }
    values->items = memory_room(values->items, values->count, &values->capacity, sizeof *values->items);
    values->items[values->count] = *value;
    index_add(&values->index, hash, (uint32_t)values->count);
    return (uint32_t)values->count++;
}

struct values *values_new(const struct slice *named, size_t count, bool appends, bool adds) {
    struct values *values = memory_zeroed(1, sizeof *values);
    values->appends = appends;
    values->adds = adds;
    take_named(values, named, count);
    sums_init(&values->mentions, values_target_count(values));
    intern(values, &(struct value){.kind = VALUE_IS_NIL, .target = values->named_count});
    intern(values, &(struct value){.kind = VALUE_IS_NEVER, .target = values->named_count + 1});
    return values;
}

void values_free(struct values *values) {
    if (values == NULL) return;
    free(values->named);
    free(values->items);
    sums_deinit(&values->mentions);
    index_deinit(&values->index);
    free(values);
}

/* The order of what stands in a named text from `at` on, cut to the length of `piece`, and `piece`. */
static int compare_part(struct slice text, uint64_t at, struct slice piece) {
    size_t rest = text.size - (size_t)at;
    return slice_compare(slice_of(text.data + at, rest < piece.size ? rest : piece.size), piece);
}

/* The first in [low, high) whose part is not before `piece`, or with `behind` is after it. */
static uint32_t bound(const struct values *values, uint32_t low, uint32_t high, uint64_t at, struct slice piece,
                      bool behind) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_part(values->named[middle], at, piece) < (behind ? 1 : 0)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The text of `at` bytes that the named ones in [low, high) begin with, and `piece` behind it. False: no named text
 * begins like that. */
static bool make_text(const struct values *values, uint32_t low, uint32_t high, uint64_t at, struct slice piece,
                      struct value *value) {
    low = bound(values, low, high, at, piece, false);
    high = bound(values, low, high, at, piece, true);
    if (low == high) return false;
    *value = (struct value){
        .kind = VALUE_IS_TEXT, .low = low, .high = high, .target = VALUE_NONE, .bytes = at + piece.size};
    if (values->named[low].size == value->bytes) value->target = low;
    value->is_number = number_parse(slice_of(values->named[low].data, value->bytes), &value->number);
    if (!value->is_number) value->number = 0;
    return true;
}

static uint32_t other(struct values *values, uint64_t bytes) {
    return intern(values, &(struct value){
                              .kind = VALUE_IS_OTHER, .target = VALUE_NONE, .bytes = values->appends ? bytes : 0});
}

/* A text that no named one begins with. */
static uint32_t unnamed(struct values *values, struct slice text) {
    struct value value = {.kind = VALUE_IS_NUMBER, .target = VALUE_NONE, .bytes = text.size, .is_number = true};
    if (values->adds && number_parse(text, &value.number)) return intern(values, &value);
    return other(values, text.size);
}

uint32_t values_of_text(struct values *values, struct slice text) {
    struct value value;
    if (make_text(values, 0, values->named_count, 0, text, &value)) return intern(values, &value);
    return unnamed(values, text);
}

uint32_t values_of_number(struct values *values, int64_t number) {
    char room[NUMBER_TEXT_MAX];
    return values_of_text(values, slice_of(room, number_print(number, room)));
}

/* A number, or the half of one, with `piece` behind it, which no named text begins with. */
static uint32_t append_to_number(struct values *values, const struct value *old, struct slice piece) {
    char room[2 * NUMBER_TEXT_MAX];
    if (piece.size > NUMBER_TEXT_MAX) return other(values, old->bytes + piece.size);
    size_t size = (size_t)old->bytes;
    if (old->is_number) {
        size = number_print(old->number, room);
    } else {
        memcpy(room, values->named[old->low].data, size);
    }
    memcpy(room + size, piece.data, piece.size);
    return unnamed(values, slice_of(room, size + piece.size));
}

uint32_t values_append(struct values *values, uint32_t id, struct slice piece) {
    const struct value old = values->items[id];
    if (old.kind == VALUE_IS_NIL) return values_of_text(values, piece);
    if (piece.size == 0) return id;
    struct value longer;
    bool is_text = old.kind == VALUE_IS_TEXT;
    if (is_text && make_text(values, old.low, old.high, old.bytes, piece, &longer)) return intern(values, &longer);
    bool half = is_text && is_half_number(values_text(values, id));
    if (values->adds && (old.is_number || half)) return append_to_number(values, &old, piece);
    return other(values, old.bytes + piece.size);
}

const struct value *values_get(const struct values *values, uint32_t id) { return &values->items[id]; }

uint32_t values_count(const struct values *values) { return (uint32_t)values->count; }

struct slice values_text(const struct values *values, uint32_t id) {
    const struct value *value = &values->items[id];
    if (value->kind != VALUE_IS_TEXT) return slice_of(NULL, 0);
    return slice_of(values->named[value->low].data, (size_t)value->bytes);
}

uint32_t values_target_count(const struct values *values) { return values->named_count + 2; }

uint32_t values_of_target(struct values *values, uint32_t target) {
    if (target == values->named_count) return VALUE_NIL;
    if (target == values->named_count + 1) return VALUE_NEVER;
    return values_of_text(values, values->named[target]);
}

struct slice values_target_text(const struct values *values, uint32_t target) {
    return target < values->named_count ? values->named[target] : slice_of(NULL, 0);
}

void values_mention(struct values *values, uint32_t target, int change) {
    sums_add(&values->mentions, target, change);
}

bool values_is_mentioned(const struct values *values, uint32_t id) {
    const struct value *value = &values->items[id];
    uint32_t low = value->low, high = value->high;
    if (!values->appends) { /* it cannot become a longer one */
        if (value->target == VALUE_NONE) return false;
        high = low + 1;
    }
    return sums_before(&values->mentions, high) > sums_before(&values->mentions, low);
}

uint32_t values_reduce(struct values *values, uint32_t id) {
    const struct value *value = &values->items[id];
    if (value->kind != VALUE_IS_TEXT || values_is_mentioned(values, id)) return id;
    if (values->adds && value->is_number) return id;
    if (values->adds && values->appends && is_half_number(values_text(values, id))) return id;
    return other(values, value->bytes);
}

bool values_begins(const struct values *values, uint32_t id, uint32_t longer) {
    const struct value *a = &values->items[id], *b = &values->items[longer];
    if (b->kind != VALUE_IS_TEXT) return false;
    if (a->kind == VALUE_IS_NIL) return true;
    return a->kind == VALUE_IS_TEXT && a->bytes < b->bytes && a->low <= b->low && b->low < a->high;
}
