/* The lane's side of the log: group buffers, and the thread that writes and syncs them.
 *
 *   lane                                sync thread
 *   wal_append → filling
 *   wal_flush: filling ↔ flying   ───►  seal, pwrite, fdatasync
 *   (goes on filling the other)         synced_cb
 *   wal_complete                  ◄───
 *
 * A buffer belongs to the lane while it is `filling` and to the sync thread from wal_flush until the group has
 * ended. A segment's file belongs to the lane from wal_prepare_take on, and to the sync thread with the first
 * group that lies in it. */
#include "shardd/wal.h"

#include "libcommon/check.h"
#include "libcommon/log.h"
#include "shardd/wal_prepare.h"
#include "shardd/wal_reader.h"
#include "shardd/wal_scan.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define RETRY_MS_DEFAULT 1000u

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "sizes of groups and segments are used as both");

struct group {
    uint8_t *data; /* owned: header, entries, room for the zeros behind */
    size_t capacity;
    size_t size; /* header and entries; 0: empty, and what follows has no meaning */
    uint32_t entry_count;
    uint64_t segment;
    uint64_t offset; /* in the segment */
    uint64_t sequence;
    int fd; /* of the segment */
};

struct wal {
    /* Constant after opening. */
    struct wal_options options;
    struct wal_files files;
    struct wal_prepare *prepare; /* owned; has a lock of its own */
    pthread_t thread;

    /* The lane's. */
    struct group groups[2];
    struct group *filling;
    struct group *flying; /* the sync thread's while `in_flight` */
    bool in_flight;
    uint64_t segment; /* where the next group lies: its number, */
    uint64_t offset;  /* place in it, */
    int segment_fd;   /* and file: borrowed once a group of it has been handed over */
    uint64_t group_sequence;
    wal_position durable;    /* what wal_complete last told */
    uint64_t oldest_segment; /* that is kept */
    struct wal_reader reader;

    /* The sync thread's. */
    int write_fd;              /* owned */
    uint64_t sync_deadline_ms; /* 0: nothing is written that is not synced */

    /* Both threads'. */
    atomic_uint_fast64_t synced; /* position; the sync thread's to change */
    atomic_int failed;           /* final */
    atomic_bool full;            /* the group in flight does not fit on the disk, is tried again */
    pthread_mutex_t lock;
    pthread_cond_t wake;   /* to the sync thread */
    pthread_cond_t ended;  /* to wal_close */
    struct group *job;     /* to be written; NULL: none */
    bool done;             /* the group in flight has ended, wal_complete has not been called */
    wal_position done_end; /* everything before it is durable */
    bool announce;         /* a segment is ready that an append was refused for */
    bool closing;          /* a disk that is full is not waited for any more */
    bool stop;             /* and nothing more will come */
};

static uint64_t segment_bytes(const struct wal *wal) { return wal->files.segment_bytes; }

static wal_position group_position(const struct wal *wal, const struct group *group) {
    return group->segment * segment_bytes(wal) + group->offset;
}

/* --- the sync thread --- */

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* With the lock held. Returns at a signal or when the clock has reached `until_ms`. */
static void wait_until(struct wal *wal, uint64_t until_ms) {
    struct timespec until = {.tv_sec = (time_t)(until_ms / 1000u), .tv_nsec = (long)(until_ms % 1000u) * 1000000};
    (void)pthread_cond_timedwait(&wal->wake, &wal->lock, &until);
}

static void fail(struct wal *wal, int err, const char *step) {
    log_event(LOG_ERROR, "wal_failed", "directory=%s step=%s error=%s", wal->files.directory, step,
              error_name(err));
    atomic_store(&wal->failed, err);
}

/* Header in front and zeros behind. The zeros are the clean end that recovery finds if nothing follows. Returns
 * the bytes to write. */
static size_t seal(const struct wal *wal, struct group *group) {
    wal_position position = group_position(wal, group);
    size_t payload_bytes = group->size - WAL_GROUP_HEADER_BYTES;
    const uint8_t *payload = group->data + WAL_GROUP_HEADER_BYTES;
    struct wal_group_header header = {
        .entry_count = group->entry_count,
        .position = position,
        .sequence = group->sequence,
        .synced = atomic_load(&wal->synced),
        .payload_bytes = payload_bytes,
        .payload_checksum = wal_payload_checksum(wal->files.seed, position, payload, payload_bytes),
    };
    wal_encode_group_header(group->data, wal->files.seed, &header);
    uint64_t room = segment_bytes(wal) - group->offset - group->size;
    size_t zeros = room < WAL_GROUP_HEADER_BYTES ? (size_t)room : WAL_GROUP_HEADER_BYTES;
    memset(group->data + group->size, 0, zeros);
    return group->size + zeros;
}

