/* skerry-plant STORE SHARD: changes a byte of one value of the shard in a lane's store, which nobody has open, and writes the
 * checksum that goes with it. So nothing tells that it is wrong but the other replicas. Prints how many bytes the value has. */
#include "libcommon/buffer.h"
#include "libcommon/error.h"
#include "shardd/store.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

static void checkpointed_cb(void *arg, int err) {
    (void)err; /* store_checkpoint_complete tells */
    sem_post(arg);
}

/* Copies the first record with a value. */
static int find_record(struct kv *kv, struct buffer *name, struct buffer *content) {
    struct kv_iter *iter;
    struct slice key, value = slice_of(NULL, 0);
    int err = kv_iter_open(kv, slice_of("\0", 1), &iter);
    if (err != SK_OK) return err;
    while (err == SK_OK && value.size == 0) err = kv_iter_next(iter, &key, &value);
    if (err == SK_OK) {
        buffer_append(name, key.data, key.size);
        buffer_append(content, value.data, value.size);
    }
    kv_iter_close(iter);
    return name->failed || content->failed ? SK_ENOMEM : err;
}

static int change_value(struct store *store, uint32_t shard, size_t *value_bytes) {
    struct kv *kv;
    struct buffer name, content;
    buffer_init(&name);
    buffer_init(&content);
    int err = store_shard(store, shard, &kv);
    if (err == SK_OK) err = store_step_begin(store);
    if (err == SK_OK) err = find_record(kv, &name, &content);
    if (err == SK_OK) {
        content.data[content.size - 1] ^= 1;
        *value_bytes = content.size;
        err = kv_put(kv, buffer_slice(&name), buffer_slice(&content));
    }
    store_step_end(store);
    buffer_deinit(&name);
    buffer_deinit(&content);
    return err;
}

static int plant(const char *directory, uint32_t shard, size_t *value_bytes) {
    sem_t ended;
    sem_init(&ended, 0, 0);
    struct store *store;
    char text[512] = "";
    struct store_options options = {.directory = directory,
                                    .map_bytes = (uint64_t)1 << 40,
                                    .memtable_bytes = 64u << 20,
                                    .txn_bytes = 4u << 20,
                                    .checkpointed_cb = checkpointed_cb,
                                    .arg = &ended};
    int err = store_open(&store, &options, text, sizeof text);
    if (err != SK_OK) {
        fprintf(stderr, "skerry-plant: %s\n", text);
        return err;
    }
    err = change_value(store, shard, value_bytes);
    if (err == SK_OK) err = store_checkpoint_start(store);
    if (err == SK_OK) {
        sem_wait(&ended);
        err = store_checkpoint_complete(store);
    }
    store_close(store);
    return err;
}

int main(int argc, char **argv) {
    size_t value_bytes;
    if (argc != 3) {
        fprintf(stderr, "usage: skerry-plant STORE SHARD\n");
        return 2;
    }
    int err = plant(argv[1], (uint32_t)strtoul(argv[2], NULL, 10), &value_bytes);
    if (err != SK_OK) {
        fprintf(stderr, "skerry-plant: %s\n", error_text(err));
        return 1;
    }
    printf("%zu\n", value_bytes);
    return 0;
}
