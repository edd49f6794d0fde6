/* A layer under the files of a daemon, to be preloaded into it (LD_PRELOAD), for tests of power losses, failing syncs and full
 * disks. Of everything that a write or a change of a directory replaces it keeps a copy until a sync that began after it
 * has succeeded. Of what is in these journals when the process has been killed, a power loss may have undone any part:
 * disks.py undoes some. What no sync has covered yet survives the end of the process, as in the kernel's page cache;
 * the next process goes on with the journals.
 *
 * Environment: SKERRY_DISK_DATA, the directory (absolute, without links) that is looked after with all below it;
 * SKERRY_DISK_JOURNAL, where the journals are kept, a directory outside of it on the same file system, with
 *
 *   control    struct control, mapped: what shall go wrong, and counters
 *   INODE      of each file with bytes or a size that are not durable: records, see struct record
 *   names      of changes of directories that are not durable: lines, see names_add
 *   grave/N    a link to each file that such a change has removed
 *
 * A file's sync makes its bytes and its size durable, its directory's sync makes its name so (POSIX promises no more). A sync
 * that fails leaves what it was for neither written nor to be written again, as Linux does: a later sync does not cover it.
 * Covered are the functions that shardd and LMDB call; test_disk_layer.py checks that there are no others. Any thread.
 * What the layer itself cannot do ends the process. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS_MAX       65536
#define PARTS_MAX     1024 /* of a writev, as the system has it */
#define CONTROL_BYTES 4096
#define RECORD_MAGIC  0x52444b53u
#define TRAILER       UINT64_C(0x656e6420206f6b21) /* xor sequence: behind each record, so that a torn one is known */

struct control {
    _Atomic uint32_t full;          /* 1: files grow by room_bytes in all and no more; nothing is made */
    _Atomic uint32_t syncs_to_fail; /* so many syncs that come next */
    _Atomic uint32_t sync_delay_us; /* each sync takes so much longer */
    uint32_t reserved;
    _Atomic uint64_t room_bytes;
    _Atomic uint64_t writes, syncs, syncs_failed, refused_full; /* counters */
};

enum record_kind {
    RECORD_WRITE,       /* a change of bytes, of the size, or of both */
    RECORD_SYNCED,      /* all up to `upto` is durable, but for what a failed sync was for */
    RECORD_SYNCED_ONE,  /* the one write `upto` is */
    RECORD_SYNC_FAILED, /* what is not durable up to `upto` will never be */
};

/* Followed by `kept_bytes`, what was at `offset` before, and 8 bytes of trailer. */
struct record {
    uint32_t magic, kind;
    uint64_t sequence; /* rises, over all files and processes */
    uint64_t upto;
    uint64_t offset, bytes; /* the place that is written */
    uint64_t size_before, size_after;
    uint64_t kept_bytes; /* 0: there was nothing, or zeros */
};

/* A file or a directory that is open; all opens of one share it. */
struct file {
    struct file *next;
    ino_t inode;
    uint32_t opens;
    bool is_directory;
    char *path; /* owned, of a directory only: a file may be renamed */
    /* of a file, guarded by lock */
    pthread_mutex_t lock;
    int fd, journal_fd; /* owned */
    uint64_t sequence;  /* of its last write */
    bool has_failed;    /* a sync has, so the journal is kept for ever */
};

/* A change of a directory that is not durable. */
struct change {
    uint64_t sequence;
    char *directory; /* owned */
    bool has_grave;
};

static struct {
    _Atomic(struct file *) file; /* NULL: not looked after */
    bool syncs_writes;           /* O_DSYNC or O_SYNC */
} open_fds[FDS_MAX];

static char data[PATH_MAX], journal[PATH_MAX];
static size_t data_length;
static struct control *control; /* NULL: nothing is looked after */
static _Atomic uint64_t last_sequence;
static pthread_mutex_t files_lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list and its counts */
static struct file *files;
static pthread_mutex_t names_lock =
    PTHREAD_MUTEX_INITIALIZER; /* guards the next four, and changes of directories */
