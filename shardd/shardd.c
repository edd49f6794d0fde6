#include "shardd/shardd.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/member.h"
#include "libcommon/mp.h"
#include "shardd/frontend.h"
#include "shardd/identity.h"
#include "shardd/lane.h"
#include "shardd/peers.h"
#include "shardd/replica_change.h"
#include "shardd/report.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LANE_MAP_BYTES (1ull << 40) /* 1 TiB */
#define LANES_MAX      64u
#define HEARTBEAT_MS   200u
#define FLUSH_MS       1000u
#define DRAIN_IDLE_MS  1500u /* metad hears of it within a heartbeat, and a hand-over takes some 20 ms */
#define DRAIN_LOOK_MS  20u

struct shardd {
    struct shardd_options options;
    pthread_mutex_t identity_lock; /* guards identity and its file once the lanes run: theirs and the member's */
    struct identity identity;
    int lock_fd;
    struct frontend *frontend;
    struct peers *peers;
    struct lane *lanes[LANES_MAX];
    uint32_t lane_count;
    struct report report;
    struct http *http;
    pthread_mutex_t
        calls_lock; /* held by lanes that call the member and by peers that call lanes: guards the next two */
    struct member *member;
    bool lanes_open;
    bool joined;          /* the member's: registered, and that is on disk */
    atomic_int exit_code; /* -1: running */
    char host[256], frames_address[320], replication_address[320];
};

/* ---- callbacks ---- */

/* Wakes shardd_run, which waits for a signal. */
static void end(struct shardd *shardd, int code) {
    int running = -1;
    if (atomic_compare_exchange_strong(&shardd->exit_code, &running, code)) kill(getpid(), SIGTERM);
}

static void lane_failed_cb(void *arg) {
    struct shardd *shardd = arg;
    pthread_mutex_lock(&shardd->identity_lock);
    shardd->identity.suspect = true;
    int err = identity_store(shardd->options.data_dir, &shardd->identity);
    pthread_mutex_unlock(&shardd->identity_lock);
    if (err != SK_OK) log_event(LOG_ERROR, "identity_not_stored", "error=%s", error_name(err));
}

/* The lane's mailbox is full: what the frame has for it is answered, for the gateway counts the frame as taken. */
static void refuse_frame(struct shardd *shardd, struct frame *frame, uint32_t lane, int reason) {
    struct buffer answers;
    struct slice rest = frame->items;
    struct request_item item;
    uint32_t count = 0;
    size_t reserved_bytes = 0;
    buffer_init(&answers);
    while (frame_read_request(&rest, &item) == SK_OK) {
        if (item.shard % shardd->lane_count != lane) continue;
        struct answer_item busy = {.number = item.number, .err = SK_BUSY};
        if (!frontend_reserve(frame->link, frame_answer_bytes(&busy))) break;
        reserved_bytes += frame_answer_bytes(&busy);
        frame_add_answer(&answers, &busy);
        count++;
    }
    if (answers.failed) {
        frontend_release(frame->link, reserved_bytes);
    } else {
        frontend_answer(frame->link, buffer_slice(&answers), count);
    }
    buffer_deinit(&answers);
    log_event(LOG_WARNING, "frame_refused", "lane=%u reason=%s commands=%u", lane, error_name(reason), count);
}

/* A frame goes to every lane that has a command in it. */
static void frame_cb(void *arg, struct frame *frame) {
    struct shardd *shardd = arg;
    uint64_t lanes = 0;
    if (shardd->lane_count == 1) {
        lanes = 1;
    } else {
        struct slice rest = frame->items;
        struct request_item item;
        while (frame_read_request(&rest, &item) == SK_OK) lanes |= 1ull << (item.shard % shardd->lane_count);
    }
    for (uint32_t i = 0; i < shardd->lane_count; i++) {
        if ((lanes >> i & 1) == 0) continue;
        int err = lane_post_frame(shardd->lanes[i], frame_ref(frame));
        if (err != SK_OK) refuse_frame(shardd, frame, i, err);
    }
    frame_unref(frame);
}

