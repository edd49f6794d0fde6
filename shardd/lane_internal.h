/* What the parts of a lane share. lane.c: the thread, its steps, opening. lane_commands.c: what gateways ask.
 * lane_replicas.c: the shell of the replication core. lane_verify.c: replicas are compared. lane_checkpoint.c: what goes to the store and leaves the log.
 * lane_stats.c: what others may know of it. All of it runs on the lane's thread, but for what lane.h says. */
#pragma once

#include "shardd/commands/chance.h"
#include "shardd/lane.h"
#include "shardd/outbox.h"
#include "shardd/peer_outbox.h"
#include "shardd/shard_table.h"
#include "shardd/store.h"

#include <pthread.h>
#include <stdatomic.h>

enum lane_mail_kind {
    MAIL_FRAME,
    MAIL_PEER_FRAME,
    MAIL_PEER_UP,
    MAIL_PEER_DOWN,
    MAIL_PEER_ROOM,
    MAIL_IDENTIFY,
    MAIL_MAP,
    MAIL_SYNCED,
    MAIL_CHECKPOINTED,
    MAIL_EXPORTED,
    MAIL_INSTALLED,
    MAIL_STOP,
};

struct lane_mail {
    struct mail mail; /* first: a mail is cast to this */
    enum lane_mail_kind kind;
    struct frame *frame; /* owned, as the next two */
    struct peer_frame *peer_frame;
    struct map *map;
    uint32_t node;
    uint64_t incarnation;
};

/* A write, or a read behind one, that has to wait: the log's group or the memtable is full. */
struct waiting {
    struct waiting *next;
    struct frame *frame; /* owned */
    struct request_item item;
    uint64_t deadline_us;
};

/* A record in the log's buffers that is not known to be durable, oldest first. */
struct unsynced {
    wal_position position;
    uint32_t shard;
    bool is_entry; /* else the record of an adopted epoch */
    uint64_t replica_id, index, epoch, time_us;
};

struct unsynced_ring {
    struct unsynced *slots; /* owned */
    uint32_t capacity;      /* a power of two, or 0 */
    uint32_t head, count;
};

#define LANE_PATH_BYTES 4200u

/* A snapshot for a follower. */
struct snapshot_out {
    enum { OUT_NONE, OUT_EXPORTING, OUT_SENDING } state;
    uint32_t shard, node;
    uint64_t index; /* what it holds; known when it is made */
    int fd;         /* of its file; -1: none */
    struct snapshot_sender sender;
    uint8_t piece[SNAPSHOT_PIECE_BYTES]; /* of the file, being sent */
};

/* A snapshot from a leader. */
struct snapshot_in {
    enum {
        IN_NONE,
        IN_RECEIVING,
        IN_COMPLETE, /* in the file, to be installed */
        IN_INSTALLING,
        IN_WAITING, /* the disk was full with half of it installed */
    } state;
    uint32_t shard, node;
    int fd;
    struct snapshot_receiver receiver;
    uint64_t index, time_us, retry_us; /* what it holds; IN_WAITING: when to try again */
    struct epochs epochs;
};

struct lane {
    struct lane_options options;
    char *directory; /* owned; the options point to it */
    struct mailbox *mailbox;
    pthread_t thread;
    /* each in the mailbox once at a time */
    struct lane_mail synced_mail, checkpointed_mail, exported_mail, installed_mail, stop_mail;
    /* synced_mail is in the mailbox: the log tells of groups and of segments, also at once */
    atomic_bool sync_posted;
    atomic_int sync_err; /* of the log; final */

