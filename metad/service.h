/* What metad does when it leads: answers requests, hears heartbeats, decides and proposes. Owns the state machine
 * and what only a leader knows (liveness, gateways, statistics). On the thread of the Raft loop.
 *
 * Decisions (create the shards, call a node dead) are taken from the catalog on each tick and proposed as commands
 * which the catalog checks again when they are applied; so one that comes late or twice does no harm. */
#pragma once

#include "metad/fsm.h"
#include "metad/group.h"
#include "metad/raft_loop.h"
#include "metad/report.h"
#include "metad/rpc.h"

#define SERVICE_GATEWAYS_MAX      256u
#define SERVICE_GATEWAY_FORGET_MS 60000u

struct service;

struct service_options {
    uint64_t server_id;
    uint64_t cluster;                        /* the data directory's, 0 = none yet */
    uint32_t shards, replicas, expect_nodes; /* settings for a cluster that does not exist yet */
    uint64_t node_timeout_ms, node_dead_after_ms;
    uint32_t moves_max; /* replicas that move at once */
    void *arg;
    /* The cluster's id is known for the first time: to be noted before anyone hears of it. SK_OK, or a fault. */
    int (*cluster_cb)(void *arg, uint64_t cluster);
    /* It cannot go on. `text` is one line. */
    void (*fault_cb)(void *arg, int err, const char *text);
};

/* SK_ENOMEM. */
int service_new(struct service **service, const struct service_options *options);
void service_free(struct service *service); /* after rpc_close and raft_loop_close */

/* For raft_loop_open, before the sockets and the loop are there. */
struct raft_fsm *service_fsm(struct service *service);

/* All are borrowed from here on. */
void service_attach(struct service *service, struct raft_loop *loop, struct group *group, struct rpc *rpc);

/* This server leads, and all that was committed before is applied. */
bool service_is_ready(const struct service *service);

/* That this server knows, and has noted; 0 = none. */
uint64_t service_cluster(const struct service *service);

/* Events of the loop and of the sockets. */
void service_on_role(struct service *service);
void service_on_tick(struct service *service);
void service_on_call(struct service *service, struct rpc_call *call, const struct request *request);

/* What it knows of itself and the cluster, for the report. */
void service_tell(const struct service *service, struct report_facts *facts);

/* Refuses new requests from now on; those under way go on. If it leads, another server is to. */
void service_drain(struct service *service);
bool service_is_idle(const struct service *service); /* nothing is under way */

/* The sockets are closed: what is still under way is forgotten as it ends. */
void service_detach(struct service *service);
