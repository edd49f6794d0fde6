#include "mp.h"

#include "error.h"

#include <math.h>

#include "testing.h"

/* A literal with its zeros, without the final one. */
#define BYTES(literal) slice_of(literal, sizeof(literal) - 1)

static int read_one(struct slice bytes, struct mp_value *value) {
    struct mp_reader reader = mp_reader_of(bytes);
    int rc = mp_read(&reader, value);
    /* Skipping agrees with reading, for scalars. */
    struct mp_reader skipper = mp_reader_of(bytes);
    struct slice span;
    if (rc == SK_OK && value->type != MP_ARRAY && value->type != MP_MAP) {
        assert_int_equal(mp_skip(&skipper, &span), SK_OK);
        assert_ptr_equal(skipper.at, reader.at);
        assert_ptr_equal(span.data, bytes.data);
        assert_int_equal(span.size, reader.at - bytes.data);
    }
    if (rc != SK_OK) assert_int_equal(mp_skip(&skipper, &span), SK_EPROTO);
    return rc;
}

static void assert_uint(struct slice bytes, uint64_t number) {
    struct mp_value value;
    assert_int_equal(read_one(bytes, &value), SK_OK);
    assert_int_equal(value.type, MP_UINT);
    assert_true(value.uint == number);
}

static void assert_int(struct slice bytes, int64_t number) {
    struct mp_value value;
    assert_int_equal(read_one(bytes, &value), SK_OK);
    assert_int_equal(value.type, MP_INT);
    assert_true(value.sint == number);
}

static void assert_run(struct slice bytes, enum mp_type type, const char *text) {
    struct mp_value value;
    assert_int_equal(read_one(bytes, &value), SK_OK);
    assert_int_equal(value.type, type);
    assert_true(slice_equal(value.bytes, slice_of_text(text)));
}

static void assert_count(struct slice bytes, enum mp_type type, uint32_t count) {
    struct mp_value value;
    assert_int_equal(read_one(bytes, &value), SK_OK);
    assert_int_equal(value.type, type);
    assert_int_equal(value.count, count);
}

static void test_integers(void **state) {
    (void)state;
    assert_uint(BYTES("\x00"), 0);
    assert_uint(BYTES("\x7f"), 127);
    assert_uint(BYTES("\xcc\xff"), 255);
    assert_uint(BYTES("\xcd\x01\x02"), 0x0102);
    assert_uint(BYTES("\xce\x01\x02\x03\x04"), 0x01020304);
    assert_uint(BYTES("\xcf\x01\x02\x03\x04\x05\x06\x07\x08"), 0x0102030405060708);
    assert_uint(BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), UINT64_MAX);
    /* Signed forms of what is not negative. */
    assert_uint(BYTES("\xd0\x7f"), 127);
    assert_uint(BYTES("\xd1\x7f\xff"), 32767);
    assert_uint(BYTES("\xd2\x00\x00\x00\x00"), 0);
    assert_uint(BYTES("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff"), INT64_MAX);
    assert_int(BYTES("\xff"), -1);
    assert_int(BYTES("\xe0"), -32);
    assert_int(BYTES("\xd0\x80"), -128);
    assert_int(BYTES("\xd1\x80\x00"), -32768);
    assert_int(BYTES("\xd2\x80\x00\x00\x00"), INT32_MIN);
    assert_int(BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), INT64_MIN);
}

