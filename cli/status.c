#include "status.h"

#include "client.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/metad_client.h"
#include "libcommon/mp.h"
#include "print.h"
#include "session.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define POLL_MS     50
#define ATTEMPT_MS  1000
#define FIGURES_MAX 32

/* ---- asking ---- */

int status_fetch(struct metad_client *client, uint32_t timeout_ms, struct status *status, char *text,
                 size_t text_bytes) {
    static const uint8_t no_params[] = {0x90};
    struct buffer answer;
    buffer_init(&answer);
    text[0] = 0;
    uint64_t now_ms = clock_boottime_ms(), deadline_ms = now_ms + timeout_ms;
    int err;
    do { /* of several servers one may be silent: the next try goes to another */
        err = metad_client_call(client, "status", slice_of(no_params, sizeof no_params),
                                (uint32_t)(deadline_ms - now_ms), &answer, text, text_bytes);
        now_ms = clock_boottime_ms();
    } while (err == SK_ETIMEDOUT && now_ms < deadline_ms);
    if (err == SK_OK) err = status_read(status, &answer);
    if (err != SK_OK && text[0] == 0) snprintf(text, text_bytes, "%s", error_text(err));
    buffer_deinit(&answer);
    return err;
}

/* ---- readiness ---- */

static bool is_led(const struct map *map, const struct map_shard *shard) {
    return map_is_alive(map, shard->leader);
}

static bool is_below_min_isr(const struct map *map, const struct map_shard *shard) {
    return !map_takes_writes(shard, map_is_alive, map);
}

struct status_shards status_count_shards(const struct map *map) {
    struct status_shards shards = {.count = map->shard_count};
    for (uint32_t i = 0; i < map->shard_count; i++) {
        const struct map_shard *shard = &map->shards[i];
        shards.led += is_led(map, shard);
        shards.short_isr += is_below_min_isr(map, shard);
        shards.behind += shard->isr_count < shard->replica_count;
        shards.lost += shard->data_loss_generation > 0;
        shards.moving += shard->move_to != 0;
    }
    return shards;
}

bool status_map_serves(const struct map *map, char *missing, size_t missing_bytes) {
    struct status_shards shards = status_count_shards(map);
    uint32_t alive = 0;
    for (uint32_t i = 0; i < map->node_count; i++) alive += map->nodes[i].alive;
    if (shards.count == 0)
        snprintf(missing, missing_bytes, "the shard map is not there yet (%" PRIu32 " nodes are)", alive);
    else if (shards.led < shards.count)
        snprintf(missing, missing_bytes,
                 "%" PRIu32 " of %" PRIu32 " shards have no leader alive (%" PRIu32 " of %" PRIu32 " nodes are)",
                 shards.count - shards.led, shards.count, alive, map->node_count);
    return shards.count > 0 && shards.led == shards.count;
}

static bool metad_serves(struct metad_client *client, char *missing, size_t missing_bytes) {
    struct status status;
    char text[128];
    int err = status_fetch(client, ATTEMPT_MS, &status, text, sizeof text);
    if (err != SK_OK) {
        snprintf(missing, missing_bytes, "metad does not answer: %s", text);
        return false;
    }
    bool serves = status_map_serves(status.map, missing, missing_bytes);
    status_deinit(&status);
    return serves;
}

static bool gateway_answers(struct client *client, const char *method, char *missing, size_t missing_bytes) {
    static const uint8_t no_params[] = {0x90};
    struct client_call call = {
        .method = slice_of_text(method),
        .params = slice_of(no_params, sizeof no_params),
        .timeout_ms = ATTEMPT_MS,
    };
    struct client_reply reply;
    int err = client_call(client, &call, &reply);
    if (err == SK_OK && !reply.failed) return true;
    if (err == SK_OK)
        snprintf(missing, missing_bytes, "%s through the gateway: %.*s %.*s", method, (int)reply.code.size,
                 (const char *)reply.code.data, (int)reply.text.size, (const char *)reply.text.data);
    else snprintf(missing, missing_bytes, "%s through the gateway: %s", method, error_text(err));
    return false;
}

