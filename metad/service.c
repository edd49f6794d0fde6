#include "metad/service.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/mp.h"
#include "metad/balance.h"
#include "metad/liveness.h"
#include "metad/moves.h"
#include "metad/placement.h"
#include "metad/record_log.h"
#include "metad/result.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

/* How many replicas of wiped nodes are given to others at once, and how often the spread of leaders and replicas is looked at. */
#define REPLACEMENTS_MAX  16u
#define BALANCE_PERIOD_MS 100u

/* How long a proposal waits for room on disk before it is refused with DISKFULL. */
#define HOLD_MS 2000u

/* A leader that is not ready by then lets another one lead, and so does one that could write nothing to its disk for so long. */
#define READY_MS     3000u
#define DISK_MS      3000u
#define HAND_OVER_MS 1000u /* between tries */

/* A gateway is nobody's business but the operator's: kept in memory, forgotten when it is silent for long. */
struct gateway {
    uint8_t store_id[16];
    char host[MAP_ADDRESS_BYTES];
    char frames_address[MAP_ADDRESS_BYTES];
    uint64_t heard_ms;
    struct buffer stats; /* one encoded map, or empty */
};

/* A command on its way through the log. */
struct proposal {
    struct proposal *next; /* in service->proposals */
    struct service *service;
    struct rpc_call *call; /* who waits for it; NULL = nobody */
    uint64_t number;
    enum command_kind kind;
    uint32_t
        subject; /* COMMAND_NODE_ALIVE: the node; COMMAND_CHANGE_NODE: the node; COMMAND_REPLACE_REPLICA: the shard */
    struct buffer entry;
    /* libraft had no room on disk yet: tried again on each tick until then; 0 = it is in the log */
    uint64_t held_until_ms;
    bool applied; /* `answer` is there */
    struct catalog_answer answer;
};

/* A request that waits for a barrier. */
struct reader {
    struct reader *next;
    struct rpc_call *call;
    const struct request *request; /* the call's */
};

/* A change of metad's own servers that somebody waits for. */
struct server_wish {
    struct service *service;
    struct rpc_call *call;
};

struct service {
    struct service_options options;
    struct fsm fsm;
    struct liveness liveness;
    struct balance balance;
    struct moves moves;
    uint64_t balanced_ms;   /* the last time, of both */
    struct raft_loop *loop; /* borrowed; NULL before service_attach */
    struct group *group;    /* likewise */
    struct rpc *rpc;        /* borrowed; NULL before service_attach and after service_detach */

    uint64_t origin; /* of our commands */
    uint64_t last_number;
    struct proposal *proposals; /* owned; unordered, few */

    bool ready;        /* we lead, and all that was committed before is applied */
    uint64_t leads_ms; /* since when we lead, or have tried to hand over */
    bool handing_over;
    uint64_t hand_over_ms; /* the last time */
    bool disk_waits;       /* for longer than DISK_MS */
    bool barrier_runs;     /* one for `reading`, or for `ready` */
    bool draining;
    struct reader *waiting; /* owned; for the next barrier */
    struct reader *reading; /* owned; for the running one */
    uint32_t server_wishes; /* under way */
    uint64_t calls;

    uint64_t cluster; /* as noted in the data directory */
    uint64_t published_version;
    struct buffer map_bytes;    /* empty, or the encoded map of… */
    uint64_t map_bytes_version; /* … this version */

    struct buffer stats[MAP_NODES_MAX + 1]; /* of node id's last heartbeat, while we lead */
    struct gateway gateways[SERVICE_GATEWAYS_MAX];
    uint32_t gateway_count;
};

static void decide(struct service *service);

/* ---- commands on their way ---- */

static void log_outcome(const struct proposal *proposal) {
    const struct catalog_answer *answer = &proposal->answer;
    const struct catalog *catalog = &proposal->service->fsm.catalog;
    char text[CATALOG_TEXT_BYTES + 64];
    if (answer->err != SK_OK) {
        log_event(LOG_WARNING, "command_refused", "kind=%d error=%s text=%s", (int)proposal->kind,
                  error_name(answer->err), log_quote(answer->text, text, sizeof text));
        return;
    }
    switch (proposal->kind) {
    case COMMAND_INIT:
        log_event(LOG_INFO, "cluster_created", "cluster=%016" PRIx64, catalog->cluster);
        break;
    case COMMAND_REGISTER_NODE:
        log_event(LOG_INFO, "node_registered", "node=%" PRIu32 " incarnation=%" PRIu64 " map=%" PRIu64,
                  answer->node_id, answer->incarnation, catalog->version);
        break;
    case COMMAND_CREATE_SHARDS:
        log_event(LOG_INFO, "shards_created", "shards=%" PRIu32 " nodes=%" PRIu32 " map=%" PRIu64,
                  catalog->shard_count, catalog->node_count, catalog->version);
        break;
    case COMMAND_NODE_ALIVE: {
        const struct catalog_node *node = catalog_find_node(catalog, proposal->subject);
        log_event(LOG_INFO, node->map.alive ? "node_back" : "node_dead", "node=%" PRIu32 " map=%" PRIu64,
                  proposal->subject, catalog->version);
        break;
    }
    case COMMAND_CHANGE_SHARDS: /* record_log has told of these */
    case COMMAND_WISH_LEADER:
    case COMMAND_REPLACE_REPLICA:
    case COMMAND_FORCE_LEADER:
    case COMMAND_MOVE_REPLICA:
    case COMMAND_CHANGE_NODE:
        break;
    case COMMAND_VERIFY:
        log_event(LOG_INFO, "verify_wanted", "generation=%" PRIu64 " map=%" PRIu64, answer->verify_generation,
                  catalog->version);
        break;
    }
}

/* Takes `result`. */
static void answer_result(struct rpc_call *call, struct buffer *result) {
    if (result->failed) {
        rpc_refuse(call, SK_ENOMEM, NULL);
    } else {
        rpc_answer(call, buffer_slice(result));
    }
    buffer_deinit(result);
}