/* A peer's frame goes to every lane that has an item in it. */
static void peer_frame_cb(void *arg, struct peer_frame *frame) {
    struct shardd *shardd = arg;
    uint64_t lanes = 0;
    uint32_t shard;
    struct slice urgent = frame->urgent, bulk = frame->bulk;
    while (peer_wire_skip_item(&urgent, &shard) == SK_OK) lanes |= 1ull << (shard % shardd->lane_count);
    while (peer_wire_skip_item(&bulk, &shard) == SK_OK) lanes |= 1ull << (shard % shardd->lane_count);
    for (uint32_t i = 0; i < shardd->lane_count; i++) {
        if ((lanes >> i & 1) != 0) lane_post_peer_frame(shardd->lanes[i], peer_frame_ref(frame));
    }
    peer_frame_unref(frame);
}

static void tell_lanes(struct shardd *shardd, uint32_t node, enum lane_peer_news news) {
    pthread_mutex_lock(&shardd->calls_lock);
    for (uint32_t i = 0; shardd->lanes_open && i < shardd->lane_count; i++) {
        lane_post_peer(shardd->lanes[i], node, news);
    }
    pthread_mutex_unlock(&shardd->calls_lock);
}

static void peer_up_cb(void *arg, uint32_t node) {
    log_event(LOG_INFO, "peer_up", "node=%u", node);
    tell_lanes(arg, node, LANE_PEER_UP);
}

static void peer_down_cb(void *arg, uint32_t node) {
    log_event(LOG_WARNING, "peer_down", "node=%u", node);
    tell_lanes(arg, node, LANE_PEER_DOWN);
}

static void peer_room_cb(void *arg, uint32_t node) { tell_lanes(arg, node, LANE_PEER_ROOM); }

static void change_cb(void *arg, uint32_t shard, const struct replica_change *change) {
    struct shardd *shardd = arg;
    struct shard_change asked = replica_change_translate(shard, change);
    log_event(LOG_DEBUG, "change_asked", "shard=%u kind=%s config=%llu node=%u", shard,
              shard_change_name(asked.kind), (unsigned long long)change->config_version, change->to);
    pthread_mutex_lock(&shardd->calls_lock);
    if (shardd->member != NULL) member_change(shardd->member, &asked);
    pthread_mutex_unlock(&shardd->calls_lock);
}

/* Keeps on disk which node of which cluster metad says this is. */
static int store_membership(struct shardd *shardd, const struct member_identity *member) {
    struct identity *identity = &shardd->identity;
    int err = SK_OK;
    pthread_mutex_lock(&shardd->identity_lock);
    if (identity->node_id != member->node_id || identity->cluster != member->cluster) {
        identity->node_id = member->node_id;
        identity->cluster = member->cluster;
        err = identity_store(shardd->options.data_dir, identity);
    }
    pthread_mutex_unlock(&shardd->identity_lock);
    return err;
}

static void registered_cb(void *arg, const struct member_identity *member) {
    struct shardd *shardd = arg;
    int err = store_membership(shardd, member);
    if (err != SK_OK) {
        log_event(LOG_ERROR, "identity_not_stored", "error=%s", error_name(err));
        end(shardd, 1);
        return;
    }
    for (uint32_t i = 0; i < shardd->lane_count; i++) {
        if (lane_identify(shardd->lanes[i], member->node_id, member->incarnation) != SK_OK) end(shardd, 1);
    }
    frontend_start(shardd->frontend, member->cluster, member->incarnation);
    if (peers_start(shardd->peers, member->cluster, member->node_id, member->incarnation) != SK_OK) {
        log_event(LOG_ERROR, "peers_not_started", "error=%s", error_name(SK_ENOMEM));
        end(shardd, 1);
        return;
    }
    shardd->joined = true;
    atomic_store(&shardd->report.node, member->node_id);
    log_event(LOG_INFO, "registered", "node=%u incarnation=%llu", member->node_id,
              (unsigned long long)member->incarnation);
}

