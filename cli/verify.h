/* `skerry admin verify`: the leaders compare what the replicas of each shard have, and this waits for it and tells. One
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct verify_options {
    const char *metad; /* nng URLs */
    uint32_t timeout_ms;
    uint64_t wait_seconds; /* for every shard to be compared */
    bool json;
};

/* Says on stdout what was found; on a terminal stderr shows how far it is. The exit code: EXIT_OK if every shard was compared
 * and its replicas are equal. */
int verify_run(const struct verify_options *options);
