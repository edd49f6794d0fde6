#include "shardd/snapshot_stream.h"

#include "libcommon/check.h"

#define TELL_BYTES (SNAPSHOT_WINDOW_BYTES / 8) /* written and not told: an answer is due */

_Static_assert(TELL_BYTES + SNAPSHOT_PIECE_BYTES < SNAPSHOT_WINDOW_BYTES,
               "a sender must not wait for the last of it");

static bool is_same(const struct snapshot_transfer *a, const struct snapshot_transfer *b) {
    return a->shard == b->shard && a->replica_id == b->replica_id && a->epoch == b->epoch &&
           a->number == b->number;
}

static bool is_later(const struct snapshot_transfer *a, const struct snapshot_transfer *b) {
    return a->epoch != b->epoch ? a->epoch > b->epoch : a->number > b->number;
}

/* ---- the leader's side ---- */

void snapshot_sender_init(struct snapshot_sender *sender, const struct snapshot_begin *begin,
                          const struct snapshot_times *times, uint64_t now_us) {
    sk_assert(begin->total_bytes > 0);
    *sender = (struct snapshot_sender){
        .begin = *begin, .times = *times, .begin_due = true, .heard_us = now_us, .asked_us = now_us};
}

enum snapshot_send snapshot_sender_next(struct snapshot_sender *sender, size_t room, uint64_t now_us,
                                        struct snapshot_extent *extent) {
    if (sender->state != SNAPSHOT_SENDING || room == 0) return SNAPSHOT_SEND_NOTHING;
    if (sender->begin_due) {
        sender->begin_due = false;
        sender->from_awaited = true;
        sender->asked_us = now_us;
        return SNAPSHOT_SEND_BEGIN;
    }
    if (sender->from_awaited) return SNAPSHOT_SEND_NOTHING;
    uint64_t left = sender->begin.total_bytes - sender->next;
    uint64_t bytes = left < SNAPSHOT_PIECE_BYTES ? left : SNAPSHOT_PIECE_BYTES;
    if (bytes == 0 || sender->next + bytes - sender->taken > SNAPSHOT_WINDOW_BYTES) return SNAPSHOT_SEND_NOTHING;
    *extent = (struct snapshot_extent){.offset = sender->next, .bytes = (uint32_t)bytes};
    sender->next += bytes;
    return SNAPSHOT_SEND_PIECE;
}

void snapshot_sender_on_taken(struct snapshot_sender *sender, const struct snapshot_taken *taken,
                              uint64_t now_us) {
    if (sender->state == SNAPSHOT_FAILED || !is_same(&taken->transfer, &sender->begin.transfer)) return;
    if (taken->answer == SNAPSHOT_REFUSED) {
        sender->state = SNAPSHOT_FAILED;
        return;
    }
    uint64_t total = sender->begin.total_bytes;
    if (sender->state == SNAPSHOT_SENT || taken->written > total || taken->from > total) return;
    sender->heard_us = sender->asked_us = now_us;
    if (taken->answer == SNAPSHOT_DONE) sender->state = SNAPSHOT_SENT;
    if (taken->written > sender->taken) sender->taken = taken->written;
    if (taken->answer == SNAPSHOT_FROM && taken->from >= sender->taken) {
        sender->next = taken->from; /* maybe beyond `next`: what counted as lost at a reconnection had arrived */
        sender->from_awaited = false;
    }
    if (sender->next < sender->taken) sender->next = sender->taken;
}

void snapshot_sender_on_reconnect(struct snapshot_sender *sender) {
    sender->begin_due = true;
    sender->next = sender->taken;
}

void snapshot_sender_tick(struct snapshot_sender *sender, uint64_t now_us) {
    if (sender->state != SNAPSHOT_SENDING) return;
    if (now_us >= sender->heard_us + sender->times.give_up_us) {
        sender->state = SNAPSHOT_FAILED;
    } else if (now_us >= sender->asked_us + sender->times.retry_us) {
        sender->begin_due = true;
    }
}

/* ---- the follower's side ---- */

