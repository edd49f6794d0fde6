#include "shardd/lane.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "shardd/outbox.h"
#include "shardd/replay.h"
#include "shardd/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_US              50000u
#define MAILBOX_CAPACITY     4096u
#define TAKE_US              2000u /* taking commands in one step */
#define EXECUTE_BUDGET       256u  /* entries per step: no step of a lane is long */
#define GROUP_BYTES_MAX      (4u * 1024 * 1024)
#define MAP_BYTES            (1ull << 40) /* LMDB's map: 1 TiB of addresses */
#define CHECKPOINT_TXN_BYTES (4u * 1024 * 1024)
#define RETRY_US             1000000u /* a failed checkpoint is tried again after this */
#define WAITING_MAX          100000u  /* commands that wait for the log or a checkpoint; beyond: BUSY */
#define FAULT_QUOTED_BYTES   600u
#define RESULT_BYTES_MAX     (MESSAGE_BYTES_MAX - 1024u)

enum lane_mail_kind { MAIL_FRAME, MAIL_IDENTIFY, MAIL_MAP, MAIL_SYNCED, MAIL_CHECKPOINTED, MAIL_STOP };

struct lane_mail {
    struct mail mail; /* first: a mail is cast to this */
    enum lane_mail_kind kind;
    struct frame *frame; /* owned */
    struct map *map;     /* owned */
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

struct lane {
    struct lane_options options;
    struct mailbox *mailbox;
    pthread_t thread;
    struct lane_mail synced_mail, checkpointed_mail, stop_mail; /* each in the mailbox once at a time */
    atomic_bool
        sync_posted;     /* synced_mail is in the mailbox: the log tells of groups and of segments, also at once */
    atomic_int sync_err; /* of the log; final */

    /* the lane's thread */
    struct wal *wal;
    struct store *store;
    struct shard_table shards;
    struct map *map;
    bool map_applied; /* by every shard */
    uint32_t node;
    uint64_t incarnation;
    struct pending *log_head, *log_tail; /* in the log's buffers, not known to be durable */
    wal_position durable, checkpoint_keep;
    struct lane_mail *frames_head, *frames_tail; /* owned: frames that are not taken whole */
    struct slice frame_rest;                     /* of the first */
    struct waiting *waiting_head, *waiting_tail;
    uint32_t waiting_count;
    struct outbox outbox;
    struct buffer payload, result;
    uint64_t now_us, next_tick_us, checkpoint_us, retry_us;
    uint32_t execute_cursor; /* slot where executing goes on */
    bool more_to_execute, failed, disk_full, stopping;
    bool checkpointed;  /* a completion waits for the end of the step */
    int checkpoint_err; /* of the last checkpoint */
    uint64_t reads, writes, syncs;

    pthread_mutex_t stats_lock; /* guards what follows */
    struct lane_stats stats;
};

/* ---- answers ---- */

/* False: the gateway has too much to take; something smaller may still be said. */
static bool try_answer(struct lane *lane, struct frame *frame, uint64_t number, int err, struct slice body) {
    struct answer_item item = {
        .number = number, .map_version = lane->map == NULL ? 0 : lane->map->version, .err = err, .body = body};
    return outbox_add(&lane->outbox, frame, &item);
}

/* A small answer: dropped only when even such have no room any more (frontend.h). */
static void answer(struct lane *lane, struct frame *frame, uint64_t number, int err, struct slice body) {
    (void)try_answer(lane, frame, number, err, body);
}

static void answer_text(struct lane *lane, struct frame *frame, uint64_t number, int err, const char *text) {
    answer(lane, frame, number, err, slice_of_text(text));
}

/* ---- faults ---- */

/* The state in memory can no longer be trusted; the log can. */
static _Noreturn void die(const struct lane *lane, const struct shard *shard, int err, const char *what) {
    char quoted[FAULT_QUOTED_BYTES];
    log_event(LOG_ERROR, "lane_fault", "lane=%u shard=%u error=%s what=%s store=%s", lane->options.number,
              shard == NULL ? 0 : shard->id, error_name(err), what,
              log_quote(store_fault_text(lane->store), quoted, sizeof quoted));
    _exit(1); /* other threads run: no handlers of theirs */
}

/* R23: a failed write or sync of the log is final. What is in the log's buffers is unknown, also to those who wait. */
static void fail_disk(struct lane *lane, int err) {
    if (lane->failed) return;
    lane->failed = true;
    log_event(LOG_ERROR, "disk_failed", "lane=%u error=%s", lane->options.number, error_name(err));
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        struct replica_effects effects;
        replica_step(&shard->replica, &(struct replica_event){.type = REPLICA_FAIL}, &effects);
    }
    for (struct pending *pending = lane->log_head; pending != NULL; pending = pending->next_in_log) {
        for (const struct after_read *read = pending->reads; read != NULL; read = read->next) {
            answer_text(lane, read->frame, read->item.number, SK_UNAVAILABLE, "the disk of this shard has failed");
        }
        pending_free_reads(pending);
        if (pending->frame == NULL) continue;
        answer_text(lane, pending->frame, pending->number, SK_TIMEOUT,
                    "the disk failed before the write was safe");
        frame_unref(pending->frame);
        pending->frame = NULL;
    }
    lane->log_head = lane->log_tail = NULL;
    lane->options.failed_cb(lane->options.arg);
}

