/* What the parts of the bare chain (bare_chain.c) agree on. */
#pragma once

#include <stdint.h>

enum { BARE_SERVERS_MAX = 8, BARE_CONTEXTS = 256, BARE_REQUEST_BYTES = 130, BARE_ITEM_BYTES = 160 };

struct bare_options {
    uint64_t in_flight, connections, servers, copies;
    const char *write_directory; /* NULL: reads, which no server appends */
    uint64_t port;               /* the first of the chain's */
};

/* What a frame carries; all items of a frame are of one kind. */
enum bare_kind { BARE_WORK, BARE_REPLICATE, BARE_ACKNOWLEDGE, BARE_ANSWER };

/* An item's number is the context at the gateway that waits for its answer. */
struct bare_item {
    uint32_t number;
    uint8_t kind;
    uint8_t content[BARE_ITEM_BYTES - 5];
} __attribute__((packed));

_Static_assert(sizeof(struct bare_item) == BARE_ITEM_BYTES, "items lie in frames without gaps");

enum bare_port { BARE_PORT_CLIENTS, BARE_PORT_ANSWERS, BARE_PORT_SERVERS };

/* The processes; each ends only by a signal. */
_Noreturn void bare_server_run(const struct bare_options *options, int which);
_Noreturn void bare_gateway_run(const struct bare_options *options);

/* Ends the process with what failed, if it did. */
void bare_must(int rv, const char *what);

void bare_url(const struct bare_options *options, int port, char url[64]);
