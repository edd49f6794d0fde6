#include "shardd/snapshot_file.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"
#include "shardd/kv.h"
#include "shardd/record_kind.h"

#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <xxhash.h>

/* A file in a directory of its own, and its bytes to be harmed. */
struct fixture {
    char directory[64];
    char path[96];
    char part_path[128];
    char text[512];
    uint8_t *bytes;
    size_t size;
};

static const struct snapshot_id id = {.cluster = UINT64_C(0xc0ffee), .shard = 17};

static int setup(void **state) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/sk-snapshot-XXXXXX");
    if (mkdtemp(fixture->directory) == NULL) return -1;
    snprintf(fixture->path, sizeof fixture->path, "%s/snapshot", fixture->directory);
    snprintf(fixture->part_path, sizeof fixture->part_path, "%s.part", fixture->path);
    *state = fixture;
    return 0;
}

static int teardown(void **state) {
    struct fixture *fixture = *state;
    unlink(fixture->path);
    unlink(fixture->part_path);
    rmdir(fixture->directory);
    free(fixture->bytes);
    free(fixture);
    return 0;
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

/* Record `number` of a file: sizes and content follow from it, and the keys ascend with it. Some values are larger than a
 * block, some empty. */
static struct slice record_key(uint32_t number, char room[KV_KEY_BYTES_MAX]) {
    snprintf(room, KV_KEY_BYTES_MAX, "%010u", number);
    size_t size = number % 7 == 0 ? KV_KEY_BYTES_MAX : 10 + number % 5;
    memset(room + 10, 'k', size - 10);
    return slice_of(room, size);
}

static struct slice record_value(uint32_t number, uint8_t *room) {
    size_t size = number % 11 == 0 ? 0 : number % 300;
    if (number % 500 == 450) size = 100000 + number;
    memset(room, (int)(number & 0xff), size);
    return slice_of(room, size);
}

static uint8_t value_room[400000];

static void write_file(struct fixture *fixture, const char *record, uint32_t count) {
    struct snapshot_writer *writer;
    char key[KV_KEY_BYTES_MAX];
    uint64_t bytes, records;
    unlink(fixture->path);
    assert_int_equal(snapshot_writer_open(&writer, fixture->path, &id, slice_of_text(record), fixture->text,
                                          sizeof fixture->text),
                     SK_OK);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(snapshot_writer_put(writer, record_key(i, key), record_value(i, value_room)), SK_OK);
    }
    assert_false(exists(fixture->path));
    assert_true(exists(fixture->part_path));
    assert_int_equal(snapshot_writer_finish(writer, &bytes, &records), SK_OK);
    snapshot_writer_close(writer);
    assert_false(exists(fixture->part_path));
    struct stat file;
    assert_int_equal(stat(fixture->path, &file), 0);
    assert_int_equal(file.st_size, bytes);
    assert_int_equal(records, count + 1);
}

/* Reads all; what is read before an error is as it was written, too. */
static int read_file(struct fixture *fixture, const char *record, uint32_t count) {
    struct snapshot_reader *reader;
    char key_room[KV_KEY_BYTES_MAX];
    struct slice key, value;
    fixture->text[0] = '\0';
    int err = snapshot_reader_open(&reader, fixture->path, &id, fixture->text, sizeof fixture->text);
    if (err != SK_OK) return err;
    if (record != NULL) assert_true(slice_equal(snapshot_reader_record(reader), slice_of_text(record)));
    uint32_t seen = 0;
    while ((err = snapshot_reader_next(reader, &key, &value)) == SK_OK) {
        if (record != NULL) {
            assert_true(slice_equal(key, record_key(seen, key_room)));
            assert_true(slice_equal(value, record_value(seen, value_room)));
        }
        seen++;
    }
    assert_int_equal(snapshot_reader_next(reader, &key, &value), err);
    if (record != NULL && err == SK_NOT_FOUND) assert_int_equal(seen, count);
    snapshot_reader_close(reader);
    return err;
}

