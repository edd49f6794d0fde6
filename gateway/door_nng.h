/* The clients' socket: nng REP with as many contexts as requests may be in flight, and some by which more are refused,
 * since overload is answered and not queued. Turns messages into requests
 * for the loop and replies into messages, and knows who has how much in flight. Whoever does not take a reply for
 * DOOR_SEND_MS_MAX loses the connection, or one reader who stops could hold the contexts of all. A message beyond
 * `message_bytes_max` never arrives: nng closes the connection that sends it.
 *
 * Connections are counted, and beyond what `load` has place for a new one is closed. That also bounds what nng holds before a message is
 * whole, or waits for a context, and so before anybody has shown a token: the bytes that have come of it, and
 * no more than one message for each connection. (Its length alone takes addresses, no memory.)
 *
 * The loop thread calls all of this; nng's threads only post, receive again, and count down. */
#pragma once

#include "gateway/client.h"
#include "libcommon/mailbox.h"

#define DOOR_SEND_MS_MAX 500

struct door_nng;
struct load;
struct tls;

struct door_nng_options {
    struct mailbox *mailbox;          /* borrowed: of the loop */
    const char *address;              /* nng URL */
    const struct tls *tls;            /* borrowed: for an address of TLS */
    struct load *load;                /* borrowed: of all doors */
    uint64_t message_bytes_max;       /* of one message that comes */
    uint32_t requests_max;            /* in flight of all, their replies included */
    uint32_t connection_requests_max; /* in flight of one connection */
    uint64_t connection_bytes_max;
    void *arg;
    /* A message came, whose bytes stay valid until the client's reply, now or later. SK_OK, or SK_OVERLOADED: a cap is
     * exceeded, and only an error reply is wanted. */
    void (*request_cb)(void *arg, struct client *client, struct slice bytes, int err);
};

/* Listens and receives. SK_ENOMEM; SK_ECONFIG, with the reason in `text` of `text_bytes`. */
int door_nng_open(struct door_nng **door, const struct door_nng_options *options, char *text, size_t text_bytes);
const char *door_nng_address(const struct door_nng *door); /* with the port that the system chose for 0 */

uint32_t door_nng_connections(const struct door_nng *door);
uint64_t door_nng_connections_refused(const struct door_nng *door); /* since it was opened, for want of a place */
uint32_t door_nng_in_flight(const struct door_nng *door); /* requests with the loop, and replies not sent yet */

/* Requests that were not answered are dropped. */
void door_nng_close(struct door_nng *door);
void door_nng_free(struct door_nng *door); /* after close, when the mailbox has been emptied */