/* A failure is final (R23): what the page cache holds after it is anybody's guess. */
static int sync_written(struct wal *wal, wal_position synced) {
    wal->sync_deadline_ms = 0;
    int err = wal_file_sync(&wal->files, wal->write_fd);
    if (err != SK_OK) fail(wal, err, "fdatasync");
    else atomic_store(&wal->synced, synced);
    return err;
}

/* The first group in a new segment: the old one is done with. All of it is synced before anything is written to
 * the new one, so only one file can ever have a torn tail. */
static int enter_segment(struct wal *wal, struct group *group) {
    if (group->fd == wal->write_fd) return SK_OK;
    bool unsynced = wal->sync_deadline_ms != 0 && atomic_load(&wal->failed) == SK_OK;
    int err = unsynced ? sync_written(wal, wal->done_end) : SK_OK;
    close(wal->write_fd);
    wal->write_fd = group->fd;
    return err;
}

/* SK_OK; SK_RETRY: no space and nothing written, so the same may be tried again; or a failure, which is final. */
static int write_sealed(struct wal *wal, const struct group *group, size_t size) {
    size_t written;
    int err = wal_file_write(&wal->files, wal->write_fd, group->data, size, group->offset, &written);
    if (err == SK_OK) return SK_OK;
    if (err == SK_ENOSPC && written == 0) return SK_RETRY;
    fail(wal, err, "pwrite");
    return err;
}

/* A preallocated file has room for what it holds, but not every file system keeps that promise. */
static int write_group(struct wal *wal, struct group *group) {
    size_t size = seal(wal, group);
    int err;
    while ((err = write_sealed(wal, group, size)) == SK_RETRY) {
        if (!atomic_exchange(&wal->full, true)) {
            log_event(LOG_ERROR, "wal_disk_full", "directory=%s segment=%" PRIu64, wal->files.directory,
                      group->segment);
        }
        pthread_mutex_lock(&wal->lock);
        uint64_t until_ms = now_ms() + wal->options.retry_ms;
        while (!wal->closing && now_ms() < until_ms) wait_until(wal, until_ms);
        bool closing = wal->closing;
        pthread_mutex_unlock(&wal->lock);
        if (!closing) continue;
        fail(wal, SK_ENOSPC, "pwrite");
        return SK_ENOSPC;
    }
    atomic_store(&wal->full, false);
    return err;
}

static int run_group(struct wal *wal, struct group *group) {
    int err = enter_segment(wal, group);
    if (err == SK_OK && atomic_load(&wal->failed) != SK_OK) err = SK_EIO;
    if (err == SK_OK) err = write_group(wal, group);
    if (err != SK_OK) return err;
    uint32_t interval_ms = wal->options.sync_interval_ms;
    if (interval_ms == 0) return sync_written(wal, group_position(wal, group) + group->size);
    if (wal->sync_deadline_ms == 0) wal->sync_deadline_ms = now_ms() + interval_ms;
    return SK_OK;
}

/* With the lock held; left with it. */
static void run_job(struct wal *wal) {
    struct group *group = wal->job;
    pthread_mutex_unlock(&wal->lock);
    int err = run_group(wal, group);
    pthread_mutex_lock(&wal->lock);
    wal->job = NULL;
    wal->done = true;
    if (err == SK_OK) wal->done_end = group_position(wal, group) + group->size;
    pthread_cond_signal(&wal->ended);
    pthread_mutex_unlock(&wal->lock);
    wal->options.synced_cb(wal->options.arg, err);
    pthread_mutex_lock(&wal->lock);
}

/* The sync that an interval put off. With the lock held; left with it. */
static void run_late_sync(struct wal *wal) {
    wal_position end = wal->done_end;
    pthread_mutex_unlock(&wal->lock);
    int err = sync_written(wal, end);
    if (err != SK_OK) wal->options.synced_cb(wal->options.arg, err);
    pthread_mutex_lock(&wal->lock);
}

static void run_announcement(struct wal *wal) {
    wal->announce = false;
    pthread_mutex_unlock(&wal->lock);
    wal->options.synced_cb(wal->options.arg, SK_OK);
    pthread_mutex_lock(&wal->lock);
}

