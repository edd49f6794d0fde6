#include "shardd/lane.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/log.h"
#include "shardd/lane_internal.h"
#include "shardd/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TICK_US              20000u
#define QUIET_TICK_US        50000u /* half of what beacons are sent at */
#define MAILBOX_CAPACITY     4096u
#define GROUP_BYTES_MAX      (4u * 1024 * 1024)
#define CHECKPOINT_TXN_BYTES (4u * 1024 * 1024)
#define FAULT_QUOTED_BYTES   600u

/* ---- faults ---- */

/* The state in memory can no longer be trusted; the log can. */
_Noreturn void lane_die(const struct lane *lane, const struct shard *shard, int err, const char *what) {
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
    lane_fail_shards(lane);
    lane->options.failed_cb(lane->options.arg);
}

/* A read met a record that cannot be trusted, or no memory. The store says where. */
void lane_log_read_fault(const struct lane *lane, const struct shard *shard, int err) {
    char quoted[FAULT_QUOTED_BYTES];
    log_event(LOG_ERROR, "read_fault", "lane=%u shard=%u error=%s store=%s", lane->options.number, shard->id,
              error_name(err), log_quote(store_fault_text(lane->store), quoted, sizeof quoted));
}

/* ---- the log ---- */

static void on_synced(struct lane *lane) {
    atomic_store(&lane->sync_posted, false); /* before looking: what ends from here on posts again */
    lane->durable = wal_complete(lane->wal);
    lane->syncs++;
    int err = atomic_load(&lane->sync_err);
    if (err != SK_OK) {
        fail_disk(lane, err);
        return;
    }
    lane_note_durable(lane);
}

/* ---- ticks ---- */

/* Nothing is on its way any more. */
static bool idle(const struct lane *lane) {
    return lane->unsynced.count == 0 && lane->waiting_head == NULL && lane->frames_head == NULL &&
           !lane->more_to_execute && !store_checkpoint_running(lane->store);
}

void lane_tick_soon(struct lane *lane) {
    lane->has_come = true;
    if (lane->next_tick_us > lane->now_us + TICK_US) lane->next_tick_us = lane->now_us + TICK_US;
}

/* Since the last tick nothing has come, and all that there is to do is to send beacons and to hear them. */
static bool quiet(struct lane *lane) {
    wal_position end = wal_end(lane->wal);
    bool same = !lane->has_come && end == lane->ticked_end;
    lane->ticked_end = end;
    lane->has_come = false;
    bool settled = same && idle(lane) && lane->map_applied && blocking_count(lane->blocking) == 0 &&
                   lane->verify.running == 0 && lane->out.state == OUT_NONE && lane->in.state == IN_NONE;
    for (uint32_t i = 0; settled && i < lane->shards.slot_count; i++) {
        const struct shard *shard = lane->shards.slots[i];
        settled = shard == NULL || replica_is_settled(&shard->replica, lane->now_us);
    }
    return settled;
}

/* With lane_step never inlined: scripts/engine-counts finds them by their names. */
__attribute__((noinline)) static void lane_tick(struct lane *lane) {
    if (!lane->map_applied) lane_apply_map(lane);
    lane_tick_shards(lane);
    lane_publish_stats(lane);
    if (lane->options.number == 0) frontend_tick(lane->options.frontend);
    lane->next_tick_us = lane->now_us + (quiet(lane) ? QUIET_TICK_US : TICK_US);
}

/* ---- the thread ---- */

static void on_map(struct lane *lane, struct map *map) {
    if (lane->map != NULL && map->version <= lane->map->version) {
        map_unref(map);
        return;
    }
    lane_tick_soon(lane);
    map_unref(lane->map);
    lane->map = map;
    lane_apply_map(lane);
}

static void on_mail(struct lane *lane, struct lane_mail *mail) {
    switch (mail->kind) {
    case MAIL_FRAME:
        lane_on_frame(lane, mail);
        return;
    case MAIL_PEER_FRAME:
        lane_on_peer_frame(lane, mail);
        return;
    case MAIL_PEER_UP:
    case MAIL_PEER_DOWN:
        lane_on_peer(lane, mail->node, mail->kind == MAIL_PEER_UP);
        free(mail);
        return;
    case MAIL_PEER_ROOM:
        lane_mark_all_dirty(lane);
        free(mail);
        return;
    case MAIL_EXPORTED:
        lane->exported = true;
        return;
    case MAIL_INSTALLED:
        lane->installed = true;
        return;
    case MAIL_IDENTIFY:
        lane->node = mail->node;
        lane->incarnation = mail->incarnation;
        free(mail);
        lane_apply_map(lane);
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
        lane_end_blocking(lane);
        return;
    }
}

