/* Histories of the size that a simulation or a cluster test makes: decided, rightly, and with little work. The work is told
 * in states, which no machine's speed is in. */
#include "generate.h"
#include "libcommon/testing.h"
#include "memory.h"

#include <inttypes.h>

#define CLIENTS 16

/* How often each kind comes: get set del cas incr append. */
#define REGISTER                                                                                                  \
    { 10, 5, 0, 5, 0, 0 }
#define REGISTER_D                                                                                                \
    { 10, 5, 2, 5, 0, 0 }
#define SETS                                                                                                      \
    { 1, 10, 0, 0, 0, 0 }
#define CAS                                                                                                       \
    { 5, 1, 1, 10, 0, 0 }
#define COUNTER                                                                                                   \
    { 5, 0, 0, 0, 10, 0 }
#define COUNTER_D                                                                                                 \
    { 5, 0, 2, 0, 10, 0 }
#define LIST                                                                                                      \
    { 5, 0, 0, 0, 0, 10 }
#define LIST_D                                                                                                    \
    { 5, 0, 3, 0, 0, 10 }
#define TEXTS                                                                                                     \
    { 6, 3, 2, 4, 0, 3 }
#define ALL_KINDS                                                                                                 \
    { 6, 3, 2, 4, 4, 3 }

struct mix {
    const char *name;
    uint32_t weights[6];
    uint32_t operations, unknown, values;
    uint64_t states_max;
};

static void generate_mix(const struct mix *mix, uint64_t seed, struct generated *generated) {
    struct generate_options options = {.seed = seed,
                                       .operations = mix->operations,
                                       .clients = CLIENTS,
                                       .unknown = mix->unknown,
                                       .values = mix->values,
                                       .amount_min = 1,
                                       .amounts = 1,
                                       .step_max = 1000};
    memcpy(options.weights, mix->weights, sizeof options.weights);
    generate(&options, generated);
}

static void judge(const struct mix *mix, const struct generated *generated, enum check_verdict expected) {
    struct check *check = check_new();
    struct check_report report;
    generated_add(generated, check, "k");
    check_run(check, &report);
    printf("%-14s %6zu operations %4" PRIu64 " unknown: %8" PRIu64 " states\n", mix->name, generated->count,
           report.unknown, report.states);
    assert_int_equal(report.verdict, expected);
    assert_true(report.states <= mix->states_max);
    check_report_deinit(&report);
    check_free(check);
}

static void test_large_good_histories(void **state) {
    (void)state;
    static const struct mix mixes[] = {
        {"register", REGISTER, 20000, 500, 0, 50000},
        {"register, del", REGISTER_D, 20000, 500, 0, 100000},
        {"mostly sets", SETS, 20000, 500, 0, 100000},
        {"mostly cas", CAS, 20000, 500, 0, 100000},
        {"counter", COUNTER, 20000, 500, 0, 50000},
        {"counter, del", COUNTER_D, 5000, 150, 0, 400000},
        {"list", LIST, 5000, 150, 0, 50000},
        {"list, del", LIST_D, 5000, 150, 0, 400000},
        {"all kinds", ALL_KINDS, 5000, 150, 0, 400000},
        {"few values", REGISTER_D, 5000, 150, 5, 400000},
        {"nothing lost", ALL_KINDS, 20000, 0, 0, 200000},
    };
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++) {
        struct generated generated;
        generate_mix(&mixes[i], i + 1, &generated);
        judge(&mixes[i], &generated, CHECK_GOOD);
        generated_deinit(&generated);
    }
}

static bool saw(const struct check_op *op) { return op->kind == CHECK_GET && op->got.present; }

static bool saw_another(const struct check_op *op, const struct check_op *than) {
    return saw(op) && !slice_equal(op->got.bytes, than->got.bytes);
}

/* Makes a late read see a value that was there, and was seen to be gone: where no value comes twice, no store does that. */
static void read_stale(struct generated *generated) {
    struct check_op *ops = generated->ops, *late = NULL;
    for (size_t i = generated->count * 9 / 10; late == NULL; i++) {
        if (saw(&ops[i])) late = &ops[i];
    }
    const struct check_op *between = late - 1, *early;
    while (!saw(between) || between->end >= late->begin) between--;
    early = between - 1;
    while (!saw_another(early, between) || early->end >= between->begin) early--;
    late->got = early->got;
}

static void test_large_bad_histories(void **state) {
    (void)state;
    static const struct mix mixes[] = {
        {"register", REGISTER, 5000, 150, 0, 200000},  {"register, del", REGISTER_D, 5000, 150, 0, 500000},
        {"mostly sets", SETS, 5000, 150, 0, 500000},   {"mostly cas", CAS, 5000, 150, 0, 500000},
        {"counter", COUNTER, 5000, 150, 0, 100000},    {"list", LIST, 2000, 50, 0, 100000},
        {"all but incr", TEXTS, 1000, 30, 0, 1000000},
    };
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++) {
        struct generated generated;
        generate_mix(&mixes[i], i + 1, &generated);
        read_stale(&generated);
        judge(&mixes[i], &generated, CHECK_BAD);
        generated_deinit(&generated);
    }
}

/* The same history gets the same report, to the letter. */
static void test_a_report_can_be_repeated(void **state) {
    (void)state;
    const struct mix mix = {"register, del", REGISTER_D, 2000, 50, 0, 1000000};
    struct check_report reports[2];
    for (int i = 0; i < 2; i++) {
        struct generated generated;
        struct check *check = check_new();
        generate_mix(&mix, 99, &generated);
        read_stale(&generated);
        generated_add(&generated, check, "k");
        generated_deinit(&generated); /* the check has copies */
        check_run(check, &reports[i]);
        check_free(check);
    }
    assert_int_equal(reports[0].states, reports[1].states);
    assert_true(reports[0].text.size > 0);
    assert_true(slice_equal(buffer_slice(&reports[0].text), buffer_slice(&reports[1].text)));
    check_report_deinit(&reports[0]);
    check_report_deinit(&reports[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_good_histories),
        cmocka_unit_test(test_large_bad_histories),
        cmocka_unit_test(test_a_report_can_be_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
