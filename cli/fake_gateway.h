/* For tests: a gateway on a free port of the loopback that answers what the test says. */
#pragma once

#include "libcommon/buffer.h"

struct fake_gateway;

/* On the fake's thread, one request at a time. What is appended to `reply` is sent; nothing appended closes the
 * connection that the request came on. */
typedef void (*fake_answer_cb)(void *arg, struct slice request, struct buffer *reply);

/* NULL when it cannot be set up. */
struct fake_gateway *fake_gateway_new(fake_answer_cb answer_cb, void *arg);
void fake_gateway_free(struct fake_gateway *fake);

const char *fake_gateway_address(const struct fake_gateway *fake);

/* Reads a request: its msgid, method and the encoded params and options (empty: none). False when it is malformed.
 */
struct fake_request {
    uint64_t msgid;
    struct slice method, params, options;
};

bool fake_request_read(struct slice request, struct fake_request *read);

/* Appends [1, msgid, nil, and the caller appends the result. */
void fake_reply_begin(struct buffer *reply, uint64_t msgid);
void fake_reply_error(struct buffer *reply, uint64_t msgid, const char *code, const char *text);
