#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "libcommon/error.h"
#include "shardd/blocking.h"
#include "shardd/commands/chance.h"

#include <stdlib.h>

#define NOW_US  1000000000u
#define SESSION 9u
#define LIST    3u
#define ZSET    5u

struct fixture {
    struct blocking *blocking;
    struct blocking_shard shards[2];
};

static int set_up(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_int_equal(blocking_new(&fixture->blocking, NOW_US), SK_OK);
    for (uint32_t i = 0; i < 2; i++) {
        fixture->shards[i] = (struct blocking_shard){.blocking = fixture->blocking, .shard = i};
    }
    *state = fixture;
    return 0;
}

/* Also takes away who still waits. */
static int tear_down(void **state) {
    struct fixture *fixture = *state;
    struct waiter *waiter;
    for (uint32_t i = 0; i < 2; i++) {
        while ((waiter = fixture->shards[i].waiters) != NULL) blocking_remove(fixture->blocking, waiter);
    }
    assert_int_equal(blocking_count(fixture->blocking), 0);
    blocking_free(fixture->blocking);
    free(fixture);
    return 0;
}

/* Waits for the words of `keys` ("a b"), parked, for half a second; since `since_us`. */
static struct waiter *add_at(struct fixture *fixture, uint32_t shard, uint8_t type, const char *keys,
                             uint64_t number, uint64_t since_us) {
    char copy[64], *rest = NULL;
    struct slice list[8];
    size_t count = 0;
    (void)strncpy(copy, keys, sizeof copy - 1);
    copy[sizeof copy - 1] = '\0';
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        list[count++] = slice_of_text(word);
    }
    struct request_item item = {.number = number, .id = slice_of_text("id"), .body = slice_of_text("body")};
    struct blocking_request request = {.item = &item,
                                       .session = SESSION,
                                       .type = type,
                                       .keys = list,
                                       .key_count = count,
                                       .since_us = since_us,
                                       .deadline_us = NOW_US + 500000};
    struct waiter *waiter;
    assert_int_equal(blocking_add(&fixture->shards[shard], &request, NULL, &waiter), SK_OK);
    return waiter;
}

static struct waiter *add(struct fixture *fixture, const char *keys, uint64_t number) {
    return add_at(fixture, 0, LIST, keys, number, NOW_US);
}

static void store(struct fixture *fixture, uint32_t shard, const char *key, uint8_t type) {
    blocking_stored_cb(&fixture->shards[shard], slice_of_text(key), type);
}

/* Number of who is first at the first ready key; 0: all are in the log; -1: no key is ready. */
static int first(const struct fixture *fixture) {
    struct blocking_ready ready;
    if (!blocking_first_ready(fixture->blocking, &ready)) return -1;
    struct waiter *waiter = blocking_first_parked(fixture->blocking);
    return waiter == NULL ? 0 : (int)waiter->item.number;
}

static uint32_t in_log(const struct fixture *fixture) {
    struct blocking_ready ready;
    assert_true(blocking_first_ready(fixture->blocking, &ready));
    return ready.in_log;
}

static void wake_first(struct fixture *fixture) {
    blocking_wake(fixture->blocking, blocking_first_parked(fixture->blocking));
}

static struct waiter *named(const struct fixture *fixture, uint64_t number) {
    return blocking_find(fixture->blocking, SESSION, number);
}

/* ---- tests ---- */

static void whoever_waits_is_known_by_name(void **state) {
    struct fixture *fixture = *state;
    struct waiter *waiter = add(fixture, "a b", 1);
    assert_ptr_equal(named(fixture, 1), waiter);
    assert_null(named(fixture, 2));
    assert_null(blocking_find(fixture->blocking, SESSION + 1, 1));
    assert_true(slice_equal(waiter->item.id, slice_of_text("id")));
    assert_true(slice_equal(waiter->item.body, slice_of_text("body")));
    assert_int_equal(blocking_count(fixture->blocking), 1);
    blocking_remove(fixture->blocking, waiter);
    assert_null(named(fixture, 1));
    assert_false(blocking_has_ended(fixture->blocking, SESSION, 1));
}

static void a_key_is_ready_for_who_waits_for_it(void **state) {
    struct fixture *fixture = *state;
    add(fixture, "a", 1);
    store(fixture, 0, "b", LIST);
    store(fixture, 0, "a", ZSET);
    store(fixture, 1, "a", LIST);
    assert_int_equal(first(fixture), -1);
    store(fixture, 0, "a", LIST);
    store(fixture, 0, "a", LIST);
    assert_int_equal(first(fixture), 1);
    blocking_served(fixture->blocking);
    assert_int_equal(first(fixture), -1);
    add_at(fixture, 0, ZSET, "a", 2, NOW_US);
    store(fixture, 0, "a", ZSET);
    assert_int_equal(first(fixture), 2);
    blocking_remove(fixture->blocking, named(fixture, 2)); /* the key goes with it */
    assert_int_equal(first(fixture), -1);
}

