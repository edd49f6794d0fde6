#include "gateway/request.h"

#include "gateway/local.h"
#include "gateway/numbers.h"
#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/mp.h"
#include "libcommon/wait_time.h"

#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_MS_FIRST     5u
#define BACKOFF_MS_MAX       100u
#define REASON_BYTES         160u
#define SPARE_REQUESTS       4096u
#define REPLY_KEPT_BYTES     (1u * 1024 * 1024)
#define REPLY_BYTES_PER_SUB  256u  /* of a reply, kept free for each command's error */
#define UNAUTHORIZED_EACH_MS 1000u /* of messages without a good token one in so long is logged */

/* One message of a client. */
struct request {
    struct requests *owner;
    struct client *client; /* borrowed until the reply, as the bytes */
    struct slice bytes;
    struct message message;
    uint32_t subs_left; /* and one while the message is being started */
    uint64_t came_us, deadline_ms;
    uint64_t wait_until_ms; /* of a blocking command; 0: it is none */
    uint32_t turn;          /* which in-sync replica serves its reads that may be stale */
    uint64_t result_bytes;  /* of the answers so far */
    uint64_t charged_bytes; /* of the arena, without what joining answers takes */
    struct timer timer;
    struct link link; /* in flight, or without a map */
    struct arena arena;
    struct request *next_spare;
};

struct requests {
    struct requests_options options;
    struct arena_pool pool;
    struct message_scratch *scratch; /* owned */
    struct buffer reply;             /* the reply at hand */
    struct numbers numbers;          /* of parts that are not done */
    uint64_t last_number;
    struct list in_flight;
    struct list unmapped;      /* messages that wait for the first map */
    struct list waiting;       /* parts */
    struct list *shard_writes; /* owned: of each shard, parts that write, by number */
    uint32_t shard_count;
    struct request *spare; /* owned */
    uint32_t spare_count;
    uint32_t count, waiting_count;
    bool draining;
    uint32_t turns;
    uint64_t seen, commands_seen;
    uint64_t unauthorized_told_ms; /* 0: never */
};

static void start(struct request *request, uint64_t now_ms);
static void route(struct requests *requests, struct part *part, uint64_t now_ms);
static void part_expire(struct requests *requests, struct part *part);

/* --- making and ending --------------------------------------------------------------------------------------- */

int requests_new(struct requests **out, const struct requests_options *options) {
    struct requests *requests = calloc(1, sizeof *requests);
    if (requests == NULL) return SK_ENOMEM;
    if (message_scratch_new(&requests->scratch) != SK_OK) {
        free(requests);
        return SK_ENOMEM;
    }
    requests->options = *options;
    arena_pool_init(&requests->pool);
    buffer_init(&requests->reply);
    numbers_init(&requests->numbers);
    list_init(&requests->in_flight);
    list_init(&requests->unmapped);
    list_init(&requests->waiting);
    *out = requests;
    return SK_OK;
}

void requests_free(struct requests *requests) {
    if (requests == NULL) return;
    sk_assert(requests->count == 0);
    while (requests->spare != NULL) {
        struct request *request = requests->spare;
        requests->spare = request->next_spare;
        free(request);
    }
    arena_pool_deinit(&requests->pool);
    numbers_deinit(&requests->numbers);
    buffer_deinit(&requests->reply);
    message_scratch_free(requests->scratch);
    free(requests->shard_writes);
    free(requests);
}

static struct request *request_new(struct requests *requests) {
    struct request *request = requests->spare;
    if (request != NULL) {
        requests->spare = request->next_spare;
        requests->spare_count--;
    } else {
        request = malloc(sizeof *request);
        if (request == NULL) return NULL;
    }
    memset(request, 0, offsetof(struct request, arena));
    request->owner = requests;
    arena_init(&request->arena, &requests->pool);
    list_add_last(&requests->in_flight, &request->link);
    requests->count++;
    return request;
}

static void request_free(struct request *request) {
    struct requests *requests = request->owner;
    timer_disarm(requests->options.timers, &request->timer);
    list_remove(&request->link);
    arena_clear(&request->arena);
    requests->count--;
    requests->waiting_count -= request->wait_until_ms != 0;
    if (requests->spare_count >= SPARE_REQUESTS) {
        free(request);
        return;
    }
    request->next_spare = requests->spare;
    requests->spare = request;
    requests->spare_count++;
}

