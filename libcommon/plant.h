/* Bugs that a build can have planted into it, each at the line that obeys the rule it breaks, to prove that the simulator
 * or the tests of whole clusters find such: scripts/plants builds and runs them all. cmake -DSKERRY_PLANT=name,... plants;
 * in every other build PLANTED is 0 and what it guards is compiled and dropped. */
#pragma once

/* X(symbol, name, what it does, breaks which rule); cmake/SkerryPlants.cmake reads symbol and name, too */
#define PLANTED_BUGS(X)                                                                                           \
    X(ACKNOWLEDGE_BEFORE_SYNC, "acknowledge-before-sync", "what is in the log's buffer counts as durable (R6)")   \
    X(CUT_AT_COMMIT, "cut-at-commit", "a follower's log is cut behind what it knows to be committed (R7)")        \
    X(SHRUNK_EARLY, "shrunk-early", "a proposed in-sync set counts before metad has confirmed it (R2)")

enum planted {
#define X(symbol, name, text) PLANTED_##symbol,
    PLANTED_BUGS(X)
#undef X
        PLANTED_COUNT
};

#ifndef SKERRY_PLANTS
#define SKERRY_PLANTS      0ull /* bit i: the i-th of the list */
#define SKERRY_PLANT_NAMES ""   /* the same by name, separated by commas */
#endif

#define PLANTED(symbol) ((SKERRY_PLANTS >> PLANTED_##symbol & 1) != 0)
