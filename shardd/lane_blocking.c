/* Blocking commands on the shard's leader: they wait (blocking.h) until an executed entry has put something where they look, and
 * go into the log then, so that what they take they take in its order as any write. What may be in the log under a name is
 * answered by what came of it and by nothing else; so who is told that it got nothing has surely taken nothing.
 *
 * A gateway cannot say that its client has gone. So nobody waits longer than a slice (WAIT_SLICE_MS); the gateway asks again
 * under another name as long as its client is there. */
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/lane_internal.h"

#define UNEXECUTED_US 5000u /* until it is looked again whether what is in the log has been executed */

static const uint8_t nil[] = {0xc0};

static void drop_waiter(struct lane *lane, struct waiter *waiter) {
    struct frame *frame = waiter->frame;
    struct blocking_shard *at = waiter->at;
    blocking_remove(lane->blocking, waiter);
    frame_unref(frame);
    struct shard *shard = at->waiters == NULL ? shard_table_find(&lane->shards, at->shard) : NULL;
    if (shard != NULL) shard->exec.stored_cb = NULL; /* nobody listens */
}

/* Out of what waits, with its answer, unless it has one. */
static void answer_waiter(struct lane *lane, struct waiter *waiter, int err) {
    if (!waiter->has_ended) lane_answer(lane, waiter->frame, waiter->item.number, err, slice_of(NULL, 0));
    drop_waiter(lane, waiter);
}

/* Its time is over. That there was nothing is read here, so the lease must hold (R14); else the next leader is asked. The gateway
 * may ask again, unless that was all the time its client had. */
static void end_waiter(struct lane *lane, struct shard *shard, struct waiter *waiter) {
    struct replica_event event = {.type = REPLICA_READ};
    int refused = waiter->has_ended ? SK_OK : lane_drive(lane, shard, &event)->refused;
    if (waiter->has_ended || refused != SK_OK) {
        answer_waiter(lane, waiter, refused);
        return;
    }
    if (shard->replica.applied_index < waiter->behind) {
        blocking_move_deadline(lane->blocking, waiter, lane->now_us + UNEXECUTED_US);
        return;
    }
    uint64_t time_us = replica_time_us(&shard->replica, lane->now_us);
    struct entry_name name = lane_name_of(lane, waiter->frame, &waiter->item);
    if (lane_answer_repeat(lane, shard, waiter->frame, &waiter->item, &name, time_us) != SK_NOT_FOUND) {
        drop_waiter(lane, waiter);
        return;
    }
    lane_answer(lane, waiter->frame, waiter->item.number, SK_OK, slice_of(nil, sizeof nil));
    blocking_end(lane->blocking, waiter, lane->now_us);
    if (waiter->item.timeout_ms < WAIT_SLICE_MS) drop_waiter(lane, waiter);
}

/* ---- coming ---- */

static uint64_t deadline_of(const struct lane *lane, const struct request_item *item) {
    uint32_t wait_ms = item->timeout_ms < WAIT_SLICE_MS ? item->timeout_ms : WAIT_SLICE_MS;
    return lane->now_us + (uint64_t)wait_ms * 1000;
}

/* The same request once more, by another connection perhaps: it is answered there. */
static void take_again(struct lane *lane, struct waiter *waiter, struct frame *frame,
                       const struct request_item *item) {
    struct frame *stub = frame_stub(frame);
    if (stub == NULL) return; /* as if it had been lost */
    frame_unref(waiter->frame);
    waiter->frame = stub;
    blocking_move_deadline(lane->blocking, waiter, deadline_of(lane, item));
}

/* What of a request is decided before its keys are looked at. False: it was answered. */
static bool is_to_be_taken(struct lane *lane, struct shard *shard, struct frame *frame,
                           const struct request_item *item) {
    struct replica_event event = {.type = REPLICA_WRITE};
    int refused = lane_drive(lane, shard, &event)->refused;
    struct slice text = slice_of(NULL, 0);
    if (refused == SK_OK) {
        buffer_clear(&lane->result, 1u << 20);
        refused = exec_check(&shard->exec, item->body, false, true, &lane->result);
        text = buffer_slice(&lane->result);
    }
    if (refused == SK_OK) return true;
    lane_answer(lane, frame, item->number, refused < 0 ? SK_INTERNAL : refused, text);
    return false;
}

