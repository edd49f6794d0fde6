/* A histogram of latencies with three significant digits at any size, as HdrHistogram's: exact below 2048, then
 * 1024 equal steps for each power of two. Recording is one relaxed atomic addition: any thread. Reading while
 * others record sees some of what is under way. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define HISTOGRAM_EXACT   2048u
#define HISTOGRAM_STEPS   1024u
#define HISTOGRAM_DOUBLES 26u /* powers of two above the exact part: up to 2^37 - 1; more is counted as that */
#define HISTOGRAM_BUCKETS (HISTOGRAM_EXACT + HISTOGRAM_DOUBLES * HISTOGRAM_STEPS)
#define HISTOGRAM_MOST    ((1ull << 37) - 1)

/* A quarter of a megabyte: not for the stack. All zero is empty. */
struct histogram {
    atomic_uint_fast64_t counts[HISTOGRAM_BUCKETS];
    atomic_uint_fast64_t max;
};

/* `count` times the same value. */
void histogram_record(struct histogram *histogram, uint64_t value, uint64_t count);

uint64_t histogram_count(const struct histogram *histogram);
uint64_t histogram_max(const struct histogram *histogram);

/* The value that `percent` (0 to 100) of what was recorded does not exceed, as the highest of its bucket and at
 * most the maximum; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* Adds to `interval` what was recorded since `before`, and makes `before` the same as `histogram`. The interval's
 * maximum is that of its highest bucket. `before` and `interval` are the caller's alone. */
void histogram_add_interval(const struct histogram *histogram, struct histogram *before,
                            struct histogram *interval);