/* Whoever waits for the command, and what became of it. */
static void answer_command(struct rpc_call *call, enum command_kind kind, const struct catalog_answer *answer,
                           uint64_t map_version) {
    struct buffer result;
    if (answer->err != SK_OK) {
        rpc_refuse(call, answer->err, answer->text);
        return;
    }
    buffer_init(&result);
    if (kind == COMMAND_REGISTER_NODE) {
        result_encode_registration(&result, answer);
    } else if (kind == COMMAND_CHANGE_SHARDS) {
        result_encode_changes(&result, map_version, answer);
    } else if (kind == COMMAND_VERIFY) {
        result_encode_verify(&result, map_version, answer);
    } else if (kind == COMMAND_CHANGE_NODE) {
        result_encode_version(&result, map_version);
    } else {
        result_encode_record(&result, map_version, answer);
    }
    answer_result(call, &result);
}

static void proposal_free(struct proposal *proposal) {
    buffer_deinit(&proposal->entry);
    catalog_answer_deinit(&proposal->answer);
    free(proposal);
}

static void unlink_proposal(struct proposal *proposal) {
    struct proposal **at = &proposal->service->proposals;
    while (*at != proposal) at = &(*at)->next;
    *at = proposal->next;
}

/* Takes the proposal. */
static void proposal_done_cb(void *arg, int err) {
    struct proposal *proposal = arg;
    struct service *service = proposal->service;
    unlink_proposal(proposal);
    if (err == SK_OK && !proposal->applied) err = SK_EUNEXPECTED;
    if (err == SK_OK) {
        log_outcome(proposal);
        if (proposal->answer.node_id != 0) {
            liveness_hear(&service->liveness, proposal->answer.node_id, clock_boottime_ms());
        }
    } else if (service->rpc != NULL) {
        log_event(LOG_WARNING, "command_lost", "kind=%d error=%s", (int)proposal->kind, error_name(err));
    }
    if (proposal->call != NULL && service->rpc != NULL) {
        if (err == SK_OK) {
            answer_command(proposal->call, proposal->kind, &proposal->answer, service->fsm.catalog.version);
        } else {
            rpc_refuse(proposal->call, err, NULL);
        }
    }
    proposal_free(proposal);
    if (service->ready && err == SK_OK) decide(service);
}

static void handed_over_cb(void *arg, int err) {
    struct service *service = arg;
    (void)err; /* if nobody has taken over, it is tried again */
    service->handing_over = false;
}

static bool is_alone(const struct service *service) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    return raft_loop_servers(service->loop, servers) <= 1;
}

/* This server leads and is of no use as a leader; another may be. */
static void hand_over(struct service *service, const char *why) {
    uint64_t now_ms = clock_boottime_ms();
    if (service->handing_over || is_alone(service)) return;
    if (now_ms - service->hand_over_ms < HAND_OVER_MS) return; /* each try holds up what there is to write */
    service->hand_over_ms = now_ms;
    log_event(LOG_WARNING, "leader_hands_over", "text=\"%s\"", why);
    service->handing_over = raft_loop_transfer(service->loop, handed_over_cb, service) == SK_OK;
}

/* Gives the proposal to libraft, or holds it, or ends it. After a start libraft has no room on disk for some
 * milliseconds, until its first segments are made: a request that comes then waits a little. */
static void send_proposal(struct proposal *proposal) {
    struct service *service = proposal->service;
    int err = raft_loop_propose(service->loop, buffer_slice(&proposal->entry), proposal_done_cb, proposal);
    uint64_t now_ms = clock_boottime_ms();
    if (err == SK_DISKFULL && proposal->held_until_ms == 0) proposal->held_until_ms = now_ms + HOLD_MS;
    if (err == SK_OK) {
        proposal->held_until_ms = 0;
    } else if (err != SK_DISKFULL || now_ms >= proposal->held_until_ms || service->draining) {
        if (err == SK_DISKFULL) hand_over(service, "the disk is full");
        proposal_done_cb(proposal, err);
    }
}

/* The list may change under each: from the start again until none is left that was not tried. */
static void send_held(struct service *service) {
    uint64_t before = service->last_number;
    for (uint64_t number = 1; number != 0;) {
        struct proposal *first = NULL; /* the oldest that is held and not tried yet */
        for (struct proposal *at = service->proposals; at != NULL; at = at->next) {
            if (at->held_until_ms == 0 || at->number < number || at->number > before) continue;
            if (first == NULL || at->number < first->number) first = at;
        }
        number = first == NULL ? 0 : first->number + 1;
        if (first != NULL) send_proposal(first);
    }
}

/* Proposes `command` (origin and number are filled in here) on behalf of `call`, which may be NULL and is answered in
 * any case. */
static void propose(struct service *service, struct log_command *command, struct rpc_call *call) {
    struct proposal *proposal = calloc(1, sizeof *proposal);
    if (proposal == NULL) {
        if (call != NULL) rpc_refuse(call, SK_ENOMEM, NULL);
        return;
    }
    command->origin = service->origin;
    command->number = ++service->last_number;
    *proposal = (struct proposal){.service = service,
                                  .call = call,
                                  .number = command->number,
                                  .kind = command->kind,
                                  .next = service->proposals};
    if (command->kind == COMMAND_NODE_ALIVE) proposal->subject = command->node_alive.node_id;
    if (command->kind == COMMAND_REPLACE_REPLICA) proposal->subject = command->replace_replica.shard;
    if (command->kind == COMMAND_CHANGE_NODE) proposal->subject = command->change_node.node_id;
    service->proposals = proposal;
    command_encode(command, &proposal->entry);
    if (proposal->entry.failed) {
        proposal_done_cb(proposal, SK_ENOMEM);
    } else {
        send_proposal(proposal);
    }
}

static bool is_proposed(const struct service *service, enum command_kind kind, uint32_t subject) {
    for (const struct proposal *at = service->proposals; at != NULL; at = at->next) {
        if (at->kind == kind && at->subject == subject) return true;
    }
    return false;
}

