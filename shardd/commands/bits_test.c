/* What a real Redis 7 answers, and the chunks behind it. */
#include "shardd/bitmap.h"
#include "shardd/exec_fixture.h"

#include <time.h>

static void bits(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"SETBIT b 7 1", "0"}, {"GET b", "\"\\x01\""}, {"SETBIT b 7 1", "1"}, {"SETBIT b 7 0", "1"},
        {"GET b", "\"\\x00\""}, {"SETBIT b 0 1", "0"}, {"SETBIT b 20 1", "0"}, {"GET b", "\"\\x80\\x00\\x08\""},
        {"STRLEN b", "3"}, {"TYPE b", "+string"}, {"GETBIT b 20", "1"}, {"GETBIT b 21", "0"},
        {"GETBIT b 4294967295", "0"}, {"GETBIT none 0", "0"},
        {"SETBIT b -1 1", "-BADREQUEST bit offset is not an integer or out of range"},
        {"SETBIT b 4294967296 1", "-BADREQUEST bit offset is not an integer or out of range"},
        {"SETBIT b 1 2", "-BADREQUEST bit is not an integer or out of range"},
        {"SETBIT b x 1", "-BADREQUEST bit offset is not an integer or out of range"},
        {"SETBIT b 01 1", "-BADREQUEST bit offset is not an integer or out of range"},
        {"SETBIT b 0 x", "-BADREQUEST bit is not an integer or out of range"},
        {"GETBIT b x", "-BADREQUEST bit offset is not an integer or out of range"},
        {"GETBIT b -1", "-BADREQUEST bit offset is not an integer or out of range"}, {"SET s foobar", "+OK"},
        {"BITCOUNT s", "26"}, {"BITCOUNT s 0 0", "4"}, {"BITCOUNT s 1 1", "6"}, {"BITCOUNT s 1 1 BYTE", "6"},
        {"BITCOUNT s 5 30 bit", "17"}, {"BITCOUNT s 5 5 BIT", "1"}, {"BITCOUNT s -6 -1 BIT", "3"},
        {"BITCOUNT s -100 100 BIT", "26"}, {"BITCOUNT s 0 -1", "26"}, {"BITCOUNT s -2 -1", "7"},
        {"BITCOUNT s 3 1", "0"}, {"BITCOUNT s -1 -2 FOO", "0"}, {"BITCOUNT s 0", "-BADREQUEST syntax error"},
        {"BITCOUNT s 0 -1 FOO", "-BADREQUEST syntax error"},
        {"BITCOUNT s x 1 FOO", "-BADREQUEST value is not an integer or out of range"},
        {"BITCOUNT s 0 1 bit x", "-BADREQUEST syntax error"}, {"BITCOUNT none 0", "0"}, {"BITCOUNT none", "0"},
        {"SET ones \"\\xff\\xff\\xff\"", "+OK"}, {"SET zeros \"\\x00\\x00\\x00\"", "+OK"},
        {"SET mixed \"\\x00\\xff\\xf0\"", "+OK"}, {"SET gap \"\\xff\\xf0\\x00\"", "+OK"}, {"BITPOS ones 0", "24"},
        {"BITPOS ones 0 0", "24"}, {"BITPOS ones 0 0 -1", "-1"}, {"BITPOS ones 0 1 1 BIT", "-1"},
        {"BITPOS ones 1 2", "16"}, {"BITPOS ones 1 -1", "16"}, {"BITPOS ones 1 3", "-1"},
        {"BITPOS ones 0 3", "-1"}, {"BITPOS zeros 1", "-1"}, {"BITPOS zeros 1 0 -1", "-1"},
        {"BITPOS zeros 0", "0"}, {"BITPOS zeros 0 2", "16"}, {"BITPOS zeros 0 13 15 BIT", "13"},
        {"BITPOS mixed 1", "8"}, {"BITPOS mixed 1 2", "16"}, {"BITPOS mixed 1 9 -1 BIT", "9"},
        {"BITPOS mixed 1 0 7 BIT", "-1"}, {"BITPOS mixed 1 7 8 BIT", "8"}, {"BITPOS mixed 0 8 -1 BIT", "20"},
        {"BITPOS mixed 0 8 19 BIT", "-1"}, {"BITPOS gap 0", "12"}, {"BITPOS gap 0 0 0", "-1"},
        {"BITPOS gap 0 2", "16"}, {"BITPOS gap 1 2", "-1"}, {"BITPOS gap 0 -200 -100", "-1"},
        {"BITPOS none 0", "0"}, {"BITPOS none 1", "-1"}, {"BITPOS none 1 x", "-1"},
        {"BITPOS gap 2", "-BADREQUEST The bit argument must be 1 or 0."},
        {"BITPOS gap x", "-BADREQUEST value is not an integer or out of range"},
        {"BITPOS gap 1 x", "-BADREQUEST value is not an integer or out of range"},
        {"BITPOS gap 1 0 x", "-BADREQUEST value is not an integer or out of range"},
        {"BITPOS gap 1 0 1 FOO", "-BADREQUEST syntax error"}, {"BITPOS gap 1 0 x FOO", "-BADREQUEST syntax error"},
        {"BITPOS gap 1 2 1 BIT", "-1"}, {"BITPOS gap 1 0 0 byte x", "-BADREQUEST syntax error"},
        {"SET {t}a \"\\xf0\\x0f\"", "+OK"}, {"SET {t}b \"\\xff\\x00\\x55\"", "+OK"},
        {"BITOP AND {t}d {t}a {t}b", "3"}, {"GET {t}d", "\"\\xf0\\x00\\x00\""}, {"BITOP or {t}d {t}a {t}b", "3"},
        {"GET {t}d", "\"\\xff\\x0fU\""}, {"BITOP Xor {t}d {t}a {t}b {t}a", "3"}, {"GET {t}d", "\"\\xff\\x00U\""},
        {"BITOP NOT {t}d {t}b", "3"}, {"GET {t}d", "\"\\x00\\xff\\xaa\""}, {"BITOP AND {t}d {t}a {t}none", "2"},
        {"GET {t}d", "\"\\x00\\x00\""}, {"BITOP OR {t}d {t}d {t}b", "3"}, {"GET {t}d", "\"\\xff\\x00U\""},
        {"BITOP OR {t}d {t}none {t}none2", "0"}, {"EXISTS {t}d", "0"}, {"BITOP OR {t}d {t}none", "0"},
        {"BITOP NOT {t}d {t}a {t}b", "-BADREQUEST BITOP NOT must be called with a single source key."},
        {"BITOP FOO {t}d {t}a", "-BADREQUEST syntax error"},
        {"BITOP AND {t}d", "-BADREQUEST wrong number of arguments for 'bitop' command"});
}

