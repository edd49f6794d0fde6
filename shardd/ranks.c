#include "shardd/ranks.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/keyspace.h"

#define FANOUT_BITS      5u  /* of the key's hash for each level: every 32nd of the level below */
#define STEPPED_OVER_MAX 64u /* more are left out by their ranks */
#define COUNT_BYTES      8u
#define ROOT_VALUE_MAX   (1u + 8u * RANKS_LEVELS_MAX + 2u + 2u * RANKS_KEY_MAX)

static unsigned height_of(const struct ranks *ranks, struct slice key) {
    uint64_t hash = ranks->exec->hasher->hash64(key);
    unsigned zeros = hash == 0 ? 64 : (unsigned)__builtin_ctzll(hash);
    unsigned height = zeros / FANOUT_BITS;
    return height < RANKS_LEVELS_MAX ? height : RANKS_LEVELS_MAX;
}

static void copy_key(struct ranks_key *to, struct slice key) {
    sk_assert(key.size <= RANKS_KEY_MAX);
    to->size = key.size;
    if (key.size > 0) memcpy(to->bytes, key.data, key.size);
}

static struct slice first_of(const struct ranks *ranks) { return ranks_key_slice(&ranks->first); }
static struct slice last_of(const struct ranks *ranks) { return ranks_key_slice(&ranks->last); }

/* ---- records ---- */

/* Level 0: the keys themselves. */
static uint8_t part_of(const struct ranks *ranks, unsigned level) {
    return (uint8_t)(level == 0 ? ranks->part : ranks->part + 1 + level);
}

static struct slice record_key(const struct ranks *ranks, unsigned level, struct slice key,
                               uint8_t room[KV_KEY_BYTES_MAX]) {
    (void)element_prefix(ranks->id, part_of(ranks, level), room);
    if (key.size > 0) memcpy(room + ELEMENT_PREFIX_BYTES, key.data, key.size);
    return slice_of(room, ELEMENT_PREFIX_BYTES + key.size);
}

static int put_boundary(struct ranks *ranks, unsigned level, struct slice key, uint64_t count) {
    uint8_t room[KV_KEY_BYTES_MAX], value[COUNT_BYTES];
    put_u64(value, count);
    return kv_put(ranks->exec->kv, record_key(ranks, level, key, room), slice_of(value, sizeof value));
}

static int read_count(struct slice value, uint64_t *count) {
    if (value.size != COUNT_BYTES) return SK_ECORRUPT;
    *count = get_u64(value.data);
    return SK_OK;
}

static int get_boundary(struct ranks *ranks, unsigned level, struct slice key, uint64_t *count) {
    uint8_t room[KV_KEY_BYTES_MAX];
    struct slice value;
    int err = kv_get(ranks->exec->kv, record_key(ranks, level, key, room), &value);
    if (err == SK_NOT_FOUND) return SK_ECORRUPT;
    return err == SK_OK ? read_count(value, count) : err;
}

static int delete_record(struct ranks *ranks, unsigned level, struct slice key) {
    uint8_t room[KV_KEY_BYTES_MAX];
    return kv_del(ranks->exec->kv, record_key(ranks, level, key, room));
}

/* ---- the root ---- */

/* Takes the next `size` bytes off the front. */
static bool take(struct slice *rest, size_t size, const uint8_t **at) {
    if (rest->size < size) return false;
    *at = rest->data;
    *rest = slice_of(rest->data + size, rest->size - size);
    return true;
}

static int read_root(struct ranks *ranks, struct slice value) {
    const uint8_t *at;
    if (!take(&value, 1, &at) || at[0] > RANKS_LEVELS_MAX) return SK_ECORRUPT;
    ranks->levels = at[0];
    for (unsigned level = 1; level <= ranks->levels; level++) {
        if (!take(&value, COUNT_BYTES, &at)) return SK_ECORRUPT;
        ranks->ahead[level] = get_u64(at);
    }
    if (!take(&value, 2, &at)) return SK_ECORRUPT;
    size_t first_size = (size_t)at[0] << 8 | at[1];
    if (first_size == 0 || first_size > RANKS_KEY_MAX || !take(&value, first_size, &at)) return SK_ECORRUPT;
    copy_key(&ranks->first, slice_of(at, first_size));
    if (value.size == 0 || value.size > RANKS_KEY_MAX) return SK_ECORRUPT;
    copy_key(&ranks->last, value);
    return SK_OK;
}

