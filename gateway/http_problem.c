#include "gateway/http_problem.h"

#include "libcommon/error.h"

#include <stdio.h>

#define RETRY_AFTER_S 1

unsigned http_problem_status(int err) {
    switch (err) {
    case SK_BADREQUEST:
    case SK_CROSSSLOT:
        return 400;
    case SK_NOAUTH:
        return 401;
    case SK_BADVALUE:
    case SK_WRONGTYPE:
        return 409;
    case SK_DONE:
    case SK_FORGOTTEN:
        return 410; /* what it answered is gone */
    case SK_TOOLARGE:
        return 413;
    case SK_OVERLOADED:
    case SK_UNAVAILABLE:
        return 503;
    case SK_TIMEOUT:
        return 504;
    case SK_DISKFULL:
        return 507;
    default:
        return 500;
    }
}

/* Whether the write happened, in the words of docs/protocol.md. */
static const char *happened(int err) {
    switch (error_outcome(err)) {
    case SK_NOT_DONE:
        return "no";
    case SK_HAPPENED:
        return "yes";
    case SK_UNKNOWN:
        break;
    }
    return "perhaps";
}

static void write_members(struct json *json, const char *code, const char *done, struct slice detail) {
    json_text(json, "code", slice_of_text(code));
    json_text(json, "happened", slice_of_text(done));
    json_text(json, "detail", detail);
}

static void write_problem(struct http_answer *answer, unsigned status, const char *code, const char *title,
                          const char *done, struct slice detail) {
    struct json json;
    struct buffer *body = &answer->body;
    answer->status = status;
    answer->type = "application/problem+json";
    buffer_clear(body, SIZE_MAX);
    json_init(&json, body);
    char type[64];
    (void)snprintf(type, sizeof type, "urn:skerry:error:%s", code);
    json_begin_object(&json, NULL);
    json_text(&json, "type", slice_of_text(type));
    json_text(&json, "title", slice_of_text(title));
    json_uint(&json, "status", status);
    write_members(&json, code, done, detail);
    json_end_object(&json);
    buffer_append(body, "\n", 1);
}

void http_problem_answer(struct http_answer *answer, enum http_problem problem, struct slice detail) {
    switch (problem) {
#define X(symbol, status, code, title)                                                                            \
    case symbol:                                                                                                  \
        write_problem(answer, status, code, title, "no", detail);                                                 \
        return;
        HTTP_PROBLEMS(X)
#undef X
    }
}

void http_problem_answer_error(struct http_answer *answer, int err, struct slice detail) {
    if (!error_is_for_clients(err)) err = SK_INTERNAL;
    write_problem(answer, http_problem_status(err), error_name(err), error_text(err), happened(err), detail);
    if (answer->status == 503) http_answer_field(answer, "Retry-After", "%d", RETRY_AFTER_S);
}

void http_problem_write(struct json *json, const char *name, int err, struct slice detail) {
    json_begin_object(json, name);
    write_members(json, error_name(err), happened(err), detail);
    json_end_object(json);
}