/* A read met a record that cannot be trusted, or no memory. The store says where. */
static void log_read_fault(const struct lane *lane, const struct shard *shard, int err) {
    char quoted[FAULT_QUOTED_BYTES];
    log_event(LOG_ERROR, "read_fault", "lane=%u shard=%u error=%s store=%s", lane->options.number, shard->id,
              error_name(err), log_quote(store_fault_text(lane->store), quoted, sizeof quoted));
}

/* ---- the log ---- */

static uint8_t wal_type_of(enum replica_entry_kind kind) {
    switch (kind) {
    case REPLICA_ENTRY_NOOP:
        return WAL_NOOP;
    case REPLICA_ENTRY_SWEEP:
        return WAL_SWEEP;
    default:
        return WAL_COMMAND;
    }
}

/* Carries out an append that the core asked for. `entry` is NULL for entries that carry no command. SK_OK: it is in the
 * log's buffer and waits for its commit; else nothing has happened (SK_BUSY, SK_ENOSPC, SK_TOOLARGE, SK_EIO). */
static int append(struct lane *lane, struct shard *shard, const struct replica_effects *effects,
                  struct entry *entry, struct frame *frame, uint64_t number) {
    struct entry plain = {0};
    if (entry == NULL) entry = &plain;
    entry->commit_index = shard->replica.commit_index;
    buffer_clear(&lane->payload, 1u << 20);
    if (effects->append == REPLICA_ENTRY_COMMAND) {
        entry_encode_command(&lane->payload, entry);
    } else {
        entry_encode_plain(&lane->payload, entry->commit_index);
    }
    struct pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL || lane->payload.failed) {
        free(pending);
        return SK_BUSY;
    }
    struct wal_entry logged = {
        .shard = shard->id,
        .type = wal_type_of(effects->append),
        .replica_id = shard->replica.replica_id,
        .epoch = effects->epoch,
        .index = effects->index,
        .time_us = effects->time_us,
        .payload = buffer_slice(&lane->payload),
    };
    int err = wal_append(lane->wal, &logged, &pending->position);
    if (err != SK_OK) {
        free(pending);
        return err;
    }
    pending->index = effects->index;
    pending->epoch = effects->epoch;
    pending->time_us = effects->time_us;
    pending->type = logged.type;
    pending->entry = *entry;
    pending->number = number;
    if (frame != NULL) pending->frame = frame_ref(frame);

    struct replica_effects none;
    replica_step(&shard->replica, &(struct replica_event){.type = REPLICA_APPENDED, .index = effects->index},
                 &none);
    shard_add_pending(shard, pending);
    if (lane->log_tail == NULL) {
        lane->log_head = pending;
    } else {
        lane->log_tail->next_in_log = pending;
    }
    lane->log_tail = pending;
    return SK_OK;
}

/* What the log has made durable: told to the cores, entry by entry. */
static void note_durable(struct lane *lane) {
    while (lane->log_head != NULL && lane->log_head->position < lane->durable) {
        struct pending *pending = lane->log_head;
        lane->log_head = pending->next_in_log;
        if (lane->log_head == NULL) lane->log_tail = NULL;
        struct replica_event event = {.type = REPLICA_DURABLE, .index = pending->index, .boot_us = lane->now_us};
        struct replica_effects effects;
        replica_step(&pending->shard->replica, &event, &effects);
        lane->more_to_execute = true;
    }
}

static void on_synced(struct lane *lane) {
    atomic_store(&lane->sync_posted, false); /* before looking: what ends from here on posts again */
    lane->durable = wal_complete(lane->wal);
    lane->syncs++;
    int err = atomic_load(&lane->sync_err);
    if (err != SK_OK) {
        fail_disk(lane, err);
        return;
    }
    note_durable(lane);
}

/* ---- executing ---- */

static void answer_write(struct lane *lane, const struct pending *pending, int err, struct slice body) {
    lane->writes++;
    if (!replica_may_answer(&pending->shard->replica, pending->epoch)) { /* R8 */
        answer_text(lane, pending->frame, pending->number, SK_TIMEOUT, "leadership ended before the answer");
    } else if (body.size > RESULT_BYTES_MAX) {
        answer_text(lane, pending->frame, pending->number, SK_DONE, "the write happened; its result is too large");
    } else if (!try_answer(lane, pending->frame, pending->number, err, body)) {
        answer(lane, pending->frame, pending->number, err == SK_OK ? SK_DONE : err, slice_of(NULL, 0));
    }
}

static void take_read(struct lane *lane, struct shard *shard, struct frame *frame,
                      const struct request_item *item);