/* What readiness needs of the map. */
static void report_map(struct shardd *shardd, const struct map *map) {
    uint32_t node = atomic_load(&shardd->report.node), replicas = 0;
    const struct map_node *self = map_find_node(map, node);
    bool inherits = false;
    for (uint32_t i = 0; i < map->shard_count; i++) {
        const struct map_shard *shard = &map->shards[i];
        replicas += map_find_replica(shard, node) != NULL;
        for (uint32_t j = 0; j < shard->replica_count; j++) {
            const struct map_node *other = map_find_node(map, shard->replicas[j].node);
            bool older = self != NULL && other != NULL && other->id < node;
            inherits = inherits || (older && map_same_place(self, other));
        }
    }
    atomic_store(&shardd->report.replicas, replicas);
    atomic_store(&shardd->report.inherits, inherits);
    atomic_store(&shardd->report.shard_count, map->shard_count);
    atomic_store(&shardd->report.map_version, map->version);
}

static void map_cb(void *arg, const struct map *map) {
    struct shardd *shardd = arg;
    if (!shardd->joined) return; /* and so it is ending */
    peers_set_map(shardd->peers, map);
    for (uint32_t i = 0; i < shardd->lane_count; i++) {
        int err = lane_set_map(shardd->lanes[i], map);
        if (err != SK_OK) log_event(LOG_ERROR, "map_dropped", "lane=%u error=%s", i, error_name(err));
    }
    report_map(shardd, map);
}

static void write_stat(struct buffer *buffer, const char *name, uint64_t value) {
    mp_write_text(buffer, name);
    mp_write_uint(buffer, value);
}

static void stats_cb(void *arg, struct buffer *buffer) {
    struct shardd *shardd = arg;
    struct lane_stats sum = {0}, one;
    for (uint32_t i = 0; i < shardd->lane_count; i++) {
        lane_stats(shardd->lanes[i], &one);
        sum.shards += one.shards;
        sum.leading += one.leading;
        sum.applied += one.applied;
        sum.unapplied += one.unapplied;
        sum.behind += one.behind;
        sum.keys += one.keys;
        sum.expires += one.expires;
        sum.key_bytes += one.key_bytes;
        sum.value_bytes += one.value_bytes;
        sum.ids += one.ids;
        sum.log_bytes += one.log_bytes;
        sum.store_bytes += one.store_bytes;
        sum.memtable_bytes += one.memtable_bytes;
        sum.reads += one.reads;
        sum.follower_reads += one.follower_reads;
        sum.writes += one.writes;
        sum.syncs += one.syncs;
        sum.snapshot_bytes += one.snapshot_bytes;
        sum.disk_full = sum.disk_full || one.disk_full;
        sum.failed = sum.failed || one.failed;
    }
    struct verify_stats verify, more;
    lane_verify_stats(shardd->lanes[0], &verify);
    for (uint32_t i = 1; i < shardd->lane_count; i++) {
        lane_verify_stats(shardd->lanes[i], &more);
        verify_stats_add(&verify, &more);
    }
    mp_write_map(buffer, 26);
    write_stat(buffer, "shards", sum.shards);
    write_stat(buffer, "leading", sum.leading);
    write_stat(buffer, "applied", sum.applied);
    write_stat(buffer, "unapplied", sum.unapplied);
    write_stat(buffer, "behind", sum.behind);
    write_stat(buffer, "keys", sum.keys);
    write_stat(buffer, "expires", sum.expires);
    write_stat(buffer, "key_bytes", sum.key_bytes);
    write_stat(buffer, "value_bytes", sum.value_bytes);
    write_stat(buffer, "ids", sum.ids);
    write_stat(buffer, "log_bytes", sum.log_bytes);
    write_stat(buffer, "store_bytes", sum.store_bytes);
    write_stat(buffer, "memtable_bytes", sum.memtable_bytes);
    write_stat(buffer, "reads", sum.reads);
    write_stat(buffer, "follower_reads", sum.follower_reads);
    write_stat(buffer, "writes", sum.writes);
    write_stat(buffer, "syncs", sum.syncs);
    write_stat(buffer, "snapshot_bytes", sum.snapshot_bytes);
    mp_write_text(buffer, "disk_full");
    mp_write_bool(buffer, sum.disk_full);
    mp_write_text(buffer, "failed");
    mp_write_bool(buffer, sum.failed);
    write_stat(buffer, "verified", verify.verified);
    write_stat(buffer, "differing", verify.differing);
    write_stat(buffer, "damaged", verify.damaged);
    write_stat(buffer, "undecided", verify.undecided);
    mp_write_text(buffer, "leaving");
    mp_write_bool(buffer, atomic_load(&shardd->report.leaving));
    mp_write_text(buffer, "verify");
    verify_stats_encode(&verify, buffer);
}

