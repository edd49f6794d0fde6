#include "bare_lmdb.h"

#include "libcommon/error.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MAP_BYTES (1ull << 40)

struct bare_lmdb {
    MDB_env *env; /* owned */
    MDB_dbi dbi;
    MDB_txn *txn;       /* owned; of the writes or the reads under way */
    MDB_cursor *cursor; /* owned; of writes */
};

static int translate(int code) {
    if (code == MDB_SUCCESS) return SK_OK;
    if (code == MDB_NOTFOUND) return SK_NOT_FOUND;
    return code > 0 ? error_from_errno(code) : SK_EUNEXPECTED;
}

static MDB_val val_of(struct slice slice) {
    return (MDB_val){.mv_size = slice.size, .mv_data = (void *)slice.data};
}

static int open_environment(struct bare_lmdb *lmdb, const char *directory) {
    MDB_txn *txn;
    if (mkdir(directory, 0700) != 0) return errno;
    int code = mdb_env_create(&lmdb->env);
    if (code == MDB_SUCCESS) code = mdb_env_set_mapsize(lmdb->env, MAP_BYTES);
    if (code == MDB_SUCCESS) code = mdb_env_open(lmdb->env, directory, MDB_NOTLS, 0600);
    if (code == MDB_SUCCESS) code = mdb_txn_begin(lmdb->env, NULL, 0, &txn);
    if (code != MDB_SUCCESS) return code;
    code = mdb_dbi_open(txn, NULL, 0, &lmdb->dbi);
    if (code == MDB_SUCCESS) return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

int bare_lmdb_open(struct bare_lmdb **made, const char *directory, char *text, size_t text_bytes) {
    struct bare_lmdb *lmdb = calloc(1, sizeof *lmdb);
    if (lmdb == NULL) return SK_ENOMEM;
    int code = open_environment(lmdb, directory);
    if (code != MDB_SUCCESS) {
        snprintf(text, text_bytes, "%s: %s", directory, mdb_strerror(code));
        bare_lmdb_close(lmdb);
        return translate(code);
    }
    *made = lmdb;
    return SK_OK;
}

static void end_writing(struct bare_lmdb *lmdb) {
    if (lmdb->cursor != NULL) mdb_cursor_close(lmdb->cursor);
    lmdb->cursor = NULL;
}

void bare_lmdb_close(struct bare_lmdb *lmdb) {
    if (lmdb == NULL) return;
    end_writing(lmdb);
    if (lmdb->txn != NULL) mdb_txn_abort(lmdb->txn);
    if (lmdb->env != NULL) mdb_env_close(lmdb->env);
    free(lmdb);
}

int bare_lmdb_begin(struct bare_lmdb *lmdb) {
    int code = mdb_txn_begin(lmdb->env, NULL, 0, &lmdb->txn);
    if (code == MDB_SUCCESS) code = mdb_cursor_open(lmdb->txn, lmdb->dbi, &lmdb->cursor);
    return translate(code);
}

int bare_lmdb_put(struct bare_lmdb *lmdb, struct slice key, struct slice value) {
    MDB_val at = val_of(key), stored = val_of(value);
    return translate(mdb_cursor_put(lmdb->cursor, &at, &stored, 0));
}

int bare_lmdb_commit(struct bare_lmdb *lmdb) {
    end_writing(lmdb);
    int code = mdb_txn_commit(lmdb->txn); /* frees it in any case */
    lmdb->txn = NULL;
    return translate(code);
}

int bare_lmdb_begin_reading(struct bare_lmdb *lmdb) {
    return translate(mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &lmdb->txn));
}

int bare_lmdb_get(struct bare_lmdb *lmdb, struct slice key, struct slice *value) {
    MDB_val at = val_of(key), stored;
    int code = mdb_get(lmdb->txn, lmdb->dbi, &at, &stored);
    if (code == MDB_SUCCESS) *value = slice_of(stored.mv_data, stored.mv_size);
    return translate(code);
}

void bare_lmdb_end_reading(struct bare_lmdb *lmdb) {
    mdb_txn_abort(lmdb->txn);
    lmdb->txn = NULL;
}
