#include "admin.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/metad_client.h"
#include "libcommon/mp.h"
#include "session.h"
#include "status.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define POLL_MS     20u
#define HANDOVER_MS 10000u /* metad withdraws the wish before that */

int admin_fail(const char *metad, int err, const char *text) {
    bool unreachable = err == SK_ENET || err == SK_ETIMEDOUT;
    if (unreachable) (void)fprintf(stderr, "skerry: metad at %s does not answer: %s\n", metad, text);
    else (void)fprintf(stderr, "skerry: %s %s\n", error_name(err), text[0] != 0 ? text : error_text(err));
    return unreachable ? EXIT_UNREACHABLE : EXIT_ERROR_ANSWER;
}

int admin_connect(const char *metad, struct metad_client **client) {
    if (metad_client_new(client, metad) == SK_OK) return EXIT_OK;
    (void)fprintf(stderr, "skerry: '%s' is not an address of metad\n", metad);
    return EXIT_USAGE;
}

static int ask(struct metad_client *client, const struct admin_options *options, const char *method) {
    struct buffer params;
    char text[256] = "";
    buffer_init(&params);
    mp_write_array(&params, 2);
    mp_write_uint(&params, options->shard);
    mp_write_uint(&params, options->node);
    int err = SK_ENOMEM;
    if (!params.failed) {
        err =
            metad_client_call(client, method, buffer_slice(&params), options->timeout_ms, NULL, text, sizeof text);
    }
    buffer_deinit(&params);
    return err == SK_OK ? EXIT_OK : admin_fail(options->metad, err, text);
}

/* What metad knows now, with the shard in it. EXIT_OK: the caller calls status_deinit; else the exit code, said. */
static int look(struct metad_client *client, const struct admin_options *options, struct status *status) {
    char text[256];
    int err = status_fetch(client, options->timeout_ms, status, text, sizeof text);
    if (err != SK_OK) return admin_fail(options->metad, err, text);
    if (options->shard < status->map->shard_count) return EXIT_OK;
    (void)fprintf(stderr, "skerry: there is no shard %" PRIu32 " of %" PRIu32 "\n", options->shard,
                  status->map->shard_count);
    status_deinit(status);
    return EXIT_ERROR_ANSWER;
}

static int say_leads(const struct admin_options *options, const struct map_shard *shard) {
    printf("node %" PRIu32 " leads shard %" PRIu32 " in epoch %" PRIu64 "\n", options->node, options->shard,
           shard->leader_epoch);
    return EXIT_OK;
}

/* -1 = it is still open, else the exit code, said. */
static int judge_handover(const struct admin_options *options, const struct map_shard *shard) {
    if (shard->leader == options->node) return say_leads(options, shard);
    if (shard->wanted_leader == options->node) return -1;
    (void)fprintf(stderr,
                  "skerry: node %" PRIu32 ", which leads shard %" PRIu32
                  ", has not handed it over to node %" PRIu32 "\n",
                  shard->leader, options->shard, options->node);
    return EXIT_ERROR_ANSWER;
}

static int wait_for_handover(struct metad_client *client, const struct admin_options *options) {
    uint64_t deadline_ms = clock_boottime_ms() + HANDOVER_MS;
    for (;;) {
        struct status status;
        int code = look(client, options, &status);
        if (code != EXIT_OK) return code;
        code = judge_handover(options, &status.map->shards[options->shard]);
        status_deinit(&status);
        if (code >= 0) return code;
        if (clock_boottime_ms() >= deadline_ms) break;
        usleep(POLL_MS * 1000);
    }
    (void)fprintf(stderr, "skerry: shard %" PRIu32 " was not handed over within %u s\n", options->shard,
                  HANDOVER_MS / 1000);
    return EXIT_ERROR_ANSWER;
}

int admin_handover(const struct admin_options *options) {
    struct metad_client *client;
    int code = admin_connect(options->metad, &client);
    if (code != EXIT_OK) return code;
    code = ask(client, options, "handover");
    if (code == EXIT_OK) code = wait_for_handover(client, options);
    metad_client_free(client);
    return code;
}

/* ---- force-leader ---- */

static bool has_id(const uint32_t *ids, uint32_t count, uint32_t id) {
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

/* What a person has to know to choose: who is there, and how far each one's log reaches as far as is told. */
static void print_replicas(const struct admin_options *options, const struct status *status) {
    const struct map_shard *shard = &status->map->shards[options->shard];
    printf("shard %" PRIu32 ": epoch=%" PRIu64 " leader=%" PRIu32 " min_isr=%" PRIu32 "\n", options->shard,
           shard->leader_epoch, shard->leader, shard->min_isr);
    for (uint32_t i = 0; i < shard->replica_count; i++) {
        uint32_t id = shard->replicas[i].node;
        const char *standing = "behind";
        if (has_id(shard->isr, shard->isr_count, id)) standing = "in sync";
        if (has_id(shard->eligible, shard->eligible_count, id)) standing = "eligible";
        printf("  node %-4" PRIu32 " %-5s %-8s", id, map_is_alive(status->map, id) ? "alive" : "DEAD", standing);
        uint64_t epoch, index;
        if (status_find_tail(status, id, options->shard, &epoch, &index)) {
            printf(" last entry: epoch %" PRIu64 ", index %" PRIu64, epoch, index);
        }
        printf("\n");
    }
}

static int force(struct metad_client *client, const struct admin_options *options) {
    struct status status;
    int code = look(client, options, &status);
    if (code != EXIT_OK) return code;
    print_replicas(options, &status);
    status_deinit(&status);
    if (!options->yes_lose_data) {
        (void)fprintf(
            stderr,
            "skerry: nothing was done. With --yes-lose-data node %" PRIu32 " leads shard %" PRIu32
            ", what it lacks is lost, and every other replica begins anew. Choose the one that is alive with the "
            "highest last entry (epoch first)\n",
            options->node, options->shard);
        return EXIT_USAGE;
    }
    code = ask(client, options, "force_leader");
    if (code == EXIT_OK) code = look(client, options, &status);
    if (code != EXIT_OK) return code;
    const struct map_shard *shard = &status.map->shards[options->shard];
    code = say_leads(options, shard);
    printf("data may be lost: data_loss_generation of the shard is %" PRIu64 "\n", shard->data_loss_generation);
    status_deinit(&status);
    return code;
}

int admin_force_leader(const struct admin_options *options) {
    struct metad_client *client;
    int code = admin_connect(options->metad, &client);
    if (code != EXIT_OK) return code;
    code = force(client, options);
    metad_client_free(client);
    return code;
}
