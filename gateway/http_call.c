#include "gateway/http_call.h"

#include "gateway/http_problem.h"
#include "gateway/openapi_file.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/secret.h"

#include <inttypes.h>
#include <stdio.h>

#define JSON_TYPE  "application/json"
#define BYTES_TYPE "application/octet-stream"

const char *const http_head_names[FIELD_COUNT] = {
    [FIELD_HOST] = "Host",
    [FIELD_ORIGIN] = "Origin",
    [FIELD_ACCEPT] = "Accept",
    [FIELD_CONTENT_TYPE] = "Content-Type",
    [FIELD_CONTENT_ENCODING] = "Content-Encoding",
    [FIELD_CONTENT_RANGE] = "Content-Range",
    [FIELD_CONTENT_LENGTH] = "Content-Length",
    [FIELD_AUTHORIZATION] = "Authorization",
    [FIELD_IF_MATCH] = "If-Match",
    [FIELD_IF_NONE_MATCH] = "If-None-Match",
    [FIELD_IDEMPOTENCY_KEY] = "Idempotency-Key",
};

static struct slice field_of(const struct http_head *head, enum http_head_field field) {
    return buffer_slice(&head->fields[field]);
}

/* ---- refusals ---- */

static bool refuse(struct http_call *call, enum http_refusal refusal, int with, const char *text) {
    call->refusal = refusal;
    call->refused_with = with;
    (void)snprintf(call->text, sizeof call->text, "%s", text);
    return false;
}

static bool problem(struct http_call *call, enum http_problem with, const char *text) {
    return refuse(call, REFUSED_PROBLEM, with, text);
}

static bool bad(struct http_call *call, const char *text) {
    return refuse(call, REFUSED_ERROR, SK_BADREQUEST, text);
}

void http_call_refuse(struct http_call *call, int err, const char *text) {
    if (http_call_asks(call)) (void)refuse(call, REFUSED_ERROR, err, text);
}

bool http_call_asks(const struct http_call *call) {
    return call->refusal == REFUSED_TOKEN ||
           (call->refusal == REFUSED_NOT && call->place.resource != HTTP_OPENAPI);
}

bool http_call_is_proven(const struct http_call *call) { return call->refusal != REFUSED_TOKEN; }

/* ---- the head: each check answers whether the next one is of interest ---- */

static bool check_door(struct http_call *call, const struct http_head *head, const struct http_rules *rules) {
    struct slice host = field_of(head, FIELD_HOST);
    if (rules->closed != NULL) return problem(call, PROBLEM_FORBIDDEN, rules->closed);
    if (rules->certificates && !head->certified) {
        return problem(call, PROBLEM_FORBIDDEN, "a certificate is needed that the CA has signed");
    }
    if (rules->tokens == NULL && !http_host_is_ours(host, rules->hosts)) {
        return problem(call, PROBLEM_MISDIRECTED,
                       "without tokens the door answers to addresses, names of one label, and --http-hosts");
    }
    if (head->counts[FIELD_ORIGIN] > 0 && !http_origin_is_host(field_of(head, FIELD_ORIGIN), host)) {
        return problem(call, PROBLEM_FORBIDDEN, "pages of other origins may not use this door");
    }
    return true;
}

static enum http_verb verb_of(const char *method) {
    static const char *const names[] = {[HTTP_GET] = "GET",
                                        [HTTP_HEAD] = "HEAD",
                                        [HTTP_PUT] = "PUT",
                                        [HTTP_DELETE] = "DELETE",
                                        [HTTP_POST] = "POST"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(method, names[i]) == 0) return (enum http_verb)i;
    }
    return HTTP_OTHER;
}

