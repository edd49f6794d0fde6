#include "libcommon/http.h"

#include "libcommon/error.h"
#include "libcommon/testing.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_answered),
        cmocka_unit_test(what_is_not_well_says_why),
        cmocka_unit_test(silent_clients_are_in_nobodys_way),
        cmocka_unit_test(addresses_are_checked),
        cmocka_unit_test(a_server_that_does_not_start_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
