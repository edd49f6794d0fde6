/* Sorted sets by ranges of rank, score and name: ZRANGE, ZCOUNT, ZREMRANGEBYSCORE and their relatives. Semantics, order of checks
 * and texts are Redis 7's. */
#include "shardd/commands/zset_members.h"

#include "libcommon/error.h"

enum kind { BY_ANY, BY_RANK, BY_SCORE, BY_NAME }; /* any: the options may still say */

struct bounds {
    enum kind kind;
    int64_t start, end; /* ranks */
    struct zset_score_bound min_score, max_score;
    struct zset_name_bound min_name, max_name;
};

/* ---- reading bounds ---- */

static bool starts_with(struct slice text, char letter) {
    return text.size > 0 && text.data[0] == (uint8_t)letter;
}

static struct slice without_first(struct slice text) { return slice_of(text.data + 1, text.size - 1); }

static bool read_score(struct slice text, struct zset_score_bound *bound) {
    bound->exclusive = starts_with(text, '(');
    return args_parse_bound(bound->exclusive ? without_first(text) : text, &bound->score);
}

static bool read_name(struct slice text, struct zset_name_bound *bound) {
    *bound = (struct zset_name_bound){.exclusive = starts_with(text, '(')};
    if (bound->exclusive || starts_with(text, '[')) {
        bound->name = without_first(text);
        return true;
    }
    bound->kind = starts_with(text, '-') ? ZSET_NAME_LEAST : ZSET_NAME_GREATEST;
    return text.size == 1 && (text.data[0] == '-' || text.data[0] == '+');
}

static int read_bounds(struct call *call, struct slice min, struct slice max, struct bounds *bounds) {
    switch (bounds->kind) {
    case BY_SCORE:
        if (read_score(min, &bounds->min_score) && read_score(max, &bounds->max_score)) return SK_OK;
        return call_refuse(call, SK_BADREQUEST, "min or max is not a float");
    case BY_NAME:
        if (read_name(min, &bounds->min_name) && read_name(max, &bounds->max_name)) return SK_OK;
        return call_refuse(call, SK_BADREQUEST, "min or max not valid string range item");
    default:
        if (args_parse_int(min, &bounds->start) && args_parse_int(max, &bounds->end)) return SK_OK;
        return call_refuse_not_int(call);
    }
}

/* ---- what bounds mean in a sorted set ---- */

/* Some of the members of a range, in the direction of a walk. */
struct stretch {
    struct zset_range range;
    uint64_t skip, limit;
};

/* A rank from the end when negative; before the first it is the first. */
static int64_t place_of(int64_t index, int64_t count) {
    if (index >= 0) return index;
    return index + count < 0 ? 0 : index + count;
}

static void find_ranks(const struct bounds *bounds, int64_t count, struct stretch *stretch) {
    int64_t start = place_of(bounds->start, count);
    int64_t end = bounds->end < 0 ? bounds->end + count : bounds->end;
    if (end >= count) end = count - 1;
    zset_range_all(&stretch->range);
    stretch->skip = (uint64_t)start;
    stretch->limit = start > end ? 0 : (uint64_t)(end - start) + 1;
}

static int find_stretch(struct call *call, const struct zset *zset, const struct bounds *bounds,
                        struct stretch *stretch) {
    *stretch = (struct stretch){.limit = UINT64_MAX};
    switch (bounds->kind) {
    case BY_SCORE:
        zset_range_scores(&bounds->min_score, &bounds->max_score, &stretch->range);
        return SK_OK;
    case BY_NAME:
        return zset_range_names(call, zset, &bounds->min_name, &bounds->max_name, &stretch->range);
    default:
        find_ranks(bounds, (int64_t)zset->collection.count, stretch);
        return SK_OK;
    }
}

/* How many members a stretch has. */
static int count_stretch(struct zset *zset, const struct stretch *stretch, uint64_t *count) {
    int err = zset_count(zset, &stretch->range, count);
    *count = *count > stretch->skip ? *count - stretch->skip : 0;
    if (*count > stretch->limit) *count = stretch->limit;
    return err;
}

/* ---- ZRANGE and its relatives ---- */

struct query {
    struct bounds bounds;
    bool may_reverse; /* REV is an option of this command, */
    bool reverse;
    bool stores; /* and WITHSCORES is none */
    bool with_scores;
    int64_t offset, limit;
};

