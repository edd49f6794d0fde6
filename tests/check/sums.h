/* Counters in a row that can be summed up to any place: a Fenwick tree ("A new data structure for cumulative frequency
 * tables"). Each operation costs the logarithm of the row's length. */
#pragma once

#include <stdint.h>

struct sums {
    int32_t *nodes; /* owned */
    uint32_t count;
};

void sums_init(struct sums *sums, uint32_t count); /* all 0 */
void sums_deinit(struct sums *sums);

void sums_add(struct sums *sums, uint32_t at, int32_t change);

/* The sum of all counters before `end`. */
int32_t sums_before(const struct sums *sums, uint32_t end);

/* Of counters that are not negative: the first place with more than `sum` up to and with it; `count` = none. */
uint32_t sums_find(const struct sums *sums, int32_t sum);