void snapshot_receiver_init(struct snapshot_receiver *receiver, const struct snapshot_times *times) {
    *receiver = (struct snapshot_receiver){.times = *times};
}

bool snapshot_receiver_on_begin(struct snapshot_receiver *receiver, const struct snapshot_begin *begin,
                                uint64_t now_us) {
    const struct snapshot_transfer *transfer = &begin->transfer;
    bool first = receiver->state == SNAPSHOT_IDLE;
    bool same = !first && is_same(transfer, &receiver->begin.transfer);
    if (!first && !same && !is_later(transfer, &receiver->begin.transfer)) return false;
    if (!same) {
        *receiver =
            (struct snapshot_receiver){.begin = *begin, .times = receiver->times, .state = SNAPSHOT_RECEIVING};
    }
    receiver->heard_us = now_us;
    if (receiver->state == SNAPSHOT_RECEIVING) {
        receiver->from_due = true;
    } else {
        receiver->end_due = true;
    }
    return !same;
}

/* Told once, and again only if that does not help. */
static void note_gap(struct snapshot_receiver *receiver, uint64_t now_us) {
    bool told = receiver->from_us != 0 && receiver->from_at == receiver->accepted;
    if (!told || now_us >= receiver->from_us + receiver->times.retry_us) receiver->from_due = true;
}

bool snapshot_receiver_on_piece(struct snapshot_receiver *receiver, const struct snapshot_piece *piece,
                                uint64_t now_us) {
    if (receiver->state != SNAPSHOT_RECEIVING) return false;
    if (!is_same(&piece->transfer, &receiver->begin.transfer)) return false;
    receiver->heard_us = now_us;
    if (piece->offset > receiver->accepted) note_gap(receiver, now_us);
    if (piece->offset != receiver->accepted) return false;
    if (piece->bytes.size > receiver->begin.total_bytes - receiver->accepted) {
        snapshot_receiver_refuse(receiver); /* not what was begun */
        return false;
    }
    receiver->accepted += piece->bytes.size;
    return true;
}

bool snapshot_receiver_written(struct snapshot_receiver *receiver, uint64_t bytes) {
    if (receiver->state != SNAPSHOT_RECEIVING) return false;
    sk_assert(bytes <= receiver->accepted - receiver->written);
    receiver->written += bytes;
    if (receiver->written < receiver->begin.total_bytes) return false;
    receiver->state = SNAPSHOT_COMPLETE;
    receiver->end_due = true;
    return true;
}

void snapshot_receiver_refuse(struct snapshot_receiver *receiver) {
    if (receiver->state == SNAPSHOT_IDLE) return;
    receiver->state = SNAPSHOT_ENDED;
    receiver->end_due = true;
}

bool snapshot_receiver_answer(struct snapshot_receiver *receiver, uint64_t now_us, struct snapshot_taken *taken) {
    *taken = (struct snapshot_taken){.transfer = receiver->begin.transfer, .written = receiver->written};
    if (receiver->end_due) {
        taken->answer = receiver->state == SNAPSHOT_COMPLETE ? SNAPSHOT_DONE : SNAPSHOT_REFUSED;
        receiver->end_due = false;
        return true;
    }
    if (receiver->state != SNAPSHOT_RECEIVING) return false;
    if (receiver->from_due) {
        taken->answer = SNAPSHOT_FROM;
        taken->from = receiver->from_at = receiver->accepted;
        receiver->from_us = now_us;
        receiver->told = receiver->written;
        receiver->from_due = false;
        return true;
    }
    if (receiver->written - receiver->told < TELL_BYTES) return false;
    taken->answer = SNAPSHOT_GOES_ON;
    receiver->told = receiver->written;
    return true;
}

bool snapshot_receiver_tick(struct snapshot_receiver *receiver, uint64_t now_us) {
    if (receiver->state != SNAPSHOT_RECEIVING || receiver->times.give_up_us == 0) return false;
    if (now_us < receiver->heard_us + receiver->times.give_up_us) return false;
    snapshot_receiver_refuse(receiver);
    return true;
}
