#include "libcommon/http.h"

#include "libcommon/check.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/log.h"
#include "libcommon/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONNECTIONS_MAX    512u
#define CONNECTIONS_OF_ONE 64u /* of one address: nobody keeps probes out by holding connections */
#define IDLE_S_MAX         20u /* a connection that is silent for so long is closed */
#define BACKLOG            128
#define HOST_BYTES         256u

/* As nng's TLS, and what came after it. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

static const char scheme[] = "http://", tls_scheme[] = "https://";

/* What a request of a service is doing. It moves down; whoever is WAITING is suspended in libmicrohttpd, which then does not
 * look at its connection. */
enum phase { PHASE_NEW, PHASE_COMING, PHASE_WAITING, PHASE_GOING };

/* A request of a service, from its first line on. */
struct http_exchange {
    struct http *http;
    struct MHD_Connection *connection;
    char *target; /* owned */
    const char *method;
    void *request; /* the service's */
    int fd;
    bool refused, cut;

    /* under the lock of `http` */
    struct http_exchange *before, *after; /* among those of `http` */
    enum phase phase;
    uint64_t since_ms; /* when it began to come, or its answer to go */
    uint64_t bytes;    /* that have come, or are to go */
};

struct http {
    struct http_page pages[HTTP_PAGES_MAX];
    size_t page_count;
    void *arg;
    const struct http_service *service; /* borrowed */
    struct MHD_Daemon *daemon;          /* owned, with its socket */
    int port;
    pthread_mutex_t lock;
    struct http_exchange *exchanges; /* whose heads have come; under the lock */
};

/* ---- answers ---- */

void http_answer_field(struct http_answer *answer, const char *name, const char *format, ...) {
    sk_assert(answer->field_count < HTTP_FIELDS_MAX);
    struct http_field *field = &answer->fields[answer->field_count++];
    field->name = name;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(field->value, sizeof field->value, format, arguments);
    va_end(arguments);
}

void http_answer_health(struct http_answer *answer, const char *reason) {
    bool fine = reason[0] == '\0';
    answer->status = fine ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
    if (fine) reason = "ok";
    buffer_append(&answer->body, reason, strlen(reason));
    buffer_append(&answer->body, "\n", 1);
}

static void say(struct http_answer *answer, unsigned status, const char *text) {
    answer->status = status;
    buffer_clear(&answer->body, SIZE_MAX);
    buffer_append(&answer->body, text, strlen(text));
}

/* Pages load nothing from elsewhere, and nobody frames them. */
static void add_headers(struct MHD_Response *response, const struct http_answer *answer) {
    bool caching = false;
    for (size_t i = 0; i < answer->field_count; i++) {
        (void)MHD_add_response_header(response, answer->fields[i].name, answer->fields[i].value);
        caching = caching || strcmp(answer->fields[i].name, MHD_HTTP_HEADER_CACHE_CONTROL) == 0;
    }
    if (!caching) (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (answer->type != NULL) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
    }
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, "nosniff");
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_SECURITY_POLICY,
                                  "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' "
                                  "'unsafe-inline'; frame-ancestors 'none'");
}

/* Takes the answer's body. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct http_answer *answer) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->body.size, answer->body.data, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        buffer_deinit(&answer->body);
        return MHD_NO;
    }
    add_headers(response, answer);
    enum MHD_Result result = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return result;
}

static void fill(const struct http *http, const char *path, const char *method, struct http_answer *answer) {
    const struct http_page *page = NULL;
    for (size_t i = 0; i < http->page_count; i++) {
        if (strcmp(http->pages[i].path, path) == 0) page = &http->pages[i];
    }
    if (page == NULL) {
        say(answer, MHD_HTTP_NOT_FOUND, "not found\n");
    } else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
        say(answer, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n");
        http_answer_field(answer, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    } else {
        page->handler(http->arg, answer);
    }
}

static void answer_init(struct http_answer *answer) {
    answer->status = MHD_HTTP_OK;
    answer->type = "text/plain; charset=utf-8";
    answer->field_count = 0;
    buffer_init(&answer->body);
}

static void check_memory(struct http_answer *answer) {
    if (!answer->body.failed) return;
    answer->type = "text/plain; charset=utf-8";
    answer->field_count = 0;
    say(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
}

/* ---- pages ---- */

