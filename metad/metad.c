#include "metad/metad.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "metad/datadir.h"
#include "metad/group.h"
#include "metad/report.h"
#include "metad/rpc.h"
#include "metad/service.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define DRAIN_MS 1000u
#define TELL_MS  100u /* between two reports */

struct metad {
    struct datadir *datadir; /* owned, as all below: opened in this order */
    struct service *service;
    struct rpc *rpc;
    struct group *group;
    struct raft_loop *loop;
    struct http *http;
    struct report report;
    uint64_t told_ms;
    int fault; /* SK_OK as long as there is none */
    char fault_text[METAD_TEXT_BYTES];
    bool started; /* the loop takes part in the group */
    bool draining;
    uint64_t drain_deadline_ms;
    atomic_bool stop_asked; /* any thread */
};

/* ---- callbacks, on the loop ---- */

static void role_cb(void *arg) {
    struct metad *metad = arg;
    service_on_role(metad->service);
}

static void begin_drain(struct metad *metad) {
    if (metad->draining || !atomic_load(&metad->stop_asked)) return;
    metad->draining = true;
    metad->drain_deadline_ms = clock_boottime_ms() + DRAIN_MS;
    service_drain(metad->service);
}

static void tell(struct metad *metad, uint64_t now_ms) {
    struct report_facts facts;
    if (now_ms - metad->told_ms < TELL_MS) return;
    metad->told_ms = now_ms;
    service_tell(metad->service, &facts);
    report_tell(&metad->report, &facts, now_ms);
}

static void tick_cb(void *arg) {
    struct metad *metad = arg;
    service_on_tick(metad->service);
    group_on_tick(metad->group, service_is_ready(metad->service));
    begin_drain(metad);
    tell(metad, clock_boottime_ms());
    if (!metad->draining) return;
    if (service_is_idle(metad->service) || clock_boottime_ms() >= metad->drain_deadline_ms) {
        raft_loop_stop(metad->loop);
    }
}

static void turn_cb(void *arg) {
    struct metad *metad = arg;
    if (metad->started) datadir_note_seen(metad->datadir, raft_loop_seen(metad->loop));
}

static void loop_wake_cb(void *arg) {
    struct metad *metad = arg;
    if (metad->rpc == NULL) return; /* it was woken before rpc was closed */
    begin_drain(metad);
    rpc_take(metad->rpc);
}

static void call_cb(void *arg, struct rpc_call *call, const struct request *request) {
    struct metad *metad = arg;
    service_on_call(metad->service, call, request);
}

/* The first fault counts. It may come while raft_loop_start replays the log; then the loop ends at its first turn. */
static void fault_cb(void *arg, int err, const char *text) {
    struct metad *metad = arg;
    if (metad->fault != SK_OK) return;
    metad->fault = err;
    (void)snprintf(metad->fault_text, sizeof metad->fault_text, "%.200s: %.250s",
                   datadir_raft_path(metad->datadir), text);
    raft_loop_stop(metad->loop);
}

static int cluster_cb(void *arg, uint64_t cluster) {
    struct metad *metad = arg;
    char text[METAD_TEXT_BYTES];
    int err = datadir_set_cluster(metad->datadir, cluster, text, sizeof text);
    if (err != SK_OK) fault_cb(metad, err, text);
    return err;
}

static uint64_t cluster_known_cb(void *arg) {
    struct metad *metad = arg;
    return service_cluster(metad->service);
}

/* A fault that came as the log was replayed is one of the start. */
static int start(struct metad *metad, enum raft_loop_start how, char text[METAD_TEXT_BYTES]) {
    int err = raft_loop_start(metad->loop, how, datadir_seen(metad->datadir), text, METAD_TEXT_BYTES);
    if (err == SK_OK && metad->fault != SK_OK) {
        err = metad->fault;
        (void)snprintf(text, METAD_TEXT_BYTES, "%s", metad->fault_text);
    }
    metad->started = err == SK_OK;
    return err;
}

static void start_cb(void *arg, enum raft_loop_start how) {
    struct metad *metad = arg;
    char text[METAD_TEXT_BYTES];
    int err = start(metad, how, text);
    if (err != SK_OK) fault_cb(metad, err, text);
}

static void self_cb(void *arg, struct handshake_server *self) {
    struct metad *metad = arg;
    group_self(metad->group, self);
}

static void address_cb(void *arg, uint64_t id, const char *name, char address[TRANSPORT_ADDRESS_BYTES]) {
    struct metad *metad = arg;
    group_address(metad->group, id, name, address);
}

static void met_cb(void *arg, const struct handshake_server *server) {
    struct metad *metad = arg;
    group_met(metad->group, server);
}

/* ---- and on nng's threads ---- */

static void rpc_wake_cb(void *arg) {
    struct metad *metad = arg;
    raft_loop_wake(metad->loop);
}

/* ---- life ---- */