/* ---- what the state machine tells ---- */

/* The cluster's id goes into the data directory as soon as it is known, so that a log which lost it is noticed. */
static void check_cluster(struct service *service) {
    uint64_t cluster = service->fsm.catalog.cluster;
    if (cluster == 0 || cluster == service->cluster) return;
    if (service->cluster != 0) {
        char text[128];
        (void)snprintf(text, sizeof text, "the log is of cluster %016" PRIx64 ", the directory of %016" PRIx64,
                       cluster, service->cluster);
        service->options.fault_cb(service->options.arg, SK_ECORRUPT, text);
        return;
    }
    int err = service->options.cluster_cb(service->options.arg, cluster);
    if (err == SK_OK) service->cluster = cluster;
}

static void publish(struct service *service) {
    uint64_t version = service->fsm.catalog.version;
    if (version == service->published_version || service->rpc == NULL) return;
    service->published_version = version;
    rpc_publish(service->rpc, version);
}

static void applied_cb(void *arg, const struct log_command *command, struct catalog_answer *answer) {
    struct service *service = arg;
    if (command != NULL && command->kind == COMMAND_WISH_LEADER && answer->err == SK_OK) {
        balance_watch_shard(&service->balance, &service->fsm.catalog, command->wish_leader.shard,
                            clock_boottime_ms());
    }
    if (command != NULL && command->origin == service->origin) {
        record_log(&service->fsm.catalog, command, answer);
        for (struct proposal *at = service->proposals; at != NULL; at = at->next) {
            if (at->number != command->number) continue;
            bool wished = command->kind == COMMAND_WISH_LEADER && at->call != NULL; /* by a person */
            if (wished && answer->err == SK_OK) moves_note_wish(&service->moves, clock_boottime_ms());
            at->answer = *answer;
            at->applied = true;
            answer->changes = NULL; /* taken */
        }
    }
    check_cluster(service);
    publish(service);
}

/* ---- decisions ---- */

static void propose_init(struct service *service) {
    if (is_proposed(service, COMMAND_INIT, 0)) return;
    uint64_t cluster = 0;
    while (cluster == 0) {
        ssize_t got = getrandom(&cluster, sizeof cluster, 0);
        sk_assert(got == (ssize_t)sizeof cluster);
    }
    struct log_command command = {.kind = COMMAND_INIT,
                                  .init = {.cluster = cluster,
                                           .shard_count = service->options.shards,
                                           .replicas = service->options.replicas,
                                           .expect_nodes = service->options.expect_nodes}};
    propose(service, &command, NULL);
}

/* min(wanted, nodes that are there). */
static uint32_t initial_replicas(const struct service *service, uint32_t alive) {
    uint32_t count = service->fsm.catalog.replicas_wanted;
    return count < alive ? count : alive;
}

static void propose_shards(struct service *service) {
    const struct catalog *catalog = &service->fsm.catalog;
    if (is_proposed(service, COMMAND_CREATE_SHARDS, 0)) return;
    uint32_t shard_count = catalog->shards_wanted;
    uint32_t *ids = calloc(catalog->node_count, sizeof *ids);
    uint32_t *placed = calloc((size_t)shard_count * MAP_REPLICAS_MAX, sizeof *placed);
    if (ids != NULL && placed != NULL) {
        uint32_t alive = 0; /* one that has gone may never come back, and would keep its shards from everybody */
        for (uint32_t i = 0; i < catalog->node_count; i++) {
            const struct map_node *node = &catalog->nodes[i].map;
            if (map_takes_replicas(node)) ids[alive++] = i + 1;
        }
        uint32_t replicas = initial_replicas(service, alive);
        placement_initial(ids, alive, shard_count, replicas, placed);
        struct log_command command = {.kind = COMMAND_CREATE_SHARDS,
                                      .create_shards = {.catalog_version = catalog->version,
                                                        .shard_count = shard_count,
                                                        .replica_count = replicas,
                                                        .nodes = placed}};
        propose(service, &command, NULL);
    }
    free(ids);
    free(placed);
}

static void propose_alive(struct service *service, const struct map_node *node, bool alive) {
    if (is_proposed(service, COMMAND_NODE_ALIVE, node->id)) return;
    struct log_command command = {
        .kind = COMMAND_NODE_ALIVE,
        .node_alive = {.node_id = node->id, .incarnation = node->incarnation, .alive = alive}};
    propose(service, &command, NULL);
}

/* R13 */
static void propose_replacements(struct service *service) {
    struct placement_replacement found[REPLACEMENTS_MAX];
    uint32_t count = placement_replacements(&service->fsm.catalog, found, REPLACEMENTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (is_proposed(service, COMMAND_REPLACE_REPLICA, found[i].shard)) continue;
        struct log_command command = {.kind = COMMAND_REPLACE_REPLICA,
                                      .replace_replica = {.shard = found[i].shard,
                                                          .config_version = found[i].config_version,
                                                          .from = found[i].from,
                                                          .to = found[i].to}};
        propose(service, &command, NULL);
    }
}

/* One wish after the other: what is open is then known. */
static void propose_wish(struct service *service, uint64_t now_ms) {
    struct balance_wish wish;
    if (service->draining || is_proposed(service, COMMAND_WISH_LEADER, 0)) return;
    if (!balance_choose(&service->balance, &service->fsm.catalog, now_ms, &wish)) return;
    struct log_command command = {
        .kind = COMMAND_WISH_LEADER,
        .wish_leader = {.shard = wish.shard, .config_version = wish.config_version, .node = wish.node}};
    propose(service, &command, NULL);
}

