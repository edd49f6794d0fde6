#include "gateway/gateway.h"

#include "gateway/door_frames.h"
#include "gateway/door_http.h"
#include "gateway/door_nng.h"
#include "gateway/door_resp.h"
#include "gateway/load.h"
#include "gateway/node_client.h"
#include "gateway/post.h"
#include "gateway/report.h"
#include "gateway/request.h"
#include "gateway/router.h"
#include "gateway/timer.h"
#include "gateway/window.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/member.h"
#include "libcommon/mp.h"
#include "libcommon/tls.h"
#include "libcommon/tls_guard.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#define MAILBOX_CAPACITY 65536u
#define HEARTBEAT_MS     1000u
#define IDLE_MS          200u
#define DRAIN_MS_MAX     5000u
#define DRAIN_SEND_MS    500u /* for the last replies to leave */
#define NODE_ID_MAX      65535u
#define UNWAITING_PART   4u /* of the requests that may be in flight, this part is kept from blocking commands */
#define ADDRESS_BYTES    256u
#define REASON_BYTES     256u
#define NO_DOOR          "none" /* an address: nobody listens */

/* A shardd of the map. */
struct node {
    struct node_client *client; /* owned; NULL: the id is not in the map */
    int answers_pipe;           /* the connection by which its answers last came; 0 = none */
};

struct gateway {
    struct gateway_options options;
    char host[ADDRESS_BYTES];
    char return_address[ADDRESS_BYTES];
    uint64_t session;
    uint64_t started_ms;
    struct mailbox *mailbox; /* owned, as all below */
    struct door_nng *door_nng;
    struct door_resp *door_resp; /* NULL: none */
    struct door_http *door_http; /* NULL: none */
    struct door_frames *door_frames;
    struct member *member;
    struct watch *watch;
    struct http *http;

    struct load load;   /* of all doors */
    struct tally tally; /* the loop writes, anybody reads, as the next two */
    struct history history;
    struct report report;

    /* the loop thread */
    struct timer_wheel timers;
    struct router router;
    struct requests *requests;
    struct node *nodes;          /* by id */
    uint32_t node_limit;         /* entries of nodes */
    struct node_client **closed; /* until nothing can be posted for them */
    uint32_t closed_count;
    uint64_t drain_ms; /* since when; 0 = not draining */
    uint64_t ticked_ms;
    bool ended; /* being freed: nothing is to begin any more */
    int exit_code;

    /* told to the heartbeat thread */
    atomic_ullong requests_seen, commands_seen;

    struct post stop_post;
    atomic_bool stopping;
};

/* --- nodes --------------------------------------------------------------------------------------------------- */

static struct node *find_node(struct gateway *gateway, uint32_t id) {
    if (id >= gateway->node_limit || gateway->nodes[id].client == NULL) return NULL;
    return &gateway->nodes[id];
}

static struct node_client *node_cb(void *arg, uint32_t id) {
    struct node *node = find_node(arg, id);
    return node == NULL ? NULL : node->client;
}

static void fill_cb(void *arg, const struct part *part, uint64_t now_ms, struct request_item *item) {
    struct gateway *gateway = arg;
    requests_fill(gateway->requests, part, now_ms, item);
}

static void lost_cb(void *arg, struct list *parts) {
    struct gateway *gateway = arg;
    requests_on_lost(gateway->requests, parts);
}

static void connected_cb(void *arg, struct node_client *client) {
    struct gateway *gateway = arg;
    (void)client;
    requests_on_connected(gateway->requests);
}

/* Closed clients stay until the end: posts for them may be under way. */
static void close_node(struct gateway *gateway, struct node *node) {
    struct node_client *client = node->client;
    *node = (struct node){0};
    struct node_client **closed = realloc(gateway->closed, (gateway->closed_count + 1) * sizeof *gateway->closed);
    node_client_close(client);
    if (closed == NULL) return; /* leaked rather than freed under a post */
    gateway->closed = closed;
    gateway->closed[gateway->closed_count++] = client;
}