static void load_bytes(struct fixture *fixture) {
    struct stat file;
    int fd = open(fixture->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &file) == 0);
    fixture->size = (size_t)file.st_size;
    free(fixture->bytes);
    fixture->bytes = malloc(fixture->size);
    assert_int_equal(read(fd, fixture->bytes, fixture->size), file.st_size);
    close(fd);
}

/* A new file each time: cutting an old one to nothing makes some file systems write at once. */
static void store_bytes(struct fixture *fixture, const void *bytes, size_t size) {
    unlink(fixture->path);
    int fd = open(fixture->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    close(fd);
}

static void assert_damaged(struct fixture *fixture, const char *record, uint32_t count) {
    int err = read_file(fixture, record, count);
    if (err != SK_ECORRUPT) fail_msg("%s: %s", error_name(err), fixture->text);
    assert_non_null(strstr(fixture->text, fixture->path));
    assert_non_null(strstr(fixture->text, "offset"));
}

static void test_what_is_written_is_read(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "the record", 0);
    assert_int_equal(read_file(fixture, "the record", 0), SK_NOT_FOUND);
    write_file(fixture, "", 1);
    assert_int_equal(read_file(fixture, "", 1), SK_NOT_FOUND);
    write_file(fixture, "again", 5000);
    assert_int_equal(read_file(fixture, "again", 5000), SK_NOT_FOUND);
    load_bytes(fixture);
    assert_true(fixture->size > 10 * SNAPSHOT_BLOCK_BYTES);
}

/* A shard's own record and a value as large as a client may store. */
static void test_large_records(void **state) {
    struct fixture *fixture = *state;
    size_t size = 17u << 20;
    uint8_t *large = malloc(size);
    for (size_t i = 0; i < size; i++) large[i] = (uint8_t)(i >> 8);
    struct snapshot_writer *writer;
    uint64_t bytes, records;
    assert_int_equal(snapshot_writer_open(&writer, fixture->path, &id, slice_of(large, size), fixture->text,
                                          sizeof fixture->text),
                     SK_OK);
    assert_int_equal(snapshot_writer_put(writer, slice_of_text("a"), slice_of(large, size)), SK_OK);
    assert_int_equal(snapshot_writer_put(writer, slice_of_text("b"), slice_of_text("small")), SK_OK);
    assert_int_equal(snapshot_writer_finish(writer, &bytes, &records), SK_OK);
    snapshot_writer_close(writer);

    struct snapshot_reader *reader;
    struct slice key, value;
    assert_int_equal(snapshot_reader_open(&reader, fixture->path, &id, fixture->text, sizeof fixture->text),
                     SK_OK);
    assert_true(slice_equal(snapshot_reader_record(reader), slice_of(large, size)));
    assert_int_equal(snapshot_reader_next(reader, &key, &value), SK_OK);
    assert_true(slice_equal(value, slice_of(large, size)));
    assert_int_equal(snapshot_reader_next(reader, &key, &value), SK_OK);
    assert_true(slice_equal(key, slice_of_text("b")) && slice_equal(value, slice_of_text("small")));
    assert_int_equal(snapshot_reader_next(reader, &key, &value), SK_NOT_FOUND);
    snapshot_reader_close(reader);
    free(large);
}

static void test_cut_off_anywhere(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "record", 20);
    load_bytes(fixture);
    for (size_t size = 0; size < fixture->size; size++) {
        store_bytes(fixture, fixture->bytes, size);
        assert_damaged(fixture, "record", 20);
    }
    write_file(fixture, "record", 2000);
    load_bytes(fixture);
    for (size_t size = 0; size < fixture->size; size += 4999) {
        store_bytes(fixture, fixture->bytes, size);
        assert_damaged(fixture, "record", 2000);
    }
}

static void test_flipped_anywhere(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "record", 20);
    load_bytes(fixture);
    for (size_t bit = 0; bit < fixture->size * 8; bit++) {
        fixture->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        store_bytes(fixture, fixture->bytes, fixture->size);
        assert_damaged(fixture, "record", 20);
        fixture->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    store_bytes(fixture, fixture->bytes, fixture->size);
    assert_int_equal(read_file(fixture, "record", 20), SK_NOT_FOUND);
}

