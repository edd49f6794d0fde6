/* Transports in one loop that talk over loopback TCP, plain and with TLS; strangers are plain sockets of the test. Tests run the loop until what
 * they expect is true. */
#include "metad/transport.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/testing_tls.h"
#include "libcommon/tls_guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define PATIENCE_MS 20000u /* for what must come; a failure, not a pace */
#define LONG_MS     60000u /* a limit that no test meets */
#define SHORT_MS    50u    /* one that a test waits for */
#define SIDES       3
#define BYTES_MAX   64u

/* One server. */
struct side {
    struct transport *transport;
    struct handshake_server self;
    const char *secret;
    char bind[64];
    const struct tls *tls;
    uint32_t limit_ms;
    bool is_member;    /* of whoever calls it */
    const char *where; /* what address_cb answers; NULL = where the server is */
    uint64_t looked_up;
    char looked_up_name[HANDSHAKE_NAME_BYTES];

    uint32_t met_count;
    struct handshake_server met; /* the last */

    uint32_t accepted_count;
    raft_id accepted_id; /* the last */
    char accepted_name[HANDSHAKE_NAME_BYTES];
    uv_stream_t *accepted; /* owned */

    struct raft_uv_connect request;
    uint32_t connected_count;
    int status;             /* of the last */
    uv_stream_t *connected; /* owned */

    uint32_t asked_count;
    int asked_err; /* the last */
    bool asked_known;
    struct handshake_server asked;

    bool closed;
};

static uv_loop_t loop;
static uv_timer_t tick; /* so that a run of the loop ends also when nothing comes */
static struct side sides[SIDES];
static struct side *const one = &sides[0], *const two = &sides[1];
static struct tls *node; /* the identity of a server */

/* libraft and libuv are not built for the thread sanitizer: it sees what they pass to libc and not how they order it. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) { return "called_from_lib:libraft.so\ncalled_from_lib:libuv.so\n"; }

static void tick_cb(uv_timer_t *timer) { (void)timer; }

static void run_once(uint64_t deadline_ms, const char *condition) {
    if (clock_boottime_ms() > deadline_ms) fail_msg("not in time: %s", condition);
    (void)uv_run(&loop, UV_RUN_ONCE);
}

#define run_until(condition)                                                                                      \
    for (uint64_t deadline_ms = clock_boottime_ms() + PATIENCE_MS; !(condition);) run_once(deadline_ms, #condition)

/* ---- what the transports call ---- */

static void self_cb(void *arg, struct handshake_server *self) { *self = ((struct side *)arg)->self; }

static bool is_member_cb(void *arg, uint64_t id) {
    assert_true(id > 0);
    return ((struct side *)arg)->is_member;
}

static void address_cb(void *arg, uint64_t id, const char *name, char address[TRANSPORT_ADDRESS_BYTES]) {
    struct side *side = arg;
    const char *where = side->where != NULL ? side->where : sides[id - 1].bind;
    side->looked_up = id;
    (void)snprintf(side->looked_up_name, sizeof side->looked_up_name, "%s", name);
    (void)snprintf(address, TRANSPORT_ADDRESS_BYTES, "%s", where);
}

static void met_cb(void *arg, const struct handshake_server *server) {
    struct side *side = arg;
    side->met_count++;
    side->met = *server;
}

static void free_stream_cb(uv_handle_t *handle) { raft_free(handle); }

static void drop(uv_stream_t **stream) {
    if (*stream != NULL) uv_close((uv_handle_t *)*stream, free_stream_cb);
    *stream = NULL;
}

static void accept_cb(struct raft_uv_transport *raft, raft_id id, const char *name, struct uv_stream_s *stream) {
    struct side *side = raft->data;
    assert_false(side->closed);
    assert_null(stream->data);
    side->accepted_count++;
    side->accepted_id = id;
    (void)snprintf(side->accepted_name, sizeof side->accepted_name, "%s", name);
    drop(&side->accepted);
    side->accepted = stream;
}

static void connected_cb(struct raft_uv_connect *request, struct uv_stream_s *stream, int status) {
    struct side *side = request->data;
    assert_true((stream == NULL) == (status != 0));
    side->connected_count++;
    side->status = status;
    drop(&side->connected);
    side->connected = stream;
}

static void asked_cb(void *arg, int err, const struct handshake_server *server) {
    struct side *side = arg;
    side->asked_count++;
    side->asked_err = err;
    side->asked_known = server != NULL;
    if (server != NULL) side->asked = *server;
}

static void closed_cb(struct raft_uv_transport *raft) { ((struct side *)raft->data)->closed = true; }

/* ---- the servers ---- */

/* A port that nobody listens on. */
static uint16_t free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    assert_int_equal(close(fd), 0);
    return ntohs(address.sin_port);
}

static void use_free_port(struct side *side) {
    (void)snprintf(side->bind, sizeof side->bind, "127.0.0.1:%u", free_port());
}

static int side_new(struct side *side) {
    side->closed = false;
    return transport_new(&side->transport, &(struct transport_options){
                                               .loop = &loop,
                                               .secret = slice_of_text(side->secret),
                                               .bind = side->bind,
                                               .tls = side->tls,
                                               .limit_ms = side->limit_ms,
                                               .arg = side,
                                               .self_cb = self_cb,
                                               .is_member_cb = is_member_cb,
                                               .address_cb = address_cb,
                                               .met_cb = met_cb,
                                           });
}

static void side_start(struct side *side) {
    assert_int_equal(side_new(side), SK_OK);
    struct raft_uv_transport *raft = transport_raft(side->transport);
    assert_int_equal(raft->version, 1);
    raft->data = side;
    assert_int_equal(raft->init(raft, side->self.id, side->self.name), 0);
    assert_int_equal(raft->listen(raft, accept_cb), 0);
}

