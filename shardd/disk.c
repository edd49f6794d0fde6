#include "disk.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define CHECKSUM_BYTES    4u
#define FAULT_TEXT_BYTES  512u
#define SHARD_NAME_BYTES  8u  /* "s16383" */
#define NODE_BYTES        16u /* what LMDB and we add to a record, about */
#define FREE_DBI          0u  /* LMDB's list of free pages */
#define MISSING_PAGES_MAX (1u << 20)
#define PROBE_BYTES_MIN   (1u << 20)

static const char meta_name[] = "meta";
static const char format_key[] = "format";
static const char partial_prefix[] = "partial ";

struct fresh_database {
    uint32_t shard;
    MDB_dbi dbi;
};

struct mark {
    bool is_set; /* there is such a change */
    bool partial;
    uint32_t shard;
};

struct disk {
    char *directory; /* owned */
    uint64_t map_bytes;
    MDB_env *env; /* owned; NULL after a failed reopening */
    MDB_dbi meta;
    uint32_t page_bytes;
    atomic_uint open_exports;
    atomic_uint_fast64_t commits; /* made by the writer so far */

    /* The lane's. */
    bool in_step;
    bool reading;          /* `reader` holds a state, */
    uint64_t read_commits; /* that of after so many commits */
    MDB_txn *reader;       /* owned; NULL before the first read. Its slot is kept for good. */
    uint32_t open_cursors;
    char fault[FAULT_TEXT_BYTES];

    /* The lane's; the writer reads it, and the lane leaves it alone while somebody writes. 0: no database. */
    MDB_dbi databases[SHARD_COUNT_MAX];
    bool partial[SHARD_COUNT_MAX];

    /* The writer's; the lane's while nobody writes. */
    MDB_txn *writer;
    MDB_cursor *write_cursor;
    MDB_dbi write_dbi;
    uint32_t write_shard;
    uint64_t shard_changes;
    uint64_t appended_bytes;
    uint64_t dirty_bytes;    /* of this transaction's pages, those of large values apart: */
    uint64_t overflow_bytes; /* LMDB frees them at the end */
    uint64_t dirty_bytes_max;
    bool is_broken;               /* LMDB refuses everything until it is opened anew */
    struct mark mark_committed;   /* since the last publishing */
    struct mark mark_pending;     /* of this transaction */
    struct fresh_database *fresh; /* owned; made since the last publishing */
    size_t fresh_count;           /* committed ones */
    size_t fresh_pending;         /* of this transaction, behind them */
    size_t fresh_capacity;
    char write_fault[FAULT_TEXT_BYTES];
};

struct disk_cursor {
    struct disk *disk;  /* borrowed */
    MDB_cursor *cursor; /* owned */
    uint32_t shard;
};

struct disk_export {
    struct disk *disk;  /* borrowed */
    MDB_txn *txn;       /* owned */
    MDB_cursor *cursor; /* owned */
    MDB_dbi dbi;
    uint32_t shard;
    char fault[FAULT_TEXT_BYTES];
};

/* ---- errors ---- */

static int translate(int code) {
    switch (code) {
    case MDB_SUCCESS:
        return SK_OK;
    case MDB_NOTFOUND:
        return SK_NOT_FOUND;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_PANIC:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
        return SK_ECORRUPT;
    case MDB_VERSION_MISMATCH:
        return SK_EVERSION;
    case MDB_MAP_FULL:
    case EFBIG: /* the limit of a process or file system on the size of a file */
        return SK_ENOSPC;
    default:
        return code > 0 ? error_from_errno(code) : SK_EUNEXPECTED;
    }
}

__attribute__((format(printf, 3, 4))) static void say(const struct disk *disk, char *text, const char *format,
                                                      ...) {
    int used = snprintf(text, FAULT_TEXT_BYTES, "%s/data.mdb: ", disk->directory);
    if (used < 0 || (size_t)used >= FAULT_TEXT_BYTES) return;
    va_list args;
    va_start(args, format);
    vsnprintf(text + used, FAULT_TEXT_BYTES - (size_t)used, format, args);
    va_end(args);
}

/* LMDB's code as ours; faults leave their words in `text`. */
static int told(const struct disk *disk, char *text, const char *doing, int code) {
    int err = translate(code);
    if (err < 0) say(disk, text, "%s: %s", doing, mdb_strerror(code));
    return err;
}

/* ---- checksums ---- */

static MDB_val val_of(struct slice slice) {
    return (MDB_val){.mv_size = slice.size, .mv_data = (void *)slice.data};
}

static struct slice slice_of_val(MDB_val val) { return slice_of(val.mv_data, val.mv_size); }

/* Of key and value together, so that a value under another's key is noticed. */
static uint32_t checksum_of(struct slice key, struct slice value) {
    uint64_t of_key = XXH3_64bits(key.data, key.size);
    uint64_t of_value = XXH3_64bits(value.data, value.size);
    return (uint32_t)((of_key * 0x9e3779b97f4a7c15u ^ of_value) >> 32);
}

