/* Sets: members, each a named element without a value. Semantics, order of checks and texts are Redis 7's. What works on
 * several sets is in set_algebra.c. */
#include "shardd/collection.h"
#include "shardd/commands/call.h"
#include "shardd/commands/members.h"
#include "shardd/commands/scan_page.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

static int find_set(struct call *call, struct collection *set) {
    return collection_find(call, call->args[0], OBJECT_SET, set);
}

static int find_set_for_write(struct call *call, struct collection *set) {
    return collection_find_for_write(call, call->args[0], OBJECT_SET, set);
}

/* Not found where there is no set. */
static int find_member(struct call *call, const struct collection *set, struct slice name,
                       struct element *member) {
    *member = (struct element){.name = name};
    return set->count > 0 ? element_find(call->exec, set->id, name, member) : SK_OK;
}

/* ---- adding and removing ---- */

static int add_member(struct call *call, struct collection *set, struct slice name, int64_t *added) {
    struct element member;
    collection_begin(call, set);
    int err = element_find(call->exec, set->id, name, &member);
    if (err != SK_OK || member.found) return err;
    (*added)++;
    return collection_put(call, set, &member, slice_of("", 0));
}

static int remove_member(struct call *call, struct collection *set, struct slice name, int64_t *removed) {
    struct element member;
    int err = find_member(call, set, name, &member);
    if (err != SK_OK || !member.found) return err;
    (*removed)++;
    return collection_remove(call, set, &member);
}

static int add_members(struct call *call) {
    struct collection set;
    int64_t added = 0;
    int err = find_set_for_write(call, &set);
    for (size_t i = 1; i < call->count && err == SK_OK; i++) err = add_member(call, &set, call->args[i], &added);
    if (err == SK_OK && added > 0) err = collection_save(call, &set);
    return err == SK_OK ? call_answer_int(call, added) : err;
}

int execute_sadd(struct call *call) { return collection_change(call, 1, 1, add_members); }

int execute_srem(struct call *call) {
    struct collection set;
    int64_t removed = 0;
    int err = find_set_for_write(call, &set);
    for (size_t i = 1; i < call->count && err == SK_OK; i++)
        err = remove_member(call, &set, call->args[i], &removed);
    if (err == SK_OK && removed > 0) err = collection_save(call, &set);
    return err == SK_OK ? call_answer_int(call, removed) : err;
}

/* The member is in the one set, and goes into the other. */
static int move_between(struct call *call, struct collection *from, struct collection *to) {
    int64_t removed = 0, added = 0;
    int err = add_member(call, to, call->args[2], &added);
    if (err == SK_OK && added > 0) err = collection_save(call, to);
    if (err == SK_OK) err = remove_member(call, from, call->args[2], &removed);
    return err == SK_OK ? collection_save(call, from) : err;
}

static int move_member(struct call *call) {
    struct collection from, to;
    struct element member;
    int err = find_set_for_write(call, &from);
    if (err != SK_OK) return err;
    if (!from.object.found) return call_answer_int(call, 0); /* whatever the other key holds */
    err = collection_find_for_write(call, call->args[1], OBJECT_SET, &to);
    if (err == SK_OK) err = find_member(call, &from, call->args[2], &member);
    if (err != SK_OK) return err;
    call_answer_int(call, member.found);
    bool same = slice_equal(call->args[0], call->args[1]);
    return member.found && !same ? move_between(call, &from, &to) : SK_OK;
}

/* A long key of the second set may be refused as a long member may. */
int execute_smove(struct call *call) { return collection_change(call, 1, 1, move_member); }

/* ---- asking ---- */

int execute_scard(struct call *call) {
    struct collection set;
    int err = find_set(call, &set);
    return err == SK_OK ? call_answer_int(call, (int64_t)set.count) : err;
}

