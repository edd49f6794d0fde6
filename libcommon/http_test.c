#include "libcommon/http.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

#include "libcommon/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/* Descriptors that were closed without being open: with other threads around it could have been somebody's. */
static atomic_uint closed_twice;

/* What this program and its libraries call. */
int close(int fd) {
    int rc = (int)syscall(SYS_close, fd);
    if (rc != 0 && errno == EBADF) atomic_fetch_add(&closed_twice, 1);
    return rc;
}

static void health(void *arg, struct http_answer *answer) { http_answer_health(answer, arg); }

static void page(void *arg, struct http_answer *answer) {
    (void)arg;
    answer->type = "text/html; charset=utf-8";
    buffer_append(&answer->body, "<p>", 3);
}

static void failing(void *arg, struct http_answer *answer) {
    (void)arg;
    answer->body.failed = true;
}

static const struct http_page pages[] = {{"/healthz", health}, {"/", page}, {"/failing", failing}};

static int open_at(struct http **http, const char *listen, const char *reason, char text[200]) {
    struct http_options options = {
        .listen = listen, .pages = pages, .page_count = sizeof pages / sizeof *pages, .arg = (void *)reason};
    return http_open(http, &options, text, 200);
}

static int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Sends the bytes and reads until the server closes; `room` gets a string. */
static const char *ask(int port, const char *request, char room[4000]) {
    int fd = dial(port);
    size_t used = 0;
    ssize_t got;
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    while ((got = read(fd, room + used, 4000 - 1 - used)) > 0) used += (size_t)got;
    room[used] = '\0';
    close(fd);
    return room;
}

#define END " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

static void pages_are_answered(void **state) {
    (void)state;
    struct http *http;
    char text[200], room[4000];
    assert_int_equal(open_at(&http, "http://127.0.0.1:0", "", text), SK_OK);
    int port = http_port(http);
    assert_true(port > 0);
    ask(port, "GET /" END, room);
    assert_non_null(strstr(room, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(room, "Content-Type: text/html"));
    assert_non_null(strstr(room, "\r\n\r\n<p>"));
    assert_non_null(strstr(ask(port, "GET /healthz" END, room), "\r\n\r\nok\n"));
    assert_null(strstr(ask(port, "HEAD /healthz" END, room), "\r\n\r\nok\n"));
    assert_non_null(strstr(ask(port, "GET /healthz?verbose" END, room), "200 OK"));
    assert_non_null(strstr(ask(port, "GET /healthzz" END, room), "404 Not Found"));
    assert_non_null(strstr(ask(port, "GET /failing" END, room), "500 Internal"));
    assert_non_null(strstr(
        ask(port, "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", room),
        "405 Method Not Allowed"));
    assert_non_null(strstr(ask(port, "what is this\r\n\r\n", room), "HTTP/1.")); /* refused, and closed */
    http_close(http);
}

static void what_is_not_well_says_why(void **state) {
    (void)state;
    struct http *http;
    char text[200], room[4000];
    assert_int_equal(open_at(&http, "http://127.0.0.1:0", "no map yet", text), SK_OK);
    ask(http_port(http), "GET /healthz" END, room);
    assert_non_null(strstr(room, "503 Service Unavailable"));
    assert_non_null(strstr(room, "\r\n\r\nno map yet\n"));
    http_close(http);
}

/* Clients that say nothing, or half of something, do not keep it from closing nor others from being served. */
static void silent_clients_are_in_nobodys_way(void **state) {
    (void)state;
    struct http *http;
    char text[200], room[4000];
    int fds[50];
    assert_int_equal(open_at(&http, "http://127.0.0.1:0", "", text), SK_OK);
    for (size_t i = 0; i < 50; i++) {
        fds[i] = dial(http_port(http));
        assert_int_equal(write(fds[i], "GET /he", 7), 7);
    }
    assert_non_null(strstr(ask(http_port(http), "GET /healthz" END, room), "200 OK"));
    http_close(http);
    for (size_t i = 0; i < 50; i++) close(fds[i]);
}

static void addresses_are_checked(void **state) {
    (void)state;
    struct http *http, *second;
    char text[200], taken[40];
    static const char *const wrong[] = {
        "",         "127.0.0.1:80", "tcp://127.0.0.1:80",     "http://127.0.0.1", "http://",
        "http://:", "http://a:b",   "http://127.0.0.1:65536", "http://:80"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(open_at(&http, wrong[i], "", text), SK_ECONFIG);
        assert_null(http);
        assert_non_null(strstr(text, "--http-listen"));
    }
    assert_int_equal(open_at(&http, "https://127.0.0.1:0", "", text), SK_ECONFIG);
    assert_non_null(strstr(text, "certificate"));
    assert_int_equal(open_at(&http, HTTP_NONE, "", text), SK_OK);
    assert_null(http);
    assert_int_equal(http_port(http), 0);
    http_close(http);
    assert_int_equal(open_at(&http, "http://127.0.0.1:0", "", text), SK_OK);
    (void)snprintf(taken, sizeof taken, "http://127.0.0.1:%d", http_port(http));
    assert_int_equal(open_at(&second, taken, "", text), SK_ECONFIG);
    assert_non_null(strstr(text, "in use"));
    http_close(http);
    if (open_at(&http, "http://[::1]:0", "", text) != SK_OK) { /* no IPv6 here */
        assert_null(strstr(text, "not an address"));
    }
    http_close(http);
}

static int lowest_free(void) {
    int fd = fcntl(0, F_DUPFD, 0);
    assert_true(fd >= 0);
    (void)close(fd);
    return fd;
}

static void expect_no_server(void) {
    struct http *http;
    char text[200];
    int before = lowest_free();
    assert_int_equal(open_at(&http, "http://127.0.0.1:0", "", text), SK_ECONFIG);
    assert_non_null(strstr(text, "does not start"));
    assert_int_equal(atomic_load(&closed_twice), 0);
    assert_int_equal(lowest_free(), before);
}

/* libmicrohttpd closes the socket in the second case, and not in the first. */
static void a_server_that_does_not_start_leaves_nothing_behind(void **state) {
    (void)state;
    struct rlimit files, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    few = (struct rlimit){.rlim_cur = (rlim_t)lowest_free() + 1, .rlim_max = files.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0); /* room for the socket, and for no epoll */
    expect_no_server();
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);

    pthread_attr_t usual, huge;
    assert_int_equal(pthread_getattr_default_np(&usual), 0);
    assert_int_equal(pthread_attr_init(&huge), 0);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 47), 0);
    assert_int_equal(pthread_setattr_default_np(&huge), 0); /* there is no memory for a thread */
    expect_no_server();
    assert_int_equal(pthread_setattr_default_np(&usual), 0);
    (void)pthread_attr_destroy(&usual);
    (void)pthread_attr_destroy(&huge);
}