/* What is to become of a request. SK_RETRY: it is parked, since nothing is there in what has been executed and nothing can be in
 * what has not, or since others are before it. SK_OK: the log has to say. SK_DONE: it was answered. `request` gets what it
 * waits for. */
static int look(struct lane *lane, struct shard *shard, struct frame *frame, struct blocking_request *request) {
    const struct request_item *item = request->item;
    struct replica_event event = {.type = REPLICA_READ};
    const struct replica_effects *effects = lane_drive(lane, shard, &event);
    bool may_read = effects->refused == SK_OK;
    uint64_t time_us = may_read ? effects->time_us : replica_time_us(&shard->replica, lane->now_us);
    struct entry_name name = lane_name_of(lane, frame, item);
    if (may_read && lane_answer_repeat(lane, shard, frame, item, &name, time_us) != SK_NOT_FOUND) return SK_DONE;
    struct exec_awaited awaited;
    buffer_clear(&lane->result, 1u << 20);
    int err = exec_awaits(&shard->exec, item->body, time_us, &lane->result, &awaited);
    if (err < 0) lane_log_read_fault(lane, shard, err); /* executing the entry meets it, too, and says more */
    request->type = awaited.type;
    request->keys = awaited.keys;
    request->key_count = awaited.key_count;
    if (err == SK_RETRY && may_read && shard_last_pending(shard) == NULL) return SK_RETRY;
    bool takes = err == SK_OK || err == SK_RETRY;
    return takes && blocking_has_elders(&shard->waiting, request) ? SK_RETRY : SK_OK;
}

/* NULL: it was answered why not. */
static struct waiter *add_waiter(struct lane *lane, struct shard *shard, struct frame *frame,
                                 const struct blocking_request *request) {
    struct waiter *waiter = NULL;
    struct frame *stub = frame_stub(frame);
    if (stub == NULL || blocking_add(&shard->waiting, request, stub, &waiter) != SK_OK) {
        frame_unref(stub);
        lane_answer(lane, frame, request->item->number, SK_BUSY, slice_of(NULL, 0));
        return NULL;
    }
    shard->exec.stored_cb = blocking_stored_cb;
    shard->exec.stored_arg = &shard->waiting;
    waiter->behind = shard->replica.last_index;
    return waiter;
}

/* Somebody new. As lane_take_blocking. */
static int take_new(struct lane *lane, struct shard *shard, struct frame *frame, const struct request_item *item) {
    struct blocking_request request = {
        .item = item,
        .session = frame->header.session,
        .since_us = lane->now_us > item->waited_us ? lane->now_us - item->waited_us : 0,
        .deadline_us = deadline_of(lane, item),
    };
    shard->waiting.blocking = lane->blocking;
    shard->waiting.shard = shard->id;
    int err = look(lane, shard, frame, &request);
    if (err == SK_DONE) return SK_OK;
    request.in_log = err == SK_OK;
    struct waiter *waiter = add_waiter(lane, shard, frame, &request);
    if (waiter == NULL || !request.in_log) return SK_OK;
    enum lane_taken taken = lane_take_write(lane, shard, frame, item, waiter);
    if (taken != LANE_APPENDED) drop_waiter(lane, waiter);
    return taken == LANE_BUSY ? SK_BUSY : SK_OK;
}

