/* Bugs that can be planted into the simulated shell, to prove that the simulator finds such. Those of the code that it links
 * are planted when that is built (libcommon/plant.h). */
#pragma once

#include <stdbool.h>

/* X(symbol, name, what it does, breaks which rule) */
#define PLANTS(X)                                                                                                 \
    X(NONE, "none", "")                                                                                           \
    X(EARLY_SYNC, "early-sync", "what was appended counts as synced at once (R6, R23)")                           \
    X(NO_LEASE, "no-lease", "whoever takes itself for the leader serves reads (R14, R15)")                        \
    X(NO_NAMES, "no-names", "a write that comes again is executed again (R10)")                                   \
    X(SAME_INCARNATION, "same-incarnation", "a restarted process is taken for its predecessor (R6)")              \
    X(FORGET_ADOPTED, "forget-adopted", "a restart forgets which epochs were adopted and what was cut (R1, R7)")  \
    X(SHORT_GRACE, "short-grace", "promises last no longer than leases (R15)")                                    \
    X(NO_COMPARE, "no-compare", "metad takes changes decided on an older record (R18)")                           \
    X(FORGET_NAMES, "forget-names", "snapshots are without the names of writes (R10)")                            \
    X(HALF_INSTALL, "half-install",                                                                               \
      "a crash amid an install leaves some of the new state with the old log (R30)")                              \
    X(CLAIM_KEEPS_EPOCH, "claim-keeps-epoch", "metad changes the leader without raising the epoch (R1)")          \
    X(KEEP_TAIL, "keep-tail", "an adopted epoch is stored but the tail is not cut on disk (R7)")                  \
    X(NO_VOUCH, "no-vouch", "a follower serves reads that may be stale without asking (R17)")                     \
    X(VOUCH_WITHOUT_LEASE, "vouch-without-lease",                                                                 \
      "a leader vouches for its followers though its lease is over (R17)")                                        \
    X(KEEP_VOUCH, "keep-vouch", "staleness is counted from the arrival of a beacon (R17)")                        \
    X(MOVE_UNJOINED, "move-unjoined", "a replica moves before the new one has joined the in-sync set (R19)")      \
    X(OLD_RECORD, "old-record", "a replica's data is deleted by an old record of metad (R29)")

enum plant {
#define X(symbol, name, text) PLANT_##symbol,
    PLANTS(X)
#undef X
        PLANT_COUNT
};

bool plant_parse(const char *text, enum plant *plant);
const char *plant_name(enum plant plant);
