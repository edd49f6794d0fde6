/* metad as replicas see it: the record of one shard, changed by the real rules (metad/shard_record.h), behind a network
 * that loses, delays and repeats. That metad itself is replicated does not show. */
#pragma once

#include "tests/sim/network.h"

#define NODES_MAX 256u

struct sim_metad {
    struct map_shard record;
    bool created;
    bool down; /* nothing is answered */
    uint32_t node_count;
    struct map_node nodes[NODES_MAX]; /* by id - 1 */
    struct sim_metad_node {
        uint32_t host;
        uint64_t store;
        uint32_t life;     /* of the process that registered last */
        uint64_t heard_us; /* it registered or asked for the map */
        bool gone;         /* its store was replaced: it never comes back */
    } places[NODES_MAX];
    uint64_t next_incarnation, next_replica_id;
    bool unreachable[HOSTS_MAX]; /* by host */
    bool unheard[HOSTS_MAX];     /* its records do not arrive; what it is asked it answers */
};

struct sim;

void sim_metad_init(struct sim *sim);

/* Requests of a host; answers come as its mail. */
void sim_metad_register(struct sim *sim, uint32_t host);
void sim_metad_poll(struct sim *sim, uint32_t host);
void sim_metad_change(struct sim *sim, uint32_t host, const struct replica_change *change);

/* metad's own wish, or a person's. */
void sim_metad_want_leader(struct sim *sim, uint32_t node);

/* The store of `node` was replaced by an empty one; what starts there is another node. */
void sim_metad_lose(struct sim *sim, uint32_t node);

/* A person makes `node` lead, alone in sync; it holds everything committed, so nothing is lost by that (R12). */
void sim_metad_force(struct sim *sim, uint32_t node);

/* The nodes of the record's replicas, as its rules want them. */
void sim_metad_find_nodes(const struct sim_metad *metad, const struct map_node *nodes[MAP_REPLICAS_MAX]);

/* The record has changed: everybody is told, or not. */
void sim_metad_publish(struct sim *sim);

/* The host that `node` lives on; HOSTS_MAX: nowhere. */
uint32_t sim_metad_host_of(const struct sim *sim, uint32_t node);

/* Whether metad's record lets the node lead: it must hold everything committed. */
bool sim_metad_may_lead(const struct sim *sim, uint32_t node);

/* Whether its store is there and can be opened. */
bool sim_metad_is_intact(const struct sim *sim, uint32_t node);
