#include "shardd/report.h"

#include "libcommon/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define LANE_SILENT_US 30000000u /* a lane that has not come round for so long does not work */
#define REASON_BYTES   200u

/* ---- the shards, of all lanes ---- */

struct shards {
    struct lane_shard_stats *stats; /* owned */
    size_t count;
};

/* The shards are the cluster's at most; a count of 0 also when out of memory. */
static struct shards gather_shards(const struct report *report) {
    struct shards shards = {0};
    if (!atomic_load(&report->opened)) return shards;
    size_t most = atomic_load(&report->shard_count);
    shards.stats = most > 0 ? calloc(most, sizeof *shards.stats) : NULL;
    for (uint32_t i = 0; shards.stats != NULL && i < report->lane_count; i++) {
        shards.count += lane_shard_stats(report->lanes[i], shards.stats + shards.count, most - shards.count);
    }
    return shards;
}

uint32_t report_count_to_hand_over(const struct report *report) {
    struct shards shards = gather_shards(report);
    uint32_t count = 0;
    for (size_t i = 0; i < shards.count; i++) {
        const struct lane_shard_stats *shard = &shards.stats[i];
        bool leads = shard->role == REPLICA_LEADER || shard->role == REPLICA_STARTING;
        count += leads && shard->isr > 1;
    }
    free(shards.stats);
    return count;
}

/* ---- health ---- */

static void health(void *arg, struct http_answer *answer) {
    const struct report *report = arg;
    char reason[REASON_BYTES] = "";
    uint64_t now_us = clock_boottime_us();
    for (uint32_t i = 0; atomic_load(&report->opened) && i < report->lane_count; i++) {
        uint64_t seen_us = lane_seen_us(report->lanes[i]);
        bool silent = seen_us != 0 && now_us > seen_us + LANE_SILENT_US;
        if (silent) (void)snprintf(reason, sizeof reason, "lane %u has not come round for 30 s", i);
    }
    http_answer_health(answer, reason);
}

static const char *failed_lane(const struct report *report) {
    struct lane_stats stats;
    for (uint32_t i = 0; i < report->lane_count; i++) {
        lane_stats(report->lanes[i], &stats);
        if (stats.failed) return "the disk has failed";
        if (stats.disk_full) return "the disk is full";
    }
    return "";
}

static void wait_for_shards(const struct report *report, const struct shards *shards, char *reason,
                            size_t reason_bytes) {
    size_t lagging = 0;
    for (size_t i = 0; i < shards->count; i++) lagging += !shards->stats[i].in_sync;
    size_t wanted = atomic_load(&report->replicas), count = shards->count > wanted ? shards->count : wanted;
    lagging += count - shards->count; /* those that are not there yet */
    if (lagging > 0) {
        (void)snprintf(reason, reason_bytes, "%zu of %zu replicas here are not in sync", lagging, count);
    } else if (atomic_load(&report->inherits)) {
        (void)snprintf(reason, reason_bytes, "the replicas of the node that was here before are not here yet");
    }
}

static void waits_for(const struct report *report, const struct shards *shards, char *reason,
                      size_t reason_bytes) {
    const char *text = "";
    if (!atomic_load(&report->opened)) text = "opening the store";
    else if (atomic_load(&report->leaving)) text = "it is ending";
    else if (atomic_load(&report->node) == 0) text = "metad has not registered it yet";
    else if (atomic_load(&report->map_version) == 0) text = "it has no map yet";
    else if (atomic_load(&report->shard_count) == 0) text = "the cluster's shards are not created yet";
    else text = failed_lane(report);
    (void)snprintf(reason, reason_bytes, "%s", text);
    if (text[0] == '\0') wait_for_shards(report, shards, reason, reason_bytes);
}

void report_waits_for(const struct report *report, char *reason, size_t reason_bytes) {
    struct shards shards = gather_shards(report);
    waits_for(report, &shards, reason, reason_bytes);
    free(shards.stats);
}

static void ready(void *arg, struct http_answer *answer) {
    char reason[REASON_BYTES];
    report_waits_for(arg, reason, sizeof reason);
    http_answer_health(answer, reason);
}