/* Where in the file the mapped byte at `address` lies: LMDB does not say where its map is, the system does. */
static bool file_offset_of(const void *address, uint64_t *offset) {
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) return false;
    bool found = false;
    char line[1024];
    while (!found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end, file_start;
        if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &file_start) != 3) continue;
        if ((uintptr_t)address < start || (uintptr_t)address >= end) continue;
        *offset = file_start + ((uintptr_t)address - start);
        found = true;
    }
    fclose(maps);
    return found;
}

static int damaged_record(const struct disk *disk, char *text, uint32_t shard, struct slice stored) {
    uint64_t offset = 0;
    if (file_offset_of(stored.data, &offset)) {
        say(disk, text, "shard %u: a record at offset %llu does not match its checksum", shard,
            (unsigned long long)offset);
    } else {
        say(disk, text, "shard %u: a record does not match its checksum", shard);
    }
    return SK_ECORRUPT;
}

/* `text` gets the words of a fault. */
static int unwrap(const struct disk *disk, char *text, uint32_t shard, struct slice key, struct slice stored,
                  struct slice *value) {
    if (stored.size < CHECKSUM_BYTES) return damaged_record(disk, text, shard, stored);
    struct slice bare = slice_of(stored.data, stored.size - CHECKSUM_BYTES);
    uint32_t checksum;
    memcpy(&checksum, bare.data + bare.size, sizeof checksum);
    if (checksum != checksum_of(key, bare)) return damaged_record(disk, text, shard, stored);
    *value = bare;
    return SK_OK;
}

/* ---- keys ---- */

static uint64_t first_bytes(const void *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return be64toh(word);
}

/* LMDB's own order, bytes and then length, which it looks up with a call of memcmp for each key that a search meets: the first
 * eight bytes nearly always tell. */
static int compare_keys(const MDB_val *a, const MDB_val *b) {
    if (a->mv_size >= sizeof(uint64_t) && b->mv_size >= sizeof(uint64_t)) {
        uint64_t left = first_bytes(a->mv_data), right = first_bytes(b->mv_data);
        if (left != right) return left < right ? -1 : 1;
    }
    return slice_compare(slice_of_val(*a), slice_of_val(*b));
}

/* The database of a shard. `flags`: MDB_CREATE, or 0. */
static int open_database(MDB_txn *txn, const char *name, unsigned flags, MDB_dbi *dbi) {
    int code = mdb_dbi_open(txn, name, flags, dbi);
    return code == MDB_SUCCESS ? mdb_set_compare(txn, *dbi, compare_keys) : code;
}

/* ---- opening ---- */

static void shard_name(uint32_t shard, char name[SHARD_NAME_BYTES]) {
    snprintf(name, SHARD_NAME_BYTES, "s%u", shard);
}

static bool parse_shard_name(struct slice name, uint32_t *shard) {
    char text[SHARD_NAME_BYTES] = "";
    if (name.size == 0 || name.size >= sizeof text) return false;
    memcpy(text, name.data, name.size);
    char again[SHARD_NAME_BYTES];
    if (sscanf(text, "s%5u", shard) != 1 || *shard >= SHARD_COUNT_MAX) return false;
    shard_name(*shard, again);
    return strcmp(text, again) == 0;
}

static int make_directory(struct disk *disk) {
    if (mkdir(disk->directory, 0700) == 0 || errno == EEXIST) return SK_OK;
    snprintf(disk->fault, sizeof disk->fault, "%s: %s", disk->directory, strerror(errno));
    return error_from_errno(errno);
}

