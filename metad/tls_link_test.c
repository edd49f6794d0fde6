/* Two sides over a pair of local sockets, or over a wire of the test, which carries what it is told to. All in one loop; tests
 * run it until what they expect is true. */
#include "metad/tls_link.h"

#include "libcommon/clock.h"
#include "libcommon/error.h"
#include "libcommon/testing_tls.h"
#include "libcommon/tls_guard.h"
#include "libcommon/tls_session.h"

#include <dirent.h>
#include <errno.h>
#include <raft.h>
#include <signal.h>
#include <sys/socket.h>

#define PATIENCE_MS 20000u   /* for what must come; a failure, not a pace */
#define BIG_BYTES   8388608u /* much more than what the kernel keeps for two sockets */
#define KEPT_BYTES  (BIG_BYTES / 2)
#define CHUNK_BYTES 65536u

/* What is at one end of a connection. */
struct side {
    struct tls_links *links;
    struct tls_link *link; /* NULL once up_cb has come */
    uint32_t up_count;
    int err;             /* of up_cb */
    uv_stream_t *stream; /* owned */
    bool closed;

    uint8_t *heard; /* owned; BIG_BYTES */
    size_t heard_bytes;
    bool ended;
    uint8_t room[CHUNK_BYTES];

    const uint8_t *said; /* borrowed */
    size_t said_bytes;   /* taken by the stream */
    size_t to_say_bytes;
    uv_write_t write;
    bool writing;
    int write_status;
};

static uv_loop_t loop;
static uv_timer_t tick; /* so that a run of the loop ends also when nothing comes */
static struct side sides[2];
static struct side *const caller = &sides[0], *const called = &sides[1];
static struct tls *node;
static uint8_t *big; /* BIG_BYTES that repeat nowhere near */

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

/* Nothing that could still happen by itself is left out by this. */
static void run_idle(void) {
    for (int i = 0; i < 100; i++) (void)uv_run(&loop, UV_RUN_NOWAIT);
}

static uint32_t open_files(void) {
    uint32_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory) != NULL) count++;
    assert_int_equal(closedir(directory), 0);
    return count;
}

/* ---- sides ---- */

static void up_cb(void *arg, int err, uv_stream_t *stream) {
    struct side *side = arg;
    assert_true((stream == NULL) == (err != SK_OK));
    side->link = NULL;
    side->up_count++;
    side->err = err;
    side->stream = stream;
}

static void links_closed_cb(void *arg) { ((struct side *)arg)->closed = true; }

static void side_open(struct side *side, const struct tls *tls) {
    assert_int_equal(tls_links_new(&side->links, &loop, tls), SK_OK);
}

/* `name`: as whom it is called; NULL: this side is. */
static void begin(struct side *side, int fd, const char *name) {
    assert_int_equal(tls_link_begin(&side->link, side->links, fd, name, up_cb, side), SK_OK);
    assert_int_equal(side->up_count, 0); /* never from within */
}

static void free_stream_cb(uv_handle_t *handle) { raft_free(handle); }

static void drop(struct side *side) {
    if (side->stream != NULL) uv_close((uv_handle_t *)side->stream, free_stream_cb);
    side->stream = NULL;
}

static void side_close(struct side *side) {
    if (side->links == NULL) return;
    tls_links_close(side->links, links_closed_cb, side);
    run_until(side->closed);
    tls_links_free(side->links);
    drop(side);
    free(side->heard);
    *side = (struct side){0};
}

static void close_both(void) {
    side_close(caller);
    side_close(called);
}

static void make_pair(int pair[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
}

/* Both are up. */
static void join(void) {
    int pair[2];
    make_pair(pair);
    side_open(caller, node);
    side_open(called, node);
    begin(caller, pair[0], "localhost");
    begin(called, pair[1], NULL);
    run_until(caller->up_count == 1 && called->up_count == 1);
    assert_int_equal(caller->err, SK_OK);
    assert_int_equal(called->err, SK_OK);
}

static int set_up(void **state) {
    static uv_pipe_t first; /* with it libuv opens a file that the loop keeps */
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_pipe_init(&loop, &first, 0), 0);
    uv_close((uv_handle_t *)&first, NULL);
    assert_int_equal(uv_timer_init(&loop, &tick), 0);
    assert_int_equal(uv_timer_start(&tick, tick_cb, 1, 1), 0);
    return 0;
}