static void side_close(struct side *side) {
    struct raft_uv_transport *raft = transport_raft(side->transport);
    raft->data = side;
    raft->close(raft, closed_cb);
    run_until(side->closed);
    transport_free(side->transport);
    side->transport = NULL;
    drop(&side->accepted);
    drop(&side->connected);
}

static void begin_connect(struct side *side, raft_id id) {
    struct raft_uv_transport *raft = transport_raft(side->transport);
    uint32_t before = side->connected_count;
    side->request.data = side;
    assert_int_equal(raft->connect(raft, &side->request, id, "configured", connected_cb), 0);
    assert_int_equal(side->connected_count, before); /* never from within */
    assert_true(side->looked_up == id);
    assert_string_equal(side->looked_up_name, "configured");
}

static int connect_to(struct side *side, raft_id id) {
    uint32_t before = side->connected_count;
    begin_connect(side, id);
    run_until(side->connected_count > before);
    return side->status;
}

static void begin_ask(struct side *side, const char *address) {
    uint32_t before = side->asked_count;
    assert_int_equal(transport_ask(side->transport, address, asked_cb, side), SK_OK);
    assert_int_equal(side->asked_count, before); /* never from within */
}

static int ask(struct side *side, const char *address) {
    uint32_t before = side->asked_count;
    begin_ask(side, address);
    run_until(side->asked_count > before);
    return side->asked_err;
}

static int set_up(void **state) {
    (void)state;
    memset(sides, 0, sizeof sides);
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_timer_init(&loop, &tick), 0);
    assert_int_equal(uv_timer_start(&tick, tick_cb, 1, 1), 0);
    for (uint64_t i = 0; i < SIDES; i++) {
        struct side *side = &sides[i];
        side->self = (struct handshake_server){.id = i + 1, .cluster = 7, .last_index = 100 + i, .peers = 9};
        (void)snprintf(side->self.name, sizeof side->self.name, "server%u:7101", (unsigned)i + 1);
        side->secret = "one secret";
        side->limit_ms = LONG_MS;
        side->is_member = true;
        use_free_port(side);
    }
    return 0;
}

static int set_up_tls(void **state) {
    int failed = set_up(state);
    for (int i = 0; i < SIDES; i++) sides[i].tls = node;
    return failed;
}

/* Also that nothing is left on the loop. */
static int tear_down(void **state) {
    (void)state;
    for (int i = 0; i < SIDES; i++) {
        if (sides[i].transport != NULL) side_close(&sides[i]);
    }
    uv_close((uv_handle_t *)&tick, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) continue;
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void start_both(void) {
    side_start(one);
    side_start(two);
}

/* ---- bytes over what has been connected ---- */

struct traffic {
    char room[BYTES_MAX];
    size_t size;
    bool ended;
};

static void room_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)suggested;
    struct traffic *traffic = handle->data;
    *buffer = uv_buf_init(traffic->room + traffic->size, (unsigned)(sizeof traffic->room - traffic->size));
}

static void read_cb(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    (void)buffer;
    struct traffic *traffic = stream->data;
    if (size < 0) traffic->ended = true;
    if (size > 0) traffic->size += (size_t)size;
}

static void listen_to(uv_stream_t *stream, struct traffic *traffic) {
    *traffic = (struct traffic){.size = 0};
    stream->data = traffic;
    assert_int_equal(uv_read_start(stream, room_cb, read_cb), 0);
}

static void assert_bytes_pass(uv_stream_t *from, uv_stream_t *to, const char *text) {
    struct traffic traffic;
    uv_buf_t bytes = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
    assert_int_equal(uv_try_write(from, &bytes, 1), (int)bytes.len);
    listen_to(to, &traffic);
    run_until(traffic.size >= bytes.len);
    assert_int_equal(traffic.size, bytes.len);
    assert_memory_equal(traffic.room, text, bytes.len);
    assert_int_equal(uv_read_stop(to), 0);
}

static void assert_no_delay(const struct side *side, uv_stream_t *stream) {
    int fd, on = 0;
    if (side->tls != NULL) return; /* the stream is no socket of TCP */
    socklen_t size = sizeof on;
    assert_int_equal(uv_fileno((uv_handle_t *)stream, &fd), 0);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    assert_true(on);
}

/* ---- strangers ---- */

static int stranger_call(const struct side *side) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)strtoul(strchr(side->bind, ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void stranger_say(int fd, const void *bytes, size_t size) {
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

/* What has come so far, counted on in `size`. False: the other side has closed. */
static bool stranger_hear(int fd, uint8_t *room, size_t room_bytes, size_t *size) {
    ssize_t got = recv(fd, room + *size, room_bytes - *size, MSG_DONTWAIT);
    if (got > 0) *size += (size_t)got;
    return got > 0 || (got < 0 && errno == EAGAIN);
}

static size_t stranger_hear_out(int fd) {
    uint8_t room[2048];
    size_t size = 0;
    run_until(!stranger_hear(fd, room, sizeof room, &size));
    assert_int_equal(close(fd), 0);
    return size;
}

/* Its connections are made by the kernel and never answered. */
static int silent_server(const struct side *side) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)strtoul(strchr(side->bind, ':') + 1, NULL, 10));
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0);
    return fd;
}

/* ---- tests ---- */

