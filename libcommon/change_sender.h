/* Changes of shards' records on their way to metad (shard_change.h). Whoever wants one adds it; one thread sends what has
 * gathered in one request, and the next when that is answered or lost. So a change never waits for a heartbeat, nor a
 * heartbeat for a change, and many at once are one request. What metad has not answered is sent again for a second, and then
 * forgotten: whoever asked sees a newer map, or asks again. */
#pragma once

#include "shard_change.h"

struct change_sender;

struct change_sender_options {
    const char *metad_addresses; /* nng URLs, comma-separated; borrowed until close */
    uint8_t store_id[16];
    void *arg;
    /* On the sender's thread, after each request. `map_version`: metad's map has at least this; 0 = not known (refused as a
     * whole, or lost: then it may have happened). */
    void (*done_cb)(void *arg, uint64_t map_version);
};

/* Starts the thread; it connects to metad when the first change comes. SK_ENOMEM. */
int change_sender_open(struct change_sender **sender, const struct change_sender_options *options);

/* Any thread: who asks, from now on. */
void change_sender_identify(struct change_sender *sender, uint32_t node_id, uint64_t incarnation);

/* Any thread; copies. One for each shard is kept: a later one takes the place of one that has not left, since both were
 * decided on the same record or the earlier one on an older. Dropped before change_sender_identify, and out of memory. */
void change_sender_add(struct change_sender *sender, const struct shard_change *change);

/* Stops and joins the thread; what has not left never does. */
void change_sender_stop(struct change_sender *sender);

/* change_sender_stop, if that was not called, and frees. NULL is allowed. */
void change_sender_close(struct change_sender *sender);
