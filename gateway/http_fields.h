/* Header fields of HTTP that need more than a comparison. Pure; the bytes are not trusted. Several fields of one name
 * come as one list with commas. */
#pragma once

#include "libcommon/slice.h"

/* ---- If-Match, If-None-Match (RFC 9110, 13.1) ---- */

#define HTTP_ETAGS_MAX 16u

/* Our ETags are versions of keys: "17". What else stands there is the ETag of nobody here, and version 0, which no key
 * has. */
struct http_etag {
    uint64_t version;
    bool weak;
};

struct http_etags {
    bool given;
    bool any; /* "*" */
    size_t count;
    struct http_etag list[HTTP_ETAGS_MAX];
};

/* False: it is no such list, or has more than HTTP_ETAGS_MAX. */
bool http_etags_read(struct http_etags *etags, struct slice field);

/* Whether a key of that version, 0 = there is none, is meant. `strong`: weak ETags are nobody's (If-Match). */
bool http_etags_match(const struct http_etags *etags, uint64_t version, bool strong);

/* ---- content ---- */

/* How much a type is wanted by Accept, in thousandths; 0: not at all. An empty field wants anything. */
unsigned http_accepts(struct slice accept, const char *type);

/* Whether a Content-Type is `type`, whatever its parameters. */
bool http_type_is(struct slice content_type, const char *type);

/* ---- who asks ---- */

/* The token of "Bearer …"; false: it is of another scheme, or none. */
bool http_bearer(struct slice authorization, struct slice *token);

/* Whether Host cannot be a name that somebody on the internet has made to point here (DNS rebinding): an IP address, a name of one
 * label or below a private domain (.localhost, .local, .internal, .svc), or one of `names`, a list with commas in which "*" is
 * any. */
bool http_host_is_ours(struct slice host, const char *names);

/* Whether Origin, which browsers send, is a page of this very host. */
bool http_origin_is_host(struct slice origin, struct slice host);
