/* What the page shows of the cluster. A thread of its own asks metad for it, at most once a second and only while
 * somebody looks, so that the HTTP door's thread never waits for metad, and metad has no work for pages that
 * nobody has open. While metad does not answer the last answer stays, or what the gateway's own map says if that
 * is newer or metad has never answered. */
#pragma once

#include "libcommon/map.h"

#define WATCH_IDLE_MS    10000u /* nobody looks any more: the last look was so long ago */
#define WATCH_TEXT_BYTES 256u

struct watch;

enum watch_state {
    WATCH_ASKING,  /* nobody had been looking, and metad has had no time to answer */
    WATCH_ANSWERS, /* metad answers */
    WATCH_SILENT,  /* it did not, when it was last asked */
};

struct watch_view {
    enum watch_state state;
    char text[WATCH_TEXT_BYTES]; /* of WATCH_SILENT: why */
    bool has_cluster;
    bool of_map;     /* the cluster comes from the gateway's own map, not from metad's answer */
    uint64_t age_ms; /* of the answer or the map, when there is a cluster */
};

/* Starts the thread. `metad_addresses`: nng URLs, comma-separated; copied. SK_ECONFIG, SK_ENOMEM. */
int watch_open(struct watch **watch, const char *metad_addresses);

/* Any thread, does not wait: the newest map that this gateway has, borrowed. */
void watch_set_map(struct watch *watch, const struct map *map);

/* Any thread, does not wait: somebody looks. Appends to `cluster` what is known (cluster_json.h); nothing when
 * nothing is that is worth showing, which a look some 100 ms later may find. */
void watch_look(struct watch *watch, struct watch_view *view, struct buffer *cluster);

/* Ends the thread, also one that waits for metad. NULL is allowed. */
void watch_close(struct watch *watch);