    /* the lane's thread */
    struct wal *wal;
    struct store *store;
    struct shard_table shards;
    struct map *map;
    bool map_applied; /* by every shard */
    uint32_t node;
    uint64_t incarnation;
    uint64_t start_us;
    struct unsynced_ring unsynced;
    struct shard *dirty_head, *dirty_tail;
    struct shard *ended; /* owned: not in the table any more, and still in the store */
    struct replica_effects effects,
        inner;               /* of the step under way, and of the events that carrying it out feeds */
    struct chance chance;    /* for commands that draw */
    uint64_t stored_time_us; /* the highest leader time that the lane has stored (R26), */
    uint64_t synced_time_us; /* and what of it is synced; less: the record at time_position is not yet */
    wal_position time_position;
    wal_position durable;
    wal_position checkpoint_keep,
        checkpoint_next; /* the store needs the log from here; will, when the checkpoint is done */
    struct lane_mail *frames_head, *frames_tail; /* owned: frames that are not taken whole */
    struct slice frame_rest;                     /* of the first */
    uint64_t frame_turn;                         /* counts the frames that have come to be the first */
    struct waiting *waiting_head, *waiting_tail;
    uint32_t waiting_count;
    struct blocking *blocking; /* owned: who waits for something to take */
    bool blocking_stalled;     /* its next cannot go into the log now */
    struct outbox outbox;
    struct peer_outbox peer_outbox;
    struct lane_mail *peer_head, *peer_tail; /* owned: frames of peers whose bulk items are not taken */
    struct slice peer_rest;                  /* of the first */
    bool peer_waits;                         /* its next item cannot be taken now */
    const struct peer_item *item;            /* borrowed: the message being fed to a core, with its entries */
    int take_err;                            /* why not all of them could be taken */
    bool peer_down[MAP_NODES_MAX + 1];
    size_t pending_bytes; /* of all shards: payloads of entries not executed */
    uint32_t after_reads; /* of all shards: reads that wait behind such entries */
    struct snapshot_out out;
    struct snapshot_in in;
    uint64_t transfers; /* snapshots sent so far */
    struct buffer payload, result;
    uint64_t taking_us;      /* a time at which what is being taken had come, not long ago */
    wal_position ticked_end; /* of the log at the last tick */
    bool has_come;           /* since then: a frame, or a map */
    uint64_t now_us, next_tick_us, second_us, checkpoint_us, retry_us;
    struct {
        uint32_t running; /* scrubs */
        uint32_t slot;    /* in the table of shards: where the one is that goes on */
        uint64_t turn_us; /* when it goes on */
        uint32_t open;    /* markers of leaders here that are not judged; the last was of shard */
        uint32_t last_begun;
        uint64_t generation, generation_us; /* the map's, and since when it is */
        struct verify_stats stats;          /* but for `generation`, `done` and `running` */
    } verify;
    bool more_to_execute, more_to_send, failed, disk_full, stopping;
    bool checkpointed, exported, installed; /* a completion waits for the end of the step */
    int checkpoint_err;                     /* of the last checkpoint */
    uint64_t reads, follower_reads, writes, syncs;
    uint64_t snapshot_bytes; /* received */

    struct lane_metrics metrics; /* written by the lane's thread, read by any */
    metrics_counter seen_us;

    pthread_mutex_t stats_lock; /* guards what follows */
    struct lane_stats stats;
    struct verify_stats verify_stats;
    struct lane_shard_stats *shard_stats; /* owned */
    size_t shard_stats_count, shard_stats_capacity;
};

/* ---- lane.c ---- */

/* The state in memory can no longer be trusted; the log can. */
_Noreturn void lane_die(const struct lane *lane, const struct shard *shard, int err, const char *what);
/* A read met a record that cannot be trusted, or no memory. The store says where. */
void lane_log_read_fault(const struct lane *lane, const struct shard *shard, int err);

/* ---- lane_stats.c ---- */

void lane_publish_stats(struct lane *lane);
/* Notes when entries up to the commit index were committed. */
void lane_note_committed(const struct lane *lane, struct shard *shard);
void lane_observe_write(struct lane *lane, const struct pending *pending);
void lane_observe_read(struct lane *lane, const struct frame *frame);

/* ---- lane_commands.c ---- */

void lane_on_frame(struct lane *lane, struct lane_mail *mail);
void lane_take_commands(struct lane *lane);
void lane_retry_waiting(struct lane *lane);
/* What those who wait for entries of the shard behind `index` are told: LOST, the gateway asks the next leader. */
void lane_release_waiters(struct lane *lane, struct shard *shard, uint64_t index);
void lane_release_waiter(struct lane *lane, struct pending *pending);
shard_executed_cb lane_executed_cb;
/* Why a write may not be appended now. SK_OK, SK_BUSY (wait), SK_DISKFULL, or what the checkpoint has met. */
int lane_write_gate(struct lane *lane);
/* A small answer: dropped only when even such have no room any more (frontend.h). */
void lane_answer(struct lane *lane, struct frame *frame, uint64_t number, int err, struct slice body);
/* What came of a write of that epoch. */
void lane_answer_write(struct lane *lane, const struct shard *shard, uint64_t epoch, struct frame *frame,
                       uint64_t number, int err, struct slice body);
struct entry_name lane_name_of(const struct lane *lane, const struct frame *frame,
                               const struct request_item *item);
/* A repeat of what has been executed already is answered without an entry of its own. SK_NOT_FOUND: it is new. */
int lane_answer_repeat(struct lane *lane, struct shard *shard, struct frame *frame,
                       const struct request_item *item, const struct entry_name *name, uint64_t time_us);
bool lane_has_room(const struct lane *lane, const struct shard *shard); /* for one more entry */
/* A write as far as the log's buffer, or answered why not, or neither: it has to wait. With a waiter that is who waits for its
 * result, else the frame. */
enum lane_taken { LANE_APPENDED, LANE_ANSWERED, LANE_BUSY };
enum lane_taken lane_take_write(struct lane *lane, struct shard *shard, struct frame *frame,
                                const struct request_item *item, struct waiter *waiter);

/* ---- lane_blocking.c ---- */

/* A blocking command that may wait (REQUEST_WAITS). SK_BUSY: it has to wait for the log; nothing was answered. */
int lane_take_blocking(struct lane *lane, struct shard *shard, struct frame *frame,
                       const struct request_item *item);
/* Answers whose time is over, and puts those into the log again for whom there is something now. Before what is new. */
void lane_serve_blocking(struct lane *lane);
bool lane_has_to_serve(const struct lane *lane);
/* What its entry has come to. */
void lane_blocking_executed(struct lane *lane, struct shard *shard, const struct pending *pending, int err,
                            struct slice body);
