/* Who waits for a message's reply: the seam between the doors and gateway/request. Every door turns what comes by its
 * protocol into a message of the contract (gateway/message.h), embeds a client in what it keeps of it, and turns the
 * reply back. The loop thread only, unless a door says more. */
#pragma once

#include "libcommon/peer_name.h"
#include "libcommon/slice.h"

enum door_kind { DOOR_NNG, DOOR_RESP, DOOR_HTTP, DOOR_KINDS };

static inline const char *door_name(enum door_kind door) {
    static const char *const names[DOOR_KINDS] = {"nng", "resp", "http"};
    return names[door];
}

struct client;

struct client_ops {
    enum door_kind door;
    /* Counts `bytes` more to the message until its reply has gone. False: a cap is exceeded, nothing is counted. */
    bool (*charge)(struct client *client, uint64_t bytes);
    /* Whether nobody can take the reply any more. */
    bool (*gone)(const struct client *client);
    /* Where it connects from, for the log (libcommon/peer_name.h). */
    void (*name)(const struct client *client, char room[PEER_NAME_BYTES]);
    /* The encoded reply, borrowed until it returns. Ends the message; called once for each. */
    void (*reply)(struct client *client, struct slice reply);
};

struct client {
    const struct client_ops *ops;
    bool proven; /* has shown a token to its door: its messages need none */
};