/* ---- a service ---- */

/* What it does is said by its path: /s/now, /s/later, /s/never (until told), /s/refuse, /s/cut. Answers what came. */
struct ask {
    struct http_exchange *exchange;
    struct buffer body;
    struct buffer fields;
    size_t field_count;
    bool gone;
};

static _Atomic(struct ask *) held; /* by /s/never */
static atomic_int asks, gone_asks;

static bool does(const struct ask *ask, const char *what) {
    return strncmp(http_target(ask->exchange) + strlen("/s/"), what, strlen(what)) == 0;
}

static void *head(void *arg, struct http_exchange *exchange) {
    struct ask *ask = calloc(1, sizeof *ask);
    assert_string_equal(arg, "its argument");
    ask->exchange = exchange;
    buffer_init(&ask->body);
    buffer_init(&ask->fields);
    ask->field_count = http_fields(exchange, "x-test", &ask->fields);
    if (does(ask, "refuse")) http_refuse_body(exchange);
    atomic_fetch_add(&asks, 1);
    if (does(ask, "memory")) {
        atomic_fetch_sub(&asks, 1);
        free(ask);
        return NULL;
    }
    return ask;
}

static void body(void *request, struct slice piece) {
    struct ask *ask = request;
    buffer_append(&ask->body, piece.data, piece.size);
    if (does(ask, "cut")) http_cut(ask->exchange);
}

static bool whole(void *request) { return !does(request, "later") && !does(request, "never"); }

static void *resume(void *arg) {
    struct ask *ask = arg;
    ask->gone = http_is_gone(ask->exchange);
    http_resume(ask->exchange);
    return NULL;
}

static void submit(void *request) {
    pthread_t thread;
    if (does(request, "never")) {
        atomic_store(&held, request);
    } else if (http_target(((struct ask *)request)->exchange)[strlen("/s/later")] == '2') {
        resume(request); /* before the callback has ended */
    } else {
        assert_int_equal(pthread_create(&thread, NULL, resume, request), 0);
        pthread_detach(thread);
    }
}

static void answer(void *request, struct http_answer *answer) {
    struct ask *ask = request;
    answer->status = does(ask, "refuse") ? 413 : 201;
    http_answer_field(answer, "X-Answer", "%s %s %zu", http_method(ask->exchange), http_target(ask->exchange),
                      ask->field_count);
    if (does(ask, "empty")) {
        answer->type = NULL;
        answer->status = 204;
        return;
    }
    if (does(ask, "large")) buffer_extend(&answer->body, 64 * 1024 * 1024);
    buffer_append(&answer->body, ask->fields.data, ask->fields.size);
    buffer_append(&answer->body, ask->body.data, ask->body.size);
    if (does(ask, "failing")) answer->body.failed = true;
    if (does(ask, "cached")) http_answer_field(answer, "Cache-Control", "no-cache");
}