static bool grow_nodes(struct gateway *gateway, uint32_t id) {
    if (id < gateway->node_limit) return true;
    if (id > NODE_ID_MAX) return false;
    uint32_t limit = gateway->node_limit == 0 ? 64 : gateway->node_limit;
    while (limit <= id) limit *= 2;
    struct node *nodes = realloc(gateway->nodes, limit * sizeof *nodes);
    if (nodes == NULL) return false;
    memset(nodes + gateway->node_limit, 0, (limit - gateway->node_limit) * sizeof *nodes);
    gateway->nodes = nodes;
    gateway->node_limit = limit;
    return true;
}

static void open_node(struct gateway *gateway, const struct map *map, const struct map_node *record) {
    struct node_client_options options = {
        .mailbox = gateway->mailbox,
        .node = record->id,
        .frames_address = record->frames_address,
        .return_address = gateway->return_address,
        .cluster = map->cluster,
        .session = gateway->session,
        .tally = &gateway->tally,
        .handler = {.arg = gateway, .fill_cb = fill_cb, .lost_cb = lost_cb, .connected_cb = connected_cb},
    };
    struct node *node = &gateway->nodes[record->id];
    int err = node_client_open(&node->client, &options);
    if (err != SK_OK) node->client = NULL; /* said in the log; the next map tries again */
}

/* A connection for each node of the map, at the address that it has there. */
static void update_nodes(struct gateway *gateway, const struct map *map) {
    for (uint32_t id = 0; id < gateway->node_limit; id++) {
        struct node *node = find_node(gateway, id);
        if (node == NULL) continue;
        const struct map_node *record = map_find_node(map, id);
        bool same = record != NULL && strcmp(record->frames_address, node_client_address(node->client)) == 0;
        if (!same) close_node(gateway, node);
    }
    for (uint32_t i = 0; i < map->node_count; i++) {
        const struct map_node *record = &map->nodes[i];
        if (record->frames_address[0] == 0 || find_node(gateway, record->id) != NULL) continue;
        if (grow_nodes(gateway, record->id)) open_node(gateway, map, record);
    }
}

/* --- answers ------------------------------------------------------------------------------------------------- */

static void refuse_frame(const char *why) { log_event(LOG_WARNING, "frame_refused", "why=\"%s\"", why); }

static void frame_cb(void *arg, struct slice frame, int pipe) {
    struct gateway *gateway = arg;
    struct frame_header header;
    struct slice rest;
    struct answer_item item;
    if (frame_read_header(frame, &header, &rest) != SK_OK || header.kind != FRAME_ANSWERS) {
        refuse_frame("malformed, or of another version");
        return;
    }
    if (header.session != gateway->session) return; /* meant for a predecessor at this address */
    struct node *node = find_node(gateway, window_node_of(header.taken));
    if (node == NULL || header.cluster != gateway->router.map->cluster) {
        refuse_frame("not of a node of this cluster");
        return;
    }
    node->answers_pipe = pipe;
    if (!node_client_on_answers(node->client, &header, clock_boottime_ms())) return;
    uint32_t id = node_client_node(node->client);
    int err;
    metrics_add(&gateway->tally.answer_frames, 1);
    metrics_add(&gateway->tally.answers, header.item_count);
    while ((err = frame_read_answer(&rest, &item)) == SK_OK) requests_on_answer(gateway->requests, id, &item);
    if (err != SK_NOT_FOUND) refuse_frame("a malformed item");
}

static void answers_lost_cb(void *arg, int pipe) {
    struct gateway *gateway = arg;
    for (uint32_t id = 0; id < gateway->node_limit; id++) {
        struct node *node = find_node(gateway, id);
        if (node == NULL || node->answers_pipe != pipe) continue;
        node->answers_pipe = 0;
        node_client_on_answers_lost(node->client);
    }
}

/* --- clients ------------------------------------------------------------------------------------------------- */

static void request_cb(void *arg, struct client *client, struct slice bytes, int err) {
    struct gateway *gateway = arg;
    requests_take(gateway->requests, client, bytes, err, clock_boottime_ms());
}

/* By all doors. */
static uint32_t connections(const struct gateway *gateway) {
    return door_nng_connections(gateway->door_nng) + door_resp_connections(gateway->door_resp) +
           atomic_load(&gateway->report.connections[DOOR_HTTP]);
}

