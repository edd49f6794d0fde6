/* metad: owns data directory, sockets, Raft loop and service; starts and stops them in order. One server of the
 * group, in the thread that calls metad_run. */
#pragma once

#include "metad/raft_loop.h"

struct metad;

/* A server of the group, as the others reach it. */
struct metad_server {
    uint64_t id;
    const char *raft_address;    /* "host:port" */
    const char *request_address; /* nng URL */
};

struct metad_options {
    const char *data_dir;
    const char *listen, *publish_listen; /* nng URLs */
    const char *raft_listen;             /* "host:port" */
    uint64_t server_id;
    struct metad_server servers[RAFT_LOOP_SERVERS_MAX]; /* this one among them; texts borrowed until metad_free */
    uint32_t server_count;                              /* 1, 3 or 5 */
    uint32_t shards, expect_nodes, replicas;            /* for a cluster that does not exist yet */
    uint64_t node_timeout_ms, node_dead_after_ms;
    uint32_t moves_max;
};

#define METAD_TEXT_BYTES 512

/* Binds the sockets, reads what there is on disk and starts. On failure `text` is one line that says what and
 * where: SK_ECONFIG, SK_ELOCKED, SK_EVERSION, SK_ENET (how it was set up), SK_ECORRUPT, SK_EIO, SK_ENOSPC,
 * SK_ENOMEM (faults). */
int metad_new(struct metad **metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]);

/* Serves until metad_stop: SK_OK; or until it cannot go on: a fault, which it has logged. */
int metad_run(struct metad *metad);

/* Any thread, and signal handlers: metad_run answers what is under way and returns. */
void metad_stop(struct metad *metad);

void metad_free(struct metad *metad); /* NULL is allowed */
