#include "ahead.h"

#include "memory.h"

#define LOST_MAX   4  /* needed texts that are looked at when something is lost */
#define ROUTES_MAX 64 /* appends that are followed backwards to see whether a text can come */

/* ---- counting ---- */

bool ahead_is_countable(const struct ahead *ahead, uint32_t value) {
    return value == VALUE_NIL || values_get(ahead->problem->values, value)->is_number;
}

/* The first rank whose number is not below, or with `behind` is above. */
static uint32_t rank_of(const struct ahead *ahead, int64_t number, bool behind) {
    uint32_t low = 0, high = ahead->rank_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ahead->ranks[middle] < number || (behind && ahead->ranks[middle] == number)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void count_made(struct ahead *ahead, uint32_t value, bool done) {
    if (value == VALUE_NONE) return;
    ahead->makes[value] += done ? -1u : 1u;
    if (!ahead_is_countable(ahead, value)) return;
    int64_t number = values_get(ahead->problem->values, value)->number;
    sums_add(&ahead->numbers, rank_of(ahead, number, false), done ? -1 : 1);
}

static void count_needed(struct ahead *ahead, uint32_t value, bool done) {
    if (value == VALUE_NONE) return;
    sums_add(&ahead->needs, values_get(ahead->problem->values, value)->target, done ? -1 : 1);
}

/* Whether the step tells its `from` from other values. */
static bool names_from(const struct step *step) {
    return step_is_read(step) || step->kind == STEP_SWAP || (step->kind == STEP_ADD && step->known);
}

static void count_named(struct ahead *ahead, const struct step *step, bool done) {
    struct values *values = ahead->problem->values;
    if (names_from(step)) values_mention(values, values_get(values, step->from)->target, done ? -1 : 1);
}

void ahead_count(struct ahead *ahead, const struct step *step, bool done) {
    uint32_t change = done ? -1u : 1u;
    if (step->known) count_needed(ahead, step_needs(step), done);
    count_made(ahead, step_makes(step), done);
    count_named(ahead, step, done);
    if (step->kind == STEP_APPEND) ahead->appends[step->maker] += change;
    if (step->kind == STEP_APPEND && !step->known) ahead->pieces += change;
    if (step->kind == STEP_ADD && !step->known) ahead->adds += change;
}

static int compare_numbers(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void rank_numbers(struct ahead *ahead) {
    ahead->ranks = memory_zeroed(ahead->makes_count, sizeof *ahead->ranks);
    for (uint32_t value = 0; value < ahead->makes_count; value++) {
        if (!ahead_is_countable(ahead, value)) continue;
        ahead->ranks[ahead->rank_count++] = values_get(ahead->problem->values, value)->number;
    }
    qsort(ahead->ranks, ahead->rank_count, sizeof *ahead->ranks, compare_numbers);
    sums_init(&ahead->numbers, ahead->rank_count);
}

static void count_all(struct ahead *ahead, bool done) {
    const struct problem *problem = ahead->problem;
    for (uint32_t i = 0; i < problem->step_count; i++) ahead_count(ahead, &problem->steps[i], done);
}

void ahead_init(struct ahead *ahead, struct problem *problem) {
    *ahead = (struct ahead){.problem = problem, .makes_count = values_count(problem->values)};
    sums_init(&ahead->needs, values_target_count(problem->values));
    ahead->makes = memory_zeroed(ahead->makes_count, sizeof *ahead->makes);
    ahead->appends = memory_zeroed(problem->appends.maker_count, sizeof *ahead->appends);
    rank_numbers(ahead);
    count_all(ahead, false);
}

void ahead_deinit(struct ahead *ahead) {
    count_all(ahead, true);
    sums_deinit(&ahead->needs);
    sums_deinit(&ahead->numbers);
    free(ahead->makes);
    free(ahead->appends);
    free(ahead->ranks);
}

/* ---- what can come ---- */

/* Values that came up during the search are made by no step whatever it meets. */
static uint32_t makes_of(const struct ahead *ahead, uint32_t value) {
    return value < ahead->makes_count ? ahead->makes[value] : 0;
}

/* Whether unknown adds could make the number, of the value now or of one to come. */
static bool can_be_counted(const struct ahead *ahead, uint32_t wanted, uint32_t now) {
    const struct values *values = ahead->problem->values;
    if (ahead->adds == 0 || !values_get(values, wanted)->is_number) return false;
    if (ahead->problem->appends.makes_numbers || !ahead->problem->adds_only_up) return true;
    int64_t number = values_get(values, wanted)->number;
    if (ahead_is_countable(ahead, now) && values_get(values, now)->number <= number) return true;
    return sums_before(&ahead->numbers, rank_of(ahead, number, true)) > 0;
}

static bool has_by(const struct ahead *ahead, uint32_t wanted, uint32_t now, uint32_t *routes_left) {
    struct problem *problem = ahead->problem;
    if (wanted == now || makes_of(ahead, wanted) > 0 || can_be_counted(ahead, wanted, now)) return true;
    if (problem->appends.maker_count == 0) return false;
    uint32_t first, count = appends_find_routes(&problem->appends, wanted, &first);
    for (uint32_t i = 0; i < count; i++) {
        const struct route route = appends_route(&problem->appends, first + i);
        if (ahead->appends[route.maker] == 0) continue;
        if (*routes_left == 0) return true;
        --*routes_left;
        if (has_by(ahead, route.from, now, routes_left)) return true;
    }
    return false;
}

bool ahead_has(const struct ahead *ahead, uint32_t wanted, uint32_t now) {
    uint32_t routes_left = ROUTES_MAX;
    return has_by(ahead, wanted, now, &routes_left);
}

/* Whether a needed one of the targets in a range can never come. */
static bool any_is_lost(const struct ahead *ahead, uint32_t low, uint32_t high, uint32_t now) {
    int32_t sum = sums_before(&ahead->needs, low), end = sums_before(&ahead->needs, high);
    for (unsigned i = 0; i < LOST_MAX && sum < end; i++) {
        uint32_t target = sums_find(&ahead->needs, sum);
        if (!ahead_has(ahead, values_of_target(ahead->problem->values, target), now)) return true;
        sum = sums_before(&ahead->needs, target + 1);
    }
    return false;
}

bool ahead_loses(const struct ahead *ahead, uint32_t left, uint32_t next) {
    const struct values *values = ahead->problem->values;
    const struct value was = *values_get(values, left), is = *values_get(values, next);
    if (left == next) return false;
    if (was.kind != VALUE_IS_TEXT || ahead->problem->appends.maker_count == 0) {
        return was.target != VALUE_NONE && any_is_lost(ahead, was.target, was.target + 1, next);
    }
    if (!values_begins(values, left, next)) return any_is_lost(ahead, was.low, was.high, next);
    return any_is_lost(ahead, was.low, is.low, next) || any_is_lost(ahead, is.high, was.high, next);
}

bool ahead_wastes(const struct ahead *ahead, const struct step *step, uint32_t next) {
    const struct values *values = ahead->problem->values;
    uint32_t holder = ahead->problem->appends.makers[step->maker].holder;
    if (holder == VALUE_NONE || holder == next || values_begins(values, holder, next)) return false;
    const struct value text = *values_get(values, holder);
    return any_is_lost(ahead, text.low, text.high, next);
}
