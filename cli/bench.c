#include "bench.h"
#include <stdio.h>
struct bench_options bench_defaults(void) {
    return (struct bench_options){.connections = 1,
                                  .in_flight = 64,
                                  .batch = 1,
                                  .value_bytes = 100,
                                  .keys = 1000000,
                                  .reads_percent = 50,
                                  .duration_ms = 60000};
}
int bench_run(const struct bench_options *options) {
    (void)options;
    fprintf(stderr, "skerry: not there yet\n");
    return 1;
}