static void executed_cb(void *arg, const struct pending *pending, int err, struct slice body) {
    struct lane *lane = arg;
    if (pending->frame != NULL) answer_write(lane, pending, err, body);
    for (const struct after_read *read = pending->reads; read != NULL; read = read->next) {
        take_read(lane, pending->shard, read->frame, &read->item);
    }
}

/* Executes what is committed, shard by shard, at most EXECUTE_BUDGET entries. */
static void execute_some(struct lane *lane) {
    uint32_t left = EXECUTE_BUDGET;
    for (uint32_t seen = 0; seen < lane->shards.slot_count && left > 0; seen++) {
        struct shard *shard = lane->shards.slots[lane->execute_cursor];
        int err = SK_NOT_FOUND;
        while (shard != NULL && left > 0 &&
               (err = shard_execute_next(shard, &lane->result, executed_cb, lane)) == SK_OK) {
            left--;
        }
        if (err != SK_OK && err != SK_NOT_FOUND) die(lane, shard, err, "execute");
        if (left > 0) lane->execute_cursor = (lane->execute_cursor + 1) % lane->shards.slot_count;
    }
    lane->more_to_execute = left == 0;
}

/* ---- commands ---- */

/* Why a write may not be appended now. SK_OK, SK_BUSY (wait), SK_DISKFULL, or what the checkpoint has met. */
static int write_gate(struct lane *lane) {
    if (!store_memtable_full(lane->store)) return SK_OK;
    if (store_checkpoint_failed(lane->store)) {
        return lane->checkpoint_err == SK_ENOSPC ? SK_DISKFULL : lane->checkpoint_err;
    }
    return store_checkpoint_running(lane->store) ? SK_BUSY : SK_OK;
}

static struct entry_name name_of(const struct lane *lane, const struct frame *frame,
                                 const struct request_item *item) {
    return (struct entry_name){
        .id = item->id,
        .id_part = item->id_part,
        .window_ms = lane->options.id_window_ms,
        .session = frame->header.session,
        .number = item->number,
        .floor = item->floor,
    };
}

/* A repeat of what has been executed already is answered without an entry of its own. SK_NOT_FOUND: it is new. */
static int answer_repeat(struct lane *lane, struct shard *shard, struct frame *frame,
                         const struct request_item *item, const struct entry_name *name, uint64_t time_us) {
    struct dedup_result earlier;
    int err = dedup_find(shard->dedup, name, time_us, &earlier);
    if (err == SK_OK) {
        answer(lane, frame, item->number, earlier.err, earlier.body);
    } else if (err == SK_FORGOTTEN) {
        answer(lane, frame, item->number, err, slice_of(NULL, 0));
    } else if (err != SK_NOT_FOUND) {
        log_read_fault(lane, shard, err);
        answer(lane, frame, item->number, SK_INTERNAL, slice_of(NULL, 0));
    }
    return err;
}

/* Takes a write as far as the log's buffer, or answers why not. SK_BUSY: it has to wait; nothing was answered. */
static int take_write(struct lane *lane, struct shard *shard, struct frame *frame,
                      const struct request_item *item) {
    struct replica_event event = {.type = REPLICA_WRITE, .boot_us = lane->now_us};
    struct replica_effects effects;
    replica_step(&shard->replica, &event, &effects);
    if (effects.refused != SK_OK) {
        answer(lane, frame, item->number, effects.refused, slice_of(NULL, 0));
        return SK_OK;
    }
    int err = write_gate(lane);
    if (err == SK_BUSY) return SK_BUSY;

    bool atomic = (item->flags & REQUEST_ATOMIC) != 0;
    buffer_clear(&lane->result, 1u << 20);
    int refused = exec_check(&shard->exec, item->body, atomic, true, &lane->result);
    if (refused != SK_OK) {
        answer(lane, frame, item->number, refused < 0 ? SK_INTERNAL : refused, buffer_slice(&lane->result));
        return SK_OK;
    }
    struct entry entry = {.name = name_of(lane, frame, item), .atomic = atomic, .body = item->body};
    if (answer_repeat(lane, shard, frame, item, &entry.name, effects.time_us) != SK_NOT_FOUND) return SK_OK;
    if (item->id.size > 0 && dedup_id_count(shard->dedup) >= lane->options.ids_max) {
        answer_text(lane, frame, item->number, SK_OVERLOADED, "the shard remembers as many ids as it may");
        return SK_OK;
    }
    if (err == SK_OK) err = append(lane, shard, &effects, &entry, frame, item->number);
    switch (err) {
    case SK_OK:
        lane->disk_full = false;
        return SK_OK;
    case SK_BUSY:
        return SK_BUSY;
    case SK_ENOSPC:
    case SK_DISKFULL:
        lane->disk_full = true;
        answer(lane, frame, item->number, SK_DISKFULL, slice_of(NULL, 0));
        return SK_OK;
    case SK_TOOLARGE:
        answer_text(lane, frame, item->number, SK_TOOLARGE, "the write does not fit in a segment of the log");
        return SK_OK;
    default:
        answer_text(lane, frame, item->number, SK_UNAVAILABLE, "the disk of this shard has failed");
        return SK_OK;
    }
}