/* Also that nothing is left on the loop. */
static int tear_down(void **state) {
    (void)state;
    close_both();
    uv_close((uv_handle_t *)&tick, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0) continue;
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

/* ---- what they say ---- */

static void room_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *room) {
    (void)suggested;
    struct side *side = handle->data;
    *room = uv_buf_init((char *)side->room, sizeof side->room);
}

static void read_cb(uv_stream_t *stream, ssize_t size, const uv_buf_t *room) {
    struct side *side = stream->data;
    if (size < 0) {
        side->ended = true;
        return;
    }
    assert_true(side->heard_bytes + (size_t)size <= BIG_BYTES);
    memcpy(side->heard + side->heard_bytes, room->base, (size_t)size);
    side->heard_bytes += (size_t)size;
}

static void listen_to(struct side *side) {
    if (side->heard == NULL) side->heard = malloc(BIG_BYTES);
    assert_non_null(side->heard);
    side->stream->data = side;
    assert_int_equal(uv_read_start(side->stream, room_cb, read_cb), 0);
}

static void say_more(struct side *side);

static void written_cb(uv_write_t *write, int status) {
    struct side *side = write->data;
    side->writing = false;
    side->write_status = status;
    if (status == 0) say_more(side);
}

static void say_more(struct side *side) {
    size_t size = side->to_say_bytes - side->said_bytes;
    if (size > CHUNK_BYTES) size = CHUNK_BYTES;
    if (size == 0) return;
    uv_buf_t bytes = uv_buf_init((char *)(uintptr_t)side->said + side->said_bytes, (unsigned)size);
    side->write.data = side;
    side->writing = true;
    side->said_bytes += size;
    assert_int_equal(uv_write(&side->write, side->stream, &bytes, 1, written_cb), 0);
}

static void say(struct side *side, const void *bytes, size_t size) {
    side->said = bytes;
    side->said_bytes = 0;
    side->to_say_bytes = size;
    say_more(side);
}

static void assert_hears(struct side *side, const void *bytes, size_t size) {
    run_until(side->heard_bytes == size || side->ended);
    assert_int_equal(side->heard_bytes, size);
    assert_memory_equal(side->heard, bytes, size);
}

/* ---- a wire between them ---- */

struct wire {
    int ends[2];    /* of the test; the others are the sides' */
    size_t carried; /* so far, of both directions */
    size_t limit;   /* of `carried` */
    size_t flipped; /* the byte that is changed on its way; SIZE_MAX: none */
};

static void carry(struct wire *wire, int from, int to) {
    uint8_t room[512];
    size_t left = wire->limit - wire->carried;
    ssize_t size = recv(from, room, left < sizeof room ? left : sizeof room, MSG_DONTWAIT);
    if (left == 0 || size <= 0) return;
    size_t at = wire->flipped - wire->carried;
    if (at < (size_t)size) room[at] ^= 1;
    wire->carried += (size_t)size;
    assert_int_equal(send(to, room, (size_t)size, MSG_NOSIGNAL), size);
}

static void carry_both(struct wire *wire) {
    carry(wire, wire->ends[0], wire->ends[1]);
    carry(wire, wire->ends[1], wire->ends[0]);
}

static void join_by_wire(struct wire *wire) {
    int one[2], other[2];
    make_pair(one);
    make_pair(other);
    wire->ends[0] = one[1];
    wire->ends[1] = other[1];
    side_open(caller, node);
    side_open(called, node);
    begin(caller, one[0], "localhost");
    begin(called, other[0], NULL);
}

static void cut(struct wire *wire) {
    for (int i = 0; i < 2; i++) assert_int_equal(close(wire->ends[i]), 0);
}

/* ---- tests ---- */

