/* What a request of the HTTP door is for: the path and query of its first line, as they came. Pure; the bytes are not
 * trusted.
 *
 *   /v1/keys/{key}      ttl_ms, keep_ttl, timeout_ms, read
 *   /v1/keys            prefix, cursor, limit, timeout_ms, read
 *   /v1/commands        timeout_ms, read
 *   /v1/openapi.json
 *
 * A key is all that follows, slashes too, with %XX for any byte; so /v1/keys/ is the empty key. In the query + is a space. */
#pragma once

#include "libcommon/buffer.h"

#define HTTP_PREFIX        "/v1/"
#define HTTP_LIMIT_DEFAULT 100u

enum http_resource { HTTP_NOWHERE, HTTP_KEY, HTTP_KEYS, HTTP_COMMANDS, HTTP_OPENAPI };

struct http_place {
    enum http_resource resource;
    struct buffer key;    /* of HTTP_KEY; owned, as the next */
    struct buffer prefix; /* of HTTP_KEYS */
    uint64_t cursor;
    uint32_t limit;
    uint64_t ttl_ms; /* 0: not given */
    bool keep_ttl;
    uint32_t timeout_ms; /* 0: not given */
    bool follower_reads;
    const char *error; /* static: what is wrong; the resource is known all the same */
};

/* SK_OK; SK_BADREQUEST, SK_TOOLARGE with `error`; SK_ENOMEM. */
int http_place_init(struct http_place *place, const char *target);
void http_place_deinit(struct http_place *place);