static void propose_step(struct service *service, const struct moves_step *step) {
    struct log_command command = {.kind = COMMAND_MOVE_REPLICA,
                                  .move_replica = {.shard = step->shard,
                                                   .config_version = step->config_version,
                                                   .step = COMMAND_MOVE_START,
                                                   .from = step->from,
                                                   .to = step->to}};
    if (step->kind == MOVES_FINISH) command.move_replica.step = COMMAND_MOVE_FINISH;
    if (step->kind == MOVES_CANCEL) command.move_replica.step = COMMAND_MOVE_CANCEL;
    if (step->kind == MOVES_PREFER) {
        command = (struct log_command){.kind = COMMAND_WISH_LEADER,
                                       .wish_leader = {.shard = step->shard,
                                                       .config_version = step->config_version,
                                                       .node = step->to,
                                                       .preferred = true}};
    }
    propose(service, &command, NULL);
}

/* R19. One step after the other, too. */
static void propose_move(struct service *service, uint64_t now_ms) {
    struct moves_step step;
    if (service->draining || is_proposed(service, COMMAND_MOVE_REPLICA, 0)) return;
    if (is_proposed(service, COMMAND_WISH_LEADER, 0)) return;
    if (moves_choose(&service->moves, &service->fsm.catalog, now_ms, &step)) propose_step(service, &step);
}

static void balance_load(struct service *service, uint64_t now_ms) {
    uint64_t period_ms =
        balance_is_anybody_leaving(&service->balance, &service->fsm.catalog) ? 0 : BALANCE_PERIOD_MS;
    if (now_ms - service->balanced_ms < period_ms) return; /* whoever is about to end waits for each wish */
    service->balanced_ms = now_ms;
    balance_watch(&service->balance, &service->fsm.catalog, now_ms);
    propose_wish(service, now_ms);
    moves_watch(&service->moves, &service->fsm.catalog, now_ms);
    propose_move(service, now_ms);
}

/* A node that was to be removed when its last replica has gone. */
static void propose_removals(struct service *service) {
    const struct catalog *catalog = &service->fsm.catalog;
    for (uint32_t id = 1; id <= catalog->node_count; id++) {
        if (catalog->nodes[id - 1].map.state != MAP_NODE_REMOVING) continue;
        if (catalog_count_replicas(catalog, id) > 0 || is_proposed(service, COMMAND_CHANGE_NODE, id)) continue;
        struct log_command command = {.kind = COMMAND_CHANGE_NODE, .change_node = {id, COMMAND_NODE_REMOVE}};
        propose(service, &command, NULL);
    }
}

/* What the catalog asks for next. Repeated on each tick, so nothing here needs to succeed. */
static void decide(struct service *service) {
    const struct catalog *catalog = &service->fsm.catalog;
    if (service->draining) return;
    if (catalog->cluster == 0) propose_init(service);
    /* Before there are shards no client has been told anything that the loss of a disk could undo. */
    if (catalog_wants_shards(catalog) && group_is_complete(service->group)) propose_shards(service);
    uint64_t now_ms = clock_boottime_ms();
    for (uint32_t id = 1; id <= catalog->node_count; id++) {
        const struct map_node *node = &catalog->nodes[id - 1].map;
        if (node->alive && liveness_silent(&service->liveness, id, now_ms)) propose_alive(service, node, false);
    }
    propose_replacements(service);
    propose_removals(service);
}

/* ---- leading ---- */

static void warn_of_setting(const char *name, uint32_t given, uint32_t stored) {
    if (given == stored) return;
    log_event(LOG_WARNING, "setting_ignored",
              "name=%s given=%" PRIu32 " stored=%" PRIu32 " text=\"the value stored with the cluster counts\"",
              name, given, stored);
}

/* What the data directory says of the log must be in it. */
static bool log_is_whole(struct service *service) {
    if (service->fsm.catalog.cluster != 0 || service->cluster == 0) return true;
    char text[160];
    (void)snprintf(text, sizeof text, "damaged: the log has lost cluster %016" PRIx64, service->cluster);
    service->options.fault_cb(service->options.arg, SK_ECORRUPT, text);
    return false;
}

static void become_ready(struct service *service) {
    const struct catalog *catalog = &service->fsm.catalog;
    if (!log_is_whole(service)) return;
    service->ready = true;
    liveness_reset(&service->liveness, clock_boottime_ms()); /* R21 */
    balance_init(&service->balance, clock_boottime_ms());
    moves_init(&service->moves, service->options.moves_max, service->options.node_dead_after_ms,
               clock_boottime_ms());
    log_event(LOG_INFO, "leader_ready",
              "term=%" PRIu64 " cluster=%016" PRIx64 " nodes=%" PRIu32 " shards=%" PRIu32 " map=%" PRIu64,
              raft_loop_term(service->loop), catalog->cluster, catalog->node_count, catalog->shard_count,
              catalog->version);
    if (catalog->cluster != 0) {
        warn_of_setting("shards", service->options.shards, catalog->shards_wanted);
        warn_of_setting("expect-nodes", service->options.expect_nodes, catalog->expect_nodes);
        warn_of_setting("replicas", service->options.replicas, catalog->replicas_wanted);
    }
    decide(service);
}

static void ready_barrier_cb(void *arg, int err) {
    struct service *service = arg;
    service->barrier_runs = false;
    if (err == SK_OK && raft_loop_leads(service->loop) && service->rpc != NULL) become_ready(service);
}

static void seek_ready(struct service *service) {
    if (!raft_loop_leads(service->loop) || service->ready) return;
    uint64_t now_ms = clock_boottime_ms();
    if (now_ms - service->leads_ms > READY_MS) {
        service->leads_ms = now_ms;
        hand_over(service, "it cannot become ready; is its disk full?");
    }
    if (service->barrier_runs) return;
    service->barrier_runs = raft_loop_barrier(service->loop, ready_barrier_cb, service) == SK_OK;
}

void service_on_role(struct service *service) {
    if (raft_loop_leads(service->loop)) {
        service->leads_ms = clock_boottime_ms();
        seek_ready(service);
        return;
    }
    log_event(LOG_INFO, "leader_lost", "term=%" PRIu64, raft_loop_term(service->loop));
    service->ready = false;
    group_give_up(service->group);
    for (uint32_t id = 0; id <= MAP_NODES_MAX; id++) buffer_deinit(&service->stats[id]);
}