static char page_seen; /* the state of a request for a page, once its head has been seen */

/* libmicrohttpd calls it once for the head of a request, once for each piece of a body, which nobody reads here, and once
 * at the end, when the answer may be given. */
static enum MHD_Result page_cb(const struct http *http, struct MHD_Connection *connection, const char *path,
                               const char *method, size_t *upload_bytes, void **state) {
    if (*state == NULL) {
        *state = &page_seen;
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        *upload_bytes = 0;
        return MHD_YES;
    }
    struct http_answer answer;
    answer_init(&answer);
    fill(http, path, method, &answer);
    check_memory(&answer);
    return send_answer(connection, &answer);
}

/* ---- a service ---- */

static bool is_of_service(const struct http *http, const char *target) {
    return http->service != NULL && strncmp(target, http->service->prefix, strlen(http->service->prefix)) == 0;
}

static void enter(struct http_exchange *exchange, enum phase phase, uint64_t bytes) {
    struct http *http = exchange->http;
    uint64_t now_ms = clock_boottime_ms();
    (void)pthread_mutex_lock(&http->lock);
    if (exchange->phase == PHASE_NEW) {
        exchange->after = http->exchanges;
        if (exchange->after != NULL) exchange->after->before = exchange;
        http->exchanges = exchange;
    }
    exchange->phase = phase;
    exchange->since_ms = now_ms;
    exchange->bytes = bytes;
    (void)pthread_mutex_unlock(&http->lock);
}

static void leave(struct http_exchange *exchange) {
    struct http *http = exchange->http;
    if (exchange->phase == PHASE_NEW) return;
    (void)pthread_mutex_lock(&http->lock);
    if (exchange->after != NULL) exchange->after->before = exchange->before;
    *(exchange->before == NULL ? &http->exchanges : &exchange->before->after) = exchange->after;
    (void)pthread_mutex_unlock(&http->lock);
}

/* libmicrohttpd shows what follows the method before it takes it apart, and keeps what this returns as the request's state. */
static void *target_cb(void *arg, const char *target, struct MHD_Connection *connection) {
    struct http *http = arg;
    if (!is_of_service(http, target)) return NULL;
    struct http_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL) return NULL;
    exchange->http = http;
    exchange->connection = connection;
    exchange->target = strdup(target);
    return exchange;
}

static enum MHD_Result on_head(struct http_exchange *exchange) {
    const struct http_service *service = exchange->http->service;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (exchange->target == NULL || info == NULL) return MHD_NO;
    exchange->fd = info->connect_fd;
    exchange->request = service->head_cb(service->arg, exchange);
    if (exchange->request == NULL) return MHD_NO;
    enter(exchange, PHASE_COMING, 0);
    return MHD_YES;
}

static enum MHD_Result on_piece(struct http_exchange *exchange, struct slice piece) {
    (void)pthread_mutex_lock(&exchange->http->lock);
    exchange->bytes += piece.size;
    (void)pthread_mutex_unlock(&exchange->http->lock);
    exchange->http->service->body_cb(exchange->request, piece);
    return exchange->cut ? MHD_NO : MHD_YES;
}

static enum MHD_Result give_answer(struct http_exchange *exchange) {
    struct http_answer answer;
    answer_init(&answer);
    exchange->http->service->answer_cb(exchange->request, &answer);
    check_memory(&answer);
    enter(exchange, PHASE_GOING, answer.body.size);
    return send_answer(exchange->connection, &answer);
}

