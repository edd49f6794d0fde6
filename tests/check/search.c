#include "search.h"

#include "ahead.h"
#include "alike.h"
#include "memory.h"
#include "seen.h"
#include "timeline.h"
#include "useful.h"

/* A place of the search and how far its moves have been tried. */
struct frame {
    uint32_t trail; /* steps done when the search stood here */
    uint32_t value;
    uint32_t before;       /* the value before an unknown step that has yet to be of use; else VALUE_NONE */
    uint32_t used;         /* the set of unknown steps used up */
    uint32_t end;          /* the first end still to come */
    uint32_t tried_before; /* known writes that end before here have been tried */
    uint32_t tried_groups; /* so many groups of unknown ones have been tried */
    int32_t serial;        /* a number of its own, from 1 */
};

struct search {
    struct problem *problem;
    struct values *values; /* the problem's */
    struct timeline timeline;
    struct ahead ahead;
    struct alike alike;
    struct useful useful;
    struct seen *seen;    /* owned */
    uint32_t *group_used; /* owned: of each group, how many are used up */
    /* Known steps of one slot follow each other in time, so they are done in their order; and given the first end still to
     * come, at most one of them can be done or not: all that end earlier are, those that begin later are not. So one bit
     * for each slot, turned over whenever a step of it is done or taken back, tells with that end which are done. */
    uint64_t *slots; /* owned */
    uint32_t *trail; /* owned: the steps done, in order */
    uint32_t trail_count;
    size_t trail_capacity;
    uint32_t known_left;
    struct frame *frames; /* owned: the way to where the search stands */
    size_t frame_count, frame_capacity;
    uint64_t states, states_max;
    uint32_t furthest_end;
    const struct frame *entering; /* for covers_cb */
};

/* ---- doing a step and taking it back ---- */

static void turn_slot(struct search *search, const struct step *step) {
    search->slots[step->slot / 64] ^= UINT64_C(1) << step->slot % 64;
}

static void do_step(struct search *search, const struct step *step) {
    search->trail =
        memory_room(search->trail, search->trail_count, &search->trail_capacity, sizeof *search->trail);
    search->trail[search->trail_count++] = (uint32_t)(step - search->problem->steps);
    if (alike_is_free(&search->alike, step)) return;
    ahead_count(&search->ahead, step, true);
    if (step->known) {
        timeline_lift(&search->timeline, step);
        turn_slot(search, step);
        search->known_left--;
    } else {
        search->group_used[step->group]++;
    }
}

static void take_back_last(struct search *search) {
    const struct step *step = &search->problem->steps[search->trail[--search->trail_count]];
    if (alike_is_free(&search->alike, step)) return;
    ahead_count(&search->ahead, step, false);
    if (step->known) {
        timeline_unlift(&search->timeline, step);
        turn_slot(search, step);
        search->known_left++;
    } else {
        search->group_used[step->group]--;
    }
}

/* ---- moves ---- */

/* Whether a known step that does the same as this one may be next too and ends earlier. */
static bool goes_after_its_like(const struct search *search, const struct step *step) {
    uint32_t at = TIMELINE_START;
    const struct step *like;
    if (step->group == STEP_GROUPLESS) return false;
    while ((like = timeline_next(&search->timeline, &at)) != NULL) {
        if (like->group == step->group && like->end < step->end) return true;
    }
    return false;
}

static bool is_known_move(const struct search *search, const struct frame *frame, const struct step *step) {
    uint32_t next;
    if (step_is_read(step) || !step_apply(step, search->values, frame->value, &next)) return false;
    if (frame->before != VALUE_NONE && !useful_is_different(&search->useful, step, frame->value, frame->before)) {
        return false;
    }
    return !goes_after_its_like(search, step);
}

/* The known step that ends first of those that have not been tried. */
static const struct step *first_untried(const struct search *search, const struct frame *frame) {
    const struct step *step, *found = NULL;
    uint32_t at = TIMELINE_START;
    while ((step = timeline_next(&search->timeline, &at)) != NULL) {
        if (step->end < frame->tried_before) continue;
        if (found == NULL || step->end < found->end) found = step;
    }
    return found;
}

/* The known write to try next: in the order of their ends, since the first is what presses most. NULL = no more. */
static const struct step *next_known_move(const struct search *search, struct frame *frame) {
    const struct step *step;
    while ((step = first_untried(search, frame)) != NULL) {
        frame->tried_before = step->end + 1;
        if (is_known_move(search, frame, step)) return step;
    }
    return NULL;
}

