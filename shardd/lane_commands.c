/* What gateways ask: writes go to the log, reads are executed, and each is answered or waits. */
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "shardd/lane_internal.h"

#include <stdlib.h>

#define TAKE_US          2000u /* taking commands in one step */
#define WAITING_MAX      100000u /* commands that wait for the log or a checkpoint, or behind entries; beyond: BUSY */
#define RESULT_BYTES_MAX (MESSAGE_BYTES_MAX - 1024u)

/* What a leader has of entries that are not executed, since followers are slow or metad is silent; beyond: BUSY. */
#define SHARD_BYTES_MAX   (32u * 1024 * 1024)
#define SHARD_ENTRIES_MAX 65536u
#define LANE_BYTES_MAX    (256u * 1024 * 1024)

/* ---- answers ---- */

/* False: the gateway has too much to take; something smaller may still be said. */
static bool try_answer(struct lane *lane, struct frame *frame, uint64_t number, int err, struct slice body) {
    struct answer_item item = {
        .number = number, .map_version = lane->map == NULL ? 0 : lane->map->version, .err = err, .body = body};
    return outbox_add(&lane->outbox, frame, &item);
}

void lane_answer(struct lane *lane, struct frame *frame, uint64_t number, int err, struct slice body) {
    (void)try_answer(lane, frame, number, err, body);
}

static void answer_text(struct lane *lane, struct frame *frame, uint64_t number, int err, const char *text) {
    lane_answer(lane, frame, number, err, slice_of_text(text));
}

/* ---- results ---- */

void lane_answer_write(struct lane *lane, const struct shard *shard, uint64_t epoch, struct frame *frame,
                       uint64_t number, int err, struct slice body) {
    lane->writes++;
    if (!replica_may_answer(&shard->replica, epoch)) { /* R8 */
        lane_answer(lane, frame, number, SK_LOST, slice_of(NULL, 0));
    } else if (body.size > RESULT_BYTES_MAX) {
        answer_text(lane, frame, number, SK_DONE, "the write happened; its result is too large");
    } else if (!try_answer(lane, frame, number, err, body)) {
        lane_answer(lane, frame, number, err == SK_OK ? SK_DONE : err, slice_of(NULL, 0));
    }
}

static void take_read_behind(struct lane *lane, struct shard *shard, const struct pending *pending,
                             const struct after_read *read);

void lane_executed_cb(void *arg, struct shard *shard, const struct pending *pending, int err, struct slice body) {
    struct lane *lane = arg;
    lane->pending_bytes -= pending->payload_bytes;
    if (pending->type == WAL_VERIFY) lane_on_marker_executed(lane, shard, pending);
    if (pending->waiter != NULL) lane_blocking_executed(lane, shard, pending, err, body);
    if (pending->frame != NULL) {
        lane_answer_write(lane, shard, pending->epoch, pending->frame, pending->number, err, body);
        lane_observe_write(lane, pending);
    }
    for (const struct after_read *read = pending->reads; read != NULL; read = read->next) {
        take_read_behind(lane, shard, pending, read);
        lane->after_reads--;
    }
}

void lane_release_waiter(struct lane *lane, struct pending *pending) {
    for (const struct after_read *read = pending->reads; read != NULL; read = read->next) {
        lane_answer(lane, read->frame, read->item.number, SK_NOT_LEADER, slice_of(NULL, 0));
        lane->after_reads--;
    }
    pending_free_reads(pending);
    if (pending->waiter != NULL) lane_lose_waiter(lane, pending->waiter);
    pending->waiter = NULL;
    if (pending->frame == NULL) return;
    lane_answer(lane, pending->frame, pending->number, SK_LOST, slice_of(NULL, 0));
    frame_unref(pending->frame);
    pending->frame = NULL;
}

void lane_release_waiters(struct lane *lane, struct shard *shard, uint64_t index) {
    for (uint64_t at = index + 1; at <= shard->replica.last_index; at++) {
        struct pending *pending = shard_find_pending(shard, at);
        if (pending != NULL) lane_release_waiter(lane, pending);
    }
    lane_release_parked(lane, shard);
}

/* ---- commands ---- */