static void take_read(struct lane *lane, struct shard *shard, struct frame *frame,
                      const struct request_item *item) {
    struct replica_event event = {.type = REPLICA_READ, .boot_us = lane->now_us};
    struct replica_effects effects;
    replica_step(&shard->replica, &event, &effects);
    if (effects.refused != SK_OK) {
        answer(lane, frame, item->number, effects.refused, slice_of(NULL, 0));
        return;
    }
    if (!frontend_has_room(frame->link)) {
        answer(lane, frame, item->number, SK_BUSY, slice_of(NULL, 0));
        return;
    }
    buffer_clear(&lane->result, 1u << 20);
    int err = exec_read(&shard->exec, item->body, effects.time_us, &lane->result);
    lane->reads++;
    if (err < 0 || lane->result.failed) {
        log_read_fault(lane, shard, err);
        answer(lane, frame, item->number, SK_INTERNAL, slice_of(NULL, 0));
    } else if (lane->result.size > RESULT_BYTES_MAX) {
        answer_text(lane, frame, item->number, SK_TOOLARGE, "the answer is larger than a message may be");
    } else if (!try_answer(lane, frame, item->number, err, buffer_slice(&lane->result))) {
        answer(lane, frame, item->number, SK_BUSY, slice_of(NULL, 0)); /* what has been read is forgotten */
    }
}

/* A read that must see the writes of its shard before it: at once if all are executed, else behind the last. */
static void take_read_after(struct lane *lane, struct shard *shard, struct frame *frame,
                            const struct request_item *item) {
    struct pending *last = shard->tail;
    if (last == NULL || lane->failed) { /* after a failure nothing behind the last is executed any more */
        take_read(lane, shard, frame, item);
        return;
    }
    struct after_read *read = malloc(sizeof *read);
    if (read == NULL) {
        answer(lane, frame, item->number, SK_BUSY, slice_of(NULL, 0));
        return;
    }
    *read = (struct after_read){.frame = frame_ref(frame), .item = *item};
    if (last->reads == NULL) {
        last->reads = read;
    } else {
        last->last_read->next = read;
    }
    last->last_read = read;
}

static void put_waiting(struct lane *lane, struct frame *frame, const struct request_item *item) {
    struct waiting *waiting = lane->waiting_count < WAITING_MAX ? malloc(sizeof *waiting) : NULL;
    if (waiting == NULL) {
        answer(lane, frame, item->number, SK_BUSY, slice_of(NULL, 0));
        return;
    }
    *waiting = (struct waiting){
        .frame = frame_ref(frame), .item = *item, .deadline_us = lane->now_us + (uint64_t)item->timeout_ms * 1000};
    if (lane->waiting_tail == NULL) {
        lane->waiting_head = waiting;
    } else {
        lane->waiting_tail->next = waiting;
    }
    lane->waiting_tail = waiting;
    lane->waiting_count++;
}

/* What keeps its place among the writes of its shard. SK_BUSY: it has to wait; nothing was answered. */
static int take_ordered(struct lane *lane, struct shard *shard, struct frame *frame,
                        const struct request_item *item) {
    if ((item->flags & REQUEST_WRITE) != 0) return take_write(lane, shard, frame, item);
    take_read_after(lane, shard, frame, item);
    return SK_OK;
}

static void take_item(struct lane *lane, struct frame *frame, const struct request_item *item) {
    struct shard *shard = shard_table_find(&lane->shards, item->shard);
    if (shard == NULL || lane->stopping) {
        answer(lane, frame, item->number, SK_NOT_LEADER, slice_of(NULL, 0));
    } else if ((item->flags & (REQUEST_WRITE | REQUEST_AFTER)) == 0) {
        take_read(lane, shard, frame, item);
    } else if (lane->waiting_head != NULL || take_ordered(lane, shard, frame, item) == SK_BUSY) {
        put_waiting(lane, frame, item);
    }
}

/* Writes that waited, oldest first, until one has to wait on. */
static void retry_waiting(struct lane *lane) {
    while (lane->waiting_head != NULL) {
        struct waiting *waiting = lane->waiting_head;
        struct shard *shard = shard_table_find(&lane->shards, waiting->item.shard);
        sk_assert(shard != NULL);
        if (lane->now_us >= waiting->deadline_us || lane->stopping) {
            answer(lane, waiting->frame, waiting->item.number, SK_BUSY, slice_of(NULL, 0));
        } else if (take_ordered(lane, shard, waiting->frame, &waiting->item) == SK_BUSY) {
            return;
        }
        lane->waiting_count--;
        lane->waiting_head = waiting->next;
        if (lane->waiting_head == NULL) lane->waiting_tail = NULL;
        frame_unref(waiting->frame);
        free(waiting);
    }
}

static void on_frame(struct lane *lane, struct lane_mail *mail) {
    mail->mail.next = NULL;
    if (lane->frames_tail == NULL) {
        lane->frames_head = mail;
        lane->frame_rest = mail->frame->items;
    } else {
        lane->frames_tail->mail.next = &mail->mail;
    }
    lane->frames_tail = mail;
}

