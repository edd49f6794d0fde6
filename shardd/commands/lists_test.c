#include "shardd/exec_fixture.h"
#include "shardd/list.h"

#define WRONGTYPE       "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_INT         "-BADREQUEST value is not an integer or out of range"
#define SYNTAX          "-BADREQUEST syntax error"
#define POSITIVE        "-BADREQUEST value is out of range, must be positive"
#define LONG_NAME_BYTES 500

/* The head agrees with the records: there is one for each sequence from low to high, and bytes are theirs. */
static void audit_list(struct fixture *fixture, const char *key) {
    struct call call = {.exec = &fixture->exec, .now_us = fixture->now_us};
    struct list list;
    assert_int_equal(list_find(&call, slice_of_text(key), &list), SK_OK);
    uint64_t id = list.collection.id;
    assert_int_equal(fixture_elements(fixture, id), list.high - list.low);
    assert_true(list.low <= list.first && list.first + list.collection.count <= list.high);
    uint8_t room[ELEMENT_PREFIX_BYTES];
    struct kv_iter *iter;
    struct slice at, value;
    uint64_t bytes = 0, next = list.low;
    assert_int_equal(kv_iter_open(fixture->kv, element_prefix(id, 0, room), &iter), SK_OK);
    while (kv_iter_next(iter, &at, &value) == SK_OK && element_key_is_in(at, id, 0)) {
        assert_int_equal(get_u64(at.data + ELEMENT_PREFIX_BYTES), next++);
        bytes += value.size;
    }
    kv_iter_close(iter);
    assert_int_equal(bytes, list.collection.bytes);
    fixture_audit(fixture);
}

/* Records that are no elements of the list any more. */
static uint64_t dropped(struct fixture *fixture, const char *key) {
    struct call call = {.exec = &fixture->exec, .now_us = fixture->now_us};
    struct list list;
    assert_int_equal(list_find(&call, slice_of_text(key), &list), SK_OK);
    return list.high - list.low - list.collection.count;
}

static void pushes_and_pops(void **state) {
    (void)state;
    FIXTURE_TABLE({"RPUSH l a b c", "3"}, {"LPUSH l 1 2", "5"},
                  {"LRANGE l 0 -1", "[\"2\" \"1\" \"a\" \"b\" \"c\"]"}, {"LLEN l", "5"}, {"TYPE l", "+list"},
                  {"LPOP l", "\"2\""}, {"RPOP l", "\"c\""}, {"LPOP l 0", "[]"}, {"LPOP l 2", "[\"1\" \"a\"]"},
                  {"RPOP l 10", "[\"b\"]"}, {"EXISTS l", "0"}, {"DBSIZE", "0"}, {"RPUSH l a b c", "3"},
                  {"RPOP l 2", "[\"c\" \"b\"]"}, {"RPUSH l \"\"", "2"}, {"RPOP l", "\"\""}, {"DEL l", "1"},
                  {"LLEN l", "0"});
    FIXTURE_TABLE({"LPOP n", "nil"}, {"LPOP n 0", "nil"}, {"LPOP n 3", "nil"}, {"LPOP n -1", POSITIVE},
                  {"RPOP n x", POSITIVE}, {"LPOP n 9223372036854775808", POSITIVE},
                  {"LPOP n 1 2", "-BADREQUEST wrong number of arguments for 'lpop' command"},
                  {"RPOP n 1 2", "-BADREQUEST wrong number of arguments for 'rpop' command"},
                  {"LPUSHX n a b", "0"}, {"RPUSHX n a", "0"}, {"EXISTS n", "0"}, {"LPUSH n a", "1"},
                  {"LPUSHX n b c", "3"}, {"RPUSHX n d", "4"}, {"LRANGE n 0 -1", "[\"c\" \"b\" \"a\" \"d\"]"});
    FIXTURE_TABLE({"RPUSH l 1", "1"}, {"EXPIRE l 100", "1"}, {"RPUSH l 2", "2"}, {"TTL l", "100"},
                  {"LMOVE l l LEFT RIGHT", "\"1\""}, {"TTL l", "100"}, {"LPOP l 2", "[\"2\" \"1\"]"},
                  {"RPUSH l 1", "1"}, {"TTL l", "-1"}, {"PEXPIRE l 5", "1"}, {"@5", ""}, {"LPUSHX l a", "0"},
                  {"RPUSH l b", "1"}, {"LRANGE l 0 -1", "[\"b\"]"}, {"SET l v", "+OK"}, {"GET l", "\"v\""});
}