static void refused_cb(void *arg, int err, const char *text) {
    char quoted[600];
    log_event(LOG_ERROR, "refused_by_metad", "error=%s reason=%s", error_name(err),
              log_quote(text, quoted, sizeof quoted));
    end(arg, err == SK_REMOVED ? EXIT_REMOVED : 2);
}

/* ---- opening ---- */

static uint32_t default_lanes(void) {
    cpu_set_t cores;
    int count = sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
    long quota, period;
    FILE *limit = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (limit != NULL) {
        if (fscanf(limit, "%ld %ld", &quota, &period) == 2 && period > 0 && quota / period < count) {
            count = (int)(quota / period);
        }
        fclose(limit);
    }
    uint32_t lanes = count < 2 ? 1 : (uint32_t)count / 2;
    return lanes < LANES_MAX ? lanes : LANES_MAX;
}

static int open_identity(struct shardd *shardd, char *text, size_t text_bytes) {
    const struct shardd_options *options = &shardd->options;
    uint32_t lanes = options->lanes > 0 ? options->lanes : default_lanes();
    int err = identity_open(options->data_dir, lanes, &shardd->identity, &shardd->lock_fd, text, text_bytes);
    if (err != SK_OK) return err;
    shardd->lane_count = shardd->identity.lanes;
    if (options->lanes > 0 && options->lanes != shardd->identity.lanes) {
        snprintf(text, text_bytes, "--lanes is %u, but data directory %s was made with %u, and that is fixed",
                 options->lanes, options->data_dir, shardd->identity.lanes);
        return SK_ECONFIG;
    }
    if (shardd->lane_count > LANES_MAX) {
        snprintf(text, text_bytes, "at most %u lanes", LANES_MAX);
        return SK_ECONFIG;
    }
    if (shardd->identity.suspect && !options->accept_suspect) {
        snprintf(text, text_bytes,
                 "a sync of data directory %s has failed, so what is on its disk is not certain; "
                 "--accept-suspect opens what can be read",
                 options->data_dir);
        return SK_ECORRUPT;
    }
    return SK_OK;
}

