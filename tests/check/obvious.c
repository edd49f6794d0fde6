#include "obvious.h"

#include "memory.h"
#include "print.h"

#define LISTED_MAX 4 /* operations of a kind in the text */

/* What can make a target, whatever else happens. */
struct makes {
    uint64_t count; /* UINT64_MAX = any number */
    uint32_t first; /* the earliest begin, a place; UINT32_MAX = none */
};

struct survey {
    struct problem *problem;
    const struct check_op *ops;
    struct makes *targets; /* owned: without the appends */
    struct makes *appends; /* owned: by maker */
    struct makes adds;     /* the unknown ones, of which each can make any number */
};

static void add_make(struct makes *makes, const struct step *step) {
    makes->count++;
    if (step->begin < makes->first) makes->first = step->begin;
}

static void join_makes(struct makes *makes, const struct makes *more) {
    makes->count += more->count;
    if (more->first < makes->first) makes->first = more->first;
}

static struct makes *new_makes(uint32_t count) {
    struct makes *makes = memory_zeroed(count, sizeof *makes);
    for (uint32_t i = 0; i < count; i++) makes[i].first = UINT32_MAX;
    return makes;
}

static void survey_init(struct survey *survey, struct problem *problem, const struct check_op *ops) {
    *survey = (struct survey){.problem = problem, .ops = ops, .adds = {.first = UINT32_MAX}};
    survey->targets = new_makes(values_target_count(problem->values));
    survey->appends = new_makes(problem->appends.maker_count);
    for (uint32_t i = 0; i < problem->step_count; i++) {
        const struct step *step = &problem->steps[i];
        uint32_t value = step_makes(step);
        uint32_t target = value == VALUE_NONE ? VALUE_NONE : values_get(problem->values, value)->target;
        if (target != VALUE_NONE) add_make(&survey->targets[target], step);
        if (step->kind == STEP_APPEND) add_make(&survey->appends[step->maker], step);
        if (step->kind == STEP_ADD && !step->known) add_make(&survey->adds, step);
    }
}

static void survey_deinit(struct survey *survey) {
    free(survey->targets);
    free(survey->appends);
}

/* Of a value that is a target. */
static struct makes makes_of(const struct survey *survey, uint32_t value) {
    struct appends *appends = &survey->problem->appends;
    uint32_t first, count = appends_find_routes(appends, value, &first);
    struct makes makes = survey->targets[values_get(survey->problem->values, value)->target];
    for (uint32_t i = 0; i < count; i++) {
        join_makes(&makes, &survey->appends[appends_route(appends, first + i).maker]);
    }
    if (values_get(survey->problem->values, value)->is_number) join_makes(&makes, &survey->adds);
    return makes;
}

static void print_step(const struct survey *survey, const struct step *step, struct buffer *text) {
    print_op(text, &survey->ops[step->source]);
}

/* Up to LISTED_MAX steps that make the value, or with `swaps` those that took it away. */
static void print_steps(const struct survey *survey, uint32_t value, bool swaps, struct buffer *text) {
    unsigned listed = 0;
    for (uint32_t i = 0; i < survey->problem->step_count && listed < LISTED_MAX; i++) {
        const struct step *step = &survey->problem->steps[i];
        bool wanted =
            swaps ? step->known && step->kind == STEP_SWAP && step->from == value : step_makes(step) == value;
        if (!wanted) continue;
        print_step(survey, step, text);
        listed++;
    }
}

/* A known step that needs a value which nothing made before its end. */
static bool find_unwritten(const struct survey *survey, const struct step *step, struct buffer *text) {
    uint32_t needed = step->known ? step_needs(step) : VALUE_NONE;
    if (needed == VALUE_NONE || needed == VALUE_NIL) return false;
    if (needed == VALUE_NEVER) {
        print_format(text, "  no value explains this answer:\n");
        print_step(survey, step, text);
        return true;
    }
    struct makes makes = makes_of(survey, needed);
    if (makes.first < step->end) return false;
    print_format(text, "  ");
    print_bytes(text, values_text(survey->problem->values, needed));
    print_format(text, makes.count == 0 ? " was seen, but nothing wrote it:\n"
                                        : " was seen before anything that writes it had begun:\n");
    print_step(survey, step, text);
    print_steps(survey, needed, false, text);
    return true;
}

/* A target that was taken away, by a CAS or an INCR, more often than it can have been made. */
static bool find_taken(const struct survey *survey, const uint32_t *taken, uint32_t target, struct buffer *text) {
    struct values *values = survey->problem->values;
    uint32_t id = values_of_target(values, target);
    if (id == VALUE_NIL || id == VALUE_NEVER || taken[target] == 0) return false;
    if (makes_of(survey, id).count >= taken[target]) return false;
    print_format(text, "  more operations replaced ");
    print_bytes(text, values_text(values, id));
    print_format(text, " than wrote it; these replaced it:\n");
    print_steps(survey, id, true, text);
    print_format(text, "  and these wrote it:\n");
    print_steps(survey, id, false, text);
    return true;
}

static bool find_any_taken(const struct survey *survey, struct buffer *text) {
    const struct problem *problem = survey->problem;
    uint32_t target_count = values_target_count(problem->values);
    uint32_t *taken = memory_zeroed(target_count, sizeof *taken);
    for (uint32_t i = 0; i < problem->known_count; i++) {
        const struct step *step = &problem->steps[i];
        if (step->kind == STEP_SWAP) taken[values_get(problem->values, step->from)->target]++;
    }
    bool found = false;
    for (uint32_t i = 0; i < target_count && !found; i++) found = find_taken(survey, taken, i, text);
    free(taken);
    return found;
}

bool obvious_find(struct problem *problem, const struct check_op *ops, struct buffer *text) {
    struct survey survey;
    survey_init(&survey, problem, ops);
    bool found = false;
    for (uint32_t i = 0; i < problem->known_count && !found; i++) {
        found = find_unwritten(&survey, &problem->steps[i], text);
    }
    if (!found) found = find_any_taken(&survey, text);
    survey_deinit(&survey);
    return found;
}