/* The frame at the head has been taken whole. */
static void drop_frame(struct lane *lane) {
    struct lane_mail *mail = lane->frames_head;
    lane->frames_head = (struct lane_mail *)mail->mail.next;
    if (lane->frames_head == NULL) {
        lane->frames_tail = NULL;
    } else {
        lane->frame_rest = lane->frames_head->frame->items;
    }
    frame_unref(mail->frame);
    free(mail);
}

/* Takes commands out of the frames that have come, for at most TAKE_US: a frame may hold ten thousand, and what is durable
 * should not wait for all of them. */
static void take_commands(struct lane *lane) {
    struct request_item item;
    for (uint32_t taken = 0; lane->frames_head != NULL; taken++) {
        if (taken % 32 == 31 && clock_boottime_us() - lane->now_us > TAKE_US) return;
        struct frame *frame = lane->frames_head->frame;
        if (frame_read_request(&lane->frame_rest, &item) != SK_OK) {
            drop_frame(lane);
        } else if (shard_table_owns(&lane->shards, item.shard)) {
            take_item(lane, frame, &item);
        }
    }
}

/* ---- membership ---- */

/* A stay of a shard on this node begins: a record in the log, and a shard without state. */
static int start_stay(struct lane *lane, uint32_t id, uint32_t shard_count, uint64_t replica_id) {
    struct kv *kv;
    struct shard *shard;
    wal_position position;
    struct wal_entry start = {.shard = id,
                              .type = WAL_START,
                              .replica_id = replica_id,
                              .payload = slice_of(&shard_count, sizeof shard_count)};
    int err = wal_append(lane->wal, &start, &position);
    if (err != SK_OK) return err;
    err = store_shard(lane->store, id, &kv);
    if (err == SK_OK) {
        err = shard_new(&shard, id, shard_count, kv, replica_id, (uint64_t)lane->options.grace_ms * 1000);
    }
    if (err != SK_OK) die(lane, NULL, err, "new_shard");
    shard->changed = true;
    if (shard_table_add(&lane->shards, shard) != SK_OK) die(lane, shard, SK_ENOMEM, "new_shard");
    return SK_OK;
}

/* False: the entry that opens the epoch could not be appended now. */
static bool configure(struct lane *lane, struct shard *shard, const struct map_shard *config) {
    struct replica_event event = {
        .type = REPLICA_CONFIG, .boot_us = lane->now_us, .wall_us = clock_realtime_us(), .config = config};
    struct replica_effects effects;
    replica_identify(&shard->replica, lane->node, lane->incarnation);
    replica_step(&shard->replica, &event, &effects);
    if (effects.refused != SK_OK) {
        log_event(LOG_ERROR, "config_refused", "shard=%u reason=%s epoch=%llu last_epoch=%llu", shard->id,
                  error_name(effects.refused), (unsigned long long)config->leader_epoch,
                  (unsigned long long)shard->replica.last_epoch);
        return true; /* until there is another map */
    }
    if (effects.became_leader || effects.stepped_down) {
        log_event(LOG_DEBUG, "role", "shard=%u role=%s epoch=%llu index=%llu", shard->id,
                  replica_role_name(shard->replica.role), (unsigned long long)shard->replica.leader_epoch,
                  (unsigned long long)shard->replica.last_index);
    }
    return effects.append == REPLICA_ENTRY_NONE || append(lane, shard, &effects, NULL, NULL, 0) == SK_OK;
}

/* Brings every shard of the lane to what the map says. What could not be appended now is tried again at each tick. */
static void apply_map(struct lane *lane) {
    const struct map *map = lane->map;
    bool whole = true;
    lane->map_applied = false;
    if (map == NULL || lane->node == 0 || lane->failed || map->shard_count == 0) return;
    if (shard_table_reserve(&lane->shards, map->shard_count) != SK_OK) return;
    for (uint32_t id = lane->options.number; id < map->shard_count; id += lane->options.lane_count) {
        const struct map_replica *replica = map_find_replica(&map->shards[id], lane->node);
        struct shard *shard = shard_table_find(&lane->shards, id);
        if (replica == NULL && shard == NULL) continue;
        /* R30: a replica in the middle of an install takes no part before its content is whole again. */
        if (shard == NULL && store_shard_is_partial(lane->store, id)) continue;
        if (shard == NULL && start_stay(lane, id, map->shard_count, replica->replica_id) != SK_OK) return;
        whole = configure(lane, shard_table_find(&lane->shards, id), &map->shards[id]) && whole;
    }
    lane->map_applied = whole;
}

static void on_map(struct lane *lane, struct map *map) {
    if (lane->map != NULL && map->version <= lane->map->version) {
        map_unref(map);
        return;
    }
    map_unref(lane->map);
    lane->map = map;
    apply_map(lane);
}

/* ---- checkpoints ---- */

/* The log is needed from the oldest entry that is not executed. */
static wal_position oldest_needed(const struct lane *lane) {
    wal_position oldest = wal_end(lane->wal);
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        if (shard != NULL && shard->head != NULL && shard->head->position < oldest) oldest = shard->head->position;
    }
    return oldest;
}

