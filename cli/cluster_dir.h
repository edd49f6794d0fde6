/* The directory of a cluster that `skerry up` keeps: its lock, which also holds the supervisor's pid, and the
 * settings it was created with. One thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* As the cluster was created, and what has been added since. 0: not known. */
struct cluster_settings {
    uint64_t nodes, shards, lanes, metads;
};

/* Makes the directory, and log/ in it. SK_OK, or SK_EIO and `text` says what and where. */
int cluster_dir_make(const char *path, char *text, size_t text_bytes);

/* Takes the lock and writes our pid into it. The descriptor is inherited by the daemons, so that the lock lasts
 * until the last of them has ended, even if the supervisor was killed; such daemons are waited for up to
 * `wait_ms`. SK_OK: `fd` holds the lock. SK_ELOCKED: `text` says who has it. SK_EIO: `text` says why. */
int cluster_dir_lock(const char *path, uint32_t wait_ms, int *fd, char *text, size_t text_bytes);

/* The pid in the lock when somebody holds it; 0 when nobody does. */
pid_t cluster_dir_holder(const char *path);

/* SK_OK, SK_NOT_FOUND (a new directory), SK_ECORRUPT. */
int cluster_dir_read_settings(const char *path, struct cluster_settings *settings);

/* SK_OK, SK_EIO, SK_ENOSPC. */
int cluster_dir_write_settings(const char *path, const struct cluster_settings *settings);

/* Makes the file that metad's servers share, if it is not there: random, and nobody else's to read. SK_OK, SK_EIO,
 * SK_ENOSPC. */
int cluster_dir_make_secret(const char *path, const char *name);
