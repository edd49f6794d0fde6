#include "shardd/verdict.h"

#include "libcommon/check.h"

/* Bit i: answer i is the same sum. */
static uint32_t same_as(const struct verdict_answer *answers, uint32_t count, struct scrub_sum sum) {
    uint32_t same = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (answers[i].kind == VERDICT_SUM && scrub_sum_equal(answers[i].sum, sum)) same |= 1u << i;
    }
    return same;
}

static uint32_t of_kind(const struct verdict_answer *answers, uint32_t count, enum verdict_answer_kind kind) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (answers[i].kind == kind) found |= 1u << i;
    }
    return found;
}

static uint32_t count_of(uint32_t mask) { return (uint32_t)__builtin_popcount(mask); }

/* Those who agree, if they are more than half of `voters`; one alone agrees with nobody else. 0 = there are none. */
static uint32_t majority_of(const struct verdict_answer *answers, uint32_t count, uint32_t voters) {
    for (uint32_t i = 0; i < count; i++) {
        if ((voters >> i & 1) == 0) continue;
        uint32_t same = same_as(answers, count, answers[i].sum);
        if (same == voters || 2 * count_of(same) > count_of(voters)) return same;
    }
    return 0;
}

struct verdict verdict_of(const struct verdict_answer *answers, uint32_t count) {
    sk_assert(count <= MAP_REPLICAS_MAX);
    uint32_t voters = of_kind(answers, count, VERDICT_SUM);
    uint32_t majority = majority_of(answers, count, voters);
    struct verdict verdict = {
        .missing = of_kind(answers, count, VERDICT_NONE),
        .damaged = of_kind(answers, count, VERDICT_DAMAGED),
        .differs = majority == 0 ? 0 : voters & ~majority,
        .undecided = voters != 0 && majority == 0,
        .sound = majority,
    };
    verdict.equal = majority == voters && verdict.missing == 0 && verdict.damaged == 0;
    return verdict;
}
