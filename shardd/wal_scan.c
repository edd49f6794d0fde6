#include "shardd/wal_scan.h"

#include "libcommon/check.h"

#include <stdlib.h>
#include <unistd.h>

#define WINDOW_BYTES (1024u * 1024)

/* What a segment holds from a place on where no whole group was found. */
struct tail {
    uint64_t from;        /* where reading stopped */
    uint64_t nonzero_end; /* behind its last byte that is not zero; `from` if all are */
    uint64_t groups_end;  /* behind what its group headers lay claim to; `from` without any */
    wal_position synced;  /* highest that a group header says; 0 without any */
    bool header_nonzero;  /* there are bytes where the next header would lie */
};

struct scan {
    struct wal_files *files;
    wal_replay_cb replay_cb;
    void *replay_arg;
    struct wal_report *report;

    /* The segment being read and the window of it in memory. */
    int fd;
    uint64_t segment;
    bool recycled;
    uint8_t *window; /* owned */
    size_t window_capacity;
    uint64_t window_from;
    size_t window_bytes;

    /* Behind the last whole group. */
    wal_position end;
    uint64_t group_sequence; /* of the group that must come next; 0: any, as older segments are gone */
    uint64_t stop_segment;   /* where `end` is: the last segment with a whole group, or the first of all */
    uint64_t stop_offset;
    wal_position synced; /* what the last whole group says was synced when it was written */
};

static uint64_t segment_bytes(const struct scan *scan) { return scan->files->segment_bytes; }

static wal_position position_of(const struct scan *scan, uint64_t offset) {
    return scan->segment * segment_bytes(scan) + offset;
}

static int blame(struct scan *scan, uint64_t segment, uint64_t offset, int err) {
    wal_files_blame(scan->files, segment, offset, scan->report);
    return err;
}

static int window_grow(struct scan *scan, size_t size) {
    if (size <= scan->window_capacity) return SK_OK;
    uint8_t *grown = realloc(scan->window, size);
    if (grown == NULL) return SK_ENOMEM;
    scan->window = grown;
    scan->window_capacity = size;
    return SK_OK;
}

/* `at` gets the `size` bytes at `offset`, which must lie within the segment; valid until the next call. */
static int read_at(struct scan *scan, uint64_t offset, size_t size, const uint8_t **at) {
    sk_assert(size <= segment_bytes(scan) && offset <= segment_bytes(scan) - size);
    bool inside = offset >= scan->window_from && offset + size <= scan->window_from + scan->window_bytes;
    if (!inside) {
        uint64_t left = segment_bytes(scan) - offset;
        size_t wanted = size > WINDOW_BYTES ? size : WINDOW_BYTES;
        if (wanted > left) wanted = (size_t)left;
        scan->window_bytes = 0;
        int err = window_grow(scan, wanted);
        if (err != SK_OK) return err;
        err = wal_file_read(scan->files, scan->fd, scan->window, wanted, offset);
        if (err != SK_OK) return blame(scan, scan->segment, offset, err);
        scan->window_from = offset;
        scan->window_bytes = wanted;
    }
    *at = scan->window + (offset - scan->window_from);
    return SK_OK;
}

/* SK_OK, SK_NOT_FOUND: no whole group with the right number lies at `offset`; or a fault. */
static int read_group(struct scan *scan, uint64_t offset, struct wal_group_header *header, struct slice *payload) {
    if (offset + WAL_GROUP_HEADER_BYTES > segment_bytes(scan)) return SK_NOT_FOUND;
    const uint8_t *at;
    int err = read_at(scan, offset, WAL_GROUP_HEADER_BYTES, &at);
    if (err != SK_OK) return err;
    uint64_t seed = scan->files->seed;
    if (!wal_decode_group_header(at, seed, position_of(scan, offset), header)) return SK_NOT_FOUND;
    if (scan->group_sequence != 0 && header->sequence != scan->group_sequence) return SK_NOT_FOUND;
    uint64_t room = segment_bytes(scan) - offset - WAL_GROUP_HEADER_BYTES;
    if (header->payload_bytes > room || header->payload_bytes % 8 != 0) return SK_NOT_FOUND;

    err = read_at(scan, offset, WAL_GROUP_HEADER_BYTES + (size_t)header->payload_bytes, &at);
    if (err != SK_OK) return err;
    *payload = slice_of(at + WAL_GROUP_HEADER_BYTES, (size_t)header->payload_bytes);
    uint64_t checksum = wal_payload_checksum(seed, header->position, payload->data, payload->size);
    return checksum == header->payload_checksum ? SK_OK : SK_NOT_FOUND;
}

/* Hands out the entries of a whole group. Its checksum was right, so an entry that is not is our own writing gone
 * wrong: damage wherever it lies. */
