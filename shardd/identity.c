#include "shardd/identity.h"

#include "libcommon/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME      "IDENTITY"
#define FILE_BYTES_MAX 1024

static int fail(int err, char *text, size_t text_bytes, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int fail(int err, char *text, size_t text_bytes, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, text_bytes, format, arguments);
    va_end(arguments);
    return err;
}

static int path_of(char *path, const char *directory, const char *name) {
    int length = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    return length > 0 && length < PATH_MAX ? SK_OK : SK_ECONFIG;
}

/* Every missing folder of the path. */
static int make_directories(const char *directory) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s", directory) >= (int)sizeof path) return ENAMETOOLONG;
    for (char *at = path + 1; *at != 0; at++) {
        if (*at != '/') continue;
        *at = 0;
        if (mkdir(path, 0755) != 0 && errno != EEXIST) return errno;
        *at = '/';
    }
    return mkdir(path, 0755) != 0 && errno != EEXIST ? errno : 0;
}

static int encode(const struct identity *identity, char *room, size_t size) {
    char id[33];
    for (int i = 0; i < 16; i++) snprintf(id + 2 * i, 3, "%02x", identity->store_id[i]);
    return snprintf(room, size,
                    "format %u\nstore_id %s\nlanes %" PRIu32 "\nnode_id %" PRIu32 "\ncluster %016" PRIx64
                    "\nsuspect %d\nend\n",
                    IDENTITY_FORMAT, id, identity->lanes, identity->node_id, identity->cluster, identity->suspect);
}

/* SK_EVERSION only if the file says so itself; anything that encode does not write is SK_ECORRUPT. */
static int decode(const char *content, struct identity *identity) {
    unsigned format;
    if (sscanf(content, "format %u\n", &format) != 1) return SK_ECORRUPT;
    if (format != IDENTITY_FORMAT) return SK_EVERSION;
    char id[33], again[FILE_BYTES_MAX];
    int suspect;
    int fields = sscanf(
        content, "format %*u store_id %32s lanes %" SCNu32 " node_id %" SCNu32 " cluster %" SCNx64 " suspect %d",
        id, &identity->lanes, &identity->node_id, &identity->cluster, &suspect);
    if (fields != 5 || strlen(id) != 32) return SK_ECORRUPT;
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        if (sscanf(id + 2 * i, "%2x", &byte) != 1) return SK_ECORRUPT;
        identity->store_id[i] = (uint8_t)byte;
    }
    identity->suspect = suspect != 0;
    encode(identity, again, sizeof again);
    return strcmp(content, again) == 0 && identity->lanes > 0 ? SK_OK : SK_ECORRUPT;
}

static int write_whole(int fd, const char *content, size_t size) {
    ssize_t written = write(fd, content, size);
    if (written != (ssize_t)size) return written < 0 ? error_from_errno(errno) : SK_ENOSPC;
    return fsync(fd) == 0 ? SK_OK : error_from_errno(errno);
}

static int sync_directory(const char *directory) {
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return error_from_errno(errno);
    int rc = fsync(fd);
    int err = rc == 0 ? SK_OK : error_from_errno(errno);
    close(fd);
    return err;
}

int identity_store(const char *directory, const struct identity *identity) {
    char path[PATH_MAX], fresh[PATH_MAX], content[FILE_BYTES_MAX];
    int size = encode(identity, content, sizeof content);
    if (path_of(path, directory, FILE_NAME) != SK_OK || path_of(fresh, directory, FILE_NAME ".new") != SK_OK) {
        return SK_ECONFIG;
    }
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return error_from_errno(errno);
    int err = write_whole(fd, content, (size_t)size);
    close(fd);
    if (err == SK_OK && rename(fresh, path) != 0) err = error_from_errno(errno);
    return err == SK_OK ? sync_directory(directory) : err;
}

static int lock_directory(const char *directory, int *lock_fd, char *text, size_t text_bytes) {
    char path[PATH_MAX];
    if (path_of(path, directory, "LOCK") != SK_OK) return fail(SK_ECONFIG, text, text_bytes, "path too long");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail(error_from_errno(errno), text, text_bytes, "cannot open %s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return fail(SK_ELOCKED, text, text_bytes, "data directory %s is in use by another process", directory);
    }
    *lock_fd = fd;
    return SK_OK;
}

/* A directory that holds lanes but no identity has lost it: never a new store. */
static bool has_lanes(const char *directory) {
    char path[PATH_MAX];
    struct stat status;
    return path_of(path, directory, "lane-0") == SK_OK && stat(path, &status) == 0;
}

static int create(const char *directory, uint32_t lanes, struct identity *identity, char *text,
                  size_t text_bytes) {
    if (has_lanes(directory)) {
        return fail(SK_ECORRUPT, text, text_bytes, "%s has data but its file " FILE_NAME " is missing", directory);
    }
    *identity = (struct identity){.lanes = lanes};
    ssize_t got = getrandom(identity->store_id, sizeof identity->store_id, 0);
    if (got != (ssize_t)sizeof identity->store_id) return fail(SK_EIO, text, text_bytes, "no random numbers");
    int err = identity_store(directory, identity);
    if (err != SK_OK)
        return fail(err, text, text_bytes, "cannot write %s/" FILE_NAME ": %s", directory, strerror(errno));
    return SK_OK;
}

static int load(const char *directory, const char *path, struct identity *identity, char *text,
                size_t text_bytes) {
    char content[FILE_BYTES_MAX + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(error_from_errno(errno), text, text_bytes, "cannot open %s: %s", path, strerror(errno));
    ssize_t size = read(fd, content, FILE_BYTES_MAX);
    close(fd);
    if (size < 0) return fail(SK_EIO, text, text_bytes, "cannot read %s: %s", path, strerror(errno));
    content[size] = 0;
    int err = decode(content, identity);
    if (err == SK_EVERSION) {
        return fail(err, text, text_bytes, "%s is of another format than %u: this version cannot open %s", path,
                    IDENTITY_FORMAT, directory);
    }
    return err == SK_OK ? SK_OK : fail(err, text, text_bytes, "%s is damaged (offset 0)", path);
}

static int open_locked(const char *directory, uint32_t lanes, struct identity *identity, char *text,
                       size_t text_bytes) {
    char path[PATH_MAX];
    struct stat status;
    if (path_of(path, directory, FILE_NAME) != SK_OK) return fail(SK_ECONFIG, text, text_bytes, "path too long");
    if (stat(path, &status) == 0) return load(directory, path, identity, text, text_bytes);
    return create(directory, lanes, identity, text, text_bytes);
}

int identity_open(const char *directory, uint32_t lanes, struct identity *identity, int *lock_fd, char *text,
                  size_t text_bytes) {
    int number = make_directories(directory);
    if (number != 0) {
        return fail(error_from_errno(number), text, text_bytes, "cannot make data directory %s: %s", directory,
                    strerror(number));
    }
    int err = lock_directory(directory, lock_fd, text, text_bytes);
    if (err != SK_OK) return err;
    err = open_locked(directory, lanes, identity, text, text_bytes);
    if (err != SK_OK) close(*lock_fd);
    return err;
}
