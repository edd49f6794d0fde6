/* What a data directory is: the store's id, its format, its lanes, and which node of which cluster it became. One small
 * text file, replaced whole; the directory is locked while a process uses it. At start and at the first registration. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IDENTITY_FORMAT 2u

struct identity {
    uint8_t store_id[16]; /* made with the directory (R13: an empty directory is a new store) */
    uint32_t lanes;       /* fixed with the directory */
    uint32_t node_id;     /* 0: not registered yet */
    uint64_t cluster;     /* 0: not registered yet */
    bool suspect;         /* an fsync failed here (R23) */
};

/* Locks the directory (made if missing) and reads its identity, or makes one with `lanes`. `lock_fd` stays open as long as
 * the store is in use: the lock proves that no predecessor lives. SK_ELOCKED, SK_EVERSION (newer format), SK_ECORRUPT,
 * SK_ENOSPC, SK_EIO; `text` says what and where. */
int identity_open(const char *directory, uint32_t lanes, struct identity *identity, int *lock_fd, char *text,
                  size_t text_bytes);

/* Replaces the file: durable when it returns SK_OK. SK_EIO, SK_ENOSPC. */
int identity_store(const char *directory, const struct identity *identity);
