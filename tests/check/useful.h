/* Whether an unknown step is worth doing: only if the step right after it would not have been the same without it. An order
 * with the fewest unknown steps has this property, and if there is any order there is such a one. */
#pragma once

#include "ahead.h"
#include "timeline.h"

struct useful {
    /* private */
    struct problem *problem;
    const struct ahead *ahead;
    const struct timeline *timeline;
    const uint32_t *group_used; /* by group */
    uint32_t *swaps;            /* owned: the groups of unknown swaps, by what they swap from */
    uint32_t swap_count;
};

/* All are borrowed until useful_deinit. `group_used`: of each group, how many steps are used up. */
void useful_init(struct useful *useful, struct problem *problem, const struct ahead *ahead,
                 const struct timeline *timeline, const uint32_t *group_used);
void useful_deinit(struct useful *useful);

/* Whether the step can meet `value`, and makes something else of it than of `before` or could not have met that. */
bool useful_is_different(const struct useful *useful, const struct step *step, uint32_t value, uint32_t before);

/* Whether an unknown step that made `value` of `before` can be of use to a known one that may be next, perhaps after more
 * unknown ones that begin before `end`. A "no" is certain. */
bool useful_may_be(const struct useful *useful, uint32_t value, uint32_t before, uint32_t end);
