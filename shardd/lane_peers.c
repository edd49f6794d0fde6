/* Between the cores of a lane and those of its peers: messages that come are fed to them, those that they send are
 * gathered, and entries are added from memory or the log. */
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "shardd/lane_internal.h"

#include <stdlib.h>

#define TAKE_US           2000u               /* taking what peers have sent, in one step */
#define APPENDS_MAX       8u                  /* to one follower of one shard in a step */
#define PENDING_BYTES_MAX (64u * 1024 * 1024) /* of entries; beyond, what peers send waits for execution */

/* ---- sending ---- */

/* The entry at `index` as it lies in the log. Valid until the next call. */
static int find_entry(struct lane *lane, struct shard *shard, uint64_t index, struct wal_entry *entry) {
    const struct pending *pending = shard_find_pending(shard, index);
    if (pending != NULL) {
        *entry = (struct wal_entry){.shard = shard->id,
                                    .type = pending->type,
                                    .epoch = pending->epoch,
                                    .index = pending->index,
                                    .time_us = pending->time_us,
                                    .payload = slice_of(pending->payload, pending->payload_bytes)};
        return SK_OK;
    }
    wal_position position;
    int err = log_index_find(&shard->log, index, &position);
    if (err == SK_OK) err = wal_read(lane->wal, position, entry);
    if (err == SK_ECORRUPT || err == SK_EIO) lane_die(lane, shard, err, "read_log");
    if (err == SK_OK) sk_assert(entry->shard == shard->id && entry->index == index);
    return err;
}

/* One APPEND with what fits in it; the index of its last entry, or prev_index if there was none to be had. */
static uint64_t send_append(struct lane *lane, struct shard *shard, const struct replica_message *message) {
    struct wal_entry entry;
    peer_outbox_begin_append(&lane->peer_outbox, message);
    for (uint64_t index = message->prev_index + 1; index <= shard->replica.last_index; index++) {
        if (find_entry(lane, shard, index, &entry) != SK_OK) break;
        if (!peer_outbox_add_entry(&lane->peer_outbox, &entry)) break;
    }
    return message->prev_index + peer_outbox_end_append(&lane->peer_outbox);
}

/* What the core asks for, as far as the peer has room and a step has time. The rest goes in later steps. */
static void send_entries(struct lane *lane, struct shard *shard, const struct replica_message *first) {
    struct replica_message message = *first;
    bool more = true;
    for (uint32_t i = 0; i < APPENDS_MAX && more; i++) {
        more = peer_outbox_room(&lane->peer_outbox, message.to) > 0;
        uint64_t last = more ? send_append(lane, shard, &message) : message.prev_index;
        more = more && last > message.prev_index && last < shard->replica.last_index;
        message.prev_index = last;
        message.prev_epoch = epochs_at(&shard->replica.epochs, last);
    }
    if (message.prev_index == first->prev_index) return;
    struct replica_event event = {.type = REPLICA_SENT, .peer = message.to, .index = message.prev_index};
    lane_step_inner(lane, shard, &event);
    lane->more_to_send = lane->more_to_send || more;
}

void lane_send(struct lane *lane, struct shard *shard, const struct replica_effects *effects) {
    for (uint32_t i = 0; i < effects->send_count; i++) {
        const struct replica_send *send = &effects->sends[i];
        if (send->with_entries) {
            send_entries(lane, shard, &send->message);
        } else {
            peer_outbox_add_message(&lane->peer_outbox, &send->message);
        }
    }
}

/* ---- receiving ---- */

static void log_refused_entry(const struct lane *lane, const struct wal_entry *entry, int err) {
    log_event(LOG_ERROR, "entry_refused", "shard=%u node=%u index=%llu epoch=%llu type=%u reason=%s",
              lane->item->shard, lane->item->is.message.from, (unsigned long long)entry->index,
              (unsigned long long)entry->epoch, entry->type, error_name(err));
}

/* SK_OK: the entries are in the log's buffer, or are refused for good. Else some must wait: the same message fed again
 * goes on where this stopped. */
