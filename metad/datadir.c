#include "metad/datadir.h"

#include "libcommon/check.h"
#include "libcommon/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define IDENTITY_BYTES_MAX 512
#define SEEN_BYTES         63 /* three times twenty digits and what ends them */

struct datadir {
    char path[PATH_MAX - 64]; /* room for the names in it */
    char raft_path[PATH_MAX];
    int directory_fd;
    int lock_fd; /* holds the flock */
    int seen_fd;
    uint64_t server_id;
    uint64_t cluster;
    struct raft_loop_seen seen;
};

/* A failed system call, said in one line. An error in the way the daemon was set up is SK_ECONFIG. */
static int failed(const char *path, const char *what, char *text, size_t text_bytes) {
    int number = errno;
    (void)snprintf(text, text_bytes, "%s: %s: %s", path, what, strerror(number));
    switch (number) {
    case EACCES:
    case EPERM:
    case EROFS:
    case ENOTDIR:
    case ENOENT:
    case ELOOP:
    case ENAMETOOLONG:
        return SK_ECONFIG;
    default:
        return error_from_errno(number);
    }
}

/* As `mkdir -p`. */
static int make_path(const char *path, char *text, size_t text_bytes) {
    char partial[PATH_MAX];
    (void)snprintf(partial, sizeof partial, "%s", path);
    for (char *at = partial + 1;; at++) {
        if (*at != '/' && *at != 0) continue;
        char end = *at;
        *at = 0;
        if (mkdir(partial, 0777) != 0 && errno != EEXIST) return failed(path, "cannot be made", text, text_bytes);
        if (end == 0) return SK_OK;
        *at = end;
    }
}

static int lock(struct datadir *datadir, char *text, size_t text_bytes) {
    datadir->lock_fd = openat(datadir->directory_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (datadir->lock_fd < 0) return failed(datadir->path, "not writable", text, text_bytes);
    if (flock(datadir->lock_fd, LOCK_EX | LOCK_NB) == 0) return SK_OK;
    if (errno != EWOULDBLOCK) return failed(datadir->path, "cannot be locked", text, text_bytes);
    (void)snprintf(text, text_bytes, "%s: in use by another process", datadir->path);
    return SK_ELOCKED;
}

static int write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, data, size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -1;
        data += written;
        size -= (size_t)written;
    }
    return 0;
}