static int replay_group(struct scan *scan, const struct wal_group_header *header, struct slice payload) {
    uint64_t header_offset = header->position - scan->segment * segment_bytes(scan);
    uint64_t offset = header_offset + WAL_GROUP_HEADER_BYTES;
    for (uint32_t i = 0; i < header->entry_count; i++) {
        struct wal_entry entry;
        size_t size;
        wal_position position = position_of(scan, offset);
        int err = wal_decode_entry(payload, scan->files->seed, position, &entry, &size);
        /* With nothing left it is the header's count that is wrong; the segment may end here, too. */
        if (err != SK_OK) return blame(scan, scan->segment, payload.size > 0 ? offset : header_offset, err);
        err = scan->replay_cb(scan->replay_arg, &entry, position);
        if (err == SK_ECORRUPT) return blame(scan, scan->segment, offset, err);
        if (err != SK_OK) return err;
        scan->report->entries++;
        offset += size;
        payload = slice_of(payload.data + size, payload.size - size);
    }
    return payload.size == 0 ? SK_OK : blame(scan, scan->segment, offset, SK_ECORRUPT);
}

/* Reads whole groups from the begin of the segment; `stop` gets where there is none. */
static int read_groups(struct scan *scan, uint64_t *stop) {
    uint64_t offset = WAL_BLOCK_BYTES;
    for (;;) {
        struct wal_group_header header;
        struct slice payload;
        int err = read_group(scan, offset, &header, &payload);
        if (err == SK_NOT_FOUND) break;
        if (err == SK_OK) err = replay_group(scan, &header, payload);
        if (err != SK_OK) return err;
        offset += WAL_GROUP_HEADER_BYTES + header.payload_bytes;
        scan->report->bytes += WAL_GROUP_HEADER_BYTES + header.payload_bytes;
        scan->end = position_of(scan, offset);
        scan->group_sequence = header.sequence + 1;
        scan->stop_segment = scan->segment;
        scan->stop_offset = offset;
        scan->synced = header.synced;
    }
    *stop = offset;
    return SK_OK;
}

static void note_header(struct scan *scan, struct tail *tail, uint64_t offset, const uint8_t *at) {
    struct wal_group_header header;
    if (!wal_decode_group_header(at, scan->files->seed, position_of(scan, offset), &header)) return;
    if (header.synced > tail->synced) tail->synced = header.synced;
    uint64_t room = segment_bytes(scan) - offset;
    uint64_t claimed = header.payload_bytes < room ? WAL_GROUP_HEADER_BYTES + header.payload_bytes : room;
    if (claimed > room) claimed = room;
    if (offset + claimed > tail->groups_end) tail->groups_end = offset + claimed;
}

/* Looks at every place from `from` to the end of the segment where a group header may lie. */
static int survey(struct scan *scan, uint64_t from, struct tail *tail) {
    *tail = (struct tail){.from = from, .nonzero_end = from, .groups_end = from};
    uint64_t offset = from;
    while (offset < segment_bytes(scan)) {
        uint64_t left = segment_bytes(scan) - offset;
        size_t bytes = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
        const uint8_t *at;
        int err = read_at(scan, offset, bytes, &at);
        if (err != SK_OK) return err;
        bool last = bytes == left;
        /* A header that the window cuts is looked at in the next one. */
        size_t steps = (last ? bytes : bytes - WAL_GROUP_HEADER_BYTES) / 8;
        for (size_t i = 0; i < steps; i++) {
            uint64_t word;
            memcpy(&word, at + i * 8, sizeof word);
            if (word == 0) continue;
            tail->nonzero_end = offset + i * 8 + 8;
            if (wal_is_group_magic(word) && bytes - i * 8 >= WAL_GROUP_HEADER_BYTES) {
                note_header(scan, tail, offset + i * 8, at + i * 8);
            }
        }
        offset += steps * 8;
    }
    if (from + WAL_GROUP_HEADER_BYTES <= segment_bytes(scan)) {
        static const uint8_t zero_header[WAL_GROUP_HEADER_BYTES];
        const uint8_t *at;
        int err = read_at(scan, from, WAL_GROUP_HEADER_BYTES, &at);
        if (err != SK_OK) return err;
        tail->header_nonzero = memcmp(at, zero_header, sizeof zero_header) != 0;
    }
    return SK_OK;
}

static int scan_segment(struct scan *scan, bool first, struct tail *tail) {
    uint64_t stop;
    int err = read_groups(scan, &stop);
    if (err == SK_OK) err = survey(scan, stop, tail);
    if (err != SK_OK || tail->synced <= scan->end) return err;

    /* Proof of damage. If a whole header with another number begins a later segment, the group that is missing was in the
     * segment before, if it had room for one; else the bad place is here. */
    struct wal_group_header header;
    const uint8_t *at;
    err = read_at(scan, stop, WAL_GROUP_HEADER_BYTES, &at);
    if (err != SK_OK) return err;
    bool room_before = scan->stop_offset + WAL_GROUP_HEADER_BYTES + WAL_ENTRY_HEADER_BYTES <= segment_bytes(scan);
    bool missing_before = !first && stop == WAL_BLOCK_BYTES && room_before &&
                          wal_decode_group_header(at, scan->files->seed, position_of(scan, stop), &header) &&
                          header.sequence != scan->group_sequence;
    if (missing_before) return blame(scan, scan->stop_segment, scan->stop_offset, SK_ECORRUPT);
    return blame(scan, scan->segment, stop, SK_ECORRUPT);
}

