#include "verify.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/metad_client.h"
#include "libcommon/mp.h"
#include "print.h"
#include "session.h"
#include "status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define POLL_MS      100u
#define FINDINGS_MAX 256u

/* What a leader has found (shardd/verify_stats.h). */
struct finding {
    uint64_t generation, index;
    uint32_t shard, node; /* node 0: nobody knows which */
    char fault[16];
};

struct result {
    uint64_t generation; /* what was asked for */
    uint32_t shard_count, done_count;
    bool done[SHARD_COUNT_MAX];
    uint32_t finding_count;
    struct finding findings[FINDINGS_MAX];
    uint32_t not_in_sync; /* replicas: they are not compared */
};

static int fail(const char *metad, int err, const char *text) {
    bool unreachable = err == SK_ENET || err == SK_ETIMEDOUT;
    if (unreachable) (void)fprintf(stderr, "skerry: metad at %s does not answer: %s\n", metad, text);
    else (void)fprintf(stderr, "skerry: %s %s\n", error_name(err), text[0] != 0 ? text : error_text(err));
    return unreachable ? EXIT_UNREACHABLE : EXIT_ERROR_ANSWER;
}

static bool read_number(struct slice map, const char *name, uint64_t *number) {
    struct slice value;
    if (!status_find_value(map, name, &value)) return false;
    struct mp_reader reader = mp_reader_of(value);
    return mp_read_uint(&reader, number) == SK_OK;
}

/* The generation in `generation`, or the exit code, said. */
static int want_verify(struct metad_client *client, const struct verify_options *options, uint64_t *generation) {
    static const uint8_t no_params[] = {0x90};
    struct buffer answer;
    char text[256] = "";
    buffer_init(&answer);
    int err = metad_client_call(client, "verify", slice_of(no_params, sizeof no_params), options->timeout_ms,
                                &answer, text, sizeof text);
    if (err == SK_OK && !read_number(buffer_slice(&answer), "generation", generation)) err = SK_EPROTO;
    buffer_deinit(&answer);
    return err == SK_OK ? EXIT_OK : fail(options->metad, err, text);
}

/* ---- what the nodes tell ---- */

static bool read_u32(struct mp_reader *reader, uint32_t *number) {
    uint64_t wide;
    if (mp_read_uint(reader, &wide) != SK_OK || wide > UINT32_MAX) return false;
    *number = (uint32_t)wide;
    return true;
}

static bool read_finding(struct mp_reader *reader, struct finding *finding) {
    uint32_t parts;
    struct slice fault;
    bool ok = mp_read_array(reader, &parts) == SK_OK && parts == 5 &&
              mp_read_uint(reader, &finding->generation) == SK_OK &&
              mp_read_uint(reader, &finding->index) == SK_OK && read_u32(reader, &finding->shard) &&
              read_u32(reader, &finding->node) && mp_read_bytes(reader, &fault) == SK_OK;
    if (ok)
        (void)snprintf(finding->fault, sizeof finding->fault, "%.*s", (int)fault.size, (const char *)fault.data);
    return ok;
}

/* It is told again with each heartbeat. */
static bool is_known(const struct result *result, const struct finding *finding) {
    for (uint32_t i = 0; i < result->finding_count; i++) {
        const struct finding *known = &result->findings[i];
        if (known->shard == finding->shard && known->node == finding->node && known->index == finding->index)
            return true;
    }
    return false;
}

static void take_findings(struct result *result, struct slice findings) {
    struct mp_reader reader = mp_reader_of(findings);
    struct finding finding;
    uint32_t count;
    if (mp_read_array(&reader, &count) != SK_OK) return;
    for (uint32_t i = 0; i < count && read_finding(&reader, &finding); i++) {
        if (finding.generation < result->generation || is_known(result, &finding)) continue;
        if (result->finding_count < FINDINGS_MAX) result->findings[result->finding_count++] = finding;
    }
}

static void take_done(struct result *result, struct slice done) {
    struct mp_reader reader = mp_reader_of(done);
    struct slice bits;
    if (mp_read_bytes(&reader, &bits) != SK_OK) return;
    for (uint32_t shard = 0; shard < result->shard_count && shard / 8 < bits.size; shard++) {
        if ((bits.data[shard / 8] >> shard % 8 & 1) != 0) result->done[shard] = true;
    }
}

/* What was done stays done, whoever leads meanwhile. */
static void take_status(struct result *result, const struct status *status) {
    const struct map *map = status->map;
    result->shard_count = map->shard_count;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct slice verify, part;
        uint64_t generation;
        if (!status_find_stat(status, map->nodes[i].id, "verify", &verify)) continue;
        if (status_find_value(verify, "findings", &part)) take_findings(result, part);
        bool heard = read_number(verify, "generation", &generation) && generation >= result->generation;
        if (heard && status_find_value(verify, "done", &part)) take_done(result, part);
    }
    result->done_count = result->not_in_sync = 0;
    for (uint32_t shard = 0; shard < map->shard_count; shard++) {
        result->done_count += result->done[shard];
        result->not_in_sync += map->shards[shard].replica_count - map->shards[shard].isr_count;
    }
}

