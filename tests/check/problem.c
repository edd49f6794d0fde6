#include "problem.h"

#include "memory.h"
#include "number.h"

/* What building needs and searching does not. */
struct builder {
    struct problem *problem;
    const struct check_op *ops;
    size_t count;
    bool appends, adds;
    size_t named_count, number_count;
};

/* ---- what the operations name ---- */

static void name_text(struct builder *builder, struct slice text) {
    builder->problem->named[builder->named_count++] = text;
}

static void name_value(struct builder *builder, const struct check_value *value) {
    if (value->present) name_text(builder, value->bytes);
}

static void name_number(struct builder *builder, int64_t number) {
    char *room = builder->problem->numbers + NUMBER_TEXT_MAX * builder->number_count++;
    name_text(builder, slice_of(room, number_print(number, room)));
}

/* What a known INCR has met. False: no number that there is. */
static bool number_before(const struct check_op *op, int64_t *before) {
    return !__builtin_sub_overflow(op->answer, op->amount, before);
}

static void survey(struct builder *builder, const struct check_op *op) {
    int64_t before;
    switch (op->kind) {
    case CHECK_GET:
        if (!op->unknown) name_value(builder, &op->got);
        break;
    case CHECK_CAS:
        name_value(builder, &op->expected);
        break;
    case CHECK_INCR:
        if (op->unknown) builder->adds = true;
        if (!op->unknown && number_before(op, &before)) name_number(builder, before);
        break;
    case CHECK_APPEND:
        builder->appends = true;
        break;
    case CHECK_SET:
    case CHECK_DEL:
        break;
    }
}

static void survey_all(struct builder *builder) {
    struct problem *problem = builder->problem;
    problem->named = memory_zeroed(builder->count, sizeof *problem->named);
    problem->numbers = memory_zeroed(builder->count, NUMBER_TEXT_MAX);
    for (size_t i = 0; i < builder->count; i++) survey(builder, &builder->ops[i]);
    problem->values = values_new(problem->named, builder->named_count, builder->appends, builder->adds);
}

/* ---- operations to steps ---- */

static uint32_t value_of(struct problem *problem, const struct check_value *value) {
    return value->present ? values_of_text(problem->values, value->bytes) : VALUE_NIL;
}

static void make_read(struct step *step, uint32_t value) {
    step->kind = STEP_READ;
    step->from = value;
}

static void make_put(struct step *step, uint32_t value) {
    step->kind = STEP_PUT;
    step->to = value;
}

static void make_swap(struct step *step, uint32_t from, uint32_t to) {
    if (from == to) {
        make_read(step, from);
        return;
    }
    *step = (struct step){.kind = STEP_SWAP, .from = from, .to = to};
}

static void make_del(struct step *step, const struct check_op *op) {
    if (op->unknown) {
        make_put(step, VALUE_NIL);
    } else if (op->answer == 0) {
        make_read(step, VALUE_NIL);
    } else {
        step->kind = STEP_DROP;
    }
}

static void make_cas(struct problem *problem, struct step *step, const struct check_op *op) {
    uint32_t expected = value_of(problem, &op->expected);
    if (!op->unknown && op->answer == 0) {
        step->kind = STEP_DIFFER;
        step->from = expected;
    } else {
        make_swap(step, expected, value_of(problem, &op->value));
    }
}

static void make_incr(struct problem *problem, struct step *step, const struct check_op *op) {
    int64_t before;
    if (op->unknown) {
        step->kind = STEP_ADD;
        step->amount = op->amount;
    } else if (!number_before(op, &before)) {
        make_read(step, VALUE_NEVER);
    } else if (before == 0) { /* or nil, which even adding 0 changes */
        step->kind = STEP_ADD;
        step->from = values_of_number(problem->values, 0);
        step->to = values_of_number(problem->values, op->answer);
    } else {
        make_swap(step, values_of_number(problem->values, before), values_of_number(problem->values, op->answer));
    }
}

static void make_append(struct step *step, const struct check_op *op) {
    step->kind = STEP_APPEND;
    step->piece = op->value.bytes;
    step->bytes_after = op->unknown ? BYTES_ANY : (uint64_t)op->answer;
}

static struct step make_step(struct problem *problem, const struct check_op *op) {
    struct step step = {.bytes_after = BYTES_ANY};
    switch (op->kind) {
    case CHECK_GET:
        make_read(&step, value_of(problem, &op->got));
        break;
    case CHECK_SET:
        make_put(&step, value_of(problem, &op->value));
        break;
    case CHECK_DEL:
        make_del(&step, op);
        break;
    case CHECK_CAS:
        make_cas(problem, &step, op);
        break;
    case CHECK_INCR:
        make_incr(problem, &step, op);
        break;
    case CHECK_APPEND:
        make_append(&step, op);
        break;
    }
    step.known = !op->unknown;
    step.group = STEP_GROUPLESS;
    step.maker = MAKER_NONE;
    step.end = UINT32_MAX;
    return step;
}