static enum MHD_Result on_whole(struct http_exchange *exchange) {
    const struct http_service *service = exchange->http->service;
    if (exchange->phase == PHASE_WAITING || service->whole_cb(exchange->request)) return give_answer(exchange);
    enter(exchange, PHASE_WAITING, 0);
    MHD_suspend_connection(exchange->connection); /* before anybody can resume it */
    service->submit_cb(exchange->request);
    return MHD_YES;
}

static enum MHD_Result service_cb(struct http_exchange *exchange, const char *method, const char *upload,
                                  size_t *upload_bytes) {
    if (exchange->phase == PHASE_NEW) {
        exchange->method = method;
        enum MHD_Result result = on_head(exchange);
        return result == MHD_YES && exchange->refused ? give_answer(exchange) : result;
    }
    if (*upload_bytes == 0) return on_whole(exchange);
    struct slice piece = slice_of(upload, *upload_bytes);
    *upload_bytes = 0;
    return on_piece(exchange, piece);
}

const char *http_method(const struct http_exchange *exchange) { return exchange->method; }

const char *http_target(const struct http_exchange *exchange) { return exchange->target; }

struct gathering {
    const char *name;
    struct buffer *value;
    size_t count;
};

static enum MHD_Result gather_cb(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_bytes,
                                 const char *value, size_t value_bytes) {
    struct gathering *gathering = arg;
    (void)kind, (void)name_bytes;
    if (strcasecmp(name, gathering->name) != 0) return MHD_YES;
    if (gathering->count++ > 0) buffer_append(gathering->value, ", ", 2);
    if (value != NULL) buffer_append(gathering->value, value, value_bytes);
    return MHD_YES;
}

size_t http_fields(const struct http_exchange *exchange, const char *name, struct buffer *value) {
    struct gathering gathering = {.name = name, .value = value};
    (void)MHD_get_connection_values_n(exchange->connection, MHD_HEADER_KIND, gather_cb, &gathering);
    return gathering.count;
}

bool http_is_certified(const struct http_exchange *exchange) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    unsigned status;
    return info != NULL && info->tls_session != NULL &&
           gnutls_certificate_verify_peers2(info->tls_session, &status) == GNUTLS_E_SUCCESS && status == 0;
}

void http_refuse_body(struct http_exchange *exchange) { exchange->refused = true; }

void http_cut(struct http_exchange *exchange) { exchange->cut = true; }

bool http_is_gone(const struct http_exchange *exchange) {
    struct pollfd look = {.fd = exchange->fd, .events = POLLRDHUP};
    return poll(&look, 1, 0) == 1;
}

void http_peer_name(const struct http_exchange *exchange, char name[PEER_NAME_BYTES]) {
    (void)peer_name_of_socket(exchange->fd, name);
}

void http_resume(struct http_exchange *exchange) { MHD_resume_connection(exchange->connection); }

static bool is_too_slow(const struct http_exchange *exchange, uint64_t now_ms) {
    if (exchange->phase == PHASE_WAITING || now_ms < exchange->since_ms) return false;
    return now_ms - exchange->since_ms > HTTP_GRACE_S * 1000u + exchange->bytes * 1000u / HTTP_BYTES_PER_S_MIN;
}

/* The connection's own thread notices that its socket is shut down, and ends it. */
void http_tick(struct http *http, uint64_t now_ms) {
    if (http == NULL) return;
    (void)pthread_mutex_lock(&http->lock);
    for (struct http_exchange *exchange = http->exchanges; exchange != NULL; exchange = exchange->after) {
        if (is_too_slow(exchange, now_ms)) (void)shutdown(exchange->fd, SHUT_RDWR);
    }
    (void)pthread_mutex_unlock(&http->lock);
}

/* ---- libmicrohttpd's callbacks ---- */

static enum MHD_Result request_cb(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **state) {
    struct http *http = arg;
    (void)version;
    if (!is_of_service(http, path)) return page_cb(http, connection, path, method, upload_bytes, state);
    return *state == NULL ? MHD_NO : service_cb(*state, method, upload, upload_bytes);
}

