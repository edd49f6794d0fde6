#include "shardd/verify_stats.h"

#include "libcommon/mp.h"

const char *verify_fault_name(enum verify_fault fault) {
    static const char *const names[] = {
        [VERIFY_FAULT_DIFFERS] = "differs",
        [VERIFY_FAULT_DAMAGED] = "damaged",
        [VERIFY_FAULT_UNDECIDED] = "undecided",
    };
    return names[fault];
}

static void keep(struct verify_stats *stats, const struct verify_finding *finding) {
    if (stats->finding_count == VERIFY_FINDINGS_MAX) {
        memmove(stats->findings, stats->findings + 1, (VERIFY_FINDINGS_MAX - 1) * sizeof stats->findings[0]);
        stats->finding_count--;
    }
    stats->findings[stats->finding_count++] = *finding;
}

void verify_stats_note(struct verify_stats *stats, const struct verify_finding *finding) {
    keep(stats, finding);
    stats->differing += finding->fault == VERIFY_FAULT_DIFFERS;
    stats->damaged += finding->fault == VERIFY_FAULT_DAMAGED;
    stats->undecided += finding->fault == VERIFY_FAULT_UNDECIDED;
}

void verify_stats_set_done(struct verify_stats *stats, uint32_t shard) {
    stats->done[shard / 8] |= (uint8_t)(1u << shard % 8);
}

void verify_stats_add(struct verify_stats *sum, const struct verify_stats *lane) {
    if (lane->generation < sum->generation) sum->generation = lane->generation;
    for (size_t i = 0; i < sizeof sum->done; i++) sum->done[i] |= lane->done[i];
    sum->verified += lane->verified;
    sum->differing += lane->differing;
    sum->damaged += lane->damaged;
    sum->undecided += lane->undecided;
    sum->running += lane->running;
    for (uint32_t i = 0; i < lane->finding_count; i++) keep(sum, &lane->findings[i]);
}

static void encode_finding(const struct verify_finding *finding, struct buffer *buffer) {
    mp_write_array(buffer, 5);
    mp_write_uint(buffer, finding->generation);
    mp_write_uint(buffer, finding->index);
    mp_write_uint(buffer, finding->shard);
    mp_write_uint(buffer, finding->node);
    mp_write_text(buffer, verify_fault_name(finding->fault));
}

void verify_stats_encode(const struct verify_stats *stats, struct buffer *buffer) {
    size_t bytes = sizeof stats->done;
    while (bytes > 0 && stats->done[bytes - 1] == 0) bytes--;
    mp_write_map(buffer, 3);
    mp_write_text(buffer, "generation");
    mp_write_uint(buffer, stats->generation);
    mp_write_text(buffer, "done");
    mp_write_bin(buffer, slice_of(stats->done, bytes));
    mp_write_text(buffer, "findings");
    mp_write_array(buffer, stats->finding_count);
    for (uint32_t i = 0; i < stats->finding_count; i++) encode_finding(&stats->findings[i], buffer);
}