static bool is_gone(const struct request *request) { return request->client->ops->gone(request->client); }

static bool is_write(const struct part *part) { return (part->flags & REQUEST_WRITE) != 0; }

/* --- replies ------------------------------------------------------------------------------------------------- */

static void write_error(struct buffer *reply, int err, struct slice text) {
    if (text.size == 0) text = slice_of_text(error_text(err));
    mp_write_array(reply, 2);
    mp_write_text(reply, error_name(err));
    mp_write_str(reply, text);
}

static void write_reply_head(struct buffer *reply, uint64_t msgid) {
    mp_write_array(reply, 4);
    mp_write_uint(reply, 1);
    mp_write_uint(reply, msgid);
}

/* error and result, as two elements of an array begun before. */
static void write_answer(struct buffer *reply, int err, struct slice result) {
    if (err == SK_OK) {
        mp_write_nil(reply);
        mp_write_raw(reply, result);
    } else {
        write_error(reply, err, result);
        mp_write_nil(reply);
    }
}

/* The whole message is answered with one error. */
static void reply_error(struct requests *requests, struct client *client, uint64_t msgid, int err,
                        struct slice text) {
    struct buffer *reply = &requests->reply;
    tally_refusal(requests->options.tally, err);
    buffer_clear(reply, REPLY_KEPT_BYTES);
    write_reply_head(reply, msgid);
    write_answer(reply, err, text);
    client->ops->reply(client, buffer_slice(reply));
}

/* What came of each command, and how long the message took. */
static void count_answers(const struct request *request) {
    struct tally *tally = request->owner->options.tally;
    const struct message *message = &request->message;
    enum tally_class class = TALLY_LOCAL;
    for (uint32_t i = 0; i < message->sub_count; i++) {
        const struct sub *sub = &message->subs[i];
        int command = sub->command == NULL ? TALLY_INVALID : (int)sub->command->id;
        tally_command(tally, message->atomic ? TALLY_ATOMIC : command, sub->err);
        if (sub->part_count == 0) continue;
        if (is_write(&sub->parts[0])) class = TALLY_WRITE;
        else if (class == TALLY_LOCAL) class = TALLY_READ;
    }
    if (request->wait_until_ms != 0) return; /* it took as long as it was to */
    metrics_observe(&tally->durations[class], clock_boottime_us() - request->came_us, 1);
}

static void finish(struct request *request) {
    struct requests *requests = request->owner;
    const struct message *message = &request->message;
    struct buffer *reply = &requests->reply;
    count_answers(request);
    buffer_clear(reply, REPLY_KEPT_BYTES);
    write_reply_head(reply, message->msgid);
    if (!message->batch || message->atomic) {
        if (message->sub_count == 1) {
            write_answer(reply, message->subs[0].err, message->subs[0].result);
        } else { /* an empty atomic batch */
            mp_write_nil(reply);
            mp_write_array(reply, 0);
        }
    } else {
        mp_write_nil(reply);
        mp_write_array(reply, message->sub_count);
        for (uint32_t i = 0; i < message->sub_count; i++) {
            mp_write_array(reply, 2);
            write_answer(reply, message->subs[i].err, message->subs[i].result);
        }
    }
    struct client *client = request->client;
    if (reply->failed) {
        /* what happened has happened, and its answer is lost: like an answer that did not arrive */
        reply_error(requests, client, message->msgid, SK_TIMEOUT, slice_of_text("out of memory for the answer"));
    } else {
        client->ops->reply(client, buffer_slice(reply));
    }
    request_free(request);
}

/* --- answers of parts ---------------------------------------------------------------------------------------- */

/* R17: until an attempt has failed; then it is a read like others, and the leader's. */
static bool may_be_stale(const struct part *part) { return part->flags == REQUEST_STALE; }

static void forbid_stale(struct part *part) { part->flags &= (uint8_t)~REQUEST_STALE; }

static void sub_answer(struct sub *sub, int err, const char *text) {
    sub->answered = true;
    sub->err = err;
    sub->result = slice_of_text(text);
}

