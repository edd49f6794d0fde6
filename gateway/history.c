#include "gateway/history.h"

#define SECOND_MS 1000u

static const uint64_t bounds_us[] = METRICS_BOUNDS_US;

const char *history_value_name(enum history_value value) {
    static const char *const names[HISTORY_VALUES] = {
        [HISTORY_READS] = "reads",
        [HISTORY_WRITES] = "writes",
        [HISTORY_ERRORS] = "errors",
        [HISTORY_READ_P50_US] = "read_p50_us",
        [HISTORY_READ_P99_US] = "read_p99_us",
        [HISTORY_WRITE_P50_US] = "write_p50_us",
        [HISTORY_WRITE_P99_US] = "write_p99_us",
        [HISTORY_IN_FLIGHT] = "in_flight",
    };
    return names[value];
}

uint32_t history_quantile_us(const uint64_t counts[METRICS_BUCKETS], uint32_t permille) {
    uint64_t total = 0, before = 0;
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) total += counts[i];
    if (total == 0) return HISTORY_NONE;
    uint64_t rank = (total * permille + 999) / 1000; /* 1 to total */
    if (rank == 0) rank = 1;
    uint32_t bucket = 0;
    while (before + counts[bucket] < rank) before += counts[bucket++];
    uint64_t lower = bucket == 0 ? 0 : bounds_us[bucket - 1];
    if (bucket == METRICS_BUCKETS - 1) return (uint32_t)lower;
    double within = ((double)(rank - before) - 0.5) / (double)counts[bucket];
    return (uint32_t)((double)lower + within * (double)(bounds_us[bucket] - lower));
}

/* ---- taking ---- */

/* What a command that went well counts as; what the gateway answers by itself counts as nothing. */
static int kind_of(int command) {
    if (command == TALLY_ATOMIC) return HISTORY_WRITES;
    if (command == TALLY_INVALID) return -1;
    if ((command_table[command].flags & COMMAND_WRITE) != 0) return HISTORY_WRITES;
    return (command_table[command].flags & COMMAND_READ) != 0 ? HISTORY_READS : -1;
}

static void count_commands(const struct tally *tally, uint64_t counts[HISTORY_ERRORS + 1]) {
    for (int command = 0; command < TALLY_COMMANDS; command++) {
        int kind = kind_of(command);
        if (kind >= 0) counts[kind] += metrics_get(&tally->commands[command][SK_OK]);
        for (int outcome = SK_OK + 1; outcome < (int)TALLY_OUTCOMES; outcome++) {
            counts[HISTORY_ERRORS] += metrics_get(&tally->commands[command][outcome]);
        }
    }
    for (int outcome = SK_OK + 1; outcome < (int)TALLY_OUTCOMES; outcome++) {
        counts[HISTORY_ERRORS] += metrics_get(&tally->refused[outcome]);
    }
}

static void take_rates(struct history *history, const struct tally *tally, uint64_t span_ms,
                       uint32_t values[HISTORY_VALUES]) {
    uint64_t counts[HISTORY_ERRORS + 1] = {0};
    count_commands(tally, counts);
    for (int i = 0; i <= HISTORY_ERRORS; i++) {
        values[i] = (uint32_t)(((counts[i] - history->commands[i]) * SECOND_MS + span_ms / 2) / span_ms);
        history->commands[i] = counts[i];
    }
}

/* p50 and p99 of one kind of messages since the last look. */
static void take_latency(struct history *history, const struct tally *tally, enum tally_class class,
                         uint32_t *values) {
    uint64_t since[METRICS_BUCKETS];
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) {
        uint64_t count = metrics_get(&tally->durations[class].counts[i]);
        since[i] = count - history->durations[class][i];
        history->durations[class][i] = count;
    }
    values[0] = history_quantile_us(since, 500);
    values[1] = history_quantile_us(since, 990);
}

static void append(struct history *history, uint64_t now_ms, const uint32_t values[HISTORY_VALUES]) {
    uint64_t count = atomic_load_explicit(&history->count, memory_order_relaxed);
    uint32_t slot = (uint32_t)(count % HISTORY_SLOTS);
    atomic_store_explicit(&history->slots[slot].at_ms, now_ms, memory_order_relaxed);
    for (int i = 0; i < HISTORY_VALUES; i++) {
        atomic_store_explicit(&history->slots[slot].values[i], values[i], memory_order_relaxed);
    }
    atomic_store_explicit(&history->count, count + 1, memory_order_release);
}

void history_take(struct history *history, const struct tally *tally, uint64_t in_flight, uint64_t now_ms) {
    if (history->looked_ms != 0 && now_ms / SECOND_MS <= history->looked_ms / SECOND_MS) return;
    uint64_t span_ms = history->looked_ms == 0 ? SECOND_MS : now_ms - history->looked_ms;
    uint32_t values[HISTORY_VALUES];
    take_rates(history, tally, span_ms, values);
    take_latency(history, tally, TALLY_READ, &values[HISTORY_READ_P50_US]);
    take_latency(history, tally, TALLY_WRITE, &values[HISTORY_WRITE_P50_US]);
    values[HISTORY_IN_FLIGHT] = (uint32_t)in_flight;
    /* The first look has nothing to compare with. */
    if (history->looked_ms != 0) append(history, now_ms, values);
    history->looked_ms = now_ms;
}

/* ---- reading ---- */

/* The slots read here are written again at the earliest HISTORY_SLOTS - HISTORY_SAMPLES seconds after `count` was
 * loaded. */
uint32_t history_read(const struct history *history, struct history_sample samples[HISTORY_SAMPLES]) {
    uint64_t count = atomic_load_explicit(&history->count, memory_order_acquire);
    uint32_t kept = count < HISTORY_SAMPLES ? (uint32_t)count : HISTORY_SAMPLES;
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t slot = (uint32_t)((count - kept + i) % HISTORY_SLOTS);
        samples[i].at_ms = atomic_load_explicit(&history->slots[slot].at_ms, memory_order_relaxed);
        for (int value = 0; value < HISTORY_VALUES; value++) {
            samples[i].values[value] =
                atomic_load_explicit(&history->slots[slot].values[value], memory_order_relaxed);
        }
    }
    return kept;
}