/* Where block `number` begins, counted from 0; the trailer is the last. */
static size_t block_at(const struct fixture *fixture, size_t number) {
    size_t at = SNAPSHOT_HEADER_BYTES;
    while (number-- > 0) {
        uint32_t payload_bytes;
        memcpy(&payload_bytes, fixture->bytes + at, sizeof payload_bytes);
        at += SNAPSHOT_BLOCK_HEADER_BYTES + le32toh(payload_bytes);
    }
    return at;
}

/* A file of parts of the old one, each from block `first` to before `last`. */
static void store_parts(struct fixture *fixture, const size_t (*parts)[2], size_t count) {
    uint8_t *mixed = malloc(2 * fixture->size);
    size_t size = SNAPSHOT_HEADER_BYTES;
    memcpy(mixed, fixture->bytes, size);
    for (size_t i = 0; i < count; i++) {
        size_t from = block_at(fixture, parts[i][0]), to = block_at(fixture, parts[i][1]);
        memcpy(mixed + size, fixture->bytes + from, to - from);
        size += to - from;
    }
    store_bytes(fixture, mixed, size);
    free(mixed);
}

static void test_blocks_in_another_order(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "record", 2500);
    load_bytes(fixture);
    size_t count = 0; /* of blocks with the trailer */
    while (block_at(fixture, count) < fixture->size) count++;
    assert_true(count > 6);
    store_parts(fixture, (const size_t[][2]){{0, count}}, 1);
    assert_int_equal(read_file(fixture, "record", 2500), SK_NOT_FOUND);
    store_parts(fixture, (const size_t[][2]){{0, 2}, {3, 4}, {2, 3}, {4, count}}, 4);
    assert_damaged(fixture, "record", 2500);
    store_parts(fixture, (const size_t[][2]){{0, 2}, {3, count}}, 2); /* one left out, */
    assert_damaged(fixture, "record", 2500);
    store_parts(fixture, (const size_t[][2]){{0, 3}, {2, count}}, 2); /* twice, */
    assert_damaged(fixture, "record", 2500);
    store_parts(fixture, (const size_t[][2]){{1, count}}, 1); /* not the first, */
    assert_damaged(fixture, "record", 2500);
    store_parts(fixture, (const size_t[][2]){{0, count - 2}, {count - 1, count}}, 2); /* or the last */
    assert_damaged(fixture, "record", 2500);
}

/* Blocks of two whole snapshots of the same shard do not fit together. */
static void test_two_snapshots_mixed(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "older", 2500);
    load_bytes(fixture);
    size_t older_size = fixture->size, older_at = block_at(fixture, 3);
    uint8_t *older = malloc(older_size);
    memcpy(older, fixture->bytes, older_size);
    write_file(fixture, "newer", 2500);
    load_bytes(fixture);
    assert_int_equal(fixture->size, older_size);
    memcpy(fixture->bytes + older_at, older + older_at, older_size - older_at);
    store_bytes(fixture, fixture->bytes, fixture->size);
    assert_damaged(fixture, "newer", 2500);
    free(older);
}

static void test_bytes_behind_the_end(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "record", 10);
    load_bytes(fixture);
    uint8_t *longer = calloc(1, fixture->size + 1);
    memcpy(longer, fixture->bytes, fixture->size);
    store_bytes(fixture, longer, fixture->size + 1);
    assert_damaged(fixture, "record", 10);
    free(longer);
}

static void test_of_another_shard_or_cluster(void **state) {
    struct fixture *fixture = *state;
    struct snapshot_reader *reader;
    write_file(fixture, "record", 1);
    struct snapshot_id other = {.cluster = id.cluster, .shard = id.shard + 1};
    assert_int_equal(snapshot_reader_open(&reader, fixture->path, &other, fixture->text, sizeof fixture->text),
                     SK_CONFLICT);
    assert_non_null(strstr(fixture->text, "of shard 17 of cluster c0ffee, not 18 of c0ffee"));
    other = (struct snapshot_id){.cluster = id.cluster + 1, .shard = id.shard};
    assert_int_equal(snapshot_reader_open(&reader, fixture->path, &other, fixture->text, sizeof fixture->text),
                     SK_CONFLICT);
}