static void fields(void **state) {
    (void)state;
    FIXTURE_TABLE(
        {"BITFIELD f", "[]"}, {"BITFIELD f GET u8 0", "[0]"}, {"EXISTS f", "0"},
        {"BITFIELD f SET u8 0 200 GET u8 0 GET i8 0", "[0 200 -56]"}, {"GET f", "\"\\xc8\""},
        {"BITFIELD f SET i5 3 -3 GET i5 3 GET u5 3", "[8 -3 29]"}, {"GET f", "\"\\xdd\""},
        {"BITFIELD f INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", "[1 1]"},
        {"BITFIELD f INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", "[2 2]"},
        {"BITFIELD f INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", "[3 3]"},
        {"BITFIELD f INCRBY u2 100 1 OVERFLOW SAT INCRBY u2 102 1", "[0 3]"},
        {"BITFIELD f OVERFLOW FAIL INCRBY u2 102 1 INCRBY u2 102 -1", "[nil 2]"},
        {"BITFIELD w INCRBY i8 0 127 INCRBY i8 0 1 INCRBY i8 0 -1", "[127 -128 127]"},
        {"BITFIELD w OVERFLOW SAT INCRBY i8 0 1 INCRBY i8 0 -128 INCRBY i8 0 -200", "[127 -1 -128]"},
        {"BITFIELD w OVERFLOW WRAP INCRBY i8 0 -1000 SET i8 0 1000 GET i8 0", "[-104 -104 -24]"},
        {"BITFIELD w OVERFLOW SAT SET i8 0 1000 GET i8 0 SET i8 0 -1000 GET i8 0", "[-24 127 127 -128]"},
        {"BITFIELD w OVERFLOW FAIL SET i8 0 1000 GET i8 0", "[nil -128]"},
        {"BITFIELD w SET u8 0 -1 GET u8 0", "[128 255]"},
        {"BITFIELD w OVERFLOW SAT SET u8 0 -1 GET u8 0 SET u8 0 256 GET u8 0", "[255 255 255 255]"},
        {"BITFIELD w OVERFLOW SAT INCRBY u8 0 -1000 INCRBY u8 0 9223372036854775807", "[0 255]"},
        {"BITFIELD w OVERFLOW WRAP INCRBY u8 0 -300", "[211]"},
        {"BITFIELD l SET i64 3 -9223372036854775808 GET i64 3 GET u63 3 GET u63 4",
         "[0 -9223372036854775808 4611686018427387904 0]"},
        {"BITFIELD l INCRBY i64 3 -1", "[9223372036854775807]"},
        {"BITFIELD l OVERFLOW SAT INCRBY i64 3 1 INCRBY i64 3 9223372036854775807",
         "[9223372036854775807 9223372036854775807]"},
        {"BITFIELD l OVERFLOW FAIL INCRBY i64 3 1 SET u63 70 -1 GET u63 70", "[nil nil 0]"},
        {"BITFIELD l SET u63 70 9223372036854775807 INCRBY u63 70 1 INCRBY u63 70 -1",
         "[0 0 9223372036854775807]"},
        {"BITFIELD l SET i1 0 1 GET i1 0 INCRBY i1 0 1", "[0 -1 0]"},
        {"BITFIELD l SET u1 0 1 GET u1 0 INCRBY u1 0 1", "[0 1 0]"},
        {"BITFIELD l SET u8 \"#1\" 5 GET u8 8 GET u16 \"#0\"", "[255 5 3845]"}, {"STRLEN l", "17"},
        {"BITFIELD fail OVERFLOW FAIL INCRBY u4 0 100", "[nil]"}, {"STRLEN fail", "1"},
        {"BITFIELD f GET u8", "-BADREQUEST syntax error"}, {"BITFIELD f SET u8 0", "-BADREQUEST syntax error"},
        {"BITFIELD f INCRBY u8 0", "-BADREQUEST syntax error"},
        {"BITFIELD f OVERFLOW", "-BADREQUEST syntax error"},
        {"BITFIELD f OVERFLOW X", "-BADREQUEST Invalid OVERFLOW type specified"},
        {"BITFIELD f OVERFLOW SAT", "[]"},
        {"BITFIELD f GET u0 1", "-BADREQUEST Invalid bitfield type. Use something like i16 u8. Note that u64 is "
                                "not supported but i64 is."},
        {"BITFIELD f GET u64 1", "-BADREQUEST Invalid bitfield type. Use something like i16 u8. Note that u64 is "
                                 "not supported but i64 is."},
        {"BITFIELD f GET i65 1", "-BADREQUEST Invalid bitfield type. Use something like i16 u8. Note that u64 is "
                                 "not supported but i64 is."},
        {"BITFIELD f GET x8 0", "-BADREQUEST Invalid bitfield type. Use something like i16 u8. Note that u64 is "
                                "not supported but i64 is."},
        {"BITFIELD f GET u08 0", "-BADREQUEST Invalid bitfield type. Use something like i16 u8. Note that u64 is "
                                 "not supported but i64 is."},
        {"BITFIELD f GET u 0", "-BADREQUEST Invalid bitfield type. Use something like i16 u8. Note that u64 is "
                               "not supported but i64 is."},
        {"BITFIELD f GET u8 \"#\"", "-BADREQUEST bit offset is not an integer or out of range"},
        {"BITFIELD f GET u8 \"#01\"", "-BADREQUEST bit offset is not an integer or out of range"},
        {"BITFIELD f GET u8 -1", "-BADREQUEST bit offset is not an integer or out of range"},
        {"BITFIELD f GET u63 4294967295", "[0]"}, {"BITFIELD f GET u8 \"#536870911\"", "[0]"},
        {"BITFIELD f GET u8 \"#536870912\"", "-BADREQUEST bit offset is not an integer or out of range"},
        {"BITFIELD f SET u8 0 abc", "-BADREQUEST value is not an integer or out of range"},
        {"BITFIELD f FOO u8 0", "-BADREQUEST syntax error"}, {"BITFIELD_RO f GET u8 0 OVERFLOW SAT", "[221]"},
        {"BITFIELD_RO f", "[]"},
        {"BITFIELD_RO f GET u8 0 SET u8 0 1", "-BADREQUEST BITFIELD_RO only supports the GET subcommand"},
        {"BITFIELD_RO none GET u8 0", "[0]"});
}

