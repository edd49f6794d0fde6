#include "shardd/exec_fixture.h"

/* The form of a body: bytes from outside */

static const char *run_bytes(struct fixture *fixture, struct slice body, bool atomic, bool writes) {
    buffer_clear(&fixture->body, 65536);
    buffer_append(&fixture->body, body.data, body.size);
    return fixture_run_body(fixture, atomic, writes);
}

static void malformed_bodies_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        bool atomic, writes;
        const char *told;
    } cases[] = {
        {"", 0, false, false, "-BADREQUEST the method is not a text"},
        {"\x01\x90", 2, false, false, "-BADREQUEST the method is not a text"},
        {"\xc4\x03GET\x91\xa1k", 8, false, false, "-BADREQUEST the method is not a text"},
        {"\xa3GE", 3, false, false, "-BADREQUEST the method is not a text"},
        {"\xa3GET", 4, false, false, "-BADREQUEST the arguments are not an array"},
        {"\xa3GET\xa1k", 6, false, false, "-BADREQUEST the arguments are not an array"},
        {"\xa3GET\x91", 5, false, false, "-BADREQUEST the arguments are not an array"},
        {"\xa3GET\x91\xa5k", 7, false, false, "-BADREQUEST the arguments are malformed"},
        {"\xa3GET\x91\xc0", 6, false, false, "-BADREQUEST an argument is nil"},
        {"\xa3GET\x91\x91\x01", 7, false, false, "-BADREQUEST an argument is neither text nor a number"},
        {"\xa3GET\x91\xa1k\x01", 8, false, false, "-BADREQUEST bytes behind the request"},
        {"\xa3G'\n\x91\xa1k", 7, false, false, "-BADREQUEST unknown command 'g'?'"},
        {"\xa3SET\x92\xa1k\xa1v", 9, false, false, "-BADREQUEST the command is a write"},
        {"\xa3GET\x91\xa1k", 7, false, true, "-BADREQUEST the command is not a write"},
        {"\xa3GET\x91\xa1k", 7, true, false, "-BADREQUEST an atomic request is a batch"},
        {"\xa5"
         "batch\x91\x92\xa3GET\x91\xa1k",
         15, false, false, "-BADREQUEST unknown command 'batch'"},
        {"\xa5"
         "batch",
         6, true, true, "-BADREQUEST a batch is an array of [method, params]"},
        {"\xa5"
         "batch\x91\x01",
         8, true, true, "-BADREQUEST command 1: a batch is an array of [method, params]"},
        {"\xa5"
         "batch\x91\x93\xa3GET\x91\xa1k\x01",
         16, true, true, "-BADREQUEST command 1: a batch is an array of [method, params]"},
        {"\xa5"
         "batch\x92\x92\xa3GET\x91\xa1k\x92\xa3SET\x92\xa1k\xa1v",
         25, true, false, "-BADREQUEST command 2: the command is a write"},
        {"\xa5"
         "batch\x91\x92\xa3GET\x91\xa1k\x00",
         16, true, true, "-BADREQUEST bytes behind the request"},
    };
    struct fixture fixture;
    fixture_init(&fixture);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice body = slice_of(cases[i].bytes, cases[i].size);
        assert_string_equal(run_bytes(&fixture, body, cases[i].atomic, cases[i].writes), cases[i].told);
    }
    fixture_deinit(&fixture);
}

/* Every prefix of a body, and every body with one byte changed: an answer or a refusal, never anything else. */
static void broken_bodies_do_no_harm(void **state) {
    (void)state;
    static const char *const lines[] = {"SET {k}1 v EX 10 NX", "MGET {k}1 {k}2", "CAS {k}1 nil #1.5",
                                        "SET {k}2 :7"};
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_run_atomic(&fixture, lines, 4);
    assert_int_equal(fixture.err, SK_OK);
    struct buffer whole = {0};
    buffer_append(&whole, fixture.body.data, fixture.body.size);
    for (size_t size = 0; size < whole.size; size++) {
        run_bytes(&fixture, slice_of(whole.data, size), true, true);
        assert_int_equal(fixture.err, SK_BADREQUEST);
    }
    for (size_t at = 0; at < whole.size; at++) {
        uint8_t old = whole.data[at];
        for (unsigned byte = 0; byte < 256; byte++) {
            whole.data[at] = (uint8_t)byte;
            run_bytes(&fixture, buffer_slice(&whole), true, true);
        }
        whole.data[at] = old;
    }
    fixture_audit(&fixture);
    buffer_deinit(&whole);
    fixture_deinit(&fixture);
}