/* Marks in `seen` the pages from `first` on that the list of free pages has. */
static int mark_free_pages(MDB_txn *txn, uint64_t first, uint64_t count, uint8_t *seen) {
    MDB_cursor *cursor;
    int code = mdb_cursor_open(txn, FREE_DBI, &cursor);
    if (code != MDB_SUCCESS) return code;
    MDB_val key, list;
    while ((code = mdb_cursor_get(cursor, &key, &list, MDB_NEXT)) == MDB_SUCCESS) {
        for (size_t at = sizeof(uint64_t); at + sizeof(uint64_t) <= list.mv_size; at += sizeof(uint64_t)) {
            uint64_t page;
            memcpy(&page, (const uint8_t *)list.mv_data + at, sizeof page);
            if (page >= first && page - first < count) seen[page - first] = 1;
        }
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? MDB_SUCCESS : code;
}

/* Whether all the pages that the file is too short for are free: LMDB counts pages at the end that a transaction
 * took and gave back, but never writes them. The file is long enough while this looks, so that no look is a
 * SIGBUS. */
static int missing_pages_are_free(struct disk *disk, uint64_t first, uint64_t count, bool *all_free) {
    *all_free = false;
    if (count > MISSING_PAGES_MAX) return MDB_SUCCESS;
    uint8_t *seen = calloc(count, 1);
    if (seen == NULL) return ENOMEM;
    MDB_txn *txn;
    int code = mdb_txn_begin(disk->env, NULL, MDB_RDONLY, &txn);
    if (code == MDB_SUCCESS) {
        code = mark_free_pages(txn, first, count, seen);
        mdb_txn_abort(txn);
    }
    *all_free = code == MDB_SUCCESS && memchr(seen, 0, count) == NULL;
    free(seen);
    return *all_free || code == ENOMEM ? code : MDB_SUCCESS;
}

/* A file that was cut off would be a SIGBUS at the first touch of what is missing. */
static int check_file_size(struct disk *disk) {
    int fd;
    struct stat file;
    MDB_envinfo info;
    MDB_stat stat;
    mdb_env_get_fd(disk->env, &fd);
    mdb_env_info(disk->env, &info);
    mdb_env_stat(disk->env, &stat);
    disk->page_bytes = stat.ms_psize;
    if (fstat(fd, &file) != 0) return told(disk, disk->fault, "fstat", errno);
    uint64_t have = (uint64_t)file.st_size;
    uint64_t pages = (uint64_t)info.me_last_pgno + 1;
    if (have / stat.ms_psize >= pages) return SK_OK;
    bool all_free = false;
    if (pages <= info.me_mapsize / stat.ms_psize) {
        uint64_t first = have / stat.ms_psize;
        if (ftruncate(fd, (off_t)(pages * stat.ms_psize)) != 0) return told(disk, disk->fault, "ftruncate", errno);
        int code = missing_pages_are_free(disk, first, pages - first, &all_free);
        if (all_free) return SK_OK;
        /* Leaves the evidence as it was found. */
        if (ftruncate(fd, (off_t)have) != 0 && code == MDB_SUCCESS) code = errno;
        if (code != MDB_SUCCESS) return told(disk, disk->fault, "looking for what is missing", code);
    }
    say(disk, disk->fault, "cut off at offset %llu: %llu pages of %u bytes were written", (unsigned long long)have,
        (unsigned long long)pages, stat.ms_psize);
    return SK_ECORRUPT;
}

/* The names of the file and of its directory, which may have just been made: a commit is not on disk before they are. */
static int sync_names(struct disk *disk) {
    static const char *const above[] = {".", ".."};
    int err = SK_OK;
    for (size_t i = 0; err == SK_OK && i < sizeof above / sizeof above[0]; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", disk->directory, above[i]);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0) err = told(disk, disk->fault, "syncing the directory", errno);
        if (fd >= 0) close(fd);
    }
    return err;
}

/* A file that was just made gets its mark. */
static int write_format(struct disk *disk) {
    MDB_txn *txn;
    int code = mdb_txn_begin(disk->env, NULL, 0, &txn);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "first transaction", code);
    uint8_t version[4] = {DISK_FORMAT_VERSION, 0, 0, 0};
    MDB_val key = val_of(slice_of_text(format_key)), value = val_of(slice_of(version, sizeof version));
    code = mdb_dbi_open(txn, meta_name, MDB_CREATE, &disk->meta);
    if (code == MDB_SUCCESS) code = mdb_put(txn, disk->meta, &key, &value, 0);
    if (code == MDB_SUCCESS) code = mdb_txn_commit(txn);
    else mdb_txn_abort(txn);
    return told(disk, disk->fault, "first transaction", code);
}

static int check_format(struct disk *disk, MDB_txn *txn) {
    MDB_val key = val_of(slice_of_text(format_key)), value;
    int code = mdb_dbi_open(txn, meta_name, 0, &disk->meta);
    if (code == MDB_SUCCESS) code = mdb_get(txn, disk->meta, &key, &value);
    if (code == MDB_NOTFOUND || code == MDB_INCOMPATIBLE || (code == MDB_SUCCESS && value.mv_size != 4)) {
        say(disk, disk->fault, "an LMDB file, but not one of a Skerry store");
        return SK_ECORRUPT;
    }
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "reading the format", code);
    const uint8_t *bytes = value.mv_data;
    uint32_t version = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    if (version == DISK_FORMAT_VERSION) return SK_OK;
    say(disk, disk->fault, "has format %u, this version knows %u", version, DISK_FORMAT_VERSION);
    return SK_EVERSION;
}

static int open_databases(struct disk *disk, MDB_txn *txn, MDB_cursor *names) {
    MDB_val key, value;
    int code;
    while ((code = mdb_cursor_get(names, &key, &value, MDB_NEXT_NODUP)) == MDB_SUCCESS) {
        uint32_t shard;
        if (!parse_shard_name(slice_of_val(key), &shard)) continue;
        char name[SHARD_NAME_BYTES];
        shard_name(shard, name);
        code = open_database(txn, name, 0, &disk->databases[shard]);
        if (code != MDB_SUCCESS) return told(disk, disk->fault, name, code);
    }
    return code == MDB_NOTFOUND ? SK_OK : told(disk, disk->fault, "reading the list of databases", code);
}