static void refresh_cb(void *arg, uint64_t version) {
    struct gateway *gateway = arg;
    if (gateway->member != NULL) member_refresh(gateway->member, version);
}

static void facts_cb(void *arg, struct gateway_facts *facts) {
    struct gateway *gateway = arg;
    const struct map *map = gateway->router.map;
    *facts = (struct gateway_facts){
        .uptime_s = (clock_boottime_ms() - gateway->started_ms) / 1000u,
        .map_version = router_map_version(&gateway->router),
        .requests = requests_seen(gateway->requests),
        .commands = requests_commands_seen(gateway->requests),
        .requests_in_flight = requests_in_flight(gateway->requests),
        .connections = connections(gateway),
        .requests_waiting = requests_waiting(gateway->requests),
        .shards = map == NULL ? 0 : map->shard_count,
        .nodes = map == NULL ? 0 : map->node_count,
    };
}

/* --- what the member tells, on its thread -------------------------------------------------------------------- */

struct map_post {
    struct post post;
    struct gateway *gateway;
    struct map *map; /* a reference */
};

static void on_map(struct post *post) {
    struct map_post *note = list_entry(post, struct map_post, post);
    struct gateway *gateway = note->gateway;
    struct map *map = note->map;
    free(note);
    if (gateway->ended) {
        map_unref(map);
        return;
    }
    const struct map *held = gateway->router.map;
    bool ours = held == NULL || held->shard_count == 0 ||
                (held->cluster == map->cluster && held->shard_count == map->shard_count);
    if (!ours) { /* metad was set up anew: what is in flight belongs to the other cluster, and a restart finds this one */
        log_event(LOG_ERROR, "map_refused", "cluster=%016llx shards=%u", (unsigned long long)map->cluster,
                  map->shard_count);
        map_unref(map);
        return;
    }
    if (!router_take_map(&gateway->router, map)) return;
    log_event(LOG_INFO, "map", "version=%llu shards=%u nodes=%u", (unsigned long long)map->version,
              map->shard_count, map->node_count);
    update_nodes(gateway, map);
    if (gateway->watch != NULL) watch_set_map(gateway->watch, map);
    requests_on_map(gateway->requests, clock_boottime_ms());
}

static void map_cb(void *arg, const struct map *map) {
    struct gateway *gateway = arg;
    struct map_post *note = malloc(sizeof *note);
    if (note == NULL) return; /* the next one replaces it */
    *note = (struct map_post){.post.handle = on_map, .gateway = gateway, .map = map_ref(map)};
    post_to(gateway->mailbox, &note->post);
}

/* The member has logged it, and the cluster's id comes with the map. */
static void registered_cb(void *arg, const struct member_identity *identity) {
    (void)arg;
    (void)identity;
}

static void stats_cb(void *arg, struct buffer *stats) {
    struct gateway *gateway = arg;
    mp_write_map(stats, 7);
    mp_write_text(stats, "requests");
    mp_write_uint(stats, atomic_load(&gateway->requests_seen));
    mp_write_text(stats, "commands");
    mp_write_uint(stats, atomic_load(&gateway->commands_seen));
    mp_write_text(stats, "in_flight");
    mp_write_uint(stats, atomic_load(&gateway->report.requests_in_flight));
    mp_write_text(stats, "connections");
    mp_write_uint(stats, connections(gateway));
    mp_write_text(stats, "map_version");
    mp_write_uint(stats, atomic_load(&gateway->report.map_version));
    mp_write_text(stats, "unauthorized");
    mp_write_uint(stats, metrics_get(&gateway->tally.refused[SK_NOAUTH]) +
                             metrics_get(&gateway->tally.unauthorized[DOOR_RESP]));
    mp_write_text(stats, "tls_refused");
    mp_write_uint(stats, tls_guard_refused());
}

static void refused_cb(void *arg, int err, const char *text) {
    struct gateway *gateway = arg;
    char room[REASON_BYTES];
    log_event(LOG_ERROR, "refused_by_metad", "code=%s text=%s", error_name(err),
              log_quote(text, room, sizeof room));
    gateway->exit_code = 2; /* the post below orders it before the loop's end */
    gateway_stop(gateway);
}