static void other_types_are_refused(void **state) {
    (void)state;
    static const char *const refused[] = {
        "LPUSH {a}s a",
        "RPUSH {a}s a",
        "LPUSHX {a}s a",
        "RPUSHX {a}s a",
        "LPOP {a}s",
        "LPOP {a}s 0",
        "RPOP {a}s 1",
        "LLEN {a}s",
        "LRANGE {a}s 0 1",
        "LINDEX {a}s x",
        "LSET {a}s x y",
        "LINSERT {a}s before a b",
        "LREM {a}s 0 y",
        "LTRIM {a}s 0 1",
        "LPOS {a}s c",
        "LMOVE {a}s {a}l LEFT LEFT",
        "LMOVE {a}l {a}s LEFT LEFT",
        "RPOPLPUSH {a}s {a}l",
        "RPOPLPUSH {a}l {a}s",
        "LMPOP 2 {a}s {a}l LEFT",
        "LMPOP 2 {a}n {a}s LEFT",
    };
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SET {a}s v", "+OK");
    fixture_expect(&fixture, "RPUSH {a}l a", "1");
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        fixture_expect(&fixture, refused[i], WRONGTYPE);
    fixture_expect(&fixture, "GET {a}l", WRONGTYPE);
    fixture_expect(&fixture, "RPOPLPUSH {a}n {a}s", "nil");
    fixture_expect(&fixture, "LRANGE {a}l 0 -1", "[\"a\"]");
    audit_list(&fixture, "{a}l");
    fixture_deinit(&fixture);
}

static void ranges_and_indexes(void **state) {
    (void)state;
    FIXTURE_TABLE({"RPUSH l a b c d e", "5"}, {"LRANGE l -100 100", "[\"a\" \"b\" \"c\" \"d\" \"e\"]"},
                  {"LRANGE l 3 1", "[]"}, {"LRANGE l 5 10", "[]"}, {"LRANGE l -3 -2", "[\"c\" \"d\"]"},
                  {"LRANGE l -9223372036854775808 9223372036854775807", "[\"a\" \"b\" \"c\" \"d\" \"e\"]"},
                  {"LRANGE l 1 1", "[\"b\"]"}, {"LRANGE l -2 -100", "[]"}, {"LRANGE n 0 1", "[]"},
                  {"LRANGE n a 1", NOT_INT}, {"LRANGE l 0 b", NOT_INT}, {"LINDEX l 0", "\"a\""},
                  {"LINDEX l 4", "\"e\""}, {"LINDEX l -5", "\"a\""}, {"LINDEX l -1", "\"e\""},
                  {"LINDEX l 5", "nil"}, {"LINDEX l -6", "nil"}, {"LINDEX l 9223372036854775807", "nil"},
                  {"LINDEX l -9223372036854775808", "nil"}, {"LINDEX n x", "nil"}, {"LINDEX l x", NOT_INT});
    FIXTURE_TABLE({"RPUSH l a b c", "3"}, {"LSET l 0 A", "+OK"}, {"LSET l -1 longer", "+OK"},
                  {"LRANGE l 0 -1", "[\"A\" \"b\" \"longer\"]"}, {"LSET l 3 x", "-BADVALUE index out of range"},
                  {"LSET l -4 x", "-BADVALUE index out of range"}, {"LSET l x y", NOT_INT},
                  {"LSET n x y", "-BADVALUE no such key"});
}

static void searches(void **state) {
    (void)state;
    FIXTURE_TABLE({"RPUSH l a b c 1 2 3 c c", "8"}, {"LPOS l c", "2"}, {"LPOS l c RANK 2", "6"},
                  {"LPOS l c rank -1", "7"}, {"LPOS l c COUNT 0", "[2 6 7]"}, {"LPOS l c COUNT 2", "[2 6]"},
                  {"LPOS l c MAXLEN 2", "nil"}, {"LPOS l c MAXLEN 3", "2"}, {"LPOS l c MAXLEN 0", "2"},
                  {"LPOS l x COUNT 1", "[]"}, {"LPOS n c", "nil"}, {"LPOS n c COUNT 1", "[]"},
                  {"LPOS l c RANK -1 COUNT 2", "[7 6]"}, {"LPOS l c RANK -2 COUNT 2 MAXLEN 3", "[6]"},
                  {"LPOS l c RANK 1 RANK 2", "6"}, {"LPOS l c RANK 4", "nil"},
                  {"LPOS l c RANK -9223372036854775808", "7"}, {"LPOS l c RANK 9223372036854775807", "nil"},
                  {"LPOS l c COUNT 0 RANK 4", "[]"}, {"LPOS l c RANK x", NOT_INT}, {"LPOS l c FOO 1", SYNTAX},
                  {"LPOS l c COUNT", SYNTAX}, {"LPOS l c COUNT -1", "-BADREQUEST COUNT can't be negative"},
                  {"LPOS l c COUNT x", "-BADREQUEST COUNT can't be negative"},
                  {"LPOS l c MAXLEN -1", "-BADREQUEST MAXLEN can't be negative"},
                  {"LPOS n c RANK 0",
                   "-BADREQUEST RANK can't be zero: use 1 to start from the first match, 2 from the second "
                   "... or use negative to start from the end of the list"});
}