static bool check_place(struct http_call *call) {
    static const char *const methods[] = {[HTTP_KEY] = "GET, HEAD, PUT, DELETE",
                                          [HTTP_KEYS] = "GET, HEAD",
                                          [HTTP_COMMANDS] = "POST",
                                          [HTTP_OPENAPI] = "GET, HEAD"};
    bool reads = call->verb == HTTP_GET || call->verb == HTTP_HEAD;
    bool known = false;
    switch (call->place.resource) {
    case HTTP_NOWHERE:
        return problem(call, PROBLEM_NOT_FOUND, "no such resource; /v1/openapi.json says which there are");
    case HTTP_KEY:
        known = reads || call->verb == HTTP_PUT || call->verb == HTTP_DELETE;
        break;
    case HTTP_KEYS:
    case HTTP_OPENAPI:
        known = reads;
        break;
    case HTTP_COMMANDS:
        known = call->verb == HTTP_POST;
        break;
    }
    if (known) return true;
    call->methods = methods[call->place.resource];
    return problem(call, PROBLEM_METHOD, call->methods);
}

/* The description of the door is for all who come as far. */
static bool check_token(struct http_call *call, const struct http_head *head, const struct http_rules *rules) {
    struct slice token;
    if (rules->tokens == NULL || call->place.resource == HTTP_OPENAPI) return true;
    if (http_bearer(field_of(head, FIELD_AUTHORIZATION), &token)) {
        if (tokens_match(rules->tokens, token)) return true;
        buffer_append(&call->token, token.data, token.size);
    }
    return refuse(call, REFUSED_TOKEN, SK_NOAUTH, "");
}

static bool check_query(struct http_call *call, int err) {
    if (err != SK_OK) {
        return refuse(call, REFUSED_ERROR, err == SK_ENOMEM ? SK_OVERLOADED : err,
                      err == SK_ENOMEM ? "out of memory" : call->place.error);
    }
    if (call->verb != HTTP_PUT && (call->place.ttl_ms != 0 || call->place.keep_ttl)) {
        return bad(call, "ttl_ms and keep_ttl are for PUT");
    }
    return true;
}

/* Which representation there will be. */
static bool check_accept(struct http_call *call, const struct http_head *head) {
    struct slice accept = field_of(head, FIELD_ACCEPT);
    unsigned json = http_accepts(accept, JSON_TYPE);
    unsigned bytes = http_accepts(accept, BYTES_TYPE);
    if (call->place.resource != HTTP_KEY) {
        return json > 0 || problem(call, PROBLEM_NOT_ACCEPTABLE, "there is " JSON_TYPE);
    }
    if (call->verb == HTTP_PUT || call->verb == HTTP_DELETE) return true; /* nothing is represented */
    call->as_json = json > bytes;
    return json > 0 || bytes > 0 ||
           problem(call, PROBLEM_NOT_ACCEPTABLE, "there are " BYTES_TYPE " and " JSON_TYPE);
}

static bool check_content(struct http_call *call, const struct http_head *head) {
    struct slice encoding = field_of(head, FIELD_CONTENT_ENCODING);
    if (call->verb != HTTP_PUT && call->verb != HTTP_POST) return true;
    if (encoding.size > 0 && !http_type_is(encoding, "identity")) {
        return problem(call, PROBLEM_MEDIA_TYPE, "bodies with a Content-Encoding are not taken");
    }
    if (head->counts[FIELD_CONTENT_RANGE] > 0) { /* or a part would take the place of the whole (RFC 9110, 14.5) */
        return bad(call, "parts of values, with a Content-Range, are not taken");
    }
    if (call->verb == HTTP_PUT || http_type_is(field_of(head, FIELD_CONTENT_TYPE), JSON_TYPE)) return true;
    call->types = JSON_TYPE; /* which a browser's form cannot send without asking first */
    return problem(call, PROBLEM_MEDIA_TYPE, "the Content-Type is not " JSON_TYPE);
}

static bool check_conditions(struct http_call *call, const struct http_head *head) {
    struct http_etags *match = &call->if_match, *none = &call->if_none_match;
    bool given = head->counts[FIELD_IF_MATCH] > 0, none_given = head->counts[FIELD_IF_NONE_MATCH] > 0;
    if (call->place.resource != HTTP_KEY) return true;
    if (given && !http_etags_read(match, field_of(head, FIELD_IF_MATCH))) {
        return bad(call, "If-Match is not * or a list of up to 16 ETags");
    }
    if (none_given && !http_etags_read(none, field_of(head, FIELD_IF_NONE_MATCH))) {
        return bad(call, "If-None-Match is not * or a list of up to 16 ETags");
    }
    if (call->verb == HTTP_GET || call->verb == HTTP_HEAD) return true;
    if (none_given && (given || !none->any || call->verb == HTTP_DELETE)) {
        return bad(call, "If-None-Match of what writes is * of a PUT, without If-Match");
    }
    if (!given || match->any) return true;
    if (match->count > 1) return bad(call, "If-Match of what writes is * or one ETag");
    return (match->list[0].version != 0 && !match->list[0].weak) ||
           problem(call, PROBLEM_PRECONDITION, "the ETag of If-Match is none that was answered here");
}

