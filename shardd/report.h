/* What a shardd tells over HTTP: is it alive, would it serve, and its metrics. Pages are made on the HTTP door's thread from
 * what lanes, frontend and peers publish. */
#pragma once

#include "libcommon/disk_space.h"
#include "libcommon/http.h"
#include "shardd/lane.h"

struct report {
    /* before http_open */
    struct frontend *frontend;
    struct peers *peers;
    struct disk_space *disk; /* of the data directory; borrowed, as all, while pages may be asked for */
    uint64_t log_keep_bytes;

    /* once, before `opened` */
    struct lane *const *lanes;
    uint32_t lane_count;

    /* by any thread, at any time */
    atomic_bool opened;  /* the lanes are; what stands above is read only then */
    atomic_bool leaving; /* it hands over what it leads, and ends */
    atomic_uint node;    /* 0: not registered */
    atomic_ullong map_version;
    atomic_uint shard_count; /* of the cluster, by that map; */
    atomic_uint replicas;    /* what that gives this node, */
    atomic_bool inherits;    /* and what it will: the node that was here before still has some (R13) */
};

/* Handlers for the door; `arg` is a struct report *. */
extern const struct http_page report_pages[];
extern const size_t report_page_count;

/* Shards that are led here, or about to be, and that another replica could lead; 0 also when out of memory. */
uint32_t report_count_to_hand_over(const struct report *report);

/* What the shardd waits for before it would serve, as a line in `reason`; "" = nothing. For readiness: it is registered, has
 * a map, and every replica that the map gives it is in sync, so that another node may be taken away now. */
void report_waits_for(const struct report *report, char *reason, size_t reason_bytes);
