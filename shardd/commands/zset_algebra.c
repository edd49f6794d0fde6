/* Sorted sets out of sets and sorted sets: ZUNION, ZINTER, ZDIFF, their STORE forms and ZINTERCARD. A member of a plain set counts
 * with score 1. Semantics, order of checks and texts are Redis 7's. */
#include "shardd/commands/zset_members.h"

#include "libcommon/error.h"

#include <math.h>
#include <stdlib.h>

enum operation { UNION, INTERSECTION, DIFFERENCE };
enum aggregate { SUM, MIN, MAX };

struct input {
    uint64_t id; /* of the elements; 0: there are none */
    uint64_t count;
    double weight;
    uint32_t position;
    uint8_t type; /* OBJECT_SET or OBJECT_ZSET */
};

struct algebra {
    enum operation operation;
    bool stores;
    bool counts;                 /* ZINTERCARD */
    size_t first_key, key_count; /* arguments */
    enum aggregate aggregate;
    bool with_scores;
    uint64_t limit;              /* of ZINTERCARD */
    uint64_t work;               /* elements looked at and looked for */
    struct input *inputs;        /* owned; sorted by size, where that matters */
    struct zset_members members; /* the result, as it is gathered */
};

/* ---- reading the command ---- */

static int find_input(struct call *call, struct slice key, struct input *input) {
    struct object object;
    struct collection collection;
    int err = keyspace_find(call->exec, key, call->now_us, &object);
    if (err != SK_OK || !object.found) return err;
    if (object.type != OBJECT_SET && object.type != OBJECT_ZSET) return call_refuse_wrong_type(call);
    err = collection_read(object.type, object.payload, &collection);
    if (err != SK_OK) return err;
    input->id = collection.id;
    input->count = collection.count;
    input->type = object.type;
    return SK_OK;
}

static int read_inputs(struct call *call, struct algebra *algebra) {
    int64_t numkeys;
    size_t at = algebra->first_key - 1; /* of numkeys */
    if (!args_parse_int(call->args[at], &numkeys)) return call_refuse_not_int(call);
    if (numkeys < 1) {
        char name[CALL_NAME_SHOWN_MAX];
        return call_refuse(call, SK_BADREQUEST, "at least 1 input key is needed for '%s' command",
                           call_name_shown(slice_of_text(call->command->name), name));
    }
    if (numkeys > (int64_t)(call->count - algebra->first_key)) return call_refuse_syntax(call);
    algebra->key_count = (size_t)numkeys;
    algebra->inputs = calloc(algebra->key_count, sizeof *algebra->inputs);
    if (algebra->inputs == NULL) return SK_ENOMEM;
    int err = SK_OK;
    for (size_t i = 0; err == SK_OK && i < algebra->key_count; i++) {
        struct input *input = &algebra->inputs[i];
        input->weight = 1;
        input->position = (uint32_t)i;
        err = find_input(call, call->args[algebra->first_key + i], input);
    }
    return err;
}

static int read_weights(struct call *call, size_t at, struct algebra *algebra) {
    for (size_t i = 0; i < algebra->key_count; i++) {
        if (args_parse_double(call->args[at + i], &algebra->inputs[i].weight)) continue;
        return call_refuse(call, SK_BADREQUEST, "weight value is not a float");
    }
    return SK_OK;
}

static int read_aggregate(struct call *call, struct slice word, struct algebra *algebra) {
    if (args_is_word(word, "SUM")) {
        algebra->aggregate = SUM;
    } else if (args_is_word(word, "MIN")) {
        algebra->aggregate = MIN;
    } else if (args_is_word(word, "MAX")) {
        algebra->aggregate = MAX;
    } else {
        return call_refuse_syntax(call);
    }
    return SK_OK;
}

static int read_limit(struct call *call, struct slice text, struct algebra *algebra) {
    int64_t limit;
    if (!args_parse_int(text, &limit) || limit < 0) {
        return call_refuse(call, SK_BADREQUEST, "LIMIT can't be negative");
    }
    algebra->limit = limit == 0 ? UINT64_MAX : (uint64_t)limit;
    return SK_OK;
}

