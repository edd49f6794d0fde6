/* What the pipelines between nodes carry: a leader that sends entries of 64 shards as fast as there is room, and a
 * follower, a process of its own, that walks them and acknowledges. Beside it goes a beacon a millisecond; how long
 * each takes to come, and its answer to come back, is what an urgent item waits behind the bulk.
 *
 *   peer_pipe ENTRY_BYTES ENTRIES_PER_STEP SECONDS       (ENTRIES_PER_STEP 0: beacons only) */
#include "cli/histogram.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/mailbox.h"
#include "shardd/peer_outbox.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARDS = 64, LEADER = 1, FOLLOWER = 2, BEACON_US = 1000 };

struct frame_mail {
    struct mail mail; /* first */
    struct peer_frame *frame;
};

/* One of the two processes. */
struct side {
    struct peers *peers;
    struct peer_outbox outbox;
    struct mailbox *mailbox;
    atomic_bool up;
    uint64_t next[SHARDS]; /* leader: index of the next entry; follower: expected */
    uint64_t entries, bytes, stray;
    struct histogram times;
};

static struct side side; /* too large for a stack */

static void frame_cb(void *arg, struct peer_frame *frame) {
    struct frame_mail *mail = malloc(sizeof *mail);
    (void)arg;
    sk_assert(mail != NULL);
    mail->frame = frame;
    mailbox_post_always(side.mailbox, &mail->mail);
}

static void up_cb(void *arg, uint32_t node) {
    (void)arg;
    (void)node;
    atomic_store(&side.up, true);
    mailbox_wake(side.mailbox);
}

static void down_cb(void *arg, uint32_t node) {
    (void)arg;
    (void)node;
}

static void room_cb(void *arg, uint32_t node) {
    (void)arg;
    (void)node;
    mailbox_wake(side.mailbox);
}

static void on_append(const struct peer_item *item) {
    struct peer_entries entries = peer_entries_of(item);
    struct wal_entry entry;
    if (entries.next_index != side.next[item->shard]) side.stray++;
    while (peer_entries_next(&entries, &entry) == SK_OK) {
        side.entries++;
        side.bytes += entry.payload.size;
    }
    side.next[item->shard] = entries.next_index;
    struct replica_message ack = {
        .type = REPLICA_ACK, .to = LEADER, .shard = item->shard, .epoch = 1, .last_index = entries.next_index - 1};
    peer_outbox_add_message(&side.outbox, &ack);
}

static void on_urgent(const struct replica_message *message) {
    if (message->type == REPLICA_BEACON) {
        struct replica_message promise = {
            .type = REPLICA_PROMISE, .to = LEADER, .epoch = 1, .sent_us = message->sent_us};
        peer_outbox_add_message(&side.outbox, &promise);
    }
    if (message->sent_us > 0) histogram_record(&side.times, clock_boottime_us() - message->sent_us, 1);
}

static void take_mail(uint64_t deadline_us) {
    struct mail *mail = mailbox_take(side.mailbox, deadline_us);
    while (mail != NULL) {
        struct frame_mail *taken = (struct frame_mail *)mail;
        struct peer_item item;
        mail = mail->next;
        struct slice rest = taken->frame->urgent;
        while (peer_wire_read_item(&taken->frame->header, &rest, &item) == SK_OK) on_urgent(&item.is.message);
        rest = taken->frame->bulk;
        while (peer_wire_read_item(&taken->frame->header, &rest, &item) == SK_OK) on_append(&item);
        peer_frame_unref(taken->frame);
        free(taken);
    }
    peer_outbox_flush(&side.outbox);
}

/* ---- both ---- */

/* Opens, tells the other process our port over `out` and hears its own from `in`. */
static void open_side(uint32_t node, int in, int out) {
    struct peers_options options = {.listen = "tcp://127.0.0.1:0",
                                    .frame_cb = frame_cb,
                                    .up_cb = up_cb,
                                    .down_cb = down_cb,
                                    .room_cb = room_cb};
    char text[256];
    int port, other;
    struct map *map;
    sk_assert(mailbox_new(&side.mailbox, 1) == SK_OK);
    sk_assert(peers_open(&side.peers, &options, text, sizeof text, &port) == SK_OK);
    sk_assert(write(out, &port, sizeof port) == sizeof port && read(in, &other, sizeof other) == sizeof other);
    peers_start(side.peers, 1, node, 1);
    side.outbox.peers = side.peers;
    sk_assert(map_new(&map, 1, 2) == SK_OK);
    map->version = 1;
    for (uint32_t i = 0; i < 2; i++) {
        map->nodes[i].id = i + 1;
        snprintf(map->nodes[i].replication_address, sizeof map->nodes[i].replication_address, "tcp://127.0.0.1:%d",
                 i + 1 == node ? port : other);
    }
    peers_set_map(side.peers, map);
    map_unref(map);
    for (int i = 0; i < SHARDS; i++) side.next[i] = 1;
    while (!atomic_load(&side.up)) take_mail(clock_boottime_us() + 100000);
}

