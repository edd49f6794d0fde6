/* What the steps that a search has still to do need and make, so that it turns back as soon as something is needed that
 * cannot be had any more. Every "no" is certain; a "yes" may be wrong. */
#pragma once

#include "problem.h"
#include "sums.h"

struct ahead {
    struct problem *problem;
    uint32_t adds, pieces; /* unknown adds and appends still to come */
    /* private */
    struct sums needs; /* of each target, the known steps that need it */
    uint32_t *makes;   /* owned: of each value there was at the start, the steps that make it whatever they meet */
    uint32_t makes_count; /* values there were */
    uint32_t *appends;    /* owned: of each maker, its steps */
    struct sums numbers;  /* steps that make a number, by its rank; nil counts as 0 */
    int64_t *ranks;       /* owned: the numbers, ascending, perhaps repeated */
    uint32_t rank_count;
};

/* Of a problem none of whose steps is done. */
void ahead_init(struct ahead *ahead, struct problem *problem);

/* Also makes the problem's values forget what is still to come, so that the problem can be searched again; no step may be
 * done. */
void ahead_deinit(struct ahead *ahead);

/* The step is done, or taken back. */
void ahead_count(struct ahead *ahead, const struct step *step, bool done);

/* Whether the value is here, being `now`, or can come. */
bool ahead_has(const struct ahead *ahead, uint32_t wanted, uint32_t now);

/* Whether something needed can never come again if `left` becomes `next`: `left` itself, or a text that begins with it. */
bool ahead_loses(const struct ahead *ahead, uint32_t left, uint32_t next);

/* Whether the append, now done, has spent its piece, though a needed text has it in another place. */
bool ahead_wastes(const struct ahead *ahead, const struct step *step, uint32_t next);

/* Whether INCR takes the value: nil is 0. */
bool ahead_is_countable(const struct ahead *ahead, uint32_t value);
