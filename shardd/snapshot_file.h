/* A snapshot of one shard as a file: the shard's own record (RECORD_SHARD) first, then all its other records in the order
 * of their keys. It is written where the shard is, sent in chunks, and read where it is to be installed; so what is read
 * comes from a peer and is not trusted. Little-endian:
 *
 *   file   = header, blocks, trailer; nothing behind it
 *   header = magic (8 bytes), format version (4), shard (4), cluster (8), checksum (8)
 *   block  = payload bytes (4), records (4), checksum (8), payload: the records, about 64 KiB of them
 *   record = bytes of the key (2), bytes of the value (4), key, value
 *   trailer = a block without records, whose payload is the number of records (8) and of bytes before it (8)
 *
 * A checksum is XXH3-64 seeded with the one before it, so each covers all that stands before: a file that was cut short,
 * reordered, flipped, or put together from two is noticed where that begins.
 *
 * Threads: a writer or reader belongs to one at a time. */
#pragma once

#include "libcommon/buffer.h"

#define SNAPSHOT_FORMAT_VERSION  1u
#define SNAPSHOT_BLOCK_BYTES     65536u     /* a block ends with the record that reaches this */
#define SNAPSHOT_VALUE_BYTES_MAX (1u << 30) /* a shard's own record may outgrow what clients store */

/* Which shard of which cluster. */
struct snapshot_id {
    uint64_t cluster;
    uint32_t shard;
};

/* ---- writing ---- */

struct snapshot_writer;

/* Starts a file that stands under `path` once it is whole; until then under `path` with ".part" behind it, what stood
 * there before being replaced. `record` is the value of the shard's own record. `text` (of `text_bytes`) gets what is
 * wrong, in this call and the later ones, and outlives the writer. SK_ENOSPC, SK_EIO, SK_ENOMEM. */
int snapshot_writer_open(struct snapshot_writer **writer, const char *path, const struct snapshot_id *id,
                         struct slice record, char *text, size_t text_bytes);

/* The next record: keys ascend, are 1 to KV_KEY_BYTES_MAX bytes, and none is the shard's own. Errors as above; after one
 * only close follows. */
int snapshot_writer_put(struct snapshot_writer *writer, struct slice key, struct slice value);

/* Writes what is left and the trailer, and gives the file its name. Not synced: after a crash it is to be made anew.
 * `bytes` gets its size, `records` how many it has, the shard's own among them. Errors as above. */
int snapshot_writer_finish(struct snapshot_writer *writer, uint64_t *bytes, uint64_t *records);

/* Removes a file that is not finished. NULL is allowed. */
void snapshot_writer_close(struct snapshot_writer *writer);

/* ---- reading ---- */

struct snapshot_reader;

/* Opens a file and reads its header and the shard's own record. `text` as above, with the place in the file. SK_ECORRUPT,
 * SK_EVERSION (of another version), SK_CONFLICT (of another shard or cluster), SK_EIO, SK_ENOMEM. */
int snapshot_reader_open(struct snapshot_reader **reader, const char *path, const struct snapshot_id *id,
                         char *text, size_t text_bytes);

/* The value of the shard's own record. Lives as long as the reader. */
struct slice snapshot_reader_record(const struct snapshot_reader *reader);

/* The next of the other records, in the order of keys, each once. Slices live until the next call. SK_NOT_FOUND at the end:
 * then, and only then, the file is known to be whole. SK_ECORRUPT, SK_EIO, SK_ENOMEM. What failed fails again. */
int snapshot_reader_next(struct snapshot_reader *reader, struct slice *key, struct slice *value);

void snapshot_reader_close(struct snapshot_reader *reader); /* NULL is allowed */

/* ---- the bytes, for what makes files that the writer does not ---- */

#define SNAPSHOT_HEADER_BYTES        32u
#define SNAPSHOT_BLOCK_HEADER_BYTES  16u
#define SNAPSHOT_RECORD_HEADER_BYTES 6u
#define SNAPSHOT_TRAILER_BYTES       16u /* of payload */

/* Writes a header; returns its checksum, which the first block's continues. */
uint64_t snapshot_encode_header(uint8_t *at, const struct snapshot_id *id);

/* Writes a block's header before the payload, which lies at `at` + SNAPSHOT_BLOCK_HEADER_BYTES. Returns its checksum. */
uint64_t snapshot_encode_block(uint8_t *at, uint32_t payload_bytes, uint32_t records, uint64_t checksum_before);
