/* Recovery of the log from arbitrary segments. The first byte says how the rest is used: as the bytes behind the segment
 * header, or as a recipe for groups whose checksums are right while what they cover is not. Whatever comes, the scan
 * answers, and a log that it has accepted and cut is accepted again, unchanged. What was replayed is read again entry by
 * entry. */
#include "libcommon/check.h"
#include "shardd/wal_reader.h"
#include "shardd/wal_scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SEGMENT_BYTES (4 * WAL_BLOCK_BYTES)
#define SEGMENTS      2
#define SEED          UINT64_C(42)
#define ENTRIES_MAX   (SEGMENTS * SEGMENT_BYTES / WAL_ENTRY_HEADER_BYTES)

enum { RECIPE = 1, RECYCLED = 2, LATER = 4 /* the log began long before these segments */ };

struct input {
    const uint8_t *data;
    size_t size;
};

static struct wal_files files;
static char directory[] = "/tmp/skerry-fuzz-wal-XXXXXX";

static int no_sync(int fd) {
    (void)fd;
    return 0;
}

static uint8_t take(struct input *input) {
    if (input->size == 0) return 0;
    input->size--;
    return *input->data++;
}

static size_t take_size(struct input *input, size_t most) {
    size_t number = take(input) | (size_t)take(input) << 8;
    return most == 0 ? 0 : number % (most + 1);
}

/* One entry, well formed or as it comes; returns its size, at most `room`. */
static size_t cook_entry(struct input *input, uint8_t *at, size_t room, wal_position position) {
    size_t payload_bytes = take_size(input, room > 200 ? 200 : room);
    if (payload_bytes > input->size) payload_bytes = input->size;
    size_t bytes = wal_entry_bytes(payload_bytes);
    if (bytes > room) return 0;
    struct wal_entry entry = {.type = WAL_COMMAND, .index = take(input)};
    entry.payload = slice_of(input->data, payload_bytes < input->size ? payload_bytes : input->size);
    bytes = wal_entry_bytes(entry.payload.size);
    wal_encode_entry(at, SEED, position, &entry);
    input->data += entry.payload.size;
    input->size -= entry.payload.size;
    uint8_t harm = take(input);
    if (harm != 0) at[harm % bytes] ^= take(input);
    return bytes;
}

/* Groups one behind the other, each a little wrong where the input says so. */
static void cook_segment(struct input *input, uint8_t *segment, uint64_t sequence, uint64_t *group_sequence,
                         wal_position *synced) {
    size_t offset = WAL_BLOCK_BYTES;
    while (input->size > 0 && offset + WAL_GROUP_HEADER_BYTES <= SEGMENT_BYTES) {
        wal_position position = sequence * SEGMENT_BYTES + offset;
        size_t payload_at = offset + WAL_GROUP_HEADER_BYTES, end = payload_at;
        uint8_t kind = take(input);
        uint32_t count = 0;
        while (count < (kind & 7u)) {
            size_t bytes = cook_entry(input, segment + end, SEGMENT_BYTES - end, sequence * SEGMENT_BYTES + end);
            if (bytes == 0) break;
            end += bytes;
            count++;
        }
        struct wal_group_header header = {
            .entry_count = kind & 8 ? take(input) : count,
            .position = position,
            .sequence = kind & 16 ? take(input) : *group_sequence,
            .synced = kind & 32 ? take_size(input, 8 * SEGMENT_BYTES) : *synced,
            .payload_bytes = kind & 64 ? take_size(input, SEGMENT_BYTES) : end - payload_at,
            .payload_checksum = wal_payload_checksum(SEED, position, segment + payload_at, end - payload_at),
        };
        wal_encode_group_header(segment + offset, SEED, &header);
        if (kind & 128) segment[offset + take(input) % WAL_GROUP_HEADER_BYTES] ^= take(input);
        ++*group_sequence;
        offset = end;
        *synced = sequence * SEGMENT_BYTES + end;
        if (take(input) == 255) break; /* the next segment */
    }
}

