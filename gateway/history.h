/* The last five minutes of this gateway's own traffic, one sample a second, for its page. Made from what the tally
 * counts, without a look at any clock: pure. The loop thread writes, any thread reads without waiting. */
#pragma once

#include "gateway/tally.h"

#define HISTORY_SAMPLES 300u
#define HISTORY_SLOTS   512u       /* private; those beyond the samples are what a slow reader has left */
#define HISTORY_NONE    UINT32_MAX /* of a latency: no message of that kind has ended */

enum history_value {
    /* commands answered, each second: reads and writes that went well, and what ended with an error; a message
     * that is refused as a whole counts as one */
    HISTORY_READS,
    HISTORY_WRITES,
    HISTORY_ERRORS,
    /* of messages, from arrival to reply, microseconds: see history_quantile_us */
    HISTORY_READ_P50_US,
    HISTORY_READ_P99_US,
    HISTORY_WRITE_P50_US,
    HISTORY_WRITE_P99_US,
    HISTORY_IN_FLIGHT, /* messages, at the end of the second */
    HISTORY_VALUES,
};

const char *history_value_name(enum history_value value);

struct history_sample {
    uint64_t at_ms; /* CLOCK_BOOTTIME, when it was taken */
    uint32_t values[HISTORY_VALUES];
};

/* Embedded, zeroed. */
struct history {
    struct { /* private; of sample i in slot i mod HISTORY_SLOTS */
        atomic_ullong at_ms;
        atomic_uint values[HISTORY_VALUES];
    } slots[HISTORY_SLOTS];
    atomic_ullong count; /* private: samples taken so far */

    /* private, the loop's: what the tally had at the last look */
    uint64_t looked_ms; /* 0: never */
    uint64_t commands[HISTORY_ERRORS + 1];
    uint64_t durations[TALLY_CLASSES][METRICS_BUCKETS];
};

/* The loop, as often as it comes round: takes a sample in each second of `now_ms` (CLOCK_BOOTTIME) at the first
 * call in it. A loop that stood still leaves a gap, and its next sample averages over that. */
void history_take(struct history *history, const struct tally *tally, uint64_t in_flight, uint64_t now_ms);

/* Any thread: the newest samples, oldest first. Their count. */
uint32_t history_read(const struct history *history, struct history_sample samples[HISTORY_SAMPLES]);

/* The duration that `permille` of what a histogram counted do not exceed, as if what is in a bucket lay evenly in
 * it; the bucket without an upper bound counts as its lower one. HISTORY_NONE: it has counted nothing. */
uint32_t history_quantile_us(const uint64_t counts[METRICS_BUCKETS], uint32_t permille);