static void the_table_is_kept(void **state) {
    (void)state;
    FIXTURE_TABLE({"NOSUCH a b", "-BADREQUEST unknown command 'nosuch'"},
                  {"GET", "-BADREQUEST wrong number of arguments for 'get' command"},
                  {"get a b", "-BADREQUEST wrong number of arguments for 'get' command"},
                  {"SET k", "-BADREQUEST wrong number of arguments for 'set' command"},
                  {"MGET", "-BADREQUEST wrong number of arguments for 'mget' command"},
                  {"PING", "-BADREQUEST command 'ping' is not for a shard"},
                  {"TIME", "-BADREQUEST command 'time' is not for a shard"});
    struct fixture fixture;
    fixture_init(&fixture);
    for (size_t i = 0; i < COMMAND_COUNT; i++) { /* one word is too few for whatever has a key */
        const struct command *command = &command_table[i];
        fixture_run(&fixture, command->name);
        assert_int_equal(fixture.err, command->flags & COMMAND_ALL_SHARDS ? SK_OK : SK_BADREQUEST);
    }
    fixture_deinit(&fixture);
}

static void keys_are_checked(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init_shard(&fixture, 2, 4); /* slots 8192 to 12287: foo is in 12182, bar in 5061 */
    fixture_expect(&fixture, "SET foo 1", "+OK");
    fixture_expect(&fixture, "SET bar 1", "-BADREQUEST a key is of another shard");
    fixture_expect(&fixture, "MSET foo 1 {foo}2 2 bar 3", "-BADREQUEST a key is of another shard");
    fixture_expect(&fixture, "MGET foo {foo}2", "[\"1\" nil]");
    fixture_deinit(&fixture);
}

static void keys_and_commands_are_counted(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    for (uint32_t count = MESSAGE_COMMANDS_MAX; count <= MESSAGE_COMMANDS_MAX + 1; count++) {
        bool allowed = count == MESSAGE_COMMANDS_MAX;
        buffer_clear(&fixture.body, 0);
        mp_write_text(&fixture.body, "EXISTS");
        mp_write_array(&fixture.body, count);
        for (uint32_t i = 0; i < count; i++) mp_write_uint(&fixture.body, i);
        assert_string_equal(fixture_run_body(&fixture, false, false), allowed ? "0" : "-TOOLARGE too many keys");

        buffer_clear(&fixture.body, 0);
        mp_write_text(&fixture.body, "batch");
        mp_write_array(&fixture.body, count);
        for (uint32_t i = 0; i < count; i++) {
            mp_write_array(&fixture.body, 2);
            fixture_encode(&fixture.body, "INCR k");
        }
        fixture_run_body(&fixture, true, true);
        assert_int_equal(fixture.err, allowed ? SK_OK : SK_TOOLARGE);
    }
    fixture_expect(&fixture, "GET k", "\"10000\"");
    fixture_deinit(&fixture);
}

static void no_memory_is_a_fault(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_encode(&fixture.body, "GET k");
    fixture.answer.failed = true;
    assert_int_equal(exec_run(&fixture.exec, buffer_slice(&fixture.body), false,
                              &(struct exec_moment){.time_us = 1}, &fixture.answer),
                     SK_ENOMEM);
    buffer_clear(&fixture.body, 0);
    fixture_encode(&fixture.body, "GET");
    assert_int_equal(exec_check(&fixture.exec, buffer_slice(&fixture.body), false, false, &fixture.answer),
                     SK_ENOMEM);
    fixture_deinit(&fixture);
}

/* What is in the answer already stays before what is appended. */
static void answers_are_appended(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    buffer_append(&fixture.answer, "head", 4);
    fixture_encode(&fixture.body, "INCRBY k x");
    int err = exec_run(&fixture.exec, buffer_slice(&fixture.body), false, &(struct exec_moment){.time_us = 1},
                       &fixture.answer);
    assert_int_equal(err, SK_BADREQUEST);
    assert_true(
        slice_equal(buffer_slice(&fixture.answer), slice_of_text("headvalue is not an integer or out of range")));
    fixture.answer.size = 4;
    buffer_clear(&fixture.body, 0);
    fixture_encode(&fixture.body, "INCR k");
    assert_int_equal(exec_run(&fixture.exec, buffer_slice(&fixture.body), false,
                              &(struct exec_moment){.time_us = 1}, &fixture.answer),
                     SK_OK);
    assert_true(slice_equal(buffer_slice(&fixture.answer), slice_of_text("head\x01")));
    fixture_deinit(&fixture);
}