static int open_lanes(struct shardd *shardd, char *text, size_t text_bytes) {
    const struct shardd_options *options = &shardd->options;
    for (uint32_t i = 0; i < shardd->lane_count; i++) {
        char directory[PATH_MAX];
        snprintf(directory, sizeof directory, "%s/lane-%u", options->data_dir, i);
        struct lane_options lane = {.directory = directory,
                                    .number = i,
                                    .lane_count = shardd->lane_count,
                                    .segment_bytes = options->segment_bytes,
                                    .memtable_bytes = options->memtable_bytes,
                                    .cache_bytes = options->cache_bytes,
                                    .map_bytes = LANE_MAP_BYTES,
                                    .checkpoint_interval_ms = options->checkpoint_interval_ms,
                                    .sync_interval_ms = options->sync_interval_ms,
                                    .id_window_ms = options->id_window_ms,
                                    .ids_max = options->ids_max,
                                    .log_keep_bytes = options->log_keep_bytes,
                                    .verify_interval_ms = options->verify_interval_ms,
                                    .times = REPLICA_TIMES_DEFAULT,
                                    .frontend = shardd->frontend,
                                    .peers = shardd->peers,
                                    .change_cb = change_cb,
                                    .failed_cb = lane_failed_cb,
                                    .arg = shardd};
        int err = lane_open(&shardd->lanes[i], &lane, text, text_bytes);
        /* R23: what a dead process has written is read, and no sync of it will tell again that it is not on disk. */
        if (err == SK_EIO) lane_failed_cb(shardd);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

static int open_member(struct shardd *shardd, char *text, size_t text_bytes) {
    const struct shardd_options *options = &shardd->options;
    struct member_options member = {.kind = MEMBER_SHARDD,
                                    .metad_addresses = options->metad_addresses,
                                    .publish_addresses = options->publish_addresses,
                                    .node_id = shardd->identity.node_id,
                                    .cluster = shardd->identity.cluster,
                                    .lanes = shardd->lane_count,
                                    .host = shardd->host,
                                    .frames_address = shardd->frames_address,
                                    .replication_address = shardd->replication_address,
                                    .heartbeat_ms = HEARTBEAT_MS};
    struct member_callbacks callbacks = {.arg = shardd,
                                         .registered_cb = registered_cb,
                                         .map_cb = map_cb,
                                         .stats_cb = stats_cb,
                                         .refused_cb = refused_cb};
    memcpy(member.store_id, shardd->identity.store_id, sizeof member.store_id);
    struct member *opened = NULL;
    int err = member_open(&opened, &member, &callbacks);
    pthread_mutex_lock(&shardd->calls_lock);
    shardd->member = opened;
    pthread_mutex_unlock(&shardd->calls_lock);
    if (err != SK_OK) snprintf(text, text_bytes, "--metad is not an address");
    return err;
}

/* The address that others reach a listener by: its port behind the advertised host. What has no port is local. */
static void advertise(const struct shardd *shardd, const char *listen, int port, char *address, size_t bytes) {
    if (port > 0) {
        snprintf(address, bytes, "tcp://%s:%d", shardd->host, port);
    } else {
        snprintf(address, bytes, "%s", listen);
    }
}

static int open_frontend(struct shardd *shardd, char *text, size_t text_bytes) {
    int port = 0;
    struct frontend_options options = {
        .listen = shardd->options.frames_listen, .frame_cb = frame_cb, .arg = shardd};
    int err = frontend_open(&shardd->frontend, &options, text, text_bytes, &port);
    if (err != SK_OK) return err;
    advertise(shardd, options.listen, port, shardd->frames_address, sizeof shardd->frames_address);
    return SK_OK;
}

static int open_peers(struct shardd *shardd, char *text, size_t text_bytes) {
    int port = 0;
    struct peers_options options = {.listen = shardd->options.replication_listen,
                                    .arg = shardd,
                                    .frame_cb = peer_frame_cb,
                                    .up_cb = peer_up_cb,
                                    .down_cb = peer_down_cb,
                                    .room_cb = peer_room_cb};
    int err = peers_open(&shardd->peers, &options, text, text_bytes, &port);
    if (err != SK_OK) return err;
    advertise(shardd, options.listen, port, shardd->replication_address, sizeof shardd->replication_address);
    return SK_OK;
}

/* Before the lanes, which may take long to replay their logs: it is alive meanwhile, and says what it waits for. */
static int open_http(struct shardd *shardd, char *text, size_t text_bytes) {
    struct http_options options = {.listen = shardd->options.http_listen,
                                   .pages = report_pages,
                                   .page_count = report_page_count,
                                   .arg = &shardd->report};
    shardd->report.frontend = shardd->frontend;
    shardd->report.peers = shardd->peers;
    shardd->report.disk = disk_space_open(shardd->options.data_dir);
    shardd->report.log_keep_bytes = shardd->options.log_keep_bytes;
    return http_open(&shardd->http, &options, text, text_bytes);
}

static void report_lanes(struct shardd *shardd) {
    shardd->report.lanes = shardd->lanes;
    shardd->report.lane_count = shardd->lane_count;
    atomic_store(&shardd->report.opened, true);
}

int shardd_open(struct shardd **made, const struct shardd_options *options, char *text, size_t text_bytes) {
    struct shardd *shardd = calloc(1, sizeof *shardd);
    if (shardd == NULL) return SK_ENOMEM;
    shardd->options = *options;
    shardd->lock_fd = -1;
    pthread_mutex_init(&shardd->identity_lock, NULL);
    pthread_mutex_init(&shardd->calls_lock, NULL);
    atomic_init(&shardd->exit_code, -1);
    snprintf(shardd->host, sizeof shardd->host, "%s", options->advertise);

    snprintf(text, text_bytes, "out of memory");
    int err = open_identity(shardd, text, text_bytes);
    if (err == SK_OK) err = open_frontend(shardd, text, text_bytes);
    if (err == SK_OK) err = open_peers(shardd, text, text_bytes);
    if (err == SK_OK) err = open_http(shardd, text, text_bytes);
    if (err == SK_OK) err = open_lanes(shardd, text, text_bytes);
    shardd->lanes_open = err == SK_OK;
    if (err == SK_OK) report_lanes(shardd);
    if (err == SK_OK) err = open_member(shardd, text, text_bytes);
    if (err != SK_OK) {
        shardd_close(shardd);
        return err;
    }
    log_event(LOG_INFO, "shardd_opened", "data_dir=%s lanes=%u frames=%s replication=%s", options->data_dir,
              shardd->lane_count, shardd->frames_address, shardd->replication_address);
    *made = shardd;
    return SK_OK;
}

/* ---- the end ---- */

/* Whether the process was told to end once more. */
static bool is_told_again(const sigset_t *signals, uint64_t wait_ms) {
    struct timespec wait = {.tv_sec = (time_t)(wait_ms / 1000), .tv_nsec = (long)(wait_ms % 1000) * 1000000};
    return sigtimedwait(signals, NULL, &wait) > 0;
}

/* Tells metad that this process is about to end, and waits until others lead what it leads: then clients notice nothing of
 * its end. Gives up at the limit, when nothing moves for a while (metad or the others may be ending, too), or when told
 * to end once more. */
static void hand_over(struct shardd *shardd, const sigset_t *signals) {
    uint64_t begin_ms = clock_boottime_ms(), moved_ms = begin_ms, now_ms = begin_ms;
    atomic_store(&shardd->report.leaving, true); /* from here on nobody hands anything to us */
    uint32_t led = report_count_to_hand_over(&shardd->report), left = led;
    while (left > 0 && now_ms - begin_ms < shardd->options.drain_ms && now_ms - moved_ms < DRAIN_IDLE_MS) {
        if (is_told_again(signals, DRAIN_LOOK_MS)) break;
        uint32_t before = left;
        left = report_count_to_hand_over(&shardd->report);
        now_ms = clock_boottime_ms();
        if (left < before) moved_ms = now_ms;
    }
    log_event(LOG_INFO, "handed_over", "shards=%u left=%u took_ms=%llu", led > left ? led - left : 0, left,
              (unsigned long long)(now_ms - begin_ms));
}

int shardd_run(struct shardd *shardd) {
    sigset_t signals;
    int number;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigwait(&signals, &number);
    int code = atomic_load(&shardd->exit_code);
    log_event(LOG_INFO, "stopping", "reason=%s", code < 0 ? strsignal(number) : "fault");
    if (code < 0) {
        hand_over(shardd, &signals);
        code = atomic_load(&shardd->exit_code); /* a fault meanwhile */
    }
    return code < 0 ? 0 : code;
}

void shardd_close(struct shardd *shardd) {
    if (shardd == NULL) return;
    pthread_mutex_lock(&shardd->calls_lock);
    struct member *member = shardd->member;
    shardd->member = NULL;
    shardd->lanes_open = false;
    pthread_mutex_unlock(&shardd->calls_lock);
    if (member != NULL) member_close(member);
    http_close(shardd->http);
    disk_space_close(shardd->report.disk);
    if (shardd->frontend != NULL) frontend_stop_receiving(shardd->frontend);
    if (shardd->peers != NULL) peers_stop_receiving(shardd->peers);
    for (uint32_t i = 0; i < shardd->lane_count; i++) lane_close(shardd->lanes[i]);
    peers_close(shardd->peers);
    if (shardd->frontend != NULL) frontend_flush(shardd->frontend, FLUSH_MS);
    frontend_close(shardd->frontend);
    if (shardd->lock_fd >= 0) close(shardd->lock_fd);
    pthread_mutex_destroy(&shardd->identity_lock);
    pthread_mutex_destroy(&shardd->calls_lock);
    free(shardd);
}