static void completed_cb(void *arg, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why) {
    (void)arg, (void)connection, (void)why;
    if (*state == NULL || *state == &page_seen) return;
    struct http_exchange *exchange = *state;
    *state = NULL;
    leave(exchange);
    if (exchange->request != NULL) exchange->http->service->end_cb(exchange->request);
    free(exchange->target);
    free(exchange);
}

/* Services decode by themselves, since a key may have any bytes. */
static size_t unescape_cb(void *arg, struct MHD_Connection *connection, char *text) {
    (void)arg, (void)connection;
    return strlen(text);
}

/* ---- opening ---- */

bool http_is_tls(const char *listen) { return strncmp(listen, tls_scheme, strlen(tls_scheme)) == 0; }

/* "http://host:port" or "http://[host]:port", or https. */
static int parse(const char *listen, char host[HOST_BYTES], char port[8], char *text, size_t text_bytes) {
    size_t scheme_bytes = strlen(http_is_tls(listen) ? tls_scheme : scheme);
    const char *begin = listen + scheme_bytes, *colon = strrchr(listen, ':');
    bool fine = (http_is_tls(listen) || strncmp(listen, scheme, scheme_bytes) == 0) && colon > begin &&
                colon[1] != '\0' && strspn(colon + 1, "0123456789") == strlen(colon + 1) &&
                strlen(colon + 1) <= 5 && atoi(colon + 1) <= 65535 && (size_t)(colon - begin) < HOST_BYTES;
    if (!fine) {
        (void)snprintf(text, text_bytes,
                       "--http-listen: '%s' is not an address http://host:port or https://host:port", listen);
        return SK_ECONFIG;
    }
    bool bracketed = *begin == '[' && colon[-1] == ']';
    (void)snprintf(host, HOST_BYTES, "%.*s", (int)(colon - begin) - (bracketed ? 2 : 0), begin + bracketed);
    (void)snprintf(port, 8, "%s", colon + 1);
    return SK_OK;
}

static int listen_at(const struct addrinfo *address) {
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

/* The socket, or -1 with the reason in `text`. */
static int open_socket(const char *listen, const char *host, const char *port, char *text, size_t text_bytes) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found = NULL;
    int err = getaddrinfo(host, port, &hints, &found);
    if (err != 0) {
        (void)snprintf(text, text_bytes, "--http-listen: %s: %s", listen, gai_strerror(err));
        return -1;
    }
    int fd = listen_at(found);
    if (fd < 0) (void)snprintf(text, text_bytes, "--http-listen: %s: %s", listen, strerror(errno));
    freeaddrinfo(found);
    return fd;
}