/* The key of a shard's mark: the prefix and the name of its database. */
static struct slice mark_key(uint32_t shard, char room[sizeof partial_prefix + SHARD_NAME_BYTES]) {
    char name[SHARD_NAME_BYTES];
    shard_name(shard, name);
    int size = snprintf(room, sizeof partial_prefix + SHARD_NAME_BYTES, "%s%s", partial_prefix, name);
    return slice_of(room, (size_t)size);
}

static int read_marks(struct disk *disk, MDB_txn *txn) {
    MDB_cursor *cursor;
    int code = mdb_cursor_open(txn, disk->meta, &cursor);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "reading the marks", code);
    struct slice prefix = slice_of_text(partial_prefix);
    MDB_val key = val_of(prefix), value;
    MDB_cursor_op op = MDB_SET_RANGE;
    for (; (code = mdb_cursor_get(cursor, &key, &value, op)) == MDB_SUCCESS; op = MDB_NEXT) {
        struct slice found = slice_of_val(key);
        uint32_t shard;
        if (found.size < prefix.size || memcmp(found.data, prefix.data, prefix.size) != 0) break;
        if (parse_shard_name(slice_of(found.data + prefix.size, found.size - prefix.size), &shard)) {
            disk->partial[shard] = true;
        }
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? SK_OK : told(disk, disk->fault, "reading the marks", code);
}

/* Reads what is there. `is_new`: nothing at all. */
static int read_catalog(struct disk *disk, MDB_txn *txn, bool *is_new) {
    MDB_dbi main_dbi;
    MDB_stat stat;
    int code = mdb_dbi_open(txn, NULL, 0, &main_dbi);
    if (code == MDB_SUCCESS) code = mdb_stat(txn, main_dbi, &stat);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "reading the list of databases", code);
    *is_new = stat.ms_entries == 0;
    if (*is_new) return SK_OK;
    int err = check_format(disk, txn);
    if (err == SK_OK) err = read_marks(disk, txn);
    if (err != SK_OK) return err;
    MDB_cursor *names;
    code = mdb_cursor_open(txn, main_dbi, &names);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "reading the list of databases", code);
    err = open_databases(disk, txn, names);
    mdb_cursor_close(names);
    return err;
}

static int open_catalog(struct disk *disk) {
    MDB_txn *txn;
    int code = mdb_txn_begin(disk->env, NULL, MDB_RDONLY, &txn);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "first read", code);
    bool is_new = false;
    int err = read_catalog(disk, txn, &is_new);
    if (err != SK_OK) {
        mdb_txn_abort(txn);
        return err;
    }
    /* Committing a read transaction keeps the handles it has opened. */
    code = mdb_txn_commit(txn);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "first read", code);
    if (!is_new) return SK_OK;
    err = sync_names(disk);
    return err == SK_OK ? write_format(disk) : err;
}

static int open_environment(struct disk *disk) {
    memset(disk->databases, 0, sizeof disk->databases);
    memset(disk->partial, 0, sizeof disk->partial);
    int code = mdb_env_create(&disk->env);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "opening", code);
    /* Unused handles cost address space alone. */
    code = mdb_env_set_maxdbs(disk->env, SHARD_COUNT_MAX + 1);
    if (code == MDB_SUCCESS) code = mdb_env_set_mapsize(disk->env, disk->map_bytes);
    if (code == MDB_SUCCESS) code = mdb_env_open(disk->env, disk->directory, MDB_NOTLS, 0600);
    int err = told(disk, disk->fault, "opening", code);
    if (err != SK_OK) return err;
    /* Slots of readers that died with an earlier process would keep pages from being used again. */
    int dead;
    code = mdb_reader_check(disk->env, &dead);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "mdb_reader_check", code);
    err = check_file_size(disk);
    return err != SK_OK ? err : open_catalog(disk);
}

static void close_environment(struct disk *disk) {
    sk_assert(!disk->in_step && disk->open_cursors == 0 && disk->writer == NULL);
    sk_assert(atomic_load(&disk->open_exports) == 0);
    if (disk->reader != NULL) mdb_txn_abort(disk->reader);
    disk->reader = NULL;
    disk->reading = false;
    if (disk->env != NULL) mdb_env_close(disk->env);
    disk->env = NULL;
    disk->dirty_bytes_max = 0;
    disk->is_broken = false;
}

int disk_open(struct disk **disk, const char *directory, uint64_t map_bytes, char *text, size_t text_bytes) {
    struct disk *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    opened->map_bytes = map_bytes;
    opened->directory = strdup(directory);
    int err = opened->directory == NULL ? SK_ENOMEM : make_directory(opened);
    if (err == SK_OK) err = open_environment(opened);
    if (err != SK_OK) {
        snprintf(text, text_bytes, "%s", opened->fault);
        disk_close(opened);
        return err;
    }
    *disk = opened;
    return SK_OK;
}