static void test_of_another_version(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "record", 1);
    load_bytes(fixture);
    fixture->bytes[8]++;
    store_bytes(fixture, fixture->bytes, fixture->size);
    assert_damaged(fixture, NULL, 0); /* a flipped bit is no new version */
    /* Every version keeps magic, version and checksum at their places. */
    uint64_t checksum = htole64(XXH3_64bits(fixture->bytes, 24));
    memcpy(fixture->bytes + 24, &checksum, sizeof checksum);
    store_bytes(fixture, fixture->bytes, fixture->size);
    assert_int_equal(read_file(fixture, NULL, 0), SK_EVERSION);
    assert_non_null(strstr(fixture->text, "has format 2, this version knows 1"));
}

static void test_no_file(void **state) {
    struct fixture *fixture = *state;
    assert_int_equal(read_file(fixture, NULL, 0), SK_EIO);
    assert_non_null(strstr(fixture->text, "No such file"));
    struct snapshot_reader *reader;
    assert_int_equal(snapshot_reader_open(&reader, fixture->directory, &id, fixture->text, sizeof fixture->text),
                     SK_EIO);
    store_bytes(fixture, "SKSNAPSI", 8);
    assert_damaged(fixture, NULL, 0);
}

/* ---- right checksums over what no writer writes ---- */

/* Puts files together from blocks. */
struct forger {
    uint8_t bytes[4096];
    size_t size;
    size_t block; /* where the open one begins */
    uint32_t records;
    uint64_t checksum;
};

static void forge_block(struct forger *forger) {
    forger->block = forger->size;
    forger->size += SNAPSHOT_BLOCK_HEADER_BYTES;
    forger->records = 0;
}

static void forge_begin(struct forger *forger) {
    forger->checksum = snapshot_encode_header(forger->bytes, &id);
    forger->size = SNAPSHOT_HEADER_BYTES;
    forge_block(forger);
}

static void forge_bytes(struct forger *forger, const void *bytes, size_t size) {
    memcpy(forger->bytes + forger->size, bytes, size);
    forger->size += size;
}

/* Sizes may be other than those of what follows. */
static void forge_record_of(struct forger *forger, uint16_t key_bytes, uint32_t value_bytes, struct slice key,
                            struct slice value) {
    key_bytes = htole16(key_bytes);
    value_bytes = htole32(value_bytes);
    forge_bytes(forger, &key_bytes, sizeof key_bytes);
    forge_bytes(forger, &value_bytes, sizeof value_bytes);
    forge_bytes(forger, key.data, key.size);
    forge_bytes(forger, value.data, value.size);
    forger->records++;
}

static void forge_record(struct forger *forger, struct slice key, const char *value) {
    forge_record_of(forger, (uint16_t)key.size, (uint32_t)strlen(value), key, slice_of_text(value));
}

static void forge_end_block(struct forger *forger) {
    uint8_t *at = forger->bytes + forger->block;
    uint32_t payload_bytes = (uint32_t)(forger->size - forger->block - SNAPSHOT_BLOCK_HEADER_BYTES);
    forger->checksum = snapshot_encode_block(at, payload_bytes, forger->records, forger->checksum);
}

/* The open block's end, and a trailer that counts `records`; `off` is added to the trailer's place. */
static void forge_finish(struct fixture *fixture, struct forger *forger, uint64_t records, uint64_t off) {
    forge_end_block(forger);
    uint64_t counts[2] = {htole64(records), htole64(forger->size + off)};
    forge_block(forger);
    forge_bytes(forger, counts, sizeof counts);
    forge_end_block(forger);
    store_bytes(fixture, forger->bytes, forger->size);
}

static void assert_refused(struct fixture *fixture, const char *words) {
    assert_damaged(fixture, NULL, 0);
    if (strstr(fixture->text, words) == NULL) fail_msg("'%s' does not say '%s'", fixture->text, words);
}