/* A sub is answered: an answer for which the reply has no room is replaced by an error. */
static void sub_done(struct request *request, struct sub *sub) {
    uint64_t room = MESSAGE_BYTES_MAX - 64 - (uint64_t)request->message.sub_count * REPLY_BYTES_PER_SUB;
    if (sub->err == SK_OK) {
        if (request->result_bytes + sub->result.size > room) {
            bool writes = sub->part_count > 0 && is_write(&sub->parts[0]);
            sub_answer(sub, writes ? SK_DONE : SK_TOOLARGE, "the answer does not fit in the reply");
        } else {
            request->result_bytes += sub->result.size;
        }
    } else if (sub->result.size > REPLY_BYTES_PER_SUB - 64) {
        sub->result.size = REPLY_BYTES_PER_SUB - 64;
    }
    if (--request->subs_left == 0) finish(request);
}

/* Takes a part out of everything that holds it. */
static void part_detach(struct requests *requests, struct part *part) {
    if (part->state == PART_PENDING || part->state == PART_SENT) {
        node_client_remove(part->node, part);
    } else {
        list_remove(&part->link);
    }
    list_remove(&part->write_link);
    numbers_remove(&requests->numbers, part->number);
    part->state = PART_DONE;
}

/* Room in the request, counted to its client before it is taken. NULL: out of memory, or too much for the client. */
static void *charged_alloc(struct request *request, size_t size) {
    struct client *client = request->client;
    size_t growth = arena_growth(&request->arena, size);
    if (growth > 0 && !client->ops->charge(client, growth)) return NULL;
    request->charged_bytes += growth;
    return arena_alloc(&request->arena, size);
}

/* Copies an answer into the request, unless the reply is written before the frame goes. */
static void keep_result(struct request *request, struct part *part, int err, struct slice result) {
    part->err = err;
    part->result = result;
    bool now = request->subs_left == 1 && request->message.sub_count == 1 && request->message.part_count == 1;
    if (now || result.size == 0) return;
    uint8_t *copy = charged_alloc(request, result.size);
    if (copy == NULL) {
        if (err == SK_OK) part->err = is_write(part) ? SK_DONE : SK_OVERLOADED;
        part->result = slice_of_text("no room for the answer");
        return;
    }
    memcpy(copy, result.data, result.size);
    part->result = slice_of(copy, result.size);
}

/* The last word on a part. May end the request. */
static void part_done(struct part *part, int err, struct slice result) {
    struct request *request = part->request;
    struct requests *requests = request->owner;
    struct sub *sub = &request->message.subs[part->command];
    part_detach(requests, part);
    keep_result(request, part, err, result);
    if (--sub->parts_left > 0) return;
    struct gateway_facts facts = {0};
    if (sub->command != NULL && sub->command->join == JOIN_INFO) {
        requests->options.facts_cb(requests->options.arg, &facts);
    }
    join_answer(sub, &request->arena, &facts);
    sub_done(request, sub);
}

/* --- routing and retry --------------------------------------------------------------------------------------- */

/* Puts a part that is in no list among those that wait, for the next try or what happens before. */
static void part_wait(struct requests *requests, struct part *part, uint64_t now_ms) {
    part->state = PART_WAITING;
    part->node = NULL;
    metrics_add(&requests->options.tally->retries, 1);
    part->backoff_ms = part->backoff_ms == 0 ? BACKOFF_MS_FIRST : (uint16_t)(part->backoff_ms * 2u);
    if (part->backoff_ms > BACKOFF_MS_MAX) part->backoff_ms = BACKOFF_MS_MAX;
    part->retry_at_ms = now_ms + part->backoff_ms;
    list_add_last(&requests->waiting, &part->link);
}

/* Gives a part its number, once: with the session the name of a write (R10). */
static int part_number(struct requests *requests, struct part *part) {
    if (part->number != 0) return SK_OK;
    int err = numbers_put(&requests->numbers, requests->last_number + 1, part);
    if (err != SK_OK) return err;
    part->number = ++requests->last_number;
    if (is_write(part)) list_add_last(&requests->shard_writes[part->shard], &part->write_link);
    return SK_OK;
}

/* NULL: it is not connected. */
static struct node_client *find_connected(const struct requests *requests, uint32_t id) {
    struct node_client *node = requests->options.node_cb(requests->options.arg, id);
    return node != NULL && node_client_connected(node) ? node : NULL;
}

/* In-sync replicas take turns by message, so that what one reads of many shards is mostly one frame to one node. NULL: none
 * of them is connected and takes what it gets. */
