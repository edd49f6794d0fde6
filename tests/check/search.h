/* The search for an order of a key's operations in which one store would have given the answers they got.
 *
 * Wing and Gong, "Testing and verifying concurrent objects", with Lowe's improvements, "Testing for linearizability":
 * depth first over a list of begins and ends (timeline.h); places that have been seen are not searched again (seen.h).
 * What is ours leaves out orders that cannot succeed unless a searched one does:
 *
 * - A read that may be next and fits is done at once, with no alternative: it changes nothing.
 * - Of known steps that do the same, the one that ends first goes first.
 * - Nothing is done after which something needed could never come again (ahead.h).
 * - An unknown step is done only if it is of use to the step right after it (useful.h). So unknown steps that explain
 *   nothing cost nothing.
 * - Unknown steps that do the same are counted, not told apart; and of two places that differ only in the unknown steps
 *   used up, the one with more is not searched (alike.h).
 * - Values that no step to come can tell apart are one (value.h).
 * - The unknown steps that may be used most freely, since what they make nothing names, are not even counted at first. If
 *   there is no order then, there is none. If the order found uses some too often, they are counted from then on. */
#pragma once

#include "problem.h"

enum search_result { SEARCH_FOUND, SEARCH_NONE, SEARCH_GAVE_UP };

struct search_report {
    enum search_result result;
    uint64_t states; /* places that were visited */
    uint32_t *order; /* owned by the caller: found: the steps in the order found; else NULL */
    uint32_t order_count;
    uint32_t furthest; /* the known step whose end is the last that some way has come to */
};

/* Gives up after so many states. */
void search_run(struct problem *problem, uint64_t states, struct search_report *report);
