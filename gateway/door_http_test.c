/* The door over a real HTTP port, with a loop of the test's own in place of the gateway's. */
#include "gateway/door_http.h"

#include "gateway/load.h"
#include "gateway/post.h"
#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/limits.h"
#include "libcommon/mp.h"
#include "libcommon/testing.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* One message that has come, until it is answered. */
struct waiting {
    struct client *client;
    struct slice bytes;
    int err;
};

struct bench {
    struct mailbox *mailbox;
    struct load load;
    struct door_http *door;
    struct http *http;
    struct waiting waiting[8];
    size_t count;
};

static void request_cb(void *arg, struct client *client, struct slice bytes, int err) {
    struct bench *bench = arg;
    bench->waiting[bench->count++] = (struct waiting){client, bytes, err};
}

static void bench_open(struct bench *bench, uint32_t requests_max, uint64_t connection_bytes_max) {
    char text[200];
    *bench = (struct bench){0};
    load_init(&bench->load, 1000000, 100);
    assert_int_equal(mailbox_new(&bench->mailbox, 100), SK_OK);
    struct door_http_options options = {.mailbox = bench->mailbox,
                                        .load = &bench->load,
                                        .rules = {.hosts = "", .message_bytes_max = MESSAGE_BYTES_MAX},
                                        .requests_max = requests_max,
                                        .connection_bytes_max = connection_bytes_max,
                                        .arg = bench,
                                        .request_cb = request_cb};
    assert_int_equal(door_http_new(&bench->door, &options), SK_OK);
    struct http_options for_http = {.listen = "http://127.0.0.1:0", .service = door_http_service(bench->door)};
    assert_int_equal(http_open(&bench->http, &for_http, text, sizeof text), SK_OK);
}

static void bench_close(struct bench *bench) {
    assert_false(door_http_waits(bench->door));
    http_close(bench->http);
    assert_int_equal(door_http_in_flight(bench->door), 0);
    assert_int_equal(atomic_load(&bench->load.bytes), 0);
    door_http_free(bench->door);
    mailbox_free(bench->mailbox);
}

/* Takes mail until so many messages wait. */
static void wait_for_messages(struct bench *bench, size_t count) {
    while (bench->count < count) {
        struct mail *mail = mailbox_take(bench->mailbox, clock_boottime_us() + 1000000);
        while (mail != NULL) {
            struct mail *next = mail->next;
            post_handle(mail);
            mail = next;
        }
    }
}

static void reply(const struct waiting *waiting, const char *bytes, size_t size) {
    waiting->client->ops->reply(waiting->client, slice_of(bytes, size));
}

#define REPLY(waiting, result) reply(waiting, "\x94\1\0\xc0" result, sizeof result + 3)

static int send_to(const struct bench *bench, const char *request) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)http_port(bench->http))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(write(fd, request, strlen(request)), strlen(request));
    return fd;
}

/* What the server sends until it closes. */
static const char *receive(int fd) {
    static _Thread_local char room[200000];
    size_t used = 0;
    ssize_t got;
    while ((got = read(fd, room + used, sizeof room - 1 - used)) > 0) used += (size_t)got;
    room[used] = '\0';
    close(fd);
    return room;
}

static void expect(int fd, const char *part) {
    const char *answer = receive(fd);
    if (strstr(answer, part) == NULL) fail_msg("'%s' is not in: %s", part, answer);
}

#define END " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"

static void messages_go_to_the_loop_and_back(void **state) {
    (void)state;
    struct bench bench;
    bench_open(&bench, 10, 1000);
    int fd = send_to(&bench, "GET /v1/keys/k" END "\r\n");
    wait_for_messages(&bench, 1);
    const struct waiting *waiting = &bench.waiting[0];
    assert_int_equal(waiting->err, SK_OK);
    assert_int_equal(waiting->client->ops->door, DOOR_HTTP);
    assert_true(waiting->client->proven);
    assert_memory_equal(waiting->bytes.data, "\x95\0\0\xa4VGET\x91\xc4\1k\x80", waiting->bytes.size);
    assert_true(door_http_waits(bench.door));
    assert_int_equal(door_http_in_flight(bench.door), 1);
    assert_false(waiting->client->ops->gone(waiting->client));
    char name[PEER_NAME_BYTES];
    waiting->client->ops->name(waiting->client, name);
    assert_memory_equal(name, "127.0.0.1:", 10);
    assert_int_equal(atomic_load(&bench.load.bytes), waiting->bytes.size);
    assert_true(waiting->client->ops->charge(waiting->client, 900)); /* of its 1000 */
    assert_false(waiting->client->ops->charge(waiting->client, 900));
    REPLY(waiting, "\x93\7\xc4\5value\xff");
    assert_false(door_http_waits(bench.door));
    expect(fd, "\r\n\r\nvalue");
    bench_close(&bench);
}

static void who_has_gone_is_known(void **state) {
    (void)state;
    struct bench bench;
    bench_open(&bench, 10, 1000);
    close(send_to(&bench, "DELETE /v1/keys/k" END "\r\n"));
    wait_for_messages(&bench, 1);
    struct client *client = bench.waiting[0].client;
    while (!client->ops->gone(client)) usleep(1000);
    REPLY(&bench.waiting[0], "\1");
    while (door_http_in_flight(bench.door) > 0) usleep(1000);
    bench_close(&bench);
}

