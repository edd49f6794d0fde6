/* What a gateway tells over HTTP: is it alive, would it serve, and its metrics. Pages are made on the HTTP door's thread from
 * what the loop publishes. */
#pragma once

#include "gateway/tally.h"
#include "libcommon/http.h"

struct report {
    const struct tally *tally; /* before http_open */

    /* by the loop, at any time */
    atomic_ullong ticked_ms; /* CLOCK_BOOTTIME, when the loop came round last; 0: it has not begun */
    atomic_ullong map_version, requests_in_flight;
    atomic_uint shards, nodes, nodes_connected, connections;
    atomic_bool leaving;
};

/* Handlers for the door; `arg` is a struct report *. */
extern const struct http_page report_pages[];
extern const size_t report_page_count;