static int names_fd = -1;
static struct change *changes;
static size_t change_count, change_capacity;

static struct {
    int (*openat)(int, const char *, int, ...);
    int (*close)(int);
    int (*closedir)(DIR *);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
    int (*ftruncate)(int, off_t);
    int (*fallocate)(int, int, off_t, off_t);
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*renameat)(int, const char *, int, const char *);
    int (*unlinkat)(int, const char *, int);
    int (*mkdir)(const char *, mode_t);
} real;

__attribute__((noreturn)) static void die(const char *doing) {
    char line[256];
    int size = snprintf(line, sizeof line, "disk_layer: %s: %s\n", doing, strerror(errno));
    if (size > 0 && real.write != NULL) (void)real.write(STDERR_FILENO, line, (size_t)size);
    abort();
}

static void *allocate(size_t size) {
    void *memory = calloc(1, size == 0 ? 1 : size);
    if (memory == NULL) die("memory");
    return memory;
}

static uint64_t next_sequence(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    uint64_t time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    uint64_t last = atomic_load(&last_sequence), next;
    do {
        next = time > last ? time : last + 1;
    } while (!atomic_compare_exchange_weak(&last_sequence, &last, next));
    return next;
}

static void find_real(const char *name, void *function) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    memcpy(function, &found, sizeof found);
}

/* Other libraries' constructors may come before ours. */
static void find_all_real(void) {
    if (real.mkdir != NULL) return;
    find_real("openat", &real.openat);
    find_real("close", &real.close);
    find_real("closedir", &real.closedir);
    find_real("write", &real.write);
    find_real("writev", &real.writev);
    find_real("pwrite", &real.pwrite);
    find_real("pwritev", &real.pwritev);
    find_real("ftruncate", &real.ftruncate);
    find_real("fallocate", &real.fallocate);
    find_real("fsync", &real.fsync);
    find_real("fdatasync", &real.fdatasync);
    find_real("renameat", &real.renameat);
    find_real("unlinkat", &real.unlinkat);
    find_real("mkdir", &real.mkdir);
}

/* ---- paths ---- */

/* Without "." and "..", in place. */
static void normalize(char *path) {
    char *out = path;
    for (char *at = path; *at != '\0';) {
        char *end = strchrnul(at + 1, '/');
        size_t length = (size_t)(end - at);
        if (length == 1 || (length == 2 && at[1] == '.')) {
            /* nothing between two slashes */
        } else if (length == 3 && at[1] == '.' && at[2] == '.') {
            while (out > path && *--out != '/') {
            }
        } else {
            memmove(out, at, length);
            out += length;
        }
        at = end;
    }
    *out = '\0';
}

/* False: the path is not looked after. Else as seen from the data directory: "" or "/...". */
static bool find_path(int directory_fd, const char *path, char *found) {
    char whole[2 * PATH_MAX], link[64];
    ssize_t length = 0;
    if (control == NULL || strlen(path) >= PATH_MAX) return false;
    if (path[0] != '/') {
        (void)snprintf(link, sizeof link, directory_fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d",
                       directory_fd);
        length = readlink(link, whole, PATH_MAX - 1);
        if (length < 0) return false;
        whole[length++] = '/';
    }
    (void)strcpy(whole + length, path);
    normalize(whole);
    if (strncmp(whole, data, data_length) != 0) return false;
    if (whole[data_length] != '/' && whole[data_length] != '\0') return false;
    if (strlen(whole + data_length) >= PATH_MAX) return false;
    (void)strcpy(found, whole + data_length);
    return true;
}

static char *directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return strndup(path, slash == NULL ? 0 : (size_t)(slash - path));
}

/* ---- changes of directories ---- */

static void grave_path(uint64_t sequence, char *path) {
    if (snprintf(path, PATH_MAX, "%s/grave/%" PRIu64, journal, sequence) >= PATH_MAX) die("a path is too long");
}