static void test_nil_bool_float(void **state) {
    (void)state;
    struct mp_value value;
    assert_int_equal(read_one(BYTES("\xc0"), &value), SK_OK);
    assert_int_equal(value.type, MP_NIL);
    assert_int_equal(read_one(BYTES("\xc2"), &value), SK_OK);
    assert_true(value.type == MP_BOOL && !value.boolean);
    assert_int_equal(read_one(BYTES("\xc3"), &value), SK_OK);
    assert_true(value.type == MP_BOOL && value.boolean);
    assert_int_equal(read_one(BYTES("\xca\x3f\xc0\x00\x00"), &value), SK_OK);
    assert_true(value.type == MP_FLOAT && value.real == 1.5);
    assert_int_equal(read_one(BYTES("\xcb\xbf\xf8\x00\x00\x00\x00\x00\x00"), &value), SK_OK);
    assert_true(value.type == MP_FLOAT && value.real == -1.5);
    assert_int_equal(read_one(BYTES("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), &value), SK_OK);
    assert_true(isnan(value.real));
}

static void test_strings(void **state) {
    (void)state;
    assert_run(BYTES("\xa0"), MP_STR, "");
    assert_run(BYTES("\xa3"
                     "abc"),
               MP_STR, "abc");
    assert_run(BYTES("\xd9\x01x"), MP_STR, "x");
    assert_run(BYTES("\xda\x00\x01x"), MP_STR, "x");
    assert_run(BYTES("\xdb\x00\x00\x00\x01x"), MP_STR, "x");
    assert_run(BYTES("\xc4\x00"), MP_BIN, "");
    assert_run(BYTES("\xc4\x02xy"), MP_BIN, "xy");
    assert_run(BYTES("\xc5\x00\x02xy"), MP_BIN, "xy");
    assert_run(BYTES("\xc6\x00\x00\x00\x02xy"), MP_BIN, "xy");
    assert_run(BYTES("\xd4\x09x"), MP_EXT, "x");
    assert_run(BYTES("\xd5\x09xy"), MP_EXT, "xy");
    assert_run(BYTES("\xd6\x09xyzx"), MP_EXT, "xyzx");
    assert_run(BYTES("\xd7\x09xyzxyzxy"), MP_EXT, "xyzxyzxy");
    assert_run(BYTES("\xd8\x09xyzxyzxyxyzxyzxy"), MP_EXT, "xyzxyzxyxyzxyzxy");
    assert_run(BYTES("\xc7\x02\x09xy"), MP_EXT, "xy");
    assert_run(BYTES("\xc8\x00\x02\x09xy"), MP_EXT, "xy");
    assert_run(BYTES("\xc9\x00\x00\x00\x02\x09xy"), MP_EXT, "xy");
}

static void test_containers(void **state) {
    (void)state;
    assert_count(BYTES("\x90"), MP_ARRAY, 0);
    assert_count(BYTES("\x92\x01\x02"), MP_ARRAY, 2);
    assert_count(BYTES("\xdc\x00\x02\x01\x02"), MP_ARRAY, 2);
    assert_count(BYTES("\xdd\x00\x00\x00\x02\x01\x02"), MP_ARRAY, 2);
    assert_count(BYTES("\x80"), MP_MAP, 0);
    assert_count(BYTES("\x81\x01\x02"), MP_MAP, 1);
    assert_count(BYTES("\xde\x00\x01\x01\x02"), MP_MAP, 1);
    assert_count(BYTES("\xdf\x00\x00\x00\x01\x01\x02"), MP_MAP, 1);
}

static void test_counts_beyond_the_input(void **state) {
    (void)state;
    struct mp_value value;
    assert_int_equal(read_one(BYTES("\x93\x01\x02"), &value), SK_EPROTO);
    assert_int_equal(read_one(BYTES("\x82\x01\x02\x03"), &value), SK_EPROTO);
    assert_int_equal(read_one(BYTES("\xdc\xff\xff\x01"), &value), SK_EPROTO);
    assert_int_equal(read_one(BYTES("\xdd\xff\xff\xff\xff\x01"), &value), SK_EPROTO);
    assert_int_equal(read_one(BYTES("\xdf\xff\xff\xff\xff\x01"), &value), SK_EPROTO);
    assert_int_equal(read_one(BYTES("\xdf\x80\x00\x00\x00\x01"), &value),
                     SK_EPROTO); /* twice it is 0 in 32 bits */
    assert_int_equal(read_one(BYTES("\xc6\xff\xff\xff\xff\x01"), &value), SK_EPROTO);
    assert_int_equal(read_one(BYTES("\xc9\xff\xff\xff\xff\x01\x01"), &value), SK_EPROTO);
}

/* Each form, cut after each of its bytes, and copied to its own allocation so that a sanitizer sees a step beyond. */
static void test_truncated(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } forms[] = {
        {"\xcc\x01", 2},
        {"\xcd\x01\x01", 3},
        {"\xce\x01\x01\x01\x01", 5},
        {"\xcf\1\1\1\1\1\1\1\1", 9},
        {"\xd0\x01", 2},
        {"\xd1\x01\x01", 3},
        {"\xd2\x01\x01\x01\x01", 5},
        {"\xd3\1\1\1\1\1\1\1\1", 9},
        {"\xca\1\1\1\1", 5},
        {"\xcb\1\1\1\1\1\1\1\1", 9},
        {"\xa2xy", 3},
        {"\xd9\x02xy", 4},
        {"\xda\x00\x02xy", 5},
        {"\xdb\0\0\0\2xy", 7},
        {"\xc4\x02xy", 4},
        {"\xc5\x00\x02xy", 5},
        {"\xc6\0\0\0\2xy", 7},
        {"\xc7\x01\x09x", 4},
        {"\xc8\x00\x01\x09x", 5},
        {"\xc9\0\0\0\1\x09x", 7},
        {"\xd4\x09x", 3},
        {"\xd8\x09xyzxyzxyxyzxyzxy", 18},
        {"\x91\x01", 2},
        {"\xdc\0\1\1", 4},
        {"\xdd\0\0\0\1\1", 6},
        {"\x81\x01\x01", 3},
        {"\xde\0\1\1\1", 5},
        {"\xdf\0\0\0\1\1\1", 7},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        for (size_t size = 0; size <= forms[i].size; size++) {
            uint8_t *copy = malloc(size == 0 ? 1 : size);
            assert_non_null(copy);
            memcpy(copy, forms[i].bytes, size);
            struct mp_reader reader = mp_reader_of(slice_of(copy, size));
            assert_int_equal(mp_skip(&reader, NULL), size == forms[i].size ? SK_OK : SK_EPROTO);
            free(copy);
        }
    }
    struct mp_reader reader = mp_reader_of(slice_of(NULL, 0));
    struct mp_value value;
    assert_int_equal(mp_read(&reader, &value), SK_EPROTO);
    assert_int_equal(mp_skip(&reader, NULL), SK_EPROTO);
    assert_int_equal(read_one(BYTES("\xc1"), &value), SK_EPROTO);
    reader = mp_reader_of(BYTES("\x92\x01\xc1"));
    assert_int_equal(mp_skip(&reader, NULL), SK_EPROTO);
}

/* `depth` values, each the only element of the one before. */
static int skip_nested(size_t depth, uint8_t container, size_t elements) {
    size_t size = (depth - 1) * elements + 1;
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    memset(bytes, 1, size);
    /* Maps have their key first and nest in the value. */
    for (size_t i = 0; i + 1 < depth; i++) bytes[i * elements] = container;
    struct mp_reader reader = mp_reader_of(slice_of(bytes, size));
    int rc = mp_skip(&reader, NULL);
    if (rc == SK_OK) assert_int_equal(mp_left(&reader), 0);
    free(bytes);
    return rc;
}

static void test_depth(void **state) {
    (void)state;
    for (size_t depth = 1; depth <= MP_DEPTH_MAX; depth++) {
        assert_int_equal(skip_nested(depth, 0x91, 1), SK_OK);
        assert_int_equal(skip_nested(depth, 0x81, 2), SK_OK);
    }
    assert_int_equal(skip_nested(MP_DEPTH_MAX + 1, 0x91, 1), SK_EPROTO);
    assert_int_equal(skip_nested(MP_DEPTH_MAX + 1, 0x81, 2), SK_EPROTO);
    assert_int_equal(skip_nested(10000, 0x91, 1), SK_EPROTO);
    assert_int_equal(skip_nested(10000000, 0x91, 1), SK_EPROTO);
}

static void test_skip_steps_over_one_value(void **state) {
    (void)state;
    struct slice bytes = BYTES("\x93\x01\x82\xa1k\x90\xa1l\x92\xc0\xc3\xc4\x01x"
                               "\x05");
    struct mp_reader reader = mp_reader_of(bytes);
    struct slice span;
    uint64_t number;
    assert_int_equal(mp_skip(&reader, &span), SK_OK);
    assert_int_equal(span.size, bytes.size - 1);
    assert_int_equal(mp_read_uint(&reader, &number), SK_OK);
    assert_int_equal(number, 5);
    assert_int_equal(mp_left(&reader), 0);
}

static void test_typed_reads_refuse_other_types(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        enum mp_type type;
    } values[] = {
        {"\xc0", 1, MP_NIL},           {"\xc3", 1, MP_BOOL},    {"\x01", 1, MP_UINT},   {"\xff", 1, MP_INT},
        {"\xca\0\0\0\0", 5, MP_FLOAT}, {"\xa1x", 2, MP_STR},    {"\xc4\1x", 3, MP_BIN}, {"\x91\1", 2, MP_ARRAY},
        {"\x81\1\1", 3, MP_MAP},       {"\xd4\1\1", 3, MP_EXT},
    };
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct slice bytes = slice_of(values[i].bytes, values[i].size);
        enum mp_type type = values[i].type;
        struct mp_reader reader;
        uint32_t count;
        uint64_t number;
        bool boolean;
        struct slice run;
#define ASSERT_READS(call, fits)                                                                                  \
    reader = mp_reader_of(bytes);                                                                                 \
    assert_int_equal(call, (fits) ? SK_OK : SK_EPROTO)
        ASSERT_READS(mp_read_array(&reader, &count), type == MP_ARRAY);
        ASSERT_READS(mp_read_map(&reader, &count), type == MP_MAP);
        ASSERT_READS(mp_read_uint(&reader, &number), type == MP_UINT);
        ASSERT_READS(mp_read_bool(&reader, &boolean), type == MP_BOOL);
        ASSERT_READS(mp_read_str(&reader, &run), type == MP_STR);
        ASSERT_READS(mp_read_bytes(&reader, &run), type == MP_STR || type == MP_BIN);
        bytes = slice_of(NULL, 0);
        ASSERT_READS(mp_read_array(&reader, &count), false);
        ASSERT_READS(mp_read_map(&reader, &count), false);
        ASSERT_READS(mp_read_uint(&reader, &number), false);
        ASSERT_READS(mp_read_bool(&reader, &boolean), false);
        ASSERT_READS(mp_read_str(&reader, &run), false);
        ASSERT_READS(mp_read_bytes(&reader, &run), false);
#undef ASSERT_READS
    }
}

