#include "admin_node.h"

#include "admin.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/metad_client.h"
#include "libcommon/mp.h"
#include "obstacle.h"
#include "session.h"
#include "status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define POLL_MS  200u
#define STILL_MS 5000u  /* nothing changes for so long: we say why */
#define LOST_MS  60000u /* metad is not reached for so long: we stop looking */

static const char *const names[] = {
    [ADMIN_NODE_ADD] = "add", [ADMIN_NODE_DRAIN] = "drain", [ADMIN_NODE_REMOVE] = "remove"};

bool admin_node_parse(const char *word, enum admin_node_change *change) {
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(word, names[i]) != 0) continue;
        *change = (enum admin_node_change)i;
        return true;
    }
    return false;
}

static int ask(struct metad_client *client, const struct admin_node_options *options) {
    struct buffer params;
    char text[256] = "";
    int err = SK_ENOMEM;
    buffer_init(&params);
    mp_write_array(&params, 2);
    mp_write_uint(&params, options->node);
    mp_write_text(&params, names[options->change]);
    if (!params.failed) {
        err =
            metad_client_call(client, "node", buffer_slice(&params), options->timeout_ms, NULL, text, sizeof text);
    }
    buffer_deinit(&params);
    return err == SK_OK ? EXIT_OK : admin_fail(options->metad, err, text);
}

/* How the cluster stands, as far as it concerns one node. */
struct standing {
    bool known; /* it is in the map */
    enum map_node_state state;
    uint32_t replicas, leads;
    uint32_t takers;                        /* nodes that get replicas */
    uint32_t replicas_in_all, shards, open; /* open: shards of which a replica moves */
};

static struct standing look_at(const struct map *map, uint32_t id) {
    const struct map_node *node = map_find_node(map, id);
    struct standing standing = {.known = node != NULL, .shards = map->shard_count};
    if (node != NULL) standing.state = node->state;
    for (uint32_t i = 0; i < map->node_count; i++) {
        standing.takers += map_takes_replicas(&map->nodes[i]);
    }
    for (uint32_t i = 0; i < map->shard_count; i++) {
        const struct map_shard *shard = &map->shards[i];
        standing.replicas += map_find_replica(shard, id) != NULL;
        standing.leads += shard->leader == id;
        standing.replicas_in_all += shard->replica_count;
        standing.open += shard->move_to != 0;
    }
    return standing;
}

/* A node that was added has its share when nothing moves and it has no less than the others, rounded down. */
static bool has_share(const struct standing *standing) {
    if (standing->takers == 0 || standing->open > 0) return false;
    return standing->replicas >= standing->replicas_in_all / standing->takers &&
           standing->leads >= standing->shards / standing->takers;
}

/* -1 = it goes on, else the exit code, said. */
static int judge(const struct admin_node_options *options, const struct standing *standing) {
    uint32_t node = options->node;
    if (options->change == ADMIN_NODE_REMOVE && !standing->known) {
        printf("node %" PRIu32 " is removed\n", node);
        return EXIT_OK;
    }
    bool removed = !standing->known;
    bool other = (options->change == ADMIN_NODE_ADD && standing->state != MAP_NODE_MEMBER) ||
                 (options->change == ADMIN_NODE_DRAIN && standing->state == MAP_NODE_MEMBER) ||
                 (options->change == ADMIN_NODE_REMOVE && standing->state != MAP_NODE_REMOVING);
    if (removed || other) {
        (void)fprintf(stderr, "skerry: somebody else has changed node %" PRIu32 " meanwhile: it is %s\n", node,
                      removed ? "removed" : map_node_state_name(standing->state));
        return EXIT_ERROR_ANSWER;
    }
    if (options->change == ADMIN_NODE_DRAIN && standing->replicas == 0) {
        printf("node %" PRIu32 " is drained: it can be stopped, and removed\n", node);
        return EXIT_OK;
    }
    if (options->change == ADMIN_NODE_ADD && has_share(standing)) {
        printf("node %" PRIu32 " has its share: %" PRIu32 " replicas, %" PRIu32 " leaders\n", node,
               standing->replicas, standing->leads);
        return EXIT_OK;
    }
    return -1;
}

/* As far as it is shown. */
static bool is_same(const struct standing *a, const struct standing *b) {
    return a->replicas == b->replicas && a->leads == b->leads && a->open == b->open;
}

/* A line when something has changed since the last. */
static void show(const struct admin_node_options *options, const struct standing *now,
                 const struct standing *before) {
    if (is_same(now, before)) return;
    printf("node %" PRIu32 ": %" PRIu32 " replicas, %" PRIu32 " leaders", options->node, now->replicas,
           now->leads);
    printf(options->change == ADMIN_NODE_ADD ? "" : " left");
    if (now->open > 0) printf("; %" PRIu32 " on the move", now->open);
    printf("\n");
    (void)fflush(stdout);
}

/* A line when nothing has changed since `since_ms`, which is moved on: once in a while. */
static void show_obstacle(const struct admin_node_options *options, const struct map *map, uint64_t *since_ms) {
    char text[OBSTACLE_TEXT_BYTES];
    if (clock_boottime_ms() - *since_ms < STILL_MS) return;
    if (obstacle_find(map, options->node, text)) printf("waiting: %s\n", text);
    (void)fflush(stdout);
    *since_ms = clock_boottime_ms();
}

/* metad does it whether somebody looks or not, so one that is away for a while only delays the news. */
static int wait_for_it(struct metad_client *client, const struct admin_node_options *options) {
    struct standing before = {.replicas = UINT32_MAX}; /* nothing was shown */
    uint64_t heard_ms = clock_boottime_ms(), changed_ms = heard_ms;
    for (;;) {
        struct status status;
        char text[256];
        int err = status_fetch(client, options->timeout_ms, &status, text, sizeof text);
        if (err == SK_OK) {
            struct standing now = look_at(status.map, options->node);
            heard_ms = clock_boottime_ms();
            int code = judge(options, &now);
            if (!is_same(&now, &before)) changed_ms = heard_ms;
            if (code < 0) {
                show(options, &now, &before);
                show_obstacle(options, status.map, &changed_ms);
            }
            status_deinit(&status);
            if (code >= 0) return code;
            before = now;
        } else if (clock_boottime_ms() - heard_ms >= LOST_MS) {
            return admin_fail(options->metad, err, text);
        }
        usleep(POLL_MS * 1000);
    }
}

int admin_node(const struct admin_node_options *options) {
    struct metad_client *client;
    int code = admin_connect(options->metad, &client);
    if (code != EXIT_OK) return code;
    code = ask(client, options);
    if (code == EXIT_OK && !options->no_wait) code = wait_for_it(client, options);
    metad_client_free(client);
    return code;
}