/* ---- metrics ---- */

/* One sample for each of `lanes` of what `value` is in its `stats`. */
#define LANE_FAMILY(page, name, type, help, value)                                                                \
    do {                                                                                                          \
        metrics_family(page, name, type, help);                                                                   \
        for (uint32_t i = 0; i < report->lane_count; i++) {                                                       \
            const struct lane_stats stats = lanes[i];                                                             \
            metrics_uint(page, name, value, "lane=\"%u\"", i);                                                    \
        }                                                                                                         \
    } while (0)

static void write_lanes(const struct report *report, struct buffer *page) {
    struct lane_stats *lanes =
        calloc(report->lane_count, sizeof *lanes); /* looked at once, so that they fit together */
    if (lanes == NULL) {
        page->failed = true;
        return;
    }
    for (uint32_t i = 0; i < report->lane_count; i++) lane_stats(report->lanes[i], &lanes[i]);
    LANE_FAMILY(page, "skerry_reads_total", METRICS_COUNTER, "Reads executed.", stats.reads);
    LANE_FAMILY(page, "skerry_follower_reads_total", METRICS_COUNTER,
                "Reads executed of shards that are not led here.", stats.follower_reads);
    LANE_FAMILY(page, "skerry_writes_total", METRICS_COUNTER, "Writes executed and answered.", stats.writes);
    LANE_FAMILY(page, "skerry_log_syncs_total", METRICS_COUNTER, "Groups of the log that were synced.",
                stats.syncs);
    LANE_FAMILY(page, "skerry_snapshot_received_bytes_total", METRICS_COUNTER, "Of snapshots, received.",
                stats.snapshot_bytes);
    LANE_FAMILY(page, "skerry_log_bytes", METRICS_GAUGE, "Size of the log on disk.", stats.log_bytes);
    metrics_one(page, "skerry_log_keep_bytes", METRICS_GAUGE, report->log_keep_bytes,
                "So much of each lane's log is kept for replicas that lag (--log-keep).");
    LANE_FAMILY(page, "skerry_store_bytes", METRICS_GAUGE, "Size of LMDB's file.", stats.store_bytes);
    LANE_FAMILY(page, "skerry_memtable_bytes", METRICS_GAUGE, "Changes in memory that are not in LMDB yet.",
                stats.memtable_bytes);
    LANE_FAMILY(page, "skerry_keys", METRICS_GAUGE, "Keys of the replicas here.", stats.keys);
    LANE_FAMILY(page, "skerry_keys_with_expiry", METRICS_GAUGE, "Of the keys, those that will expire.",
                stats.expires);
    LANE_FAMILY(page, "skerry_key_bytes", METRICS_GAUGE, "Size of the keys.", stats.key_bytes);
    LANE_FAMILY(page, "skerry_value_bytes", METRICS_GAUGE, "Size of the values.", stats.value_bytes);
    LANE_FAMILY(page, "skerry_request_ids", METRICS_GAUGE, "Ids of clients' writes that are remembered.",
                stats.ids);
    LANE_FAMILY(page, "skerry_unapplied_entries", METRICS_GAUGE, "Entries in the log that are not executed.",
                stats.unapplied);
    LANE_FAMILY(page, "skerry_disk_full", METRICS_GAUGE, "1: writes are refused since the disk is full.",
                (uint64_t)stats.disk_full);
    LANE_FAMILY(page, "skerry_disk_failed", METRICS_GAUGE, "1: a sync has failed, and the lane serves no more.",
                (uint64_t)stats.failed);
    free(lanes);
}

