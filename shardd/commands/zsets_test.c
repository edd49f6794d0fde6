#include "shardd/exec_fixture.h"

#define WRONGTYPE "-WRONGTYPE Operation against a key holding the wrong kind of value"
#define NOT_FLOAT "-BADREQUEST value is not a valid float"
#define SYNTAX    "-BADREQUEST syntax error"

static void adds_and_looks_up(void **state) {
    (void)state;
    FIXTURE_TABLE({"ZADD z 1 a", "1"}, {"ZADD z 2 a 3 b 4 c", "2"}, {"ZSCORE z a", "#2"}, {"ZSCORE z x", "nil"},
                  {"ZSCORE none x", "nil"}, {"ZMSCORE z c x a", "[#4 nil #2]"}, {"ZMSCORE none a b", "[nil nil]"},
                  {"ZCARD z", "3"}, {"ZCARD none", "0"}, {"ZRANK z a", "0"}, {"ZRANK z c", "2"},
                  {"ZREVRANK z c", "0"}, {"ZREVRANK z a", "2"}, {"ZRANK z x", "nil"}, {"ZREVRANK none x", "nil"},
                  {"ZADD z :5 :7", "1"}, {"ZSCORE z 7", "#5"}, {"ZADD z #1.5 a", "0"}, {"ZSCORE z a", "#1.5"},
                  {"ZADD z 1 \"\" 1 \"\\x00\\xff\"", "2"}, {"ZRANK z \"\"", "0"}, {"TYPE z", "+zset"},
                  {"ZADD z 5 a 6 a", "0"}, {"ZSCORE z a", "#6"}, {"ZADD d 1 a 2 a", "1"}, {"ZSCORE d a", "#2"});
    FIXTURE_TABLE({"SET s v", "+OK"}, {"ZADD s 1 a", WRONGTYPE}, {"ZADD s x a", NOT_FLOAT},
                  {"ZSCORE s a", WRONGTYPE}, {"ZMSCORE s a", WRONGTYPE}, {"ZCARD s", WRONGTYPE},
                  {"ZRANK s a", WRONGTYPE}, {"ZREM s a", WRONGTYPE}, {"ZINCRBY s 1 a", WRONGTYPE},
                  {"ZADD s XX 1 a", WRONGTYPE}, {"ZADD z 1 a", "1"}, {"GET z", WRONGTYPE}, {"SET z v", "+OK"},
                  {"ZCARD z", WRONGTYPE});
}

static void scores_are_what_redis_takes(void **state) {
    (void)state;
    FIXTURE_TABLE({"ZADD z inf a -Infinity b 0x10 c 1e3 d -0 e .5 f +2 g", "7"},
                  {"ZMSCORE z a b c d e f g", "[#inf #-inf #16 #1000 #0 #0.5 #2]"},
                  {"ZADD z 1.7976931348623157e308 m", "1"}, {"ZADD z 5e-324 n", "1"},
                  {"ZSCORE z n", "#4.9406564584124654e-324"}, {"ZADD z -0 e", "0"}, {"ZADD z nan x", NOT_FLOAT},
                  {"ZADD z \"\" x", NOT_FLOAT}, {"ZADD z \" 1\" x", NOT_FLOAT}, {"ZADD z \"1 \" x", NOT_FLOAT},
                  {"ZADD z 1e400 x", NOT_FLOAT}, {"ZADD z 1e-400 x", NOT_FLOAT},
                  {"ZADD z \"1\\x00\" x", NOT_FLOAT}, {"ZADD z 1 x two y", NOT_FLOAT}, {"ZSCORE z x", "nil"},
                  {"ZRANGE z 0 -1", "[\"b\" \"e\" \"n\" \"f\" \"g\" \"c\" \"d\" \"m\" \"a\"]"});
}

static void add_has_conditions(void **state) {
    (void)state;
    FIXTURE_TABLE({"ZADD z XX 1 a", "0"}, {"EXISTS z", "0"}, {"ZADD z NX 1 a 2 b", "2"},
                  {"ZADD z NX 5 a 6 c", "1"}, {"ZSCORE z a", "#1"}, {"ZADD z XX CH 5 a 6 x 2 b", "1"},
                  {"ZSCORE z a", "#5"}, {"ZSCORE z x", "nil"}, {"ZADD z GT 4 a", "0"}, {"ZSCORE z a", "#5"},
                  {"ZADD z gt ch 6 a 1 n", "2"}, {"ZSCORE z a", "#6"}, {"ZADD z LT CH 7 a", "0"},
                  {"ZADD z LT CH 5 a", "1"}, {"ZADD z GT CH 5 a", "0"}, {"ZADD z CH 5 a 9 b 9 new", "2"},
                  {"ZADD z XX GT CH 10 b 10 no", "1"}, {"ZADD z nx nx 1 a", "0"});
    FIXTURE_TABLE(
        {"ZADD z NX XX 1 a", "-BADREQUEST XX and NX options at the same time are not compatible"},
        {"ZADD z NX GT 1 a", "-BADREQUEST GT, LT, and/or NX options at the same time are not compatible"},
        {"ZADD z GT LT 1 a", "-BADREQUEST GT, LT, and/or NX options at the same time are not compatible"},
        {"ZADD z INCR 1 a 2 b", "-BADREQUEST INCR option supports a single increment-element pair"},
        {"ZADD z NX 1", SYNTAX}, {"ZADD z NX XX", SYNTAX}, {"ZADD z WHAT 1 a", SYNTAX}, {"ZADD z 1 a 2", SYNTAX},
        {"ZADD z 1", "-BADREQUEST wrong number of arguments for 'zadd' command"});
}