/* --- open ---------------------------------------------------------------------------------------------------- */

/* "tcp://0.0.0.0:7410" as others reach it: the port behind the advertised name. Other transports are local anyway.
 */
static void make_return_address(struct gateway *gateway) {
    const char *listening = door_frames_address(gateway->door_frames);
    const char *advertise = gateway->host;
    const char *port = strrchr(listening, ':');
    if (strstr(advertise, "://") != NULL) {
        (void)snprintf(gateway->return_address, sizeof gateway->return_address, "%s", advertise);
    } else if (strncmp(listening, "tcp", 3) != 0 || port == NULL) {
        (void)snprintf(gateway->return_address, sizeof gateway->return_address, "%s", listening);
    } else {
        int scheme = (int)(strstr(listening, "://") - listening);
        (void)snprintf(gateway->return_address, sizeof gateway->return_address, "%.*s://%.180s%.20s", scheme,
                       listening, advertise, port);
    }
}

static int open_resp(struct gateway *gateway, char *text, size_t text_bytes) {
    const struct gateway_options *options = &gateway->options;
    if (options->resp_listen == NULL || strcmp(options->resp_listen, NO_DOOR) == 0) return SK_OK;
    bool secured = options->client_tls != NULL && tls_pem(options->client_tls).cert.size > 0;
    struct door_resp_options for_resp = {
        .mailbox = gateway->mailbox,
        .address = options->resp_listen,
        .tls = secured ? options->client_tls : NULL,
        .tokens = options->tokens,
        .load = &gateway->load,
        .tally = &gateway->tally,
        .requests_max = (uint32_t)options->requests_max,
        .message_bytes_max = options->message_bytes_max,
        .connection_bytes_max = options->connection_bytes_max,
        .arg = gateway,
        .request_cb = request_cb,
    };
    return door_resp_open(&gateway->door_resp, &for_resp, text, text_bytes);
}

static int open_parts(struct gateway *gateway, char *text, size_t text_bytes) {
    const struct gateway_options *options = &gateway->options;
    int err = mailbox_new(&gateway->mailbox, MAILBOX_CAPACITY);
    if (err != SK_OK) return err;
    struct requests_options for_requests = {
        .timers = &gateway->timers,
        .router = &gateway->router,
        .tally = &gateway->tally,
        .timeout_ms = (uint32_t)options->timeout_ms,
        .waiting_max = (uint32_t)(options->requests_max - options->requests_max / UNWAITING_PART),
        .tokens = options->tokens,
        .arg = gateway,
        .node_cb = node_cb,
        .refresh_cb = refresh_cb,
        .facts_cb = facts_cb,
    };
    err = requests_new(&gateway->requests, &for_requests);
    if (err != SK_OK) return err;
    struct door_frames_handler for_frames = {.arg = gateway, .frame_cb = frame_cb, .lost_cb = answers_lost_cb};
    err = door_frames_open(&gateway->door_frames, gateway->mailbox, options->frames_listen, &for_frames, text,
                           text_bytes);
    if (err != SK_OK) return err;
    make_return_address(gateway);
    struct door_nng_options for_door = {
        .mailbox = gateway->mailbox,
        .address = options->listen,
        .tls = options->client_tls,
        .message_bytes_max = options->message_bytes_max,
        .requests_max = (uint32_t)options->requests_max,
        .connection_requests_max = (uint32_t)options->connection_requests_max,
        .connection_bytes_max = options->connection_bytes_max,
        .load = &gateway->load,
        .arg = gateway,
        .request_cb = request_cb,
    };
    err = door_nng_open(&gateway->door_nng, &for_door, text, text_bytes);
    return err == SK_OK ? open_resp(gateway, text, text_bytes) : err;
}