void lane_lose_waiter(struct lane *lane, struct waiter *waiter);  /* its entry may be cut */
void lane_release_parked(struct lane *lane, struct shard *shard); /* the gateway asks the next leader */
void lane_end_blocking(struct lane *lane);                        /* all of them, for good */

/* ---- lane_replicas.c ---- */

/* Feeds the core one event (its boot_us is filled in where it is 0) and carries out what it wants, but for the append of a command. */
const struct replica_effects *lane_drive(struct lane *lane, struct shard *shard, struct replica_event *event);
/* Appends what the core has proposed; `entry` is NULL for entries that carry no command. SK_OK: it is in the log's buffer
 * and waits for its commit; else nothing has happened (SK_BUSY, SK_ENOSPC, SK_TOOLARGE, SK_EIO). */
int lane_append(struct lane *lane, struct shard *shard, enum replica_entry_kind kind, uint64_t epoch,
                uint64_t index, uint64_t time_us, struct entry *entry, struct frame *frame, uint64_t number);
void lane_note_durable(struct lane *lane);
void lane_apply_map(struct lane *lane);
void lane_flush_shards(struct lane *lane);   /* what is to be sent to peers */
void lane_execute_shards(struct lane *lane); /* what is committed; bounded */
void lane_tick_shards(struct lane *lane);
uint64_t lane_time_us(const struct lane *lane); /* the highest leader time that any of its shards has seen (R26) */
void lane_fail_shards(struct lane *lane);
void lane_drop_ended(struct lane *lane); /* not in a step of the store */
/* A frame or a map has come: a tick of a lane where nothing had is not far. */
void lane_tick_soon(struct lane *lane);
void lane_mark_dirty(struct lane *lane, struct shard *shard);
void lane_mark_all_dirty(struct lane *lane);

void lane_step_inner(struct lane *lane, struct shard *shard, struct replica_event *event);
/* An entry, ours or a leader's, into the log's buffer and everywhere that knows of it. As lane_append, and SK_EPROTO: it is
 * malformed. */
int lane_append_entry(struct lane *lane, struct shard *shard, const struct wal_entry *logged, struct frame *frame,
                      uint64_t number);
/* Whether committed entries wait for their turn or for the store. Nobody but this lane keeps them waiting. */
bool lane_waits_to_execute(const struct lane *lane);

/* ---- lane_peers.c ---- */

void lane_send(struct lane *lane, struct shard *shard, const struct replica_effects *effects);
int lane_take_entries(struct lane *lane, struct shard *shard, uint32_t skip, uint32_t count);
void lane_on_peer_frame(struct lane *lane, struct lane_mail *mail);
void lane_take_peer_items(struct lane *lane);
void lane_drop_peer_frame(struct lane *lane); /* the oldest */
void lane_on_peer(struct lane *lane, uint32_t node, bool up);
void lane_tell_peers_down(struct lane *lane, struct shard *shard);

/* ---- lane_snapshots.c ---- */

void lane_on_snapshot_item(struct lane *lane, const struct peer_item *item, uint32_t from);
/* The core of a leader wants `node` to get a snapshot of the shard; repeated while it does. */
void lane_want_snapshot(struct lane *lane, struct shard *shard, uint32_t node);
void lane_on_snapshot_peer_up(struct lane *lane, uint32_t node);
void lane_send_snapshots(struct lane *lane);
void lane_tick_snapshots(struct lane *lane);
void lane_on_exported(struct lane *lane);
void lane_on_installed(struct lane *lane);
/* The log must keep what follows a snapshot under way: its oldest position that is needed; UINT64_MAX: none. */
wal_position lane_snapshot_keeps(const struct lane *lane);
void lane_open_snapshots(struct lane *lane); /* before anything else of them; removes what was left */
void lane_close_snapshots(struct lane *lane);

/* ---- lane_verify.c ---- */

void lane_on_marker_appended(struct lane *lane, struct shard *shard, uint64_t epoch, uint64_t index);
void lane_on_marker_executed(struct lane *lane, struct shard *shard, const struct pending *marker);
/* Executing has met a record of the shard that cannot be read (R24). */
void lane_on_damage(struct lane *lane, struct shard *shard);
void lane_drop_scrub(struct lane *lane, struct shard *shard);       /* before what the shard has is replaced */
void lane_end_verification(struct lane *lane, struct shard *shard); /* before it goes */
void lane_scrub(struct lane *lane);                  /* in a step of the store: a turn, if it is time */
uint64_t lane_scrub_due_us(const struct lane *lane); /* UINT64_MAX: nothing is to be scrubbed */
void lane_on_verify_item(struct lane *lane, const struct peer_item *item, uint32_t from);
void lane_tick_verification(struct lane *lane, struct shard *shard);
void lane_fill_verify_stats(const struct lane *lane, struct verify_stats *stats);

/* ---- lane_checkpoint.c ---- */

void lane_maybe_checkpoint(struct lane *lane);
void lane_on_checkpointed(struct lane *lane);
void lane_release_log(struct lane *lane);
