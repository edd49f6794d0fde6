/* Which processes `skerry up` starts, with which flags, ports and files: a function of the options alone. One
 * thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PLAN_NODES_MAX    32
#define PLAN_ARGS_MAX     40
#define PLAN_METADS_MAX   5
#define PLAN_METADS_BYTES 160      /* a list of so many addresses, with its zero */
#define PLAN_SECRET       "secret" /* in the cluster's directory: what metad's servers know and nobody else */

/* In the order in which they are started; stopped in reverse. */
enum plan_kind { PLAN_METAD, PLAN_SHARDD, PLAN_GATEWAY, PLAN_KINDS };

struct plan_options {
    const char *data;                 /* directory of the cluster */
    const char *programs[PLAN_KINDS]; /* paths */
    uint64_t metads;                  /* 1, 3 or 5; several need PLAN_SECRET */
    uint64_t nodes, shards, lanes;    /* lanes of each node */
    uint64_t gateway_port;            /* before the offset; default 7400 */
    uint64_t resp_port;               /* the same; default 6379 */
    uint64_t port_offset;
    const char *durability; /* NULL: shardd's default */
    char **extra;           /* more words: for each shardd, or "KIND:--flag" for each of a kind */
    size_t extra_count;
};

struct plan_process {
    enum plan_kind kind;
    char name[16];                 /* "shardd-1"; of data directory and log */
    char *args[PLAN_ARGS_MAX + 1]; /* owned; the program first, NULL at the end */
    size_t arg_count;
    char *data; /* owned; NULL for a gateway, which keeps nothing */
    char *log;  /* owned */
};

struct plan {
    struct plan_process *processes; /* owned */
    size_t count;
    char gateway[64], metad[PLAN_METADS_BYTES]; /* nng URLs */
    uint64_t resp_port;                         /* of the gateway's Redis protocol */
    char page[64]; /* URL of the gateway's status page; empty when extra flags say where its HTTP is */
};

/* SK_OK, SK_ECONFIG (a port beyond 65535, too many extra flags: `text` says), SK_ENOMEM. */
int plan_make(struct plan *plan, const struct plan_options *options, char *text, size_t text_bytes);
void plan_deinit(struct plan *plan);

/* max(1, cores / 2 / nodes) */
uint64_t plan_lanes(uint64_t cores, uint64_t nodes);

/* "metad", "shardd", "gateway". Static. */
const char *plan_kind_name(enum plan_kind kind);