static void forget_gateway(struct service *service, uint32_t at) {
    buffer_deinit(&service->gateways[at].stats);
    service->gateways[at] = service->gateways[--service->gateway_count];
}

/* One whose disk is full does not fail: libraft tries again each second. */
static void watch_disk(struct service *service) {
    bool waits = raft_loop_disk_waits_ms(service->loop) > DISK_MS;
    if (waits != service->disk_waits) {
        log_event(waits ? LOG_ERROR : LOG_INFO, waits ? "disk_stalled" : "disk_goes_on", "text=\"%s\"",
                  waits ? "the log cannot be written; is the disk full?" : "the log is written again");
    }
    service->disk_waits = waits;
    if (waits && raft_loop_leads(service->loop)) hand_over(service, "its disk takes nothing");
}

void service_on_tick(struct service *service) {
    watch_disk(service);
    seek_ready(service);
    uint64_t now_ms = clock_boottime_ms();
    liveness_tick(&service->liveness, now_ms);
    for (uint32_t i = service->gateway_count; i-- > 0;) {
        if (now_ms - service->gateways[i].heard_ms > SERVICE_GATEWAY_FORGET_MS) forget_gateway(service, i);
    }
    send_held(service);
    if (!service->ready) return;
    decide(service);
    balance_load(service, now_ms);
}

/* ---- reads ---- */

/* The encoded map of the catalog as it is now. SK_ENOMEM. */
static int current_map(struct service *service, struct slice *bytes) {
    const struct catalog *catalog = &service->fsm.catalog;
    if (service->map_bytes.size == 0 || service->map_bytes_version != catalog->version) {
        struct map *map;
        int err = catalog_make_map(catalog, &map);
        if (err != SK_OK) return err;
        buffer_clear(&service->map_bytes, SIZE_MAX);
        map_encode(map, &service->map_bytes);
        map_unref(map);
        if (service->map_bytes.failed) {
            buffer_deinit(&service->map_bytes);
            return SK_ENOMEM;
        }
        service->map_bytes_version = catalog->version;
    }
    *bytes = buffer_slice(&service->map_bytes);
    return SK_OK;
}

static void answer_map(struct service *service, struct rpc_call *call, uint64_t known_version) {
    static const uint8_t nil = 0xc0;
    struct slice bytes = slice_of(&nil, 1);
    int err = known_version >= service->fsm.catalog.version ? SK_OK : current_map(service, &bytes);
    if (err != SK_OK) {
        rpc_refuse(call, err, NULL);
    } else {
        rpc_answer(call, bytes);
    }
}

static void write_stats(struct buffer *result, const struct buffer *stats) {
    if (stats->size == 0) {
        mp_write_map(result, 0);
    } else {
        mp_write_raw(result, buffer_slice(stats));
    }
}

/* The group's: [[id, name, whether it votes, whether it leads], …] */
static void write_servers(const struct service *service, struct buffer *result) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    uint32_t count = raft_loop_servers(service->loop, servers);
    mp_write_text(result, "servers");
    mp_write_array(result, count);
    for (uint32_t i = 0; i < count; i++) {
        mp_write_array(result, 4);
        mp_write_uint(result, servers[i].id);
        mp_write_text(result, group_name_of(service->group, servers[i].id));
        mp_write_bool(result, servers[i].votes);
        mp_write_bool(result, servers[i].id == raft_loop_leader(service->loop));
    }
}

static void write_metad(const struct service *service, struct buffer *result) {
    const struct catalog *catalog = &service->fsm.catalog;
    const struct {
        const char *name;
        uint64_t number;
    } fields[] = {
        {"term", raft_loop_term(service->loop)},
        {"commit_index", raft_loop_commit_index(service->loop)},
        {"cluster", catalog->cluster},
        {"shards", catalog->shards_wanted},
        {"replicas", catalog->replicas_wanted},
        {"expect_nodes", catalog->expect_nodes},
        {"node_timeout_ms", service->options.node_timeout_ms},
        {"node_dead_after_ms", service->options.node_dead_after_ms},
        {"moves_max", service->options.moves_max},
    };
    uint32_t count = sizeof fields / sizeof fields[0];
    mp_write_map(result, count + 1);
    for (uint32_t i = 0; i < count; i++) {
        mp_write_text(result, fields[i].name);
        mp_write_uint(result, fields[i].number);
    }
    write_servers(service, result);
}

static void write_nodes(const struct service *service, struct buffer *result, uint64_t now_ms) {
    uint32_t count = service->fsm.catalog.node_count;
    mp_write_text(result, "stats");
    mp_write_map(result, count);
    for (uint32_t id = 1; id <= count; id++) {
        mp_write_uint(result, id);
        write_stats(result, &service->stats[id]);
    }
    mp_write_text(result, "ages_ms");
    mp_write_map(result, count);
    for (uint32_t id = 1; id <= count; id++) {
        mp_write_uint(result, id);
        mp_write_uint(result, liveness_age_ms(&service->liveness, id, now_ms));
    }
}

static void write_gateways(const struct service *service, struct buffer *result, uint64_t now_ms) {
    mp_write_text(result, "gateways");
    mp_write_array(result, service->gateway_count);
    for (uint32_t i = 0; i < service->gateway_count; i++) {
        const struct gateway *gateway = &service->gateways[i];
        mp_write_map(result, 4);
        mp_write_text(result, "host");
        mp_write_text(result, gateway->host);
        mp_write_text(result, "frames_address");
        mp_write_text(result, gateway->frames_address);
        mp_write_text(result, "age_ms");
        mp_write_uint(result, now_ms > gateway->heard_ms ? now_ms - gateway->heard_ms : 0);
        mp_write_text(result, "stats");
        write_stats(result, &gateway->stats);
    }
}

