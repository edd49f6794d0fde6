#include "tests/sim/chance.h"

#include "libcommon/check.h"

void chance_init(struct chance *chance, uint64_t seed) { chance->state = seed; }

uint64_t chance_u64(struct chance *chance) {
    uint64_t z = chance->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The bias of a remainder of 64 bits does not matter here. */
uint64_t chance_below(struct chance *chance, uint64_t count) {
    sk_assert(count > 0);
    return chance_u64(chance) % count;
}

uint64_t chance_between(struct chance *chance, uint64_t low, uint64_t high) {
    sk_assert(low <= high);
    return low + chance_below(chance, high - low + 1);
}

static uint32_t bits_of(uint64_t value) { return 64 - (uint32_t)__builtin_clzll(value); }

uint64_t chance_spread(struct chance *chance, uint64_t low, uint64_t high) {
    sk_assert(low > 0 && low <= high);
    uint32_t bits = (uint32_t)chance_between(chance, bits_of(low), bits_of(high));
    uint64_t least = 1ull << (bits - 1), most = bits == 64 ? UINT64_MAX : (1ull << bits) - 1;
    if (least < low) least = low;
    if (most > high) most = high;
    return chance_between(chance, least, most);
}

bool chance_happens(struct chance *chance, uint32_t per_million) {
    if (per_million == 0) return false;
    return chance_below(chance, CHANCE_ALWAYS) < per_million;
}