static struct slice root_key(const struct ranks *ranks, uint8_t room[ELEMENT_PREFIX_BYTES]) {
    return element_prefix(ranks->id, (uint8_t)(ranks->part + 1), room);
}

int ranks_open(struct exec *exec, uint64_t id, uint8_t part, uint64_t count, struct ranks *ranks) {
    ranks->exec = exec;
    ranks->id = id;
    ranks->part = part;
    ranks->count = count;
    ranks->first.size = ranks->last.size = 0;
    ranks->levels = 0;
    ranks->changed = false;
    ranks->stored = count > 0;
    if (count == 0) return SK_OK;
    uint8_t room[ELEMENT_PREFIX_BYTES];
    struct slice value;
    int err = kv_get(exec->kv, root_key(ranks, room), &value);
    if (err == SK_NOT_FOUND) return SK_ECORRUPT;
    return err == SK_OK ? read_root(ranks, value) : err;
}

static int store_root(struct ranks *ranks) {
    uint8_t room[ELEMENT_PREFIX_BYTES], value[ROOT_VALUE_MAX];
    uint8_t *at = value;
    *at++ = ranks->levels;
    for (unsigned level = 1; level <= ranks->levels; level++, at += COUNT_BYTES) {
        put_u64(at, ranks->ahead[level]);
    }
    *at++ = (uint8_t)(ranks->first.size >> 8);
    *at++ = (uint8_t)ranks->first.size;
    memcpy(at, ranks->first.bytes, ranks->first.size);
    at += ranks->first.size;
    memcpy(at, ranks->last.bytes, ranks->last.size);
    at += ranks->last.size;
    return kv_put(ranks->exec->kv, root_key(ranks, room), slice_of(value, (size_t)(at - value)));
}

int ranks_save(struct ranks *ranks) {
    if (!ranks->changed) return SK_OK;
    ranks->changed = false;
    if (ranks->count > 0) {
        ranks->stored = true;
        return store_root(ranks);
    }
    if (!ranks->stored) return SK_OK;
    ranks->stored = false;
    uint8_t room[ELEMENT_PREFIX_BYTES];
    return kv_del(ranks->exec->kv, root_key(ranks, room));
}

/* ---- walking a level ---- */

/* Walks the records of a level from `from` on that are before `to`, or also at it. What lies before the first key and behind
 * the last one is left out. */
static int open_level(struct ranks *ranks, unsigned level, struct slice from, struct slice to, bool with_to,
                      bool down, struct ranks_walk *walk) {
    walk->iter = NULL;
    if (slice_compare(from, first_of(ranks)) < 0) from = first_of(ranks);
    if (slice_compare(to, last_of(ranks)) > 0) {
        to = last_of(ranks);
        with_to = true;
    }
    uint8_t low_room[KV_KEY_BYTES_MAX], high_room[KV_KEY_BYTES_MAX];
    int order = slice_compare(from, to);
    if (with_to ? order > 0 : order >= 0) return SK_OK;
    struct slice low = record_key(ranks, level, from, low_room);
    struct slice high = record_key(ranks, level, to, high_room);
    if (with_to) high_room[high.size++] = 0;
    struct slice bound = down ? low : high;
    memcpy(walk->bound, bound.data, bound.size);
    struct kv *kv = ranks->exec->kv;
    int err = down ? kv_iter_open_below(kv, high, &walk->iter) : kv_iter_open(kv, low, &walk->iter);
    if (err == SK_OK) kv_iter_end_at(walk->iter, slice_of(walk->bound, bound.size));
    return err;
}