int lane_take_entries(struct lane *lane, struct shard *shard, uint32_t skip, uint32_t count) {
    struct peer_entries entries = peer_entries_of(lane->item);
    struct wal_entry entry;
    uint64_t last_epoch = shard->replica.last_epoch;
    uint32_t taken = 0;
    while (taken < skip + count && peer_entries_next(&entries, &entry) == SK_OK) {
        if (taken++ < skip) continue;
        if (!wal_type_is_replicated(entry.type) || entry.epoch < last_epoch ||
            entry.epoch > lane->item->is.message.epoch) {
            log_refused_entry(lane, &entry, SK_EPROTO);
            return SK_OK;
        }
        entry.shard = shard->id;
        entry.replica_id = shard->replica.replica_id;
        last_epoch = entry.epoch;
        int err = lane_append_entry(lane, shard, &entry, NULL, 0);
        if (err == SK_EPROTO || err == SK_TOOLARGE) { /* never: those behind it must not wait for that */
            log_refused_entry(lane, &entry, err);
            return SK_OK;
        }
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

/* SK_OK, or why the item must wait. */
static int take_message(struct lane *lane, const struct peer_item *item) {
    struct shard *shard = shard_table_find(&lane->shards, item->shard);
    if (shard == NULL || lane->failed) return SK_OK;
    lane->item = item;
    lane->take_err = SK_OK;
    struct replica_event event = {.type = REPLICA_MESSAGE, .message = &item->is.message};
    (void)lane_drive(lane, shard, &event);
    lane_mark_dirty(lane, shard);
    lane->item = NULL;
    return lane->take_err;
}

static int take_item(struct lane *lane, const struct peer_item *item, uint32_t from) {
    if (!shard_table_owns(&lane->shards, item->shard)) return SK_OK;
    switch (item->kind) {
    case PEER_MESSAGE:
        return take_message(lane, item);
    case PEER_SNAPSHOT_BEGIN:
    case PEER_SNAPSHOT_PIECE:
    case PEER_SNAPSHOT_TAKEN:
        lane_on_snapshot_item(lane, item, from);
        return SK_OK;
    case PEER_VERIFY_QUESTION:
    case PEER_VERIFY_REPLY:
        lane_on_verify_item(lane, item, from);
        return SK_OK;
    case PEER_CHUNK:
        break; /* nobody behind peers sees one */
    }
    return SK_OK;
}

void lane_on_peer_frame(struct lane *lane, struct lane_mail *mail) {
    struct peer_item item;
    struct slice urgent = mail->peer_frame->urgent;
    while (peer_wire_read_item(&mail->peer_frame->header, &urgent, &item) == SK_OK)
        (void)take_item(lane, &item, mail->peer_frame->header.from);
    if (mail->peer_frame->bulk.size == 0) {
        peer_frame_unref(mail->peer_frame);
        free(mail);
        return;
    }
    mail->mail.next = NULL;
    if (lane->peer_tail == NULL) {
        lane->peer_head = mail;
        lane->peer_rest = mail->peer_frame->bulk;
    } else {
        lane->peer_tail->mail.next = &mail->mail;
    }
    lane->peer_tail = mail;
}

void lane_drop_peer_frame(struct lane *lane) {
    struct lane_mail *mail = lane->peer_head;
    lane->peer_head = (struct lane_mail *)mail->mail.next;
    if (lane->peer_head == NULL) {
        lane->peer_tail = NULL;
    } else {
        lane->peer_rest = lane->peer_head->peer_frame->bulk;
    }
    peer_frame_unref(mail->peer_frame);
    free(mail);
}

/* Bulk items, oldest first. One that has to wait holds up those behind it, of all peers: they want the same log. What is not
 * committed makes nobody wait, for its leader may wait for just these items: leaders bound what they have of that. */
void lane_take_peer_items(struct lane *lane) {
    lane->peer_waits = false;
    for (uint32_t taken = 0; lane->peer_head != NULL; taken++) {
        if (taken % 8 == 7 && clock_boottime_us() - lane->now_us > TAKE_US) return;
        struct slice rest = lane->peer_rest;
        struct peer_item item;
        if (peer_wire_read_item(&lane->peer_head->peer_frame->header, &rest, &item) != SK_OK) {
            lane_drop_peer_frame(lane);
            continue;
        }
        bool full = lane->pending_bytes > PENDING_BYTES_MAX && lane_waits_to_execute(lane);
        if (full || take_item(lane, &item, lane->peer_head->peer_frame->header.from) != SK_OK) {
            lane->peer_waits = true;
            return;
        }
        lane->peer_rest = rest;
    }
}

/* ---- connections ---- */

void lane_on_peer(struct lane *lane, uint32_t node, bool up) {
    if (node > MAP_NODES_MAX) return;
    lane->peer_down[node] = !up;
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        struct shard *shard = lane->shards.slots[i];
        if (shard == NULL) continue;
        struct replica_event event = {.type = up ? REPLICA_PEER_UP : REPLICA_PEER_DOWN, .peer = node};
        (void)lane_drive(lane, shard, &event);
        lane_mark_dirty(lane, shard);
    }
    if (up) {
        lane_on_snapshot_peer_up(lane, node);
    } else {
        lane->next_tick_us =
            lane->now_us; /* writes wait for who is gone: it leaves the in-sync set in this step */
    }
}

/* A shard that was made, or got another record, after a connection broke. */
void lane_tell_peers_down(struct lane *lane, struct shard *shard) {
    for (uint32_t i = 0; i < shard->replica.config.replica_count; i++) {
        uint32_t node = shard->replica.config.replicas[i].node;
        if (node > MAP_NODES_MAX || !lane->peer_down[node]) continue;
        struct replica_event event = {.type = REPLICA_PEER_DOWN, .peer = node};
        lane_step_inner(lane, shard, &event);
    }
}