static void other_types_are_refused(void **state) {
    (void)state;
    static const char *const lines[] = {
        "SETBIT o 1 1",  "GETBIT o 1",     "BITCOUNT o",          "BITPOS o 1",
        "BITOP AND o o", "BITOP NOT o o",  "BITFIELD o GET u8 0", "BITFIELD_RO o GET u8 0",
        "STRLEN o",      "GETRANGE o 0 1", "SETRANGE o 0 x",      "APPEND o x"};
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_put_other_type(&fixture, "o", 0);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        fixture_expect(&fixture, lines[i], "-WRONGTYPE Operation against a key holding the wrong kind of value");
    }
    fixture_deinit(&fixture);
}

static uint64_t chunks_of(struct fixture *fixture, const char *key) {
    struct object object;
    assert_int_equal(keyspace_find(&fixture->exec, slice_of_text(key), fixture->now_us, &object), SK_OK);
    return object.type == OBJECT_BITMAP ? fixture_elements(fixture, object.elements_id) : 0;
}

/* A far bit costs one chunk. What is too long to be read as a string is still a string. */
static void a_far_bit_is_cheap(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SETBIT far 4294967295 1", "0");
    assert_int_equal(chunks_of(&fixture, "far"), 1);
    fixture_expect(&fixture, "TYPE far", "+string");
    fixture_expect(&fixture, "STRLEN far", "536870912");
    fixture_expect(&fixture, "BITCOUNT far", "1");
    fixture_expect(&fixture, "BITPOS far 1", "4294967295");
    fixture_expect(&fixture, "BITPOS far 0", "0");
    fixture_expect(&fixture, "GETBIT far 4294967295", "1");
    fixture_expect(&fixture, "GETRANGE far -2 -1", "\"\\x00\\x01\"");
    fixture_expect(&fixture, "GET far", "-TOOLARGE string exceeds maximum allowed size");
    fixture_expect(&fixture, "GETRANGE far 0 -1", "-TOOLARGE string exceeds maximum allowed size");
    fixture_expect(&fixture, "APPEND far 123456789", "-TOOLARGE string exceeds maximum allowed size");
    fixture_expect(&fixture, "SETBIT far 3 1", "0");
    fixture_expect(&fixture, "BITPOS far 1 1", "4294967295");
    fixture_expect(&fixture, "BITCOUNT far", "2");
    assert_int_equal(chunks_of(&fixture, "far"), 2);
    fixture_expect(&fixture, "SETBIT other 4000000000 0", "0"); /* not even that */
    assert_int_equal(chunks_of(&fixture, "other"), 0);
    fixture_expect(&fixture, "BITCOUNT other", "0");
    fixture_expect(&fixture, "DEL far other", "2");
    fixture_audit(&fixture);
    fixture_deinit(&fixture);
}

