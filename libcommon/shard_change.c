#include "shard_change.h"

#include "error.h"
#include "limits.h"

#define KINDS 6u

static const struct {
    const char *name;
    uint32_t parts; /* of the array */
} kinds[KINDS] = {
    [SHARD_CHANGE_ISR] = {"isr", 5},           [SHARD_CHANGE_CLAIM] = {"claim", 3},
    [SHARD_CHANGE_HANDOVER] = {"handover", 5}, [SHARD_CHANGE_HANDOVER_GIVEN_UP] = {"handover_given_up", 3},
    [SHARD_CHANGE_RETIRE] = {"retire", 4},     [SHARD_CHANGE_REBUILD] = {"rebuild", 5},
};

const char *shard_change_name(enum shard_change_kind kind) { return kinds[kind].name; }

static void encode_isr(const struct shard_change *change, struct buffer *buffer) {
    mp_write_array(buffer, change->isr_count);
    for (uint32_t i = 0; i < change->isr_count; i++) {
        mp_write_array(buffer, 2);
        mp_write_uint(buffer, change->isr[i]);
        mp_write_uint(buffer, change->incarnations[i]);
    }
}

void shard_change_encode(const struct shard_change *change, struct buffer *buffer) {
    mp_write_array(buffer, kinds[change->kind].parts);
    mp_write_text(buffer, kinds[change->kind].name);
    mp_write_uint(buffer, change->shard);
    mp_write_uint(buffer, change->config_version);
    switch (change->kind) {
    case SHARD_CHANGE_ISR:
        mp_write_uint(buffer, change->leader_epoch);
        encode_isr(change, buffer);
        break;
    case SHARD_CHANGE_HANDOVER:
        mp_write_uint(buffer, change->leader_epoch);
        mp_write_uint(buffer, change->node);
        break;
    case SHARD_CHANGE_RETIRE:
        mp_write_uint(buffer, change->node);
        break;
    case SHARD_CHANGE_REBUILD:
        mp_write_uint(buffer, change->node);
        mp_write_uint(buffer, change->successor);
        break;
    case SHARD_CHANGE_CLAIM:
    case SHARD_CHANGE_HANDOVER_GIVEN_UP:
        break;
    }
}

static int read_u32(struct mp_reader *reader, uint32_t *number) {
    uint64_t wide;
    int rc = mp_read_uint(reader, &wide);
    if (rc != SK_OK) return rc;
    if (wide > UINT32_MAX) return SK_EPROTO;
    *number = (uint32_t)wide;
    return SK_OK;
}

static int read_kind(struct mp_reader *reader, enum shard_change_kind *kind) {
    uint32_t parts;
    struct slice name;
    int rc = mp_read_array(reader, &parts);
    if (rc == SK_OK) rc = mp_read_str(reader, &name);
    if (rc != SK_OK) return rc;
    for (uint32_t i = 0; i < KINDS; i++) {
        if (!slice_equal(name, slice_of_text(kinds[i].name))) continue;
        *kind = (enum shard_change_kind)i;
        return parts == kinds[i].parts ? SK_OK : SK_EPROTO;
    }
    return SK_EPROTO;
}

static int read_isr(struct mp_reader *reader, struct shard_change *change) {
    uint32_t count;
    int rc = mp_read_array(reader, &count);
    if (rc != SK_OK) return rc;
    if (count > MAP_REPLICAS_MAX) return SK_EPROTO;
    change->isr_count = count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t parts;
        rc = mp_read_array(reader, &parts);
        if (rc == SK_OK && parts != 2) rc = SK_EPROTO;
        if (rc == SK_OK) rc = read_u32(reader, &change->isr[i]);
        if (rc == SK_OK) rc = mp_read_uint(reader, &change->incarnations[i]);
        if (rc != SK_OK) return rc;
    }
    return SK_OK;
}

int shard_change_decode(struct mp_reader *reader, struct shard_change *change) {
    *change = (struct shard_change){0};
    int rc = read_kind(reader, &change->kind);
    if (rc == SK_OK) rc = read_u32(reader, &change->shard);
    if (rc == SK_OK && change->shard >= SHARD_COUNT_MAX) rc = SK_EPROTO;
    if (rc == SK_OK) rc = mp_read_uint(reader, &change->config_version);
    if (rc != SK_OK) return rc;
    switch (change->kind) {
    case SHARD_CHANGE_ISR:
        rc = mp_read_uint(reader, &change->leader_epoch);
        return rc == SK_OK ? read_isr(reader, change) : rc;
    case SHARD_CHANGE_HANDOVER:
        rc = mp_read_uint(reader, &change->leader_epoch);
        return rc == SK_OK ? read_u32(reader, &change->node) : rc;
    case SHARD_CHANGE_RETIRE:
        return read_u32(reader, &change->node);
    case SHARD_CHANGE_REBUILD:
        rc = read_u32(reader, &change->node);
        return rc == SK_OK ? read_u32(reader, &change->successor) : rc;
    case SHARD_CHANGE_CLAIM:
    case SHARD_CHANGE_HANDOVER_GIVEN_UP:
        break;
    }
    return SK_OK;
}