/* "abc" in quotes, as the draft of the field wants it, or abc. */
static bool take_id(struct http_call *call, const struct http_head *head) {
    struct slice id = field_of(head, FIELD_IDEMPOTENCY_KEY);
    bool writes = call->verb == HTTP_PUT || call->verb == HTTP_DELETE || call->verb == HTTP_POST;
    if (head->counts[FIELD_IDEMPOTENCY_KEY] == 0 || !writes) return true;
    if (id.size >= 2 && id.data[0] == '"' && id.data[id.size - 1] == '"') id = slice_of(id.data + 1, id.size - 2);
    if (head->counts[FIELD_IDEMPOTENCY_KEY] > 1) return bad(call, "there is more than one Idempotency-Key");
    if (id.size == 0 || id.size > ID_BYTES_MAX) return bad(call, "the Idempotency-Key is not of 1 to 64 bytes");
    buffer_append(&call->id, id.data, id.size);
    return true;
}

static bool check_length(struct http_call *call, const struct http_head *head) {
    struct slice digits = field_of(head, FIELD_CONTENT_LENGTH);
    uint64_t length = 0;
    for (size_t i = 0; i < digits.size && digits.data[i] >= '0' && digits.data[i] <= '9'; i++) {
        if (length < UINT64_MAX / 16) length = length * 10 + (uint64_t)(digits.data[i] - '0');
    }
    uint64_t most = http_call_body_max(call);
    if (most == 0 || length <= most) return true;
    return refuse(call, REFUSED_ERROR, SK_TOOLARGE, http_call_length_text(call));
}

void http_call_init(struct http_call *call, const struct http_head *head, const struct http_rules *rules) {
    *call = (struct http_call){.verb = verb_of(head->method), .message_bytes_max = rules->message_bytes_max};
    buffer_init(&call->id);
    buffer_init(&call->token);
    int err = http_place_init(&call->place, head->target);
    bool fine = check_door(call, head, rules) && check_place(call) && check_token(call, head, rules) &&
                check_query(call, err) && check_accept(call, head) && check_content(call, head) &&
                check_conditions(call, head) && take_id(call, head) && check_length(call, head);
    if (fine && (call->id.failed || call->token.failed)) http_call_refuse(call, SK_OVERLOADED, "out of memory");
}

void http_call_deinit(struct http_call *call) {
    http_place_deinit(&call->place);
    buffer_deinit(&call->id);
    buffer_deinit(&call->token);
}

uint64_t http_call_body_max(const struct http_call *call) {
    if (call->refusal != REFUSED_NOT) return 0;
    uint64_t most = call->verb == HTTP_PUT ? VALUE_BYTES_MAX : call->verb == HTTP_POST ? MESSAGE_BYTES_MAX : 0;
    return most < call->message_bytes_max ? most : call->message_bytes_max;
}

const char *http_call_length_text(const struct http_call *call) {
    if (call->verb != HTTP_PUT) return "the body is longer than 64 MiB, or than --message-max of the gateway";
    return "the value is longer than 16 MiB, or than --message-max of the gateway";
}

bool http_call_is_too_long(const struct http_call *call) {
    return call->refusal == REFUSED_ERROR && call->refused_with == SK_TOOLARGE;
}

/* ---- the message ---- */

static void write_key(const struct http_call *call, struct buffer *message) {
    mp_write_bin(message, buffer_slice(&call->place.key));
}

/* A command of the key alone. */
static void write_command(const struct http_call *call, const char *method, struct buffer *message) {
    mp_write_text(message, method);
    mp_write_array(message, 1);
    write_key(call, message);
}