/* Takes what has come, sends, writes, executes and answers: what gathers in a step shares one write of the log and one
 * frame to each peer and gateway. Each part is bounded, so that no step is long. */
__attribute__((noinline)) static void lane_step(struct lane *lane, struct mail *mail) {
    lane->now_us = clock_boottime_us();
    int err = store_step_begin(lane->store);
    if (err != SK_OK) lane_die(lane, NULL, err, "step_begin");
    while (mail != NULL) {
        struct mail *next = mail->next;
        on_mail(lane, (struct lane_mail *)mail);
        mail = next;
    }
    lane_maybe_checkpoint(lane);
    lane_serve_blocking(lane);
    lane_retry_waiting(lane);
    lane_take_peer_items(lane);
    lane_take_commands(lane);
    if (lane->now_us >= lane->next_tick_us) lane_tick(lane);
    lane_flush_shards(lane);
    lane_send_snapshots(lane);
    peer_outbox_flush(&lane->peer_outbox); /* before our own sync: both disks work at once */
    wal_flush(lane->wal);
    lane_execute_shards(lane);
    outbox_flush(&lane->outbox);
    lane_scrub(lane);
    store_step_end(lane->store);
    if (lane->ended != NULL) lane_drop_ended(lane);
    if (lane->checkpointed) lane_on_checkpointed(lane);
    if (lane->exported) lane_on_exported(lane);
    if (lane->installed) lane_on_installed(lane);
}

/* What is not committed by now is unknown to who has asked for it. */
static void release_all_waiters(struct lane *lane) {
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        struct shard *shard = lane->shards.slots[i];
        if (shard != NULL) lane_release_waiters(lane, shard, shard->replica.applied_index);
    }
    outbox_flush(&lane->outbox);
}