static void answer_status(struct service *service, struct rpc_call *call) {
    struct slice map;
    struct buffer result;
    buffer_init(&result);
    int err = current_map(service, &map);
    if (err == SK_OK) {
        uint64_t now_ms = clock_boottime_ms();
        mp_write_map(&result, 5);
        mp_write_text(&result, "map");
        mp_write_raw(&result, map);
        mp_write_text(&result, "metad");
        write_metad(service, &result);
        write_nodes(service, &result, now_ms);
        write_gateways(service, &result, now_ms);
        if (result.failed) err = SK_ENOMEM;
    }
    if (err != SK_OK) {
        rpc_refuse(call, err, NULL);
    } else {
        rpc_answer(call, buffer_slice(&result));
    }
    buffer_deinit(&result);
}

static void answer_read(struct service *service, struct rpc_call *call, const struct request *request) {
    if (request->method == REQUEST_MAP) {
        answer_map(service, call, request->known_version);
    } else {
        answer_status(service, call);
    }
}

static void start_reading(struct service *service);

static void read_barrier_cb(void *arg, int err) {
    struct service *service = arg;
    struct reader *reading = service->reading;
    service->reading = NULL;
    service->barrier_runs = false;
    while (reading != NULL) {
        struct reader *reader = reading;
        reading = reader->next;
        if (service->rpc == NULL) {
            /* closed: the call is gone */
        } else if (err == SK_OK) {
            answer_read(service, reader->call, reader->request);
        } else {
            rpc_refuse(reader->call, SK_RETRY, "the leader is changing"); /* a read: nothing was done */
        }
        free(reader);
    }
    if (service->waiting != NULL && service->rpc != NULL) start_reading(service);
}

/* One barrier for all who wait. Those who come while it runs need a later one: it may have begun before what they
 * must see was committed. */
static void start_reading(struct service *service) {
    service->reading = service->waiting;
    service->waiting = NULL;
    service->barrier_runs = true;
    int err = raft_loop_barrier(service->loop, read_barrier_cb, service);
    if (err != SK_OK) read_barrier_cb(service, err);
}

static void on_read(struct service *service, struct rpc_call *call, const struct request *request) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    if (raft_loop_servers(service->loop, servers) ==
        1) { /* nobody else can lead, so nothing newer can be elsewhere */
        answer_read(service, call, request);
        return;
    }
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL) {
        rpc_refuse(call, SK_ENOMEM, NULL);
        return;
    }
    *reader = (struct reader){.next = service->waiting, .call = call, .request = request};
    service->waiting = reader;
    if (!service->barrier_runs) start_reading(service);
}

/* ---- requests ---- */

static struct gateway *find_gateway(struct service *service, const uint8_t store_id[16]) {
    for (uint32_t i = 0; i < service->gateway_count; i++) {
        if (memcmp(service->gateways[i].store_id, store_id, 16) == 0) return &service->gateways[i];
    }
    return NULL;
}

static void register_gateway(struct service *service, struct rpc_call *call,
                             const struct command_register_node *registration) {
    struct gateway *gateway = find_gateway(service, registration->store_id);
    if (gateway == NULL) {
        if (service->gateway_count == SERVICE_GATEWAYS_MAX) {
            rpc_refuse(call, SK_OVERLOADED, "too many gateways");
            return;
        }
        gateway = &service->gateways[service->gateway_count++];
        *gateway = (struct gateway){0};
        memcpy(gateway->store_id, registration->store_id, sizeof gateway->store_id);
    }
    memcpy(gateway->host, registration->host, sizeof gateway->host);
    memcpy(gateway->frames_address, registration->frames_address, sizeof gateway->frames_address);
    gateway->heard_ms = clock_boottime_ms();
    struct catalog_answer answer = {.cluster = service->fsm.catalog.cluster};
    answer_command(call, COMMAND_REGISTER_NODE, &answer, service->fsm.catalog.version);
}

static void on_register(struct service *service, struct rpc_call *call, const struct request *request) {
    if (service->fsm.catalog.cluster == 0) {
        rpc_refuse(call, SK_RETRY, "the cluster is not there yet");
    } else if (request->sender == REQUEST_GATEWAY) {
        register_gateway(service, call, &request->registration);
    } else {
        struct log_command command = {.kind = COMMAND_REGISTER_NODE, .register_node = request->registration};
        propose(service, &command, call);
    }
}

/* Out of memory the old ones stay: they are for people only. */
static void keep_stats(struct buffer *kept, struct slice stats) {
    struct buffer copy;
    buffer_init(&copy);
    buffer_append(&copy, stats.data, stats.size);
    if (!copy.failed) {
        buffer_deinit(kept);
        *kept = copy;
    } else {
        buffer_deinit(&copy);
    }
}

/* The node in the start that it says to be, which has been heard of now; NULL = no such start. */
static const struct map_node *hear_node(struct service *service, uint32_t node_id, uint64_t incarnation,
                                        const uint8_t store_id[16]) {
    const struct catalog_node *node = catalog_find_node(&service->fsm.catalog, node_id);
    if (node == NULL || node->map.incarnation != incarnation || memcmp(node->map.store_id, store_id, 16) != 0) {
        return NULL;
    }
    if (node->map.state == MAP_NODE_REMOVED) return NULL; /* refuse_unknown says so */
    liveness_hear(&service->liveness, node_id, clock_boottime_ms());
    if (!node->map.alive) propose_alive(service, &node->map, true);
    return &node->map;
}

/* Whoever is not in the start that it says to be. */
static void refuse_unknown(const struct service *service, struct rpc_call *call, const uint8_t store_id[16]) {
    const struct catalog_node *node = catalog_find_store(&service->fsm.catalog, store_id);
    if (node != NULL && node->map.state == MAP_NODE_REMOVED) {
        char text[64];
        (void)snprintf(text, sizeof text, "node %" PRIu32 " was removed for ever", node->map.id);
        rpc_refuse(call, SK_REMOVED, text);
    } else {
        rpc_refuse(call, SK_NOT_FOUND, "register again");
    }
}