static struct node_client *find_in_sync(const struct requests *requests, const struct part *part,
                                        uint64_t now_ms) {
    uint32_t nodes[MAP_REPLICAS_MAX];
    uint32_t count = router_in_sync(requests->options.router, part->shard, nodes);
    struct node_client *node = NULL;
    for (uint32_t i = 0; node == NULL && i < count; i++) {
        node = find_connected(requests, nodes[(part->request->turn + i) % count]);
        if (node != NULL && node_client_slow(node, now_ms)) node = NULL;
    }
    return node;
}

/* Sends a part that is in no list to where its shard is served, or lets it wait. May end its request. */
static void route(struct requests *requests, struct part *part, uint64_t now_ms) {
    struct route found = {0};
    struct node_client *node = NULL;
    bool led = router_find(requests->options.router, part->shard, &found) == SK_OK;
    if (may_be_stale(part)) node = find_in_sync(requests, part, now_ms);
    if (node == NULL && led) node = find_connected(requests, found.node);
    if (node == NULL) {
        part_wait(requests, part, now_ms);
        return;
    }
    bool again = part->state != PART_NEW;
    if (part->epoch != found.epoch) part->backoff_ms = 0; /* a new leader: if it refuses, it will serve soon */
    if (part_number(requests, part) != SK_OK || node_client_add(node, part, again) != SK_OK) {
        part_done(part, SK_OVERLOADED, slice_of_text("too much waits for the node of the shard"));
    }
}

/* Tries all of `parts` again, which waited and are in no other list. Not for clients that have gone: whoever was closed
 * since it did not read may have left thousands of requests, and after a node's restart all their answers would come
 * before those that somebody waits for. */
static void route_again(struct requests *requests, struct list *parts, uint64_t now_ms) {
    for (struct link *link = list_first(parts); link != NULL; link = list_first(parts)) {
        struct part *part = list_entry(link, struct part, link);
        list_remove(link);
        if (is_gone(part->request)) {
            part_expire(requests, part);
        } else {
            route(requests, part, now_ms);
        }
    }
}

static void route_waiting(struct requests *requests, uint64_t now_ms) {
    struct list parts;
    list_init(&parts);
    list_move_all(&parts, &requests->waiting);
    route_again(requests, &parts, now_ms);
}

static void take_back_visit(void *arg, struct part *part) {
    struct requests *requests = arg;
    if (!may_be_stale(part)) return;
    node_client_remove(part->node, part);
    forbid_stale(part);
    part->state = PART_WAITING;
    part->retry_at_ms = 0;
    list_add_last(&requests->waiting, &part->link);
}

/* R17: a follower that is stopped or cut off keeps its connection for long, and the leader can be asked. */
static void take_back_from_slow(struct requests *requests, uint64_t now_ms) {
    const struct map *map = requests->options.router->map;
    for (uint32_t i = 0; map != NULL && i < map->node_count; i++) {
        struct node_client *node = requests->options.node_cb(requests->options.arg, map->nodes[i].id);
        if (node != NULL && node_client_slow(node, now_ms)) node_client_visit(node, take_back_visit, requests);
    }
}

void requests_tick(struct requests *requests, uint64_t now_ms) {
    struct list due;
    take_back_from_slow(requests, now_ms);
    list_init(&due);
    struct link *link = list_first(&requests->waiting);
    while (link != NULL) {
        struct link *next = list_next(&requests->waiting, link);
        struct part *part = list_entry(link, struct part, link);
        if (part->retry_at_ms <= now_ms) {
            list_remove(link);
            list_add_last(&due, link);
        }
        link = next;
    }
    route_again(requests, &due, now_ms);
}

void requests_on_lost(struct requests *requests, struct list *parts) {
    for (struct link *link = list_first(parts); link != NULL; link = list_first(parts)) {
        struct part *part = list_entry(link, struct part, link);
        list_remove(link);
        if (part->state == PART_SENT) part->lost = true; /* R9: this attempt's fate stays open */
        forbid_stale(part);
        part->state = PART_WAITING;
        part->node = NULL;
        part->retry_at_ms = 0; /* at the next tick, or when the connection is back */
        list_add_last(&requests->waiting, &part->link);
    }
}

void requests_on_connected(struct requests *requests) { route_waiting(requests, clock_boottime_ms()); }