static void *sync_main(void *arg) {
    struct wal *wal = arg;
    pthread_mutex_lock(&wal->lock);
    for (;;) {
        bool late = wal->sync_deadline_ms != 0 && (wal->stop || now_ms() >= wal->sync_deadline_ms);
        if (late) run_late_sync(wal);
        else if (wal->job != NULL) run_job(wal);
        else if (wal->stop) break;
        else if (wal->announce) run_announcement(wal);
        else if (wal->sync_deadline_ms != 0) wait_until(wal, wal->sync_deadline_ms);
        else pthread_cond_wait(&wal->wake, &wal->lock);
    }
    pthread_mutex_unlock(&wal->lock);
    return NULL;
}

static void tell(struct wal *wal, bool *what) {
    pthread_mutex_lock(&wal->lock);
    *what = true;
    pthread_cond_signal(&wal->wake);
    pthread_mutex_unlock(&wal->lock);
}

/* On the preparing thread: hands on to the sync thread, which alone calls synced_cb. */
static void segment_ready_cb(void *arg) {
    struct wal *wal = arg;
    tell(wal, &wal->announce);
}

/* --- opening and closing --- */

static int check_options(const struct wal_options *options) {
    uint64_t size = options->segment_bytes;
    bool size_fits = size >= 4 * WAL_BLOCK_BYTES && size % WAL_BLOCK_BYTES == 0 && size <= UINT64_C(1) << 32;
    return size_fits && options->synced_cb != NULL ? SK_OK : SK_ECONFIG;
}

static int group_reserve(struct group *group, size_t size) {
    size += WAL_GROUP_HEADER_BYTES; /* the zeros behind */
    if (size <= group->capacity) return SK_OK;
    uint8_t *grown = realloc(group->data, size);
    if (grown == NULL) return SK_ENOMEM;
    group->data = grown;
    group->capacity = size;
    return SK_OK;
}

/* The size that serves all but a large entry that is alone in its group. */
static size_t group_usual_bytes(const struct wal *wal) {
    uint64_t most = segment_bytes(wal) - WAL_BLOCK_BYTES;
    uint64_t usual = wal->options.group_bytes_max + WAL_GROUP_HEADER_BYTES;
    return (size_t)(usual < most ? usual : most);
}

static int create_first(struct wal *wal, wal_position synced, struct wal_report *report,
                        struct wal_scan_end *end) {
    if (synced != 0) {
        /* Something was synced here once: this is not a new directory but an emptied one. */
        wal_files_blame(&wal->files, synced / segment_bytes(wal), 0, report);
        return SK_ECORRUPT;
    }
    if (getrandom(&wal->files.seed, sizeof wal->files.seed, 0) != sizeof wal->files.seed) return SK_EIO;
    *end = (struct wal_scan_end){.segment = 1, .offset = WAL_BLOCK_BYTES, .group_sequence = 1};
    return wal_segment_create(&wal->files, 1, NULL, &wal->write_fd);
}

/* The segment behind the one where the log ends is ready for use; more of them would be left by nothing we do. */
static int open_ready(struct wal *wal, uint64_t end_segment, uint64_t last, int *ready_fd,
                      struct wal_report *report) {
    *ready_fd = -1;
    for (uint64_t segment = last; segment > end_segment + 1; segment--) {
        int err = wal_segment_retire(&wal->files, segment, false);
        if (err != SK_OK) return err;
    }
    if (last == end_segment) return SK_OK;
    bool recycled;
    return wal_segment_open(&wal->files, end_segment + 1, false, ready_fd, &recycled, report);
}

static int start_threads(struct wal *wal, uint64_t oldest, uint64_t newest, int ready_fd) {
    int err = wal_prepare_start(&wal->prepare, &wal->files, oldest, newest, ready_fd, wal->options.retry_ms,
                                segment_ready_cb, wal);
    if (err != SK_OK) return err;
    return pthread_create(&wal->thread, NULL, sync_main, wal) == 0 ? SK_OK : SK_ENOMEM;
}

static void go_on_at(struct wal *wal, uint64_t oldest, const struct wal_scan_end *end) {
    wal->oldest_segment = oldest;
    wal->segment = end->segment;
    wal->offset = end->offset;
    wal->segment_fd = wal->write_fd;
    wal->group_sequence = end->group_sequence;
    wal->done_end = end->segment * segment_bytes(wal) + end->offset;
    wal->durable = wal->done_end;
    atomic_init(&wal->synced, wal->done_end);
}

