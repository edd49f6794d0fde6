#include "explain.h"

#include "memory.h"
#include "model.h"
#include "print.h"

#include <inttypes.h>

#define LAST_MAX      10 /* steps of the order that are told */
#define IN_FLIGHT_MAX 8
#define WRITERS_MAX   3

struct story {
    const struct check_op *ops;
    size_t count;
    uint64_t states_max, states;
    uint32_t *by_end; /* owned: the known operations, by their end */
    uint32_t *rank;   /* owned: of each operation, its place there */
    uint32_t known_count;
};

/* What an order that explains the history up to some end looks like. */
struct witness {
    uint32_t *order; /* owned: operations */
    uint32_t count;
};

/* ---- the history as it stood at an end ---- */

struct by_end {
    int64_t end;
    uint32_t op;
};

static int compare_ends(const void *a, const void *b) {
    const struct by_end *x = a, *y = b;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return (x->op > y->op) - (x->op < y->op);
}

static void story_init(struct story *story) {
    struct by_end *ends = memory_zeroed(story->count, sizeof *ends);
    story->by_end = memory_zeroed(story->count, sizeof *story->by_end);
    story->rank = memory_zeroed(story->count, sizeof *story->rank);
    for (uint32_t i = 0; i < story->count; i++) {
        story->rank[i] = UINT32_MAX;
        if (story->ops[i].unknown) continue;
        ends[story->known_count++] = (struct by_end){.end = story->ops[i].end, .op = i};
    }
    qsort(ends, story->known_count, sizeof *ends, compare_ends);
    for (uint32_t i = 0; i < story->known_count; i++) {
        story->by_end[i] = ends[i].op;
        story->rank[ends[i].op] = i;
    }
    free(ends);
}

static void story_deinit(struct story *story) {
    free(story->by_end);
    free(story->rank);
}

/* What had begun when `known` operations had ended, those in flight being unknown. */
static struct check_op *cut_story(const struct story *story, uint32_t known, size_t *count, uint32_t *origin) {
    int64_t horizon = known == 0 ? INT64_MIN : story->ops[story->by_end[known - 1]].end;
    struct check_op *cut = memory_zeroed(story->count, sizeof *cut);
    *count = 0;
    for (uint32_t i = 0; i < story->count; i++) {
        if (story->ops[i].begin > horizon) continue;
        cut[*count] = story->ops[i];
        if (story->rank[i] >= known) cut[*count].unknown = true;
        origin[(*count)++] = i;
    }
    return cut;
}

/* Whether the history with the first `known` ends can be explained; then how. */
static bool search_cut(struct story *story, uint32_t known, struct witness *witness) {
    size_t count;
    uint32_t *origin = memory_zeroed(story->count, sizeof *origin);
    struct check_op *cut = cut_story(story, known, &count, origin);
    struct problem *problem = problem_new(cut, count);
    struct search_report report;
    search_run(problem, story->states_max, &report);
    story->states += report.states;
    bool found = report.result == SEARCH_FOUND;
    if (found) {
        free(witness->order);
        *witness = (struct witness){.order = report.order, .count = report.order_count};
        for (uint32_t i = 0; i < report.order_count; i++) {
            witness->order[i] = origin[problem->steps[report.order[i]].source];
        }
    }
    problem_free(problem);
    free(cut);
    free(origin);
    return found;
}

/* The most ends that can be explained, from `good` on, which can be. Steps grow until one is too far, since it is near. */
static uint32_t find_last_good(struct story *story, uint32_t good, struct witness *witness) {
    uint32_t bad = story->known_count;
    for (uint32_t step = 1; good + step < bad; step *= 2) {
        if (search_cut(story, good + step, witness)) {
            good += step;
        } else {
            bad = good + step;
        }
    }
    while (good + 1 < bad) {
        uint32_t middle = good + (bad - good) / 2;
        if (search_cut(story, middle, witness)) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    return good;
}

/* ---- telling it ---- */

static void tell_witness(const struct story *story, const struct witness *witness, struct buffer *text) {
    struct model model;
    model_init(&model);
    uint32_t told_from = witness->count > LAST_MAX ? witness->count - LAST_MAX : 0;
    if (told_from > 0) print_format(text, "    ... %" PRIu32 " before these\n", told_from);
    for (uint32_t i = 0; i < witness->count; i++) {
        struct check_op done = story->ops[witness->order[i]];
        if (i >= told_from) print_op(text, &done);
        model_do(&model, &done);
    }
    struct check_value value = model_value(&model);
    print_format(text, "  which leaves the value ");
    print_value(text, &value);
    print_format(text, ".\n");
    model_deinit(&model);
}

static bool is_in(const struct witness *witness, uint32_t op) {
    for (uint32_t i = 0; i < witness->count; i++) {
        if (witness->order[i] == op) return true;
    }
    return false;
}

/* Operations that had begun by the end of the misfit and are not part of what was told. */
static void tell_in_flight(const struct story *story, const struct witness *witness, uint32_t misfit,
                           struct buffer *text) {
    uint32_t told = 0;
    for (uint32_t i = story->rank[misfit] + 1; i < story->known_count && told < IN_FLIGHT_MAX; i++) {
        uint32_t op = story->by_end[i];
        if (story->ops[op].begin > story->ops[misfit].end || is_in(witness, op)) continue;
        if (told++ == 0) print_format(text, "  Also in flight then, without being of help:\n");
        print_op(text, &story->ops[op]);
    }
}

/* The value that the operation must have met. False: several would do. `room` holds a number's text. */
static bool met_value(const struct check_op *op, struct check_value *value) {
    if (op->kind == CHECK_GET) *value = op->got;
    if (op->kind == CHECK_CAS && op->answer == 1) *value = op->expected;
    return (op->kind == CHECK_GET || (op->kind == CHECK_CAS && op->answer == 1)) && value->present;
}

static bool writes(const struct check_op *op, const struct check_value *value) {
    bool may = op->kind == CHECK_SET || (op->kind == CHECK_CAS && (op->unknown || op->answer == 1));
    return may && check_value_equal(&op->value, value);
}

static void tell_writers(const struct story *story, uint32_t misfit, struct buffer *text) {
    struct check_value value;
    uint32_t told = 0;
    if (!met_value(&story->ops[misfit], &value)) return;
    for (uint32_t i = 0; i < story->count && told < WRITERS_MAX; i++) {
        if (!writes(&story->ops[i], &value)) continue;
        if (told++ == 0) {
            print_format(text, "  ");
            print_value(text, &value);
            print_format(text, " was written by\n");
        }
        print_op(text, &story->ops[i]);
    }
}

void explain(const struct check_op *ops, size_t count, uint32_t furthest, uint64_t states, uint64_t *states_used,
             struct buffer *text) {
    struct story story = {.ops = ops, .count = count, .states_max = states};
    struct witness witness = {0};
    story_init(&story);
    uint32_t good = story.rank[furthest];
    bool found = search_cut(&story, good, &witness);
    good = find_last_good(&story, found ? good : 0, &witness);
    uint32_t misfit = story.by_end[good];
    print_format(text, "  The first %" PRIu32 " answers of %" PRIu32 " can be explained, by this order:\n", good,
                 story.known_count);
    tell_witness(&story, &witness, text);
    print_format(text, "  No order explains them and the next to end:\n");
    print_op(text, &ops[misfit]);
    tell_writers(&story, misfit, text);
    tell_in_flight(&story, &witness, misfit, text);
    *states_used += story.states;
    free(witness.order);
    story_deinit(&story);
}
