/* Errors of the HTTP door, as problem+json (RFC 9457) with the contract's codes. Pure. */
#pragma once

#include "gateway/json.h"
#include "libcommon/http.h"

/* What the contract has no code for, since it is HTTP's own. Nothing has happened when one of these is answered. */
#define HTTP_PROBLEMS(X)                                                                                          \
    X(PROBLEM_FORBIDDEN, 403, "FORBIDDEN", "this door is not open to the request")                                \
    X(PROBLEM_NOT_FOUND, 404, "NOT_FOUND", "there is no such key or resource")                                    \
    X(PROBLEM_METHOD, 405, "METHOD_NOT_ALLOWED", "the resource does not know the method")                         \
    X(PROBLEM_NOT_ACCEPTABLE, 406, "NOT_ACCEPTABLE", "there is no representation of a type that Accept allows")   \
    X(PROBLEM_PRECONDITION, 412, "PRECONDITION_FAILED", "the key is not as If-Match or If-None-Match wants it")   \
    X(PROBLEM_MEDIA_TYPE, 415, "UNSUPPORTED_MEDIA_TYPE", "the body is not of a type that is understood here")     \
    X(PROBLEM_MISDIRECTED, 421, "MISDIRECTED", "the request is for a host of another name")

enum http_problem {
#define X(symbol, status, code, title) symbol = (status),
    HTTP_PROBLEMS(X)
#undef X
};

/* The status of an error of the contract. */
unsigned http_problem_status(int err);

/* Makes the answer of it; `detail` is for people, any bytes. */
void http_problem_answer(struct http_answer *answer, enum http_problem problem, struct slice detail);
void http_problem_answer_error(struct http_answer *answer, int err, struct slice detail);

/* {"code": …, "happened": …, "detail": …}: of one command among several. */
void http_problem_write(struct json *json, const char *name, int err, struct slice detail);