static void increments(void **state) {
    (void)state;
    FIXTURE_TABLE({"ZINCRBY z 1.5 a", "#1.5"}, {"ZINCRBY z -2 a", "#-0.5"}, {"ZADD z INCR 1 a", "#0.5"},
                  {"ZADD z INCR NX 1 a", "nil"}, {"ZADD z INCR XX 1 b", "nil"}, {"ZADD none INCR XX 1 b", "nil"},
                  {"ZADD z INCR GT -1 a", "nil"}, {"ZADD z INCR LT -1 a", "#-0.5"}, {"ZADD z INCR CH 1 b", "#1"},
                  {"ZINCRBY z inf a", "#inf"},
                  {"ZINCRBY z -inf a", "-BADVALUE resulting score is not a number (NaN)"}, {"ZSCORE z a", "#inf"},
                  {"ZADD z INCR NX -inf a", "nil"}, {"ZINCRBY z x a", NOT_FLOAT}, {"ZINCRBY z nan a", NOT_FLOAT},
                  {"ZINCRBY z nx a", SYNTAX}, {"ZINCRBY n -0 a", "#0"}, {"ZINCRBY z 0 b", "#1"}, {"ZCARD z", "2"},
                  {"EXISTS none", "0"});
}

static void removes(void **state) {
    (void)state;
    FIXTURE_TABLE({"ZADD z 1 a 2 b 3 c", "3"}, {"ZREM z a a x", "1"}, {"ZCARD z", "2"}, {"ZREM none a", "0"},
                  {"ZREM z b c d", "2"}, {"EXISTS z", "0"}, {"DBSIZE", "0"}, {"ZADD z 1 a", "1"},
                  {"ZREM z a b", "1"}, {"DBSIZE", "0"});
    FIXTURE_TABLE({"ZADD z 1 a", "1"}, {"EXPIRE z 10", "1"}, {"ZADD z 2 b", "1"}, {"TTL z", "10"}, {"@10000", ""},
                  {"ZCARD z", "0"}, {"ZSCORE z a", "nil"}, {"ZADD z 3 c", "1"}, {"ZCARD z", "1"}, {"TTL z", "-1"},
                  {"DEL z", "1"}, {"ZRANGE z 0 -1", "[]"});
}

/* The order goes with the elements, wherever these go. */
static void moves_and_copies(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    for (int i = 0; i < 300; i++) {
        char line[64];
        snprintf(line, sizeof line, "ZADD {z}1 %d m%d", i, i);
        fixture_expect(&fixture, line, "1");
    }
    static const struct fixture_step steps[] = {
        {"COPY {z}1 {z}2", "1"},
        {"RENAME {z}1 {z}3", "+OK"},
        {"ZRANK {z}2 m200", "200"},
        {"ZREMRANGEBYRANK {z}3 0 99", "100"},
        {"ZRANK {z}3 m200", "100"},
        {"ZRANK {z}2 m200", "200"},
        {"ZADD {z}2 -1 first", "1"},
        {"ZRANGE {z}2 150 150", "[\"m149\"]"},
        {"ZRANGE {z}3 150 150", "[\"m250\"]"},
        {"DEL {z}2 {z}3", "2"},
    };
    fixture_run_steps(&fixture, steps, sizeof steps / sizeof steps[0]);
    fixture_deinit(&fixture);
}

