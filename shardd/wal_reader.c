#include "shardd/wal_reader.h"

#include "libcommon/check.h"
#include "libcommon/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES (256u * 1024)

void wal_reader_init(struct wal_reader *reader, const struct wal_files *files) {
    *reader = (struct wal_reader){.files = files};
}

static void close_file(struct wal_reader_file *file) {
    if (file->segment != 0) close(file->fd);
    *file = (struct wal_reader_file){0};
}

void wal_reader_deinit(struct wal_reader *reader) {
    for (size_t i = 0; i < WAL_READER_FILES; i++) close_file(&reader->open_files[i]);
    free(reader->data);
    *reader = (struct wal_reader){0};
}

void wal_reader_release(struct wal_reader *reader, uint64_t segment) {
    for (size_t i = 0; i < WAL_READER_FILES; i++) {
        if (reader->open_files[i].segment < segment) close_file(&reader->open_files[i]);
    }
}

/* The segment's file, opened in place of the one that was longest not used if it is not open. */
static int find_file(struct wal_reader *reader, uint64_t segment, int *fd) {
    struct wal_reader_file *file = NULL;
    for (size_t i = 0; i < WAL_READER_FILES; i++) {
        struct wal_reader_file *candidate = &reader->open_files[i];
        if (file == NULL || candidate->used < file->used) file = candidate;
        if (candidate->segment != segment) continue;
        file = candidate;
        break;
    }
    if (file->segment != segment) {
        close_file(file);
        int err = wal_segment_open_to_read(reader->files, segment, &file->fd);
        if (err != SK_OK) return err;
        file->segment = segment;
    }
    file->used = ++reader->uses;
    *fd = file->fd;
    return SK_OK;
}

/* What a large entry took goes back with the next one that is not. The old content is not kept. */
static int reserve(struct wal_reader *reader, size_t size) {
    size_t wanted = size > READ_BYTES ? size : READ_BYTES;
    reader->size = 0;
    if (wanted == reader->capacity) return SK_OK;
    free(reader->data);
    reader->data = malloc(wanted);
    reader->capacity = reader->data == NULL ? 0 : wanted;
    return reader->data == NULL ? SK_ENOMEM : SK_OK;
}

/* `at` gets the `size` bytes at `position`; valid until the next call. */
static int fetch(struct wal_reader *reader, wal_position position, wal_position durable, uint64_t size,
                 const uint8_t **at) {
    bool inside = position >= reader->from && position - reader->from <= reader->size &&
                  size <= reader->size - (position - reader->from);
    if (!inside) {
        uint64_t segment = position / reader->files->segment_bytes;
        uint64_t end = (segment + 1) * reader->files->segment_bytes;
        uint64_t left = (durable < end ? durable : end) - position;
        if (size > left) return SK_ECORRUPT;
        int fd;
        int err = reserve(reader, (size_t)size);
        if (err == SK_OK) err = find_file(reader, segment, &fd);
        if (err != SK_OK) return err;
        size_t bytes = left < reader->capacity ? (size_t)left : reader->capacity;
        err = wal_file_read(reader->files, fd, reader->data, bytes, position % reader->files->segment_bytes);
        if (err != SK_OK) return err;
        reader->from = position;
        reader->size = bytes;
    }
    *at = reader->data + (position - reader->from);
    return SK_OK;
}

static int read_entry(struct wal_reader *reader, wal_position position, wal_position durable,
                      struct wal_entry *entry) {
    const uint8_t *at;
    int err = fetch(reader, position, durable, WAL_ENTRY_HEADER_BYTES, &at);
    if (err != SK_OK) return err;
    uint64_t claimed = wal_entry_claimed_bytes(at);
    err = fetch(reader, position, durable, claimed, &at);
    if (err != SK_OK) return err;
    size_t size;
    return wal_decode_entry(slice_of(at, (size_t)claimed), reader->files->seed, position, entry, &size);
}

int wal_reader_read(struct wal_reader *reader, wal_position position, wal_position durable,
                    struct wal_entry *entry) {
    sk_assert(position < durable);
    int err = read_entry(reader, position, durable, entry);
    if (err == SK_OK) return SK_OK;
    reader->size = 0;
    log_event(LOG_ERROR, "wal_read_failed", "directory=%s segment=%" PRIu64 " offset=%" PRIu64 " error=%s",
              reader->files->directory, position / reader->files->segment_bytes,
              position % reader->files->segment_bytes, error_name(err));
    return err;
}