static void keys_are_served_in_the_order_in_which_they_became_ready(void **state) {
    struct fixture *fixture = *state;
    add(fixture, "a", 1);
    add(fixture, "b", 2);
    add_at(fixture, 1, LIST, "a", 3, NOW_US);
    store(fixture, 1, "a", LIST);
    store(fixture, 0, "b", LIST);
    store(fixture, 0, "a", LIST);
    assert_int_equal(first(fixture), 3);
    blocking_served(fixture->blocking);
    assert_int_equal(first(fixture), 2);
    blocking_remove(fixture->blocking, named(fixture, 1)); /* the last, while it is not the first */
    blocking_served(fixture->blocking);
    assert_int_equal(first(fixture), -1);
}

static void who_waits_longest_is_first(void **state) {
    struct fixture *fixture = *state;
    add(fixture, "a", 1);
    add(fixture, "a", 2);
    add_at(fixture, 0, LIST, "a", 3, NOW_US - 5); /* asked for again: its client waits longer */
    store(fixture, 0, "a", LIST);
    assert_int_equal(first(fixture), 3);
    wake_first(fixture);
    assert_int_equal(first(fixture), 1);
    wake_first(fixture);
    assert_int_equal(in_log(fixture), 2);
    assert_int_equal(first(fixture), 2);
    blocking_park(named(fixture, 3)); /* somebody was faster: it is the first again */
    assert_int_equal(in_log(fixture), 1);
    assert_int_equal(first(fixture), 3);
    blocking_remove(fixture->blocking, named(fixture, 1)); /* it has got something */
    assert_int_equal(in_log(fixture), 0);
    wake_first(fixture);
    wake_first(fixture);
    assert_int_equal(first(fixture), 0);
}

static void several_keys_are_waited_for_at_once(void **state) {
    struct fixture *fixture = *state;
    add(fixture, "a b a", 1);
    add(fixture, "b", 2);
    store(fixture, 0, "b", LIST);
    assert_int_equal(first(fixture), 1);
    wake_first(fixture);
    assert_int_equal(first(fixture), 2);
    blocking_served(fixture->blocking);
    store(fixture, 0, "a", LIST);
    assert_int_equal(first(fixture), 0); /* it is in the log for the other */
    assert_int_equal(in_log(fixture), 0);
    blocking_remove(fixture->blocking, named(fixture, 1));
    assert_int_equal(in_log(fixture), 0);
    assert_int_equal(first(fixture), 2);
}

static void time_runs_out_for_who_is_parked(void **state) {
    struct fixture *fixture = *state;
    struct waiter *waiter = add(fixture, "a", 1);
    for (uint64_t us = 0; us <= 500000; us += 2500) {
        assert_null(blocking_next_late(fixture->blocking, NOW_US + us)); /* never early */
    }
    assert_ptr_equal(blocking_next_late(fixture->blocking, NOW_US + 505000), waiter);
    blocking_remove(fixture->blocking, waiter);
    assert_null(blocking_next_late(fixture->blocking, NOW_US + 505000));

    waiter = add(fixture, "a", 2);
    blocking_move_deadline(fixture->blocking, waiter, NOW_US + 900000);
    assert_null(blocking_next_late(fixture->blocking, NOW_US + 895000));
    store(fixture, 0, "a", LIST);
    wake_first(fixture);
    assert_null(blocking_next_late(fixture->blocking, NOW_US + 1200000)); /* what is in the log decides */
    blocking_move_deadline(fixture->blocking, waiter, NOW_US + 950000);
    blocking_park(waiter);
    assert_ptr_equal(blocking_next_late(fixture->blocking, NOW_US + 1205000), waiter);
    blocking_remove(fixture->blocking, waiter);
}