static int open_member(struct gateway *gateway, char *text, size_t text_bytes) {
    struct member_options options = {
        .kind = MEMBER_GATEWAY,
        .metad_addresses = gateway->options.metad,
        .publish_addresses = gateway->options.metad_publish,
        .host = gateway->host,
        .frames_address = gateway->return_address,
        .replication_address = "",
        .heartbeat_ms = HEARTBEAT_MS,
    };
    struct member_callbacks callbacks = {
        .arg = gateway,
        .registered_cb = registered_cb,
        .map_cb = map_cb,
        .stats_cb = stats_cb,
        .refused_cb = refused_cb,
    };
    if (getrandom(options.store_id, sizeof options.store_id, 0) != (ssize_t)sizeof options.store_id) {
        (void)snprintf(text, text_bytes, "no random numbers from the system");
        return SK_EUNEXPECTED;
    }
    int err = member_open(&gateway->member, &options, &callbacks);
    if (err != SK_OK) {
        (void)snprintf(text, text_bytes, "metad %s, publish %s: %s", gateway->options.metad,
                       gateway->options.metad_publish, error_text(err));
    }
    return err;
}

static int new_door_http(struct gateway *gateway) {
    const struct gateway_options *options = &gateway->options;
    struct door_http_options for_door = {
        .mailbox = gateway->mailbox,
        .load = &gateway->load,
        .rules = {.closed = options->http_closed,
                  .certificates = options->http_certificates,
                  .tokens = options->tokens,
                  .hosts = options->http_hosts == NULL ? "" : options->http_hosts,
                  .message_bytes_max = options->message_bytes_max},
        .requests_max = (uint32_t)options->requests_max,
        .connection_bytes_max = options->connection_bytes_max,
        .arg = gateway,
        .request_cb = request_cb,
    };
    return door_http_new(&gateway->door_http, &for_door);
}

static int open_http(struct gateway *gateway, char *text, size_t text_bytes) {
    struct http_options options = {
        .listen = gateway->options.http_listen,
        .pages = report_pages,
        .page_count = report_page_count,
        .arg = &gateway->report,
        .tls = gateway->options.client_tls,
        .connections_max = (unsigned)gateway->options.http_connections_max,
        .connections_of_one_max = (unsigned)gateway->options.http_connections_of_one_max,
    };
    if (options.listen == NULL || strcmp(options.listen, HTTP_NONE) == 0) return SK_OK;
    int err = new_door_http(gateway);
    if (err != SK_OK) return err;
    options.service = door_http_service(gateway->door_http);
    err = watch_open(&gateway->watch, gateway->options.metad);
    if (err != SK_OK) {
        (void)snprintf(text, text_bytes, "metad %s: %s", gateway->options.metad, error_text(err));
        return err;
    }
    gateway->report.tally = &gateway->tally;
    gateway->report.history = &gateway->history;
    gateway->report.watch = gateway->watch;
    gateway->report.host = gateway->host;
    gateway->report.address = gateway->return_address;
    gateway->report.started_ms = gateway->started_ms;
    if (gateway->options.http_closed != NULL) {
        log_event(LOG_WARNING, "http_door_closed", "why=\"%s\"", gateway->options.http_closed);
    }
    return http_open(&gateway->http, &options, text, text_bytes);
}

int gateway_open(struct gateway **out, const struct gateway_options *options, char *text, size_t text_bytes) {
    struct gateway *gateway = calloc(1, sizeof *gateway);
    (void)snprintf(text, text_bytes, "%s", error_text(SK_ENOMEM));
    if (gateway == NULL) return SK_ENOMEM;
    gateway->options = *options;
    gateway->started_ms = clock_boottime_ms();
    timer_wheel_init(&gateway->timers, gateway->started_ms);
    router_init(&gateway->router);
    load_init(&gateway->load, options->bytes_max, (uint32_t)options->connections_max);
    int err = SK_OK;
    if (options->advertise != NULL && options->advertise[0] != 0) {
        (void)snprintf(gateway->host, sizeof gateway->host, "%s", options->advertise);
    } else if (gethostname(gateway->host, sizeof gateway->host - 1) != 0) {
        (void)snprintf(gateway->host, sizeof gateway->host, "localhost");
    }
    if (getrandom(&gateway->session, sizeof gateway->session, 0) != (ssize_t)sizeof gateway->session) {
        (void)snprintf(text, text_bytes, "no random numbers from the system");
        err = SK_EUNEXPECTED;
    }
    if (err == SK_OK) err = open_parts(gateway, text, text_bytes);
    if (err == SK_OK) err = open_member(gateway, text, text_bytes);
    if (err == SK_OK) err = open_http(gateway, text, text_bytes);
    if (err != SK_OK) {
        gateway_free(gateway);
        return err;
    }
    *out = gateway;
    return SK_OK;
}