static void *lane_main(void *arg) {
    struct lane *lane = arg;
    while (!lane->stopping || !idle(lane)) {
        bool takes = lane->peer_head != NULL && !lane->peer_waits;
        bool busy = lane->more_to_execute || lane->more_to_send || lane->frames_head != NULL || takes ||
                    lane_has_to_serve(lane);
        uint64_t scrub_us = lane_scrub_due_us(lane);
        uint64_t wake_us = scrub_us < lane->next_tick_us ? scrub_us : lane->next_tick_us;
        uint64_t deadline_us = busy ? 0 : wake_us;
        lane_step(lane, mailbox_take(lane->mailbox, deadline_us));
    }
    release_all_waiters(lane);
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

static void exported_cb(void *arg, int err) {
    struct lane *lane = arg;
    (void)err; /* store_snapshot_complete tells */
    mailbox_post_always(lane->mailbox, &lane->exported_mail.mail);
}

static void installed_cb(void *arg, int err) {
    struct lane *lane = arg;
    (void)err; /* store_install_complete tells */
    mailbox_post_always(lane->mailbox, &lane->installed_mail.mail);
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
                                    .map_bytes = lane->options.map_bytes,
                                    .memtable_bytes = lane->options.memtable_bytes,
                                    .cache_bytes = lane->options.cache_bytes,
                                    .txn_bytes = CHECKPOINT_TXN_BYTES,
                                    .checkpointed_cb = checkpointed_cb,
                                    .snapshot_cb = exported_cb,
                                    .installed_cb = installed_cb,
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

static int collect_cb(void *arg, uint32_t id) {
    struct replay *replay = arg;
    bool used = shard_table_find(replay->table, id) != NULL;
    if (!used) buffer_append(&replay->scratch, &id, sizeof id);
    return replay->scratch.failed ? SK_ENOMEM : SK_OK;
}

/* What a stay that has ended, or an install that was broken off, has left in the store. */
static int drop_leftovers(struct lane *lane, struct replay *replay) {
    uint32_t id;
    buffer_clear(&replay->scratch, SIZE_MAX);
    int err = store_each_shard(lane->store, collect_cb, replay);
    for (size_t at = 0; err == SK_OK && at < replay->scratch.size; at += sizeof id) {
        memcpy(&id, replay->scratch.data + at, sizeof id);
        log_event(LOG_INFO, "leftover_dropped", "lane=%u shard=%u", lane->options.number, id);
        err = store_drop_shard(lane->store, id);
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
    if (err == SK_OK) err = replay_finish(replay);
    store_step_end(lane->store);
    if (err == SK_OK) err = drop_leftovers(lane, replay);
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
    for (uint32_t i = 0; i < lane->shards.slot_count; i++) {
        if (lane->shards.slots[i] != NULL) lane->pending_bytes += lane->shards.slots[i]->payload_bytes;
    }
    lane->stored_time_us = lane->synced_time_us = replay->time_us;
    log_event(LOG_INFO, "log_replayed", "lane=%u entries=%llu bytes=%llu torn_bytes=%llu took_ms=%llu",
              lane->options.number, (unsigned long long)report.entries, (unsigned long long)report.bytes,
              (unsigned long long)report.torn_bytes,
              (unsigned long long)((clock_boottime_us() - begin_us) / 1000));
    return SK_OK;
}

static void lane_free(struct lane *lane) {
    if (lane->wal != NULL) wal_close(lane->wal);
    shard_table_deinit(&lane->shards);
    while (lane->ended != NULL) {
        struct shard *shard = lane->ended;
        lane->ended = shard->next_ended;
        shard_free(shard);
    }
    free(lane->unsynced.slots);
    if (lane->store != NULL) store_close(lane->store);
    blocking_free(lane->blocking);
    outbox_deinit(&lane->outbox);
    while (lane->peer_head != NULL) lane_drop_peer_frame(lane);
    peer_outbox_deinit(&lane->peer_outbox);
    lane_close_snapshots(lane);
    buffer_deinit(&lane->payload);
    buffer_deinit(&lane->result);
    map_unref(lane->map);
    struct mail *mail = mailbox_take(lane->mailbox, 0);
    while (mail != NULL) { /* came after the thread had ended */
        struct lane_mail *late = (struct lane_mail *)mail;
        mail = mail->next;
        if (late == &lane->synced_mail || late == &lane->checkpointed_mail || late == &lane->exported_mail ||
            late == &lane->installed_mail || late == &lane->stop_mail)
            continue;
        frame_unref(late->frame);
        peer_frame_unref(late->peer_frame);
        map_unref(late->map);
        free(late);
    }
    mailbox_free(lane->mailbox);
    pthread_mutex_destroy(&lane->stats_lock);
    free(lane->shard_stats);
    free(lane->directory);
    free(lane);
}

int lane_open(struct lane **made, const struct lane_options *options, char *text, size_t text_bytes) {
    struct lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL) return SK_ENOMEM;
    lane->options = *options;
    lane->options.directory = lane->directory = strdup(options->directory);
    lane->synced_mail.kind = MAIL_SYNCED;
    lane->checkpointed_mail.kind = MAIL_CHECKPOINTED;
    lane->exported_mail.kind = MAIL_EXPORTED;
    lane->installed_mail.kind = MAIL_INSTALLED;
    lane->stop_mail.kind = MAIL_STOP;
    lane->shards = (struct shard_table){.lane = options->number, .lane_count = options->lane_count};
    lane->peer_outbox.peers = options->peers;
    lane->now_us = lane->start_us = lane->checkpoint_us = clock_boottime_us();
    lane->frame_turn = 1; /* no shard has refused anything of it yet */
    int err = lane->directory == NULL ? SK_ENOMEM : blocking_new(&lane->blocking, lane->now_us);
    if (err == SK_OK) err = mailbox_new(&lane->mailbox, MAILBOX_CAPACITY);
    if (err == SK_OK && getrandom(&lane->chance, sizeof lane->chance, 0) != (ssize_t)sizeof lane->chance) {
        mailbox_free(lane->mailbox);
        err = SK_EUNEXPECTED;
    }
    if (err != SK_OK) {
        blocking_free(lane->blocking);
        free(lane->directory);
        free(lane);
        return err;
    }
    pthread_mutex_init(&lane->stats_lock, NULL);
    struct replay replay = {.table = &lane->shards,
                            .segment_bytes = options->segment_bytes,
                            .start_us = lane->start_us,
                            .times = &lane->options.times};
    lane_open_snapshots(lane);
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

/* Out of memory what comes is dropped, as the network may. */
void lane_post_peer_frame(struct lane *lane, struct peer_frame *frame) {
    int err = post(lane, (struct lane_mail){.kind = MAIL_PEER_FRAME, .peer_frame = frame}, true);
    if (err != SK_OK) peer_frame_unref(frame);
}

void lane_post_peer(struct lane *lane, uint32_t node, enum lane_peer_news news) {
    static const enum lane_mail_kind kinds[] = {MAIL_PEER_UP, MAIL_PEER_DOWN, MAIL_PEER_ROOM};
    (void)post(lane, (struct lane_mail){.kind = kinds[news], .node = node}, true);
}

void lane_close(struct lane *lane) {
    if (lane == NULL) return;
    mailbox_post_always(lane->mailbox, &lane->stop_mail.mail);
    pthread_join(lane->thread, NULL);
    lane_free(lane);
}
