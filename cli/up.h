/* `skerry up`: a whole cluster on this machine under one supervisor. The supervisor is one thread that waits for
 * its children, for signals and for timers; a second thread only watches for the cluster to become ready. */
#pragma once

#include "plan.h"

#include <stdbool.h>

struct up_options {
    const char *data;
    const char *programs;                  /* directory of the daemons' programs; NULL: where this one is */
    uint64_t nodes, metads, shards, lanes; /* 0: as the cluster was created, else the default */
    uint64_t gateway_port, resp_port, port_offset;
    const char *durability;
    bool detach, stop;
    char **extra; /* see struct plan_options */
    size_t extra_count;
};

/* Runs until it is told to stop, and answers the exit code: 0, 1, or 2 for bad configuration, its own or a
 * daemon's. With `detach` it returns when the cluster is ready and leaves the supervisor running; with `stop` it
 * ends that. */
int up_run(const struct up_options *options);