static void keep_change(uint64_t sequence, char *directory_take, bool has_grave) {
    if (change_count == change_capacity) {
        change_capacity = change_capacity == 0 ? 64 : 2 * change_capacity;
        changes = realloc(changes, change_capacity * sizeof *changes);
        if (changes == NULL) die("memory");
    }
    changes[change_count++] = (struct change){sequence, directory_take, has_grave};
}

__attribute__((format(printf, 1, 2))) static void names_write(const char *format, ...) {
    char line[3 * PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (real.write(names_fd, line, (size_t)size) != size) die("writing names");
}

/* Notes a change that is about to be made. One that is noted and was not made, since the process was killed, is known by
 * what is there. Lines: "create N PATH", "mkdir N PATH", "rename N FROM TO", "unlink N PATH"; "synced N DIRECTORY": all
 * before N in that directory is durable. */
static void names_add(const char *what, const char *path, const char *other, bool has_grave, uint64_t sequence) {
    names_write("%s %" PRIu64 " %s%s%s\n", what, sequence, path, other[0] == '\0' ? "" : " ", other);
    char *directory = directory_of(path);
    if (directory == NULL) die("memory");
    keep_change(sequence, directory, has_grave);
}

/* Keeps the file of that path, if there is one. */
static bool bury(const char *path, uint64_t sequence) {
    char from[2 * PATH_MAX], to[PATH_MAX];
    (void)snprintf(from, sizeof from, "%s%s", data, path);
    grave_path(sequence, to);
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, 0) == 0) return true;
    if (errno != ENOENT) die("keeping a removed file");
    return false;
}

static void forget_change(struct change *change) {
    char grave[PATH_MAX];
    grave_path(change->sequence, grave);
    if (change->has_grave) (void)real.unlinkat(AT_FDCWD, grave, 0);
    free(change->directory);
}

static void names_synced(const char *directory, uint64_t before) {
    size_t kept = 0;
    pthread_mutex_lock(&names_lock);
    names_write("synced %" PRIu64 " %s\n", before, directory);
    for (size_t i = 0; i < change_count; i++) {
        if (changes[i].sequence < before && strcmp(changes[i].directory, directory) == 0) {
            forget_change(&changes[i]);
        } else {
            changes[kept++] = changes[i];
        }
    }
    change_count = kept;
    if (change_count == 0 && real.ftruncate(names_fd, 0) != 0) die("emptying names");
    pthread_mutex_unlock(&names_lock);
}

/* What an earlier process has left. A torn last line was of a change that was not made. */
static void names_load(void) {
    char path[PATH_MAX], what[16], name[PATH_MAX];
    uint64_t sequence;
    long end = 0;
    if (snprintf(path, sizeof path, "%s/names", journal) >= PATH_MAX) die("a path is too long");
    names_fd = real.openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    FILE *file = fopen(path, "re");
    if (names_fd < 0 || file == NULL) die(path);
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    while ((size = getline(&line, &capacity, file)) > 0 && line[size - 1] == '\n') {
        end = ftell(file);
        if (sscanf(line, "%15s %" SCNu64 " %4095s", what, &sequence, name) < 3) continue;
        if (strcmp(what, "synced") == 0) continue;
        bool may_have_grave = strcmp(what, "rename") == 0 || strcmp(what, "unlink") == 0;
        keep_change(sequence, directory_of(name), may_have_grave);
    }
    free(line);
    (void)fclose(file);
    if (real.ftruncate(names_fd, end) != 0) die("cutting names");
}

/* ---- journals of files ---- */

static void journal_write(struct file *file, struct record *record, const uint8_t *kept) {
    uint64_t trailer = record->sequence ^ TRAILER;
    record->magic = RECORD_MAGIC;
    const struct iovec parts[] = {{record, sizeof *record}, {(void *)kept, record->kept_bytes}, {&trailer, 8}};
    off_t end = lseek(file->journal_fd, 0, SEEK_END);
    ssize_t size = (ssize_t)(sizeof *record + record->kept_bytes + 8);
    if (real.pwritev(file->journal_fd, parts, 3, end) != size) die("writing a journal");
}

