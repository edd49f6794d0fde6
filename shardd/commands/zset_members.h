/* Members of sorted sets with their scores, gathered before something is changed, or before they are put in order. */
#pragma once

#include "shardd/zset.h"

struct zset_member {
    struct slice name; /* once they are settled */
    double score;
    uint32_t mark; /* the caller's */
    size_t at;     /* private */
};

struct zset_members {
    uint32_t count;
    bool failed; /* out of memory */

    /* private */
    struct buffer names;
    struct buffer items;
};

void zset_members_init(struct zset_members *members);
void zset_members_deinit(struct zset_members *members);

/* The name is copied. */
void zset_members_add(struct zset_members *members, struct slice name, double score, uint32_t mark);
/* Refuses when the names have become too many bytes. SK_OK or SK_TOOLARGE. */
int zset_members_limit(struct call *call, const struct zset_members *members);
/* Nothing is added any more: the members, which may be put in another order in place; `members` owns them. SK_OK, SK_ENOMEM. */
int zset_members_settle(struct zset_members *members, struct zset_member **items);

/* Orders for qsort: by score and name, by mark, by name and mark. */
int zset_member_by_score(const void *a, const void *b);
int zset_member_by_mark(const void *a, const void *b);
int zset_member_by_name(const void *a, const void *b);

/* Gathers the members of a range, at most `limit` of them. SK_OK, SK_TOOLARGE (told), or a fault. */
int zset_members_gather(struct call *call, struct zset *zset, const struct zset_range *range, bool down,
                        uint64_t skip, uint64_t limit, struct zset_members *members);

/* Appends an array of the members, each a name, or a pair of name and score. SK_OK or SK_TOOLARGE (told). */
int zset_members_answer(struct call *call, const struct zset_member *items, uint32_t count, bool with_scores);
/* One of them. */
void zset_answer_member(struct call *call, struct slice name, double score, bool with_score);

/* Removes members of this sorted set, as they were gathered `down` or upwards, and saves it. SK_OK or a fault. */
int zset_members_remove(struct call *call, struct zset *zset, const struct zset_member *items, uint32_t count,
                        bool down);

/* Makes the members, which differ, the sorted set at `key`, and answers how many they are; without any, nothing is there any
 * more. All or nothing. As collection_put and collection_save. */
int zset_members_store(struct call *call, struct slice key, const struct zset_member *items, uint32_t count);

/* Refuses more members than one command may change. SK_OK or SK_TOOLARGE. */
int zset_check_count(struct call *call, uint64_t count);
