#include "useful.h"

#include "memory.h"

static uint32_t swap_from(const struct useful *useful, uint32_t group) {
    return useful->problem->steps[useful->problem->groups[group].first].from;
}

struct swap {
    uint32_t from, group;
};

static int compare_swaps(const void *a, const void *b) {
    const struct swap *x = a, *y = b;
    if (x->from != y->from) return x->from < y->from ? -1 : 1;
    return (x->group > y->group) - (x->group < y->group);
}

static void sort_swaps(struct useful *useful) {
    const struct problem *problem = useful->problem;
    struct swap *order = memory_zeroed(problem->group_count, sizeof *order);
    useful->swaps = memory_zeroed(problem->group_count, sizeof *useful->swaps);
    for (uint32_t group = 0; group < problem->group_count; group++) {
        if (problem->steps[problem->groups[group].first].kind != STEP_SWAP) continue;
        order[useful->swap_count++] = (struct swap){.from = swap_from(useful, group), .group = group};
    }
    qsort(order, useful->swap_count, sizeof *order, compare_swaps);
    for (uint32_t i = 0; i < useful->swap_count; i++) useful->swaps[i] = order[i].group;
    free(order);
}

void useful_init(struct useful *useful, struct problem *problem, const struct ahead *ahead,
                 const struct timeline *timeline, const uint32_t *group_used) {
    *useful = (struct useful){.problem = problem, .ahead = ahead, .timeline = timeline, .group_used = group_used};
    sort_swaps(useful);
}

void useful_deinit(struct useful *useful) { free(useful->swaps); }

bool useful_is_different(const struct useful *useful, const struct step *step, uint32_t value, uint32_t before) {
    uint32_t next, next_before;
    struct values *values = useful->problem->values;
    if (!step_apply(step, values, value, &next)) return false;
    return !step_apply(step, values, before, &next_before) || next != next_before;
}

/* Whether an unknown add may take the value, perhaps after unknown appends, which make a number of "" or "-". */
static bool may_count(const struct useful *useful, uint32_t value) {
    const struct value *now = values_get(useful->problem->values, value);
    if (useful->ahead->adds == 0) return false;
    if (ahead_is_countable(useful->ahead, value)) return true;
    return useful->ahead->pieces > 0 && now->kind == VALUE_IS_TEXT && now->bytes <= 1;
}

/* Whether unknown adds and appends could make `wanted` of `value`. */
static bool may_become(const struct useful *useful, uint32_t value, uint32_t wanted) {
    const struct problem *problem = useful->problem;
    if (useful->ahead->pieces > 0 && values_begins(problem->values, value, wanted)) return true;
    if (!may_count(useful, value)) return false;
    const struct value *now = values_get(problem->values, value), *then = values_get(problem->values, wanted);
    if (!then->is_number) return useful->ahead->pieces > 0;
    if (problem->appends.makes_numbers || !problem->adds_only_up) return true;
    return now->number <= then->number;
}

/* Whether they could make of `value` one that the known step can meet. */
static bool may_lead_to(const struct useful *useful, uint32_t value, const struct step *step) {
    switch (step->kind) {
    case STEP_READ:
    case STEP_SWAP:
    case STEP_ADD:
        return may_become(useful, value, step->from);
    case STEP_APPEND:
        if (may_count(useful, value)) return true;
        return useful->ahead->pieces > 0 &&
               values_get(useful->problem->values, value)->bytes + step->piece.size < step->bytes_after;
    case STEP_DIFFER: /* met the one value that it must not; any other will do */
    case STEP_DROP:   /* likewise */
    case STEP_PUT:
        return false;
    }
    return true;
}

static uint32_t first_swap_from(const struct useful *useful, uint32_t value) {
    uint32_t low = 0, high = useful->swap_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (swap_from(useful, useful->swaps[middle]) < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Whether an unknown swap could take the value, perhaps after adds and appends. */
static bool may_be_swapped(const struct useful *useful, uint32_t value, uint32_t end) {
    const struct problem *problem = useful->problem;
    bool may_change = useful->ahead->pieces > 0 || may_count(useful, value);
    for (uint32_t i = may_change ? 0 : first_swap_from(useful, value); i < useful->swap_count; i++) {
        const struct step_group *group = &problem->groups[useful->swaps[i]];
        const struct step *first = &problem->steps[group->first];
        if (!may_change && first->from != value) return false;
        if (first->begin > end || useful->group_used[useful->swaps[i]] == group->count) continue;
        if (first->from == value || may_become(useful, value, first->from)) return true;
    }
    return false;
}

bool useful_may_be(const struct useful *useful, uint32_t value, uint32_t before, uint32_t end) {
    uint32_t at = TIMELINE_START;
    const struct step *step;
    while ((step = timeline_next(useful->timeline, &at)) != NULL) {
        if (useful_is_different(useful, step, value, before) || may_lead_to(useful, value, step)) return true;
    }
    return may_be_swapped(useful, value, end);
}