/* The option at an argument; `at` gets the next one's. */
static int read_option(struct call *call, struct algebra *algebra, size_t *at) {
    struct slice word = call->args[*at];
    size_t behind = call->count - *at - 1;
    bool combines = algebra->operation != DIFFERENCE && !algebra->counts;
    if (combines && behind >= algebra->key_count && args_is_word(word, "WEIGHTS")) {
        size_t first = *at + 1;
        *at = first + algebra->key_count;
        return read_weights(call, first, algebra);
    }
    if (combines && behind >= 1 && args_is_word(word, "AGGREGATE")) {
        *at += 2;
        return read_aggregate(call, call->args[*at - 1], algebra);
    }
    if (!algebra->stores && !algebra->counts && args_is_word(word, "WITHSCORES")) {
        algebra->with_scores = true;
        *at += 1;
        return SK_OK;
    }
    if (algebra->counts && behind >= 1 && args_is_word(word, "LIMIT")) {
        *at += 2;
        return read_limit(call, call->args[*at - 1], algebra);
    }
    return call_refuse_syntax(call);
}

static int read_algebra(struct call *call, struct algebra *algebra) {
    int err = read_inputs(call, algebra);
    size_t at = algebra->first_key + algebra->key_count;
    while (err == SK_OK && at < call->count) err = read_option(call, algebra, &at);
    return err;
}

/* ---- combining ---- */

/* Infinity times 0, and infinities of both signs, count as 0. */
static double or_zero(double score) { return isnan(score) ? 0 : score; }

static double aggregated(const struct algebra *algebra, double score, double other) {
    switch (algebra->aggregate) {
    case MIN:
        return other < score ? other : score;
    case MAX:
        return other > score ? other : score;
    default:
        return or_zero(score + other);
    }
}

/* From the smallest one up, as Redis does: sums of floats depend on it. */
static int input_order(const void *a, const void *b) {
    const struct input *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}

/* Called for each element that is looked at or looked for. */
static int spend(struct call *call, struct algebra *algebra) {
    if (++algebra->work <= ELEMENTS_MET_MAX) return SK_OK;
    return call_refuse(call, SK_TOOLARGE, "more than %u elements to combine", ELEMENTS_MET_MAX);
}

/* A member of the first input in another one: `score` as it is there. SK_NOT_FOUND: it is not in there. */
static int look_up(struct call *call, struct algebra *algebra, const struct input *input, struct slice name,
                   double *score) {
    struct element element;
    if (input->id == 0) return SK_NOT_FOUND;
    if (input->id == algebra->inputs[0].id) return SK_OK;
    int err = spend(call, algebra);
    if (err == SK_OK) err = element_find(call->exec, input->id, name, &element);
    if (err != SK_OK) return err;
    if (!element.found) return SK_NOT_FOUND;
    *score = 1;
    return input->type == OBJECT_ZSET ? zset_read_score(element.value, score) : SK_OK;
}

/* What a member of the first input has in the intersection. SK_NOT_FOUND: it is not in it. */
static int intersect(struct call *call, struct algebra *algebra, struct slice name, double *score) {
    double first = *score;
    *score = or_zero(algebra->inputs[0].weight * first);
    for (size_t i = 1; i < algebra->key_count; i++) {
        double other = first;
        int err = look_up(call, algebra, &algebra->inputs[i], name, &other);
        if (err != SK_OK) return err;
        *score = aggregated(algebra, *score, algebra->inputs[i].weight * other);
    }
    return SK_OK;
}

static int subtract(struct call *call, struct algebra *algebra, struct slice name) {
    for (size_t i = 1; i < algebra->key_count; i++) {
        double score;
        int err = look_up(call, algebra, &algebra->inputs[i], name, &score);
        if (err != SK_NOT_FOUND) return err == SK_OK ? SK_NOT_FOUND : err;
    }
    return SK_OK;
}

/* What becomes of a member of an input: SK_NOT_FOUND: it does not come into the result. */
static int combine(struct call *call, struct algebra *algebra, const struct input *input, struct slice name,
                   double *score) {
    switch (algebra->operation) {
    case INTERSECTION:
        return intersect(call, algebra, name, score);
    case DIFFERENCE:
        return subtract(call, algebra, name);
    default:
        *score = or_zero(input->weight * *score);
        return SK_OK;
    }
}

/* Takes an element of an input into the result, if it belongs there; `mark` is the input's place among them. */
static int take(struct call *call, struct algebra *algebra, uint32_t mark, struct slice name, double score) {
    struct zset_members *members = &algebra->members;
    int err = spend(call, algebra);
    if (err == SK_OK) err = combine(call, algebra, &algebra->inputs[mark], name, &score);
    if (err == SK_NOT_FOUND) return SK_OK;
    if (err != SK_OK) return err;
    zset_members_add(members, name, score, mark);
    return zset_members_limit(call, members);
}