static void servers_connect_and_bytes_pass(void **state) {
    (void)state;
    start_both();
    assert_int_equal(connect_to(one, 2), 0);
    run_until(two->accepted_count == 1);
    assert_true(two->accepted_id == 1);
    assert_string_equal(two->accepted_name, "server1:7101");
    assert_int_equal(connect_to(two, 1), 0);
    run_until(one->accepted_count == 1);
    assert_true(one->accepted_id == 2);
    assert_bytes_pass(one->connected, two->accepted, "from one");
    assert_bytes_pass(two->accepted, one->connected, "back to one");
    assert_bytes_pass(two->connected, one->accepted, "from two");
    assert_bytes_pass(one->accepted, two->connected, "back to two");
    assert_no_delay(one, one->connected);
    assert_no_delay(one, one->accepted);
    assert_int_equal(one->met_count, 2);
    assert_int_equal(two->met_count, 2);
    assert_true(two->met.id == 1 && two->met.cluster == 7 && two->met.last_index == 100 && two->met.peers == 9);
    assert_string_equal(two->met.name, "server1:7101");
}

/* A stream ends at libraft when the other side goes. */
static void a_stream_ends_with_its_other_side(void **state) {
    (void)state;
    struct traffic traffic;
    start_both();
    assert_int_equal(connect_to(one, 2), 0);
    run_until(two->accepted_count == 1);
    listen_to(two->accepted, &traffic);
    drop(&one->connected);
    run_until(traffic.ended);
}

static void asking_tells_who_is_there(void **state) {
    (void)state;
    start_both();
    two->is_member = false; /* only for libraft's messages */
    assert_int_equal(ask(one, two->bind), SK_OK);
    assert_true(one->asked.id == 2 && one->asked.last_index == 101);
    assert_string_equal(one->asked.name, "server2:7101");
    run_until(two->met_count == 1);
    assert_true(two->met.id == 1);
    assert_int_equal(one->met_count, 1);
    assert_int_equal(two->accepted_count, 0);
    assert_int_equal(ask(one, one->bind), SK_OK); /* oneself */
    assert_true(one->asked.id == 1);
}

static void names_are_looked_up(void **state) {
    (void)state;
    char address[64];
    start_both();
    (void)snprintf(address, sizeof address, "localhost%s", strchr(two->bind, ':'));
    assert_int_equal(ask(one, address), SK_OK);
    assert_true(one->asked.id == 2);
    one->where = address;
    assert_int_equal(connect_to(one, 2), 0);
}

static void another_secret_is_refused(void **state) {
    (void)state;
    struct capture capture;
    char text[4096];
    two->secret = "another secret";
    start_both();
    capture_begin(&capture, 2);
    int err = ask(one, two->bind);
    int code = connect_to(one, 2);
    (void)capture_end(&capture, text, sizeof text);
    assert_int_equal(err, SK_EPROTO);
    assert_false(one->asked_known);
    assert_int_equal(code, RAFT_NOCONNECTION);
    assert_int_equal(one->met_count + two->met_count, 0);
    assert_non_null(strstr(text, "event=raft_peer_refused server=0 address=127.0.0.1:"));
    assert_non_null(strstr(text, "another secret"));
}

static void another_cluster_is_refused_and_known(void **state) {
    (void)state;
    two->self.cluster = 8;
    start_both();
    assert_int_equal(ask(one, two->bind), SK_CONFLICT);
    assert_true(one->asked_known && one->asked.id == 2 && one->asked.cluster == 8);
    assert_int_equal(connect_to(one, 2), RAFT_NOCONNECTION);
    run_until(two->met_count == 2);
    assert_int_equal(one->met_count, 2);
    assert_int_equal(two->accepted_count, 0);
    two->self.cluster = 0;
    assert_int_equal(connect_to(one, 2), 0);
}

static void who_is_not_wanted_is_met(void **state) {
    (void)state;
    start_both();
    one->where = two->bind;
    assert_int_equal(connect_to(one, 3), RAFT_NOCONNECTION);
    assert_int_equal(one->met_count, 1);
    assert_true(one->met.id == 2);
    run_until(two->met_count == 1);
    assert_true(two->met.id == 1);
    assert_int_equal(two->accepted_count, 0);
}

static void who_is_no_member_is_not_handed_over(void **state) {
    (void)state;
    struct capture capture;
    char text[4096];
    start_both();
    two->is_member = false;
    capture_begin(&capture, 2);
    int code = connect_to(one, 2);
    (void)capture_end(&capture, text, sizeof text);
    assert_int_equal(code, RAFT_NOCONNECTION);
    assert_non_null(strstr(text, "event=raft_peer_refused server=1 address=127.0.0.1:"));
    assert_non_null(strstr(text, "error=REMOVED reason=\"not a member\" unlogged=0"));
    assert_int_equal(two->accepted_count, 0);
    assert_int_equal(one->met_count, 1);
    assert_int_equal(two->met_count, 1);
    two->is_member = true;
    assert_int_equal(connect_to(one, 2), 0);
    run_until(two->accepted_count == 1);
}

static void a_server_sends_nothing_to_itself(void **state) {
    (void)state;
    side_start(one);
    assert_int_equal(connect_to(one, 1), RAFT_NOCONNECTION);
    assert_int_equal(one->accepted_count, 0);
}

static void what_is_not_there_cannot_be_reached(void **state) {
    (void)state;
    static const char *const addresses[] = {
        "",           ":",           ":7000",           "127.0.0.1",
        "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:000000080",
        "::1:7000",   "[]:7000",     "[::1:7000",       "a..b:7000",
    };
    side_start(one); /* two does not listen */
    assert_int_equal(ask(one, two->bind), SK_ENET);
    assert_int_equal(connect_to(one, 2), RAFT_NOCONNECTION);
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        assert_int_equal(ask(one, addresses[i]), SK_ENET);
        one->where = addresses[i];
        assert_int_equal(connect_to(one, 2), RAFT_NOCONNECTION);
    }
    char longest[TRANSPORT_ADDRESS_BYTES + 100];
    memset(longest, 'a', sizeof longest);
    (void)snprintf(longest + sizeof longest - 6, 6, ":7000");
    assert_int_equal(ask(one, longest), SK_ENET);
    assert_int_equal(ask(one, longest + 101), SK_ENET); /* an address by its length, and no name */
    assert_int_equal(one->met_count, 0);
}