static void end(void *request) {
    struct ask *ask = request;
    if (ask->gone) atomic_fetch_add(&gone_asks, 1);
    buffer_deinit(&ask->body);
    buffer_deinit(&ask->fields);
    free(ask);
    atomic_fetch_sub(&asks, 1);
}

static const struct http_service service = {.prefix = "/s/",
                                            .arg = (void *)(uintptr_t) "its argument",
                                            .head_cb = head,
                                            .body_cb = body,
                                            .whole_cb = whole,
                                            .submit_cb = submit,
                                            .answer_cb = answer,
                                            .end_cb = end};

static struct http *open_service(void) {
    struct http *http;
    char text[200];
    struct http_options options = {.listen = "http://127.0.0.1:0",
                                   .pages = pages,
                                   .page_count = sizeof pages / sizeof *pages,
                                   .arg = (void *)(uintptr_t) "",
                                   .service = &service};
    assert_int_equal(http_open(&http, &options, text, sizeof text), SK_OK);
    return http;
}

static void close_service(struct http *http) {
    http_close(http);
    assert_int_equal(atomic_load(&asks), 0);
}

static void wait_until_held(void) {
    while (atomic_load(&held) == NULL) usleep(1000);
}

static void a_service_answers_now_or_later(void **state) {
    (void)state;
    struct http *http = open_service();
    int port = http_port(http);
    char room[4000];
    ask(port,
        "POST /s/now?a=%00+b"
        " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
        room);
    assert_non_null(strstr(room, "HTTP/1.1 201 Created\r\n"));
    assert_non_null(strstr(room, "X-Answer: POST /s/now?a=%00+b 0\r\n")); /* as it came */
    assert_non_null(strstr(room, "Cache-Control: no-store\r\n"));
    assert_non_null(strstr(room, "\r\n\r\nabc"));
    ask(port,
        "PUT /s/later HTTP/1.1\r\nHost: x\r\nX-Test: 1\r\nx-tesT: 2\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
        room);
    assert_non_null(strstr(room, "X-Answer: PUT /s/later 2\r\n"));
    assert_non_null(strstr(room, "\r\n\r\n1, 2abcde"));
    assert_non_null(strstr(ask(port, "GET /s/later2" END, room), "201"));
    assert_non_null(strstr(ask(port, "DELETE /s/empty" END, room), "204"));
    assert_null(strstr(room, "\r\nContent-Type:"));
    assert_non_null(strstr(ask(port, "HEAD /s/now" END, room), "201"));
    assert_non_null(strstr(ask(port, "GET /s/failing" END, room), "500"));
    assert_null(strstr(room, "X-Answer"));
    ask(port, "GET /s/cached" END, room);
    assert_int_equal(count_of(room, "Cache-Control"), 1);
    assert_string_equal(ask(port, "GET /s/memory" END, room), "");
    assert_non_null(strstr(ask(port, "GET /healthz" END, room), "200 OK"));
    assert_non_null(strstr(ask(port, "GET /s" END, room), "404"));
    close_service(http);
}

/* One connection, three requests in one write: answered in their order, and it stays open. */
static void requests_may_come_at_once(void **state) {
    (void)state;
    struct http *http = open_service();
    char room[4000];
    ask(http_port(http),
        "POST /s/later HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n11"
        "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        "POST /s/later2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n22",
        room);
    const char *first = strstr(room, "\r\n\r\n11HTTP/1.1 200");
    assert_non_null(first);
    assert_non_null(strstr(first, "\r\n\r\nok\nHTTP/1.1 201"));
    assert_non_null(strstr(first, "\r\n\r\n22"));
    close_service(http);
}

static void bodies_can_be_refused_or_cut(void **state) {
    (void)state;
    struct http *http = open_service();
    char room[4000];
    ask(http_port(http),
        "PUT /s/refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n", room);
    assert_non_null(strstr(room, "HTTP/1.1 413"));
    assert_null(strstr(room, "100 Continue"));
    ask(http_port(http), "PUT /s/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc", room);
    assert_string_equal(room, "");
    close_service(http);
}

