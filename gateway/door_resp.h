/* The door for clients of the Redis protocol: TCP or TLS, on a thread of its own (libuv). A connection has one message
 * under way: what it sends meanwhile gathers, and is the next one; so pipelines go on in few messages, and replies keep
 * their order. What a connection may hold is bounded, and who does not read is read from no more.
 *
 * The loop thread calls all of this. The door's thread posts to it and gets replies back through a list and uv_async. */
#pragma once

#include "gateway/client.h"
#include "libcommon/mailbox.h"

struct door_resp;
struct load;
struct tally;
struct tls;
struct tokens;

struct door_resp_options {
    struct mailbox *mailbox;     /* borrowed: of the loop */
    const char *address;         /* "tcp://host:port"; also "tls+tcp://…" where `tls` is given */
    const struct tls *tls;       /* borrowed until open returns; NULL: plain */
    const struct tokens *tokens; /* borrowed: passwords; NULL: none is asked for */
    struct load *load;           /* borrowed: of all doors */
    struct tally *tally;         /* borrowed: what the door answers itself */
    uint32_t requests_max;       /* messages with the loop; more wait in their connections */
    uint64_t message_bytes_max;  /* of one command */
    uint64_t connection_bytes_max;
    void *arg;
    /* A message came, whose bytes stay valid until the client's reply, now or later. `err` is SK_OK. */
    void (*request_cb)(void *arg, struct client *client, struct slice bytes, int err);
};

/* Listens. SK_ENOMEM; SK_ECONFIG, with the reason in `text` of `text_bytes`. */
int door_resp_open(struct door_resp **door, const struct door_resp_options *options, char *text,
                   size_t text_bytes);
const char *door_resp_address(const struct door_resp *door); /* with the port that the system chose for 0 */

uint32_t door_resp_connections(const struct door_resp *door); /* 0 for NULL, as the next */
uint32_t
door_resp_in_flight(const struct door_resp *door); /* messages with the loop, and replies not written yet */

/* Closes all connections and ends the thread. NULL is allowed. */
void door_resp_close(struct door_resp *door);
void door_resp_free(struct door_resp *door); /* after close, when the mailbox has been emptied */