/* Atomic batches */

#define RUN_ATOMIC(fixture, ...)                                                                                  \
    fixture_run_atomic(fixture, (const char *[]){__VA_ARGS__},                                                    \
                       sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

static void a_batch_is_one(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_string_equal(RUN_ATOMIC(&fixture, "SET {t}a 1", "INCR {t}a", "GET {t}a", "MGET {t}a {t}b",
                                   "CAS {t}b nil x", "DEL {t}a {t}a", "EXPIRE {t}b 5", "PTTL {t}b"),
                        "[[nil +OK] [nil 2] [nil \"2\"] [nil [\"2\" nil]] [nil 1] [nil 1] [nil 1] [nil 5000]]");
    fixture_audit(&fixture);
    assert_string_equal(fixture_run_atomic(&fixture, NULL, 0), "[]");
    fixture_deinit(&fixture);
}

static void a_batch_has_one_slot(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    assert_string_equal(RUN_ATOMIC(&fixture, "SET a 1", "SET b 2"),
                        "-CROSSSLOT command 2: Keys in request don't hash to the same slot");
    assert_string_equal(RUN_ATOMIC(&fixture, "MSET {t}1 1 {t}2 2", "MGET {t}1 u"),
                        "-CROSSSLOT command 2: Keys in request don't hash to the same slot");
    static const char *const unfit[] = {"DBSIZE", "INFO", "SCAN 0"};
    for (size_t i = 0; i < sizeof unfit / sizeof unfit[0]; i++) {
        assert_string_equal(RUN_ATOMIC(&fixture, unfit[i]),
                            "-BADREQUEST command 1: a command without a key cannot be in an atomic batch");
    }
    assert_string_equal(RUN_ATOMIC(&fixture, "SET k v", "PING"),
                        "-BADREQUEST command 2: command 'ping' is not for a shard");
    assert_int_equal(fixture.exec.counters.keys, 0);
    fixture_deinit(&fixture);
}

/* Everything that commands change is undone, down to the bytes of the records. */
static void a_failed_batch_leaves_nothing(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "MSET {t}a 1 {t}b text {t}e x", "+OK");
    fixture_expect(&fixture, "EXPIRE {t}a 100", "1");
    fixture_expect(&fixture, "PEXPIRE {t}e 1", "1");
    fixture.now_us += 1000;
    uint64_t deadline_us, before_us;
    assert_int_equal(exec_next_deadline(&fixture.exec, &before_us), SK_OK);
    struct exec_counters before = fixture.exec.counters;
    assert_string_equal(RUN_ATOMIC(&fixture, "SET {t}a 2 EX 1", "DEL {t}b", "SET {t}e new", "SETEX {t}n 1 v",
                                   "APPEND {t}a more", "SET {t}b text", "INCR {t}b"),
                        "-BADVALUE command 7: value is not an integer or out of range");
    assert_memory_equal(&before, &fixture.exec.counters, sizeof before);
    fixture_audit(&fixture);
    assert_int_equal(exec_next_deadline(&fixture.exec, &deadline_us), SK_OK);
    assert_true(deadline_us == before_us);
    fixture_expect(&fixture, "MGET {t}a {t}b {t}e {t}n", "[\"1\" \"text\" nil nil]");
    fixture_expect(&fixture, "TTL {t}a", "100");
    assert_string_equal(RUN_ATOMIC(&fixture, "INCR {t}a", "SET {t}b 1 EX 0"),
                        "-BADREQUEST command 2: invalid expire time in 'set' command");
    fixture_put_other_type(&fixture, "{t}o", 0);
    assert_string_equal(RUN_ATOMIC(&fixture, "INCR {t}a", "GET {t}o"),
                        "-WRONGTYPE command 2: Operation against a key holding the wrong kind of value");
    fixture_expect(&fixture, "GET {t}a", "\"1\"");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Expiry */

static void assert_next_deadline(struct fixture *fixture, uint64_t expected_us) {
    uint64_t deadline_us;
    assert_int_equal(exec_next_deadline(&fixture->exec, &deadline_us), SK_OK);
    assert_true(deadline_us == expected_us);
}

static void the_next_deadline_is_known(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    uint64_t start_us = fixture.now_us;
    assert_next_deadline(&fixture, UINT64_MAX);
    fixture_expect(&fixture, "SET a v PX 500", "+OK");
    assert_next_deadline(&fixture, start_us + 500000);
    RUN_ATOMIC(&fixture, "SET {a} v PX 100", "EXPIRE {a} x"); /* undone: its deadline too */
    assert_int_equal(fixture.err, SK_BADREQUEST);
    assert_next_deadline(&fixture, start_us + 500000);
    fixture_expect(&fixture, "SET b v PX 900", "+OK");
    assert_next_deadline(&fixture, start_us + 500000);
    fixture_expect(&fixture, "SET c v PX 100", "+OK");
    assert_next_deadline(&fixture, start_us + 100000);
    fixture_expect(&fixture, "DEL c", "1");
    assert_next_deadline(&fixture, start_us + 500000);
    fixture_expect(&fixture, "PEXPIRE a 1000", "1");
    assert_next_deadline(&fixture, start_us + 900000);
    fixture_expect(&fixture, "PERSIST b", "1");
    assert_next_deadline(&fixture, start_us + 1000000);
    fixture_expect(&fixture, "SET a v", "+OK");
    assert_next_deadline(&fixture, UINT64_MAX);
    fixture_deinit(&fixture);
}

static void sweeps_in_order_and_portions(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    uint32_t removed;
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us, 10, &removed), SK_OK);
    assert_int_equal(removed, 0);
    for (unsigned i = 0; i < 10; i++) {
        char line[64];
        snprintf(line, sizeof line, "SET k%u v PX %u", i, 10 * (10 - i));
        fixture_expect(&fixture, line, "+OK");
    }
    fixture_expect(&fixture, "SET stays v", "+OK");
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us + 9999, 10, &removed), SK_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us + 10000, 10, &removed), SK_OK);
    assert_int_equal(removed, 1); /* at its deadline, not after */
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us + 50000, 3, &removed), SK_OK);
    assert_int_equal(removed, 3);
    fixture_expect(&fixture, "EXISTS k9 k8 k7 k6 k5", "1");
    fixture_audit(&fixture);
    assert_next_deadline(&fixture, fixture.now_us + 50000);
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us + 1000000, 0, &removed), SK_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(exec_sweep(&fixture.exec, fixture.now_us + 1000000, 100, &removed), SK_OK);
    assert_int_equal(removed, 6);
    assert_int_equal(fixture.exec.counters.keys, 1);
    assert_next_deadline(&fixture, UINT64_MAX);
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Nothing is walked over again and again: what was removed stays in the memtable, marked, until a checkpoint. With a leader,
 * who asks for the next deadline, and with a follower, who only sweeps. */
