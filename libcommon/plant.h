/* Bugs that a build can have planted into it, each at the line that obeys the rule it breaks, to prove that the simulator
 * or the tests of whole clusters find such: scripts/plants builds and runs them all. cmake -DSKERRY_PLANT=name,... plants;
 * in every other build PLANTED is 0 and what it guards is compiled and dropped. */
#pragma once

/* X(symbol, name, what it does, breaks which rule); cmake/SkerryPlants.cmake reads symbol and name, too */
#define PLANTED_BUGS(X)                                                                                           \
    X(ACKNOWLEDGE_BEFORE_SYNC, "acknowledge-before-sync", "what is in the log's buffer counts as durable (R6)")   \
    X(LEASE_KEPT, "lease-kept", "a check of the lease holds for all reads until the next tick (R14)")             \
    X(EPOCH_NOT_STORED, "epoch-not-stored", "a new leader opens its epoch before that is durable (R1)")           \
    X(CUT_AT_COMMIT, "cut-at-commit", "a follower's log is cut behind what it knows to be committed (R7)")        \
    X(RESTART_GOES_ON, "restart-goes-on", "a restarted leader goes on in its old epoch (R6)")                     \
    X(PROMISE_FORGOTTEN, "promise-forgotten", "a restart forgets that a promise may have been given (R15)")       \
    X(STALE_JOINER, "stale-joiner", "metad lets a replica join that has started again since it was level (R4)")   \
    X(NAMES_APART, "names-apart", "a checkpoint has the state without the names of gateways' writes (R25)")       \
    X(SHRUNK_EARLY, "shrunk-early", "a smaller in-sync set counts before metad has confirmed it (R2)")            \
    X(JOINER_NOT_COUNTED, "joiner-not-counted", "who is proposed for the in-sync set does not count yet (R3)")    \
    X(PROPOSAL_TIMES_OUT, "proposal-times-out", "a proposal that is not answered is taken back alone (R3)")       \
    X(PROMISE_NOT_WAITED, "promise-not-waited", "a new leader commits before its own promise has run out (R5)")   \
    X(EARLY_READS, "early-reads", "a new leader serves reads before its first entry is committed (R5)")           \
    X(LEASE_FROM_ANSWER, "lease-from-answer", "a lease counts from when a beacon's answer comes (R15)")           \
    X(TIME_OF_CLOCK, "time-of-clock", "a new leader's time begins where its clock is (R26)")

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
