/* A snapshot's file from arbitrary bytes. The first byte says how the rest is used: as the file, as the file behind a right
 * header, or as a recipe for blocks whose checksums are right while what they cover is not. Whatever comes, the reader
 * answers; and what it has accepted is written again to a file that says the same. */
#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/snapshot_file.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RAW, BEHIND_HEADER, RECIPE, WAYS };

#define FILE_BYTES_MAX (1u << 18)

static const struct snapshot_id id = {.cluster = 7, .shard = 3};

struct input {
    const uint8_t *data;
    size_t size;
};

static uint8_t take(struct input *input) {
    if (input->size == 0) return 0;
    input->size--;
    return *input->data++;
}

static size_t take_bytes(struct input *input, uint8_t *at, size_t most) {
    size_t size = most < input->size ? most : input->size;
    memcpy(at, input->data, size);
    input->data += size;
    input->size -= size;
    return size;
}

/* A record, its sizes now and then other than those of what follows. */
static size_t cook_record(struct input *input, uint8_t *at) {
    uint8_t kind = take(input);
    size_t header = SNAPSHOT_RECORD_HEADER_BYTES;
    size_t key_bytes = take_bytes(input, at + header, kind & 15u);
    size_t value_bytes = take_bytes(input, at + header + key_bytes, kind >> 4 & 7u);
    if (kind & 128u) { /* a large one */
        size_t more = (size_t)take(input) << 8;
        memset(at + header + key_bytes + value_bytes, kind, more);
        value_bytes += more;
    }
    uint16_t key_size = htole16((uint16_t)key_bytes);
    uint32_t value_size = htole32((uint32_t)value_bytes);
    memcpy(at, &key_size, sizeof key_size);
    memcpy(at + 2, &value_size, sizeof value_size);
    uint8_t harm = take(input);
    if (harm < header) at[harm] ^= take(input);
    return header + key_bytes + value_bytes;
}

/* Blocks, and a trailer with the right counts unless the input harms them. */
static size_t cook_file(struct input *input, uint8_t *file) {
    uint64_t checksum = snapshot_encode_header(file, &id), records = 0;
    size_t size = SNAPSHOT_HEADER_BYTES;
    while (input->size > 0 && size < FILE_BYTES_MAX) {
        uint8_t kind = take(input);
        uint8_t *payload = file + size + SNAPSHOT_BLOCK_HEADER_BYTES;
        size_t payload_bytes = 0;
        uint32_t count = 0;
        for (; count < (kind & 7u); count++) payload_bytes += cook_record(input, payload + payload_bytes);
        if (kind & 8u) payload_bytes += take_bytes(input, payload + payload_bytes, 9);
        if (kind & 16u) count = take(input);
        records += count;
        checksum = snapshot_encode_block(file + size, (uint32_t)payload_bytes, count, checksum);
        size += SNAPSHOT_BLOCK_HEADER_BYTES + payload_bytes;
        if (kind & 32u) break;
    }
    uint64_t counts[2] = {htole64(records + take(input)), htole64(size + take(input))};
    memcpy(file + size + SNAPSHOT_BLOCK_HEADER_BYTES, counts, sizeof counts);
    snapshot_encode_block(file + size, sizeof counts, 0, checksum);
    size += SNAPSHOT_BLOCK_HEADER_BYTES + sizeof counts;
    return size + take_bytes(input, file + size, input->size);
}

/* A file in memory that has a path. */
struct memory_file {
    int fd;
    char path[64];
};

static struct memory_file make_file(const uint8_t *bytes, size_t size) {
    struct memory_file file = {.fd = memfd_create("snapshot", MFD_CLOEXEC)};
    sk_assert(file.fd >= 0);
    if (size > 0) sk_assert(write(file.fd, bytes, size) == (ssize_t)size);
    snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.fd);
    return file;
}

/* What a file says, as far as it is read. */
static int read_file(const char *path, struct buffer *content, uint64_t *records) {
    struct snapshot_reader *reader;
    struct slice key, value;
    char text[256];
    int err = snapshot_reader_open(&reader, path, &id, text, sizeof text);
    if (err != SK_OK) return err;
    struct slice record = snapshot_reader_record(reader);
    buffer_append(content, record.data, record.size);
    for (*records = 1; (err = snapshot_reader_next(reader, &key, &value)) == SK_OK; ++*records) {
        size_t sizes[2] = {key.size, value.size};
        buffer_append(content, sizes, sizeof sizes);
        buffer_append(content, key.data, key.size);
        buffer_append(content, value.data, value.size);
    }
    snapshot_reader_close(reader);
    return err;
}

static void copy_file(const char *from, const char *to) {
    struct snapshot_reader *reader;
    struct snapshot_writer *writer;
    struct slice key, value;
    char text[256];
    uint64_t bytes, records;
    sk_assert(snapshot_reader_open(&reader, from, &id, text, sizeof text) == SK_OK);
    sk_assert(snapshot_writer_open(&writer, to, &id, snapshot_reader_record(reader), text, sizeof text) == SK_OK);
    while (snapshot_reader_next(reader, &key, &value) == SK_OK) {
        sk_assert(snapshot_writer_put(writer, key, value) == SK_OK);
    }
    sk_assert(snapshot_writer_finish(writer, &bytes, &records) == SK_OK);
    snapshot_writer_close(writer);
    snapshot_reader_close(reader);
}

/* The writer needs a place where a file can be renamed. */
static char copy_path[] = "/dev/shm/skerry-fuzz-snapshot-XXXXXX";

static void remove_copy(void) { unlink(copy_path); }

static void set_up(void) {
    int fd = mkstemp(copy_path);
    sk_assert(fd >= 0);
    close(fd);
    atexit(remove_copy);
}

static void check_copy(const char *path, const struct buffer *content, uint64_t records) {
    struct buffer again;
    uint64_t records_again = 0;
    buffer_init(&again);
    copy_file(path, copy_path);
    sk_assert(read_file(copy_path, &again, &records_again) == SK_NOT_FOUND);
    sk_assert(records_again == records && slice_equal(buffer_slice(&again), buffer_slice(content)));
    buffer_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t *bytes;
    if (bytes == NULL) {
        bytes = malloc(4 * FILE_BYTES_MAX + SNAPSHOT_HEADER_BYTES);
        sk_assert(bytes != NULL);
        set_up();
    }
    struct input input = {data, size < FILE_BYTES_MAX ? size : FILE_BYTES_MAX};
    uint8_t way = take(&input) % WAYS;
    size_t file_bytes = 0;
    if (way == RECIPE) {
        file_bytes = cook_file(&input, bytes);
    } else {
        if (way == BEHIND_HEADER) snapshot_encode_header(bytes, &id), file_bytes = SNAPSHOT_HEADER_BYTES;
        file_bytes += take_bytes(&input, bytes + file_bytes, input.size);
    }
    struct memory_file file = make_file(bytes, file_bytes);
    struct buffer content;
    uint64_t records = 0;
    buffer_init(&content);
    int err = read_file(file.path, &content, &records);
    sk_assert(err == SK_NOT_FOUND || err == SK_ECORRUPT || err == SK_EVERSION || err == SK_CONFLICT);
    if (err == SK_NOT_FOUND) check_copy(file.path, &content, records);
    buffer_deinit(&content);
    close(file.fd);
    return 0;
}