static void both_sides_speak_and_the_wire_tells_nothing(void **state) {
    (void)state;
    static const char secret[] = "what nobody else shall read";
    struct wire wire = {.limit = SIZE_MAX, .flipped = SIZE_MAX};
    uint8_t seen[4096];
    join_by_wire(&wire);
    run_until((carry_both(&wire), caller->up_count == 1 && called->up_count == 1));
    listen_to(caller);
    listen_to(called);
    say(caller, secret, sizeof secret);
    ssize_t size = 0;
    run_until((size = recv(wire.ends[0], seen, sizeof seen, MSG_DONTWAIT | MSG_PEEK)) > 0);
    assert_null(memmem(seen, (size_t)size, "nobody", 6));
    run_until((carry_both(&wire), called->heard_bytes == sizeof secret));
    assert_hears(called, secret, sizeof secret);
    say(called, "and back", 8);
    run_until((carry_both(&wire), caller->heard_bytes == 8));
    assert_hears(caller, "and back", 8);
    cut(&wire);
    run_until(caller->ended && called->ended);
}

/* More than all buffers hold, both ways at once. */
static void big_messages_pass_both_ways(void **state) {
    (void)state;
    join();
    listen_to(caller);
    listen_to(called);
    say(caller, big, BIG_BYTES);
    say(called, big, BIG_BYTES);
    assert_hears(called, big, BIG_BYTES);
    assert_hears(caller, big, BIG_BYTES);
}

static void a_slow_reader_stops_its_writer_and_nobody_else(void **state) {
    (void)state;
    join();
    listen_to(caller);
    say(caller, big, BIG_BYTES);
    run_until(caller->said_bytes > CHUNK_BYTES);
    size_t before;
    do {
        before = caller->said_bytes;
        run_idle();
    } while (caller->said_bytes > before);
    assert_true(caller->said_bytes < KEPT_BYTES);
    assert_true(caller->writing);
    say(called, "back", 4); /* the other direction goes on */
    assert_hears(caller, "back", 4);
    listen_to(called);
    assert_hears(called, big, BIG_BYTES);
}

/* Also of what was still within the link. */
static void what_was_written_before_the_end_is_read(void **state) {
    (void)state;
    join();
    say(caller, big, CHUNK_BYTES);
    run_until(!caller->writing);
    drop(caller);
    run_idle();
    listen_to(called);
    assert_hears(called, big, CHUNK_BYTES);
    run_until(called->ended);
}

/* Whoever closes has not read what had come. */
static void last_words_of_one_who_does_not_listen_arrive(void **state) {
    (void)state;
    join();
    listen_to(caller);
    say(caller, "unheard", 7);
    run_until(!caller->writing);
    run_idle();
    uv_buf_t bytes = uv_buf_init((char *)(uintptr_t) "no", 2);
    assert_int_equal(uv_try_write(called->stream, &bytes, 1), 2);
    drop(called);
    assert_hears(caller, "no", 2);
    run_until(caller->ended);
}

static void both_may_close_at_once(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        uint32_t files = open_files();
        join();
        if (i % 2 != 0) say(caller, "words", 5);
        if (i / 2 != 0) say(called, "words", 5);
        run_until(!caller->writing && !called->writing);
        drop(caller);
        drop(called);
        /* Without being closed by their owners. */
        run_until(open_files() == files);
        close_both();
    }
}

/* The stream is gone, and the other side reads nothing: what is left is given up after a time. */
static void who_does_not_read_holds_nothing_up(void **state) {
    (void)state;
    uint32_t files = open_files();
    struct wire wire = {.limit = SIZE_MAX, .flipped = SIZE_MAX};
    join_by_wire(&wire);
    run_until((carry_both(&wire), caller->up_count == 1 && called->up_count == 1));
    say(caller, big, BIG_BYTES);
    size_t before;
    do {
        before = caller->said_bytes;
        run_idle();
    } while (caller->said_bytes > before);
    uint64_t begin_ms = clock_boottime_ms();
    drop(caller);
    run_until(open_files() == files + 2 + 3); /* the ends of the wire, and the three of who is called */
    assert_true(clock_boottime_ms() >= begin_ms + TLS_LINK_LINGER_MS - 100);
    assert_int_equal(caller->write_status, UV_ECANCELED);
    cut(&wire);
}