const char *gateway_address(const struct gateway *gateway) { return door_nng_address(gateway->door_nng); }

const char *gateway_resp_address(const struct gateway *gateway) {
    return gateway->door_resp == NULL ? NO_DOOR : door_resp_address(gateway->door_resp);
}

const char *gateway_return_address(const struct gateway *gateway) { return gateway->return_address; }

/* --- the loop ------------------------------------------------------------------------------------------------ */

static void on_stop(struct post *post) {
    struct gateway *gateway = list_entry(post, struct gateway, stop_post);
    log_event(LOG_INFO, "draining", "in_flight=%u", requests_in_flight(gateway->requests));
    requests_drain(gateway->requests);
    gateway->drain_ms = clock_boottime_ms();
}

void gateway_stop(struct gateway *gateway) {
    if (atomic_exchange(&gateway->stopping, true)) return;
    gateway->stop_post.handle = on_stop;
    post_to(gateway->mailbox, &gateway->stop_post);
}

static void handle_all(struct mail *mail) {
    while (mail != NULL) {
        struct mail *next = mail->next;
        post_handle(mail);
        mail = next;
    }
}

/* What depends on time: deadlines, tries, stalled windows. */
static void tick(struct gateway *gateway, uint64_t now_ms) {
    struct timer *timer;
    while ((timer = timer_wheel_advance(&gateway->timers, now_ms)) != NULL) {
        requests_on_timer(gateway->requests, timer, now_ms);
    }
    if (now_ms / TIMER_TICK_MS == gateway->ticked_ms / TIMER_TICK_MS) return;
    gateway->ticked_ms = now_ms;
    for (uint32_t id = 0; id < gateway->node_limit; id++) {
        struct node *node = find_node(gateway, id);
        if (node != NULL) node_client_tick(node->client, now_ms);
    }
    requests_tick(gateway->requests, now_ms);
    http_tick(gateway->http, now_ms);
}

/* Answers how many nodes are connected. */
static uint32_t flush(struct gateway *gateway, uint64_t now_ms) {
    uint32_t connected = 0;
    for (uint32_t id = 0; id < gateway->node_limit; id++) {
        struct node *node = find_node(gateway, id);
        if (node == NULL) continue;
        node_client_flush(node->client, now_ms);
        connected += node_client_connected(node->client);
    }
    return connected;
}

static void tell_stats(struct gateway *gateway, uint32_t connected, uint64_t now_ms) {
    const struct map *map = gateway->router.map;
    struct report *report = &gateway->report;
    atomic_store_explicit(&gateway->requests_seen, requests_seen(gateway->requests), memory_order_relaxed);
    atomic_store_explicit(&gateway->commands_seen, requests_commands_seen(gateway->requests),
                          memory_order_relaxed);
    atomic_store_explicit(&report->requests_in_flight, requests_in_flight(gateway->requests),
                          memory_order_relaxed);
    atomic_store_explicit(&report->requests_waiting, requests_waiting(gateway->requests), memory_order_relaxed);
    atomic_store_explicit(&report->map_version, router_map_version(&gateway->router), memory_order_relaxed);
    atomic_store_explicit(&report->shards, map == NULL ? 0 : map->shard_count, memory_order_relaxed);
    atomic_store_explicit(&report->nodes, map == NULL ? 0 : map->node_count, memory_order_relaxed);
    atomic_store_explicit(&report->nodes_connected, connected, memory_order_relaxed);
    atomic_store_explicit(&report->connections[DOOR_NNG], door_nng_connections(gateway->door_nng),
                          memory_order_relaxed);
    atomic_store_explicit(&report->connections_refused, door_nng_connections_refused(gateway->door_nng),
                          memory_order_relaxed);
    atomic_store_explicit(&report->connections[DOOR_RESP], door_resp_connections(gateway->door_resp),
                          memory_order_relaxed);
    atomic_store_explicit(&report->connections[DOOR_HTTP], http_connections(gateway->http), memory_order_relaxed);
    atomic_store_explicit(&report->leaving, gateway->drain_ms != 0, memory_order_relaxed);
    atomic_store_explicit(&report->ticked_ms, now_ms, memory_order_relaxed);
}