static bool gateway_serves(const char *address, char *missing, size_t missing_bytes) {
    struct client *client;
    char text[128] = "";
    int err = client_open(&client, address, ATTEMPT_MS, text, sizeof text);
    if (err != SK_OK) {
        snprintf(missing, missing_bytes, "cannot reach the gateway at %s: %s", address, text);
        return false;
    }
    bool serves = gateway_answers(client, "PING", missing, missing_bytes) &&
                  gateway_answers(client, "DBSIZE", missing, missing_bytes);
    client_close(client);
    return serves;
}

int status_wait_ready(const struct status_wait *wait, char *missing, size_t missing_bytes) {
    struct metad_client *client;
    int err = metad_client_new(&client, wait->metad);
    if (err != SK_OK) {
        snprintf(missing, missing_bytes, "'%s' is not an address of metad", wait->metad);
        return SK_ETIMEDOUT;
    }
    bool ready;
    for (;;) {
        ready =
            metad_serves(client, missing, missing_bytes) && gateway_serves(wait->gateway, missing, missing_bytes);
        bool stopped = wait->stop != NULL && atomic_load(wait->stop);
        if (ready || stopped || clock_boottime_ms() >= wait->deadline_ms) break;
        usleep(POLL_MS * 1000);
    }
    metad_client_free(client);
    return ready ? SK_OK : SK_ETIMEDOUT;
}

/* ---- showing ---- */

static bool find_number(struct slice map, const char *name, uint64_t *number) {
    struct slice value;
    if (!status_find_value(map, name, &value)) return false;
    struct mp_reader reader = mp_reader_of(value);
    return mp_read_uint(&reader, number) == SK_OK;
}

static bool find_text(struct slice map, const char *name, struct slice *text) {
    struct slice value;
    if (!status_find_value(map, name, &value)) return false;
    struct mp_reader reader = mp_reader_of(value);
    return mp_read_bytes(&reader, text) == SK_OK;
}

/* tails: {shard: [epoch, index]} */
bool status_find_tail(const struct status *status, uint32_t node, uint32_t shard, uint64_t *epoch,
                      uint64_t *index) {
    struct slice tails;
    if (!status_find_stat(status, node, "tails", &tails)) return false;
    struct mp_reader reader = mp_reader_of(tails);
    uint32_t count, parts;
    if (mp_read_map(&reader, &count) != SK_OK) return false;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id;
        if (mp_read_uint(&reader, &id) != SK_OK) return false;
        if (id == shard) {
            return mp_read_array(&reader, &parts) == SK_OK && parts == 2 &&
                   mp_read_uint(&reader, epoch) == SK_OK && mp_read_uint(&reader, index) == SK_OK;
        }
        if (mp_skip(&reader, NULL) != SK_OK) return false;
    }
    return false;
}

static void print_bytes(uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double size = (double)bytes;
    size_t unit = 0;
    for (; size >= 1024 && unit < 5; unit++) size /= 1024;
    printf(unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
}

/* "keys=12 log_bytes=64.0 MiB …": whatever the daemon tells, in its order. */
static void print_figures(struct slice stats) {
    struct mp_reader reader = mp_reader_of(stats);
    uint32_t count;
    if (mp_read_map(&reader, &count) != SK_OK) return;
    for (uint32_t i = 0; i < count && i < FIGURES_MAX; i++) {
        struct slice key;
        struct mp_value value;
        struct mp_reader before = reader;
        if (mp_read_bytes(&before, &key) != SK_OK || mp_read(&before, &value) != SK_OK) return;
        if (mp_skip(&reader, NULL) != SK_OK || mp_skip(&reader, NULL) != SK_OK) return;
        if (value.type != MP_UINT) continue;
        printf("  %.*s=", (int)key.size, (const char *)key.data);
        bool size = key.size > 6 && memcmp(key.data + key.size - 6, "_bytes", 6) == 0;
        if (size) print_bytes(value.uint);
        else printf("%" PRIu64, value.uint);
    }
}

/* metad's own: [[id, name, whether it votes, whether it leads], …] */
static void print_servers(struct slice metad) {
    struct slice servers;
    uint32_t count, parts;
    if (!status_find_value(metad, "servers", &servers)) return;
    struct mp_reader reader = mp_reader_of(servers);
    if (mp_read_array(&reader, &count) != SK_OK) return;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id;
        struct slice name;
        bool votes, leads;
        if (mp_read_array(&reader, &parts) != SK_OK || parts != 4) return;
        if (mp_read_uint(&reader, &id) != SK_OK || mp_read_bytes(&reader, &name) != SK_OK) return;
        if (mp_read_bool(&reader, &votes) != SK_OK || mp_read_bool(&reader, &leads) != SK_OK) return;
        printf("  %-7s %.*s\n",
               leads   ? "leads"
               : votes ? "follows"
                       : "joins",
               (int)name.size, (const char *)name.data);
    }
}