/* ---- telling ---- */

static bool is_fine(const struct result *result) {
    return result->done_count == result->shard_count && result->finding_count == 0;
}

static void print_finding(const struct finding *finding) {
    printf("shard %" PRIu32 ": ", finding->shard);
    if (finding->node == 0) {
        printf("the replicas differ, and there is no majority: a person has to decide (docs/operations.md)\n");
    } else if (strcmp(finding->fault, "damaged") == 0) {
        printf("node %" PRIu32 " has records that cannot be read; its replica begins anew\n", finding->node);
    } else {
        printf("node %" PRIu32 " differs from the others; its replica begins anew\n", finding->node);
    }
}

static void print_missing(const struct result *result) {
    printf("not compared in time: shard");
    for (uint32_t shard = 0; shard < result->shard_count; shard++) {
        if (!result->done[shard]) printf(" %" PRIu32, shard);
    }
    printf("\n");
}

static void print_text(const struct result *result) {
    for (uint32_t i = 0; i < result->finding_count; i++) print_finding(&result->findings[i]);
    if (result->done_count < result->shard_count) print_missing(result);
    if (result->not_in_sync > 0) {
        printf("%" PRIu32 " replicas are not in sync and were not compared\n", result->not_in_sync);
    }
    printf("%" PRIu32 " of %" PRIu32 " shards compared: %s\n", result->done_count, result->shard_count,
           is_fine(result) ? "all replicas are equal" : "NOT ALL IS WELL");
}

static void write_number(struct buffer *buffer, const char *name, uint64_t number) {
    mp_write_text(buffer, name);
    mp_write_uint(buffer, number);
}

static void print_json(const struct result *result) {
    struct buffer value, out;
    buffer_init(&value);
    buffer_init(&out);
    mp_write_map(&value, 7);
    write_number(&value, "generation", result->generation);
    write_number(&value, "shards", result->shard_count);
    write_number(&value, "compared", result->done_count);
    write_number(&value, "replicas_not_in_sync", result->not_in_sync);
    mp_write_text(&value, "equal");
    mp_write_bool(&value, is_fine(result));
    mp_write_text(&value, "missing");
    mp_write_array(&value, result->shard_count - result->done_count);
    for (uint32_t shard = 0; shard < result->shard_count; shard++) {
        if (!result->done[shard]) mp_write_uint(&value, shard);
    }
    mp_write_text(&value, "findings");
    mp_write_array(&value, result->finding_count);
    for (uint32_t i = 0; i < result->finding_count; i++) {
        const struct finding *finding = &result->findings[i];
        mp_write_map(&value, 4);
        write_number(&value, "shard", finding->shard);
        write_number(&value, "node", finding->node);
        write_number(&value, "index", finding->index);
        mp_write_text(&value, "fault");
        mp_write_text(&value, finding->fault);
    }
    if (print_result(&out, PRINT_JSON, buffer_slice(&value)) == SK_OK) fwrite(out.data, 1, out.size, stdout);
    buffer_deinit(&value);
    buffer_deinit(&out);
}

static void show_progress(const struct result *result, bool ends) {
    if (!isatty(STDERR_FILENO)) return;
    (void)fprintf(stderr, "\r%" PRIu32 " of %" PRIu32 " shards compared%s", result->done_count,
                  result->shard_count, ends ? "\n" : "");
}

/* ---- all of it ---- */

/* metad may change its leader meanwhile: one look that fails is not the end. EXIT_OK, or the exit code, said. */
static int watch(struct metad_client *client, const struct verify_options *options, struct result *result) {
    uint64_t deadline_ms = clock_boottime_ms() + options->wait_seconds * 1000;
    for (;;) {
        struct status status;
        char text[256];
        int err = status_fetch(client, options->timeout_ms, &status, text, sizeof text);
        if (err == SK_OK) {
            take_status(result, &status);
            status_deinit(&status);
            show_progress(result, false);
            if (result->done_count == result->shard_count) return EXIT_OK;
        }
        if (clock_boottime_ms() >= deadline_ms) return err == SK_OK ? EXIT_OK : fail(options->metad, err, text);
        usleep(POLL_MS * 1000);
    }
}

static int verify(struct metad_client *client, const struct verify_options *options, struct result *result) {
    int code = want_verify(client, options, &result->generation);
    if (code == EXIT_OK) code = watch(client, options, result);
    if (code != EXIT_OK) return code;
    show_progress(result, true);
    if (options->json) print_json(result);
    else print_text(result);
    return is_fine(result) ? EXIT_OK : EXIT_ERROR_ANSWER;
}

int verify_run(const struct verify_options *options) {
    struct metad_client *client;
    if (metad_client_new(&client, options->metad) != SK_OK) {
        (void)fprintf(stderr, "skerry: '%s' is not an address of metad\n", options->metad);
        return EXIT_USAGE;
    }
    struct result *result = calloc(1, sizeof *result);
    int code = result == NULL ? fail(options->metad, SK_ENOMEM, "") : verify(client, options, result);
    free(result);
    metad_client_free(client);
    return code;
}