static void sweeps_pass_what_was_removed_once(void **state) {
    (void)state;
    enum { KEYS = 500 };
    for (int leads = 0; leads < 2; leads++) {
        struct fixture fixture;
        fixture_init(&fixture);
        uint32_t removed;
        for (unsigned i = 0; i < KEYS; i++) {
            char line[64];
            snprintf(line, sizeof line, "SET k%u v PX %u", i, i + 1);
            fixture_expect(&fixture, line, "+OK");
        }
        uint64_t before = kv_memory_passed(fixture.kv);
        for (unsigned i = 0; i < KEYS; i++) {
            uint64_t due_us = fixture.now_us + (i + 1) * 1000u;
            if (leads) assert_next_deadline(&fixture, due_us);
            assert_int_equal(exec_sweep(&fixture.exec, due_us, 10, &removed), SK_OK);
            assert_int_equal(removed, 1);
        }
        assert_true(kv_memory_passed(fixture.kv) - before <= 3 * KEYS);
        fixture_expect(&fixture, "SET early v PX 5", "+OK"); /* before all that were there */
        assert_next_deadline(&fixture, fixture.now_us + 5000);
        fixture_audit(&fixture);
        fixture_deinit(&fixture);
    }
}

/* Random commands against a model that is an array */

enum { MODEL_KEYS = 12, MODEL_VALUE_MAX = 64 };

struct model_key {
    bool there;
    char value[MODEL_VALUE_MAX];
    uint64_t deadline_us;
};

