/* One answer from the answers of many shards, and what the outcome of parts says about the whole
 * (docs/replication.md, R9). Pure: everything made lies in the arena. */
#pragma once

#include "gateway/message.h"

/* What INFO tells of the gateway itself. */
struct gateway_facts {
    uint64_t uptime_s;
    uint64_t map_version;
    uint64_t requests;                             /* messages since the start */
    uint64_t commands;                             /* commands in them */
    uint64_t requests_in_flight, requests_waiting; /* by blocking commands, of those */
    uint64_t connections;
    uint32_t shards, nodes;
};

/* What a command over several parts, all done, is answered with if not their joined results: SK_OK = join them.
 * Reads: the first error. Writes: an unknown part makes the whole unknown; parts that happened beside parts that
 * did not make it SK_TIMEOUT, since as a whole it neither happened nor did not. `text` says why. */
int join_outcome(const struct sub *sub, struct arena *arena, struct slice *text);

/* Answers a sub whose parts are all done: sets `answered`, `err` and `result`. */
void join_answer(struct sub *sub, struct arena *arena, const struct gateway_facts *facts);