static int open_log(struct wal *wal, wal_position synced, wal_replay_cb replay_cb, void *replay_arg,
                    struct wal_report *report) {
    uint64_t *sequences = NULL;
    size_t count;
    int err = wal_files_list(&wal->files, &sequences, &count, report);
    if (err != SK_OK) return err;
    uint64_t first = count > 0 ? sequences[0] : 1, last = count > 0 ? sequences[count - 1] : 1;
    free(sequences);

    struct wal_scan_end end;
    int ready_fd = -1;
    if (count == 0) {
        err = create_first(wal, synced, report, &end);
    } else {
        err = wal_scan(&wal->files, first, count, synced, replay_cb, replay_arg, report, &end);
        bool recycled;
        if (err == SK_OK)
            err = wal_segment_open(&wal->files, end.segment, false, &wal->write_fd, &recycled, report);
        if (err == SK_OK) err = open_ready(wal, end.segment, last, &ready_fd, report);
    }
    if (err != SK_OK) return err;
    go_on_at(wal, first, &end);
    return start_threads(wal, first, end.segment, ready_fd);
}

static void wal_free(struct wal *wal) {
    wal_prepare_stop(wal->prepare);
    if (wal->segment_fd >= 0 && wal->segment_fd != wal->write_fd) close(wal->segment_fd);
    if (wal->write_fd >= 0) close(wal->write_fd);
    wal_reader_deinit(&wal->reader);
    wal_files_close(&wal->files);
    free(wal->groups[0].data);
    free(wal->groups[1].data);
    pthread_cond_destroy(&wal->ended);
    pthread_cond_destroy(&wal->wake);
    pthread_mutex_destroy(&wal->lock);
    free(wal);
}

static struct wal *wal_new(const struct wal_options *options) {
    struct wal *wal = calloc(1, sizeof *wal);
    if (wal == NULL) return NULL;
    wal->options = *options;
    if (wal->options.retry_ms == 0) wal->options.retry_ms = RETRY_MS_DEFAULT;
    wal->filling = &wal->groups[0];
    wal->flying = &wal->groups[1];
    wal->write_fd = wal->segment_fd = -1;
    wal_reader_init(&wal->reader, &wal->files);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&wal->lock, NULL);
    pthread_cond_init(&wal->wake, &attributes);
    pthread_cond_init(&wal->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    return wal;
}

int wal_open(struct wal **wal_out, const struct wal_options *options, wal_position synced, wal_replay_cb replay_cb,
             void *replay_arg, struct wal_report *report) {
    memset(report, 0, sizeof *report);
    int err = check_options(options);
    if (err != SK_OK) return err;
    struct wal *wal = wal_new(options);
    if (wal == NULL) return SK_ENOMEM;
    err = wal_files_open(&wal->files, options->directory, options->segment_bytes, options->io);
    for (int i = 0; err == SK_OK && i < 2; i++) err = group_reserve(&wal->groups[i], group_usual_bytes(wal));
    if (err == SK_OK) err = open_log(wal, synced, replay_cb, replay_arg, report);
    if (err != SK_OK) {
        wal_free(wal);
        return err;
    }
    *wal_out = wal;
    return SK_OK;
}

static void wait_for_end(struct wal *wal) {
    pthread_mutex_lock(&wal->lock);
    while (wal->in_flight && !wal->done) pthread_cond_wait(&wal->ended, &wal->lock);
    pthread_mutex_unlock(&wal->lock);
    wal_complete(wal);
}

void wal_close(struct wal *wal) {
    if (wal == NULL) return;
    tell(wal, &wal->closing);
    wait_for_end(wal);
    wal_flush(wal);
    wait_for_end(wal);
    tell(wal, &wal->stop);
    pthread_join(wal->thread, NULL);
    wal_free(wal);
}

/* --- the lane --- */

/* The filling group is empty and an entry of `size` bytes must have room in the segment. */
static int find_room(struct wal *wal, size_t size) {
    if (wal->offset + WAL_GROUP_HEADER_BYTES + size <= segment_bytes(wal)) return SK_OK;
    uint64_t segment;
    int fd;
    int err = wal_prepare_take(wal->prepare, &segment, &fd);
    if (err != SK_OK) return err;
    sk_assert(segment == wal->segment + 1);
    wal->segment = segment;
    wal->segment_fd = fd;
    wal->offset = WAL_BLOCK_BYTES;
    return SK_OK;
}

static void group_begin(struct wal *wal, struct group *group) {
    group->size = WAL_GROUP_HEADER_BYTES;
    group->entry_count = 0;
    group->segment = wal->segment;
    group->offset = wal->offset;
    group->fd = wal->segment_fd;
    group->sequence = wal->group_sequence++;
}