/* Commands of strings read one in chunks as what it is, and what they store is plain again. */
static void chunks_are_a_string(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SET s 12", "+OK");
    fixture_expect(&fixture, "SETBIT s 79999 1", "0");
    assert_int_equal(chunks_of(&fixture, "s"), 2);
    fixture_expect(&fixture, "GETRANGE s 0 3", "\"12\\x00\\x00\"");
    fixture_expect(&fixture, "GETRANGE s -1 -1", "\"\\x01\"");
    fixture_expect(&fixture, "GETRANGE s 4095 4096", "\"\\x00\\x00\"");
    fixture_expect(&fixture, "INCR s", "-BADVALUE value is not an integer or out of range");
    fixture_expect(&fixture, "EXPIRE s 100", "1");
    fixture_expect(&fixture, "SETRANGE s 4094 abcd", "10000");
    fixture_expect(&fixture, "GETRANGE s 4093 4098", "\"\\x00abcd\\x00\"");
    fixture_expect(&fixture, "APPEND s xyz", "10003");
    fixture_expect(&fixture, "TTL s", "100");
    fixture_expect(&fixture, "GETEX s EX 200", fixture_run(&fixture, "GET s"));
    fixture_expect(&fixture, "TTL s", "200");
    assert_int_equal(chunks_of(&fixture, "s"), 3);
    fixture_expect(&fixture, "PERSIST s", "1");
    assert_int_equal(chunks_of(&fixture, "s"), 3);
    fixture_expect(&fixture, "STRLEN s", "10003");
    fixture_audit(&fixture);
    fixture_expect(&fixture, "GETRANGE s 10000 -1", "\"xyz\"");
    const char *told = fixture_run(&fixture, "MGET s none");
    assert_memory_equal(told, "[\"12\\x00", 8);
    assert_string_equal(told + strlen(told) - 9, "xyz\" nil]");
    told = fixture_run(&fixture, "GETSET s new");
    assert_memory_equal(told, "\"12\\x00", 7);
    assert_int_equal(chunks_of(&fixture, "s"), 0);
    fixture_expect(&fixture, "GET s", "\"new\"");
    fixture_audit(&fixture); /* and no chunk is left */
    fixture_deinit(&fixture);
}