static int next_record(struct ranks_walk *walk, struct slice *key, struct slice *value) {
    if (walk->iter == NULL) return SK_NOT_FOUND;
    int err = kv_iter_next(walk->iter, key, value);
    if (err != SK_OK) return err;
    *key = slice_of(key->data + ELEMENT_PREFIX_BYTES, key->size - ELEMENT_PREFIX_BYTES);
    return key->size <= RANKS_KEY_MAX ? SK_OK : SK_ECORRUPT;
}

int ranks_walk_next(struct ranks_walk *walk, struct slice *key) {
    struct slice value;
    return next_record(walk, key, &value);
}

/* Of a level above 0. */
static int next_boundary(struct ranks_walk *walk, struct slice *key, uint64_t *count) {
    struct slice value;
    int err = next_record(walk, key, &value);
    return err == SK_OK ? read_count(value, count) : err;
}

void ranks_walk_close(struct ranks_walk *walk) {
    kv_iter_close(walk->iter);
    walk->iter = NULL;
}

/* The one key that a walk gives first. SK_NOT_FOUND: none. */
static int take_first(struct ranks *ranks, bool down, struct ranks_key *found) {
    struct ranks_walk walk;
    struct slice key;
    int err = open_level(ranks, 0, first_of(ranks), last_of(ranks), true, down, &walk);
    if (err == SK_OK) err = ranks_walk_next(&walk, &key);
    if (err == SK_OK) copy_key(found, key);
    ranks_walk_close(&walk);
    return err;
}

/* ---- boundaries ---- */

/* Where the keys that a count is of begin: at a boundary, or at the first key of all. */
struct stretch {
    bool ahead; /* the keys before the first boundary; then the root has the count */
    struct ranks_key key;
    uint64_t count;
};

static struct slice start_of(const struct ranks *ranks, const struct stretch *stretch) {
    return stretch->ahead ? first_of(ranks) : ranks_key_slice(&stretch->key);
}

/* The stretch of a level that has the key just before `key`. */
static int find_stretch(struct ranks *ranks, unsigned level, struct slice key, struct stretch *stretch) {
    struct ranks_walk walk;
    struct slice found;
    int err = open_level(ranks, level, first_of(ranks), key, false, true, &walk);
    if (err == SK_OK) err = next_boundary(&walk, &found, &stretch->count);
    stretch->ahead = err == SK_NOT_FOUND;
    if (err == SK_OK) copy_key(&stretch->key, found);
    ranks_walk_close(&walk);
    if (!stretch->ahead) return err;
    stretch->count = ranks->ahead[level];
    return SK_OK;
}

static int set_stretch(struct ranks *ranks, unsigned level, const struct stretch *stretch, uint64_t count) {
    if (!stretch->ahead) return put_boundary(ranks, level, ranks_key_slice(&stretch->key), count);
    ranks->ahead[level] = count;
    ranks->changed = true;
    return SK_OK;
}