/* ---- the order of begins and ends ---- */

struct moment {
    int64_t time;
    bool is_end; /* at one time begins come first: what touches overlaps */
    uint32_t step;
};

static int compare_moments(const void *a, const void *b) {
    const struct moment *x = a, *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    if (x->is_end != y->is_end) return x->is_end ? 1 : -1;
    return (x->step > y->step) - (x->step < y->step);
}

/* The steps of all operations but the unknown reads, with their places. */
static void make_steps(struct builder *builder) {
    struct problem *problem = builder->problem;
    problem->steps = memory_zeroed(builder->count, sizeof *problem->steps);
    struct moment *moments = memory_zeroed(2 * builder->count, sizeof *moments);
    for (size_t i = 0; i < builder->count; i++) {
        const struct check_op *op = &builder->ops[i];
        struct step step = make_step(problem, op);
        step.source = (uint32_t)i;
        if (!step.known && step_is_read(&step)) continue;
        uint32_t number = problem->step_count++;
        problem->steps[number] = step;
        moments[problem->place_count++] = (struct moment){.time = op->begin, .step = number};
        if (!step.known) continue;
        moments[problem->place_count++] = (struct moment){.time = op->end, .is_end = true, .step = number};
        problem->known_count++;
    }
    qsort(moments, problem->place_count, sizeof *moments, compare_moments);
    for (uint32_t place = 0; place < problem->place_count; place++) {
        struct step *step = &problem->steps[moments[place].step];
        *(moments[place].is_end ? &step->end : &step->begin) = place;
    }
    free(moments);
}

static void fill_places(struct problem *problem) {
    problem->places = memory_zeroed(problem->place_count, sizeof *problem->places);
    for (uint32_t i = 0; i < problem->step_count; i++) {
        problem->places[problem->steps[i].begin] = i;
        if (problem->steps[i].known) problem->places[problem->steps[i].end] = i;
    }
}

/* ---- steps that do the same ---- */

#define ORDER(a, b) (((a) > (b)) - ((a) < (b)))

/* 0: wherever one of the two can stand, the other has the same effect. */
static int compare_effects(const struct step *a, const struct step *b) {
    int order = ORDER(a->kind, b->kind);
    if (order == 0) order = ORDER(a->from, b->from);
    if (order == 0) order = ORDER(a->to, b->to);
    if (order == 0) order = ORDER(a->amount, b->amount);
    if (order == 0) order = ORDER(a->bytes_after, b->bytes_after);
    if (order == 0) order = ORDER(a->anonymous, b->anonymous);
    if (order == 0 && a->anonymous) return ORDER(a->piece.size, b->piece.size);
    return order == 0 ? slice_compare(a->piece, b->piece) : order;
}

static int compare_steps(const void *a, const void *b) {
    const struct step *x = a, *y = b;
    int order = ORDER(y->known, x->known);
    if (order == 0 && !x->known) order = compare_effects(x, y);
    return order == 0 ? ORDER(x->begin, y->begin) : order;
}

static int compare_groups(const void *a, const void *b) {
    const struct step *const *x = a, *const *y = b;
    return ORDER((*x)->begin, (*y)->begin);
}

/* After the steps are in order: runs of unknown ones that do the same. */
static void make_groups(struct problem *problem) {
    uint32_t unknown = problem->step_count - problem->known_count;
    const struct step **firsts = memory_zeroed(unknown, sizeof *firsts);
    for (uint32_t i = problem->known_count; i < problem->step_count; i++) {
        const struct step *step = &problem->steps[i];
        if (i == problem->known_count || compare_effects(step, step - 1) != 0)
            firsts[problem->group_count++] = step;
    }
    qsort(firsts, problem->group_count, sizeof *firsts, compare_groups);
    problem->groups = memory_zeroed(problem->group_count, sizeof *problem->groups);
    for (uint32_t i = 0; i < problem->group_count; i++) {
        struct step_group *group = &problem->groups[i];
        group->first = (uint32_t)(firsts[i] - problem->steps);
        uint32_t at = group->first;
        do {
            problem->steps[at++].group = i;
        } while (at < problem->step_count && compare_effects(firsts[i], &problem->steps[at]) == 0);
        group->count = at - group->first;
    }
    free(firsts);
}

static int compare_known(const void *a, const void *b) {
    return compare_effects(*(struct step *const *)a, *(struct step *const *)b);
}

