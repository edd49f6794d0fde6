/* A daemon's membership of the cluster, in one thread: registers with metad, heartbeats, and keeps the map fresh
 * (subscribes to its versions, which may be lost, and so also asks each second; fetches when there is a newer one). What a
 * shardd wants changed in records of shards goes to metad beside that, in a second thread (change_sender.h).
 * The data path never waits for it (docs/replication.md, R21). */
#pragma once

#include "shard_change.h"

struct member;

enum member_kind { MEMBER_SHARDD, MEMBER_GATEWAY };

struct member_options {
    enum member_kind kind;
    const char *metad_addresses;   /* requests: nng URLs, comma-separated */
    const char *publish_addresses; /* publish: nng URLs, comma-separated */
    uint8_t store_id[16];          /* shardd: of its data directory; gateway: random at start */
    uint32_t node_id;              /* shardd: what an earlier registration gave (0: none), to notice a mix-up */
    uint64_t cluster;              /* the same for the cluster id */
    uint32_t lanes;                /* shardd */
    const char *host, *frames_address, *replication_address; /* as advertised; borrowed until close */
    uint32_t heartbeat_ms;
};

struct member_identity {
    uint64_t cluster;
    uint32_t node_id;     /* 0 for a gateway */
    uint64_t incarnation; /* of this start */
};

/* Of a shardd whose node was removed (skerry admin remove): it need not be started again. */
#define EXIT_REMOVED 3

struct member_callbacks {
    void *arg;
    /* Once, before the first map. */
    void (*registered_cb)(void *arg, const struct member_identity *identity);
    /* For every newer map; borrowed: map_ref to keep it. */
    void (*map_cb)(void *arg, const struct map *map);
    /* What a heartbeat tells about this process: one encoded MessagePack map, appended to `stats`. May be NULL. */
    void (*stats_cb)(void *arg, struct buffer *stats);
    /* metad refused this store for good (another cluster's directory, a store of another node, a copy of a store that
     * another process has started on since): `text` says why. The daemon ends with exit code 2. SK_REMOVED: its node was removed, and it ends with
     * EXIT_REMOVED. */
    void (*refused_cb)(void *arg, int err, const char *text);
};

/* Starts the thread; callbacks come on it. SK_ENOMEM, SK_ECONFIG. */
int member_open(struct member **member, const struct member_options *options,
                const struct member_callbacks *callbacks);

/* Any thread: fetch the map now (someone was told that it is newer than `known_version`). Cheap to repeat. */
void member_refresh(struct member *member, uint64_t known_version);

/* Any thread, of a shardd: asks metad for this change, at once or, while metad has not answered the last request, with
 * all that gathers until then. Copies, does not wait, and does not try again: whatever came of it, a newer map is fetched at
 * once if there is one; whoever does not see what it asked for asks again. One change for each shard waits, the newest.
 * Before the registration nothing is sent. */
void member_change(struct member *member, const struct shard_change *change);

/* Stops and joins the threads: no callback runs afterwards, and what the functions above ask for has no effect. So those
 * who call them may be ended next, and the member be closed behind them. */
void member_stop(struct member *member);

/* member_stop, if that was not called, and frees. No call of another thread may be under way. NULL is allowed. */
void member_close(struct member *member);