/* Whole or not at all: written beside, synced, renamed, and the directory synced. */
static int write_identity(const struct datadir *datadir, char *text, size_t text_bytes) {
    char content[IDENTITY_BYTES_MAX];
    int size =
        snprintf(content, sizeof content, "skerry metad\nformat %u\nserver %" PRIu64 "\ncluster %016" PRIx64 "\n",
                 DATADIR_FORMAT, datadir->server_id, datadir->cluster);
    int fd = openat(datadir->directory_fd, "metad.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return failed(datadir->path, "not writable", text, text_bytes);
    bool written = write_all(fd, content, (size_t)size) == 0 && fsync(fd) == 0;
    int err = written ? SK_OK : failed(datadir->path, "metad.new", text, text_bytes);
    (void)close(fd);
    if (err != SK_OK) return err;
    if (renameat(datadir->directory_fd, "metad.new", datadir->directory_fd, "metad") != 0 ||
        fsync(datadir->directory_fd) != 0) {
        return failed(datadir->path, "metad", text, text_bytes);
    }
    return SK_OK;
}

static int damaged(const struct datadir *datadir, char *text, size_t text_bytes) {
    (void)snprintf(text, text_bytes, "%s/metad: damaged: it should say format, server and cluster", datadir->path);
    return SK_ECORRUPT;
}

static int parse_identity(struct datadir *datadir, const char *content, char *text, size_t text_bytes) {
    unsigned format;
    int read = 0;
    if (sscanf(content, "skerry metad\nformat %u\n%n", &format, &read) != 1 || read == 0) {
        return damaged(datadir, text, text_bytes);
    }
    if (format > DATADIR_FORMAT) {
        (void)snprintf(text, text_bytes, "%s: format %u, and this program knows up to %u", datadir->path, format,
                       DATADIR_FORMAT);
        return SK_EVERSION;
    }
    int end = 0;
    if (sscanf(content + read, "server %" SCNu64 "\ncluster %16" SCNx64 "%n", &datadir->server_id,
               &datadir->cluster, &end) != 2 ||
        strcmp(content + read + end, "\n") != 0 || datadir->server_id == 0) {
        return damaged(datadir, text, text_bytes);
    }
    return SK_OK;
}

/* SK_NOT_FOUND: there is none. */
static int read_identity(struct datadir *datadir, char *text, size_t text_bytes) {
    int fd = openat(datadir->directory_fd, "metad", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT ? SK_NOT_FOUND : failed(datadir->path, "metad", text, text_bytes);
    char content[IDENTITY_BYTES_MAX];
    ssize_t size = read(fd, content, sizeof content - 1);
    if (size < 0) {
        int err = failed(datadir->path, "metad", text, text_bytes);
        (void)close(fd);
        return err;
    }
    (void)close(fd);
    content[size] = 0;
    if (strlen(content) != (size_t)size) return damaged(datadir, text, text_bytes);
    return parse_identity(datadir, content, text, text_bytes);
}

/* Whether anything is in raft/. A directory that cannot be read counts as not empty. */
static bool raft_is_empty(const struct datadir *datadir) {
    DIR *directory = opendir(datadir->raft_path);
    if (directory == NULL) return errno == ENOENT;
    int names = 0;
    while (readdir(directory) != NULL) names++;
    (void)closedir(directory);
    return names <= 2; /* . and .. */
}

static int identify(struct datadir *datadir, char *text, size_t text_bytes) {
    int err = read_identity(datadir, text, text_bytes);
    if (err == SK_NOT_FOUND) {
        /* The identity is written before libraft's first file, so these files have lost theirs. */
        if (!raft_is_empty(datadir)) {
            (void)snprintf(text, text_bytes, "%s: files of an earlier run, but %s/metad is missing",
                           datadir->raft_path, datadir->path);
            return SK_ECORRUPT;
        }
        ssize_t got = getrandom(&datadir->server_id, sizeof datadir->server_id, 0);
        sk_assert(got == (ssize_t)sizeof datadir->server_id);
        datadir->server_id |= 1; /* 0 is nobody */
        err = write_identity(datadir, text, text_bytes);
    }
    if (err != SK_OK) return err;
    if (datadir->cluster != 0 && raft_is_empty(datadir)) {
        (void)snprintf(text, text_bytes, "%s: the files of cluster %016" PRIx64 " are missing", datadir->raft_path,
                       datadir->cluster);
        return SK_ECORRUPT;
    }
    if (mkdir(datadir->raft_path, 0777) != 0 && errno != EEXIST) {
        return failed(datadir->raft_path, "cannot be made", text, text_bytes);
    }
    if (faccessat(datadir->directory_fd, "raft", W_OK | X_OK, AT_EACCESS) != 0) {
        return failed(datadir->raft_path, "not writable", text, text_bytes);
    }
    return SK_OK;
}

/* After a crash of the machine the file may hold anything: what is no number counts as 0. */
static int open_seen(struct datadir *datadir, char *text, size_t text_bytes) {
    datadir->seen_fd = openat(datadir->directory_fd, "seen", O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (datadir->seen_fd < 0) return failed(datadir->path, "seen", text, text_bytes);
    char content[SEEN_BYTES + 1] = {0};
    struct raft_loop_seen *seen = &datadir->seen;
    if (pread(datadir->seen_fd, content, SEEN_BYTES, 0) != SEEN_BYTES ||
        sscanf(content, "%20" SCNu64 " %20" SCNu64 " %20" SCNu64 "\n", &seen->term, &seen->vote, &seen->index) !=
            3) {
        *seen = (struct raft_loop_seen){0};
    }
    return SK_OK;
}

int datadir_open(struct datadir **out, const char *path, char *text, size_t text_bytes) {
    struct datadir *datadir = calloc(1, sizeof *datadir);
    if (datadir == NULL) {
        (void)snprintf(text, text_bytes, "%s: out of memory", path);
        return SK_ENOMEM;
    }
    datadir->lock_fd = -1;
    datadir->directory_fd = -1;
    datadir->seen_fd = -1;
    int err = SK_OK;
    if (path[0] == 0 || strlen(path) >= sizeof datadir->path) {
        errno = path[0] == 0 ? ENOENT : ENAMETOOLONG;
        err = failed(path, "not a path", text, text_bytes);
    }
    if (err == SK_OK) {
        (void)snprintf(datadir->path, sizeof datadir->path, "%s", path);
        (void)snprintf(datadir->raft_path, sizeof datadir->raft_path, "%s/raft", path);
        err = make_path(path, text, text_bytes);
    }
    if (err == SK_OK) {
        datadir->directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (datadir->directory_fd < 0) err = failed(path, "cannot be opened", text, text_bytes);
    }
    if (err == SK_OK) err = lock(datadir, text, text_bytes);
    if (err == SK_OK) err = identify(datadir, text, text_bytes);
    if (err == SK_OK) err = open_seen(datadir, text, text_bytes);
    if (err != SK_OK) {
        datadir_close(datadir);
        return err;
    }
    *out = datadir;
    return SK_OK;
}

const char *datadir_raft_path(const struct datadir *datadir) { return datadir->raft_path; }

uint64_t datadir_server(const struct datadir *datadir) { return datadir->server_id; }

uint64_t datadir_cluster(const struct datadir *datadir) { return datadir->cluster; }

int datadir_set_cluster(struct datadir *datadir, uint64_t cluster, char *text, size_t text_bytes) {
    uint64_t before = datadir->cluster;
    datadir->cluster = cluster;
    int err = write_identity(datadir, text, text_bytes);
    if (err != SK_OK) datadir->cluster = before;
    return err;
}

struct raft_loop_seen datadir_seen(const struct datadir *datadir) {
    return datadir->seen;
}

void datadir_note_seen(struct datadir *datadir, struct raft_loop_seen seen) {
    if (memcmp(&seen, &datadir->seen, sizeof seen) == 0) return;
    datadir->seen = seen;
    char content[SEEN_BYTES + 1];
    (void)snprintf(content, sizeof content, "%020" PRIu64 " %020" PRIu64 " %020" PRIu64 "\n", seen.term, seen.vote,
                   seen.index);
    ssize_t written = pwrite(datadir->seen_fd, content, SEEN_BYTES, 0);
    (void)written;
}

void datadir_close(struct datadir *datadir) {
    if (datadir == NULL) return;
    if (datadir->seen_fd >= 0) (void)close(datadir->seen_fd);
    if (datadir->lock_fd >= 0) (void)close(datadir->lock_fd);
    if (datadir->directory_fd >= 0) (void)close(datadir->directory_fd);
    free(datadir);
}