static const size_t lengths[] = {0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536, 100000};

static void test_what_is_written_is_read(void **state) {
    (void)state;
    static uint8_t filling[100000];
    struct buffer buffer;
    struct mp_value value;
    buffer_init(&buffer);
    mp_write_nil(&buffer);
    mp_write_bool(&buffer, true);
    mp_write_bool(&buffer, false);
    mp_write_float(&buffer, 0.1);
    mp_write_text(&buffer, "text");
    mp_write_raw(&buffer, BYTES("\x92\x01\x02"));
    struct mp_reader reader = mp_reader_of(buffer_slice(&buffer));
    assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_NIL);
    assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_BOOL && value.boolean);
    assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_BOOL && !value.boolean);
    assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_FLOAT && value.real == 0.1);
    assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_STR);
    assert_true(slice_equal(value.bytes, slice_of_text("text")));
    assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_ARRAY && value.count == 2);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct slice run = slice_of(filling, lengths[i]);
        buffer_clear(&buffer, SIZE_MAX);
        mp_write_str(&buffer, run);
        mp_write_bin(&buffer, run);
        mp_write_map(&buffer, (uint32_t)lengths[i]);
        mp_write_raw(&buffer, slice_of(filling, lengths[i]));
        mp_write_raw(&buffer, slice_of(filling, lengths[i]));
        mp_write_array(&buffer, (uint32_t)lengths[i]);
        mp_write_raw(&buffer, slice_of(filling, lengths[i]));
        reader = mp_reader_of(buffer_slice(&buffer));
        assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_STR && slice_equal(value.bytes, run));
        assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_BIN && slice_equal(value.bytes, run));
        struct slice span;
        assert_int_equal(mp_skip(&reader, &span), SK_OK); /* the map */
        assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_ARRAY && value.count == lengths[i]);
        assert_int_equal(mp_left(&reader), lengths[i]);
    }
    buffer_deinit(&buffer);
}