static bool is_unknown_move(struct search *search, const struct frame *frame, const struct step *step) {
    uint32_t next, value = frame->value, before = frame->before;
    if (!step_apply(step, search->values, value, &next) || next == value) return false;
    if (before != VALUE_NONE && !useful_is_different(&search->useful, step, value, before)) return false;
    if (alike_is_tried(&search->alike, frame->serial, step)) return false;
    return useful_may_be(&search->useful, next, value, frame->end);
}

/* The unknown step to try next: of each group the first that is left. NULL = no more. */
static const struct step *next_unknown_move(struct search *search, struct frame *frame) {
    const struct problem *problem = search->problem;
    while (frame->tried_groups < problem->group_count) {
        uint32_t number = frame->tried_groups++;
        const struct step_group *group = &problem->groups[number];
        if (problem->steps[group->first].begin > frame->end) break; /* and so do all further groups */
        if (search->group_used[number] == group->count) continue;
        const struct step *step = &problem->steps[group->first + search->group_used[number]];
        if (step->begin < frame->end && is_unknown_move(search, frame, step)) return step;
    }
    frame->tried_groups = problem->group_count;
    return NULL;
}

/* ---- the search ---- */

static const struct step *find_read(const struct search *search, uint32_t value) {
    uint32_t next, at = TIMELINE_START;
    const struct step *step;
    while (search->known_left > 0 && (step = timeline_next(&search->timeline, &at)) != NULL) {
        if (step_is_read(step) && step_apply(step, search->values, value, &next)) return step;
    }
    return NULL;
}

/* Does every read that may be next and fits. True: there was one. */
static bool do_reads(struct search *search, uint32_t value) {
    uint32_t count = search->trail_count;
    const struct step *step;
    while ((step = find_read(search, value)) != NULL) do_step(search, step);
    return search->trail_count > count;
}

static bool is_useless_cb(void *context, const struct step *step) {
    const struct search *search = context;
    return step->kind == STEP_SWAP && !ahead_has(&search->ahead, step->from, search->entering->value);
}

static bool covers_cb(void *context, const uint64_t *then, const uint64_t *now) {
    struct search *search = context;
    return alike_covers(&search->alike, then, now, search->entering->end, is_useless_cb, search);
}

static bool was_seen(struct search *search, const struct frame *frame) {
    const struct seen_place place = {.end = frame->end,
                                     .value = frame->value,
                                     .before = frame->before,
                                     .used = frame->used,
                                     .slots = search->slots};
    search->entering = frame;
    return seen_before(search->seen, &place);
}

/* Stands at the place with this value after the steps of the trail, if it is a new one. */
static void enter(struct search *search, uint32_t value, uint32_t before, uint32_t used) {
    if (do_reads(search, value)) before = VALUE_NONE;
    struct frame frame = {.trail = search->trail_count,
                          .value = values_reduce(search->values, value),
                          .before = before,
                          .used = used};
    if (search->known_left > 0) {
        frame.end = timeline_first_end(&search->timeline);
        if (frame.end > search->furthest_end) search->furthest_end = frame.end;
        if (was_seen(search, &frame)) return;
    }
    frame.serial = (int32_t)++search->states;
    search->frames =
        memory_room(search->frames, search->frame_count, &search->frame_capacity, sizeof *search->frames);
    search->frames[search->frame_count++] = frame;
}

static void move(struct search *search, const struct frame *frame, const struct step *step) {
    uint32_t next, before = VALUE_NONE, used = frame->used;
    bool fits = step_apply(step, search->values, frame->value, &next);
    sk_assert(fits);
    do_step(search, step);
    if (ahead_loses(&search->ahead, frame->value, next)) return;
    if (step->kind == STEP_APPEND && ahead_wastes(&search->ahead, step, next)) return;
    if (!step->known) before = frame->value;
    if (!step->known && !alike_is_free(&search->alike, step)) {
        used = seen_set_with(search->seen, used, alike_name(&search->alike, step));
    }
    enter(search, next, before, used);
}

static enum search_result look(struct search *search) {
    while (search->frame_count > 0) {
        struct frame *frame = &search->frames[search->frame_count - 1];
        while (search->trail_count > frame->trail) take_back_last(search);
        if (search->known_left == 0) return SEARCH_FOUND;
        if (search->states >= search->states_max) return SEARCH_GAVE_UP;
        const struct step *step = next_known_move(search, frame);
        if (step == NULL) step = next_unknown_move(search, frame);
        if (step == NULL) {
            search->frame_count--;
        } else {
            const struct frame from = *frame; /* the frames may be moved */
            move(search, &from, step);
        }
    }
    return SEARCH_NONE;
}

