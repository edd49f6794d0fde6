#include "alike.h"

#include "memory.h"

static uint32_t unknown_count(const struct problem *problem) { return problem->step_count - problem->known_count; }

struct named_begin {
    uint32_t begin, step;
};

static int compare_begins(const void *a, const void *b) {
    const struct named_begin *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

static void name_steps(struct alike *alike) {
    const struct problem *problem = alike->problem;
    uint32_t count = unknown_count(problem);
    struct named_begin *order = memory_zeroed(count, sizeof *order);
    alike->by_begin = memory_zeroed(count, sizeof *alike->by_begin);
    alike->names = memory_zeroed(count, sizeof *alike->names);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t step = problem->known_count + i;
        order[i] = (struct named_begin){.begin = problem->steps[step].begin, .step = step};
    }
    qsort(order, count, sizeof *order, compare_begins);
    for (uint32_t i = 0; i < count; i++) {
        alike->by_begin[i] = order[i].step;
        alike->names[order[i].step - problem->known_count] = i;
    }
    free(order);
}

void alike_init(struct alike *alike, const struct problem *problem, const bool *is_free) {
    *alike = (struct alike){.problem = problem};
    alike->is_free = memory_zeroed(problem->group_count, sizeof *alike->is_free);
    alike->free_groups = memory_zeroed(problem->group_count, sizeof *alike->free_groups);
    for (uint32_t group = 0; group < problem->group_count; group++) {
        alike->is_free[group] = is_free[group];
        if (is_free[group]) alike->free_groups[alike->free_count++] = group;
    }
    name_steps(alike);
}

void alike_deinit(struct alike *alike) {
    free(alike->is_free);
    free(alike->free_groups);
    free(alike->by_begin);
    free(alike->names);
    free(alike->put_balances.items);
    free(alike->append_balances.items);
    free(alike->put_tries.items);
    free(alike->append_tries.items);
}

bool alike_is_free(const struct alike *alike, const struct step *step) {
    return !step->known && alike->is_free[step->group];
}

uint32_t alike_name(const struct alike *alike, const struct step *step) {
    return alike->names[(uint32_t)(step - alike->problem->steps) - alike->problem->known_count];
}

bool alike_is_anonymous(const struct alike *alike, const struct step *step) {
    const struct problem *problem = alike->problem;
    if (step->kind != STEP_APPEND) return false;
    const struct maker *maker = &problem->appends.makers[step->maker];
    if (!appends_is_plain(maker, problem->adds)) return false;
    return maker->holder == VALUE_NONE || !values_is_mentioned(problem->values, maker->holder);
}

/* The count of the steps that do the same as this one by now; NULL = it stands for itself. */
static int32_t *count_of(const struct alike *alike, const struct step *step, struct alike_counts *of_puts,
                         struct alike_counts *of_appends) {
    bool is_put = step->kind == STEP_PUT;
    if (!is_put && !alike_is_anonymous(alike, step)) return NULL;
    struct alike_counts *counts = is_put ? of_puts : of_appends;
    size_t at = is_put ? values_reduce(alike->problem->values, step->to) : step->piece.size;
    counts->items = memory_reach(counts->items, at, &counts->capacity, sizeof *counts->items);
    return &counts->items[at];
}

bool alike_is_tried(struct alike *alike, int32_t place, const struct step *step) {
    int32_t *tried = count_of(alike, step, &alike->put_tries, &alike->append_tries);
    if (tried == NULL) return false;
    bool is_tried = *tried == place;
    *tried = place;
    return is_tried;
}

/* Whether a free step that begins before `end` does what this one does by now. */
static bool has_free_like(const struct alike *alike, const struct step *step, uint32_t end) {
    const struct problem *problem = alike->problem;
    bool is_put = step->kind == STEP_PUT;
    if (!is_put && !alike_is_anonymous(alike, step)) return false;
    uint32_t value = is_put ? values_reduce(problem->values, step->to) : VALUE_NONE;
    for (uint32_t i = 0; i < alike->free_count; i++) {
        const struct step *like = &problem->steps[problem->groups[alike->free_groups[i]].first];
        if (like->kind != step->kind || like->begin > end) continue;
        if (is_put ? like->to == value : like->piece.size == step->piece.size) return true;
    }
    return false;
}

/* The members in which two sets differ, one after the other from *at on; false = no more. */
static bool next_difference(const struct alike *alike, const uint64_t *a, const uint64_t *b, uint32_t *at) {
    uint32_t count = unknown_count(alike->problem);
    while (*at < count) {
        uint64_t rest = (a[*at / 64] ^ b[*at / 64]) >> *at % 64;
        if (rest != 0) {
            *at += (uint32_t)__builtin_ctzll(rest);
            return true;
        }
        *at = (*at / 64 + 1) * 64;
    }
    return false;
}

static void clear_balances(struct alike *alike, const uint64_t *then, const uint64_t *now, uint32_t end) {
    for (uint32_t at = 0; next_difference(alike, then, now, &at) && at < end; at++) {
        const struct step *step = &alike->problem->steps[alike->by_begin[at]];
        int32_t *balance = count_of(alike, step, &alike->put_balances, &alike->append_balances);
        if (balance != NULL) *balance = 0;
    }
}

/* Members are compared in the order of begin. A balance counts, of steps that do the same, how many more were used up then
 * among those so far: as long as there are not more, each that is left now had one left then in its place. */
bool alike_covers(struct alike *alike, const uint64_t *then, const uint64_t *now, uint32_t end,
                  alike_is_useless_cb *is_useless, void *context) {
    bool covers = true;
    uint32_t at = 0;
    for (; covers && next_difference(alike, then, now, &at); at++) {
        const struct step *step = &alike->problem->steps[alike->by_begin[at]];
        bool was_used = (then[at / 64] >> at % 64 & 1) != 0;
        int32_t *balance = count_of(alike, step, &alike->put_balances, &alike->append_balances);
        if (has_free_like(alike, step, end)) continue;
        if (balance != NULL) {
            *balance += was_used ? 1 : -1;
            covers = *balance <= 0;
        } else if (was_used) {
            covers = is_useless(context, step);
        }
    }
    clear_balances(alike, then, now, at);
    return covers;
}
