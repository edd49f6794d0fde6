/* What the sums of a shard's replicas say: who has other content than the rest. Pure.
 *
 * A sum says nothing by itself; two that differ say that one replica is wrong, not which. So it takes a majority of the sums
 * that were told, of two at least, to call the others wrong, the leader's own like anybody's: that it leads makes its disk no
 * better. A damaged replica has no vote and needs no majority, since its own checksums have told. */
#pragma once

#include "libcommon/map.h"
#include "shardd/scrub.h"

enum verdict_answer_kind {
    VERDICT_NONE, /* did not answer */
    VERDICT_SUM,
    VERDICT_DAMAGED,
};

struct verdict_answer {
    enum verdict_answer_kind kind;
    struct scrub_sum sum;
};

struct verdict {
    bool equal;       /* all that were told are, and nobody is damaged or did not answer */
    bool undecided;   /* sums differ and none has a majority: nothing but damage is certain */
    uint32_t missing; /* bit i: answer i is not there, */
    uint32_t differs; /* is another than the majority's, */
    uint32_t damaged; /* tells of damage */
    uint32_t sound;   /* is what the others should be: of the majority, or of all that told a sum */
};

/* Of `count` answers, MAP_REPLICAS_MAX at most. */
struct verdict verdict_of(const struct verdict_answer *answers, uint32_t count);