static void an_end_is_remembered_for_a_while(void **state) {
    struct fixture *fixture = *state;
    for (uint64_t number = 1; number <= 2; number++) {
        struct waiter *waiter = add(fixture, "a", number);
        blocking_end(fixture->blocking, waiter, NOW_US + number - 1);
        blocking_remove(fixture->blocking, waiter);
    }
    assert_true(blocking_has_ended(fixture->blocking, SESSION, 1));
    assert_false(blocking_has_ended(fixture->blocking, SESSION + 1, 1));
    assert_null(blocking_next_late(fixture->blocking, NOW_US + BLOCKING_ENDED_US));
    assert_false(blocking_has_ended(fixture->blocking, SESSION, 1));
    assert_true(blocking_has_ended(fixture->blocking, SESSION, 2));
    assert_null(blocking_next_late(fixture->blocking, NOW_US + BLOCKING_ENDED_US + 1));
    assert_false(blocking_has_ended(fixture->blocking, SESSION, 2));
}

/* Who follows on itself is where it was; what it leaves for good others have. */
static void a_place_is_kept_between_slices(void **state) {
    struct fixture *fixture = *state;
    struct slice key = slice_of_text("a");
    struct request_item item = {.number = 3, .follows = 1};
    struct blocking_request request = {.item = &item,
                                       .session = SESSION,
                                       .type = LIST,
                                       .keys = &key,
                                       .key_count = 1,
                                       .since_us = NOW_US + 77,
                                       .deadline_us = NOW_US + 900000};
    struct waiter *waiter;
    add(fixture, "a", 1);
    add(fixture, "a b", 2);
    blocking_end(fixture->blocking, named(fixture, 1), NOW_US);
    assert_true(blocking_has_ended(fixture->blocking, SESSION, 1));
    store(fixture, 0, "a", LIST);
    assert_int_equal(first(fixture), 0); /* the second has to wait for who was before it */
    blocking_served(fixture->blocking);
    assert_int_equal(blocking_add(&fixture->shards[0], &request, NULL, &waiter), SK_OK);
    assert_null(named(fixture, 1));
    assert_int_equal(first(fixture), 3); /* it is looked again, without anything stored */
    blocking_remove(fixture->blocking, waiter);
    assert_int_equal(first(fixture), 2);
    blocking_served(fixture->blocking);

    blocking_end(fixture->blocking, named(fixture, 2), NOW_US);
    item.number = 4;
    item.follows = 9;
    assert_int_equal(blocking_add(&fixture->shards[0], &request, NULL, &waiter), SK_OK);
    store(fixture, 0, "a", LIST);
    assert_int_equal(first(fixture), 0);
    blocking_served(fixture->blocking);
    assert_null(blocking_next_late(fixture->blocking, NOW_US + BLOCKING_KEPT_US));
    waiter = blocking_next_late(fixture->blocking, NOW_US + BLOCKING_KEPT_US + 5000);
    assert_true(waiter != NULL && waiter->has_ended);
    blocking_remove(fixture->blocking, waiter);
    assert_int_equal(first(fixture), 4);
}

static bool has_elders(struct fixture *fixture, const char *key, uint64_t since_us, uint64_t follows) {
    struct slice keys[] = {slice_of_text("other"), slice_of_text(key)};
    struct request_item item = {.number = 99, .follows = follows};
    struct blocking_request request = {
        .item = &item, .session = SESSION, .type = LIST, .keys = keys, .key_count = 2, .since_us = since_us};
    return blocking_has_elders(&fixture->shards[0], &request);
}

static void who_is_to_be_served_before(void **state) {
    struct fixture *fixture = *state;
    assert_false(has_elders(fixture, "a", NOW_US, 0));
    add(fixture, "a", 1);
    assert_true(has_elders(fixture, "a", NOW_US, 0)); /* who has come first */
    assert_false(has_elders(fixture, "a", NOW_US - 1, 0));
    assert_false(has_elders(fixture, "b", NOW_US, 0));
    blocking_end(fixture->blocking, named(fixture, 1), NOW_US);
    assert_true(has_elders(fixture, "a", NOW_US + 5, 0));  /* its place is kept, */
    assert_false(has_elders(fixture, "a", NOW_US + 5, 1)); /* but not from itself */
    add(fixture, "a", 2);
    blocking_remove(fixture->blocking, named(fixture, 1));
    store(fixture, 0, "a", LIST);
    wake_first(fixture);
    assert_false(has_elders(fixture, "a", NOW_US + 5, 0)); /* what is in the log is before it anyway */
}

/* One that is woken may take something else, or be refused: others are looked at again. */
static void what_is_left_is_for_others(void **state) {
    struct fixture *fixture = *state;
    add(fixture, "a b", 1);
    add(fixture, "a", 2);
    store(fixture, 0, "a", LIST);
    wake_first(fixture);
    blocking_served(fixture->blocking);
    assert_int_equal(first(fixture), -1);
    blocking_remove(fixture->blocking, named(fixture, 1));
    assert_int_equal(first(fixture), 2);
}