static void print_nodes(const struct status *status) {
    const struct map *map = status->map;
    printf("nodes: %" PRIu32 "\n", map->node_count);
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct map_node *node = &map->nodes[i];
        uint32_t leads = 0, holds = 0;
        for (uint32_t s = 0; s < map->shard_count; s++) {
            leads += map->shards[s].leader == node->id;
            holds += map_find_replica(&map->shards[s], node->id) != NULL;
        }
        printf("  %-4" PRIu32 " %-5s %-30s lanes=%" PRIu32 " leads=%" PRIu32 " holds=%" PRIu32, node->id,
               node->alive ? "alive" : "DEAD", node->frames_address, node->lanes, leads, holds);
        if (node->state != MAP_NODE_MEMBER) printf(" %s", map_node_state_name(node->state));
        print_figures(status_stats_of(status, node->id));
        printf("\n");
    }
}

static bool has_id(const uint32_t *ids, uint32_t count, uint32_t id) {
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) return true;
    }
    return false;
}

static void print_ids(const char *name, const uint32_t *ids, uint32_t count) {
    printf(" %s=", name);
    for (uint32_t i = 0; i < count; i++) printf("%s%" PRIu32, i > 0 ? "," : "", ids[i]);
}

/* How far a move is, as the record shows it. */
static void print_move(const struct map_shard *shard) {
    bool joined = has_id(shard->isr, shard->isr_count, shard->move_to);
    printf(" move=");
    if (shard->move_from != 0) printf("%" PRIu32, shard->move_from);
    printf(">%" PRIu32 " (%s)", shard->move_to,
           !joined                             ? "catches up"
           : shard->leader == shard->move_from ? "in sync, the leader hands over"
                                               : "in sync");
}

/* What is not as it should be stands behind what always stands there. */
static void print_shard(const struct map *map, uint32_t id) {
    const struct map_shard *shard = &map->shards[id];
    uint32_t replicas[MAP_REPLICAS_MAX];
    for (uint32_t i = 0; i < shard->replica_count; i++) replicas[i] = shard->replicas[i].node;
    printf("  %-5" PRIu32 " epoch=%-4" PRIu64 " leader=%-4" PRIu32, id, shard->leader_epoch, shard->leader);
    print_ids("isr", shard->isr, shard->isr_count);
    print_ids("replicas", replicas, shard->replica_count);
    if (shard->eligible_count > 0) print_ids("eligible", shard->eligible, shard->eligible_count);
    if (shard->wanted_leader != 0) printf(" wanted_leader=%" PRIu32, shard->wanted_leader);
    if (shard->move_to != 0) print_move(shard);
    if (shard->data_loss_generation > 0) printf(" data_loss_generation=%" PRIu64, shard->data_loss_generation);
    if (is_below_min_isr(map, shard)) printf(" BELOW MIN_ISR %" PRIu32, shard->min_isr);
    printf("%s\n", is_led(map, shard) ? "" : " NO LEADER ALIVE");
}