static void a_byte_that_was_changed_ends_the_stream(void **state) {
    (void)state;
    struct wire wire = {.limit = SIZE_MAX, .flipped = SIZE_MAX};
    join_by_wire(&wire);
    run_until((carry_both(&wire), caller->up_count == 1 && called->up_count == 1));
    listen_to(called);
    listen_to(caller);
    wire.flipped = wire.carried + 20;
    say(caller, "words", 5);
    run_until((carry_both(&wire), called->ended && caller->ended));
    assert_int_equal(called->heard_bytes, 0);
    cut(&wire);
}

/* After each number of bytes. Whatever is known by then, both sides end, and are told once. */
static void the_connection_may_end_at_every_step(void **state) {
    (void)state;
    struct tls_guard_counts accepted = tls_guard_accepted();
    bool complete = false;
    uint32_t halves = 0;
    for (size_t limit = 0; !complete; limit += 17) {
        struct wire wire = {.limit = limit, .flipped = SIZE_MAX};
        uint32_t files = open_files();
        join_by_wire(&wire);
        do {
            run_idle();
            carry_both(&wire);
            complete = caller->up_count == 1 && called->up_count == 1;
        } while (wire.carried < limit && !complete);
        run_idle();
        complete = caller->up_count == 1 && called->up_count == 1;
        cut(&wire);
        run_until(caller->up_count == 1 && called->up_count == 1);
        assert_true(caller->err == SK_OK || caller->err == SK_ENET);
        assert_true(called->err == SK_OK || called->err == SK_ENET);
        assert_false(caller->err == SK_OK && called->err != SK_OK); /* the side that was called is first to know */
        if (called->err == SK_OK && caller->err != SK_OK) halves++;
        for (int i = 0; i < 2; i++) {
            if (sides[i].stream == NULL) continue;
            listen_to(&sides[i]);
            run_until(sides[i].ended);
            drop(&sides[i]);
        }
        run_until(open_files() == files);
        close_both();
    }
    assert_true(halves > 0);
    assert_true(tls_guard_accepted().broken > accepted.broken);
    assert_int_equal(tls_guard_accepted().refused, accepted.refused);
}

/* One's links are closed, or it gives up, after each number of turns of the loop. */
static void an_owner_may_leave_at_every_step(void **state) {
    (void)state;
    for (int turns = 0; turns < 24; turns++) {
        for (int how = 0; how < 3; how++) {
            int pair[2];
            struct side *leaving = &sides[turns % 2], *other = &sides[(turns + 1) % 2];
            make_pair(pair);
            side_open(caller, node);
            side_open(called, node);
            begin(caller, pair[0], "localhost");
            begin(called, pair[1], NULL);
            for (int i = 0; i < turns / 2; i++) (void)uv_run(&loop, UV_RUN_NOWAIT);
            if (how == 0) {
                side_close(leaving);
            } else if (leaving->link != NULL) {
                uint64_t late = tls_guard_accepted().timed_out + tls_guard_dialled().timed_out;
                tls_link_cancel(leaving->link, how == 2);
                leaving->link = NULL;
                assert_int_equal(tls_guard_accepted().timed_out + tls_guard_dialled().timed_out,
                                 late + (how == 2));
                run_idle();
                assert_int_equal(leaving->up_count, 0);
            } else {
                drop(leaving);
            }
            run_until(other->up_count == 1);
            if (other->stream != NULL) {
                listen_to(other);
                run_until(other->ended);
            }
            close_both();
        }
    }
}

static struct side *closed_by_up;

static void close_when_up_cb(void *arg, int err, uv_stream_t *stream) {
    up_cb(arg, err, stream);
    tls_links_close(closed_by_up->links, links_closed_cb, closed_by_up);
}

static void closing_from_the_callback_is_safe(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        int pair[2];
        make_pair(pair);
        side_open(caller, node);
        side_open(called, node);
        closed_by_up = called;
        begin(caller, pair[0], i == 0 ? "localhost" : "elsewhere.example"); /* well, and not */
        assert_int_equal(tls_link_begin(&called->link, called->links, pair[1], NULL, close_when_up_cb, called),
                         SK_OK);
        run_until(called->closed && caller->up_count == 1);
        assert_int_equal(called->err, i == 0 ? SK_OK : SK_EPROTO);
        make_pair(pair);
        struct tls_link *link;
        assert_int_equal(tls_link_begin(&link, called->links, pair[0], NULL, up_cb, called), SK_ECLOSED);
        assert_int_equal(close(pair[1]), 0);
        tls_links_free(called->links);
        drop(called);
        *called = (struct side){0};
        side_close(caller);
    }
}