static void forge_first(struct forger *forger) {
    forge_begin(forger);
    forge_record(forger, record_shard_key(), "mine");
}

static void test_forged_records(void **state) {
    struct fixture *fixture = *state;
    struct slice a = slice_of_text("a"), b = slice_of_text("b"), none = slice_of_text("");
    uint8_t long_key[KV_KEY_BYTES_MAX + 1];
    memset(long_key, 'x', sizeof long_key);
    struct forger forger;

    forge_first(&forger);
    forge_record(&forger, a, "1");
    forge_record(&forger, b, "2");
    forge_finish(fixture, &forger, 3, 0);
    assert_int_equal(read_file(fixture, NULL, 0), SK_NOT_FOUND);

    forge_first(&forger);
    forge_record(&forger, b, "1");
    forge_record(&forger, a, "2");
    forge_finish(fixture, &forger, 3, 0);
    assert_refused(fixture, "keys out of order");

    forge_first(&forger);
    forge_record(&forger, a, "1");
    forge_end_block(&forger);
    forge_block(&forger);
    forge_record(&forger, a, "2");
    forge_finish(fixture, &forger, 3, 0);
    assert_refused(fixture, "keys out of order");

    forge_first(&forger);
    forge_record(&forger, record_shard_key(), "mine again");
    forge_finish(fixture, &forger, 2, 0);
    assert_refused(fixture, "a second time");

    forge_begin(&forger);
    forge_record(&forger, a, "1");
    forge_finish(fixture, &forger, 1, 0);
    assert_refused(fixture, "does not begin with the shard's own record");

    forge_first(&forger);
    forge_record_of(&forger, 0, 1, none, a);
    forge_finish(fixture, &forger, 2, 0);
    assert_refused(fixture, "sizes that none has");

    forge_first(&forger);
    forge_record(&forger, slice_of(long_key, sizeof long_key), "1");
    forge_finish(fixture, &forger, 2, 0);
    assert_refused(fixture, "sizes that none has");

    forge_first(&forger);
    forge_record_of(&forger, 1, SNAPSHOT_VALUE_BYTES_MAX + 1, a, a);
    forge_finish(fixture, &forger, 2, 0);
    assert_refused(fixture, "sizes that none has");

    forge_first(&forger);
    forge_record_of(&forger, 1, 2, a, b);
    forge_finish(fixture, &forger, 2, 0);
    assert_refused(fixture, "a record is cut off");

    forge_first(&forger);
    forger.records++;
    forge_bytes(&forger, "short", 5);
    forge_finish(fixture, &forger, 2, 0);
    assert_refused(fixture, "a record is cut off");
}

static void test_forged_blocks(void **state) {
    struct fixture *fixture = *state;
    struct slice a = slice_of_text("a");
    struct forger forger;

    forge_first(&forger);
    forge_bytes(&forger, "x", 1);
    forge_finish(fixture, &forger, 1, 0);
    assert_refused(fixture, "bytes behind the records");

    forge_first(&forger);
    forge_record(&forger, a, "1");
    forge_finish(fixture, &forger, 3, 0);
    assert_refused(fixture, "counts are wrong");

    forge_first(&forger);
    forge_finish(fixture, &forger, 1, 1);
    assert_refused(fixture, "counts are wrong");

    forge_first(&forger); /* a trailer of another size */
    forge_end_block(&forger);
    forge_block(&forger);
    forge_bytes(&forger, "short", 5);
    forge_end_block(&forger);
    store_bytes(fixture, forger.bytes, forger.size);
    assert_refused(fixture, "counts are wrong");

    forge_first(&forger); /* a block of nothing */
    forge_end_block(&forger);
    forge_block(&forger);
    forge_finish(fixture, &forger, 1, 0);
    assert_refused(fixture, "an empty block");

    forge_begin(&forger); /* nothing but a trailer */
    forger.size = SNAPSHOT_HEADER_BYTES;
    forge_block(&forger);
    uint64_t counts[2] = {0, htole64(SNAPSHOT_HEADER_BYTES)};
    forge_bytes(&forger, counts, sizeof counts);
    forge_end_block(&forger);
    store_bytes(fixture, forger.bytes, forger.size);
    assert_refused(fixture, "does not begin with the shard's own record");

    forge_first(&forger);
    forge_finish(fixture, &forger, 1, 0);
    forge_bytes(&forger, "x", 1);
    store_bytes(fixture, forger.bytes, forger.size);
    assert_refused(fixture, "bytes behind the trailer");
}

