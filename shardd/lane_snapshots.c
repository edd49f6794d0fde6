/* Snapshots of a lane's shards (docs/replication.md, R30): one at a time goes out, from the store into a file and to the
 * follower; one at a time comes in, into a file and from there into the store. What has to wait asks again by itself. */
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "shardd/lane_internal.h"
#include "shardd/snapshot_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECES_MAX 8u       /* sent in one step */
#define RETRY_US   1000000u /* an install that met a full disk is tried again */

static const struct snapshot_times times = {.retry_us = 500000, .give_up_us = 10000000};

static void path_of(const struct lane *lane, const char *name, char *path, size_t path_bytes) {
    snprintf(path, path_bytes, "%s/%s", lane->options.directory, name);
}

static void log_snapshot(const char *event, uint32_t shard, uint32_t node, uint64_t index, int err) {
    log_event(err == SK_OK ? LOG_INFO : LOG_WARNING, event, "shard=%u node=%u index=%llu error=%s", shard, node,
              (unsigned long long)index, err == SK_OK ? "none" : error_name(err));
}

/* ---- going out ---- */

static const struct progress *find_progress(const struct lane *lane, uint32_t id, uint32_t node) {
    const struct shard *shard = shard_table_find(&lane->shards, id);
    if (shard == NULL || !replica_leads(&shard->replica)) return NULL;
    for (uint32_t i = 0; i < shard->replica.config.replica_count; i++) {
        if (shard->replica.config.replicas[i].node == node) return &shard->replica.progress[i];
    }
    return NULL;
}

static void end_out(struct lane *lane) {
    struct snapshot_out *out = &lane->out;
    char path[LANE_PATH_BYTES];
    if (out->fd >= 0) close(out->fd);
    path_of(lane, "snapshot-out", path, sizeof path);
    (void)unlink(path);
    out->fd = -1;
    out->state = OUT_NONE;
}

static void fail_out(struct lane *lane, int err) {
    struct shard *shard = shard_table_find(&lane->shards, lane->out.shard);
    log_snapshot("snapshot_not_sent", lane->out.shard, lane->out.node, lane->out.index, err);
    uint32_t node = lane->out.node;
    end_out(lane);
    if (shard == NULL) return;
    struct replica_event event = {.type = REPLICA_SNAPSHOT_FAILED, .peer = node};
    lane_step_inner(lane, shard, &event);
}

void lane_want_snapshot(struct lane *lane, struct shard *shard, uint32_t node) {
    struct snapshot_out *out = &lane->out;
    char path[LANE_PATH_BYTES];
    if (out->state != OUT_NONE || lane->map == NULL) return;
    path_of(lane, "snapshot-out", path, sizeof path);
    int err = store_snapshot_start(lane->store, shard->id, lane->map->cluster, path);
    if (err == SK_BUSY || err == SK_NOT_FOUND) return;
    if (err != SK_OK) {
        log_snapshot("snapshot_not_made", shard->id, node, 0, err);
        return;
    }
    out->state = OUT_EXPORTING;
    out->shard = shard->id;
    out->node = node;
    out->index = 0;
}

void lane_on_exported(struct lane *lane) {
    struct snapshot_out *out = &lane->out;
    struct store_snapshot snapshot;
    struct epochs epochs;
    uint64_t time_us;
    char path[LANE_PATH_BYTES];
    lane->exported = false;
    int err = store_snapshot_complete(lane->store, &snapshot);
    const struct progress *progress = find_progress(lane, out->shard, out->node);
    const struct shard *shard = shard_table_find(&lane->shards, out->shard);
    if (err == SK_OK && progress == NULL) err = SK_NOT_LEADER;
    if (err == SK_OK) err = shard_read_record(snapshot.record, &out->index, &time_us, &epochs);
    path_of(lane, "snapshot-out", path, sizeof path);
    if (err == SK_OK) {
        out->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (out->fd < 0) err = SK_EIO;
    }
    if (err != SK_OK) {
        fail_out(lane, err);
        return;
    }
    struct snapshot_begin begin = {.transfer = {.shard = out->shard,
                                                .replica_id = progress->replica_id,
                                                .epoch = shard->replica.config.leader_epoch,
                                                .number = ++lane->transfers},
                                   .total_bytes = snapshot.bytes,
                                   .applied_index = out->index,
                                   .applied_epoch = epochs_at(&epochs, out->index)};
    snapshot_sender_init(&out->sender, &begin, &times, lane->now_us);
    out->state = OUT_SENDING;
    log_snapshot("snapshot_begins", out->shard, out->node, out->index, SK_OK);
}

static bool send_piece(struct lane *lane, const struct snapshot_extent *extent) {
    struct snapshot_out *out = &lane->out;
    ssize_t got = pread(out->fd, out->piece, extent->bytes, (off_t)extent->offset);
    if (got != (ssize_t)extent->bytes) return false;
    struct snapshot_piece piece = {.transfer = out->sender.begin.transfer,
                                   .offset = extent->offset,
                                   .bytes = slice_of(out->piece, extent->bytes)};
    peer_outbox_add_piece(&lane->peer_outbox, out->node, &piece);
    return true;
}