/* Whether the node that a part is at is where the newest map wants it. */
static bool is_well_placed(const struct requests *requests, const struct part *part) {
    const struct router *router = requests->options.router;
    uint32_t node = node_client_node(part->node), nodes[MAP_REPLICAS_MAX];
    struct route found;
    if (may_be_stale(part)) {
        uint32_t count = router_in_sync(router, part->shard, nodes);
        for (uint32_t i = 0; i < count; i++) {
            if (nodes[i] == node) return true;
        }
        return false;
    }
    if (router_find(router, part->shard, &found) != SK_OK || found.node != node) return false;
    return part->state == PART_PENDING || part->epoch == found.epoch;
}

/* A part at a node that does not lead its shard any more, or leads it anew, goes where the map says. */
static void reroute_visit(void *arg, struct part *part) {
    struct requests *requests = arg;
    if (is_well_placed(requests, part)) return;
    enum part_state state = part->state;
    node_client_remove(part->node, part);
    if (state == PART_SENT) part->lost = true;
    part->state = PART_WAITING;
    part->retry_at_ms = 0;
    list_add_last(&requests->waiting, &part->link);
}

void requests_on_map(struct requests *requests, uint64_t now_ms) {
    uint32_t shard_count = router_shard_count(requests->options.router);
    if (shard_count == 0) return;
    if (requests->shard_count == 0) {
        requests->shard_writes = calloc(shard_count, sizeof *requests->shard_writes);
        if (requests->shard_writes == NULL) return; /* the next map tries again */
        for (uint32_t i = 0; i < shard_count; i++) list_init(&requests->shard_writes[i]);
        requests->shard_count = shard_count;
    }
    const struct map *map = requests->options.router->map;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct node_client *node = requests->options.node_cb(requests->options.arg, map->nodes[i].id);
        if (node != NULL) node_client_visit(node, reroute_visit, requests);
    }
    struct list unmapped;
    list_init(&unmapped);
    list_move_all(&unmapped, &requests->unmapped);
    for (struct link *link = list_first(&unmapped); link != NULL; link = list_first(&unmapped)) {
        struct request *request = list_entry(link, struct request, link);
        list_remove(link);
        list_add_last(&requests->in_flight, &request->link);
        start(request, now_ms);
    }
    route_waiting(requests, now_ms);
}

void requests_fill(struct requests *requests, const struct part *part, uint64_t now_ms,
                   struct request_item *item) {
    const struct request *request = part->request;
    struct route found = {0};
    (void)router_find(requests->options.router, part->shard, &found);
    item->number = part->number;
    item->epoch = found.epoch;
    item->map_version = router_map_version(requests->options.router);
    item->shard = part->shard;
    item->timeout_ms = request->deadline_ms > now_ms ? (uint32_t)(request->deadline_ms - now_ms) : 1;
    item->flags = part->flags;
    item->id_part = part->command;
    item->body = part->body;
    if (!is_write(part)) return;
    if (request->wait_until_ms > now_ms) {
        uint64_t left_ms = request->wait_until_ms - now_ms;
        item->flags |= REQUEST_WAITS;
        item->timeout_ms = left_ms < WAIT_SLICE_MS ? (uint32_t)left_ms : WAIT_SLICE_MS;
        item->waited_us = clock_boottime_us() - request->came_us;
        item->follows = part->follows;
    }
    item->id = request->message.id;
    const struct link *oldest = list_first(&requests->shard_writes[part->shard]);
    item->floor = list_entry(oldest, struct part, write_link)->number;
}

/* --- what a shardd says -------------------------------------------------------------------------------------- */

enum verdict {
    VERDICT_FINAL,   /* the client gets it */
    VERDICT_REFUSED, /* this attempt did nothing: try again */
    VERDICT_UNKNOWN, /* this attempt may have done something: try again, under the same name */
};

/* What is true of a command wherever it runs. */
static bool is_of_command(int err) {
    return err == SK_OK || err == SK_BADREQUEST || err == SK_BADVALUE || err == SK_WRONGTYPE ||
           err == SK_TOOLARGE || err == SK_CROSSSLOT;
}

