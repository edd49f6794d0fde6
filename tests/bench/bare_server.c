/* A server of the bare chain. Reads are answered at once. A write goes on to the next server, as its follower, and into
 * this one's log; what gathers while the log is synced makes up its next append, here and there. It is answered when
 * every copy is synced.
 *
 *   gateway ── WORK ──▶ server ──────────── REPLICATE ──▶ the next server
 *      ◀───── ANSWER ──    │ append, sync                    │ append, sync
 *                          └◀────────────── ACKNOWLEDGE ─────┘ */
#include "bare_pipe.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_BYTES = 64 << 20, ITEMS_MAX = 4 * BARE_CONTEXTS };

struct batch {
    struct bare_item items[ITEMS_MAX];
    size_t count;
};

static struct server {
    uint64_t copies;
    bool writes;
    struct bare_receiver receiver;
    struct bare_sender answers, follower, leader;
    atomic_uint unsynced[BARE_CONTEXTS]; /* copies of that write */

    int log_fd; /* the log thread's, as `at` and `syncing` */
    off_t at;
    struct batch syncing;

    pthread_mutex_t lock;
    pthread_cond_t gathered;
    struct batch gathering; /* under lock */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER, .gathered = PTHREAD_COND_INITIALIZER};

/* ---- a copy of a write is synced ---- */

/* Answers those of the writes whose last copy that was. */
static void one_copy_more(const struct bare_item *items, size_t count) {
    struct batch done = {.count = 0};
    for (size_t i = 0; i < count; i++) {
        if (atomic_fetch_sub(&server.unsynced[items[i].number], 1) != 1) continue;
        done.items[done.count] = items[i];
        done.items[done.count++].kind = BARE_ANSWER;
    }
    bare_sender_add(&server.answers, done.items, done.count);
}

/* In the order of the log: a run of one kind at a time. */
static void tell_synced(struct batch *batch) {
    for (size_t begin = 0, end; begin < batch->count; begin = end) {
        struct bare_item *run = &batch->items[begin];
        bool own = run->kind == BARE_WORK;
        for (end = begin; end < batch->count && (batch->items[end].kind == BARE_WORK) == own; end++)
            if (!own) batch->items[end].kind = BARE_ACKNOWLEDGE;
        if (own) one_copy_more(run, end - begin);
        else bare_sender_add(&server.leader, run, end - begin);
    }
}

/* ---- the log ---- */

static void log_open(const char *directory, int which) {
    char path[4096];
    snprintf(path, sizeof path, "%s/bare-chain-%d", directory, which);
    server.log_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    char *zeros = calloc(1, LOG_BYTES);
    if (server.log_fd < 0 || zeros == NULL || write(server.log_fd, zeros, LOG_BYTES) != LOG_BYTES ||
        fsync(server.log_fd) != 0) {
        perror(path);
        _exit(1);
    }
    free(zeros);
    unlink(path);
}

static void log_append(const struct batch *batch) {
    size_t bytes = batch->count * sizeof batch->items[0];
    if (server.at + (off_t)bytes > LOG_BYTES) server.at = 0;
    if (pwrite(server.log_fd, batch->items, bytes, server.at) != (ssize_t)bytes || fdatasync(server.log_fd) != 0) {
        perror("bare_chain: log");
        _exit(1);
    }
    server.at += (off_t)bytes;
}

static void *log_thread(void *arg) {
    (void)arg;
    for (;;) {
        pthread_mutex_lock(&server.lock);
        while (server.gathering.count == 0) pthread_cond_wait(&server.gathered, &server.lock);
        server.syncing.count = server.gathering.count;
        memcpy(server.syncing.items, server.gathering.items, server.gathering.count * sizeof(struct bare_item));
        server.gathering.count = 0;
        pthread_mutex_unlock(&server.lock);
        log_append(&server.syncing);
        tell_synced(&server.syncing);
    }
    return NULL;
}

/* No more is under way than the gateway has contexts, so there is room. */
static void log_gather(const struct bare_item *items, size_t count) {
    pthread_mutex_lock(&server.lock);
    memcpy(&server.gathering.items[server.gathering.count], items, count * sizeof *items);
    server.gathering.count += count;
    pthread_cond_signal(&server.gathered);
    pthread_mutex_unlock(&server.lock);
}

/* ---- frames ---- */

static void set_kind(struct bare_item *items, size_t count, enum bare_kind kind) {
    for (size_t i = 0; i < count; i++) items[i].kind = (uint8_t)kind;
}

static void on_work(struct bare_item *items, size_t count) {
    if (!server.writes) {
        bare_sender_add(&server.answers, items, count);
        return;
    }
    for (size_t i = 0; i < count; i++) atomic_store(&server.unsynced[items[i].number], (unsigned)server.copies);
    log_gather(items, count);
    if (server.copies == 1) return;
    set_kind(items, count, BARE_REPLICATE);
    bare_sender_add(&server.follower, items, count);
}

static void frame_cb(void *arg, struct bare_item *items, size_t count) {
    (void)arg;
    if (count == 0) return;
    switch ((enum bare_kind)items[0].kind) {
    case BARE_WORK:
        on_work(items, count);
        return;
    case BARE_REPLICATE:
        log_gather(items, count);
        return;
    case BARE_ACKNOWLEDGE:
        one_copy_more(items, count);
        return;
    case BARE_ANSWER:
        break;
    }
    bare_must(NNG_EPROTO, "frame");
}

static void open_peers(const struct bare_options *options, int which) {
    char url[64];
    int servers = (int)options->servers;
    bare_url(options, BARE_PORT_SERVERS + (which + 1) % servers, url);
    bare_sender_open(&server.follower, url);
    bare_url(options, BARE_PORT_SERVERS + (which + servers - 1) % servers, url);
    bare_sender_open(&server.leader, url);
}

_Noreturn void bare_server_run(const struct bare_options *options, int which) {
    char url[64];
    server.copies = options->copies;
    server.writes = options->write_directory != NULL;
    bare_url(options, BARE_PORT_ANSWERS, url);
    bare_sender_open(&server.answers, url);
    if (server.copies > 1) open_peers(options, which);
    pthread_t thread;
    if (server.writes) {
        log_open(options->write_directory, which);
        bare_must(pthread_create(&thread, NULL, log_thread, NULL) == 0 ? 0 : NNG_ENOMEM, "thread");
    }
    bare_url(options, BARE_PORT_SERVERS + which, url);
    bare_receiver_open(&server.receiver, url, frame_cb, NULL);
    for (;;) pause();
}
