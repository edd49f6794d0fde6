/* `skerry bench --engine`: what one lane does without the network, load by load, and beside it, in the same run, what LMDB does
 * alone with the same keys. The lane is the product's (shardd/bench/engine.h). One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct engine_bench_options {
    const char *data;     /* a directory to use and keep; NULL: one that is made here and removed */
    const char *loads;    /* names (engine_load.h) with commas between; NULL: GET and SET */
    uint64_t cache_bytes; /* of the lane (shardd's --cache-size) */
    uint64_t keys, value_bytes, batch, in_flight, shards;
    uint64_t reads_percent; /* one load of GET and SET instead; ENGINE_BENCH_APART: no */
    uint64_t duration_ms;   /* of each load */
    uint64_t operations; /* of each load in place of a time, frame by frame, and nothing of LMDB's; 0: by time */
    bool load, json;
};

#define ENGINE_BENCH_APART UINT64_MAX

struct engine_bench_options engine_bench_defaults(void);

/* Ctrl-C ends it early, with its figures, which go to `out`. The exit code: 0, 1 when there were errors, 2 for options that make
 * no sense. */
int engine_bench_run(const struct engine_bench_options *options, FILE *out);
