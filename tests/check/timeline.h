/* Wing and Gong's list of begins and ends, in the order of time, from which a step is lifted when the search does it and
 * put back when it takes it back. Only known steps are in it. */
#pragma once

#include "problem.h"

#define TIMELINE_START 0u

struct timeline {
    /* private. Entry i + 1 is place i of the problem; entry 0 is a head, and behind the last entry comes the head. */
    const struct problem *problem;
    uint32_t *next, *previous; /* owned */
};

void timeline_init(struct timeline *timeline, const struct problem *problem);
void timeline_deinit(struct timeline *timeline);

/* Steps are put back in the reverse order of being lifted. */
void timeline_lift(struct timeline *timeline, const struct step *step);
void timeline_unlift(struct timeline *timeline, const struct step *step);

/* Walks over the steps that may be next: those that begin before the first end. NULL = no more. `*at` starts as
 * TIMELINE_START. There must be a step in the list. */
const struct step *timeline_next(const struct timeline *timeline, uint32_t *at);

/* The place of the first end. There must be one. */
uint32_t timeline_first_end(const struct timeline *timeline);