/* How many keys there are from the start of a stretch up to `to`, where a stretch of `level` ends as well. */
static int measure(struct ranks *ranks, unsigned level, const struct stretch *from, struct slice to,
                   uint64_t *sum) {
    struct ranks_walk walk;
    struct slice key, value;
    *sum = level > 0 && from->ahead ? ranks->ahead[level] : 0;
    int err = open_level(ranks, level, start_of(ranks, from), to, false, false, &walk);
    while (err == SK_OK && (err = next_record(&walk, &key, &value)) == SK_OK) {
        uint64_t count = 1;
        if (level > 0) err = read_count(value, &count);
        *sum += count;
    }
    ranks_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* ---- changing ---- */

/* The levels are done from the lowest up: at a boundary of this one the level below has one already. */
static int add_to_level(struct ranks *ranks, unsigned level, struct slice key, bool is_boundary) {
    struct stretch stretch;
    int err = find_stretch(ranks, level, key, &stretch);
    if (err != SK_OK) return err;
    if (!is_boundary) return set_stretch(ranks, level, &stretch, stretch.count + 1);
    uint64_t before;
    err = measure(ranks, level - 1, &stretch, key, &before);
    if (err == SK_OK) err = set_stretch(ranks, level, &stretch, before);
    return err == SK_OK ? put_boundary(ranks, level, key, stretch.count - before + 1) : err;
}

/* The first boundary of a level that was not in use. */
static int begin_level(struct ranks *ranks, unsigned level, struct slice key, uint64_t before) {
    ranks->ahead[level] = before;
    ranks->levels = (uint8_t)level;
    ranks->changed = true;
    return put_boundary(ranks, level, key, ranks->count - before + 1);
}

static void widen(struct ranks *ranks, struct slice key) {
    bool is_first = ranks->count == 0 || slice_compare(key, first_of(ranks)) < 0;
    bool is_last = ranks->count == 0 || slice_compare(key, last_of(ranks)) > 0;
    if (is_first) copy_key(&ranks->first, key);
    if (is_last) copy_key(&ranks->last, key);
    ranks->changed = ranks->changed || is_first || is_last;
}

int ranks_add(struct ranks *ranks, struct slice key) {
    sk_assert(ranks->id != 0 && key.size > 0 && key.size <= RANKS_KEY_MAX);
    unsigned height = height_of(ranks, key), used = ranks->levels;
    uint64_t before = 0;
    int err = height > used ? ranks_before(ranks, key, &before) : SK_OK;
    for (unsigned level = 1; err == SK_OK && level <= used; level++) {
        err = add_to_level(ranks, level, key, level <= height);
    }
    for (unsigned level = used + 1; err == SK_OK && level <= height; level++) {
        err = begin_level(ranks, level, key, before);
    }
    uint8_t room[KV_KEY_BYTES_MAX];
    if (err == SK_OK) err = kv_put(ranks->exec->kv, record_key(ranks, 0, key, room), slice_of("", 0));
    if (err != SK_OK) return err;
    widen(ranks, key);
    ranks->count++;
    return SK_OK;
}

static int remove_from_level(struct ranks *ranks, unsigned level, struct slice key, bool is_boundary) {
    struct stretch stretch;
    uint64_t own = 0;
    int err = is_boundary ? get_boundary(ranks, level, key, &own) : SK_OK;
    if (err == SK_OK) err = find_stretch(ranks, level, key, &stretch);
    if (err == SK_OK && stretch.count + own == 0) err = SK_ECORRUPT;
    if (err == SK_OK) err = set_stretch(ranks, level, &stretch, stretch.count + own - 1);
    return err == SK_OK && is_boundary ? delete_record(ranks, level, key) : err;
}

/* After `key` was removed. */
static int narrow(struct ranks *ranks, struct slice key) {
    bool was_first = slice_equal(key, first_of(ranks)), was_last = slice_equal(key, last_of(ranks));
    int err = SK_OK;
    ranks->changed = ranks->changed || was_first || was_last;
    if (ranks->count == 0) {
        ranks->first.size = ranks->last.size = 0;
    } else if (was_first) {
        err = take_first(ranks, false, &ranks->first);
    } else if (was_last) {
        err = take_first(ranks, true, &ranks->last);
    }
    while (ranks->levels > 0 && ranks->ahead[ranks->levels] == ranks->count) {
        ranks->levels--;
        ranks->changed = true;
    }
    return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
}

int ranks_remove(struct ranks *ranks, struct slice key) {
    unsigned height = height_of(ranks, key);
    if (ranks->count == 0 || height > ranks->levels) return SK_ECORRUPT;
    int err = SK_OK;
    for (unsigned level = 1; err == SK_OK && level <= ranks->levels; level++) {
        err = remove_from_level(ranks, level, key, level <= height);
    }
    if (err == SK_OK) err = delete_record(ranks, 0, key);
    if (err != SK_OK) return err;
    ranks->count--;
    return narrow(ranks, key);
}

/* ---- ranks ---- */

/* The last boundary of a level that is before `key`, found from a stretch of the level above. The keys that are left behind on
 * the way are added to `passed`. */
static int descend_to(struct ranks *ranks, unsigned level, struct slice key, struct stretch *stretch,
                      uint64_t *passed) {
    struct ranks_walk walk;
    struct slice found;
    uint64_t count, here = stretch->ahead ? ranks->ahead[level] : 0;
    int err = open_level(ranks, level, start_of(ranks, stretch), key, false, false, &walk);
    while (err == SK_OK && (err = next_boundary(&walk, &found, &count)) == SK_OK) {
        *passed += here;
        here = count;
        stretch->ahead = false;
        copy_key(&stretch->key, found);
    }
    ranks_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

int ranks_before(struct ranks *ranks, struct slice key, uint64_t *count) {
    *count = 0;
    if (ranks->count == 0 || slice_compare(key, first_of(ranks)) <= 0) return SK_OK;
    if (slice_compare(key, last_of(ranks)) > 0) {
        *count = ranks->count;
        return SK_OK;
    }
    struct stretch stretch = {.ahead = true};
    int err = SK_OK;
    for (unsigned level = ranks->levels; err == SK_OK && level > 0; level--) {
        err = descend_to(ranks, level, key, &stretch, count);
    }
    uint64_t rest = 0;
    if (err == SK_OK) err = measure(ranks, 0, &stretch, key, &rest);
    *count += rest;
    return err;
}

/* The stretch of a level that has the key of rank *left, counted from a stretch of the level above; *left is then counted from
 * its start. */
static int descend_by(struct ranks *ranks, unsigned level, struct stretch *stretch, uint64_t *left) {
    if (stretch->ahead && *left < ranks->ahead[level]) return SK_OK;
    if (stretch->ahead) *left -= ranks->ahead[level];
    struct ranks_walk walk;
    struct slice found;
    uint64_t count;
    int err = open_level(ranks, level, start_of(ranks, stretch), last_of(ranks), true, false, &walk);
    while (err == SK_OK && (err = next_boundary(&walk, &found, &count)) == SK_OK && *left >= count) *left -= count;
    if (err == SK_OK) copy_key(&stretch->key, found);
    stretch->ahead = false;
    ranks_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
}

int ranks_select(struct ranks *ranks, uint64_t rank, struct ranks_key *key) {
    sk_assert(rank < ranks->count);
    struct stretch stretch = {.ahead = true};
    uint64_t left = rank;
    int err = SK_OK;
    for (unsigned level = ranks->levels; err == SK_OK && level > 0; level--) {
        err = descend_by(ranks, level, &stretch, &left);
    }
    if (err != SK_OK) return err;
    struct ranks_walk walk;
    struct slice found;
    err = open_level(ranks, 0, start_of(ranks, &stretch), last_of(ranks), true, false, &walk);
    for (uint64_t i = 0; err == SK_OK && i <= left; i++) err = ranks_walk_next(&walk, &found);
    if (err == SK_OK) copy_key(key, found);
    ranks_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_ECORRUPT : err;
}

/* ---- walking ---- */

/* Begins behind the first `skip` keys of the range, which are found by their ranks. SK_NOT_FOUND: there are no more. */
static int open_behind(struct ranks *ranks, const struct ranks_range *range, bool down, uint64_t skip,
                       struct ranks_walk *walk) {
    uint64_t before;
    struct ranks_key start;
    int err = ranks_before(ranks, down ? range->below : range->from, &before);
    if (err != SK_OK) return err;
    if (down ? skip >= before : skip >= ranks->count - before) return SK_NOT_FOUND;
    err = ranks_select(ranks, down ? before - 1 - skip : before + skip, &start);
    if (err != SK_OK) return err;
    if (down) return open_level(ranks, 0, range->from, ranks_key_slice(&start), true, true, walk);
    return open_level(ranks, 0, ranks_key_slice(&start), range->below, false, false, walk);
}

int ranks_walk_open(struct ranks *ranks, const struct ranks_range *range, bool down, uint64_t skip,
                    struct ranks_walk *walk) {
    walk->iter = NULL;
    if (ranks->count == 0 || slice_compare(range->from, range->below) >= 0) return SK_OK;
    int err;
    if (skip > STEPPED_OVER_MAX) {
        err = open_behind(ranks, range, down, skip, walk);
    } else {
        struct slice key;
        err = open_level(ranks, 0, range->from, range->below, false, down, walk);
        while (err == SK_OK && skip-- > 0) err = ranks_walk_next(walk, &key);
    }
    if (err != SK_OK) ranks_walk_close(walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}
