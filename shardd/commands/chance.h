/* Random choices of commands. A write draws from what its entry carries, which the leader has drawn when it appended it, so
 * every replica chooses the same; a read from what the lane gives it. SplitMix64 (Steele, Lea and Flood, 2014): any start
 * gives a sequence of its own. */
#pragma once

#include <stdint.h>

struct chance {
    uint64_t state;
};

static inline uint64_t chance_next(struct chance *chance) {
    uint64_t z = chance->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 to `limit` - 1, each as likely as the others (Lemire, 2019, without the rejection: off by less than limit / 2^64). */
static inline uint64_t chance_below(struct chance *chance, uint64_t limit) {
    return (uint64_t)((unsigned __int128)chance_next(chance) * limit >> 64);
}