/* How soon that is known depends on who is asked for names here. */
static void an_unknown_name_cannot_be_reached(void **state) {
    (void)state;
    one->limit_ms = TRANSPORT_MS;
    side_start(one);
    int err = ask(one, "nobody.invalid:7000");
    assert_true(err == SK_ENET || err == SK_ETIMEDOUT);
    one->where = "nobody.invalid:7000";
    assert_int_equal(connect_to(one, 2), RAFT_NOCONNECTION);
}

static void strangers_are_shown_the_door(void **state) {
    (void)state;
    static const uint8_t garbage[2000] = "GET / HTTP/1.1\r\n\r\n";
    side_start(one);
    int fd = stranger_call(one);
    stranger_say(fd, garbage, 18);
    assert_int_equal(stranger_hear_out(fd), 0);
    fd = stranger_call(one);
    stranger_say(fd, garbage, sizeof garbage);
    assert_int_equal(stranger_hear_out(fd), 0);
    fd = stranger_call(one);
    stranger_say(fd, "SkerryMR\0\0\0\2whatever comes in that version", 40);
    assert_int_equal(stranger_hear_out(fd), HANDSHAKE_HEAD_BYTES);
    assert_int_equal(one->met_count + one->accepted_count, 0);
}

/* Whatever part of a greeting a stranger says before he goes. */
static void half_a_greeting_leaves_nothing_behind(void **state) {
    (void)state;
    struct handshake_key key;
    struct handshake dialer;
    struct slice hello;
    assert_int_equal(handshake_key_init(&key, slice_of_text("guessed")), SK_OK);
    side_start(one);
    handshake_begin_dialer(&dialer, &key, &two->self, HANDSHAKE_RAFT, 1, &hello);
    for (size_t size = 0; size <= hello.size; size += 16) {
        int fd = stranger_call(one);
        stranger_say(fd, hello.data, size);
        assert_int_equal(close(fd), 0);
    }
    int fd = stranger_call(one);
    stranger_say(fd, hello.data, hello.size);
    uint8_t room[HANDSHAKE_REPLY_BYTES + 1];
    size_t size = 0;
    run_until(!stranger_hear(fd, room, sizeof room, &size) || size == HANDSHAKE_REPLY_BYTES);
    assert_int_equal(size, HANDSHAKE_REPLY_BYTES);
    stranger_say(fd, room, HANDSHAKE_PROOF_BYTES);
    assert_int_equal(stranger_hear_out(fd), 0);
    assert_int_equal(one->met_count + one->accepted_count, 0);
}

/* A caller who knows the secret and goes on talking before he is taken. */
static void bytes_behind_the_proof_are_refused(void **state) {
    (void)state;
    struct handshake_key key;
    struct handshake dialer;
    struct slice hello, proof;
    uint8_t room[HANDSHAKE_REPLY_BYTES], words[HANDSHAKE_PROOF_BYTES + 1] = {0};
    size_t size = 0;
    assert_int_equal(handshake_key_init(&key, slice_of_text(one->secret)), SK_OK);
    side_start(one);
    handshake_begin_dialer(&dialer, &key, &two->self, HANDSHAKE_RAFT, 1, &hello);
    int fd = stranger_call(one);
    stranger_say(fd, hello.data, hello.size);
    run_until(!stranger_hear(fd, room, sizeof room, &size) || size == sizeof room);
    assert_int_equal(handshake_feed(&dialer, slice_of(room, size), &proof), SK_RETRY);
    memcpy(words, proof.data, proof.size);
    stranger_say(fd, words, sizeof words);
    assert_int_equal(stranger_hear_out(fd), 0);
    assert_int_equal(one->met_count, 1);
    assert_int_equal(one->accepted_count, 0);
}

static void silence_has_its_limit(void **state) {
    (void)state;
    one->limit_ms = SHORT_MS;
    side_start(one);
    int fd = stranger_call(one);
    assert_int_equal(stranger_hear_out(fd), 0);
    /* Of those who are called, too. */
    int silent = silent_server(two);
    assert_int_equal(ask(one, two->bind), SK_ETIMEDOUT);
    assert_int_equal(connect_to(one, 2), RAFT_NOCONNECTION);
    assert_int_equal(close(silent), 0);
}

/* A crowd of callers who say nothing: the oldest go, and a server comes through. */
static void a_crowd_keeps_nobody_out(void **state) {
    (void)state;
    enum { CROWD = 100 };
    int crowd[CROWD];
    struct capture capture;
    char text[16384];
    start_both();
    capture_begin(&capture, 2);
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = stranger_call(two);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    int code = connect_to(one, 2);
    int err = ask(one, two->bind);
    uint8_t room[8];
    size_t size = 0;
    bool first_is_here, last_is_here = stranger_hear(crowd[CROWD - 1], room, sizeof room, &size);
    run_until(!(first_is_here = stranger_hear(crowd[0], room, sizeof room, &size)));
    (void)capture_end(&capture, text, sizeof text);
    assert_int_equal(code, 0);
    assert_int_equal(err, SK_OK);
    assert_true(last_is_here);
    assert_int_equal(size, 0);
    assert_non_null(strstr(text, "error=BUSY"));
    assert_true(count_of(text, "raft_peer_refused") <= 1 + PATIENCE_MS / 1000); /* one a second at most */
    for (int i = 0; i < CROWD; i++) assert_int_equal(close(crowd[i]), 0);
}