void disk_close(struct disk *disk) {
    if (disk == NULL) return;
    close_environment(disk);
    free(disk->fresh);
    free(disk->directory);
    free(disk);
}

int disk_reopen(struct disk *disk) {
    close_environment(disk);
    int err = open_environment(disk);
    if (err != SK_OK) close_environment(disk);
    return err;
}

bool disk_has_shard(const struct disk *disk, uint32_t shard) {
    return shard < SHARD_COUNT_MAX && disk->databases[shard] != 0;
}

bool disk_is_partial(const struct disk *disk, uint32_t shard) {
    return shard < SHARD_COUNT_MAX && disk->partial[shard];
}

uint64_t disk_bytes(const struct disk *disk) {
    MDB_envinfo info;
    if (disk->env == NULL || mdb_env_info(disk->env, &info) != MDB_SUCCESS) return 0;
    return ((uint64_t)info.me_last_pgno + 1) * disk->page_bytes;
}

const char *disk_fault_text(const struct disk *disk) { return disk->fault; }

void disk_set_fault(struct disk *disk, const char *text) { snprintf(disk->fault, sizeof disk->fault, "%s", text); }

/* ---- reads ---- */

static void reader_end(struct disk *disk) {
    sk_assert(disk->open_cursors == 0);
    if (disk->reading) mdb_txn_reset(disk->reader);
    disk->reading = false;
}

/* A state that is not the newest keeps pages from being used again, so that the file would grow. */
static void end_old_reader(struct disk *disk) {
    if (disk->reading && disk->read_commits != atomic_load(&disk->commits)) reader_end(disk);
}

void disk_step_begin(struct disk *disk) {
    sk_assert(!disk->in_step);
    end_old_reader(disk);
    disk->in_step = true;
}

void disk_step_end(struct disk *disk) {
    sk_assert(disk->in_step);
    sk_assert(disk->open_cursors == 0);
    end_old_reader(disk);
    disk->in_step = false;
}

bool disk_in_step(const struct disk *disk) { return disk->in_step; }

/* The read transaction, begun by the first read that gets here: most steps find all in memory. It goes on as long as nothing is
 * committed, since LMDB looks up each database anew that a transaction reads from. */
static int reader_begin(struct disk *disk) {
    sk_assert(disk->in_step);
    if (disk->reading) return SK_OK;
    if (disk->env == NULL) return SK_ECLOSED;
    disk->read_commits = atomic_load(&disk->commits); /* before: the state may be newer than that */
    int code = disk->reader == NULL ? mdb_txn_begin(disk->env, NULL, MDB_RDONLY, &disk->reader)
                                    : mdb_txn_renew(disk->reader);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "beginning to read", code);
    disk->reading = true;
    return SK_OK;
}

int disk_get(struct disk *disk, uint32_t shard, struct slice key, struct slice *value) {
    if (!disk_has_shard(disk, shard)) return disk->env == NULL ? SK_ECLOSED : SK_NOT_FOUND;
    int err = reader_begin(disk);
    if (err != SK_OK) return err;
    MDB_val stored, wanted = val_of(key);
    int code = mdb_get(disk->reader, disk->databases[shard], &wanted, &stored);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "reading", code);
    return unwrap(disk, disk->fault, shard, key, slice_of_val(stored), value);
}

int disk_cursor_open(struct disk *disk, uint32_t shard, struct disk_cursor **cursor) {
    *cursor = NULL;
    if (!disk_has_shard(disk, shard)) return disk->env == NULL ? SK_ECLOSED : SK_OK;
    int err = reader_begin(disk);
    if (err != SK_OK) return err;
    struct disk_cursor *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    int code = mdb_cursor_open(disk->reader, disk->databases[shard], &opened->cursor);
    if (code != MDB_SUCCESS) {
        free(opened);
        return told(disk, disk->fault, "opening a cursor", code);
    }
    opened->disk = disk;
    opened->shard = shard;
    disk->open_cursors++;
    *cursor = opened;
    return SK_OK;
}

static int cursor_move(struct disk_cursor *cursor, MDB_val *at, MDB_cursor_op op, struct slice *key,
                       struct slice *value) {
    MDB_val stored;
    int code = mdb_cursor_get(cursor->cursor, at, &stored, op);
    if (code != MDB_SUCCESS) return told(cursor->disk, cursor->disk->fault, "walking", code);
    *key = slice_of_val(*at);
    return unwrap(cursor->disk, cursor->disk->fault, cursor->shard, *key, slice_of_val(stored), value);
}

int disk_cursor_seek(struct disk_cursor *cursor, struct slice from, struct slice *key, struct slice *value) {
    if (cursor == NULL) return SK_NOT_FOUND;
    MDB_val at = val_of(from);
    return cursor_move(cursor, &at, from.size == 0 ? MDB_FIRST : MDB_SET_RANGE, key, value);
}