struct model {
    struct fixture fixture;
    struct model_key keys[MODEL_KEYS];
    unsigned seed;
    char told[256];
};

static unsigned pick(struct model *model, unsigned choices) { return (unsigned)rand_r(&model->seed) % choices; }

static struct model_key *live(struct model *model, unsigned number) {
    struct model_key *key = &model->keys[number];
    if (key->there && key->deadline_us != 0 && key->deadline_us <= model->fixture.now_us) key->there = false;
    return key;
}

__attribute__((format(printf, 2, 3))) static void foretell(struct model *model, const char *format, ...) {
    va_list values;
    va_start(values, format);
    vsnprintf(model->told, sizeof model->told, format, values);
    va_end(values);
}

static void foretell_value(struct model *model, const struct model_key *key) {
    if (key->there) {
        foretell(model, "\"%s\"", key->value);
    } else {
        foretell(model, "nil");
    }
}

static void model_store(struct model_key *key, const char *value, uint64_t deadline_us) {
    key->there = true;
    key->deadline_us = deadline_us;
    snprintf(key->value, sizeof key->value, "%s", value);
}

/* Each makes a command of the key into `line` and foretells state and answer. */

static void model_set(struct model *model, unsigned number, char *line, size_t size) {
    static const char *const conditions[] = {"", " NX", " XX", " GET", " NX GET", " XX GET"};
    struct model_key *key = live(model, number);
    unsigned condition = pick(model, 6), expiry = pick(model, 4), ms = 1 + pick(model, 40),
             value = pick(model, 100);
    bool holds = condition % 3 == 0 || (condition % 3 == 1) == !key->there;
    char expiry_text[64] = "";
    uint64_t deadline_us = 0;
    if (expiry == 1) {
        snprintf(expiry_text, sizeof expiry_text, " PX %u", ms);
        deadline_us = model->fixture.now_us + 1000 * ms;
    } else if (expiry == 2) {
        snprintf(expiry_text, sizeof expiry_text, " KEEPTTL");
        deadline_us = key->there ? key->deadline_us : 0;
    } else if (expiry == 3) { /* now and then in the past */
        uint64_t at_ms = model->fixture.now_us / 1000 + ms - 5;
        snprintf(expiry_text, sizeof expiry_text, " PXAT %llu", (unsigned long long)at_ms);
        deadline_us = at_ms * 1000;
    }
    snprintf(line, size, "SET {m}%u %u%s%s", number, value, conditions[condition], expiry_text);
    if (condition >= 3) {
        foretell_value(model, key);
    } else {
        foretell(model, holds ? "+OK" : "nil");
    }
    char text[16];
    snprintf(text, sizeof text, "%u", value);
    if (holds) model_store(key, text, deadline_us);
}

static void model_get(struct model *model, unsigned number, char *line, size_t size) {
    snprintf(line, size, "GET {m}%u", number);
    foretell_value(model, live(model, number));
}

static void model_del(struct model *model, unsigned number, char *line, size_t size) {
    struct model_key *key = live(model, number);
    snprintf(line, size, "DEL {m}%u", number);
    foretell(model, "%d", key->there);
    key->there = false;
}

static void model_incr(struct model *model, unsigned number, char *line, size_t size) {
    struct model_key *key = live(model, number);
    int amount = (int)pick(model, 200) - 100;
    snprintf(line, size, "INCRBY {m}%u %d", number, amount);
    if (!key->there) model_store(key, "0", 0);
    char *end;
    long value = strtol(key->value, &end, 10);
    if (*end != '\0') {
        foretell(model, "-BADVALUE value is not an integer or out of range");
        return;
    }
    snprintf(key->value, sizeof key->value, "%ld", value + amount);
    foretell(model, "%ld", value + amount);
}

static void model_append(struct model *model, unsigned number, char *line, size_t size) {
    struct model_key *key = live(model, number);
    if (key->there && strlen(key->value) + 2 >= MODEL_VALUE_MAX) {
        model_del(model, number, line, size);
        return;
    }
    if (!key->there) model_store(key, "", 0);
    strcat(key->value, "x");
    snprintf(line, size, "APPEND {m}%u x", number);
    foretell(model, "%zu", strlen(key->value));
}