static void a_shard_knows_its_own(void **state) {
    struct fixture *fixture = *state;
    add(fixture, "a", 1);
    add_at(fixture, 1, LIST, "a", 2, NOW_US);
    add(fixture, "a", 3);
    store(fixture, 0, "a", LIST);
    wake_first(fixture);
    assert_int_equal(blocking_next_parked(&fixture->shards[0])->item.number, 3);
    blocking_remove(fixture->blocking, named(fixture, 3));
    assert_null(blocking_next_parked(&fixture->shards[0]));
    assert_non_null(fixture->shards[0].waiters);
    assert_int_equal(blocking_next_parked(&fixture->shards[1])->item.number, 2);
}

static void there_is_a_bound(void **state) {
    struct fixture *fixture = *state;
    struct waiter *waiter;
    struct request_item item = {0};
    struct slice key = slice_of_text("a");
    struct blocking_request request = {.item = &item, .session = SESSION, .keys = &key, .key_count = 1};
    request.deadline_us = NOW_US;
    for (uint32_t i = 0; i < BLOCKING_WAITERS_MAX; i++) {
        item.number = i + 1;
        assert_int_equal(blocking_add(&fixture->shards[i % 2], &request, NULL, &waiter), SK_OK);
    }
    item.number = 1u << 30;
    assert_int_equal(blocking_add(&fixture->shards[0], &request, NULL, &waiter), SK_BUSY);
    blocking_remove(fixture->blocking, named(fixture, 77));
    assert_int_equal(blocking_add(&fixture->shards[0], &request, NULL, &waiter), SK_OK);
    while ((waiter = blocking_next_late(fixture->blocking, NOW_US + 5000)) != NULL) {
        blocking_end(fixture->blocking, waiter, NOW_US);
        blocking_remove(fixture->blocking, waiter);
    }
    assert_int_equal(blocking_count(fixture->blocking), 0);

    size_t size = BLOCKING_BYTES_MAX / 4;
    uint8_t *body = calloc(1, size);
    item.body = slice_of(body, size);
    for (uint32_t i = 0; i < 3; i++) {
        item.number++;
        assert_int_equal(blocking_add(&fixture->shards[0], &request, NULL, &waiter), SK_OK);
    }
    item.number++;
    assert_int_equal(blocking_add(&fixture->shards[0], &request, NULL, &waiter), SK_BUSY);
    blocking_remove(fixture->blocking, named(fixture, item.number - 1));
    assert_int_equal(blocking_add(&fixture->shards[0], &request, NULL, &waiter), SK_OK);
    free(body);
}

/* Whatever comes and goes, the first is who has waited longest. */
static void the_order_holds_under_changes(void **state) {
    struct fixture *fixture = *state;
    enum { NUMBERS = 200 };
    struct chance chance = {.state = 5};
    uint64_t since[NUMBERS + 1] = {0}; /* of those that are parked */
    for (int i = 0; i < 20000; i++) {
        uint64_t number = 1 + chance_below(&chance, NUMBERS);
        struct waiter *waiter = named(fixture, number);
        if (waiter == NULL) {
            since[number] = NOW_US - chance_below(&chance, 1u << 20) * 1000 - number; /* no two are alike */
            add_at(fixture, 0, LIST, chance_below(&chance, 2) ? "a" : "b a", number, since[number]);
        } else if (waiter->in_log && chance_below(&chance, 2)) {
            blocking_park(waiter);
        } else if (chance_below(&chance, 3) > 0) {
            since[number] = 0;
            blocking_remove(fixture->blocking, waiter);
        }
        uint64_t expected = 0;
        for (uint64_t n = 1; n <= NUMBERS; n++) {
            waiter = named(fixture, n);
            bool parked = waiter != NULL && !waiter->in_log;
            if (parked && (expected == 0 || since[n] < since[expected])) expected = n;
        }
        store(fixture, 0, "a", LIST);
        int told = first(fixture);
        assert_int_equal(told < 0 ? 0 : told, expected);
        if (told > 0 && chance_below(&chance, 4) == 0) wake_first(fixture);
        if (told >= 0) blocking_served(fixture->blocking);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whoever_waits_is_known_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_is_ready_for_who_waits_for_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_are_served_in_the_order_in_which_they_became_ready, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_waits_longest_is_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(several_keys_are_waited_for_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time_runs_out_for_who_is_parked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_is_remembered_for_a_while, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_place_is_kept_between_slices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_to_be_served_before, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_left_is_for_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_shard_knows_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(there_is_a_bound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_order_holds_under_changes, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
