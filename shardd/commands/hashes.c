/* Hashes: fields and their values, each a named element of its own. Semantics, order of checks and texts are Redis 7's. */
#include "shardd/collection.h"
#include "shardd/commands/call.h"
#include "shardd/commands/members.h"
#include "shardd/commands/scan_page.h"

#include "libcommon/error.h"

#include <math.h>

static int find_hash(struct call *call, struct collection *hash) {
    return collection_find(call, call->args[0], OBJECT_HASH, hash);
}

static int find_hash_for_write(struct call *call, struct collection *hash) {
    return collection_find_for_write(call, call->args[0], OBJECT_HASH, hash);
}

/* The field that is the second argument, of the hash that is the first; not found where there is no hash. */
static int find_field(struct call *call, struct element *field) {
    struct collection hash;
    *field = (struct element){0};
    int err = find_hash(call, &hash);
    return err == SK_OK && hash.count > 0 ? element_find(call->exec, hash.id, call->args[1], field) : err;
}

/* ---- setting ---- */

static int put_field(struct call *call, struct collection *hash, struct slice name, struct slice value,
                     int64_t *added) {
    struct element field;
    collection_begin(call, hash);
    int err = element_find(call->exec, hash->id, name, &field);
    if (err != SK_OK) return err;
    *added += !field.found;
    return collection_put(call, hash, &field, value);
}

static int set_fields(struct call *call) {
    struct collection hash;
    int64_t added = 0;
    int err = find_hash_for_write(call, &hash);
    for (size_t i = 1; i < call->count && err == SK_OK; i += 2) {
        err = put_field(call, &hash, call->args[i], call->args[i + 1], &added);
    }
    if (err == SK_OK) err = collection_save(call, &hash);
    if (err != SK_OK) return err;
    return call->command->id == COMMAND_ID_HMSET ? call_answer_ok(call) : call_answer_int(call, added);
}

int execute_hset(struct call *call) {
    if (call->count % 2 == 0) {
        char name[CALL_NAME_SHOWN_MAX];
        return call_refuse(call, SK_BADREQUEST, "wrong number of arguments for '%s' command",
                           call_name_shown(slice_of_text(call->command->name), name));
    }
    return collection_change(call, 1, 2, set_fields);
}

static int set_new_field(struct call *call) {
    struct collection hash;
    struct element field = {0};
    int64_t added = 0;
    int err = find_hash_for_write(call, &hash);
    if (err == SK_OK && hash.count > 0) err = element_find(call->exec, hash.id, call->args[1], &field);
    if (err == SK_OK && !field.found) {
        err = put_field(call, &hash, call->args[1], call->args[2], &added);
        if (err == SK_OK) err = collection_save(call, &hash);
    }
    return err == SK_OK ? call_answer_int(call, added) : err;
}

int execute_hsetnx(struct call *call) { return collection_change(call, 1, 2, set_new_field); }

/* ---- numbers ---- */

/* Finds hash and field for HINCRBY and its like. */
static int find_number(struct call *call, struct collection *hash, struct element *field) {
    int err = find_hash_for_write(call, hash);
    if (err != SK_OK) return err;
    collection_begin(call, hash);
    return element_find(call->exec, hash->id, call->args[1], field);
}

static int store_number(struct call *call, struct collection *hash, struct element *field, struct slice text) {
    int err = collection_put(call, hash, field, text);
    return err == SK_OK ? collection_save(call, hash) : err;
}

static int add_int(struct call *call) {
    int64_t amount, number = 0;
    struct collection hash;
    struct element field;
    if (!args_parse_int(call->args[2], &amount)) return call_refuse_not_int(call);
    int err = find_number(call, &hash, &field);
    if (err != SK_OK) return err;
    if (field.found && !args_parse_int(field.value, &number)) {
        return call_refuse(call, SK_BADVALUE, "hash value is not an integer");
    }
    if (__builtin_add_overflow(number, amount, &number)) {
        return call_refuse(call, SK_BADVALUE, "increment or decrement would overflow");
    }
    char text[ARGS_INT_TEXT_MAX];
    call_answer_int(call, number);
    return store_number(call, &hash, &field, slice_of(text, args_print_int(number, text)));
}

int execute_hincrby(struct call *call) { return collection_change(call, 1, 2, add_int); }