static void scans(void **state) {
    (void)state;
    FIXTURE_TABLE({"ZADD z 1.5 a 2 bb", "2"}, {"ZSCAN z 0 MATCH b*", "[\"0\" [\"bb\" #2]]"},
                  {"ZSCAN z 0 COUNT 0", SYNTAX}, {"ZSCAN z x", "-BADREQUEST invalid cursor"},
                  {"ZSCAN none 0", "[\"0\" []]"}, {"ZSCAN z 0 TYPE zset", SYNTAX}, {"SET s v", "+OK"},
                  {"ZSCAN s 0", WRONGTYPE});
    struct fixture fixture;
    fixture_init(&fixture);
    enum { MEMBERS = 500 };
    bool seen[MEMBERS] = {false};
    char line[64], cursor[24] = "0";
    for (int i = 0; i < MEMBERS; i++) {
        snprintf(line, sizeof line, "ZADD z %d %d", i % 7, i);
        fixture_expect(&fixture, line, "1");
    }
    int pages = 0;
    do {
        snprintf(line, sizeof line, "ZSCAN z %s COUNT 20", cursor);
        const char *at = fixture_run(&fixture, line) + 2;
        size_t size = strcspn(at, "\"");
        memcpy(cursor, at, size);
        cursor[size] = '\0';
        for (at = strchr(at, '['); (at = strchr(at, '"')) != NULL;) {
            char *end;
            unsigned long name = strtoul(at + 1, &end, 10);
            assert_true(name < MEMBERS && !seen[name]);
            assert_true(strtoul(end + 3, NULL, 10) == name % 7);
            seen[name] = true;
            at = end + 3;
        }
        pages++;
    } while (strcmp(cursor, "0") != 0);
    for (int i = 0; i < MEMBERS; i++) assert_true(seen[i]);
    assert_int_equal(pages, MEMBERS / 20);
    fixture_deinit(&fixture);
}

