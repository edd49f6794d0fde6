/* The daemon: owns frontend, lanes and membership; starts and stops them in order. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct shardd;

struct shardd_options {
    const char *data_dir;
    const char *metad_addresses, *publish_addresses;
    const char *frames_listen;
    const char *replication_listen;
    const char *http_listen;   /* see libcommon/http.h */
    const char *advertise;     /* host that others reach this node by */
    uint32_t lanes;            /* 0: half the cores this process may use, at least 1 */
    uint32_t sync_interval_ms; /* 0: durable before acknowledged */
    uint64_t memtable_bytes, cache_bytes, segment_bytes, checkpoint_interval_ms;
    uint32_t id_window_ms;
    uint64_t ids_max;
    uint64_t log_keep_bytes;
    uint64_t drain_ms;           /* so long shardd_run hands over what is led here, at a signal */
    uint64_t verify_interval_ms; /* 0: only when a person wants it */
    int accept_suspect;          /* open a store on which an fsync has failed */
};

/* Opens the data directory, replays, listens and starts to look for metad. SK_ECONFIG and whatever else is wrong with
 * what it was given: `text` says in one line what and where; the daemon exits with 2. */
int shardd_open(struct shardd **shardd, const struct shardd_options *options, char *text, size_t text_bytes);

/* Waits for a signal to end (SIGTERM, SIGINT, blocked in all threads before shardd_open) or for a fault. After a signal what
 * is led here is handed over. Returns the exit code. */
int shardd_run(struct shardd *shardd);

/* Drains: answers what is in flight, then closes everything. */
void shardd_close(struct shardd *shardd);