static void model_expire(struct model *model, unsigned number, char *line, size_t size) {
    static const char *const conditions[] = {"", " NX", " XX", " GT", " LT"};
    struct model_key *key = live(model, number);
    unsigned condition = pick(model, 5);
    int ms = (int)pick(model, 40) - 5;
    uint64_t at_us = model->fixture.now_us + (uint64_t)(ms * 1000);
    snprintf(line, size, "PEXPIRE {m}%u %d%s", number, ms, conditions[condition]);
    bool has = key->there && key->deadline_us != 0;
    bool holds = key->there && (condition == 0 || (condition == 1 && !has) || (condition == 2 && has) ||
                                (condition == 3 && has && at_us > key->deadline_us) ||
                                (condition == 4 && (!has || at_us < key->deadline_us)));
    foretell(model, "%d", holds);
    if (holds) key->deadline_us = at_us;
    if (holds && ms <= 0) key->there = false;
}

static void model_persist(struct model *model, unsigned number, char *line, size_t size) {
    struct model_key *key = live(model, number);
    snprintf(line, size, "PERSIST {m}%u", number);
    foretell(model, "%d", key->there && key->deadline_us != 0);
    key->deadline_us = 0;
}

static void model_pttl(struct model *model, unsigned number, char *line, size_t size) {
    const struct model_key *key = live(model, number);
    snprintf(line, size, "PTTL {m}%u", number);
    uint64_t left_us = key->deadline_us - model->fixture.now_us;
    if (!key->there) {
        foretell(model, "-2");
    } else if (key->deadline_us == 0) {
        foretell(model, "-1");
    } else {
        foretell(model, "%llu", (unsigned long long)(left_us / 1000 + (left_us % 1000 != 0)));
    }
}

static void model_cas(struct model *model, unsigned number, char *line, size_t size) {
    struct model_key *key = live(model, number);
    bool meant = pick(model, 2) == 0, deletes = pick(model, 3) == 0;
    char expected[MODEL_VALUE_MAX + 2] = "nil", value[8] = "nil";
    bool holds = meant || !key->there;
    if (meant && key->there) snprintf(expected, sizeof expected, "\"%s\"", key->value);
    if (!deletes) snprintf(value, sizeof value, "%u", pick(model, 50));
    snprintf(line, size, "CAS {m}%u %s %s", number, expected, value);
    foretell(model, "%d", holds);
    if (holds && !deletes) model_store(key, value, key->there ? key->deadline_us : 0);
    if (holds && deletes) key->there = false;
}

static void (*const model_commands[])(struct model *, unsigned, char *, size_t) = {
    model_set,    model_set,    model_get,     model_del,  model_incr,
    model_append, model_expire, model_persist, model_pttl, model_cas,
};
#define MODEL_COMMAND_COUNT (sizeof model_commands / sizeof model_commands[0])

/* A batch of some commands, half of them failing at their end: the model goes back as well. */
static void model_batch(struct model *model) {
    char lines[8][128];
    const char *pointers[9];
    struct model_key before[MODEL_KEYS];
    memcpy(before, model->keys, sizeof before);
    size_t count = 1 + pick(model, 8);
    bool refused = false;
    for (size_t i = 0; i < count; i++) {
        model_commands[pick(model, MODEL_COMMAND_COUNT)](model, pick(model, MODEL_KEYS), lines[i],
                                                         sizeof lines[i]);
        pointers[i] = lines[i];
        refused |= model->told[0] == '-' && model->told[1] == 'B';
    }
    bool fails = pick(model, 2) == 0;
    if (fails) pointers[count] = "EXPIRE {m}0 x";
    fixture_run_atomic(&model->fixture, pointers, count + fails);
    assert_int_equal(model->fixture.err == SK_OK, !refused && !fails);
    if (refused || fails) memcpy(model->keys, before, sizeof before);
}

static void model_step(struct model *model) {
    unsigned kind = pick(model, 20);
    char line[128];
    if (kind == 0) {
        uint32_t removed;
        assert_int_equal(exec_sweep(&model->fixture.exec, model->fixture.now_us, pick(model, 4), &removed), SK_OK);
    } else if (kind <= 2) {
        model_batch(model);
    } else if (kind <= 6) {
        model->fixture.now_us += pick(model, 5000);
    } else {
        model_commands[pick(model, MODEL_COMMAND_COUNT)](model, pick(model, MODEL_KEYS), line, sizeof line);
        fixture_expect(&model->fixture, line, model->told);
    }
}

