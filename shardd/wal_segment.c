#include "shardd/wal_segment.h"

#include "libcommon/check.h"
#include "libcommon/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_BYTES   32
#define PREPARE_NAME "prepare.tmp"
#define ZERO_BYTES   (1024u * 1024)

static const uint8_t zeros[ZERO_BYTES];

static void log_name(char *name, uint64_t sequence) { snprintf(name, NAME_BYTES, "%016" PRIx64 ".log", sequence); }

static void spare_name(char *name, uint64_t sequence) {
    snprintf(name, NAME_BYTES, "%016" PRIx64 ".spare", sequence);
}

void wal_files_blame(const struct wal_files *files, uint64_t sequence, uint64_t offset,
                     struct wal_report *report) {
    char name[NAME_BYTES];
    log_name(name, sequence);
    snprintf(report->damaged_file, sizeof report->damaged_file, "%s/%s", files->directory, name);
    report->damaged_offset = offset;
}

/* Makes a new directory's own entry durable. */
static int sync_parent(const struct wal_files *files) {
    int fd = openat(files->directory_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return error_from_errno(errno);
    int rc = fsync(fd);
    int err = rc == 0 ? SK_OK : error_from_errno(errno);
    close(fd);
    return err;
}

int wal_files_open(struct wal_files *files, const char *directory, uint64_t segment_bytes,
                   const struct wal_io *io) {
    *files = (struct wal_files){.directory_fd = -1, .segment_bytes = segment_bytes};
    if (io != NULL) files->io = *io;
    if (files->io.pwrite == NULL) files->io.pwrite = pwrite;
    if (files->io.pread == NULL) files->io.pread = pread;
    if (files->io.fdatasync == NULL) files->io.fdatasync = fdatasync;
    if (files->io.fallocate == NULL) files->io.fallocate = fallocate;

    files->directory = strdup(directory);
    if (files->directory == NULL) return SK_ENOMEM;
    bool made = mkdir(directory, 0777) == 0;
    if (!made && errno != EEXIST) return error_from_errno(errno);
    files->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files->directory_fd < 0) return error_from_errno(errno);
    return made ? sync_parent(files) : SK_OK;
}

void wal_files_close(struct wal_files *files) {
    if (files->directory_fd >= 0) close(files->directory_fd);
    free(files->directory);
    *files = (struct wal_files){.directory_fd = -1};
}

/* Sixteen hexadecimal digits, lower case as we write them, and then exactly `suffix`. */
static bool parse_name(const char *name, const char *suffix, uint64_t *sequence) {
    uint64_t number = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        if (c >= '0' && c <= '9') number = number << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f') number = number << 4 | (uint64_t)(c - 'a' + 10);
        else return false;
    }
    *sequence = number;
    return strcmp(name + 16, suffix) == 0;
}

static bool has_suffix(const char *name, const char *suffix) {
    size_t name_bytes = strlen(name), suffix_bytes = strlen(suffix);
    return name_bytes >= suffix_bytes && strcmp(name + name_bytes - suffix_bytes, suffix) == 0;
}

struct list {
    uint64_t *sequences;
    size_t count, room;
};

static int list_add(struct list *list, uint64_t sequence) {
    if (list->count == list->room) {
        size_t room = list->room == 0 ? 16 : list->room * 2;
        uint64_t *grown = realloc(list->sequences, room * sizeof *grown);
        if (grown == NULL) return SK_ENOMEM;
        list->sequences = grown;
        list->room = room;
    }
    list->sequences[list->count++] = sequence;
    return SK_OK;
}

