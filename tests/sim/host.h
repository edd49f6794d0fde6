/* A simulated node: the process that is the shell of the core (shardd/replica.h), its clocks and its disk. The process
 * takes what has come in steps, as a lane does: all of its mail, then what is committed is executed, then what is to be
 * sent leaves and the log's group goes to the disk. */
#pragma once

#include "tests/sim/network.h"

enum host_state {
    HOST_DOWN,
    HOST_OPENING, /* the store is being opened: nothing is heard */
    HOST_RUNNING,
};

enum mail_kind {
    MAIL_TICK,
    MAIL_MESSAGE,     /* parcel: message, of a peer */
    MAIL_REQUEST,     /* parcel: request, of a client */
    MAIL_CONFIG,      /* parcel: config */
    MAIL_REGISTERED,  /* number: incarnation, other: node */
    MAIL_SYNCED,      /* a group of the log has ended */
    MAIL_SYNC_FAILED, /* for good (R23) */
    MAIL_CHECKPOINTED,
    MAIL_PEER_UP,        /* other: host */
    MAIL_PEER_DOWN,      /* other: host */
    MAIL_SNAPSHOT,       /* parcel: snapshot; other: host that sent it, number: its life */
    MAIL_SNAPSHOT_ENDED, /* other: host that it was for, number: whether it is installed there */
    MAIL_INSTALL_ENDED,  /* number: whether it worked */
};

struct mail {
    enum mail_kind kind;
    uint32_t other;
    uint64_t number;
    struct parcel *parcel; /* owned */
};

/* A client that waits for an entry to be executed. */
struct waiting {
    uint64_t index, epoch;
    uint32_t client;
    uint64_t number, attempt;
};

struct log_item {
    uint32_t entry;    /* sim's */
    uint64_t position; /* of its record */
};

struct host {
    uint32_t number; /* which host this is */
    struct drive drive;

    /* its clocks: CLOCK_BOOTTIME and CLOCK_REALTIME as lines over true time */
    int64_t rate_ppm; /* faster than true time */
    uint64_t boot_zero_us, boot_base_us;
    int64_t wall_offset_us;

    /* the process; `life` tells one from the next */
    enum host_state state;
    bool paused;
    uint32_t life;
    uint64_t start_us;   /* by its own clock */
    uint64_t started_us; /* true time */
    uint64_t incarnation;
    uint64_t config_version; /* of the newest record that it has seen */
    struct mail *mail;       /* owned, a ring */
    uint32_t mail_first, mail_count, mail_room;
    bool step_due;
    uintptr_t ticks; /* host.c's */

    /* its replica */
    bool has_replica;
    struct replica replica;
    struct machine machine;
    struct log_item *log; /* owned; of indexes log_first … log_last */
    uint64_t log_first, log_last, log_room;
    struct waiting *waiting; /* owned, by index */
    uint32_t waiting_count, waiting_room;
    uint64_t told_position;    /* records before it have been told to the core as durable */
    uint64_t adopted_position; /* behind the last RECORD_ADOPT */
    uint64_t time_kept_us;     /* the leader's time as last recorded, */
    uint64_t time_synced_us;   /* and as it is durable */
    uint64_t checkpoint_us;    /* when the next one begins */
    struct {
        bool under_way;
        uint64_t index;        /* the log behind it is kept meanwhile */
        uint64_t until_us;     /* given up then; true time */
    } snapshots[HOSTS_MAX];    /* to other hosts */
    uint32_t peers[HOSTS_MAX]; /* the node on each other host when its connection came */
    bool peer_down[HOSTS_MAX];
    struct parcel *bulk, **bulk_tail; /* owned: messages with entries, oldest first, not taken yet */
    bool took_all;                    /* of the message that was taken last */
    struct parcel *installing;        /* owned */
    uint32_t install_from;            /* host, */
    uint64_t install_life;            /* and its life */
};

struct sim;

void host_init(struct sim *sim, uint32_t number);
void host_deinit(struct host *host);

void host_start(struct sim *sim, struct host *host);
void host_crash(struct sim *sim, struct host *host, bool silent);
void host_pause(struct sim *sim, struct host *host);
void host_resume(struct sim *sim, struct host *host);

/* The store is replaced by an empty one; the process is down. */
void host_wipe(struct sim *sim, struct host *host);

/* The next end of a sync is an error. */
void host_fail_disk(struct sim *sim, struct host *host);

/* Something has come for it. Owns the parcel. */
void host_deliver(struct sim *sim, struct host *host, struct mail mail);

uint64_t host_boot_us(const struct sim *sim, const struct host *host);
uint64_t host_wall_us(const struct sim *sim, const struct host *host);

/* How long `us` of its own clock take. */
uint64_t host_true_us(const struct host *host, uint64_t us);

/* Whether it would serve a read now, as a leader; as a follower (R17). */
bool host_may_serve(const struct sim *sim, const struct host *host);
bool host_may_serve_stale(const struct sim *sim, const struct host *host);