int disk_cursor_next(struct disk_cursor *cursor, struct slice *key, struct slice *value) {
    if (cursor == NULL) return SK_NOT_FOUND;
    MDB_val at;
    return cursor_move(cursor, &at, MDB_NEXT, key, value);
}

/* Without a key at or after `below` the last of all is the one. */
int disk_cursor_seek_below(struct disk_cursor *cursor, struct slice below, struct slice *key,
                           struct slice *value) {
    if (cursor == NULL) return SK_NOT_FOUND;
    MDB_val at = val_of(below), stored;
    int code = mdb_cursor_get(cursor->cursor, &at, &stored, MDB_SET_RANGE);
    if (code != MDB_SUCCESS && code != MDB_NOTFOUND)
        return told(cursor->disk, cursor->disk->fault, "walking", code);
    return cursor_move(cursor, &at, code == MDB_SUCCESS ? MDB_PREV : MDB_LAST, key, value);
}

int disk_cursor_previous(struct disk_cursor *cursor, struct slice *key, struct slice *value) {
    if (cursor == NULL) return SK_NOT_FOUND;
    MDB_val at;
    return cursor_move(cursor, &at, MDB_PREV, key, value);
}

void disk_cursor_close(struct disk_cursor *cursor) {
    if (cursor == NULL) return;
    mdb_cursor_close(cursor->cursor);
    cursor->disk->open_cursors--;
    free(cursor);
}

/* ---- export ---- */

int disk_export_open(struct disk *disk, uint32_t shard, struct disk_export **export) {
    if (disk->env == NULL) return SK_ECLOSED;
    if (!disk_has_shard(disk, shard)) return SK_NOT_FOUND;
    struct disk_export *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return SK_ENOMEM;
    *opened = (struct disk_export){.disk = disk, .dbi = disk->databases[shard], .shard = shard};
    int code = mdb_txn_begin(disk->env, NULL, MDB_RDONLY, &opened->txn);
    if (code == MDB_SUCCESS) code = mdb_cursor_open(opened->txn, opened->dbi, &opened->cursor);
    atomic_fetch_add(&disk->open_exports, 1);
    if (code != MDB_SUCCESS) {
        disk_export_close(opened);
        return told(disk, disk->fault, "beginning an export", code);
    }
    *export = opened;
    return SK_OK;
}

int disk_export_get(struct disk_export *export, struct slice key, struct slice *value) {
    MDB_val stored, wanted = val_of(key);
    int code = mdb_get(export->txn, export->dbi, &wanted, &stored);
    if (code != MDB_SUCCESS) return told(export->disk, export->fault, "reading", code);
    return unwrap(export->disk, export->fault, export->shard, key, slice_of_val(stored), value);
}

int disk_export_next(struct disk_export *export, struct slice *key, struct slice *value) {
    MDB_val at, stored;
    int code = mdb_cursor_get(export->cursor, &at, &stored, MDB_NEXT);
    if (code != MDB_SUCCESS) return told(export->disk, export->fault, "walking", code);
    *key = slice_of_val(at);
    return unwrap(export->disk, export->fault, export->shard, *key, slice_of_val(stored), value);
}

const char *disk_export_fault_text(const struct disk_export *export) { return export->fault; }

void disk_export_close(struct disk_export *export) {
    if (export == NULL) return;
    if (export->cursor != NULL) mdb_cursor_close(export->cursor);
    if (export->txn != NULL) mdb_txn_abort(export->txn);
    atomic_fetch_sub(&export->disk->open_exports, 1);
    free(export);
}

/* ---- writer ---- */

int disk_write_begin(struct disk *disk) {
    sk_assert(disk->writer == NULL);
    disk->dirty_bytes = 0;
    disk->overflow_bytes = 0;
    disk->shard_changes = 0;
    disk->appended_bytes = 0;
    disk->fresh_pending = 0;
    disk->mark_pending.is_set = false;
    if (disk->env == NULL) return SK_ECLOSED;
    int code = mdb_txn_begin(disk->env, NULL, 0, &disk->writer);
    if (code != MDB_SUCCESS) disk->writer = NULL;
    return told(disk, disk->write_fault, "beginning to write", code);
}

/* Adds up what the shard that was written last may have changed: each change a page of its own and now and then
 * one above, but never more pages than there are. */
static void count_dirty_pages(struct disk *disk) {
    if (disk->write_cursor == NULL) return;
    MDB_stat stat;
    uint64_t pages = disk->shard_changes + disk->shard_changes / 4 + 2;
    if (mdb_stat(disk->writer, disk->write_dbi, &stat) == MDB_SUCCESS) {
        uint64_t there = (uint64_t)stat.ms_branch_pages + stat.ms_leaf_pages;
        if (pages > there) pages = there;
    }
    disk->dirty_bytes += pages * disk->page_bytes + disk->appended_bytes;
    disk->appended_bytes = 0;
    mdb_cursor_close(disk->write_cursor);
    disk->write_cursor = NULL;
    disk->shard_changes = 0;
}

