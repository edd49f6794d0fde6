/* `skerry admin add|drain|remove`: what a person asks metad for about a node, and how far that is. Says on stdout what is
 * done, on stderr why not. All of it may be asked for again at any time. One thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum admin_node_change {
    ADMIN_NODE_ADD,    /* it gets its share of the shards, also if it was to be drained or removed */
    ADMIN_NODE_DRAIN,  /* what it has goes to others */
    ADMIN_NODE_REMOVE, /* drained or dead, it goes for ever */
};

/* "add", "drain", "remove"; false: none of them. */
bool admin_node_parse(const char *word, enum admin_node_change *change);

struct admin_node_options {
    const char *metad; /* nng URLs */
    uint32_t timeout_ms;
    uint32_t node;
    enum admin_node_change change;
    bool no_wait; /* for all of it to be done: metad does it anyway */
};

/* The exit code. */
int admin_node(const struct admin_node_options *options);