static enum verdict judge(const struct part *part, int err) {
    if (may_be_stale(part) && !is_of_command(err)) return VERDICT_REFUSED;
    switch (err) {
    case SK_NOT_LEADER:
    case SK_STALE_EPOCH:
    case SK_BUSY:
    case SK_RETRY:
    case SK_UNAVAILABLE: /* until the deadline: a shard comes back by itself, and mostly within a second */
        return VERDICT_REFUSED;
    case SK_LOST: /* it was in the log of a leader that leads no more: the next one knows (R8) */
    case SK_TIMEOUT:
        return VERDICT_UNKNOWN;
    case SK_OVERLOADED:
    case SK_DISKFULL:
        /* True of this attempt only. With another whose fate is open the write may still have happened (R9), so
         * the name is asked about until there is an answer. */
        return part->lost && is_write(part) ? VERDICT_REFUSED : VERDICT_FINAL;
    default:
        return VERDICT_FINAL;
    }
}

static bool is_nil(struct slice result) { return result.size == 1 && result.data[0] == 0xc0; }

/* A slice of waiting has ended without anything. Its name has done nothing and is not used again; the next has its own. */
static void go_on_waiting(struct requests *requests, struct part *part, struct slice nil) {
    struct request *request = part->request;
    uint64_t now_ms = clock_boottime_ms();
    bool over = request->wait_until_ms <= now_ms;
    if (over || is_gone(request)) {
        part_done(part, SK_OK, nil);
    } else if (requests->draining) {
        part_done(part, SK_UNAVAILABLE, slice_of_text("the gateway is stopping"));
    } else {
        part_detach(requests, part);
        part->follows = part->number;
        part->number = 0;
        part->lost = false;
        part->backoff_ms = 0;
        part->state = PART_WAITING;
        route(requests, part, now_ms);
    }
}

void requests_on_answer(struct requests *requests, uint32_t node, const struct answer_item *item) {
    if (item->map_version > router_map_version(requests->options.router)) {
        requests->options.refresh_cb(requests->options.arg, router_map_version(requests->options.router));
    }
    struct part *part = numbers_get(&requests->numbers, item->number);
    if (part == NULL) return;
    int err = item->err;
    enum verdict verdict = judge(part, err);
    /* a code between daemons that means nothing here must not reach the client */
    if (verdict == VERDICT_FINAL && err != SK_OK && !error_is_for_clients(err)) err = SK_INTERNAL;
    /* Only the newest attempt can be refused; an older one's refusal says nothing about it. But what the name has
     * done is true whoever says it, and what a read has found. */
    bool newest = part->state == PART_SENT && node_client_node(part->node) == node;
    bool refusal =
        verdict != VERDICT_FINAL || (err != SK_OK && (error_outcome(err) == SK_NOT_DONE || !is_write(part)));
    bool nothing = err == SK_OK && part->request->wait_until_ms != 0 && is_nil(item->body);
    if ((refusal || nothing) && !newest) return; /* the name may be with another shard by now */
    if (nothing) {
        go_on_waiting(requests, part, item->body);
        return;
    }
    if (verdict == VERDICT_FINAL) {
        part_done(part, err, item->body);
        return;
    }
    if (verdict == VERDICT_UNKNOWN) part->lost = true;
    part->err = err;
    node_client_remove(part->node, part);
    if (may_be_stale(part)) { /* at once: from now on it is the leader's */
        forbid_stale(part);
        route(requests, part, clock_boottime_ms());
    } else {
        part_wait(requests, part, clock_boottime_ms());
    }
}

/* --- deadlines ----------------------------------------------------------------------------------------------- */

/* Why a part that was refused or never left has not been served. */
static void explain(const struct requests *requests, const struct part *part, char reason[REASON_BYTES]) {
    const struct router *router = requests->options.router;
    struct route found;
    if (router_shard_count(router) == 0) {
        (void)snprintf(reason, REASON_BYTES, "no shard map yet");
        return;
    }
    if (router_find(router, part->shard, &found) != SK_OK) {
        (void)snprintf(reason, REASON_BYTES, "shard %u has no leader", part->shard);
        return;
    }
    struct node_client *node = requests->options.node_cb(requests->options.arg, found.node);
    if (node == NULL || !node_client_connected(node)) {
        (void)snprintf(reason, REASON_BYTES, "node %u is not connected", found.node);
    } else if (part->err != SK_OK) {
        (void)snprintf(reason, REASON_BYTES, "node %u refused for shard %u: %s", found.node, part->shard,
                       error_text(part->err));
    } else {
        (void)snprintf(reason, REASON_BYTES, "node %u takes no frames", found.node);
    }
}

/* R9: an attempt of a write without a definite refusal leaves it open. A read whose last attempt was refused has surely
 * not been served, whatever became of those before. */
