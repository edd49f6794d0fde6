#include "shardd/snapshot_file.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/kv.h"
#include "shardd/record_kind.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define PART_SUFFIX        ".part"
#define HEADER_CHECKSUM_AT 24u
#define BLOCK_CHECKSUM_AT  8u

static const uint8_t magic[8] = "SKSNAPSH";

_Static_assert((uint64_t)SNAPSHOT_BLOCK_BYTES + SNAPSHOT_VALUE_BYTES_MAX + KV_KEY_BYTES_MAX < UINT32_MAX / 2,
               "the size of a block must fit in its header");

/* ---- numbers and checksums ---- */

static void put_u16(uint8_t *at, uint16_t number) {
    number = htole16(number);
    memcpy(at, &number, sizeof number);
}

static void put_u32(uint8_t *at, uint32_t number) {
    number = htole32(number);
    memcpy(at, &number, sizeof number);
}

static void put_u64(uint8_t *at, uint64_t number) {
    number = htole64(number);
    memcpy(at, &number, sizeof number);
}

static uint16_t get_u16(const uint8_t *at) {
    uint16_t number;
    memcpy(&number, at, sizeof number);
    return le16toh(number);
}

static uint32_t get_u32(const uint8_t *at) {
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return le32toh(number);
}

static uint64_t get_u64(const uint8_t *at) {
    uint64_t number;
    memcpy(&number, at, sizeof number);
    return le64toh(number);
}

uint64_t snapshot_encode_header(uint8_t *at, const struct snapshot_id *id) {
    memcpy(at, magic, sizeof magic);
    put_u32(at + 8, SNAPSHOT_FORMAT_VERSION);
    put_u32(at + 12, id->shard);
    put_u64(at + 16, id->cluster);
    uint64_t checksum = XXH3_64bits(at, HEADER_CHECKSUM_AT);
    put_u64(at + HEADER_CHECKSUM_AT, checksum);
    return checksum;
}

/* Covers the two numbers of the header and the payload. */
static uint64_t block_checksum(const uint8_t *header, const uint8_t *payload, uint64_t checksum_before) {
    uint64_t of_header = XXH3_64bits_withSeed(header, BLOCK_CHECKSUM_AT, checksum_before);
    return XXH3_64bits_withSeed(payload, get_u32(header), of_header);
}

uint64_t snapshot_encode_block(uint8_t *at, uint32_t payload_bytes, uint32_t records, uint64_t checksum_before) {
    put_u32(at, payload_bytes);
    put_u32(at + 4, records);
    uint64_t checksum = block_checksum(at, at + SNAPSHOT_BLOCK_HEADER_BYTES, checksum_before);
    put_u64(at + BLOCK_CHECKSUM_AT, checksum);
    return checksum;
}

/* ---- errors ---- */

/* Where a writer or reader says what is wrong. */
struct words {
    const char *path; /* borrowed from its owner */
    char *text;       /* the caller's */
    size_t text_bytes;
};

__attribute__((format(printf, 3, 4))) static int fail(const struct words *words, int err, const char *format,
                                                      ...) {
    int used = snprintf(words->text, words->text_bytes, "%s: ", words->path);
    if (used < 0 || (size_t)used >= words->text_bytes) return err;
    va_list args;
    va_start(args, format);
    vsnprintf(words->text + used, words->text_bytes - (size_t)used, format, args);
    va_end(args);
    return err;
}

/* The limit on the size of a file is as a full disk, as it is to LMDB. */
static int fail_errno(const struct words *words, const char *doing) {
    int number = errno;
    int err = number == EFBIG ? SK_ENOSPC : error_from_errno(number);
    return fail(words, err, "%s: %s", doing, strerror(number));
}

static int fail_memory(const struct words *words) { return fail(words, SK_ENOMEM, "%s", error_text(SK_ENOMEM)); }

/* ---- writing ---- */

struct snapshot_writer {
    struct words words;
    char *path;      /* owned */
    char *part_path; /* owned; NULL: the file has its name */
    int fd;
    struct buffer block; /* its header, to be filled in, and payload */
    uint32_t block_records;
    uint64_t checksum; /* of all that was written */
    uint64_t bytes, records;
};

