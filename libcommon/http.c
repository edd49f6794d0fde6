#include "libcommon/http.h"

#include "libcommon/error.h"
#include "libcommon/log.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
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

struct http {
    struct http_page pages[HTTP_PAGES_MAX];
    size_t page_count;
    void *arg;
    struct MHD_Daemon *daemon; /* owned, with its socket */
    int port;
};

/* ---- answers ---- */

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
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, "nosniff");
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_SECURITY_POLICY,
                                  "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' "
                                  "'unsafe-inline'; frame-ancestors 'none'");
    if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    }
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
    } else {
        page->handler(http->arg, answer);
        if (answer->body.failed) say(answer, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory\n");
    }
}

/* libmicrohttpd calls it once for the head of a request, once for each piece of a body, which nobody reads here, and once
 * at the end, when the answer may be given. */
static enum MHD_Result request_cb(void *arg, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_bytes, void **state) {
    static int head_seen;
    (void)version, (void)upload;
    if (*state == NULL) {
        *state = &head_seen;
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        *upload_bytes = 0;
        return MHD_YES;
    }
    struct http_answer answer = {.status = MHD_HTTP_OK, .type = "text/plain; charset=utf-8"};
    buffer_init(&answer.body);
    fill(arg, path, method, &answer);
    return send_answer(connection, &answer);
}

/* ---- opening ---- */

/* "http://host:port" or "http://[host]:port". */
static int parse(const char *listen, char host[HOST_BYTES], char port[8], char *text, size_t text_bytes) {
    static const char scheme[] = "http://";
    const char *begin = listen + strlen(scheme), *colon = strrchr(listen, ':');
    bool fine = strncmp(listen, scheme, strlen(scheme)) == 0 && colon > begin && colon[1] != '\0' &&
                strspn(colon + 1, "0123456789") == strlen(colon + 1) && strlen(colon + 1) <= 5 &&
                atoi(colon + 1) <= 65535 && (size_t)(colon - begin) < HOST_BYTES;
    if (!fine) {
        (void)snprintf(text, text_bytes, "--http-listen: '%s' is not an address http://host:port", listen);
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

int http_open(struct http **made, const struct http_options *options, char *text, size_t text_bytes) {
    char host[HOST_BYTES], port[8];
    *made = NULL;
    if (strcmp(options->listen, HTTP_NONE) == 0) return SK_OK;
    int err = parse(options->listen, host, port, text, text_bytes);
    if (err != SK_OK) return err;
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
    memcpy(http->pages, options->pages, options->page_count * sizeof *options->pages);
    http->page_count = options->page_count;
    http->arg = options->arg;
    http->port = port_of(fd);
    http->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, request_cb, http,
                                    MHD_OPTION_LISTEN_SOCKET, (MHD_socket)fd, MHD_OPTION_CONNECTION_LIMIT,
                                    CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT, CONNECTIONS_OF_ONE,
                                    MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S_MAX, MHD_OPTION_END);
    if (http->daemon == NULL) {
        (void)snprintf(text, text_bytes, "--http-listen: %s: the server does not start", options->listen);
        close_if_same(fd, &listening);
        free(http);
        return SK_ECONFIG;
    }
    log_event(LOG_INFO, "http_opened", "listen=%s port=%d", options->listen, http->port);
    *made = http;
    return SK_OK;
}

int http_port(const struct http *http) { return http == NULL ? 0 : http->port; }

void http_close(struct http *http) {
    if (http == NULL) return;
    MHD_stop_daemon(http->daemon);
    free(http);
}
