/* A sorted set: a collection whose named elements have scores, and the order of them. Only the shard's lane calls.
 *
 * Part 0 has the members as named elements (element.h), with the score as value: a double, 8 bytes, big-endian. Part 1 and
 * those behind it have the order (ranks.h), whose keys are the score in 8 bytes that sort as scores do ‖ the member's place
 * (element.h). -0 is stored as 0, and NaN never. Members with one score are in the order of their bytes; those over
 * ELEMENT_NAME_INLINE_MAX bytes that agree in that many are in the order of their hashes. */
#pragma once

#include "shardd/collection.h"
#include "shardd/ranks.h"

#define ZSET_ORDER 1u /* the part */

_Static_assert(8 + ELEMENT_PLACE_MAX + 1 <= RANKS_KEY_MAX,
               "a member's key in the order, and what follows it at once");

struct zset {
    struct collection collection;
    struct ranks ranks; /* private */
    bool changed;       /* private */
};

/* As collection_find and its like; a fault. */
int zset_find(struct call *call, struct slice key, struct zset *zset);
int zset_find_for_write(struct call *call, struct slice key, struct zset *zset);
int zset_replace(struct call *call, struct slice key, struct zset *zset);

/* The same of one whose collection has been read. SK_OK or a fault. */
int zset_open(struct call *call, struct zset *zset);

/* Makes sure that it has an id, before its first member is looked up to be put. */
void zset_begin(struct call *call, struct zset *zset);

/* A member of a sorted set, of which its order need not be open, and the score if it is found. SK_OK or a fault. */
int zset_find_member(struct call *call, const struct collection *collection, struct slice name,
                     struct element *element, double *score);
/* Gives a member that was looked up a score, which is not NaN. As collection_put. */
int zset_put(struct call *call, struct zset *zset, struct element *element, double score);
/* Removes one that is found. SK_OK or a fault. */
int zset_remove(struct call *call, struct zset *zset, struct element *element);
/* Stores what was changed, if anything was. As collection_save. */
int zset_save(struct call *call, struct zset *zset);

/* How many members come before one that is found. SK_OK or a fault. */
int zset_rank(struct zset *zset, const struct element *element, uint64_t *rank);

/* The score of a member, as it is stored. SK_OK or SK_ECORRUPT. */
int zset_read_score(struct slice value, double *score);

/* A stretch of the order. */
struct zset_range {
    struct ranks_key from, below;
};

struct zset_score_bound {
    double score;
    bool exclusive;
};

enum zset_name_kind { ZSET_NAME, ZSET_NAME_LEAST, ZSET_NAME_GREATEST };
struct zset_name_bound {
    enum zset_name_kind kind;
    bool exclusive;
    struct slice name;
};

void zset_range_all(struct zset_range *range);
void zset_range_scores(const struct zset_score_bound *min, const struct zset_score_bound *max,
                       struct zset_range *range);
/* By names, where all members have one score; otherwise `min` is taken to have the lowest score, and `max` the highest one. SK_OK
 * or a fault. */
int zset_range_names(struct call *call, const struct zset *zset, const struct zset_name_bound *min,
                     const struct zset_name_bound *max, struct zset_range *range);

/* How many members are in a range. SK_OK or a fault. */
int zset_count(struct zset *zset, const struct zset_range *range, uint64_t *count);

/* Walks a range upwards or downwards, after leaving out its first `skip` members. Not across a change. Close also what could
 * not be opened. */
struct zset_walk {
    struct ranks_walk ranks; /* private, */
    struct exec *exec;       /* and so is this, */
    uint64_t id;             /* and this */
};
int zset_walk_open(struct call *call, struct zset *zset, const struct zset_range *range, bool down, uint64_t skip,
                   struct zset_walk *walk);
/* SK_OK, SK_NOT_FOUND at the end, or a fault. The name lives until the next call. */
int zset_walk_next(struct zset_walk *walk, struct slice *name, double *score);
void zset_walk_close(struct zset_walk *walk);