static void search_init(struct search *search, struct problem *problem, const bool *is_free, uint64_t states) {
    uint32_t slot_words = problem->slot_count / 64 + 1;
    *search = (struct search){.problem = problem,
                              .values = problem->values,
                              .known_left = problem->known_count,
                              .states_max = states < INT32_MAX ? states : INT32_MAX - 1};
    search->group_used = memory_zeroed(problem->group_count, sizeof *search->group_used);
    search->slots = memory_zeroed(slot_words, sizeof *search->slots);
    search->seen = seen_new(slot_words, problem->step_count - problem->known_count, covers_cb, search);
    timeline_init(&search->timeline, problem);
    ahead_init(&search->ahead, problem);
    alike_init(&search->alike, problem, is_free);
    useful_init(&search->useful, problem, &search->ahead, &search->timeline, search->group_used);
}

static void search_deinit(struct search *search) {
    while (search->trail_count > 0) take_back_last(search);
    useful_deinit(&search->useful);
    alike_deinit(&search->alike);
    ahead_deinit(&search->ahead);
    timeline_deinit(&search->timeline);
    seen_free(search->seen);
    free(search->slots);
    free(search->group_used);
    free(search->trail);
    free(search->frames);
}

/* ---- free groups ---- */

/* What they make nothing names, and there are often many. */
static void choose_free(const struct problem *problem, bool *is_free) {
    for (uint32_t i = 0; i < problem->group_count; i++) {
        const struct step *step = &problem->steps[problem->groups[i].first];
        bool is_put = step->kind == STEP_PUT;
        bool is_other = is_put && values_get(problem->values, step->to)->kind == VALUE_IS_OTHER;
        is_free[i] = is_other || (is_put && step->to == VALUE_NIL) || step->anonymous;
    }
}

/* From each place of the order on, the earliest end. Owned by the caller. */
static uint32_t *earliest_ends(const struct problem *problem, const uint32_t *order, uint32_t count) {
    uint32_t *ends = memory_zeroed(count, sizeof *ends), earliest = UINT32_MAX;
    for (uint32_t i = count; i-- > 0;) {
        uint32_t end = problem->steps[order[i]].end;
        if (end < earliest) earliest = end;
        ends[i] = earliest;
    }
    return ends;
}

/* Gives each free step of the order one of its group that is used nowhere else. Where there is none that begins in time, the
 * group is free no more. True: all have one. */
static bool settle_free(const struct problem *problem, uint32_t *order, uint32_t count, bool *is_free) {
    uint32_t *ends = earliest_ends(problem, order, count);
    uint32_t *used = memory_zeroed(problem->group_count, sizeof *used);
    bool settled = true;
    for (uint32_t i = 0; i < count; i++) {
        const struct step *step = &problem->steps[order[i]];
        if (step->known || !is_free[step->group]) continue;
        const struct step_group *group = &problem->groups[step->group];
        uint32_t at = group->first + used[step->group]++;
        if (at < group->first + group->count && problem->steps[at].begin < ends[i]) {
            order[i] = at;
        } else {
            is_free[step->group] = settled = false;
        }
    }
    free(used);
    free(ends);
    return settled;
}

/* ---- searches with some groups free ---- */

static void search_once(struct problem *problem, const bool *is_free, uint64_t states,
                        struct search_report *report) {
    struct search search;
    search_init(&search, problem, is_free, states);
    enter(&search, VALUE_NIL, VALUE_NONE, SEEN_SET_EMPTY);
    report->result = look(&search);
    report->states += search.states;
    if (report->result == SEARCH_FOUND) {
        report->order_count = search.trail_count;
        report->order = memory_zeroed(search.trail_count, sizeof *report->order);
        for (uint32_t i = 0; i < search.trail_count; i++) report->order[i] = search.trail[i];
    }
    if (problem->place_count > 0) report->furthest = problem->places[search.furthest_end];
    search_deinit(&search);
}

void search_run(struct problem *problem, uint64_t states, struct search_report *report) {
    bool *is_free = memory_zeroed(problem->group_count, sizeof *is_free), again = true;
    choose_free(problem, is_free);
    *report = (struct search_report){.result = SEARCH_GAVE_UP};
    while (again && report->states < states) {
        search_once(problem, is_free, states - report->states, report);
        again =
            report->result == SEARCH_FOUND && !settle_free(problem, report->order, report->order_count, is_free);
        if (!again) break;
        free(report->order);
        report->order = NULL;
        report->result = SEARCH_GAVE_UP;
    }
    free(is_free);
}