static void changes_in_the_middle(void **state) {
    (void)state;
    FIXTURE_TABLE({"RPUSH l A b c d z", "5"}, {"LINSERT l before c X", "6"}, {"LINSERT l AFTER c Y", "7"},
                  {"LINSERT l before nopiv Y", "-1"}, {"LINSERT l after z E", "8"}, {"LINSERT l BEFORE A H", "9"},
                  {"LRANGE l 0 -1", "[\"H\" \"A\" \"b\" \"X\" \"c\" \"Y\" \"d\" \"z\" \"E\"]"},
                  {"LINSERT l foo a b", SYNTAX}, {"LINSERT n before a b", "0"}, {"LREM l 0 X", "1"},
                  {"LREM l -1 Y", "1"}, {"LREM l 1 H", "1"}, {"LREM l -1 E", "1"}, {"LREM l 0 nothing", "0"},
                  {"LRANGE l 0 -1", "[\"A\" \"b\" \"c\" \"d\" \"z\"]"}, {"LREM n x y", NOT_INT},
                  {"LREM n 0 y", "0"}, {"LREM l 1 A", "1"}, {"LREM l 1 z", "1"}, {"LREM l 1 c", "1"},
                  {"LREM l 1 d", "1"}, {"LREM l 1 b", "1"}, {"EXISTS l", "0"});
    FIXTURE_TABLE({"RPUSH l x a x b x c x d x", "9"}, {"LREM l 2 x", "2"},
                  {"LRANGE l 0 -1", "[\"a\" \"b\" \"x\" \"c\" \"x\" \"d\" \"x\"]"}, {"LREM l -2 x", "2"},
                  {"LRANGE l 0 -1", "[\"a\" \"b\" \"x\" \"c\" \"d\"]"}, {"LREM l 0 x", "1"}, {"LPUSH l x x", "6"},
                  {"LREM l -9223372036854775808 x", "2"}, {"LRANGE l 0 -1", "[\"a\" \"b\" \"c\" \"d\"]"});
    FIXTURE_TABLE({"RPUSH l a b c d e", "5"}, {"LTRIM l 1 -2", "+OK"}, {"LRANGE l 0 -1", "[\"b\" \"c\" \"d\"]"},
                  {"LTRIM l -100 100", "+OK"}, {"LLEN l", "3"}, {"LTRIM l x 1", NOT_INT}, {"LTRIM n 0 1", "+OK"},
                  {"EXISTS n", "0"}, {"LTRIM l 2 2", "+OK"}, {"LRANGE l 0 -1", "[\"d\"]"}, {"LTRIM l 1 0", "+OK"},
                  {"EXISTS l", "0"}, {"RPUSH l a", "1"}, {"LTRIM l 5 10", "+OK"}, {"EXISTS l", "0"});
}

static void moves_between_lists(void **state) {
    (void)state;
    FIXTURE_TABLE({"RPUSH {a}l a b c", "3"}, {"LMOVE {a}l {a}m RIGHT LEFT", "\"c\""},
                  {"LMOVE {a}l {a}m left right", "\"a\""}, {"LRANGE {a}m 0 -1", "[\"c\" \"a\"]"},
                  {"RPOPLPUSH {a}l {a}m", "\"b\""}, {"EXISTS {a}l", "0"},
                  {"LRANGE {a}m 0 -1", "[\"b\" \"c\" \"a\"]"}, {"RPOPLPUSH {a}m {a}m", "\"a\""},
                  {"LRANGE {a}m 0 -1", "[\"a\" \"b\" \"c\"]"}, {"LMOVE {a}m {a}m LEFT LEFT", "\"a\""},
                  {"LMOVE {a}m {a}m LEFT RIGHT", "\"a\""}, {"LRANGE {a}m 0 -1", "[\"b\" \"c\" \"a\"]"},
                  {"LMOVE {a}l {a}m LEFT RIGHT", "nil"}, {"LMOVE {a}l {a}m foo RIGHT", SYNTAX},
                  {"LMOVE {a}l {a}m LEFT foo", SYNTAX},
                  {"LMOVE a b LEFT LEFT", "-CROSSSLOT Keys in request don't hash to the same slot"},
                  {"RPUSH {a}l one", "1"}, {"LMOVE {a}l {a}l LEFT LEFT", "\"one\""},
                  {"LMOVE {a}l {a}l RIGHT LEFT", "\"one\""}, {"LRANGE {a}l 0 -1", "[\"one\"]"});
}