static void write_latencies(const struct report *report, struct buffer *page) {
    static const char *const stages[LANE_STAGES] = {"queue", "log", "replicate", "execute"};
    static const char name[] = "skerry_write_stage_duration_seconds";
    struct metrics_histogram reads = {0};
    metrics_family(page, name, METRICS_HISTOGRAM,
                   "Writes: from the frame to the log, until synced, until every replica in sync has it, until "
                   "answered.");
    for (uint32_t stage = 0; stage < LANE_STAGES; stage++) {
        struct metrics_histogram sum = {0};
        for (uint32_t i = 0; i < report->lane_count; i++) {
            metrics_merge(&sum, &lane_metrics(report->lanes[i])->write[stage]);
        }
        metrics_histogram(page, name, &sum, "stage=\"%s\"", stages[stage]);
    }
    for (uint32_t i = 0; i < report->lane_count; i++) metrics_merge(&reads, &lane_metrics(report->lanes[i])->read);
    metrics_family(page, "skerry_read_duration_seconds", METRICS_HISTOGRAM,
                   "Reads: from the frame until executed.");
    metrics_histogram(page, "skerry_read_duration_seconds", &reads, "%s", "");
}

#define SHARD_FAMILY(page, name, help, shown, value)                                                              \
    do {                                                                                                          \
        metrics_family(page, name, METRICS_GAUGE, help);                                                          \
        for (size_t i = 0; i < shards->count; i++) {                                                              \
            const struct lane_shard_stats *shard = &shards->stats[i];                                             \
            if (shown) metrics_uint(page, name, value, "shard=\"%u\"", shard->shard);                             \
        }                                                                                                         \
    } while (0)

static void write_shards(const struct shards *shards, struct buffer *page) {
    uint64_t leading = 0, below = 0;
    for (size_t i = 0; i < shards->count; i++) {
        leading += shards->stats[i].role == REPLICA_LEADER;
        below += !shards->stats[i].in_sync;
    }
    metrics_one(page, "skerry_replicas", METRICS_GAUGE, shards->count, "Shards that have a replica here.");
    metrics_one(page, "skerry_leading_shards", METRICS_GAUGE, leading, "Of them, those that are led from here.");
    metrics_one(page, "skerry_lagging_replicas", METRICS_GAUGE, below, "Of them, those that are not in sync.");
    SHARD_FAMILY(page, "skerry_shard_leader", "1: the shard is led from here.", true,
                 (uint64_t)(shard->role == REPLICA_LEADER));
    SHARD_FAMILY(page, "skerry_shard_epoch", "The shard's leader epoch.", true, shard->epoch);
    SHARD_FAMILY(page, "skerry_shard_commit_index", "Highest entry that every replica in sync has.", true,
                 shard->commit_index);
    SHARD_FAMILY(page, "skerry_shard_commit_lag_entries", "Entries in the log here that are not committed.", true,
                 shard->last_index > shard->commit_index ? shard->last_index - shard->commit_index : 0);
    SHARD_FAMILY(page, "skerry_shard_isr_size", "Replicas in sync, told by the leader.",
                 shard->role == REPLICA_LEADER, shard->isr);
    SHARD_FAMILY(page, "skerry_shard_replicas", "Replicas that there should be, told by the leader.",
                 shard->role == REPLICA_LEADER, shard->replicas);
    SHARD_FAMILY(page, "skerry_shard_behind_entries", "Entries that followers lack, told by the leader.",
                 shard->role == REPLICA_LEADER, shard->behind);
    SHARD_FAMILY(page, "skerry_garbage_collections", "Collections that are gone, and whose elements are not yet.",
                 true, shard->garbage);
    metrics_family(page, "skerry_shard_lease_margin_seconds", METRICS_GAUGE,
                   "So long the leader may serve reads without hearing of the others.");
    for (size_t i = 0; i < shards->count; i++) {
        const struct lane_shard_stats *shard = &shards->stats[i];
        if (shard->role != REPLICA_LEADER || shard->alone) continue;
        metrics_seconds(page, "skerry_shard_lease_margin_seconds", shard->lease_margin_us, "shard=\"%u\"",
                        shard->shard);
    }
}

