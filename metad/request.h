/* What a message to metad says: MessagePack-RPC, [0, msgid, method, params] (docs/ARCHITECTURE.md, "Requests to
 * metad"). Bytes from outside; nothing is trusted. Pure; any thread. */
#pragma once

#include "metad/command.h"

#include "libcommon/slice.h"

#define REQUEST_TEXT_BYTES      160
#define REQUEST_STATS_BYTES_MAX 65536u
#define REQUEST_LANES_MAX       4096u

enum request_method {
    REQUEST_REGISTER,
    REQUEST_HEARTBEAT,
    REQUEST_MAP,
    REQUEST_STATUS,
    REQUEST_CHANGE,        /* a shardd: records of shards */
    REQUEST_HANDOVER,      /* a person: let that node lead */
    REQUEST_FORCE_LEADER,  /* a person: let that node lead, whatever is lost (R12) */
    REQUEST_VERIFY,        /* a person: compare the replicas of every shard */
    REQUEST_CHANGE_NODE,   /* a person: add, drain or remove a node */
    REQUEST_CHANGE_SERVER, /* a person: add or remove a metad server */
};

enum request_sender { REQUEST_SHARDD, REQUEST_GATEWAY };

struct request_heartbeat {
    uint32_t node_id; /* 0 from a gateway */
    uint64_t incarnation;
    uint8_t store_id[16];
    struct slice stats; /* one encoded map, whole and valid; points into the message */
};

struct request_change {
    uint32_t node_id;
    uint64_t incarnation;
    uint8_t store_id[16];
    uint32_t count; /* 1 to SHARD_CHANGES_MAX */
    struct slice
        changes; /* so many, each valid, one after the other (shard_change_decode); point into the message */
};

struct request_leader {
    uint32_t shard;
    uint32_t node;
};

struct request_node {
    uint32_t node;
    enum command_node change;
};

struct request_server {
    bool add;          /* else remove */
    struct slice name; /* "host:port"; points into the message */
};

struct request {
    uint64_t msgid; /* 0 as long as none was read */
    enum request_method method;
    enum request_sender sender; /* of register and heartbeat */
    union {
        struct command_register_node registration; /* of a gateway: store_id, host and frames_address only */
        struct request_heartbeat heartbeat;
        uint64_t known_version; /* of map */
        struct request_change change;
        struct request_leader leader; /* of handover and force_leader */
        struct request_node node;     /* of node */
        struct request_server server; /* of server */
    };
};

/* SK_OK, or SK_BADREQUEST or SK_TOOLARGE with one sentence in `text`; msgid is then what could be read of it. */
int request_decode(struct slice message, struct request *request, char text[REQUEST_TEXT_BYTES]);

/* Appends a reply up to its result: [1, msgid, nil, …; one encoded value must follow. */
void request_encode_result_head(struct buffer *buffer, uint64_t msgid);

/* Appends a reply: [1, msgid, [code, text], nil]. Faults of this process are told as INTERNAL. */
void request_encode_error(struct buffer *buffer, uint64_t msgid, int err, const char *text);