static int read_limit(struct call *call, size_t at, struct query *query) {
    if (at + 2 >= call->count) return call_refuse_syntax(call);
    if (args_parse_int(call->args[at + 1], &query->offset) && args_parse_int(call->args[at + 2], &query->limit)) {
        return SK_OK;
    }
    return call_refuse_not_int(call);
}

static int read_options(struct call *call, size_t at, struct query *query) {
    enum kind *kind = &query->bounds.kind;
    for (; at < call->count; at++) {
        struct slice word = call->args[at];
        if (!query->stores && args_is_word(word, "WITHSCORES")) {
            query->with_scores = true;
        } else if (args_is_word(word, "LIMIT")) {
            int err = read_limit(call, at, query);
            if (err != SK_OK) return err;
            at += 2;
        } else if (query->may_reverse && !query->reverse && args_is_word(word, "REV")) {
            query->reverse = true;
        } else if (*kind == BY_ANY && args_is_word(word, "BYLEX")) {
            *kind = BY_NAME;
        } else if (*kind == BY_ANY && args_is_word(word, "BYSCORE")) {
            *kind = BY_SCORE;
        } else {
            return call_refuse_syntax(call);
        }
    }
    if (*kind == BY_ANY) *kind = BY_RANK;
    return SK_OK;
}