static void refusals_are_counted_where_they_are_not_logged(void **state) {
    (void)state;
    struct capture capture;
    char text[4096];
    side_start(one);
    capture_begin(&capture, 2);
    for (int i = 0; i < 10; i++) {
        int fd = stranger_call(one);
        stranger_say(fd, "rubbish, and enough", 19);
        (void)stranger_hear_out(fd);
    }
    /* The next line says how many there were; what made it due is only the time. */
    uint64_t begin_ms = clock_boottime_ms();
    run_until(clock_boottime_ms() > begin_ms + 1001);
    int fd = stranger_call(one);
    stranger_say(fd, "rubbish, and enough", 19);
    (void)stranger_hear_out(fd);
    (void)capture_end(&capture, text, sizeof text);
    assert_non_null(strstr(text, "server=0 address=127.0.0.1:"));
    assert_non_null(strstr(text, "error=EPROTO reason=\"not a metad\" unlogged=0"));
    assert_true(count_of(text, "raft_peer_refused") >= 2);
    assert_true(count_of(text, "unlogged=0") == 1 || count_of(text, "raft_peer_refused") > 2);
}

static void closing_cancels_all_that_is_under_way(void **state) {
    (void)state;
    int strangers[4];
    struct side *three = &sides[2];
    int silent = silent_server(three);
    start_both();
    for (int i = 0; i < 4; i++) strangers[i] = stranger_call(one);
    begin_connect(one, 3);
    begin_ask(one, three->bind);
    for (int i = 0; i < 50; i++) (void)uv_run(&loop, UV_RUN_NOWAIT);
    begin_ask(one, "nobody.invalid:7000"); /* looked up by a thread, or queued for one */
    begin_ask(one, two->bind);
    begin_ask(one, "");
    side_close(one);
    assert_int_equal(one->connected_count, 1);
    assert_int_equal(one->status, RAFT_CANCELED);
    assert_int_equal(one->asked_count, 4);
    assert_int_equal(one->asked_err, SK_ECLOSED);
    assert_int_equal(one->accepted_count, 0);
    for (int i = 0; i < 4; i++) assert_int_equal(stranger_hear_out(strangers[i]), 0);
    assert_int_equal(close(silent), 0);
}

/* At whatever step it is caught. */
static void closing_is_safe_at_every_step(void **state) {
    (void)state;
    for (int steps = 0; steps < 80; steps++) {
        struct side *closing = steps % 2 == 0 ? one : two;
        start_both();
        one->connected_count = one->asked_count = 0;
        begin_connect(one, 2);
        begin_ask(one, two->bind);
        for (int i = 0; i < steps / 2; i++) (void)uv_run(&loop, UV_RUN_NOWAIT);
        side_close(closing);
        run_until(one->connected_count == 1 && one->asked_count == 1);
        side_close(closing == one ? two : one);
    }
}

static struct side *closed_when_met;

static void close_when_met_cb(void *arg, const struct handshake_server *server) {
    met_cb(arg, server);
    struct raft_uv_transport *raft = transport_raft(closed_when_met->transport);
    raft->close(raft, closed_cb);
}

static void closing_from_a_callback_is_safe(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct transport_options options = {.loop = &loop,
                                            .secret = slice_of_text("one secret"),
                                            .bind = one->bind,
                                            .tls = one->tls,
                                            .arg = one,
                                            .self_cb = self_cb,
                                            .is_member_cb = is_member_cb,
                                            .address_cb = address_cb,
                                            .met_cb = close_when_met_cb};
        side_start(two);
        assert_int_equal(transport_new(&one->transport, &options), SK_OK);
        struct raft_uv_transport *raft = transport_raft(one->transport);
        closed_when_met = one;
        one->closed = false;
        raft->data = one;
        assert_int_equal(raft->listen(raft, accept_cb), 0);
        if (i == 0) {
            begin_connect(one, 2);
            run_until(one->closed);
            assert_int_equal(one->status, RAFT_CANCELED);
        } else {
            begin_connect(two, 1);
            run_until(one->closed && two->connected_count == 1);
            assert_int_equal(two->status, RAFT_NOCONNECTION);
        }
        assert_int_equal(transport_ask(one->transport, two->bind, asked_cb, one), SK_ECLOSED);
        transport_free(one->transport);
        one->transport = NULL;
        side_close(two);
    }
}

static void it_need_not_listen(void **state) {
    (void)state;
    side_start(two);
    assert_int_equal(side_new(one), SK_OK);
    assert_int_equal(ask(one, two->bind), SK_OK);
    transport_free(one->transport); /* libraft never had it */
    assert_int_equal(side_new(one), SK_OK);
    side_close(one);
}

static void addresses_to_listen_on_are_checked(void **state) {
    (void)state;
    static const char *const bad[] = {"", "x", "127.0.0.1", "127.0.0.1:x", "::1:80", ":80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(one->bind, sizeof one->bind, "%s", bad[i]);
        assert_int_equal(side_new(one), SK_ECONFIG);
    }
    side_start(two);
    static const char *const impossible[] = {"a..b:7000", "192.0.2.1:7000", ""};
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
        (void)snprintf(one->bind, sizeof one->bind, "%s", impossible[i][0] != 0 ? impossible[i] : two->bind);
        assert_int_equal(side_new(one), SK_OK);
        struct raft_uv_transport *raft = transport_raft(one->transport);
        assert_int_equal(raft->listen(raft, accept_cb), RAFT_IOERR);
        assert_int_equal(strncmp(raft->errmsg, "bind ", 5), 0);
        side_close(one);
    }
}

