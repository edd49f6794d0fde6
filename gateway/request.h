/* The life of clients' messages: taken apart, sent to shards, sent again until there is a definite answer or the
 * deadline, joined, answered. Knows doors only as struct client. The loop thread only.
 *
 * A part's states (enum part_state):
 *
 *   NEW ──route──▶ PENDING ──frame──▶ SENT ──answer──▶ DONE
 *    │               │ ▲               │
 *    │     lost node │ │ retry         │ refused, or lost (then `lost` stays set)
 *    └──no route──▶ WAITING ◀──────────┘            and from every state ──deadline──▶ DONE
 *
 * A write is sent again under its name, so it takes effect once (R10). What it is answered at the deadline is R9:
 * UNAVAILABLE only if each attempt was refused or never left; else TIMEOUT. Nothing is sent again for a client that has
 * gone: it ends as at its deadline.
 *
 * A blocking command waits at the shard in slices (WAIT_SLICE_MS), of which each has a name of its own: an answer of nil says
 * that one has surely taken nothing. As long as its client is there and has time, the next is asked for. What it waits does not
 * count as its time to be served: its deadline comes timeout_ms later. */
#pragma once

#include "gateway/client.h"
#include "gateway/join.h"
#include "gateway/node_client.h"
#include "gateway/router.h"
#include "gateway/tally.h"
#include "gateway/timer.h"

struct requests;

struct requests_options {
    struct timer_wheel *timers;  /* borrowed */
    const struct router *router; /* borrowed */
    struct tally *tally;         /* borrowed */
    uint32_t timeout_ms;         /* of messages that do not say one */
    uint32_t waiting_max;        /* messages that wait by a blocking command; beyond: OVERLOADED */
    const struct tokens
        *tokens; /* borrowed: every message shows one of them, unless its client has; NULL: none need */
    void *arg;
    /* The connection to a node; NULL: none is known. */
    struct node_client *(*node_cb)(void *arg, uint32_t node);
    /* Someone's map is newer than `version`. */
    void (*refresh_cb)(void *arg, uint64_t version);
    /* Of the gateway, for INFO. */
    void (*facts_cb)(void *arg, struct gateway_facts *facts);
};

int requests_new(struct requests **requests, const struct requests_options *options); /* SK_ENOMEM */
void requests_free(struct requests *requests);                                        /* none is in flight */

/* A message of `client`; `bytes` stay valid until its reply. `err`: SK_OK, or SK_OVERLOADED if it is to be refused. */
void requests_take(struct requests *requests, struct client *client, struct slice bytes, int err, uint64_t now_ms);

/* The router has a newer map. */
void requests_on_map(struct requests *requests, uint64_t now_ms);

/* What a node_client's callbacks ask for and tell. */
void requests_fill(struct requests *requests, const struct part *part, uint64_t now_ms, struct request_item *item);
void requests_on_lost(struct requests *requests, struct list *parts);
void requests_on_connected(struct requests *requests);

/* An answer from `node`. Late ones and repetitions are ignored. */
void requests_on_answer(struct requests *requests, uint32_t node, const struct answer_item *item);

/* A timer of the wheel has fired; all of them are of messages. */
void requests_on_timer(struct requests *requests, struct timer *timer, uint64_t now_ms);

/* Tries again what has waited long enough. Each tick. */
void requests_tick(struct requests *requests, uint64_t now_ms);

/* From now on messages are answered UNAVAILABLE. */
void requests_drain(struct requests *requests);

/* Ends all that is in flight as at its deadline. */
void requests_expire_all(struct requests *requests);

uint32_t requests_in_flight(const struct requests *requests);
uint32_t requests_waiting(const struct requests *requests); /* of those, the ones of blocking commands */
uint64_t requests_seen(const struct requests *requests);
uint64_t requests_commands_seen(const struct requests *requests);
