/* Metrics in the text format of Prometheus (exposition format 0.0.4), and the counters and histograms behind them: each is
 * written by one thread and read by any, so an update costs a load and a store. Names follow Prometheus's conventions:
 * base units (seconds, bytes), `_total` for counters. */
#pragma once

#include "libcommon/buffer.h"

#include <stdatomic.h>

/* ---- what is counted ---- */

typedef _Atomic uint64_t metrics_counter;

/* By the one thread that writes it. */
static inline void metrics_add(metrics_counter *counter, uint64_t count) {
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + count, memory_order_relaxed);
}

static inline uint64_t metrics_get(const metrics_counter *counter) {
    return atomic_load_explicit((metrics_counter *)counter, memory_order_relaxed);
}

/* Upper bounds of the buckets of every histogram, microseconds; the last bucket has none. */
#define METRICS_BOUNDS_US                                                                                         \
    { 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000 }
#define METRICS_BUCKETS 17u

/* Durations. Embedded, zeroed. */
struct metrics_histogram {
    metrics_counter counts[METRICS_BUCKETS];
    metrics_counter sum_us;
};

/* `count` things took `us` microseconds each. By the one thread that writes it. */
void metrics_observe(struct metrics_histogram *histogram, uint64_t us, uint64_t count);

/* Adds what `from` has; `to` belongs to the calling thread. */
void metrics_merge(struct metrics_histogram *to, const struct metrics_histogram *from);

/* ---- a page of them ---- */

#define METRICS_MEDIA_TYPE "text/plain; version=0.0.4; charset=utf-8"

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_HISTOGRAM };

/* Opens a family: all of its samples follow. `name` and `help` are plain text of ours. */
void metrics_family(struct buffer *page, const char *name, enum metrics_type type, const char *help);

/* One sample. `labels` is "" or printf-formatted text like `shard="3"`; texts from outside go through metrics_quote. */
void metrics_uint(struct buffer *page, const char *name, uint64_t value, const char *labels, ...)
    __attribute__((format(printf, 4, 5)));
/* Microseconds, shown as seconds; may be negative. */
void metrics_seconds(struct buffer *page, const char *name, int64_t us, const char *labels, ...)
    __attribute__((format(printf, 4, 5)));
void metrics_histogram(struct buffer *page, const char *name, const struct metrics_histogram *histogram,
                       const char *labels, ...) __attribute__((format(printf, 4, 5)));

/* A family of one sample without labels. */
void metrics_one(struct buffer *page, const char *name, enum metrics_type type, uint64_t value, const char *help);

/* `text` as it may stand between the quotes of a label, cut to fit `room` of `size` bytes. Returns `room`. */
const char *metrics_quote(const char *text, char *room, size_t size);

/* The families about this process that Prometheus's own clients have: process_cpu_seconds_total and the others; and
 * skerry_build_info and skerry_clock_seconds. Any thread. */
void metrics_process(struct buffer *page, const char *daemon);
