/* The clients' socket: nng REP with as many contexts as requests may be in flight, and some by which more are refused,
 * since overload is answered and not queued. Turns messages into requests
 * for the loop and replies into messages, and knows who has how much in flight. Whoever does not take a reply for
 * DOOR_SEND_MS_MAX loses the connection, or one reader who stops could hold the contexts of all. A message beyond
 * `message_bytes_max` never arrives: nng closes the connection that sends it.
 *
 * Connections are counted, and beyond `connections_max` a new one is closed. That also bounds what nng holds before a message is
 * whole, or waits for a context, and so before anybody has shown a token: the bytes that have come of it, and
 * no more than one message for each connection. (Its length alone takes addresses, no memory.)
 *
 * The loop thread calls all of this; nng's threads only post, receive again, and count down. */
#pragma once

#include "libcommon/mailbox.h"
#include "libcommon/peer_name.h"
#include "libcommon/slice.h"

#define DOOR_SEND_MS_MAX 500

struct door;
struct tls;
struct door_request; /* one message of a client, from its arrival to its reply */

struct door_options {
    struct mailbox *mailbox; /* borrowed: of the loop */
    const char *address;     /* nng URL */
    const struct tls *tls;   /* borrowed: for an address of TLS */
    uint32_t connections_max;
    uint64_t message_bytes_max;       /* of one message that comes */
    uint32_t requests_max;            /* in flight of all, their replies included */
    uint32_t connection_requests_max; /* in flight of one connection */
    uint64_t connection_bytes_max;
    uint64_t bytes_max; /* of all */
    void *arg;
    /* A message came; it is answered by door_reply, now or later. SK_OK, or SK_OVERLOADED: a cap is exceeded, and
     * only an error reply is wanted. */
    void (*request_cb)(void *arg, struct door_request *request, int err);
};

/* Listens and receives. SK_ENOMEM; SK_ECONFIG, with the reason in `text` of `text_bytes`. */
int door_open(struct door **door, const struct door_options *options, char *text, size_t text_bytes);
const char *door_address(const struct door *door); /* with the port that the system chose for 0 */

/* The message; valid until door_reply. */
struct slice door_request_bytes(const struct door_request *request);

/* Counts `bytes` more to the request until its reply has gone. False: a cap is exceeded, and nothing is counted.
 */
bool door_charge(struct door_request *request, uint64_t bytes);

/* Whether the connection that it came by is closed: nobody can take a reply any more. */
bool door_client_gone(const struct door_request *request);

/* Where it connects from, for the log (libcommon/peer_name.h). Returns `name`. */
const char *door_client_name(const struct door_request *request, char name[PEER_NAME_BYTES]);

/* Sends a copy of `reply` and ends the request. */
void door_reply(struct door_request *request, struct slice reply);

uint32_t door_connections(const struct door *door);
uint64_t door_connections_refused(const struct door *door); /* since it was opened, for want of a place */
uint32_t door_in_flight(const struct door *door);           /* requests with the loop, and replies not sent yet */

/* Requests that were not answered are dropped. */
void door_close(struct door *door);
void door_free(struct door *door); /* after close, when the mailbox has been emptied */
