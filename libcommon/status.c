#include "status.h"

#include "error.h"
#include "mp.h"

#include <inttypes.h>
#include <stdio.h>

/* The map stands in the answer as it is or as bytes. */
static int read_map(struct slice span, struct map **map) {
    struct mp_reader reader = mp_reader_of(span);
    struct slice bytes;
    if (mp_read_bytes(&reader, &bytes) == SK_OK) span = bytes;
    return map_decode(span, map);
}

int status_read(struct status *status, struct buffer *answer) {
    *status = (struct status){.answer = *answer};
    buffer_init(answer);
    struct mp_reader reader = mp_reader_of(buffer_slice(&status->answer));
    uint32_t count = 0;
    int err = mp_read_map(&reader, &count);
    for (uint32_t i = 0; err == SK_OK && i < count; i++) {
        struct slice key, value;
        err = mp_read_bytes(&reader, &key);
        if (err == SK_OK) err = mp_skip(&reader, &value);
        if (err != SK_OK) break;
        if (slice_equal(key, slice_of_text("map")) && status->map == NULL) err = read_map(value, &status->map);
        if (slice_equal(key, slice_of_text("metad"))) status->metad = value;
        if (slice_equal(key, slice_of_text("stats"))) status->stats = value;
        if (slice_equal(key, slice_of_text("ages_ms"))) status->ages_ms = value;
        if (slice_equal(key, slice_of_text("gateways"))) status->gateways = value;
    }
    if (err == SK_OK && status->map == NULL) err = SK_EPROTO;
    if (err != SK_OK) status_deinit(status);
    return err;
}

void status_deinit(struct status *status) {
    map_unref(status->map);
    buffer_deinit(&status->answer);
    *status = (struct status){0};
}

bool status_find_value(struct slice map, const char *name, struct slice *value) {
    struct mp_reader reader = mp_reader_of(map);
    uint32_t count;
    if (mp_read_map(&reader, &count) != SK_OK) return false;
    for (uint32_t i = 0; i < count; i++) {
        struct slice key;
        if (mp_read_bytes(&reader, &key) != SK_OK || mp_skip(&reader, value) != SK_OK) return false;
        if (slice_equal(key, slice_of_text(name))) return true;
    }
    return false;
}

/* What an encoded map has for a node, keyed by its id as a number or as text; empty: nothing. */
static struct slice of_node(struct slice map, uint32_t node) {
    struct mp_reader reader = mp_reader_of(map);
    uint32_t count;
    if (mp_read_map(&reader, &count) != SK_OK) return slice_of(NULL, 0);
    char name[16];
    snprintf(name, sizeof name, "%" PRIu32, node);
    for (uint32_t i = 0; i < count; i++) {
        struct mp_value key;
        struct slice value;
        if (mp_read(&reader, &key) != SK_OK || mp_skip(&reader, &value) != SK_OK) break;
        bool number = key.type == MP_UINT && key.uint == node;
        bool text = (key.type == MP_STR || key.type == MP_BIN) && slice_equal(key.bytes, slice_of_text(name));
        if (number || text) return value;
    }
    return slice_of(NULL, 0);
}

struct slice status_stats_of(const struct status *status, uint32_t node) {
    return of_node(status->stats, node);
}

bool status_find_stat(const struct status *status, uint32_t node, const char *name, struct slice *value) {
    return status_find_value(status_stats_of(status, node), name, value);
}

bool status_find_age(const struct status *status, uint32_t node, uint64_t *age_ms) {
    struct mp_reader reader = mp_reader_of(of_node(status->ages_ms, node));
    return mp_read_uint(&reader, age_ms) == SK_OK;
}