int lane_take_blocking(struct lane *lane, struct shard *shard, struct frame *frame,
                       const struct request_item *item) {
    uint64_t session = frame->header.session;
    struct waiter *waiter = blocking_find(lane->blocking, session, item->number);
    if (waiter != NULL && !waiter->has_ended) {
        take_again(lane, waiter, frame, item);
        return SK_OK;
    }
    if (blocking_has_ended(lane->blocking, session, item->number)) {
        lane_answer(lane, frame, item->number, SK_OK, slice_of(nil, sizeof nil));
        return SK_OK;
    }
    return is_to_be_taken(lane, shard, frame, item) ? take_new(lane, shard, frame, item) : SK_OK;
}

/* ---- going on ---- */

void lane_blocking_executed(struct lane *lane, struct shard *shard, const struct pending *pending, int err,
                            struct slice body) {
    struct waiter *waiter = pending->waiter;
    bool may_wait = err == SK_RETRY && replica_may_answer(&shard->replica, pending->epoch);
    if (may_wait && lane->stopping) {
        answer_waiter(lane, waiter, SK_NOT_LEADER);
    } else if (may_wait) { /* if its time is over, that is seen at the next step */
        blocking_park(waiter);
    } else {
        lane_answer_write(lane, shard, pending->epoch, waiter->frame, waiter->item.number, err, body);
        drop_waiter(lane, waiter);
    }
}

static struct shard *shard_of(const struct lane *lane, const struct blocking_shard *at) {
    struct shard *shard = shard_table_find(&lane->shards, at->shard);
    sk_assert(shard != NULL && &shard->waiting == at);
    return shard;
}

/* Whether as many are in the log for the key as it has elements, or as may be. */
static bool is_served(struct lane *lane, struct shard *shard, const struct blocking_ready *ready) {
    uint64_t count;
    uint64_t time_us = replica_time_us(&shard->replica, lane->now_us);
    int err = exec_count_elements(&shard->exec, ready->key, ready->type, time_us, &count);
    if (err != SK_OK) lane_log_read_fault(lane, shard, err);
    return err != SK_OK || ready->in_log >= count || ready->in_log >= BLOCKING_IN_LOG_MAX;
}

/* Puts the first that is parked at the first ready key into the log. False: not now. */
static bool wake(struct lane *lane, struct shard *shard, struct waiter *waiter) {
    if (!lane_has_room(lane, shard)) return false;
    switch (lane_take_write(lane, shard, waiter->frame, &waiter->item, waiter)) {
    case LANE_APPENDED:
        blocking_wake(lane->blocking, waiter);
        return true;
    case LANE_ANSWERED:
        drop_waiter(lane, waiter);
        return true;
    default:
        return false;
    }
}

static void serve_ready(struct lane *lane) {
    struct blocking_ready ready;
    lane->blocking_stalled = false;
    while (!lane->blocking_stalled && blocking_first_ready(lane->blocking, &ready)) {
        struct shard *shard = shard_of(lane, ready.at);
        struct waiter *waiter = blocking_first_parked(lane->blocking);
        if (waiter == NULL || is_served(lane, shard, &ready)) blocking_served(lane->blocking);
        else lane->blocking_stalled = !wake(lane, shard, waiter);
    }
}

void lane_serve_blocking(struct lane *lane) {
    serve_ready(lane);
    struct waiter *waiter;
    while ((waiter = blocking_next_late(lane->blocking, lane->now_us)) != NULL) {
        end_waiter(lane, shard_of(lane, waiter->at), waiter);
    }
}

bool lane_has_to_serve(const struct lane *lane) {
    struct blocking_ready ready;
    return !lane->blocking_stalled && blocking_first_ready(lane->blocking, &ready);
}

/* ---- ending ---- */

void lane_lose_waiter(struct lane *lane, struct waiter *waiter) { answer_waiter(lane, waiter, SK_LOST); }

void lane_release_parked(struct lane *lane, struct shard *shard) {
    struct waiter *waiter;
    while ((waiter = blocking_next_parked(&shard->waiting)) != NULL) {
        answer_waiter(lane, waiter, SK_NOT_LEADER);
    }
}

void lane_end_blocking(struct lane *lane) {
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        if (lane->shards.slots[i] != NULL) lane_release_parked(lane, lane->shards.slots[i]);
    }
}