/* ---- when there is no room ---- */

/* Writes until an error; the error. */
static int write_until_error(struct fixture *fixture, uint32_t count) {
    struct snapshot_writer *writer;
    char key[KV_KEY_BYTES_MAX];
    uint64_t bytes, records;
    int err = snapshot_writer_open(&writer, fixture->path, &id, slice_of_text("record"), fixture->text,
                                   sizeof fixture->text);
    if (err != SK_OK) return err;
    for (uint32_t i = 0; i < count && err == SK_OK; i++) {
        err = snapshot_writer_put(writer, record_key(i, key), record_value(i, value_room));
    }
    if (err == SK_OK) err = snapshot_writer_finish(writer, &bytes, &records);
    snapshot_writer_close(writer);
    return err;
}

/* However much fits, nothing is left behind. */
static void test_full_disk(void **state) {
    struct fixture *fixture = *state;
    write_file(fixture, "record", 2000);
    load_bytes(fixture);
    unlink(fixture->path);
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    size_t trailer = block_at(fixture, 0);
    for (size_t next = trailer; next < fixture->size;) {
        trailer = next;
        uint32_t payload_bytes;
        memcpy(&payload_bytes, fixture->bytes + next, sizeof payload_bytes);
        next += SNAPSHOT_BLOCK_HEADER_BYTES + le32toh(payload_bytes);
    }
    const size_t rooms[] = {0, 10, 100, 70000, fixture->size / 2, trailer, fixture->size - 1};
    for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
        struct rlimit tight = {.rlim_cur = rooms[i], .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
        int err = write_until_error(fixture, 2000);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(err, SK_ENOSPC);
        assert_non_null(strstr(fixture->text, fixture->path));
        assert_false(exists(fixture->path));
        assert_false(exists(fixture->part_path));
    }
    assert_int_equal(write_until_error(fixture, 2000), SK_OK);
}

static void test_bad_paths(void **state) {
    struct fixture *fixture = *state;
    snprintf(fixture->path, sizeof fixture->path, "%s/no/snapshot", fixture->directory);
    assert_int_equal(write_until_error(fixture, 1), SK_EIO);
    assert_non_null(strstr(fixture->text, "No such file or directory"));
    /* A directory stands where the file is to be. */
    snprintf(fixture->path, sizeof fixture->path, "%s/snapshot", fixture->directory);
    assert_int_equal(mkdir(fixture->path, 0700), 0);
    assert_int_equal(write_until_error(fixture, 1), SK_EIO);
    assert_false(exists(fixture->part_path));
    assert_int_equal(rmdir(fixture->path), 0);
}

/* A file that is not finished leaves nothing, and the old one of that name in peace. */
static void test_unfinished(void **state) {
    struct fixture *fixture = *state;
    struct snapshot_writer *writer;
    write_file(fixture, "old", 10);
    assert_int_equal(snapshot_writer_open(&writer, fixture->path, &id, slice_of_text("new"), fixture->text,
                                          sizeof fixture->text),
                     SK_OK);
    assert_int_equal(snapshot_writer_put(writer, slice_of_text("k"), slice_of_text("v")), SK_OK);
    assert_true(exists(fixture->part_path));
    snapshot_writer_close(writer);
    assert_false(exists(fixture->part_path));
    assert_int_equal(read_file(fixture, "old", 10), SK_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cut_off_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocks_in_another_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_snapshots_mixed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bytes_behind_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_another_shard_or_cluster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_of_another_version, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forged_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forged_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unfinished, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