static void pops_from_the_first_of_several(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"RPUSH l a b c", "3"}, {"LMPOP 1 l LEFT", "[\"l\" [\"a\"]]"},
        {"LMPOP 1 l RIGHT COUNT 5", "[\"l\" [\"c\" \"b\"]]"}, {"EXISTS l", "0"}, {"LMPOP 1 l LEFT", "nil"},
        {"RPUSH {a}2 x y", "2"}, {"LMPOP 2 {a}1 {a}2 left count 1", "[\"{a}2\" [\"x\"]]"},
        {"LMPOP 2 {a}1 {a}2 COUNT", SYNTAX}, {"LMPOP 0 l LEFT", "-BADREQUEST numkeys should be greater than 0"},
        {"LMPOP x l LEFT", "-BADREQUEST numkeys should be greater than 0"},
        {"LMPOP 9223372036854775808 l LEFT", "-BADREQUEST numkeys should be greater than 0"},
        {"LMPOP 999999999999 l LEFT", SYNTAX}, {"LMPOP 2 {LEFT}l LEFT", SYNTAX}, {"LMPOP 1 l FOO", SYNTAX},
        {"LMPOP 1 l LEFT COUNT", SYNTAX}, {"LMPOP 1 l LEFT FOO", SYNTAX}, {"LMPOP 1 l LEFT COUNT 1 COUNT", SYNTAX},
        {"LMPOP 1 l LEFT COUNT 0 COUNT", "-BADREQUEST count should be greater than 0"},
        {"LMPOP 1 l LEFT COUNT 0", "-BADREQUEST count should be greater than 0"},
        {"LMPOP 1 l LEFT COUNT x", "-BADREQUEST count should be greater than 0"},
        {"LMPOP 2 a b LEFT", "-CROSSSLOT Keys in request don't hash to the same slot"});
}

static void pops_or_waits(void **state) {
    (void)state;
    static const char no_number[] = "-BADREQUEST timeout is not a float or out of range";
    static const char negative[] = "-BADREQUEST timeout is negative";
    FIXTURE_TABLE({"RPUSH l a b c d", "4"}, {"BLPOP l 0", "[\"l\" \"a\"]"}, {"BRPOP l 1.5", "[\"l\" \"d\"]"},
                  {"BLMPOP 0 1 l LEFT", "[\"l\" [\"b\"]]"}, {"BLPOP n 0", "nil"}, {"BRPOP n 0", "nil"},
                  {"BLMPOP 0.1 1 n LEFT COUNT 2", "nil"}, {"BLPOP n x", no_number}, {"BRPOP n -1", negative},
                  {"BLMPOP x 1 n FOO", SYNTAX}, {"BLMPOP x 1 n LEFT", no_number},
                  {"BLMPOP 0 0 n LEFT", "-BADREQUEST numkeys should be greater than 0"}, {"SET s v", "+OK"},
                  {"BLPOP s x", no_number}, {"BLPOP s 0", WRONGTYPE}, {"BLMPOP 0 1 s LEFT", WRONGTYPE});
    FIXTURE_TABLE({"RPUSH {a}l a b c", "3"}, {"BLPOP {a}n {a}l 0", "[\"{a}l\" \"a\"]"},
                  {"BLMOVE {a}l {a}m LEFT RIGHT 0", "\"b\""}, {"BRPOPLPUSH {a}l {a}m 0", "\"c\""},
                  {"LRANGE {a}m 0 -1", "[\"c\" \"b\"]"}, {"BLMOVE {a}l {a}m LEFT RIGHT 0", "nil"},
                  {"BRPOPLPUSH {a}l {a}m 0", "nil"}, {"SET {a}s v", "+OK"},
                  {"BLMOVE {a}l {a}s LEFT LEFT 0", "nil"}, {"BLMOVE {a}m {a}s LEFT LEFT 0", WRONGTYPE},
                  {"BLMOVE {a}m {a}l foo LEFT x", SYNTAX}, {"BLMOVE {a}m {a}l LEFT LEFT x", no_number},
                  {"BLMOVE {a}s {a}l LEFT LEFT -1", negative}, {"BRPOPLPUSH {a}s {a}l -1", negative},
                  {"BRPOPLPUSH {a}s {a}l 0", WRONGTYPE});
}