/* The prefix as a pattern that nothing in it is special in. */
static void write_pattern(const struct http_call *call, struct buffer *message) {
    struct slice prefix = buffer_slice(&call->place.prefix);
    struct buffer pattern;
    buffer_init(&pattern);
    for (size_t i = 0; i < prefix.size; i++) {
        uint8_t byte = prefix.data[i];
        if (byte != 0 && strchr("*?[\\", byte) != NULL) buffer_append(&pattern, "\\", 1);
        buffer_append(&pattern, &byte, 1);
    }
    buffer_append(&pattern, "*", 1);
    mp_write_bin(message, buffer_slice(&pattern));
    if (pattern.failed) message->failed = true;
    buffer_deinit(&pattern);
}

static void write_scan(const struct http_call *call, struct buffer *message) {
    bool matches = call->place.prefix.size > 0;
    mp_write_text(message, "SCAN");
    mp_write_array(message, matches ? 5 : 3);
    mp_write_uint(message, call->place.cursor);
    mp_write_text(message, "COUNT");
    mp_write_uint(message, call->place.limit);
    if (!matches) return;
    mp_write_text(message, "MATCH");
    write_pattern(call, message);
}

static void write_set(const struct http_call *call, const char *condition, struct slice value,
                      struct buffer *message) {
    const struct http_place *place = &call->place;
    mp_write_array(message, 2);
    mp_write_text(message, "SET");
    unsigned words = place->ttl_ms != 0 ? 4 : 2;
    words += condition != NULL;
    words += place->keep_ttl;
    mp_write_array(message, words);
    write_key(call, message);
    mp_write_bin(message, value);
    if (condition != NULL) mp_write_text(message, condition);
    if (place->keep_ttl) mp_write_text(message, "KEEPTTL");
    if (place->ttl_ms == 0) return;
    mp_write_text(message, "PX");
    mp_write_uint(message, place->ttl_ms);
}

/* [method, [key]] of a batch. */
static void write_pair(const struct http_call *call, const char *method, struct buffer *message) {
    mp_write_array(message, 2);
    write_command(call, method, message);
}

/* Whether it takes place only if the key has the version that If-Match names. */
static bool watches(const struct http_call *call) { return call->if_match.given && !call->if_match.any; }

/* "EXEC", and of its params the keys with their versions; the commands follow. */
static void write_exec(const struct http_call *call, struct buffer *message) {
    mp_write_text(message, "EXEC");
    mp_write_array(message, 2);
    mp_write_array(message, watches(call));
    if (!watches(call)) return;
    mp_write_array(message, 2);
    write_key(call, message);
    mp_write_uint(message, call->if_match.list[0].version);
}

/* How a PUT is conditional without a version. */
static const char *condition_of(const struct http_call *call) {
    return call->if_match.any ? "XX" : call->if_none_match.any ? "NX" : NULL;
}

/* Whether it is to be found out if a PUT made the key. */
static bool asks_existence(const struct http_call *call) { return !watches(call) && condition_of(call) == NULL; }

static void write_put(const struct http_call *call, struct slice value, struct buffer *message) {
    write_exec(call, message);
    mp_write_array(message, asks_existence(call) ? 3 : 2);
    if (asks_existence(call)) write_pair(call, "EXISTS", message);
    write_set(call, condition_of(call), value, message);
    write_pair(call, "VERSION", message);
}

static void write_delete(const struct http_call *call, struct buffer *message) {
    if (!watches(call)) {
        write_command(call, "DEL", message);
        return;
    }
    write_exec(call, message);
    mp_write_array(message, 1);
    write_pair(call, "DEL", message);
}