/* They all have begun, and each step of a handshake takes long. */
static void a_crowd_of_callers_leaves_time_for_others(void **state) {
    (void)state;
    enum { CROWD = 20 };
    struct side crowd[CROWD];
    struct tls_context *context;
    struct tls_session *callers[CROWD];
    int pairs[CROWD][2];
    uint8_t room[1];
    assert_int_equal(tls_context_new(&context, node), SK_OK);
    side_open(called, node);
    for (int i = 0; i < CROWD; i++) {
        make_pair(pairs[i]);
        assert_int_equal(tls_session_new(&callers[i], context, pairs[i][0], "localhost"), SK_OK);
        assert_int_equal(tls_session_handshake(callers[i]), SK_RETRY);
        crowd[i] = (struct side){.links = called->links};
        begin(&crowd[i], pairs[i][1], NULL);
    }
    int answered = 0;
    while (answered == 0) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        for (int i = 0; i < CROWD; i++) answered += recv(pairs[i][0], room, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    }
    assert_int_equal(answered, 1);
    for (int i = 0; i < CROWD; i++) {
        run_until(tls_session_handshake(callers[i]) == SK_OK);
        run_until(crowd[i].up_count == 1);
        assert_int_equal(crowd[i].err, SK_OK);
        tls_session_free(callers[i], false);
        assert_int_equal(close(pairs[i][0]), 0);
        drop(&crowd[i]);
    }
    tls_context_free(context);
}

/* ---- who is refused ---- */

static void assert_refused(const struct tls *calls, const struct tls *answers, const char *name) {
    int pair[2];
    struct tls_guard_counts accepted = tls_guard_accepted(), dialled = tls_guard_dialled();
    uint32_t files = open_files();
    make_pair(pair);
    side_open(caller, calls);
    side_open(called, answers);
    begin(caller, pair[0], name);
    begin(called, pair[1], NULL);
    run_until(caller->up_count == 1 && called->up_count == 1);
    assert_int_equal(caller->err, SK_EPROTO);
    assert_int_equal(called->err, SK_EPROTO);
    assert_int_equal(tls_guard_accepted().refused, accepted.refused + 1);
    assert_int_equal(tls_guard_dialled().refused, dialled.refused + 1);
    run_until(open_files() == files);
    close_both();
}

static void bad_certificates_are_refused(void **state) {
    (void)state;
    struct tls *other = read_tls("other-ca", "other"), *trusting = read_tls("ca", "other");
    struct tls *elsewhere = read_tls("ca", "stranger");
    assert_refused(node, other, "localhost");     /* of another CA: who is called */
    assert_refused(other, node, "localhost");     /* they trust nothing of each other */
    assert_refused(trusting, node, "localhost");  /* who calls */
    assert_refused(node, elsewhere, "localhost"); /* for another name */
    assert_refused(node, node, "elsewhere.example");
    tls_free(other);
    tls_free(trusting);
    tls_free(elsewhere);
}

static void what_is_no_tls_is_refused(void **state) {
    (void)state;
    static const char words[][13] = {"GET / HTTP/1", "SkerryMR\0\0\0\1", "\x16\x03\x01\xff\xff\x01"};
    for (size_t i = 0; i < 2 * sizeof words / sizeof words[0]; i++) {
        int pair[2];
        uint64_t accepted = tls_guard_accepted().refused, dialled = tls_guard_dialled().refused;
        bool calls = i % 2 == 0;
        make_pair(pair);
        side_open(caller, node);
        begin(caller, pair[0], calls ? "localhost" : NULL);
        assert_int_equal(send(pair[1], words[i / 2], 12, MSG_NOSIGNAL), 12);
        run_until(caller->up_count == 1);
        assert_int_equal(caller->err, SK_EPROTO);
        assert_int_equal(tls_guard_accepted().refused, accepted + !calls);
        assert_int_equal(tls_guard_dialled().refused, dialled + calls);
        uint8_t room[4096]; /* its ClientHello, or why not; then the end */
        ssize_t size;
        run_until((size = recv(pair[1], room, sizeof room, MSG_DONTWAIT)) == 0 || (size < 0 && errno != EAGAIN));
        assert_int_equal(close(pair[1]), 0);
        side_close(caller);
    }
}

