/* A request of the HTTP door, from its head to its answer: what is wrong with it, the message of the contract
 * (gateway/message.h) that it becomes, and what the reply to that becomes. Pure; no byte is trusted.
 *
 *   GET /v1/keys/{key}     VGET key: value, version and time to live at one moment
 *   PUT /v1/keys/{key}     EXEC of SET and VERSION, so that the answer has the new ETag
 *   DELETE /v1/keys/{key}  DEL
 *   GET /v1/keys           SCAN
 *   POST /v1/commands      what its JSON says (gateway/json_command.h)
 *
 * A key's ETag is its version. If-Match with one has the EXEC of a PUT or DELETE watch for it. */
#pragma once

#include "gateway/http_fields.h"
#include "gateway/http_place.h"
#include "gateway/json_command.h"
#include "libcommon/http.h"

struct tokens;

enum http_head_field {
    FIELD_HOST,
    FIELD_ORIGIN,
    FIELD_ACCEPT,
    FIELD_CONTENT_TYPE,
    FIELD_CONTENT_ENCODING,
    FIELD_CONTENT_RANGE,
    FIELD_CONTENT_LENGTH,
    FIELD_AUTHORIZATION,
    FIELD_IF_MATCH,
    FIELD_IF_NONE_MATCH,
    FIELD_IDEMPOTENCY_KEY,
    FIELD_COUNT,
};

extern const char *const http_head_names[FIELD_COUNT];

/* The head as it came; borrowed. */
struct http_head {
    const char *method, *target;
    struct buffer fields[FIELD_COUNT];
    size_t counts[FIELD_COUNT]; /* how many of that name; 0: none */
    bool certified;             /* the client has shown a certificate */
};

/* Who is let in. */
struct http_rules {
    const char *closed;          /* why nobody is; NULL: the door is open */
    bool certificates;           /* only with one */
    const struct tokens *tokens; /* only with one of them; NULL: without, but then Host is looked at */
    const char *hosts;           /* further names of this host (http_host_is_ours) */
    uint64_t message_bytes_max;  /* of a body */
};

enum http_verb { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_DELETE, HTTP_POST, HTTP_OTHER };

/* What the answer says whose reply need not be asked for. */
enum http_refusal {
    REFUSED_NOT,
    REFUSED_PROBLEM, /* of HTTP */
    REFUSED_ERROR,   /* of the contract */
    REFUSED_TOKEN,   /* the same, but the loop says so, and counts it */
};

struct http_call {
    struct http_place place; /* owned, as all buffers */
    enum http_verb verb;
    struct http_etags if_match, if_none_match;
    bool as_json; /* a key's value */
    struct buffer id, token;
    struct json_command command;
    uint64_t message_bytes_max;

    enum http_refusal refusal;
    int refused_with;    /* enum http_problem, or an error of the contract */
    const char *methods; /* for Allow; NULL: not that */
    const char *types;   /* for Accept; NULL: not that */
    char text[200];
};

/* Looks at the head. */
void http_call_init(struct http_call *call, const struct http_head *head, const struct http_rules *rules);
void http_call_deinit(struct http_call *call);

/* How much of a body is wanted; 0: it is of no interest, and whatever comes is dropped. */
uint64_t http_call_body_max(const struct http_call *call);

/* What exceeding it is told as; and whether the head has told that it will be. */
const char *http_call_length_text(const struct http_call *call);
bool http_call_is_too_long(const struct http_call *call);

/* From now on the answer is this error, unless nothing was to be asked anyway. */
void http_call_refuse(struct http_call *call, int err, const char *text);

/* Whether there is something to ask: the answer needs the reply to a message. */
bool http_call_asks(const struct http_call *call);

/* Whether the client has proved that it may: the message needs no token. */
bool http_call_is_proven(const struct http_call *call);

/* Appends the message. Where the body is not what it must be, there is none, and http_call_asks says so afterwards. */
void http_call_message(struct http_call *call, struct slice body, struct buffer *message);

/* The answer, from the reply where there is one. */
void http_call_answer(const struct http_call *call, struct slice reply, struct http_answer *answer);
