/* What a gateway tells over HTTP: is it alive, would it serve, its metrics, and its page for people
 * (gateway/page.h). Pages are made on the HTTP door's thread from what the loop publishes. */
#pragma once

#include "gateway/history.h"
#include "gateway/watch.h"
#include "libcommon/http.h"

struct report {
    /* before http_open; borrowed */
    const struct tally *tally;
    const struct history *history;
    struct watch *watch;
    const char *host, *address; /* of this gateway, as metad knows it */
    uint64_t started_ms;        /* CLOCK_BOOTTIME */

    /* by the loop, at any time */
    atomic_ullong ticked_ms; /* CLOCK_BOOTTIME, when the loop came round last; 0: it has not begun */
    atomic_ullong map_version, requests_in_flight, requests_waiting, connections_refused;
    atomic_uint shards, nodes, nodes_connected;
    atomic_uint connections[DOOR_KINDS];
    atomic_bool leaving;
};

uint32_t report_connections(const struct report *report); /* by all doors */

/* Why it would not serve now; "": it would. A shard without a leader is no reason: other gateways would wait, too. */
const char *report_waits_for(const struct report *report);

/* Handlers for the door; `arg` is a struct report *. */
extern const struct http_page report_pages[];
extern const size_t report_page_count;