static void start_checkpoint(struct lane *lane) {
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        struct shard *shard = lane->shards.slots[i];
        if (shard == NULL || !shard->changed) continue;
        int err = shard_save(shard, wal_synced(lane->wal));
        if (err != SK_OK) die(lane, shard, err, "save_shard");
    }
    lane->checkpoint_keep = oldest_needed(lane);
    lane->checkpoint_us = lane->now_us;
    int err = store_checkpoint_start(lane->store);
    if (err != SK_OK) die(lane, NULL, err, "checkpoint_start");
}

/* A failed sync of the log is final (R23), one of a checkpoint is not: the log is kept until a checkpoint is whole, and
 * trying again writes all its pages anew before it syncs. */
static void on_checkpointed(struct lane *lane) {
    lane->checkpointed = false;
    int err = lane->checkpoint_err = store_checkpoint_complete(lane->store);
    if (err == SK_OK) {
        wal_release(lane->wal, lane->checkpoint_keep);
        lane->disk_full = false;
        log_event(LOG_DEBUG, "checkpoint_done", "lane=%u took_ms=%llu store_bytes=%llu", lane->options.number,
                  (unsigned long long)((lane->now_us - lane->checkpoint_us) / 1000),
                  (unsigned long long)store_disk_bytes(lane->store));
        return;
    }
    char quoted[FAULT_QUOTED_BYTES];
    log_event(LOG_WARNING, "checkpoint_failed", "lane=%u error=%s what=%s", lane->options.number, error_name(err),
              log_quote(store_fault_text(lane->store), quoted, sizeof quoted));
    if (err == SK_ECORRUPT) die(lane, NULL, err, "checkpoint");
    lane->retry_us = lane->now_us + RETRY_US;
}

static void maybe_checkpoint(struct lane *lane) {
    if (store_checkpoint_running(lane->store)) return;
    if (store_checkpoint_failed(lane->store)) {
        if (lane->now_us < lane->retry_us) return;
        int err = store_checkpoint_retry(lane->store);
        if (err != SK_OK) die(lane, NULL, err, "checkpoint_retry");
        return;
    }
    uint64_t age_us = lane->now_us - lane->checkpoint_us;
    bool old = age_us >= lane->options.checkpoint_interval_ms * 1000 && store_memtable_bytes(lane->store) > 0;
    if (store_memtable_full(lane->store) || old) start_checkpoint(lane);
}

/* ---- ticks ---- */

static void sweep(struct lane *lane, struct shard *shard) {
    uint64_t deadline_us = UINT64_MAX;
    if (shard->sweep_pending || shard->replica.role != REPLICA_LEADER) return;
    int err = exec_next_deadline(&shard->exec, &deadline_us);
    if (err != SK_OK) die(lane, shard, err, "next_deadline");
    uint64_t ids_us = dedup_next_expiry_us(shard->dedup);
    if (ids_us < deadline_us) deadline_us = ids_us;

    struct replica_event event = {.type = REPLICA_SWEEP, .boot_us = lane->now_us};
    struct replica_effects effects;
    replica_step(&shard->replica, &event, &effects);
    if (effects.refused != SK_OK || deadline_us > effects.time_us) return;
    if (write_gate(lane) == SK_OK && append(lane, shard, &effects, NULL, NULL, 0) == SK_OK)
        shard->sweep_pending = true;
}

static void publish_stats(struct lane *lane) {
    struct lane_stats stats = {.reads = lane->reads,
                               .writes = lane->writes,
                               .syncs = lane->syncs,
                               .log_bytes = wal_disk_bytes(lane->wal),
                               .store_bytes = store_disk_bytes(lane->store),
                               .memtable_bytes = store_memtable_bytes(lane->store),
                               .disk_full = lane->disk_full,
                               .failed = lane->failed};
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        stats.shards++;
        stats.leading += shard->replica.role == REPLICA_LEADER;
        stats.keys += shard->exec.counters.keys;
        stats.expires += shard->exec.counters.expires;
        stats.key_bytes += shard->exec.counters.key_bytes;
        stats.value_bytes += shard->exec.counters.value_bytes;
        stats.ids += dedup_id_count(shard->dedup);
    }
    pthread_mutex_lock(&lane->stats_lock);
    lane->stats = stats;
    pthread_mutex_unlock(&lane->stats_lock);
}

static void tick(struct lane *lane) {
    if (!lane->map_applied) apply_map(lane);
    for (uint32_t i = 0; i < lane->shards.slot_count && !lane->failed; i++) {
        if (lane->shards.slots[i] != NULL) sweep(lane, lane->shards.slots[i]);
    }
    publish_stats(lane);
    if (lane->options.number == 0) frontend_tick(lane->options.frontend);
    lane->next_tick_us = lane->now_us + TICK_US;
}

/* ---- the thread ---- */

