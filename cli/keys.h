/* The keys of `skerry bench`: which numbers come next, and how a number is written. A chooser belongs to one
 * thread at a time; the plan behind it is shared and does not change. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define KEYS_BYTES 16 /* "key:000000000042" */

enum keys_distribution { KEYS_UNIFORM, KEYS_ZIPF, KEYS_SEQUENTIAL };

/* Zipf as in Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (1994), section 3.2, with the
 * exponent 0.99 and ranks scattered over the keys, as YCSB does. */
struct keys_plan {
    enum keys_distribution distribution;
    uint64_t count;
    double zeta, alpha, eta;
    atomic_uint_fast64_t next; /* sequential: shared by all choosers */
};

void keys_plan_init(struct keys_plan *plan, enum keys_distribution distribution, uint64_t count);

struct keys_chooser {
    struct keys_plan *plan;
    uint64_t random;
};

void keys_chooser_init(struct keys_chooser *chooser, struct keys_plan *plan, uint64_t seed);

/* 0 to plan->count - 1 */
uint64_t keys_choose(struct keys_chooser *chooser);

/* Random bits, also for other choices of the same thread. */
uint64_t keys_random(struct keys_chooser *chooser);

/* `number` below 10^12. */
void keys_write(uint64_t number, uint8_t room[KEYS_BYTES]);
