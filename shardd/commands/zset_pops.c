/* Sorted sets from their ends and at random: ZPOPMIN, ZMPOP, their blocking forms, ZRANDMEMBER. Semantics, order of checks and texts are Redis 7's. */
#include "shardd/commands/multiple_pop.h"
#include "shardd/commands/zset_members.h"

#include "libcommon/error.h"

#include <stdlib.h>

/* ---- popping ---- */

/* How popped members are answered: as pairs; in a row, which ZPOPMIN does with one; in a row behind their key. */
enum pop_form { POP_PAIRS, POP_ROW, POP_ROW_WITH_KEY };

/* The first or last `limit` members. */
static int pop(struct call *call, struct zset *zset, bool from_end, uint64_t limit, enum pop_form form) {
    uint64_t count = limit < zset->collection.count ? limit : zset->collection.count;
    struct zset_range all;
    struct zset_members members;
    struct zset_member *items;
    int err = zset_check_count(call, count);
    if (err != SK_OK) return err;
    zset_members_init(&members);
    zset_range_all(&all);
    err = zset_members_gather(call, zset, &all, from_end, 0, count, &members);
    if (err == SK_OK) err = zset_members_settle(&members, &items);
    if (err == SK_OK && form != POP_PAIRS) {
        mp_write_array(call->answer, 2 * members.count + (form == POP_ROW_WITH_KEY));
        if (form == POP_ROW_WITH_KEY) mp_write_bin(call->answer, zset->collection.object.key);
        for (uint32_t i = 0; i < members.count; i++) {
            mp_write_bin(call->answer, items[i].name);
            mp_write_float(call->answer, items[i].score);
        }
    } else if (err == SK_OK) {
        err = zset_members_answer(call, items, members.count, true);
    }
    if (err == SK_OK) err = zset_members_remove(call, zset, items, members.count, from_end);
    zset_members_deinit(&members);
    return err;
}

static int pop_one_key(struct call *call, bool from_end) {
    int64_t limit = 1;
    struct zset zset;
    if (call->count > 2) return call_refuse_syntax(call);
    bool counted = call->count == 2;
    if (counted && (!args_parse_int(call->args[1], &limit) || limit < 0)) {
        return call_refuse(call, SK_BADREQUEST, "value is out of range, must be positive");
    }
    int err = zset_find_for_write(call, call->args[0], &zset);
    return err == SK_OK ? pop(call, &zset, from_end, (uint64_t)limit, counted ? POP_PAIRS : POP_ROW) : err;
}

int execute_zpopmin(struct call *call) { return pop_one_key(call, false); }

int execute_zpopmax(struct call *call) { return pop_one_key(call, true); }

/* The first of the keys that has members, to be changed unless only what there is is asked; SK_NOT_FOUND: none of them. */
static int find_first(struct call *call, const struct slice *keys, size_t count, struct zset *zset) {
    for (size_t i = 0; i < count; i++) {
        int err = call->looks ? zset_find(call, keys[i], zset) : zset_find_for_write(call, keys[i], zset);
        if (err != SK_OK || zset->collection.count > 0) return err;
    }
    return SK_NOT_FOUND;
}

static int pop_blocking(struct call *call, bool from_end) {
    struct zset zset;
    int err = call_check_wait_time(call, call->args[call->count - 1]);
    if (err == SK_OK) err = find_first(call, call->args, call->count - 1, &zset);
    if (err == SK_NOT_FOUND) return call_answer_nothing(call);
    if (err != SK_OK || call->looks) return err;
    return pop(call, &zset, from_end, 1, POP_ROW_WITH_KEY);
}

int execute_bzpopmin(struct call *call) { return pop_blocking(call, false); }

int execute_bzpopmax(struct call *call) { return pop_blocking(call, true); }