static void requests_are_counted(void **state) {
    (void)state;
    struct bench bench;
    int fds[3];
    bench_open(&bench, 2, 1000);
    for (size_t i = 0; i < 3; i++) {
        fds[i] = send_to(&bench, "GET /v1/keys" END "\r\n");
        wait_for_messages(&bench, i + 1);
        assert_int_equal(bench.waiting[i].err, i < 2 ? SK_OK : SK_OVERLOADED);
    }
    reply(&bench.waiting[2], "\x94\1\0\x92\xaaOVERLOADED\xa1x\xc0", 18);
    expect(fds[2], "503 Service Unavailable");
    for (size_t i = 0; i < 2; i++) {
        REPLY(&bench.waiting[i], "\x92\xc4\1"
                                 "0\x90");
        expect(fds[i], "{\"keys\":[],\"cursor\":null}");
    }
    bench.count = 0;
    while (door_http_in_flight(bench.door) > 0) usleep(1000);
    fds[0] = send_to(&bench, "GET /v1/keys" END "\r\n");
    wait_for_messages(&bench, 1);
    assert_int_equal(bench.waiting[0].err, SK_OK); /* there is room again */
    REPLY(&bench.waiting[0], "\x92\xc4\1"
                             "0\x90");
    expect(fds[0], "200 OK");
    bench_close(&bench);
}

/* What is refused is read all the same, and nothing of it is kept. */
static void bytes_are_counted(void **state) {
    (void)state;
    struct bench bench;
    char request[5000];
    int size = snprintf(request, sizeof request, "PUT /v1/keys/k" END "Content-Length: 2000\r\n\r\n%02000d", 0);
    assert_true(size > 0 && (size_t)size < sizeof request);
    bench_open(&bench, 10, 1000);
    expect(send_to(&bench, request), "\"code\":\"OVERLOADED\"");
    bench_close(&bench);
    bench_open(&bench, 10, 10000);
    load_add(&bench.load, 999000); /* by other doors */
    expect(send_to(&bench, request), "\"code\":\"OVERLOADED\"");
    load_sub(&bench.load, 999000);
    int fd = send_to(&bench, request);
    wait_for_messages(&bench, 1);
    assert_int_equal(atomic_load(&bench.load.bytes),
                     bench.waiting[0].bytes.size); /* the body has given way to it */
    assert_true(bench.waiting[0].bytes.size > 2000);
    REPLY(&bench.waiting[0], "\x93\x92\xc0\0\x92\xc0\xa2OK\x92\xc0\7");
    expect(fd, "201 Created");
    bench_close(&bench);
}

static void what_needs_no_loop_is_answered_at_once(void **state) {
    (void)state;
    struct bench bench;
    bench_open(&bench, 10, 1000000);
    expect(send_to(&bench, "GET /v1/openapi.json" END "\r\n"), "\"openapi\": \"3.1.0\"");
    expect(send_to(&bench, "PUT /v1/keys" END "Content-Length: 3\r\n\r\nabc"), "405 Method Not Allowed");
    expect(send_to(&bench, "PUT /v1/keys/k" END "Content-Length: 16777217\r\n\r\n"), "413 ");
    expect(send_to(&bench, "POST /v1/commands" END "Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{"),
           "at byte 1");
    bench_close(&bench);
}

/* A value of which nobody knows how long it will be, by the chunk. */
static void long_bodies_are_noticed(void **state) {
    (void)state;
    struct bench bench;
    bench_open(&bench, 10, UINT64_MAX / 2);
    bench.load.bytes_max = UINT64_MAX / 2;
    static char chunk[65536 + 10] = "10000\r\n";
    memset(chunk + 7, 'v', 65536);
    memcpy(chunk + 7 + 65536, "\r\n", 2);
    int fd = send_to(&bench, "PUT /v1/keys/k" END "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 257; i++) assert_int_equal(write(fd, chunk, 7 + 65536 + 2), 7 + 65536 + 2);
    assert_int_equal(write(fd, "0\r\n\r\n", 5), 5);
    expect(fd, "413 ");
    bench_close(&bench);
}

/* Those that the loop has are answered, those that come then not asked. */
static void it_ends(void **state) {
    (void)state;
    struct bench bench;
    bench_open(&bench, 10, 1000);
    int first = send_to(&bench, "GET /v1/keys" END "\r\n");
    wait_for_messages(&bench, 1);
    door_http_end(bench.door);
    expect(send_to(&bench, "GET /v1/keys" END "\r\n"), "\"code\":\"UNAVAILABLE\"");
    assert_true(door_http_waits(bench.door));
    REPLY(&bench.waiting[0], "\x92\xc4\1"
                             "0\x90");
    expect(first, "200 OK");
    bench_close(&bench);
    assert_int_equal(door_http_in_flight(NULL), 0);
    assert_false(door_http_waits(NULL));
    door_http_end(NULL);
    door_http_free(NULL);
}

/* Many connections against a loop that answers in any order: what TSan is to see. */
static void *asker(void *arg) {
    const struct bench *bench = arg;
    for (int i = 0; i < 50; i++) expect(send_to(bench, "GET /v1/keys/k" END "\r\n"), "404 Not Found");
    return NULL;
}

static void many_ask(void **state) {
    (void)state;
    struct bench bench;
    pthread_t threads[4];
    bench_open(&bench, 100, 1000);
    for (size_t i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, asker, &bench), 0);
    for (int answered = 0; answered < 200;) {
        wait_for_messages(&bench, 1);
        while (bench.count > 0) {
            struct waiting waiting = bench.waiting[--bench.count];
            (void)waiting.client->ops->gone(waiting.client);
            REPLY(&waiting, "\xc0");
            answered++;
        }
    }
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    bench_close(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_to_the_loop_and_back),
        cmocka_unit_test(who_has_gone_is_known),
        cmocka_unit_test(requests_are_counted),
        cmocka_unit_test(bytes_are_counted),
        cmocka_unit_test(what_needs_no_loop_is_answered_at_once),
        cmocka_unit_test(long_bodies_are_noticed),
        cmocka_unit_test(it_ends),
        cmocka_unit_test(many_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
