/* The clients' HTTP door: a service of the gateway's HTTP port (libcommon/http) that turns requests (gateway/http_call) into
 * messages for the loop, and replies into answers. A connection has one request at a time, so its caps are those of the request. Who
 * sends or reads too slowly is http_tick's business.
 *
 * Bodies, JSON and answers are handled on the HTTP thread; the loop gets whole messages and copies replies. A request belongs to
 * the one or the other: to the loop from submit_cb to http_resume. */
#pragma once

#include "gateway/client.h"
#include "gateway/http_call.h"
#include "libcommon/mailbox.h"

struct door_http;
struct load;

struct door_http_options {
    struct mailbox *mailbox; /* borrowed: of the loop */
    struct load *load;       /* borrowed: counts the bytes of all doors */
    struct http_rules rules; /* what it points to is borrowed */
    uint32_t requests_max;   /* in flight of all, their answers included */
    uint64_t connection_bytes_max;
    void *arg;
    /* A message came, on the loop: see door_nng_options. */
    void (*request_cb)(void *arg, struct client *client, struct slice bytes, int err);
};

int door_http_new(struct door_http **door, const struct door_http_options *options); /* SK_ENOMEM */

/* For http_open. */
const struct http_service *door_http_service(const struct door_http *door);

/* Requests from their heads until their answers have gone. Any thread. */
uint32_t door_http_in_flight(const struct door_http *door);

/* The loop thread. From now on requests are answered UNAVAILABLE without the loop; those that it has, or that are on their way to
 * it, it must still answer: as long as door_http_waits. Then http_close may be called. */
void door_http_end(struct door_http *door);
bool door_http_waits(const struct door_http *door);

void door_http_free(struct door_http *door); /* after http_close; NULL is fine */