/* A group that has entries takes another one of `size` bytes. */
static int check_room(struct wal *wal, const struct group *group, size_t size) {
    if (group->offset + group->size + size > segment_bytes(wal)) {
        /* The group is full, and with no segment behind it so is the log. */
        int err = wal_prepare_ask(wal->prepare);
        return err != SK_OK ? err : SK_BUSY;
    }
    if (group->size + size > wal->options.group_bytes_max + WAL_GROUP_HEADER_BYTES) return SK_BUSY;
    return group->entry_count < UINT32_MAX ? SK_OK : SK_BUSY;
}

int wal_append(struct wal *wal, const struct wal_entry *entry, wal_position *position) {
    if (atomic_load(&wal->failed) != SK_OK) return SK_EIO;
    if (atomic_load(&wal->full)) return SK_ENOSPC;
    uint64_t room_max = segment_bytes(wal) - WAL_BLOCK_BYTES - WAL_GROUP_HEADER_BYTES;
    if (entry->payload.size > room_max || wal_entry_bytes(entry->payload.size) > room_max) return SK_TOOLARGE;

    size_t size = wal_entry_bytes(entry->payload.size);
    struct group *group = wal->filling;
    bool empty = group->size == 0;
    int err = empty ? find_room(wal, size) : check_room(wal, group, size);
    if (err != SK_OK) return err;
    err = group_reserve(group, (empty ? WAL_GROUP_HEADER_BYTES : group->size) + size);
    if (err != SK_OK) return err;
    if (empty) group_begin(wal, group);
    *position = group_position(wal, group) + group->size;
    wal_encode_entry(group->data + group->size, wal->files.seed, *position, entry);
    group->size += size;
    group->entry_count++;
    return SK_OK;
}

void wal_flush(struct wal *wal) {
    struct group *group = wal->filling;
    if (wal->in_flight || group->size == 0 || atomic_load(&wal->failed) != SK_OK) return;
    wal->filling = wal->flying;
    wal->flying = group;
    wal->in_flight = true;
    wal->offset = group->offset + group->size;
    pthread_mutex_lock(&wal->lock);
    wal->job = group;
    pthread_cond_signal(&wal->wake);
    pthread_mutex_unlock(&wal->lock);
}

/* The buffer of a group that has ended is free again. What a large entry took goes back. */
static void group_reset(struct wal *wal, struct group *group) {
    size_t usual = group_usual_bytes(wal) + WAL_GROUP_HEADER_BYTES;
    group->size = 0;
    if (group->capacity <= usual) return;
    uint8_t *shrunk = realloc(group->data, usual);
    if (shrunk == NULL) return;
    group->data = shrunk;
    group->capacity = usual;
}

wal_position wal_complete(struct wal *wal) {
    pthread_mutex_lock(&wal->lock);
    bool done = wal->done;
    wal->done = false;
    wal->durable = wal->done_end;
    pthread_mutex_unlock(&wal->lock);
    if (done) {
        wal->in_flight = false;
        group_reset(wal, wal->flying);
    }
    return wal->durable;
}

int wal_read(struct wal *wal, wal_position position, struct wal_entry *entry) {
    if (position < wal_released(wal)) return SK_NOT_FOUND;
    if (position >= wal->durable) return SK_RETRY;
    return wal_reader_read(&wal->reader, position, wal->durable, entry);
}

wal_position wal_synced(const struct wal *wal) { return atomic_load(&wal->synced); }

wal_position wal_end(const struct wal *wal) {
    const struct group *group = wal->filling;
    if (group->size > 0) return group_position(wal, group) + group->size;
    return wal->segment * segment_bytes(wal) + wal->offset + WAL_GROUP_HEADER_BYTES;
}

void wal_release(struct wal *wal, wal_position position) {
    uint64_t segment = position / segment_bytes(wal);
    uint64_t durable_segment = (wal->durable - 1) / segment_bytes(wal); /* it may end where its segment does */
    if (segment > durable_segment) segment = durable_segment;
    if (segment <= wal->oldest_segment) return;
    wal->oldest_segment = segment;
    wal_reader_release(&wal->reader, segment); /* before the files become others */
    wal_prepare_release(wal->prepare, segment);
}

wal_position wal_released(const struct wal *wal) { return wal->oldest_segment * segment_bytes(wal); }

uint64_t wal_disk_bytes(const struct wal *wal) { return wal_prepare_disk_bytes(wal->prepare); }
