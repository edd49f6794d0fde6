#include "metad/metad.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "metad/datadir.h"
#include "metad/rpc.h"
#include "metad/service.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define DRAIN_MS 1000u

struct metad {
    struct datadir *datadir; /* owned, as all below: opened in this order */
    struct service *service;
    struct rpc *rpc;
    struct raft_loop *loop;
    int fault; /* SK_OK as long as there is none */
    char fault_text[METAD_TEXT_BYTES];
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

static void tick_cb(void *arg) {
    struct metad *metad = arg;
    service_on_tick(metad->service);
    begin_drain(metad);
    if (!metad->draining) return;
    if (service_is_idle(metad->service) || clock_boottime_ms() >= metad->drain_deadline_ms) {
        raft_loop_stop(metad->loop);
    }
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

/* The first fault counts. It may come while raft_loop_open replays the log, before there is a loop. */
static void fault_cb(void *arg, int err, const char *text) {
    struct metad *metad = arg;
    if (metad->fault != SK_OK) return;
    metad->fault = err;
    (void)snprintf(metad->fault_text, sizeof metad->fault_text, "%.200s: %.250s",
                   datadir_raft_path(metad->datadir), text);
    if (metad->loop != NULL) raft_loop_stop(metad->loop);
}

static int cluster_cb(void *arg, uint64_t cluster) {
    struct metad *metad = arg;
    char text[METAD_TEXT_BYTES];
    int err = datadir_set_cluster(metad->datadir, cluster, text, sizeof text);
    if (err != SK_OK) fault_cb(metad, err, text);
    return err;
}

static void version_cb(void *arg, uint64_t version) {
    struct metad *metad = arg;
    datadir_note_version(metad->datadir, version);
}

/* ---- and on nng's threads ---- */

static void rpc_wake_cb(void *arg) {
    struct metad *metad = arg;
    raft_loop_wake(metad->loop);
}

/* ---- life ---- */

static int open_service(struct metad *metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct service_options service = {
        .server_id = options->server_id,
        .server_count = options->server_count,
        .cluster = datadir_cluster(metad->datadir),
        .version = datadir_version(metad->datadir),
        .shards = options->shards,
        .replicas = options->replicas,
        .expect_nodes = options->expect_nodes,
        .node_timeout_ms = options->node_timeout_ms,
        .node_dead_after_ms = options->node_dead_after_ms,
        .moves_max = options->moves_max,
        .arg = metad,
        .cluster_cb = cluster_cb,
        .version_cb = version_cb,
        .fault_cb = fault_cb,
    };
    for (uint32_t i = 0; i < options->server_count; i++) {
        service.server_ids[i] = options->servers[i].id;
        service.request_addresses[i] = options->servers[i].request_address;
    }
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

static int open_loop(struct metad *metad, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct raft_loop_server servers[RAFT_LOOP_SERVERS_MAX];
    for (uint32_t i = 0; i < options->server_count; i++) {
        servers[i] =
            (struct raft_loop_server){.id = options->servers[i].id, .address = options->servers[i].raft_address};
    }
    struct raft_loop_options loop = {
        .directory = datadir_raft_path(metad->datadir),
        .form = datadir_cluster(metad->datadir) == 0,
        .server_id = options->server_id,
        .bind_address = options->raft_listen,
        .servers = servers,
        .server_count = options->server_count,
        .fsm = service_fsm(metad->service),
        .arg = metad,
        .role_cb = role_cb,
        .tick_cb = tick_cb,
        .wake_cb = loop_wake_cb,
        .fault_cb = fault_cb,
    };
    int err = raft_loop_open(&metad->loop, &loop, text, METAD_TEXT_BYTES);
    if (err == SK_OK && metad->fault != SK_OK) {
        err = metad->fault;
        (void)snprintf(text, METAD_TEXT_BYTES, "%s", metad->fault_text);
    }
    return err;
}

int metad_new(struct metad **out, const struct metad_options *options, char text[METAD_TEXT_BYTES]) {
    struct metad *metad = calloc(1, sizeof *metad);
    if (metad == NULL) {
        (void)snprintf(text, METAD_TEXT_BYTES, "out of memory");
        return SK_ENOMEM;
    }
    int err = datadir_open(&metad->datadir, options->data_dir, options->server_id, text, METAD_TEXT_BYTES);
    if (err == SK_OK) err = open_service(metad, options, text);
    if (err == SK_OK) err = open_rpc(metad, options, text);
    if (err == SK_OK) err = open_loop(metad, options, text);
    if (err != SK_OK) {
        metad_free(metad);
        return err;
    }
    service_attach(metad->service, metad->loop, metad->rpc);
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
    rpc_close(metad->rpc); /* first: nobody may wake a loop that is gone */
    metad->rpc = NULL;     /* and the loop goes round once more as it closes */
    if (metad->service != NULL) service_detach(metad->service);
    raft_loop_close(metad->loop);
    service_free(metad->service);
    datadir_close(metad->datadir);
    free(metad);
}
