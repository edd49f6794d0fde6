/* `skerry bench`: keeps so many requests in flight through nng REQ contexts driven by callbacks and counts answers
 * and latencies. It runs beside what it measures, on the same cores, so its own cost per request matters: a
 * request is copied from templates into one allocation, and a batch is counted at once. */
#pragma once

#include "keys.h"

#include <stdbool.h>

struct bench_options {
    const char *gateway; /* nng URL */
    uint64_t connections, in_flight, batch, value_bytes, keys;
    uint64_t distribution; /* enum keys_distribution */
    uint64_t reads_percent, duration_ms;
    bool whole_batches; /* a request's commands are all reads or all writes */
    bool load, ids, follower_reads, json;
    uint32_t timeout_ms;
};

struct bench_options bench_defaults(void);

/* Ctrl-C ends it early, with its figures. The exit code: 0, 1 when there were errors, 2 for options that do not go
 * together, 3 when the gateway cannot be reached. */
int bench_run(const struct bench_options *options);
