/* Frames to one shardd: a pipeline that dials it, and the next one when that is lost; a queue of parts that gather while
 * frames are out (window.h), and the list of those that were sent and have no answer yet. A lost connection or a stalled
 * window gives them back to the handler, which sends them again under their names. The loop thread only, but for the
 * callbacks inside, which post. With door_nng and door_frames alone in including nng. */
#pragma once

#include "gateway/message.h"
#include "gateway/tally.h"
#include "libcommon/mailbox.h"
#include "libcommon/wire.h"

#define NODE_PENDING_BYTES_MAX (64u * 1024 * 1024)

struct node_client;

struct node_client_handler {
    void *arg;
    /* Fills all of the item but the body; `part` is about to be in a frame. */
    void (*fill_cb)(void *arg, const struct part *part, uint64_t now_ms, struct request_item *item);
    /* Parts out of the queue (PART_PENDING, never in a frame in this turn) and sent ones (PART_SENT, may have
     * arrived): in no list any more but this one, which the handler empties. */
    void (*lost_cb)(void *arg, struct list *parts);
    /* The connection is there: what waits for it can be added. */
    void (*connected_cb)(void *arg, struct node_client *client);
};

struct node_client_options {
    struct mailbox *mailbox; /* borrowed: of the loop */
    uint32_t node;
    const char *frames_address; /* copied */
    const char *return_address; /* borrowed until close */
    uint64_t cluster, session;
    struct tally *tally; /* borrowed: frames are counted there */
    struct node_client_handler handler;
};

/* Starts dialling. SK_ENOMEM, SK_ENET (not an address). */
int node_client_open(struct node_client **client, const struct node_client_options *options);

/* Gives all parts to lost_cb, ends the connection. The client stays valid until free, since posts may be under way.
 */
void node_client_close(struct node_client *client);

/* After close, when the mailbox has been emptied. */
void node_client_free(struct node_client *client);

uint32_t node_client_node(const struct node_client *client);
const char *node_client_address(const struct node_client *client);
bool node_client_connected(const struct node_client *client);

/* Whether it has let frames lie for a while (window_slow): what others can do as well they should. */
bool node_client_slow(const struct node_client *client, uint64_t now_ms);

/* Queues a part that is in no list: PART_PENDING. SK_OVERLOADED: too many bytes wait (a part that was sent before
 * may pass with `again`); the part is unchanged. */
int node_client_add(struct node_client *client, struct part *part, bool again);

/* Takes a part out of the queue or the list of sent. */
void node_client_remove(struct node_client *client, struct part *part);

/* Sends what is queued as far as the window allows; a few writes may wait some milliseconds for others. Once after each round
 * of the loop. */
void node_client_flush(struct node_client *client, uint64_t now_ms);

/* A frame of answers came with this header. False: it was seen before, and its items are to be ignored. */
bool node_client_on_answers(struct node_client *client, const struct frame_header *header, uint64_t now_ms);

/* The shardd's connection to us broke: answers may be lost, so everything sent is given to lost_cb. */
void node_client_on_answers_lost(struct node_client *client);

/* From time to time: dials again, ends a connection whose window has stalled. */
void node_client_tick(struct node_client *client, uint64_t now_ms);

/* Calls `visit` for each part queued or sent; it may remove that part. */
void node_client_visit(struct node_client *client, void (*visit)(void *arg, struct part *part), void *arg);
