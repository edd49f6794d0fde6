/* metad: owns data directory, sockets, Raft loop and service; starts and stops them in order. One server of the
 * group, in the thread that calls metad_run. */
#pragma once

#include "libcommon/metad_names.h"
#include "libcommon/slice.h"

struct metad;

struct metad_options {
    const char *data_dir;
    const char *listen, *publish_listen; /* nng URLs */
    const char *raft_listen;             /* "host:port"; used with a secret */
    const char *http_listen;             /* see libcommon/http.h; NULL: none */
    const char *name;                    /* "host:port" where clients find this server (libcommon/metad_names.h) */
    char (*peers)[METAD_NAME_BYTES];     /* the names that all servers of the group are started with */
    uint32_t peer_count;                 /* 0 = none were given: this server is alone until others are added */
    struct slice secret;                 /* of the group; empty: there can be no others */
    uint32_t shards, expect_nodes, replicas; /* for a cluster that does not exist yet */
    uint64_t node_timeout_ms, node_dead_after_ms;
    uint32_t moves_max;
};

#define METAD_TEXT_BYTES 512

/* Binds the sockets, reads what there is on disk and starts; the first server of a new group does that when it has heard from the
 * others. What `options` points to is not used afterwards. On failure `text` is one line that says what and
 * where: SK_ECONFIG, SK_ELOCKED, SK_EVERSION, SK_ENET (how it was set up), SK_ECORRUPT, SK_EIO, SK_ENOSPC,
 * SK_ENOMEM (faults). */
int metad_new(struct metad **metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]);

/* Serves until metad_stop: SK_OK; or until it cannot go on: a fault, which it has logged. */
int metad_run(struct metad *metad);

/* Any thread, and signal handlers: metad_run answers what is under way and returns. */
void metad_stop(struct metad *metad);

void metad_free(struct metad *metad); /* NULL is allowed */
