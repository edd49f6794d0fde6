/* Sets of sets: SINTER, SUNION, SDIFF, what stores their results, and SINTERCARD. Semantics, order of checks and texts are
 * Redis 7's.
 *
 * The result is gathered before anything is changed. What one command looks at and what it stores is limited, since the other
 * shards of its lane wait for it: a fraction of a second, which has to be less than a lease. */
#include "shardd/collection.h"
#include "shardd/commands/call.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <stdlib.h>

#define WORK_MAX         1000000u /* members walked over, looked up, and compared */
#define STORED_MAX       250000u
#define DISTINCT_AT_ONCE 1024u

enum operation { INTERSECTION, UNION, DIFFERENCE };

struct source {
    uint64_t id;
    size_t position; /* among the arguments */
    uint64_t count;  /* 0: there is no such set */
};

/* The names in the result, by hash, so that a union has none twice. Open addressing, at most half full. */
struct distinct {
    uint64_t *slots; /* owned; hash (32 bits) and where the name stands in the result + 1; 0 = free */
    size_t size;     /* a power of two; 0 at first */
};

struct algebra {
    struct call call; /* first: the body that stores has this */
    enum operation operation;
    struct source *sources; /* owned */
    size_t source_count;
    uint64_t limit; /* of members in the result */
    bool counts;    /* the members themselves are not wanted */

    struct buffer members; /* as MessagePack, one behind the other */
    uint64_t count;
    bool has_long; /* of more than ELEMENT_NAME_INLINE_MAX bytes */
    struct distinct distinct;
    uint64_t work;
};

static void algebra_init(struct algebra *algebra, const struct call *call, enum operation operation) {
    *algebra = (struct algebra){.call = *call, .operation = operation, .limit = UINT64_MAX};
    buffer_init(&algebra->members);
}

static void algebra_deinit(struct algebra *algebra) {
    free(algebra->sources);
    free(algebra->distinct.slots);
    buffer_deinit(&algebra->members);
}

static int refuse_too_large(struct algebra *algebra) {
    return call_refuse(&algebra->call, SK_TOOLARGE, "the sets are too large for one command");
}

/* All are looked at before the first is worked on: each may be of another type. */
static int find_sources(struct algebra *algebra, const struct slice *keys, size_t count) {
    algebra->sources = calloc(count, sizeof *algebra->sources);
    if (algebra->sources == NULL) return SK_ENOMEM;
    algebra->source_count = count;
    for (size_t i = 0; i < count; i++) {
        struct collection set;
        int err = collection_find(&algebra->call, keys[i], OBJECT_SET, &set);
        if (err != SK_OK) return err;
        algebra->sources[i] = (struct source){.id = set.id, .position = i, .count = set.count};
    }
    return SK_OK;
}

/* ---- what is in the result already ---- */

static struct slice name_at(const struct algebra *algebra, size_t offset) {
    const struct buffer *members = &algebra->members;
    struct mp_reader reader = mp_reader_of(slice_of(members->data + offset, members->size - offset));
    struct slice name;
    int err = mp_read_bytes(&reader, &name);
    sk_assert(err == SK_OK);
    return name;
}

static size_t slot_of(const struct distinct *distinct, uint64_t hash) {
    return (size_t)(hash >> 32) & (distinct->size - 1);
}

static int distinct_grow(struct distinct *distinct) {
    struct distinct larger = {.size = distinct->size == 0 ? DISTINCT_AT_ONCE : 2 * distinct->size};
    larger.slots = calloc(larger.size, sizeof *larger.slots);
    if (larger.slots == NULL) return SK_ENOMEM;
    for (size_t i = 0; i < distinct->size; i++) {
        if (distinct->slots[i] == 0) continue;
        size_t at = slot_of(&larger, distinct->slots[i]);
        while (larger.slots[at] != 0) at = (at + 1) & (larger.size - 1);
        larger.slots[at] = distinct->slots[i];
    }
    free(distinct->slots);
    *distinct = larger;
    return SK_OK;
}