static void on_mail(struct lane *lane, struct lane_mail *mail) {
    switch (mail->kind) {
    case MAIL_FRAME:
        on_frame(lane, mail);
        return;
    case MAIL_IDENTIFY:
        lane->node = mail->node;
        lane->incarnation = mail->incarnation;
        free(mail);
        apply_map(lane);
        return;
    case MAIL_MAP:
        on_map(lane, mail->map);
        free(mail);
        return;
    case MAIL_SYNCED:
        on_synced(lane);
        return;
    case MAIL_CHECKPOINTED:
        lane->checkpointed = true;
        return;
    case MAIL_STOP:
        lane->stopping = true;
        return;
    }
}

/* Executes what is committed, takes what has come, writes and answers: what gathers in a step shares one write of the log
 * and one frame of answers. Each part is bounded, so that no step is long. */
static void step(struct lane *lane, struct mail *mail) {
    lane->now_us = clock_boottime_us();
    int err = store_step_begin(lane->store);
    if (err != SK_OK) die(lane, NULL, err, "step_begin");
    while (mail != NULL) {
        struct mail *next = mail->next;
        on_mail(lane, (struct lane_mail *)mail);
        mail = next;
    }
    if (lane->more_to_execute) execute_some(lane);
    maybe_checkpoint(lane);
    retry_waiting(lane);
    take_commands(lane);
    if (lane->now_us >= lane->next_tick_us) tick(lane);
    wal_flush(lane->wal);
    outbox_flush(&lane->outbox);
    store_step_end(lane->store);
    if (lane->checkpointed) on_checkpointed(lane);
}

/* Nothing is on its way any more. */
static bool idle(const struct lane *lane) {
    return lane->log_head == NULL && lane->waiting_head == NULL && lane->frames_head == NULL &&
           !lane->more_to_execute && !store_checkpoint_running(lane->store);
}

static void *lane_main(void *arg) {
    struct lane *lane = arg;
    while (!lane->stopping || !idle(lane)) {
        bool busy = lane->more_to_execute || lane->frames_head != NULL;
        uint64_t deadline_us = busy ? 0 : lane->next_tick_us;
        step(lane, mailbox_take(lane->mailbox, deadline_us));
    }
    return NULL;
}

static void synced_cb(void *arg, int err) {
    struct lane *lane = arg;
    if (err != SK_OK) atomic_store(&lane->sync_err, err);
    if (!atomic_exchange(&lane->sync_posted, true)) mailbox_post_always(lane->mailbox, &lane->synced_mail.mail);
}

static void checkpointed_cb(void *arg, int err) {
    struct lane *lane = arg;
    (void)err; /* store_checkpoint_complete tells */
    mailbox_post_always(lane->mailbox, &lane->checkpointed_mail.mail);
}

/* ---- opening ---- */

/* The lane's own folder, which store and log make theirs in. Its name must be on disk before anything in it counts. */
static int make_directory(const char *path, char *text, size_t text_bytes) {
    if (mkdir(path, 0777) == 0) {
        char parent[PATH_MAX];
        snprintf(parent, sizeof parent, "%s/..", path);
        int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool synced = fd >= 0 && fsync(fd) == 0;
        if (fd >= 0) close(fd);
        if (synced) return SK_OK;
    } else if (errno == EEXIST) {
        return SK_OK;
    }
    int err = error_from_errno(errno);
    snprintf(text, text_bytes, "%s: %s", path, strerror(errno));
    return err;
}

static int open_store(struct lane *lane, struct replay *replay, char *text, size_t text_bytes) {
    int made = make_directory(lane->options.directory, text, text_bytes);
    if (made != SK_OK) return made;
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s/store", lane->options.directory);
    struct store_options options = {.directory = directory,
                                    .map_bytes = MAP_BYTES,
                                    .memtable_bytes = lane->options.memtable_bytes,
                                    .txn_bytes = CHECKPOINT_TXN_BYTES,
                                    .checkpointed_cb = checkpointed_cb,
                                    .arg = lane};
    int err = store_open(&lane->store, &options, text, text_bytes);
    if (err != SK_OK) return err;
    replay->store = lane->store;
    err = store_step_begin(lane->store);
    if (err == SK_OK) {
        err = replay_load_shards(replay);
        store_step_end(lane->store);
    }
    if (err != SK_OK && store_fault_text(lane->store)[0] != 0) {
        snprintf(text, text_bytes, "%s", store_fault_text(lane->store));
    } else if (err != SK_OK) {
        snprintf(text, text_bytes, "%s: a shard's record cannot be read: %s", directory, error_text(err));
    }
    return err;
}

