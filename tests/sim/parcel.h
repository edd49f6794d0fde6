/* What travels between the parts of a simulation, and the pool it lives in. */
#pragma once

#include "shardd/replica.h"
#include "tests/sim/drive.h"

#define BATCH_MAX 50u /* entries of one message */

struct parcel_message {
    struct replica_message head;
    uint32_t entry_count;
    uint32_t entries[BATCH_MAX]; /* sim's entries */
};

struct parcel_request {
    struct command command;
    uint64_t attempt;
    bool stale; /* a read that a follower may serve (R17) */
};

struct parcel_answer {
    uint64_t number, attempt;
    int code; /* SK_OK, SK_TIMEOUT (unknown), or a refusal: surely not done by this attempt */
    struct result result;
    uint64_t index;      /* where in the log it took effect; read: what was applied */
    uint64_t time_us;    /* the leader's time by which it was judged */
    bool stale;          /* a follower has served it, */
    uint32_t host;       /* this one */
    uint64_t digest;     /* of its state then */
    uint64_t started_us; /* when the process that answers was started; true time */
    uint64_t sent_us;    /* true time */
};

struct parcel_change {
    struct replica_change change;
    uint32_t node;
    uint64_t incarnation;
};

struct parcel_snapshot {
    struct image image;
    uint64_t epoch;
};

struct parcel {
    struct parcel *next; /* whoever holds it */
    uint64_t session;    /* network.c's */
    union {
        struct parcel_message message;
        struct parcel_request request;
        struct parcel_answer answer;
        struct parcel_change change;
        struct parcel_snapshot snapshot;
        struct map_shard config;
    };
};

struct parcel_pool {
    struct parcel *free; /* owned, as are all below */
    struct parcel **all;
    uint64_t count, room;
};

void parcel_pool_init(struct parcel_pool *pool);
void parcel_pool_deinit(struct parcel_pool *pool); /* with what is under way */

struct parcel *parcel_new(struct parcel_pool *pool);               /* its content is what was in it last */
void parcel_free(struct parcel_pool *pool, struct parcel *parcel); /* NULL is allowed */
