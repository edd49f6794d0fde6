/* What goes wrong, when, for how long: drawn from the seed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* X(symbol, name, what it is) */
#define FAULTS(X)                                                                                                 \
    X(LOSS, "loss", "single messages are lost")                                                                   \
    X(DOUBLE, "double", "messages come twice")                                                                    \
    X(LATE, "late", "messages of a broken connection come after it")                                              \
    X(DELAY, "delay", "messages take long")                                                                       \
    X(BREAK, "break", "connections break")                                                                        \
    X(CUT, "cut", "nodes are cut off from each other, in both directions")                                        \
    X(ONEWAY, "oneway", "one direction is cut")                                                                   \
    X(CRASH, "crash", "processes die and come back")                                                              \
    X(POWER, "power", "all die at once")                                                                          \
    X(PAUSE, "pause", "processes stand still")                                                                    \
    X(SLOW, "slow", "disks take long")                                                                            \
    X(FULL, "full", "disks are full for a while")                                                                 \
    X(FSYNC, "fsync", "a sync fails for good")                                                                    \
    X(WIPE, "wipe", "disks are replaced by empty ones")                                                           \
    X(CLOCK, "clock", "clocks run at different rates and jump")                                                   \
    X(METAD, "metad", "metad is down, or not reached by some")                                                    \
    X(RELEASE, "release", "logs are released before all have them, so that snapshots are needed")                 \
    X(INSTALL, "install", "transfers and installations of snapshots fail")                                        \
    X(HANDOVER, "handover", "metad wants another leader")                                                         \
    X(MOVE, "move", "replicas move to other hosts, of which there are more")                                      \
    X(CLIENT, "client", "requests and answers of clients are lost")                                               \
    X(TAIL, "tail", "disks on which nobody counts lose entries that were synced")                                 \
    X(SUCCESSION, "succession", "a new leader takes in a replica, dies, and then meets the old leader first")     \
    X(AIM, "aim", "faults strike who begins to lead or asks metad for a change")

enum fault {
#define X(symbol, name, text) FAULT_##symbol,
    FAULTS(X)
#undef X
        FAULT_COUNT
};

#define FAULTS_ALL ((1u << FAULT_COUNT) - 1)

struct faults {
    uint32_t active;                         /* by bit: which may happen in this run */
    uint64_t mean_us;                        /* between two */
    uint32_t kinds[FAULT_COUNT], kind_count; /* those of `active` that happen at a moment */
    bool stopped;
    uint32_t dead;  /* stopped, by bit: hosts that do not come back */
    uint32_t aimed; /* while a fault happens that was aimed: the host, and 1; else 0 */
};

struct sim;

void faults_init(struct sim *sim);
void faults_start(struct sim *sim);

/* Much is being decided, for this host: now and then a fault strikes soon after. */
void faults_aim(struct sim *sim, uint32_t host);

/* No more: everything that may come back does, but for hosts now and then whose absence the others must bear. */
void faults_stop(struct sim *sim);

/* Whether a host stays away for good. */
bool faults_is_dead(const struct sim *sim, uint32_t host);

/* Whether it may happen now; whether it may have happened. */
bool faults_has(const struct sim *sim, enum fault fault);
bool faults_may(const struct sim *sim, enum fault fault);

/* A mask of names separated by commas, "all" or "none"; false: one is unknown. */
bool faults_parse(const char *text, uint32_t *mask);