static void ipv6_and_names_can_be_listened_on(void **state) {
    (void)state;
    char address[64];
    (void)snprintf(one->bind, sizeof one->bind, "localhost:%u", free_port());
    side_start(one);
    assert_int_equal(ask(one, one->bind), SK_OK);
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has_ipv6 = fd >= 0 && bind(fd, (struct sockaddr *)&loopback, sizeof loopback) == 0;
    if (fd >= 0) assert_int_equal(close(fd), 0);
    if (!has_ipv6) return; /* not every container has it */
    (void)snprintf(two->bind, sizeof two->bind, "[::1]:%u", free_port());
    side_start(two);
    (void)snprintf(address, sizeof address, "%s", two->bind);
    assert_int_equal(ask(one, address), SK_OK);
    assert_true(one->asked.id == 2);
}

static void a_server_is_found_at_its_new_address(void **state) {
    (void)state;
    start_both();
    assert_int_equal(connect_to(one, 2), 0);
    side_close(two);
    assert_int_equal(connect_to(one, 2), RAFT_NOCONNECTION);
    use_free_port(two);
    side_start(two);
    assert_int_equal(connect_to(one, 2), 0);
    run_until(two->accepted_count == 2);
    assert_true(two->accepted_id == 1);
}

/* ---- with TLS ---- */

/* Server one calls server two, which will not do: neither meets the other. `text`: what they say of it. */
static void assert_strangers_to_each_other(int ask_err, char *text, size_t text_bytes) {
    struct capture capture;
    uint64_t begin_ms = clock_boottime_ms();
    run_until(clock_boottime_ms() > begin_ms + 1001); /* each kind of line comes once a second */
    start_both();
    capture_begin(&capture, 2);
    int err = ask(one, two->bind);
    int code = connect_to(one, 2);
    (void)capture_end(&capture, text, text_bytes);
    assert_int_equal(err, ask_err);
    assert_int_equal(code, RAFT_NOCONNECTION);
    assert_int_equal(one->met_count + two->met_count + two->accepted_count, 0);
    side_close(one);
    side_close(two);
}

static void a_plain_server_and_one_with_tls_refuse_each_other(void **state) {
    (void)state;
    char text[4096];
    struct tls_guard_counts accepted = tls_guard_accepted(), dialled = tls_guard_dialled();
    two->tls = node;
    assert_strangers_to_each_other(SK_ENET, text, sizeof text);
    assert_int_equal(tls_guard_accepted().refused, accepted.refused + 2);
    assert_non_null(strstr(text, "event=tls_refused from=127.0.0.1:"));
    assert_non_null(strstr(text, "why=\"it does not speak TLS, or not 1.2"));
    assert_int_equal(count_of(text, "raft_peer_refused"), 0); /* it has been said */
    one->tls = node;
    two->tls = NULL;
    assert_strangers_to_each_other(SK_ENET, text, sizeof text);
    assert_int_equal(tls_guard_dialled().broken, dialled.broken + 2);
    assert_non_null(strstr(text, "event=tls_broken to=127.0.0.1:"));
    assert_int_equal(count_of(text, "reason=\"not a metad\""), 1);
}

static void another_ca_is_refused(void **state) {
    (void)state;
    char text[4096];
    struct tls_guard_counts accepted = tls_guard_accepted(), dialled = tls_guard_dialled();
    struct tls *other = read_tls("other-ca", "other"), *trusting = read_tls("ca", "other");
    one->tls = node;
    two->tls = other;
    assert_strangers_to_each_other(SK_EPROTO, text, sizeof text);
    assert_int_equal(tls_guard_dialled().refused, dialled.refused + 2);
    assert_non_null(strstr(text, "event=tls_refused to=127.0.0.1:"));
    assert_non_null(strstr(text, "its certificate is not signed by the CA"));
    assert_int_equal(count_of(text, "raft_peer_refused"), 0); /* it has been said */
    one->tls = trusting;
    two->tls = node;
    accepted = tls_guard_accepted();
    assert_strangers_to_each_other(SK_EPROTO, text, sizeof text);
    assert_int_equal(tls_guard_accepted().refused, accepted.refused + 2);
    assert_non_null(strstr(text, "event=tls_refused from=127.0.0.1:"));
    assert_non_null(strstr(text, "event=tls_refused to=127.0.0.1:"));
    assert_non_null(strstr(text, "it refuses us"));
    tls_free(other);
    tls_free(trusting);
}

/* Who is called shows a certificate for the name by which it is called; who calls need not. */
static void a_certificate_for_another_host_is_no_servers(void **state) {
    (void)state;
    char text[4096];
    struct tls *elsewhere = read_tls("ca", "stranger");
    one->tls = node;
    two->tls = elsewhere;
    assert_strangers_to_each_other(SK_EPROTO, text, sizeof text);
    assert_non_null(strstr(text, "its certificate is for another name"));
    start_both();
    assert_int_equal(ask(two, one->bind), SK_OK);
    side_close(one);
    side_close(two);
    tls_free(elsewhere);
}

static void silence_before_tls_is_counted(void **state) {
    (void)state;
    uint64_t accepted = tls_guard_accepted().timed_out, dialled = tls_guard_dialled().timed_out;
    one->limit_ms = SHORT_MS;
    side_start(one);
    assert_int_equal(stranger_hear_out(stranger_call(one)), 0);
    assert_int_equal(tls_guard_accepted().timed_out, accepted + 1);
    int silent = silent_server(two);
    assert_int_equal(ask(one, two->bind), SK_ETIMEDOUT);
    assert_int_equal(tls_guard_dialled().timed_out, dialled + 1);
    assert_int_equal(close(silent), 0);
}