static int open_segment(struct scan *scan, uint64_t segment, bool first) {
    if (scan->fd >= 0) close(scan->fd);
    scan->fd = -1;
    scan->segment = segment;
    scan->window_bytes = 0;
    return wal_segment_open(scan->files, segment, first, &scan->fd, &scan->recycled, scan->report);
}

/* How much of a tail is to be zeroed. Where a segment is used again stale bytes are no sign of anything, as long
 * as a clean end (the zeros that every group leaves behind it) lies before them and no group of this segment among
 * them. */
static bool tail_is_torn(const struct tail *tail, bool recycled) {
    if (tail->header_nonzero || tail->groups_end > tail->from) return true;
    return !recycled && tail->nonzero_end > tail->from;
}

static uint64_t torn_bytes(const struct tail *tail, bool recycled) {
    if (!recycled) return tail->nonzero_end - tail->from;
    if (tail->groups_end > tail->from) return tail->groups_end - tail->from;
    return WAL_GROUP_HEADER_BYTES;
}

/* Remnants of a torn group must never be read as later groups. */
static int cut_segment(struct scan *scan, const struct tail *tail) {
    if (!tail_is_torn(tail, scan->recycled)) return SK_OK;
    scan->report->torn_bytes += torn_bytes(tail, scan->recycled);
    int err = wal_file_zero(scan->files, scan->fd, tail->from, tail->nonzero_end, NULL);
    if (err == SK_OK) err = wal_file_sync(scan->files, scan->fd);
    return err;
}

/* Writes again what may have been read from the page cache only, as it is, so that the next sync covers it: a process that
 * died between write and sync leaves such pages, and after a failed sync they even count as clean (R23). */
static int rewrite_unsynced(struct scan *scan) {
    uint64_t from = position_of(scan, WAL_BLOCK_BYTES);
    if (scan->synced > from) from = scan->synced;
    while (from < scan->end) {
        uint64_t left = scan->end - from;
        size_t size = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
        uint64_t offset = from - position_of(scan, 0);
        const uint8_t *at;
        int err = read_at(scan, offset, size, &at);
        if (err == SK_OK) err = wal_file_write(scan->files, scan->fd, at, size, offset, NULL);
        if (err != SK_OK) return err;
        from += size;
    }
    return wal_file_sync(scan->files, scan->fd);
}

/* Zeroes what is torn, from the segment where the log ends to the last, and makes what was read durable. */
static int cut(struct scan *scan, uint64_t first, size_t count, const struct tail *tails) {
    for (uint64_t segment = scan->stop_segment; segment < first + count; segment++) {
        int err = open_segment(scan, segment, false);
        if (err == SK_OK) err = cut_segment(scan, &tails[segment - first]);
        if (err == SK_OK && segment == scan->stop_segment) err = rewrite_unsynced(scan);
        if (err != SK_OK) return err;
    }
    return SK_OK;
}

static int scan_all(struct scan *scan, uint64_t first, size_t count, wal_position synced, struct tail *tails) {
    for (size_t i = 0; i < count; i++) {
        int err = open_segment(scan, first + i, i == 0);
        if (err == SK_OK) err = scan_segment(scan, i == 0, &tails[i]);
        if (err != SK_OK) return err;
    }
    /* No entry can begin within a group header's length of the end. */
    if (synced > scan->end + WAL_GROUP_HEADER_BYTES) {
        return blame(scan, scan->stop_segment, scan->stop_offset, SK_ECORRUPT);
    }
    return cut(scan, first, count, tails);
}

int wal_scan(struct wal_files *files, uint64_t first, size_t count, wal_position synced, wal_replay_cb replay_cb,
             void *replay_arg, struct wal_report *report, struct wal_scan_end *end) {
    sk_assert(first > 0 && count > 0);
    struct scan scan = {
        .files = files,
        .replay_cb = replay_cb,
        .replay_arg = replay_arg,
        .report = report,
        .fd = -1,
        .end = first * files->segment_bytes + WAL_BLOCK_BYTES,
        .group_sequence = first == 1 ? 1 : 0,
        .stop_segment = first,
        .stop_offset = WAL_BLOCK_BYTES,
    };
    struct tail *tails = calloc(count, sizeof *tails);
    int err = tails != NULL ? scan_all(&scan, first, count, synced, tails) : SK_ENOMEM;
    if (err == SK_OK) {
        end->segment = scan.stop_segment;
        end->offset = scan.stop_offset;
        end->group_sequence = scan.group_sequence != 0 ? scan.group_sequence : 1;
    }
    if (scan.fd >= 0) close(scan.fd);
    free(scan.window);
    free(tails);
    return err;
}