/* What a move to the node waits for (metad/moves), and that it is about to end (metad/balance). */
static void note_stats(struct service *service, const struct request_heartbeat *heartbeat) {
    struct mp_reader reader = mp_reader_of(heartbeat->stats);
    uint32_t count;
    if (mp_read_map(&reader, &count) != SK_OK) return;
    for (uint32_t i = 0; i < count; i++) {
        struct slice name;
        uint64_t bytes;
        bool leaving;
        if (mp_read_bytes(&reader, &name) != SK_OK) return;
        if (slice_equal(name, slice_of_text("snapshot_bytes"))) {
            if (mp_read_uint(&reader, &bytes) != SK_OK) return;
            moves_note_received(&service->moves, heartbeat->node_id, bytes, clock_boottime_ms());
        } else if (slice_equal(name, slice_of_text("leaving"))) {
            if (mp_read_bool(&reader, &leaving) != SK_OK) return;
            if (leaving) balance_note_leaving(&service->balance, heartbeat->node_id, heartbeat->incarnation);
        } else if (mp_skip(&reader, NULL) != SK_OK) {
            return;
        }
    }
}

static bool hear_shardd(struct service *service, const struct request_heartbeat *heartbeat) {
    if (hear_node(service, heartbeat->node_id, heartbeat->incarnation, heartbeat->store_id) == NULL) return false;
    keep_stats(&service->stats[heartbeat->node_id], heartbeat->stats);
    note_stats(service, heartbeat);
    return true;
}

static bool hear_gateway(struct service *service, const struct request_heartbeat *heartbeat) {
    struct gateway *gateway = find_gateway(service, heartbeat->store_id);
    if (gateway == NULL) return false;
    gateway->heard_ms = clock_boottime_ms();
    keep_stats(&gateway->stats, heartbeat->stats);
    return true;
}

static void on_heartbeat(struct service *service, struct rpc_call *call, const struct request *request) {
    bool known = request->sender == REQUEST_GATEWAY ? hear_gateway(service, &request->heartbeat)
                                                    : hear_shardd(service, &request->heartbeat);
    if (!known) {
        refuse_unknown(service, call, request->heartbeat.store_id);
        return;
    }
    struct buffer result;
    buffer_init(&result);
    result_encode_version(&result, service->fsm.catalog.version);
    answer_result(call, &result);
}

/* A claim of a node that counts as dead comes after the command that says that it is back. */
static void on_change(struct service *service, struct rpc_call *call, const struct request_change *request) {
    if (hear_node(service, request->node_id, request->incarnation, request->store_id) == NULL) {
        refuse_unknown(service, call, request->store_id);
        return;
    }
    struct shard_change *changes = calloc(request->count, sizeof *changes);
    if (changes == NULL) {
        rpc_refuse(call, SK_ENOMEM, NULL);
        return;
    }
    struct mp_reader reader = mp_reader_of(request->changes);
    for (uint32_t i = 0; i < request->count; i++) {
        int err = shard_change_decode(&reader, &changes[i]);
        sk_assert(err == SK_OK); /* request_decode has read them once */
    }
    struct log_command command = {.kind = COMMAND_CHANGE_SHARDS,
                                  .change_shards = {.node_id = request->node_id,
                                                    .incarnation = request->incarnation,
                                                    .change_count = request->count,
                                                    .changes = changes}};
    propose(service, &command, call);
    free(changes);
}

/* A person's: about the record as it is now. */
static void on_handover(struct service *service, struct rpc_call *call, const struct request_leader *request) {
    const struct map_shard *shard = catalog_find_shard(&service->fsm.catalog, request->shard);
    struct log_command command = {.kind = COMMAND_WISH_LEADER,
                                  .wish_leader = {.shard = request->shard,
                                                  .config_version = shard == NULL ? 0 : shard->config_version,
                                                  .node = request->node,
                                                  .preferred = true}};
    propose(service, &command, call);
}

static void on_force_leader(struct service *service, struct rpc_call *call, const struct request_leader *request) {
    const struct map_shard *shard = catalog_find_shard(&service->fsm.catalog, request->shard);
    struct log_command command = {.kind = COMMAND_FORCE_LEADER,
                                  .force_leader = {.shard = request->shard,
                                                   .config_version = shard == NULL ? 0 : shard->config_version,
                                                   .node = request->node}};
    propose(service, &command, call);
}

static void on_change_node(struct service *service, struct rpc_call *call, const struct request_node *request) {
    struct log_command command = {.kind = COMMAND_CHANGE_NODE, .change_node = {request->node, request->change}};
    propose(service, &command, call);
}

static void on_verify(struct service *service, struct rpc_call *call) {
    struct log_command command = {.kind = COMMAND_VERIFY};
    propose(service, &command, call);
}

static void server_done_cb(void *arg, int err, const char *text) {
    struct server_wish *wish = arg;
    struct service *service = wish->service;
    if (service->rpc == NULL) {
        /* closed: the call is gone */
    } else if (err != SK_OK) {
        rpc_refuse(wish->call, err, text);
    } else {
        struct buffer result;
        buffer_init(&result);
        result_encode_version(&result, service->fsm.catalog.version);
        answer_result(wish->call, &result);
    }
    service->server_wishes--;
    free(wish);
}

static void on_change_server(struct service *service, struct rpc_call *call,
                             const struct request_server *request) {
    struct server_wish *wish = malloc(sizeof *wish);
    if (wish == NULL) {
        rpc_refuse(call, SK_ENOMEM, NULL);
        return;
    }
    *wish = (struct server_wish){.service = service, .call = call};
    service->server_wishes++;
    group_wish(service->group, request->add ? GROUP_ADD : GROUP_REMOVE, request->name, server_done_cb, wish);
}

/* The text is the leader's address and nothing else: clients go there. */
static void refuse_not_leader(struct service *service, struct rpc_call *call) {
    uint64_t leader = raft_loop_leader(service->loop);
    const char *name = leader == 0 ? NULL : group_name_of(service->group, leader);
    if (name == NULL || leader == service->options.server_id) {
        rpc_refuse(call, SK_RETRY, "no leader is known");
        return;
    }
    char address[METAD_NAME_BYTES + sizeof "tcp://"];
    (void)snprintf(address, sizeof address, "tcp://%s", name);
    rpc_refuse(call, SK_NOT_LEADER, address);
}