static bool drained(struct gateway *gateway, uint64_t now_ms) {
    if (gateway->drain_ms == 0) return false;
    uint64_t age_ms = now_ms - gateway->drain_ms;
    if (age_ms >= DRAIN_MS_MAX) requests_expire_all(gateway->requests);
    if (requests_in_flight(gateway->requests) > 0) return false;
    uint32_t in_flight = door_nng_in_flight(gateway->door_nng) + door_resp_in_flight(gateway->door_resp) +
                         door_http_in_flight(gateway->door_http);
    return in_flight == 0 || age_ms >= DRAIN_MS_MAX + DRAIN_SEND_MS;
}

/* Something is in flight: the next tick; else now and then. */
static uint64_t wake_us(const struct gateway *gateway, uint64_t now_ms) {
    bool busy = requests_in_flight(gateway->requests) > 0 || gateway->drain_ms != 0;
    uint64_t at_ms = busy ? (now_ms / TIMER_TICK_MS + 1) * TIMER_TICK_MS : now_ms + IDLE_MS;
    return at_ms * 1000u;
}

int gateway_run(struct gateway *gateway) {
    log_event(LOG_INFO, "gateway_ready", "listen=%s resp=%s frames=%s session=%016llx", gateway_address(gateway),
              gateway_resp_address(gateway), gateway->return_address, (unsigned long long)gateway->session);
    uint64_t now_ms = clock_boottime_ms();
    while (!drained(gateway, now_ms)) {
        handle_all(mailbox_take(gateway->mailbox, wake_us(gateway, now_ms)));
        now_ms = clock_boottime_ms();
        tick(gateway, now_ms);
        uint32_t connected = flush(gateway, now_ms);
        tell_stats(gateway, connected, now_ms);
        history_take(&gateway->history, &gateway->tally, requests_in_flight(gateway->requests), now_ms);
    }
    log_event(LOG_INFO, "gateway_stopped", "requests=%llu", (unsigned long long)requests_seen(gateway->requests));
    return gateway->exit_code;
}

/* Its clients wait in libmicrohttpd, which does not end before all of them have been answered. */
static void close_http(struct gateway *gateway) {
    door_http_end(gateway->door_http);
    while (door_http_waits(gateway->door_http)) {
        handle_all(mailbox_take(gateway->mailbox, (clock_boottime_ms() + 1) * 1000u));
        requests_expire_all(gateway->requests);
    }
    http_close(gateway->http);
    door_http_free(gateway->door_http);
}

void gateway_free(struct gateway *gateway) {
    if (gateway == NULL) return;
    close_http(gateway);
    watch_close(gateway->watch);
    gateway->watch = NULL;
    if (gateway->member != NULL) member_close(gateway->member);
    gateway->member = NULL;
    gateway->ended = true;
    for (uint32_t id = 0; id < gateway->node_limit; id++) {
        struct node *node = find_node(gateway, id);
        if (node != NULL) close_node(gateway, node);
    }
    if (gateway->requests != NULL) requests_expire_all(gateway->requests);
    door_nng_close(gateway->door_nng);
    door_resp_close(gateway->door_resp);
    door_frames_close(gateway->door_frames);
    /* All that could post is closed: what is under way only frees itself. */
    if (gateway->mailbox != NULL) handle_all(mailbox_take(gateway->mailbox, 0));
    for (uint32_t i = 0; i < gateway->closed_count; i++) node_client_free(gateway->closed[i]);
    free(gateway->closed);
    free(gateway->nodes);
    door_nng_free(gateway->door_nng);
    door_resp_free(gateway->door_resp);
    door_frames_free(gateway->door_frames);
    requests_free(gateway->requests);
    router_deinit(&gateway->router);
    if (gateway->mailbox != NULL) mailbox_free(gateway->mailbox);
    free(gateway);
}
