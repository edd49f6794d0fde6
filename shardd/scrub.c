#include "shardd/scrub.h"

#include "libcommon/check.h"
#include "libcommon/error.h"
#include "shardd/record_kind.h"

#include <stdlib.h>
#include <xxhash.h>

struct scrub {
    struct kv_watch watch; /* first: the kv has this */
    struct kv *kv;         /* borrowed; watched while it runs */
    enum scrub_state state;
    struct scrub_sum sum;
    uint64_t records;
    size_t reached_bytes;                  /* of the key that was read last; 0 = none yet */
    uint8_t reached[KV_KEY_BYTES_MAX + 1]; /* and a 0 */
};

bool scrub_sum_equal(struct scrub_sum a, struct scrub_sum b) { return a.low == b.low && a.high == b.high; }

struct scrub_sum scrub_hash(struct slice key, struct slice value) {
    XXH128_hash_t hash = XXH3_128bits_withSeed(value.data, value.size, XXH3_64bits(key.data, key.size));
    return (struct scrub_sum){.low = hash.low64, .high = hash.high64};
}

static void add(struct scrub *scrub, struct scrub_sum hash) {
    scrub->sum.low += hash.low;
    scrub->sum.high += hash.high;
}

static void take_away(struct scrub *scrub, struct scrub_sum hash) {
    scrub->sum.low -= hash.low;
    scrub->sum.high -= hash.high;
}

static void end(struct scrub *scrub, enum scrub_state state) {
    kv_set_watch(scrub->kv, NULL);
    scrub->state = state;
}

static bool is_content(struct slice key) { return key.data[0] != RECORD_SHARD; }

static bool is_to_come(const struct scrub *scrub, struct slice key) {
    struct slice reached = slice_of(scrub->reached, scrub->reached_bytes);
    return reached.size == 0 || slice_compare(key, reached) > 0;
}

/* What cannot be read here the command may replace unread: that is no reason for it to fail. */
static void changing_cb(struct kv_watch *watch, struct slice key, const struct slice *value) {
    struct scrub *scrub = (struct scrub *)watch;
    struct slice old;
    if (!is_content(key) || !is_to_come(scrub, key)) return;
    int err = kv_get(scrub->kv, key, &old);
    if (err != SK_OK && err != SK_NOT_FOUND) {
        end(scrub, SCRUB_DAMAGED);
        return;
    }
    if (err == SK_OK) add(scrub, scrub_hash(key, old));
    if (value != NULL) take_away(scrub, scrub_hash(key, *value));
}

int scrub_new(struct scrub **made, struct kv *kv, struct scrub_sum base) {
    struct scrub *scrub = malloc(sizeof *scrub);
    if (scrub == NULL) return SK_ENOMEM;
    *scrub = (struct scrub){.watch = {.changing_cb = changing_cb}, .kv = kv, .state = SCRUB_RUNS, .sum = base};
    kv_set_watch(kv, &scrub->watch);
    *made = scrub;
    return SK_OK;
}

void scrub_free(struct scrub *scrub) {
    if (scrub == NULL) return;
    if (scrub->state == SCRUB_RUNS) kv_set_watch(scrub->kv, NULL);
    free(scrub);
}

/* No iterator lives across a change, so each step seeks anew: the key and a 0 is the least behind it. Where that is too long
 * for a key, the record itself is passed over. */
static struct slice seek_key(const struct scrub *scrub) {
    size_t bytes = scrub->reached_bytes;
    return slice_of(scrub->reached, bytes < KV_KEY_BYTES_MAX ? bytes + 1 : bytes);
}

/* The next record of content. */
static int read_next(const struct scrub *scrub, struct kv_iter *iter, struct slice *key, struct slice *value) {
    int err;
    do {
        err = kv_iter_next(iter, key, value);
    } while (err == SK_OK && !is_to_come(scrub, *key));
    if (err == SK_OK && !is_content(*key)) return SK_NOT_FOUND; /* it is the last of all */
    return err;
}

static void take_record(struct scrub *scrub, struct slice key, struct slice value) {
    sk_assert(key.size <= KV_KEY_BYTES_MAX);
    add(scrub, scrub_hash(key, value));
    memcpy(scrub->reached, key.data, key.size);
    scrub->reached[key.size] = 0;
    scrub->reached_bytes = key.size;
    scrub->records++;
}

int scrub_step(struct scrub *scrub, uint32_t records_max, size_t bytes_max) {
    struct slice key, value;
    struct kv_iter *iter;
    if (scrub->state != SCRUB_RUNS) return SK_OK;
    int err = kv_iter_open(scrub->kv, seek_key(scrub), &iter);
    if (err == SK_ENOMEM) return err;
    if (err != SK_OK) iter = NULL;
    size_t bytes = 0;
    for (uint32_t i = 0; err == SK_OK && i < records_max && bytes < bytes_max; i++) {
        err = read_next(scrub, iter, &key, &value);
        if (err != SK_OK) break;
        take_record(scrub, key, value);
        bytes += key.size + value.size;
    }
    kv_iter_close(iter);
    if (err == SK_OK) return SK_OK;
    end(scrub, err == SK_NOT_FOUND ? SCRUB_DONE : SCRUB_DAMAGED);
    return SK_OK;
}

enum scrub_state scrub_state(const struct scrub *scrub) { return scrub->state; }

struct scrub_sum scrub_result(const struct scrub *scrub) {
    sk_assert(scrub->state == SCRUB_DONE);
    return scrub->sum;
}

uint64_t scrub_records(const struct scrub *scrub) { return scrub->records; }