static void expect_awaits(struct fixture *fixture, const char *line, int expected, size_t key_count) {
    struct exec_awaited awaited = {0};
    buffer_clear(&fixture->body, 65536);
    buffer_clear(&fixture->answer, 65536);
    fixture_encode(&fixture->body, line);
    struct slice body = buffer_slice(&fixture->body);
    assert_int_equal(exec_check(&fixture->exec, body, false, true, &fixture->answer), SK_OK);
    assert_int_equal(exec_awaits(&fixture->exec, body, fixture->now_us, &fixture->answer, &awaited), expected);
    assert_int_equal(awaited.key_count, key_count);
    if (expected != SK_RETRY) return;
    assert_int_equal(awaited.type, OBJECT_LIST);
    assert_true(slice_equal(awaited.keys[0], slice_of_text("{a}n")));
    struct exec_moment moment = {.time_us = fixture->now_us, .waits = true};
    assert_int_equal(exec_run(&fixture->exec, body, false, &moment, &fixture->answer), SK_RETRY);
}

/* It is asked without a change whether there is something to take. */
static void tells_what_it_waits_for(void **state) {
    (void)state;
    struct fixture fixture;
    uint64_t count;
    fixture_init(&fixture);
    expect_awaits(&fixture, "BLPOP {a}n {a}m 0", SK_RETRY, 2);
    expect_awaits(&fixture, "BLMPOP 0 2 {a}n {a}m LEFT", SK_RETRY, 2);
    expect_awaits(&fixture, "BLMOVE {a}n {a}l LEFT LEFT 0", SK_RETRY, 1);
    expect_awaits(&fixture, "BRPOPLPUSH {a}n {a}n 0", SK_RETRY, 1);
    expect_awaits(&fixture, "BLPOP {a}n x", SK_BADREQUEST, 1); /* refused */
    expect_awaits(&fixture, "BLMOVE {a}n {a}l LEFT FOO 0", SK_BADREQUEST, 1);
    expect_awaits(&fixture, "LPOP {a}n", SK_NOT_FOUND, 0);
    expect_awaits(&fixture, "BLMPOP 0 0 {a}n LEFT", SK_BADREQUEST, 0);
    fixture_expect(&fixture, "RPUSH {a}n a b", "2");
    fixture_expect(&fixture, "PEXPIRE {a}n 10", "1");
    expect_awaits(&fixture, "BLPOP {a}n {a}m 0", SK_OK, 2);
    expect_awaits(&fixture, "BLMPOP 0 2 {a}n {a}m LEFT", SK_OK, 2);
    expect_awaits(&fixture, "BLMOVE {a}n {a}l LEFT LEFT 0", SK_OK, 1);
    struct slice key = slice_of_text("{a}n");
    assert_int_equal(exec_count_elements(&fixture.exec, key, OBJECT_LIST, fixture.now_us, &count), SK_OK);
    assert_int_equal(count, 2);
    assert_int_equal(exec_count_elements(&fixture.exec, key, OBJECT_ZSET, fixture.now_us, &count), SK_OK);
    assert_int_equal(count, 0);
    audit_list(&fixture, "{a}n");
    fixture.now_us += 10000;
    expect_awaits(&fixture, "BLPOP {a}n {a}m 0", SK_RETRY, 2);
    assert_int_equal(exec_count_elements(&fixture.exec, key, OBJECT_LIST, fixture.now_us, &count), SK_OK);
    assert_int_equal(count, 0);
    fixture_deinit(&fixture);
}

struct stored {
    unsigned lists, others;
};

static void stored_cb(void *arg, struct slice key, uint8_t type) {
    struct stored *stored = arg;
    bool is_list = type == OBJECT_LIST && slice_equal(key, slice_of_text("{a}l"));
    *(is_list ? &stored->lists : &stored->others) += 1;
}