static void write_options(const struct http_call *call, struct buffer *message) {
    const struct http_place *place = &call->place;
    unsigned count = place->timeout_ms != 0;
    count += call->id.size > 0;
    count += call->token.size > 0;
    count += place->follower_reads;
    count += call->command.atomic;
    mp_write_map(message, count);
    if (call->id.size > 0) {
        mp_write_text(message, "id");
        mp_write_bin(message, buffer_slice(&call->id));
    }
    if (call->token.size > 0) {
        mp_write_text(message, "token");
        mp_write_bin(message, buffer_slice(&call->token));
    }
    if (place->timeout_ms != 0) {
        mp_write_text(message, "timeout_ms");
        mp_write_uint(message, place->timeout_ms);
    }
    if (place->follower_reads) {
        mp_write_text(message, "read");
        mp_write_text(message, "follower");
    }
    if (call->command.atomic) {
        mp_write_text(message, "atomic");
        mp_write_bool(message, true);
    }
}

/* Method and params. */
static void write_call(struct http_call *call, struct slice body, struct buffer *message) {
    if (call->refusal == REFUSED_TOKEN) { /* nothing of it but the token is looked at */
        mp_write_text(message, "PING");
        mp_write_array(message, 0);
    } else if (call->verb == HTTP_POST) {
        int err = json_command_read(body, &call->command, message, call->text, sizeof call->text);
        if (err == SK_OK) return;
        call->refusal = REFUSED_ERROR;
        call->refused_with = err;
    } else if (call->verb == HTTP_PUT) {
        write_put(call, body, message);
    } else if (call->verb == HTTP_DELETE) {
        write_delete(call, message);
    } else if (call->place.resource == HTTP_KEYS) {
        write_scan(call, message);
    } else {
        write_command(call, "VGET", message);
    }
}

void http_call_message(struct http_call *call, struct slice body, struct buffer *message) {
    mp_write_array(message, 5);
    mp_write_uint(message, 0);
    mp_write_uint(message, 0);
    write_call(call, body, message);
    write_options(call, message);
    if (message->failed) http_call_refuse(call, SK_OVERLOADED, "out of memory");
    else if (message->size > MESSAGE_BYTES_MAX)
        http_call_refuse(call, SK_TOOLARGE, "the message is longer than 64 MiB");
}

/* ---- the answer ---- */

static void nonsense(struct http_answer *answer) {
    http_problem_answer_error(answer, SK_INTERNAL, slice_of_text("the reply is not understood"));
}

static void answer_error(const struct http_call *call, int err, struct slice detail, struct http_answer *answer) {
    http_problem_answer_error(answer, err, detail);
    if (err == SK_NOAUTH) {
        http_answer_field(answer, "WWW-Authenticate", "Bearer realm=\"skerry\"%s",
                          call->token.size > 0 ? ", error=\"invalid_token\"" : "");
    }
}

static void answer_refusal(const struct http_call *call, struct http_answer *answer) {
    if (call->refusal == REFUSED_PROBLEM) {
        http_problem_answer(answer, (enum http_problem)call->refused_with, slice_of_text(call->text));
    } else {
        answer_error(call, call->refused_with, slice_of_text(call->text), answer);
    }
    if (call->methods != NULL) http_answer_field(answer, "Allow", "%s", call->methods);
    if (call->types != NULL) http_answer_field(answer, "Accept", "%s", call->types);
}

static void begin_json(struct json *json, struct http_answer *answer) {
    answer->type = JSON_TYPE;
    json_init(json, &answer->body);
    json_begin_object(json, NULL);
}

static void end_json(struct json *json) {
    json_end_object(json);
    buffer_append(json->out, "\n", 1);
}

static void answer_empty(struct http_answer *answer, unsigned status) {
    answer->status = status;
    answer->type = NULL;
}

static void add_etag(struct http_answer *answer, uint64_t version) {
    http_answer_field(answer, "ETag", "\"%" PRIu64 "\"", version);
}

static void answer_not_found(struct http_answer *answer) {
    http_problem_answer(answer, PROBLEM_NOT_FOUND, slice_of_text("no such key"));
}

static void answer_precondition(struct http_answer *answer) {
    http_problem_answer(answer, PROBLEM_PRECONDITION, slice_of_text("it was not written"));
}

static void write_value(const struct http_call *call, uint64_t version, struct slice value, int64_t left_ms,
                        struct http_answer *answer) {
    struct json json;
    if (!call->as_json) {
        answer->type = BYTES_TYPE;
        buffer_append(&answer->body, value.data, value.size);
        return;
    }
    begin_json(&json, answer);
    json_bytes(&json, "key", buffer_slice(&call->place.key));
    json_bytes(&json, "value", value);
    json_uint(&json, "version", version);
    if (left_ms >= 0) json_int(&json, "ttl_ms", left_ms);
    else json_null(&json, "ttl_ms");
    end_json(&json);
}

