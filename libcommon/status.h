/* What metad answers to `status`: the map, and what each daemon told with its last heartbeat. For the CLI and the
 * gateway's page. A status belongs to one thread. */
#pragma once

#include "map.h"

struct status {
    struct map *map;      /* owned reference */
    struct buffer answer; /* what the slices point into */
    struct slice metad;   /* encoded maps and an array; empty: not told */
    struct slice stats, ages_ms;
    struct slice gateways;
};

/* Reads metad's answer, which is moved out of `answer`. SK_OK, SK_EPROTO, SK_ENOMEM. */
int status_read(struct status *status, struct buffer *answer);
void status_deinit(struct status *status);

/* The statistics of a node, an encoded map; empty when it told none. */
struct slice status_stats_of(const struct status *status, uint32_t node);

/* A value among them, as it is encoded. False = the node does not tell that. */
bool status_find_stat(const struct status *status, uint32_t node, const char *name, struct slice *value);

/* Since the last heartbeat of a node, as metad counts. False = it does not tell. */
bool status_find_age(const struct status *status, uint32_t node, uint64_t *age_ms);

/* A value among the pairs of an encoded map. False = it is not there. */
bool status_find_value(struct slice map, const char *name, struct slice *value);