static bool has_enough(const struct algebra *algebra) { return algebra->members.count >= algebra->limit; }

static int gather_set(struct call *call, struct algebra *algebra, uint32_t mark) {
    struct element_walk walk;
    struct slice name, value;
    uint64_t position;
    int err = element_walk_open(call->exec, algebra->inputs[mark].id, 0, &walk);
    if (err != SK_OK) return err;
    while (err == SK_OK && !has_enough(algebra) &&
           (err = element_walk_next(&walk, &position, &name, &value)) == SK_OK) {
        err = take(call, algebra, mark, name, 1);
    }
    element_walk_close(&walk);
    return err;
}

/* In its order, which does not lead past what has been removed at its ends. */
static int gather_zset(struct call *call, struct algebra *algebra, uint32_t mark) {
    const struct input *input = &algebra->inputs[mark];
    struct zset zset = {.collection = {.id = input->id, .count = input->count}};
    struct zset_range all;
    struct zset_walk walk;
    struct slice name;
    double score;
    int err = zset_open(call, &zset);
    if (err != SK_OK) return err;
    zset_range_all(&all);
    err = zset_walk_open(call, &zset, &all, false, 0, &walk);
    while (err == SK_OK && !has_enough(algebra) && (err = zset_walk_next(&walk, &name, &score)) == SK_OK) {
        err = take(call, algebra, mark, name, score);
    }
    zset_walk_close(&walk);
    return err;
}

static int gather_input(struct call *call, struct algebra *algebra, uint32_t mark) {
    const struct input *input = &algebra->inputs[mark];
    if (input->id == 0) return SK_OK;
    int err = input->type == OBJECT_SET ? gather_set(call, algebra, mark) : gather_zset(call, algebra, mark);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* All of a union, the rest only of the first input. */
static int gather(struct call *call, struct algebra *algebra) {
    int err = SK_OK;
    size_t count = algebra->operation == UNION ? algebra->key_count : 1;
    if (algebra->operation != DIFFERENCE) {
        qsort(algebra->inputs, algebra->key_count, sizeof *algebra->inputs, input_order);
    }
    for (size_t i = 0; err == SK_OK && i < count; i++) err = gather_input(call, algebra, (uint32_t)i);
    return err;
}

/* Makes one of the members of a union that have one name. */
static uint32_t unite(const struct algebra *algebra, struct zset_member *items, uint32_t count) {
    if (algebra->operation != UNION || count == 0) return count;
    qsort(items, count, sizeof *items, zset_member_by_name);
    uint32_t kept = 1;
    for (uint32_t i = 1; i < count; i++) {
        struct zset_member *last = &items[kept - 1];
        if (slice_equal(last->name, items[i].name)) {
            last->score = aggregated(algebra, last->score, items[i].score);
        } else {
            items[kept++] = items[i];
        }
    }
    return kept;
}

static int finish(struct call *call, struct algebra *algebra) {
    struct zset_member *items;
    int err = zset_members_settle(&algebra->members, &items);
    if (err != SK_OK) return err;
    uint32_t count = unite(algebra, items, algebra->members.count);
    if (algebra->counts) return call_answer_int(call, count);
    if (count > 0) qsort(items, count, sizeof *items, zset_member_by_score);
    if (algebra->stores) return zset_members_store(call, call->args[0], items, count);
    return zset_members_answer(call, items, count, algebra->with_scores);
}

static int run(struct call *call, enum operation operation, bool stores, bool counts) {
    struct algebra algebra = {.operation = operation, .stores = stores, .counts = counts, .limit = UINT64_MAX};
    algebra.first_key = stores ? 2 : 1;
    zset_members_init(&algebra.members);
    int err = read_algebra(call, &algebra);
    if (err == SK_OK) err = gather(call, &algebra);
    if (err == SK_OK) err = finish(call, &algebra);
    zset_members_deinit(&algebra.members);
    free(algebra.inputs);
    return err;
}

int execute_zunion(struct call *call) { return run(call, UNION, false, false); }

int execute_zinter(struct call *call) { return run(call, INTERSECTION, false, false); }

int execute_zdiff(struct call *call) { return run(call, DIFFERENCE, false, false); }

int execute_zunionstore(struct call *call) { return run(call, UNION, true, false); }

int execute_zinterstore(struct call *call) { return run(call, INTERSECTION, true, false); }

int execute_zdiffstore(struct call *call) { return run(call, DIFFERENCE, true, false); }

int execute_zintercard(struct call *call) { return run(call, INTERSECTION, false, true); }