static void part_expire(struct requests *requests, struct part *part) {
    char *reason = arena_alloc(&part->request->arena, REASON_BYTES);
    bool open = part->state == PART_SENT || (part->lost && is_write(part));
    if (reason != NULL && open) {
        (void)snprintf(reason, REASON_BYTES, "no definite answer for shard %u before the deadline", part->shard);
    } else if (reason != NULL) {
        explain(requests, part, reason);
    }
    part_done(part, open ? SK_TIMEOUT : SK_UNAVAILABLE, slice_of_text(reason == NULL ? "" : reason));
}

static void request_expire(struct request *request) {
    struct requests *requests = request->owner;
    const struct message *message = &request->message;
    if (request->subs_left == 0) { /* without a map: nothing was started */
        uint64_t msgid = message->msgid;
        struct client *client = request->client;
        request_free(request);
        reply_error(requests, client, msgid, SK_UNAVAILABLE, slice_of_text("no shard map yet"));
        return;
    }
    request->subs_left++; /* it lives until the walk is over */
    for (uint32_t i = 0; i < message->sub_count; i++) {
        struct sub *sub = &message->subs[i];
        for (uint32_t j = 0; !sub->answered && j < sub->part_count; j++) {
            if (sub->parts[j].state != PART_DONE) part_expire(requests, &sub->parts[j]);
        }
    }
    if (--request->subs_left == 0) finish(request);
}

void requests_on_timer(struct requests *requests, struct timer *timer, uint64_t now_ms) {
    (void)requests;
    struct request *request = list_entry(timer, struct request, timer);
    if (request->deadline_ms > now_ms) {
        timer_arm(requests->options.timers, timer, request->deadline_ms);
        return;
    }
    request_expire(request);
}

void requests_expire_all(struct requests *requests) {
    struct list *lists[] = {&requests->unmapped, &requests->in_flight};
    for (size_t i = 0; i < 2; i++) {
        while (!list_empty(lists[i])) request_expire(list_entry(list_first(lists[i]), struct request, link));
    }
}

/* --- a message comes ----------------------------------------------------------------------------------------- */

static void answer_locally(struct request *request, struct sub *sub) {
    struct buffer result;
    const char *text = "";
    buffer_init(&result);
    int err = local_answer(sub, clock_realtime_us(), &result, &text);
    uint8_t *copy = err != SK_OK || result.failed ? NULL : charged_alloc(request, result.size);
    if (copy != NULL) {
        memcpy(copy, result.data, result.size);
        sub->answered = true;
        sub->err = SK_OK;
        sub->result = slice_of(copy, result.size);
    } else {
        sub_answer(sub, err == SK_OK ? SK_OVERLOADED : err, err == SK_OK ? "no room for the answer" : text);
    }
    buffer_deinit(&result);
}

/* Answers what needs no shard and sends the rest. Ends the request if nothing is left. */
static void dispatch(struct request *request, uint64_t now_ms) {
    struct requests *requests = request->owner;
    struct message *message = &request->message;
    request->subs_left = message->sub_count + 1; /* it lives until the walk is over */
    request->turn = requests->turns++;
    for (uint32_t i = 0; i < message->sub_count; i++) {
        struct sub *sub = &message->subs[i];
        if (sub->part_count == 0) {
            if (!sub->answered) answer_locally(request, sub);
            sub_done(request, sub);
            continue;
        }
        for (uint32_t j = 0; j < sub->part_count; j++) {
            sub->parts[j].request = request;
            route(requests, &sub->parts[j], now_ms);
        }
    }
    if (--request->subs_left == 0) finish(request);
}

/* Once a second, with how many there have been: before the reply, after which the client is no more. */
static void note_unauthorized(struct requests *requests, const struct client *client, uint64_t now_ms) {
    uint64_t told_ms = requests->unauthorized_told_ms;
    uint64_t count = metrics_get(&requests->options.tally->refused[SK_NOAUTH]) + 1;
    char name[PEER_NAME_BYTES];
    if (told_ms != 0 && now_ms < told_ms + UNAUTHORIZED_EACH_MS) return;
    requests->unauthorized_told_ms = now_ms;
    client->ops->name(client, name);
    log_event(LOG_WARNING, "unauthorized", "from=%s requests=%llu", name, (unsigned long long)count);
}