/* Why a write may not be appended now. SK_OK, SK_BUSY (wait), SK_DISKFULL, or what the checkpoint has met. */
int lane_write_gate(struct lane *lane) {
    if (!store_memtable_full(lane->store)) return SK_OK;
    if (store_checkpoint_failed(lane->store)) {
        return lane->checkpoint_err == SK_ENOSPC ? SK_DISKFULL : lane->checkpoint_err;
    }
    return store_checkpoint_running(lane->store) ? SK_BUSY : SK_OK;
}

/* Not 0, which says that nothing is drawn. */
static uint64_t draw(struct lane *lane) {
    uint64_t drawn = chance_next(&lane->chance);
    return drawn != 0 ? drawn : 1;
}

struct entry_name lane_name_of(const struct lane *lane, const struct frame *frame,
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

int lane_answer_repeat(struct lane *lane, struct shard *shard, struct frame *frame,
                       const struct request_item *item, const struct entry_name *name, uint64_t time_us) {
    struct dedup_result earlier;
    int err = dedup_find(shard->dedup, name, time_us, &earlier);
    if (err == SK_OK) { /* that it was executed is read here, so the lease must hold (R5, R14) */
        struct replica_event event = {.type = REPLICA_READ};
        const struct replica_effects *effects = lane_drive(lane, shard, &event);
        if (effects->refused != SK_OK) {
            lane_answer(lane, frame, item->number, effects->refused, slice_of(NULL, 0));
            return SK_OK;
        }
        lane_answer(lane, frame, item->number, earlier.err, earlier.body);
    } else if (err == SK_FORGOTTEN) {
        lane_answer(lane, frame, item->number, err, slice_of(NULL, 0));
    } else if (err != SK_NOT_FOUND) {
        lane_log_read_fault(lane, shard, err);
        lane_answer(lane, frame, item->number, SK_INTERNAL, slice_of(NULL, 0));
    }
    return err;
}

/* Something is to be sent again. What comes behind it in its frame is refused as well, or it would overtake it: the commands of
 * a pipeline keep their order. */
static void refuse(struct lane *lane, struct shard *shard, struct frame *frame, uint64_t number, int err) {
    bool is_being_taken = lane->frames_head != NULL && lane->frames_head->frame == frame;
    if (is_being_taken) {
        shard->refused_turn = lane->frame_turn;
        shard->refused_err = err;
    }
    lane_answer(lane, frame, number, err, slice_of(NULL, 0));
}

bool lane_has_room(const struct lane *lane, const struct shard *shard) {
    return shard->payload_bytes <= SHARD_BYTES_MAX && shard->pending.count < SHARD_ENTRIES_MAX &&
           lane->pending_bytes <= LANE_BYTES_MAX;
}

enum lane_taken lane_take_write(struct lane *lane, struct shard *shard, struct frame *frame,
                                const struct request_item *item, struct waiter *waiter) {
    struct replica_event event = {.type = REPLICA_WRITE};
    const struct replica_effects *effects = lane_drive(lane, shard, &event);
    if (effects->refused != SK_OK) {
        refuse(lane, shard, frame, item->number, effects->refused);
        return LANE_ANSWERED;
    }
    uint64_t epoch = effects->epoch, index = effects->index, time_us = effects->time_us;
    int err = lane_write_gate(lane);
    if (err == SK_BUSY) return LANE_BUSY;

    bool atomic = (item->flags & REQUEST_ATOMIC) != 0;
    buffer_clear(&lane->result, 1u << 20);
    int refused = exec_check(&shard->exec, item->body, atomic, true, &lane->result);
    if (refused != SK_OK) {
        lane_answer(lane, frame, item->number, refused < 0 ? SK_INTERNAL : refused, buffer_slice(&lane->result));
        return LANE_ANSWERED;
    }
    struct entry entry = {.name = lane_name_of(lane, frame, item),
                          .atomic = atomic,
                          .waits = (item->flags & REQUEST_WAITS) != 0,
                          .chance = exec_draws(&shard->exec) ? draw(lane) : 0,
                          .body = item->body};
    if (lane_answer_repeat(lane, shard, frame, item, &entry.name, time_us) != SK_NOT_FOUND) return LANE_ANSWERED;
    if (item->id.size > 0 && dedup_id_count(shard->dedup) >= lane->options.ids_max) {
        answer_text(lane, frame, item->number, SK_OVERLOADED, "the shard remembers as many ids as it may");
        return LANE_ANSWERED;
    }
    if (!lane_has_room(lane, shard)) { /* not in the order of the others: these may wait for long */
        refuse(lane, shard, frame, item->number, SK_BUSY);
        return LANE_ANSWERED;
    }
    if (err == SK_OK) {
        err = lane_append(lane, shard, REPLICA_ENTRY_COMMAND, epoch, index, time_us, &entry,
                          waiter == NULL ? frame : NULL, item->number);
    }
    switch (err) {
    case SK_OK:
        lane->disk_full = false;
        shard_last_pending(shard)->waiter = waiter;
        return LANE_APPENDED;
    case SK_BUSY:
        return LANE_BUSY;
    case SK_ENOSPC:
    case SK_DISKFULL:
        lane->disk_full = true;
        lane_answer(lane, frame, item->number, SK_DISKFULL, slice_of(NULL, 0));
        return LANE_ANSWERED;
    case SK_TOOLARGE:
        answer_text(lane, frame, item->number, SK_TOOLARGE, "the write does not fit in a segment of the log");
        return LANE_ANSWERED;
    default:
        answer_text(lane, frame, item->number, SK_UNAVAILABLE, "the disk of this shard has failed");
        return LANE_ANSWERED;
    }
}

static void execute_read(struct lane *lane, struct shard *shard, struct frame *frame,
                         const struct request_item *item, uint64_t time_us) {
    if (!frontend_has_room(frame->link)) {
        refuse(lane, shard, frame, item->number, SK_BUSY);
        return;
    }
    buffer_clear(&lane->result, 1u << 20);
    struct exec_moment moment = {.time_us = time_us, .chance = draw(lane)};
    int err = exec_read(&shard->exec, item->body, &moment, &lane->result);
    lane->taking_us = clock_boottime_us();
    lane_observe_read(lane, frame);
    lane->reads++;
    lane->follower_reads += !replica_leads(&shard->replica);
    if (err == SK_ECORRUPT) shard->verify.is_suspected = true; /* R24 */
    if (err < 0 || lane->result.failed) {
        lane_log_read_fault(lane, shard, err);
        lane_answer(lane, frame, item->number, SK_INTERNAL, slice_of(NULL, 0));
    } else if (lane->result.size > RESULT_BYTES_MAX) {
        answer_text(lane, frame, item->number, SK_TOOLARGE, "the answer is larger than a message may be");
    } else if (!try_answer(lane, frame, item->number, err, buffer_slice(&lane->result))) {
        refuse(lane, shard, frame, item->number, SK_BUSY); /* what has been read is forgotten */
    }
}

/* R14: judged by a time after the request had come; 0: now. */
static void take_read(struct lane *lane, struct shard *shard, struct frame *frame, const struct request_item *item,
                      uint64_t boot_us) {
    bool stale = (item->flags & REQUEST_STALE) != 0;
    struct replica_event event = {.type = stale ? REPLICA_READ_STALE : REPLICA_READ, .boot_us = boot_us};
    const struct replica_effects *effects = lane_drive(lane, shard, &event);
    if (effects->refused != SK_OK) {
        refuse(lane, shard, frame, item->number, effects->refused);
    } else {
        execute_read(lane, shard, frame, item, effects->time_us);
    }
}

/* A read whose entry has been executed, and nothing behind that. Where the entry was appended for the read's own frame, it was
 * committed after the read had come, in an epoch in which nobody else led at that moment: the read takes place then, and
 * needs no lease to be linearizable. So it is not refused for the want of one, and sent again, when what comes behind it is in the
 * log already. The time is the highest that this leader has shown: an older one could bring back what has expired (R26). */
static void take_read_behind(struct lane *lane, struct shard *shard, const struct pending *pending,
                             const struct after_read *read) {
    bool at_commit = read->of_its_frame && replica_may_answer(&shard->replica, pending->epoch); /* R8 */
    if (at_commit) {
        execute_read(lane, shard, read->frame, &read->item, shard->replica.last_time_us);
    } else {
        take_read(lane, shard, read->frame, &read->item, 0);
    }
}

/* A read that must see the writes of its shard before it: at once if all are executed, else behind the last. Where nobody
 * leads, what is behind the last may never be executed. */
static void take_read_after(struct lane *lane, struct shard *shard, struct frame *frame,
                            const struct request_item *item) {
    struct pending *last = shard_last_pending(shard);
    bool full = !lane_has_room(lane, shard);
    if ((last == NULL && !full) || !replica_leads(&shard->replica)) {
        take_read(lane, shard, frame, item, 0);
        return;
    }
    if (full) { /* as the write before it, which it would overtake */
        refuse(lane, shard, frame, item->number, SK_BUSY);
        return;
    }
    struct after_read *read = lane->after_reads < WAITING_MAX ? malloc(sizeof *read) : NULL;
    if (read == NULL) {
        refuse(lane, shard, frame, item->number, SK_BUSY);
        return;
    }
    *read = (struct after_read){.frame = frame_ref(frame), .item = *item, .of_its_frame = last->frame == frame};
    if (last->reads == NULL) {
        last->reads = read;
    } else {
        last->last_read->next = read;
    }
    last->last_read = read;
    lane->after_reads++;
}

static void put_waiting(struct lane *lane, struct shard *shard, struct frame *frame,
                        const struct request_item *item) {
    struct waiting *waiting = lane->waiting_count < WAITING_MAX ? malloc(sizeof *waiting) : NULL;
    if (waiting == NULL) {
        refuse(lane, shard, frame, item->number, SK_BUSY);
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
    if ((item->flags & REQUEST_WAITS) != 0) return lane_take_blocking(lane, shard, frame, item);
    if ((item->flags & REQUEST_WRITE) != 0) {
        return lane_take_write(lane, shard, frame, item, NULL) == LANE_BUSY ? SK_BUSY : SK_OK;
    }
    take_read_after(lane, shard, frame, item);
    return SK_OK;
}

static void take_item(struct lane *lane, struct frame *frame, const struct request_item *item) {
    struct shard *shard = shard_table_find(&lane->shards, item->shard);
    if (shard == NULL || lane->stopping) {
        lane_answer(lane, frame, item->number, SK_NOT_LEADER, slice_of(NULL, 0));
    } else if (shard->refused_turn == lane->frame_turn) {
        lane_answer(lane, frame, item->number, shard->refused_err, slice_of(NULL, 0));
    } else if ((item->flags & (REQUEST_WRITE | REQUEST_AFTER)) == 0) {
        take_read(lane, shard, frame, item, lane->taking_us);
    } else if (lane->waiting_head != NULL || take_ordered(lane, shard, frame, item) == SK_BUSY) {
        put_waiting(lane, shard, frame, item);
    }
}

/* Writes that waited, oldest first, until one has to wait on. */
void lane_retry_waiting(struct lane *lane) {
    while (lane->waiting_head != NULL) {
        struct waiting *waiting = lane->waiting_head;
        struct shard *shard = shard_table_find(&lane->shards, waiting->item.shard);
        if (shard == NULL) {
            lane_answer(lane, waiting->frame, waiting->item.number, SK_NOT_LEADER, slice_of(NULL, 0));
        } else if (lane->now_us >= waiting->deadline_us || lane->stopping) {
            lane_answer(lane, waiting->frame, waiting->item.number, SK_BUSY, slice_of(NULL, 0));
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

void lane_on_frame(struct lane *lane, struct lane_mail *mail) {
    lane_tick_soon(lane);
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
    lane->frame_turn++;
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
void lane_take_commands(struct lane *lane) {
    struct request_item item;
    if (lane->frames_head != NULL) lane->taking_us = clock_boottime_us();
    for (uint32_t taken = 0; lane->frames_head != NULL; taken++) {
        if (taken % 32 == 31) lane->taking_us = clock_boottime_us();
        if (lane->taking_us - lane->now_us > TAKE_US) return;
        struct frame *frame = lane->frames_head->frame;
        if (frame_read_request(&lane->frame_rest, &item) != SK_OK) {
            drop_frame(lane);
        } else if (shard_table_owns(&lane->shards, item.shard)) {
            take_item(lane, frame, &item);
        }
    }
}