static void test_written_integers_are_read(void **state) {
    (void)state;
    struct buffer buffer;
    struct mp_value value;
    buffer_init(&buffer);
    for (unsigned bit = 0; bit < 64; bit++) {
        for (int64_t near = -2; near <= 2; near++) {
            uint64_t number = ((uint64_t)1 << bit) + (uint64_t)near;
            buffer_clear(&buffer, SIZE_MAX);
            mp_write_uint(&buffer, number);
            mp_write_int(&buffer, (int64_t)number);
            struct mp_reader reader = mp_reader_of(buffer_slice(&buffer));
            assert_true(mp_read(&reader, &value) == SK_OK && value.type == MP_UINT && value.uint == number);
            assert_int_equal(mp_read(&reader, &value), SK_OK);
            if ((int64_t)number < 0) assert_true(value.type == MP_INT && value.sint == (int64_t)number);
            else assert_true(value.type == MP_UINT && value.uint == number);
            assert_int_equal(mp_left(&reader), 0);
        }
    }
    buffer_deinit(&buffer);
}

static void test_a_failed_writer_says_so(void **state) {
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer);
    mp_write_bin(&buffer, slice_of("", (size_t)UINT32_MAX + 1)); /* beyond the format: nothing is read of it */
    assert_true(buffer.failed);
    assert_int_equal(buffer.size, 0);
    mp_write_uint(&buffer, 1);
    assert_int_equal(buffer.size, 0);
    buffer_deinit(&buffer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_nil_bool_float),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_containers),
        cmocka_unit_test(test_counts_beyond_the_input),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_skip_steps_over_one_value),
        cmocka_unit_test(test_typed_reads_refuse_other_types),
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_written_integers_are_read),
        cmocka_unit_test(test_a_failed_writer_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
