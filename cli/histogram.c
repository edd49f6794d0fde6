#include "histogram.h"

static uint32_t bucket_of(uint64_t value) {
    if (value < HISTOGRAM_EXACT) return (uint32_t)value;
    if (value > HISTOGRAM_MOST) value = HISTOGRAM_MOST;
    uint32_t shift = 53u - (uint32_t)__builtin_clzll(value); /* leaves 1024 to 2047 */
    return HISTOGRAM_EXACT + (shift - 1) * HISTOGRAM_STEPS + (uint32_t)(value >> shift) - HISTOGRAM_STEPS;
}

static uint64_t highest_of(uint32_t bucket) {
    if (bucket < HISTOGRAM_EXACT) return bucket;
    uint32_t shift = (bucket - HISTOGRAM_EXACT) / HISTOGRAM_STEPS + 1;
    uint64_t step = (bucket - HISTOGRAM_EXACT) % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
    return ((step + 1) << shift) - 1;
}

static uint64_t load(const atomic_uint_fast64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void raise_max(struct histogram *histogram, uint64_t value) {
    uint_fast64_t max = load(&histogram->max);
    while (value > max && !atomic_compare_exchange_weak_explicit(&histogram->max, &max, value,
                                                                 memory_order_relaxed, memory_order_relaxed)) {
    }
}

void histogram_record(struct histogram *histogram, uint64_t value, uint64_t count) {
    if (count == 0) return;
    atomic_fetch_add_explicit(&histogram->counts[bucket_of(value)], count, memory_order_relaxed);
    raise_max(histogram, value);
}

uint64_t histogram_count(const struct histogram *histogram) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) sum += load(&histogram->counts[i]);
    return sum;
}

uint64_t histogram_max(const struct histogram *histogram) { return load(&histogram->max); }

uint64_t histogram_percentile(const struct histogram *histogram, double percent) {
    uint64_t count = histogram_count(histogram);
    uint64_t max = histogram_max(histogram);
    double exact = (double)count * percent / 100.0;
    uint64_t wanted = (uint64_t)exact;
    if ((double)wanted < exact || wanted == 0) wanted++;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS && count > 0; i++) {
        seen += load(&histogram->counts[i]);
        if (seen >= wanted) return highest_of(i) < max ? highest_of(i) : max;
    }
    return max;
}

void histogram_add_interval(const struct histogram *histogram, struct histogram *before,
                            struct histogram *interval) {
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t now = load(&histogram->counts[i]);
        uint64_t added = now - load(&before->counts[i]);
        if (added == 0) continue;
        atomic_store_explicit(&before->counts[i], now, memory_order_relaxed);
        atomic_fetch_add_explicit(&interval->counts[i], added, memory_order_relaxed);
        uint64_t highest = highest_of(i);
        raise_max(interval, highest < histogram_max(histogram) ? highest : histogram_max(histogram));
    }
    raise_max(before, histogram_max(histogram));
}