static void tells_what_is_stored(void **state) {
    (void)state;
    static const char *const batch[] = {"RPUSH {a}l x", "BLPOP {a}n 0", "INCR {a}s"};
    struct fixture fixture;
    struct stored stored = {0};
    fixture_init(&fixture);
    fixture.exec.stored_cb = stored_cb;
    fixture.exec.stored_arg = &stored;
    fixture_expect(&fixture, "SET {a}s v", "+OK");
    fixture_expect(&fixture, "RPUSH {a}l a b", "2");
    fixture_expect(&fixture, "LPOP {a}l", "\"a\"");
    fixture_expect(&fixture, "LPOP {a}l", "\"b\"");
    assert_int_equal(stored.lists, 2);
    (void)fixture_run_atomic(&fixture, batch, 3);
    assert_int_equal(fixture.err, SK_BADVALUE);
    assert_string_equal(fixture_run_atomic(&fixture, batch, 2),
                        "[[nil 1] [nil nil]]"); /* in a batch nothing waits */
    assert_int_equal(stored.lists, 4);
    assert_int_equal(stored.others, 0);
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* ---- against an array ---- */

#define MODEL_MAX 64

struct model {
    char elements[MODEL_MAX][8];
    int count;
};

static void model_insert(struct model *model, int at, const char *value) {
    memmove(model->elements + at + 1, model->elements + at,
            (size_t)(model->count - at) * sizeof model->elements[0]);
    (void)snprintf(model->elements[at], sizeof model->elements[at], "%s", value);
    model->count++;
}

static void model_remove(struct model *model, int at) {
    model->count--;
    memmove(model->elements + at, model->elements + at + 1,
            (size_t)(model->count - at) * sizeof model->elements[0]);
}

static int model_find(const struct model *model, const char *value) {
    for (int i = 0; i < model->count; i++) {
        if (strcmp(model->elements[i], value) == 0) return i;
    }
    return -1;
}

static int model_remove_equal(struct model *model, const char *value, int amount) {
    int removed = 0, limit = amount == 0 ? MODEL_MAX : abs(amount);
    for (int i = 0; i < model->count && removed < limit; i++) {
        int at = amount < 0 ? model->count - 1 - i : i;
        if (strcmp(model->elements[at], value) != 0) continue;
        model_remove(model, at);
        removed++;
        i--;
    }
    return removed;
}

static void expect_model(struct fixture *fixture, const struct model *model) {
    char told[MODEL_MAX * 12] = "[";
    for (int i = 0; i < model->count; i++) {
        size_t used = strlen(told);
        (void)snprintf(told + used, sizeof told - used, "%s\"%s\"", i > 0 ? " " : "", model->elements[i]);
    }
    assert_string_equal(fixture_run(fixture, "LRANGE l 0 -1"), strcat(told, "]"));
    audit_list(fixture, "l");
}

static void model_step(struct fixture *fixture, struct model *model, struct chance *chance) {
    char line[64], told[16], value[8], new[8];
    int at = model->count == 0 ? 0 : (int)chance_below(chance, (uint64_t)model->count);
    (void)snprintf(value, sizeof value, "%.*s", 1 + (int)chance_below(chance, 3),
                   (const char *[]){"aaa", "bbb", "ccc"}[chance_below(chance, 3)]);
    (void)snprintf(new, sizeof new, "%s", value);
    switch (chance_below(chance, model->count > MODEL_MAX - 4 ? 3 : 6)) {
    case 0: {
        int amount = (int)chance_below(chance, 7) - 3;
        (void)snprintf(line, sizeof line, "LREM l %d %s", amount, value);
        (void)snprintf(told, sizeof told, "%d", model_remove_equal(model, value, amount));
        break;
    }
    case 1: {
        int kept = at + (int)chance_below(chance, (uint64_t)(model->count - at + 1));
        (void)snprintf(line, sizeof line, "LTRIM l %d %d", at < 2 ? at : 1, kept);
        while (model->count > kept + 1) model_remove(model, model->count - 1);
        for (int i = 0; i < (at < 2 ? at : 1) && model->count > 0; i++) model_remove(model, 0);
        (void)snprintf(told, sizeof told, "+OK");
        break;
    }
    case 2:
        if (model->count == 0) return;
        (void)snprintf(line, sizeof line, "LSET l %d %s", at, new);
        (void)snprintf(told, sizeof told, "+OK");
        (void)snprintf(model->elements[at], sizeof model->elements[at], "%s", new);
        break;
    case 3: {
        int pivot = model_find(model, value);
        bool after = chance_below(chance, 2) == 1;
        (void)snprintf(line, sizeof line, "LINSERT l %s %s %s", after ? "AFTER" : "BEFORE", value, new);
        if (pivot >= 0) model_insert(model, pivot + after, new);
        (void)snprintf(told, sizeof told, "%d", pivot >= 0 ? model->count : model->count == 0 ? 0 : -1);
        break;
    }
    default: {
        bool left = chance_below(chance, 2) == 1;
        (void)snprintf(line, sizeof line, "%s l %s", left ? "LPUSH" : "RPUSH", new);
        model_insert(model, left ? 0 : model->count, new);
        (void)snprintf(told, sizeof told, "%d", model->count);
        break;
    }
    }
    fixture_expect(fixture, line, told);
}

static void agrees_with_an_array(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct chance chance = {.state = seed};
        struct model model = {0};
        struct fixture fixture;
        fixture_init(&fixture);
        for (int i = 0; i < 400; i++) {
            model_step(&fixture, &model, &chance);
            expect_model(&fixture, &model);
        }
        fixture_deinit(&fixture);
    }
}

/* ---- long lists ---- */