/* Known steps that do the same get the number of one of them. */
static void group_known(struct problem *problem) {
    struct step **order = memory_zeroed(problem->known_count, sizeof *order);
    for (uint32_t i = 0; i < problem->known_count; i++) order[i] = &problem->steps[i];
    qsort(order, problem->known_count, sizeof *order, compare_known);
    for (uint32_t i = 1; i < problem->known_count; i++) {
        if (compare_effects(order[i - 1], order[i]) != 0) continue;
        if (order[i - 1]->group == STEP_GROUPLESS) order[i - 1]->group = i;
        order[i]->group = order[i - 1]->group;
    }
    free(order);
}

/* ---- slots ---- */

static void give_slots(struct problem *problem) {
    uint32_t *unused = memory_zeroed(problem->known_count, sizeof *unused);
    uint32_t unused_count = 0;
    for (uint32_t place = 0; place < problem->place_count; place++) {
        struct step *step = &problem->steps[problem->places[place]];
        if (!step->known) continue;
        if (step->end == place) {
            unused[unused_count++] = step->slot;
        } else {
            step->slot = unused_count > 0 ? unused[--unused_count] : problem->slot_count++;
        }
    }
    free(unused);
}

/* ---- appends ---- */

static void collect_appends(struct problem *problem) {
    struct maker *makers = memory_zeroed(problem->step_count, sizeof *makers);
    uint32_t count = 0;
    for (uint32_t i = 0; i < problem->step_count; i++) {
        const struct step *step = &problem->steps[i];
        if (step->kind != STEP_APPEND) continue;
        makers[count++] = (struct maker){.piece = step->piece, .bytes_after = step->bytes_after};
    }
    appends_init_take(&problem->appends, problem->values, makers, count);
}

/* After the adds have been surveyed. */
static void name_makers(struct problem *problem) {
    for (uint32_t i = 0; i < problem->step_count; i++) {
        struct step *step = &problem->steps[i];
        if (step->kind != STEP_APPEND) continue;
        step->maker = appends_find(&problem->appends, step->piece, step->bytes_after);
        const struct maker *maker = &problem->appends.makers[step->maker];
        step->anonymous = !step->known && maker->holder == VALUE_NONE && appends_is_plain(maker, problem->adds);
    }
}

static void survey_adds(struct problem *problem) {
    problem->adds_only_up = true;
    for (uint32_t i = 0; i < problem->step_count; i++) {
        const struct step *step = &problem->steps[i];
        if (step->kind != STEP_ADD || step->known) continue;
        problem->adds = true;
        if (step->amount < 0) problem->adds_only_up = false;
    }
}

/* ---- the whole ---- */

struct problem *problem_new(const struct check_op *ops, size_t count) {
    struct problem *problem = memory_zeroed(1, sizeof *problem);
    struct builder builder = {.problem = problem, .ops = ops, .count = count};
    survey_all(&builder);
    make_steps(&builder);
    survey_adds(problem);
    collect_appends(problem);
    name_makers(problem);
    qsort(problem->steps, problem->step_count, sizeof *problem->steps, compare_steps);
    fill_places(problem);
    make_groups(problem);
    group_known(problem);
    give_slots(problem);
    return problem;
}

void problem_free(struct problem *problem) {
    if (problem == NULL) return;
    values_free(problem->values);
    free(problem->steps);
    free(problem->groups);
    free(problem->places);
    appends_deinit(&problem->appends);
    free(problem->named);
    free(problem->numbers);
    free(problem);
}

static bool add_number(const struct step *step, struct values *values, uint32_t value, uint32_t *next) {
    const struct value *old = values_get(values, value);
    int64_t sum;
    if (value != VALUE_NIL && !old->is_number) return false;
    if (__builtin_add_overflow(old->number, step->amount, &sum)) return false;
    *next = values_of_number(values, sum);
    return true;
}

bool step_apply(const struct step *step, struct values *values, uint32_t value, uint32_t *next) {
    *next = value;
    switch (step->kind) {
    case STEP_READ:
        return value == step->from;
    case STEP_DIFFER:
        return value != step->from;
    case STEP_PUT:
        *next = step->to;
        return true;
    case STEP_DROP:
        *next = VALUE_NIL;
        return value != VALUE_NIL;
    case STEP_SWAP:
        *next = step->to;
        return value == step->from;
    case STEP_ADD:
        if (!step->known) return add_number(step, values, value, next);
        *next = step->to;
        return value == VALUE_NIL || value == step->from;
    case STEP_APPEND:
        if (step->known && values_get(values, value)->bytes + step->piece.size != step->bytes_after) return false;
        *next = values_append(values, value, step->piece);
        return true;
    }
    return false;
}
