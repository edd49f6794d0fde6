/* Sorted sets, member by member: ZADD, ZSCORE and their relatives. Semantics, order of checks and texts are Redis 7's. */
#include "shardd/commands/scan_page.h"
#include "shardd/zset.h"

#include "libcommon/error.h"

#include <math.h>

/* ---- ZADD and ZINCRBY ---- */

enum add_flags { ADD_NX = 1, ADD_XX = 2, ADD_GT = 4, ADD_LT = 8, ADD_CH = 16, ADD_INCR = 32 };

static const struct {
    const char *word;
    unsigned flag;
} add_options[] = {
    {"NX", ADD_NX}, {"XX", ADD_XX}, {"GT", ADD_GT}, {"LT", ADD_LT}, {"CH", ADD_CH}, {"INCR", ADD_INCR},
};

struct add {
    unsigned flags;
    size_t first; /* argument: the first score */
    int64_t added, updated;
    bool taken;       /* the last pair was not left out by an option */
    double new_score; /* of it */
};

static unsigned find_option(struct slice word) {
    for (size_t i = 0; i < sizeof add_options / sizeof add_options[0]; i++) {
        if (args_is_word(word, add_options[i].word)) return add_options[i].flag;
    }
    return 0;
}

static int read_options(struct call *call, struct add *add) {
    unsigned flag;
    while (add->first < call->count && (flag = find_option(call->args[add->first])) != 0) {
        add->flags |= flag;
        add->first++;
    }
    size_t words = call->count - add->first;
    if (words == 0 || words % 2 != 0) return call_refuse_syntax(call);
    unsigned flags = add->flags;
    if ((flags & ADD_NX) && (flags & ADD_XX)) {
        return call_refuse(call, SK_BADREQUEST, "XX and NX options at the same time are not compatible");
    }
    if (((flags & ADD_NX) && (flags & (ADD_GT | ADD_LT))) || ((flags & ADD_GT) && (flags & ADD_LT))) {
        return call_refuse(call, SK_BADREQUEST, "GT, LT, and/or NX options at the same time are not compatible");
    }
    if ((flags & ADD_INCR) && words > 2) {
        return call_refuse(call, SK_BADREQUEST, "INCR option supports a single increment-element pair");
    }
    return SK_OK;
}

/* What is wrong with a pair is told before any is added. */
static int check_pairs(struct call *call, const struct add *add) {
    double score;
    for (size_t i = add->first; i < call->count; i += 2) {
        if (!args_parse_double(call->args[i], &score)) {
            return call_refuse(call, SK_BADREQUEST, "value is not a valid float");
        }
    }
    int err = SK_OK;
    for (size_t i = add->first + 1; err == SK_OK && i < call->count; i += 2) {
        err = call_check_name(call, call->args[i]);
    }
    return err;
}

static bool is_left_out(const struct add *add, bool found, double old_score) {
    if (!found) return (add->flags & ADD_XX) != 0;
    if (add->flags & ADD_NX) return true;
    if ((add->flags & ADD_LT) && add->new_score >= old_score) return true;
    return (add->flags & ADD_GT) && add->new_score <= old_score;
}

static int add_pair(struct call *call, struct zset *zset, struct add *add, size_t at) {
    struct element element;
    double old_score = 0;
    bool parsed = args_parse_double(call->args[at], &add->new_score);
    int err = zset_find_member(call, &zset->collection, call->args[at + 1], &element, &old_score);
    if (err != SK_OK) return err;
    bool found = element.found;
    if ((add->flags & ADD_INCR) && found && !(add->flags & ADD_NX)) add->new_score += old_score;
    if (!parsed || isnan(add->new_score)) {
        return call_refuse(call, SK_BADVALUE, "resulting score is not a number (NaN)");
    }
    add->taken = !is_left_out(add, found, old_score);
    if (!add->taken) return SK_OK;
    add->added += !found;
    add->updated += found && add->new_score != old_score;
    return zset_put(call, zset, &element, add->new_score);
}

static int add_pairs(struct call *call, struct zset *zset, struct add *add) {
    int err = SK_OK;
    for (size_t i = add->first; err == SK_OK && i < call->count; i += 2) err = add_pair(call, zset, add, i);
    return err == SK_OK ? zset_save(call, zset) : err;
}

/* Only of several pairs, and of a key, can some be refused when others are there already: long ones, by their hashes. */
static bool may_be_refused_midway(const struct call *call, const struct add *add) {
    bool has_long = call->args[0].size > KEYSPACE_KEY_INLINE_MAX;
    for (size_t i = add->first + 1; i < call->count; i += 2) {
        has_long = has_long || call->args[i].size > ELEMENT_NAME_INLINE_MAX;
    }
    return has_long;
}