/* long double as in Redis; see INCRBYFLOAT. */
static int add_real(struct call *call) {
    long double amount, number = 0;
    struct collection hash;
    struct element field;
    if (!args_parse_real(call->args[2], &amount)) {
        return call_refuse(call, SK_BADREQUEST, "value is not a valid float");
    }
    if (!isfinite(amount)) return call_refuse(call, SK_BADREQUEST, "value is NaN or Infinity");
    int err = find_number(call, &hash, &field);
    if (err != SK_OK) return err;
    if (field.found && !args_parse_real(field.value, &number)) {
        return call_refuse(call, SK_BADVALUE, "hash value is not a float");
    }
    number += amount;
    if (!isfinite(number)) {
        return call_refuse(call, SK_BADVALUE, "increment would produce NaN or Infinity");
    }
    char room[ARGS_REAL_TEXT_MAX];
    struct slice text = slice_of(room, args_print_real(number, room));
    call_answer_bin(call, text);
    return store_number(call, &hash, &field, text);
}

int execute_hincrbyfloat(struct call *call) { return collection_change(call, 1, 2, add_real); }

/* ---- removing ---- */

int execute_hdel(struct call *call) {
    struct collection hash;
    int64_t removed = 0;
    int err = find_hash_for_write(call, &hash);
    for (size_t i = 1; i < call->count && err == SK_OK && hash.count > 0; i++) {
        struct element field;
        err = element_find(call->exec, hash.id, call->args[i], &field);
        if (err != SK_OK || !field.found) continue;
        err = collection_remove(call, &hash, &field);
        removed++;
    }
    if (err == SK_OK && removed > 0) err = collection_save(call, &hash);
    return err == SK_OK ? call_answer_int(call, removed) : err;
}

/* ---- getting ---- */

int execute_hget(struct call *call) {
    struct element field;
    int err = find_field(call, &field);
    if (err != SK_OK) return err;
    return field.found ? call_answer_bin(call, field.value) : call_answer_nil(call);
}

int execute_hexists(struct call *call) {
    struct element field;
    int err = find_field(call, &field);
    return err == SK_OK ? call_answer_int(call, field.found) : err;
}

int execute_hstrlen(struct call *call) {
    struct element field;
    int err = find_field(call, &field);
    return err == SK_OK ? call_answer_int(call, field.found ? (int64_t)field.value.size : 0) : err;
}

int execute_hmget(struct call *call) {
    struct collection hash;
    int err = find_hash(call, &hash);
    if (err != SK_OK) return err;
    mp_write_array(call->answer, (uint32_t)call->count - 1);
    for (size_t i = 1; i < call->count && err == SK_OK; i++) {
        struct element field = {0};
        if (hash.count > 0) err = element_find(call->exec, hash.id, call->args[i], &field);
        if (err != SK_OK) break;
        (void)(field.found ? call_answer_bin(call, field.value) : call_answer_nil(call));
        err = call_limit_answer(call);
    }
    return err;
}

int execute_hlen(struct call *call) {
    struct collection hash;
    int err = find_hash(call, &hash);
    return err == SK_OK ? call_answer_int(call, (int64_t)hash.count) : err;
}

int execute_hgetall(struct call *call) {
    struct collection hash;
    int err = find_hash(call, &hash);
    if (err != SK_OK) return err;
    mp_write_map(call->answer, (uint32_t)hash.count);
    return members_walk(call, &hash, members_add_both);
}

static int answer_all(struct call *call, members_cb *add) {
    struct collection hash;
    int err = find_hash(call, &hash);
    if (err != SK_OK) return err;
    mp_write_array(call->answer, (uint32_t)hash.count);
    return members_walk(call, &hash, add);
}

int execute_hkeys(struct call *call) { return answer_all(call, members_add_name); }

int execute_hvals(struct call *call) { return answer_all(call, members_add_value); }

/* ---- by chance, and in pages ---- */

static int draw_one_field(struct call *call) {
    struct collection hash;
    int err = find_hash(call, &hash);
    if (err != SK_OK) return err;
    return hash.count > 0 ? members_draw_one(call, &hash, members_add_name) : call_answer_nil(call);
}

int execute_hrandfield(struct call *call) {
    if (call->count == 1) return draw_one_field(call);
    bool with_values = call->count > 2;
    int64_t count;
    int err = members_read_count(call, call->args[1], &count);
    if (err != SK_OK) return err;
    if (call->count > 3 || (with_values && !args_is_word(call->args[2], "WITHVALUES"))) {
        return call_refuse_syntax(call);
    }
    if (with_values && (count > INT64_MAX / 2 || count < -(INT64_MAX / 2))) {
        return call_refuse(call, SK_BADREQUEST, "value is out of range");
    }
    struct collection hash;
    err = find_hash(call, &hash);
    if (err != SK_OK) return err;
    return members_draw(call, &hash, count, with_values ? members_add_pair : members_add_name);
}

static uint32_t add_to_page(struct buffer *items, struct slice name, struct slice value) {
    mp_write_bin(items, name);
    mp_write_bin(items, value);
    return 2;
}

int execute_hscan(struct call *call) { return scan_elements(call, OBJECT_HASH, add_to_page); }