/* SK_NOT_FOUND: it is noted as what will be appended to the result next. */
static int find_in_result(struct algebra *algebra, struct slice name) {
    struct distinct *distinct = &algebra->distinct;
    if (2 * (algebra->count + 1) > distinct->size) {
        int err = distinct_grow(distinct);
        if (err != SK_OK) return err;
    }
    uint64_t hash = algebra->call.exec->hasher->hash64(name) & ~(uint64_t)UINT32_MAX;
    size_t at = slot_of(distinct, hash);
    for (; distinct->slots[at] != 0; at = (at + 1) & (distinct->size - 1)) {
        uint64_t slot = distinct->slots[at];
        algebra->work++;
        if ((slot ^ hash) >> 32 == 0 && slice_equal(name_at(algebra, (uint32_t)slot - 1), name)) return SK_OK;
    }
    distinct->slots[at] = hash | (algebra->members.size + 1);
    return SK_NOT_FOUND;
}

/* ---- gathering ---- */

/* SK_OK: the name is in the set. */
static int look_up(struct algebra *algebra, const struct source *source, struct slice name) {
    struct element element;
    algebra->work++;
    if (source->count == 0) return SK_NOT_FOUND;
    int err = element_find(algebra->call.exec, source->id, name, &element);
    return err == SK_OK && !element.found ? SK_NOT_FOUND : err;
}

/* Whether a name of the first set is in all of the others (an intersection), or in none (a difference). SK_OK or
 * SK_NOT_FOUND. */
static int compare_with_others(struct algebra *algebra, struct slice name) {
    bool all = algebra->operation == INTERSECTION;
    for (size_t i = 1; i < algebra->source_count; i++) {
        int err = look_up(algebra, &algebra->sources[i], name);
        if (err < 0) return err;
        if ((err == SK_OK) != all) return SK_NOT_FOUND;
    }
    return SK_OK;
}

static int belongs(struct algebra *algebra, struct slice name) {
    if (algebra->operation != UNION) return compare_with_others(algebra, name);
    int err = find_in_result(algebra, name);
    return err == SK_OK ? SK_NOT_FOUND : err == SK_NOT_FOUND ? SK_OK : err;
}

static int take(struct algebra *algebra, struct slice name) {
    int err = belongs(algebra, name);
    if (err != SK_OK) return err == SK_NOT_FOUND ? SK_OK : err;
    algebra->count++;
    if (algebra->counts) return SK_OK;
    algebra->has_long = algebra->has_long || name.size > ELEMENT_NAME_INLINE_MAX;
    mp_write_bin(&algebra->members, name);
    if (algebra->members.failed) return SK_ENOMEM;
    if (algebra->members.size <= RESULT_BYTES_MAX) return SK_OK;
    return call_refuse(&algebra->call, SK_TOOLARGE, "the answer would be too large");
}