static void a_crowd_before_tls_keeps_nobody_out(void **state) {
    (void)state;
    enum { CROWD = 100 };
    int crowd[CROWD];
    uint64_t ended = tls_guard_accepted().timed_out;
    start_both();
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = stranger_call(two);
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(connect_to(one, 2), 0);
    assert_int_equal(ask(one, two->bind), SK_OK);
    uint8_t room[8];
    size_t size = 0;
    assert_true(stranger_hear(crowd[CROWD - 1], room, sizeof room, &size));
    run_until(!stranger_hear(crowd[0], room, sizeof room, &size));
    assert_true(tls_guard_accepted().timed_out >= ended + CROWD - TRANSPORT_STRANGERS_MAX);
    for (int i = 0; i < CROWD; i++) assert_int_equal(close(crowd[i]), 0);
}

/* A stream that libraft still has when the transport is closed is at its end then. */
static void closing_ends_what_goes_through_tls(void **state) {
    (void)state;
    struct traffic traffic;
    start_both();
    assert_int_equal(connect_to(one, 2), 0);
    run_until(two->accepted_count == 1);
    listen_to(one->connected, &traffic);
    struct raft_uv_transport *raft = transport_raft(one->transport);
    raft->close(raft, closed_cb);
    run_until(one->closed && traffic.ended);
    transport_free(one->transport);
    one->transport = NULL;
    drop(&one->connected);
}

/* ---- under libraft ---- */

struct server {
    struct side *side;
    char directory[64];
    struct raft_io io;
    struct raft raft;
    struct raft_fsm fsm;
    uint32_t applied;
    bool closed;
};

static struct server servers[SIDES];

static int apply_cb(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result) {
    (void)buffer;
    *result = NULL;
    ((struct server *)fsm->data)->applied++;
    return 0;
}

static int snapshot_cb(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *count) {
    (void)fsm;
    (void)buffers;
    (void)count;
    return RAFT_NOMEM; /* these logs stay too short for one */
}

static int restore_cb(struct raft_fsm *fsm, struct raft_buffer *buffer) {
    (void)fsm;
    (void)buffer;
    return RAFT_NOMEM;
}

static void server_start(struct server *server) {
    struct side *side = server->side;
    struct raft_configuration configuration;
    server->fsm = (struct raft_fsm){
        .version = 1, .data = server, .apply = apply_cb, .snapshot = snapshot_cb, .restore = restore_cb};
    server->applied = 0;
    server->closed = false;
    assert_int_equal(side_new(side), SK_OK);
    assert_int_equal(raft_uv_init(&server->io, &loop, server->directory, transport_raft(side->transport)), 0);
    raft_uv_set_connect_retry_delay(&server->io, 20);
    assert_int_equal(raft_init(&server->raft, &server->io, &server->fsm, side->self.id, side->self.name), 0);
    server->raft.data = server;
    raft_configuration_init(&configuration);
    for (int i = 0; i < SIDES; i++) {
        const struct handshake_server *self = &sides[i].self;
        assert_int_equal(raft_configuration_add(&configuration, self->id, self->name, RAFT_VOTER), 0);
    }
    int code = raft_bootstrap(&server->raft, &configuration);
    assert_true(code == 0 || code == RAFT_CANTBOOTSTRAP);
    raft_configuration_close(&configuration);
}

static void server_run(struct server *server) {
    server_start(server);
    assert_int_equal(raft_start(&server->raft), 0);
}

static void raft_closed_cb(struct raft *raft) { ((struct server *)raft->data)->closed = true; }

static void server_stop(struct server *server) {
    raft_close(&server->raft, raft_closed_cb);
    run_until(server->closed);
    raft_uv_close(&server->io);
    transport_free(server->side->transport);
    server->side->transport = NULL;
}