void service_on_call(struct service *service, struct rpc_call *call, const struct request *request) {
    service->calls++;
    if (service->draining) { /* others may serve */
        rpc_refuse(call, is_alone(service) ? SK_UNAVAILABLE : SK_RETRY, "metad is stopping");
    } else if (!raft_loop_leads(service->loop)) {
        refuse_not_leader(service, call);
    } else if (!service->ready) {
        rpc_refuse(call, SK_RETRY, "the leader is not ready yet");
    } else {
        switch (request->method) {
        case REQUEST_REGISTER:
            on_register(service, call, request);
            break;
        case REQUEST_HEARTBEAT:
            on_heartbeat(service, call, request);
            break;
        case REQUEST_CHANGE:
            on_change(service, call, &request->change);
            break;
        case REQUEST_HANDOVER:
            on_handover(service, call, &request->leader);
            break;
        case REQUEST_FORCE_LEADER:
            on_force_leader(service, call, &request->leader);
            break;
        case REQUEST_CHANGE_NODE:
            on_change_node(service, call, &request->node);
            break;
        case REQUEST_VERIFY:
            on_verify(service, call);
            break;
        case REQUEST_CHANGE_SERVER:
            on_change_server(service, call, &request->server);
            break;
        case REQUEST_MAP:
        case REQUEST_STATUS:
            on_read(service, call, request);
            break;
        }
    }
}

/* ---- life ---- */

int service_new(struct service **out, const struct service_options *options) {
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL) return SK_ENOMEM;
    service->options = *options;
    service->cluster = options->cluster;
    ssize_t got = getrandom(&service->origin, sizeof service->origin, 0);
    sk_assert(got == (ssize_t)sizeof service->origin);
    fsm_init(&service->fsm, applied_cb, service);
    liveness_init(&service->liveness, options->node_timeout_ms, clock_boottime_ms());
    buffer_init(&service->map_bytes);
    *out = service;
    return SK_OK;
}

void service_free(struct service *service) {
    if (service == NULL) return;
    while (service->proposals != NULL) { /* held ones: libraft has ended the others */
        struct proposal *proposal = service->proposals;
        sk_assert(proposal->held_until_ms != 0);
        service->proposals = proposal->next;
        proposal_free(proposal);
    }
    while (service->waiting != NULL) {
        struct reader *reader = service->waiting;
        service->waiting = reader->next;
        free(reader);
    }
    while (service->gateway_count > 0) forget_gateway(service, 0);
    for (uint32_t id = 0; id <= MAP_NODES_MAX; id++) buffer_deinit(&service->stats[id]);
    buffer_deinit(&service->map_bytes);
    fsm_deinit(&service->fsm);
    free(service);
}

struct raft_fsm *service_fsm(struct service *service) {
    return &service->fsm.raft;
}

void service_attach(struct service *service, struct raft_loop *loop, struct group *group, struct rpc *rpc) {
    service->loop = loop;
    service->group = group;
    service->rpc = rpc;
}

bool service_is_ready(const struct service *service) { return service->ready && !service->draining; }

uint64_t service_cluster(const struct service *service) { return service->cluster; }

static void tell_nodes(const struct catalog *catalog, struct report_facts *facts) {
    for (uint32_t i = 0; i < catalog->node_count; i++) {
        const struct map_node *node = &catalog->nodes[i].map;
        if (node->state == MAP_NODE_REMOVED) continue;
        facts->nodes_alive += node->alive;
        facts->nodes_dead += !node->alive;
        facts->nodes_draining += node->state != MAP_NODE_MEMBER;
    }
}

static bool is_alive(const void *catalog, uint32_t id) {
    const struct catalog_node *node = catalog_find_node(catalog, id);
    return node != NULL && node->map.alive;
}

static void tell_shards(const struct catalog *catalog, struct report_facts *facts) {
    facts->shards = catalog->shard_count;
    for (uint32_t i = 0; i < catalog->shard_count; i++) {
        const struct map_shard *shard = &catalog->shards[i];
        facts->shards_leaderless += !is_alive(catalog, shard->leader);
        facts->shards_unwritable += !map_takes_writes(shard, is_alive, catalog);
        facts->shards_degraded += shard->isr_count < shard->replica_count;
        facts->shards_moving += shard->move_to != 0;
        facts->data_losses += shard->data_loss_generation;
    }
}

void service_tell(const struct service *service, struct report_facts *facts) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    *facts = (struct report_facts){
        .leads = raft_loop_leads(service->loop),
        .ready = service->ready,
        .leaving = service->draining,
        .leader_known = raft_loop_leader(service->loop) != 0,
        .term = raft_loop_term(service->loop),
        .commit_index = raft_loop_commit_index(service->loop),
        .last_index = raft_loop_last_index(service->loop),
        .calls = service->calls,
        .disk_waits_ms = raft_loop_disk_waits_ms(service->loop),
        .servers = raft_loop_servers(service->loop, servers),
        .map_version = service->fsm.catalog.version,
    };
    for (uint32_t i = 0; i < facts->servers; i++) facts->voters += servers[i].votes;
    tell_nodes(&service->fsm.catalog, facts);
    tell_shards(&service->fsm.catalog, facts);
}

void service_drain(struct service *service) {
    service->draining = true;
    group_give_up(service->group);
    if (raft_loop_leads(service->loop)) hand_over(service, "it is stopping");
}

bool service_is_idle(const struct service *service) {
    return service->proposals == NULL && service->waiting == NULL && service->reading == NULL &&
           service->server_wishes == 0 && !service->handing_over;
}

void service_detach(struct service *service) {
    service->rpc = NULL;
    if (service->group != NULL) group_give_up(service->group);
}