/* Pushes numbers, `each` at a time. */
static void push_numbers(struct fixture *fixture, const char *key, int from, int count, int each) {
    for (int pushed = 0; pushed < count; pushed += each) {
        buffer_clear(&fixture->body, 65536);
        mp_write_text(&fixture->body, "RPUSH");
        mp_write_array(&fixture->body, (uint32_t)each + 1);
        mp_write_bin(&fixture->body, slice_of_text(key));
        for (int i = 0; i < each; i++) mp_write_int(&fixture->body, from + pushed + i);
        (void)fixture_run_body(fixture, false, true);
        assert_int_equal(fixture->err, SK_OK);
    }
}

static void much_is_dropped_at_once_and_removed_later(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    push_numbers(&fixture, "l", 0, 100000, 10000);
    fixture_expect(&fixture, "LTRIM l 30000 50000", "+OK");
    fixture_expect(&fixture, "LLEN l", "20001");
    fixture_expect(&fixture, "LINDEX l 0", "\"30000\"");
    fixture_expect(&fixture, "LINDEX l -1", "\"50000\"");
    uint64_t left = dropped(&fixture, "l");
    assert_true(left > 70000 && left <= 79999 - LIST_REMOVED_AT_ONCE);
    audit_list(&fixture, "l");
    fixture_expect(&fixture, "LPUSH l over", "20002"); /* over one that was dropped */
    assert_true(dropped(&fixture, "l") <= left - LIST_REMOVED_AT_ONCE);
    fixture_expect(&fixture, "RPUSH l over", "20003");
    fixture_expect(&fixture, "LRANGE l 0 1", "[\"over\" \"30000\"]");
    fixture_expect(&fixture, "LRANGE l -2 -1", "[\"50000\" \"over\"]");
    fixture_expect(&fixture, "LINSERT l AFTER 30000 more", "20004");
    fixture_expect(&fixture, "LREM l -1 49999", "1");
    audit_list(&fixture, "l");
    for (int i = 0; i < 80 && dropped(&fixture, "l") > 0; i++) (void)fixture_run(&fixture, "LSET l 5 x");
    assert_int_equal(dropped(&fixture, "l"), 0);
    fixture_expect(&fixture, "LRANGE l 0 5", "[\"over\" \"30000\" \"more\" \"30001\" \"30002\" \"x\"]");
    audit_list(&fixture, "l");
    fixture_deinit(&fixture);
}

/* However much is pushed and trimmed, what is dropped does not grow. */
static void what_is_dropped_is_bounded(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    for (int i = 0; i < 40; i++) {
        push_numbers(&fixture, "l", 0, 5000, 5000);
        fixture_expect(&fixture, "LTRIM l -10 -1", "+OK");
        assert_true(dropped(&fixture, "l") <= 5000);
    }
    audit_list(&fixture, "l");
    fixture_deinit(&fixture);
}

static void a_long_list_goes_as_garbage(void **state) {
    (void)state;
    struct fixture fixture;
    uint32_t removed;
    fixture_init(&fixture);
    push_numbers(&fixture, "l", 0, 5000, 5000);
    fixture_expect(&fixture, "LTRIM l 1 0", "+OK");
    fixture_expect(&fixture, "EXISTS l", "0");
    assert_int_equal(fixture.exec.counters.garbage, 1);
    fixture_expect(&fixture, "RPUSH l new", "1");
    fixture_audit(&fixture);
    for (int i = 0; i < 100 && fixture.exec.counters.garbage > 0; i++) {
        assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us, 1000, &removed), SK_OK);
    }
    fixture_expect(&fixture, "LRANGE l 0 -1", "[\"new\"]");
    audit_list(&fixture, "l");
    fixture_deinit(&fixture);
}

/* Refused before anything has changed. */
static void what_would_take_long_is_refused(void **state) {
    (void)state;
    static const char searched[] = "-TOOLARGE more than 250000 elements of the list would have to be searched";
    static const char moved[] = "-TOOLARGE more than 50000 elements of the list would have to be moved";
    struct fixture fixture;
    fixture_init(&fixture);
    push_numbers(&fixture, "l", 0, 260000, 10000);
    fixture_expect(&fixture, "LPOS l 249999", "249999");
    fixture_expect(&fixture, "LPOS l 250000", searched);
    fixture_expect(&fixture, "LPOS l 250000 RANK -1", "250000");
    fixture_expect(&fixture, "LPOS l nothing MAXLEN 250000", "nil");
    fixture_expect(&fixture, "LREM l 0 5", searched);
    fixture_expect(&fixture, "LREM l 1 250000", searched);
    fixture_expect(&fixture, "LREM l -1 250000", "1");
    fixture_expect(&fixture, "LREM l 1 60000", moved);
    fixture_expect(&fixture, "LINSERT l BEFORE 60000 x", moved);
    fixture_expect(&fixture, "LINSERT l AFTER 250001 x", searched);
    fixture_expect(&fixture, "LLEN l", "259999");
    fixture_expect(&fixture, "LREM l 1 240000", "1"); /* by its tail's side, which is the shorter */
    fixture_expect(&fixture, "LINSERT l BEFORE 49000 x", "259999");
    fixture_expect(&fixture, "LRANGE l 48999 49001", "[\"48999\" \"x\" \"49000\"]");
    fixture_expect(&fixture, "LRANGE l 239999 240002", "[\"239998\" \"239999\" \"240001\" \"240002\"]");
    audit_list(&fixture, "l");
    fixture_deinit(&fixture);
}

