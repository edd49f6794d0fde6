/* What a scrub costs: scrub DIRECTORY RECORDS [VALUE_BYTES]. Records like those of SET, in a store of its own; once from the
 * memtable, once from LMDB with its pages in memory, in steps as a lane makes them. Then what a write costs beside a scrub.
 * All of it in processor time. */
#include "shardd/scrub.h"
#include "libcommon/buffer.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "shardd/store.h"

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

enum { STEP_RECORDS = 128, VALUE_BYTES_MAX = 65536 };

static uint8_t value[VALUE_BYTES_MAX];

static void checkpointed_cb(void *arg, int err) {
    (void)err;
    sem_post(arg);
}

static void must(int err, const char *what) {
    if (err == SK_OK) return;
    fprintf(stderr, "scrub: %s: %s\n", what, error_text(err));
    exit(1);
}

/* Spread like hashes of keys. */
static struct slice key_of(uint64_t number, uint8_t key[24]) {
    uint64_t hash = number * 0x9e3779b97f4a7c15u;
    key[0] = (uint8_t)(hash >> 58);
    memcpy(key + 1, &hash, sizeof hash);
    return slice_of(key, 9 + (size_t)snprintf((char *)key + 9, 15, "key:%06u", (unsigned)(number % 1000000)));
}

static void scrub_all(struct store *store, struct kv *kv, const char *name) {
    struct scrub *scrub;
    uint64_t longest_us = 0, steps = 0, begin_us = clock_thread_cpu_us(); /* a busy machine does not count */
    must(scrub_new(&scrub, kv, (struct scrub_sum){0}), "begin");
    while (scrub_state(scrub) == SCRUB_RUNS) {
        uint64_t step_us = clock_thread_cpu_us();
        must(store_step_begin(store), "step");
        must(scrub_step(scrub, STEP_RECORDS, 1u << 20), "scrub");
        store_step_end(store);
        step_us = clock_thread_cpu_us() - step_us;
        if (step_us > longest_us) longest_us = step_us;
        steps++;
    }
    uint64_t took_us = clock_thread_cpu_us() - begin_us;
    printf("%-9s %9llu records  %6.0f ns each  %llu steps, the longest %llu us\n", name,
           (unsigned long long)scrub_records(scrub), 1000.0 * (double)took_us / (double)scrub_records(scrub),
           (unsigned long long)steps, (unsigned long long)longest_us);
    scrub_free(scrub);
}

/* Writes to records that the scrub has not reached, or without one. */
static void write_some(struct store *store, struct kv *kv, uint64_t records, size_t value_bytes, bool beside) {
    struct scrub *scrub = NULL;
    uint8_t key[24];
    uint64_t count = records < 100000 ? records : 100000;
    if (beside) must(scrub_new(&scrub, kv, (struct scrub_sum){0}), "begin");
    must(store_step_begin(store), "step");
    uint64_t begin_us = clock_thread_cpu_us();
    for (uint64_t i = 0; i < count; i++) {
        must(kv_put(kv, key_of(i * 7919 % records, key), slice_of(value, value_bytes)), "put");
    }
    uint64_t took_us = clock_thread_cpu_us() - begin_us;
    store_step_end(store);
    scrub_free(scrub);
    printf("a put %s a scrub: %.0f ns\n", beside ? "beside" : "without", 1000.0 * (double)took_us / (double)count);
}

int main(int argc, char **argv) {
    sem_t ended;
    struct store *store;
    struct kv *kv;
    uint8_t key[24];
    char text[512] = "";
    if (argc < 3) {
        fprintf(stderr, "usage: scrub DIRECTORY RECORDS [VALUE_BYTES]\n");
        return 2;
    }
    uint64_t records = strtoull(argv[2], NULL, 10);
    size_t value_bytes = argc > 3 ? strtoul(argv[3], NULL, 10) : 100;
    if (records == 0 || value_bytes > sizeof value) return 2;
    sem_init(&ended, 0, 0);
    struct store_options options = {.directory = argv[1],
                                    .map_bytes = (uint64_t)1 << 40,
                                    .memtable_bytes = (uint64_t)1 << 40,
                                    .txn_bytes = 64u << 20,
                                    .checkpointed_cb = checkpointed_cb,
                                    .arg = &ended};
    must(store_open(&store, &options, text, sizeof text), argv[1]);
    must(store_shard(store, 0, &kv), "shard");
    for (uint64_t i = 0; i < records; i++) {
        must(kv_put(kv, key_of(i, key), slice_of(value, value_bytes)), "put");
    }
    scrub_all(store, kv, "memtable");
    must(store_checkpoint_start(store), "checkpoint");
    sem_wait(&ended);
    must(store_checkpoint_complete(store), "checkpoint");
    scrub_all(store, kv, "LMDB");
    write_some(store, kv, records, value_bytes, false);
    write_some(store, kv, records, value_bytes, true);
    store_close(store);
    return 0;
}
