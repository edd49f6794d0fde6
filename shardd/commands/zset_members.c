#include "shardd/commands/zset_members.h"

#include "libcommon/error.h"

#include <stdlib.h>

void zset_members_init(struct zset_members *members) {
    *members = (struct zset_members){0};
    buffer_init(&members->names);
    buffer_init(&members->items);
}

void zset_members_deinit(struct zset_members *members) {
    buffer_deinit(&members->names);
    buffer_deinit(&members->items);
}

/* ---- gathering ---- */

void zset_members_add(struct zset_members *members, struct slice name, double score, uint32_t mark) {
    struct zset_member item = {
        .name = {.size = name.size}, .score = score, .mark = mark, .at = members->names.size};
    buffer_append(&members->names, name.data, name.size);
    buffer_append(&members->items, &item, sizeof item);
    members->count++;
    members->failed = members->names.failed || members->items.failed;
}

int zset_members_settle(struct zset_members *members, struct zset_member **items) {
    if (members->failed) return SK_ENOMEM;
    *items = (struct zset_member *)(void *)members->items.data; /* malloc's: aligned for anything */
    for (uint32_t i = 0; i < members->count; i++) {
        struct zset_member *item = &(*items)[i];
        item->name.data = item->name.size == 0 ? (const uint8_t *)"" : members->names.data + item->at;
    }
    return SK_OK;
}

int zset_members_limit(struct call *call, const struct zset_members *members) {
    if (members->names.size <= RESULT_BYTES_MAX) return SK_OK;
    return call_refuse(call, SK_TOOLARGE, "more than %u bytes of members at once", RESULT_BYTES_MAX);
}

int zset_members_gather(struct call *call, struct zset *zset, const struct zset_range *range, bool down,
                        uint64_t skip, uint64_t limit, struct zset_members *members) {
    struct zset_walk walk;
    struct slice name;
    double score;
    int err = zset_walk_open(call, zset, range, down, skip, &walk);
    while (err == SK_OK && members->count < limit && (err = zset_walk_next(&walk, &name, &score)) == SK_OK) {
        zset_members_add(members, name, score, 0);
        err = zset_members_limit(call, members);
    }
    zset_walk_close(&walk);
    return err == SK_NOT_FOUND ? SK_OK : err;
}

int zset_member_by_score(const void *a, const void *b) {
    const struct zset_member *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return slice_compare(x->name, y->name);
}

int zset_member_by_mark(const void *a, const void *b) {
    const struct zset_member *x = a, *y = b;
    return (x->mark > y->mark) - (x->mark < y->mark);
}

int zset_member_by_name(const void *a, const void *b) {
    int order = slice_compare(((const struct zset_member *)a)->name, ((const struct zset_member *)b)->name);
    return order != 0 ? order : zset_member_by_mark(a, b);
}

int zset_check_count(struct call *call, uint64_t count) {
    if (count <= ELEMENTS_CHANGED_MAX) return SK_OK;
    return call_refuse(call, SK_TOOLARGE, "more than %u members to change at once", ELEMENTS_CHANGED_MAX);
}

/* ---- answering ---- */

void zset_answer_member(struct call *call, struct slice name, double score, bool with_score) {
    if (with_score) mp_write_array(call->answer, 2);
    mp_write_bin(call->answer, name);
    if (with_score) mp_write_float(call->answer, score);
}

int zset_members_answer(struct call *call, const struct zset_member *items, uint32_t count, bool with_scores) {
    mp_write_array(call->answer, count);
    int err = SK_OK;
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        zset_answer_member(call, items[i].name, items[i].score, with_scores);
        err = call_limit_answer(call);
    }
    return err;
}

/* ---- changing ---- */

/* From the greatest down: each then has what is left just below it, and not below all that was removed before. */
int zset_members_remove(struct call *call, struct zset *zset, const struct zset_member *items, uint32_t count,
                        bool down) {
    if (count == zset->collection.count) {
        return count == 0 ? SK_OK : keyspace_remove(call->exec, &zset->collection.object);
    }
    int err = SK_OK;
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        struct element element;
        double score;
        err = zset_find_member(call, &zset->collection, items[down ? i : count - 1 - i].name, &element, &score);
        if (err == SK_OK) err = element.found ? zset_remove(call, zset, &element) : SK_ECORRUPT;
    }
    return err == SK_OK ? zset_save(call, zset) : err;
}

static int store(struct call *call, struct slice key, const struct zset_member *items, uint32_t count) {
    struct zset zset;
    int err = zset_replace(call, key, &zset);
    if (err == SK_OK && count > 0) zset_begin(call, &zset);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        struct element element;
        double score;
        err = zset_find_member(call, &zset.collection, items[i].name, &element, &score);
        if (err == SK_OK) err = zset_put(call, &zset, &element, items[i].score);
    }
    return err == SK_OK ? zset_save(call, &zset) : err;
}

/* Only long keys and names can be refused midway: those that collide with too many others. */
static bool may_be_refused(struct slice key, const struct zset_member *items, uint32_t count) {
    bool has_long = key.size > KEYSPACE_KEY_INLINE_MAX;
    for (uint32_t i = 0; i < count; i++) has_long = has_long || items[i].name.size > ELEMENT_NAME_INLINE_MAX;
    return has_long;
}

int zset_members_store(struct call *call, struct slice key, const struct zset_member *items, uint32_t count) {
    struct call_attempt attempt;
    int err = zset_check_count(call, count);
    if (err == SK_OK) err = call_attempt_begin(call, may_be_refused(key, items, count), &attempt);
    if (err != SK_OK) return err;
    err = call_attempt_end(call, &attempt, store(call, key, items, count));
    return err == SK_OK ? call_answer_int(call, count) : err;
}
