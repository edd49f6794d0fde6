#include "cluster_dir.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define POLL_US      20000
#define SECRET_BYTES 32
#define DYING_MS     300 /* a supervisor that was just killed may still be there */

static int join(char room[PATH_MAX], const char *path, const char *name) {
    int size = snprintf(room, PATH_MAX, "%s/%s", path, name);
    return size < 0 || size >= PATH_MAX ? SK_EIO : SK_OK;
}

static int make_directory(const char *path, char *text, size_t text_bytes) {
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return SK_OK;
    snprintf(text, text_bytes, "cannot make the directory %s: %s", path, strerror(errno));
    return SK_EIO;
}

int cluster_dir_make(const char *path, char *text, size_t text_bytes) {
    char log[PATH_MAX];
    if (join(log, path, "log") != SK_OK) {
        snprintf(text, text_bytes, "the path of the directory is too long");
        return SK_EIO;
    }
    for (char *at = log + 1; *at != 0; at++) { /* what is above it too */
        if (*at != '/') continue;
        *at = 0;
        int err = make_directory(log, text, text_bytes);
        if (err != SK_OK) return err;
        *at = '/';
    }
    return make_directory(log, text, text_bytes);
}

static pid_t read_pid(int fd) {
    char text[32];
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    if (size <= 0) return 0;
    text[size] = 0;
    return (pid_t)strtol(text, NULL, 10);
}

/* One that has ended and that nobody has waited for does not count. */
static bool is_alive(pid_t pid) {
    char path[64], state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *in = pid > 0 ? fopen(path, "re") : NULL;
    if (in == NULL) return false;
    bool read = fscanf(in, "%*d (%*[^)]) %c", &state) == 1;
    fclose(in);
    return read && state != 'Z' && state != 'X';
}

static int lock_failed(int fd, const char *path, char *text, size_t text_bytes) {
    pid_t pid = read_pid(fd);
    if (is_alive(pid)) snprintf(text, text_bytes, "%s is in use by another `skerry up` (pid %d)", path, (int)pid);
    else
        snprintf(text, text_bytes,
                 "%s is in use by daemons whose `skerry up` was killed and that have not ended yet", path);
    close(fd);
    return SK_ELOCKED;
}

static int write_pid(int fd) {
    char text[32];
    int size = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0) return SK_EIO;
    return pwrite(fd, text, (size_t)size, 0) == size ? SK_OK : SK_EIO;
}

int cluster_dir_lock(const char *path, uint32_t wait_ms, int *fd, char *text, size_t text_bytes) {
    char file[PATH_MAX];
    if (join(file, path, "up.lock") != SK_OK) return SK_EIO;
    *fd = open(file, O_RDWR | O_CREAT, 0666); /* inherited by the daemons on purpose */
    if (*fd < 0) {
        snprintf(text, text_bytes, "cannot open %s: %s", file, strerror(errno));
        return SK_EIO;
    }
    uint64_t start_ms = clock_boottime_ms();
    while (flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        uint64_t waited_ms = clock_boottime_ms() - start_ms;
        bool in_use = is_alive(read_pid(*fd)) && waited_ms >= DYING_MS;
        if (in_use || waited_ms >= wait_ms) return lock_failed(*fd, path, text, text_bytes);
        usleep(POLL_US);
    }
    if (write_pid(*fd) == SK_OK) return SK_OK;
    snprintf(text, text_bytes, "cannot write %s: %s", file, strerror(errno));
    close(*fd);
    return SK_EIO;
}

pid_t cluster_dir_holder(const char *path) {
    char file[PATH_MAX];
    if (join(file, path, "up.lock") != SK_OK) return 0;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    bool held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    pid_t pid = held ? read_pid(fd) : 0;
    close(fd);
    return pid;
}

int cluster_dir_read_settings(const char *path, struct cluster_settings *settings) {
    char file[PATH_MAX];
    if (join(file, path, "up.settings") != SK_OK) return SK_NOT_FOUND;
    FILE *in = fopen(file, "re");
    if (in == NULL) return SK_NOT_FOUND;
    int count = fscanf(in, "nodes %" SCNu64 " shards %" SCNu64 " lanes %" SCNu64 " metads %" SCNu64,
                       &settings->nodes, &settings->shards, &settings->lanes, &settings->metads);
    fclose(in);
    if (count == 3) settings->metads = 1; /* written before there could be more */
    return count >= 3 ? SK_OK : SK_ECORRUPT;
}

int cluster_dir_write_settings(const char *path, const struct cluster_settings *settings) {
    char file[PATH_MAX], made[PATH_MAX];
    if (join(file, path, "up.settings") != SK_OK || join(made, path, "up.settings.new") != SK_OK) return SK_EIO;
    FILE *out = fopen(made, "we");
    if (out == NULL) return error_from_errno(errno);
    fprintf(out, "nodes %" PRIu64 "\nshards %" PRIu64 "\nlanes %" PRIu64 "\nmetads %" PRIu64 "\n", settings->nodes,
            settings->shards, settings->lanes, settings->metads);
    bool written = fflush(out) == 0 && fsync(fileno(out)) == 0;
    int number = errno;
    if (fclose(out) != 0 || !written) return error_from_errno(number);
    return rename(made, file) == 0 ? SK_OK : error_from_errno(errno);
}

/* Whole or not at all, as the settings. */
int cluster_dir_make_secret(const char *path, const char *name) {
    char file[PATH_MAX], made[PATH_MAX];
    uint8_t bytes[SECRET_BYTES];
    if (join(file, path, name) != SK_OK || join(made, path, "secret.new") != SK_OK) return SK_EIO;
    if (access(file, F_OK) == 0) return SK_OK;
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) return SK_EIO;
    (void)unlink(made); /* it would keep its owner and mode */
    int fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (out == NULL) {
        int number = errno;
        if (fd >= 0) close(fd);
        return error_from_errno(number);
    }
    for (size_t i = 0; i < sizeof bytes; i++) fprintf(out, "%02x", bytes[i]);
    fprintf(out, "\n");
    bool written = fflush(out) == 0 && fsync(fd) == 0;
    int number = errno;
    if (fclose(out) != 0 || !written) return error_from_errno(number);
    return rename(made, file) == 0 ? SK_OK : error_from_errno(errno);
}