int execute_sismember(struct call *call) {
    struct collection set;
    struct element member;
    int err = find_set(call, &set);
    if (err == SK_OK) err = find_member(call, &set, call->args[1], &member);
    return err == SK_OK ? call_answer_int(call, member.found) : err;
}

int execute_smismember(struct call *call) {
    struct collection set;
    int err = find_set(call, &set);
    if (err != SK_OK) return err;
    mp_write_array(call->answer, (uint32_t)call->count - 1);
    for (size_t i = 1; i < call->count; i++) {
        struct element member;
        err = find_member(call, &set, call->args[i], &member);
        if (err != SK_OK) return err;
        call_answer_int(call, member.found);
    }
    return SK_OK;
}

int execute_smembers(struct call *call) {
    struct collection set;
    int err = find_set(call, &set);
    if (err != SK_OK) return err;
    mp_write_array(call->answer, (uint32_t)set.count);
    return members_walk(call, &set, members_add_name);
}

/* ---- by chance, and in pages ---- */

int execute_srandmember(struct call *call) {
    if (call->count > 2) return call_refuse_syntax(call);
    int64_t count = 0;
    bool one = call->count == 1;
    struct collection set;
    int err = one ? SK_OK : members_read_count(call, call->args[1], &count);
    if (err == SK_OK) err = find_set(call, &set);
    if (err != SK_OK) return err;
    if (!one) return members_draw(call, &set, count, members_add_name);
    return set.count > 0 ? members_draw_one(call, &set, members_add_name) : call_answer_nil(call);
}

/* Removes the members that were answered: `count` bins from `start` on. */
static int remove_answered(struct call *call, struct collection *set, size_t start, uint64_t count) {
    struct mp_reader reader = mp_reader_of(slice_of(call->answer->data + start, call->answer->size - start));
    int64_t removed = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct slice name;
        int err = mp_read_bytes(&reader, &name);
        sk_assert(err == SK_OK);
        err = remove_member(call, set, name, &removed);
        if (err != SK_OK) return err;
    }
    if ((uint64_t)removed != count) return SK_ECORRUPT; /* the head has told of more than there are */
    return collection_save(call, set);
}

static int pop_one(struct call *call) {
    struct collection set;
    int err = find_set_for_write(call, &set);
    if (err != SK_OK) return err;
    if (set.count == 0) return call_answer_nil(call);
    size_t start = call->answer->size;
    err = members_draw_one(call, &set, members_add_name);
    if (err == SK_OK && call->answer->failed) err = SK_ENOMEM;
    return err == SK_OK ? remove_answered(call, &set, start, 1) : err;
}

static int pop_some(struct call *call, int64_t count) {
    struct collection set;
    int err = find_set_for_write(call, &set);
    if (err != SK_OK) return err;
    size_t start = call->answer->size;
    err = members_draw(call, &set, count, members_add_name);
    if (err != SK_OK || count == 0 || set.count == 0) return err;
    if (call->answer->failed) return SK_ENOMEM;
    if ((uint64_t)count >= set.count) return keyspace_remove(call->exec, &set.object);
    struct mp_reader reader = mp_reader_of(slice_of(call->answer->data + start, call->answer->size - start));
    uint32_t told;
    err = mp_read_array(&reader, &told);
    sk_assert(err == SK_OK);
    return remove_answered(call, &set, (size_t)(reader.at - call->answer->data), told);
}

int execute_spop(struct call *call) {
    if (call->count > 2) return call_refuse_syntax(call);
    if (call->count == 1) return pop_one(call);
    int64_t count;
    if (!args_parse_int(call->args[1], &count) || count < 0) {
        return call_refuse(call, SK_BADREQUEST, "value is out of range, must be positive");
    }
    return pop_some(call, count);
}

static uint32_t add_to_page(struct buffer *items, struct slice name, struct slice value) {
    (void)value;
    mp_write_bin(items, name);
    return 1;
}

int execute_sscan(struct call *call) { return scan_elements(call, OBJECT_SET, add_to_page); }