/* A target that has expired goes, with its elements, after the result was made and before it is stored. */
static void a_target_that_has_expired(void **state) {
    (void)state;
    FIXTURE_TABLE({"SETBIT {t}d 100000 1", "0"}, {"PEXPIRE {t}d 10", "1"}, {"SET {t}a abcdef", "+OK"}, {"@10", ""},
                  {"BITOP NOT {t}d {t}a", "6"}, {"GET {t}d", "\"\\x9e\\x9d\\x9c\\x9b\\x9a\\x99\""},
                  {"PTTL {t}d", "-1"});
}

/* Each chunk of the result is read from every source. */
static void much_work_is_refused(void **state) {
    (void)state;
    enum { SOURCES = 9999 };
    static const char refusal[] = "-TOOLARGE the result of BITOP would be too large";
    struct fixture fixture;
    fixture_init(&fixture);
    for (uint32_t chunks = 3; chunks <= 4; chunks++) {
        char line[64];
        struct buffer *body = &fixture.body;
        for (uint32_t chunk = 0; chunk < chunks; chunk++) {
            snprintf(line, sizeof line, "SETBIT {t}b %u 1", (chunk + 1) * BITMAP_CHUNK_BYTES * 8 - 1);
            fixture_run(&fixture, line);
        }
        buffer_clear(body, 65536);
        mp_write_text(body, "BITOP");
        mp_write_array(body, SOURCES + 2);
        mp_write_text(body, "OR");
        for (uint32_t i = 0; i <= SOURCES; i++) mp_write_text(body, i == 0 ? "{t}d" : "{t}b");
        const char *told = fixture_run_body(&fixture, false, true);
        assert_string_equal(told, chunks == 3 ? "12288" : refusal);
    }
    fixture_deinit(&fixture);
}

