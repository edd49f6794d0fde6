/* What LMDB does by itself with the keys and values of a benchmark: the floor beside which an engine upon it is seen. Beside
 * shardd/disk.c, which opens it the same way, this alone includes lmdb.h. One thread. */
#pragma once

#include "libcommon/slice.h"

struct bare_lmdb;

/* A new file in a new directory. SK_OK, or `text` says what is wrong. */
int bare_lmdb_open(struct bare_lmdb **lmdb, const char *directory, char *text, size_t text_bytes);
void bare_lmdb_close(struct bare_lmdb *lmdb); /* NULL is allowed */

/* A write transaction, synced when it is committed. Keys in order go fastest. SK_OK, SK_ENOSPC, SK_EIO, SK_EUNEXPECTED. */
int bare_lmdb_begin(struct bare_lmdb *lmdb);
int bare_lmdb_put(struct bare_lmdb *lmdb, struct slice key, struct slice value);
int bare_lmdb_commit(struct bare_lmdb *lmdb);

/* One read transaction, for any number of gets. SK_NOT_FOUND. Values live until its end. */
int bare_lmdb_begin_reading(struct bare_lmdb *lmdb);
int bare_lmdb_get(struct bare_lmdb *lmdb, struct slice key, struct slice *value);
void bare_lmdb_end_reading(struct bare_lmdb *lmdb);