/* When it has to be answered. False: as many wait as may. */
static bool set_times(struct request *request, uint64_t now_ms) {
    struct requests *requests = request->owner;
    const struct message *message = &request->message;
    uint32_t timeout_ms = message->timeout_ms != 0 ? message->timeout_ms : requests->options.timeout_ms;
    request->deadline_ms = now_ms + timeout_ms;
    if (message->wait_ms == 0) return true;
    if (requests->waiting_count >= requests->options.waiting_max) return false;
    requests->waiting_count++;
    uint64_t wait_ms =
        message->wait_ms < WAIT_FOR_EVER / 2 ? message->wait_ms : WAIT_FOR_EVER / 2; /* no sum overflows */
    request->wait_until_ms = now_ms + wait_ms;
    request->deadline_ms += wait_ms;
    return true;
}

/* Parses with the map there is and dispatches; without one, whatever needs shards waits. */
static void start(struct request *request, uint64_t now_ms) {
    struct requests *requests = request->owner;
    struct message *message = &request->message;
    bool mapped = requests->shard_count != 0;
    struct client *client = request->client;
    int err = message_parse(message, request->bytes, mapped ? requests->shard_count : 1,
                            client->proven ? NULL : requests->options.tokens, &request->arena, requests->scratch);
    uint64_t held = request->arena.held_bytes;
    bool fits = held <= request->charged_bytes || client->ops->charge(client, held - request->charged_bytes);
    if (err == SK_OK && !fits) {
        err = SK_OVERLOADED;
        message->error = "";
    }
    if (err != SK_OK) {
        if (err == SK_NOAUTH) note_unauthorized(requests, client, now_ms);
        reply_error(requests, client, message->msgid, err, slice_of_text(message->error));
        request_free(request);
        return;
    }
    request->charged_bytes = held > request->charged_bytes ? held : request->charged_bytes;
    if (request->deadline_ms == 0 && !set_times(request, now_ms)) {
        reply_error(requests, request->client, message->msgid, SK_OVERLOADED,
                    slice_of_text("too many clients wait"));
        request_free(request);
        return;
    }
    if (message->part_count > 0 && !link_in_list(&request->timer.link)) {
        timer_arm(requests->options.timers, &request->timer, request->deadline_ms);
    }
    if (message->part_count > 0 && !mapped) {
        arena_clear(&request->arena);
        message->subs = NULL;
        message->sub_count = 0;
        request->subs_left = 0;
        list_remove(&request->link);
        list_add_last(&requests->unmapped, &request->link);
        return;
    }
    uint32_t commands = message->batch && !message->atomic ? message->sub_count : 1;
    requests->commands_seen += commands;
    metrics_add(&requests->options.tally->door_commands[client->ops->door], commands);
    dispatch(request, now_ms);
}

/* Best effort: the msgid of a message that is refused unread. */
static uint64_t peek_msgid(struct slice bytes) {
    struct mp_reader reader = mp_reader_of(bytes);
    uint32_t count;
    uint64_t kind, msgid;
    bool readable = mp_read_array(&reader, &count) == SK_OK && count >= 2 &&
                    mp_read_uint(&reader, &kind) == SK_OK && mp_read_uint(&reader, &msgid) == SK_OK;
    return readable ? msgid : 0;
}

void requests_take(struct requests *requests, struct client *client, struct slice bytes, int err,
                   uint64_t now_ms) {
    requests->seen++;
    metrics_add(&requests->options.tally->requests[client->ops->door], 1);
    if (requests->draining) {
        reply_error(requests, client, peek_msgid(bytes), SK_UNAVAILABLE, slice_of_text("the gateway is stopping"));
        return;
    }
    struct request *request = err == SK_OK ? request_new(requests) : NULL;
    if (request == NULL) {
        reply_error(requests, client, peek_msgid(bytes), SK_OVERLOADED, slice_of_text(""));
        return;
    }
    request->client = client;
    request->bytes = bytes;
    request->came_us = clock_boottime_us();
    start(request, now_ms);
}

void requests_drain(struct requests *requests) { requests->draining = true; }

uint32_t requests_in_flight(const struct requests *requests) { return requests->count; }

uint32_t requests_waiting(const struct requests *requests) { return requests->waiting_count; }

uint64_t requests_seen(const struct requests *requests) { return requests->seen; }

uint64_t requests_commands_seen(const struct requests *requests) { return requests->commands_seen; }