static int port_of(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &bytes) != 0) return 0;
    if (address.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

/* libmicrohttpd 0.9.75 closes the socket in some of the cases in which it does not start, and does not say in which. Closing it again could
 * close what another thread has opened since under its number: only if it is still the same it is ours. */
static void close_if_same(int fd, const struct stat *before) {
    struct stat now;
    if (fstat(fd, &now) == 0 && now.st_dev == before->st_dev && now.st_ino == before->st_ino) close(fd);
}

#define OPTIONS_MAX 16

/* `text` has a zero at its end. */
static struct MHD_OptionItem option_of_text(enum MHD_OPTION option, struct slice text) {
    return (struct MHD_OptionItem){option, 0, (void *)(uintptr_t)text.data};
}

/* What libmicrohttpd is told besides its callbacks. */
static void fill_options(const struct http_options *options, int fd, struct MHD_OptionItem items[OPTIONS_MAX]) {
    unsigned most = options->connections_max > 0 ? options->connections_max : CONNECTIONS_MAX;
    unsigned of_one = options->connections_of_one_max > 0 ? options->connections_of_one_max : CONNECTIONS_OF_ONE;
    size_t count = 0;
    items[count++] = (struct MHD_OptionItem){MHD_OPTION_LISTEN_SOCKET, fd, NULL};
    items[count++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_LIMIT, (intptr_t)most, NULL};
    items[count++] = (struct MHD_OptionItem){MHD_OPTION_PER_IP_CONNECTION_LIMIT, (intptr_t)of_one, NULL};
    items[count++] = (struct MHD_OptionItem){MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S_MAX, NULL};
    items[count++] = (struct MHD_OptionItem){MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL};
    if (http_is_tls(options->listen)) {
        struct tls_pem pem = tls_pem(options->tls);
        items[count++] = option_of_text(MHD_OPTION_HTTPS_MEM_CERT, pem.cert);
        items[count++] = option_of_text(MHD_OPTION_HTTPS_MEM_KEY, pem.key);
        items[count++] = option_of_text(MHD_OPTION_HTTPS_PRIORITIES, slice_of_text(TLS_PRIORITIES));
        if (pem.ca.size > 0) items[count++] = option_of_text(MHD_OPTION_HTTPS_MEM_TRUST, pem.ca);
    }
    items[count] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
}

static struct MHD_Daemon *start(struct http *http, const struct http_options *options, int fd) {
    struct MHD_OptionItem items[OPTIONS_MAX];
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD;
    if (options->service != NULL) flags |= MHD_ALLOW_SUSPEND_RESUME;
    if (http_is_tls(options->listen)) flags |= MHD_USE_TLS;
    fill_options(options, fd, items);
    return MHD_start_daemon(flags, 0, NULL, NULL, request_cb, http, MHD_OPTION_URI_LOG_CALLBACK, target_cb, http,
                            MHD_OPTION_UNESCAPE_CALLBACK, unescape_cb, NULL, MHD_OPTION_NOTIFY_COMPLETED,
                            completed_cb, http, MHD_OPTION_ARRAY, items, MHD_OPTION_END);
}

int http_open(struct http **made, const struct http_options *options, char *text, size_t text_bytes) {
    char host[HOST_BYTES], port[8];
    *made = NULL;
    if (strcmp(options->listen, HTTP_NONE) == 0) return SK_OK;
    int err = parse(options->listen, host, port, text, text_bytes);
    if (err != SK_OK) return err;
    if (http_is_tls(options->listen) && (options->tls == NULL || tls_pem(options->tls).cert.size == 0)) {
        (void)snprintf(text, text_bytes, "--http-listen: '%s' needs a certificate and its key", options->listen);
        return SK_ECONFIG;
    }
    int fd = open_socket(options->listen, host, port, text, text_bytes);
    if (fd < 0) return SK_ECONFIG;

    struct http *http = calloc(1, sizeof *http);
    struct stat listening = {0};
    (void)snprintf(text, text_bytes, "out of memory");
    if (http == NULL || fstat(fd, &listening) != 0) {
        free(http);
        close(fd);
        return SK_ENOMEM;
    }
    for (size_t i = 0; i < options->page_count; i++) http->pages[i] = options->pages[i];
    http->page_count = options->page_count;
    http->arg = options->arg;
    http->service = options->service;
    http->port = port_of(fd);
    (void)pthread_mutex_init(&http->lock, NULL);
    http->daemon = start(http, options, fd);
    if (http->daemon == NULL) {
        (void)snprintf(text, text_bytes, "--http-listen: %s: the server does not start", options->listen);
        (void)pthread_mutex_destroy(&http->lock);
        close_if_same(fd, &listening);
        free(http);
        return SK_ECONFIG;
    }
    log_event(LOG_INFO, "http_opened", "listen=%s port=%d", options->listen, http->port);
    *made = http;
    return SK_OK;
}

int http_port(const struct http *http) { return http == NULL ? 0 : http->port; }

unsigned http_connections(const struct http *http) {
    const union MHD_DaemonInfo *info =
        http == NULL ? NULL : MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info == NULL ? 0 : info->num_connections;
}

void http_close(struct http *http) {
    if (http == NULL) return;
    MHD_stop_daemon(http->daemon);
    (void)pthread_mutex_destroy(&http->lock);
    free(http);
}
