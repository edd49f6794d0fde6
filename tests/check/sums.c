#include "sums.h"

#include "memory.h"

/* Node i, from 1 on, holds the sum of as many counters up to i as its lowest bit tells. */
static uint32_t lowest_bit(uint32_t node) { return node & (~node + 1); }

void sums_init(struct sums *sums, uint32_t count) {
    sums->count = count;
    sums->nodes = memory_zeroed((size_t)count + 1, sizeof *sums->nodes);
}

void sums_deinit(struct sums *sums) { free(sums->nodes); }

void sums_add(struct sums *sums, uint32_t at, int32_t change) {
    for (uint32_t node = at + 1; node <= sums->count; node += lowest_bit(node)) sums->nodes[node] += change;
}

int32_t sums_before(const struct sums *sums, uint32_t end) {
    int32_t sum = 0;
    for (uint32_t node = end; node > 0; node -= lowest_bit(node)) sum += sums->nodes[node];
    return sum;
}

uint32_t sums_find(const struct sums *sums, int32_t sum) {
    uint32_t node = 0, width = 1;
    while (width <= sums->count / 2) width *= 2;
    for (; width > 0; width /= 2) {
        if (node + width > sums->count || sums->nodes[node + width] > sum) continue;
        node += width;
        sum -= sums->nodes[node];
    }
    return node;
}
