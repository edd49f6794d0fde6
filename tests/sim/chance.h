/* The one source of chance of a simulation: the same seed gives the same numbers on every machine (SplitMix64: Steele,
 * Lea and Flood, "Fast splittable pseudorandom number generators"). Plain data; owner's thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CHANCE_ALWAYS 1000000u /* chances are in parts per million */

struct chance {
    uint64_t state;
};

void chance_init(struct chance *chance, uint64_t seed);
uint64_t chance_u64(struct chance *chance);

/* 0 … count - 1; count > 0. */
uint64_t chance_below(struct chance *chance, uint64_t count);

/* low … high, both included. */
uint64_t chance_between(struct chance *chance, uint64_t low, uint64_t high);

/* low … high, small values as likely as large ones (each power of two alike); low > 0. */
uint64_t chance_spread(struct chance *chance, uint64_t low, uint64_t high);

bool chance_happens(struct chance *chance, uint32_t per_million);
