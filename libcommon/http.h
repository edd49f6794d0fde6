/* The HTTP door of a daemon: health, metrics and pages for people, on a thread of its own. libmicrohttpd underneath.
 *
 *   GET /healthz   200: the process works; 503: it does not, and why
 *   GET /readyz    200: it would serve now; 503: what it waits for
 *   GET /metrics   Prometheus's text format
 *
 * Handlers run on that thread, one at a time; they look at what other threads have published and never wait for them. */
#pragma once

#include "libcommon/buffer.h"

#define HTTP_NONE      "none" /* an address: no HTTP */
#define HTTP_PAGES_MAX 16u

struct http;

struct http_answer {
    unsigned status;    /* 200 unless the handler says otherwise */
    const char *type;   /* media type; "text/plain; charset=utf-8" unless it does; static */
    struct buffer body; /* an allocation that failed makes it a 500 */
};

typedef void http_handler(void *arg, struct http_answer *answer);

/* What answers GET and HEAD of one path. */
struct http_page {
    const char *path; /* static, exact */
    http_handler *handler;
};

struct http_options {
    const char *listen; /* "http://host:port", port 0: any; HTTP_NONE */
    const struct http_page *pages;
    size_t page_count; /* at most HTTP_PAGES_MAX */
    void *arg;         /* for the handlers */
};

/* Starts to listen. SK_ECONFIG (not such an address, or it is in use), SK_ENOMEM, with one line in `text`
 * that says what and where. With HTTP_NONE `http` becomes NULL. */
int http_open(struct http **http, const struct http_options *options, char *text, size_t text_bytes);

/* The port it listens on; 0: none. */
int http_port(const struct http *http);

/* No handler runs any more when it returns. NULL is fine. */
void http_close(struct http *http);

/* For handlers: a 200 that says "ok", or where `reason` is not empty a 503 that says the reason. */
void http_answer_health(struct http_answer *answer, const char *reason);