static void write_segments(struct input *input, uint8_t flags, uint64_t first) {
    uint64_t group_sequence = flags & LATER ? 100 : 1;
    wal_position synced = first * SEGMENT_BYTES + WAL_BLOCK_BYTES;
    for (uint64_t sequence = first; sequence < first + SEGMENTS; sequence++) {
        uint8_t segment[SEGMENT_BYTES] = {0};
        struct wal_segment_header header = {SEGMENT_BYTES, sequence, SEED, (flags & RECYCLED) != 0};
        wal_encode_segment_header(segment, &header);
        if (flags & RECIPE) {
            cook_segment(input, segment, sequence, &group_sequence, &synced);
        } else {
            size_t size = SEGMENT_BYTES - WAL_BLOCK_BYTES;
            if (size > input->size) size = input->size;
            memcpy(segment + WAL_BLOCK_BYTES, input->data, size);
            input->data += size;
            input->size -= size;
        }
        char name[32];
        snprintf(name, sizeof name, "%016llx.log", (unsigned long long)sequence);
        int fd = openat(files.directory_fd, name, O_WRONLY | O_CREAT, 0666);
        sk_assert(fd >= 0);
        sk_assert(pwrite(fd, segment, sizeof segment, 0) == (ssize_t)sizeof segment);
        close(fd);
    }
}

struct replayed {
    uint64_t entries;
    uint64_t sum;
    wal_position positions[ENTRIES_MAX];
};

static int replay_cb(void *arg, const struct wal_entry *entry, wal_position position) {
    struct replayed *replayed = arg;
    sk_assert(replayed->entries < ENTRIES_MAX);
    replayed->positions[replayed->entries++] = position;
    replayed->sum = replayed->sum * 31 + position + entry->index;
    for (size_t i = 0; i < entry->payload.size; i++) replayed->sum += entry->payload.data[i];
    return SK_OK;
}

static void read_again(const struct replayed *replayed, const struct wal_scan_end *end) {
    struct wal_reader reader;
    wal_reader_init(&reader, &files);
    wal_position durable = end->segment * SEGMENT_BYTES + end->offset;
    struct replayed again = {0};
    struct wal_entry entry;
    for (uint64_t i = 0; i < replayed->entries; i++) {
        sk_assert(wal_reader_read(&reader, replayed->positions[i], durable, &entry) == SK_OK);
        sk_assert(replay_cb(&again, &entry, replayed->positions[i]) == SK_OK);
    }
    sk_assert(again.sum == replayed->sum);
    wal_reader_deinit(&reader);
}

static void clean_up(void) {
    for (unsigned sequence = 0; sequence < 16; sequence++) {
        char name[32];
        snprintf(name, sizeof name, "%016x.log", sequence);
        (void)unlinkat(files.directory_fd, name, 0);
    }
    (void)rmdir(directory);
    wal_files_close(&files);
}

static void set_up(void) {
    struct wal_io io = {.fdatasync = no_sync};
    sk_assert(mkdtemp(directory) != NULL);
    sk_assert(wal_files_open(&files, directory, SEGMENT_BYTES, &io) == SK_OK);
    atexit(clean_up);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (files.directory == NULL) set_up();
    struct input input = {data, size};
    uint8_t flags = take(&input);
    uint64_t first = flags & LATER ? 3 : 1;
    write_segments(&input, flags, first);

    struct wal_report report = {0};
    struct wal_scan_end end, end_again;
    static struct replayed replayed, again;
    replayed.entries = replayed.sum = again.entries = again.sum = 0;
    int err = wal_scan(&files, first, SEGMENTS, 0, replay_cb, &replayed, &report, &end);
    sk_assert(err == SK_OK || err == SK_ECORRUPT);
    if (err != SK_OK) {
        sk_assert(report.damaged_file[0] != 0 && report.damaged_offset < SEGMENT_BYTES);
        return 0;
    }
    sk_assert(replayed.entries == report.entries);
    memset(&report, 0, sizeof report);
    err = wal_scan(&files, first, SEGMENTS, 0, replay_cb, &again, &report, &end_again);
    sk_assert(err == SK_OK && report.torn_bytes == 0);
    sk_assert(again.entries == replayed.entries && again.sum == replayed.sum);
    sk_assert(end_again.segment == end.segment && end_again.offset == end.offset);
    read_again(&again, &end);
    return 0;
}