static void write_frames(const struct report *report, struct buffer *page) {
    struct frontend_stats front;
    struct peers_stats peers;
    frontend_stats(report->frontend, &front);
    peers_stats(report->peers, &peers);
    metrics_one(page, "skerry_request_frames_total", METRICS_COUNTER, front.frames, "Frames from gateways.");
    metrics_one(page, "skerry_request_frame_commands_total", METRICS_COUNTER, front.commands,
                "Commands in them: divided by the frames, how well commands gather.");
    metrics_one(page, "skerry_request_frames_refused_total", METRICS_COUNTER, front.refused_frames,
                "Frames that were malformed, of another cluster or for another process.");
    metrics_one(page, "skerry_answer_frames_total", METRICS_COUNTER, front.answer_frames, "Frames to gateways.");
    metrics_one(page, "skerry_answer_frame_answers_total", METRICS_COUNTER, front.answers, "Answers in them.");
    metrics_one(page, "skerry_answers_dropped_total", METRICS_COUNTER, front.answers_dropped,
                "Answers to gateways that took too little.");
    metrics_one(page, "skerry_gateway_connections", METRICS_GAUGE, front.gateways, "Gateways connected.");
    metrics_one(page, "skerry_peer_connections", METRICS_GAUGE, peers.connected, "Other nodes connected.");
    metrics_one(page, "skerry_peers", METRICS_GAUGE, peers.known, "Other nodes of the map.");
    metrics_one(page, "skerry_peer_frames_sent_total", METRICS_COUNTER, peers.frames_out,
                "Frames to other nodes.");
    metrics_one(page, "skerry_peer_bytes_sent_total", METRICS_COUNTER, peers.bytes_out, "Their size.");
    metrics_one(page, "skerry_peer_frames_received_total", METRICS_COUNTER, peers.frames_in,
                "Frames from other nodes.");
    metrics_one(page, "skerry_peer_bytes_received_total", METRICS_COUNTER, peers.bytes_in, "Their size.");
    metrics_one(page, "skerry_peer_frames_refused_total", METRICS_COUNTER, peers.refused_frames,
                "Of them, malformed, late or of another cluster.");
}

static void write_verification(const struct report *report, struct buffer *page) {
    struct verify_stats sum = {0}, one;
    for (uint32_t i = 0; i < report->lane_count; i++) {
        lane_verify_stats(report->lanes[i], &one);
        if (i == 0) sum = one;
        else verify_stats_add(&sum, &one);
    }
    metrics_one(page, "skerry_verified_total", METRICS_COUNTER, sum.verified,
                "Times that a shard's replicas were compared.");
    metrics_one(page, "skerry_verify_differing_total", METRICS_COUNTER, sum.differing,
                "Replicas found to differ from the others.");
    metrics_one(page, "skerry_verify_damaged_total", METRICS_COUNTER, sum.damaged,
                "Replicas found to be damaged.");
    metrics_one(page, "skerry_verify_undecided_total", METRICS_COUNTER, sum.undecided,
                "Times that replicas differed and none of them could be called wrong.");
}

static void metrics(void *arg, struct http_answer *answer) {
    const struct report *report = arg;
    struct buffer *page = &answer->body;
    char reason[REASON_BYTES];
    answer->type = METRICS_MEDIA_TYPE;
    struct shards shards = gather_shards(report); /* once, so that all figures fit together */
    waits_for(report, &shards, reason, sizeof reason);
    metrics_process(page, "shardd");
    metrics_one(page, "skerry_ready", METRICS_GAUGE, reason[0] == '\0', "1: /readyz says so.");
    metrics_one(page, "skerry_node_id", METRICS_GAUGE, atomic_load(&report->node), "The node's number.");
    metrics_one(page, "skerry_map_version", METRICS_GAUGE, atomic_load(&report->map_version),
                "Version of the map that it goes by.");
    disk_space_write(report->disk, page);
    if (atomic_load(&report->opened)) {
        write_lanes(report, page);
        write_latencies(report, page);
        write_shards(&shards, page);
        write_frames(report, page);
        write_verification(report, page);
    }
    free(shards.stats);
}

const struct http_page report_pages[] = {{"/healthz", health}, {"/readyz", ready}, {"/metrics", metrics}};
const size_t report_page_count = sizeof report_pages / sizeof *report_pages;