static int open_log(struct lane *lane, struct replay *replay, char *text, size_t text_bytes) {
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s/log", lane->options.directory);
    struct wal_options options = {.directory = directory,
                                  .segment_bytes = lane->options.segment_bytes,
                                  .group_bytes_max = GROUP_BYTES_MAX,
                                  .sync_interval_ms = lane->options.sync_interval_ms,
                                  .synced_cb = synced_cb,
                                  .arg = lane};
    struct wal_report report;
    uint64_t begin_us = clock_boottime_us();
    int err = store_step_begin(lane->store);
    if (err != SK_OK) return err;
    err = wal_open(&lane->wal, &options, replay->synced, replay_entry_cb, replay, &report);
    store_step_end(lane->store);
    if (err != SK_OK && store_fault_text(lane->store)[0] != 0) { /* replaying met what is wrong in the store */
        snprintf(text, text_bytes, "%s", store_fault_text(lane->store));
        return err;
    }
    if (err != SK_OK) {
        snprintf(text, text_bytes, "%s: %s%s%s (offset %llu)", directory, error_text(err),
                 report.damaged_file[0] ? ": " : "", report.damaged_file,
                 (unsigned long long)report.damaged_offset);
        return err;
    }
    lane->durable = wal_end(lane->wal);
    log_event(LOG_INFO, "log_replayed", "lane=%u entries=%llu bytes=%llu torn_bytes=%llu took_ms=%llu",
              lane->options.number, (unsigned long long)report.entries, (unsigned long long)report.bytes,
              (unsigned long long)report.torn_bytes,
              (unsigned long long)((clock_boottime_us() - begin_us) / 1000));
    return SK_OK;
}

static void lane_free(struct lane *lane) {
    if (lane->wal != NULL) wal_close(lane->wal);
    shard_table_deinit(&lane->shards);
    if (lane->store != NULL) store_close(lane->store);
    outbox_deinit(&lane->outbox);
    buffer_deinit(&lane->payload);
    buffer_deinit(&lane->result);
    map_unref(lane->map);
    struct mail *mail = mailbox_take(lane->mailbox, 0);
    while (mail != NULL) { /* came after the thread had ended */
        struct lane_mail *late = (struct lane_mail *)mail;
        mail = mail->next;
        if (late == &lane->synced_mail || late == &lane->checkpointed_mail || late == &lane->stop_mail) continue;
        frame_unref(late->frame);
        map_unref(late->map);
        free(late);
    }
    mailbox_free(lane->mailbox);
    pthread_mutex_destroy(&lane->stats_lock);
    free(lane);
}

int lane_open(struct lane **made, const struct lane_options *options, char *text, size_t text_bytes) {
    struct lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL) return SK_ENOMEM;
    lane->options = *options;
    lane->synced_mail.kind = MAIL_SYNCED;
    lane->checkpointed_mail.kind = MAIL_CHECKPOINTED;
    lane->stop_mail.kind = MAIL_STOP;
    lane->shards = (struct shard_table){.lane = options->number, .lane_count = options->lane_count};
    lane->now_us = lane->checkpoint_us = clock_boottime_us();
    int err = mailbox_new(&lane->mailbox, MAILBOX_CAPACITY);
    if (err != SK_OK) {
        free(lane);
        return err;
    }
    pthread_mutex_init(&lane->stats_lock, NULL);
    struct replay replay = {.table = &lane->shards, .grace_us = (uint64_t)options->grace_ms * 1000};
    err = open_store(lane, &replay, text, text_bytes);
    if (err == SK_OK) err = open_log(lane, &replay, text, text_bytes);
    replay_deinit(&replay);
    if (err == SK_OK && pthread_create(&lane->thread, NULL, lane_main, lane) != 0) {
        snprintf(text, text_bytes, "cannot start a thread");
        err = SK_ENOMEM;
    }
    if (err != SK_OK) {
        lane_free(lane);
        return err;
    }
    *made = lane;
    return SK_OK;
}

/* ---- from other threads ---- */

static int post(struct lane *lane, struct lane_mail content, bool always) {
    struct lane_mail *mail = malloc(sizeof *mail);
    if (mail == NULL) return SK_ENOMEM;
    *mail = content;
    if (always) {
        mailbox_post_always(lane->mailbox, &mail->mail);
        return SK_OK;
    }
    int err = mailbox_post(lane->mailbox, &mail->mail);
    if (err != SK_OK) free(mail);
    return err;
}

int lane_identify(struct lane *lane, uint32_t node, uint64_t incarnation) {
    return post(lane, (struct lane_mail){.kind = MAIL_IDENTIFY, .node = node, .incarnation = incarnation}, true);
}

int lane_set_map(struct lane *lane, const struct map *map) {
    struct map *held = map_ref(map);
    int err = post(lane, (struct lane_mail){.kind = MAIL_MAP, .map = held}, true);
    if (err != SK_OK) map_unref(held);
    return err;
}

int lane_post_frame(struct lane *lane, struct frame *frame) {
    int err = post(lane, (struct lane_mail){.kind = MAIL_FRAME, .frame = frame}, false);
    if (err != SK_OK) frame_unref(frame);
    return err;
}

void lane_stats(struct lane *lane, struct lane_stats *stats) {
    pthread_mutex_lock(&lane->stats_lock);
    *stats = lane->stats;
    pthread_mutex_unlock(&lane->stats_lock);
}

void lane_close(struct lane *lane) {
    if (lane == NULL) return;
    mailbox_post_always(lane->mailbox, &lane->stop_mail.mail);
    pthread_join(lane->thread, NULL);
    lane_free(lane);
}