static void large_answers_are_refused(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SETRANGE s 16777215 x", "16777216");
    buffer_clear(&fixture.body, 0);
    uint8_t *large = calloc(1, VALUE_BYTES_MAX);
    for (int i = 0; i < 4; i++) {
        buffer_clear(&fixture.body, 0);
        mp_write_text(&fixture.body, "RPUSH");
        mp_write_array(&fixture.body, 2);
        mp_write_text(&fixture.body, "l");
        mp_write_bin(&fixture.body, slice_of(large, VALUE_BYTES_MAX));
        (void)fixture_run_body(&fixture, false, true);
    }
    free(large);
    fixture_expect(&fixture, "LRANGE l 0 -1", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "LPOP l 4", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "LMPOP 1 l LEFT COUNT 4", "-TOOLARGE the answer would be too large");
    fixture_expect(&fixture, "LLEN l", "4");
    fixture_expect(&fixture, "LPOS l x COUNT 0",
                   "-TOOLARGE more than 250000 elements of the list would have to be searched");
    fixture_expect(&fixture, "LPOP l 3", "[\"(16777216 bytes)\" \"(16777216 bytes)\" \"(16777216 bytes)\"]");
    audit_list(&fixture, "l");
    fixture_deinit(&fixture);
}

/* A key whose record collides with too many is refused when its elements are stored already. */
static void same_hash128(struct slice key, uint8_t hash[16]) {
    (void)key;
    memset(hash, 7, 16);
}

static uint64_t same_hash64(struct slice key) {
    (void)key;
    return 7;
}

static void a_refused_key_leaves_nothing(void **state) {
    (void)state;
    static const struct keyspace_hasher colliding = {.hash64 = same_hash64, .hash128 = same_hash128};
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    char key[LONG_NAME_BYTES + 8], line[2 * sizeof key + 32];
    memset(key, 'k', LONG_NAME_BYTES);
    memcpy(key, "{a}", 3);
    for (unsigned i = 0; i < KEYSPACE_DISCRIMINATORS; i++) {
        (void)snprintf(key + LONG_NAME_BYTES, 8, "%u", i);
        (void)snprintf(line, sizeof line, "SET %s v", key);
        fixture_expect(&fixture, line, "+OK");
    }
    fixture_expect(&fixture, "RPUSH {a}l a b", "2");
    (void)snprintf(key + LONG_NAME_BYTES, 8, "last");
    (void)snprintf(line, sizeof line, "RPUSH %s a b", key);
    fixture_expect(&fixture, line, "-TOOLARGE too many keys with the hash of this one");
    (void)snprintf(line, sizeof line, "LMOVE {a}l %s LEFT LEFT", key);
    fixture_expect(&fixture, line, "-TOOLARGE too many keys with the hash of this one");
    fixture_expect(&fixture, "LRANGE {a}l 0 -1", "[\"a\" \"b\"]");
    audit_list(&fixture, "{a}l");
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pushes_and_pops),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(ranges_and_indexes),
        cmocka_unit_test(searches),
        cmocka_unit_test(changes_in_the_middle),
        cmocka_unit_test(moves_between_lists),
        cmocka_unit_test(pops_from_the_first_of_several),
        cmocka_unit_test(pops_or_waits),
        cmocka_unit_test(tells_what_it_waits_for),
        cmocka_unit_test(tells_what_is_stored),
        cmocka_unit_test(agrees_with_an_array),
        cmocka_unit_test(much_is_dropped_at_once_and_removed_later),
        cmocka_unit_test(what_is_dropped_is_bounded),
        cmocka_unit_test(a_long_list_goes_as_garbage),
        cmocka_unit_test(what_would_take_long_is_refused),
        cmocka_unit_test(large_answers_are_refused),
        cmocka_unit_test(a_refused_key_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
