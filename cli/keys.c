#include "keys.h"

#include <math.h>
#include <string.h>

#define THETA          0.99
#define ZETA_TERMS_MAX 1000000u /* beyond, the sum is close to its integral */

static double zeta(uint64_t count) {
    uint64_t terms = count < ZETA_TERMS_MAX ? count : ZETA_TERMS_MAX;
    double sum = 0;
    for (uint64_t i = 1; i <= terms; i++) sum += pow((double)i, -THETA);
    if (count > terms) sum += (pow((double)count, 1 - THETA) - pow((double)terms, 1 - THETA)) / (1 - THETA);
    return sum;
}

void keys_plan_init(struct keys_plan *plan, enum keys_distribution distribution, uint64_t count) {
    *plan = (struct keys_plan){.distribution = distribution, .count = count};
    if (distribution != KEYS_ZIPF) return;
    plan->zeta = zeta(count);
    plan->alpha = 1 / (1 - THETA);
    plan->eta = (1 - pow(2.0 / (double)count, 1 - THETA)) / (1 - zeta(2) / plan->zeta);
}

/* splitmix64's finalizer: neighbours come far apart. */
static uint64_t scatter(uint64_t number) {
    number += 0x9e3779b97f4a7c15u;
    number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9u;
    number = (number ^ number >> 27) * 0x94d049bb133111ebu;
    return number ^ number >> 31;
}

void keys_chooser_init(struct keys_chooser *chooser, struct keys_plan *plan, uint64_t seed) {
    *chooser = (struct keys_chooser){.plan = plan, .random = scatter(seed)};
}

uint64_t keys_random(struct keys_chooser *chooser) {
    chooser->random += 0x9e3779b97f4a7c15u;
    return scatter(chooser->random);
}

static uint64_t zipf_rank(const struct keys_plan *plan, double random) {
    double scaled = random * plan->zeta;
    if (scaled < 1) return 0;
    if (scaled < 1 + pow(0.5, THETA)) return 1 % plan->count;
    uint64_t rank = (uint64_t)((double)plan->count * pow(plan->eta * random - plan->eta + 1, plan->alpha));
    return rank < plan->count ? rank : plan->count - 1;
}

uint64_t keys_choose(struct keys_chooser *chooser) {
    struct keys_plan *plan = chooser->plan;
    switch (plan->distribution) {
    case KEYS_SEQUENTIAL:
        return atomic_fetch_add_explicit(&plan->next, 1, memory_order_relaxed) % plan->count;
    case KEYS_ZIPF: {
        double random = (double)(keys_random(chooser) >> 11) * 0x1p-53;
        return scatter(zipf_rank(plan, random)) % plan->count;
    }
    case KEYS_UNIFORM:
        break;
    }
    return keys_random(chooser) % plan->count;
}

void keys_write(uint64_t number, uint8_t room[KEYS_BYTES]) {
    memcpy(room, "key:", 4);
    for (int at = KEYS_BYTES - 1; at >= 4; at--, number /= 10) room[at] = (uint8_t)('0' + number % 10);
}
