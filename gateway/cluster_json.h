/* The cluster as JSON, for the gateway's page: from metad's answer to `status`, or, while metad is away, from a
 * map alone. Pure. */
#pragma once

#include "libcommon/status.h"

/* Appends one object:
 *
 * {"map_version", "cluster": hex, "nodes": [{"id", "host", "address", "alive", "state", "lanes", "leads", "holds",
 * "in_sync", "age_ms": since its last heartbeat, "stats": {name: number or boolean}}], "shards": [[leader or 0,
 * epoch, min_isr, [replicas], [isr], move_from, move_to, data_loss_generation]] in order, "metad": [{"name",
 * "votes", "leads"}], "gateways": [{"host", "address", "age_ms", "stats"}]}
 *
 * What is not told is left out. Out of memory: out->failed. */
void cluster_json_write(const struct status *status, struct buffer *out);