static int remove_cb(const char *path, const struct stat *status, int kind, struct FTW *walk) {
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int set_up_servers(void **state) {
    int failed = set_up(state);
    memset(servers, 0, sizeof servers);
    for (int i = 0; i < SIDES; i++) {
        servers[i].side = &sides[i];
        (void)snprintf(servers[i].directory, sizeof servers[i].directory, "/tmp/skerry-transport-XXXXXX");
        assert_non_null(mkdtemp(servers[i].directory));
    }
    return failed;
}

static int set_up_tls_servers(void **state) {
    int failed = set_up_servers(state);
    for (int i = 0; i < SIDES; i++) sides[i].tls = node;
    return failed;
}

static int tear_down_servers(void **state) {
    for (int i = 0; i < SIDES; i++)
        assert_int_equal(nftw(servers[i].directory, remove_cb, 16, FTW_DEPTH | FTW_PHYS), 0);
    return tear_down(state);
}

static struct server *leader(void) {
    for (int i = 0; i < SIDES; i++) {
        if (sides[i].transport != NULL && raft_state(&servers[i].raft) == RAFT_LEADER) return &servers[i];
    }
    return NULL;
}

static void applied_cb(struct raft_apply *apply, int status, void *result) {
    (void)result;
    int *outcome = apply->data;
    *outcome = status;
}

static void apply_one(void) {
    static struct raft_apply apply; /* libraft may look at it after its callback */
    enum { PENDING = -1 };
    int outcome = PENDING;
    while (outcome != 0) {
        run_until(leader() != NULL);
        struct raft_buffer buffer = {.base = raft_malloc(8), .len = 8};
        memset(buffer.base, 0, 8);
        outcome = PENDING;
        apply.data = &outcome;
        int code = raft_apply(&leader()->raft, &apply, &buffer, 1, applied_cb);
        assert_int_equal(code, 0);
        run_until(outcome != PENDING);
    }
}

static void a_group_works_and_follows_a_server_to_its_new_address(void **state) {
    (void)state;
    for (int i = 0; i < SIDES; i++) server_run(&servers[i]);
    apply_one();
    run_until(servers[0].applied > 0 && servers[1].applied > 0 && servers[2].applied > 0);
    struct server *moved = leader() == &servers[0] ? &servers[1] : &servers[0];
    server_stop(moved);
    use_free_port(moved->side);
    apply_one();
    server_run(moved);
    apply_one();
    run_until(moved->applied >= 3);
    for (int i = 0; i < SIDES; i++) server_stop(&servers[i]);
}

static void libraft_reports_that_an_address_is_taken(void **state) {
    (void)state;
    memcpy(one->bind, two->bind, sizeof one->bind);
    side_start(two);
    server_start(&servers[0]);
    assert_int_equal(raft_start(&servers[0].raft), RAFT_IOERR);
    assert_int_equal(strncmp(transport_raft(one->transport)->errmsg, "bind ", 5), 0);
    server_stop(&servers[0]);
}

/* ---- without memory ---- */

static uint32_t failures; /* of allocations, to come */

static void *failing_malloc(void *data, size_t size) {
    (void)data;
    if (failures == 0) return malloc(size);
    failures--;
    return NULL;
}

static void plain_free(void *data, void *block) {
    (void)data;
    free(block);
}

static void a_caller_for_whom_there_was_no_memory_is_answered_later(void **state) {
    (void)state;
    struct raft_heap heap = {.malloc = failing_malloc, .free = plain_free};
    side_start(one);
    raft_heap_set(&heap);
    failures = 2;
    int fd = stranger_call(one);
    stranger_say(fd, "rubbish, and enough", 19);
    assert_int_equal(stranger_hear_out(fd), 0);
    assert_int_equal(failures, 0);
    failures = 1;
    assert_int_equal(ask(one, one->bind), SK_ENOMEM);
    assert_int_equal(ask(one, one->bind), SK_OK);
    side_close(one);
    raft_heap_set_default();
}

static int set_up_group(void **state) {
    int failed = make_certificates(state);
    if (failed == 0) node = read_tls("ca", "node");
    return failed;
}

static int tear_down_group(void **state) {
    tls_free(node);
    return remove_certificates(state);
}

/* A test once more, with TLS. */
#define WITH_TLS(test, set_up_function, tear_down_function)                                                       \
    { #test " with tls", test, set_up_function, tear_down_function, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(servers_connect_and_bytes_pass, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stream_ends_with_its_other_side, set_up, tear_down),
        cmocka_unit_test_setup_teardown(asking_tells_who_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_looked_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_secret_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_cluster_is_refused_and_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_not_wanted_is_met, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_is_no_member_is_not_handed_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_sends_nothing_to_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_there_cannot_be_reached, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_name_cannot_be_reached, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strangers_are_shown_the_door, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_a_greeting_leaves_nothing_behind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_behind_the_proof_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_has_its_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_crowd_keeps_nobody_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusals_are_counted_where_they_are_not_logged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_cancels_all_that_is_under_way, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_is_safe_at_every_step, set_up, tear_down),
        cmocka_unit_test_setup_teardown(closing_from_a_callback_is_safe, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_need_not_listen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(addresses_to_listen_on_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ipv6_and_names_can_be_listened_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_is_found_at_its_new_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_caller_for_whom_there_was_no_memory_is_answered_later, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_group_works_and_follows_a_server_to_its_new_address, set_up_servers,
                                        tear_down_servers),
        cmocka_unit_test_setup_teardown(libraft_reports_that_an_address_is_taken, set_up_servers,
                                        tear_down_servers),
        WITH_TLS(servers_connect_and_bytes_pass, set_up_tls, tear_down),
        WITH_TLS(a_stream_ends_with_its_other_side, set_up_tls, tear_down),
        WITH_TLS(asking_tells_who_is_there, set_up_tls, tear_down),
        WITH_TLS(names_are_looked_up, set_up_tls, tear_down),
        WITH_TLS(another_secret_is_refused, set_up_tls, tear_down),
        WITH_TLS(another_cluster_is_refused_and_known, set_up_tls, tear_down),
        WITH_TLS(who_is_not_wanted_is_met, set_up_tls, tear_down),
        WITH_TLS(who_is_no_member_is_not_handed_over, set_up_tls, tear_down),
        WITH_TLS(a_server_sends_nothing_to_itself, set_up_tls, tear_down),
        WITH_TLS(what_is_not_there_cannot_be_reached, set_up_tls, tear_down),
        WITH_TLS(silence_has_its_limit, set_up_tls, tear_down),
        WITH_TLS(closing_cancels_all_that_is_under_way, set_up_tls, tear_down),
        WITH_TLS(closing_is_safe_at_every_step, set_up_tls, tear_down),
        WITH_TLS(closing_from_a_callback_is_safe, set_up_tls, tear_down),
        WITH_TLS(a_server_is_found_at_its_new_address, set_up_tls, tear_down),
        WITH_TLS(a_group_works_and_follows_a_server_to_its_new_address, set_up_tls_servers, tear_down_servers),
        cmocka_unit_test_setup_teardown(a_plain_server_and_one_with_tls_refuse_each_other, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_ca_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_certificate_for_another_host_is_no_servers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(silence_before_tls_is_counted, set_up_tls, tear_down),
        cmocka_unit_test_setup_teardown(a_crowd_before_tls_keeps_nobody_out, set_up_tls, tear_down),
        cmocka_unit_test_setup_teardown(closing_ends_what_goes_through_tls, set_up_tls, tear_down),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as every program with a transport */
    return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
