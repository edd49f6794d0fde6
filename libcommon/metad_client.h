/* Requests to metad: MessagePack-RPC over nng REQ, [0, msgid, method, params] and [1, msgid, error, result], error
 * being nil or [code, text]. Tries the given addresses in turn and follows NOT_LEADER answers to the leader that they
 * name. REQ's own resending is off (docs/replication.md, R10); whoever calls decides about repeating. One call at a
 * time: a client belongs to one thread. */
#pragma once

#include "buffer.h"

struct metad_client;

/* `addresses` (cluster_net.h): separated by commas, e.g. "tcp://metad:7100". SK_ECONFIG (not an address), SK_ENOMEM. */
int metad_client_new(struct metad_client **client, const char *addresses);
void metad_client_free(struct metad_client *client);

/* Waits for a connection while there is time, so that a call made while metad starts succeeds. `result` (may be NULL)
 * is overwritten; `text` is "" on SK_OK. SK_NOT_LEADER, SK_RETRY: no leader is known now, or it is not ready; surely not done.
 * `params`: one encoded MessagePack array. On SK_OK `result` holds the encoded result. An error answered by metad is
 * returned as its code and `text` (of `text_bytes`) says why. SK_ETIMEDOUT, SK_ENET: no answer; it may have happened. Of several
 * servers one that is silent does not use up all the time: the next call goes to another. */
int metad_client_call(struct metad_client *client, const char *method, struct slice params, uint32_t timeout_ms,
                      struct buffer *result, char *text, size_t text_bytes);

/* Any thread: a running call and all later ones return SK_ECLOSED at once. */
void metad_client_cancel(struct metad_client *client);