/* What lies behind its chunks, of another collection, is nothing to a string; nor to its copy. */
static void what_was_removed_behind_is_not_passed(void **state) {
    (void)state;
    struct fixture fixture;
    fixture_init(&fixture);
    fixture_expect(&fixture, "SETBIT {t}b 100000 1", "0");
    fixture_expect(&fixture, "SADD {t}s 1 2 3 4 5 6 7 8 9", "9");
    fixture_expect(&fixture, "DEL {t}s", "1");
    uint64_t passed = kv_memory_passed(fixture.kv);
    fixture_expect(&fixture, "SETBIT {t}b 200000 0", "0");
    fixture_expect(&fixture, "BITCOUNT {t}b", "1");
    fixture_expect(&fixture, "COPY {t}b {t}c", "1");
    assert_int_equal(kv_memory_passed(fixture.kv), passed);
    fixture_deinit(&fixture);
}

/* ---- at random, against arrays of bytes ---- */

enum { KEYS = 3, BYTES = 5 * BITMAP_CHUNK_BYTES, STEPS = 4000 };

struct model {
    struct fixture fixture;
    uint8_t bytes[KEYS][BYTES];
    size_t size[KEYS];
    unsigned seed;
};

static uint32_t draw(struct model *model, uint32_t limit) { return (uint32_t)rand_r(&model->seed) % limit; }

/* Mostly near the border of a chunk. */
static size_t draw_byte(struct model *model, size_t limit) {
    size_t at = draw(model, 3) == 0 ? draw(model, (uint32_t)limit)
                                    : draw(model, 5) * (size_t)BITMAP_CHUNK_BYTES + draw(model, 8);
    return at < limit ? at : limit - 1;
}

__attribute__((format(printf, 3, 4))) static void expect_number(struct model *model, int64_t number,
                                                                const char *format, ...) {
    char line[256], told[32];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    snprintf(told, sizeof told, "%lld", (long long)number);
    const char *answer = fixture_run(&model->fixture, line);
    if (strcmp(answer, told) != 0) fail_msg("%s: %s instead of %s", line, answer, told);
}

static bool bit_at(const struct model *model, int key, size_t bit) {
    return bit / 8 < model->size[key] && (model->bytes[key][bit / 8] >> (7 - bit % 8) & 1);
}

static void grow(struct model *model, int key, size_t size) {
    if (model->size[key] < size) model->size[key] = size;
}

static void set_bit(struct model *model, int key) {
    size_t bit = draw_byte(model, BYTES) * 8 + draw(model, 8);
    unsigned on = draw(model, 2);
    expect_number(model, bit_at(model, key, bit), "SETBIT {k}%d %zu %u", key, bit, on);
    grow(model, key, bit / 8 + 1);
    uint8_t mask = (uint8_t)(0x80 >> bit % 8), *byte = &model->bytes[key][bit / 8];
    *byte = (uint8_t)(on ? *byte | mask : *byte & ~mask);
}

static void set_range(struct model *model, int key) {
    size_t at = draw_byte(model, BYTES - 20);
    char text[20];
    snprintf(text, sizeof text, "%0*u", (int)(1 + draw(model, 18)), draw(model, 1000));
    size_t end = at + strlen(text);
    expect_number(model, (int64_t)(end > model->size[key] ? end : model->size[key]), "SETRANGE {k}%d %zu %s", key,
                  at, text);
    memcpy(model->bytes[key] + at, text, strlen(text));
    grow(model, key, end);
}

static void count_bits(struct model *model, int key) {
    size_t start = draw_byte(model, BYTES), end = draw_byte(model, BYTES);
    bool in_bits = draw(model, 2);
    if (in_bits) start = start * 8 + draw(model, 8), end = end * 8 + draw(model, 8);
    int64_t count = 0;
    for (size_t bit = in_bits ? start : start * 8; bit <= (in_bits ? end : end * 8 + 7); bit++) {
        count += bit_at(model, key, bit);
    }
    expect_number(model, count, "BITCOUNT {k}%d %zu %zu %s", key, start, end, in_bits ? "BIT" : "BYTE");
}