/* VGET: nil, or [version, value, milliseconds left or less than 0]. */
static void answer_get(const struct http_call *call, struct mp_reader *result, struct http_answer *answer) {
    struct mp_value found, left;
    struct slice value;
    uint64_t version = 0;
    bool fine = mp_read(result, &found) == SK_OK, there = fine && found.type != MP_NIL;
    if (there) {
        fine = found.type == MP_ARRAY && found.count == 3 && mp_read_uint(result, &version) == SK_OK &&
               mp_read_bytes(result, &value) == SK_OK && mp_read(result, &left) == SK_OK &&
               (left.type == MP_UINT || left.type == MP_INT);
    }
    if (!fine) {
        nonsense(answer);
        return;
    }
    if (call->if_match.given && !http_etags_match(&call->if_match, version, true)) {
        http_problem_answer(answer, PROBLEM_PRECONDITION,
                            slice_of_text("it has another version, or is not there"));
        return;
    }
    if (!there) {
        answer_not_found(answer);
        return;
    }
    int64_t left_ms = left.type == MP_UINT ? (int64_t)left.uint : left.sint;
    add_etag(answer, version);
    http_answer_field(answer, "Cache-Control", "no-cache");
    http_answer_field(answer, "Vary", "Accept, Authorization");
    if (left_ms >= 0) http_answer_field(answer, "Skerry-TTL-Ms", "%" PRId64, left_ms);
    if (call->if_none_match.given && http_etags_match(&call->if_none_match, version, false)) {
        answer_empty(answer, 304);
    } else {
        write_value(call, version, value, left_ms, answer);
    }
}

/* nil, or [code, text]. False: nil. */
static bool read_error(struct mp_reader *reader, int *err, struct slice *text) {
    struct slice code;
    uint32_t two;
    *err = SK_INTERNAL;
    *text = slice_of_text("the reply is not understood");
    struct mp_reader copy = *reader;
    struct mp_value value;
    if (mp_read(&copy, &value) == SK_OK && value.type == MP_NIL) {
        *reader = copy;
        return false;
    }
    if (mp_read_array(reader, &two) == SK_OK && two == 2 && mp_read_bytes(reader, &code) == SK_OK &&
        mp_read_bytes(reader, text) == SK_OK) {
        *err = error_from_name((const char *)code.data, code.size);
    }
    return true;
}

/* Steps to the result of the next command of an atomic batch or EXEC. False: it has an error, and that is the answer. */
static bool next_result(const struct http_call *call, struct mp_reader *results, struct http_answer *answer) {
    struct slice text;
    uint32_t two;
    int err;
    if (mp_read_array(results, &two) != SK_OK || two != 2) {
        nonsense(answer);
        return false;
    }
    if (!read_error(results, &err, &text)) return true;
    answer_error(call, err, text, answer);
    return false;
}

/* Whether a batch is there; nil in its place is an EXEC that did not happen. False: it has been answered. */
static bool open_results(struct mp_reader *result, struct http_answer *answer) {
    struct mp_value value;
    if (mp_read(result, &value) == SK_OK && value.type == MP_ARRAY) return true;
    if (value.type == MP_NIL) answer_precondition(answer);
    else nonsense(answer);
    return false;
}

static void answer_put(const struct http_call *call, struct mp_reader *result, struct http_answer *answer) {
    uint64_t version, existed = call->if_none_match.any ? 0 : 1;
    struct mp_value set;
    if (!open_results(result, answer)) return;
    if (asks_existence(call)) {
        if (!next_result(call, result, answer)) return;
        if (mp_read_uint(result, &existed) != SK_OK) {
            nonsense(answer);
            return;
        }
    }
    if (!next_result(call, result, answer)) return;
    if (mp_read(result, &set) == SK_OK && set.type == MP_NIL) {
        answer_precondition(answer);
        return;
    }
    if (!next_result(call, result, answer)) return;
    if (mp_read_uint(result, &version) != SK_OK) {
        nonsense(answer);
        return;
    }
    answer_empty(answer, existed == 0 ? 201 : 204);
    if (version != 0) add_etag(answer, version); /* 0: it has expired already */
}