static int note_fresh_database(struct disk *disk, uint32_t shard, MDB_dbi dbi) {
    size_t count = disk->fresh_count + disk->fresh_pending;
    if (count == disk->fresh_capacity) {
        size_t capacity = count == 0 ? 16 : count * 2;
        struct fresh_database *fresh = realloc(disk->fresh, capacity * sizeof *fresh);
        if (fresh == NULL) return SK_ENOMEM;
        disk->fresh = fresh;
        disk->fresh_capacity = capacity;
    }
    disk->fresh[count] = (struct fresh_database){.shard = shard, .dbi = dbi};
    disk->fresh_pending++;
    return SK_OK;
}

/* A new database's handle stays the writer's until disk_publish: the lane learns of it when nobody writes. */
static int make_database(struct disk *disk, uint32_t shard, MDB_dbi *dbi) {
    char name[SHARD_NAME_BYTES];
    shard_name(shard, name);
    int code = open_database(disk->writer, name, MDB_CREATE, dbi);
    if (code != MDB_SUCCESS) return told(disk, disk->write_fault, "making a database", code);
    return note_fresh_database(disk, shard, *dbi);
}

int disk_write_shard(struct disk *disk, uint32_t shard) {
    sk_assert(disk->writer != NULL && shard < SHARD_COUNT_MAX);
    count_dirty_pages(disk);
    MDB_dbi dbi = disk->databases[shard];
    if (dbi == 0) {
        int err = make_database(disk, shard, &dbi);
        if (err != SK_OK) return err;
    }
    disk->write_dbi = dbi;
    disk->write_shard = shard;
    return told(disk, disk->write_fault, "opening a cursor",
                mdb_cursor_open(disk->writer, dbi, &disk->write_cursor));
}

int disk_write_mark_partial(struct disk *disk, uint32_t shard, bool partial) {
    sk_assert(shard < SHARD_COUNT_MAX && !disk->mark_pending.is_set);
    char room[sizeof partial_prefix + SHARD_NAME_BYTES];
    MDB_val key = val_of(mark_key(shard, room)), nothing = {.mv_size = 0, .mv_data = NULL};
    int code = partial ? mdb_put(disk->writer, disk->meta, &key, &nothing, 0)
                       : mdb_del(disk->writer, disk->meta, &key, NULL);
    if (code == MDB_NOTFOUND) code = MDB_SUCCESS;
    disk->mark_pending = (struct mark){.is_set = true, .partial = partial, .shard = shard};
    return told(disk, disk->write_fault, "marking a shard", code);
}

int disk_write_clear(struct disk *disk) {
    return told(disk, disk->write_fault, "clearing a shard", mdb_drop(disk->writer, disk->write_dbi, 0));
}

static int put(struct disk *disk, struct slice key, struct slice value, unsigned flags) {
    if (value.size > disk->page_bytes / 2) disk->overflow_bytes += value.size;
    MDB_val at = val_of(key), stored = {.mv_size = value.size + CHECKSUM_BYTES};
    int code = mdb_cursor_put(disk->write_cursor, &at, &stored, MDB_RESERVE | flags);
    if (code != MDB_SUCCESS) return told(disk, disk->write_fault, "writing", code);
    uint32_t checksum = checksum_of(key, value);
    if (value.size > 0) memcpy(stored.mv_data, value.data, value.size);
    memcpy((uint8_t *)stored.mv_data + value.size, &checksum, sizeof checksum);
    return SK_OK;
}

int disk_write_put(struct disk *disk, struct slice key, struct slice value) {
    disk->shard_changes++;
    return put(disk, key, value, 0);
}

int disk_write_append(struct disk *disk, struct slice key, struct slice value) {
    disk->appended_bytes += NODE_BYTES + key.size;
    if (value.size <= disk->page_bytes / 2) disk->appended_bytes += value.size;
    return put(disk, key, value, MDB_APPEND);
}

int disk_write_delete(struct disk *disk, struct slice key) {
    MDB_val at = val_of(key), stored;
    int code = mdb_cursor_get(disk->write_cursor, &at, &stored, MDB_SET);
    if (code == MDB_NOTFOUND) return SK_OK;
    disk->shard_changes++;
    if (code == MDB_SUCCESS) code = mdb_cursor_del(disk->write_cursor, 0);
    return told(disk, disk->write_fault, "deleting", code);
}

uint64_t disk_write_dirty_bytes(const struct disk *disk) { return disk->dirty_bytes; }

static void close_writer(struct disk *disk) {
    count_dirty_pages(disk);
    if (disk->dirty_bytes > disk->dirty_bytes_max) disk->dirty_bytes_max = disk->dirty_bytes;
}

/* A commit that fails at its very end, in the meta page, leaves the environment unusable: MDB_PANIC from then on.
 */