static void find_bit(struct model *model, int key) {
    size_t size = model->size[key];
    if (size == 0) return;
    size_t start = draw_byte(model, size) * 8 + draw(model, 8);
    size_t end = draw_byte(model, size) * 8 + draw(model, 8);
    bool wanted = draw(model, 2);
    int64_t found = -1;
    for (size_t bit = start; bit <= end && found < 0; bit++) {
        if (bit_at(model, key, bit) == wanted) found = (int64_t)bit;
    }
    expect_number(model, found, "BITPOS {k}%d %d %zu %zu BIT", key, wanted, start, end);
}

static void operate(struct model *model, int key) {
    static const char *const names[] = {"AND", "OR", "XOR", "NOT"};
    int a = (int)draw(model, KEYS), b = (int)draw(model, KEYS);
    uint32_t kind = draw(model, 4);
    size_t size = kind == 3 || model->size[a] > model->size[b] ? model->size[a] : model->size[b];
    static uint8_t result[BYTES];
    memset(result, 0, sizeof result);
    for (size_t i = 0; i < size; i++) {
        uint8_t x = model->bytes[a][i], y = model->bytes[b][i];
        result[i] = (uint8_t)(kind == 0 ? x & y : kind == 1 ? x | y : kind == 2 ? x ^ y : ~x);
    }
    if (kind == 3) {
        expect_number(model, (int64_t)size, "BITOP NOT {k}%d {k}%d", key, a);
    } else {
        expect_number(model, (int64_t)size, "BITOP %s {k}%d {k}%d {k}%d", names[kind], key, a, b);
    }
    memcpy(model->bytes[key], result, sizeof result);
    model->size[key] = size;
}

static void check(struct model *model, int key) {
    struct fixture *fixture = &model->fixture;
    char text[16];
    struct bitmap bitmap;
    static uint8_t bytes[BYTES];
    struct call call = {.exec = &fixture->exec, .now_us = fixture->now_us, .answer = &fixture->answer};
    snprintf(text, sizeof text, "{k}%d", key);
    assert_int_equal(bitmap_find(&call, slice_of_text(text), &bitmap), SK_OK);
    assert_int_equal(bitmap.size, model->size[key]);
    assert_int_equal(bitmap_read(&call, &bitmap, 0, bytes, sizeof bytes), SK_OK);
    assert_memory_equal(bytes, model->bytes[key], sizeof bytes);
    fixture_audit(fixture);
}

static void random_against_bytes(void **state) {
    (void)state;
    static struct model model;
    const char *given = getenv("SEED");
    model.seed = given != NULL ? (unsigned)atoi(given) : (unsigned)time(NULL);
    print_message("SEED=%u\n", model.seed);
    fixture_init(&model.fixture);
    for (int step = 0; step < STEPS; step++) {
        int key = (int)draw(&model, KEYS);
        uint32_t what = draw(&model, 100);
        if (what < 30) set_bit(&model, key);
        else if (what < 50) set_range(&model, key);
        else if (what < 70) count_bits(&model, key);
        else if (what < 85) find_bit(&model, key);
        else if (what < 93) operate(&model, key);
        else if (what < 95) {
            expect_number(&model, model.size[key] > 0, "DEL {k}%d", key);
            memset(model.bytes[key], 0, BYTES);
            model.size[key] = 0;
        } else check(&model, key);
    }
    for (int key = 0; key < KEYS; key++) check(&model, key);
    fixture_deinit(&model.fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits),
        cmocka_unit_test(fields),
        cmocka_unit_test(other_types_are_refused),
        cmocka_unit_test(a_far_bit_is_cheap),
        cmocka_unit_test(chunks_are_a_string),
        cmocka_unit_test(a_target_that_has_expired),
        cmocka_unit_test(what_was_removed_behind_is_not_passed),
        cmocka_unit_test(much_work_is_refused),
        cmocka_unit_test(random_against_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
