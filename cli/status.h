/* What metad knows of the cluster, for `skerry status`, and whether the cluster serves, for `skerry up` too. */
#pragma once

#include "libcommon/status.h"

#include <stdatomic.h>

struct metad_client;

/* Asks metad. SK_OK: the caller calls status_deinit. Otherwise `text` says why not. */
int status_fetch(struct metad_client *client, uint32_t timeout_ms, struct status *status, char *text,
                 size_t text_bytes);

/* The last entry of the node's replica of `shard`, if the node tells it (a shardd does of replicas that hear no leader).
 * False = it does not. */
bool status_find_tail(const struct status *status, uint32_t node, uint32_t shard, uint64_t *epoch,
                      uint64_t *index);

struct status_shards {
    uint32_t count, led; /* led: by a node that is alive */
    uint32_t short_isr;  /* fewer in sync than min_isr: no writes */
    uint32_t behind;     /* some replica is not in sync */
    uint32_t lost;       /* a leader was forced: data may be lost */
    uint32_t moving;     /* a replica is on its way to another node */
};

struct status_shards status_count_shards(const struct map *map);

/* Whether the map exists and every shard has a leader that is alive; else `missing` says what is not there. */
bool status_map_serves(const struct map *map, char *missing, size_t missing_bytes);

struct status_wait {
    const char *metad, *gateway; /* nng URLs */
    uint64_t deadline_ms;        /* of clock_boottime_ms(); 0: look once */
    const atomic_bool *stop;     /* NULL, or: set by another thread to give up */
};

/* Polls until the map serves and PING and DBSIZE answer through the gateway. SK_OK, or SK_ETIMEDOUT and `missing`
 * says what was not there at the last look. */
int status_wait_ready(const struct status_wait *wait, char *missing, size_t missing_bytes);

struct status_options {
    const char *metad, *gateway;
    uint64_t wait_seconds;
    bool wait, json, shards;
    uint32_t timeout_ms;
};

/* The shards on stdout: how many are well, then those that have no leader alive or too few in sync or move, or all. */
void status_print_shards(const struct status *status, bool all);

/* `skerry status`: the exit code, 1 also when the wait was in vain. */
int status_run(const struct status_options *options);