static void send_out(struct lane *lane) {
    struct snapshot_out *out = &lane->out;
    const struct progress *progress = find_progress(lane, out->shard, out->node);
    bool wanted = progress != NULL && progress->state == PROGRESS_SNAPSHOT;
    if (!wanted) { /* installed, or another leader's business */
        end_out(lane);
        return;
    }
    for (uint32_t i = 0; i < PIECES_MAX; i++) {
        struct snapshot_extent extent;
        size_t room = peer_outbox_room(&lane->peer_outbox, out->node);
        enum snapshot_send what = snapshot_sender_next(&out->sender, room, lane->now_us, &extent);
        if (what == SNAPSHOT_SEND_NOTHING) break;
        if (what == SNAPSHOT_SEND_BEGIN) {
            peer_outbox_add_begin(&lane->peer_outbox, out->node, &out->sender.begin);
        } else if (!send_piece(lane, &extent)) {
            fail_out(lane, SK_EIO);
            return;
        }
    }
    if (out->sender.state == SNAPSHOT_FAILED) fail_out(lane, SK_ETIMEDOUT);
}

/* ---- coming in ---- */

static void end_in(struct lane *lane) {
    struct snapshot_in *in = &lane->in;
    char path[LANE_PATH_BYTES];
    if (in->fd >= 0) close(in->fd);
    path_of(lane, "snapshot-in", path, sizeof path);
    (void)unlink(path);
    in->fd = -1;
    in->state = IN_NONE;
}

static void refuse_in(struct lane *lane, int err) {
    struct snapshot_in *in = &lane->in;
    log_snapshot("snapshot_not_installed", in->shard, in->node, in->receiver.begin.applied_index, err);
    snapshot_receiver_refuse(&in->receiver);
    end_in(lane);
}

static void on_begin(struct lane *lane, const struct snapshot_begin *begin, uint32_t from) {
    struct snapshot_in *in = &lane->in;
    const struct shard *shard = shard_table_find(&lane->shards, begin->transfer.shard);
    bool other = in->state != IN_NONE && in->shard != begin->transfer.shard;
    bool ours = shard != NULL && shard->replica.replica_id == begin->transfer.replica_id &&
                shard->replica.opened_epoch == begin->transfer.epoch;
    if (other || !ours || in->state == IN_INSTALLING) return; /* it begins again until we answer */
    char path[LANE_PATH_BYTES];
    if (in->shard != begin->transfer.shard || in->receiver.times.give_up_us == 0)
        snapshot_receiver_init(&in->receiver, &times);
    in->shard = begin->transfer.shard;
    in->node = from;
    if (!snapshot_receiver_on_begin(&in->receiver, begin, lane->now_us)) return;
    if (in->fd >= 0) close(in->fd);
    path_of(lane, "snapshot-in", path, sizeof path);
    in->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    in->state = IN_RECEIVING;
    if (in->fd < 0) refuse_in(lane, SK_EIO);
}

/* From the file into the store: with our own replica's stay and log in the shard's record. */
static void install(struct lane *lane) {
    struct snapshot_in *in = &lane->in;
    struct shard *shard = shard_table_find(&lane->shards, in->shard);
    struct snapshot_id id = {.cluster = lane->map->cluster, .shard = in->shard};
    struct snapshot_reader *reader = NULL;
    struct buffer record;
    char path[LANE_PATH_BYTES], text[LANE_PATH_BYTES + 128];
    if (shard == NULL) {
        refuse_in(lane, SK_NOT_FOUND);
        return;
    }
    buffer_init(&record);
    path_of(lane, "snapshot-in", path, sizeof path);
    int err = snapshot_reader_open(&reader, path, &id, text, sizeof text);
    if (err == SK_OK) {
        err = shard_read_record(snapshot_reader_record(reader), &in->index, &in->time_us, &in->epochs);
    }
    bool waits = false;
    if (err == SK_OK && !shard->replica.installing) {
        struct replica_event event = {
            .type = REPLICA_INSTALL, .index = in->index, .epoch = in->receiver.begin.transfer.epoch};
        err = lane_drive(lane, shard, &event)->refused;
        waits = err == SK_BUSY;
    }
    if (err == SK_OK) {
        err = shard_adapt_record(shard, snapshot_reader_record(reader), wal_end(lane->wal), wal_synced(lane->wal),
                                 &record);
        if (err == SK_OK) {
            lane_drop_scrub(lane, shard);
            err = store_install_start(lane->store, in->shard, id.cluster, path, buffer_slice(&record));
        }
        if (err != SK_OK && store_shard_is_partial(lane->store, in->shard)) lane_die(lane, shard, err, "install");
        if (err != SK_OK) {
            struct replica_event event = {.type = REPLICA_INSTALL_FAILED};
            lane_step_inner(lane, shard, &event);
        }
    }
    snapshot_reader_close(reader);
    buffer_deinit(&record);
    if (waits) return; /* still complete: the next step tries again */
    if (err != SK_OK) {
        refuse_in(lane, err);
        return;
    }
    in->state = IN_INSTALLING;
    shard->changed = false; /* a checkpoint has nothing to save of it now */
}