/* Where the last whole record ends. */
static off_t journal_scan(struct file *file) {
    struct record record;
    uint64_t trailer;
    off_t end = 0;
    while (pread(file->journal_fd, &record, sizeof record, end) == sizeof record) {
        off_t behind = end + (off_t)(sizeof record + record.kept_bytes);
        if (record.magic != RECORD_MAGIC || pread(file->journal_fd, &trailer, 8, behind) != 8) break;
        if (trailer != (record.sequence ^ TRAILER)) break;
        if (record.kind == RECORD_SYNC_FAILED) file->has_failed = true;
        if (record.kind == RECORD_WRITE) file->sequence = record.sequence;
        end = behind + 8;
    }
    return end;
}

static void journal_open(struct file *file, bool is_new) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%ju", journal, (uintmax_t)file->inode) >= PATH_MAX)
        die("a path is too long");
    /* one that is there and the file is new: of an earlier file with this inode */
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | (is_new ? O_TRUNC : 0);
    file->journal_fd = real.openat(AT_FDCWD, path, flags, 0600);
    if (file->journal_fd < 0) die(path);
    if (real.ftruncate(file->journal_fd, journal_scan(file)) != 0) die("cutting a journal");
}

static bool is_zero(const uint8_t *bytes, uint64_t size) {
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static uint64_t size_of(const struct file *file) {
    struct stat status;
    if (fstat(file->fd, &status) != 0) die("fstat");
    return (uint64_t)status.st_size;
}

/* With the lock held, before the change is made: `bytes` at `offset` are replaced, and the size changes. */
static uint64_t note_write(struct file *file, uint64_t offset, uint64_t bytes, uint64_t size_after) {
    struct record record = {.kind = RECORD_WRITE, .sequence = next_sequence(), .offset = offset, .bytes = bytes};
    record.size_before = size_of(file);
    record.size_after = size_after;
    uint64_t end = offset + bytes < record.size_before ? offset + bytes : record.size_before;
    uint64_t there = offset < end ? end - offset : 0;
    uint8_t *kept = allocate(there);
    if (pread(file->fd, kept, there, (off_t)offset) != (ssize_t)there) die("reading what is replaced");
    record.kept_bytes = is_zero(kept, there) ? 0 : there;
    journal_write(file, &record, kept);
    free(kept);
    file->sequence = record.sequence;
    atomic_fetch_add(&control->writes, 1);
    return record.sequence;
}

static void note_sync(struct file *file, enum record_kind kind, uint64_t upto) {
    struct record record = {.kind = kind, .sequence = next_sequence(), .upto = upto};
    pthread_mutex_lock(&file->lock);
    file->has_failed |= kind == RECORD_SYNC_FAILED;
    if (kind == RECORD_SYNCED && file->sequence <= upto && !file->has_failed) {
        if (real.ftruncate(file->journal_fd, 0) != 0) die("emptying a journal");
    } else {
        journal_write(file, &record, NULL);
    }
    pthread_mutex_unlock(&file->lock);
}

/* ---- what shall go wrong ---- */

static bool is_full(void) {
    bool full = atomic_load(&control->full) != 0 && atomic_load(&control->room_bytes) == 0;
    if (full) atomic_fetch_add(&control->refused_full, 1);
    return full;
}

/* By how much of `wanted` something may grow. */
static uint64_t take_room(uint64_t wanted) {
    if (wanted == 0 || atomic_load(&control->full) == 0) return wanted;
    uint64_t room = atomic_load(&control->room_bytes), taken;
    do {
        taken = wanted < room ? wanted : room;
    } while (!atomic_compare_exchange_weak(&control->room_bytes, &room, room - taken));
    if (taken < wanted) atomic_fetch_add(&control->refused_full, 1);
    return taken;
}

/* False: this sync shall fail. */
static bool sync_may_succeed(void) {
    uint32_t delay_us = atomic_load(&control->sync_delay_us);
    if (delay_us > 0) usleep(delay_us);
    atomic_fetch_add(&control->syncs, 1);
    uint32_t left = atomic_load(&control->syncs_to_fail);
    while (left > 0 && !atomic_compare_exchange_weak(&control->syncs_to_fail, &left, left - 1)) {
    }
    if (left > 0) atomic_fetch_add(&control->syncs_failed, 1);
    return left == 0;
}

/* ---- open files ---- */

static struct file *find_file(ino_t inode) {
    struct file *file = files;
    while (file != NULL && file->inode != inode) file = file->next;
    return file;
}

static struct file *new_file(int fd, const struct stat *status, const char *path, bool is_new) {
    struct file *file = allocate(sizeof *file);
    *file = (struct file){.next = files, .inode = status->st_ino, .is_directory = S_ISDIR(status->st_mode)};
    file->fd = file->journal_fd = -1;
    pthread_mutex_init(&file->lock, NULL);
    if (file->is_directory) {
        file->path = strdup(path);
        if (file->path == NULL) die("memory");
    } else {
        char link[64];
        (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        file->fd = real.openat(AT_FDCWD, link, O_RDWR | O_CLOEXEC);
        if (file->fd < 0) die("opening a file for its journal");
        journal_open(file, is_new);
    }
    return files = file;
}

static void look_after(int fd, const char *path, int flags, bool is_new) {
    struct stat status;
    if (fd >= FDS_MAX || fstat(fd, &status) != 0) die("too many files");
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return;
    pthread_mutex_lock(&files_lock);
    struct file *file = find_file(status.st_ino);
    if (file == NULL) file = new_file(fd, &status, path, is_new);
    file->opens++;
    pthread_mutex_unlock(&files_lock);
    open_fds[fd].syncs_writes = (flags & O_DSYNC) != 0;
    atomic_store(&open_fds[fd].file, file);
}

static void leave(int fd) {
    struct file *file = fd >= 0 && fd < FDS_MAX ? atomic_exchange(&open_fds[fd].file, NULL) : NULL;
    if (file == NULL) return;
    pthread_mutex_lock(&files_lock);
    if (--file->opens == 0) {
        struct file **at = &files;
        while (*at != file) at = &(*at)->next;
        *at = file->next;
        if (file->fd >= 0) real.close(file->fd);
        if (file->journal_fd >= 0) real.close(file->journal_fd);
        pthread_mutex_destroy(&file->lock);
        free(file->path);
        free(file);
    }
    pthread_mutex_unlock(&files_lock);
}

/* NULL: not looked after, or no file. */
static struct file *file_of(int fd) {
    find_all_real();
    struct file *file = fd >= 0 && fd < FDS_MAX ? atomic_load(&open_fds[fd].file) : NULL;
    return file == NULL || file->is_directory ? NULL : file;
}

/* The bytes that are cut off are noted like written ones. */
static void note_truncation(struct file *file, uint64_t size) {
    uint64_t now = size_of(file);
    note_write(file, size, now > size ? now - size : 0, size);
}

/* ---- the functions that are replaced ---- */

static int refuse(int error) {
    errno = error;
    return -1;
}

/* A file that is made. With names_lock held. */
static int create(int directory_fd, const char *name, int flags, mode_t mode, const char *path) {
    if (is_full()) return refuse(ENOSPC);
    names_add("create", path, "", false, next_sequence());
    return real.openat(directory_fd, name, flags, mode);
}

static int open_one(int directory_fd, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat status;
    find_all_real();
    if (!find_path(directory_fd, name, path)) return real.openat(directory_fd, name, flags, mode);
    pthread_mutex_lock(&names_lock);
    bool is_new = (flags & O_CREAT) != 0 && fstatat(directory_fd, name, &status, 0) != 0;
    bool truncates = (flags & O_TRUNC) != 0 && !is_new;
    int fd = is_new ? create(directory_fd, name, flags, mode, path)
                    : real.openat(directory_fd, name, flags & ~O_TRUNC, mode);
    int error = errno;
    pthread_mutex_unlock(&names_lock);
    if (fd >= 0) look_after(fd, path, flags, is_new);
    if (fd >= 0 && truncates && ftruncate(fd, 0) != 0) die("truncating");
    errno = error;
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? (mode_t)va_arg(arguments, int) : 0;
}

int open(const char *name, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_one(AT_FDCWD, name, flags, mode);
}

int openat(int directory_fd, const char *name, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_one(directory_fd, name, flags, mode);
}

int close(int fd) {
    find_all_real();
    leave(fd);
    return real.close(fd);
}

int closedir(DIR *directory) {
    find_all_real();
    leave(dirfd(directory));
    return real.closedir(directory);
}

/* The beginning of the parts, so many bytes. */
static int cut_parts(const struct iovec *parts, int count, uint64_t bytes, struct iovec *cut) {
    int kept = 0;
    for (; kept < count && bytes > 0; kept++) {
        cut[kept] = parts[kept];
        if (cut[kept].iov_len > bytes) cut[kept].iov_len = bytes;
        bytes -= cut[kept].iov_len;
    }
    return kept;
}

/* With the lock held. A disk that gets full on the way takes the beginning. */
static ssize_t write_noted(struct file *file, int fd, const struct iovec *parts, int count, uint64_t offset,
                           uint64_t *sequence) {
    struct iovec cut[PARTS_MAX];
    uint64_t bytes = 0, size = size_of(file);
    for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
    uint64_t growth = offset + bytes > size ? offset + bytes - size : 0;
    uint64_t denied = growth - take_room(growth);
    if (denied > 0 && denied >= bytes) return refuse(ENOSPC);
    bytes -= denied;
    *sequence = note_write(file, offset, bytes, offset + bytes > size ? offset + bytes : size);
    return real.pwritev(fd, cut, cut_parts(parts, count, bytes, cut), (off_t)offset);
}

/* offset -1: at the file's position, which moves. */
static ssize_t write_parts(struct file *file, int fd, const struct iovec *parts, int count, off_t offset) {
    uint64_t sequence = 0;
    if (count > PARTS_MAX) return refuse(EINVAL);
    pthread_mutex_lock(&file->lock);
    off_t at = offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR);
    ssize_t put = at < 0 ? -1 : write_noted(file, fd, parts, count, (uint64_t)at, &sequence);
    if (put > 0 && offset < 0) (void)lseek(fd, at + put, SEEK_SET);
    int error = errno;
    pthread_mutex_unlock(&file->lock);
    if (put >= 0 && open_fds[fd].syncs_writes) {
        bool good = sync_may_succeed();
        note_sync(file, good ? RECORD_SYNCED_ONE : RECORD_SYNC_FAILED, sequence);
        if (!good) return refuse(EIO);
    }
    errno = error;
    return put;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    struct file *file = file_of(fd);
    if (file == NULL) return real.write(fd, bytes, size);
    return write_parts(file, fd, &(struct iovec){(void *)bytes, size}, 1, -1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct file *file = file_of(fd);
    return file == NULL ? real.writev(fd, parts, count) : write_parts(file, fd, parts, count, -1);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    struct file *file = file_of(fd);
    if (file == NULL) return real.pwrite(fd, bytes, size, offset);
    if (offset < 0) return refuse(EINVAL);
    return write_parts(file, fd, &(struct iovec){(void *)bytes, size}, 1, offset);
}

int ftruncate(int fd, off_t size) {
    struct file *file = file_of(fd);
    if (file == NULL) return real.ftruncate(fd, size);
    pthread_mutex_lock(&file->lock);
    note_truncation(file, (uint64_t)size); /* growing this way needs no room */
    int rc = real.ftruncate(fd, size);
    pthread_mutex_unlock(&file->lock);
    return rc;
}

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    struct file *file = file_of(fd);
    if (file == NULL) return real.fallocate(fd, mode, offset, bytes);
    if (mode != 0) return refuse(EOPNOTSUPP);
    pthread_mutex_lock(&file->lock);
    uint64_t end = (uint64_t)(offset + bytes), size = size_of(file);
    uint64_t growth = end > size ? end - size : 0;
    bool fits = take_room(growth) == growth;
    if (fits) note_write(file, size, 0, end > size ? end : size);
    int rc = fits ? real.fallocate(fd, mode, offset, bytes) : refuse(ENOSPC);
    int error = errno;
    pthread_mutex_unlock(&file->lock);
    errno = error;
    return rc;
}

static int sync_directory(struct file *file, int fd, int (*sync)(int)) {
    uint64_t before = next_sequence();
    if (!sync_may_succeed()) return refuse(EIO);
    int rc = sync(fd);
    if (rc == 0) names_synced(file->path, before);
    return rc;
}

static int sync_one(int fd, int (*sync)(int)) {
    struct file *file = fd >= 0 && fd < FDS_MAX ? atomic_load(&open_fds[fd].file) : NULL;
    if (file == NULL) return sync(fd);
    if (file->is_directory) return sync_directory(file, fd, sync);
    pthread_mutex_lock(&file->lock);
    uint64_t upto = file->sequence;
    pthread_mutex_unlock(&file->lock);
    if (!sync_may_succeed()) {
        note_sync(file, RECORD_SYNC_FAILED, upto);
        return refuse(EIO);
    }
    int rc = sync(fd);
    if (rc == 0) note_sync(file, RECORD_SYNCED, upto);
    return rc;
}

int fsync(int fd) {
    find_all_real();
    return sync_one(fd, real.fsync);
}

int fdatasync(int fd) {
    find_all_real();
    return sync_one(fd, real.fdatasync);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to) {
    char from_path[PATH_MAX], to_path[PATH_MAX];
    find_all_real();
    if (!find_path(from_fd, from, from_path) || !find_path(to_fd, to, to_path)) {
        return real.renameat(from_fd, from, to_fd, to);
    }
    pthread_mutex_lock(&names_lock);
    uint64_t sequence = next_sequence();
    names_add("rename", from_path, to_path, bury(to_path, sequence), sequence);
    int rc = real.renameat(from_fd, from, to_fd, to);
    pthread_mutex_unlock(&names_lock);
    return rc;
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int directory_fd, const char *name, int flags) {
    char path[PATH_MAX];
    find_all_real();
    if (flags != 0 || !find_path(directory_fd, name, path)) return real.unlinkat(directory_fd, name, flags);
    pthread_mutex_lock(&names_lock);
    uint64_t sequence = next_sequence();
    if (bury(path, sequence)) names_add("unlink", path, "", true, sequence);
    int rc = real.unlinkat(directory_fd, name, flags);
    pthread_mutex_unlock(&names_lock);
    return rc;
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int mkdir(const char *name, mode_t mode) {
    char path[PATH_MAX];
    struct stat status;
    find_all_real();
    if (!find_path(AT_FDCWD, name, path)) return real.mkdir(name, mode);
    pthread_mutex_lock(&names_lock);
    bool is_new = stat(name, &status) != 0;
    bool full = is_new && is_full();
    if (is_new && !full) names_add("mkdir", path, "", false, next_sequence());
    int rc = full ? refuse(ENOSPC) : real.mkdir(name, mode);
    pthread_mutex_unlock(&names_lock);
    return rc;
}

/* What programs that are built for large files call. */
int open64(const char *, int, ...) __attribute__((alias("open")));
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));
ssize_t pwrite64(int, const void *, size_t, off_t) __attribute__((alias("pwrite")));
int ftruncate64(int, off_t) __attribute__((alias("ftruncate")));
int fallocate64(int, int, off_t, off_t) __attribute__((alias("fallocate")));

/* ---- beginning ---- */

static bool take_directory(const char *variable, char *path) {
    const char *value = getenv(variable);
    return value != NULL && snprintf(path, PATH_MAX, "%s", value) < PATH_MAX;
}

__attribute__((constructor)) static void begin(void) {
    find_all_real();
    if (!take_directory("SKERRY_DISK_DATA", data) || !take_directory("SKERRY_DISK_JOURNAL", journal)) return;
    data_length = strlen(data);
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/control", journal) >= PATH_MAX) die("a path is too long");
    int fd = real.openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (fd < 0) die(path);
    void *mapped = mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) die("mapping control");
    real.close(fd);
    names_load();
    control = mapped;
}
