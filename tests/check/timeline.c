#include "timeline.h"

#include "memory.h"

static uint32_t entry_of(uint32_t place) { return place + 1; }

static const struct step *step_of(const struct timeline *timeline, uint32_t entry) {
    return &timeline->problem->steps[timeline->problem->places[entry - 1]];
}

static void link_all(struct timeline *timeline) {
    const struct problem *problem = timeline->problem;
    uint32_t last = TIMELINE_START;
    for (uint32_t place = 0; place < problem->place_count; place++) {
        if (!problem->steps[problem->places[place]].known) continue;
        timeline->next[last] = entry_of(place);
        timeline->previous[entry_of(place)] = last;
        last = entry_of(place);
    }
    timeline->next[last] = TIMELINE_START;
    timeline->previous[TIMELINE_START] = last;
}

void timeline_init(struct timeline *timeline, const struct problem *problem) {
    timeline->problem = problem;
    timeline->next = memory_zeroed((size_t)problem->place_count + 1, sizeof *timeline->next);
    timeline->previous = memory_zeroed((size_t)problem->place_count + 1, sizeof *timeline->previous);
    link_all(timeline);
}

void timeline_deinit(struct timeline *timeline) {
    free(timeline->next);
    free(timeline->previous);
}

static void lift_entry(struct timeline *timeline, uint32_t entry) {
    timeline->next[timeline->previous[entry]] = timeline->next[entry];
    timeline->previous[timeline->next[entry]] = timeline->previous[entry];
}

static void unlift_entry(struct timeline *timeline, uint32_t entry) {
    timeline->next[timeline->previous[entry]] = entry;
    timeline->previous[timeline->next[entry]] = entry;
}

void timeline_lift(struct timeline *timeline, const struct step *step) {
    lift_entry(timeline, entry_of(step->begin));
    lift_entry(timeline, entry_of(step->end));
}

void timeline_unlift(struct timeline *timeline, const struct step *step) {
    unlift_entry(timeline, entry_of(step->end));
    unlift_entry(timeline, entry_of(step->begin));
}

const struct step *timeline_next(const struct timeline *timeline, uint32_t *at) {
    *at = timeline->next[*at];
    sk_assert(*at != TIMELINE_START); /* a step in the list has its end there */
    const struct step *step = step_of(timeline, *at);
    return entry_of(step->end) == *at ? NULL : step;
}

uint32_t timeline_first_end(const struct timeline *timeline) {
    uint32_t at = TIMELINE_START;
    while (timeline_next(timeline, &at) != NULL) {
    }
    return at - 1;
}