static void print_times(const char *what) {
    printf("%s us: p50 %llu p99 %llu max %llu of %llu\n", what,
           (unsigned long long)histogram_percentile(&side.times, 50),
           (unsigned long long)histogram_percentile(&side.times, 99),
           (unsigned long long)histogram_max(&side.times), (unsigned long long)histogram_count(&side.times));
    fflush(stdout);
}

/* Until the leader ends: its process closes the pipe. */
static void follow(int in, int out, unsigned seconds) {
    open_side(FOLLOWER, in, out);
    uint64_t begin_us = clock_boottime_us(), end_us = begin_us + seconds * 1000000ull;
    while (clock_boottime_us() < end_us) take_mail(end_us);
    double took = (double)(clock_boottime_us() - begin_us) / 1e6;
    printf("entries/s %.0f, MB/s %.1f, out of order %llu\n", (double)side.entries / took,
           (double)side.bytes / took / 1e6, (unsigned long long)side.stray);
    print_times("beacon");
    char done;
    while (read(in, &done, 1) == 1) continue;
    _exit(0); /* what is under way need not arrive */
}

/* ---- the leader ---- */

static uint64_t send_entries(uint32_t shard, struct slice payload, uint32_t count) {
    struct replica_message message = {
        .type = REPLICA_APPEND, .to = FOLLOWER, .shard = shard, .epoch = 1, .prev_index = side.next[shard] - 1};
    struct wal_entry entry = {.epoch = 1, .type = WAL_COMMAND, .payload = payload};
    uint32_t added = 0;
    peer_outbox_begin_append(&side.outbox, &message);
    while (added < count && peer_outbox_add_entry(&side.outbox, &entry)) added++;
    added = peer_outbox_end_append(&side.outbox);
    side.next[shard] += added;
    return added;
}

/* A step: entries of the next shard, and a beacon when it is time. */
static void step(uint32_t shard, struct slice payload, uint32_t count, uint64_t *beacon_us) {
    uint64_t now_us = clock_boottime_us();
    if (now_us >= *beacon_us) {
        struct replica_message beacon = {
            .type = REPLICA_BEACON, .to = FOLLOWER, .shard = shard, .epoch = 1, .sent_us = now_us};
        peer_outbox_add_message(&side.outbox, &beacon);
        *beacon_us = now_us + BEACON_US;
    }
    bool room = count > 0 && peer_outbox_room(&side.outbox, FOLLOWER) > 0;
    if (room) send_entries(shard, payload, count);
    peer_outbox_flush(&side.outbox);
    take_mail(room ? 0 : *beacon_us);
}

static void lead(int in, int out, size_t entry_bytes, uint32_t count, unsigned seconds) {
    uint8_t *payload = calloc(1, entry_bytes);
    uint64_t beacon_us = 0;
    open_side(LEADER, in, out);
    uint64_t end_us = clock_boottime_us() + seconds * 1000000ull;
    for (uint32_t shard = 0; clock_boottime_us() < end_us; shard = (shard + 1) % SHARDS)
        step(shard, slice_of(payload, entry_bytes), count, &beacon_us);
    print_times("beacon and answer");
    close(out);
    free(payload);
}

int main(int argc, char **argv) {
    int down[2], up[2];
    if (argc != 4) {
        fprintf(stderr, "usage: peer_pipe ENTRY_BYTES ENTRIES_PER_STEP SECONDS\n");
        return 2;
    }
    size_t entry_bytes = strtoul(argv[1], NULL, 10);
    uint32_t count = (uint32_t)strtoul(argv[2], NULL, 10);
    unsigned seconds = (unsigned)strtoul(argv[3], NULL, 10);
    log_init("peer_pipe", LOG_ERROR);
    signal(SIGPIPE, SIG_IGN);
    sk_assert(pipe(down) == 0 && pipe(up) == 0);
    pid_t child = fork();
    sk_assert(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(down[1]);
        follow(down[0], up[1], seconds);
    }
    close(down[0]);
    lead(up[0], down[1], entry_bytes, count, seconds);
    waitpid(child, NULL, 0);
    _exit(0); /* what is under way need not arrive */
}