static int write_all(struct snapshot_writer *writer, struct slice bytes) {
    writer->bytes += bytes.size;
    while (bytes.size > 0) {
        ssize_t written = write(writer->fd, bytes.data, bytes.size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_errno(&writer->words, "writing");
        bytes = slice_of(bytes.data + written, bytes.size - (size_t)written);
    }
    return SK_OK;
}

/* Room for the header that write_block fills in. */
static void begin_block(struct snapshot_writer *writer) {
    buffer_clear(&writer->block, 2 * SNAPSHOT_BLOCK_BYTES);
    buffer_extend(&writer->block, SNAPSHOT_BLOCK_HEADER_BYTES);
    writer->block_records = 0;
}

static int write_block(struct snapshot_writer *writer) {
    struct buffer *block = &writer->block;
    if (block->failed) return fail_memory(&writer->words);
    uint32_t payload_bytes = (uint32_t)(block->size - SNAPSHOT_BLOCK_HEADER_BYTES);
    writer->checksum = snapshot_encode_block(block->data, payload_bytes, writer->block_records, writer->checksum);
    int err = write_all(writer, buffer_slice(block));
    begin_block(writer);
    return err;
}

static int add_record(struct snapshot_writer *writer, struct slice key, struct slice value) {
    sk_assert(key.size > 0 && key.size <= KV_KEY_BYTES_MAX && value.size <= SNAPSHOT_VALUE_BYTES_MAX);
    uint8_t header[SNAPSHOT_RECORD_HEADER_BYTES];
    put_u16(header, (uint16_t)key.size);
    put_u32(header + 2, (uint32_t)value.size);
    buffer_append(&writer->block, header, sizeof header);
    buffer_append(&writer->block, key.data, key.size);
    buffer_append(&writer->block, value.data, value.size);
    writer->block_records++;
    writer->records++;
    bool is_full = writer->block.failed || writer->block.size >= SNAPSHOT_BLOCK_BYTES;
    return is_full ? write_block(writer) : SK_OK;
}

static int open_part(struct snapshot_writer *writer, const char *path) {
    writer->path = strdup(path);
    if (writer->path == NULL || asprintf(&writer->part_path, "%s" PART_SUFFIX, path) < 0) {
        writer->part_path = NULL;
        return fail_memory(&writer->words);
    }
    writer->words.path = writer->path;
    writer->fd = open(writer->part_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (writer->fd >= 0) return SK_OK;
    int err = fail_errno(&writer->words, "opening");
    free(writer->part_path); /* nothing to remove */
    writer->part_path = NULL;
    return err;
}

int snapshot_writer_open(struct snapshot_writer **writer, const char *path, const struct snapshot_id *id,
                         struct slice record, char *text, size_t text_bytes) {
    struct words words = {.path = path, .text = text, .text_bytes = text_bytes};
    struct snapshot_writer *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return fail_memory(&words);
    opened->words = words;
    opened->fd = -1;
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    opened->checksum = snapshot_encode_header(header, id);
    int err = open_part(opened, path);
    if (err == SK_OK) err = write_all(opened, slice_of(header, sizeof header));
    if (err == SK_OK) {
        begin_block(opened);
        err = add_record(opened, record_shard_key(), record);
    }
    if (err != SK_OK) {
        snapshot_writer_close(opened);
        return err;
    }
    *writer = opened;
    return SK_OK;
}

int snapshot_writer_put(struct snapshot_writer *writer, struct slice key, struct slice value) {
    return add_record(writer, key, value);
}

static int write_trailer(struct snapshot_writer *writer) {
    uint8_t payload[SNAPSHOT_TRAILER_BYTES];
    put_u64(payload, writer->records);
    put_u64(payload + 8, writer->bytes);
    buffer_append(&writer->block, payload, sizeof payload);
    return write_block(writer);
}

int snapshot_writer_finish(struct snapshot_writer *writer, uint64_t *bytes, uint64_t *records) {
    int err = writer->block_records > 0 ? write_block(writer) : SK_OK;
    if (err == SK_OK) err = write_trailer(writer);
    if (err != SK_OK) return err;
    int closed = close(writer->fd);
    writer->fd = -1;
    if (closed != 0) return fail_errno(&writer->words, "closing");
    if (rename(writer->part_path, writer->path) != 0) return fail_errno(&writer->words, "renaming");
    free(writer->part_path);
    writer->part_path = NULL;
    *bytes = writer->bytes;
    *records = writer->records;
    return SK_OK;
}

void snapshot_writer_close(struct snapshot_writer *writer) {
    if (writer == NULL) return;
    if (writer->fd >= 0) close(writer->fd);
    if (writer->part_path != NULL) unlink(writer->part_path);
    buffer_deinit(&writer->block);
    free(writer->part_path);
    free(writer->path);
    free(writer);
}

/* ---- reading ---- */

struct snapshot_reader {
    struct words words;
    char *path; /* owned */
    int fd;
    uint64_t file_bytes;    /* when it was opened */
    uint64_t offset;        /* behind the block that was read last, */
    uint64_t block_at;      /* and where that begins */
    uint64_t checksum;      /* of all that was read */
    struct buffer block;    /* its payload */
    struct slice rest;      /* of it */
    uint32_t block_records; /* in the rest */
    uint64_t records;       /* in the blocks so far */
    struct buffer record;   /* the shard's own */
    size_t last_key_bytes;
    uint8_t last_key[KV_KEY_BYTES_MAX];
    int ended; /* what every later call answers; SK_OK: not yet */
};

static int damaged(const struct snapshot_reader *reader, const char *what) {
    return fail(&reader->words, SK_ECORRUPT, "at offset %llu: %s", (unsigned long long)reader->block_at, what);
}

static int read_exactly(struct snapshot_reader *reader, uint8_t *at, size_t size) {
    while (size > 0) {
        ssize_t got = read(reader->fd, at, size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail_errno(&reader->words, "reading");
        if (got == 0) return damaged(reader, "the file ends here");
        at += got;
        size -= (size_t)got;
        reader->offset += (uint64_t)got;
    }
    return SK_OK;
}

static int read_header(struct snapshot_reader *reader, const struct snapshot_id *id) {
    uint8_t header[SNAPSHOT_HEADER_BYTES];
    int err = read_exactly(reader, header, sizeof header);
    if (err != SK_OK) return err;
    if (memcmp(header, magic, sizeof magic) != 0) return damaged(reader, "not a snapshot of a shard");
    reader->checksum = XXH3_64bits(header, HEADER_CHECKSUM_AT);
    if (get_u64(header + HEADER_CHECKSUM_AT) != reader->checksum) return damaged(reader, "wrong checksum");
    uint32_t version = get_u32(header + 8), shard = get_u32(header + 12);
    uint64_t cluster = get_u64(header + 16);
    if (version != SNAPSHOT_FORMAT_VERSION) {
        return fail(&reader->words, SK_EVERSION, "has format %u, this version knows %u", version,
                    SNAPSHOT_FORMAT_VERSION);
    }
    if (shard == id->shard && cluster == id->cluster) return SK_OK;
    return fail(&reader->words, SK_CONFLICT, "of shard %u of cluster %llx, not %u of %llx", shard,
                (unsigned long long)cluster, id->shard, (unsigned long long)id->cluster);
}

/* The counts say what the checksums cannot: that a writer wrote what it meant to. */
static int check_trailer(struct snapshot_reader *reader) {
    if (reader->rest.size != SNAPSHOT_TRAILER_BYTES || get_u64(reader->rest.data) != reader->records ||
        get_u64(reader->rest.data + 8) != reader->block_at) {
        return damaged(reader, "the trailer's counts are wrong");
    }
    if (reader->offset != reader->file_bytes) return damaged(reader, "bytes behind the trailer");
    return SK_NOT_FOUND;
}

/* SK_OK, or SK_NOT_FOUND: it was the trailer. */
static int read_block(struct snapshot_reader *reader) {
    uint8_t header[SNAPSHOT_BLOCK_HEADER_BYTES];
    reader->block_at = reader->offset;
    int err = read_exactly(reader, header, sizeof header);
    if (err != SK_OK) return err;
    uint32_t payload_bytes = get_u32(header);
    /* Before the checksum is known: so no more memory than the file has bytes. */
    if (reader->offset > reader->file_bytes || payload_bytes > reader->file_bytes - reader->offset) {
        return damaged(reader, "the file ends in this block");
    }
    if (payload_bytes == 0) return damaged(reader, "an empty block");
    buffer_clear(&reader->block, 2 * SNAPSHOT_BLOCK_BYTES);
    uint8_t *payload = buffer_extend(&reader->block, payload_bytes);
    if (payload == NULL) return fail_memory(&reader->words);
    err = read_exactly(reader, payload, payload_bytes);
    if (err != SK_OK) return err;
    reader->checksum = block_checksum(header, payload, reader->checksum);
    if (get_u64(header + BLOCK_CHECKSUM_AT) != reader->checksum) return damaged(reader, "wrong checksum");
    reader->rest = buffer_slice(&reader->block);
    reader->block_records = get_u32(header + 4);
    reader->records += reader->block_records;
    return reader->block_records == 0 ? check_trailer(reader) : SK_OK;
}

/* Takes the record at the begin of the rest. */
static int take_record(struct snapshot_reader *reader, struct slice *key, struct slice *value) {
    struct slice rest = reader->rest;
    if (rest.size < SNAPSHOT_RECORD_HEADER_BYTES) return damaged(reader, "a record is cut off");
    size_t key_bytes = get_u16(rest.data), value_bytes = get_u32(rest.data + 2);
    rest = slice_of(rest.data + SNAPSHOT_RECORD_HEADER_BYTES, rest.size - SNAPSHOT_RECORD_HEADER_BYTES);
    if (key_bytes == 0 || key_bytes > KV_KEY_BYTES_MAX || value_bytes > SNAPSHOT_VALUE_BYTES_MAX) {
        return damaged(reader, "a record with sizes that none has");
    }
    if (key_bytes + value_bytes > rest.size) return damaged(reader, "a record is cut off");
    *key = slice_of(rest.data, key_bytes);
    *value = slice_of(rest.data + key_bytes, value_bytes);
    reader->rest = slice_of(rest.data + key_bytes + value_bytes, rest.size - key_bytes - value_bytes);
    reader->block_records--;
    if (reader->block_records == 0 && reader->rest.size > 0) return damaged(reader, "bytes behind the records");
    return SK_OK;
}

/* The first record of all. */
static int read_shard_record(struct snapshot_reader *reader) {
    struct slice key = {0}, value = {0};
    int err = read_block(reader);
    if (err == SK_OK) err = take_record(reader, &key, &value);
    if (err != SK_OK && err != SK_NOT_FOUND) return err;
    if (!slice_equal(key, record_shard_key())) {
        return damaged(reader, "does not begin with the shard's own record");
    }
    buffer_append(&reader->record, value.data, value.size);
    return reader->record.failed ? fail_memory(&reader->words) : SK_OK;
}

static int open_file(struct snapshot_reader *reader, const char *path) {
    struct stat file;
    reader->path = strdup(path);
    if (reader->path == NULL) return fail_memory(&reader->words);
    reader->words.path = reader->path;
    reader->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->fd < 0) return fail_errno(&reader->words, "opening");
    if (fstat(reader->fd, &file) != 0) return fail_errno(&reader->words, "fstat");
    reader->file_bytes = (uint64_t)file.st_size;
    return SK_OK;
}

int snapshot_reader_open(struct snapshot_reader **reader, const char *path, const struct snapshot_id *id,
                         char *text, size_t text_bytes) {
    struct words words = {.path = path, .text = text, .text_bytes = text_bytes};
    struct snapshot_reader *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return fail_memory(&words);
    opened->words = words;
    opened->fd = -1;
    int err = open_file(opened, path);
    if (err == SK_OK) err = read_header(opened, id);
    if (err == SK_OK) err = read_shard_record(opened);
    if (err != SK_OK) {
        snapshot_reader_close(opened);
        return err;
    }
    *reader = opened;
    return SK_OK;
}

struct slice snapshot_reader_record(const struct snapshot_reader *reader) {
    return buffer_slice(&reader->record);
}

static int next_record(struct snapshot_reader *reader, struct slice *key, struct slice *value) {
    if (reader->block_records == 0) {
        int err = read_block(reader);
        if (err != SK_OK) return err;
    }
    int err = take_record(reader, key, value);
    if (err != SK_OK) return err;
    /* LMDB is filled in order, and each key once. */
    if (slice_compare(*key, slice_of(reader->last_key, reader->last_key_bytes)) <= 0) {
        return damaged(reader, "keys out of order");
    }
    if (slice_equal(*key, record_shard_key())) return damaged(reader, "the shard's own record a second time");
    memcpy(reader->last_key, key->data, key->size);
    reader->last_key_bytes = key->size;
    return SK_OK;
}

int snapshot_reader_next(struct snapshot_reader *reader, struct slice *key, struct slice *value) {
    if (reader->ended == SK_OK) reader->ended = next_record(reader, key, value);
    return reader->ended;
}

void snapshot_reader_close(struct snapshot_reader *reader) {
    if (reader == NULL) return;
    if (reader->fd >= 0) close(reader->fd);
    buffer_deinit(&reader->block);
    buffer_deinit(&reader->record);
    free(reader->path);
    free(reader);
}
