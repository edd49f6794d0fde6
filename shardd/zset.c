#include "shardd/zset.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <math.h>

#define SCORE_BYTES 8u
#define SIGN_BIT    (1ull << 63)

/* ---- scores ---- */

static uint64_t bits_of(double score) {
    uint64_t bits;
    memcpy(&bits, &score, sizeof bits);
    return bits;
}

/* A number that sorts as the score does. */
static uint64_t order_of(double score) {
    uint64_t bits = bits_of(score + 0.0); /* -0 becomes 0 */
    return bits & SIGN_BIT ? ~bits : bits | SIGN_BIT;
}

static double score_of_bits(uint64_t bits) {
    double score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

static double score_of(uint64_t order) { return score_of_bits(order & SIGN_BIT ? order & ~SIGN_BIT : ~order); }

int zset_read_score(struct slice value, double *score) {
    if (value.size != SCORE_BYTES) return SK_ECORRUPT;
    *score = score_of_bits(get_u64(value.data));
    return isnan(*score) ? SK_ECORRUPT : SK_OK;
}

/* ---- the order's keys ---- */

static struct slice order_key(const struct element *element, double score, struct ranks_key *key) {
    put_u64(key->bytes, order_of(score));
    key->size = SCORE_BYTES + element_place(element, key->bytes + SCORE_BYTES).size;
    return ranks_key_slice(key);
}

/* The key as it is, or what follows it at once. */
static void end_key(struct ranks_key *key, bool behind) {
    if (behind) key->bytes[key->size++] = 0;
}

/* All of a score come at or behind this, and before that of `past` true. */
static void score_key(double score, bool past, struct ranks_key *key) {
    put_u64(key->bytes, order_of(score) + past);
    key->size = SCORE_BYTES;
}

/* ---- finding ---- */

int zset_open(struct call *call, struct zset *zset) {
    const struct collection *collection = &zset->collection;
    zset->changed = false;
    return ranks_open(call->exec, collection->id, ZSET_ORDER, collection->count, &zset->ranks);
}

int zset_find(struct call *call, struct slice key, struct zset *zset) {
    int err = collection_find(call, key, OBJECT_ZSET, &zset->collection);
    return err == SK_OK ? zset_open(call, zset) : err;
}

int zset_find_for_write(struct call *call, struct slice key, struct zset *zset) {
    int err = collection_find_for_write(call, key, OBJECT_ZSET, &zset->collection);
    return err == SK_OK ? zset_open(call, zset) : err;
}

int zset_replace(struct call *call, struct slice key, struct zset *zset) {
    int err = collection_replace(call, key, OBJECT_ZSET, &zset->collection);
    if (err == SK_OK) err = zset_open(call, zset);
    zset->changed = true; /* also when it stays empty: what is there goes */
    return err;
}

void zset_begin(struct call *call, struct zset *zset) {
    collection_begin(call, &zset->collection);
    zset->ranks.id = zset->collection.id;
}

int zset_find_member(struct call *call, const struct collection *collection, struct slice name,
                     struct element *element, double *score) {
    int err = element_find(call->exec, collection->id, name, element);
    return err == SK_OK && element->found ? zset_read_score(element->value, score) : err;
}

int zset_rank(struct zset *zset, const struct element *element, uint64_t *rank) {
    struct ranks_key key;
    double score;
    int err = zset_read_score(element->value, &score);
    return err == SK_OK ? ranks_before(&zset->ranks, order_key(element, score, &key), rank) : err;
}

/* ---- changing ---- */

int zset_put(struct call *call, struct zset *zset, struct element *element, double score) {
    sk_assert(zset->collection.id != 0 && !isnan(score));
    bool was_there = element->found;
    double old_score = 0;
    int err = was_there ? zset_read_score(element->value, &old_score) : SK_OK;
    if (err != SK_OK || (was_there && old_score == score)) return err;
    uint8_t value[SCORE_BYTES];
    put_u64(value, bits_of(score + 0.0));
    err = collection_put(call, &zset->collection, element, slice_of(value, sizeof value));
    if (err != SK_OK) return err;
    zset->changed = true;
    struct ranks_key key;
    if (was_there) {
        zset->collection.numbers[COLLECTION_REMOVED]++; /* from the order */
        err = ranks_remove(&zset->ranks, order_key(element, old_score, &key));
    }
    return err == SK_OK ? ranks_add(&zset->ranks, order_key(element, score, &key)) : err;
}

int zset_remove(struct call *call, struct zset *zset, struct element *element) {
    struct ranks_key key;
    double score;
    int err = zset_read_score(element->value, &score);
    if (err == SK_OK) err = ranks_remove(&zset->ranks, order_key(element, score, &key));
    if (err != SK_OK) return err;
    zset->changed = true;
    return collection_remove(call, &zset->collection, element);
}

int zset_save(struct call *call, struct zset *zset) {
    if (!zset->changed) return SK_OK;
    zset->changed = false;
    int err = ranks_save(&zset->ranks);
    if (err == SK_OK) err = collection_save(call, &zset->collection);
    zset->ranks.id = zset->collection.id; /* which may be a new one */
    return err;
}

/* ---- ranges ---- */

void zset_range_all(struct zset_range *range) {
    score_key(-INFINITY, false, &range->from);
    score_key(INFINITY, true, &range->below);
}

void zset_range_scores(const struct zset_score_bound *min, const struct zset_score_bound *max,
                       struct zset_range *range) {
    score_key(min->score, min->exclusive, &range->from);
    score_key(max->score, !max->exclusive, &range->below);
}

/* `end`: a key of the order that has the bound's score. `behind`: the range begins or ends behind the name. */
static int name_key(struct call *call, const struct zset *zset, const struct zset_name_bound *bound,
                    const struct ranks_key *end, bool behind, struct ranks_key *key) {
    if (bound->kind != ZSET_NAME) {
        bool least = bound->kind == ZSET_NAME_LEAST;
        score_key(least ? -INFINITY : INFINITY, !least, key);
        return SK_OK;
    }
    struct element element;
    int err = element_find(call->exec, zset->collection.id, bound->name, &element);
    if (err != SK_OK) return err;
    (void)order_key(&element, score_of(get_u64(end->bytes)), key);
    end_key(key, behind);
    return SK_OK;
}

/* No name lies between them, whatever the members' scores. */
static bool names_are_apart(const struct zset_name_bound *min, const struct zset_name_bound *max) {
    if (min->kind != ZSET_NAME || max->kind != ZSET_NAME) {
        return min->kind != max->kind && (min->kind == ZSET_NAME_GREATEST || max->kind == ZSET_NAME_LEAST);
    }
    int order = slice_compare(min->name, max->name);
    return order > 0 || (order == 0 && (min->exclusive || max->exclusive));
}

int zset_range_names(struct call *call, const struct zset *zset, const struct zset_name_bound *min,
                     const struct zset_name_bound *max, struct zset_range *range) {
    zset_range_all(range);
    if (zset->ranks.count == 0) return SK_OK;
    if (names_are_apart(min, max)) {
        range->below = range->from;
        return SK_OK;
    }
    int err = name_key(call, zset, min, &zset->ranks.first, min->exclusive, &range->from);
    return err == SK_OK ? name_key(call, zset, max, &zset->ranks.last, !max->exclusive, &range->below) : err;
}

int zset_count(struct zset *zset, const struct zset_range *range, uint64_t *count) {
    uint64_t from, below;
    int err = ranks_before(&zset->ranks, ranks_key_slice(&range->from), &from);
    if (err == SK_OK) err = ranks_before(&zset->ranks, ranks_key_slice(&range->below), &below);
    if (err == SK_OK) *count = below > from ? below - from : 0;
    return err;
}

/* ---- walking ---- */

int zset_walk_open(struct call *call, struct zset *zset, const struct zset_range *range, bool down, uint64_t skip,
                   struct zset_walk *walk) {
    struct ranks_range keys = {.from = ranks_key_slice(&range->from), .below = ranks_key_slice(&range->below)};
    walk->exec = call->exec;
    walk->id = zset->collection.id;
    return ranks_walk_open(&zset->ranks, &keys, down, skip, &walk->ranks);
}

int zset_walk_next(struct zset_walk *walk, struct slice *name, double *score) {
    struct slice key;
    int err = ranks_walk_next(&walk->ranks, &key);
    if (err != SK_OK) return err;
    if (key.size < SCORE_BYTES) return SK_ECORRUPT;
    *score = score_of(get_u64(key.data));
    if (isnan(*score)) return SK_ECORRUPT;
    struct slice place = slice_of(key.data + SCORE_BYTES, key.size - SCORE_BYTES);
    return element_name_at(walk->exec, walk->id, place, name);
}

void zset_walk_close(struct zset_walk *walk) { ranks_walk_close(&walk->ranks); }