void lane_on_installed(struct lane *lane) {
    struct snapshot_in *in = &lane->in;
    struct shard *shard = shard_table_find(&lane->shards, in->shard);
    lane->installed = false;
    sk_assert(in->state == IN_INSTALLING && shard != NULL);
    int err = store_install_complete(lane->store);
    if (err != SK_OK && store_shard_is_partial(lane->store, in->shard)) {
        if (err != SK_ENOSPC) lane_die(lane, shard, err, "install");
        in->state = IN_WAITING;
        in->retry_us = lane->now_us + RETRY_US;
        return;
    }
    if (err != SK_OK) {
        struct replica_event event = {.type = REPLICA_INSTALL_FAILED};
        lane_step_inner(lane, shard, &event);
        refuse_in(lane, err);
        return;
    }
    lane->pending_bytes -= shard->payload_bytes;
    err = store_step_begin(lane->store);
    if (err == SK_OK) err = shard_reload(shard);
    if (err != SK_OK) lane_die(lane, shard, err, "reload");
    store_step_end(lane->store);
    struct replica_event event = {
        .type = REPLICA_INSTALLED, .index = in->index, .time_us = in->time_us, .epochs = &in->epochs};
    lane_step_inner(lane, shard, &event);
    lane_mark_dirty(lane, shard);
    log_snapshot("snapshot_installed", in->shard, in->node, in->index, SK_OK);
    end_in(lane);
}

static void on_piece(struct lane *lane, const struct snapshot_piece *piece) {
    struct snapshot_in *in = &lane->in;
    if (in->state != IN_RECEIVING || in->shard != piece->transfer.shard) return;
    if (!snapshot_receiver_on_piece(&in->receiver, piece, lane->now_us)) return;
    ssize_t put = pwrite(in->fd, piece->bytes.data, piece->bytes.size, (off_t)piece->offset);
    if (put > 0) lane->snapshot_bytes += (uint64_t)put;
    if (put != (ssize_t)piece->bytes.size) {
        refuse_in(lane, SK_ENOSPC);
    } else if (snapshot_receiver_written(&in->receiver, piece->bytes.size)) {
        in->state = IN_COMPLETE;
    }
}

/* ---- both ---- */

void lane_on_snapshot_item(struct lane *lane, const struct peer_item *item, uint32_t from) {
    switch (item->kind) {
    case PEER_SNAPSHOT_BEGIN:
        on_begin(lane, &item->is.begin, from);
        return;
    case PEER_SNAPSHOT_PIECE:
        on_piece(lane, &item->is.piece);
        return;
    default:
        if (lane->out.state == OUT_SENDING) {
            snapshot_sender_on_taken(&lane->out.sender, &item->is.taken, lane->now_us);
        }
        return;
    }
}

void lane_on_snapshot_peer_up(struct lane *lane, uint32_t node) {
    if (lane->out.state == OUT_SENDING && lane->out.node == node) snapshot_sender_on_reconnect(&lane->out.sender);
}

void lane_send_snapshots(struct lane *lane) {
    struct snapshot_in *in = &lane->in;
    struct snapshot_taken taken;
    if (lane->out.state == OUT_SENDING) send_out(lane);
    if (in->state == IN_COMPLETE) install(lane);
    while (in->node != 0 && snapshot_receiver_answer(&in->receiver, lane->now_us, &taken)) {
        peer_outbox_add_taken(&lane->peer_outbox, in->node, &taken);
    }
}

void lane_tick_snapshots(struct lane *lane) {
    struct snapshot_in *in = &lane->in;
    if (lane->out.state == OUT_SENDING) snapshot_sender_tick(&lane->out.sender, lane->now_us);
    if (in->state == IN_RECEIVING && snapshot_receiver_tick(&in->receiver, lane->now_us)) {
        log_snapshot("snapshot_not_installed", in->shard, in->node, in->receiver.begin.applied_index,
                     SK_ETIMEDOUT);
        end_in(lane);
    }
    if (in->state == IN_WAITING && lane->now_us >= in->retry_us) in->state = IN_COMPLETE;
}

wal_position lane_snapshot_keeps(const struct lane *lane) {
    wal_position position;
    const struct shard *shard = shard_table_find(&lane->shards, lane->out.shard);
    if (lane->out.state == OUT_NONE || shard == NULL) return UINT64_MAX;
    if (lane->out.state == OUT_EXPORTING) return 0; /* from where is not known before it is made */
    return log_index_find(&shard->log, lane->out.index + 1, &position) == SK_OK ? position : UINT64_MAX;
}

void lane_open_snapshots(struct lane *lane) {
    lane->out.fd = lane->in.fd = -1;
    end_out(lane);
    end_in(lane);
}

void lane_close_snapshots(struct lane *lane) {
    end_out(lane);
    end_in(lane);
}