static int open_service(struct metad *metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct service_options service = {
        .server_id = datadir_server(metad->datadir),
        .cluster = datadir_cluster(metad->datadir),
        .shards = options->shards,
        .replicas = options->replicas,
        .expect_nodes = options->expect_nodes,
        .node_timeout_ms = options->node_timeout_ms,
        .node_dead_after_ms = options->node_dead_after_ms,
        .moves_max = options->moves_max,
        .arg = metad,
        .cluster_cb = cluster_cb,
        .fault_cb = fault_cb,
    };
    int err = service_new(&metad->service, &service);
    if (err != SK_OK) (void)snprintf(text, METAD_TEXT_BYTES, "%s", error_text(err));
    return err;
}

static int open_rpc(struct metad *metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct rpc_options rpc = {.listen = options->listen,
                              .publish = options->publish_listen,
                              .arg = metad,
                              .wake_cb = rpc_wake_cb,
                              .call_cb = call_cb};
    return rpc_open(&metad->rpc, &rpc, text, METAD_TEXT_BYTES);
}

static int open_group(struct metad *metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct group_options group = {.id = datadir_server(metad->datadir),
                                  .name = options->name,
                                  .peers = options->peers,
                                  .peer_count = options->peer_count,
                                  .arg = metad,
                                  .cluster_cb = cluster_known_cb,
                                  .start_cb = start_cb};
    int err = group_new(&metad->group, &group);
    if (err != SK_OK) (void)snprintf(text, METAD_TEXT_BYTES, "%s", error_text(err));
    return err;
}

static int open_loop(struct metad *metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct raft_loop_options loop = {
        .directory = datadir_raft_path(metad->datadir),
        .server_id = datadir_server(metad->datadir),
        .name = options->name,
        .secret = options->secret,
        .bind_address = options->raft_listen,
        .fsm = service_fsm(metad->service),
        .arg = metad,
        .role_cb = role_cb,
        .tick_cb = tick_cb,
        .turn_cb = turn_cb,
        .wake_cb = loop_wake_cb,
        .fault_cb = fault_cb,
        .self_cb = self_cb,
        .address_cb = address_cb,
        .met_cb = met_cb,
    };
    return raft_loop_open(&metad->loop, &loop, text, METAD_TEXT_BYTES);
}

/* Now, or when the others have told how: start_cb. */
static int start_loop(struct metad *metad, char text[METAD_TEXT_BYTES]) {
    enum raft_loop_start how;
    return group_knows_start(metad->group, &how) ? start(metad, how, text) : SK_OK;
}

static int open_http(struct metad *metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct http_options http = {.listen = options->http_listen,
                                .pages = report_pages,
                                .page_count = report_page_count,
                                .arg = &metad->report};
    if (http.listen == NULL) return SK_OK;
    metad->report.disk = disk_space_open(options->data_dir);
    return http_open(&metad->http, &http, text, METAD_TEXT_BYTES);
}

int metad_new(struct metad **out, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct metad *metad = calloc(1, sizeof *metad);
    if (metad == NULL) {
        (void)snprintf(text, METAD_TEXT_BYTES, "out of memory");
        return SK_ENOMEM;
    }
    report_init(&metad->report);
    int err = datadir_open(&metad->datadir, options->data_dir, text, METAD_TEXT_BYTES);
    if (err == SK_OK) err = open_service(metad, options, text);
    if (err == SK_OK) err = open_rpc(metad, options, text);
    if (err == SK_OK) err = open_group(metad, options, text);
    if (err == SK_OK) err = open_loop(metad, options, text);
    if (err == SK_OK) {
        group_attach(metad->group, metad->loop);
        service_attach(metad->service, metad->loop, metad->group, metad->rpc);
        err = start_loop(metad, text);
    }
    if (err == SK_OK) err = open_http(metad, options, text);
    if (err != SK_OK) {
        metad_free(metad);
        return err;
    }
    rpc_start(metad->rpc);
    *out = metad;
    return SK_OK;
}

int metad_run(struct metad *metad) {
    raft_loop_run(metad->loop);
    if (metad->fault != SK_OK) {
        char text[METAD_TEXT_BYTES];
        log_event(LOG_ERROR, "metad_fault", "error=%s text=%s", error_name(metad->fault),
                  log_quote(metad->fault_text, text, sizeof text));
    }
    return metad->fault;
}

void metad_stop(struct metad *metad) {
    atomic_store(&metad->stop_asked, true);
    raft_loop_wake(metad->loop);
}

void metad_free(struct metad *metad) {
    if (metad == NULL) return;
    http_close(metad->http);
    disk_space_close(metad->report.disk);
    rpc_close(metad->rpc); /* nobody may wake a loop that is gone */
    metad->rpc = NULL;     /* and the loop goes round once more as it closes */
    if (metad->service != NULL) service_detach(metad->service);
    raft_loop_close(metad->loop);
    group_free(metad->group);
    service_free(metad->service);
    datadir_close(metad->datadir);
    report_deinit(&metad->report);
    free(metad);
}