static int walk(struct algebra *algebra, const struct source *source) {
    if (source->count == 0) return SK_OK;
    struct element_walk walk;
    int err = element_walk_open(algebra->call.exec, source->id, 0, &walk);
    if (err != SK_OK) return err;
    uint64_t position;
    struct slice name, value;
    while (err == SK_OK && algebra->count < algebra->limit) {
        err = element_walk_next(&walk, &position, &name, &value);
        if (err == SK_OK) err = ++algebra->work > WORK_MAX ? refuse_too_large(algebra) : take(algebra, name);
    }
    element_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

/* Those of one size in the order of the arguments, and not as qsort happens to leave them: the work that is done, and so what is
 * refused, depends on it. */
static int by_count(const void *a, const void *b) {
    const struct source *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? -1 : 1;
    return (x->position > y->position) - (x->position < y->position);
}

static int gather(struct algebra *algebra) {
    struct source *sources = algebra->sources;
    size_t count = algebra->source_count;
    /* From the smallest on: it is walked over, and the next one has not much either. */
    if (algebra->operation == INTERSECTION) qsort(sources, count, sizeof *sources, by_count);
    if (algebra->operation != UNION) return walk(algebra, &sources[0]);
    int err = SK_OK;
    for (size_t i = 0; i < count && err == SK_OK; i++) err = walk(algebra, &sources[i]);
    return err;
}

static int answer(struct algebra *algebra) {
    mp_write_array(algebra->call.answer, (uint32_t)algebra->count);
    mp_write_raw(algebra->call.answer, buffer_slice(&algebra->members));
    return SK_OK;
}

static int read_only(struct call *call, enum operation operation) {
    struct algebra algebra;
    algebra_init(&algebra, call, operation);
    int err = find_sources(&algebra, call->args, call->count);
    if (err == SK_OK) err = gather(&algebra);
    if (err == SK_OK) err = answer(&algebra);
    algebra_deinit(&algebra);
    return err;
}

int execute_sinter(struct call *call) { return read_only(call, INTERSECTION); }

int execute_sunion(struct call *call) { return read_only(call, UNION); }

int execute_sdiff(struct call *call) { return read_only(call, DIFFERENCE); }

/* ---- storing ---- */

static int store_member(struct call *call, struct collection *target, struct slice name) {
    struct element member;
    int err = element_find(call->exec, target->id, name, &member);
    return err == SK_OK ? collection_put(call, target, &member, slice_of("", 0)) : err;
}

static int store(struct call *call) {
    const struct algebra *algebra = (const struct algebra *)call;
    struct collection target;
    int err = collection_replace(call, call->args[0], OBJECT_SET, &target);
    if (err != SK_OK) return err;
    if (algebra->count > 0) collection_begin(call, &target);
    struct mp_reader reader = mp_reader_of(buffer_slice(&algebra->members));
    for (uint64_t i = 0; i < algebra->count && err == SK_OK; i++) {
        struct slice name;
        int read = mp_read_bytes(&reader, &name);
        sk_assert(read == SK_OK);
        err = store_member(call, &target, name);
    }
    if (err == SK_OK) err = collection_save(call, &target);
    return err == SK_OK ? call_answer_int(call, (int64_t)algebra->count) : err;
}

/* A long key, of the set or of a member, may be refused once others are stored. */
static int store_all_or_nothing(struct algebra *algebra) {
    struct call *call = &algebra->call;
    if (algebra->count > STORED_MAX) return refuse_too_large(algebra);
    bool may_be_refused_midway = algebra->has_long || call->args[0].size > KEYSPACE_KEY_INLINE_MAX;
    return may_be_refused_midway && !call->in_batch ? call_all_or_nothing(call, store) : store(call);
}

static int to_first_key(struct call *call, enum operation operation) {
    struct algebra algebra;
    algebra_init(&algebra, call, operation);
    int err = find_sources(&algebra, call->args + 1, call->count - 1);
    if (err == SK_OK) err = gather(&algebra);
    if (err == SK_OK) err = store_all_or_nothing(&algebra);
    algebra_deinit(&algebra);
    return err;
}

int execute_sinterstore(struct call *call) { return to_first_key(call, INTERSECTION); }

int execute_sunionstore(struct call *call) { return to_first_key(call, UNION); }

int execute_sdiffstore(struct call *call) { return to_first_key(call, DIFFERENCE); }

/* ---- counting ---- */

static int read_limit(struct call *call, size_t at, uint64_t *limit) {
    *limit = UINT64_MAX;
    for (; at < call->count; at += 2) {
        int64_t number;
        if (!args_is_word(call->args[at], "LIMIT") || at + 1 == call->count) return call_refuse_syntax(call);
        if (!args_parse_int(call->args[at + 1], &number) || number < 0) {
            return call_refuse(call, SK_BADREQUEST, "LIMIT can't be negative");
        }
        *limit = number == 0 ? UINT64_MAX : (uint64_t)number;
    }
    return SK_OK;
}

int execute_sintercard(struct call *call) {
    int64_t numkeys;
    uint64_t limit;
    if (!args_parse_int(call->args[0], &numkeys) || numkeys <= 0) {
        return call_refuse(call, SK_BADREQUEST, "numkeys should be greater than 0");
    }
    if ((uint64_t)numkeys > call->count - 1) {
        return call_refuse(call, SK_BADREQUEST, "Number of keys can't be greater than number of args");
    }
    int err = read_limit(call, 1 + (size_t)numkeys, &limit);
    if (err != SK_OK) return err;
    struct algebra algebra;
    algebra_init(&algebra, call, INTERSECTION);
    algebra.counts = true;
    algebra.limit = limit;
    err = find_sources(&algebra, call->args + 1, (size_t)numkeys);
    if (err == SK_OK) err = gather(&algebra);
    if (err == SK_OK) call_answer_int(call, (int64_t)algebra.count);
    algebra_deinit(&algebra);
    return err;
}