static void answer_delete(const struct http_call *call, struct mp_reader *result, struct http_answer *answer) {
    uint64_t count;
    if (watches(call) && (!open_results(result, answer) || !next_result(call, result, answer))) return;
    if (mp_read_uint(result, &count) != SK_OK) {
        nonsense(answer);
    } else if (count > 0) {
        answer_empty(answer, 204);
    } else if (call->if_match.given) {
        answer_precondition(answer);
    } else {
        answer_not_found(answer);
    }
}

/* SCAN: [cursor as text, [key, …]]. The cursor is opaque to clients, and null at the end. */
static void answer_keys(struct mp_reader *result, struct http_answer *answer) {
    struct json json;
    struct slice cursor, key;
    uint32_t two, count;
    if (mp_read_array(result, &two) != SK_OK || two != 2 || mp_read_bytes(result, &cursor) != SK_OK ||
        mp_read_array(result, &count) != SK_OK) {
        nonsense(answer);
        return;
    }
    begin_json(&json, answer);
    json_begin_array(&json, "keys");
    for (uint32_t i = 0; i < count; i++) {
        if (mp_read_bytes(result, &key) == SK_OK) json_bytes(&json, NULL, key);
    }
    json_end_array(&json);
    if (slice_equal(cursor, slice_of_text("0"))) json_null(&json, "cursor");
    else json_text(&json, "cursor", cursor);
    end_json(&json);
}

static int write_result(struct json *json, struct mp_reader *result) {
    struct slice text;
    uint32_t two;
    int err;
    if (mp_read_array(result, &two) != SK_OK || two != 2) return SK_EPROTO;
    json_begin_object(json, NULL);
    if (read_error(result, &err, &text)) {
        http_problem_write(json, "error", err, text);
        err = mp_skip(result, NULL);
    } else {
        err = json_command_write(json, "result", result);
    }
    json_end_object(json);
    return err;
}

static void answer_commands(const struct http_call *call, struct mp_reader *result, struct http_answer *answer) {
    struct json json;
    uint32_t count = 0;
    begin_json(&json, answer);
    int err = SK_OK;
    if (call->command.batch) {
        err = mp_read_array(result, &count);
        json_begin_array(&json, "results");
        for (uint32_t i = 0; i < count && err == SK_OK; i++) err = write_result(&json, result);
        json_end_array(&json);
    } else {
        err = json_command_write(&json, "result", result);
    }
    end_json(&json);
    if (err != SK_OK) nonsense(answer);
}

static void answer_result(const struct http_call *call, struct mp_reader *result, struct http_answer *answer) {
    if (call->verb == HTTP_POST) answer_commands(call, result, answer);
    else if (call->verb == HTTP_PUT) answer_put(call, result, answer);
    else if (call->verb == HTTP_DELETE) answer_delete(call, result, answer);
    else if (call->place.resource == HTTP_KEYS) answer_keys(result, answer);
    else answer_get(call, result, answer);
}

static void answer_description(struct http_answer *answer) {
    answer->type = JSON_TYPE;
    buffer_append(&answer->body, openapi_file, sizeof openapi_file);
}

void http_call_answer(const struct http_call *call, struct slice reply, struct http_answer *answer) {
    if (!http_call_asks(call)) {
        if (call->refusal == REFUSED_NOT) answer_description(answer);
        else answer_refusal(call, answer);
        return;
    }
    struct mp_reader reader = mp_reader_of(reply);
    struct slice text;
    uint32_t four;
    int err;
    if (mp_read_array(&reader, &four) != SK_OK || four != 4 || mp_skip(&reader, NULL) != SK_OK ||
        mp_skip(&reader, NULL) != SK_OK) {
        nonsense(answer);
    } else if (read_error(&reader, &err, &text)) {
        answer_error(call, err, text, answer);
    } else {
        answer_result(call, &reader, answer);
    }
}