void status_print_shards(const struct status *status, bool all) {
    const struct map *map = status->map;
    struct status_shards shards = status_count_shards(map);
    printf("shards: %" PRIu32 ", %" PRIu32 " led, %" PRIu32 " without a leader alive\n", shards.count, shards.led,
           shards.count - shards.led);
    printf("  %" PRIu32 " below min_isr, %" PRIu32 " with replicas not in sync, %" PRIu32
           " that may have lost data, %" PRIu32 " on the move\n",
           shards.short_isr, shards.behind, shards.lost, shards.moving);
    for (uint32_t i = 0; i < map->shard_count; i++) {
        const struct map_shard *shard = &map->shards[i];
        bool shown = !is_led(map, shard) || is_below_min_isr(map, shard) || shard->move_to != 0;
        if (all || shown) print_shard(map, i);
    }
}

static void print_gateways(const struct status *status) {
    struct mp_reader reader = mp_reader_of(status->gateways);
    uint32_t count;
    if (mp_read_array(&reader, &count) != SK_OK) return;
    printf("gateways: %" PRIu32 "\n", count);
    for (uint32_t i = 0; i < count; i++) {
        struct slice gateway, host = slice_of_text("?"), address = slice_of_text("?"), stats;
        uint64_t age_ms = 0;
        if (mp_skip(&reader, &gateway) != SK_OK) return;
        find_text(gateway, "host", &host);
        find_text(gateway, "frames_address", &address);
        find_number(gateway, "age_ms", &age_ms);
        printf("  %.*s  %.*s  heard %" PRIu64 " ms ago", (int)host.size, (const char *)host.data,
               (int)address.size, (const char *)address.data, age_ms);
        struct mp_reader in = mp_reader_of(gateway);
        uint32_t pairs;
        if (mp_read_map(&in, &pairs) == SK_OK)
            for (uint32_t p = 0; p < pairs; p++) {
                struct slice key;
                if (mp_read_bytes(&in, &key) != SK_OK || mp_skip(&in, &stats) != SK_OK) break;
                if (slice_equal(key, slice_of_text("stats"))) print_figures(stats);
            }
        printf("\n");
    }
}

static void show(const struct status *status, const struct status_options *options) {
    printf("cluster %016" PRIx64 ", map version %" PRIu64 "\n", status->map->cluster, status->map->version);
    printf("metad: %s", options->metad);
    print_figures(status->metad);
    printf("\n");
    print_servers(status->metad);
    print_nodes(status);
    status_print_shards(status, options->shards);
    print_gateways(status);
}

static int show_json(const struct status *status) {
    struct buffer out;
    buffer_init(&out);
    int err = print_result(&out, PRINT_JSON, buffer_slice(&status->answer));
    if (err == SK_OK) fwrite(out.data, 1, out.size, stdout);
    buffer_deinit(&out);
    return err;
}

static int wait_first(const struct status_options *options) {
    struct status_wait wait = {
        .metad = options->metad,
        .gateway = options->gateway,
        .deadline_ms = clock_boottime_ms() + options->wait_seconds * 1000,
    };
    char missing[256];
    if (status_wait_ready(&wait, missing, sizeof missing) == SK_OK) return EXIT_OK;
    fprintf(stderr, "skerry: not ready after %" PRIu64 " s: %s\n", options->wait_seconds, missing);
    return EXIT_ERROR_ANSWER;
}

int status_run(const struct status_options *options) {
    int code = options->wait ? wait_first(options) : EXIT_OK;
    if (code != EXIT_OK) return code;
    struct metad_client *client;
    if (metad_client_new(&client, options->metad) != SK_OK) {
        fprintf(stderr, "skerry: '%s' is not an address of metad\n", options->metad);
        return EXIT_USAGE;
    }
    struct status status;
    char text[256];
    int err = status_fetch(client, options->timeout_ms, &status, text, sizeof text);
    metad_client_free(client);
    if (err != SK_OK) {
        fprintf(stderr, "skerry: metad at %s does not tell: %s\n", options->metad, text);
        return err == SK_ENET || err == SK_ETIMEDOUT ? EXIT_UNREACHABLE : EXIT_ERROR_ANSWER;
    }
    if (options->json) err = show_json(&status);
    else show(&status, options);
    status_deinit(&status);
    return err == SK_OK ? EXIT_OK : EXIT_ERROR_ANSWER;
}