static int check_options(struct call *call, const struct query *query) {
    if (query->limit != -1 && query->bounds.kind == BY_RANK) {
        return call_refuse(call, SK_BADREQUEST,
                           "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
    }
    if (query->with_scores && query->bounds.kind == BY_NAME) {
        return call_refuse(call, SK_BADREQUEST,
                           "syntax error, WITHSCORES not supported in combination with BYLEX");
    }
    return SK_OK;
}

/* `at`: the argument after the key, with the bounds and options behind it. */
static int read_query(struct call *call, size_t at, struct query *query) {
    query->limit = -1;
    int err = read_options(call, at + 2, query);
    if (err == SK_OK) err = check_options(call, query);
    if (err != SK_OK) return err;
    bool swapped = query->reverse && query->bounds.kind != BY_RANK;
    return read_bounds(call, call->args[at + swapped], call->args[at + !swapped], &query->bounds);
}

static int find_queried(struct call *call, const struct zset *zset, const struct query *query,
                        struct stretch *stretch) {
    int err = find_stretch(call, zset, &query->bounds, stretch);
    if (err != SK_OK || query->bounds.kind == BY_RANK) return err;
    if (query->limit >= 0) stretch->limit = (uint64_t)query->limit;
    if (query->offset < 0) stretch->limit = 0;
    stretch->skip = query->offset < 0 ? 0 : (uint64_t)query->offset;
    return SK_OK;
}

static int answer_stretch(struct call *call, struct zset *zset, const struct query *query,
                          const struct stretch *stretch) {
    struct zset_walk walk;
    struct slice name;
    double score;
    uint32_t count = 0;
    size_t start = call_begin_array(call);
    int err = zset_walk_open(call, zset, &stretch->range, query->reverse, stretch->skip, &walk);
    while (err == SK_OK && count < stretch->limit && (err = zset_walk_next(&walk, &name, &score)) == SK_OK) {
        zset_answer_member(call, name, score, query->with_scores);
        count++;
        err = call_limit_answer(call);
    }
    zset_walk_close(&walk);
    if (err != SK_OK && err != SK_NOT_FOUND) return err;
    call_end_array(call, start, count);
    return SK_OK;
}

static int answer_query(struct call *call, struct query query) {
    struct zset zset;
    struct stretch stretch;
    int err = read_query(call, 1, &query);
    if (err == SK_OK) err = zset_find(call, call->args[0], &zset);
    if (err == SK_OK) err = find_queried(call, &zset, &query, &stretch);
    return err == SK_OK ? answer_stretch(call, &zset, &query, &stretch) : err;
}

int execute_zrange(struct call *call) { return answer_query(call, (struct query){.may_reverse = true}); }

int execute_zrevrange(struct call *call) {
    return answer_query(call, (struct query){.bounds.kind = BY_RANK, .reverse = true});
}

int execute_zrangebyscore(struct call *call) {
    return answer_query(call, (struct query){.bounds.kind = BY_SCORE});
}

int execute_zrevrangebyscore(struct call *call) {
    return answer_query(call, (struct query){.bounds.kind = BY_SCORE, .reverse = true});
}

int execute_zrangebylex(struct call *call) { return answer_query(call, (struct query){.bounds.kind = BY_NAME}); }

int execute_zrevrangebylex(struct call *call) {
    return answer_query(call, (struct query){.bounds.kind = BY_NAME, .reverse = true});
}

static int store_stretch(struct call *call, struct zset *zset, const struct query *query,
                         const struct stretch *stretch) {
    uint64_t count;
    struct zset_members members;
    struct zset_member *items;
    int err = count_stretch(zset, stretch, &count);
    if (err == SK_OK) err = zset_check_count(call, count);
    if (err != SK_OK) return err;
    zset_members_init(&members);
    err = zset_members_gather(call, zset, &stretch->range, query->reverse, stretch->skip, count, &members);
    if (err == SK_OK) err = zset_members_settle(&members, &items);
    if (err == SK_OK) err = zset_members_store(call, call->args[0], items, members.count);
    zset_members_deinit(&members);
    return err;
}

int execute_zrangestore(struct call *call) {
    struct query query = {.may_reverse = true, .stores = true};
    struct zset zset;
    struct stretch stretch;
    int err = read_query(call, 2, &query);
    if (err == SK_OK) err = zset_find(call, call->args[1], &zset);
    if (err == SK_OK) err = find_queried(call, &zset, &query, &stretch);
    return err == SK_OK ? store_stretch(call, &zset, &query, &stretch) : err;
}

/* ---- counting ---- */

static int answer_count(struct call *call, enum kind kind) {
    struct bounds bounds = {.kind = kind};
    struct zset zset;
    struct stretch stretch;
    uint64_t count = 0;
    int err = read_bounds(call, call->args[1], call->args[2], &bounds);
    if (err == SK_OK) err = zset_find(call, call->args[0], &zset);
    if (err == SK_OK) err = find_stretch(call, &zset, &bounds, &stretch);
    if (err == SK_OK) err = count_stretch(&zset, &stretch, &count);
    return err == SK_OK ? call_answer_int(call, (int64_t)count) : err;
}

int execute_zcount(struct call *call) { return answer_count(call, BY_SCORE); }

int execute_zlexcount(struct call *call) { return answer_count(call, BY_NAME); }

/* ---- removing ---- */

static int remove_stretch(struct call *call, struct zset *zset, const struct stretch *stretch, uint64_t count) {
    struct zset_members members;
    struct zset_member *items;
    zset_members_init(&members);
    int err = zset_members_gather(call, zset, &stretch->range, false, stretch->skip, count, &members);
    if (err == SK_OK) err = zset_members_settle(&members, &items);
    if (err == SK_OK) err = zset_members_remove(call, zset, items, members.count, false);
    zset_members_deinit(&members);
    return err;
}

static int remove_range(struct call *call, enum kind kind) {
    struct bounds bounds = {.kind = kind};
    struct zset zset;
    struct stretch stretch;
    uint64_t count = 0;
    int err = read_bounds(call, call->args[1], call->args[2], &bounds);
    if (err == SK_OK) err = zset_find_for_write(call, call->args[0], &zset);
    if (err == SK_OK) err = find_stretch(call, &zset, &bounds, &stretch);
    if (err == SK_OK) err = count_stretch(&zset, &stretch, &count);
    if (err != SK_OK) return err;
    if (count > 0 && count == zset.collection.count) { /* of which those of any number can go at once */
        err = keyspace_remove(call->exec, &zset.collection.object);
    } else {
        err = zset_check_count(call, count);
        if (err == SK_OK && count > 0) err = remove_stretch(call, &zset, &stretch, count);
    }
    return err == SK_OK ? call_answer_int(call, (int64_t)count) : err;
}

int execute_zremrangebyrank(struct call *call) { return remove_range(call, BY_RANK); }

int execute_zremrangebyscore(struct call *call) { return remove_range(call, BY_SCORE); }

int execute_zremrangebylex(struct call *call) { return remove_range(call, BY_NAME); }
