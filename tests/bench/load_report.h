/* What a program that loads something prints at its end: one line of JSON in the form of `skerry bench --json`, so that all are
 * read alike. One thread. */
#pragma once

#include "cli/histogram.h"

#include <jansson.h>
#include <stdint.h>

struct load_report {
    uint64_t commands; /* answered without error */
    double seconds;
    const struct histogram *reads, *writes; /* microseconds; empty or NULL: there were none */
    uint64_t missing;                       /* reads that found nothing */
    json_t *errors;                         /* borrowed: what was answered, and how often; NULL: nothing */
    double cpu_seconds; /* of what was loaded, if the loading program alone can know; below 0: not */
};

void load_report_print(const struct load_report *report);
