#include "shardd/epochs.h"

#include "libcommon/testing.h"

/* A table of `count` pairs epoch, index. */
static struct epochs table_of(uint32_t count, const uint64_t pairs[][2]) {
    struct epochs epochs = {0};
    for (uint32_t i = 0; i < count; i++) epochs_add(&epochs, pairs[i][0], pairs[i][1]);
    return epochs;
}

#define TABLE(...)                                                                                                \
    table_of(sizeof((const uint64_t[][2]){__VA_ARGS__}) / sizeof(uint64_t[2]), (const uint64_t[][2]){__VA_ARGS__})

static void test_an_epoch_is_added_once(void **state) {
    (void)state;
    struct epochs epochs = TABLE({2, 1}, {2, 2}, {2, 3}, {5, 4}, {5, 5});
    assert_int_equal(epochs.count, 2);
    assert_int_equal(epochs.starts[1].epoch, 5);
    assert_int_equal(epochs.starts[1].index, 4);
    assert_int_equal(epochs_at(&epochs, 0), 0);
    assert_int_equal(epochs_at(&epochs, 1), 2);
    assert_int_equal(epochs_at(&epochs, 3), 2);
    assert_int_equal(epochs_at(&epochs, 4), 5);
    assert_int_equal(epochs_at(&epochs, 99), 5);
}

static void test_a_full_table_forgets_the_oldest(void **state) {
    (void)state;
    struct epochs epochs = {0};
    for (uint64_t i = 1; i <= EPOCHS_MAX + 2; i++) epochs_add(&epochs, i, 10 * i);
    assert_int_equal(epochs.count, EPOCHS_MAX);
    assert_int_equal(epochs_at(&epochs, 29), 0); /* not known any more */
    assert_int_equal(epochs_at(&epochs, 30), 3);
    assert_int_equal(epochs_at(&epochs, 10 * (EPOCHS_MAX + 2)), EPOCHS_MAX + 2);
}

static void test_a_cut_forgets_what_began_behind_it(void **state) {
    (void)state;
    struct epochs epochs = TABLE({2, 1}, {5, 4}, {6, 8});
    epochs_cut(&epochs, 8);
    assert_int_equal(epochs.count, 3);
    epochs_cut(&epochs, 7);
    assert_int_equal(epochs.count, 2);
    assert_int_equal(epochs_at(&epochs, 7), 5);
    epochs_cut(&epochs, 0);
    assert_int_equal(epochs.count, 0);
}

static uint64_t common_of(struct epochs ours, uint64_t last_index, struct epochs theirs) {
    uint64_t common = 999;
    assert_true(epochs_common(&ours, last_index, &theirs, &common));
    return common;
}

/* R7: the last point at which (epoch, index) agree. */
static void test_r7_the_common_point(void **state) {
    (void)state;
    /* the leader of 3 has all of ours, and more */
    assert_int_equal(common_of(TABLE({1, 1}), 5, TABLE({1, 1}, {3, 9})), 5);
    /* it has less of epoch 1 than we do */
    assert_int_equal(common_of(TABLE({1, 1}), 12, TABLE({1, 1}, {3, 9})), 8);
    /* our epoch 2 it never saw */
    assert_int_equal(common_of(TABLE({1, 1}, {2, 6}), 12, TABLE({1, 1}, {3, 9})), 5);
    /* its epoch 2 we never saw */
    assert_int_equal(common_of(TABLE({1, 1}), 7, TABLE({1, 1}, {2, 5}, {3, 9})), 4);
    /* each has one that the other lacks */
    assert_int_equal(common_of(TABLE({1, 1}, {2, 6}), 12, TABLE({1, 1}, {3, 4}, {4, 8})), 3);
    /* nothing in common: both tables begin with the log, so there is none */
    assert_int_equal(common_of(TABLE({2, 1}), 4, TABLE({1, 1}, {3, 2})), 0);
    /* an empty log agrees with every other */
    assert_int_equal(common_of((struct epochs){0}, 0, TABLE({7, 500}, {8, 600})), 0);
}

/* R7: a frame of epoch e never cuts an entry of epoch e, also if the leader has sent its table long ago. */
static void test_r7_the_leaders_own_epoch_is_kept(void **state) {
    (void)state;
    assert_int_equal(common_of(TABLE({1, 1}, {3, 9}), 20, TABLE({1, 1}, {3, 9})), 20);
}

static void test_r7_tables_that_do_not_reach_back_say_so(void **state) {
    (void)state;
    uint64_t common;
    struct epochs whole = TABLE({1, 1}, {2, 40}), partial = TABLE({5, 60}, {7, 80});
    assert_false(epochs_common(&whole, 50, &partial, &common));
    assert_false(epochs_common(&partial, 90, &whole, &common));
    /* but what both have is enough, whatever lies before */
    struct epochs other = TABLE({5, 60}, {6, 70});
    assert_true(epochs_common(&partial, 90, &other, &common));
    assert_int_equal(common, 69);
}

static void test_tables_from_outside_are_checked(void **state) {
    (void)state;
    struct epochs good = TABLE({1, 1}, {3, 9});
    assert_true(epochs_are_valid(&good, 9));
    assert_false(epochs_are_valid(&good, 8)); /* an epoch begins behind the log */
    struct epochs bad = good;
    bad.count = EPOCHS_MAX + 1;
    assert_false(epochs_are_valid(&bad, 99));
    bad = good;
    bad.starts[1].epoch = 1;
    assert_false(epochs_are_valid(&bad, 99));
    bad = good;
    bad.starts[1].index = 1;
    assert_false(epochs_are_valid(&bad, 99));
    bad = good;
    bad.starts[0] = (struct epoch_start){0, 1};
    assert_false(epochs_are_valid(&bad, 99));
    bad = good;
    bad.starts[0] = (struct epoch_start){1, 0};
    assert_false(epochs_are_valid(&bad, 99));
    struct epochs none = {0};
    assert_true(epochs_are_valid(&none, 0));
    assert_true(epochs_are_valid(&none, 99)); /* all that was known was cut */
}

/* R7: a table that was cut behind all that it knew says nothing of the log before: nothing may be cut by it. */
static void test_r7_a_table_that_knows_nothing(void **state) {
    (void)state;
    uint64_t common;
    struct epochs ours = {0}, theirs = TABLE({1, 1}, {90, 300});
    for (uint64_t i = 0; i < EPOCHS_MAX; i++) epochs_add(&ours, 10 + i, 100 + i);
    epochs_add(&ours, 80, 200); /* epoch 10 is forgotten */
    epochs_cut(&ours, 99);
    assert_int_equal(ours.count, 0);
    assert_false(epochs_common(&ours, 99, &theirs, &common));
    epochs_add(&ours, 90, 100); /* what follows is known again, also if its epoch began further back */
    assert_int_equal(common_of(ours, 100, theirs), 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_epoch_is_added_once),
        cmocka_unit_test(test_a_full_table_forgets_the_oldest),
        cmocka_unit_test(test_a_cut_forgets_what_began_behind_it),
        cmocka_unit_test(test_r7_the_common_point),
        cmocka_unit_test(test_r7_the_leaders_own_epoch_is_kept),
        cmocka_unit_test(test_r7_tables_that_do_not_reach_back_say_so),
        cmocka_unit_test(test_tables_from_outside_are_checked),
        cmocka_unit_test(test_r7_a_table_that_knows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
