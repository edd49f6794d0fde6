/* A fault in several acts, as single ones hardly ever follow each other. One replica is out of the in-sync set. The leader is
 * cut off, and the other member of the set leads; its disk is slow. As soon as it has taken in the one that was out, it dies,
 * and back again it meets the old leader, who knows of nothing, before it hears metad or anybody else. What it had not stored
 * before others counted on it, it has forgotten (R1). One at a time. */
#pragma once

#include <stdint.h>

struct succession {
    enum succession_act {
        SUCCESSION_NONE,
        SUCCESSION_OUT,
        SUCCESSION_CUT_OFF,
        SUCCESSION_MEET
    } act;                     /* under way */
    uint32_t old, next, third; /* hosts */
    uint64_t until_us;         /* it is broken off if the act has not come to its end by then */
};

struct sim;

void succession_begin(struct sim *sim);
