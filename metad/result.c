#include "metad/result.h"

#include "libcommon/error.h"
#include "libcommon/mp.h"

static void write_number(struct buffer *result, const char *key, uint64_t number) {
    mp_write_text(result, key);
    mp_write_uint(result, number);
}

void result_encode_registration(struct buffer *result, const struct catalog_answer *answer) {
    mp_write_map(result, 3);
    write_number(result, "cluster", answer->cluster);
    write_number(result, "node_id", answer->node_id);
    write_number(result, "incarnation", answer->incarnation);
}

void result_encode_version(struct buffer *result, uint64_t map_version) {
    mp_write_map(result, 1);
    write_number(result, "map_version", map_version);
}

static void encode_change(struct buffer *result, const struct catalog_change_answer *change) {
    mp_write_array(result, 2);
    if (change->err == SK_OK) {
        mp_write_nil(result);
    } else {
        mp_write_array(result, 2);
        mp_write_text(result, error_name(change->err));
        mp_write_text(result, change->text);
    }
    mp_write_uint(result, change->config_version);
}

void result_encode_changes(struct buffer *result, uint64_t map_version, const struct catalog_answer *answer) {
    mp_write_map(result, 2);
    write_number(result, "map_version", map_version);
    mp_write_text(result, "changes");
    mp_write_array(result, answer->change_count);
    for (uint32_t i = 0; i < answer->change_count; i++) encode_change(result, &answer->changes[i]);
}

void result_encode_record(struct buffer *result, uint64_t map_version, const struct catalog_answer *answer) {
    mp_write_map(result, 2);
    write_number(result, "map_version", map_version);
    write_number(result, "config_version", answer->config_version);
}

void result_encode_verify(struct buffer *result, uint64_t map_version, const struct catalog_answer *answer) {
    mp_write_map(result, 2);
    write_number(result, "map_version", map_version);
    write_number(result, "generation", answer->verify_generation);
}