static void agrees_with_the_model(void **state) {
    (void)state;
    const char *wished = getenv("SKERRY_TEST_SEED");
    unsigned first = wished != NULL ? (unsigned)strtoul(wished, NULL, 10) : 1;
    for (unsigned seed = first; seed < first + 20; seed++) {
        struct model model = {.seed = seed};
        fixture_init(&model.fixture);
        print_message("seed %u\n", seed); /* the last one printed is the one that fails */
        for (int step = 0; step < 2000; step++) {
            model_step(&model);
            if (step % 100 == 0) fixture_audit(&model.fixture);
        }
        fixture_audit(&model.fixture);
        uint32_t removed;
        assert_int_equal(exec_sweep(&model.fixture.exec, model.fixture.now_us, 1000, &removed), SK_OK);
        uint64_t keys = 0;
        for (unsigned i = 0; i < MODEL_KEYS; i++) keys += live(&model, i)->there;
        assert_int_equal(model.fixture.exec.counters.keys, keys);
        fixture_audit(&model.fixture);
        fixture_deinit(&model.fixture);
    }
}

/* The same commands at the same times make the same records, whatever ran before in the process. */
static void replicas_agree(void **state) {
    (void)state;
    struct model models[2] = {{.seed = 99}, {.seed = 99}};
    for (int i = 0; i < 2; i++) fixture_init(&models[i].fixture);
    for (int i = 0; i < 2; i++) {
        for (int step = 0; step < 3000; step++) model_step(&models[i]);
    }
    struct kv_iter *iters[2];
    struct slice keys[2], values[2];
    int errs[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kv_iter_open(models[i].fixture.kv, slice_of("", 1), &iters[i]), SK_OK);
    }
    do {
        for (int i = 0; i < 2; i++) errs[i] = kv_iter_next(iters[i], &keys[i], &values[i]);
        assert_int_equal(errs[0], errs[1]);
        if (errs[0] != SK_OK) break;
        assert_true(slice_equal(keys[0], keys[1]) && slice_equal(values[0], values[1]));
    } while (true);
    assert_int_equal(errs[0], SK_NOT_FOUND);
    for (int i = 0; i < 2; i++) {
        kv_iter_close(iters[i]);
        fixture_deinit(&models[i].fixture);
    }
}

/* A few bytes of a batch may ask for a lot. */
static void a_batch_has_a_limit_of_work(void **state) {
    (void)state;
    enum { MANY = 500, FEW = 50 };
    const char *lines[MANY];
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SETRANGE k 1048575 x", "1048576");
    for (uint32_t i = 0; i < MANY; i++) lines[i] = "SETRANGE k 0 y";
    assert_string_equal(fixture_run_atomic(&fixture, lines, MANY), "-TOOLARGE the batch does too much at once");
    fixture_expect(&fixture, "GETRANGE k 0 0", "\"\\x00\"");
    buffer_clear(&fixture.body, 65536);
    mp_write_text(&fixture.body, "EXEC");
    mp_write_array(&fixture.body, 2);
    mp_write_array(&fixture.body, 0);
    mp_write_array(&fixture.body, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        mp_write_array(&fixture.body, 2);
        fixture_encode(&fixture.body, lines[i]);
    }
    const char *told = fixture_run_body(&fixture, true, true);
    assert_non_null(strstr(told, "[[nil 1048576] [nil 1048576]"));
    assert_non_null(strstr(told, "[[+TOOLARGE +the batch does too much at once] nil]]"));
    fixture_run_atomic(&fixture, lines, FEW);
    assert_int_equal(fixture.err, SK_OK);
    fixture_expect(&fixture, "GETRANGE k 0 0", "\"y\"");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_bodies_are_refused),
        cmocka_unit_test(broken_bodies_do_no_harm),
        cmocka_unit_test(the_table_is_kept),
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(keys_and_commands_are_counted),
        cmocka_unit_test(no_memory_is_a_fault),
        cmocka_unit_test(answers_are_appended),
        cmocka_unit_test(a_batch_is_one),
        cmocka_unit_test(a_batch_has_one_slot),
        cmocka_unit_test(a_batch_has_a_limit_of_work),
        cmocka_unit_test(a_failed_batch_leaves_nothing),
        cmocka_unit_test(the_next_deadline_is_known),
        cmocka_unit_test(sweeps_in_order_and_portions),
        cmocka_unit_test(sweeps_pass_what_was_removed_once),
        cmocka_unit_test(agrees_with_the_model),
        cmocka_unit_test(replicas_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
