/* The checker against the definition, on very many small histories, good and bad. */
#include "generate.h"
#include "libcommon/testing.h"
#include "memory.h"
#include "print.h"
#include "problem.h"
#include "reference.h"
#include "search.h"

#include <inttypes.h>

#define SMALL_COUNT 100000

static struct check_value few_values(struct random *random, uint32_t values) {
    static const char *const few[] = {"a", "b", "1", "c", "2", "", "-", "0", "ab", "aa", "11"};
    if (random_below(random, 4) == 0) return (struct check_value){.present = false};
    uint32_t known = values + 3 < 11 ? values + 3 : 11;
    return (struct check_value){.present = true, .bytes = slice_of_text(few[random_below(random, known)])};
}

static void change_answer(struct random *random, struct check_op *op, uint32_t values) {
    switch (op->kind) {
    case CHECK_SET:
        break;
    case CHECK_GET:
        op->got = few_values(random, values);
        break;
    case CHECK_DEL:
    case CHECK_CAS:
        op->answer = (int64_t)random_below(random, 2);
        break;
    case CHECK_INCR:
        op->answer = (int64_t)random_below(random, 5) - 1;
        break;
    case CHECK_APPEND:
        op->answer = (int64_t)random_below(random, 4);
        break;
    }
}

/* A change that may make a good history bad. */
static void spoil(struct random *random, struct generated *generated, uint32_t values) {
    struct check_op *op = &generated->ops[random_below(random, generated->count)];
    switch (random_below(random, 8)) {
    case 0: /* narrower in time */
        if (!op->unknown) op->begin += (int64_t)random_below(random, (uint64_t)(op->end - op->begin) + 1);
        break;
    case 1:
        op->unknown = op->kind != CHECK_GET;
        break;
    case 2: /* one operation less */
        *op = generated->ops[--generated->count];
        break;
    case 3:
        op->amount = (int64_t)random_below(random, 4) - 1;
        break;
    default:
        change_answer(random, op, values);
        break;
    }
}

static struct generate_options small_options(struct random *random) {
    struct generate_options options = {.seed = random_below(random, UINT64_MAX),
                                       .operations = 1 + (uint32_t)random_below(random, 9),
                                       .clients = 1 + (uint32_t)random_below(random, 5),
                                       .unknown = (uint32_t)random_below(random, 4),
                                       .values = 1 + (uint32_t)random_below(random, 8),
                                       .amount_min = 1 - 2 * (int64_t)random_below(random, 2),
                                       .amounts = 1 + (uint32_t)random_below(random, 3),
                                       .step_max = 2 + (uint32_t)random_below(random, 20)};
    for (int i = 0; i < 6; i++) options.weights[i] = (uint32_t)random_below(random, 4);
    options.weights[CHECK_GET]++;
    options.weights[random_below(random, 6)] += 2;
    return options;
}

static void print_history(const struct generated *generated, uint64_t seed) {
    struct buffer text;
    buffer_init(&text);
    for (size_t i = 0; i < generated->count; i++) print_op(&text, &generated->ops[i]);
    fprintf(stderr, "seed %" PRIu64 "\n%.*s", seed, (int)text.size, text.size == 0 ? "" : (const char *)text.data);
    buffer_deinit(&text);
}

static enum check_verdict verdict_of(const struct generated *generated) {
    struct check_report report;
    struct check *check = check_new();
    generated_add(generated, check, "k");
    check_run(check, &report);
    enum check_verdict verdict = report.verdict;
    assert_true(report.text.size > 0 || verdict == CHECK_GOOD);
    check_report_deinit(&report);
    check_free(check);
    return verdict;
}

/* Also without what is obvious, which would hide mistakes of the search. */
static enum search_result search_of(const struct generated *generated) {
    struct search_report report;
    struct problem *problem = problem_new(generated->ops, generated->count);
    search_run(problem, 1000000, &report);
    free(report.order);
    problem_free(problem);
    return report.result;
}

/* Another one for a long search after mistakes. */
static uint64_t seed_of_run(void) {
    const char *text = getenv("SKERRY_CHECK_SEED");
    return text == NULL ? 20240611 : strtoull(text, NULL, 10);
}

static void test_small_histories_against_the_definition(void **state) {
    (void)state;
    struct random random = {seed_of_run()};
    uint32_t good = 0, bad = 0;
    for (uint32_t i = 0; i < SMALL_COUNT; i++) {
        struct generate_options options = small_options(&random);
        struct generated generated;
        generate(&options, &generated);
        uint64_t spoils = random_below(&random, 7);
        while (spoils-- > 0 && generated.count > 0) spoil(&random, &generated, options.values);
        bool expected = reference_is_linearizable(generated.ops, generated.count);
        *(expected ? &good : &bad) += 1;
        bool agrees = verdict_of(&generated) == (expected ? CHECK_GOOD : CHECK_BAD) &&
                      search_of(&generated) == (expected ? SEARCH_FOUND : SEARCH_NONE);
        if (!agrees) print_history(&generated, options.seed);
        assert_true(agrees);
        generated_deinit(&generated);
    }
    printf("%" PRIu32 " good, %" PRIu32 " bad\n", good, bad);
    assert_true(good > SMALL_COUNT / 5 && bad > SMALL_COUNT / 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_histories_against_the_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