static void notice_panic(struct disk *disk) {
    MDB_txn *probe;
    int code = mdb_txn_begin(disk->env, NULL, 0, &probe);
    if (code == MDB_SUCCESS) mdb_txn_abort(probe);
    disk->is_broken = code == MDB_PANIC;
}

/* LMDB answers EIO where a write came out short, as it does when the disk fills up in the middle of it. A file
 * that takes as much room at the same place tells that from a broken disk. */
static bool is_out_of_space(const struct disk *disk) {
    MDB_envinfo info;
    if (mdb_env_info(disk->env, &info) != MDB_SUCCESS) return false;
    off_t from = (off_t)((uint64_t)info.me_last_pgno * disk->page_bytes);
    off_t size = (off_t)(disk->dirty_bytes + disk->overflow_bytes + PROBE_BYTES_MIN);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/space.probe", disk->directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return translate(errno) == SK_ENOSPC;
    bool full = fallocate(fd, 0, from, size) != 0 && translate(errno) == SK_ENOSPC;
    close(fd);
    unlink(path);
    return full;
}

int disk_write_commit(struct disk *disk) {
    close_writer(disk);
    int code = mdb_txn_commit(disk->writer); /* frees it in any case */
    disk->writer = NULL;
    if (code != MDB_SUCCESS) {
        notice_panic(disk);
        if (code == EIO && is_out_of_space(disk)) code = ENOSPC;
        return told(disk, disk->write_fault, "committing", code);
    }
    atomic_fetch_add(&disk->commits, 1);
    if (disk->mark_pending.is_set) disk->mark_committed = disk->mark_pending;
    disk->fresh_count += disk->fresh_pending;
    disk->fresh_pending = 0;
    return SK_OK;
}

void disk_write_abort(struct disk *disk) {
    if (disk->writer == NULL) return;
    close_writer(disk);
    mdb_txn_abort(disk->writer); /* closes the handles it has opened */
    disk->writer = NULL;
    disk->fresh_pending = 0;
}

/* ---- when nobody writes ---- */

void disk_publish(struct disk *disk, bool failed) {
    sk_assert(disk->writer == NULL);
    reader_end(disk); /* it does not know databases that were made meanwhile */
    for (size_t i = 0; i < disk->fresh_count; i++) disk->databases[disk->fresh[i].shard] = disk->fresh[i].dbi;
    disk->fresh_count = 0;
    const struct mark *mark = &disk->mark_committed;
    if (mark->is_set) disk->partial[mark->shard] = mark->partial;
    disk->mark_committed.is_set = false;
    if (failed) memcpy(disk->fault, disk->write_fault, sizeof disk->fault);
}

bool disk_is_broken(const struct disk *disk) { return disk->is_broken; }

uint64_t disk_retained_bytes(const struct disk *disk) { return disk->dirty_bytes_max; }

/* Removing a database closes its handle at once, even if the commit then fails: it is opened anew. */
static int restore_handle(struct disk *disk, uint32_t shard) {
    MDB_txn *txn;
    char name[SHARD_NAME_BYTES];
    shard_name(shard, name);
    int code = mdb_txn_begin(disk->env, NULL, MDB_RDONLY, &txn);
    if (code != MDB_SUCCESS) return code;
    code = open_database(txn, name, 0, &disk->databases[shard]);
    if (code == MDB_SUCCESS) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

/* Database and mark go in one transaction. */
static int remove_shard(struct disk *disk, MDB_txn *txn, uint32_t shard) {
    char room[sizeof partial_prefix + SHARD_NAME_BYTES];
    MDB_val key = val_of(mark_key(shard, room));
    int code = mdb_del(txn, disk->meta, &key, NULL);
    if (code != MDB_SUCCESS && code != MDB_NOTFOUND) return code;
    return disk_has_shard(disk, shard) ? mdb_drop(txn, disk->databases[shard], 1) : MDB_SUCCESS;
}

int disk_drop_shard(struct disk *disk, uint32_t shard) {
    sk_assert(!disk->in_step && disk->writer == NULL);
    bool had_database = disk_has_shard(disk, shard);
    if (!had_database && !disk_is_partial(disk, shard)) return SK_OK;
    reader_end(disk); /* the handle goes */
    MDB_txn *txn;
    int code = mdb_txn_begin(disk->env, NULL, 0, &txn);
    if (code != MDB_SUCCESS) return told(disk, disk->fault, "beginning to write", code);
    code = remove_shard(disk, txn, shard);
    if (code != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return told(disk, disk->fault, "dropping a shard", code);
    }
    disk->databases[shard] = 0;
    code = mdb_txn_commit(txn);
    int err = told(disk, disk->fault, "dropping a shard", code);
    if (err == SK_OK) {
        disk->partial[shard] = false;
        return SK_OK;
    }
    code = had_database ? restore_handle(disk, shard) : MDB_SUCCESS;
    return code == MDB_SUCCESS ? err : told(disk, disk->fault, "opening a database again", code);
}