static void plain_text_behind_the_handshake_ends_the_stream(void **state) {
    (void)state;
    struct wire wire = {.limit = SIZE_MAX, .flipped = SIZE_MAX};
    join_by_wire(&wire);
    run_until((carry_both(&wire), caller->up_count == 1 && called->up_count == 1));
    listen_to(called);
    assert_int_equal(send(wire.ends[1], "plain words", 11, MSG_NOSIGNAL), 11);
    run_until(called->ended);
    assert_int_equal(called->heard_bytes, 0);
    cut(&wire);
}

static void what_is_no_socket_is_refused_and_closed(void **state) {
    (void)state;
    struct tls_link *link;
    char longest[400];
    int pair[2];
    uint32_t files = open_files();
    FILE *file = tmpfile(); /* which cannot be polled */
    assert_non_null(file);
    side_open(caller, node);
    assert_int_equal(tls_link_begin(&link, caller->links, dup(fileno(file)), NULL, up_cb, caller), SK_ENET);
    assert_int_equal(fclose(file), 0);
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    make_pair(pair);
    assert_int_equal(tls_link_begin(&link, caller->links, pair[0], longest, up_cb, caller), SK_ENET);
    assert_int_equal(close(pair[1]), 0);
    run_until(open_files() == files);
    assert_int_equal(caller->up_count, 0);
}

/* ---- without memory ---- */

static void *no_malloc(void *data, size_t size) {
    (void)data;
    (void)size;
    return NULL;
}

static void plain_free(void *data, void *block) {
    (void)data;
    free(block);
}

static void without_memory_for_a_stream_there_is_no_link(void **state) {
    (void)state;
    struct raft_heap heap = {.malloc = no_malloc, .free = plain_free};
    int pair[2];
    make_pair(pair);
    side_open(caller, node);
    side_open(called, node);
    begin(caller, pair[0], "localhost");
    begin(called, pair[1], NULL);
    raft_heap_set(&heap);
    run_until(caller->up_count == 1 && called->up_count == 1);
    raft_heap_set_default();
    assert_int_equal(called->err, SK_ENOMEM); /* who is up first */
    assert_true(caller->err == SK_ENOMEM || caller->err == SK_ENET);
}

static int set_up_group(void **state) {
    int failed = make_certificates(state);
    if (failed != 0) return failed;
    node = read_tls("ca", "node");
    big = malloc(BIG_BYTES);
    uint32_t seed = 1;
    for (size_t i = 0; big != NULL && i < BIG_BYTES; i++) {
        seed = seed * 1664525u + 1013904223u;
        big[i] = (uint8_t)(seed >> 24);
    }
    return big == NULL;
}

static int tear_down_group(void **state) {
    free(big);
    tls_free(node);
    return remove_certificates(state);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(both_sides_speak_and_the_wire_tells_nothing),
        TEST(big_messages_pass_both_ways),
        TEST(a_slow_reader_stops_its_writer_and_nobody_else),
        TEST(what_was_written_before_the_end_is_read),
        TEST(last_words_of_one_who_does_not_listen_arrive),
        TEST(both_may_close_at_once),
        TEST(who_does_not_read_holds_nothing_up),
        TEST(a_byte_that_was_changed_ends_the_stream),
        TEST(the_connection_may_end_at_every_step),
        TEST(an_owner_may_leave_at_every_step),
        TEST(closing_from_the_callback_is_safe),
        TEST(a_crowd_of_callers_leaves_time_for_others),
        TEST(bad_certificates_are_refused),
        TEST(what_is_no_tls_is_refused),
        TEST(plain_text_behind_the_handshake_ends_the_stream),
        TEST(what_is_no_socket_is_refused_and_closed),
        TEST(without_memory_for_a_stream_there_is_no_link),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as every program with libuv's streams */
    return cmocka_run_group_tests(tests, set_up_group, tear_down_group);
}