static int answer_add(struct call *call, const struct add *add) {
    if (!(add->flags & ADD_INCR)) {
        return call_answer_int(call, add->added + (add->flags & ADD_CH ? add->updated : 0));
    }
    if (!add->taken) return call_answer_nil(call);
    mp_write_float(call->answer, add->new_score + 0.0);
    return SK_OK;
}

static int add_members(struct call *call, unsigned flags) {
    struct add add = {.flags = flags, .first = 1};
    struct zset zset;
    int err = read_options(call, &add);
    if (err == SK_OK) err = check_pairs(call, &add);
    if (err == SK_OK) err = zset_find_for_write(call, call->args[0], &zset);
    if (err != SK_OK) return err;
    if (!zset.collection.object.found && (add.flags & ADD_XX)) return answer_add(call, &add);
    struct call_attempt attempt;
    err = call_attempt_begin(call, may_be_refused_midway(call, &add), &attempt);
    if (err != SK_OK) return err;
    zset_begin(call, &zset);
    err = call_attempt_end(call, &attempt, add_pairs(call, &zset, &add));
    return err == SK_OK ? answer_add(call, &add) : err;
}

int execute_zadd(struct call *call) { return add_members(call, 0); }

int execute_zincrby(struct call *call) { return add_members(call, ADD_INCR); }

/* ---- removing ---- */

int execute_zrem(struct call *call) {
    struct zset zset;
    int64_t removed = 0;
    int err = zset_find_for_write(call, call->args[0], &zset);
    if (err != SK_OK) return err;
    for (size_t i = 1; err == SK_OK && zset.collection.count > 0 && i < call->count; i++) {
        struct element element;
        double score;
        err = zset_find_member(call, &zset.collection, call->args[i], &element, &score);
        if (err != SK_OK || !element.found) continue;
        err = zset_remove(call, &zset, &element);
        removed++;
    }
    if (err == SK_OK) err = zset_save(call, &zset);
    return err == SK_OK ? call_answer_int(call, removed) : err;
}

/* ---- looking up ---- */

static int answer_score(struct call *call, const struct collection *collection, struct slice name) {
    struct element element;
    double score = 0;
    int err = zset_find_member(call, collection, name, &element, &score);
    if (err != SK_OK) return err;
    if (!element.found) return call_answer_nil(call);
    mp_write_float(call->answer, score);
    return SK_OK;
}

int execute_zscore(struct call *call) {
    struct collection collection;
    int err = collection_find(call, call->args[0], OBJECT_ZSET, &collection);
    return err == SK_OK ? answer_score(call, &collection, call->args[1]) : err;
}

int execute_zmscore(struct call *call) {
    struct collection collection;
    int err = collection_find(call, call->args[0], OBJECT_ZSET, &collection);
    if (err != SK_OK) return err;
    mp_write_array(call->answer, (uint32_t)(call->count - 1));
    for (size_t i = 1; err == SK_OK && i < call->count; i++) err = answer_score(call, &collection, call->args[i]);
    return err;
}

int execute_zcard(struct call *call) {
    struct collection collection;
    int err = collection_find(call, call->args[0], OBJECT_ZSET, &collection);
    return err == SK_OK ? call_answer_int(call, (int64_t)collection.count) : err;
}

static int answer_rank(struct call *call, bool from_end) {
    struct zset zset;
    struct element element;
    double score;
    uint64_t rank = 0;
    int err = zset_find(call, call->args[0], &zset);
    if (err == SK_OK) err = zset_find_member(call, &zset.collection, call->args[1], &element, &score);
    if (err != SK_OK) return err;
    if (!element.found) return call_answer_nil(call);
    err = zset_rank(&zset, &element, &rank);
    if (err != SK_OK) return err;
    return call_answer_int(call, (int64_t)(from_end ? zset.collection.count - 1 - rank : rank));
}

int execute_zrank(struct call *call) { return answer_rank(call, false); }

int execute_zrevrank(struct call *call) { return answer_rank(call, true); }

/* ---- ZSCAN ---- */

static uint32_t add_to_page(struct buffer *items, struct slice name, struct slice value) {
    double score;
    if (zset_read_score(value, &score) != SK_OK) return 0;
    mp_write_bin(items, name);
    mp_write_float(items, score);
    return 2;
}

int execute_zscan(struct call *call) { return scan_elements(call, OBJECT_ZSET, add_to_page); }
