/* EXEC: commands as one entry, if the watched keys have the versions that it names. And VERSION, which tells them. */
#include "shardd/exec_fixture.h"

/* A watched key of the EXEC that is being written. */
struct watched {
    const char *key;
    uint64_t version;
};

static void begin_exec(struct fixture *fixture, const struct watched *watched, uint32_t count) {
    buffer_clear(&fixture->body, 0);
    mp_write_text(&fixture->body, "EXEC");
    mp_write_array(&fixture->body, 2);
    mp_write_array(&fixture->body, count);
    for (uint32_t i = 0; i < count; i++) {
        mp_write_array(&fixture->body, 2);
        mp_write_bin(&fixture->body, slice_of_text(watched[i].key));
        mp_write_uint(&fixture->body, watched[i].version);
    }
}

static const char *run_exec(struct fixture *fixture, const struct watched *watched, uint32_t watched_count,
                            const char *const *lines, uint32_t count) {
    begin_exec(fixture, watched, watched_count);
    mp_write_array(&fixture->body, count);
    for (uint32_t i = 0; i < count; i++) {
        mp_write_array(&fixture->body, 2);
        fixture_encode(&fixture->body, lines[i]);
    }
    return fixture_run_body(fixture, true, true);
}

#define EXEC(fixture, ...)                                                                                        \
    run_exec(fixture, NULL, 0, (const char *[]){__VA_ARGS__},                                                     \
             sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

static uint64_t version_of(struct fixture *fixture, const char *key) {
    char line[64];
    (void)snprintf(line, sizeof line, "VERSION %s", key);
    return strtoull(fixture_run(fixture, line), NULL, 10);
}

static int set_up(void **state) {
    struct fixture *fixture = malloc(sizeof *fixture);
    if (fixture == NULL) return 1;
    fixture_init(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state) {
    fixture_audit(*state);
    fixture_deinit(*state);
    free(*state);
    return 0;
}

static void what_fails_does_not_undo_the_others(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(EXEC(fixture, "SET {t}a x", "INCR {t}a", "SET {t}b 1 EX 0", "GET {t}a", "INCR {t}n"),
                        "[[nil +OK] [[+BADVALUE +value is not an integer or out of range] nil] "
                        "[[+BADREQUEST +invalid expire time in 'set' command] nil] [nil \"x\"] [nil 1]]");
    fixture_expect(fixture, "MGET {t}a {t}b {t}n", "[\"x\" nil \"1\"]");
    fixture_put_other_type(fixture, "{t}o", 0);
    assert_string_equal(EXEC(fixture, "INCR {t}n", "GET {t}o"),
                        "[[nil 2] [[+WRONGTYPE +Operation against a key holding the wrong kind of value] nil]]");
    assert_string_equal(run_exec(fixture, NULL, 0, NULL, 0), "[]");
    assert_string_equal(EXEC(fixture, "LMPOP x {t}a LEFT", "INCR {t}n"),
                        "[[[+BADREQUEST +numkeys should be greater than 0] nil] [nil 3]]");
}

/* A command of several keys that is refused midway has changed none of them. */
static void each_command_is_whole(void **state) {
    struct fixture *fixture = *state;
    assert_string_equal(EXEC(fixture, "MSET {t}a 1 {t}b 2", "DEL {t}a {t}c", "APPEND {t}b 3"),
                        "[[nil +OK] [nil 1] [nil 2]]");
    fixture_expect(fixture, "MGET {t}a {t}b", "[nil \"23\"]");
}

/* Commands that draw do so each for itself. */
static void each_command_draws(void **state) {
    struct fixture *fixture = *state;
    char line[16];
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(line, sizeof line, "SADD s %d", i);
        (void)fixture_run(fixture, line);
    }
    unsigned differ = 0;
    for (int i = 0; i < 10; i++) {
        unsigned first, second, popped;
        int drawn = sscanf(EXEC(fixture, "SRANDMEMBER s", "SRANDMEMBER s", "SPOP s"),
                           "[[nil \"%u\"] [nil \"%u\"] [nil \"%u\"]]", &first, &second, &popped);
        assert_int_equal(drawn, 3);
        differ += first != second && second != popped && first != popped;
    }
    assert_true(differ >= 8);
}

static void every_change_changes_the_version(void **state) {
    struct fixture *fixture = *state;
    uint64_t versions[6];
    fixture_expect(fixture, "VERSION k", "0");
    static const char *const changes[] = {"SET k 1",      "SET k 1",   "INCR k",
                                          "EXPIRE k 100", "PERSIST k", "APPEND k x"};
    for (size_t i = 0; i < 6; i++) {
        (void)fixture_run(fixture, changes[i]);
        versions[i] = version_of(fixture, "k");
        assert_true(versions[i] > 0);
        for (size_t j = 0; j < i; j++) assert_true(versions[i] != versions[j]);
    }
    (void)fixture_run(fixture, "GET k");
    assert_true(version_of(fixture, "k") == versions[5]);
    fixture_expect(fixture, "DEL k", "1");
    fixture_expect(fixture, "VERSION k", "0");
    fixture_expect(fixture, "SET k 1", "+OK");
    for (size_t i = 0; i < 6; i++) assert_true(version_of(fixture, "k") != versions[i]);
    /* elements of a collection, too */
    fixture_expect(fixture, "RPUSH l a b", "2");
    uint64_t before = version_of(fixture, "l");
    fixture_expect(fixture, "LSET l 0 c", "+OK");
    assert_true(version_of(fixture, "l") != before);
}

static void watched_keys_decide(void **state) {
    struct fixture *fixture = *state;
    static const char *const lines[] = {"SET {t}a mine", "INCR {t}n"};
    fixture_expect(fixture, "SET {t}a 1", "+OK");
    struct watched watched[] = {{"{t}a", version_of(fixture, "{t}a")}, {"{t}none", 0}};
    assert_string_equal(run_exec(fixture, watched, 2, lines, 2), "[[nil +OK] [nil 1]]");
    /* it has changed itself what it watched */
    assert_string_equal(run_exec(fixture, watched, 2, lines, 2), "nil");
    watched[0].version = version_of(fixture, "{t}a");
    fixture_expect(fixture, "SET {t}none 1", "+OK");
    assert_string_equal(run_exec(fixture, watched, 2, lines, 2), "nil");
    fixture_expect(fixture, "MGET {t}a {t}n", "[\"mine\" \"1\"]");
    /* what has expired is not there, also before it is removed */
    fixture_expect(fixture, "PEXPIRE {t}none 10", "1");
    fixture->now_us += 20000;
    assert_string_equal(run_exec(fixture, watched, 2, lines, 2), "[[nil +OK] [nil 2]]");
    watched[0].version = version_of(fixture, "{t}a");
    assert_string_equal(run_exec(fixture, watched, 2, NULL, 0), "[]");
}

static void its_form_is_checked(void **state) {
    struct fixture *fixture = *state;
    const struct watched others[] = {{"a", 0}, {"b", 0}};
    static const char *const get_b[] = {"GET b"};
    assert_string_equal(EXEC(fixture, "SET a 1", "SET b 2"),
                        "-CROSSSLOT command 2: Keys in request don't hash to the same slot");
    assert_string_equal(run_exec(fixture, others, 2, NULL, 0),
                        "-CROSSSLOT Keys in request don't hash to the same slot");
    assert_string_equal(run_exec(fixture, others, 1, get_b, 1),
                        "-CROSSSLOT command 1: Keys in request don't hash to the same slot");
    assert_string_equal(EXEC(fixture, "SET a 1", "DBSIZE"),
                        "-BADREQUEST command 2: a command without a key cannot be in an atomic batch");
    assert_string_equal(EXEC(fixture, "EXEC"), "-BADREQUEST command 1: command 'exec' is not for a shard");
    static const struct {
        const char *body;
        size_t size;
        const char *told;
    } cases[] = {
        {"\xa4"
         "EXEC\x90",
         6, "-BADREQUEST EXEC takes an array of [key, version] and one of [method, params]"},
        {"\xa4"
         "EXEC\x92\x01\x90",
         8, "-BADREQUEST EXEC takes an array of [key, version] and one of [method, params]"},
        {"\xa4"
         "EXEC\x92\x91\x91\xa1k\x90",
         11, "-BADREQUEST a watched key is [key, version]"},
        {"\xa4"
         "EXEC\x92\x91\x92\xa1k\xa1x\x90",
         13, "-BADREQUEST a watched key is [key, version]"},
        {"\xa4"
         "EXEC\x92\x90\x01",
         8, "-BADREQUEST a batch is an array of [method, params]"},
        {"\xa4"
         "EXEC\x92\x90\x91\x01",
         9, "-BADREQUEST command 1: a batch is an array of [method, params]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buffer_clear(&fixture->body, 0);
        buffer_append(&fixture->body, cases[i].body, cases[i].size);
        assert_string_equal(fixture_run_body(fixture, true, true), cases[i].told);
    }
    assert_int_equal(fixture->exec.counters.keys, 0);
}

static void memory_usage(void **state) {
    (void)state;
    FIXTURE_TABLE({"SET key value", "+OK"}, {"MEMORY USAGE key", "8"}, {"MEMORY usage key SAMPLES 5", "8"},
                  {"MEMORY USAGE none", "nil"}, {"MEMORY USAGE key NOSUCH 5", "-BADREQUEST syntax error"},
                  {"MEMORY USAGE key SAMPLES x", "-BADREQUEST value is not an integer or out of range"},
                  {"MEMORY DOCTOR key", "-BADREQUEST unknown subcommand of MEMORY: there is USAGE"});
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_fails_does_not_undo_the_others),
        TEST(each_command_is_whole),
        TEST(each_command_draws),
        TEST(every_change_changes_the_version),
        TEST(watched_keys_decide),
        TEST(its_form_is_checked),
        cmocka_unit_test(memory_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
