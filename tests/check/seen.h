/* Where a search has been (Lowe's memory of configurations), so that it goes nowhere twice.
 *
 * A place of the search is the set of steps done and the value. The known steps done are told by the first end that is
 * still to come and one bit for each slot (search.c says why); the unknown ones by a set of their own, since of two
 * places that differ in it alone, the one with fewer used up can reach all that the other can. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SEEN_SET_EMPTY 0u

struct seen_place {
    uint32_t end;           /* the first end still to come */
    uint32_t value, before; /* `before`: as the search needs it */
    uint32_t used;          /* a set */
    const uint64_t *slots;  /* bits, as many words as told at the start */
};

struct seen;

/* Whether all that can be reached here with the unknown steps `now` used up could also be reached with `then`. Asked when
 * `then` is not a part of `now`; bits of the members. */
typedef bool seen_covers_cb(void *context, const uint64_t *then, const uint64_t *now);

struct seen *seen_new(uint32_t slot_words, uint32_t set_member_max, seen_covers_cb *covers, void *context);
void seen_free(struct seen *seen);

/* The set with one member more, below set_member_max. */
uint32_t seen_set_with(struct seen *seen, uint32_t set, uint32_t member);

/* True: the search was here, or at a place that is as good. Else the place, which is here, is remembered. */
bool seen_before(struct seen *seen, const struct seen_place *place);