/* A small board of high scores, which move all the time: what has moved away is not passed again and again. */
static void moving_scores_cost_what_moves(void **state) {
    (void)state;
    enum { ROUNDS = 20000, MEMBERS = 50 };
    struct fixture fixture;
    fixture_init(&fixture);
    struct chance chance = {.state = 3};
    uint64_t worst = 0;
    for (int i = 0; i < ROUNDS; i++) {
        char line[64];
        snprintf(line, sizeof line, "ZADD z %d m%d", (int)chance_below(&chance, 1000000),
                 (int)chance_below(&chance, MEMBERS));
        fixture_run(&fixture, line);
        uint64_t before = kv_memory_passed(fixture.kv);
        fixture_run(&fixture, "ZRANGE z 0 -1");
        uint64_t here = kv_memory_passed(fixture.kv) - before;
        if (here > worst) worst = here;
    }
    assert_true(worst > 0 && worst < 2000);
    fixture_expect(&fixture, "ZCARD z", "50");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

static void random_text(struct chance *chance, char *room, size_t size) {
    for (size_t i = 0; i < size; i++) room[i] = (char)('a' + chance_below(chance, 26));
    room[size] = '\0';
}

/* Names on both sides of what is inline, and one that is too long. */
static void names_may_be_long(void **state) {
    (void)state;
    static const size_t sizes[] = {399, 400, 401, 1000};
    struct chance chance = {.state = 1};
    struct fixture fixture;
    fixture_init(&fixture);
    char name[1001], line[1100];
    for (int round = 0; round < 200; round++) {
        random_text(&chance, name, sizes[round % 4]);
        snprintf(line, sizeof line, "ZADD z %d %s", round % 5, name);
        fixture_expect(&fixture, line, "1");
        snprintf(line, sizeof line, "ZINCRBY z 1 %s", name);
        char told[8];
        snprintf(told, sizeof told, "#%d", round % 5 + 1);
        fixture_expect(&fixture, line, told);
    }
    fixture_audit(&fixture);
    const char *all = fixture_run(&fixture, "ZPOPMIN z 200");
    char last[1100] = "";
    int count = 0;
    double last_score = 0;
    for (const char *at = all + 1; *at == '[' || *at == ' '; count++) { /* ["name" #score] */
        if (*at == ' ') at++;
        size_t size = strcspn(at + 2, "\"");
        double score = strtod(at + 2 + size + 3, NULL);
        char here[1100];
        memcpy(here, at + 2, size);
        here[size] = '\0';
        assert_true(score > last_score || (score == last_score && strcmp(here, last) > 0));
        last_score = score;
        memcpy(last, here, size + 1);
        at += 2 + size + strcspn(at + 2 + size, "]") + 1;
    }
    assert_int_equal(count, 200);
    fixture_expect(&fixture, "EXISTS z", "0");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

static void add_to_body(struct fixture *fixture, const char *score, struct slice name) {
    buffer_clear(&fixture->body, 65536);
    mp_write_text(&fixture->body, "ZADD");
    mp_write_array(&fixture->body, 5);
    mp_write_text(&fixture->body, "z");
    mp_write_text(&fixture->body, "1");
    mp_write_text(&fixture->body, "first");
    mp_write_text(&fixture->body, score);
    mp_write_bin(&fixture->body, name);
}

static void names_have_a_limit(void **state) {
    (void)state;
    static uint8_t name[KEY_BYTES_MAX + 1];
    struct fixture fixture;
    fixture_init(&fixture);
    add_to_body(&fixture, "2", slice_of(name, sizeof name));
    assert_string_equal(fixture_run_body(&fixture, false, true),
                        "-TOOLARGE a member or field exceeds the maximum size of 65536 bytes");
    fixture_expect(&fixture, "EXISTS z", "0");
    add_to_body(&fixture, "2", slice_of(name, sizeof name - 1));
    assert_string_equal(fixture_run_body(&fixture, false, true), "2");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

static uint64_t same_hash64(struct slice key) {
    (void)key;
    return 5;
}
static void same_hash128(struct slice key, uint8_t hash[16]) {
    (void)key;
    memset(hash, 9, 16);
}

/* Long names that collide in everything stand side by side; one too many is refused, and what was added before it is undone. */
static void all_or_nothing(void **state) {
    (void)state;
    static const struct keyspace_hasher colliding = {.hash64 = same_hash64, .hash128 = same_hash128};
    struct fixture fixture;
    fixture_init(&fixture);
    fixture.exec.hasher = &colliding;
    uint8_t name[500];
    memset(name, 'n', sizeof name);
    for (unsigned i = 0; i < ELEMENT_DISCRIMINATORS; i++) {
        put_u64(name + 492, i);
        add_to_body(&fixture, i % 2 == 0 ? "7" : "8", slice_of(name, sizeof name));
        assert_string_equal(fixture_run_body(&fixture, false, true), i == 0 ? "2" : "1");
    }
    fixture_expect(&fixture, "ZCARD z", "257");
    fixture_expect(&fixture, "ZCOUNT z 8 8", "128");
    fixture_expect(&fixture, "ZREM z first", "1");
    put_u64(name + 492, 1000);
    add_to_body(&fixture, "7", slice_of(name, sizeof name));
    assert_string_equal(fixture_run_body(&fixture, false, true),
                        "-TOOLARGE too many elements with the hash of this one");
    fixture_expect(&fixture, "ZSCORE z first", "nil");
    fixture_expect(&fixture, "ZREMRANGEBYRANK z 10 19", "10");
    fixture_audit(&fixture);
    add_to_body(&fixture, "7", slice_of(name, sizeof name));
    assert_string_equal(fixture_run_body(&fixture, false, true), "2");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

static void batches_are_undone(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    for (int i = 0; i < 200; i++) {
        char line[64];
        snprintf(line, sizeof line, "ZADD z %d m%d", i, i);
        fixture_expect(&fixture, line, "1");
    }
    static const char *const lines[] = {"ZREMRANGEBYRANK z 0 150", "ZADD z 5 a 500 b", "ZPOPMAX z 3",
                                        "ZADD z x y"};
    assert_string_equal(fixture_run_atomic(&fixture, lines, 4),
                        "-BADREQUEST command 4: value is not a valid float");
    fixture_expect(&fixture, "ZCARD z", "200");
    fixture_expect(&fixture, "ZRANK z m150", "150");
    fixture_expect(&fixture, "ZRANGE z 198 -1", "[\"m198\" \"m199\"]");
    assert_string_equal(fixture_run_atomic(&fixture, lines, 3),
                        "[[nil 151] [nil 2] [nil [[\"b\" #500] [\"m199\" #199] [\"m198\" #198]]]]");
    fixture_expect(&fixture, "ZRANK z m151", "1");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* A score that rises leaves a deleted place behind each time, between the greatest member and the next one: what lies there is
 * not met again for ever. */
static void a_rising_score_stays_cheap(void **state) {
    (void)state;
    enum { TIMES = 10000 };
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "ZADD z 0 low 1 high", "2");
    uint64_t passed = kv_memory_passed(fixture.kv);
    for (uint32_t i = 0; i < TIMES; i++) fixture_run(&fixture, "ZINCRBY z 1 high");
    assert_true(kv_memory_passed(fixture.kv) - passed < 1500ull * TIMES);
    fixture_expect(&fixture, "ZRANGE z 0 -1 WITHSCORES", "[[\"low\" #0] [\"high\" #10001]]");
    fixture_expect(&fixture, "ZRANK z high", "1");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_and_looks_up),
        cmocka_unit_test(scores_are_what_redis_takes),
        cmocka_unit_test(add_has_conditions),
        cmocka_unit_test(increments),
        cmocka_unit_test(removes),
        cmocka_unit_test(names_may_be_long),
        cmocka_unit_test(names_have_a_limit),
        cmocka_unit_test(all_or_nothing),
        cmocka_unit_test(batches_are_undone),
        cmocka_unit_test(scans),
        cmocka_unit_test(moving_scores_cost_what_moves),
        cmocka_unit_test(moves_and_copies),
        cmocka_unit_test(a_rising_score_stays_cheap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
