/* The HTTP door of a daemon: health, metrics and pages for people, and perhaps a service, on a thread of its own.
 * libmicrohttpd underneath.
 *
 *   GET /healthz   200: the process works; 503: it does not, and why
 *   GET /readyz    200: it would serve now; 503: what it waits for
 *   GET /metrics   Prometheus's text format
 *
 * Handlers run on that thread, one at a time; they look at what other threads have published and never wait for them. What has
 * to wait is a service: it answers all that begins with its prefix, of any method and with bodies, when it can. */
#pragma once

#include "libcommon/buffer.h"
#include "libcommon/peer_name.h"

#define HTTP_NONE        "none" /* an address: no HTTP */
#define HTTP_PAGES_MAX   16u
#define HTTP_FIELDS_MAX  8u
#define HTTP_FIELD_BYTES 128u

struct http;
struct http_exchange;
struct tls;

struct http_field {
    const char *name; /* static */
    char value[HTTP_FIELD_BYTES];
};

struct http_answer {
    unsigned status;  /* 200 unless the handler says otherwise */
    const char *type; /* media type; "text/plain; charset=utf-8" unless it does; static. NULL: there is no body */
    struct buffer body;                        /* an allocation that failed makes it a 500 */
    struct http_field fields[HTTP_FIELDS_MAX]; /* see http_answer_field */
    size_t field_count;
};

typedef void http_handler(void *arg, struct http_answer *answer);

/* What answers GET and HEAD of one path. */
struct http_page {
    const char *path; /* static, exact */
    http_handler *handler;
};

/* What answers all requests under a prefix. For each request the callbacks come in this order, on the door's thread. */
struct http_service {
    const char *prefix; /* static: "/v1/" */
    void *arg;
    /* The head has come. Returns the `request` of the others; NULL: out of memory, and the connection is closed. */
    void *(*head_cb)(void *arg, struct http_exchange *exchange);
    /* A piece of its body. */
    void (*body_cb)(void *request, struct slice piece);
    /* All of it has come. True: answer_cb follows at once. False: submit_cb does, and answer_cb when somebody has called
     * http_resume. */
    bool (*whole_cb)(void *request);
    void (*submit_cb)(void *request);
    void (*answer_cb)(void *request, struct http_answer *answer);
    /* The answer has gone, or the connection has: the last that is heard of the request. The others may be left out before. */
    void (*end_cb)(void *request);
};

struct http_options {
    const char *listen; /* "http://host:port" or "https://host:port", port 0: any; HTTP_NONE */
    const struct http_page *pages;
    size_t page_count;                  /* at most HTTP_PAGES_MAX */
    void *arg;                          /* for the handlers */
    const struct http_service *service; /* NULL: none; borrowed, as all below */
    const struct tls *tls;              /* for https; with a CA, clients are asked for a certificate */
    unsigned connections_max;           /* 0: 512 */
    unsigned connections_of_one_max;    /* of one address; 0: 64 */
};

/* Starts to listen. SK_ECONFIG (not such an address, or it is in use), SK_ENOMEM, with one line in `text`
 * that says what and where. With HTTP_NONE `http` becomes NULL. */
int http_open(struct http **http, const struct http_options *options, char *text, size_t text_bytes);

/* Whether the address is of TLS, "https://…". */
bool http_is_tls(const char *listen);

/* The port it listens on; 0: none. */
int http_port(const struct http *http);

/* Any thread; NULL is fine. Cuts the connections of a service whose requests come or whose answers go too slowly: slower
 * than HTTP_BYTES_PER_S_MIN after HTTP_GRACE_S. */
#define HTTP_GRACE_S         20u
#define HTTP_BYTES_PER_S_MIN (256u * 1024)
void http_tick(struct http *http, uint64_t now_ms);

unsigned http_connections(const struct http *http); /* NULL: 0 */

/* No handler runs any more when it returns. NULL is fine. No request may be waiting for http_resume. */
void http_close(struct http *http);

/* For handlers: a 200 that says "ok", or where `reason` is not empty a 503 that says the reason. */
void http_answer_health(struct http_answer *answer, const char *reason);

/* Adds a header field; "Cache-Control: no-store" is there unless another is added. */
__attribute__((format(printf, 3, 4))) void http_answer_field(struct http_answer *answer, const char *name,
                                                             const char *format, ...);

/* ---- for services: a request and its answer ---- */

const char *http_method(const struct http_exchange *exchange);
const char *http_target(const struct http_exchange *exchange); /* path and query as they came, nothing decoded */

/* Appends the values of all fields of that name, with ", " between them; answers how many there are. Not in submit_cb or
 * later. */
size_t http_fields(const struct http_exchange *exchange, const char *name, struct buffer *value);

/* Whether the client has shown a certificate that the CA has signed. In head_cb. */
bool http_is_certified(const struct http_exchange *exchange);

/* In head_cb: the body is not even read. answer_cb follows at once, and the connection ends with the answer. */
void http_refuse_body(struct http_exchange *exchange);

/* In body_cb: no more of the body is read, and the connection ends without an answer. */
void http_cut(struct http_exchange *exchange);

/* Between submit_cb and http_resume, any thread: whether the client has closed the connection, and where it connected from. */
bool http_is_gone(const struct http_exchange *exchange);
void http_peer_name(const struct http_exchange *exchange, char name[PEER_NAME_BYTES]);

/* Any thread, once after submit_cb. The exchange may be gone when it returns. */
void http_resume(struct http_exchange *exchange);
