/* `skerry admin metad add|remove`: which servers metad consists of. Says on stdout what was done, on stderr why not. One
 * thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct admin_server_options {
    const char *metad;   /* nng URLs */
    uint32_t timeout_ms; /* of each try; the group gets ADMIN_SERVER_MS in all */
    bool add;            /* else remove */
    const char *name;    /* "host:port" */
};

#define ADMIN_SERVER_MS 60000u

/* Adds the server that is at that name, in place of the one that was there before (its disk was lost), or removes it; waits
 * until the group has agreed. The exit code. */
int admin_server(const struct admin_server_options *options);
