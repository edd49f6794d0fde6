/* `skerry admin`: what a person asks metad for about one shard. Says on stdout what was done, on stderr why not. One
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct admin_options {
    const char *metad; /* nng URLs */
    uint32_t timeout_ms;
    uint32_t shard, node;
    bool yes_lose_data; /* of force-leader: else it only shows what there is */
};

struct metad_client;

/* For all that a person asks metad for: says what went wrong, and answers the exit code. */
int admin_fail(const char *metad, int err, const char *text);

/* EXIT_OK: the caller calls metad_client_free; else the exit code, said. */
int admin_connect(const char *metad, struct metad_client **client);

/* The shard's leader is asked to hand over to the node, which is preferred from then on (R20); waits until it leads, or the
 * leader has given up, or metad has withdrawn the wish. The exit code. */
int admin_handover(const struct admin_options *options);

/* The node leads, whatever is lost (R12). The exit code. */
int admin_force_leader(const struct admin_options *options);