static void it_is_known_who_has_gone(void **state) {
    (void)state;
    struct http *http = open_service();
    static const char request[] = "GET /s/never HTTP/1.1\r\nHost: x\r\n\r\n";
    for (int i = 0; i < 2; i++) {
        atomic_store(&held, NULL);
        atomic_store(&gone_asks, 0);
        int fd = dial(http_port(http));
        assert_int_equal(write(fd, request, strlen(request)), strlen(request));
        wait_until_held();
        assert_int_equal(http_connections(http), 1);
        if (i == 0) close(fd);
        while (i == 0 && !http_is_gone(atomic_load(&held)->exchange)) usleep(1000);
        resume(atomic_load(&held));
        if (i == 1) {
            char room[100];
            assert_true(read(fd, room, sizeof room) > 0);
            close(fd);
        }
        while (atomic_load(&asks) > 0 || http_connections(http) > 0) usleep(1000);
        assert_int_equal(atomic_load(&gone_asks), i == 0);
    }
    close_service(http);
}

/* In the time that http_tick is told. */
static void who_is_too_slow_is_cut(void **state) {
    (void)state;
    struct http *http = open_service();
    char room[4000];
    static const char half[] = "PUT /s/now HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc";
    static const char large[] = "GET /s/large HTTP/1.1\r\nHost: x\r\n\r\n";
    static const char waiting[] = "GET /s/never HTTP/1.1\r\nHost: x\r\n\r\n";
    int writer = dial(http_port(http)), reader = dial(http_port(http)), waiter = dial(http_port(http));
    atomic_store(&held, NULL);
    assert_int_equal(write(writer, half, strlen(half)), strlen(half));
    assert_int_equal(write(reader, large, strlen(large)), strlen(large));
    assert_int_equal(write(waiter, waiting, strlen(waiting)), strlen(waiting));
    wait_until_held();
    while (atomic_load(&asks) < 3) usleep(1000);
    assert_int_equal(read(reader, room, 100), 100);
    uint64_t now_ms = clock_boottime_ms();
    http_tick(http, now_ms);
    http_tick(http, now_ms + HTTP_GRACE_S * 1000 - 1000);
    assert_int_equal(atomic_load(&asks), 3);
    http_tick(http, now_ms + HTTP_GRACE_S * 1000 + 1000); /* the answer has 4 minutes more */
    assert_int_equal(read(writer, room, sizeof room), 0);
    while (atomic_load(&asks) > 2) usleep(1000);
    http_tick(http, now_ms + HTTP_GRACE_S * 1000 + 64 * 1024 * 1024 / HTTP_BYTES_PER_S_MIN * 1000 + 1000);
    while (atomic_load(&asks) > 1) usleep(1000);
    http_resume(atomic_load(&held)->exchange); /* who waits for us is not slow */
    assert_true(read(waiter, room, sizeof room) > 0);
    close(writer), close(reader), close(waiter);
    close_service(http);
    http_tick(NULL, 0);
}

/* Heads that are too long, or are none, are answered before a service hears of them. */
static void bad_heads_are_answered(void **state) {
    (void)state;
    struct http *http = open_service();
    static char request[100000];
    char room[4000];
    int size = snprintf(request, sizeof request, "GET /s/%0*d HTTP/1.1\r\nHost: x\r\n\r\n", 40000, 0);
    int fd = dial(http_port(http));
    assert_int_equal(write(fd, request, (size_t)size), size);
    ssize_t got = read(fd, room, sizeof room - 1);
    assert_true(got > 0);
    room[got] = '\0';
    assert_non_null(strstr(room, "HTTP/1.1 414"));
    close(fd);
    size = snprintf(request, sizeof request, "GET /s/now HTTP/1.1\r\nHost: x\r\nX: %0*d\r\n\r\n", 40000, 0);
    fd = dial(http_port(http));
    assert_int_equal(write(fd, request, (size_t)size), size);
    got = read(fd, room, sizeof room - 1);
    assert_true(got > 0);
    room[got] = '\0';
    assert_non_null(strstr(room, "HTTP/1.1 431"));
    close(fd);
    assert_non_null(strstr(ask(http_port(http), "GET /s/now HTTP/1.1\r\n\r\n", room), " 400 ")); /* no Host */
    close_service(http);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_answered),
        cmocka_unit_test(what_is_not_well_says_why),
        cmocka_unit_test(silent_clients_are_in_nobodys_way),
        cmocka_unit_test(addresses_are_checked),
        cmocka_unit_test(a_server_that_does_not_start_leaves_nothing_behind),
        cmocka_unit_test(a_service_answers_now_or_later),
        cmocka_unit_test(requests_may_come_at_once),
        cmocka_unit_test(bodies_can_be_refused_or_cut),
        cmocka_unit_test(it_is_known_who_has_gone),
        cmocka_unit_test(who_is_too_slow_is_cut),
        cmocka_unit_test(bad_heads_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