static int pop_of_many(struct call *call, const struct multiple_pop *wanted) {
    struct zset zset;
    int err = find_first(call, wanted->keys, wanted->key_count, &zset);
    if (err == SK_NOT_FOUND) return call_answer_nothing(call);
    if (err != SK_OK || call->looks) return err;
    mp_write_array(call->answer, 2);
    mp_write_bin(call->answer, zset.collection.object.key);
    return pop(call, &zset, wanted->from_last, (uint64_t)wanted->count, POP_PAIRS);
}

int execute_zmpop(struct call *call) {
    struct multiple_pop wanted;
    int err = multiple_pop_read(call, 0, "MIN", "MAX", &wanted);
    return err == SK_OK ? pop_of_many(call, &wanted) : err;
}

int execute_bzmpop(struct call *call) {
    struct multiple_pop wanted;
    int err = multiple_pop_read(call, 1, "MIN", "MAX", &wanted);
    if (err == SK_OK) err = call_check_wait_time(call, call->args[0]);
    return err == SK_OK ? pop_of_many(call, &wanted) : err;
}

/* ---- at random ---- */

/* A rank that was drawn, and when. */
struct draw {
    uint64_t rank;
    uint32_t turn;
};

static int draw_order(const void *a, const void *b) {
    const struct draw *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    return (x->turn > y->turn) - (x->turn < y->turn);
}

/* Leaves the first draw of each rank; they are sorted by rank. */
static uint32_t drop_repeated(struct draw *draws, uint32_t count) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (kept == 0 || draws[kept - 1].rank != draws[i].rank) draws[kept++] = draws[i];
    }
    return kept;
}

/* Fills `draws` with ranks below `size`, sorted; `unique`: different ones, and there are more than twice as many. What was drawn
 * before is drawn again then, so that every choice is as likely as the others. */
static void draw_ranks(struct call *call, uint64_t size, bool unique, struct draw *draws, uint32_t count) {
    uint32_t turn = 0;
    for (uint32_t drawn = 0; drawn < count;) {
        for (uint32_t i = drawn; i < count; i++) {
            draws[i] = (struct draw){.rank = chance_below(&call->chance, size), .turn = turn++};
        }
        qsort(draws, count, sizeof *draws, draw_order);
        drawn = unique ? drop_repeated(draws, count) : count;
    }
}

/* More than half of all ranks: of each it is drawn whether it is among the `count` (Knuth, volume 2, 3.4.2, algorithm S), and
 * they get their turns by a shuffle. */
static void draw_most_ranks(struct call *call, uint64_t size, struct draw *draws, uint32_t count) {
    uint32_t drawn = 0;
    for (uint64_t rank = 0; drawn < count; rank++) {
        if (chance_below(&call->chance, size - rank) >= count - drawn) continue;
        draws[drawn] = (struct draw){.rank = rank, .turn = drawn};
        drawn++;
    }
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)chance_below(&call->chance, i), turn = draws[i - 1].turn;
        draws[i - 1].turn = draws[other].turn;
        draws[other].turn = turn;
    }
}

#define STEPPED_TO_MAX 64u /* a rank that is farther off is looked up */

/* The members of ranks that are sorted, each marked with its turn. */
static int gather_ranks(struct call *call, struct zset *zset, const struct draw *draws, uint32_t count,
                        struct zset_members *members) {
    struct zset_range all;
    struct zset_walk walk = {.exec = call->exec};
    struct slice name = slice_of("", 0);
    double score = 0;
    uint64_t next = 0; /* the rank that the walk gives next */
    int err = SK_OK;
    zset_range_all(&all);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        if (i == 0 || draws[i].rank > next + STEPPED_TO_MAX) {
            zset_walk_close(&walk);
            next = draws[i].rank;
            err = zset_walk_open(call, zset, &all, false, next, &walk);
        }
        for (; err == SK_OK && next <= draws[i].rank; next++) err = zset_walk_next(&walk, &name, &score);
        if (err != SK_OK) break;
        zset_members_add(members, name, score, draws[i].turn);
        err = zset_members_limit(call, members);
    }
    zset_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
}

