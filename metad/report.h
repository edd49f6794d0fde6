/* What a metad server tells over HTTP: is it alive, would it serve, and its metrics. Pages are made on the HTTP door's thread from
 * facts that the loop publishes. What it says of the cluster each server says; a sum over servers would count it several
 * times. */
#pragma once

#include "libcommon/disk_space.h"
#include "libcommon/http.h"

#include <pthread.h>

struct report_facts {
    /* this server */
    bool leads, ready; /* ready: as a leader it answers */
    bool leaving;      /* it ends */
    bool leader_known; /* somebody leads, as far as it knows */
    uint64_t term, commit_index, last_index;
    uint64_t calls;         /* requests that came */
    uint64_t disk_waits_ms; /* its disk has kept entries waiting for so long */
    uint32_t servers, voters;

    /* the cluster, by what is applied here */
    uint64_t map_version;
    uint32_t nodes_alive, nodes_dead; /* members and those that drain; the removed are none */
    uint32_t nodes_draining;
    uint32_t shards;
    uint32_t shards_leaderless; /* led by nobody who is alive */
    uint32_t shards_unwritable; /* fewer in sync and alive than a write needs */
    uint32_t shards_degraded;   /* fewer in sync than there are replicas */
    uint32_t shards_moving;
    uint64_t data_losses; /* times that a person forced a leader, over all shards */
};

/* Embedded. */
struct report {
    struct disk_space *disk; /* of the data directory; borrowed while pages may be asked for; before http_open */
    pthread_mutex_t lock;    /* guards what follows */
    struct report_facts facts;
    uint64_t told_ms; /* CLOCK_BOOTTIME; 0: never */
};

void report_init(struct report *report);
void report_deinit(struct report *report);

/* By the loop, now and then. */
void report_tell(struct report *report, const struct report_facts *facts, uint64_t now_ms);

/* Handlers for the door; `arg` is a struct report *. */
extern const struct http_page report_pages[];
extern const size_t report_page_count;
