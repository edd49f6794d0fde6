/* Unknown steps of which it does not matter which one is used: those of one group from the start, and more of the others as
 * the known steps that could have told them apart are done.
 *
 * Groups may be free: a search uses them as often as it likes, and whether that was too often is seen afterwards. Free
 * steps are not part of the sets of steps used up. */
#pragma once

#include "problem.h"

struct alike_counts {
    int32_t *items; /* owned */
    size_t capacity;
};

struct alike {
    /* private */
    const struct problem *problem;
    bool *is_free;         /* owned, by group */
    uint32_t *free_groups; /* owned: those that are */
    uint32_t free_count;
    uint32_t *by_begin; /* owned: the unknown steps in the order of begin */
    uint32_t *names;    /* owned: of each unknown step, its place there */
    /* Of puts by value, of appends by the size of the piece: balances (0 between calls), and who has tried one. */
    struct alike_counts put_balances, append_balances;
    struct alike_counts put_tries, append_tries;
};

/* `is_free`, by group, is copied. */
void alike_init(struct alike *alike, const struct problem *problem, const bool *is_free);
void alike_deinit(struct alike *alike);

bool alike_is_free(const struct alike *alike, const struct step *step);

/* The number by which an unknown step is a member of sets: from 0, in the order of begin. */
uint32_t alike_name(const struct alike *alike, const struct step *step);

/* Whether the unknown step does nothing new after those that `place` has asked about; if so it need not be tried there.
 * Places have numbers from 1. Notes of one may be lost when another asks; then a step is tried once too often. */
bool alike_is_tried(struct alike *alike, int32_t place, const struct step *step);

/* Whether the step is an append of which nothing but the length matters any more. */
bool alike_is_anonymous(const struct alike *alike, const struct step *step);

/* Whether all that can be reached with the steps of the set `now` used up, and free steps that begin before `end`, can be
 * reached with `then` used up. `is_useless` tells of a step that it will never fit again. */
typedef bool alike_is_useless_cb(void *context, const struct step *step);
bool alike_covers(struct alike *alike, const uint64_t *then, const uint64_t *now, uint32_t end,
                  alike_is_useless_cb *is_useless, void *context);