static int answer_draws(struct call *call, struct zset *zset, const struct draw *draws, uint32_t count,
                        bool with_scores) {
    struct zset_members members;
    struct zset_member *items;
    zset_members_init(&members);
    int err = gather_ranks(call, zset, draws, count, &members);
    if (err == SK_OK) err = zset_members_settle(&members, &items);
    if (err == SK_OK && members.count > 0) qsort(items, members.count, sizeof *items, zset_member_by_mark);
    if (err == SK_OK) err = zset_members_answer(call, items, members.count, with_scores);
    zset_members_deinit(&members);
    return err;
}

static int answer_all(struct call *call, struct zset *zset, bool with_scores) {
    struct zset_range all;
    struct zset_walk walk;
    struct slice name;
    double score;
    zset_range_all(&all);
    mp_write_array(call->answer, (uint32_t)zset->collection.count);
    int err = zset_walk_open(call, zset, &all, false, 0, &walk);
    while (err == SK_OK && (err = zset_walk_next(&walk, &name, &score)) == SK_OK) {
        zset_answer_member(call, name, score, with_scores);
        err = call_limit_answer(call);
    }
    zset_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

static int answer_random(struct call *call, struct zset *zset, int64_t count, bool with_scores) {
    bool unique = count >= 0;
    uint64_t size = zset->collection.count, wanted = unique ? (uint64_t)count : 0 - (uint64_t)count;
    if (size == 0 || (unique && wanted >= size)) return answer_all(call, zset, with_scores);
    if (wanted > SCAN_COUNT_MAX) {
        return call_refuse(call, SK_TOOLARGE, "the count is limited to %u", SCAN_COUNT_MAX);
    }
    uint32_t draw_count = (uint32_t)wanted;
    struct draw *draws = calloc(wanted + 1, sizeof *draws);
    if (draws == NULL) return SK_ENOMEM;
    if (unique && wanted > size / 2) {
        draw_most_ranks(call, size, draws, draw_count);
    } else {
        draw_ranks(call, size, unique, draws, draw_count);
    }
    int err = answer_draws(call, zset, draws, draw_count, with_scores);
    free(draws);
    return err;
}

static int answer_one(struct call *call) {
    struct zset zset;
    struct zset_range all;
    struct zset_walk walk;
    struct slice name;
    double score;
    int err = zset_find(call, call->args[0], &zset);
    if (err != SK_OK) return err;
    if (zset.collection.count == 0) return call_answer_nil(call);
    zset_range_all(&all);
    uint64_t rank = chance_below(&call->chance, zset.collection.count);
    err = zset_walk_open(call, &zset, &all, false, rank, &walk);
    if (err == SK_OK) err = zset_walk_next(&walk, &name, &score);
    if (err == SK_OK) err = call_answer_bin(call, name);
    zset_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
}

int execute_zrandmember(struct call *call) {
    int64_t count;
    if (call->count == 1) return answer_one(call);
    if (!args_parse_int(call->args[1], &count)) return call_refuse_not_int(call);
    if (count == INT64_MIN) {
        return call_refuse(call, SK_BADREQUEST, "value is out of range, value must between %lld and %lld",
                           -(long long)INT64_MAX, (long long)INT64_MAX);
    }
    bool with_scores = call->count == 3 && args_is_word(call->args[2], "WITHSCORES");
    if (call->count > 3 || (call->count == 3 && !with_scores)) return call_refuse_syntax(call);
    if (with_scores && (count < -(INT64_MAX / 2) || count > INT64_MAX / 2)) {
        return call_refuse(call, SK_BADREQUEST, "value is out of range");
    }
    struct zset zset;
    int err = zset_find(call, call->args[0], &zset);
    return err == SK_OK ? answer_random(call, &zset, count, with_scores) : err;
}