static int list_name(const struct wal_files *files, const char *name, struct list *list,
                     struct wal_report *report) {
    uint64_t sequence;
    if (strcmp(name, PREPARE_NAME) == 0 || parse_name(name, ".spare", &sequence)) {
        return unlinkat(files->directory_fd, name, 0) == 0 ? SK_OK : error_from_errno(errno);
    }
    if (!has_suffix(name, ".log")) return SK_OK;
    /* Nothing that could be a part of the log is passed over. */
    if (!parse_name(name, ".log", &sequence) || sequence == 0) {
        snprintf(report->damaged_file, sizeof report->damaged_file, "%s/%s", files->directory, name);
        report->damaged_offset = 0;
        return SK_ECORRUPT;
    }
    return list_add(list, sequence);
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int list_directory(const struct wal_files *files, struct list *list, struct wal_report *report) {
    int fd = openat(files->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return error_from_errno(errno);
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        int err = error_from_errno(errno);
        close(fd);
        return err;
    }
    int err = SK_OK;
    while (err == SK_OK) {
        errno = 0;
        struct dirent *found = readdir(directory);
        if (found == NULL) {
            if (errno != 0) err = error_from_errno(errno);
            break;
        }
        err = list_name(files, found->d_name, list, report);
    }
    closedir(directory);
    return err;
}

int wal_files_list(const struct wal_files *files, uint64_t **sequences, size_t *count, struct wal_report *report) {
    struct list list = {0};
    int err = list_directory(files, &list, report);
    if (err == SK_OK && list.count > 1) qsort(list.sequences, list.count, sizeof *list.sequences, compare_u64);
    for (size_t i = 1; err == SK_OK && i < list.count; i++) {
        uint64_t expected = list.sequences[i - 1] + 1;
        if (list.sequences[i] == expected) continue;
        wal_files_blame(files, expected, 0, report);
        err = SK_ECORRUPT;
    }
    if (err != SK_OK) {
        free(list.sequences);
        return err;
    }
    *sequences = list.sequences;
    *count = list.count;
    return SK_OK;
}

int wal_file_read(const struct wal_files *files, int fd, void *data, size_t size, uint64_t offset) {
    uint8_t *at = data;
    while (size > 0) {
        ssize_t got = files->io.pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return SK_EIO; /* 0: the file was shorter than its size, which has been checked */
        at += got;
        size -= (size_t)got;
        offset += (uint64_t)got;
    }
    return SK_OK;
}

int wal_file_write(const struct wal_files *files, int fd, const void *data, size_t size, uint64_t offset,
                   size_t *written) {
    const uint8_t *at = data;
    size_t done = 0;
    int err = SK_OK;
    while (done < size) {
        ssize_t put = files->io.pwrite(fd, at + done, size - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            err = put < 0 ? error_from_errno(errno) : SK_EIO;
            break;
        }
        done += (size_t)put;
    }
    if (written != NULL) *written = done;
    return err;
}

int wal_file_sync(const struct wal_files *files, int fd) {
    return files->io.fdatasync(fd) == 0 ? SK_OK : error_from_errno(errno);
}

int wal_file_zero(const struct wal_files *files, int fd, uint64_t from, uint64_t to, const atomic_bool *stop) {
    while (from < to) {
        if (stop != NULL && atomic_load(stop)) return SK_ECLOSED;
        size_t piece = to - from < ZERO_BYTES ? (size_t)(to - from) : ZERO_BYTES;
        int err = wal_file_write(files, fd, zeros, piece, from, NULL);
        if (err != SK_OK) return err;
        /* Starts the writing now: otherwise one long sync of it all would hold up the log's own. */
        (void)sync_file_range(fd, (off_t)from, (off_t)piece, SYNC_FILE_RANGE_WRITE);
        from += piece;
    }
    return SK_OK;
}

static int sync_directory(const struct wal_files *files) {
    return fsync(files->directory_fd) == 0 ? SK_OK : error_from_errno(errno);
}

static int check_header(struct wal_files *files, uint64_t sequence, bool first, int fd, bool *recycled) {
    struct stat status;
    if (fstat(fd, &status) != 0) return error_from_errno(errno);
    if (status.st_size < WAL_BLOCK_BYTES) return SK_ECORRUPT;
    uint8_t block[WAL_SEGMENT_HEADER_BYTES];
    int err = wal_file_read(files, fd, block, sizeof block, 0);
    if (err != SK_OK) return err;
    struct wal_segment_header header;
    err = wal_decode_segment_header(block, &header);
    if (err == SK_EVERSION) {
        log_event(LOG_ERROR, "wal_format_unknown", "directory=%s segment=%" PRIu64 " format=%u known=%u",
                  files->directory, sequence, wal_segment_header_version(block), WAL_FORMAT_VERSION);
    }
    if (err != SK_OK) return err;
    if (header.sequence != sequence || (uint64_t)status.st_size != header.segment_bytes) return SK_ECORRUPT;
    if (first) files->seed = header.seed;
    if (header.seed != files->seed) return SK_ECORRUPT;
    if (header.segment_bytes != files->segment_bytes) return first ? SK_ECONFIG : SK_ECORRUPT;
    *recycled = header.recycled;
    return SK_OK;
}

int wal_segment_open(struct wal_files *files, uint64_t sequence, bool first, int *fd, bool *recycled,
                     struct wal_report *report) {
    char name[NAME_BYTES];
    log_name(name, sequence);
    int opened = openat(files->directory_fd, name, O_RDWR | O_CLOEXEC);
    int err = opened >= 0 ? check_header(files, sequence, first, opened, recycled) : error_from_errno(errno);
    if (err != SK_OK) {
        wal_files_blame(files, sequence, 0, report);
        if (opened >= 0) close(opened);
        return err;
    }
    *fd = opened;
    return SK_OK;
}

int wal_segment_open_to_read(const struct wal_files *files, uint64_t sequence, int *fd) {
    char name[NAME_BYTES];
    log_name(name, sequence);
    int opened = openat(files->directory_fd, name, O_RDONLY | O_CLOEXEC);
    if (opened < 0) return error_from_errno(errno);
    *fd = opened;
    return SK_OK;
}

/* Header block and the place of the first group: a recycled segment begins with a clean end, whatever follows. */
static int write_header(const struct wal_files *files, int fd, uint64_t sequence, bool recycled) {
    uint8_t blocks[2 * WAL_BLOCK_BYTES] = {0};
    struct wal_segment_header header = {
        .segment_bytes = files->segment_bytes, .sequence = sequence, .seed = files->seed, .recycled = recycled};
    wal_encode_segment_header(blocks, &header);
    int err = wal_file_write(files, fd, blocks, sizeof blocks, 0, NULL);
    return err == SK_OK ? wal_file_sync(files, fd) : err;
}

/* The last step of both ways to make a segment: from here on it is part of the log. */
static int publish(const struct wal_files *files, const char *name, uint64_t sequence) {
    char final_name[NAME_BYTES];
    log_name(final_name, sequence);
    if (renameat(files->directory_fd, name, files->directory_fd, final_name) != 0) return error_from_errno(errno);
    int err = sync_directory(files);
    if (err != SK_OK) (void)unlinkat(files->directory_fd, final_name, 0);
    return err;
}

static int fill_new(const struct wal_files *files, int fd, const atomic_bool *stop) {
    /* Reserving first tells at once that the disk is full. Not every file system can: then the zeros will tell. */
    int rc = files->io.fallocate(fd, 0, 0, (off_t)files->segment_bytes);
    if (rc != 0 && errno != EOPNOTSUPP && errno != ENOSYS) return error_from_errno(errno);
    return wal_file_zero(files, fd, 0, files->segment_bytes, stop);
}

int wal_segment_create(const struct wal_files *files, uint64_t sequence, const atomic_bool *stop, int *fd) {
    int opened = openat(files->directory_fd, PREPARE_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (opened < 0) return error_from_errno(errno);
    int err = fill_new(files, opened, stop);
    if (err == SK_OK) err = write_header(files, opened, sequence, false);
    if (err == SK_OK) err = publish(files, PREPARE_NAME, sequence);
    if (err != SK_OK) {
        close(opened);
        (void)unlinkat(files->directory_fd, PREPARE_NAME, 0);
        return err;
    }
    *fd = opened;
    return SK_OK;
}

int wal_segment_recycle(const struct wal_files *files, uint64_t old_sequence, uint64_t sequence, int *fd) {
    char name[NAME_BYTES];
    spare_name(name, old_sequence);
    int opened = openat(files->directory_fd, name, O_RDWR | O_CLOEXEC);
    int err = opened >= 0 ? write_header(files, opened, sequence, true) : error_from_errno(errno);
    if (err == SK_OK) err = publish(files, name, sequence);
    if (err != SK_OK) {
        if (opened >= 0) close(opened);
        (void)unlinkat(files->directory_fd, name, 0);
        return err;
    }
    *fd = opened;
    return SK_OK;
}

int wal_segment_retire(const struct wal_files *files, uint64_t sequence, bool keep_spare) {
    char name[NAME_BYTES], spare[NAME_BYTES];
    log_name(name, sequence);
    spare_name(spare, sequence);
    int rc = keep_spare ? renameat(files->directory_fd, name, files->directory_fd, spare)
                        : unlinkat(files->directory_fd, name, 0);
    if (rc != 0) return error_from_errno(errno);
    return sync_directory(files);
}
