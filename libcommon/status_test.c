#include "status.h"

#include "error.h"
#include "mp.h"

#include "testing.h"

static void write_figure(struct buffer *out, const char *name, uint64_t value) {
    mp_write_map(out, 1);
    mp_write_text(out, name);
    mp_write_uint(out, value);
}

/* The result of `status`: of node 1 by number, of node 2 by text, as an encoder without integer keys would. */
static void write_answer(struct buffer *out) {
    struct map *map;
    assert_int_equal(map_new(&map, 0, 0), SK_OK);
    map->version = 9;
    mp_write_map(out, 6);
    mp_write_text(out, "map");
    map_encode(map, out);
    mp_write_text(out, "new in a later version");
    mp_write_nil(out);
    mp_write_text(out, "metad");
    write_figure(out, "term", 3);
    mp_write_text(out, "stats");
    mp_write_map(out, 2);
    mp_write_uint(out, 1);
    write_figure(out, "keys", 12);
    mp_write_text(out, "2");
    write_figure(out, "keys", 13);
    mp_write_text(out, "ages_ms");
    mp_write_map(out, 1);
    mp_write_uint(out, 1);
    mp_write_uint(out, 450);
    mp_write_text(out, "gateways");
    mp_write_array(out, 1);
    write_figure(out, "age_ms", 5);
    map_unref(map);
}

static uint64_t number_in(struct slice value) {
    struct mp_reader reader = mp_reader_of(value);
    uint64_t number;
    assert_int_equal(mp_read_uint(&reader, &number), SK_OK);
    return number;
}

static void answers_are_read(void **state) {
    (void)state;
    struct buffer answer;
    struct status status;
    struct slice value;
    uint64_t age_ms;
    buffer_init(&answer);
    write_answer(&answer);
    assert_int_equal(status_read(&status, &answer), SK_OK);
    assert_null(answer.data);
    assert_int_equal(status.map->version, 9);
    assert_true(status_find_value(status.metad, "term", &value));
    assert_int_equal(number_in(value), 3);
    assert_false(status_find_value(status.metad, "ter", &value));
    assert_true(status_find_stat(&status, 1, "keys", &value));
    assert_int_equal(number_in(value), 12);
    assert_true(status_find_stat(&status, 2, "keys", &value));
    assert_int_equal(number_in(value), 13);
    assert_false(status_find_stat(&status, 2, "reads", &value));
    assert_false(status_find_stat(&status, 3, "keys", &value));
    assert_int_equal(status_stats_of(&status, 3).size, 0);
    assert_true(status_find_age(&status, 1, &age_ms));
    assert_int_equal(age_ms, 450);
    assert_false(status_find_age(&status, 2, &age_ms));
    assert_int_equal(status.gateways.size, 1 + 1 + 7 + 1);
    status_deinit(&status);
    status_deinit(&status); /* as often as one likes */
}

static void the_map_may_come_as_bytes(void **state) {
    (void)state;
    struct map *map;
    struct buffer bytes, answer;
    struct status status;
    assert_int_equal(map_new(&map, 0, 0), SK_OK);
    map->version = 7;
    buffer_init(&bytes), buffer_init(&answer);
    map_encode(map, &bytes);
    mp_write_map(&answer, 1);
    mp_write_text(&answer, "map");
    mp_write_bin(&answer, buffer_slice(&bytes));
    assert_int_equal(status_read(&status, &answer), SK_OK);
    assert_int_equal(status.map->version, 7);
    assert_int_equal(status_stats_of(&status, 1).size, 0); /* nothing is told */
    status_deinit(&status);
    buffer_deinit(&bytes);
    map_unref(map);
}

static void what_is_cut_anywhere_is_refused(void **state) {
    (void)state;
    struct buffer whole;
    buffer_init(&whole);
    write_answer(&whole);
    for (size_t cut = 0; cut < whole.size; cut++) {
        struct buffer part;
        struct status none;
        buffer_init(&part);
        buffer_append(&part, whole.data, cut);
        assert_int_equal(status_read(&none, &part), SK_EPROTO);
    }
    buffer_clear(&whole, SIZE_MAX);
    mp_write_map(&whole, 0); /* no map in it */
    struct status none;
    assert_int_equal(status_read(&none, &whole), SK_EPROTO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(the_map_may_come_as_bytes),
        cmocka_unit_test(what_is_cut_anywhere_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
